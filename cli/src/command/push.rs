//! `lap push`

use anyhow::{Context as _, bail};
use lap_cache::image::Artifact;

use crate::args::Push;
use crate::command::App;
use crate::complete::complete;
use crate::image::reference;
use crate::registry::{block_on, client};
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: Push) -> anyhow::Result<i32> {
    let store = app.store()?;
    let name = reference(&args.image)?;
    let Some(digest) = store.name_get(&name)? else {
        bail!("An image does not exist locally with the tag: {}", name.familiar());
    };
    let _lease = store.lease()?;
    let client = client(&app.settings, &[])?;
    let mode = if args.quiet { Mode::Quiet } else { args.progress.unwrap_or(Mode::Auto) };
    let screen = Screen::start(mode, app.settings.color);
    let events = screen.events();
    let artifact = match store.artifact(&digest)? {
        Artifact::Image(image) => complete(app, *image, &events)?.into(),
        index @ Artifact::Index(_) => index,
    };
    let result = block_on(async {
        let digest = client.push_artifact(store, &artifact, &name, &events).await;
        digest.with_context(|| format!("cannot push {}", name.familiar()))
    });
    drop(screen.finish());
    let digest = result?;
    if args.quiet {
        outln!("{name}")?;
    } else {
        outln!("{}: digest: {digest} size: {}", name.tag().unwrap_or("latest"), artifact.raw().len())?;
    }
    Ok(0)
}

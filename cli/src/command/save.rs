//! `lap save`

use anyhow::{Context as _, bail};
use lap_cache::export::{Named, docker_archive};
use lap_cache::image::Artifact;
use lap_solver::event::Events;
use lap_solver::platform::Platform;

use crate::args::Save;
use crate::command::App;
use crate::complete::{complete, complete_index};
use crate::image::{for_platform, need};
use crate::pipeline::{no_terminal, to_file};
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: &Save) -> anyhow::Result<i32> {
    let store = app.store()?;
    let _lease = store.lease()?;
    if args.output.is_none() {
        no_terminal()?;
    }
    // Said before layers are compressed, which takes a while.
    let parent = args.output.as_deref().and_then(std::path::Path::parent).filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = parent.filter(|dir| !dir.is_dir()) {
        bail!("cannot write {}: {} is no directory", args.output.as_deref().unwrap_or(dir).display(), dir.display());
    }
    let screen = Screen::start(Mode::Auto, app.settings.color);
    let events = screen.events();
    let result = collect(app, args, &events).and_then(|images| {
        to_file(args.output.as_deref(), |writer| {
            Ok(docker_archive(store, &images, &Platform::host(), writer, &events)?)
        })
    });
    drop(screen.finish());
    result?;
    Ok(0)
}

/// The images with all their blobs, each once with all its names.
fn collect(app: &App, args: &Save, events: &Events) -> anyhow::Result<Vec<Named>> {
    let store = app.store()?;
    let mut images: Vec<Named> = Vec::new();
    for text in &args.images {
        let failed = || format!("cannot save {text}");
        let found = for_platform(store, need(store, text)?, args.platform.as_deref()).with_context(failed)?;
        let content = match (&args.platform, store.artifact(&found.entry.digest)) {
            (None, Ok(index @ Artifact::Index(_))) => complete_index(app, index, events).with_context(failed)?,
            _ => complete(app, found.image, events).with_context(failed)?.into(),
        };
        match images.iter_mut().find(|other| other.content.digest() == content.digest()) {
            Some(other) => other.names.extend(found.name),
            None => images.push(Named { content, names: found.name.into_iter().collect() }),
        }
    }
    Ok(images)
}

//! `lap pull`

use anyhow::Context as _;
use lap_cache::image::{Image, Reference};
use lap_solver::platform::Platform;

use crate::args::{KeyValue, Pull};
use crate::command::App;
use crate::image::reference;
use crate::registry::{block_on, client};
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: Pull) -> anyhow::Result<i32> {
    let name = reference(&args.image)?;
    let platform = match &args.platform {
        Some(text) => Platform::parse(text, &Platform::host())?,
        None => Platform::host(),
    };
    let mode = if args.quiet { Mode::Quiet } else { args.progress.unwrap_or(Mode::Auto) };
    let before = app.store()?.name_get(&name)?;
    let image = fetch(app, &name, &platform, &args.registry_mirrors, mode)?;
    if !args.quiet {
        let fresh = before != Some(image.digest());
        let word = if fresh { "Downloaded newer image for" } else { "Image is up to date for" };
        outln!("Digest: {}\nStatus: {word} {}", image.digest(), name.familiar())?;
    }
    outln!("{name}")?;
    Ok(0)
}

/// Fetches an image, shown as it goes.
///
/// # Errors
/// Where the registry or the store fails.
pub(crate) fn fetch(
    app: &App,
    name: &Reference,
    platform: &Platform,
    mirrors: &[KeyValue],
    mode: Mode,
) -> anyhow::Result<Image> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let client = client(&app.settings, mirrors)?;
    let screen = Screen::start(mode, app.settings.color);
    let events = screen.events();
    let result = block_on(async {
        let image = client.pull(name, platform, store, &events).await;
        image.with_context(|| format!("cannot pull {}", name.familiar()))
    });
    drop(screen.finish());
    let image = result?;
    store.sync()?;
    Ok(image)
}

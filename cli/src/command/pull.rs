//! `lap pull`

use anyhow::{Context as _, bail};
use lap_cache::image::{Image, Reference};
use lap_cache::registry::RegistryError;
use lap_solver::platform::Platform;

use crate::args::{KeyValue, Pull};
use crate::command::App;
use crate::image::{reference, repository};
use crate::registry::{block_on, client};
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: Pull) -> anyhow::Result<i32> {
    let name = if args.all_tags { repository(&args.image)? } else { reference(&args.image)? };
    let platform = match args.platform.as_ref().or(app.settings.default_platform.as_ref()) {
        Some(text) => Platform::parse(text, &Platform::host())?,
        None => Platform::host(),
    };
    let mode = if args.quiet { Mode::Quiet } else { args.progress.unwrap_or(Mode::Auto) };
    if args.all_tags {
        return pull_all(app, &args, &name, &platform, mode);
    }
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

/// Every tag of a repository that has something for the platform.
fn pull_all(app: &App, args: &Pull, name: &Reference, platform: &Platform, mode: Mode) -> anyhow::Result<i32> {
    let client = client(&app.settings, &args.registry_mirrors)?;
    let tags = block_on(async {
        let tags = client.tags(name).await;
        tags.with_context(|| format!("cannot list the tags of {}", name.familiar_name()))
    })?;
    let (mut fresh, mut pulled) = (false, false);
    for tag in tags {
        let before = app.store()?.name_get(&tag)?;
        let image = match fetch(app, &tag, platform, &args.registry_mirrors, mode) {
            Ok(image) => image,
            Err(error) if is_for_others(&error) => {
                eprintln!("lap: left out: {error:#}");
                continue;
            }
            Err(error) => return Err(error),
        };
        fresh |= before != Some(image.digest());
        pulled = true;
        if !args.quiet {
            outln!("{}: digest: {}", tag.tag().unwrap_or_default(), image.digest())?;
        }
    }
    if !pulled {
        bail!("no tag of {} has an image for {platform}", name.familiar_name());
    }
    if !args.quiet {
        let word = if fresh { "Downloaded newer image for" } else { "Image is up to date for" };
        outln!("Status: {word} {}", name.familiar_name())?;
    }
    outln!("{}", name.name())?;
    Ok(0)
}

/// Whether a tag has nothing for the platform.
fn is_for_others(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(RegistryError::NoPlatform { .. }))
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

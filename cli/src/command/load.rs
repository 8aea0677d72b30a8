//! `lap load`

use std::fs::File;
use std::io::IsTerminal as _;

use anyhow::{Context as _, bail};
use lap_cache::image::Artifact;
use lap_cache::load::{Wanted, load};
use lap_solver::platform::Platform;

use crate::args::Load;
use crate::command::App;
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: &Load) -> anyhow::Result<i32> {
    let host = Platform::host();
    let platform = args.platform.as_ref().map(|text| Platform::parse(text, &host)).transpose()?;
    let wanted = platform.as_ref().map_or(Wanted::AllOr(&host), Wanted::Only);
    if args.input.is_none() && std::io::stdin().is_terminal() {
        bail!("requested load from stdin, but stdin is empty: give a file with -i, or an archive on standard input");
    }
    let store = app.store()?;
    let _lease = store.lease()?;
    let shown = args.input.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let failed = || format!("cannot load {shown}");
    let screen = Screen::start(if args.quiet { Mode::Quiet } else { Mode::Auto }, app.settings.color);
    let events = screen.events();
    let loaded = match &args.input {
        Some(path) => load(store, File::open(path).with_context(failed)?, wanted, &events),
        None => load(store, std::io::stdin(), wanted, &events),
    };
    drop(screen.finish());
    let loaded = loaded.with_context(failed)?;
    store.sync()?;
    for one in loaded {
        if one.names.is_empty() {
            let id = match &one.content {
                Artifact::Image(image) => image.id(),
                Artifact::Index(index) => index.digest(),
            };
            outln!("Loaded image ID: {id}")?;
        }
        for name in one.names {
            outln!("Loaded image: {}", name.familiar())?;
        }
    }
    Ok(0)
}

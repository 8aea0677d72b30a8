//! `lap load`

use std::fs::File;

use anyhow::Context as _;
use lap_solver::platform::Platform;

use crate::args::Load;
use crate::command::App;
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: &Load) -> anyhow::Result<i32> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let shown = args.input.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let failed = || format!("cannot load {shown}");
    let screen = Screen::start(if args.quiet { Mode::Quiet } else { Mode::Auto }, app.settings.color);
    let events = screen.events();
    let loaded = match &args.input {
        Some(path) => {
            let file = File::open(path).with_context(failed)?;
            lap_cache::load::load(store, file, &Platform::host(), &events)
        }
        None => lap_cache::load::load(store, std::io::stdin(), &Platform::host(), &events),
    };
    drop(screen.finish());
    let loaded = loaded.with_context(failed)?;
    store.sync()?;
    if !args.quiet {
        for one in loaded {
            if one.names.is_empty() {
                outln!("Loaded image ID: {}", one.image.id())?;
            }
            for name in one.names {
                outln!("Loaded image: {}", name.familiar())?;
            }
        }
    }
    Ok(0)
}

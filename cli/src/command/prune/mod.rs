//! `lap prune`, `lap builder`, `lap system`, `lap image prune` and `lap container prune`

mod cache;
mod df;
mod filter;
mod system;

use std::io::{BufRead as _, Write as _};

use crate::args::{Builder, System};
use crate::command::App;

pub(super) use cache::{du, prune};
pub(super) use system::{prune_containers, prune_images};

/// `lap builder`
pub(super) fn builder(app: &App, command: &Builder) -> anyhow::Result<i32> {
    match command {
        Builder::Prune(args) => prune(app, args, true),
        Builder::Du(args) => du(app, args),
    }
}

/// `lap system`
pub(super) fn system(app: &App, command: &System) -> anyhow::Result<i32> {
    match command {
        System::Df(args) => df::run(app, args),
        System::Prune(args) => system::prune(app, args),
        System::Info(args) => super::info::run(app, &args.format),
    }
}

/// Warns and asks; anything but `y` means no.
fn confirmed(warning: &str) -> anyhow::Result<bool> {
    out!("{warning}Are you sure you want to continue? [y/N] ")?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

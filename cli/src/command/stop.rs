//! `lap stop`, `lap kill` and `lap rm`

use std::time::Duration;

use lap_executor::container::signal_number;

use crate::args::{Kill, Remove, Stop};
use crate::command::{App, containers};

pub(super) fn stop(app: &App, args: &Stop) -> anyhow::Result<i32> {
    let all = containers::all(app)?;
    let timeout = args.time.map(Duration::from_secs);
    containers::each(&args.containers, |name| all.stop(&mut all.find(name)?, timeout))
}

pub(super) fn kill(app: &App, args: &Kill) -> anyhow::Result<i32> {
    let all = containers::all(app)?;
    let signal = signal_number(&args.signal)?;
    containers::each(&args.containers, |name| all.kill(&mut all.find(name)?, signal))
}

pub(super) fn remove(app: &App, args: &Remove) -> anyhow::Result<i32> {
    let all = containers::all(app)?;
    containers::each(&args.containers, |name| all.remove(all.find(name)?, args.force))
}

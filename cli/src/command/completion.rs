//! `lap completion`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Lap;

pub(super) fn run(shell: Shell) -> anyhow::Result<i32> {
    let mut command = Lap::command();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "lap", &mut text);
    out!("{}", String::from_utf8_lossy(&text))?;
    Ok(0)
}

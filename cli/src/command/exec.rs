//! `lap exec`

use anyhow::{Context as _, bail};
use lap_executor::container::{ContainerError, ExecOptions};

use crate::args::Exec;
use crate::command::{App, containers, run as options};
use crate::session::{Receiver, connect, forward, hold_signals};
use crate::terminal;

pub(super) fn run(app: &App, args: Exec) -> anyhow::Result<i32> {
    if args.tty && args.interactive && !terminal::is_input_terminal() {
        bail!("the input device is not a terminal: leave -t out");
    }
    let containers = containers::all(app)?;
    let not_there = |error| crate::exit::WithCode::wrap(crate::exit::FAILED, anyhow::Error::new(error));
    let container = containers.find(&args.container).map_err(not_there)?;
    let options = ExecOptions {
        command: args.command,
        env: options::environment(&args.env),
        working_dir: args.workdir,
        user: args.user,
        tty: args.tty,
        interactive: args.interactive,
        privileged: args.privileged,
        size: terminal::size(),
    };
    let signals = hold_signals();
    let mut running = containers.exec(&container, options).map_err(|error| match error {
        ContainerError::State { .. } => not_there(error),
        error => containers::failure(error),
    })?;
    let terminal = running.terminal.as_ref().map(std::os::fd::OwnedFd::try_clone).transpose()?;
    forward(signals, Receiver::Command(running.killer()?), terminal);
    let raw = connect(&mut running, args.interactive);
    let pumped = running.pump(&mut std::io::stdout(), &mut std::io::stderr());
    drop(raw);
    let exit = running.wait()?;
    pumped.context("cannot pass on the output")?;
    Ok(exit.code)
}

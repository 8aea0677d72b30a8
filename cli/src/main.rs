//! `lap`: builds container images from Dockerfiles and runs them, without a daemon.
//!
//! The only crate that prints, reads the environment or exits. `args` is what was typed, `settings` what holds,
//! `command` what is done, `ui` what is shown.

#![expect(clippy::print_stderr, reason = "this is the crate that speaks")]

/// A line on standard output; an error where nobody reads it any more.
macro_rules! outln {
    ($($text:tt)*) => { crate::ui::put(format_args!("{}\n", format_args!($($text)*))) };
}

/// Text on standard output; an error where nobody reads it any more.
macro_rules! out {
    ($($text:tt)*) => { crate::ui::put(format_args!($($text)*)) };
}

mod args;
mod bake;
mod command;
mod complete;
mod docker_config;
mod exit;
#[cfg(debug_assertions)]
mod fault;
mod image;
mod pipeline;
mod record;
mod registries_conf;
mod registry;
mod session;
mod settings;
mod shape;
mod signal;
mod template;
mod terminal;
mod ui;

use anyhow::Context as _;
use clap::Parser as _;
use clap::error::ErrorKind;
use lap_executor::userns::{self, Entered};

use args::Lap;
use command::App;
use exit::WithCode;
use settings::Settings;
use ui::error::Hint as _;

fn main() {
    // Before any thread: the parts of this program that the program itself starts.
    if let Some(code) = lap_executor::hidden_entry(std::env::args_os()) {
        exit(code);
    }
    let code = run();
    exit(code);
}

#[expect(clippy::exit, reason = "the one place that ends the process")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn run() -> i32 {
    let lap = match Lap::try_parse() {
        Ok(lap) => lap,
        Err(error) => return usage(&error),
    };
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && settings::variable("NO_COLOR").is_none();
    match start(lap) {
        Ok(code) => code,
        Err(error) => {
            let (code, error) = match error.downcast::<WithCode>() {
                Ok(WithCode { code, error: Some(error) }) => (code, error),
                Ok(WithCode { code, error: None }) => return code,
                Err(error) => (exit::FAILED, error),
            };
            if is_broken_pipe(&error) {
                return 128 + 13;
            }
            eprint!("{}", ui::error::render(&error, color));
            code
        }
    }
}

fn start(lap: Lap) -> anyhow::Result<i32> {
    #[cfg(debug_assertions)]
    let _told = fault::arm(settings::variable(fault::VARIABLE))?;
    let settings = Settings::new(lap.root.as_deref())?;
    let command = lap.command.plain();
    if command.uses_store() {
        enter_user_namespace(&settings, command.unpacks())?;
    }
    command::run(&App::new(settings), command)
}

/// An unprivileged user becomes root of a namespace of his own, before any thread exists.
fn enter_user_namespace(settings: &Settings, unpacks: bool) -> anyhow::Result<()> {
    match userns::enter(&settings.run_dir) {
        Ok(Entered::Root | Entered::Ranges) => Ok(()),
        Ok(Entered::SingleId(why)) => {
            if unpacks {
                eprintln!("lap: only your own user ID can be used ({why}): files of other owners become yours");
            }
            Ok(())
        }
        Err(error) => {
            let hint = error.hint();
            match hint {
                Some(hint) => Err(error).context("cannot enter a user namespace").hint(hint),
                None => Err(error).context("cannot enter a user namespace"),
            }
        }
    }
}

/// Help and version are answers; anything else is a mistake of the command line. `run` has Docker's own code for it.
fn usage(error: &clap::Error) -> i32 {
    // Nobody is left to tell when the streams are closed.
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ if std::env::args().nth(1).is_some_and(|word| word == "run") => exit::NOT_STARTED,
        _ => exit::USAGE,
    }
}

/// Whether the reader of our output went away: no error worth a message.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

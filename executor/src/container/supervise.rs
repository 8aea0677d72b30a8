//! Detached containers: the process that starts one, keeps its log, and notes its end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use lap_cache::store::{Mode, Store};
use serde::{Deserialize, Serialize};

use super::Containers;
use super::directory::Container;
use super::error::ContainerError;
use crate::sandbox::Init;

/// `argv[0]` of the watcher.
pub(crate) const SUPERVISOR_NAME: &str = "lap-supervise";

/// What the watcher says on its output, once.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Started,
    Failed { message: String, hint: Option<String>, code: i32 },
}

impl Containers {
    /// Starts a container that outlives the caller. Returns when its command runs.
    ///
    /// # Errors
    /// Where it runs already or cannot be started.
    pub fn start_detached(&self, container: &Container) -> Result<(), ContainerError> {
        let program = "/proc/self/exe";
        let mode = match self.store.mode() {
            Mode::Root => "root",
            Mode::User => "user",
        };
        let mut child = Command::new(program)
            .arg0(SUPERVISOR_NAME)
            .arg(self.store.root())
            .arg(mode)
            .arg(&self.run_dir)
            .arg(container.id())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ContainerError::file("execute", program))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(ContainerError::file("read from", program))?;
        }
        match serde_json::from_str(&line) {
            Ok(Report::Started) => Ok(()),
            Ok(Report::Failed { message, hint, code }) => {
                drop(child.wait());
                Err(ContainerError::Supervisor { message, hint, code })
            }
            Err(_) => {
                drop(child.wait());
                let message = "the process that watches the container died".to_owned();
                Err(ContainerError::Supervisor { message, hint: None, code: 125 })
            }
        }
    }
}

/// The watcher: store, mode, run directory, container id.
pub(crate) fn main(mut args: impl Iterator<Item = OsString>) -> i32 {
    // A session of its own: no terminal, no job control of the caller.
    let _ = nix::unistd::setsid();
    let (Some(root), Some(mode), Some(run_dir), Some(id)) = (args.next(), args.next(), args.next(), args.next()) else {
        return 125;
    };
    let (root, run_dir) = (PathBuf::from(root), PathBuf::from(run_dir));
    let mode = if mode == "user" { Mode::User } else { Mode::Root };
    if mode == Mode::User {
        // Later commands of the user find the namespace by this process.
        drop(crate::userns::stay(&run_dir));
    }
    let started =
        Store::open(&root, mode).map_err(|error| ContainerError::invalid(error.to_string())).and_then(|store| {
            let containers = Containers::new(store, &run_dir);
            let container = containers.by_id(&id.to_string_lossy())?;
            // It outlives a watcher that is killed.
            containers.begin(container, None, Init::Command)
        });
    let mut attached = match started {
        Ok(attached) => attached,
        Err(error) => {
            let hint = error.hint().map(str::to_owned);
            report(&Report::Failed { message: chain(&error), hint, code: error.exit_code() });
            return error.exit_code();
        }
    };
    // Nobody writes to its input.
    drop(attached.running.stdin.take());
    report(&Report::Started);
    drop(attached.pump(&mut io::sink(), &mut io::sink()));
    attached.finish().map_or(125, |exit| exit.code)
}

/// Says it, and lets go of the pipe to the caller.
fn report(report: &Report) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    drop(io::stdout().write_all(&line).and_then(|()| io::stdout().flush()));
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// An error with its causes, on one line.
fn chain(error: &ContainerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

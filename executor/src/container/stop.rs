//! Ending containers: a signal, a wait, a kill, and taking the rest away.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Containers;
use super::directory::{Container, read_json};
use super::error::ContainerError;
use super::state::{Live, State};
use crate::sandbox::{cgroup::Group, send_signal};

/// How long the watcher of a container may take to note its end.
const NOTING: Duration = Duration::from_secs(5);

const SIGKILL: i32 = 9;

impl Containers {
    /// Asks a container to end, and kills it if it has not after `timeout` (its own where absent). One that does not
    /// run is left alone.
    ///
    /// # Errors
    /// Where the signal cannot be sent.
    pub fn stop(&self, container: &mut Container, timeout: Option<Duration>) -> Result<(), ContainerError> {
        let State::Running(live) = container.state.clone() else { return Ok(()) };
        let timeout = timeout.unwrap_or_else(|| Duration::from_secs(container.config.stop_timeout));
        if let Some(process) = live.process.open() {
            signal(&process, container.config.stop_signal)?;
            if !ends_within(&process, timeout) {
                signal(&process, SIGKILL)?;
                ends_within(&process, NOTING);
            }
        }
        self.settle(container, &live)
    }

    /// Sends a signal to process 1 of a running container.
    ///
    /// # Errors
    /// Where it does not run or there is no such signal.
    pub fn kill(&self, container: &mut Container, number: i32) -> Result<(), ContainerError> {
        let not_running = || ContainerError::State { id: container.config.id.clone(), problem: "is not running" };
        let State::Running(live) = container.state.clone() else { return Err(not_running()) };
        let process = live.process.open().ok_or_else(not_running)?;
        signal(&process, number)?;
        if number == SIGKILL {
            ends_within(&process, NOTING);
            self.settle(container, &live)?;
        }
        Ok(())
    }

    /// Removes a container; a running one only with `force`, which kills it.
    ///
    /// # Errors
    /// Where it runs and `force` is not set, or files cannot be removed.
    pub fn remove(&self, mut container: Container, force: bool) -> Result<(), ContainerError> {
        if let State::Running(live) = container.state.clone() {
            if !force {
                let problem = "is running: stop it first, or use --force";
                return Err(ContainerError::State { id: container.config.id, problem });
            }
            if let Some(process) = live.process.open() {
                signal(&process, SIGKILL)?;
                ends_within(&process, NOTING);
            }
            let settled = self.settle(&mut container, &live);
            return settled.and_then(|()| self.clear(&mut container)).or_else(|error| {
                // The watcher of a container that is to go with its end is quicker at times; this file goes first.
                if container.dir.join("config.json").exists() { Err(error) } else { Ok(()) }
            });
        }
        self.clear(&mut container)
    }

    fn clear(&self, container: &mut Container) -> Result<(), ContainerError> {
        self.tidy(container)?;
        self.remove_dir(container)
    }

    /// Waits until a container does not run any more; gives its exit code.
    ///
    /// # Errors
    /// Where its state cannot be read.
    pub fn wait(&self, container: &mut Container) -> Result<i32, ContainerError> {
        loop {
            match container.state.clone() {
                State::Created => return Ok(0),
                State::Exited(ended) => return Ok(ended.code),
                State::Running(live) => {
                    if let Some(process) = live.process.open() {
                        ends_within(&process, Duration::from_secs(3600));
                    }
                    self.settle(container, &live)?;
                }
            }
        }
    }

    /// Takes away what a watcher that died without a word left of a container that has ended.
    pub(super) fn tidy(&self, container: &mut Container) -> Result<(), ContainerError> {
        let noted: State = read_json(&container.dir.join("state.json"))?;
        match (noted, &container.state) {
            (State::Running(live), State::Exited(_)) => self.take_away(container, &live),
            _ => Ok(()),
        }
    }

    fn take_away(&self, container: &mut Container, live: &Live) -> Result<(), ContainerError> {
        drop(Group::adopt(live.control_groups.clone()));
        crate::network::reclaim(&self.run_dir)?;
        let state = container.state.clone();
        container.set_state(state)
    }

    /// Waits until the watcher has noted the end of a dead container; where there is none any more, takes away what it
    /// left.
    fn settle(&self, container: &mut Container, live: &Live) -> Result<(), ContainerError> {
        let begun = Instant::now();
        loop {
            match container.refresh() {
                Ok(()) if !matches!(container.state, State::Running(_)) => break,
                // Removed by its watcher.
                Err(_) if !container.dir.join("state.json").exists() => return Ok(()),
                Err(error) => return Err(error),
                Ok(()) if live.process.is_alive() => return Ok(()),
                Ok(()) if begun.elapsed() > NOTING => break,
                Ok(()) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        if !live.supervisor.is_alive() {
            self.take_away(container, live)?;
            if container.config.auto_remove {
                return self.remove_dir(container);
            }
        }
        Ok(())
    }
}

fn signal(process: &OwnedFd, number: i32) -> Result<(), ContainerError> {
    match send_signal(process, number) {
        // It ended just now.
        Err(crate::sandbox::SandboxError::Os { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => Ok(other?),
    }
}

/// Waits for a process to die; tells whether it did.
fn ends_within(process: &OwnedFd, timeout: Duration) -> bool {
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let mut events = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut events, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) if Instant::now() >= end => return false,
            Err(_) => {}
        }
    }
}

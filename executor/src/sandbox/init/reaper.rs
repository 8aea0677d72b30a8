//! Process 1 of a build step, or the guest in a container: runs the command as its child, reaps orphans, and ends with the command.
//!
//! When it ends, the kernel kills what is left in its pid namespace; as a guest in somebody else's, it kills its child
//! through the parent-death signal. It also ends when the outside dies, which closes the status socket.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::process::WaitOptions;

use super::super::error::Failure;
use super::super::plan::Plan;
use super::super::status::{self, Message};
use super::During;
use super::command::{Identified, become_it};
use crate::sys;

/// Runs the command and stays until it ended; gives its exit code, 128 + n for signal n.
pub(super) fn run(
    plan: &Plan,
    status: &OwnedFd,
    identified: &Identified,
    cwd: OwnedFd,
    terminal: Option<OwnedFd>,
    null: OwnedFd,
) -> Result<i32, Failure> {
    let Some(child) = sys::fork_until_exec()? else {
        return Err(become_it(plan, status, identified, &cwd, terminal));
    };
    drop((terminal, cwd));
    release_stdio(&null);
    drop(null);
    // Blocked, so that they reach us at all: process 1 ignores what it does not handle.
    let mut signals = SigSet::all();
    for fault in [Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV] {
        signals.remove(fault);
    }
    signals.thread_block().during(|| "block signals".to_owned())?;
    let received = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .during(|| "signalfd".to_owned())?;
    status::send(status.as_fd(), &Message::Started, None).during(|| "report".to_owned())?;
    loop {
        if let Some(ended) = reap(child) {
            drop(status::send(status.as_fd(), &Message::Ended(ended), None));
            return Ok(super::super::running::code_of(ended));
        }
        let mut events =
            [PollFd::new(&received, PollFlags::IN), PollFd::from_borrowed_fd(status.as_fd(), PollFlags::IN)];
        let _ = rustix::event::poll(&mut events, None);
        if events[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(128 + Signal::SIGKILL as i32);
        }
        while let Ok(Some(signal)) = received.read_signal() {
            forward(signal.ssi_signo, child);
        }
    }
}

/// Passes a signal on to the command.
fn forward(number: u32, child: i32) {
    let signal = i32::try_from(number).ok().and_then(rustix::process::Signal::from_named_raw);
    if let (Some(signal), Some(child)) = (signal, rustix::process::Pid::from_raw(child))
        && signal != rustix::process::Signal::CHILD
    {
        let _ = rustix::process::kill_process(child, signal);
    }
}

/// Reaps every dead child; gives the wait status of this one if it was among them.
fn reap(child: i32) -> Option<i32> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == child {
            ended = Some(status.as_raw());
        }
    }
    ended
}

/// The command's pipes are its own: their readers see the end when it closes them.
fn release_stdio(null: &OwnedFd) {
    let _ = rustix::stdio::dup2_stdin(null);
    let _ = rustix::stdio::dup2_stdout(null);
    let _ = rustix::stdio::dup2_stderr(null);
}

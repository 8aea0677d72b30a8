//! A command in the foreground: its signals, its terminal, its input.

use std::os::fd::OwnedFd;

use lap_executor::sandbox::{Killer, Running, resize};
use nix::sys::signal::{SigSet, Signal};

use crate::terminal::{self, Raw};

/// Signals that belong to the command rather than to `lap` while it runs.
const FORWARDED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Holds the signals back so that none is lost before there is somebody to give it to. The command itself starts with
/// none blocked.
pub(crate) fn hold_signals() -> SigSet {
    let set: SigSet = FORWARDED.into_iter().collect();
    // Fails for no valid set.
    let _ = set.thread_block();
    set
}

/// How often a user without a terminal inside interrupts a command before it is killed, as Docker does: process 1
/// ignores what it does not handle.
const PATIENCE: usize = 3;

/// Who gets the signals.
pub(crate) enum Receiver {
    /// A container: each signal goes to its process 1.
    Container(OwnedFd),
    /// One more command in a container: there is no way to signal it but to end it.
    Command(Killer),
}

/// Gives signals to the command and sizes to its terminal, from a thread of its own.
pub(crate) fn forward(signals: SigSet, receiver: Receiver, terminal: Option<OwnedFd>) {
    std::thread::spawn(move || {
        let mut interrupts = 0;
        while let Ok(signal) = signals.wait() {
            if signal == Signal::SIGWINCH {
                if let (Some(terminal), Some((columns, rows))) = (&terminal, terminal::size()) {
                    // A terminal that is gone needs no size.
                    drop(resize(std::os::fd::AsFd::as_fd(terminal), columns, rows));
                }
                continue;
            }
            interrupts += usize::from(matches!(signal, Signal::SIGINT | Signal::SIGTERM));
            let signal = if interrupts < PATIENCE { signal } else { Signal::SIGKILL };
            match &receiver {
                // A process that is gone takes no signal.
                Receiver::Container(pidfd) => {
                    let number = rustix::process::Signal::from_named_raw(signal as i32);
                    let _ = number.map(|number| rustix::process::pidfd_send_signal(pidfd, number));
                }
                Receiver::Command(killer) => killer.kill(),
            }
        }
    });
}

/// Connects input and terminal of a command with those of the user. The guard restores the terminal.
pub(crate) fn connect(running: &mut Running, interactive: bool) -> Option<Raw> {
    if let Some(terminal) = &running.terminal {
        let raw = interactive.then(Raw::enter).flatten();
        if interactive && let Ok(input) = terminal.try_clone() {
            terminal::feed(input);
        }
        return raw;
    }
    if let Some(stdin) = running.stdin.take() {
        terminal::feed(stdin);
    }
    None
}

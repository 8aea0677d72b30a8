//! The user's terminal: raw mode with a guard, its size, and its input.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode of standard input; the old one comes back on drop.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Nothing where standard input is no terminal.
    pub(crate) fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        if !isatty(stdin.as_fd()) {
            return None;
        }
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done where the terminal is gone.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.before);
    }
}

/// Standard input without echo; the old mode comes back on drop.
pub(crate) struct Quiet {
    before: Termios,
}

impl Quiet {
    /// Nothing where standard input is no terminal.
    pub(crate) fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &quiet).ok()?;
        Some(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done where the terminal is gone.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows of the terminal that standard output is.
pub(crate) fn size() -> Option<(u16, u16)> {
    let stdout = std::io::stdout();
    let size = tcgetwinsize(stdout.as_fd()).ok()?;
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Columns of the terminal that standard error is.
pub(crate) fn columns() -> Option<usize> {
    let stderr = std::io::stderr();
    let size = tcgetwinsize(stderr.as_fd()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Whether standard input is a terminal.
pub(crate) fn is_input_terminal() -> bool {
    isatty(std::io::stdin().as_fd())
}

/// Whether somebody sits before a terminal: input and output are one.
pub(crate) fn is_interactive() -> bool {
    is_input_terminal() && isatty(std::io::stdout().as_fd())
}

/// Feeds standard input to `to` from a thread of its own, which ends with the process: a read cannot be taken back.
pub(crate) fn feed(to: OwnedFd) {
    std::thread::spawn(move || {
        let mut to = std::fs::File::from(to);
        let mut buffer = [0; 8192];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count) = stdin.read(&mut buffer) {
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

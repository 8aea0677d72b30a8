//! Carries a sandbox's output to whoever wants it, on the calling thread, until the command has ended.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::Winsize;

use super::Running;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

impl Running {
    /// Copies output and errors until both have ended, or until process 1 is dead and everything it wrote has been
    /// read: a process left in a container may hold a pipe open for ever, and is not waited for. The terminal's
    /// output, if there is one, goes to `out`.
    ///
    /// Writing blocks, so a slow reader slows the command; memory stays bounded.
    ///
    /// # Errors
    /// Where `out` or `err` cannot be written.
    pub fn pump(&mut self, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        let mut sources: [Option<OwnedFd>; 2] =
            [self.terminal_copy()?.or_else(|| self.stdout.take()), self.stderr.take()];
        let mut buffer = vec![0; CHUNK];
        let mut dead = false;
        while sources.iter().any(Option::is_some) {
            if !dead {
                dead = wait_for(&sources, self.pidfd.as_fd());
            }
            let mut read_any = false;
            for (index, source) in sources.iter_mut().enumerate() {
                let Some(fd) = source else { continue };
                if !readable(fd.as_fd()) {
                    continue;
                }
                match rustix::io::read(&*fd, &mut buffer) {
                    Ok(0) | Err(Errno::IO) => *source = None,
                    Ok(length) => {
                        read_any = true;
                        let sink: &mut dyn Write = if index == 0 { out } else { err };
                        sink.write_all(&buffer[..length])?;
                        sink.flush()?;
                    }
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if dead && !read_any {
                break;
            }
        }
        Ok(())
    }

    /// Takes the write end of the command's input: the pipe, or a copy of its terminal.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn take_input(&mut self) -> io::Result<Option<OwnedFd>> {
        match self.stdin.take() {
            Some(pipe) => Ok(Some(pipe)),
            None => self.terminal_copy(),
        }
    }

    /// Sets the size of the terminal; nothing happens without one.
    ///
    /// # Errors
    /// Where the system refuses it.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => resize(terminal.as_fd(), columns, rows),
            None => Ok(()),
        }
    }

    fn terminal_copy(&self) -> io::Result<Option<OwnedFd>> {
        self.terminal.as_ref().map(OwnedFd::try_clone).transpose()
    }
}

/// Sets the size of a terminal.
///
/// # Errors
/// Where the descriptor is no terminal.
pub fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Waits until something can be read or the process is dead; tells whether it is dead.
fn wait_for(sources: &[Option<OwnedFd>; 2], process: BorrowedFd<'_>) -> bool {
    let mut events = vec![PollFd::from_borrowed_fd(process, PollFlags::IN)];
    events.extend(sources.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)));
    let _ = rustix::event::poll(&mut events, None);
    !events[0].revents().is_empty()
}

/// Whether a read would not block.
fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut events = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut events, Some(&now)).is_ok_and(|ready| ready > 0)
}

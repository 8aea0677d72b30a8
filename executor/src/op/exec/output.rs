//! Following a command: its output as events, its end, the last of what it said.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use lap_solver::event::{Event, Events, Stream};
use lap_solver::graph::VertexId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::ExecError;
use crate::sandbox::{Exit, Running};
use crate::worker::WorkerError;

/// How much of the output an error carries.
const TAIL: usize = 16 * 1024;
/// How long output is waited for after everything in the sandbox is dead; it is there or it never comes.
const GRACE: Duration = Duration::from_secs(2);

/// How a command ended.
pub(super) enum End {
    /// By itself.
    Exit(Exit),
    /// It was killed when its time was over.
    Late(Duration),
}

/// Sends output as it comes; ends when the command has ended and all of it was read. Dropping it kills the command,
/// and so does the end of its time.
pub(super) async fn follow(
    mut running: Running,
    vertex: VertexId,
    events: &Events,
    limit: Option<Duration>,
) -> Result<(End, Vec<u8>), WorkerError> {
    let mut stdout = receiver(running.stdout.take()).map_err(ExecError::Watch)?;
    let mut stderr = receiver(running.stderr.take()).map_err(ExecError::Watch)?;
    let pidfd = running.pidfd.try_clone().map_err(ExecError::Watch)?;
    // Ends at the latest when `running` is dropped, since that kills what is waited for.
    let mut death = tokio::task::spawn_blocking(move || died(&pidfd));
    let (mut out, mut err) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    let mut tail = Tail::default();
    let mut ended = false;
    let timer = tokio::time::sleep(limit.unwrap_or_default());
    tokio::pin!(timer);
    let mut late = None;
    while stdout.is_some() || stderr.is_some() || !ended {
        tokio::select! {
            read = next(&mut stdout, &mut out), if stdout.is_some() => {
                pass(read, &mut stdout, &out, Stream::Stdout, vertex, events, &mut tail)?;
            }
            read = next(&mut stderr, &mut err), if stderr.is_some() => {
                pass(read, &mut stderr, &err, Stream::Stderr, vertex, events, &mut tail)?;
            }
            dead = &mut death, if !ended => {
                dead?.map_err(ExecError::Watch)?;
                ended = true;
            }
            () = &mut timer, if limit.is_some() && late.is_none() && !ended => {
                running.kill();
                late = limit;
            }
            () = tokio::time::sleep(GRACE), if ended => break,
        }
    }
    let exit = tokio::task::spawn_blocking(move || running.wait()).await?.map_err(ExecError::from)?;
    // Whoever was done in the very moment was in time.
    let end = late.filter(|_| exit.code != 0).map_or(End::Exit(exit), End::Late);
    Ok((end, tail.0))
}

/// Blocks until the process is dead.
fn died(pidfd: &OwnedFd) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn receiver(fd: Option<OwnedFd>) -> io::Result<Option<Receiver>> {
    fd.map(Receiver::from_owned_fd).transpose()
}

async fn next(stream: &mut Option<Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => Ok(0),
    }
}

fn pass(
    read: io::Result<usize>,
    from: &mut Option<Receiver>,
    buffer: &[u8],
    stream: Stream,
    vertex: VertexId,
    events: &Events,
    tail: &mut Tail,
) -> Result<(), ExecError> {
    match read.map_err(ExecError::Watch)? {
        0 => *from = None,
        length => {
            tail.push(&buffer[..length]);
            events.send(Event::Log { vertex, stream, data: buffer[..length].to_vec() });
        }
    }
    Ok(())
}

/// The last bytes of a stream, beginning at a line.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        if self.0.len() > 2 * TAIL {
            let cut = self.0.len() - TAIL;
            let line = self.0[cut..].iter().position(|byte| *byte == b'\n').map_or(cut, |at| cut + at + 1);
            self.0.drain(..line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tail;

    #[test]
    fn the_tail_is_bounded_and_begins_at_a_line() {
        let mut tail = Tail::default();
        for line in 0..10_000 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        let text = String::from_utf8(tail.0).unwrap();
        assert!(
            text.len() <= 32 * 1024 && text.starts_with("line ") && text.ends_with("line 9999\n"),
            "{}",
            text.len()
        );
        let mut tail = Tail::default();
        tail.push(&[b'x'; 100_000]);
        assert!(tail.0.len() <= 32 * 1024);
    }
}

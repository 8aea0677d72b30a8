//! A pipe between a thread that makes a tar and one that reads it, where both need the pool: a maker that runs in the
//! pool and has to wait lends a hand meanwhile, or those who wait for compressed members would wait for ever.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Pieces on their way.
const DEPTH: usize = 4;

/// Its end says that all is written.
#[derive(Debug)]
pub(in crate::image) struct PipeWriter(SyncSender<Vec<u8>>);

#[derive(Debug)]
pub(in crate::image) struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    taken: usize,
}

/// Every write is a piece: wrap the writer into a [`io::BufWriter`].
pub(in crate::image) fn pipe() -> (PipeReader, PipeWriter) {
    let (sender, receiver) = sync_channel(DEPTH);
    (PipeReader { receiver, piece: Vec::new(), taken: 0 }, PipeWriter(sender))
}

impl Write for PipeWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut piece = buffer.to_vec();
        loop {
            match self.0.try_send(piece) {
                Ok(()) => return Ok(buffer.len()),
                Err(TrySendError::Disconnected(_)) => return Err(gone()),
                Err(TrySendError::Full(back)) => piece = back,
            }
            match rayon::yield_now() {
                None => return self.0.send(piece).map(|()| buffer.len()).map_err(|_| gone()),
                Some(rayon::Yield::Executed) => {}
                Some(rayon::Yield::Idle) => std::thread::yield_now(),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.taken) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.taken);
        buffer[..count].copy_from_slice(&self.piece[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

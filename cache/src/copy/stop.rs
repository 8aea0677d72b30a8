//! A way to end a copy early: whoever reads gets an error, and what was begun is taken back.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a copy to end. Clones ask the same one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the copy at its next read.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A reader that fails from then on.
    pub fn heed<R: Read>(&self, reader: R) -> Heeding<R> {
        Heeding { reader, stop: self.clone() }
    }
}

/// A reader that heeds a [`Stop`].
#[derive(Debug)]
pub struct Heeding<R> {
    reader: R,
    stop: Stop,
}

impl<R: Read> Read for Heeding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        self.reader.read(buffer)
    }
}

//! A way to end a copy early: whoever reads or waits gets an error, and what was begun is taken back.

use std::io::{self, Read};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::CopyError;
use crate::registry::RegistryError;

/// Asks a copy to end. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    /// Ends the copy: what waits for a registry at once, what reads from a file at its next read.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// A reader that fails from then on.
    pub fn heed<R: Read>(&self, reader: R) -> Heeding<R> {
        Heeding { reader, stop: self.clone() }
    }

    /// Resolves when the copy is to end.
    pub(super) async fn asked(&self) {
        // The sender lives as long as this.
        drop(self.0.subscribe().wait_for(|asked| *asked).await);
    }

    /// Waits for an answer, or until the copy is to end.
    pub(super) fn wait<T>(
        &self,
        runtime: &Handle,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, CopyError> {
        runtime.block_on(async {
            tokio::select! {
                result = work => Ok(result?),
                () = self.asked() => Err(CopyError::Interrupted),
            }
        })
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
        if *self.stop.0.borrow() {
            return Err(io::Error::other(CopyError::Interrupted));
        }
        self.reader.read(buffer)
    }
}

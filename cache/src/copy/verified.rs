//! Bytes on their way that turn into an error before the last of them goes out where they are not those announced.

use std::io::{self, Read};

use crate::content::ContentError;
use crate::digest::{Digest, Sha256Stream};

/// Reads a blob. The last bytes are only given once the digest of all of them is right and nothing follows: whoever
/// passes them on never completes a wrong blob.
#[derive(Debug)]
pub(super) struct Verified<R> {
    stream: Sha256Stream<R>,
    digest: Digest,
    size: u64,
    is_right: bool,
}

impl<R: Read> Verified<R> {
    pub(super) fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self { stream: Sha256Stream::new(inner), digest, size, is_right: false }
    }

    fn wrong_size(&self, actual: u64) -> io::Error {
        let error = ContentError::WrongSize { digest: self.digest, expected: self.size, actual };
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_right || buffer.is_empty() {
            return Ok(0);
        }
        let read = self.stream.read(buffer)?;
        let count = self.stream.count();
        if count > self.size || (read == 0 && count < self.size) {
            return Err(self.wrong_size(count));
        }
        if count == self.size {
            let (_, actual, _) = self.stream.clone_state().finish();
            if actual != self.digest {
                let error = ContentError::WrongDigest { expected: self.digest, actual };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if read > 0 && self.stream.read(&mut [0])? > 0 {
                return Err(self.wrong_size(self.size + 1));
            }
            self.is_right = true;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], announced: &[u8], size: u64) -> (Vec<u8>, Option<String>) {
        let mut got = Vec::new();
        let mut reader = Verified::new(bytes, Digest::of(announced), size);
        let error = io::copy(&mut reader, &mut got).err();
        (got, error.map(|error| error.to_string()))
    }

    #[test]
    fn the_last_bytes_are_only_given_where_all_are_right() {
        assert_eq!(read(b"abc", b"abc", 3), (b"abc".to_vec(), None));
        assert_eq!(read(b"", b"", 0), (Vec::new(), None));
        for (bytes, size) in [(&b"abd"[..], 3), (b"ab", 3), (b"abcd", 3), (b"abcd", 4), (b"", 3), (b"abc", 0)] {
            let (got, error) = read(bytes, b"abc", size);
            assert!(error.is_some() && (got.len() as u64) < size.max(1), "{bytes:?} {size}: {got:?} {error:?}");
        }
    }
}

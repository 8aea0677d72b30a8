//! Compressing layers on all cores, with the same bytes whatever their number.
//!
//! gzip: the input is cut into blocks of 1 MiB, each is deflated for itself (primed with the 32 KiB before it, ended
//! by a sync flush) and they are joined into one member, as pigz does. Any gzip reader takes it.
//! zstd: the library's own workers; it cuts at places that do not depend on their number, as long as there is one.
//!
//! The bytes depend on the level and on the versions of zlib-rs and libzstd: whoever remembers blobs keys them by
//! [`Compression::key`].

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use flate2::{Compress, Crc, FlushCompress, Status};
use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};

use super::manifest::docker;

/// Input of one deflate block, in bytes. Part of the format: changing it changes digests.
const BLOCK: usize = 1 << 20;
/// What deflate can look back at.
const WINDOW: usize = 32 << 10;
/// Header without name and time; the operating system is "unknown", as Go writes it.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    Uncompressed,
    /// gzip at a level from 0 to 9.
    Gzip(u32),
    /// gzip at a level from 0 to 9 in members from which single files can be read: see [`super::estargz`].
    Estargz(u32),
    /// zstd at a level from 1 to 22.
    Zstd(i32),
}

/// The text names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no compression: write gzip, estargz, zstd or uncompressed")]
pub struct NotACompression(String);

/// The compression has no such level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{compression} has no level {level}: write one from 0 to {highest}")]
pub struct NotALevel {
    compression: Compression,
    level: i32,
    highest: i32,
}

impl Default for Compression {
    fn default() -> Self {
        Self::GZIP
    }
}

impl Compression {
    /// gzip at zlib's default level.
    pub const GZIP: Self = Self::Gzip(6);
    /// zstd at its default level.
    pub const ZSTD: Self = Self::Zstd(3);

    /// The same compression at another level; uncompressed stays uncompressed. The lowest level of zstd is 1, which 0
    /// means too.
    ///
    /// # Errors
    /// Where there is no such level.
    pub fn at_level(self, level: i32) -> Result<Self, NotALevel> {
        let highest = if matches!(self, Self::Zstd(_)) { 22 } else { 9 };
        if self != Self::Uncompressed && !(0..=highest).contains(&level) {
            return Err(NotALevel { compression: self, level, highest });
        }
        Ok(match self {
            Self::Uncompressed => self,
            Self::Gzip(_) => Self::Gzip(level.unsigned_abs()),
            Self::Estargz(_) => Self::Estargz(level.unsigned_abs()),
            Self::Zstd(_) => Self::Zstd(level.max(1)),
        })
    }

    /// Under what a blob made by it is remembered; changes whenever the bytes might.
    #[must_use]
    pub fn key(self) -> String {
        match self {
            Self::Uncompressed => "uncompressed".to_owned(),
            Self::Gzip(level) => format!("gzip-1:{level}"),
            Self::Estargz(level) => format!("estargz-1:{level}"),
            Self::Zstd(level) => format!("zstd-1:{level}"),
        }
    }

    /// The media type of a layer compressed by it. Docker's schema 2 has none for zstd: the OCI one is used.
    #[must_use]
    pub fn media_type(self, docker_types: bool) -> String {
        match (self, docker_types) {
            (Self::Uncompressed, false) => MediaType::ImageLayer.to_string(),
            (Self::Gzip(_) | Self::Estargz(_), false) => MediaType::ImageLayerGzip.to_string(),
            (Self::Zstd(_), _) => MediaType::ImageLayerZstd.to_string(),
            (Self::Uncompressed, true) => docker::LAYER.to_owned(),
            (Self::Gzip(_) | Self::Estargz(_), true) => docker::LAYER_GZIP.to_owned(),
        }
    }

    /// A writer that compresses into `output`; call [`Compressor::finish`] at the end. A stream without entries, of
    /// which nothing single could be read, is plain gzip.
    ///
    /// # Errors
    /// Where the library cannot be set up or the first bytes cannot be written.
    pub fn writer<W: Write>(self, output: W) -> io::Result<Compressor<W>> {
        Ok(match self {
            Self::Uncompressed => Compressor::Plain(output),
            Self::Gzip(level) | Self::Estargz(level) => Compressor::Gzip(GzipBlocks::new(output, level)?),
            Self::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(output, level)?;
                // Zero workers would give other bytes than one or more.
                let workers = rayon::current_num_threads().clamp(1, 16);
                encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
                encoder.include_checksum(true)?;
                Compressor::Zstd(encoder)
            }
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uncompressed => "uncompressed",
            Self::Gzip(_) => "gzip",
            Self::Estargz(_) => "estargz",
            Self::Zstd(_) => "zstd",
        })
    }
}

impl FromStr for Compression {
    type Err = NotACompression;

    /// Reads the name; the level is the default one.
    fn from_str(text: &str) -> Result<Self, NotACompression> {
        match text {
            "uncompressed" | "none" => Ok(Self::Uncompressed),
            "gzip" => Ok(Self::GZIP),
            "estargz" => Ok(Self::Estargz(6)),
            "zstd" => Ok(Self::ZSTD),
            other => Err(NotACompression(other.to_owned())),
        }
    }
}

/// A compressing writer.
pub enum Compressor<W: Write> {
    /// Passes bytes on.
    Plain(W),
    /// Parallel gzip.
    Gzip(GzipBlocks<W>),
    /// libzstd with workers.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Writes what is still held back and returns the output.
    ///
    /// # Errors
    /// Where compressing or writing fails.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Gzip(blocks) => blocks.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(buffer),
            Self::Gzip(blocks) => blocks.write(buffer),
            Self::Zstd(encoder) => encoder.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            // A flush in the middle would change the bytes.
            Self::Gzip(_) | Self::Zstd(_) => Ok(()),
        }
    }
}

impl<W: Write> fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Compressor::Plain",
            Self::Gzip(_) => "Compressor::Gzip",
            Self::Zstd(_) => "Compressor::Zstd",
        })
    }
}

/// One deflated block.
struct Block {
    data: Vec<u8>,
    crc: Crc,
}

/// A gzip stream made of blocks that are deflated side by side. Holds a few blocks in memory, never more.
pub struct GzipBlocks<W> {
    output: W,
    level: u32,
    block: Vec<u8>,
    previous: Arc<Vec<u8>>,
    in_work: VecDeque<Receiver<io::Result<Block>>>,
    crc: Crc,
}

impl<W> fmt::Debug for GzipBlocks<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GzipBlocks").field("level", &self.level).finish_non_exhaustive()
    }
}

impl<W: Write> GzipBlocks<W> {
    fn new(mut output: W, level: u32) -> io::Result<Self> {
        output.write_all(&GZIP_HEADER)?;
        Ok(Self {
            output,
            level,
            block: Vec::with_capacity(BLOCK),
            previous: Arc::default(),
            in_work: VecDeque::new(),
            crc: Crc::new(),
        })
    }

    fn dispatch(&mut self, last: bool) -> io::Result<()> {
        let input = Arc::new(std::mem::take(&mut self.block));
        let before = std::mem::replace(&mut self.previous, Arc::clone(&input));
        let level = self.level;
        let (sender, receiver) = mpsc::sync_channel(1);
        rayon::spawn(move || {
            // Nobody waits any more where the writer was dropped.
            drop(sender.send(deflate(&before, &input, level, last)));
        });
        self.in_work.push_back(receiver);
        if !last {
            self.block.reserve_exact(BLOCK);
        }
        while self.in_work.len() > 2 * rayon::current_num_threads() {
            self.write_oldest()?;
        }
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let Some(receiver) = self.in_work.pop_front() else { return Ok(()) };
        let block = wait(&receiver)??;
        self.crc.combine(&block.crc);
        self.output.write_all(&block.data)
    }

    fn finish(mut self) -> io::Result<W> {
        self.dispatch(true)?;
        while !self.in_work.is_empty() {
            self.write_oldest()?;
        }
        self.output.write_all(&self.crc.sum().to_le_bytes())?;
        self.output.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.output)
    }
}

/// One whole gzip member.
pub(super) fn gzip_member(input: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let block = deflate(&[], input, level, true)?;
    let mut member = GZIP_HEADER.to_vec();
    member.extend_from_slice(&block.data);
    member.extend_from_slice(&block.crc.sum().to_le_bytes());
    member.extend_from_slice(&block.crc.amount().to_le_bytes());
    Ok(member)
}

/// Waits for a block; on a thread of the pool by lending a hand, so that the pool cannot wait for itself.
pub(super) fn wait<T>(receiver: &Receiver<T>) -> io::Result<T> {
    let gone = || io::Error::other("a compression task panicked");
    loop {
        match receiver.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => return Err(gone()),
            Err(TryRecvError::Empty) => match rayon::yield_now() {
                None => return receiver.recv().map_err(|_| gone()),
                Some(rayon::Yield::Executed) => {}
                Some(rayon::Yield::Idle) => std::thread::yield_now(),
            },
        }
    }
}

impl<W: Write> Write for GzipBlocks<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A full block leaves only when more comes: the last one must end the stream.
        if self.block.len() == BLOCK {
            self.dispatch(false)?;
        }
        let taken = buffer.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buffer[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn deflate(before: &[u8], input: &[u8], level: u32, last: bool) -> io::Result<Block> {
    let mut engine = Compress::new(flate2::Compression::new(level), false);
    let dictionary = &before[before.len().saturating_sub(WINDOW)..];
    if !dictionary.is_empty() {
        engine.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut data = Vec::with_capacity(input.len() / 2 + 1024);
    loop {
        let consumed = usize::try_from(engine.total_in()).map_err(io::Error::other)?;
        let status = engine.compress_vec(&input[consumed..], &mut data, flush).map_err(io::Error::other)?;
        // Room left after a flush means that all of it is out.
        let all_in = engine.total_in() == input.len() as u64;
        if status == Status::StreamEnd || (!last && all_in && data.len() < data.capacity()) {
            break;
        }
        data.reserve(input.len() / 4 + 1024);
    }
    let mut crc = Crc::new();
    crc.update(input);
    Ok(Block { data, crc })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn compress(compression: Compression, pieces: &[&[u8]]) -> Vec<u8> {
        let mut writer = compression.writer(Vec::new()).unwrap();
        for piece in pieces {
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap()
    }

    fn gunzip(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // Not the multi-member reader: ours must be a single member.
        flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap();
        out
    }

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..length)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 4096 < 3000 { b'a' + u8::try_from(at / 7 % 26).unwrap() } else { state.to_be_bytes()[0] }
            })
            .collect()
    }

    #[test]
    fn block_borders_round_trip() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 77] {
            let data = sample(length);
            for level in [0, 1, 6, 9] {
                assert_eq!(gunzip(&compress(Compression::Gzip(level), &[&data])), data, "{length} at level {level}");
            }
            assert_eq!(zstd::decode_all(&compress(Compression::ZSTD, &[&data])[..]).unwrap(), data);
        }
    }

    #[test]
    fn bytes_do_not_depend_on_cores_or_on_the_size_of_writes() {
        let data = sample(5 * BLOCK + 123);
        for compression in [Compression::GZIP, Compression::ZSTD] {
            let whole = compress(compression, &[&data]);
            let pieces: Vec<&[u8]> = data.chunks(9973).collect();
            assert_eq!(compress(compression, &pieces), whole);
            for threads in [1, 2, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| compress(compression, &[&data])), whole, "{threads} threads");
            }
        }
    }

    #[test]
    fn many_writers_within_the_pool_do_not_wait_for_each_other() {
        use rayon::prelude::*;
        let data = sample(3 * BLOCK);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let all: Vec<_> =
            pool.install(|| (0..8).into_par_iter().map(|_| compress(Compression::GZIP, &[&data])).collect());
        assert!(all.iter().all(|one| *one == all[0]));
    }

    #[test]
    fn digests_of_today_are_those_of_tomorrow() {
        // A change here changes the digest of every image that people rebuild: bump the number in `key` with it.
        let digest = |compression| crate::digest::Digest::of(&compress(compression, &[&sample(2 * BLOCK + 5)])).hex();
        assert_eq!(&digest(Compression::GZIP)[..16], "6d4a3af94a2a5d8e");
        assert_eq!(&digest(Compression::ZSTD)[..16], "2cc9b79b7c468a14");
    }

    proptest! {
        #[test]
        fn anything_round_trips(data in proptest::collection::vec(any::<u8>(), 0..5000), level in 0_u32..10) {
            prop_assert_eq!(gunzip(&compress(Compression::Gzip(level), &[&data])), data);
        }
    }
}

//! Decompression by magic number: what a blob is called does not matter, what it is does.

use std::io::{self, BufRead, BufReader, Cursor, Read};

/// How a stream of bytes is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
    /// bzip2, one or more streams.
    Bzip2,
    /// xz, one or more streams.
    Xz,
}

/// Bytes needed to tell a compression.
const MAGIC_LENGTH: usize = 6;
/// Read at once from the compressed stream.
const BUFFER: usize = 256 * 1024;

impl Compression {
    /// Tells the compression by the first bytes of a stream.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame (RFC 8878, 3.1.2), which parallel compressors begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// The decompressed bytes of `reader`, whichever of gzip, zstd, bzip2, xz or nothing it is compressed with.
///
/// # Errors
/// Where the first bytes cannot be read.
pub fn decompress<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = [0; MAGIC_LENGTH];
    let mut length = 0;
    while length < start.len() {
        match reader.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let compression = Compression::of(&start[..length]);
    let whole = Cursor::new(start).take(length as u64).chain(reader);
    let whole = BufReader::with_capacity(BUFFER, whole);
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, Gzip::new(whole))),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(whole)?),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new(whole, true)),
    })
}

/// Members of gzip one after another; zeros behind the last one (padding to a block) end the stream, as in gzip(1).
struct Gzip<R: BufRead> {
    /// Nothing only while a member follows another, or after an error.
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(reader: R) -> Self {
        Self { member: Some(flate2::bufread::GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(ended) = self.member.take() else { return Ok(0) };
            let mut rest = ended.into_inner();
            match rest.fill_buf()?.first() {
                None | Some(0) => {}
                Some(_) => self.member = Some(flate2::bufread::GzDecoder::new(rest)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_compression_gives_the_same_bytes() {
        let text = b"some text, twice: some text".repeat(1000);
        let bzip2 = {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        for packed in [text.clone(), gzip(&text), zstd::encode_all(&text[..], 1).unwrap(), bzip2] {
            assert_eq!(read(&packed).unwrap(), text);
        }
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"\x1f").unwrap(), b"\x1f");
    }

    #[test]
    fn members_follow_each_other_and_padding_is_ignored() {
        let mut packed = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(&packed).unwrap(), b"one two");
        packed.extend([0; 512]);
        assert_eq!(read(&packed).unwrap(), b"one two");
        let frames = [zstd::encode_all(&b"one "[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()].concat();
        assert_eq!(read(&frames).unwrap(), b"one two");
    }

    #[test]
    fn layers_of_zstd_chunked_are_layers_of_zstd() {
        // A frame for each file, then its tables as frames that are skipped (RFC 8878, 3.1.2); podman writes this.
        let skipped = |magic: u8, bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            [&[magic, 0x2a, 0x4d, 0x18][..], &length, bytes].concat()
        };
        let frame = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let tables =
            [skipped(0x50, &frame(b"{}")), skipped(0x50, &frame(b"tar-split")), skipped(0x50, &[7; 64])].concat();
        let chunked = [frame(b"header"), frame(b"a file"), frame(b""), frame(b" its end"), tables.clone()].concat();
        assert_eq!(read(&chunked).unwrap(), b"headera file its end");
        let first = [tables, skipped(0x5f, b""), frame(b"later")].concat();
        assert_eq!(read(&first).unwrap(), b"later");
    }

    #[test]
    fn a_torn_stream_is_an_error() {
        let packed = gzip(&[7; 10_000]);
        assert!(read(&packed[..packed.len() - 4]).is_err());
        let packed = zstd::encode_all(&[7; 10_000][..], 1).unwrap();
        assert!(read(&packed[..packed.len() - 1]).is_err());
    }
}

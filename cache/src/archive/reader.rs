//! Reads entries one after another; never more than a header's worth of memory.

use std::io::{self, Read};

use super::header::{Block, sparse_pair};
use super::pax::{self, Pax};
use super::{ArchiveError, BLOCK, Entry, EntryKind, Extent, Limits};

/// A tar as a stream. After [`Self::next_entry`] gave a file, reading from this gives its stored data.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    limits: Limits,
    /// Bytes read of the stream.
    offset: u64,
    entries: u64,
    /// Bytes of the current entry that were not read, without and with the padding behind.
    data: u64,
    padded: u64,
    ended: bool,
}

/// What precedes an entry and holds for it alone.
#[derive(Default)]
struct Prefixes {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads the archive `inner` within `limits`.
    pub const fn new(inner: R, limits: Limits) -> Self {
        Self { inner, limits, offset: 0, entries: 0, data: 0, padded: 0, ended: false }
    }

    /// The stream; to read from it is to take bytes away from the archive.
    pub(crate) const fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Gives the stream back; the end of the archive is not necessarily the end of the stream.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` at the end. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// Where the stream fails, is no tar, or exceeds a limit. Reading on gives nothing meaningful.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut before = Prefixes::default();
        loop {
            self.skip_rest()?;
            let start = self.offset;
            let Some(block) = self.block()? else {
                return if before.is_empty() { Ok(None) } else { Err(ArchiveError::Truncated { within: "an entry" }) };
            };
            let bad = |field| ArchiveError::BadField { offset: start, field };
            let size = block.size().ok_or_else(|| bad("size"))?;
            match block.kind() {
                b'x' | b'X' | b'g' => {
                    let bytes = self.small(size, self.limits.extended_header, "bytes of an extended header")?;
                    let pax = pax::parse(&bytes, self.limits.extents).map_err(bad)?;
                    if block.kind() != b'g' {
                        if before.pax.replace(pax).is_some() {
                            return Err(bad("second extended header"));
                        }
                    } else if pax::changes_meaning(&pax) {
                        return Err(bad("global header"));
                    }
                }
                b'L' => before.long_name = Some(self.long_text(size, before.long_name.is_some(), start)?),
                b'K' => before.long_target = Some(self.long_text(size, before.long_target.is_some(), start)?),
                // A volume label says nothing about files.
                b'V' => self.begin_data(size)?,
                _ => {
                    self.entries += 1;
                    if self.entries > self.limits.entries {
                        return Err(ArchiveError::Limit { what: "entries", limit: self.limits.entries });
                    }
                    return self.entry(&block, size, before, start).map(Some);
                }
            }
        }
    }

    fn entry(&mut self, block: &Block, size: u64, before: Prefixes, start: u64) -> Result<Entry, ArchiveError> {
        let bad = |field| ArchiveError::BadField { offset: start, field };
        let pax = before.pax.unwrap_or_default();
        if before.long_name.is_some() && pax.path.is_some() || before.long_target.is_some() && pax.link_target.is_some()
        {
            return Err(bad("name given twice"));
        }
        let stored = pax.size.unwrap_or(size);
        let named = pax.path.or(before.long_name).unwrap_or_else(|| block.path());
        let path = pax.sparse.name.clone().unwrap_or(named);
        let target = pax.link_target.or(before.long_target).unwrap_or_else(|| block.link_target());
        if path.len() > self.limits.path || target.len() > self.limits.path {
            return Err(ArchiveError::Limit { what: "bytes of a path", limit: self.limits.path as u64 });
        }
        let (major, minor) = block.device().ok_or_else(|| bad("device number"))?;
        let id = |from_pax: Option<u64>, field: Option<u64>, name| {
            // The highest number means "no change" to the kernel and is nobody's.
            let nobody = |id: &u32| *id == u32::MAX;
            from_pax.or(field).and_then(|id| u32::try_from(id).ok()).filter(|id| !nobody(id)).ok_or_else(|| bad(name))
        };
        // Go, and with it every registry client, takes no data behind entries that are not files.
        let data = if matches!(block.kind(), b'1'..=b'6') { 0 } else { stored };
        self.begin_data(data)?;
        let kind = match block.kind() {
            // Old archives; whether data may follow is read differently by different programs.
            b'0' | 0 | b'7' if path.ends_with(b"/") && stored > 0 => return Err(bad("directory with data")),
            b'0' | 0 | b'7' if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => self.file(stored, &pax.sparse, start)?,
            b'S' => self.old_sparse(block, start)?,
            b'1' => EntryKind::HardLink { target },
            b'2' => EntryKind::Symlink { target },
            b'3' => EntryKind::CharDevice { major, minor },
            b'4' => EntryKind::BlockDevice { major, minor },
            // D: GNU's directory with a list of names, which is skipped.
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            kind => {
                let path = String::from_utf8_lossy(&path).into_owned();
                return Err(ArchiveError::UnknownType { path, kind: char::from(kind) });
            }
        };
        let seconds = block.mtime().ok_or_else(|| bad("modification time"));
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => crate::fs::Timestamp { seconds: seconds?, nanoseconds: 0 },
        };
        Ok(Entry {
            path,
            kind,
            mode: block.mode().ok_or_else(|| bad("mode"))?,
            uid: id(pax.uid, block.uid(), "owner")?,
            gid: id(pax.gid, block.gid(), "group")?,
            mtime,
            xattrs: pax.xattrs,
        })
    }

    /// A regular file, sparse in GNU's PAX ways or not at all.
    fn file(&mut self, stored: u64, sparse: &pax::Sparse, start: u64) -> Result<EntryKind, ArchiveError> {
        let bad = |field| ArchiveError::BadField { offset: start, field };
        let map = match (sparse.major, sparse.minor) {
            (None | Some(0), _) if !sparse.mapped => return Ok(EntryKind::File { size: stored, extents: None }),
            (None | Some(0), _) => sparse.map.clone(),
            (Some(1), Some(0) | None) => self.map_before_data()?,
            _ => return Err(bad("sparse version")),
        };
        let size = sparse.real_size.ok_or_else(|| bad("sparse size"))?;
        self.check_map(&map, size).map_err(bad)?;
        Ok(EntryKind::File { size, extents: Some(map) })
    }

    /// GNU's old sparse file: four pieces in the header, the others in blocks behind it.
    fn old_sparse(&mut self, block: &Block, start: u64) -> Result<EntryKind, ArchiveError> {
        let bad = |field| ArchiveError::BadField { offset: start, field };
        let size = block.gnu_real_size().ok_or_else(|| bad("sparse size"))?;
        let mut map = Vec::new();
        for index in 0..4 {
            match block.gnu_sparse(386 + index * 24).ok_or_else(|| bad("sparse map"))? {
                Some((offset, length)) => map.push(Extent { offset, length }),
                None => break,
            }
        }
        let mut more = block.0[482] == 1;
        // The further blocks do not count as data.
        let (data, padded) = (self.data, self.padded);
        while more {
            let mut bytes = [0; BLOCK];
            self.fill(&mut bytes, "a sparse map")?;
            for pair in bytes[..504].chunks(24) {
                match sparse_pair(pair).ok_or_else(|| bad("sparse map"))? {
                    Some((offset, length)) => map.push(Extent { offset, length }),
                    None => break,
                }
            }
            if map.len() > self.limits.extents {
                return Err(ArchiveError::Limit { what: "pieces of a sparse file", limit: self.limits.extents as u64 });
            }
            more = bytes[504] == 1;
        }
        (self.data, self.padded) = (data, padded);
        self.check_map(&map, size).map_err(bad)?;
        Ok(EntryKind::File { size, extents: Some(map) })
    }

    /// GNU sparse 1.0: numbers on lines of their own, padded to a block, at the beginning of the data.
    fn map_before_data(&mut self) -> Result<Vec<Extent>, ArchiveError> {
        let offset = self.offset;
        let bad = || ArchiveError::BadField { offset, field: "sparse map" };
        let (mut block, mut at, mut line) = ([0; BLOCK], BLOCK, Vec::new());
        let (mut count, mut numbers) = (None, Vec::new());
        while count.is_none_or(|count: usize| numbers.len() < count * 2) {
            if at == BLOCK {
                self.read_exact(&mut block).map_err(|_| ArchiveError::Truncated { within: "a sparse map" })?;
                at = 0;
            }
            let byte = block[at];
            at += 1;
            match byte {
                b'0'..=b'9' if line.len() < 20 => line.push(byte),
                b'\n' => {
                    let number = pax::decimal(&line).ok_or_else(bad)?;
                    line.clear();
                    if count.is_some() {
                        numbers.push(number);
                    } else {
                        let within = usize::try_from(number).ok().filter(|count| *count <= self.limits.extents);
                        let limit = self.limits.extents as u64;
                        count = Some(within.ok_or(ArchiveError::Limit { what: "pieces of a sparse file", limit })?);
                    }
                }
                _ => return Err(bad()),
            }
        }
        Ok(numbers.chunks(2).map(|pair| Extent { offset: pair[0], length: pair[1] }).collect())
    }

    /// Pieces in order, apart, within the file, and together exactly as long as the data.
    fn check_map(&self, map: &[Extent], size: u64) -> Result<(), &'static str> {
        let (mut end, mut total) = (0, 0_u64);
        for extent in map {
            let next = extent.offset.checked_add(extent.length).ok_or("sparse map")?;
            if extent.offset < end || next > size {
                return Err("sparse map");
            }
            end = next;
            total = total.checked_add(extent.length).ok_or("sparse map")?;
        }
        if total == self.data { Ok(()) } else { Err("sparse map") }
    }

    /// GNU's long name or link target: text with a NUL behind it.
    fn long_text(&mut self, size: u64, second: bool, start: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut text = self.small(size, self.limits.path + 1, "bytes of a path")?;
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        if second || text.is_empty() {
            return Err(ArchiveError::BadField { offset: start, field: "long name" });
        }
        Ok(text)
    }

    fn small(&mut self, size: u64, limit: usize, what: &'static str) -> Result<Vec<u8>, ArchiveError> {
        let length = usize::try_from(size).ok().filter(|length| *length <= limit);
        let mut bytes = vec![0; length.ok_or(ArchiveError::Limit { what, limit: limit as u64 })?];
        self.begin_data(size)?;
        self.read_exact(&mut bytes).map_err(|_| ArchiveError::Truncated { within: "an extended header" })?;
        Ok(bytes)
    }

    fn begin_data(&mut self, size: u64) -> Result<(), ArchiveError> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let within = padded.filter(|padded| self.offset.saturating_add(*padded) <= self.limits.bytes);
        self.padded = within.ok_or(ArchiveError::Limit { what: "bytes", limit: self.limits.bytes })?;
        self.data = size;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 * 1024];
        while self.padded > 0 {
            let part = usize::try_from(self.padded).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(&mut buffer[..part], "an entry")?;
            self.padded -= part as u64;
        }
        self.data = 0;
        Ok(())
    }

    /// The next header; `None` at the end, which is a zero block, or the end of the stream between two entries.
    fn block(&mut self) -> Result<Option<Block>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let start = self.offset;
        let mut block = Block([0; BLOCK]);
        if !self.fill_or_end(&mut block.0)? {
            self.ended = true;
            return Ok(None);
        }
        if block.is_zero() {
            self.ended = true;
            let mut second = Block([0; BLOCK]);
            // Content behind a single zero block is seen by some readers and not by others.
            if self.fill_or_end(&mut second.0)? && !second.is_zero() {
                return Err(ArchiveError::NotAHeader { offset: start });
            }
            return Ok(None);
        }
        if block.checksum_ok() { Ok(Some(block)) } else { Err(ArchiveError::NotAHeader { offset: start }) }
    }

    /// Fills `buffer`; `false` where the stream ends before its first byte.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> Result<bool, ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(ArchiveError::Truncated { within: "a header" }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += filled as u64;
        Ok(true)
    }

    fn fill(&mut self, buffer: &mut [u8], within: &'static str) -> Result<(), ArchiveError> {
        if !buffer.is_empty() && !self.fill_or_end(buffer)? {
            return Err(ArchiveError::Truncated { within });
        }
        Ok(())
    }
}

impl Prefixes {
    const fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_target.is_none()
    }
}

impl<R: Read> Read for Reader<R> {
    /// The stored data of the current entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = usize::try_from(self.data).unwrap_or(usize::MAX).min(buffer.len());
        if part == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..part])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "archive ends in the middle of a file"));
        }
        self.offset += count as u64;
        self.data -= count as u64;
        self.padded -= count as u64;
        Ok(count)
    }
}

//! eStargz: layers from which single files can be fetched, and which are plain gzip to everybody else
//! (containerd/stargz-snapshotter, `docs/estargz.md`).
//!
//! Every file's data begins a gzip member, every 4 MiB of a large one another; a table of contents says where. What
//! comes out of gunzip is the layer's own tar, bit for bit, and behind its end a landmark and the table. So whoever
//! unpacks the whole sees nothing of either, as BuildKit does it; but the bytes are more, and with them the diff ID is
//! another. The landmark tells lazy readers that nothing need be fetched before the rest.

mod pipe;
mod toc;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::archive::{ArchiveError, Entry, EntryKind, Limits, Reader, end, entry_header, padding};
use crate::digest::{Digest, Sha256Stream};
use crate::fs::{Timestamp, Xattrs};
use crate::image::compress::{gzip_member, wait};
pub(super) use pipe::pipe;
use toc::{Toc, TocEntry};

/// Annotation of a layer: digest of its table of contents.
pub const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Annotation of a layer: bytes of what gunzip gives of it.
pub const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

const TOC_NAME: &str = "stargz.index.json";
const LANDMARK: &str = ".no.prefetch.landmark";
const LANDMARK_DATA: &[u8] = &[0xf];
/// Data of one member, in bytes. Part of the format: changing it changes digests.
const CHUNK: usize = 4 << 20;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Of the tar that came in.
    pub(super) layer: Digest,
    /// Of all that gunzip gives.
    pub(super) diff_id: Digest,
    pub(super) uncompressed: u64,
    pub(super) toc: Digest,
}

/// Why a layer cannot be an eStargz.
#[derive(Debug, thiserror::Error)]
pub enum EstargzError {
    /// An entry that the format has no place for.
    #[error("{path:?} cannot be in an eStargz layer: {why}; use compression=gzip or zstd")]
    Refused {
        /// The entry.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The layer is no good archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Reading, compressing or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The table of contents has no JSON form.
    #[error("write the table of contents")]
    Toc(#[source] serde_json::Error),
}

/// Writes the layer `tar` as an eStargz at a gzip level from 0 to 9. Same layer and level, same bytes.
pub(super) fn write(tar: impl Read, output: impl Write, level: u32) -> Result<Written, EstargzError> {
    let seen = Seen { inner: Sha256Stream::new(tar), bytes: Vec::new() };
    let mut reader = Reader::new(seen, Limits::default());
    let mut members = Members { output, level, written: 0, in_work: VecDeque::new(), entries: Vec::new() };
    // The member that is being filled, and the entry whose data it begins with.
    let mut member = Member::default();
    while let Some(entry) = reader.next_entry()? {
        member.fill(&mut reader, &mut members)?;
        let described = TocEntry::new(&entry)?;
        if described.name.trim_start_matches("./").trim_start_matches('/') == TOC_NAME {
            let why = "the table of contents has this name";
            return Err(EstargzError::Refused { path: described.name, why });
        }
        let (name, size) = (described.name.clone(), described.size);
        members.entries.push(described);
        if size == 0 {
            continue;
        }
        let first = members.entries.len() - 1;
        let mut whole = Sha256Stream::new(io::sink());
        let mut offset = 0;
        while offset < size {
            let part = usize::try_from(size - offset).unwrap_or(CHUNK).min(CHUNK);
            if offset > 0 {
                members.entries.push(TocEntry::chunk(&name, offset));
            }
            let index = members.entries.len() - 1;
            if offset + (part as u64) < size {
                members.entries[index].chunk_size = part as u64;
            }
            let mut data = vec![0; part];
            reader.read_exact(&mut data)?;
            // It is in `data`.
            reader.inner_mut().bytes.clear();
            if size > CHUNK as u64 {
                whole.write_all(&data)?;
            }
            let next = Member { bytes: data, begins: Some((index, part)) };
            members.dispatch(std::mem::replace(&mut member, next))?;
            offset += part as u64;
        }
        if size > CHUNK as u64 {
            members.entries[first].digest = Some(whole.finish().1);
        }
    }
    // What lies behind the archive's end is part of the layer too.
    loop {
        member.fill(&mut reader, &mut members)?;
        let mut rest = [0; 64 << 10];
        if reader.inner_mut().read(&mut rest)? == 0 {
            break;
        }
    }
    let uncompressed = reader.into_inner().inner;
    let layer = uncompressed.clone_state().finish().1;
    members.finish(member, uncompressed.clone_state(), layer)
}

/// Keeps the bytes that were read.
struct Seen<R> {
    inner: Sha256Stream<R>,
    bytes: Vec<u8>,
}

impl<R: Read> Read for Seen<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

#[derive(Default)]
struct Member {
    bytes: Vec<u8>,
    /// The entry, and how many bytes are its.
    begins: Option<(usize, usize)>,
}

impl Member {
    /// Takes what was read; one that has become large is compressed.
    fn fill<R: Read>(
        &mut self,
        reader: &mut Reader<Seen<R>>,
        members: &mut Members<impl Write>,
    ) -> Result<(), EstargzError> {
        self.bytes.append(&mut reader.inner_mut().bytes);
        if self.bytes.len() > 2 * CHUNK {
            members.dispatch(std::mem::take(self))?;
        }
        Ok(())
    }
}

/// A compressed member, and what it holds of a file.
type Done = (Vec<u8>, Option<Digest>);

/// Members on their way out: compressed side by side, written in order.
struct Members<W> {
    output: W,
    level: u32,
    written: u64,
    in_work: VecDeque<(Option<usize>, Receiver<io::Result<Done>>)>,
    entries: Vec<TocEntry>,
}

impl<W: Write> Members<W> {
    fn dispatch(&mut self, Member { bytes, begins }: Member) -> Result<(), EstargzError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (sender, receiver) = sync_channel(1);
        let level = self.level;
        rayon::spawn(move || {
            let digest = begins.map(|(_, length)| Digest::of(&bytes[..length]));
            // Nobody waits any more where the writer was dropped.
            drop(sender.send(gzip_member(&bytes, level).map(|packed| (packed, digest))));
        });
        self.in_work.push_back((begins.map(|(index, _)| index), receiver));
        // Members may be as large as chunks: a few at a time are enough.
        while self.in_work.len() > rayon::current_num_threads() + 1 {
            self.write_oldest()?;
        }
        Ok(())
    }

    fn write_oldest(&mut self) -> Result<(), EstargzError> {
        let Some((index, receiver)) = self.in_work.pop_front() else { return Ok(()) };
        let (packed, digest) = wait(&receiver)??;
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.offset = self.written;
            entry.chunk_digest = digest;
            if entry.kind == "reg" && entry.chunk_size == 0 {
                entry.digest = digest;
            }
        }
        self.output.write_all(&packed)?;
        self.written += packed.len() as u64;
        Ok(())
    }

    /// Landmark, table of contents and footer. `gunzipped` has hashed the layer.
    fn finish(
        mut self,
        mut last: Member,
        mut gunzipped: Sha256Stream<io::Sink>,
        layer: Digest,
    ) -> Result<Written, EstargzError> {
        let landmark = file(LANDMARK, LANDMARK_DATA.len() as u64);
        let header = entry_header(&landmark);
        let mut data = LANDMARK_DATA.to_vec();
        data.resize(data.len() + padding(data.len() as u64), 0);
        gunzipped.write_all(&header)?;
        gunzipped.write_all(&data)?;
        last.bytes.extend_from_slice(&header);
        self.dispatch(last)?;
        self.entries.push(TocEntry::new(&landmark)?);
        self.dispatch(Member { bytes: data, begins: Some((self.entries.len() - 1, LANDMARK_DATA.len())) })?;
        while !self.in_work.is_empty() {
            self.write_oldest()?;
        }

        let toc = Toc { version: 1, entries: self.entries };
        let json = serde_json::to_vec(&toc).map_err(EstargzError::Toc)?;
        let mut tail = entry_header(&file(TOC_NAME, json.len() as u64));
        tail.extend_from_slice(&json);
        tail.resize(tail.len() + padding(json.len() as u64), 0);
        tail.extend_from_slice(&end());
        gunzipped.write_all(&tail)?;
        self.output.write_all(&gzip_member(&tail, self.level)?)?;
        self.output.write_all(&footer(self.written))?;
        let (_, diff_id, uncompressed) = gunzipped.finish();
        Ok(Written { layer, diff_id, uncompressed, toc: Digest::of(&json) })
    }
}

/// A file of ours at the root.
fn file(name: &str, size: u64) -> Entry {
    Entry {
        path: name.as_bytes().to_vec(),
        kind: EntryKind::File { size, extents: None },
        mode: 0o444,
        uid: 0,
        gid: 0,
        mtime: Timestamp::EPOCH,
        xattrs: Xattrs::new(),
    }
}

/// An empty gzip member whose extra field says where the table of contents begins.
fn footer(toc: u64) -> Vec<u8> {
    // Deflate with an extra field; the operating system is "unknown".
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    bytes.extend_from_slice(format!("{toc:016x}STARGZ").as_bytes());
    // The last block, stored, of no bytes; then sum and length of nothing.
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[cfg(test)]
mod tests;

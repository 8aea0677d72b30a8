//! A layer as a tar: nodes in, bytes and digests out, every file read once.
//!
//! Small files are read and hashed a batch at a time on all cores while the batch before is written; the order of
//! the tar never depends on it. The content ID is BLAKE3 over the entries in their order, with the BLAKE3 of each
//! file's data, without modification times.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use lap_solver::digest::Key;
use rayon::prelude::*;
use rustix::fs::OFlags;

use super::LayerError;
use super::tree::Node;
use super::whiteout::{OPAQUE_MARKER, whiteout_path};
use crate::archive::{self, Entry, EntryKind};
use crate::fs::{self, Act, Kind, Timestamp, Xattrs};

/// Version of the content ID's encoding.
const CONTENT_DOMAIN: &[u8] = b"lapstrake layer content 1\n";
/// A file larger than this is streamed, not held.
const LARGE: u64 = 4 << 20;
/// A batch of small files ends at this many bytes,
const BATCH_BYTES: u64 = 8 << 20;
/// or at this many entries.
const BATCH_ENTRIES: usize = 1024;
/// Less than this many bytes or files are not worth waking other threads for.
const WORTH_THREADS: (u64, usize) = (256 << 10, 32);
/// Read at once from a large file.
const CHUNK: usize = 1 << 20;

/// What went out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) content_id: Key,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// Writes the tar of `nodes`, which lie below `root`.
pub(super) fn write_tar(root: &OwnedFd, nodes: &[Node], out: impl Write + Send) -> Result<Summary, LayerError> {
    let mut stream =
        Stream { out, content: blake3::Hasher::new(), first_names: HashMap::new(), root, entries: 0, bytes: 0 };
    stream.content.update(CONTENT_DOMAIN);
    let mut batches = batches(nodes);
    let mut ready = batches.next().map(|batch| (batch, load(root, batch)));
    while let Some((batch, data)) = ready.take() {
        let data = data?;
        match batches.next() {
            None => stream.batch(batch, data)?,
            Some(next) => {
                let (written, loaded) = rayon::join(|| stream.batch(batch, data), || load(root, next));
                written?;
                ready = Some((next, loaded));
            }
        }
    }
    stream.out.write_all(&archive::end()).map_err(LayerError::Write)?;
    stream.out.flush().map_err(LayerError::Write)?;
    let content_id = Key::from_bytes(*stream.content.finalize().as_bytes());
    Ok(Summary { content_id, entries: stream.entries, bytes: stream.bytes })
}

/// Data of a small file with its BLAKE3; nothing for other nodes.
type Loaded = Option<(Vec<u8>, blake3::Hash)>;

/// Cuts the nodes into runs whose small files fit into memory.
fn batches(mut nodes: &[Node]) -> impl Iterator<Item = &[Node]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let count = nodes.iter().take(BATCH_ENTRIES).take_while(|node| {
            let fits = bytes < BATCH_BYTES;
            bytes += small_size(node).unwrap_or(0);
            fits
        });
        let (batch, rest) = nodes.split_at(count.count());
        nodes = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

fn small_size(node: &Node) -> Option<u64> {
    match node.metadata.kind {
        Kind::File { size } if size <= LARGE => Some(size),
        _ => None,
    }
}

fn load(root: &OwnedFd, batch: &[Node]) -> Result<Vec<Loaded>, LayerError> {
    let sizes = batch.iter().filter_map(small_size);
    let (bytes, files) = sizes.fold((0, 0), |(bytes, files), size| (bytes + size, files + 1));
    if bytes >= WORTH_THREADS.0 || files >= WORTH_THREADS.1 {
        batch.par_iter().map(|node| load_one(root, node)).collect()
    } else {
        batch.iter().map(|node| load_one(root, node)).collect()
    }
}

fn load_one(root: &OwnedFd, node: &Node) -> Result<Loaded, LayerError> {
    let Some(size) = small_size(node) else { return Ok(None) };
    let shown = fs::bytes_path(&node.path);
    let file = File::from(fs::open_beneath(root, &node.path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
    let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(size + 1).read_to_end(&mut data).act("read", shown)?;
    if data.len() as u64 != size {
        return Err(LayerError::Changed { path: shown.to_owned() });
    }
    let hash = blake3::hash(&data);
    Ok(Some((data, hash)))
}

struct Stream<'a, W> {
    out: W,
    content: blake3::Hasher,
    /// The first path of every file with several names.
    first_names: HashMap<(u64, u64), &'a [u8]>,
    root: &'a OwnedFd,
    entries: u64,
    bytes: u64,
}

impl<'a, W: Write + Send> Stream<'a, W> {
    fn batch(&mut self, batch: &'a [Node], data: Vec<Loaded>) -> Result<(), LayerError> {
        batch.iter().zip(data).try_for_each(|(node, data)| self.node(node, data))
    }

    fn node(&mut self, node: &'a Node, data: Loaded) -> Result<(), LayerError> {
        let metadata = &node.metadata;
        if metadata.is_whiteout() {
            return self.marker(&whiteout_path(&node.path));
        }
        if !metadata.is_directory() && node.inode.links > 1 {
            if let Some(first) = self.first_names.get(&(node.inode.device, node.inode.number)) {
                return self.header(node, EntryKind::HardLink { target: first.to_vec() }, None);
            }
            self.first_names.insert((node.inode.device, node.inode.number), &node.path);
        }
        match &metadata.kind {
            Kind::File { size } => match data {
                Some((data, hash)) => {
                    self.header(node, EntryKind::File { size: *size, extents: None }, Some(hash))?;
                    self.data(&data)?;
                    self.pad(*size)
                }
                None => self.large_file(node, *size),
            },
            Kind::Directory => {
                self.header(node, EntryKind::Directory, None)?;
                if node.opaque { self.marker(&super::join(&node.path, OPAQUE_MARKER)) } else { Ok(()) }
            }
            Kind::Symlink { target } => self.header(node, EntryKind::Symlink { target: target.clone() }, None),
            Kind::CharDevice { major, minor } => {
                self.header(node, EntryKind::CharDevice { major: *major, minor: *minor }, None)
            }
            Kind::BlockDevice { major, minor } => {
                self.header(node, EntryKind::BlockDevice { major: *major, minor: *minor }, None)
            }
            Kind::Fifo => self.header(node, EntryKind::Fifo, None),
            // The walk leaves them out: archives cannot hold them.
            Kind::Socket => Ok(()),
        }
    }

    /// Streams a file that is too large to hold; both hashes run over each chunk at once.
    fn large_file(&mut self, node: &Node, size: u64) -> Result<(), LayerError> {
        let shown = fs::bytes_path(&node.path);
        let changed = || LayerError::Changed { path: shown.to_owned() };
        let mut file = File::from(fs::open_beneath(self.root, &node.path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
        let entry = self.entry(node, EntryKind::File { size, extents: None });
        self.out.write_all(&archive::entry_header(&entry)).map_err(LayerError::Write)?;
        let mut hasher = blake3::Hasher::new();
        let (mut chunk, mut left) = (vec![0; CHUNK], size);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            match file.read_exact(&mut chunk[..part]) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(changed()),
                result => result.act("read", shown)?,
            }
            let hash = || {
                hasher.update(&chunk[..part]);
            };
            rayon::join(|| self.out.write_all(&chunk[..part]), hash).0.map_err(LayerError::Write)?;
            left -= part as u64;
        }
        if file.read(&mut chunk[..1]).act("read", shown)? != 0 {
            return Err(changed());
        }
        self.bytes += size;
        self.count(&entry, Some(hasher.finalize()));
        self.pad(size)
    }

    fn entry(&self, node: &Node, kind: EntryKind) -> Entry {
        let metadata = &node.metadata;
        let mut path = node.path.clone();
        if metadata.is_directory() {
            path.extend_from_slice(if path.is_empty() { b"./" } else { b"/" });
        }
        Entry {
            path,
            kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            xattrs: metadata.xattrs.clone(),
        }
    }

    fn header(&mut self, node: &Node, kind: EntryKind, hash: Option<blake3::Hash>) -> Result<(), LayerError> {
        let mut entry = self.entry(node, kind);
        if matches!(entry.kind, EntryKind::HardLink { .. }) {
            // They belong to the file, which has them already.
            entry.xattrs = Xattrs::new();
        }
        self.out.write_all(&archive::entry_header(&entry)).map_err(LayerError::Write)?;
        self.count(&entry, hash);
        Ok(())
    }

    /// An empty file whose name says that something is not there.
    fn marker(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let kind = EntryKind::File { size: 0, extents: None };
        let (mtime, xattrs) = (Timestamp::EPOCH, Xattrs::new());
        let entry = Entry { path: path.to_vec(), kind, mode: 0, uid: 0, gid: 0, mtime, xattrs };
        self.out.write_all(&archive::entry_header(&entry)).map_err(LayerError::Write)?;
        self.count(&entry, None);
        Ok(())
    }

    fn data(&mut self, data: &[u8]) -> Result<(), LayerError> {
        self.bytes += data.len() as u64;
        self.out.write_all(data).map_err(LayerError::Write)
    }

    fn pad(&mut self, size: u64) -> Result<(), LayerError> {
        self.out.write_all(&[0; archive::BLOCK][..archive::padding(size)]).map_err(LayerError::Write)
    }

    /// Adds an entry to the content ID. Every part has its length before it, so no two lists share an encoding.
    fn count(&mut self, entry: &Entry, data: Option<blake3::Hash>) {
        self.entries += 1;
        let (kind, one, two, target): (u8, u64, u64, &[u8]) = match &entry.kind {
            EntryKind::File { size, .. } => (b'f', *size, 0, b""),
            EntryKind::HardLink { target } => (b'h', 0, 0, target),
            EntryKind::Symlink { target } => (b'l', 0, 0, target),
            EntryKind::Directory => (b'd', 0, 0, b""),
            EntryKind::CharDevice { major, minor } => (b'c', u64::from(*major), u64::from(*minor), b""),
            EntryKind::BlockDevice { major, minor } => (b'b', u64::from(*major), u64::from(*minor), b""),
            EntryKind::Fifo => (b'p', 0, 0, b""),
        };
        let mut part = |bytes: &[u8]| {
            self.content.update(&(bytes.len() as u64).to_le_bytes());
            self.content.update(bytes);
        };
        part(&[kind]);
        part(&entry.path);
        part(target);
        for number in [u64::from(entry.mode), u64::from(entry.uid), u64::from(entry.gid), one, two] {
            part(&number.to_le_bytes());
        }
        part(&(entry.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &entry.xattrs {
            part(name);
            part(value);
        }
        part(data.as_ref().map_or(&[], |hash| &hash.as_bytes()[..]));
    }
}

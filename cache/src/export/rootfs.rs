//! A root file system without its layers: as one tar, or as a directory. Read from the layers' directories as an
//! overlay mount would show them; nothing is mounted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::ExportError;
use crate::archive::{Entry, EntryKind, end, entry_header, padding};
use crate::digest::{Digest, Sha256Stream};
use crate::fs::{self, Act, Kind, Metadata};
use crate::layer::{Found, Level, Owner, View, exported};
use crate::store::Store;
use crate::tarball;

/// Writes the merged tree of `layers` (diff IDs, lowest first) as a tar. Same layers, same bytes.
///
/// # Errors
/// Where a layer is missing or cannot be read, or the writer fails.
pub fn rootfs_tar(store: &Store, layers: &[Digest], writer: impl Write) -> Result<(), ExportError> {
    rootfs_tar_with(store, layers, &[], writer)
}

/// The same with further files, by path; they stand last and so replace what the tree has there.
///
/// # Errors
/// As [`rootfs_tar`].
pub fn rootfs_tar_with(
    store: &Store,
    layers: &[Digest],
    files: &[(String, Vec<u8>)],
    writer: impl Write,
) -> Result<(), ExportError> {
    let view = View::open(store, layers)?;
    let mut out = TreeWriter { view: &view, writer, first_names: HashMap::new() };
    out.directory(&view.root())?;
    for (path, bytes) in files {
        out.extra(path, bytes)?;
    }
    out.writer.write_all(&end()).map_err(write_failed)?;
    out.writer.flush().map_err(write_failed)
}

/// Writes the merged tree of `layers` into the directory `path`, over what is there. With an owner, everything is
/// his, as suits a build's result; names are resolved inside `path`.
///
/// # Errors
/// As [`rootfs_tar`]; also where the directory cannot be written.
pub fn local_dir(store: &Store, layers: &[Digest], path: &Path, owner: Owner) -> Result<(), ExportError> {
    local_dir_with(store, layers, &[], path, owner)
}

/// The same with further files, as [`rootfs_tar_with`].
///
/// # Errors
/// As [`local_dir`].
pub fn local_dir_with(
    store: &Store,
    layers: &[Digest],
    files: &[(String, Vec<u8>)],
    path: &Path,
    owner: Owner,
) -> Result<(), ExportError> {
    std::fs::create_dir_all(path).act("make directory", path)?;
    let root = fs::open_dir(path)?;
    let (reader, writer) = std::io::pipe().act("make a pipe for", path)?;
    std::thread::scope(|scope| {
        let written = scope
            .spawn(move || rootfs_tar_with(store, layers, files, std::io::BufWriter::with_capacity(1 << 18, writer)));
        let read = tarball::extract_into(root.as_fd(), b"", reader, owner, store.mode());
        let written = written.join().unwrap_or_else(|_| Err(write_failed(std::io::ErrorKind::Other.into())));
        // A reader that gave up makes the writer fail too: its reason comes first.
        read?;
        written
    })
}

/// The digests of all regular files in the merged tree of `layers`, by path: what statements about files are about.
/// Files whose names are no UTF-8 are left out.
///
/// # Errors
/// Where a layer is missing or cannot be read.
pub fn file_digests(store: &Store, layers: &[Digest]) -> Result<Vec<(String, Digest)>, ExportError> {
    let view = View::open(store, layers)?;
    let mut files = Vec::new();
    let mut stack = vec![view.root()];
    while let Some(level) = stack.pop() {
        for name in view.names(&level)? {
            let Some(found) = view.find_in(&level, &name)? else { continue };
            match FileType::from_raw_mode(found.stat.st_mode) {
                FileType::Directory => stack.push(view.enter(&level, &name)?),
                FileType::RegularFile => {
                    let Ok(path) = String::from_utf8(found.path.clone()) else { continue };
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
                    let mut file = File::from(fs::open_beneath(found.layer, &found.path, flags)?);
                    let mut hash = Sha256Stream::new(std::io::sink());
                    std::io::copy(&mut file, &mut hash).map_err(write_failed)?;
                    let (_, digest, _) = hash.finish();
                    files.push((path, digest));
                }
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn write_failed(source: std::io::Error) -> ExportError {
    ExportError::Write { what: "the archive".to_owned(), source }
}

struct TreeWriter<'a, W> {
    view: &'a View,
    writer: W,
    /// The first path of every file with several names.
    first_names: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> TreeWriter<'_, W> {
    fn directory(&mut self, level: &Level) -> Result<(), ExportError> {
        for name in self.view.names(level)? {
            let Some(found) = self.view.find_in(level, &name)? else { continue };
            let (metadata, inode) = self.view.metadata(&found)?;
            if !metadata.is_directory() && inode.links > 1 {
                let key = (inode.device, inode.number);
                if let Some(first) = self.first_names.get(&key) {
                    let kind = EntryKind::HardLink { target: first.clone() };
                    self.header(&found.path, &metadata, kind, false)?;
                    continue;
                }
                self.first_names.insert(key, found.path.clone());
            }
            self.entry(&found, &metadata)?;
            if metadata.is_directory() {
                self.directory(&self.view.enter(level, &name)?)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, found: &Found<'_>, metadata: &Metadata) -> Result<(), ExportError> {
        let kind = match &metadata.kind {
            Kind::File { size } => return self.file(found, metadata, *size),
            Kind::Directory => EntryKind::Directory,
            Kind::Symlink { target } => EntryKind::Symlink { target: target.clone() },
            Kind::CharDevice { major, minor } => EntryKind::CharDevice { major: *major, minor: *minor },
            Kind::BlockDevice { major, minor } => EntryKind::BlockDevice { major: *major, minor: *minor },
            Kind::Fifo => EntryKind::Fifo,
            // Archives cannot hold them.
            Kind::Socket => return Ok(()),
        };
        self.header(&found.path, metadata, kind, true)
    }

    fn file(&mut self, found: &Found<'_>, metadata: &Metadata, size: u64) -> Result<(), ExportError> {
        let file = File::from(fs::open_beneath(found.layer, &found.path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
        self.header(&found.path, metadata, EntryKind::File { size, extents: None }, true)?;
        let copied = std::io::copy(&mut file.take(size), &mut self.writer).map_err(write_failed)?;
        if copied != size {
            return Err(write_failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.writer.write_all(&[0; 512][..padding(size)]).map_err(write_failed)
    }

    /// A file of ours, readable by its owner.
    fn extra(&mut self, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let size = bytes.len() as u64;
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind: EntryKind::File { size, extents: None },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: fs::Timestamp::EPOCH,
            xattrs: fs::Xattrs::new(),
        };
        self.writer.write_all(&entry_header(&entry)).map_err(write_failed)?;
        self.writer.write_all(bytes).map_err(write_failed)?;
        self.writer.write_all(&[0; 512][..padding(size)]).map_err(write_failed)
    }

    fn header(&mut self, path: &[u8], metadata: &Metadata, kind: EntryKind, xattrs: bool) -> Result<(), ExportError> {
        let mut path = path.to_vec();
        if kind == EntryKind::Directory {
            path.push(b'/');
        }
        let entry = Entry {
            path,
            kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            xattrs: if xattrs { exported(&metadata.xattrs) } else { fs::Xattrs::new() },
        };
        self.writer.write_all(&entry_header(&entry)).map_err(write_failed)
    }
}

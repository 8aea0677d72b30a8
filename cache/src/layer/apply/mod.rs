//! Putting the entries of an archive into a directory, whatever the archive says.
//!
//! Names are resolved inside the root by the kernel; the last component is never followed. `..` in a name is
//! refused, a slash at the beginning is dropped. A later entry replaces an earlier one, except that two directories
//! are one. Parents without an entry are made 0755 and root's.
//!
//! In a user namespace some things cannot be made: devices, owners that are not mapped, some attributes. They are
//! left out and counted, so that an image with a `/dev` can be used; the image's blobs keep them for a push.

mod below;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode as FileMode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::archive::{ArchiveError, Entry, EntryKind, Extent, Limits, Reader};
use crate::fs::{self, Act, FsError, NewDirectory, Timestamp, Xattrs};
use crate::layer::privilege;
use crate::layer::tree::is_overlay;
use crate::layer::view::View;
use crate::layer::whiteout::{self, Name};
use crate::layer::{LayerError, join};
use crate::store::Mode;

/// Written at once.
const CHUNK: usize = 256 * 1024;
/// Bytes of the paths of all directories of an archive, which are remembered until its end.
const DIRECTORY_PATHS: usize = 64 << 20;

/// Who owns what comes out of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whom the archive names.
    Archive,
    /// Somebody else (`ADD --chown`).
    Fixed {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// What names with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A layer: they are whiteouts.
    Layer,
    /// An archive like any other: they are names.
    Plain,
}

/// How much came out of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of data in regular files.
    pub bytes: u64,
    /// Devices, owners and attributes left out in a user namespace.
    pub skipped: u64,
    /// Where files lie that give privileges to whoever runs them, below the root; entries that a later one replaced
    /// too. No more than tell that they are too many to list.
    pub privileged: BTreeSet<Vec<u8>>,
}

/// Puts entries below a directory of a root.
pub(crate) struct Applier<'a> {
    root: OwnedFd,
    /// The directory inside the root that the archive's names are relative to.
    base: Vec<u8>,
    form: Form,
    mode: Mode,
    owner: Owner,
    /// Made where a name leads through directories that have no entry.
    new_directory: NewDirectory,
    /// The layers below, for hard links into them.
    below: Option<&'a View>,
    /// Whether `below` is all that lies below; else a layer that needs it is refused.
    complete: bool,
    /// The parent of the last entry: (as the archive names it, opened, where it really lies).
    parent: Option<(Vec<u8>, Arc<OwnedFd>, Vec<u8>)>,
    /// Times of directories by real path, set at the end: entries made in them change them.
    times: BTreeMap<Vec<u8>, Timestamp>,
    /// Directories made without an entry of their own, by real path.
    implicit: BTreeSet<Vec<u8>>,
    /// Bytes of the paths in both.
    remembered: usize,
    buffer: Vec<u8>,
    done: Extracted,
}

impl<'a> Applier<'a> {
    pub(crate) fn layer(root: OwnedFd, mode: Mode, below: Option<&'a View>) -> Self {
        Self::new(root, Form::Layer, mode, Vec::new(), Owner::Archive, below)
    }

    pub(crate) fn plain(root: OwnedFd, mode: Mode, base: Vec<u8>, owner: Owner) -> Self {
        Self::new(root, Form::Plain, mode, base, owner, None)
    }

    fn new(root: OwnedFd, form: Form, mode: Mode, base: Vec<u8>, owner: Owner, below: Option<&'a View>) -> Self {
        let new_directory = match owner {
            Owner::Archive => NewDirectory::ROOT_0755,
            Owner::Fixed { uid, gid } => NewDirectory { mode: 0o755, uid, gid },
        };
        Self {
            root,
            base,
            form,
            mode,
            owner,
            new_directory,
            below,
            complete: true,
            parent: None,
            times: BTreeMap::new(),
            implicit: BTreeSet::new(),
            remembered: 0,
            buffer: vec![0; CHUNK],
            done: Extracted::default(),
        }
    }

    /// Says that layers below may still be missing.
    pub(crate) const fn amid_others(mut self) -> Self {
        self.complete = false;
        self
    }

    /// Applies the whole archive.
    pub(crate) fn run(mut self, stream: &mut impl Read, limits: Limits) -> Result<Extracted, LayerError> {
        let mut reader = Reader::new(stream, limits);
        while let Some(entry) = reader.next_entry()? {
            self.done.entries += 1;
            let path = entry.path.clone();
            self.entry(entry, &mut reader).map_err(|error| named(error, &path))?;
        }
        self.adopt_implicit()?;
        for (path, mtime) in std::mem::take(&mut self.times) {
            // A directory that a later entry replaced has no time to set.
            if let Ok(dir) = fs::open_beneath(&self.root, &path, OFlags::PATH | OFlags::DIRECTORY) {
                fs::apply_times(&dir, b".", mtime)?;
            }
        }
        Ok(self.done)
    }

    fn entry(&mut self, mut entry: Entry, data: &mut impl Read) -> Result<(), LayerError> {
        // As in BuildKit, an entry of an archive for ADD that has no name is none.
        if self.form == Form::Plain && entry.path.is_empty() {
            return Ok(());
        }
        if let Owner::Fixed { uid, gid } = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if entry.xattrs.keys().any(|name| is_overlay(name)) {
            return Err(refused(&entry.path, "has attributes of overlayfs"));
        }
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return self.root_entry(&entry);
        }
        let (parent, name) = fs::split_last(&path);
        if name.len() > 255 {
            return Err(refused(&entry.path, "has a name of more than 255 bytes"));
        }
        let (dir, real) = self.parent(parent)?;
        match if self.form == Form::Layer { whiteout::meaning(name) } else { Name::Plain } {
            Name::Plain => self.make(&dir, name, join(&real, name), &entry, data),
            Name::Whiteout(hidden) => self.whiteout(&dir, hidden),
            Name::Opaque => self.set_opaque(&dir, b"."),
            Name::Ignored => Ok(()),
            Name::Bad => Err(refused(&entry.path, "is a whiteout of nothing")),
        }
    }

    /// The entry of the directory that the archive is relative to: its attributes, if it is a directory at all.
    fn root_entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != EntryKind::Directory {
            return Err(refused(&entry.path, "names the root and is no directory"));
        }
        let (dir, real) = self.parent(b"")?;
        // Like Docker, ADD leaves the directory that it unpacks into as it is.
        if self.form == Form::Plain {
            return Ok(());
        }
        self.attributes(&dir, b".", entry)?;
        self.remember_times(real, entry.mtime)
    }

    /// Remembers what a directory's times are to be. Its path may be much longer than its name in the archive.
    fn remember_times(&mut self, path: Vec<u8>, mtime: Timestamp) -> Result<(), LayerError> {
        self.count_path(path.len())?;
        self.times.insert(path, mtime);
        Ok(())
    }

    fn count_path(&mut self, length: usize) -> Result<(), LayerError> {
        self.remembered += length;
        let (what, limit) = ("bytes of the paths of directories", DIRECTORY_PATHS);
        if self.remembered > limit {
            return Err(ArchiveError::Limit { what, limit: limit as u64 }.into());
        }
        Ok(())
    }

    /// The directory that holds an entry, made where it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<(Arc<OwnedFd>, Vec<u8>), LayerError> {
        if let Some((known, dir, real)) = &self.parent
            && known == path
        {
            return Ok((Arc::clone(dir), real.clone()));
        }
        let whole = join(&self.base, path);
        let found = fs::mkdir_all_in_root(&self.root, &whole, self.new_directory)?;
        let mut made = &found.path[..];
        for _ in 0..found.made {
            self.count_path(made.len())?;
            self.implicit.insert(made.to_vec());
            made = fs::split_last(made).0;
        }
        let dir = Arc::new(found.dir);
        self.parent = Some((path.to_vec(), Arc::clone(&dir), found.path.clone()));
        Ok((dir, found.path))
    }

    fn make(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        real: Vec<u8>,
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), LayerError> {
        match &entry.kind {
            EntryKind::File { size, extents } => {
                let file = self.create(dir, name)?;
                self.done.bytes += size;
                self.fill(&file, *size, extents.as_deref(), data, name)?;
                self.attributes(dir, name, entry)?;
                self.note_privileges(real, entry.mode, &entry.xattrs);
                set_file_times(&file, entry.mtime).act("set the times of", fs::bytes_path(name))?;
                Ok(())
            }
            EntryKind::Directory => self.directory(dir, name, real, entry),
            EntryKind::HardLink { target } => self.hard_link(dir, name, real, target, entry),
            EntryKind::Symlink { target } => {
                self.replacing(dir, name, |dir, name| rustix::fs::symlinkat(&target[..], dir, name))?;
                self.attributes(dir, name, entry)?;
                Ok(fs::apply_times(dir, name, entry.mtime)?)
            }
            EntryKind::Fifo => self.node(dir, name, FileType::Fifo, (0, 0), entry),
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                Err(refused(&entry.path, "is a character device 0:0, an overlay whiteout"))
            }
            EntryKind::CharDevice { major, minor } => {
                self.node(dir, name, FileType::CharacterDevice, (*major, *minor), entry)
            }
            EntryKind::BlockDevice { major, minor } => {
                self.node(dir, name, FileType::BlockDevice, (*major, *minor), entry)
            }
        }
    }

    /// Remembers a regular file that gives privileges.
    fn note_privileges(&mut self, path: Vec<u8>, mode: u32, xattrs: &Xattrs) {
        if privilege::gives(mode, xattrs) && self.done.privileged.len() <= privilege::MOST {
            self.done.privileged.insert(path);
        }
    }

    /// Makes an entry with `make`; what is there under its name goes first. Answers whether that was a whiteout.
    fn replacing(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        make: impl Fn(&OwnedFd, &[u8]) -> Result<(), Errno>,
    ) -> Result<bool, FsError> {
        match make(dir, name) {
            Err(Errno::EXIST) => {}
            result => return result.map(|()| false).act("make", fs::bytes_path(name)),
        }
        let hidden = self.is_whiteout(dir, name)?;
        self.remove(dir, name)?;
        make(dir, name).act("make", fs::bytes_path(name))?;
        Ok(hidden)
    }

    fn remove(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<(), FsError> {
        // It may have been on the way to the directory we remember.
        self.parent = None;
        fs::remove_entry(dir, name)
    }

    fn create(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<File, FsError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(dir, name, flags, FileMode::RUSR | FileMode::WUSR);
        match create() {
            Err(Errno::EXIST) => {
                self.remove(dir, name)?;
                create().map(File::from).act("create", fs::bytes_path(name))
            }
            result => result.map(File::from).act("create", fs::bytes_path(name)),
        }
    }

    /// Writes the stored data to where it belongs.
    fn fill(
        &mut self,
        mut file: &File,
        size: u64,
        extents: Option<&[Extent]>,
        data: &mut impl Read,
        name: &[u8],
    ) -> Result<(), LayerError> {
        let whole = [Extent { offset: 0, length: size }];
        for extent in extents.unwrap_or(&whole) {
            if extents.is_some() {
                file.seek(SeekFrom::Start(extent.offset)).act("seek in", fs::bytes_path(name))?;
            }
            let mut left = extent.length;
            while left > 0 {
                let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                data.read_exact(&mut self.buffer[..part]).map_err(LayerError::Read)?;
                file.write_all(&self.buffer[..part]).act("write", fs::bytes_path(name))?;
                left -= part as u64;
            }
        }
        if extents.is_some() {
            file.set_len(size).act("set the length of", fs::bytes_path(name))?;
        }
        Ok(())
    }

    fn directory(&mut self, dir: &OwnedFd, name: &[u8], real: Vec<u8>, entry: &Entry) -> Result<(), LayerError> {
        let make = |dir: &OwnedFd, name: &[u8]| rustix::fs::mkdirat(dir, name, FileMode::RWXU);
        let stat = match make(dir, name) {
            Ok(()) => None,
            Err(Errno::EXIST) => Some(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)),
            Err(errno) => return Err(FsError::new("make directory", fs::bytes_path(name), errno).into()),
        };
        if let Some(stat) = stat
            && FileType::from_raw_mode(stat.act("stat", fs::bytes_path(name))?.st_mode) != FileType::Directory
            && self.replacing(dir, name, make)?
        {
            // What a whiteout hid stays hidden behind the directory that takes its place.
            self.set_opaque(dir, name)?;
        }
        self.attributes(dir, name, entry)?;
        self.implicit.remove(&real);
        self.remember_times(real, entry.mtime)
    }

    fn node(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        kind: FileType,
        device: (u32, u32),
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let device = rustix::fs::makedev(device.0, device.1);
        let make = |dir: &OwnedFd, name: &[u8]| rustix::fs::mknodat(dir, name, kind, FileMode::RUSR, device);
        match self.replacing(dir, name, make) {
            Err(error) if self.mode == Mode::User && error.errno() == Some(Errno::PERM) => {
                self.done.skipped += 1;
                return Ok(());
            }
            result => result?,
        };
        self.attributes(dir, name, entry)?;
        Ok(fs::apply_times(dir, name, entry.mtime)?)
    }

    /// Hides `name` of lower layers. What this layer itself has there stays.
    fn whiteout(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<(), LayerError> {
        if name.len() > 255 || name.contains(&b'/') {
            return Err(refused(name, "is no name that can be hidden"));
        }
        match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, FileMode::empty(), 0) {
            Err(Errno::EXIST) => {
                let stat =
                    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).act("stat", fs::bytes_path(name))?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => self.set_opaque(dir, name),
                    _ => Ok(()),
                }
            }
            result => Ok(result.act("make the whiteout of", fs::bytes_path(name))?),
        }
    }

    fn set_opaque(&self, dir: &OwnedFd, name: &[u8]) -> Result<(), LayerError> {
        let mark = Xattrs::from([(self.mode.opaque_xattr().to_vec(), b"y".to_vec())]);
        match fs::apply_xattrs(dir, name, &mark)?.is_empty() {
            true => Ok(()),
            false => Err(FsError::new("mark as opaque", fs::bytes_path(name), Errno::NOTSUP).into()),
        }
    }

    fn is_whiteout(&self, dir: &OwnedFd, name: &[u8]) -> Result<bool, FsError> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).act("stat", fs::bytes_path(name))?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
    }

    /// Owner, then mode (a change of owner clears setuid), then attributes (it clears capabilities too).
    fn attributes(&mut self, dir: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let shown = fs::bytes_path(name);
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let mut mode = entry.mode;
        match rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::INVAL | Errno::PERM) if self.mode == Mode::User => {
                self.done.skipped += 1;
                // What was to run as somebody else must not run as root instead.
                mode &= !0o6000;
            }
            result => result.act("change the owner of", shown)?,
        }
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            // Made by us a moment ago and no link: following is no danger, and there is no other way for devices.
            let path = fs::proc_path(dir, name)?;
            rustix::fs::chmod(&*path, FileMode::from_raw_mode(mode)).act("change the mode of", shown)?;
        }
        let refused = fs::apply_xattrs(dir, name, &entry.xattrs)?.len() as u64;
        self.done.skipped += refused;
        Ok(())
    }
}

/// A name of an archive as a path below the root: no slash at its ends, no `.`; `..` and NUL are refused.
fn clean(path: &[u8]) -> Result<Vec<u8>, LayerError> {
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(refused(path, "leads upwards")),
            _ if component.contains(&0) => return Err(refused(path, "has a NUL in its name")),
            _ => {}
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    if path.is_empty() { Err(refused(path, "has no name")) } else { Ok(clean) }
}

/// Names the whole entry in an error about its last component.
fn named(error: LayerError, path: &[u8]) -> LayerError {
    match error {
        LayerError::Fs(error) => LayerError::Fs(FsError { path: fs::bytes_path(path).to_owned(), ..error }),
        error => error,
    }
}

fn refused(path: &[u8], why: &'static str) -> LayerError {
    LayerError::Refused { path: fs::bytes_path(path).to_owned(), why }
}

fn set_file_times(file: impl AsFd, mtime: Timestamp) -> Result<(), Errno> {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
}

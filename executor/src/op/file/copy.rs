//! COPY and ADD: what BuildKit's fsutil does, over directory fds.
//!
//! The rules, each with a test in [`super::tests`]:
//! * Directories on the way to the destination are made with 0755, or the octal `--chmod`, owned by root or `--chown`.
//! * Of a source directory the contents are copied. The top directory at the destination keeps mode and owner if it
//!   exists, and is made as above if not; directories below take over the source's, whether they existed or not.
//! * A file goes into a destination that is a directory, under the name it was asked for by, and replaces a file or
//!   link there, never a directory; a directory never replaces anything else.
//! * The source itself is followed where it is a link; links in copied directories stay links.
//! * Hard links among what one source brings stay hard links.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use lap_solver::graph::Copy;
use rustix::fs::{AtFlags, FileType, Mode, SeekFrom};
use rustix::io::Errno;

use super::chmod::Chmod;
use super::error::FileError;
use super::owner::Owner;
use super::target::{Attributes, Target, is_dir, times};
use crate::tree::path;
use crate::tree::{Kind, Matched, Node, Tree, TreeError, Verdict, Walk, shown};

/// Mode of directories made on the way.
pub(super) const PARENT_MODE: u32 = 0o755;
/// Bytes of a file that are read and written in one go rather than left to the kernel.
const SMALL: u64 = 128 * 1024;

/// Whose the copies are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ownership {
    /// As in the source.
    Keep,
    /// This one's.
    Give(Owner),
}

impl Ownership {
    /// Of what is made and has no source.
    pub(super) const fn of_made(self) -> Owner {
        match self {
            Self::Keep => Owner::ROOT,
            Self::Give(owner) => owner,
        }
    }

    const fn of(self, node: &Node) -> Owner {
        match self {
            Self::Keep => Owner::of(&node.meta),
            Self::Give(owner) => owner,
        }
    }
}

/// One COPY of one source.
pub(super) struct Copier<'a> {
    pub(super) tree: &'a Tree,
    pub(super) target: &'a Target<'a>,
    pub(super) walk: &'a Walk,
    pub(super) ownership: Ownership,
    pub(super) chmod: Option<&'a Chmod>,
    /// Becomes true when nobody waits for the copy any more.
    pub(super) cancelled: &'a AtomicBool,
    /// Where the inodes with several names were copied to first.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Directories above the entry that is being copied, outermost first.
    above: Vec<Above<'a>>,
    buffer: Vec<u8>,
}

/// A directory that is being copied.
struct Above<'a> {
    at: Vec<u8>,
    node: &'a Node,
    target: Vec<u8>,
    /// Whether it is there; not yet where only something below it may be taken.
    made: bool,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        target: &'a Target<'a>,
        walk: &'a Walk,
        ownership: Ownership,
        chmod: Option<&'a Chmod>,
        cancelled: &'a AtomicBool,
    ) -> Self {
        Self {
            tree,
            target,
            walk,
            ownership,
            chmod,
            cancelled,
            links: HashMap::new(),
            above: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Copies what lies at `source`, a path that one source of `copy` stands for.
    pub(super) fn run(&mut self, source: &[u8], copy: &Copy) -> Result<(), FileError> {
        let (at, node) = self.tree.existing(source)?;
        let target = prepare(self.target, &copy.dest, source, node.is_dir(), self.chmod, self.ownership)?;
        self.entry(&at, node, b"", &target, &Matched::default())
    }

    fn entry(
        &mut self,
        at: &[u8],
        node: &'a Node,
        below: &[u8],
        target: &[u8],
        matched: &Matched,
    ) -> Result<(), FileError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(FileError::Cancelled);
        }
        let (verdict, matched) = match below {
            b"" => (Verdict::Take, Matched::default()),
            _ => self.walk.judge(below, node.is_dir(), matched),
        };
        match (verdict, node.is_dir()) {
            (Verdict::Skip, _) => Ok(()),
            (_, true) => self.directory(at, node, below, target, &matched, verdict),
            (_, false) => {
                self.make_above()?;
                self.leaf(at, node, target)
            }
        }
    }

    fn directory(
        &mut self,
        at: &[u8],
        node: &'a Node,
        below: &[u8],
        target: &[u8],
        matched: &Matched,
        verdict: Verdict,
    ) -> Result<(), FileError> {
        let taken = verdict == Verdict::Take;
        let mut created = false;
        if taken {
            self.make_above()?;
            created = self.make_directory(target)?;
        }
        self.above.push(Above { at: at.to_vec(), node, target: target.to_vec(), made: taken });
        for entry in self.tree.entries(at, node)? {
            let (at, below) = (path::join(at, &entry.name), path::join(below, &entry.name));
            self.entry(&at, entry, &below, &path::join(target, &entry.name), matched)?;
        }
        self.above.pop();
        if taken && (created || !below.is_empty()) {
            self.finish_directory(at, node, target)?;
        } else if taken {
            let dir = self.target.dir(target)?;
            rustix::fs::futimens(dir.as_fd(), &times(node.meta.mtime))
                .map_err(|error| FileError::target("set the times of", target, error))?;
        }
        Ok(())
    }

    /// Makes the directories above that wait for something in them to be taken.
    fn make_above(&mut self) -> Result<(), FileError> {
        for index in 0..self.above.len() {
            if self.above[index].made {
                continue;
            }
            let Above { at, node, target, .. } = &self.above[index];
            if self.make_directory(target)? {
                self.finish_directory(at, node, target)?;
            } else {
                let mode = Mode::from_raw_mode(node.meta.mode);
                rustix::fs::fchmod(self.target.dir(target)?.as_fd(), mode)
                    .map_err(|error| FileError::target("change the mode of", target, error))?;
            }
            self.above[index].made = true;
        }
        Ok(())
    }

    /// Whether a directory had to be made at `target`.
    fn make_directory(&self, target: &[u8]) -> Result<bool, FileError> {
        match self.target.stat(target)? {
            Some(stat) if is_dir(&stat) => Ok(false),
            Some(_) => Err(FileError::NotADirectory { path: shown(target) }),
            None => self.target.mkdir(target).map(|()| true),
        }
    }

    fn finish_directory(&self, at: &[u8], node: &Node, target: &[u8]) -> Result<(), FileError> {
        let xattrs = self
            .tree
            .xattrs(self.tree.open_listed(at, node)?.as_fd())
            .map_err(|error| TreeError::io("read attributes of", at, error))?;
        let dir = self.target.dir(target)?;
        self.target.finish(dir.as_fd(), target, &self.attributes(node, &xattrs))
    }

    fn attributes<'x>(&self, node: &Node, xattrs: &'x [(Vec<u8>, Vec<u8>)]) -> Attributes<'x> {
        let mode = self.chmod.map_or(node.meta.mode, |chmod| chmod.apply(node.meta.mode, node.is_dir()));
        Attributes { owner: self.ownership.of(node), mode, mtime: Some(node.meta.mtime), xattrs }
    }

    fn leaf(&mut self, at: &[u8], node: &Node, target: &[u8]) -> Result<(), FileError> {
        match &node.kind {
            Kind::File(_) => self.file(at, node, target),
            Kind::Symlink(_) => {
                let to = self.tree.target(at, node)?;
                self.target.create("link", target, |dir, name| rustix::fs::symlinkat(to, dir, name))?;
                self.target.finish_link(target, &self.attributes(node, &[]))
            }
            Kind::Block => self.device(node, target, FileType::BlockDevice),
            Kind::Char => self.device(node, target, FileType::CharacterDevice),
            Kind::Fifo => self.device(node, target, FileType::Fifo),
            Kind::Directory(_) => Ok(()),
        }
    }

    fn device(&self, node: &Node, target: &[u8], kind: FileType) -> Result<(), FileError> {
        let made = self.target.create("make device", target, |dir, name| {
            let made = rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, node.meta.rdev);
            match made {
                Err(error) if kind != FileType::Fifo && self.target.is_beyond_us(error) => Ok(false),
                made => made.map(|()| true),
            }
        })?;
        if made {
            return self.target.finish_node(target, &self.attributes(node, &[]));
        }
        self.target.skip(1);
        Ok(())
    }

    fn file(&mut self, at: &[u8], node: &Node, target: &[u8]) -> Result<(), FileError> {
        if node.meta.links > 1 {
            let inode = (node.meta.dev, node.meta.ino);
            if let Some(first) = self.links.get(&inode) {
                let (from, first) = self.target.parent(first)?;
                return self.target.create("link", target, |dir, name| {
                    rustix::fs::linkat(&*from, first, dir, name, AtFlags::empty())
                });
            }
            self.links.insert(inode, target.to_vec());
        }
        let from = self.tree.open_file(at, node)?;
        let to = self.target.create_file(target)?;
        copy_data(&from, &to, node.meta.size, &mut self.buffer)
            .map_err(|error| FileError::target("copy to", target, error))?;
        self.tree.check_unchanged(from.as_fd(), at, node)?;
        let xattrs = self.tree.xattrs(from.as_fd()).map_err(|error| TreeError::io("read attributes of", at, error))?;
        self.target.finish(to.as_fd(), target, &self.attributes(node, &xattrs))
    }
}

/// Makes the directories that `dest` needs; tells where a source goes that is a directory or not.
pub(super) fn prepare(
    target: &Target<'_>,
    dest: &str,
    source: &[u8],
    source_is_dir: bool,
    chmod: Option<&Chmod>,
    ownership: Ownership,
) -> Result<Vec<u8>, FileError> {
    let mode = chmod.and_then(Chmod::for_parents).unwrap_or(PARENT_MODE);
    let owner = ownership.of_made();
    let (parent, last) = dest.rsplit_once('/').unwrap_or(("", dest));
    let ensured = if matches!(last, "" | ".") { dest } else { parent };
    target.mkdir_all(&target.resolve(ensured.as_bytes())?, mode, owner)?;

    let mut at = target.resolve(dest.as_bytes())?;
    let there = target.stat(&at)?;
    if !source_is_dir && there.as_ref().is_some_and(is_dir) {
        let name = path::split(source).map_or(source, |(_, name)| name);
        at = path::join(&at, name);
    }
    let needed =
        if source_is_dir && there.is_none() { &at[..] } else { path::split(&at).map_or(&b""[..], |(dir, _)| dir) };
    target.mkdir_all(needed, mode, owner)?;
    Ok(at)
}

/// Copies all of `from` into the empty `to`: shared extents where the file system can, the holes of a sparse file as
/// holes, small files in one read and write.
fn copy_data(from: &File, to: &File, size: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    if size <= SMALL {
        buffer.clear();
        from.take(size + 1).read_to_end(buffer)?;
        return { to }.write_all(buffer);
    }
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size);
        copy_range(from, to, start, end.max(start + 1).min(size))?;
        at = end.max(start + 1);
    }
    to.set_len(size)
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut input, mut output) = (start, start);
    while input < end {
        let length = usize::try_from(end - input).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut input), to, Some(&mut output), length) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM | Errno::IO) => {
                rustix::fs::seek(from, SeekFrom::Start(input))?;
                rustix::fs::seek(to, SeekFrom::Start(output))?;
                return io::copy(&mut from.take(end - input), &mut { to }).map(drop);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

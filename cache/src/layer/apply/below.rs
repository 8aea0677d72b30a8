//! What an archive leaves to the layers below: targets of hard links, and directories it has no entry for.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::{Applier, clean, refused};
use crate::archive::{Entry, EntryKind};
use crate::fs::{self, Act, Kind, Metadata};
use crate::layer::tree::is_overlay;
use crate::layer::{LayerError, join};

impl Applier<'_> {
    /// Another name of an entry before, or of a file in the layers below.
    pub(super) fn hard_link(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        real: Vec<u8>,
        target: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let target_path = clean(target)?;
        let found = fs::parent_in_root(&self.root, &join(&self.base, &target_path));
        let (from, from_name) = match found {
            Ok(found) => found,
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                return self.link_below(dir, name, real, &target_path, entry);
            }
            Err(error) => return Err(error.into()),
        };
        let stat = match rustix::fs::statat(&from, &from_name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return self.link_below(dir, name, real, &target_path, entry),
            result => result.act("stat", fs::bytes_path(target))?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || self.is_whiteout(&from, &from_name)? {
            return Err(refused(&entry.path, "is a hard link to a directory or to nothing"));
        }
        // Replacing a name with a link to the same file would remove the file first.
        if let Ok(old) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            && (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.replacing(dir, name, |dir, name| rustix::fs::linkat(&from, &from_name[..], dir, name, AtFlags::empty()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let xattrs = fs::xattrs_at(dir, name)?;
            self.note_privileges(real, stat.st_mode, &xattrs);
        }
        Ok(())
    }

    /// A hard link into a layer below becomes a copy of what it names.
    fn link_below(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        real: Vec<u8>,
        target: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let unresolved = || LayerError::UnresolvedLink {
            path: fs::bytes_path(&entry.path).to_owned(),
            target: fs::bytes_path(target).to_owned(),
        };
        if !self.complete {
            return Err(LayerError::NeedsParents);
        }
        let below = self.below.ok_or_else(unresolved)?;
        let found = below.find(target)?.ok_or_else(unresolved)?;
        let (metadata, _) = below.metadata(&found)?;
        let (kind, data) = match metadata.kind {
            Kind::File { size } => {
                let file = File::from(fs::open_beneath(found.layer, &found.path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
                (EntryKind::File { size, extents: None }, Some(file))
            }
            Kind::Symlink { target } => (EntryKind::Symlink { target }, None),
            Kind::Fifo => (EntryKind::Fifo, None),
            Kind::CharDevice { major, minor } => (EntryKind::CharDevice { major, minor }, None),
            Kind::BlockDevice { major, minor } => (EntryKind::BlockDevice { major, minor }, None),
            Kind::Directory | Kind::Socket => return Err(refused(&entry.path, "is a hard link to a directory")),
        };
        let Metadata { mode, uid, gid, mtime, xattrs, .. } = metadata;
        let xattrs = xattrs.into_iter().filter(|(name, _)| !is_overlay(name)).collect();
        let copy = Entry { path: entry.path.clone(), kind, mode, uid, gid, mtime, xattrs };
        match data {
            Some(mut file) => self.make(dir, name, real, &copy, &mut file),
            None => self.make(dir, name, real, &copy, &mut std::io::empty()),
        }
    }

    /// Directories without an entry look as they do below, where that is known.
    pub(super) fn adopt_implicit(&mut self) -> Result<(), LayerError> {
        if !self.complete && !self.implicit.is_empty() {
            return Err(LayerError::NeedsParents);
        }
        let Some(below) = self.below else { return Ok(()) };
        for path in std::mem::take(&mut self.implicit) {
            let Some(found) = below.find(&path)? else { continue };
            let (metadata, _) = below.metadata(&found)?;
            if !metadata.is_directory() {
                continue;
            }
            let (parent, name) = fs::split_last(&path);
            let Ok(dir) = fs::open_beneath(&self.root, parent, OFlags::PATH | OFlags::DIRECTORY) else { continue };
            let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            let Metadata { mode, uid, gid, mtime, xattrs, .. } = metadata;
            let xattrs = xattrs.into_iter().filter(|(name, _)| !is_overlay(name)).collect();
            let kind = EntryKind::Directory;
            self.attributes(&dir, name, &Entry { path: path.clone(), kind, mode, uid, gid, mtime, xattrs })?;
            self.times.insert(path, mtime);
        }
        Ok(())
    }
}

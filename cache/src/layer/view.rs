//! What a stack of layers looks like from above, without mounting it.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::{LayerError, layer_path};
use crate::digest::Digest;
use crate::fs::{self, Act, FsError, Inode, Metadata};
use crate::store::Store;

/// Layers as an overlay mount would merge them. The layers are ours and do not change: their paths hold no
/// surprises, since every directory on the way was seen to be one.
#[derive(Debug)]
pub struct View {
    /// Top first.
    layers: Vec<OwnedFd>,
    opaque_xattr: &'static [u8],
}

/// A directory of the merged view: the layers that have a part in it, top first, and its path.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    parts: Vec<usize>,
    path: Vec<u8>,
}

/// Where an entry of the merged view lies.
#[derive(Debug)]
pub struct Found<'a> {
    /// The directory `fs` of the layer that has it.
    pub layer: &'a OwnedFd,
    /// Its path below.
    pub path: Vec<u8>,
    /// Type, mode, owner, size and times.
    pub stat: Stat,
}

impl View {
    /// The view of `layers`, lowest first.
    ///
    /// # Errors
    /// Where one is not in the store.
    pub fn open(store: &Store, layers: &[Digest]) -> Result<Self, LayerError> {
        let open = |diff_id: &Digest| match fs::open_beneath(
            store.dir(),
            format!("{}/fs", layer_path(diff_id)).as_bytes(),
            OFlags::PATH | OFlags::DIRECTORY,
        ) {
            Err(error) if error.errno() == Some(Errno::NOENT) => Err(LayerError::Missing { diff_id: *diff_id }),
            result => Ok(result?),
        };
        let layers = layers.iter().rev().map(open).collect::<Result<_, _>>()?;
        Ok(Self { layers, opaque_xattr: store.mode().opaque_xattr() })
    }

    /// The entry at `path`, with no symbolic link followed on the way.
    ///
    /// # Errors
    /// Where a layer cannot be read.
    pub fn find(&self, path: &[u8]) -> Result<Option<Found<'_>>, FsError> {
        // The names of a layer never lead upwards.
        if path.split(|byte| *byte == b'/').any(|name| name == b"..") {
            return Ok(None);
        }
        let (parent, name) = fs::split_last(path);
        let mut level = self.root();
        for component in parent.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            level = self.enter(&level, component)?;
        }
        self.find_in(&level, name)
    }

    /// Everything about an entry that was found.
    ///
    /// # Errors
    /// Where the layer cannot be read.
    pub fn metadata(&self, found: &Found<'_>) -> Result<(Metadata, Inode), FsError> {
        let (parent, name) = fs::split_last(&found.path);
        let dir = fs::open_beneath(found.layer, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        fs::metadata_of(&dir, if name.is_empty() { b"." } else { name }, &found.stat)
    }

    /// The root directory as the mount shows it: that of the top layer.
    ///
    /// # Errors
    /// Where the layer cannot be read.
    pub fn root_metadata(&self) -> Result<Option<Metadata>, FsError> {
        self.layers.first().map(|layer| Ok(fs::metadata_at(layer, b".")?.0)).transpose()
    }

    pub(crate) fn root(&self) -> Level {
        Level { parts: (0..self.layers.len()).collect(), path: Vec::new() }
    }

    /// The names in a directory of the merged view, sorted; those hidden by whiteouts too ([`Self::find_in`] tells).
    pub(crate) fn names(&self, level: &Level) -> Result<Vec<Vec<u8>>, FsError> {
        let mut names = std::collections::BTreeSet::new();
        for part in &level.parts {
            let dir = fs::open_beneath(&self.layers[*part], &level.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            names.extend(fs::sorted_names(&dir)?);
        }
        Ok(names.into_iter().collect())
    }

    /// What an entry `name` of the directory is; nothing where a whiteout hides it.
    pub(crate) fn find_in(&self, level: &Level, name: &[u8]) -> Result<Option<Found<'_>>, FsError> {
        let path = level.below(name);
        for part in &level.parts {
            let layer = &self.layers[*part];
            if let Some(stat) = stat_in(layer, &path)? {
                return Ok((!is_whiteout(&stat)).then_some(Found { layer, path, stat }));
            }
        }
        Ok(None)
    }

    /// The directory `name` of a directory; one without parts where it is none.
    pub(crate) fn enter(&self, level: &Level, name: &[u8]) -> Result<Level, FsError> {
        let path = level.below(name);
        let mut parts = Vec::new();
        for part in &level.parts {
            let layer = &self.layers[*part];
            let Some(stat) = stat_in(layer, &path)? else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                break;
            }
            parts.push(*part);
            if self.is_opaque(layer, &path)? {
                break;
            }
        }
        Ok(Level { parts, path })
    }

    fn is_opaque(&self, layer: &OwnedFd, path: &[u8]) -> Result<bool, FsError> {
        let dir = fs::open_beneath(layer, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut value = [0; 1];
        match rustix::fs::fgetxattr(&dir, self.opaque_xattr, &mut value[..]) {
            Ok(_) => Ok(value == *b"y"),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
            Err(errno) => Err(FsError::new("read an extended attribute of", fs::bytes_path(path), errno)),
        }
    }
}

impl Level {
    /// The directory that no layer has.
    pub(crate) fn nowhere(path: &[u8]) -> Self {
        Self { parts: Vec::new(), path: path.to_vec() }
    }

    fn below(&self, name: &[u8]) -> Vec<u8> {
        super::join(&self.path, name)
    }
}

fn stat_in(layer: &OwnedFd, path: &[u8]) -> Result<Option<Stat>, FsError> {
    let target = if path.is_empty() { b"." } else { path };
    match rustix::fs::statat(layer, target, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some).act("stat", fs::bytes_path(path)),
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

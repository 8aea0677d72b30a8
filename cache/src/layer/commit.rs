//! Making a layer: of what a step left in its upper directory, or of a tar from outside.
//!
//! Either way it is made complete below `tmp/` (`fs/` first, `layer.json` after it) and renamed to its name. Where
//! another process was quicker, its layer is taken and ours dropped: equal names mean equal content.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use lap_solver::digest::Key;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::apply::Applier;
use super::retime::{Span, nanoseconds};
use super::view::View;
use super::{LayerError, LayerFile, LayerInfo, Origin, layer_path, privilege, stream, tree};
use crate::archive::Limits;
use crate::digest::{Digest, Sha256Stream};
use crate::fs::{self, Act, FsError, Metadata, NewDirectory, durable};
use crate::snapshot::{LayerRef, Workspace};
use crate::store::{Claim, Session, Store};

impl Store {
    /// Makes the layer that `workspace` holds, compared with `parents` (lowest first). Nothing where nothing has
    /// changed, unless `keep_empty`.
    ///
    /// All processes that could still write into the upper directory must be dead.
    ///
    /// # Errors
    /// Where the tree cannot be read or the layer cannot be put in place.
    pub fn commit(
        &self,
        workspace: Workspace,
        parents: &[Digest],
        keep_empty: bool,
    ) -> Result<Option<LayerInfo>, LayerError> {
        let held = workspace.open()?;
        let upper = fs::open_dir_at(&held, b"upper")?;
        let below = View::open(self, parents)?;
        let root = tree::root_node(&upper)?;
        let root_entry = !same_root(&root.metadata, below.root_metadata()?);
        let mut nodes = if root_entry { vec![root] } else { Vec::new() };
        if !tree::is_empty(&upper)? {
            nodes.extend(tree::reduce(&upper, self.mode().opaque_xattr(), &below)?);
        }
        if nodes.is_empty() && !keep_empty {
            return Ok(None);
        }
        let mut out = Sha256Stream::new(io::sink());
        let summary = stream::write_tar(&upper, &nodes, &mut out)?;
        let (_, diff_id, tar_size) = out.finish();
        let info = LayerInfo {
            diff_id,
            content_id: summary.content_id,
            tar_size,
            entries: summary.entries,
            bytes: summary.bytes,
            skipped: 0,
            privileged: privilege::among(&nodes),
        };
        let made = Making::new(self)?;
        durable::rename(&held, "upper", &made.dir, "fs").act("rename", workspace.upper())?;
        // The file system's clock lags behind the other one by up to a tick: the beginning is read from it.
        let began = fs::metadata_at(&held, b"merged")?.0.mtime;
        let file = LayerFile::now(self, info, Origin::Made { root_entry });
        let ran = Span { from: nanoseconds(began), to: super::now().as_nanos().cast_signed() };
        made.publish(self, LayerFile { ran: Some(ran), ..file }).map(Some)
    }

    /// Unpacks an uncompressed tar into a layer of its own, named by its diff ID, which must be `expected` where
    /// that is given. Where that layer is already there, the stream is still read and checked.
    ///
    /// The layer is independent of the ones below it, but for a hard link whose target is not in the tar: that is
    /// looked up and copied from `parents` (lowest first). [`LayerError::UnresolvedLink`] says that it is not there
    /// either; unpack again when the parents are in the store. Directories without an entry of their own are made
    /// 0755 and root's, or as they are in `parents`.
    ///
    /// # Errors
    /// Where the stream fails, is no tar, has another digest, exceeds a limit or holds what must not be.
    pub fn unpack(
        &self,
        reader: impl Read,
        expected: Option<Digest>,
        parents: &[Digest],
    ) -> Result<LayerInfo, LayerError> {
        self.unpack_within(reader, expected, parents, Limits::default())
    }

    /// [`Self::unpack`] with other limits.
    ///
    /// # Errors
    /// As there.
    pub fn unpack_within(
        &self,
        reader: impl Read,
        expected: Option<Digest>,
        parents: &[Digest],
        limits: Limits,
    ) -> Result<LayerInfo, LayerError> {
        self.unpack_over(reader, expected, parents, true, limits)
    }

    /// [`Self::unpack_within`] where `complete` says whether `parents` are all that lies below. If not, a layer that
    /// needs more is refused with [`LayerError::NeedsParents`] or [`LayerError::UnresolvedLink`].
    pub(crate) fn unpack_over(
        &self,
        reader: impl Read,
        expected: Option<Digest>,
        parents: &[Digest],
        complete: bool,
        limits: Limits,
    ) -> Result<LayerInfo, LayerError> {
        let mut stream = Sha256Stream::new(reader);
        if let Some(diff_id) = expected
            && let Some(info) = self.layer(&diff_id)?
        {
            drain(&mut stream, limits)?;
            check(diff_id, stream.finish().1)?;
            return Ok(info);
        }
        let below = if parents.is_empty() { None } else { Some(View::open(self, parents)?) };
        let made = Making::new(self)?;
        fs::make_directory(&made.dir, b"fs", NewDirectory::ROOT_0755)?;
        let root = fs::open_dir_at(&made.dir, b"fs")?;
        let applier = Applier::layer(root, self.mode(), below.as_ref());
        let applier = if complete { applier } else { applier.amid_others() };
        let done = applier.run(&mut stream, limits)?;
        // What stands behind the end of the archive is part of the diff ID.
        drain(&mut stream, limits)?;
        let (_, diff_id, tar_size) = stream.finish();
        if let Some(expected) = expected {
            check(expected, diff_id)?;
        }
        let content_id: Key = LayerRef::foreign(diff_id).identity;
        let (entries, bytes, skipped) = (done.entries, done.bytes, done.skipped);
        let privileged = privilege::listed(done.privileged);
        let info = LayerInfo { diff_id, content_id, tar_size, entries, bytes, skipped, privileged };
        made.publish(self, LayerFile::now(self, info, Origin::Foreign))
    }

    /// Writes the tar of a layer made here: exactly the bytes of its diff ID. Returns their number.
    ///
    /// # Errors
    /// [`LayerError::Foreign`] for a foreign layer, of which the blob must be taken;
    /// [`LayerError::WrongDiffId`] where the directory was damaged: what was written is then worth nothing.
    pub fn write_tar(&self, diff_id: &Digest, writer: impl Write + Send) -> Result<u64, LayerError> {
        let file = self.layer_file(diff_id)?.ok_or(LayerError::Missing { diff_id: *diff_id })?;
        let Origin::Made { root_entry } = file.origin else { return Err(LayerError::Foreign { diff_id: *diff_id }) };
        let path = format!("{}/fs", layer_path(diff_id));
        let root = fs::open_beneath(self.dir(), path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut nodes = if root_entry { vec![tree::root_node(&root)?] } else { Vec::new() };
        nodes.extend(tree::walk(&root, self.mode().opaque_xattr())?);
        let mut out = Sha256Stream::new(writer);
        stream::write_tar(&root, &nodes, &mut out)?;
        let (_, actual, size) = out.finish();
        check(*diff_id, actual)?;
        Ok(size)
    }

    /// Writes the tar of a directory that is no layer, in a fixed order, without an entry for itself.
    pub(crate) fn directory_tar(&self, directory: &OwnedFd, writer: impl Write + Send) -> Result<(), LayerError> {
        stream::write_tar(directory, &tree::walk(directory, self.mode().opaque_xattr())?, writer)?;
        Ok(())
    }
}

/// Whether a step left the root directory as it was. Its time does not count: every entry made in it changes it.
fn same_root(ours: &Metadata, below: Option<Metadata>) -> bool {
    match below {
        Some(below) => {
            let xattrs = tree::exported(&below.xattrs);
            (ours.mode, ours.uid, ours.gid, &ours.xattrs) == (below.mode, below.uid, below.gid, &xattrs)
        }
        None => (ours.mode, ours.uid, ours.gid, ours.xattrs.is_empty()) == (0o755, 0, 0, true),
    }
}

fn check(expected: Digest, actual: Digest) -> Result<(), LayerError> {
    if expected == actual { Ok(()) } else { Err(LayerError::WrongDiffId { expected, actual }) }
}

/// Reads to the end, within the limit of the whole stream.
fn drain<R: Read>(stream: &mut Sha256Stream<R>, limits: Limits) -> Result<(), LayerError> {
    let left = limits.bytes.saturating_sub(stream.count());
    let drained = io::copy(&mut stream.by_ref().take(left.saturating_add(1)), &mut io::sink());
    if drained.map_err(LayerError::Read)? > left {
        return Err(crate::archive::ArchiveError::Limit { what: "bytes", limit: limits.bytes }.into());
    }
    Ok(())
}

/// A layer's directory below `tmp/`, removed on drop unless it was published.
pub(super) struct Making {
    session: std::sync::Arc<Session>,
    name: String,
    pub(super) dir: OwnedFd,
}

impl Making {
    pub(super) fn new(store: &Store) -> Result<Self, LayerError> {
        let session = store.session()?;
        let (dir, name) = session.create_directory()?;
        Ok(Self { session, name, dir })
    }

    /// Writes `layer.json` and renames the directory to its place.
    pub(super) fn publish(self, store: &Store, file: LayerFile) -> Result<LayerInfo, LayerError> {
        let info = file.info.clone();
        let shown = store.layer_dir(&info.diff_id);
        let json = serde_json::to_vec(&file).map_err(|error| FsError::new("write", &shown, io::Error::from(error)))?;
        write_new(&self.dir, "layer.json", &json).act("write", shown.join("layer.json"))?;
        store.claiming(Claim::Layer(info.diff_id), || ())?;
        let target = layer_path(&info.diff_id);
        let rename = || durable::rename_new(self.session.dir(), &self.name, store.dir(), &target);
        match rename() {
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            result => {
                result.act("rename to", shown)?;
                store.note_unsynced(info.diff_id);
                // Every entry takes a block that is half empty on average, and its directory entry.
                store.note_growth_of(info.bytes + info.entries * 4096);
                return Ok(info);
            }
        }
        if let Some(theirs) = store.layer_file(&info.diff_id)? {
            return keep_theirs(store, theirs, file, &json);
        }
        // What lies there is what a power cut left: ours takes its place. Others may think the same of it.
        let layers = fs::open_dir_at(store.dir(), b"layers")?;
        rustix::fs::flock(&layers, FlockOperation::LockExclusive).act("lock", store.root().join("layers"))?;
        if let Some(theirs) = store.layer_file(&info.diff_id)? {
            return keep_theirs(store, theirs, file, &json);
        }
        store.remove_layer(&info.diff_id)?;
        rename().act("rename to", shown)?;
        store.note_unsynced(info.diff_id);
        Ok(info)
    }
}

/// The layer was there. If it came from outside and now was made here, the directory is known to give the tar.
fn keep_theirs(store: &Store, theirs: LayerFile, ours: LayerFile, json: &[u8]) -> Result<LayerInfo, LayerError> {
    match (theirs.origin, ours.origin) {
        (Origin::Foreign, Origin::Made { .. }) if theirs.info.skipped == 0 => {
            store.write_file(&format!("{}/layer.json", layer_path(&ours.info.diff_id)), json, false)?;
            store.note_unsynced(ours.info.diff_id);
            Ok(ours.info)
        }
        _ => Ok(theirs.info),
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Published: nothing is there any more. What cannot be removed goes with the session.
        drop(fs::remove_tree(self.session.dir(), self.name.as_bytes()));
    }
}

fn write_new(dir: impl AsFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    std::fs::File::from(file).write_all(bytes)
}

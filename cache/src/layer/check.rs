//! Whether a layer is what its name says, for [`crate::fsck`].

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::apply::Applier;
use super::commit::Making;
use super::{LayerError, LayerFile, Origin, View, layer_path, stream, tree};
use crate::archive::Limits;
use crate::digest::{Digest, Sha256Stream};
use crate::fs::{self, Act, Kind, NewDirectory};
use crate::store::Store;

/// What was found of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerState {
    /// As it should be, as far as was looked.
    Whole,
    /// The same, but its data could not be compared with anything.
    Unverified,
    /// Not complete and not believed by anybody: what a power cut leaves.
    Unfinished(&'static str),
    /// Damaged.
    Damaged(String),
}

impl Store {
    /// Looks at a layer: what is written of it, the number and the sizes of its files where it was made here; with
    /// `deep` all of its data, by its diff ID, or by the blob that it came in (`blob`, to be unpacked over `parents`).
    ///
    /// # Errors
    /// Where the store fails; what is wrong with the layer is no error.
    pub(crate) fn check_layer(
        &self,
        diff_id: &Digest,
        deep: bool,
        blob: Option<File>,
        parents: &[Digest],
    ) -> Result<LayerState, LayerError> {
        let path = layer_path(diff_id);
        let bytes = match self.read_file(&format!("{path}/layer.json")) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(LayerState::Unfinished("it has no layer.json")),
            Err(error) => return Ok(LayerState::Damaged(error.to_string())),
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(LayerState::Unfinished("its layer.json is empty"));
        }
        let file: LayerFile = match serde_json::from_slice(&bytes) {
            Ok(file) => file,
            Err(error) => return Ok(LayerState::Damaged(format!("layer.json cannot be read: {error}"))),
        };
        if file.info.diff_id != *diff_id {
            return Ok(LayerState::Damaged(format!("layer.json is that of {}", file.info.diff_id)));
        }
        if file.boot.as_ref().is_some_and(|boot| boot != self.boot_id()) {
            return Ok(LayerState::Unfinished("the machine stopped before it was synced"));
        }
        let root = format!("{path}/fs");
        let root = match fs::open_beneath(self.dir(), root.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(root) => root,
            Err(error) => return Ok(LayerState::Damaged(format!("its files are gone: {error}"))),
        };
        let seen = match file.origin {
            Origin::Made { root_entry } => self.check_made(&root, &file, root_entry, deep),
            Origin::Foreign if !deep => return Ok(LayerState::Whole),
            Origin::Foreign => match blob {
                Some(blob) if file.info.skipped == 0 => self.check_foreign(&root, diff_id, blob, parents),
                _ => return Ok(LayerState::Unverified),
            },
        };
        match seen {
            Ok(None) => Ok(LayerState::Whole),
            Ok(Some(problem)) => Ok(LayerState::Damaged(problem)),
            // The store's own faults are not the layer's.
            Err(LayerError::Store(error)) => Err(error.into()),
            Err(LayerError::NeedsParents | LayerError::UnresolvedLink { .. }) => Ok(LayerState::Unverified),
            Err(error) => Ok(LayerState::Damaged(error.to_string())),
        }
    }

    /// A layer made here gives the tar of its diff ID.
    fn check_made(
        &self,
        root: &OwnedFd,
        file: &LayerFile,
        root_entry: bool,
        deep: bool,
    ) -> Result<Option<String>, LayerError> {
        let mut nodes = if root_entry { vec![tree::root_node(root)?] } else { Vec::new() };
        nodes.extend(tree::walk(root, self.mode().opaque_xattr())?);
        let (entries, bytes) = count(&nodes);
        if (entries, bytes) != (file.info.entries, file.info.bytes) {
            let (wanted, size) = (file.info.entries, file.info.bytes);
            return Ok(Some(format!("{entries} entries with {bytes} bytes lie there, it has {wanted} with {size}")));
        }
        if !deep {
            return Ok(None);
        }
        let mut out = Sha256Stream::new(io::sink());
        let summary = stream::write_tar(root, &nodes, &mut out)?;
        let (actual, expected) = (out.finish().1, file.info.diff_id);
        if actual != expected {
            return Ok(Some(format!("its files give diff ID {actual}")));
        }
        let same = summary.content_id == file.info.content_id;
        Ok((!same).then(|| format!("its files have content ID {}", summary.content_id)))
    }

    /// A layer from outside looks as its blob does when it is unpacked once more.
    fn check_foreign(
        &self,
        root: &OwnedFd,
        diff_id: &Digest,
        blob: File,
        parents: &[Digest],
    ) -> Result<Option<String>, LayerError> {
        let below = View::open(self, parents)?;
        let scratch = Making::new(self)?;
        fs::make_directory(&scratch.dir, b"fs", NewDirectory::ROOT_0755)?;
        let again = fs::open_dir_at(&scratch.dir, b"fs")?;
        let plain = super::decompress(blob).map_err(LayerError::Read)?;
        let mut stream = Sha256Stream::new(plain);
        let applier = Applier::layer(again.try_clone().act("open", "fs")?, self.mode(), Some(&below));
        applier.run(&mut stream, Limits::default())?;
        io::copy(&mut stream, &mut io::sink()).map_err(LayerError::Read)?;
        if stream.finish().1 != *diff_id {
            // Another form of the layer, such as an eStargz: its files are the same, its tar is not.
            return Ok(None);
        }
        // Without times: what the archive has no entry for gets the time of its unpacking.
        let content = |root: &OwnedFd| {
            let nodes = [vec![tree::root_node(root)?], tree::walk(root, self.mode().opaque_xattr())?].concat();
            Ok::<_, LayerError>(stream::write_tar(root, &nodes, io::sink())?.content_id)
        };
        Ok((content(root)? != content(&again)?).then(|| "its files are not those of its blob".to_owned()))
    }
}

/// Entries of the tar of these nodes, and bytes of data in it.
fn count(nodes: &[tree::Node]) -> (u64, u64) {
    let mut names = std::collections::HashSet::new();
    let (mut entries, mut bytes) = (0, 0);
    for node in nodes {
        entries += 1 + u64::from(node.opaque);
        if let Kind::File { size } = node.metadata.kind
            && (node.inode.links == 1 || names.insert((node.inode.device, node.inode.number)))
        {
            bytes += size;
        }
    }
    (entries, bytes)
}

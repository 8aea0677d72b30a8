//! Making sure that a layer from a build cache is what the cache says of it.
//!
//! Keys of later steps are derived from the content ID of a layer, so a false one would let a step find the result of
//! another. A layer made by us gives its tar again from its directory, bit for bit: where it does, the content ID of
//! the same pass is beyond doubt, and the layer is from then on one like those made here.

use std::io;

use lap_solver::digest::Key;
use rustix::fs::OFlags;

use super::{LayerError, LayerFile, Origin, Span, layer_path, stream, tree};
use crate::digest::{Digest, Sha256Stream};
use crate::fs;
use crate::store::Store;

impl Store {
    /// Whether a layer in the store has the content ID `identity`. One that came from outside is looked into; if it
    /// has, it counts as made at `made_at` (seconds since 1970) by a step that ran at `ran`.
    ///
    /// # Errors
    /// [`LayerError::Missing`], or where it cannot be read.
    pub fn vouch(&self, diff_id: &Digest, identity: &Key, made_at: u64, ran: Option<Span>) -> Result<bool, LayerError> {
        let file = self.layer_file(diff_id)?.ok_or(LayerError::Missing { diff_id: *diff_id })?;
        if let Origin::Made { .. } = file.origin {
            return Ok(file.info.content_id == *identity);
        }
        // What could not be kept cannot be read again.
        if file.info.skipped > 0 {
            return Ok(false);
        }
        let path = format!("{}/fs", layer_path(diff_id));
        let root = fs::open_beneath(self.dir(), path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let nodes = tree::walk(&root, self.mode().opaque_xattr())?;
        for root_entry in [false, true] {
            let mut all = if root_entry { vec![tree::root_node(&root)?] } else { Vec::new() };
            all.extend(nodes.iter().cloned());
            let mut out = Sha256Stream::new(io::sink());
            let summary = stream::write_tar(&root, &all, &mut out)?;
            if out.finish().1 != *diff_id {
                continue;
            }
            if summary.content_id != *identity {
                return Ok(false);
            }
            let mut info = file.info.clone();
            (info.content_id, info.entries, info.bytes) = (summary.content_id, summary.entries, summary.bytes);
            self.put_layer_file(&LayerFile { info, origin: Origin::Made { root_entry }, made_at, ran, ..file })?;
            return Ok(true);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerInfo;
    use crate::store::Mode;

    fn made(store: &Store, mode: u32) -> (LayerInfo, Vec<u8>) {
        let workspace = store.workspace().unwrap();
        std::fs::create_dir(workspace.upper().join("d")).unwrap();
        std::fs::write(workspace.upper().join("d/f"), "data").unwrap();
        std::os::unix::fs::symlink("f", workspace.upper().join("d/l")).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(workspace.upper(), permissions).unwrap();
        let info = store.commit(workspace, &[], false).unwrap().unwrap();
        let mut tar = Vec::new();
        store.write_tar(&info.diff_id, &mut tar).unwrap();
        (info, tar)
    }

    #[test]
    fn a_layer_of_elsewhere_counts_as_made_here_when_it_is_what_is_said() {
        for mode in [0o755, 0o1777] {
            let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (there, here) =
                (Store::open(there.path(), Mode::Root).unwrap(), Store::open(here.path(), Mode::Root).unwrap());
            let (info, tar) = made(&there, mode);
            here.unpack(&*tar, Some(info.diff_id), &[]).unwrap();
            let ran = Some(Span { from: 1, to: 2 });
            assert!(!here.vouch(&info.diff_id, &Key::of("t", "a lie"), 7, ran).unwrap());
            assert!(!here.gives_tar(&info.diff_id).unwrap());
            assert!(here.vouch(&info.diff_id, &info.content_id, 7, ran).unwrap());
            assert!(here.vouch(&info.diff_id, &info.content_id, 8, None).unwrap());
            assert!(!here.vouch(&info.diff_id, &Key::of("t", "a lie"), 7, ran).unwrap());
            assert_eq!(here.layer(&info.diff_id).unwrap(), Some(info.clone()));
            assert_eq!(here.layer_ran(&info.diff_id).unwrap(), ran);
            assert_eq!(here.layer_made_at(&info.diff_id).unwrap(), Some(std::time::Duration::from_secs(7)));
            let mut again = Vec::new();
            here.write_tar(&info.diff_id, &mut again).unwrap();
            assert_eq!(tar, again);
        }
    }

    #[test]
    fn a_tar_that_is_not_ours_is_not_vouched_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Mode::Root).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, "f", &b"x"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let info = store.unpack(&*tar, None, &[]).unwrap();
        assert!(!store.vouch(&info.diff_id, &info.content_id, 0, None).unwrap());
        let missing = Digest::of(b"none");
        assert!(matches!(store.vouch(&missing, &info.content_id, 0, None), Err(LayerError::Missing { .. })));
    }
}

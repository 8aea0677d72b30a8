//! ADD of a local archive: unpacked into the destination, told by its content and not by its name.
//!
//! Owners in the archive are kept unless `--chown` says otherwise; `--chmod` and `--exclude` do not reach into it.

use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;

use lap_cache::layer::Owner as ArchiveOwner;
use lap_cache::tarball::{extract_into, is_archive};
use lap_solver::graph::Copy;

use super::copy::{Ownership, PARENT_MODE};
use super::error::FileError;
use super::owner::Owner;
use super::target::Target;
use crate::tree::{Kind, Tree, TreeError, shown};

/// Whether `source` was an archive and was unpacked.
pub(super) fn unpack(
    target: &Target<'_>,
    copy: &Copy,
    tree: &Tree,
    source: &[u8],
    ownership: Ownership,
) -> Result<bool, FileError> {
    let (at, node) = tree.existing(source)?;
    if !matches!(node.kind, Kind::File(_)) {
        return Ok(false);
    }
    let mut file = tree.open_file(&at, node)?;
    if !is_archive(&file) {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(0)).map_err(|error| TreeError::io("read", &at, error))?;

    let dest = target.resolve(copy.dest.as_bytes())?;
    target.mkdir_all(&dest, PARENT_MODE, ownership.of_made())?;
    let owner = match (&copy.owner, ownership) {
        (Some(_), Ownership::Give(Owner { uid, gid })) => ArchiveOwner::Fixed { uid, gid },
        _ => ArchiveOwner::Archive,
    };
    let failed =
        |error: lap_cache::layer::LayerError| FileError::Unpack { path: shown(source), source: Box::new(error) };
    // The destination is the root that links of the archive lead to at most.
    let done = extract_into(&*target.dir(&dest)?, b"", &file, owner, target.mode()).map_err(failed)?;
    target.skip(done.skipped);
    target.forget();
    tree.check_unchanged(file.as_fd(), &at, node)?;
    Ok(true)
}

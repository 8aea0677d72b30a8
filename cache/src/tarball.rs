//! Archives that `ADD` unpacks: any tar, compressed or not, into a directory of a root file system.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use crate::archive::{EntryKind, Limits, Reader};
use crate::fs::Act;
use crate::layer::{Applier, Extracted, LayerError, Owner, decompress};
use crate::store::Mode;

/// Unpacks `reader` (decompressed by its magic number) into the directory `path` inside `root`, which is made where
/// it is missing.
///
/// Every name is resolved inside `root`; links that lead out of it lead to its root. Entries replace what is there,
/// directories are merged. Names beginning with `.wh.` are names like any other.
///
/// # Errors
/// Where the stream fails, is no tar, exceeds a limit or holds what must not be.
pub fn extract_into(
    root: impl AsFd,
    path: &[u8],
    reader: impl Read + Send,
    owner: Owner,
    mode: Mode,
) -> Result<Extracted, LayerError> {
    let root = root.as_fd().try_clone_to_owned().act("open", "/")?;
    let mut stream = decompress(reader).map_err(LayerError::Read)?;
    Applier::plain(root, mode, path.to_vec(), owner).run(&mut stream, Limits::default())
}

/// Unpacks an uncompressed tar into the directory `root`, under the rules of [`extract_into`].
pub(crate) fn extract_plain(root: OwnedFd, mut reader: impl Read, mode: Mode) -> Result<Extracted, LayerError> {
    Applier::plain(root, mode, Vec::new(), Owner::Archive).run(&mut reader, Limits::default())
}

/// Whether a file is an archive that `ADD` unpacks: a tar, or something compressed that decompresses to one. Reads
/// no more than it must.
#[must_use]
pub fn is_archive(reader: impl Read + Send) -> bool {
    let Ok(mut stream) = decompress(reader) else { return false };
    let mut block = [0; crate::archive::BLOCK];
    stream.read_exact(&mut block).is_ok() && crate::archive::is_header(&block)
}

/// When the newest regular file of an archive was last changed, in seconds since 1970; nothing where there is none, or
/// where it is no archive.
#[must_use]
pub fn newest_entry(reader: impl Read + Send) -> Option<i64> {
    let mut newest = None;
    let mut archive = Reader::new(decompress(reader).ok()?, Limits::default());
    while let Some(entry) = archive.next_entry().ok()? {
        if matches!(entry.kind, EntryKind::File { .. }) {
            newest = newest.max(Some(entry.mtime.seconds));
        }
    }
    newest
}

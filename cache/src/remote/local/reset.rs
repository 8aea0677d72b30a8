//! Removing what an export has left behind: documents of its tag that it did not write, and blobs that neither a
//! document nor `index.json` names.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rustix::fs::{FlockOperation, flock};

use super::directory::{self, Directory, failed};
use crate::digest::Digest;
use crate::image::artifact::named_by;
use crate::image::manifest::{self, MANIFEST_LIMIT, is_index, is_manifest};
use crate::remote::{DOCUMENT_LIMIT, Document, Name, RemoteError};

/// How many manifests are looked into.
const MANIFESTS: usize = 10_000;

/// Resets `directory`, whose tag keeps the documents `kept`; `lock` is held by the caller.
///
/// # Errors
/// Where others write at this moment, or what has to stay cannot be told: then nothing is removed.
pub(super) fn reset(directory: &Directory, lock: &fs::File, kept: &[Name]) -> Result<(), RemoteError> {
    let alone = flock(lock, FlockOperation::NonBlockingLockExclusive);
    alone.map_err(|error| {
        if error == rustix::io::Errno::WOULDBLOCK { RemoteError::Busy } else { unlocked(error, directory) }
    })?;
    let mut stay = named_by_index(directory)?;
    let kept: HashSet<PathBuf> = kept.iter().map(|name| directory.document(*name)).collect();
    let mut go = Vec::new();
    for tag in list(&directory.documents)? {
        for kind in ["definitions", "steps", "mounts"] {
            for path in list(&tag.join(kind))? {
                // A build that ran nothing has written no mount, and the next one wants them all the same.
                if tag == directory.own && kind != "mounts" && !kept.contains(&path) {
                    go.push(path);
                    continue;
                }
                let document = directory::read(&path, DOCUMENT_LIMIT)?.and_then(|bytes| Document::read(&bytes));
                let blobs = document.map(|document| document.blobs()).unwrap_or_default();
                stay.extend(blobs.iter().filter_map(|blob| manifest::digest_of(blob).ok()));
            }
        }
    }
    // Only what can be a blob, or half of one: whatever else is there is somebody's.
    go.extend(list(&directory.blobs())?.into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match Digest::from_hex(name) {
            Ok(digest) => !stay.contains(&digest),
            Err(_) => name.starts_with(".part-"),
        }
    }));
    for path in go {
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    Ok(())
}

fn unlocked(error: rustix::io::Errno, directory: &Directory) -> RemoteError {
    failed("lock", &directory.documents)(error.into())
}

/// The blobs that `index.json` leads to.
fn named_by_index(directory: &Directory) -> Result<HashSet<Digest>, RemoteError> {
    let mut found = HashSet::new();
    let mut open: Vec<Descriptor> = directory.entries()?;
    let mut looked_into = 0;
    while let Some(entry) = open.pop() {
        let digest = manifest::digest_of(&entry)?;
        let kind = entry.media_type().as_ref();
        if !found.insert(digest) || !(is_manifest(kind) || is_index(kind)) {
            continue;
        }
        looked_into += 1;
        let path = directory.blob_path(&digest);
        if looked_into > MANIFESTS {
            return Err(failed("follow", &path)(std::io::Error::other("there are too many manifests")));
        }
        // A layout may lack platforms that its index names.
        let Some(bytes) = directory::read(&path, MANIFEST_LIMIT)? else { continue };
        let named = named_by(&bytes).ok_or_else(|| std::io::Error::other("it is no manifest"));
        open.extend(named.map_err(failed("understand", &path))?);
    }
    Ok(found)
}

/// The paths in a directory; none where it is missing or no directory.
fn list(directory: &Path) -> Result<Vec<PathBuf>, RemoteError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        result => result.map_err(failed("read", directory))?,
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(failed("read", directory))
}

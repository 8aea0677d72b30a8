//! An OCI image layout as a directory. Images that are there under other names stay.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use lap_solver::event::Events;
use oci_spec::image::{Descriptor, ImageIndex};

use super::{ExportError, Named, OCI_LAYOUT, index_entries};
use crate::digest::Digest;
use crate::fs::durable;
use crate::image::manifest::annotation;
use crate::names::{IMAGE_NAME, index_json};
use crate::store::Store;

/// Writes images into the directory `path`, which is made where it is missing.
///
/// # Errors
/// Where a blob is missing in the store, or the directory cannot be written.
pub fn oci_dir(store: &Store, images: &[Named], path: &Path, events: &Events) -> Result<(), ExportError> {
    let failed = |path: &Path| {
        let what = path.display().to_string();
        move |source| ExportError::Write { what, source }
    };
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed(&blobs))?;
    for (digest, size) in super::archive::blobs_of(images) {
        copy_blob(store, &digest, size, &blobs, events)?;
    }
    let mut entries = index_entries(images);
    let index = path.join("index.json");
    entries.extend(others(&index, &entries));
    write(&path.join("oci-layout"), OCI_LAYOUT).map_err(failed(path))?;
    write(&index, &index_json(entries)?).map_err(failed(&index))
}

/// Bytes of an index that is completed, at most.
const LARGEST_INDEX: u64 = 4 << 20;

/// Entries of an index that is there already, but for those that are replaced.
fn others(index: &Path, new: &[Descriptor]) -> Vec<Descriptor> {
    // What is no index is overwritten.
    let old = File::open(index).and_then(|file| crate::fs::read_limited(file, LARGEST_INDEX));
    let old = old.ok().and_then(|bytes| serde_json::from_slice::<ImageIndex>(&bytes).ok());
    let replaced = |entry: &Descriptor| {
        new.iter().any(|new| match annotation(entry, IMAGE_NAME) {
            Some(name) => annotation(new, IMAGE_NAME) == Some(name),
            None => new.digest() == entry.digest(),
        })
    };
    old.map(|old| old.manifests().clone()).unwrap_or_default().into_iter().filter(|entry| !replaced(entry)).collect()
}

fn copy_blob(store: &Store, digest: &Digest, size: u64, blobs: &Path, events: &Events) -> Result<(), ExportError> {
    let target = blobs.join(digest.hex());
    if fs::metadata(&target).is_ok_and(|found| found.is_file() && found.len() == size) {
        super::archive::report(digest, size, events);
        return Ok(());
    }
    let failed = |source| ExportError::Write { what: target.display().to_string(), source };
    let mut from = store.content().open(digest)?;
    let temporary = blobs.join(format!(".{}.{}", digest.hex(), std::process::id()));
    let mut to = File::create(&temporary).map_err(failed)?;
    // A copy, not a link: who changes the export must not change the store.
    std::io::copy(&mut from, &mut to).map_err(failed)?;
    durable::publish(&to, &temporary, &target).map_err(failed)?;
    super::archive::report(digest, size, events);
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    durable::publish(&file, &temporary, path)
}

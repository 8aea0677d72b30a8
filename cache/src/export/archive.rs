//! Images as one tar: an OCI layout, and where wanted a Docker archive over the same blobs, as `docker save` writes.
//!
//! Same images, same bytes: entries are sorted, times are zero.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use lap_solver::event::{Action, Event, Events};
use lap_solver::platform::Platform;

use super::{ExportError, Named, OCI_LAYOUT, docker_manifest, index_entries};
use crate::archive::{Entry, EntryKind, end, entry_header, padding};
use crate::digest::Digest;
use crate::fs::{Timestamp, Xattrs};
use crate::names::index_json;
use crate::store::Store;

/// Writes images as an OCI archive.
///
/// # Errors
/// Where a blob is missing in the store, or the writer fails.
pub fn oci_tar(store: &Store, images: &[Named], writer: impl Write, events: &Events) -> Result<(), ExportError> {
    write(store, images, None, writer, events)
}

/// Writes images as a Docker archive that is an OCI archive too. Docker's part has one image for a name: of an index,
/// the one for `platform`, or else the first.
///
/// # Errors
/// As [`oci_tar`].
pub fn docker_archive(
    store: &Store,
    images: &[Named],
    platform: &Platform,
    writer: impl Write,
    events: &Events,
) -> Result<(), ExportError> {
    write(store, images, Some(platform), writer, events)
}

/// All blobs of some images with their sizes, each once, sorted.
pub(super) fn blobs_of(images: &[Named]) -> BTreeMap<Digest, u64> {
    let mut blobs = BTreeMap::new();
    for Named { content, .. } in images {
        blobs.insert(content.digest(), content.raw().len() as u64);
        for image in content.images() {
            blobs.insert(image.digest(), image.raw_manifest.len() as u64);
            blobs.insert(image.id(), image.raw_config.len() as u64);
            blobs.extend(image.layers.iter().map(|layer| (layer.digest, layer.descriptor.size())));
        }
    }
    blobs
}

/// Tells that a blob was written out.
pub(crate) fn report(digest: &Digest, size: u64, events: &Events) {
    let (id, total) = (digest.to_string(), Some(size));
    events.send(Event::Progress { id, action: Action::Export, vertex: None, current: size, total, done: true });
}

fn write(
    store: &Store,
    images: &[Named],
    docker: Option<&Platform>,
    writer: impl Write,
    events: &Events,
) -> Result<(), ExportError> {
    let blobs = blobs_of(images);
    // Before the first byte goes out, everything must be there.
    for (digest, size) in &blobs {
        if store.content().has(digest)? != Some(*size) {
            return Err(crate::content::ContentError::Missing { digest: *digest }.into());
        }
    }
    let mut files = vec![("index.json", index_json(index_entries(images))?)];
    if let Some(platform) = docker {
        files.push(("manifest.json", docker_manifest(images, platform)?));
    }
    files.push(("oci-layout", OCI_LAYOUT.to_vec()));
    write_tar(&blobs, |digest| Ok(store.content().open(digest)?), &files, writer, events)
}

/// Writes blobs with their sizes, then documents, as a tar.
pub(crate) fn write_tar<R: Read>(
    blobs: &BTreeMap<Digest, u64>,
    open: impl Fn(&Digest) -> Result<R, ExportError>,
    files: &[(&str, Vec<u8>)],
    mut writer: impl Write,
    events: &Events,
) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { what: "the archive".to_owned(), source };
    for directory in ["blobs/", "blobs/sha256/"] {
        writer.write_all(&header(directory, EntryKind::Directory, 0o755)).map_err(failed)?;
    }
    for (digest, size) in blobs {
        let kind = EntryKind::File { size: *size, extents: None };
        writer.write_all(&header(&format!("blobs/sha256/{}", digest.hex()), kind, 0o644)).map_err(failed)?;
        let copied = std::io::copy(&mut open(digest)?.take(*size), &mut writer).map_err(failed)?;
        if copied != *size {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        writer.write_all(&[0; 512][..padding(*size)]).map_err(failed)?;
        report(digest, *size, events);
    }
    for (name, bytes) in files {
        let kind = EntryKind::File { size: bytes.len() as u64, extents: None };
        writer.write_all(&header(name, kind, 0o644)).map_err(failed)?;
        writer.write_all(bytes).map_err(failed)?;
        writer.write_all(&[0; 512][..padding(bytes.len() as u64)]).map_err(failed)?;
    }
    writer.write_all(&end()).map_err(failed)?;
    writer.flush().map_err(failed)
}

fn header(path: &str, kind: EntryKind, mode: u32) -> Vec<u8> {
    let path = path.as_bytes().to_vec();
    entry_header(&Entry { path, kind, mode, uid: 0, gid: 0, mtime: Timestamp::EPOCH, xattrs: Xattrs::new() })
}

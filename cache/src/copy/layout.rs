//! OCI layouts as destinations, as directories and as tars (with Docker's list beside, if wanted).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use lap_solver::event::Events;
use oci_spec::image::{Descriptor, ImageIndex};

use super::folder::{Added, Folder};
use super::plan::Plan;
use super::source::Source;
use super::{ArchiveName, CopyError, in_parallel};
use crate::digest::Digest;
use crate::export::archive::{report, write_tar};
use crate::export::{ExportError, OCI_LAYOUT};
use crate::image::manifest::{Document, MANIFEST_LIMIT, annotated, annotation};
use crate::image::{ImageError, Reference};
use crate::names::{IMAGE_NAME, REF_NAME, index_json};

/// Writes an image into a layout, which is made where it is missing. Images under other names stay.
pub(super) fn write(
    source: &Source,
    plan: &Plan,
    path: &Path,
    name: Option<&str>,
    events: &Events,
) -> Result<(), CopyError> {
    let added = Added::default();
    let folder = Folder::make(path, &added)?;
    let before = match folder.names()?.iter().any(|name| name == "index.json") {
        true => entries_of(&folder)?,
        false => Vec::new(),
    };
    let blobs = folder.make_inside("blobs", &added)?.make_inside("sha256", &added)?;
    in_parallel(&plan.blobs, |blob| {
        let (digest, size) = (blob.digest, blob.descriptor.size());
        if !blobs.has(&digest.hex(), size) {
            let mut reader = plan.open(blob, source)?;
            blobs.put(&digest.hex(), &mut reader, &added).map_err(|source| CopyError::Blob { digest, source })?;
        }
        report(&digest, size, events);
        Ok(())
    })?;
    for item in plan.documents() {
        if !blobs.has(&item.digest.hex(), item.descriptor.size()) {
            blobs.put_bytes(&item.digest.hex(), &item.bytes, &added)?;
        }
    }
    blobs.sync()?;
    folder.put_bytes("oci-layout", OCI_LAYOUT, &added)?;
    let own = entry(plan, name);
    let mut entries: Vec<Descriptor> = before.into_iter().filter(|old| !replaces(&own, old)).collect();
    entries.push(own);
    folder.put_bytes("index.json", &index_json(entries)?, &added)?;
    folder.sync()?;
    added.keep();
    Ok(())
}

fn entries_of(folder: &Folder) -> Result<Vec<Descriptor>, CopyError> {
    let text = folder.read("index.json", MANIFEST_LIMIT)?;
    let malformed = |source| crate::load::LoadError::Malformed { name: "index.json".to_owned(), source };
    let index: ImageIndex = serde_json::from_slice(&text).map_err(malformed)?;
    Ok(index.manifests().clone())
}

/// The entry of a layout's index.
fn entry(plan: &Plan, name: Option<&str>) -> Descriptor {
    let names = name.map(|name| (REF_NAME.to_owned(), name.to_owned()));
    annotated(plan.root.descriptor.clone(), &names.into_iter().collect())
}

/// Whether a new entry takes the place of an old one: that of its name, or the same without a name.
fn replaces(new: &Descriptor, old: &Descriptor) -> bool {
    match (annotation(new, REF_NAME), annotation(old, REF_NAME)) {
        (Some(new), Some(old)) => new == old,
        (None, None) => new.digest() == old.digest(),
        _ => false,
    }
}

/// Writes an image as a tar.
pub(super) fn write_archive(
    source: &Source,
    plan: &Plan,
    name: &ArchiveName<'_>,
    writer: impl Write,
    events: &Events,
) -> Result<(), CopyError> {
    let mut blobs: BTreeMap<Digest, u64> =
        plan.blobs.iter().map(|blob| (blob.digest, blob.descriptor.size())).collect();
    blobs.extend(plan.documents().map(|item| (item.digest, item.descriptor.size())));
    let mut files = Vec::new();
    match name {
        ArchiveName::Oci(name) => files.push(("index.json", index_json(vec![entry(plan, *name)])?)),
        ArchiveName::Docker(names) => {
            files.push(("index.json", index_json(docker_entries(plan, names))?));
            files.push(("manifest.json", docker_list(plan, names)?));
        }
    }
    files.push(("oci-layout", OCI_LAYOUT.to_vec()));
    let open = |digest: &Digest| {
        let failed = |error: CopyError| ExportError::Write {
            what: "the archive".to_owned(),
            source: std::io::Error::other(error),
        };
        plan.open_any(digest, source).map_err(failed)
    };
    write_tar(&blobs, open, &files, writer, events)?;
    Ok(())
}

fn docker_entries(plan: &Plan, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![entry(plan, None)];
    }
    let named = |name: &Reference| {
        let tag = name.tag().map(|tag| (REF_NAME.to_owned(), tag.to_owned()));
        let annotations = tag.into_iter().chain([(IMAGE_NAME.to_owned(), name.to_string())]).collect();
        annotated(plan.root.descriptor.clone(), &annotations)
    };
    names.iter().map(named).collect()
}

/// `manifest.json` of a Docker archive, over the same blobs.
fn docker_list(plan: &Plan, names: &[Reference]) -> Result<Vec<u8>, CopyError> {
    if let Some(digest) = plan.foreign.first() {
        return Err(CopyError::Foreign { digest: *digest });
    }
    let path = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest().digest());
    let mut list = Vec::new();
    for item in plan.documents() {
        let Document::Manifest(document) = &item.document else { continue };
        let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
        let layers: Vec<String> = document.layers().iter().map(path).collect();
        list.push(serde_json::json!({"Config": path(document.config()), "RepoTags": tags, "Layers": layers}));
    }
    let write = |source| ImageError::Write { what: "manifest.json", source };
    Ok(serde_json::to_vec(&list).map_err(write)?)
}

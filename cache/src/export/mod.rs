//! Images leaving the store as files: OCI layouts and Docker archives ([`archive`], [`layout`]), and root file systems
//! without their layers ([`rootfs`]).
//!
//! Layer blobs must be in the store; [`crate::registry::Client::ensure_blobs`] fetches those that are not.

pub mod archive;
pub mod layout;
pub mod paths;
pub mod rootfs;

use std::collections::BTreeMap;

use lap_solver::platform::Platform;
use oci_spec::image::Descriptor;

use crate::image::manifest::annotated;
use crate::image::{Artifact, ImageError, Reference};
use crate::names::{IMAGE_NAME, REF_NAME};

pub use archive::{docker_archive, oci_tar};
pub use layout::oci_dir;
pub use paths::{Paths, paths};
pub use rootfs::{file_digests, local_dir, local_dir_with, rootfs_tar, rootfs_tar_with};

/// An image to export, and what it is called there.
#[derive(Debug, Clone)]
pub struct Named {
    /// The image, or an index of several.
    pub content: Artifact,
    /// Its names; may be none.
    pub names: Vec<Reference>,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The destination cannot be written.
    #[error("write {what}")]
    Write {
        /// The file or stream.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A layer cannot be read, or the tree cannot be written.
    #[error(transparent)]
    Layer(#[from] crate::layer::LayerError),
    /// A call of the file system failed.
    #[error(transparent)]
    Fs(#[from] crate::fs::FsError),
    /// The store failed.
    #[error(transparent)]
    Content(#[from] crate::content::ContentError),
}

/// The version file of an OCI layout.
pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The entries of an export's `index.json`: one for each name, as BuildKit and Docker write them (the tag as OCI's
/// name, the whole name as containerd's).
fn index_entries(images: &[Named]) -> Vec<Descriptor> {
    let mut entries = Vec::new();
    for Named { content, names } in images {
        if names.is_empty() {
            entries.push(content.descriptor().clone());
        }
        for name in names {
            let own = content.descriptor().annotations().iter().flatten();
            let mut annotations: BTreeMap<String, String> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
            annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
            if let Some(tag) = name.tag() {
                annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            }
            entries.push(annotated(content.descriptor().clone(), &annotations));
        }
    }
    entries
}

/// `manifest.json` of a Docker archive: the images that run, one for each that is named. Names are written as people do.
fn docker_manifest(images: &[Named], platform: &Platform) -> Result<Vec<u8>, ImageError> {
    let blob = |digest: &crate::digest::Digest| format!("blobs/sha256/{}", digest.hex());
    let list: Vec<serde_json::Value> = images
        .iter()
        .filter_map(|Named { content, names }| {
            let images = content.runnable();
            let own = images.iter().find(|image| image.suits(platform)).or_else(|| images.first());
            own.map(|image| (*image, names))
        })
        .map(|(image, names)| {
            let tags: Vec<String> = names.iter().filter(|name| name.tag().is_some()).map(familiar_tag).collect();
            let layers: Vec<String> = image.layers.iter().map(|layer| blob(&layer.digest)).collect();
            serde_json::json!({"Config": blob(&image.id()), "RepoTags": tags, "Layers": layers})
        })
        .collect();
    serde_json::to_vec(&list).map_err(|source| ImageError::Write { what: "manifest.json", source })
}

fn familiar_tag(name: &Reference) -> String {
    name.without_digest().unwrap_or_else(|| name.clone()).familiar()
}

//! Artifacts that are no images: a document, and the blobs that it names, held together by a manifest or an index so
//! that nobody removes them while it is there.

use oci_spec::image::{Descriptor, MediaType};
use serde_json::Value;

use super::ImageError;
use super::manifest::{self, docker};

/// What holds an artifact together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArtifactForm {
    /// An image manifest, the document its config.
    #[default]
    Manifest,
    /// The same with Docker's media type, for registries that know no others.
    DockerManifest,
    /// An index that lists the blobs, the document last: BuildKit's older form, `image-manifest=false`.
    Index,
    /// The same with Docker's media type.
    DockerIndex,
}

impl ArtifactForm {
    /// The form that the options `oci-mediatypes` and `image-manifest` ask for.
    #[must_use]
    pub const fn new(oci_types: bool, image_manifest: bool) -> Self {
        match (oci_types, image_manifest) {
            (true, true) => Self::Manifest,
            (false, true) => Self::DockerManifest,
            (true, false) => Self::Index,
            (false, false) => Self::DockerIndex,
        }
    }

    /// The media type.
    #[must_use]
    pub fn media_type(self) -> String {
        match self {
            Self::Manifest => MediaType::ImageManifest.to_string(),
            Self::DockerManifest => docker::MANIFEST.to_owned(),
            Self::Index => MediaType::ImageIndex.to_string(),
            Self::DockerIndex => docker::INDEX.to_owned(),
        }
    }

    /// The bytes that hold `document` and `blobs` together.
    ///
    /// # Errors
    /// Never in practice: every part has a JSON form.
    pub fn write(self, document: &Descriptor, blobs: &[Descriptor]) -> Result<Vec<u8>, ImageError> {
        let write = |source| ImageError::Write { what: "manifest", source };
        let whole = serde_json::to_value(document).map_err(write)?;
        let mut bare = whole.clone();
        if let Value::Object(fields) = &mut bare {
            fields.remove("data");
        }
        let mut list = serde_json::to_value(blobs).map_err(write)?;
        let mut root = serde_json::json!({"schemaVersion": 2, "mediaType": self.media_type()});
        if let Value::Array(list) = &mut list {
            match self {
                // There are registries that refuse a manifest without layers.
                Self::Manifest | Self::DockerManifest if list.is_empty() => list.push(bare),
                Self::Manifest | Self::DockerManifest => {}
                Self::Index | Self::DockerIndex => list.push(whole.clone()),
            }
        }
        match self {
            Self::Manifest | Self::DockerManifest => {
                root["config"] = whole;
                root["layers"] = list;
            }
            Self::Index | Self::DockerIndex => root["manifests"] = list,
        }
        manifest::canonical_json(&root).map_err(write)
    }
}

/// The document of media type `kind` in the bytes of a manifest or an index; nothing where they are of something else.
#[must_use]
pub fn document_in(bytes: &[u8], kind: &str) -> Option<Descriptor> {
    let root: Value = serde_json::from_slice(bytes).ok()?;
    let listed = root["manifests"].as_array().into_iter().flatten();
    let mut candidates = std::iter::once(&root["config"]).chain(listed);
    let found = candidates.find(|candidate| candidate["mediaType"] == kind)?;
    serde_json::from_value(found.clone()).ok()
}

/// The descriptors that a manifest or an index names; nothing where the bytes are neither.
#[must_use]
pub fn named_by(bytes: &[u8]) -> Option<Vec<Descriptor>> {
    let root: Value = serde_json::from_slice(bytes).ok()?;
    let lists = ["layers", "manifests", "blobs"].iter().filter_map(|list| root[list].as_array()).flatten();
    let single = ["config", "subject"].iter().map(|field| &root[field]).filter(|value| !value.is_null());
    single.chain(lists).map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn every_form_holds_its_document_and_its_blobs() {
        let one = |kind: &str, text: &str| manifest::descriptor(kind, Digest::of(text.as_bytes()), 1).unwrap();
        let (document, layer) = (one("application/x.document", "d"), one("application/x.layer", "l"));
        for (form, media_type) in [
            (ArtifactForm::new(true, true), "application/vnd.oci.image.manifest.v1+json"),
            (ArtifactForm::new(false, true), "application/vnd.docker.distribution.manifest.v2+json"),
            (ArtifactForm::new(true, false), "application/vnd.oci.image.index.v1+json"),
            (ArtifactForm::new(false, false), "application/vnd.docker.distribution.manifest.list.v2+json"),
        ] {
            for blobs in [vec![], vec![layer.clone()]] {
                let bytes = form.write(&document, &blobs).unwrap();
                assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["mediaType"], media_type);
                assert_eq!(document_in(&bytes, "application/x.document"), Some(document.clone()), "{form:?}");
                assert!(document_in(&bytes, "application/x.layer").is_none_or(|found| found == layer));
                assert_eq!(document_in(&bytes, "application/x.other"), None);
                let named = named_by(&bytes).unwrap();
                assert!(named.contains(&document) && blobs.iter().all(|blob| named.contains(blob)));
            }
        }
        for broken in ["", "{", "[]", "{\"config\":1}", "{\"manifests\":[{\"mediaType\":\"application/x.document\"}]}"]
        {
            assert_eq!(document_in(broken.as_bytes(), "application/x.document"), None, "{broken}");
        }
        assert_eq!(named_by(b"{\"layers\":[{}]}"), None);
    }
}

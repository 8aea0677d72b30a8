//! Manifests and indexes: reading what a registry or an archive sent, and writing ours.
//!
//! A document is read once, from the very bytes whose digest was verified, and its kind must be beyond doubt: one
//! that is both manifest and index, or says another media type than it was announced with, is refused
//! (CVE-2021-41190). What we write has its keys in order of name, so equal images have equal bytes.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::Serialize;
use serde_json::Value;

use crate::digest::Digest;

/// Largest manifest or index that is read, in bytes (as in distribution).
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest image config that is read, in bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;

/// Docker's media types, which the OCI ones descend from.
pub mod docker {
    /// A manifest of schema 2.
    pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// An index.
    pub const INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// An image config.
    pub const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A gzipped layer.
    pub const LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// An uncompressed layer.
    pub const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// A manifest of schema 1, which nothing verifies.
    pub const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// A signed manifest of schema 1.
    pub const SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
}

/// What to ask a registry for, as an `Accept` header.
pub const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A document that a reference can stand for.
#[derive(Debug, Clone)]
pub enum Document {
    /// One image.
    Manifest(Box<ImageManifest>),
    /// A choice of images.
    Index(Box<ImageIndex>),
}

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or JSON of another shape.
    #[error("the manifest is malformed")]
    Malformed(#[source] serde_json::Error),
    /// Both `manifests` and `layers` or `config`.
    #[error("the document is both an image manifest and an index")]
    Ambiguous,
    /// Neither of them.
    #[error("the document is neither an image manifest nor an index (media type {0:?})")]
    Neither(String),
    /// Schema 1 has no config and no digests that could be checked.
    #[error("schema 1 manifests are not supported: push the image again with a current tool")]
    Schema1,
    /// The document says one media type, whoever sent it another.
    #[error("the document says media type {inside:?}, but was announced as {outside:?}")]
    Announced {
        /// `mediaType` of the document.
        inside: String,
        /// `Content-Type` or the descriptor's.
        outside: String,
    },
    /// A digest that is not sha256.
    #[error("digest {0:?} is not a sha256 one")]
    Digest(String),
}

impl Document {
    /// Reads a manifest or index whose bytes have been verified.
    ///
    /// `announced` is the media type of the descriptor or the `Content-Type` of the answer; types that say nothing
    /// (`application/json`, `text/plain`, `application/octet-stream`, none) are passed over.
    ///
    /// # Errors
    /// Where its kind is in doubt, its shape wrong, or it is of schema 1.
    pub fn read(bytes: &[u8], announced: Option<&str>) -> Result<Self, ManifestError> {
        let value: Value = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
        let inside = value.get("mediaType").and_then(Value::as_str).unwrap_or_default();
        let announced = announced.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let outside = match announced {
            "application/json" | "text/plain" | "application/octet-stream" => "",
            other => other,
        };
        let said = if inside.is_empty() { outside } else { inside };
        let schema1 = [docker::SCHEMA1, docker::SCHEMA1_SIGNED];
        if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) || schema1.contains(&said) {
            return Err(ManifestError::Schema1);
        }
        if !inside.is_empty() && !outside.is_empty() && inside != outside {
            return Err(ManifestError::Announced { inside: inside.to_owned(), outside: outside.to_owned() });
        }
        let has = |key: &str| value.get(key).is_some_and(|part| !part.is_null());
        match (has("manifests"), has("layers") || has("config")) {
            (true, true) => Err(ManifestError::Ambiguous),
            (true, false) if said.is_empty() || is_index(said) => {
                serde_json::from_value(value).map(Self::Index).map_err(ManifestError::Malformed)
            }
            (false, true) if said.is_empty() || is_manifest(said) => {
                serde_json::from_value(value).map(Self::Manifest).map_err(ManifestError::Malformed)
            }
            _ => Err(ManifestError::Neither(said.chars().take(100).collect())),
        }
    }
}

/// Whether the media type is an image manifest's.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    [MediaType::ImageManifest.as_ref(), docker::MANIFEST].contains(&media_type)
}

/// Whether the media type is an index's.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    [MediaType::ImageIndex.as_ref(), docker::INDEX].contains(&media_type)
}

/// Whether a layer of this media type may only be had from where its `urls` say.
#[must_use]
pub fn is_foreign(layer: &Descriptor) -> bool {
    let media_type = layer.media_type().as_ref();
    media_type.contains("nondistributable") || media_type.contains(".rootfs.foreign.")
}

/// The digest of a descriptor as our own type.
///
/// # Errors
/// Where it is of another algorithm.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest, ManifestError> {
    let text = descriptor.digest().as_ref();
    text.parse().map_err(|_| ManifestError::Digest(text.chars().take(100).collect()))
}

/// A descriptor of bytes that we made.
///
/// # Errors
/// Never in practice: our digests are well-formed ones of oci-spec too.
pub fn descriptor(media_type: &str, digest: Digest, size: u64) -> Result<Descriptor, ManifestError> {
    let text = digest.to_string();
    let digest: oci_spec::image::Digest = text.parse().map_err(|_| ManifestError::Digest(text))?;
    Ok(Descriptor::new(MediaType::from(media_type), size, digest))
}

/// The same descriptor with these annotations, or none.
#[must_use]
pub fn annotated(mut descriptor: Descriptor, annotations: &BTreeMap<String, String>) -> Descriptor {
    let map = annotations.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    descriptor.set_annotations((!annotations.is_empty()).then_some(map));
    descriptor
}

/// One annotation of a descriptor.
#[must_use]
pub fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.annotations().as_ref()?.get(key).map(String::as_str)
}

/// JSON with the keys of every object in order of name: hash maps inside must not leak into digests.
///
/// # Errors
/// Where the value has no JSON form.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    serde_json::to_vec(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    fn read(json: Value, announced: Option<&str>) -> Result<Document, ManifestError> {
        Document::read(json.to_string().as_bytes(), announced)
    }

    fn layer() -> Value {
        serde_json::json!({"mediaType": docker::LAYER_GZIP, "digest": DIGEST, "size": 1})
    }

    #[test]
    fn kinds_are_told_apart_without_doubt() {
        let manifest = serde_json::json!({"schemaVersion": 2, "config": layer(), "layers": [layer()]});
        assert!(matches!(read(manifest.clone(), None), Ok(Document::Manifest(_))));
        assert!(matches!(read(manifest.clone(), Some(docker::MANIFEST)), Ok(Document::Manifest(_))));
        assert!(matches!(read(manifest.clone(), Some("application/json; charset=utf-8")), Ok(Document::Manifest(_))));
        assert!(matches!(read(manifest.clone(), Some(docker::INDEX)), Err(ManifestError::Neither(_))));

        let mut named = manifest.clone();
        named["mediaType"] = docker::MANIFEST.into();
        let oci = MediaType::ImageManifest.to_string();
        assert!(matches!(read(named, Some(&oci)), Err(ManifestError::Announced { .. })));

        let mut both = manifest;
        both["manifests"] = serde_json::json!([]);
        assert!(matches!(read(both, None), Err(ManifestError::Ambiguous)));

        let index = serde_json::json!({"schemaVersion": 2, "manifests": [layer()]});
        assert!(matches!(read(index, None), Ok(Document::Index(_))));
        assert!(matches!(read(serde_json::json!({"schemaVersion": 1}), None), Err(ManifestError::Schema1)));
        assert!(matches!(read(serde_json::json!({}), None), Err(ManifestError::Neither(_))));
        assert!(matches!(read(serde_json::json!([]), None), Err(ManifestError::Neither(_))));
    }

    #[test]
    fn impossible_sizes_and_digests_are_refused() {
        for (key, value) in [
            ("size", Value::from(-1)),
            ("size", Value::from(1.5)),
            ("size", Value::Null),
            ("size", serde_json::from_str("99999999999999999999").unwrap()),
            ("digest", "sha256:../../etc/passwd".into()),
            ("digest", "".into()),
        ] {
            let mut bad = layer();
            bad[key] = value;
            let manifest = serde_json::json!({"schemaVersion": 2, "config": layer(), "layers": [bad]});
            assert!(matches!(read(manifest.clone(), None), Err(ManifestError::Malformed(_))), "{manifest}");
        }
        let odd = serde_json::json!({"mediaType": "x/y", "digest": "md5:d41d8cd98f00b204e9800998ecf8427e", "size": 1});
        if let Ok(odd) = serde_json::from_value(odd) {
            assert!(matches!(digest_of(&odd), Err(ManifestError::Digest(_))));
        }
    }

    #[test]
    fn what_is_written_is_in_order_of_name() {
        let mut annotations = BTreeMap::new();
        for key in ["z", "a", "m", "b", "y", "c"] {
            annotations.insert(key.to_owned(), String::new());
        }
        let one = annotated(descriptor("x/y", Digest::of(b""), 0).unwrap(), &annotations);
        let text = String::from_utf8(canonical_json(&one).unwrap()).unwrap();
        assert!(text.starts_with(r#"{"annotations":{"a":"","b":"","c":"","m":"","y":"","z":""},"digest""#), "{text}");
    }
}

//! What refers to a manifest (OCI 1.1, `subject`): found in the store, and listed in registries that do not list it
//! themselves, in an index under the tag `sha256-<hex of the subject>` (distribution spec, "Referrers Tag Schema").

use std::collections::BTreeSet;
use std::sync::Arc;

use oci_spec::image::{Descriptor, MediaType};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::transport::{Call, read_limited, shown};
use super::upload::Place;
use super::{Client, RegistryError};
use crate::digest::Digest;
use crate::image::manifest::{MANIFEST_LIMIT, canonical_json};
use crate::image::{Artifact, Image, ImageError};
use crate::store::Store;

/// A manifest that speaks of another one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Referrer {
    subject: Digest,
    /// Its descriptor with type and annotations, as lists of referrers have it.
    entry: Value,
}

impl Referrer {
    /// Of a manifest that has a subject.
    pub(super) fn of(descriptor: &Descriptor, raw: &[u8]) -> Option<Self> {
        let manifest: Value = serde_json::from_slice(raw).ok()?;
        let subject = manifest["subject"]["digest"].as_str()?.parse().ok()?;
        // Of an image that is none by its own word, the config tells what it is.
        let kind = manifest["artifactType"].as_str().or_else(|| manifest["config"]["mediaType"].as_str())?;
        let mut entry = json!({
            "mediaType": descriptor.media_type().to_string(),
            "digest": Digest::of(raw).to_string(),
            "size": raw.len(),
            "artifactType": kind,
        });
        if let Some(annotations) = manifest["annotations"].as_object().filter(|found| !found.is_empty()) {
            entry["annotations"] = annotations.clone().into();
        }
        Some(Self { subject, entry })
    }
}

impl Client {
    /// Adds a referrer to the list in the repository, which is made where there is none.
    pub(super) async fn list_referrer(&self, place: &Place<'_>, referrer: &Referrer) -> Result<(), RegistryError> {
        let tag = format!("sha256-{}", referrer.subject.hex());
        let url = place.endpoint.url(place.repository, &format!("manifests/{tag}"))?;
        let call = Call::new(Method::GET, url.clone()).header(ACCEPT, MediaType::ImageIndex.to_string());
        let response = self.transport.send(place.endpoint, &place.scope, &call).await?;
        let mut entries = match response.status() {
            StatusCode::OK => {
                let found: Value =
                    serde_json::from_slice(&read_limited(response, MANIFEST_LIMIT).await?).unwrap_or_default();
                match found["manifests"].as_array() {
                    Some(entries) => entries.clone(),
                    None => return Err(RegistryError::NoReferrers { url: shown(&url) }),
                }
            }
            StatusCode::NOT_FOUND => Vec::new(),
            _ => return Err(self.transport.refusal(place.endpoint, &place.scope, &call, response).await),
        };
        if entries.iter().any(|entry| entry["digest"] == referrer.entry["digest"]) {
            return Ok(());
        }
        entries.push(referrer.entry.clone());
        let media_type = MediaType::ImageIndex.to_string();
        let document = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        let write = |source| RegistryError::Image(ImageError::Write { what: "list of referrers", source });
        let raw = Arc::new(canonical_json(&document).map_err(write)?);
        let call = Call::new(Method::PUT, url)
            .header(CONTENT_TYPE, media_type)
            .body(Arc::new(move |_| Ok(reqwest::Body::from(raw.as_ref().clone()))));
        self.transport.expect(place.endpoint, &place.scope, &call).await.map(drop)
    }
}

impl Store {
    /// What the store keeps, with or without a name, that speaks of something in `artifact` and is not part of it.
    pub(super) fn referrers(&self, artifact: &Artifact) -> Result<Vec<Image>, ImageError> {
        let mut known: BTreeSet<Digest> = artifact.images().into_iter().map(Image::digest).collect();
        known.insert(artifact.digest());
        let mut seen = known.clone();
        let mut found = Vec::new();
        for entry in self.names()?.into_iter().filter(|entry| seen.insert(entry.digest)) {
            // What cannot be read speaks of nothing.
            let Ok(raw) = self.content().read(&entry.digest, MANIFEST_LIMIT) else { continue };
            if Referrer::of(&entry.descriptor, &raw).is_some_and(|referrer| known.contains(&referrer.subject)) {
                found.push(self.image(&entry.digest)?);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest;

    #[test]
    fn a_manifest_with_a_subject_is_a_referrer() {
        let subject = Digest::of(b"image");
        let about = |extra: Value| {
            let mut document = json!({
                "schemaVersion": 2,
                "config": {"mediaType": "application/vnd.example.config"},
                "subject": {"mediaType": "x", "digest": subject.to_string(), "size": 5},
            });
            document.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let raw = document.to_string().into_bytes();
            let media_type = MediaType::ImageManifest.to_string();
            let descriptor = manifest::descriptor(&media_type, Digest::of(&raw), raw.len() as u64).unwrap();
            Referrer::of(&descriptor, &raw)
        };
        let typed = about(json!({"artifactType": "a/b", "annotations": {"k": "v"}})).unwrap();
        assert_eq!((typed.subject, &typed.entry["artifactType"]), (subject, &json!("a/b")));
        assert_eq!(typed.entry["annotations"], json!({"k": "v"}));
        assert_eq!(about(json!({})).unwrap().entry["artifactType"], "application/vnd.example.config");
        for nothing in [json!({"subject": null}), json!({"subject": {"digest": "sha512:00"}}), json!({"subject": []})] {
            assert_eq!(about(nothing), None);
        }
    }
}

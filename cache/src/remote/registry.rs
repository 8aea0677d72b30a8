//! A cache in a registry: an OCI artifact for each document, under tags of one repository.
//!
//! The document is the artifact's config (and, where it is small, also stands in the descriptor, so that one request
//! reads it); the layers that it names are the artifact's layers, so that no registry removes them while it has the
//! artifact. Reading also takes an image that carries its document in its own config: an inline cache.

use std::sync::OnceLock;

use lap_solver::event::Events;
use lap_solver::platform::Platform;
use oci_spec::image::Descriptor;

use super::{Answer, Backend, DOCUMENT_LIMIT, Document, FORMAT, MEDIA_TYPE, Name, RemoteError};
use crate::digest::Digest;
use crate::image::Reference;
use crate::image::artifact::ArtifactForm;
use crate::image::blobs::{KnownBlob, Origin};
use crate::registry::{Client, Found, NewArtifact};
use crate::store::Store;

/// The field of an image config that holds the document of an inline cache.
pub const INLINE_FIELD: &str = "dev.lapstrake.cache.v1";
/// A tag has at most 128 characters, of which those that name a document need 68.
const TAG: usize = 58;

/// A reference in a registry.
#[derive(Debug)]
pub struct RegistryCache {
    label: String,
    client: Client,
    reference: Reference,
    /// What an inline cache is looked for: images of these platforms.
    platforms: Vec<Platform>,
    store: Store,
    form: ArtifactForm,
    /// Set where the reference turns out to be an image: that has one document only.
    inline: OnceLock<bool>,
}

impl RegistryCache {
    /// The cache that `reference` names; what is written to it has that `form`.
    #[must_use]
    pub fn new(
        client: Client,
        reference: Reference,
        platforms: Vec<Platform>,
        store: Store,
        form: ArtifactForm,
    ) -> Self {
        let label = format!("registry cache {}", reference.familiar());
        Self { label, client, reference, platforms, store, form, inline: OnceLock::new() }
    }

    /// The tag of a document.
    fn tag(&self, name: Name) -> String {
        let base = self.reference.tag_or_digest();
        let short = match base.get(..TAG) {
            Some(_) if base.len() > TAG => {
                format!("{}-{}", &base[..TAG - 17], &Digest::of(base.as_bytes()).hex()[..16])
            }
            _ => base.clone(),
        };
        match name {
            Name::Latest => base,
            Name::Definition(key) => format!("{short}.{FORMAT}d.{key}"),
            Name::Step(key) => format!("{short}.{FORMAT}k.{key}"),
            Name::Mount(key) => format!("{short}.{FORMAT}m.{key}"),
        }
    }

    async fn read(&self, name: Name) -> Result<Option<Document>, RemoteError> {
        if name != Name::Latest && (self.reference.digest().is_some() || self.inline.get() == Some(&true)) {
            return Ok(None);
        }
        let tag = self.tag(name);
        let found = self.client.artifact(&self.reference, &tag, MEDIA_TYPE, DOCUMENT_LIMIT).await?;
        if name == Name::Latest {
            self.inline.get_or_init(|| matches!(found, Found::Other));
        }
        match found {
            Found::Artifact(bytes) => Ok(Document::read(&bytes)),
            Found::Other if name == Name::Latest => self.read_inline().await,
            Found::Other | Found::Nothing => Ok(None),
        }
    }

    /// The documents in the configs of the image, of all platforms together.
    async fn read_inline(&self) -> Result<Option<Document>, RemoteError> {
        let (mut entries, mut selections) = (Vec::new(), Vec::new());
        for platform in &self.platforms {
            let resolved = self.client.resolve(&self.reference, platform, &self.store, &Events::none()).await;
            let Ok(remote) = resolved else { continue };
            let field = remote.image.config.other.get(INLINE_FIELD).cloned();
            let document = field.and_then(|value| serde_json::from_value::<Document>(value).ok());
            let Some(mut document) = document.and_then(Document::checked) else { continue };
            for claim in document.entries.iter_mut().filter_map(|entry| entry.layer.as_mut()) {
                // The image has what it has: its manifest says as what.
                let layer = remote.image.layers.iter().find(|layer| layer.diff_id == claim.diff_id);
                claim.blob = layer.map(|layer| layer.descriptor.clone());
            }
            entries.append(&mut document.entries);
            selections.append(&mut document.selections);
        }
        Ok((!entries.is_empty()).then(|| Document::new(entries, selections)).and_then(Document::checked))
    }

    fn origin(&self) -> Origin {
        Origin { registry: self.reference.registry().to_owned(), repository: self.reference.repository().to_owned() }
    }
}

impl Backend for RegistryCache {
    fn label(&self) -> &str {
        &self.label
    }

    fn document(&self, name: Name) -> Answer<'_, Option<Document>> {
        Box::pin(self.read(name))
    }

    fn put_document<'a>(&'a self, name: Name, document: &'a Document) -> Answer<'a, ()> {
        Box::pin(async move {
            let artifact = NewArtifact {
                config_type: MEDIA_TYPE,
                config: document.to_bytes().map_err(RemoteError::Write)?,
                layers: document.blobs(),
                form: self.form,
            };
            Ok(self.client.put_artifact(&self.reference, &self.tag(name), &artifact, &self.store).await?)
        })
    }

    fn fetch<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.client.fetch_blob(blob, &self.origin(), store).await?) })
    }

    fn send<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.client.send_blob(&self.reference, blob, store).await?) })
    }

    fn origin_of(&self, blob: &Descriptor) -> KnownBlob {
        KnownBlob { origins: [self.origin()].into(), ..KnownBlob::of(blob.clone()) }
    }
}

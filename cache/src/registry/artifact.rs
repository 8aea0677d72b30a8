//! Artifacts that are no images: a document as config, blobs as layers, under a tag.

use std::sync::Arc;

use lap_solver::event::{Action, Events};
use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode, Url};

use super::auth::encode_base64;
use super::credentials::decode_base64;
use super::download::{Sink, Wanted};
use super::transport::{Call, Scope, read_limited};
use super::upload::{Bytes, Offer, Parcel, Place};
use super::{Client, Progress, RegistryError};
use crate::content::Ingest;
use crate::digest::Digest;
use crate::image::artifact::{ArtifactForm, document_in};
use crate::image::blobs::Origin;
use crate::image::manifest::{self, MANIFEST_LIMIT};
use crate::image::{ImageError, Reference};
use crate::store::Store;

/// A config of at most this many bytes also stands in the manifest (OCI image spec, descriptor, `data`).
const EMBEDDED: usize = 1 << 20;

/// What stands under a tag.
#[derive(Debug)]
pub(crate) enum Found {
    /// No such tag.
    Nothing,
    /// The config of an artifact of the kind that was asked for.
    Artifact(Vec<u8>),
    /// Something else.
    Other,
}

/// An artifact to be sent; its layers are in the repository.
#[derive(Debug)]
pub(crate) struct NewArtifact<'a> {
    pub(crate) config_type: &'a str,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) form: ArtifactForm,
}

impl Client {
    /// The artifact under `tag` in the repository of `reference`, if its config is of `config_type`.
    pub(crate) async fn artifact(
        &self,
        reference: &Reference,
        tag: &str,
        config_type: &str,
        limit: u64,
    ) -> Result<Found, RegistryError> {
        let endpoint = self.transport.upstream(reference.registry()).await?;
        let scope = Scope::pull(reference.repository());
        let url = endpoint.url(reference.repository(), &format!("manifests/{tag}"))?;
        let call = Call::new(Method::GET, url).header(ACCEPT, manifest::ACCEPT);
        let response = self.transport.send(&endpoint, &scope, &call).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Found::Nothing),
            _ => return Err(self.transport.refusal(&endpoint, &scope, &call, response).await),
        }
        let bytes = read_limited(response, MANIFEST_LIMIT).await?;
        let Some(config) = document_in(&bytes, config_type) else { return Ok(Found::Other) };
        let Ok(digest) = manifest::digest_of(&config) else { return Ok(Found::Other) };
        let embedded = config.data().as_deref().and_then(decode_base64);
        if let Some(data) = embedded.filter(|data| Digest::of(data) == digest) {
            return Ok(Found::Artifact(data));
        }
        if config.size() > limit {
            return Ok(Found::Other);
        }
        let call = Call::new(Method::GET, endpoint.url(reference.repository(), &format!("blobs/{digest}"))?);
        let response = self.transport.expect(&endpoint, &scope, &call).await?;
        let data = read_limited(response, limit).await?;
        Ok(if Digest::of(&data) == digest { Found::Artifact(data) } else { Found::Other })
    }

    /// Puts an artifact under `tag` in the repository of `reference`.
    pub(crate) async fn put_artifact(
        &self,
        reference: &Reference,
        tag: &str,
        artifact: &NewArtifact<'_>,
        store: &Store,
    ) -> Result<(), RegistryError> {
        let digest = store.content().put(&artifact.config)?;
        let size = artifact.config.len() as u64;
        let described = |error| RegistryError::Image(ImageError::from(error));
        let plain = manifest::descriptor(artifact.config_type, digest, size).map_err(described)?;
        self.send_blob(reference, &plain, store).await?;
        let embedded = (artifact.config.len() <= EMBEDDED).then(|| encode_base64(&artifact.config));
        let mut document = plain;
        document.set_data(embedded);
        let (form, media_type) = (artifact.form, artifact.form.media_type());
        let raw = Arc::new(form.write(&document, &artifact.layers)?);
        let endpoint = self.transport.upstream(reference.registry()).await?;
        let scope = Scope::push(reference.repository());
        let call = Call::new(Method::PUT, endpoint.url(reference.repository(), &format!("manifests/{tag}"))?)
            .header(CONTENT_TYPE, media_type)
            .body(Arc::new(move |_| Ok(reqwest::Body::from(raw.as_ref().clone()))));
        self.transport.expect(&endpoint, &scope, &call).await.map(drop)
    }

    /// Asks a server that is no registry, again where that may help.
    pub(crate) async fn ask(
        &self,
        url: &Url,
        request: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<Response, RegistryError> {
        self.transport.send_to_realm(request, url).await
    }

    /// The bytes of a blob in the store as the body of a request.
    pub(crate) fn blob_body(&self, store: &Store, digest: Digest, size: u64) -> Result<reqwest::Body, RegistryError> {
        let parcel = Parcel { digest, size, mount_from: Vec::new() };
        super::upload::body(&Bytes::Stored(store.clone()), &parcel, 0..size, &Events::none())(&Arc::default())
    }

    /// Brings a blob into the store; nothing is unpacked.
    pub(crate) async fn fetch_blob(
        &self,
        blob: &Descriptor,
        origin: &Origin,
        store: &Store,
    ) -> Result<(), RegistryError> {
        let digest = manifest::digest_of(blob).map_err(ImageError::from)?;
        let wanted = Wanted { digest, size: blob.size(), origins: vec![origin.clone()] };
        let mut progress = Progress::new(&digest, Action::Download, wanted.size, &Events::none());
        let mut sink = IntoStore { blob: Some(store.content().ingest(Some((digest, wanted.size)))?), failed: None };
        self.download(&wanted, 0, &mut sink, &mut progress).await?;
        if let Some(source) = sink.failed {
            return Err(RegistryError::StoreBlob { digest, source });
        }
        if let Some(blob) = sink.blob.take() {
            tokio::task::spawn_blocking(move || blob.commit()).await.map_err(|_| RegistryError::Cancelled)??;
        }
        progress.done();
        Ok(())
    }

    /// Sends a blob that is in the store to the repository of `reference`, unless it is there.
    pub(crate) async fn send_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        store: &Store,
    ) -> Result<(), RegistryError> {
        let digest = manifest::digest_of(blob).map_err(ImageError::from)?;
        let endpoint = self.transport.upstream(reference.registry()).await?;
        let parcel = Parcel { digest, size: blob.size(), mount_from: Vec::new() };
        let events = Events::none();
        let place = Place::new(&endpoint, reference.repository(), &events);
        match self.offer(&place, &parcel).await? {
            Offer::Taken => Ok(()),
            Offer::Wanted(session) => self.upload(&place, &parcel, session, &Bytes::Stored(store.clone())).await,
        }
    }
}

struct IntoStore {
    blob: Option<Ingest>,
    failed: Option<std::io::Error>,
}

impl Sink for IntoStore {
    type Gone = ();

    async fn take(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let Some(blob) = &mut self.blob else { return Err(()) };
        std::io::Write::write_all(blob, bytes).map_err(|error| self.failed = Some(error))
    }
}

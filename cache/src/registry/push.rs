//! Sending an image: blobs side by side, then the manifest, so that a tag never stands for what is not there.

use std::collections::BTreeSet;
use std::sync::Arc;

use lap_solver::event::Events;
use oci_spec::image::Descriptor;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::resolve::content_digest;
use super::transport::{Call, Endpoint, Scope, shown};
use super::upload::{Offer, Parcel, stored};
use super::{Client, RegistryError};
use crate::digest::Digest;
use crate::image::blobs::Origin;
use crate::image::index::{Entry, Role};
use crate::image::{Artifact, Image, Reference, manifest};
use crate::store::Store;

impl Client {
    /// Sends an image under a tag (or, where the reference has a digest only, under its own digest) and returns the
    /// digest of its manifest. Layers whose blobs are elsewhere are mounted, or fetched from there.
    ///
    /// # Errors
    /// Where the registry refuses, or a blob cannot be had.
    pub async fn push(
        &self,
        store: &Store,
        image: &Image,
        reference: &Reference,
        events: &Events,
    ) -> Result<Digest, RegistryError> {
        let (endpoint, repository) = self.transport.home(reference.registry(), reference.repository()).await?;
        let name = reference.tag().map_or_else(|| image.digest().to_string(), str::to_owned);
        self.push_image(&endpoint, store, image, &repository, &name, events).await?;
        let origin =
            Origin { registry: reference.registry().to_owned(), repository: reference.repository().to_owned() };
        store.remember_origin(image, &origin)?;
        Ok(image.digest())
    }

    /// As [`Self::push`], for whatever a name stands for. The images of an index go first, each under its digest.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub async fn push_artifact(
        &self,
        store: &Store,
        artifact: &Artifact,
        reference: &Reference,
        events: &Events,
    ) -> Result<Digest, RegistryError> {
        let index = match artifact {
            Artifact::Image(image) => return self.push(store, image, reference, events).await,
            Artifact::Index(index) => index,
        };
        let (endpoint, repository) = self.transport.home(reference.registry(), reference.repository()).await?;
        let repository = repository.as_str();
        let origin =
            Origin { registry: reference.registry().to_owned(), repository: reference.repository().to_owned() };
        for Entry { image, role } in &index.entries {
            self.push_image(&endpoint, store, image, repository, &image.digest().to_string(), events).await?;
            // Statements are no layers.
            if *role == Role::Runnable {
                store.remember_origin(image, &origin)?;
            }
        }
        let name = reference.tag().map_or_else(|| index.digest().to_string(), str::to_owned);
        self.put_manifest(&endpoint, repository, &name, &index.descriptor, &index.raw, index.digest()).await?;
        Ok(index.digest())
    }

    async fn push_image(
        &self,
        endpoint: &Endpoint,
        store: &Store,
        image: &Image,
        repository: &str,
        name: &str,
        events: &Events,
    ) -> Result<(), RegistryError> {
        let put =
            || self.put_manifest(endpoint, repository, name, &image.descriptor, &image.raw_manifest, image.digest());
        self.push_blobs(endpoint, repository, store, image, Trusting::Head, events).await?;
        match put().await {
            // A registry whose HEAD has lied.
            Err(error) if lacks_blob(&error) => {
                self.push_blobs(endpoint, repository, store, image, Trusting::Nothing, events).await?;
                put().await
            }
            result => result,
        }
    }

    async fn push_blobs(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        store: &Store,
        image: &Image,
        trusting: Trusting,
        events: &Events,
    ) -> Result<(), RegistryError> {
        let permits = Arc::new(Semaphore::new(self.transport.config.parallel.max(1)));
        let mut tasks = JoinSet::new();
        for parcel in parcels(&endpoint.registry, repository, store, image)? {
            let (client, endpoint, repository) = (self.clone(), endpoint.clone(), repository.to_owned());
            let (store, image, events, permits) = (store.clone(), image.clone(), events.clone(), Arc::clone(&permits));
            tasks.spawn(async move {
                // Never closed.
                let _permit = permits.acquire_owned().await;
                client.push_blob(&endpoint, &repository, &parcel, &store, &image, trusting, &events).await
            });
        }
        while let Some(joined) = tasks.join_next().await {
            joined.map_err(|_| RegistryError::Cancelled)??;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the ends of a transfer and what is transferred")]
    async fn push_blob(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        parcel: &Parcel,
        store: &Store,
        image: &Image,
        trusting: Trusting,
        events: &Events,
    ) -> Result<(), RegistryError> {
        let session = match trusting {
            Trusting::Nothing => None,
            Trusting::Head => match self.offer(endpoint, repository, parcel, events).await? {
                Offer::Taken => return Ok(()),
                Offer::Wanted(session) => session,
            },
        };
        if store.content().has(&parcel.digest)?.is_none() {
            let mut only = image.clone();
            only.layers.retain(|layer| layer.digest == parcel.digest);
            self.ensure_blobs(&only, store, events).await?;
        }
        self.upload(endpoint, repository, parcel, session, &stored(store, parcel.digest), events).await
    }

    pub(super) async fn put_manifest(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        name: &str,
        descriptor: &Descriptor,
        raw: &[u8],
        digest: Digest,
    ) -> Result<(), RegistryError> {
        let scope = Scope::push(repository);
        let bytes = Arc::new(raw.to_vec());
        let call = Call::new(Method::PUT, endpoint.url(repository, &format!("manifests/{name}"))?)
            .header(CONTENT_TYPE, descriptor.media_type().to_string())
            .body(Arc::new(move || Ok(reqwest::Body::from(bytes.as_ref().clone()))));
        let response = self.transport.expect(endpoint, &scope, &call).await?;
        match content_digest(&response) {
            Some(theirs) if theirs != digest => {
                Err(RegistryError::PushedOther { url: shown(response.url()), ours: digest, theirs: theirs.to_string() })
            }
            _ => Ok(()),
        }
    }
}

/// What is believed of the other side before a blob is sent.
#[derive(Debug, Clone, Copy)]
enum Trusting {
    /// That it has what it says it has.
    Head,
    /// Nothing: everything is sent.
    Nothing,
}

/// Config and layers, each blob once. Layers that registries may not distribute stay where they are.
fn parcels(registry: &str, repository: &str, store: &Store, image: &Image) -> Result<Vec<Parcel>, RegistryError> {
    let mut parcels = Vec::new();
    let mut seen = BTreeSet::new();
    for layer in &image.layers {
        if manifest::is_foreign(&layer.descriptor) || !seen.insert(layer.digest) {
            continue;
        }
        let known = store.layer_blobs(&layer.diff_id)?;
        let same = known.into_iter().filter(|blob| blob.descriptor.digest() == layer.descriptor.digest());
        let mount_from = same
            .flat_map(|blob| blob.origins)
            .filter(|origin| origin.registry == registry && origin.repository != repository)
            .map(|origin| origin.repository)
            .take(3)
            .collect();
        parcels.push(Parcel { digest: layer.digest, size: layer.descriptor.size(), mount_from });
    }
    if seen.insert(image.id()) {
        parcels.push(Parcel { digest: image.id(), size: image.raw_config.len() as u64, mount_from: Vec::new() });
    }
    Ok(parcels)
}

/// Whether a manifest was refused because a blob of it is missing.
pub(crate) fn lacks_blob(error: &RegistryError) -> bool {
    match error {
        RegistryError::Status { status, message, .. } => {
            let status = StatusCode::from_u16(*status).unwrap_or_default();
            matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) && message.contains("BLOB_UNKNOWN")
        }
        _ => false,
    }
}

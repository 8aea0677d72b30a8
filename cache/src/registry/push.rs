//! Sending an image: blobs side by side, then the manifest, so that a tag never stands for what is not there. Where the
//! registry has that very manifest under that name already, one request tells.

use std::collections::BTreeSet;
use std::sync::Arc;

use lap_solver::event::{Action, Events};
use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::referrers::Referrer;
use super::resolve::content_digest;
use super::transport::{Call, shown};
use super::upload::{Bytes, Offer, Parcel, Place};
use super::{Client, Progress, RegistryError};
use crate::digest::Digest;
use crate::image::blobs::Origin;
use crate::image::index::Entry;
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
        self.push_artifact(store, &Artifact::from(image.clone()), reference, events).await
    }

    /// As [`Self::push`], for whatever a name stands for. The images of an index go first, each under its digest; what
    /// the store has that speaks of any of it (OCI 1.1, referrers) goes last.
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
        let (endpoint, repository) = self.transport.home(reference.registry(), reference.repository()).await?;
        let place = Place::new(&endpoint, &repository, events);
        let name = reference.tag().map_or_else(|| artifact.digest().to_string(), str::to_owned);
        match artifact {
            Artifact::Image(image) => self.push_image(&place, store, image, &name).await?,
            Artifact::Index(index) if self.has_manifest(&place, &name, index.digest()).await => {
                for Entry { image, .. } in &index.entries {
                    self.tell_of(&place, store, image)?;
                }
            }
            Artifact::Index(index) => {
                for Entry { image, .. } in &index.entries {
                    self.push_image(&place, store, image, &image.digest().to_string()).await?;
                }
                self.put_manifest(&place, &name, &index.descriptor, &index.raw, index.digest()).await?;
            }
        }
        let origin =
            Origin { registry: reference.registry().to_owned(), repository: reference.repository().to_owned() };
        // Statements are no layers.
        for image in artifact.runnable() {
            store.remember_origin(image, &origin)?;
        }
        for referrer in store.referrers(artifact)? {
            self.push_image(&place, store, &referrer, &referrer.digest().to_string()).await?;
        }
        Ok(artifact.digest())
    }

    async fn push_image(
        &self,
        place: &Place<'_>,
        store: &Store,
        image: &Image,
        name: &str,
    ) -> Result<(), RegistryError> {
        if self.has_manifest(place, name, image.digest()).await {
            return self.tell_of(place, store, image);
        }
        let put = || self.put_manifest(place, name, &image.descriptor, &image.raw_manifest, image.digest());
        self.push_blobs(place, store, image, Trusting::Head).await?;
        match put().await {
            // A registry whose HEAD has lied.
            Err(error) if lacks_blob(&error) => {
                self.push_blobs(place, store, image, Trusting::Nothing).await?;
                put().await
            }
            result => result,
        }
    }

    /// Whether the registry says that a name stands for a manifest already. Whatever else it says means no.
    async fn has_manifest(&self, place: &Place<'_>, name: &str, digest: Digest) -> bool {
        let Ok(url) = place.endpoint.url(place.repository, &format!("manifests/{name}")) else { return false };
        let call = Call::new(Method::HEAD, url).header(ACCEPT, manifest::ACCEPT).once();
        let response = self.transport.send(place.endpoint, &place.scope, &call).await;
        response.is_ok_and(|response| response.status() == StatusCode::OK && content_digest(&response) == Some(digest))
    }

    /// Says of each blob of an image that it is there.
    fn tell_of(&self, place: &Place<'_>, store: &Store, image: &Image) -> Result<(), RegistryError> {
        for parcel in parcels(place, store, image)? {
            Progress::ended(&parcel.digest, Action::Exists, parcel.size, place.events);
        }
        Ok(())
    }

    async fn push_blobs(
        &self,
        place: &Place<'_>,
        store: &Store,
        image: &Image,
        trusting: Trusting,
    ) -> Result<(), RegistryError> {
        let permits = Arc::new(Semaphore::new(self.transport.config.parallel.max(1)));
        let mut tasks = JoinSet::new();
        for parcel in parcels(place, store, image)? {
            let (client, endpoint, repository) = (self.clone(), place.endpoint.clone(), place.repository.to_owned());
            let (store, image, events, permits) =
                (store.clone(), image.clone(), place.events.clone(), Arc::clone(&permits));
            tasks.spawn(async move {
                // Never closed.
                let _permit = permits.acquire_owned().await;
                let place = Place::new(&endpoint, &repository, &events);
                client.push_blob(&place, &parcel, &store, &image, trusting).await
            });
        }
        while let Some(joined) = tasks.join_next().await {
            joined.map_err(|_| RegistryError::Cancelled)??;
        }
        Ok(())
    }

    async fn push_blob(
        &self,
        place: &Place<'_>,
        parcel: &Parcel,
        store: &Store,
        image: &Image,
        trusting: Trusting,
    ) -> Result<(), RegistryError> {
        let session = match trusting {
            Trusting::Nothing => None,
            Trusting::Head => match self.offer(place, parcel).await? {
                Offer::Taken => return Ok(()),
                Offer::Wanted(session) => session,
            },
        };
        if store.content().has(&parcel.digest)?.is_none() {
            let mut only = image.clone();
            only.layers.retain(|layer| layer.digest == parcel.digest);
            self.ensure_blobs(&only, store, place.events).await?;
        }
        self.upload(place, parcel, session, &Bytes::Stored(store.clone())).await
    }

    pub(super) async fn put_manifest(
        &self,
        place: &Place<'_>,
        name: &str,
        descriptor: &Descriptor,
        raw: &[u8],
        digest: Digest,
    ) -> Result<(), RegistryError> {
        let bytes = Arc::new(raw.to_vec());
        let call = Call::new(Method::PUT, place.endpoint.url(place.repository, &format!("manifests/{name}"))?)
            .header(CONTENT_TYPE, descriptor.media_type().to_string())
            .body(Arc::new(move |_| Ok(reqwest::Body::from(bytes.as_ref().clone()))));
        let response = self.transport.expect(place.endpoint, &place.scope, &call).await?;
        if let Some(theirs) = content_digest(&response)
            && theirs != digest
        {
            let (url, theirs) = (shown(response.url()), theirs.to_string());
            return Err(RegistryError::PushedOther { url, ours: digest, theirs });
        }
        match Referrer::of(descriptor, raw) {
            // The registry says that it lists what refers to a manifest.
            Some(_) if response.headers().contains_key("oci-subject") => Ok(()),
            Some(referrer) => self.list_referrer(place, &referrer).await,
            None => Ok(()),
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
fn parcels(place: &Place<'_>, store: &Store, image: &Image) -> Result<Vec<Parcel>, RegistryError> {
    let (registry, repository) = (&place.endpoint.registry, place.repository);
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
            .filter(|origin| origin.registry == *registry && origin.repository != repository)
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

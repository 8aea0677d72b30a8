//! Documents and blobs on their way through, for copies: nothing is kept here, whoever reads them checks them.

use std::sync::Arc;

use lap_solver::event::{Action, Events};
use oci_spec::image::Descriptor;
use tokio::sync::mpsc;

use super::download::{Sink, Wanted};
use super::upload::{Bytes, Offer, OpenBlob, Parcel, Place};
use super::{Client, Progress, RegistryError};
use crate::digest::Digest;
use crate::image::blobs::Origin;
use crate::image::manifest::{self, MANIFEST_LIMIT};
use crate::image::{ImageError, Reference};

/// Bytes of a blob, or why there are no more.
pub(crate) type Chunk = Result<Vec<u8>, RegistryError>;

/// A blob for a repository, and where its bytes come from.
pub(crate) struct Relayed<'a> {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Other repositories of the same registry that may have it.
    pub(crate) mount_from: Vec<String>,
    /// Whether the registry is believed that it has the blob.
    pub(crate) is_offered: bool,
    pub(crate) open: &'a OpenBlob,
}

impl Client {
    /// The bytes of what a reference stands for, or of a document below it, with the media type that was announced.
    pub(crate) async fn raw_manifest(
        &self,
        reference: &Reference,
        below: Option<&Descriptor>,
    ) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let (path, expected) = match below {
            Some(descriptor) => {
                let digest = manifest::digest_of(descriptor).map_err(ImageError::from)?;
                (format!("manifests/{digest}"), Some((digest, Some(descriptor.size()))))
            }
            None => {
                let expected = reference.digest().map(|digest| (digest, None));
                (format!("manifests/{}", reference.tag_or_digest()), expected)
            }
        };
        let fetched = self.document(reference, &path, expected, MANIFEST_LIMIT).await?;
        Ok((fetched.bytes, fetched.media_type))
    }

    /// Streams a blob of a repository into a queue.
    pub(crate) async fn stream_blob(
        &self,
        reference: &Reference,
        (digest, size): (Digest, u64),
        queue: mpsc::Sender<Chunk>,
        events: &Events,
    ) {
        let origin =
            Origin { registry: reference.registry().to_owned(), repository: reference.repository().to_owned() };
        let mut progress = Progress::new(&digest, Action::Download, size, events);
        let mut sink = Passing(queue);
        match self.download(&Wanted { digest, size, origins: vec![origin] }, 0, &mut sink, &mut progress).await {
            Ok(()) => progress.done(),
            // Nobody to tell where the reader has gone.
            Err(error) => drop(sink.0.send(Err(error)).await),
        }
    }

    /// Sends a blob to the repository of `reference`, unless it is there or can be mounted.
    pub(crate) async fn relay_blob(
        &self,
        reference: &Reference,
        blob: Relayed<'_>,
        events: &Events,
    ) -> Result<(), RegistryError> {
        let (endpoint, repository) = self.transport.home(reference.registry(), reference.repository()).await?;
        let parcel = Parcel { digest: blob.digest, size: blob.size, mount_from: blob.mount_from };
        let place = Place::new(&endpoint, &repository, events);
        let session = match blob.is_offered {
            true => match self.offer(&place, &parcel).await? {
                Offer::Taken => return Ok(()),
                Offer::Wanted(session) => session,
            },
            false => None,
        };
        self.upload(&place, &parcel, session, &Bytes::Stream(Arc::clone(blob.open))).await
    }

    /// Puts a document into the repository of `reference`, under `name`.
    pub(crate) async fn relay_manifest(
        &self,
        reference: &Reference,
        name: &str,
        descriptor: &Descriptor,
        raw: &[u8],
    ) -> Result<(), RegistryError> {
        let (endpoint, repository) = self.transport.home(reference.registry(), reference.repository()).await?;
        self.put_manifest(&Place::new(&endpoint, &repository, &Events::none()), name, descriptor, raw, Digest::of(raw))
            .await
    }
}

struct Passing(mpsc::Sender<Chunk>);

impl Sink for Passing {
    type Gone = ();

    async fn take(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.send(Ok(bytes.to_vec())).await.map_err(drop)
    }
}

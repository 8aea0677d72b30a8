//! Registries (OCI distribution specification): resolving, pulling and pushing images.
//!
//! Nothing that comes in is believed: a document or blob is what its digest says, has the size that was announced, or
//! is thrown away. Blobs are streamed, never held in memory, and unpacked while they arrive.

mod artifact;
mod auth;
mod certificates;
mod challenge;
mod chunks;
mod config;
mod credentials;
mod download;
mod error;
mod fetch;
mod file;
mod helper;
mod logins;
mod push;
mod ranges;
mod referrers;
mod relay;
mod resolve;
mod rules;
mod tags;
mod tls;
mod transport;
mod upload;

use std::fmt;
use std::sync::Arc;

use lap_solver::event::{Action, Event, Events};
use lap_solver::platform::Platform;

use crate::digest::Digest;
use crate::image::blobs::Origin;
use crate::image::{Image, Reference};
use crate::store::Store;
use transport::Transport;
pub(crate) use transport::{read_limited, shown};

pub(crate) use artifact::{Found, NewArtifact};
pub use auth::basic_authorization;
pub(crate) use auth::encode_base64;
pub use config::{Proxies, RegistryConfig, Retry};
pub use credentials::{ConfigFile, Credentials, Login};
pub use error::RegistryError;
pub use file::{Fetched, FileRequest, Version, host_of};
pub use logins::{Kept, LoginFile};
pub(crate) use push::lacks_blob;
pub(crate) use relay::{Chunk, Relayed};
pub use rules::{Mirror, PullBy, Rule};
pub(crate) use upload::OpenBlob;

/// A client for any number of registries. Cheap to clone; tokens and connections are shared.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// An image as a registry describes it; its layers may or may not be in the store.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    /// What was asked for.
    pub reference: Reference,
    /// Digest of what the reference stands for: of the index where there is one, of the manifest else.
    pub resolved: Digest,
    /// Manifest and config.
    pub image: Image,
}

impl RemoteImage {
    /// Where its blobs are.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { registry: self.reference.registry().to_owned(), repository: self.reference.repository().to_owned() }
    }
}

impl Client {
    /// A client; nothing is connected or read yet.
    #[must_use]
    pub fn new(config: RegistryConfig) -> Self {
        Self { transport: Arc::new(Transport::new(config)) }
    }

    /// Fetches an image with all its layers, unpacked and as blobs, and gives it its name in the store.
    ///
    /// # Errors
    /// Where the registry refuses or sends what it should not, or the store cannot be written.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        events: &Events,
    ) -> Result<Image, RegistryError> {
        let remote = self.resolve(reference, platform, store, events).await?;
        let chain: Vec<Digest> = remote.image.diff_ids().collect();
        let jobs = fetch::jobs_of_image(store, &remote.image, &remote.origin())?;
        self.fetch(jobs, &chain, store, events).await?;
        store.name_set(reference, &remote.image)?;
        Ok(remote.image)
    }

    /// Fetches and unpacks some layers of an image that [`Self::resolve`] found; those in the store are passed over.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub async fn fetch_layers(
        &self,
        remote: &RemoteImage,
        wanted: &[Digest],
        store: &Store,
        events: &Events,
    ) -> Result<(), RegistryError> {
        let chain: Vec<Digest> = remote.image.diff_ids().collect();
        let mut jobs = fetch::jobs_of_image(store, &remote.image, &remote.origin())?;
        jobs.retain(|job| wanted.contains(&job.diff_id));
        jobs.iter_mut().for_each(fetch::Job::without_blob);
        self.fetch(jobs, &chain, store, events).await
    }

    /// Sees to it that every layer of `chain` (diff IDs, lowest first) is unpacked in the store. Those that are not
    /// are taken from a blob in the store or fetched from where they are known to be.
    ///
    /// # Errors
    /// As [`Self::pull`]; also where it is not known where a layer is.
    pub async fn ensure_layers(&self, chain: &[Digest], store: &Store, events: &Events) -> Result<(), RegistryError> {
        let jobs = fetch::jobs_of_chain(store, chain)?;
        self.fetch(jobs, chain, store, events).await
    }

    /// Sees to it that every layer blob of an image is in the store, for an export or a push.
    ///
    /// # Errors
    /// As [`Self::ensure_layers`].
    pub async fn ensure_blobs(&self, image: &Image, store: &Store, events: &Events) -> Result<(), RegistryError> {
        let jobs = fetch::jobs_of_blobs(store, image)?;
        self.fetch(jobs, &[], store, events).await
    }
}

/// Progress of one blob, told in steps that are worth telling.
#[derive(Debug)]
struct Progress {
    id: String,
    action: Action,
    total: u64,
    current: u64,
    told: u64,
    events: Events,
}

impl Progress {
    /// Bytes between two events.
    const STEP: u64 = 256 << 10;

    fn new(digest: &Digest, action: Action, total: u64, events: &Events) -> Self {
        let progress = Self { id: digest.to_string(), action, total, current: 0, told: 0, events: events.clone() };
        progress.send(false);
        progress
    }

    fn send(&self, done: bool) {
        self.events.send(Event::Progress {
            id: self.id.clone(),
            action: self.action,
            vertex: None,
            current: self.current,
            total: Some(self.total),
            done,
        });
    }

    fn at(&mut self, current: u64) {
        self.current = current;
        if current.abs_diff(self.told) >= Self::STEP {
            self.told = current;
            self.send(false);
        }
    }

    fn done(mut self) {
        self.current = self.total;
        self.send(true);
    }

    /// All of it was done at once, or elsewhere.
    fn ended(digest: &Digest, action: Action, total: u64, events: &Events) {
        Self { id: digest.to_string(), action, total, current: 0, told: 0, events: events.clone() }.done();
    }
}

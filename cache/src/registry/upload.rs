//! Sending one blob: not at all where the registry has it, mounted where another repository of it does, else in one
//! request, or in several where it is large ([`super::chunks`]). A request that breaks is begun anew: the registry
//! forgets half of one.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use lap_solver::event::{Action, Events};
use reqwest::header::{CONTENT_LENGTH, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::transport::{Call, Endpoint, MakeBody, Pulse, Scope, shown};
use super::{Client, Progress, RegistryError};
use crate::content::ContentError;
use crate::digest::Digest;
use crate::fs::Act as _;
use crate::store::Store;

/// Read at once from a blob, in bytes.
const BUFFER: usize = 256 << 10;
/// Chunks between disk and network.
const QUEUE: usize = 4;

/// A blob to send.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Other repositories of the same registry that may have it.
    pub(super) mount_from: Vec<String>,
}

/// Where blobs are sent to.
pub(super) struct Place<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a str,
    pub(super) scope: Scope,
    pub(super) events: &'a Events,
}

impl<'a> Place<'a> {
    pub(super) fn new(endpoint: &'a Endpoint, repository: &'a str, events: &'a Events) -> Self {
        Self { endpoint, repository, scope: Scope::push(repository), events }
    }
}

/// Opens the bytes of a blob; called again, from the start, for each try.
pub(crate) type OpenBlob = Arc<dyn Fn() -> Result<Box<dyn Read + Send>, RegistryError> + Send + Sync>;

/// Where the bytes of a blob come from.
#[derive(Clone)]
pub(super) enum Bytes {
    /// The store, which has them at any place.
    Stored(Store),
    /// Somewhere else, from the start only.
    Stream(OpenBlob),
}

impl Bytes {
    fn open(&self, digest: &Digest, range: &Range<u64>) -> Result<Box<dyn Read + Send>, RegistryError> {
        match self {
            Self::Stored(store) => {
                let mut file = store.content().open(digest)?;
                let path = store.content().path(digest);
                file.seek(SeekFrom::Start(range.start)).act("seek in", path).map_err(ContentError::from)?;
                Ok(Box::new(file.take(range.end - range.start)))
            }
            Self::Stream(open) => open(),
        }
    }
}

/// An upload that is open.
pub(super) struct Session {
    pub(super) url: Url,
    /// What a chunk but the last one must have at least, in bytes (`OCI-Chunk-Min-Length`).
    pub(super) least: u64,
}

impl Session {
    fn of(response: &Response) -> Result<Self, RegistryError> {
        let least = response.headers().get("oci-chunk-min-length").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self { url: location(response)?, least: least.unwrap_or(0) })
    }
}

/// What has become of an offer.
pub(super) enum Offer {
    /// The registry has the blob.
    Taken,
    /// It has to be sent, in the upload that is open already where there is one.
    Wanted(Option<Session>),
}

impl Client {
    /// Asks whether a blob must be sent: by HEAD, then by mounting it from a repository that may have it.
    pub(super) async fn offer(&self, place: &Place<'_>, parcel: &Parcel) -> Result<Offer, RegistryError> {
        let Place { endpoint, repository, scope, events, .. } = place;
        let url = endpoint.url(repository, &format!("blobs/{}", parcel.digest))?;
        let response = self.transport.send(endpoint, scope, &Call::new(Method::HEAD, url)).await?;
        // A HEAD that is refused or not known says nothing; the upload will tell.
        let length_fits = response.content_length().is_none_or(|length| length == 0 || length == parcel.size);
        if response.status() == StatusCode::OK && length_fits {
            Progress::ended(&parcel.digest, Action::Exists, parcel.size, events);
            return Ok(Offer::Taken);
        }
        for from in &parcel.mount_from {
            let mut url = endpoint.url(repository, "blobs/uploads/")?;
            url.query_pairs_mut().append_pair("mount", &parcel.digest.to_string()).append_pair("from", from);
            let scope = Scope { also_pull: Some(from.clone()), ..Scope::push(repository) };
            let call = Call::new(Method::POST, url).header(CONTENT_LENGTH, "0");
            // Mounting only saves work: whatever goes wrong, the blob can be sent.
            let Ok(response) = self.transport.send(endpoint, &scope, &call).await else { continue };
            match response.status() {
                StatusCode::CREATED => {
                    Progress::ended(&parcel.digest, Action::Exists, parcel.size, events);
                    return Ok(Offer::Taken);
                }
                StatusCode::ACCEPTED => return Ok(Offer::Wanted(Session::of(&response).ok())),
                _ => {}
            }
        }
        Ok(Offer::Wanted(None))
    }

    /// Sends the bytes of a blob; `session` is an upload that is open already.
    pub(super) async fn upload(
        &self,
        place: &Place<'_>,
        parcel: &Parcel,
        mut session: Option<Session>,
        bytes: &Bytes,
    ) -> Result<(), RegistryError> {
        let retry = self.transport.config.retry;
        // What can only be read from the start would be read once for each chunk.
        let mut in_chunks = parcel.size > self.transport.config.chunk && matches!(bytes, Bytes::Stored(_));
        let mut attempt = 1;
        loop {
            let session = match session.take() {
                Some(session) => session,
                None => self.begin(place).await?,
            };
            let outcome = if in_chunks {
                self.upload_in_chunks(place, parcel, session, bytes).await?
            } else {
                let whole = body(bytes, parcel, 0..parcel.size, place.events);
                self.finish_upload(place, parcel, session.url, Some(whole)).await?
            };
            let wait = match outcome {
                Outcome::Sent => {
                    Progress::ended(&parcel.digest, Action::Upload, parcel.size, place.events);
                    return Ok(());
                }
                Outcome::NotInChunks => {
                    in_chunks = false;
                    continue;
                }
                Outcome::Failed { error, .. } if attempt >= retry.attempts => return Err(error),
                Outcome::Failed { wait, .. } => wait,
            };
            attempt += 1;
            tokio::time::sleep(retry.wait(attempt, wait)).await;
        }
    }

    /// Opens an upload.
    async fn begin(&self, place: &Place<'_>) -> Result<Session, RegistryError> {
        let begin = Call::new(Method::POST, place.endpoint.url(place.repository, "blobs/uploads/")?);
        let begin = begin.header(CONTENT_LENGTH, "0");
        Session::of(&self.transport.expect(place.endpoint, &place.scope, &begin).await?)
    }
}

/// How one try to send a blob ended, where another may help.
pub(super) enum Outcome {
    Sent,
    /// The registry takes it in one request only.
    NotInChunks,
    Failed {
        error: RegistryError,
        wait: Option<Duration>,
    },
}

/// Where an upload goes on; may be relative.
pub(super) fn location(response: &Response) -> Result<Url, RegistryError> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let target = response.url().join(text).ok().filter(|_| !text.is_empty());
    target.ok_or_else(|| RegistryError::NoLocation { url: shown(response.url()) })
}

/// Some bytes of a blob, read by a thread of its own while they are sent.
pub(super) fn body(bytes: &Bytes, parcel: &Parcel, range: Range<u64>, events: &Events) -> MakeBody {
    let (bytes, parcel, events) = (bytes.clone(), parcel.clone(), events.clone());
    Arc::new(move |pulse| {
        let mut file = bytes.open(&parcel.digest, &range)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut progress = Progress::new(&parcel.digest, Action::Upload, parcel.size, &events);
        let mut sent = range.start;
        tokio::task::spawn_blocking(move || {
            loop {
                let mut chunk = Vec::with_capacity(BUFFER);
                let item = match file.by_ref().take(BUFFER as u64).read_to_end(&mut chunk) {
                    Ok(0) => return,
                    Ok(_) => Ok(chunk),
                    Err(error) => Err(error),
                };
                sent += item.as_ref().map_or(0, Vec::len) as u64;
                // The receiver goes away where the request has failed.
                let failed = item.is_err();
                if sender.blocking_send(item).is_err() || failed {
                    return;
                }
                progress.at(sent);
            }
        });
        Ok(reqwest::Body::wrap_stream(Chunks { receiver, pulse: Arc::clone(pulse) }))
    })
}

/// A queue as the stream that the HTTP client wants.
struct Chunks {
    receiver: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    pulse: Arc<Pulse>,
}

impl Stream for Chunks {
    type Item = std::io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pulse.beat();
        self.receiver.poll_recv(context)
    }
}

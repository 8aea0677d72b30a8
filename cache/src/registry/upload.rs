//! Sending one blob: not at all where the registry has it, mounted where another repository of it does, else in one
//! stream. An upload that breaks is begun anew: the registry forgets half a blob.

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use lap_solver::event::{Action, Events};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::transport::{Call, Endpoint, MakeBody, Scope, is_passing, retry_after, shown};
use super::{Client, Progress, RegistryError};
use crate::digest::Digest;
use crate::store::Store;

/// Read at once from a blob, in bytes.
const CHUNK: usize = 256 << 10;
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

/// Opens the bytes of a blob; called again, from the start, for each try.
pub(crate) type OpenBlob = Arc<dyn Fn() -> Result<Box<dyn Read + Send>, RegistryError> + Send + Sync>;

/// The bytes of a blob in the store.
pub(super) fn stored(store: &Store, digest: Digest) -> OpenBlob {
    let store = store.clone();
    Arc::new(move || Ok(Box::new(store.content().open(&digest)?)))
}

/// What has become of an offer.
pub(super) enum Offer {
    /// The registry has the blob.
    Taken,
    /// It has to be sent, where a session is open to that address already.
    Wanted(Option<Url>),
}

impl Client {
    /// Asks whether a blob must be sent: by HEAD, then by mounting it from a repository that may have it.
    pub(super) async fn offer(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        parcel: &Parcel,
        events: &Events,
    ) -> Result<Offer, RegistryError> {
        let scope = Scope::push(repository);
        let url = endpoint.url(repository, &format!("blobs/{}", parcel.digest))?;
        let response = self.transport.send(endpoint, &scope, &Call::new(Method::HEAD, url)).await?;
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
                StatusCode::ACCEPTED => return Ok(Offer::Wanted(location(&response).ok())),
                _ => {}
            }
        }
        Ok(Offer::Wanted(None))
    }

    /// Sends the bytes of a blob; `session` is an upload that is open already.
    pub(super) async fn upload(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        parcel: &Parcel,
        mut session: Option<Url>,
        open: &OpenBlob,
        events: &Events,
    ) -> Result<(), RegistryError> {
        let retry = self.transport.config.retry;
        let mut attempt = 1;
        loop {
            let outcome = self.upload_once(endpoint, repository, parcel, session.take(), open, events).await?;
            let (error, wait) = match outcome {
                Outcome::Sent => return Ok(()),
                Outcome::Failed { error, .. } if attempt >= retry.attempts => return Err(error),
                Outcome::Failed { error, wait } => (error, wait),
            };
            drop(error);
            attempt += 1;
            tokio::time::sleep(retry.wait(attempt, wait)).await;
        }
    }

    async fn upload_once(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        parcel: &Parcel,
        session: Option<Url>,
        open: &OpenBlob,
        events: &Events,
    ) -> Result<Outcome, RegistryError> {
        let scope = Scope::push(repository);
        let mut url = match session {
            Some(url) => url,
            None => {
                let begin = Call::new(Method::POST, endpoint.url(repository, "blobs/uploads/")?);
                let begin = begin.header(CONTENT_LENGTH, "0");
                location(&self.transport.expect(endpoint, &scope, &begin).await?)?
            }
        };
        url.query_pairs_mut().append_pair("digest", &parcel.digest.to_string());
        let body = body(open, parcel, events);
        let call = Call::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, parcel.size.to_string())
            .body(body)
            .once();
        let response = match self.transport.send(endpoint, &scope, &call).await {
            Ok(response) => response,
            Err(error @ RegistryError::Unreachable { .. }) => return Ok(Outcome::Failed { error, wait: None }),
            Err(error) => return Err(error),
        };
        let status = response.status();
        if status.is_success() {
            Progress::ended(&parcel.digest, Action::Upload, parcel.size, events);
            return Ok(Outcome::Sent);
        }
        // The session is gone or was cut short: a new one may do.
        let lost =
            matches!(status, StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::BAD_REQUEST);
        let wait = retry_after(response.headers());
        let error = self.transport.refusal(endpoint, &scope, &call, response).await;
        if lost || is_passing(status) { Ok(Outcome::Failed { error, wait }) } else { Err(error) }
    }
}

/// How one try to send a blob ended, where another may help.
enum Outcome {
    Sent,
    Failed { error: RegistryError, wait: Option<std::time::Duration> },
}

/// Where an upload goes on; may be relative.
fn location(response: &Response) -> Result<Url, RegistryError> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let target = response.url().join(text).ok().filter(|_| !text.is_empty());
    target.ok_or_else(|| RegistryError::NoLocation { url: shown(response.url()) })
}

/// The bytes of a blob, read by a thread of its own while they are sent.
pub(super) fn body(open: &OpenBlob, parcel: &Parcel, events: &Events) -> MakeBody {
    let (open, parcel, events) = (Arc::clone(open), parcel.clone(), events.clone());
    Arc::new(move || {
        let mut file = open()?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut progress = Progress::new(&parcel.digest, Action::Upload, parcel.size, &events);
        tokio::task::spawn_blocking(move || {
            let mut sent = 0;
            loop {
                let mut chunk = Vec::with_capacity(CHUNK);
                let item = match file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
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
        Ok(reqwest::Body::wrap_stream(Chunks(receiver)))
    })
}

/// A queue as the stream that the HTTP client wants.
struct Chunks(mpsc::Receiver<std::io::Result<Vec<u8>>>);

impl Stream for Chunks {
    type Item = std::io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

//! The bytes of one blob, in order and exactly as many as announced, however often the connection breaks.
//!
//! After a break the rest is asked for by Range. A server that answers with the whole blob again is put up with: what
//! was already passed on is skipped. Whether the bytes are right is for the receiver to check, over all of them.

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::transport::{Call, Endpoint, Scope, is_passing, retry_after, shown};
use super::{Client, Progress, RegistryError};
use crate::digest::Digest;
use crate::image::blobs::Origin;

/// Breaks of the connection that are put up with for one blob, however much came between them.
const BREAKS: u32 = 100;

/// A blob to fetch.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) origins: Vec<Origin>,
}

/// Where the bytes go. An error means that nobody wants them any more.
pub(super) trait Sink: Send {
    type Gone;
    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Self::Gone>> + Send;
}

impl Client {
    /// Streams a blob into `sink` from the first origin that has it. Where the sink goes away this returns `Ok`: the
    /// sink knows why.
    pub(super) async fn download(
        &self,
        wanted: &Wanted,
        sink: &mut impl Sink,
        progress: &mut Progress,
    ) -> Result<(), RegistryError> {
        let mut passed = 0;
        let mut failed = RegistryError::NotFound { reference: wanted.digest.to_string() };
        for origin in &wanted.origins {
            let endpoints = match self.transport.endpoints(&origin.registry, &origin.repository, None).await {
                Ok(endpoints) => endpoints,
                Err(error) => {
                    failed = error;
                    continue;
                }
            };
            for endpoint in endpoints {
                match self
                    .download_from(&endpoint, endpoint.local(&origin.repository), wanted, &mut passed, sink, progress)
                    .await
                {
                    Ok(()) => return Ok(()),
                    Err(error) => failed = error,
                }
            }
        }
        Err(failed)
    }

    async fn download_from(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        wanted: &Wanted,
        passed: &mut u64,
        sink: &mut impl Sink,
        progress: &mut Progress,
    ) -> Result<(), RegistryError> {
        let retry = self.transport.config.retry;
        let scope = Scope::pull(repository);
        let url = endpoint.url(repository, &format!("blobs/{}", wanted.digest))?;
        let (mut attempt, mut breaks) = (1, 0);
        loop {
            let before = *passed;
            let mut call = Call::new(Method::GET, url.clone());
            if before > 0 {
                call = call.header(RANGE, format!("bytes={before}-"));
            }
            let response = self.transport.send(endpoint, &scope, &call).await?;
            let wait = match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                    match self.stream(response, wanted, passed, sink, progress).await? {
                        Streamed::All | Streamed::Unwanted => return Ok(()),
                        Streamed::Broken => None,
                    }
                }
                StatusCode::RANGE_NOT_SATISFIABLE if before > 0 => None,
                StatusCode::NOT_FOUND => {
                    let reference = format!("{}/{repository}@{}", endpoint.registry, wanted.digest);
                    return Err(RegistryError::NotFound { reference });
                }
                status if is_passing(status) => retry_after(response.headers()),
                _ => return Err(self.transport.refusal(endpoint, &scope, &call, response).await),
            };
            // What brought bytes was no failed try.
            attempt = if *passed > before { 1 } else { attempt + 1 };
            breaks += 1;
            if attempt > retry.attempts || breaks > BREAKS {
                return Err(RegistryError::BrokenOff { url: shown(&url), received: *passed });
            }
            tokio::time::sleep(retry.wait(attempt.max(2), wait)).await;
        }
    }

    /// Passes on what an answer brings beyond `passed`.
    async fn stream(
        &self,
        mut response: Response,
        wanted: &Wanted,
        passed: &mut u64,
        sink: &mut impl Sink,
        progress: &mut Progress,
    ) -> Result<Streamed, RegistryError> {
        let url = shown(response.url());
        let mut position = match response.status() {
            StatusCode::PARTIAL_CONTENT => match range_start(&response) {
                Some(start) if start <= *passed => start,
                _ => return Ok(Streamed::Broken),
            },
            _ => 0,
        };
        let wrong = |actual| RegistryError::WrongSize { url: url.clone(), expected: wanted.size, actual };
        if let Some(length) = response.content_length()
            && position.saturating_add(length) != wanted.size
        {
            return Err(wrong(position.saturating_add(length)));
        }
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if *passed == wanted.size => return Ok(Streamed::All),
                Ok(None) | Err(_) => return Ok(Streamed::Broken),
            };
            let end = position + chunk.len() as u64;
            if end > wanted.size {
                return Err(wrong(end));
            }
            if end > *passed {
                // Both lie within the chunk.
                let skip = usize::try_from(passed.saturating_sub(position)).unwrap_or(usize::MAX);
                if sink.take(chunk.get(skip..).unwrap_or_default()).await.is_err() {
                    return Ok(Streamed::Unwanted);
                }
                *passed = end;
                progress.at(end);
            }
            position = end;
        }
    }
}

/// How an answer ended.
enum Streamed {
    /// All bytes of the blob have been passed on.
    All,
    /// Early; the rest can be asked for.
    Broken,
    /// Nobody wants more.
    Unwanted,
}

/// The first byte of a 206 answer.
fn range_start(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

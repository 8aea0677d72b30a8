//! The bytes of one blob, in order and exactly as many as announced, however often the connection breaks.
//!
//! After a break the rest is asked for by Range. A server that answers with the whole blob again is put up with: what
//! was already passed on is skipped. A large blob is asked for in ranges from the start, several at a time
//! ([`super::ranges`]), as long as the server honours them. Whether the bytes are right is for the receiver to check,
//! over all of them.

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::ranges::{self, Source};
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
    /// Streams a blob, but for the first `passed` bytes, into `sink` from the first origin that has it. Where the sink
    /// goes away this returns `Ok`: the sink knows why.
    pub(super) async fn download(
        &self,
        wanted: &Wanted,
        mut passed: u64,
        sink: &mut impl Sink,
        progress: &mut Progress,
    ) -> Result<(), RegistryError> {
        if passed == wanted.size {
            return Ok(());
        }
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
        let (retry, part) = (self.transport.config.retry, self.transport.config.part);
        let scope = Scope::pull(repository);
        let url = endpoint.url(repository, &format!("blobs/{}", wanted.digest))?;
        let (mut attempt, mut breaks) = (1, 0);
        let mut asking = Asking::from(*passed, wanted.size, part);
        loop {
            let before = *passed;
            let mut call = Call::new(Method::GET, url.clone());
            if let Some(range) = asking.range(before, wanted.size, part) {
                call = call.header(RANGE, range);
            }
            let response = self.transport.send(endpoint, &scope, &call).await?;
            let wait = match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                    let streamed = if asking == Asking::Ranges && response.status() == StatusCode::PARTIAL_CONTENT {
                        let source = Source { endpoint, scope: &scope, url: &url };
                        self.stream_ranges(&source, response, wanted.size, passed, sink, progress).await
                    } else {
                        self.stream(response, wanted, passed, sink, progress).await?
                    };
                    match streamed {
                        Streamed::All | Streamed::Unwanted => return Ok(()),
                        Streamed::Broken => None,
                    }
                }
                // Whoever has no ranges can still send the whole.
                StatusCode::RANGE_NOT_SATISFIABLE if asking != Asking::Whole => {
                    asking = Asking::Whole;
                    continue;
                }
                StatusCode::NOT_FOUND => {
                    let reference = format!("{}/{repository}@{}", endpoint.registry, wanted.digest);
                    return Err(RegistryError::NotFound { reference });
                }
                status if is_passing(status) => retry_after(response.headers()),
                _ => return Err(self.transport.refusal(endpoint, &scope, &call, response).await),
            };
            // What brought bytes was no failed try.
            let moved = *passed > before;
            asking = match asking {
                Asking::Whole => Asking::Whole,
                Asking::Ranges if moved => Asking::from(*passed, wanted.size, part),
                Asking::Ranges | Asking::Rest => Asking::Rest,
            };
            attempt = if moved { 1 } else { attempt + 1 };
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
            StatusCode::PARTIAL_CONTENT => match content_range(&response) {
                Some(range) if range.start <= *passed => range.start,
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

/// How much of a blob is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// A part, and others beside it.
    Ranges,
    /// All that is missing.
    Rest,
    /// Everything, whatever is there.
    Whole,
}

impl Asking {
    /// What to ask for where so much is there of so much.
    fn from(passed: u64, size: u64, part: u64) -> Self {
        if ranges::is_worthwhile(passed, size, part) { Self::Ranges } else { Self::Rest }
    }

    /// The `Range` of a request; none for the whole.
    fn range(self, passed: u64, size: u64, part: u64) -> Option<String> {
        match self {
            Self::Ranges => Some(ranges::header(&ranges::next(passed, size, part))),
            Self::Rest if passed > 0 => Some(format!("bytes={passed}-")),
            Self::Rest | Self::Whole => None,
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streamed {
    /// All bytes of the blob have been passed on.
    All,
    /// Early; the rest can be asked for.
    Broken,
    /// Nobody wants more.
    Unwanted,
}

/// What a 206 answer says that it holds (RFC 9110, 14.4), as the bytes from the first to behind the last, and the
/// length of the whole where it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) whole: Option<u64>,
}

pub(super) fn content_range(response: &Response) -> Option<ContentRange> {
    read_content_range(response.headers().get(CONTENT_RANGE)?.to_str().ok()?)
}

fn read_content_range(text: &str) -> Option<ContentRange> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let whole = if whole.trim() == "*" { None } else { Some(whole.trim().parse().ok()?) };
    (start <= last && whole.is_none_or(|whole| last < whole)).then(|| ContentRange {
        start,
        end: last.saturating_add(1),
        whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        let range = |start, end, whole| Some(ContentRange { start, end, whole });
        for (text, expected) in [
            ("bytes 0-9/100", range(0, 10, Some(100))),
            ("bytes 5-5/*", range(5, 6, None)),
            ("bytes 9-5/100", None),
            ("bytes 0-100/100", None),
            ("bytes */100", None),
            ("bytes 0-9", None),
            ("items 0-9/100", None),
            ("bytes -1-9/100", None),
            ("", None),
        ] {
            assert_eq!(read_content_range(text), expected, "{text}");
        }
    }
}

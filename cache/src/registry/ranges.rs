//! One large blob over several connections: a window of ranges, passed on in order.
//!
//! Many servers, and the networks before them, give a connection less than the line has. Each range is fetched by a
//! task of its own into a queue that holds no more than the range. There is always one range ahead of the one that is
//! passed on; there are more only as far as no other blob uses the connections ([`super::RegistryConfig::parallel`]),
//! so an image of many layers gains nothing and loses nothing. A blob in transit takes of memory what two ranges have,
//! and one more for each connection that is not used otherwise. The first answer that is not exactly the range that was
//! asked for ends it: the caller goes on in one stream.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use reqwest::header::RANGE;
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::download::{Sink, Streamed, content_range};
use super::transport::{Call, Endpoint, Scope};
use super::{Client, Progress};

/// Fewer parts than this are not worth a second request.
const WORTHWHILE: u64 = 4;

/// Where a blob's ranges are asked for.
pub(super) struct Source<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) scope: &'a Scope,
    pub(super) url: &'a Url,
}

/// Whether what is missing of a blob is worth several requests.
pub(super) fn is_worthwhile(passed: u64, size: u64, part: u64) -> bool {
    size.saturating_sub(passed) >= part.saturating_mul(WORTHWHILE)
}

/// The range that follows what there is, of `part` bytes.
pub(super) fn next(passed: u64, size: u64, part: u64) -> Range<u64> {
    passed..passed.saturating_add(part.max(1)).min(size)
}

/// A range in a request.
pub(super) fn header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// A range on its way.
struct Part {
    end: u64,
    chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    /// Given back when the range has been passed on.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Client {
    /// Passes on a blob from `passed` to its end; `first` is the answer to the first range of it.
    pub(super) async fn stream_ranges(
        &self,
        source: &Source<'_>,
        first: Response,
        size: u64,
        passed: &mut u64,
        sink: &mut impl Sink,
        progress: &mut Progress,
    ) -> Streamed {
        // Dropping the set ends those that are ahead.
        let mut tasks = JoinSet::new();
        let mut window = VecDeque::new();
        let (mut next, mut first, part) = (*passed, Some(first), self.transport.config.part);
        loop {
            while next < size {
                let permit = match window.len() {
                    0 | 1 => None,
                    _ => match Arc::clone(&self.transport.downloads).try_acquire_owned() {
                        Ok(permit) => Some(permit),
                        Err(_) => break,
                    },
                };
                let range = self::next(next, size, part);
                next = range.end;
                let (sender, chunks) = mpsc::unbounded_channel();
                window.push_back(Part { end: range.end, chunks, _permit: permit });
                let (client, answer) = (self.clone(), first.take());
                let (endpoint, scope, url) = (source.endpoint.clone(), source.scope.clone(), source.url.clone());
                tasks.spawn(async move {
                    let source = Source { endpoint: &endpoint, scope: &scope, url: &url };
                    client.fetch_range(&source, answer, range, size, &sender).await;
                });
            }
            let Some(mut front) = window.pop_front() else { return Streamed::All };
            while let Some(chunk) = front.chunks.recv().await {
                if sink.take(&chunk).await.is_err() {
                    return Streamed::Unwanted;
                }
                *passed += chunk.len() as u64;
                progress.at(*passed);
            }
            if *passed != front.end {
                return Streamed::Broken;
            }
            while tasks.try_join_next().is_some() {}
        }
    }

    /// Fetches a range, or as much of it as comes: what is missing is noticed at the other end of the queue.
    async fn fetch_range(
        &self,
        source: &Source<'_>,
        answer: Option<Response>,
        range: Range<u64>,
        size: u64,
        chunks: &mpsc::UnboundedSender<Vec<u8>>,
    ) {
        let answer = match answer {
            Some(answer) => Ok(answer),
            None => {
                let call = Call::new(Method::GET, source.url.clone()).header(RANGE, header(&range));
                self.transport.send(source.endpoint, source.scope, &call).await
            }
        };
        let Ok(mut answer) = answer else { return };
        let fits = answer.status() == StatusCode::PARTIAL_CONTENT
            && content_range(&answer).is_some_and(|found| {
                (found.start, found.end) == (range.start, range.end) && found.whole.is_none_or(|whole| whole == size)
            });
        let mut left = if fits { range.end - range.start } else { 0 };
        while left > 0 {
            let Ok(Some(chunk)) = answer.chunk().await else { return };
            // More than was asked for is none of it.
            let Some(rest) = left.checked_sub(chunk.len() as u64) else { return };
            left = rest;
            if chunks.send(chunk.to_vec()).is_err() {
                return;
            }
        }
    }
}

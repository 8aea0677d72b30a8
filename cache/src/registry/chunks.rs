//! Sending a large blob in chunks (distribution spec, "Pushing a blob in chunks"): after a break the registry is asked
//! how much it has, and the upload goes on there. A registry that takes no chunks gets the blob in one request.

use std::ops::Range;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::transport::{Call, MakeBody, is_passing, retry_after};
use super::upload::{Bytes, Outcome, Parcel, Place, Session, body, location};
use super::{Client, RegistryError};

/// Smallest chunk that is tried where larger ones are refused as too large (413), in bytes.
const SMALLEST: u64 = 1 << 20;
/// Breaks that are put up with for one blob, however much was sent between them.
const BREAKS: u32 = 100;

/// How sending a chunk ended.
enum Sent {
    /// The registry has so many bytes, and the upload goes on there.
    Upto(u64, Url),
    /// It breaks off; how much has arrived is to be asked.
    Broken { error: RegistryError, wait: Option<Duration> },
    /// The chunk is too large for the registry, or for what stands before it.
    TooLarge,
    /// There is no such upload (any more).
    Lost(RegistryError),
    /// Not in chunks.
    Refused,
}

impl Client {
    /// Sends a blob in chunks and ends the upload.
    pub(super) async fn upload_in_chunks(
        &self,
        place: &Place<'_>,
        parcel: &Parcel,
        session: Session,
        bytes: &Bytes,
    ) -> Result<Outcome, RegistryError> {
        let retry = self.transport.config.retry;
        let Session { mut url, least } = session;
        let mut chunk = self.transport.config.chunk.max(least).max(1);
        let (mut offset, mut attempt, mut breaks) = (0, 1, 0);
        while offset < parcel.size {
            let (error, wait) = match self
                .send_chunk(place, parcel, &url, offset..offset.saturating_add(chunk).min(parcel.size), bytes)
                .await?
            {
                Sent::Upto(next, location) => {
                    (offset, url, attempt) = (next, location, 1);
                    continue;
                }
                Sent::TooLarge if chunk / 4 >= SMALLEST.max(least) => {
                    chunk /= 4;
                    continue;
                }
                Sent::TooLarge | Sent::Refused => return Ok(Outcome::NotInChunks),
                Sent::Lost(error) => return Ok(Outcome::Failed { error, wait: None }),
                Sent::Broken { error, wait } => (error, wait),
            };
            attempt += 1;
            breaks += 1;
            if attempt > retry.attempts || breaks > BREAKS {
                return Err(error);
            }
            tokio::time::sleep(retry.wait(attempt, wait)).await;
            match self.received(place, &url, parcel.size).await {
                Some((next, location)) => {
                    // What brought bytes was no failed try.
                    if next > offset {
                        attempt = 1;
                    }
                    (offset, url) = (next, location);
                }
                None => return Ok(Outcome::Failed { error, wait: None }),
            }
        }
        self.finish_upload(place, parcel, url, None).await
    }

    async fn send_chunk(
        &self,
        place: &Place<'_>,
        parcel: &Parcel,
        url: &Url,
        range: Range<u64>,
        bytes: &Bytes,
    ) -> Result<Sent, RegistryError> {
        let call = Call::new(Method::PATCH, url.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, (range.end - range.start).to_string())
            .header(CONTENT_RANGE, format!("{}-{}", range.start, range.end - 1))
            .body(body(bytes, parcel, range.clone(), place.events))
            .once();
        let response = match self.transport.send(place.endpoint, &place.scope, &call).await {
            Ok(response) => response,
            Err(error @ (RegistryError::Unreachable { .. } | RegistryError::Stalled { .. })) => {
                return Ok(Sent::Broken { error, wait: None });
            }
            Err(error) => return Err(error),
        };
        let status = response.status();
        if status.is_success() {
            let next = received_upto(&response).unwrap_or(range.end);
            // Without a new address it is the old one.
            let location = location(&response).unwrap_or_else(|_| url.clone());
            return Ok(match next {
                next if next == range.end => Sent::Upto(next, location),
                // It took a part of the chunk.
                next if next > range.start && next < range.end => Sent::Upto(next, location),
                _ => Sent::Refused,
            });
        }
        let wait = retry_after(response.headers());
        let error = self.transport.refusal(place.endpoint, &place.scope, &call, response).await;
        Ok(match status {
            StatusCode::PAYLOAD_TOO_LARGE => Sent::TooLarge,
            StatusCode::RANGE_NOT_SATISFIABLE => Sent::Broken { error, wait },
            StatusCode::NOT_FOUND => Sent::Lost(error),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(error),
            status if is_passing(status) => Sent::Broken { error, wait },
            _ => Sent::Refused,
        })
    }

    /// How many bytes of an upload the registry has, and where it goes on; nothing where it does not know it.
    async fn received(&self, place: &Place<'_>, url: &Url, size: u64) -> Option<(u64, Url)> {
        let call = Call::new(Method::GET, url.clone());
        let response = self.transport.send(place.endpoint, &place.scope, &call).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        // Without a range it has nothing. A range of one byte is how nothing is told, too.
        let received = received_upto(&response).filter(|received| *received > 1).unwrap_or(0);
        (received <= size).then(|| (received, location(&response).unwrap_or_else(|_| url.clone())))
    }

    /// Ends an upload, with all of the blob or with nothing more than its digest.
    pub(super) async fn finish_upload(
        &self,
        place: &Place<'_>,
        parcel: &Parcel,
        mut url: Url,
        whole: Option<MakeBody>,
    ) -> Result<Outcome, RegistryError> {
        url.query_pairs_mut().append_pair("digest", &parcel.digest.to_string());
        let length = if whole.is_some() { parcel.size } else { 0 };
        let mut call = Call::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, length.to_string())
            .once();
        if let Some(whole) = whole {
            call = call.body(whole);
        }
        let response = match self.transport.send(place.endpoint, &place.scope, &call).await {
            Ok(response) => response,
            Err(error @ (RegistryError::Unreachable { .. } | RegistryError::Stalled { .. })) => {
                return Ok(Outcome::Failed { error, wait: None });
            }
            Err(error) => return Err(error),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Outcome::Sent);
        }
        // The session is gone or was cut short: a new one may do.
        let lost =
            matches!(status, StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::BAD_REQUEST);
        let wait = retry_after(response.headers());
        let error = self.transport.refusal(place.endpoint, &place.scope, &call, response).await;
        if lost || is_passing(status) { Ok(Outcome::Failed { error, wait }) } else { Err(error) }
    }
}

/// The `Range` of an upload's answer, which is from the first byte to the last that has arrived, as their number.
fn received_upto(response: &Response) -> Option<u64> {
    let text = response.headers().get(RANGE)?.to_str().ok()?.trim();
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    if first > 0 {
        return None;
    }
    last.checked_add(1)
}

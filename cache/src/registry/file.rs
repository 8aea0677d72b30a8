//! A single file over HTTP, from any server: `ADD` of a URL, and build contexts that are one.
//!
//! Only http and https are spoken. A redirect never leads from https to plain http unless the caller checks the
//! content anyway, never from elsewhere into this machine, and never takes a login along to another server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::header::{LAST_MODIFIED, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use lap_solver::event::{Action, Event, Events};

use super::config::is_loopback;
use super::transport::{authority, is_passing, retry_after, retry_limit, shown, unreachable};
use super::{Client, RegistryError};
use crate::digest::Digest;

/// Redirects followed, as Go's client and curl do.
const REDIRECTS: usize = 10;
/// Longest `ETag` or `Last-Modified` that is kept.
const TAG_LIMIT: usize = 1024;
/// Bytes between two events.
const STEP: u64 = 256 << 10;

/// A file to fetch.
#[derive(Debug, Clone, Default)]
pub struct FileRequest {
    /// Absolute http or https URL; a fragment is not sent.
    pub url: String,
    /// The version that is there already: fetched again only where the server has another.
    pub known: Option<Version>,
    /// Value of the `Authorization` header, for the server of `url` alone.
    pub authorization: Option<String>,
    /// Most bytes that are taken.
    pub limit: u64,
    /// Whether the caller knows what must come: then a redirect may lead to plain http.
    pub verified: bool,
}

/// How a server tells versions of a file apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// `ETag`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Version {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= TAG_LIMIT).then(|| value.to_owned())
        };
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// When the file was changed, as its server says (RFC 9110, 5.6.7).
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        parse_date(self.last_modified.as_deref()?)
    }
}

/// What came of a [`FileRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The server still has the version that is known.
    Unchanged,
    /// The file was written.
    File {
        /// Of its bytes.
        digest: Digest,
        /// In bytes.
        size: u64,
        /// What to ask with next time.
        version: Version,
    },
}

impl Client {
    /// Fetches a file into `into`, which is empty or made so.
    ///
    /// # Errors
    /// Where there is no answer or no success, the answer is larger than the limit, a redirect is not one to follow,
    /// or the file cannot be written.
    pub async fn fetch_file(
        &self,
        wanted: &FileRequest,
        into: std::fs::File,
        events: &Events,
    ) -> Result<Fetched, RegistryError> {
        let url = Url::parse(&wanted.url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| RegistryError::Address { text: wanted.url.chars().take(200).collect() })?;
        let mut into = tokio::fs::File::from_std(into);
        let retry = self.transport.config.retry;
        let mut attempt = 1;
        loop {
            let result = match self.ask_for_file(&url, wanted).await {
                Ok(response) if is_passing(response.status()) && attempt < retry.attempts => {
                    attempt += 1;
                    tokio::time::sleep(retry.wait(attempt, retry_after(response.headers()))).await;
                    continue;
                }
                Ok(response) if response.status() == StatusCode::NOT_MODIFIED && wanted.known.is_some() => {
                    return Ok(Fetched::Unchanged);
                }
                Ok(response) if response.status() != StatusCode::OK => {
                    let (method, url, status) = ("GET".to_owned(), shown(response.url()), response.status().as_u16());
                    return Err(RegistryError::Status { method, url, status, message: String::new() });
                }
                Ok(response) => receive(response, &mut into, wanted.limit, events).await,
                Err(error) => Err(error),
            };
            match result {
                Err(error @ RegistryError::BrokenOff { .. }) if attempt >= retry.attempts => return Err(error),
                Err(RegistryError::BrokenOff { .. }) => {}
                Err(error) if attempt < retry_limit(&error, retry.attempts) => {}
                result => return result,
            }
            attempt += 1;
            tokio::time::sleep(retry.wait(attempt, None)).await;
        }
    }

    /// The proxies that this client uses, for programs that fetch by themselves.
    #[must_use]
    pub fn proxies(&self) -> &super::Proxies {
        &self.transport.config.proxies
    }

    /// The CA certificates that this client uses instead of the machine's, for programs that fetch by themselves.
    #[must_use]
    pub fn ca_files(&self) -> &[std::path::PathBuf] {
        &self.transport.config.ca_files
    }

    async fn ask_for_file(&self, url: &Url, wanted: &FileRequest) -> Result<Response, RegistryError> {
        let mut at = url.clone();
        at.set_fragment(None);
        for _ in 0..=REDIRECTS {
            let mut request = self.transport.client(&at)?.get(at.clone());
            if let Some(known) = &wanted.known {
                if let Some(etag) = &known.etag {
                    request = request.header(IF_NONE_MATCH, etag);
                } else if let Some(time) = &known.last_modified {
                    request = request.header(IF_MODIFIED_SINCE, time);
                }
            }
            if let Some(authorization) = wanted.authorization.as_ref().filter(|_| at.origin() == url.origin()) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|error| unreachable(&Method::GET, &at, error))?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            at = redirect(&at, location, wanted.verified)?;
        }
        Err(RegistryError::Redirect { url: shown(url), target: shown(&at), why: "too many redirects" })
    }
}

/// Where a redirect leads, if it may be followed.
fn redirect(from: &Url, location: &str, verified: bool) -> Result<Url, RegistryError> {
    let refuse = |why| {
        let target = location.split('?').next().unwrap_or_default();
        let target = target.chars().filter(|letter| !letter.is_control()).take(200).collect();
        Err(RegistryError::Redirect { url: shown(from), target, why })
    };
    if location.is_empty() {
        return refuse("no address is given");
    }
    let Ok(mut target) = from.join(location) else { return refuse("that is no address") };
    target.set_fragment(None);
    match target.scheme() {
        "https" => {}
        "http" if from.scheme() == "http" || verified => {}
        "http" => return refuse("from https to plain http"),
        _ => return refuse("neither http nor https"),
    }
    if inside(&target).is_some_and(|place| inside(from) != Some(place)) {
        return refuse("into this machine or its link");
    }
    Ok(target)
}

/// Where only this machine gets to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Itself.
    Machine,
    /// What is on the same link, such as the metadata of a cloud.
    Link,
}

fn inside(url: &Url) -> Option<Inside> {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let (machine, link) = match address.map(|address| address.to_canonical()) {
        Ok(std::net::IpAddr::V4(address)) => {
            (address.is_loopback() || address.is_unspecified(), address.is_link_local())
        }
        Ok(std::net::IpAddr::V6(address)) => {
            (address.is_loopback() || address.is_unspecified(), address.is_unicast_link_local())
        }
        Err(_) => (is_loopback(host) || host.ends_with(".localhost"), false),
    };
    if machine { Some(Inside::Machine) } else { link.then_some(Inside::Link) }
}

async fn receive(
    mut response: Response,
    into: &mut tokio::fs::File,
    limit: u64,
    events: &Events,
) -> Result<Fetched, RegistryError> {
    let url = shown(response.url());
    let announced = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|size| size > limit) {
        return Err(RegistryError::TooLarge { url, limit });
    }
    let writing = |source| RegistryError::StoreFile { url: url.clone(), source };
    into.set_len(0).await.map_err(writing)?;
    into.rewind().await.map_err(writing)?;
    let version = Version::of(response.headers());
    let tell = |current, done| {
        let (id, action) = (url.clone(), Action::Download);
        events.send(Event::Progress { id, action, vertex: None, current, total: announced, done });
    };
    let (mut hash, mut size, mut told) = (Sha256::new(), 0, 0);
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(_) => return Err(RegistryError::BrokenOff { url, received: size }),
        };
        size += chunk.len() as u64;
        if size > limit {
            return Err(RegistryError::TooLarge { url, limit });
        }
        hash.update(&chunk);
        into.write_all(&chunk).await.map_err(writing)?;
        if size - told >= STEP {
            told = size;
            tell(size, false);
        }
    }
    into.flush().await.map_err(writing)?;
    tell(size, true);
    Ok(Fetched::File { digest: Digest::from_bytes(hash.finalize().into()), size, version })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`; the two obsolete forms are not read.
fn parse_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let [day, month, year, time, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else { return None };
    let number = |text: &str, most: u64| text.parse::<u64>().ok().filter(|number| *number <= most);
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let (day, year) = (number(day, 31).filter(|day| *day > 0)?, number(year, 9999).filter(|year| *year >= 1970)?);
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    // Days from 1 March of year 0, so that the leap day is a year's last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1;
    let seconds = number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(days.checked_sub(719_468)? * 86_400 + seconds))
}

/// `host[:port]` of a URL, by which logins are told apart; nothing where it is none for this client.
#[must_use]
pub fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(Url::has_host)?;
    Some(authority(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_rfc_9110() {
        let seconds = |text: &str| parse_date(text).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs());
        for (text, want) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), want, "{text}");
        }
    }

    #[test]
    fn redirects_stay_on_http_and_out_of_this_machine() {
        let follow = |from: &str, to: &str, verified: bool| {
            redirect(&Url::parse(from).unwrap(), to, verified).map(|url| url.to_string()).ok()
        };
        assert_eq!(follow("https://a/x", "/y#z", false).as_deref(), Some("https://a/y"));
        assert_eq!(follow("http://a/x", "https://b/", false).as_deref(), Some("https://b/"));
        assert_eq!(follow("http://127.0.0.1:1/", "http://127.0.0.1:2/", false).as_deref(), Some("http://127.0.0.1:2/"));
        assert!(follow("https://a/", "http://a/", false).is_none());
        assert!(follow("https://a/", "http://a/", true).is_some());
        for to in [
            "file:///etc/passwd",
            "ftp://b/",
            "unix:/run/x",
            "",
            "http://169.254.169.254/latest",
            "http://localhost/",
            "http://localhost.:80/",
            "http://a.localhost/",
            "http://127.9.9.9/",
            "http://2130706433/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
            "http://[fe80::1]/",
        ] {
            assert!(follow("http://a/", to, false).is_none(), "{to}");
        }
        // A server of this machine sends nobody to the link, nor one there to this machine.
        for (from, to) in [("http://localhost/", "http://169.254.169.254/"), ("http://[fe80::1]/", "http://[::1]/")] {
            assert!(follow(from, to, false).is_none(), "{from} {to}");
        }
        assert!(follow("http://169.254.1.1/", "http://169.254.1.2/", false).is_some());
    }
}

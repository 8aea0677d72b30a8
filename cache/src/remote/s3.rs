//! A cache in a bucket of S3, or of a server that speaks it.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};

use super::http::{self, refusal};
use super::{Answer, Backend, DOCUMENT_LIMIT, Document, FORMAT, Name, RemoteError};
use crate::digest::Digest;
use crate::image::manifest;
use crate::registry::Client;
use crate::store::Store;

/// Where a cache lies, and who asks.
#[derive(Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The server; none is Amazon's of the region.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path; else it is part of the host's name.
    pub path_style: bool,
    /// Before all keys.
    pub prefix: String,
    /// Before the keys of blobs.
    pub blobs_prefix: String,
    /// Before the keys of documents.
    pub manifests_prefix: String,
    /// Caches that are written; the first one is read.
    pub names: Vec<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Options").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// A bucket.
#[derive(Debug)]
pub struct S3Cache {
    label: String,
    client: Client,
    options: S3Options,
    base: Url,
}

impl S3Cache {
    /// The cache that the options name.
    ///
    /// # Errors
    /// Where the server's address is none.
    pub fn new(client: Client, options: S3Options) -> Result<Self, RemoteError> {
        let amazon = || format!("https://s3.{}.amazonaws.com", options.region);
        let mut base = http::address(&options.endpoint.clone().unwrap_or_else(amazon))?;
        if !options.path_style {
            let host = format!("{}.{}", options.bucket, base.host_str().unwrap_or_default());
            base.set_host(Some(&host)).map_err(|_| crate::registry::RegistryError::Address { text: host })?;
        }
        let name = options.names.first().map_or("", String::as_str);
        let label = format!("S3 cache {}/{}{name}", options.bucket, options.prefix);
        Ok(Self { label, client, options, base })
    }

    fn document_key(&self, cache: &str, name: Name) -> String {
        let S3Options { prefix, manifests_prefix, .. } = &self.options;
        let name = match name {
            Name::Latest => "latest".to_owned(),
            Name::Definition(key) => format!("definitions/{key}"),
            Name::Step(key) => format!("steps/{key}"),
            Name::Mount(key) => format!("mounts/{key}"),
        };
        format!("{prefix}{manifests_prefix}lapstrake-{FORMAT}/{cache}/{name}.json")
    }

    fn blob_key(&self, digest: &Digest) -> String {
        format!("{}{}{digest}", self.options.prefix, self.options.blobs_prefix)
    }

    /// The address of an object. Its path is encoded once, exactly as it is signed.
    fn url(&self, key: &str) -> Result<Url, RemoteError> {
        let key = match self.options.path_style {
            true => format!("{}/{key}", self.options.bucket),
            false => key.to_owned(),
        };
        let base = self.base.as_str().trim_end_matches('/');
        http::address(&format!("{base}/{}", encoded(&key)))
    }

    /// A signed request; `hash` is the SHA-256 of its body.
    async fn call(
        &self,
        method: Method,
        key: &str,
        hash: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RemoteError> {
        let url = self.url(key)?;
        let request = |client: &reqwest::Client| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let mut request = client.request(method.clone(), url.clone());
            for (name, value) in sign(&self.options, method.as_str(), &url, hash, now) {
                request = request.header(name, value);
            }
            shape(request)
        };
        Ok(self.client.ask(&url, request).await?)
    }

    async fn get(&self, key: &str) -> Result<Option<Response>, RemoteError> {
        let response = self.call(Method::GET, key, &Digest::of(b"").hex(), |request| request).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refusal(response).await),
        }
    }
}

impl Backend for S3Cache {
    fn label(&self) -> &str {
        &self.label
    }

    fn document(&self, name: Name) -> Answer<'_, Option<Document>> {
        Box::pin(async move {
            let cache = self.options.names.first().map_or("", String::as_str);
            let Some(response) = self.get(&self.document_key(cache, name)).await? else { return Ok(None) };
            Ok(Document::read(&http::read(response, DOCUMENT_LIMIT).await?))
        })
    }

    fn put_document<'a>(&'a self, name: Name, document: &'a Document) -> Answer<'a, ()> {
        Box::pin(async move {
            let bytes = document.to_bytes().map_err(RemoteError::Write)?;
            let hash = Digest::of(&bytes).hex();
            for cache in &self.options.names {
                let key = self.document_key(cache, name);
                let response = self.call(Method::PUT, &key, &hash, |request| {
                    request.header(CONTENT_TYPE, "application/json").body(bytes.clone())
                });
                let response = response.await?;
                if !response.status().is_success() {
                    return Err(refusal(response).await);
                }
            }
            Ok(())
        })
    }

    fn fetch<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        Box::pin(async move {
            let digest = manifest::digest_of(blob)?;
            match self.get(&self.blob_key(&digest)).await? {
                Some(response) => http::into_store(response, blob, store).await,
                None => Err(crate::content::ContentError::Missing { digest }.into()),
            }
        })
    }

    fn send<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        Box::pin(async move {
            let digest = manifest::digest_of(blob)?;
            let key = self.blob_key(&digest);
            let there = self.call(Method::HEAD, &key, &Digest::of(b"").hex(), |request| request).await?;
            if there.status() == StatusCode::OK {
                return Ok(());
            }
            // Whether the blob can be read is known before the request is made.
            self.client.blob_body(store, digest, blob.size())?;
            let body = || self.client.blob_body(store, digest, blob.size()).unwrap_or_default();
            let hash = digest.hex();
            let response = self.call(Method::PUT, &key, &hash, |request| {
                let request = request.header(CONTENT_TYPE, "application/octet-stream");
                request.header(CONTENT_LENGTH, blob.size()).body(body())
            });
            let response = response.await?;
            if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
        })
    }
}

/// A path as AWS signs it: everything but letters, digits, `-._~` and slashes.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The headers that sign a request without a query (AWS Signature Version 4); `now` is in seconds since 1970.
fn sign(options: &S3Options, method: &str, url: &Url, hash: &str, now: u64) -> Vec<(&'static str, String)> {
    let (date, time) = stamp(now);
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut headers = vec![("x-amz-content-sha256", hash.to_owned()), ("x-amz-date", format!("{date}T{time}Z"))];
    if let Some(token) = &options.session_token {
        headers.push(("x-amz-security-token", token.clone()));
    }
    let mut signed = vec![("host", host)];
    signed.extend(headers.iter().cloned());
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("{method}\n{}\n\n{lines}\n{names}\n{hash}", url.path());
    let scope = format!("{date}/{}/s3/aws4_request", options.region);
    let text = format!("AWS4-HMAC-SHA256\n{date}T{time}Z\n{scope}\n{}", Digest::of(canonical.as_bytes()).hex());
    let mut key = hmac(format!("AWS4{}", options.secret_access_key).as_bytes(), date.as_bytes());
    for part in [options.region.as_str(), "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    let signature = Digest::from_bytes(hmac(&key, text.as_bytes())).hex();
    let id = &options.access_key_id;
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    headers.push(("authorization", authorization));
    headers
}

/// HMAC with SHA-256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// `YYYYMMDD` and `HHMMSS` of a time in seconds since 1970, by the calendar's 400 years of 146,097 days.
fn stamp(now: u64) -> (String, String) {
    let (days, seconds) = (now / 86_400, now % 86_400);
    // Days since 1 March of the year 0, and years that begin in March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let time = format!("{:02}{:02}{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    (format!("{year:04}{month:02}{day:02}"), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_that_botocore_makes() {
        let mut options = S3Options {
            bucket: "cache".into(),
            region: "eu-central-1".into(),
            endpoint: None,
            path_style: true,
            prefix: String::new(),
            blobs_prefix: String::new(),
            manifests_prefix: String::new(),
            names: vec![],
            access_key_id: "id".into(),
            secret_access_key: "key".into(),
            session_token: None,
        };
        let url = Url::parse("http://127.0.0.1:5000/cache/team/blobs/sha256%3Aab").unwrap();
        // S3SigV4Auth of botocore for a PUT of "x" at 2026-11-21T12:34:56Z.
        for (token, signature) in [
            (None, "b78ea7f62bb992d1a7de3f883b27244486ae824781e92e651ce55f0c20c77e5c"),
            (Some("session"), "ec05fe22ee0ef2874d902d1105af73e0107060051f5fb7e8cab74fb523d7ad0c"),
        ] {
            options.session_token = token.map(str::to_owned);
            let headers = sign(&options, "PUT", &url, &Digest::of(b"x").hex(), 1_795_264_496);
            let value = |name: &str| headers.iter().find(|(own, _)| *own == name).unwrap().1.clone();
            assert_eq!(value("x-amz-date"), "20261121T123456Z");
            assert!(value("authorization").ends_with(&format!("Signature={signature}")), "{headers:?}");
        }
    }

    #[test]
    fn the_parts_of_a_signature_are_right() {
        assert_eq!(stamp(1_369_353_600), ("20130524".to_owned(), "000000".to_owned()));
        assert_eq!(stamp(951_827_696), ("20000229".to_owned(), "123456".to_owned()));
        assert_eq!(stamp(4_107_542_399), ("21000228".to_owned(), "235959".to_owned()));
        // RFC 4231, test cases 1 and 6.
        let first = Digest::from_bytes(hmac(&[0x0b; 20], b"Hi There")).hex();
        assert_eq!(first, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(Digest::from_bytes(long).hex(), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        assert_eq!(encoded("a b/ü+sha256:x~"), "a%20b/%C3%BC%2Bsha256%3Ax~");
    }
}

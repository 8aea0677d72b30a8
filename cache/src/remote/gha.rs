//! The cache of GitHub Actions: its service's second version (twirp, since 2025 the only one on github.com) and the
//! first one, which other runners speak.
//!
//! An entry of the service is never changed. A document therefore gets a new entry each time, whose key ends with the
//! time; the service finds the newest one by the beginning of its key. Blobs are found by their whole key.

use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};

use super::http::{self, refusal};
use super::{Answer, Backend, DOCUMENT_LIMIT, Document, FORMAT, Name, RemoteError};
use crate::digest::Digest;
use crate::image::manifest;
use crate::registry::Client;
use crate::store::Store;

const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";
/// Sent at once to the first version of the service, in bytes.
const CHUNK: u64 = 32 << 20;

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `_apis/artifactcache`.
    V1,
    /// Twirp, and signed addresses of a blob store.
    V2,
}

/// A scope of the cache of a repository.
#[derive(Debug)]
pub struct GhaCache {
    label: String,
    client: Client,
    protocol: Protocol,
    base: Url,
    token: String,
    scope: String,
}

/// What is sent.
enum Content<'a> {
    Bytes(Vec<u8>),
    Blob(&'a Store, Digest, u64),
}

impl Content<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(_, _, size) => *size,
        }
    }
}

impl GhaCache {
    /// The cache of `scope`, at the service's address.
    ///
    /// # Errors
    /// Where the address is none.
    pub fn new(client: Client, protocol: Protocol, url: &str, token: String, scope: &str) -> Result<Self, RemoteError> {
        let base = http::address(&format!("{}/", url.trim_end_matches('/')))?;
        let plain = scope.len() <= 64 && scope.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let scope = if plain { scope.to_owned() } else { Digest::of(scope.as_bytes()).hex()[..32].to_owned() };
        Ok(Self { label: format!("GitHub Actions cache ({scope})"), client, protocol, base, token, scope })
    }

    /// The beginning of the keys of a document.
    fn prefix(&self, name: Name) -> String {
        match name {
            Name::Latest => format!("lapstrake-{FORMAT}-{}-l-", self.scope),
            Name::Definition(key) => format!("lapstrake-{FORMAT}-{}-d-{key}-", self.scope),
            Name::Step(key) => format!("lapstrake-{FORMAT}-{}-k-{key}-", self.scope),
            Name::Mount(key) => format!("lapstrake-{FORMAT}-{}-m-{key}-", self.scope),
        }
    }

    fn blob_key(digest: &Digest) -> String {
        format!("lapstrake-{FORMAT}-blob-{}", digest.hex())
    }

    /// Entries of another version are others.
    fn version() -> String {
        Digest::of(format!("lapstrake cache {FORMAT}").as_bytes()).hex()
    }

    fn url(&self, path: &str) -> Result<Url, RemoteError> {
        http::address(&format!("{}{path}", self.base))
    }

    /// A request to the service itself, which alone gets the token.
    async fn call(
        &self,
        method: Method,
        path: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RemoteError> {
        let url = self.url(path)?;
        let accept = match self.protocol {
            Protocol::V1 => "application/json;api-version=6.0-preview.1",
            Protocol::V2 => "application/json",
        };
        let request = |client: &reqwest::Client| {
            let request = client.request(method.clone(), url.clone()).header(ACCEPT, accept);
            shape(request.header(AUTHORIZATION, format!("Bearer {}", self.token)))
        };
        Ok(self.client.ask(&url, request).await?)
    }

    async fn twirp(&self, method: &str, body: &Value) -> Result<Response, RemoteError> {
        self.call(Method::POST, &format!("{SERVICE}/{method}"), |request| request.json(body)).await
    }

    /// The address of the newest entry whose key begins with `prefix`, or, where `whole`, is that.
    async fn find(&self, prefix: &str, whole: bool) -> Result<Option<Url>, RemoteError> {
        let (response, key_field, url_field) = match self.protocol {
            Protocol::V1 => {
                let query = [("keys", prefix), ("version", &Self::version())];
                let path = "_apis/artifactcache/cache";
                (self.call(Method::GET, path, |request| request.query(&query)).await?, "cacheKey", "archiveLocation")
            }
            Protocol::V2 => {
                let restore: &[&str] = if whole { &[] } else { &[prefix] };
                let body = json!({"key": prefix, "restore_keys": restore, "version": Self::version()});
                let response = self.twirp("GetCacheEntryDownloadURL", &body).await?;
                (response, "matched_key", "signed_download_url")
            }
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(refusal(response).await),
        }
        let answer = json_of(response).await?;
        let key = field(&answer, key_field).unwrap_or_default();
        let fits = if whole { key.eq_ignore_ascii_case(prefix) } else { key.starts_with(prefix) };
        match field(&answer, url_field).filter(|url| fits && !url.is_empty()) {
            Some(url) => Ok(Some(http::address(url)?)),
            None => Ok(None),
        }
    }

    /// Makes an entry; one that is there already stays.
    async fn put(&self, key: &str, content: Content<'_>) -> Result<(), RemoteError> {
        match self.protocol {
            Protocol::V1 => self.put_v1(key, &content).await,
            Protocol::V2 => self.put_v2(key, &content).await,
        }
    }

    async fn put_v1(&self, key: &str, content: &Content<'_>) -> Result<(), RemoteError> {
        let size = content.size();
        let body = json!({"key": key, "version": Self::version(), "cacheSize": size});
        let response = self.call(Method::POST, "_apis/artifactcache/caches", |request| request.json(&body)).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK => {}
            StatusCode::CONFLICT => return Ok(()),
            _ => return Err(refusal(response).await),
        }
        let Some(id) = json_of(response).await?["cacheId"].as_u64() else { return Err(RemoteError::Answer) };
        let path = format!("_apis/artifactcache/caches/{id}");
        let mut at = 0;
        while at < size {
            let end = size.min(at + CHUNK);
            let chunk = match content {
                Content::Bytes(bytes) => slice(bytes, at, end),
                Content::Blob(store, digest, _) => read_part(store, digest, at, end - at).await?,
            };
            let response = self.call(Method::PATCH, &path, |request| {
                let range = format!("bytes {at}-{}/*", end - 1);
                let request = request.header(CONTENT_RANGE, range).header(CONTENT_TYPE, "application/octet-stream");
                request.body(chunk.clone())
            });
            succeeded(response.await?).await?;
            at = end;
        }
        succeeded(self.call(Method::POST, &path, |request| request.json(&json!({"size": size}))).await?).await
    }

    async fn put_v2(&self, key: &str, content: &Content<'_>) -> Result<(), RemoteError> {
        let body = json!({"key": key, "version": Self::version()});
        let response = self.twirp("CreateCacheEntry", &body).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::CONFLICT => return Ok(()),
            _ => return Err(refusal(response).await),
        }
        let answer = json_of(response).await?;
        if answer["ok"].as_bool() == Some(false) {
            return Ok(());
        }
        let url = http::address(field(&answer, "signed_upload_url").ok_or(RemoteError::Answer)?)?;
        let make = || match content {
            Content::Bytes(bytes) => Ok(bytes.clone().into()),
            Content::Blob(store, digest, size) => self.client.blob_body(store, *digest, *size),
        };
        // Whether the blob can be read is known before the request is made.
        make()?;
        let response = self.client.ask(&url, |client| {
            let request = client.put(url.clone()).header("x-ms-blob-type", "BlockBlob");
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            request.header(reqwest::header::CONTENT_LENGTH, content.size()).body(make().unwrap_or_default())
        });
        succeeded(response.await?).await?;
        let body = json!({"key": key, "version": Self::version(), "size_bytes": content.size().to_string()});
        let response = self.twirp("FinalizeCacheEntryUpload", &body).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await);
        }
        // An entry that is not concluded is none.
        if json_of(response).await?["ok"].as_bool() == Some(false) { Err(RemoteError::Answer) } else { Ok(()) }
    }
}

async fn succeeded(response: Response) -> Result<(), RemoteError> {
    if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
}

async fn json_of(response: Response) -> Result<Value, RemoteError> {
    serde_json::from_slice(&http::read(response, 1 << 20).await?).map_err(|_| RemoteError::Answer)
}

/// A field under its name, or as the JSON form of protocol buffers calls it.
fn field<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        camel.push_str(&first.to_ascii_uppercase());
        camel.push_str(&if word == "url" { "rl".to_owned() } else { rest.to_owned() });
    }
    answer[name].as_str().or_else(|| answer[&camel].as_str())
}

fn slice(bytes: &[u8], from: u64, to: u64) -> Vec<u8> {
    let at = |position| usize::try_from(position).unwrap_or(usize::MAX);
    bytes.get(at(from)..at(to)).unwrap_or_default().to_vec()
}

async fn read_part(store: &Store, digest: &Digest, from: u64, length: u64) -> Result<Vec<u8>, RemoteError> {
    let (store, digest) = (store.clone(), *digest);
    let work = move || {
        let file = store.content().open(&digest)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let path = store.content().path(&digest);
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, from).map_err(|source| RemoteError::File {
            act: "read",
            path,
            source,
        })?;
        Ok(bytes)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| RemoteError::Cancelled)?
}

impl Backend for GhaCache {
    fn label(&self) -> &str {
        &self.label
    }

    fn document(&self, name: Name) -> Answer<'_, Option<Document>> {
        Box::pin(async move {
            let Some(url) = self.find(&self.prefix(name), false).await? else { return Ok(None) };
            let response = self.client.ask(&url, |client| client.get(url.clone())).await?;
            match response.status() {
                StatusCode::OK => Ok(Document::read(&http::read(response, DOCUMENT_LIMIT).await?)),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(refusal(response).await),
            }
        })
    }

    fn put_document<'a>(&'a self, name: Name, document: &'a Document) -> Answer<'a, ()> {
        Box::pin(async move {
            let bytes = document.to_bytes().map_err(RemoteError::Write)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            self.put(&format!("{}{now}", self.prefix(name)), Content::Bytes(bytes)).await
        })
    }

    fn fetch<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        Box::pin(async move {
            let digest = manifest::digest_of(blob)?;
            let found = self.find(&Self::blob_key(&digest), true).await?;
            let url = found.ok_or(RemoteError::Content(crate::content::ContentError::Missing { digest }))?;
            http::fetch(&self.client, &url, blob, store).await
        })
    }

    fn send<'a>(&'a self, blob: &'a Descriptor, store: &'a Store) -> Answer<'a, ()> {
        Box::pin(async move {
            let digest = manifest::digest_of(blob)?;
            let key = Self::blob_key(&digest);
            if self.find(&key, true).await?.is_some() {
                return Ok(());
            }
            self.put(&key, Content::Blob(store, digest, blob.size())).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_two_names() {
        for name in ["signed_upload_url", "signedUploadUrl"] {
            assert_eq!(field(&json!({ name: "x" }), "signed_upload_url"), Some("x"), "{name}");
        }
        assert_eq!(field(&json!({"matchedKey": "k"}), "matched_key"), Some("k"));
        assert_eq!(field(&json!({"cacheKey": "k"}), "cacheKey"), Some("k"));
        assert_eq!(field(&json!({}), "cacheKey"), None);
    }
}

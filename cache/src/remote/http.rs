//! What backends that are no registries need of HTTP.

use oci_spec::image::Descriptor;
use reqwest::{Response, StatusCode, Url};

use super::RemoteError;
use crate::image::manifest;
use crate::registry::{Client, RegistryError, read_limited, shown};
use crate::store::Store;

/// Error answers are read this far, in bytes.
const MESSAGE: u64 = 4 << 10;

/// Reads an answer of at most `limit` bytes.
pub(super) async fn read(response: Response, limit: u64) -> Result<Vec<u8>, RemoteError> {
    Ok(read_limited(response, limit).await?)
}

/// The error that an answer stands for.
pub(super) async fn refusal(response: Response) -> RemoteError {
    let (status, url) = (response.status().as_u16(), shown(response.url()));
    let body = read_limited(response, MESSAGE).await.unwrap_or_default();
    // Hostile text must neither flood nor steer a terminal.
    let text = String::from_utf8_lossy(&body);
    let message = text.chars().filter(|character| !character.is_control()).take(300).collect();
    RemoteError::Status { url, status, message }
}

/// Writes the body of an answer into the store as `blob`.
pub(super) async fn into_store(mut response: Response, blob: &Descriptor, store: &Store) -> Result<(), RemoteError> {
    let expected = (manifest::digest_of(blob)?, blob.size());
    let url = shown(response.url());
    let mut ingest = store.content().ingest(Some(expected))?;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let written = std::io::Write::write_all(&mut ingest, &chunk);
                written.map_err(|source| RegistryError::StoreBlob { digest: expected.0, source })?;
            }
            Ok(None) => break,
            Err(_) => return Err(RegistryError::BrokenOff { url, received: ingest.count() }.into()),
        }
    }
    tokio::task::spawn_blocking(move || ingest.commit()).await.map_err(|_| RemoteError::Cancelled)??;
    Ok(())
}

/// Fetches a blob from an address that needs nothing but itself.
pub(super) async fn fetch(client: &Client, url: &Url, blob: &Descriptor, store: &Store) -> Result<(), RemoteError> {
    let response = client.ask(url, |client| client.get(url.clone())).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    into_store(response, blob, store).await
}

/// An address of the web.
pub(super) fn address(text: &str) -> Result<Url, RemoteError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| RegistryError::Address { text: text.chars().take(200).collect() }.into())
}

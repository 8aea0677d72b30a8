//! A file from a web server: `ADD https://…`.
//!
//! What the server said of its version is kept beside the layer that holds the file, so that an unchanged file costs
//! one question, and one whose digest is known costs none. The file is 0600 and as old as its server says.

use std::fs::File;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use lap_cache::digest::Digest;
use lap_cache::fs::{self, FsError};
use lap_cache::layer::LayerError;
use lap_cache::registry::{Fetched, FileRequest, RegistryError, Version, host_of};
use lap_cache::snapshot::{LayerRef, Snapshot, Workspace};
use lap_cache::store::StoreError;
use lap_solver::digest::Key;
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use super::Remote;
use crate::grant::GrantError;

/// Largest file that is fetched, in bytes.
const LIMIT: u64 = 64 << 30;
/// Begins the names of secrets with a whole `Authorization` header; the host follows.
const HEADER_SECRET: &str = "HTTP_AUTH_HEADER_";
/// Begins the names of secrets with a bearer token; the host follows.
const TOKEN_SECRET: &str = "HTTP_AUTH_TOKEN_";

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server, or the way there.
    #[error("cannot fetch {url}")]
    Fetch {
        /// Without query and login.
        url: String,
        /// Why.
        source: Box<RegistryError>,
    },
    /// Not the file that was asked for.
    #[error("{url} has digest {actual}, {expected} was asked for")]
    Checksum {
        /// Without query and login.
        url: String,
        /// Asked for.
        expected: Digest,
        /// Of what came.
        actual: Digest,
    },
    /// A digest in a form that is not known here.
    #[error("checksum {0:?} is not supported: write sha256: and 64 hexadecimal digits")]
    BadChecksum(String),
    /// The URL's last part is no file name.
    #[error("{0:?} is no name of a file")]
    Name(String),
    /// A token cannot be read.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layer could not be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A thread of ours ended without a result.
    #[error("cancelled")]
    Cancelled(#[from] tokio::task::JoinError),
}

/// What is known of a URL.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    version: Version,
    digest: Digest,
    layer: LayerRef,
}

/// The file at `url`, as `filename` in a file system of its own.
///
/// # Errors
/// Where it cannot be had, or its digest is not `checksum`.
pub async fn fetch(remote: &Remote, url: &str, checksum: Option<&str>, filename: &str) -> Result<Snapshot, HttpError> {
    let expected = match checksum {
        None => None,
        Some(text) => Some(text.parse::<Digest>().map_err(|_| HttpError::BadChecksum(text.to_owned()))?),
    };
    if filename.is_empty() || filename.contains(['/', '\0']) || matches!(filename, "." | "..") {
        return Err(HttpError::Name(filename.to_owned()));
    }
    let key = Key::of("http source", &(url, filename));
    let known: Option<Known> = remote.recall("http", &key)?;
    let known = match known {
        Some(known) if remote.has(&known.layer)? => Some(known),
        _ => None,
    };
    if let Some(known) = known.as_ref().filter(|known| expected == Some(known.digest)) {
        return Ok(Snapshot::default().with(known.layer));
    }
    let request = FileRequest {
        url: url.to_owned(),
        // With a digest that is not the known one, the known version is of no use.
        known: known.as_ref().filter(|_| expected.is_none()).map(|known| known.version.clone()),
        authorization: authorization(remote, url)?,
        limit: LIMIT,
        verified: expected.is_some(),
    };
    let workspace = remote.store.workspace()?;
    let file = create(&workspace, filename)?;
    let written = file.try_clone().map_err(|error| FsError::new("open", filename, error))?;
    let fetched = remote.client.fetch_file(&request, written, &remote.events).await;
    let failed = |source| HttpError::Fetch { url: shown(url), source: Box::new(source) };
    let (digest, version) = match (fetched.map_err(failed)?, known) {
        (Fetched::File { digest, version, .. }, _) => (digest, version),
        (Fetched::Unchanged, Some(known)) => return Ok(Snapshot::default().with(known.layer)),
        (Fetched::Unchanged, None) => return Err(HttpError::Name(filename.to_owned())),
    };
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(HttpError::Checksum { url: shown(url), expected, actual: digest });
    }
    date(&file, version.modified()).map_err(|error| FsError::new("change the time of", filename, error))?;
    let store = remote.store.clone();
    let layer = tokio::task::spawn_blocking(move || store.commit(workspace, &[], true)).await??;
    let layer = layer.as_ref().map(LayerRef::from);
    if let Some(layer) = layer {
        remote.remember("http", &key, &Known { version, digest, layer })?;
    }
    Ok(Snapshot { layers: layer.into_iter().collect() })
}

fn create(workspace: &Workspace, filename: &str) -> Result<File, FsError> {
    let root = fs::open_dir(&workspace.upper())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&root, filename, flags, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(|error| FsError::new("create", filename, error))?;
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(|error| FsError::new("create", filename, error))?;
    Ok(file.into())
}

fn date(file: &File, modified: Option<SystemTime>) -> io::Result<()> {
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let time = Timespec { tv_sec: i64::try_from(since.as_secs()).unwrap_or_default(), tv_nsec: 0 };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

/// The header that the user's secrets have for the server of `url`; those for the host come first.
fn authorization(remote: &Remote, url: &str) -> Result<Option<String>, GrantError> {
    let host = host_of(url).unwrap_or_default();
    for (name, prefix) in [(HEADER_SECRET, ""), (TOKEN_SECRET, "Bearer ")] {
        if let Some(value) = remote.grants.secret(&format!("{name}{host}"), false)? {
            return Ok(Some(format!("{prefix}{}", String::from_utf8_lossy(&value).trim())));
        }
    }
    Ok(None)
}

/// A URL without its query and login, which may be secrets.
#[must_use]
pub fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
        }
        None => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(shown("https://u:p@h/a/b?token=1#x"), "https://h/a/b");
        assert_eq!(shown("http://h"), "http://h");
        assert_eq!(shown("git@h:a/b"), "git@h:a/b");
    }
}

//! What can go wrong between here and a registry.

use std::time::Duration;

use crate::content::ContentError;
use crate::digest::Digest;
use crate::image::{ImageError, ManifestError};
use crate::layer::LayerError;
use crate::store::StoreError;

/// Why a registry could not be read or written. Addresses are shown without their query, which may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer: name, route, TLS, time.
    #[error("{method} {url}: no answer")]
    Unreachable {
        /// HTTP method.
        method: String,
        /// Without query.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The server takes nothing of what is sent, or says nothing to it.
    #[error("{method} {url}: it moved nothing for {limit:?}")]
    Stalled {
        /// HTTP method.
        method: String,
        /// Without query.
        url: String,
        /// For how long.
        limit: Duration,
    },
    /// The connection broke in the middle of an answer and could not be taken up again.
    #[error("{url}: the answer broke off after {received} bytes")]
    BrokenOff {
        /// Without query.
        url: String,
        /// Bytes that had come.
        received: u64,
    },
    /// An answer that is no success.
    #[error("{method} {url}: {status}{}", detail(message))]
    Status {
        /// HTTP method.
        method: String,
        /// Without query.
        url: String,
        /// HTTP status code.
        status: u16,
        /// What the registry says about it.
        message: String,
    },
    /// 401 or 403.
    #[error("{registry} refuses access to {repository}{}", detail(message))]
    Denied {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What the registry says about it.
        message: String,
        /// Whether a login was sent.
        with_login: bool,
    },
    /// The registry, or its token server, does not take a login.
    #[error("{registry} refuses the login{}", detail(message))]
    LoginRefused {
        /// The registry.
        registry: String,
        /// What it says about it.
        message: String,
    },
    /// A file with logins cannot be read or written.
    #[error("keep logins in {path}")]
    LoginFile {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What was to be sent cannot be read, or is not what it is called.
    #[error("read blob {digest} to send it")]
    Unread {
        /// The blob.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// No such tag, digest or repository.
    #[error("{reference} is not known to the registry")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// The index has nothing for the platform.
    #[error("{reference} has no image for {wanted} (there are: {offered})")]
    NoPlatform {
        /// What was asked for.
        reference: String,
        /// The platform.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// An index within an index within an index.
    #[error("{reference} is an index of indexes, nested too deeply")]
    NestedIndex {
        /// What was asked for.
        reference: String,
    },
    /// The bytes are not those of the digest.
    #[error("{url}: digest {expected} was asked for, {actual} came")]
    WrongDigest {
        /// Without query.
        url: String,
        /// Asked for.
        expected: Digest,
        /// Of what came.
        actual: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("{url}: {expected} bytes were announced, {actual} came")]
    WrongSize {
        /// Without query.
        url: String,
        /// In the descriptor.
        expected: u64,
        /// By the answer.
        actual: u64,
    },
    /// A document larger than it has reason to be.
    #[error("{url}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Without query.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// Where the registry sends for tokens is not where a login may go.
    #[error("{registry} asks to send the login to {realm}: {why}")]
    Realm {
        /// The registry.
        registry: String,
        /// The token server.
        realm: String,
        /// Why not.
        why: &'static str,
    },
    /// A 401 without a challenge that we know.
    #[error("{registry} asks for a login in a way that is not known: {challenge:?}")]
    Challenge {
        /// The registry.
        registry: String,
        /// `WWW-Authenticate`.
        challenge: String,
    },
    /// The token server's answer has no token.
    #[error("{realm}: the answer has no token")]
    NoToken {
        /// The token server.
        realm: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {target}: {why}")]
    Redirect {
        /// Without query.
        url: String,
        /// Where to.
        target: String,
        /// Why not.
        why: &'static str,
    },
    /// A list of tags that is none, or has names in it that are no tags.
    #[error("{url}: the answer is no list of tags")]
    Tags {
        /// Without query.
        url: String,
    },
    /// Where referrers would be listed, something else stands.
    #[error("{url} is no list of referrers: what refers to the image cannot be added to it")]
    NoReferrers {
        /// Without query.
        url: String,
    },
    /// An upload's answer without a usable `Location`.
    #[error("{url}: the registry opened an upload but did not say where")]
    NoLocation {
        /// Without query.
        url: String,
    },
    /// The registry says another digest than what was pushed.
    #[error("{url}: pushed {ours}, the registry has {theirs}")]
    PushedOther {
        /// Without query.
        url: String,
        /// What was sent.
        ours: Digest,
        /// What the registry says it got.
        theirs: String,
    },
    /// A layer that may only be had from addresses in its descriptor.
    #[error(
        "layer {digest} may not be distributed by registries (media type {media_type}); such layers are not fetched"
    )]
    ForeignLayer {
        /// Of the blob.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// The host is none.
    #[error("{text:?} is no registry address")]
    Address {
        /// What was given.
        text: String,
    },
    /// A credential helper failed.
    #[error("credential helper {program} for {registry}: {message}")]
    Helper {
        /// `docker-credential-…`.
        program: String,
        /// For whom it was asked.
        registry: String,
        /// What it said, or why it could not be run.
        message: String,
    },
    /// A credential helper did not answer.
    #[error("credential helper {program} for {registry} did not answer within {} s", limit.as_secs())]
    HelperSilent {
        /// `docker-credential-…`.
        program: String,
        /// For whom it was asked.
        registry: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The CA certificates cannot be read.
    #[error("read CA certificates from {path}")]
    Roots {
        /// The file.
        path: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The user closed it.
    #[error("{registry} is blocked in registries.conf")]
    Blocked {
        /// The prefix of the rule.
        registry: String,
    },
    /// A certificate that is kept for a registry is no good.
    #[error("certificate {path}: {why}")]
    Certificate {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be set up.
    #[error("set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// The manifest is no good.
    #[error("{reference}")]
    Manifest {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The image is no good.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob could not be stored or read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A blob could not be written.
    #[error("write blob {digest}")]
    StoreBlob {
        /// The blob.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A fetched file could not be written.
    #[error("write what came from {url}")]
    StoreFile {
        /// Without query.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// A layer could not be unpacked.
    #[error("layer {digest}")]
    Layer {
        /// Of the blob.
        digest: Digest,
        /// Why.
        source: LayerError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of ours ended without a result.
    #[error("a transfer was cancelled")]
    Cancelled,
}

/// Whether a connection failed since the other side's certificate is not trusted.
fn is_about_certificates(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RegistryError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { source, .. } if is_about_certificates(source) => {
                "name the file with the registry's CA certificates in SSL_CERT_FILE"
            }
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::BrokenOff { .. } => {
                "check the registry's name, and that it can be reached from here (network, proxy, firewall)"
            }
            Self::Denied { with_login: true, .. } => "check the login, and that it may do this",
            Self::Denied { with_login: false, .. } => {
                "check the name; for a private repository put a login into ~/.docker/config.json or $REGISTRY_AUTH_FILE"
            }
            Self::NotFound { .. } => "check name and tag; some registries say so, too, where a login is missing",
            Self::NoPlatform { .. } => "choose one of them with --platform",
            Self::Status { status: 429, .. } => "wait a while, or log in: the registry limits how often it is asked",
            Self::Status { status: 500.., .. } => "try again later: the registry has a problem",
            _ => return None,
        })
    }

    /// Whether the bytes that came were not those announced: worth one more try, never worth keeping.
    pub(super) const fn is_corruption(&self) -> bool {
        matches!(
            self,
            Self::WrongDigest { .. }
                | Self::WrongSize { .. }
                | Self::Content(ContentError::WrongDigest { .. } | ContentError::WrongSize { .. })
        )
    }
}

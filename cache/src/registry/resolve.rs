//! From a reference to an image: manifest or index, the platform's entry, the config. Every step hangs on the digest
//! of the one before, so a tag that moves meanwhile changes nothing.

use lap_solver::event::{Action, Event, Events};
use lap_solver::platform::Platform;
use oci_spec::image::{Descriptor, ImageIndex};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};

use super::transport::{Call, Endpoint, Scope, read_limited, shown};
use super::{Client, RegistryError, RemoteImage};
use crate::digest::Digest;
use crate::image::manifest::{self, CONFIG_LIMIT, Document, MANIFEST_LIMIT};
use crate::image::{Image, ImageError, Reference, platform as platforms};
use crate::store::Store;

/// Indexes within indexes that are followed.
const DEPTH: usize = 3;

/// A document and where its bytes came from.
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    digest: Digest,
    pub(super) media_type: Option<String>,
}

impl Client {
    /// Finds the image that a reference stands for on a platform. Manifest and config are put into the store, and so
    /// is the knowledge where its layers are; the layers are not fetched.
    ///
    /// A reference with a digest whose documents are in the store asks nobody.
    ///
    /// # Errors
    /// Where the registry does not have it or refuses, has nothing for the platform, or sends what is not sound.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        events: &Events,
    ) -> Result<RemoteImage, RegistryError> {
        let progress = |done| Event::Progress {
            id: reference.to_string(),
            action: Action::Resolve,
            vertex: None,
            current: 0,
            total: None,
            done,
        };
        events.send(progress(false));
        let first = self.first_document(reference, store).await?;
        let resolved = first.digest;
        let fetched = self.manifest_for(reference, platform, first, store).await?;
        let raw_config = self.config_of(reference, &fetched, store).await?;
        let image = Image::read(fetched.bytes, fetched.media_type.as_deref(), raw_config)?;
        let remote = RemoteImage { reference: reference.clone(), resolved, image };
        store.put_image(&remote.image)?;
        store.remember_origin(&remote.image, &remote.origin())?;
        events.send(progress(true));
        Ok(remote)
    }

    /// What the reference itself stands for.
    async fn first_document(&self, reference: &Reference, store: &Store) -> Result<Fetched, RegistryError> {
        if let Some(digest) = reference.digest()
            && let Some(fetched) = from_store(store, digest, MANIFEST_LIMIT, None)
        {
            return Ok(fetched);
        }
        if reference.digest().is_none() && store.name_get(reference)?.is_some() {
            // Known here: a HEAD often says that nothing has changed.
            if let Ok(Some(digest)) = self.head_digest(reference).await
                && let Some(fetched) = from_store(store, digest, MANIFEST_LIMIT, None)
            {
                return Ok(fetched);
            }
        }
        let path = format!("manifests/{}", reference.tag_or_digest());
        self.document(reference, &path, reference.digest().map(|digest| (digest, None)), MANIFEST_LIMIT).await
    }

    /// The digest that the registry itself gives for a tag.
    async fn head_digest(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        let (endpoint, repository) = self.transport.home(reference.registry(), reference.repository()).await?;
        let url = endpoint.url(&repository, &format!("manifests/{}", reference.tag_or_digest()))?;
        let call = Call::new(Method::HEAD, url).header(ACCEPT, manifest::ACCEPT);
        let response = self.transport.expect(&endpoint, &Scope::pull(&repository), &call).await?;
        Ok(content_digest(&response))
    }

    /// Follows an index to the manifest of the platform.
    async fn manifest_for(
        &self,
        reference: &Reference,
        platform: &Platform,
        mut fetched: Fetched,
        store: &Store,
    ) -> Result<Fetched, RegistryError> {
        for _ in 0..DEPTH {
            let read = Document::read(&fetched.bytes, fetched.media_type.as_deref());
            let document = read.map_err(|source| unsound(reference, source))?;
            let Document::Index(index) = document else { return Ok(fetched) };
            store.content().put(&fetched.bytes)?;
            let entry = choose(&index, platform).ok_or_else(|| no_platform(reference, platform, &index))?;
            fetched = self.described(reference, entry, MANIFEST_LIMIT, "manifests", store).await?;
        }
        match Document::read(&fetched.bytes, fetched.media_type.as_deref()) {
            Ok(Document::Index(_)) => Err(RegistryError::NestedIndex { reference: reference.to_string() }),
            Ok(Document::Manifest(_)) => Ok(fetched),
            Err(source) => Err(unsound(reference, source)),
        }
    }

    async fn config_of(
        &self,
        reference: &Reference,
        fetched: &Fetched,
        store: &Store,
    ) -> Result<Vec<u8>, RegistryError> {
        let read = Document::read(&fetched.bytes, fetched.media_type.as_deref());
        match read.map_err(|source| unsound(reference, source))? {
            Document::Index(_) => Err(ImageError::IsAnIndex { digest: fetched.digest }.into()),
            Document::Manifest(document) => {
                let size = document.config().size();
                let digest = manifest::digest_of(document.config()).map_err(|source| unsound(reference, source))?;
                if size > CONFIG_LIMIT {
                    return Err(ImageError::ConfigTooLarge { digest, size }.into());
                }
                Ok(self.described(reference, document.config(), CONFIG_LIMIT, "blobs", store).await?.bytes)
            }
        }
    }

    /// A document that a verified one describes: from the store, or else from the registry.
    async fn described(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
        kind: &str,
        store: &Store,
    ) -> Result<Fetched, RegistryError> {
        let digest = manifest::digest_of(descriptor).map_err(|source| unsound(reference, source))?;
        let announced = descriptor.media_type().to_string();
        if let Some(fetched) = from_store(store, digest, limit, Some(announced.clone())) {
            return Ok(fetched);
        }
        let expected = Some((digest, Some(descriptor.size())));
        let mut fetched = self.document(reference, &format!("{kind}/{digest}"), expected, limit).await?;
        // The verified descriptor is to be believed, not a header.
        fetched.media_type = Some(announced);
        Ok(fetched)
    }

    /// A document from the first address that has it as it should be; one that is damaged or cut short is asked for
    /// once more.
    pub(super) async fn document(
        &self,
        reference: &Reference,
        path: &str,
        expected: Option<(Digest, Option<u64>)>,
        limit: u64,
    ) -> Result<Fetched, RegistryError> {
        let mut failed = RegistryError::NotFound { reference: reference.to_string() };
        let by_digest = match (reference.digest(), expected) {
            (Some(_), _) => Some(true),
            (None, None) => Some(false),
            (None, Some(_)) => None,
        };
        let (registry, repository) = (reference.registry(), reference.repository());
        for endpoint in self.transport.endpoints(registry, repository, by_digest).await? {
            for _ in 0..2 {
                match self.document_from(&endpoint, reference, path, expected, limit).await {
                    Ok(fetched) => return Ok(fetched),
                    Err(error) => failed = error,
                }
                if !failed.is_corruption() && !matches!(failed, RegistryError::BrokenOff { .. }) {
                    break;
                }
            }
        }
        Err(failed)
    }

    async fn document_from(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        path: &str,
        expected: Option<(Digest, Option<u64>)>,
        limit: u64,
    ) -> Result<Fetched, RegistryError> {
        let repository = endpoint.local(reference.repository());
        let scope = Scope::pull(repository);
        let mut call = Call::new(Method::GET, endpoint.url(repository, path)?);
        if path.starts_with("manifests/") {
            call = call.header(ACCEPT, manifest::ACCEPT);
        }
        let response = self.transport.send(endpoint, &scope, &call).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(RegistryError::NotFound { reference: reference.to_string() });
        }
        if response.status() != StatusCode::OK {
            return Err(self.transport.refusal(endpoint, &scope, &call, response).await);
        }
        let url = shown(response.url());
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = read_limited(response, limit).await?;
        let digest = Digest::of(&bytes);
        match expected {
            Some((_, Some(size))) if size != bytes.len() as u64 => {
                Err(RegistryError::WrongSize { url, expected: size, actual: bytes.len() as u64 })
            }
            Some((wanted, _)) if wanted != digest => {
                Err(RegistryError::WrongDigest { url, expected: wanted, actual: digest })
            }
            _ => Ok(Fetched { bytes, digest, media_type }),
        }
    }
}

/// A document that is in the store; a damaged one counts as missing.
fn from_store(store: &Store, digest: Digest, limit: u64, media_type: Option<String>) -> Option<Fetched> {
    let bytes = store.content().read(&digest, limit).ok()?;
    Some(Fetched { bytes, digest, media_type })
}

/// `Docker-Content-Digest`.
pub(super) fn content_digest(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.trim().parse().ok()
}

fn choose<'a>(index: &'a ImageIndex, platform: &Platform) -> Option<&'a Descriptor> {
    platforms::select(index.manifests(), platform)
}

fn no_platform(reference: &Reference, wanted: &Platform, index: &ImageIndex) -> RegistryError {
    let offered: Vec<String> = index
        .manifests()
        .iter()
        .filter_map(platforms::platform_of)
        .map(|platform| platform.to_string())
        .filter(|platform| platform != "unknown/unknown")
        .take(30)
        .collect();
    RegistryError::NoPlatform {
        reference: reference.to_string(),
        wanted: wanted.to_string(),
        offered: if offered.is_empty() { "none".to_owned() } else { offered.join(", ") },
    }
}

fn unsound(reference: &Reference, source: manifest::ManifestError) -> RegistryError {
    RegistryError::Manifest { reference: reference.to_string(), source }
}

//! Images from archives: OCI archives, Docker archives, and those that are both; any compression; from a stream.
//!
//! Nothing in an archive is believed before it is checked: a blob is what its digest says, documents are read up to a
//! limit, links are looked up among the archive's own names and never on disk (CVE-2014-9356, CVE-2023-25153). What
//! a load has stored and no image needs is removed at its end.

mod error;
mod finish;
mod layout;
mod opened;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use lap_solver::event::Events;
use lap_solver::platform::Platform;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde::Deserialize;

use crate::archive::{EntryKind, Limits, Reader};
use crate::digest::{Digest, Sha256Stream};
use crate::image::manifest::{self, CONFIG_LIMIT, Document, MANIFEST_LIMIT, annotation};
use crate::image::{Artifact, Compression, Image, ImageError, Reference, platform as platforms};
use crate::layer::{self, decompress};
use crate::names::{IMAGE_NAME, REF_NAME};
use crate::store::Store;

pub use error::LoadError;
use finish::finish;
pub(crate) use finish::unpack;
pub(crate) use layout::entry_of_layout;
pub use layout::load_layout;
pub(crate) use opened::Opened;

/// Entries of an archive of images.
const ENTRY_LIMIT: u64 = 100_000;
/// Links followed from name to name.
const LINK_LIMIT: usize = 8;
/// Indexes within indexes that are followed.
const INDEX_DEPTH: usize = 3;

/// Which images of an index are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// The one for a platform.
    Only(&'a Platform),
    /// The whole index; where the archive lacks part of it, the one for a platform.
    AllOr(&'a Platform),
}

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the archive calls it; already set in the store.
    pub names: Vec<Reference>,
    /// The image, or the index of several.
    pub content: Artifact,
}

/// Loads every image of an archive, gives it its names and unpacks its layers.
///
/// # Errors
/// Where the archive is not sound, or the store cannot be written.
pub fn load(
    store: &Store,
    reader: impl Read + Send,
    wanted: Wanted<'_>,
    events: &Events,
) -> Result<Vec<Loaded>, LoadError> {
    let mut contents = Contents::default();
    let result = contents
        .read(store, decompress(reader).map_err(LoadError::Read)?)
        .and_then(|()| contents.images(store, wanted))
        .and_then(|found| found.into_iter().map(|found| finish(store, found, events)).collect());
    contents.forget(store, result.as_ref().map_or(&[][..], Vec::as_slice));
    result
}

/// What an archive holds, by normalised name.
#[derive(Default)]
struct Contents {
    documents: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, (Digest, u64)>,
    links: BTreeMap<String, String>,
    /// Blobs that were not in the store before.
    new: BTreeSet<Digest>,
}

/// An image of an archive before its layers are unpacked.
struct Found {
    names: Vec<Reference>,
    content: Artifact,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Contents {
    fn read(&mut self, store: &Store, stream: impl Read) -> Result<(), LoadError> {
        let mut reader = Reader::new(stream, Limits { entries: ENTRY_LIMIT, ..Limits::default() });
        while let Some(entry) = reader.next_entry()? {
            let name = normal_name(&entry.path)?;
            match &entry.kind {
                EntryKind::File { size, extents: None } => self.file(store, &name, *size, &mut reader)?,
                EntryKind::Symlink { target } => {
                    let (directory, _) = name.rsplit_once('/').unwrap_or_default();
                    self.links.insert(name.clone(), resolve(directory, target)?);
                }
                EntryKind::HardLink { target } => {
                    self.links.insert(name, normal_name(target)?);
                }
                // Directories say nothing; devices and sparse files have no business here.
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, store: &Store, name: &str, size: u64, reader: &mut impl Read) -> Result<(), LoadError> {
        let twice = || LoadError::Twice { name: name.to_owned() };
        match name {
            "index.json" | "manifest.json" => {
                if size > MANIFEST_LIMIT {
                    return Err(LoadError::TooLarge { name: name.to_owned(), size, limit: MANIFEST_LIMIT });
                }
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).map_err(LoadError::Read)?;
                if self.documents.insert(name.to_owned(), bytes).is_some() {
                    return Err(twice());
                }
                return Ok(());
            }
            "oci-layout" | "repositories" => return Ok(()),
            // Docker's old format repeats parts of the config beside each layer.
            _ if name.ends_with("/VERSION") || name.ends_with("/json") => return Ok(()),
            _ => {}
        }
        let expected = match name.strip_prefix("blobs/sha256/") {
            Some(hex) => {
                let digest = Digest::from_hex(hex).map_err(|_| LoadError::Name { name: name.to_owned() })?;
                Some((digest, size))
            }
            None => None,
        };
        if let Some((digest, size)) = expected
            && store.content().has(&digest)? == Some(size)
        {
            // Not read again, so not believed either: what is in the store was checked when it came in.
            return if self.files.insert(name.to_owned(), (digest, size)).is_some() { Err(twice()) } else { Ok(()) };
        }
        let mut blob = Sha256Stream::new(store.content().ingest(expected)?);
        io::copy(reader, &mut blob).map_err(LoadError::Read)?;
        let (blob, digest, size) = blob.finish();
        if store.content().has(&digest)?.is_none() {
            self.new.insert(digest);
        }
        blob.commit()?;
        if self.files.insert(name.to_owned(), (digest, size)).is_some() {
            return Err(twice());
        }
        Ok(())
    }

    /// The images, the OCI index before Docker's list; names come from both.
    fn images(&self, store: &Store, wanted: Wanted<'_>) -> Result<Vec<Found>, LoadError> {
        let docker: Option<Vec<DockerImage>> = self.document("manifest.json")?;
        let index: Option<ImageIndex> = self.document("index.json")?;
        match (index, docker) {
            (Some(index), docker) if !index.manifests().is_empty() => {
                self.oci_images(store, wanted, &index, docker.as_deref().unwrap_or_default())
            }
            (_, Some(list)) => {
                let fits = |found: &Found| match (wanted, &found.content) {
                    (Wanted::Only(platform), Artifact::Image(image)) => image.suits(platform),
                    _ => true,
                };
                let found = list.iter().map(|image| self.docker_image(store, image)).collect::<Result<Vec<_>, _>>()?;
                let found: Vec<Found> = found.into_iter().filter(fits).collect();
                match (found.is_empty(), wanted) {
                    (true, Wanted::Only(platform)) => Err(LoadError::NoPlatform { wanted: platform.to_string() }),
                    _ => Ok(found),
                }
            }
            _ => Err(LoadError::NoImages),
        }
    }

    fn document<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, LoadError> {
        let Some(bytes) = self.documents.get(name) else { return Ok(None) };
        let malformed = |source| LoadError::Malformed { name: name.to_owned(), source };
        serde_json::from_slice(bytes).map(Some).map_err(malformed)
    }

    fn oci_images(
        &self,
        store: &Store,
        wanted: Wanted<'_>,
        index: &ImageIndex,
        docker: &[DockerImage],
    ) -> Result<Vec<Found>, LoadError> {
        let mut found: Vec<Found> = Vec::new();
        for entry in index.manifests() {
            // Attestations and signatures are no images.
            if platforms::platform_of(entry).is_some_and(|platform| platform.os == "unknown") {
                continue;
            }
            let content = self.oci_content(store, wanted, entry)?;
            let name = annotation(entry, IMAGE_NAME).or_else(|| annotation(entry, REF_NAME));
            // A lone tag, as Docker and BuildKit write it, is not a name.
            let name = name.filter(|text| text.contains([':', '/'])).and_then(|text| text.parse().ok());
            match found.iter_mut().find(|other| other.content.digest() == content.digest()) {
                Some(other) => other.names.extend(name),
                None => found.push(Found { names: name.into_iter().collect(), content }),
            }
        }
        for one in found.iter_mut().filter(|one| one.names.is_empty()) {
            let images = one.content.runnable();
            let configs: Vec<String> =
                images.iter().map(|image| format!("blobs/sha256/{}", image.id().hex())).collect();
            let same = docker.iter().find(|other| configs.contains(&other.config));
            one.names = same.map(tags).unwrap_or_default();
        }
        Ok(found)
    }

    /// The image or the whole index that an entry stands for.
    fn oci_content(&self, store: &Store, wanted: Wanted<'_>, entry: &Descriptor) -> Result<Artifact, LoadError> {
        let platform = match wanted {
            Wanted::Only(platform) => platform,
            Wanted::AllOr(platform) => match self.whole_index(store, entry)? {
                Some(index) => return Ok(index),
                None => platform,
            },
        };
        let image = self.oci_image(store, platform, entry)?;
        match wanted {
            Wanted::Only(platform) if !image.suits(platform) => {
                Err(LoadError::NoPlatform { wanted: platform.to_string() })
            }
            _ => Ok(image.into()),
        }
    }

    /// The index that an entry stands for, where it is one and everything that it names is in the archive.
    fn whole_index(&self, store: &Store, entry: &Descriptor) -> Result<Option<Artifact>, LoadError> {
        let raw = self.blob(store, entry, MANIFEST_LIMIT)?;
        let announced = entry.media_type().to_string();
        let Document::Index(index) = Document::read(&raw, Some(&announced)).map_err(ImageError::from)? else {
            return Ok(None);
        };
        let has_all = |blobs: &mut dyn Iterator<Item = &Descriptor>| -> Result<bool, LoadError> {
            for blob in blobs {
                let digest = manifest::digest_of(blob).map_err(ImageError::from)?;
                match self.check(store, digest, blob.size()) {
                    Err(LoadError::Missing { .. }) => return Ok(false),
                    other => other?,
                }
            }
            Ok(true)
        };
        if !has_all(&mut index.manifests().iter())? {
            return Ok(None);
        }
        for entry in index.manifests() {
            let raw = self.blob(store, entry, MANIFEST_LIMIT)?;
            let announced = entry.media_type().to_string();
            match Document::read(&raw, Some(&announced)).map_err(ImageError::from)? {
                // An index in an index is gone through for one platform only.
                Document::Index(_) => return Ok(None),
                Document::Manifest(document) => {
                    if !has_all(&mut std::iter::once(document.config()).chain(document.layers()))? {
                        return Ok(None);
                    }
                }
            }
        }
        let digest = manifest::digest_of(entry).map_err(ImageError::from)?;
        Ok(Some(store.artifact(&digest)?))
    }

    fn oci_image(&self, store: &Store, platform: &Platform, entry: &Descriptor) -> Result<Image, LoadError> {
        let mut entry = entry.clone();
        for _ in 0..=INDEX_DEPTH {
            let raw = self.blob(store, &entry, MANIFEST_LIMIT)?;
            let announced = entry.media_type().to_string();
            match Document::read(&raw, Some(&announced)).map_err(ImageError::from)? {
                Document::Index(index) => {
                    let none = || LoadError::NoPlatform { wanted: platform.to_string() };
                    entry = platforms::select(index.manifests(), platform).ok_or_else(none)?.clone();
                }
                Document::Manifest(document) => {
                    let raw_config = self.blob(store, document.config(), CONFIG_LIMIT)?;
                    let image = Image::read(raw, Some(&announced), raw_config)?;
                    for layer in &image.layers {
                        self.check(store, layer.digest, layer.descriptor.size())?;
                    }
                    return Ok(image);
                }
            }
        }
        let digest = manifest::digest_of(&entry).map_err(ImageError::from)?;
        Err(ImageError::IsAnIndex { digest }.into())
    }

    /// A small blob, of the size that its descriptor says.
    fn blob(&self, store: &Store, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, LoadError> {
        let digest = manifest::digest_of(descriptor).map_err(ImageError::from)?;
        self.check(store, digest, descriptor.size())?;
        Ok(store.content().read(&digest, limit)?)
    }

    /// Whether a blob is in the archive, or was in the store before, with this size.
    fn check(&self, store: &Store, digest: Digest, expected: u64) -> Result<(), LoadError> {
        match store.content().has(&digest)? {
            Some(actual) if actual == expected => Ok(()),
            Some(actual) => Err(LoadError::WrongSize { digest, expected, actual }),
            None => Err(LoadError::Missing { name: format!("blobs/sha256/{}", digest.hex()) }),
        }
    }

    /// An image of a Docker archive. It has no manifest: one is written over the layers as they lie there.
    fn docker_image(&self, store: &Store, entry: &DockerImage) -> Result<Found, LoadError> {
        let (config, size) = self.named(&entry.config)?;
        if size > CONFIG_LIMIT {
            return Err(LoadError::TooLarge { name: entry.config.clone(), size, limit: CONFIG_LIMIT });
        }
        let raw_config = store.content().read(&config, CONFIG_LIMIT)?;
        let mut layers = Vec::new();
        for name in entry.layers.iter().flatten() {
            let (digest, size) = self.named(name)?;
            let media_type = media_type_of(store, &digest)?;
            layers.push(manifest::descriptor(&media_type, digest, size).map_err(ImageError::from)?);
        }
        let write = |source| ImageError::Write { what: "manifest", source };
        let config = manifest::descriptor(MediaType::ImageConfig.as_ref(), config, size).map_err(ImageError::from)?;
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest.to_string(),
            "config": serde_json::to_value(config).map_err(write)?,
            "layers": serde_json::to_value(layers).map_err(write)?,
        });
        let raw_manifest = manifest::canonical_json(&document).map_err(write)?;
        Ok(Found { names: tags(entry), content: Image::read(raw_manifest, None, raw_config)?.into() })
    }

    /// The file that a name stands for, through links within the archive.
    fn named(&self, name: &str) -> Result<(Digest, u64), LoadError> {
        let mut at = normal_name(name.as_bytes())?;
        for _ in 0..LINK_LIMIT {
            if let Some(file) = self.files.get(&at) {
                return Ok(*file);
            }
            match self.links.get(&at) {
                Some(target) => at.clone_from(target),
                None => break,
            }
        }
        Err(LoadError::Missing { name: name.to_owned() })
    }

    /// Removes what came in and no image has. Failing leaves it to the next prune.
    fn forget(&self, store: &Store, loaded: &[Loaded]) {
        let mut kept = BTreeSet::new();
        for Loaded { content, .. } in loaded {
            kept.insert(content.digest());
            for image in content.images() {
                kept.extend([image.digest(), image.id()]);
                kept.extend(image.layers.iter().map(|layer| layer.digest));
            }
        }
        let left: BTreeSet<Digest> = self.new.difference(&kept).copied().collect();
        store.drop_unreached(&left);
    }
}

fn tags(image: &DockerImage) -> Vec<Reference> {
    image.repo_tags.iter().flatten().filter_map(|tag| tag.parse().ok()).collect()
}

fn media_type_of(store: &Store, digest: &Digest) -> Result<String, LoadError> {
    let mut start = Vec::new();
    store.content().open(digest)?.take(16).read_to_end(&mut start).map_err(LoadError::Read)?;
    Ok(match layer::Compression::of(&start) {
        layer::Compression::Gzip => Compression::GZIP.media_type(false),
        layer::Compression::Zstd => Compression::ZSTD.media_type(false),
        // OCI has no media type for bzip2 and xz; readers go by the first bytes.
        _ => Compression::Uncompressed.media_type(false),
    })
}

/// A name as it would be found below the archive's root.
fn normal_name(name: &[u8]) -> Result<String, LoadError> {
    resolve("", name)
}

/// `name` relative to `directory`, both within the archive; leading out of it is an error.
fn resolve(directory: &str, name: &[u8]) -> Result<String, LoadError> {
    let refuse = || LoadError::Name { name: String::from_utf8_lossy(name).chars().take(200).collect() };
    let text = std::str::from_utf8(name).map_err(|_| refuse())?;
    let mut parts: Vec<&str> = if text.starts_with('/') { Vec::new() } else { directory.split('/').collect() };
    parts.retain(|part| !part.is_empty());
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(refuse)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_archive() {
        for (directory, name, want) in [
            ("", "blobs/sha256/x", Some("blobs/sha256/x")),
            ("", "./a//b/", Some("a/b")),
            ("abc", "../def/layer.tar", Some("def/layer.tar")),
            ("abc", "/etc/shadow", Some("etc/shadow")),
            ("", "../x", None),
            ("a", "../../x", None),
            ("", "a/../../x", None),
        ] {
            assert_eq!(resolve(directory, name.as_bytes()).ok().as_deref(), want, "{directory} {name}");
        }
        assert!(resolve("", b"\xff").is_err());
    }
}

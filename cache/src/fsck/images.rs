//! Names, the images that they stand for, and containers.

use std::collections::BTreeMap;

use super::layout::names;
use super::mend::Mend;
use super::{Fault, Scan};
use crate::digest::Digest;
use crate::gc::digests_of_file;
use crate::image::manifest::{self, Document};
use crate::image::{ImageError, Reference};
use crate::names::{Entry, index_json};

impl Scan {
    /// The index can be read, and every image in it is all there or can be fetched.
    pub(super) fn images(&mut self) -> Result<(), ImageError> {
        let broken = self.look(|scan| {
            let problem = match scan.store.names() {
                Ok(_) if scan.store.root().join("index.json").exists() => return Ok(None),
                Ok(_) => "it is missing".to_owned(),
                Err(error) => error.to_string(),
            };
            let found = Mend::Write("index.json".to_owned(), index_json(scan.images_found()?)?);
            let problem = format!("{problem}; the images that can be found are listed without their names");
            Ok(Some(Fault::damage("index", "index.json", problem, found)))
        })?;
        if broken && !self.options.repair {
            return Ok(());
        }
        let entries = self.store.names()?;
        self.report.checked.images = entries.len() as u64;
        for entry in entries {
            let shown = entry.name.as_ref().map_or_else(|| entry.digest.to_string(), Reference::to_string);
            self.look(|scan| {
                if !scan.store.names()?.iter().any(|now| now.name == entry.name && now.digest == entry.digest) {
                    return Ok(None);
                }
                let mend = match &entry.name {
                    Some(name) => Mend::Name(name.clone()),
                    None => Mend::Image(entry.digest),
                };
                Ok(scan.image_fault(&entry)?.map(|problem| Fault::damage("image", &shown, problem, mend)))
            })?;
        }
        Ok(())
    }

    fn image_fault(&self, entry: &Entry) -> Result<Option<String>, ImageError> {
        let Some(bytes) = self.document_of(&entry.digest)? else {
            return Ok(Some(format!("its manifest {} is not there", entry.digest)));
        };
        let Document::Index(index) = (match Document::read(&bytes, None) {
            Ok(document) => document,
            Err(error) => return Ok(Some(error.to_string())),
        }) else {
            return self.manifest_fault(&entry.digest);
        };
        let (mut here, mut problem) = (0, None);
        for child in index.manifests() {
            let digest = manifest::digest_of(child)?;
            // Of other platforms mostly nothing is there, as it was never wanted.
            if self.document_of(&digest)?.is_some() {
                here += 1;
                problem = problem.or(self.manifest_fault(&digest)?);
            }
        }
        let none = here == 0 && !index.manifests().is_empty();
        Ok(problem.or_else(|| none.then(|| "none of its images is there".to_owned())))
    }

    fn manifest_fault(&self, digest: &Digest) -> Result<Option<String>, ImageError> {
        let Some(raw) = self.document_of(digest)? else { return Ok(Some(format!("{digest} is not there"))) };
        let config = match Document::read(&raw, None) {
            Ok(Document::Manifest(found)) => manifest::digest_of(found.config())?,
            Ok(Document::Index(_)) => return Ok(None),
            Err(error) => return Ok(Some(error.to_string())),
        };
        if self.document_of(&config)?.is_none() {
            return Ok(Some(format!("its config {config} is not there")));
        }
        let image = match self.store.image(digest) {
            Ok(image) => image,
            Err(error) => return Ok(Some(error.to_string())),
        };
        for layer in &image.layers {
            if !self.can_be_had(&layer.diff_id, &layer.digest)? {
                let unpacked = self.store.layer(&layer.diff_id)?.is_some();
                let what = if unpacked { "the blob of its layer" } else { "its layer" };
                return Ok(Some(format!("{what} {} is not there", layer.diff_id)));
            }
        }
        Ok(None)
    }

    /// Whether the blob of a layer is there, or can be made of its files, or it is known where it can be fetched.
    fn can_be_had(&self, diff_id: &Digest, blob: &Digest) -> Result<bool, ImageError> {
        let there = |digest: &Digest| self.has_blob(digest);
        if there(blob)? || (!self.lost_layers.contains(diff_id) && self.store.gives_tar(diff_id)?) {
            return Ok(true);
        }
        for known in self.store.layer_blobs(diff_id)? {
            if !known.origins.is_empty() || there(&manifest::digest_of(&known.descriptor)?)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_blob(&self, digest: &Digest) -> Result<bool, ImageError> {
        Ok(!self.lost_blobs.contains(digest) && self.store.content().has(digest)?.is_some())
    }

    /// A document among the blobs, if it is there and whole.
    fn document_of(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        if !self.has_blob(digest)? {
            return Ok(None);
        }
        Ok(self.store.content().read(digest, manifest::CONFIG_LIMIT).ok())
    }

    /// Manifests of images among the blobs, for an index that is lost.
    fn images_found(&self) -> Result<Vec<oci_spec::image::Descriptor>, ImageError> {
        let mut found = Vec::new();
        for name in names(self, "blobs/sha256")? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let Ok(raw) = self.store.content().read(&digest, manifest::MANIFEST_LIMIT) else { continue };
            // Layers are no documents: their first byte says so.
            if raw.first() == Some(&b'{')
                && let Ok(Document::Manifest(_)) = Document::read(&raw, None)
                && let Ok(image) = self.store.image(&digest)
            {
                found.push(image.descriptor);
            }
        }
        Ok(found)
    }

    /// Containers have a config, and the layers that they are made of.
    pub(super) fn containers(&mut self) -> Result<(), ImageError> {
        for id in names(self, "containers")? {
            let path = format!("containers/{id}");
            let config = format!("{path}/config.json");
            if !self.store.root().join(&config).exists() {
                // Half made or half removed: the next command that makes one clears it away.
                continue;
            }
            self.report.checked.containers += 1;
            self.look(|scan| {
                let text = scan.store.read_file(&config)?.unwrap_or_default();
                if serde_json::from_slice::<serde_json::Value>(&text).is_err() {
                    let problem = "its config cannot be read";
                    return Ok(Some(Fault::damage("container", &path, problem, Mend::SetAside(path.clone()))));
                }
                let mut all = digests_of_file(&scan.store.root().join(&config)).into_iter();
                let lost = all.find(|digest| scan.lost_layers.contains(digest));
                let advice = || Mend::Leave(format!("lap rm {} removes it", &id[..id.len().min(12)]));
                let fault =
                    |layer| Fault::damage("container", &path, format!("its layer {layer} is damaged"), advice());
                Ok(lost.map(fault))
            })?;
        }
        Ok(())
    }

    /// The layers that containers are made of, with the ID of one that is.
    pub(super) fn layers_of_containers(&self) -> Result<BTreeMap<Digest, String>, ImageError> {
        let mut users = BTreeMap::new();
        for id in names(self, "containers")? {
            let config = self.store.root().join("containers").join(&id).join("config.json");
            let short = id.chars().take(12).collect::<String>();
            users.extend(digests_of_file(&config).into_iter().map(|digest| (digest, short.clone())));
        }
        Ok(users)
    }
}

//! Blobs and layers.

use std::collections::BTreeMap;
use std::fs::File;

use rayon::prelude::*;

use super::layout::names;
use super::mend::Mend;
use super::{Fault, Scan};
use crate::content::ContentError;
use crate::digest::{Digest, Sha256Stream};
use crate::image::{ImageError, manifest};
use crate::layer::LayerState;
use crate::records::Records;

/// Blobs up to this size are read in a quick check too: manifests and configs among them.
const SMALL: u64 = 64 << 10;

impl Scan {
    /// Blobs are what their names say. A quick check reads the small ones, and those whose size is not the one that
    /// is written of them.
    pub(super) fn blobs(&mut self) -> Result<(), ImageError> {
        let sizes = self.sizes();
        let mut digests = Vec::new();
        for name in names(self, "blobs/sha256")? {
            match Digest::from_hex(&name) {
                Ok(digest) => digests.push(digest),
                Err(_) => self.stranger(format!("blobs/sha256/{name}"))?,
            }
        }
        self.report.checked.blobs = digests.len() as u64;
        let suspicious: Vec<Digest> = {
            let bad = |digest: &&Digest| self.blob_fault(digest, sizes.get(digest)).is_some();
            digests.par_iter().filter(bad).copied().collect()
        };
        for digest in suspicious {
            if self.look_again(|scan| Ok(scan.blob_fault(&digest, sizes.get(&digest))))? {
                self.lost_blobs.insert(digest);
            }
        }
        Ok(())
    }

    fn blob_fault(&self, digest: &Digest, size: Option<&u64>) -> Option<Fault> {
        let path = format!("blobs/sha256/{}", digest.hex());
        let full = self.store.root().join(&path);
        let damage = |problem: String| Some(Fault::damage("blob", &path, problem, Mend::Blob(*digest)));
        // Gone meanwhile.
        let found = std::fs::symlink_metadata(&full).ok()?;
        if !found.is_file() {
            return Some(Fault::damage("blob", &path, "it is no file", Mend::SetAside(path.clone())));
        }
        let expected = size.is_none_or(|size| *size == found.len());
        if expected && found.len() > SMALL && !self.options.deep {
            return None;
        }
        match digest_of(&full) {
            Ok(actual) if actual == *digest => None,
            Ok(actual) => match size.filter(|size| **size != found.len()) {
                Some(size) => damage(format!("it has {} bytes, it should have {size}", found.len())),
                None => damage(format!("its bytes have digest {actual}")),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => damage(format!("it cannot be read: {error}")),
        }
    }

    /// The sizes of blobs as they are written in images and of layers.
    fn sizes(&self) -> BTreeMap<Digest, u64> {
        let mut sizes = BTreeMap::new();
        let mut note = |descriptor: &oci_spec::image::Descriptor| {
            if let Ok(digest) = manifest::digest_of(descriptor) {
                sizes.insert(digest, descriptor.size());
            }
        };
        for entry in self.store.names().unwrap_or_default() {
            note(&entry.descriptor);
            if let Ok(image) = self.store.image(&entry.digest) {
                image.layers.iter().for_each(|layer| note(&layer.descriptor));
            }
        }
        for name in names(self, "layer-blobs").unwrap_or_default() {
            let diff_id = name.strip_suffix(".json").and_then(|hex| Digest::from_hex(hex).ok());
            let known = diff_id.and_then(|diff_id| self.store.layer_blobs(&diff_id).ok()).unwrap_or_default();
            known.iter().for_each(|blob| note(&blob.descriptor));
        }
        sizes
    }

    /// Layers are complete, and of those made here the files are there; in a deep check, their data is right too.
    pub(super) fn layers(&mut self) -> Result<(), ImageError> {
        let chains = if self.options.deep { self.chains()? } else { BTreeMap::new() };
        let users = self.layers_of_containers()?;
        for name in names(self, "layers")? {
            let path = format!("layers/{name}");
            let Ok(diff_id) = Digest::from_hex(&name) else {
                self.stranger(path)?;
                continue;
            };
            self.report.checked.layers += 1;
            let parents = chains.get(&diff_id).map_or(&[][..], Vec::as_slice);
            let look = |scan: &Self| {
                let blob = if scan.options.deep { scan.blob_of(&diff_id)? } else { None };
                Ok::<_, ImageError>(scan.store.check_layer(&diff_id, scan.options.deep, blob, parents)?)
            };
            if look(self)? == LayerState::Unverified {
                self.report.checked.unverified_layers += 1;
                continue;
            }
            let bad = self.look(|scan| {
                let mend = match users.get(&diff_id) {
                    Some(container) => {
                        Mend::Leave(format!("container {container} is made of it: remove that, then repair again"))
                    }
                    None => Mend::Layer(diff_id),
                };
                if !scan.store.root().join(&path).exists() {
                    return Ok(None);
                }
                Ok(match look(scan)? {
                    LayerState::Whole | LayerState::Unverified => None,
                    LayerState::Unfinished(why) => Some(Fault::leftover("layer", &path, why, mend)),
                    LayerState::Damaged(problem) => Some(Fault::damage("layer", &path, problem, mend)),
                })
            })?;
            if bad {
                self.lost_layers.insert(diff_id);
            }
        }
        Ok(())
    }

    /// A blob of a layer that is there and that the check has found right.
    fn blob_of(&self, diff_id: &Digest) -> Result<Option<File>, ImageError> {
        for blob in self.store.layer_blobs(diff_id)? {
            let digest = manifest::digest_of(&blob.descriptor)?;
            if self.lost_blobs.contains(&digest) || blob.diff_id.is_some() {
                continue;
            }
            match self.store.content().open(&digest) {
                Ok(file) => return Ok(Some(file)),
                Err(ContentError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// What lies below layers, as far as images and records tell.
    fn chains(&self) -> Result<BTreeMap<Digest, Vec<Digest>>, ImageError> {
        let images = self.store.names().unwrap_or_default();
        let of_images =
            images.iter().filter_map(|entry| Some(self.store.image(&entry.digest).ok()?.diff_ids().collect()));
        let records = Records::new(self.store.clone()).all().unwrap_or_default();
        let stacks: Vec<Vec<Digest>> =
            of_images.chain(records.iter().map(|record| record.snapshot.diff_ids())).collect();
        let mut chains = BTreeMap::new();
        for stack in stacks {
            for (at, diff_id) in stack.iter().enumerate() {
                chains.entry(*diff_id).or_insert_with(|| stack[..at].to_vec());
            }
        }
        Ok(chains)
    }

    /// Something among the store's things that is none of them.
    pub(super) fn stranger(&mut self, path: String) -> Result<(), ImageError> {
        self.look(|scan| {
            let there = std::fs::symlink_metadata(scan.store.root().join(&path)).is_ok();
            let fault =
                || Fault::damage("file", &path, "it does not belong to the store", Mend::SetAside(path.clone()));
            Ok(there.then(fault))
        })?;
        Ok(())
    }
}

fn digest_of(path: &std::path::Path) -> std::io::Result<Digest> {
    let mut stream = Sha256Stream::new(File::open(path)?);
    std::io::copy(&mut stream, &mut std::io::sink())?;
    Ok(stream.finish().1)
}

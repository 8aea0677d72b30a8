//! What is remembered: records of steps and of builds, what they are looked up by, blobs of layers, files of
//! contexts. All of it can be lost without harm, so what is broken is removed.

use lap_solver::digest::Key;

use super::mend::Mend;
use super::{Fault, Scan};
use crate::builds::{BUILDS, Builds};
use crate::digest::Digest;
use crate::gc::files_below;
use crate::image::ImageError;
use crate::image::blobs::KnownBlob;
use crate::records::{Listed, Record};
use crate::snapshot::LayerRef;

/// What is wrong with a file of a form; nothing where it is as it should be.
type Check = fn(&Scan, &str, &[u8]) -> Option<String>;

/// Files whose content can be checked: where they lie, what they are called, how.
const FORMS: [(&str, &str, Check); 9] = [
    ("records/selections", ".json", json::<Key>),
    ("records/adoptions", ".json", json::<Digest>),
    ("records/retimed", ".json", json::<Digest>),
    ("records/listings", ".json", json::<Vec<Listed>>),
    ("records", ".json", record),
    ("layer-blobs", ".json", json::<Vec<KnownBlob>>),
    ("builds/of", "", |_, _, bytes| {
        let id = String::from_utf8_lossy(bytes);
        let good = id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (!good).then(|| "it names no build".to_owned())
    }),
    ("builds", ".jsonl", build),
    ("sources", ".json", json::<serde_json::Value>),
];

impl Scan {
    /// Files that are remembered can be read, and are what their names say.
    pub(super) fn documents(&mut self) -> Result<(), ImageError> {
        for directory in ["records", "layer-blobs", BUILDS, "sources"] {
            for (path, _) in files_below(&self.store.root().join(directory)) {
                let Ok(below) = path.strip_prefix(self.store.root()) else { continue };
                let below = below.to_string_lossy().into_owned();
                let form = FORMS.iter().find(|(place, end, _)| {
                    let inside = below.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
                    inside && below.ends_with(end)
                });
                let Some((_, _, check)) = form else {
                    self.stranger(below)?;
                    continue;
                };
                self.report.checked.records += 1;
                self.look(|scan| scan.document(&below, *check))?;
            }
        }
        self.stats()
    }

    fn document(&self, path: &str, check: Check) -> Result<Option<Fault>, ImageError> {
        let mend = || Mend::Remove(path.to_owned());
        let bytes = match self.store.read_file(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(Fault::damage("record", path, error.to_string(), mend()))),
        };
        if bytes.iter().all(|byte| *byte == 0) {
            // They are not synced: their names may come to the disk before their bytes.
            return Ok(Some(Fault::leftover("record", path, "it is empty", mend())));
        }
        Ok(check(self, path, &bytes).map(|problem| Fault::damage("record", path, problem, mend())))
    }

    /// Digests of contexts check themselves; only what a save left is looked for.
    fn stats(&mut self) -> Result<(), ImageError> {
        for (path, _) in files_below(&self.store.root().join("stats")) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some((hex, process)) = name.split_once('.') else { continue };
            let Ok(process) = process.parse::<u32>() else { continue };
            let below = format!("stats/{hex}.{process}");
            self.look(|scan| {
                let alive = std::path::Path::new("/proc").join(process.to_string()).exists();
                let there = scan.store.root().join(&below).exists();
                let mend = Mend::Remove(below.clone());
                let fault = || Fault::leftover("temporary", &below, "left by a command that was killed", mend);
                Ok((there && !alive).then(fault))
            })?;
        }
        Ok(())
    }
}

/// The file's name without its ending.
fn stem(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.split_once('.').map_or(name, |(stem, _)| stem)
}

fn json<T: for<'de> serde::Deserialize<'de>>(_: &Scan, _: &str, bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<T>(bytes).err().map(|error| format!("it cannot be read: {error}"))
}

fn record(scan: &Scan, path: &str, bytes: &[u8]) -> Option<String> {
    let record: Record = match serde_json::from_slice(bytes) {
        Ok(record) => record,
        Err(error) => return Some(format!("it cannot be read: {error}")),
    };
    if record.key.to_hex() != stem(path) {
        return Some(format!("it is the record of {}", record.key));
    }
    if record.inputs.key() != record.key {
        return Some(format!("what it says of its step gives key {}", record.inputs.key()));
    }
    for layer in &record.snapshot.layers {
        // One that is not there makes the record count as absent, which is no fault.
        let Ok(Some(info)) = scan.store.layer(&layer.diff_id) else { continue };
        // A layer that came from outside has none of its own, and may have been made here before or after.
        let foreign = LayerRef::foreign(layer.diff_id).identity;
        let ids = [info.content_id, layer.identity];
        if ids[0] != ids[1] && !ids.contains(&foreign) && !scan.lost_layers.contains(&layer.diff_id) {
            return Some(format!("layer {} has another content ID than it says", layer.diff_id));
        }
    }
    None
}

fn build(scan: &Scan, path: &str, _: &[u8]) -> Option<String> {
    match Builds::new(scan.store.clone()).get(stem(path)) {
        Ok(Some(build)) if build.id == stem(path) => None,
        Ok(Some(build)) => Some(format!("it is the record of build {}", build.id)),
        Ok(None) => Some("it cannot be read".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

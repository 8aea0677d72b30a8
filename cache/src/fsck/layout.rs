//! The store's own files and directories, and what lies there that is not the store's.

use rustix::fs::FlockOperation;

use super::mend::{LOST, Mend};
use super::{Fault, Scan};
use crate::content::partial;
use crate::fs;
use crate::image::ImageError;
use crate::store::{DIRECTORIES, Mode, StoreError, format_json};

/// Further directories of the store, which are made when they are needed.
const MORE_DIRECTORIES: [&str; 8] =
    ["layer-blobs", "builds", "stats", "sources", "volumes", "failed", partial::DIRECTORY, LOST];
/// Files of the store.
const FILES: [&str; 10] = [
    "format",
    "oci-layout",
    "index.json",
    "gc.json",
    "gc.grown",
    "gc.lock",
    "names.lock",
    "layer-blobs.lock",
    "steps.lock",
    "secret.key",
];

impl Scan {
    /// What makes a directory a store.
    pub(super) fn layout(&mut self, mode: Mode) -> Result<(), ImageError> {
        for path in DIRECTORIES {
            self.look(|scan| {
                let there = scan.store.root().join(path).is_dir();
                let fault = || Fault::damage("directory", path, "it is missing", Mend::Directory(path.to_owned()));
                Ok((!there).then(fault))
            })?;
        }
        self.look(|scan| {
            let problem = match scan.store.read_file("format")? {
                None => "it is missing",
                Some(text) if serde_json::from_slice::<serde_json::Value>(&text).is_err() => "it cannot be read",
                Some(_) => return Ok(None),
            };
            Ok(Some(Fault::damage("file", "format", problem, Mend::Write("format".to_owned(), format_json(mode)))))
        })?;
        self.look(|scan| {
            let text = scan.store.read_file("oci-layout")?.unwrap_or_default();
            let version = serde_json::from_slice::<serde_json::Value>(&text).ok();
            let good = version.is_some_and(|json| json["imageLayoutVersion"] == "1.0.0");
            let whole = Mend::Write("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
            Ok((!good).then(|| Fault::damage("file", "oci-layout", "it is not that of an OCI layout", whole)))
        })?;
        self.strangers()
    }

    /// What does not belong into the store's directory. It may be somebody's, so it is only set aside.
    fn strangers(&mut self) -> Result<(), ImageError> {
        let known = |name: &str| {
            let directories = DIRECTORIES.iter().filter_map(|path| path.split('/').next()).chain(MORE_DIRECTORIES);
            directories.chain(FILES).any(|known| known == name)
        };
        for name in names(self, ".")? {
            if known(&name) {
                continue;
            }
            self.look(|scan| {
                if !scan.store.root().join(&name).exists() {
                    return Ok(None);
                }
                if let Some("format" | "oci-layout" | "index.json") = name.strip_suffix(".new") {
                    let problem = "a half-made store's";
                    return Ok(Some(Fault::leftover("temporary", &name, problem, Mend::Remove(name.clone()))));
                }
                let problem = "it does not belong to the store";
                Ok(Some(Fault::damage("file", &name, problem, Mend::SetAside(name.clone()))))
            })?;
        }
        Ok(())
    }

    /// What processes were making when they died.
    pub(super) fn temporaries(&mut self) -> Result<(), ImageError> {
        for name in names(self, "tmp")? {
            let path = format!("tmp/{name}");
            self.look(|scan| {
                let full = scan.store.root().join(&path);
                let Ok(found) = std::fs::symlink_metadata(&full) else { return Ok(None) };
                if !found.is_dir() {
                    let problem = "it belongs to no command";
                    return Ok(Some(Fault::damage("temporary", &path, problem, Mend::Remove(path.clone()))));
                }
                let Ok(dir) = fs::open_dir(&full) else { return Ok(None) };
                if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
                    return Ok(None);
                }
                let problem = "left by a command that was killed";
                Ok(Some(Fault::leftover("temporary", &path, problem, Mend::Remove(path.clone()))))
            })?;
        }
        Ok(())
    }
}

/// Names in a directory of the store, as text; none where it is not there.
pub(super) fn names(scan: &Scan, path: &str) -> Result<Vec<String>, ImageError> {
    let Ok(dir) = fs::open_dir(&scan.store.root().join(path)) else { return Ok(Vec::new()) };
    let names = fs::sorted_names(dir).map_err(StoreError::from)?;
    Ok(names.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect())
}

//! Bills of materials: which packages an image holds, read from its layers without mounting or running anything.
//!
//! A file is told by its path ([`SCANNERS`]); each scanner is pure over bytes that nobody vouches for. What cannot be
//! read is noted, never an error, and everything is bounded. The list is sorted: same image, same document.

mod record;
mod scan;
pub mod spdx;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use lap_solver::purl::Purl;
use rustix::fs::{FileType, OFlags};

use crate::fs;
use crate::layer::{Found, LayerError, View};
use scan::{Malformed, Reads, SCANNERS, Scanner};

/// Type of the predicate that a document is.
pub const PREDICATE_TYPE: &str = "https://spdx.dev/Document";
/// Packages that are listed at most.
const PACKAGES: usize = 200_000;
/// Files and directories that are looked at.
const ENTRIES: usize = 20_000_000;
/// Notes that are kept.
const NOTES: usize = 100;
/// Longest name or version of a package, in bytes.
const FIELD: usize = 512;

/// A package of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Type, name, version and more.
    pub purl: Purl,
    /// What its database calls it; the URL's name may be normalised.
    pub name: String,
    /// As its database has it.
    pub version: String,
    /// The file that tells of it, an absolute path.
    pub found_in: String,
}

impl Package {
    /// A package, where name and version are ones that a person could have given it.
    fn new(purl: Purl, name: &str, version: &str) -> Option<Self> {
        let sound = |text: &str| text.len() <= FIELD && !text.chars().any(char::is_control);
        let whole = sound(name) && sound(version) && sound(&purl.namespace) && sound(&purl.name);
        (whole && !purl.name.is_empty() && !version.is_empty()).then(|| Self {
            purl,
            name: name.to_owned(),
            version: version.to_owned(),
            found_in: String::new(),
        })
    }
}

/// What an image holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// By package URL.
    pub packages: BTreeMap<String, Package>,
    /// What could not be read, in order of finding.
    pub notes: Vec<String>,
}

/// The distribution that an image says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    id: String,
    version: String,
}

impl Distribution {
    /// Reads `os-release`.
    fn read(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            let value = line.unwrap_or_default().trim().trim_matches(['"', '\'']);
            let sound = value.len() <= 64 && value.bytes().all(|byte| byte.is_ascii_graphic());
            if sound { value.to_owned() } else { String::new() }
        };
        Self { id: value("ID"), version: value("VERSION_ID") }
    }

    /// `debian-12`
    fn qualifier(&self) -> String {
        match self.version.as_str() {
            "" => self.id.clone(),
            version => format!("{}-{version}", self.id),
        }
    }

    fn id_or<'a>(&'a self, default: &'a str) -> &'a str {
        if self.id.is_empty() { default } else { &self.id }
    }
}

/// Lists the packages in the merged tree of layers.
///
/// # Errors
/// Where a layer cannot be read.
pub fn inventory(view: &View) -> Result<Inventory, LayerError> {
    let mut inventory = Inventory::default();
    let distribution = distribution(view)?;
    let mut stack = vec![view.root()];
    let mut seen = 0;
    while let Some(level) = stack.pop() {
        for name in view.names(&level)? {
            let Some(found) = view.find_in(&level, &name)? else { continue };
            seen += 1;
            if seen > ENTRIES || inventory.packages.len() > PACKAGES {
                inventory.note("the image holds more than is listed".to_owned());
                return Ok(inventory);
            }
            match FileType::from_raw_mode(found.stat.st_mode) {
                FileType::Directory if !matches!(&found.path[..], b"proc" | b"sys" | b"dev") => {
                    stack.push(view.enter(&level, &name)?);
                }
                FileType::RegularFile => inventory.file(&found, &distribution)?,
                _ => {}
            }
        }
    }
    Ok(inventory)
}

impl Inventory {
    fn note(&mut self, text: String) {
        if self.notes.len() < NOTES {
            self.notes.push(text);
        }
    }

    fn file(&mut self, found: &Found<'_>, distribution: &Distribution) -> Result<(), LayerError> {
        let Ok(path) = std::str::from_utf8(&found.path) else { return Ok(()) };
        let executable = found.stat.st_mode & 0o111 != 0;
        let Some(scanner) = SCANNERS.iter().find(|scanner| (scanner.fits)(path, executable)) else { return Ok(()) };
        let size = u64::try_from(found.stat.st_size).unwrap_or(0);
        let path = format!("/{path}");
        if size > scanner.limit {
            self.note(format!("{path:?} is too large to be read"));
            return Ok(());
        }
        let file = File::from(fs::open_beneath(found.layer, &found.path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
        match read(scanner, &file, size, &path, distribution) {
            Ok(packages) => self.add(packages, &path),
            Err(Malformed(why)) => self.note(format!("{path:?}: {why}")),
        }
        Ok(())
    }

    fn add(&mut self, packages: Vec<Package>, path: &str) {
        for mut package in packages.into_iter().take(PACKAGES) {
            path.clone_into(&mut package.found_in);
            let entry = self.packages.entry(package.purl.to_string());
            // One found twice is told of where it is first in order of name, whatever the order of the walk.
            let known = entry.or_insert_with(|| package.clone());
            if package.found_in < known.found_in {
                *known = package;
            }
        }
    }
}

fn read(
    scanner: &Scanner,
    file: &File,
    size: u64,
    path: &str,
    distribution: &Distribution,
) -> Result<Vec<Package>, Malformed> {
    match scanner.reads {
        Reads::Text(scan) => {
            let mut bytes = Vec::new();
            file.take(size).read_to_end(&mut bytes).map_err(|_| Malformed("cannot be read"))?;
            scan(&String::from_utf8_lossy(&bytes), path, distribution)
        }
        Reads::Parts(scan) => scan(&|offset, buffer| file.read_exact_at(buffer, offset).is_ok(), size, distribution),
    }
}

/// What `os-release` says; the one in `/etc` is mostly a link to the other.
fn distribution(view: &View) -> Result<Distribution, LayerError> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        let Some(found) = view.find(path.as_bytes())? else { continue };
        if FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile {
            let file = File::from(fs::open_beneath(found.layer, &found.path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
            let mut text = Vec::new();
            if file.take(64 << 10).read_to_end(&mut text).is_ok() {
                return Ok(Distribution::read(&String::from_utf8_lossy(&text)));
            }
        }
    }
    Ok(Distribution::default())
}

#[cfg(test)]
mod tests;

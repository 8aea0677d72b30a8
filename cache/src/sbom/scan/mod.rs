//! The scanners, one file each, and which files they read.

mod apk;
mod composer;
mod dpkg;
mod gem;
mod golang;
mod jar;
mod node;
mod python;
mod rpm;
mod rust;

use serde_json::Value;

use super::{Distribution, Package};

/// Why a file yields nothing; a sentence's end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Reads `buffer.len()` bytes at an offset; says whether they are there.
pub(super) type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> bool;

/// How a scanner gets at a file.
pub(super) enum Reads {
    /// As text; what is no UTF-8 is replaced. With its absolute path.
    Text(fn(&str, &str, &Distribution) -> Result<Vec<Package>, Malformed>),
    /// In parts, with its size.
    Parts(fn(ReadAt<'_>, u64, &Distribution) -> Result<Vec<Package>, Malformed>),
}

/// A kind of file that tells of packages.
pub(super) struct Scanner {
    /// Whether a file is of this kind, by its path (without leading slash) and whether it can be executed.
    pub(super) fits: fn(&str, bool) -> bool,
    /// Bytes above which it is passed over.
    pub(super) limit: u64,
    /// How it is read.
    pub(super) reads: Reads,
}

const MIB: u64 = 1 << 20;

/// In order: the first that fits reads a file.
pub(super) const SCANNERS: &[Scanner] = &[
    Scanner { fits: dpkg::fits, limit: 64 * MIB, reads: Reads::Text(dpkg::scan) },
    Scanner { fits: apk::fits, limit: 64 * MIB, reads: Reads::Text(apk::scan) },
    Scanner { fits: rpm::fits, limit: u64::MAX, reads: Reads::Parts(rpm::scan) },
    Scanner { fits: node::is_package_lock, limit: 64 * MIB, reads: Reads::Text(node::package_lock) },
    Scanner { fits: node::is_installed, limit: MIB, reads: Reads::Text(node::installed) },
    Scanner { fits: node::is_yarn_lock, limit: 64 * MIB, reads: Reads::Text(node::yarn_lock) },
    Scanner { fits: node::is_pnpm_lock, limit: 64 * MIB, reads: Reads::Text(node::pnpm_lock) },
    Scanner { fits: rust::fits, limit: 16 * MIB, reads: Reads::Text(rust::scan) },
    Scanner { fits: python::is_metadata, limit: 4 * MIB, reads: Reads::Text(python::metadata) },
    Scanner { fits: python::is_toml_lock, limit: 16 * MIB, reads: Reads::Text(python::toml_lock) },
    Scanner { fits: python::is_pipfile_lock, limit: 16 * MIB, reads: Reads::Text(python::pipfile_lock) },
    Scanner { fits: python::is_requirements, limit: 4 * MIB, reads: Reads::Text(python::requirements) },
    Scanner { fits: composer::fits, limit: 64 * MIB, reads: Reads::Text(composer::scan) },
    Scanner { fits: gem::is_lock, limit: 16 * MIB, reads: Reads::Text(gem::lock) },
    Scanner { fits: gem::is_specification, limit: MIB, reads: Reads::Text(gem::specification) },
    Scanner { fits: golang::is_module, limit: 4 * MIB, reads: Reads::Text(golang::module) },
    Scanner { fits: jar::fits, limit: 4 << 30, reads: Reads::Parts(jar::scan) },
    Scanner { fits: golang::may_be_program, limit: 4 << 30, reads: Reads::Parts(golang::program) },
];

/// The last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn json(text: &str) -> Result<Value, Malformed> {
    serde_json::from_str(text).map_err(|_| Malformed("is not the JSON it should be"))
}

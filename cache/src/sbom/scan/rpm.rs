//! RPM's databases, which are binary: told, not read.
//!
//! A reader of its three formats (SQLite, ndb, Berkeley DB) without their libraries is yet to be written. Until then
//! the document says that these packages are missing.

use super::{Malformed, Package, ReadAt};

const FILES: &[&str] = &["rpmdb.sqlite", "Packages.db", "Packages"];
const DIRECTORIES: &[&str] = &["var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"];

pub(super) fn fits(path: &str, _: bool) -> bool {
    DIRECTORIES.iter().any(|directory| path.strip_prefix(directory).is_some_and(|name| FILES.contains(&name)))
}

pub(super) fn scan(_: ReadAt<'_>, _: u64) -> Result<Vec<Package>, Malformed> {
    Err(Malformed("RPM databases are not read: the packages of this one are missing here"))
}

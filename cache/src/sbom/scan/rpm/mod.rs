//! RPM's packages: the databases in SQLite ([`sqlite`]), in SUSE's own form ([`ndb`]) and in Berkeley DB ([`bdb`]).
//!
//! All hold one header a package: a table of tags over a heap of values (RPM's `docs/manual/hregions.md`).

mod bdb;
mod ndb;
mod sqlite;

use lap_solver::purl::Purl;

use super::{Distribution, Malformed, Package, ReadAt};

const DIRECTORIES: &[&str] = &["var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"];
/// Largest header of a package, in bytes (RPM's own limit is 256 MiB).
const HEADER: usize = 64 << 20;
/// Packages that are read of one database.
const PACKAGES: usize = 100_000;
/// Tags of one header.
const TAGS: usize = 65_536;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;
const SOURCE: u32 = 1044;
const INT32: u32 = 4;
const STRING: u32 = 6;

pub(super) fn fits(path: &str, _: bool) -> bool {
    let files = ["rpmdb.sqlite", "Packages.db", "Packages"];
    DIRECTORIES.iter().any(|directory| path.strip_prefix(directory).is_some_and(|name| files.contains(&name)))
}

pub(super) fn scan(read_at: ReadAt<'_>, size: u64, distribution: &Distribution) -> Result<Vec<Package>, Malformed> {
    let mut magic = [0; 16];
    if !read_at(0, &mut magic) {
        return Err(Malformed("is too short for a database of RPM"));
    }
    let mut packages = Vec::new();
    let mut take = |header: &[u8]| packages.extend(package(header, distribution));
    let read = match &magic {
        b"SQLite format 3\0" => sqlite::headers(read_at, size, &mut take),
        _ if magic.starts_with(b"RpmP") => ndb::headers(read_at, size, &mut take),
        _ if bdb::is_one(&magic) => bdb::headers(read_at, size, &mut take),
        _ => return Err(Malformed("is a database of RPM in a form that is not read: its packages are missing here")),
    };
    read.map(|()| packages).ok_or(Malformed("is a database of RPM that cannot be read"))
}

/// The package that a header describes. Keys of signers lie among the packages; they are none.
fn package(header: &[u8], distribution: &Distribution) -> Option<Package> {
    let (count, length) = (u32_at(header, 0)? as usize, u32_at(header, 4)? as usize);
    if count > TAGS {
        return None;
    }
    let table = header.get(8..8 + count * 16)?;
    let heap = header.get(8 + count * 16..)?;
    let heap = heap.get(..length)?;
    let value = |tag: u32, kind: u32| {
        let entry = table.chunks_exact(16).find(|entry| u32_at(entry, 0) == Some(tag))?;
        if u32_at(entry, 4)? == kind { heap.get(u32_at(entry, 8)? as usize..) } else { None }
    };
    let text = |tag: u32| {
        let bytes = value(tag, STRING)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
    };
    let (name, version, release) = (text(NAME)?, text(VERSION)?, text(RELEASE)?);
    if name == "gpg-pubkey" {
        return None;
    }
    let epoch = value(EPOCH, INT32).and_then(|bytes| u32_at(bytes, 0)).map(|epoch| epoch.to_string());
    let full = format!("{version}-{release}");
    let purl = Purl::new("rpm", name, &full)
        .within(distribution.id_or("rpm"))
        .with("arch", text(ARCH).unwrap_or_default())
        .with("epoch", epoch.as_deref().unwrap_or_default())
        .with("distro", &distribution.qualifier())
        .with("upstream", text(SOURCE).unwrap_or_default());
    let shown = epoch.map_or_else(|| full.clone(), |epoch| format!("{epoch}:{full}"));
    Package::new(purl, name, &shown)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

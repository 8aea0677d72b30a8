//! Java's packages: `META-INF/maven/GROUP/ARTIFACT/pom.properties` in archives (ZIP, PKWARE's APPNOTE 4.3).

use std::io::Read;

use lap_solver::purl::Purl;

use super::{Distribution, Malformed, Package, ReadAt};

/// Largest directory of an archive, in bytes.
const DIRECTORY: u64 = 64 << 20;
/// Largest properties file.
const PROPERTIES: u64 = 64 << 10;
/// Properties files that are read of one archive.
const FILES: usize = 10_000;

pub(super) fn fits(path: &str, _: bool) -> bool {
    [".jar", ".war", ".ear"].iter().any(|end| path.ends_with(end))
}

pub(super) fn scan(read_at: ReadAt<'_>, size: u64, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let directory = directory(read_at, size).ok_or(Malformed("is not the ZIP archive it should be"))?;
    let mut packages = Vec::new();
    let mut rest = &directory[..];
    let mut read = 0;
    while rest.starts_with(b"PK\x01\x02") && read < FILES {
        let Some(entry) = Entry::read(rest) else { break };
        rest = &rest[entry.length..];
        if entry.name.starts_with(b"META-INF/maven/") && entry.name.ends_with(b"/pom.properties") {
            read += 1;
            let text = entry.content(read_at).ok_or(Malformed("has an entry that cannot be read"))?;
            packages.extend(properties(&String::from_utf8_lossy(&text)));
        }
    }
    Ok(packages)
}

fn properties(text: &str) -> Option<Package> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix(['=', ':']));
        line.map(str::trim).unwrap_or_default()
    };
    let (group, artifact, version) = (value("groupId"), value("artifactId"), value("version"));
    Package::new(Purl::new("maven", artifact, version).within(group), artifact, version)
}

/// The central directory, found from the end.
fn directory(read_at: ReadAt<'_>, size: u64) -> Option<Vec<u8>> {
    let mut tail = vec![0; usize::try_from(size.min(22 + 65_535)).ok()?];
    if !read_at(size - tail.len() as u64, &mut tail) {
        return None;
    }
    let at = tail.windows(22).rposition(|window| window.starts_with(b"PK\x05\x06"))?;
    let (length, offset) = (u64::from(u32_at(&tail, at + 12)?), u64::from(u32_at(&tail, at + 16)?));
    if length > DIRECTORY || offset.checked_add(length)? > size {
        return None;
    }
    let mut directory = vec![0; usize::try_from(length).ok()?];
    read_at(offset, &mut directory).then_some(directory)
}

/// An entry of the central directory.
struct Entry<'a> {
    name: &'a [u8],
    method: u16,
    compressed: u64,
    offset: u64,
    length: usize,
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (name, extra, comment) = (u16_at(bytes, 28)?, u16_at(bytes, 30)?, u16_at(bytes, 32)?);
        let length = 46 + usize::from(name) + usize::from(extra) + usize::from(comment);
        Some(Self {
            name: bytes.get(46..46 + usize::from(name))?,
            method: u16_at(bytes, 10)?,
            compressed: u64::from(u32_at(bytes, 20)?),
            offset: u64::from(u32_at(bytes, 42)?),
            length: (length <= bytes.len()).then_some(length)?,
        })
    }

    fn content(&self, read_at: ReadAt<'_>) -> Option<Vec<u8>> {
        let mut header = [0; 30];
        if self.compressed > PROPERTIES || !read_at(self.offset, &mut header) || !header.starts_with(b"PK\x03\x04") {
            return None;
        }
        let skipped = 30 + u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
        let mut data = vec![0; usize::try_from(self.compressed).ok()?];
        if !read_at(self.offset + skipped, &mut data) {
            return None;
        }
        match self.method {
            0 => Some(data),
            8 => {
                let mut plain = Vec::new();
                let inflated = flate2::read::DeflateDecoder::new(&data[..]).take(PROPERTIES).read_to_end(&mut plain);
                inflated.is_ok().then_some(plain)
            }
            _ => None,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

//! Go's modules: `go.mod`, and what the linker writes into every program (`debug/buildinfo`).
//!
//! `go.sum` is not read: it lists versions that were looked at, used or not.

use lap_solver::purl::Purl;

use super::{Distribution, Malformed, Package, ReadAt, file_name};

/// Largest list of modules in a program, in bytes.
const LIST: u64 = 4 << 20;
/// Sections of a program that are looked at.
const SECTIONS: u16 = 4096;
/// The section that tells of modules.
const NAME: &[u8; 14] = b".go.buildinfo\0";

pub(super) fn is_module(path: &str, _: bool) -> bool {
    file_name(path) == "go.mod"
}

pub(super) fn may_be_program(path: &str, executable: bool) -> bool {
    executable && !path.ends_with(".so") && !path.contains(".so.")
}

fn package(path: &str, version: &str) -> Option<Package> {
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    Package::new(Purl::new("golang", name, version).within(namespace), path, version)
}

/// `require` lines, alone or in parentheses.
pub(super) fn module(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let mut packages = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or(line).trim();
        let requirement = match line.strip_prefix("require") {
            Some(rest) if rest.trim() == "(" => {
                inside = true;
                continue;
            }
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim(),
            _ if line == ")" => {
                inside = false;
                continue;
            }
            _ if inside => line,
            _ => continue,
        };
        if let Some((path, version)) = requirement.split_once([' ', '\t']) {
            packages.extend(package(path.trim_matches('"'), version.trim()));
        }
    }
    Ok(packages)
}

/// What a program of Go 1.18 or later says of itself; nothing for other files.
pub(super) fn program(read_at: ReadAt<'_>, size: u64, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let Some(section) = build_info(read_at, size) else { return Ok(Vec::new()) };
    let (version, modules) = strings(&section).ok_or(Malformed("has build information that cannot be read"))?;
    let mut packages = Vec::new();
    let number = version.split(' ').next().unwrap_or_default();
    packages.extend(number.strip_prefix("go").and_then(|number| package("stdlib", number)));
    for line in modules.lines() {
        let mut fields = line.split('\t');
        let (kind, path, version) = (fields.next(), fields.next(), fields.next());
        let (Some(kind), Some(path), Some(version)) = (kind, path, version) else { continue };
        match kind {
            "mod" | "dep" => packages.extend(package(path, version).filter(|_| version != "(devel)")),
            // Stands for the dependency of the line before.
            "=>" => {
                packages.pop();
                packages.extend(package(path, version));
            }
            _ => {}
        }
    }
    Ok(packages)
}

/// The section `.go.buildinfo` of a 64-bit little-endian ELF file.
fn build_info(read_at: ReadAt<'_>, size: u64) -> Option<Vec<u8>> {
    let mut header = [0; 64];
    if size < 64 || !read_at(0, &mut header) || !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry) = (u64_at(&header, 40)?, u64::from(u16_at(&header, 58)?));
    let (count, names) = (u16_at(&header, 60)?, u16_at(&header, 62)?);
    if entry < 64 || count > SECTIONS {
        return None;
    }
    let section = |number: u16| {
        let mut bytes = [0; 64];
        let at = table.checked_add(u64::from(number).checked_mul(entry)?)?;
        read_at(at, &mut bytes).then_some(bytes)
    };
    let names = u64_at(&section(names)?, 24)?;
    for number in 0..count {
        let header = section(number)?;
        let mut name = [0; NAME.len()];
        let at = names.checked_add(u64::from(u32::from_le_bytes(header[..4].try_into().ok()?)))?;
        if read_at(at, &mut name) && name == *NAME {
            let (offset, length) = (u64_at(&header, 24)?, u64_at(&header, 32)?.min(LIST));
            let mut bytes = vec![0; usize::try_from(length.min(size)).ok()?];
            return read_at(offset, &mut bytes).then_some(bytes);
        }
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Version and list of modules: a magic, flags in byte 15 (bit 1: strings follow at byte 32), then two strings with
/// lengths before them. The list stands between marks of 16 bytes.
fn strings(section: &[u8]) -> Option<(String, String)> {
    if !section.starts_with(b"\xff Go buildinf:") || section.get(15)? & 2 == 0 {
        return None;
    }
    let (version, rest) = string(section.get(32..)?)?;
    let (modules, _) = string(rest)?;
    let inner = if modules.len() >= 33 { modules.get(16..modules.len() - 16)? } else { &[] };
    Some((String::from_utf8_lossy(version).into_owned(), String::from_utf8_lossy(inner).into_owned()))
}

/// Bytes with their length before them, seven bits a byte, lowest first.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (number, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * number);
        if byte & 0x80 == 0 {
            let rest = &bytes[number + 1..];
            return (length <= rest.len()).then(|| rest.split_at(length));
        }
    }
    None
}

//! Headers as ustar, with a PAX extended header only where ustar cannot say it.

use super::{BLOCK, Entry, EntryKind};
use crate::fs::Timestamp;

/// Largest numbers of the 8 and 12 byte octal fields.
const MAX_SHORT: u64 = 0o7_777_777;
const MAX_LONG: u64 = 0o77_777_777_777;

/// The header of an entry, with its extended header before it where it needs one. The data of a file (all of it:
/// `extents` must be absent) and [`padding`] follow.
pub(crate) fn entry_header(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let (kind, size, target, device) = match &entry.kind {
        EntryKind::File { size, .. } => (b'0', *size, &b""[..], (0, 0)),
        EntryKind::HardLink { target } => (b'1', 0, &target[..], (0, 0)),
        EntryKind::Symlink { target } => (b'2', 0, &target[..], (0, 0)),
        EntryKind::CharDevice { major, minor } => (b'3', 0, &b""[..], (*major, *minor)),
        EntryKind::BlockDevice { major, minor } => (b'4', 0, &b""[..], (*major, *minor)),
        EntryKind::Directory => (b'5', 0, &b""[..], (0, 0)),
        EntryKind::Fifo => (b'6', 0, &b""[..], (0, 0)),
    };
    let mut block = [0; BLOCK];
    match split_path(&entry.path) {
        Some((prefix, name)) => {
            block[..name.len()].copy_from_slice(name);
            block[345..345 + prefix.len()].copy_from_slice(prefix);
        }
        None => {
            record(&mut records, b"path", &entry.path);
            block[..100].copy_from_slice(&entry.path[..100]);
        }
    }
    let short = target.len().min(100);
    block[157..157 + short].copy_from_slice(&target[..short]);
    if target.len() > 100 {
        record(&mut records, b"linkpath", target);
    }
    let mut field = |range: std::ops::Range<usize>, value: u64, max: u64, key: &[u8]| {
        if value > max {
            record(&mut records, key, value.to_string().as_bytes());
        }
        octal(&mut block[range], if value > max { 0 } else { value });
    };
    field(108..116, entry.uid.into(), MAX_SHORT, b"uid");
    field(116..124, entry.gid.into(), MAX_SHORT, b"gid");
    field(124..136, size, MAX_LONG, b"size");
    let seconds = u64::try_from(entry.mtime.seconds).ok().filter(|seconds| *seconds <= MAX_LONG);
    if seconds.is_none() || entry.mtime.nanoseconds != 0 {
        record(&mut records, b"mtime", time(entry.mtime).as_bytes());
    }
    octal(&mut block[136..148], seconds.unwrap_or(0));
    octal(&mut block[100..108], u64::from(entry.mode & 0o7777));
    octal(&mut block[329..337], device.0.into());
    octal(&mut block[337..345], device.1.into());
    for (attribute, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &attribute[..]].concat(), value);
    }
    block[156] = kind;
    seal(&mut block);
    if records.is_empty() {
        return block.to_vec();
    }
    let mut bytes = extended_header(records.len());
    bytes.extend_from_slice(&records);
    bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    bytes.extend_from_slice(&block);
    bytes
}

/// Zeros that follow `size` bytes of data.
pub(crate) const fn padding(size: u64) -> usize {
    // Less than a block.
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// The end of an archive: two zero blocks.
pub(crate) const fn end() -> [u8; 2 * BLOCK] {
    [0; 2 * BLOCK]
}

fn extended_header(size: usize) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..14].copy_from_slice(b"././@PaxHeader");
    octal(&mut block[100..108], 0o644);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], size as u64);
    octal(&mut block[136..148], 0);
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    block[156] = b'x';
    seal(&mut block);
    block.to_vec()
}

/// Magic and checksum.
fn seal(block: &mut [u8; BLOCK]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
}

/// Octal digits filling the field but for a NUL at its end. The value must fit.
fn octal(field: &mut [u8], mut value: u64) {
    let Some((end, digits)) = field.split_last_mut() else { return };
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Splits a path at a slash into at most 155 bytes of prefix and 100 of name, as ustar wants it.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The name must not be empty: a directory's slash stays with it.
    let body = &path[..path.len() - 1];
    let slash = body.iter().enumerate().skip(path.len() - 101).find(|(_, byte)| **byte == b'/').map(|(at, _)| at)?;
    (slash > 0 && slash <= 155).then(|| (&path[..slash], &path[slash + 1..]))
}

/// Appends `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with as many digits of the fraction as there are.
fn time(time: Timestamp) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, nanoseconds) => ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (false, nanoseconds) => ("", time.seconds.unsigned_abs(), nanoseconds),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{nanoseconds:09}").trim_end_matches('0').to_owned()
}

//! Archives on whose meaning readers disagree.

use std::io::Read;

use super::writer::{end, entry_header, padding};
use super::*;
use crate::fs::{Timestamp, Xattrs};

fn file(path: &[u8], size: u64) -> Entry {
    let mtime = Timestamp { seconds: 5, nanoseconds: 0 };
    let kind = EntryKind::File { size, extents: None };
    Entry { path: path.to_vec(), kind, mode: 0o644, uid: 1, gid: 2, mtime, xattrs: Xattrs::new() }
}

fn block(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = entry_header(&file(b"name", data.len() as u64));
    bytes[156] = kind;
    fix(&mut bytes);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len() + padding(data.len() as u64), 0);
    bytes
}

/// Puts the right checksum into the first block.
fn fix(bytes: &mut [u8]) {
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        text += &format!("{length}{rest}");
    }
    block(b'x', text.as_bytes())
}

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ArchiveError> {
    let mut reader = Reader::new(bytes, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        entries.push((entry, data));
    }
    Ok(entries)
}

fn names(parts: &[&[u8]]) -> Result<Vec<String>, ArchiveError> {
    let entries = read(&parts.concat())?;
    Ok(entries.into_iter().map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned()).collect())
}

#[test]
fn what_is_written_is_read() {
    let mut entry = file(&b"long/".repeat(60), 3);
    entry.path.push(b'\xff');
    entry.mtime = Timestamp { seconds: -3, nanoseconds: 1 };
    (entry.uid, entry.gid) = (u32::MAX - 1, 3_000_000);
    entry.xattrs.insert(b"user.a=b".to_vec(), vec![0, 10, 255]);
    entry.xattrs.remove(&b"user.a=b"[..]);
    entry.xattrs.insert(b"user.x".to_vec(), vec![0, 10, 255]);
    let bytes = [entry_header(&entry), b"abc".to_vec(), vec![0; padding(3)], end().to_vec()].concat();
    assert_eq!(read(&bytes).unwrap(), [(entry, b"abc".to_vec())]);
    // Names up to the limits of ustar need no extended header.
    for (length, blocks) in [(100, 1), (101, 3)] {
        assert_eq!(entry_header(&file(&vec![b'n'; length], 0)).len(), 512 * blocks);
    }
    let split = [&b"p/".repeat(77)[..], &[b'n'; 100]].concat();
    assert_eq!(entry_header(&file(&split, 0)).len(), 512);
    assert_eq!(names(&[&entry_header(&file(&split, 0))]).unwrap()[0].as_bytes(), split);
}

#[test]
fn sizes_that_differ_have_one_meaning() {
    let (a, b) = (block(b'0', b"data"), block(b'0', &[b'x'; 600]));
    // PAX says 1024, the header 4: the record counts, as for GNU tar, bsdtar and Go.
    let smuggled = [b"data".to_vec(), vec![0; 508], block(b'0', b"")].concat();
    let header = &a[..512];
    let found = read(&[pax(&[("size", "1024")]), header.to_vec(), smuggled, b.clone()].concat()).unwrap();
    assert_eq!(found.iter().map(|(_, data)| data.len()).collect::<Vec<_>>(), [1024, 600]);
    // The record of an entry is not that of the long name between (TARmageddon).
    let long = block(b'L', b"renamed\0");
    assert_eq!(names(&[&pax(&[("size", "4")]), &long, &a, &b]).unwrap(), ["renamed", "name"]);
    for bad in [
        [pax(&[("size", "4")]), pax(&[("size", "5")]), a.clone()].concat(),
        [pax(&[("path", "x")]), long.clone(), a.clone()].concat(),
        [long.clone(), long, a.clone()].concat(),
        [pax(&[("size", "-1")]), a.clone()].concat(),
        [pax(&[("size", "99999999999999999999999")]), a.clone()].concat(),
        pax(&[("path", "x")]),
        {
            let mut global = pax(&[("size", "1024")]);
            global[156] = b'g';
            fix(&mut global);
            [global, a.clone()].concat()
        },
        {
            let mut directory = a.clone();
            directory[..5].copy_from_slice(b"name/");
            fix(&mut directory);
            directory
        },
        // Content behind one zero block.
        [a.clone(), vec![0; 512], b].concat(),
        block(b'M', b""),
        block(b'?', b""),
    ] {
        assert!(read(&bad).is_err(), "{:?}", String::from_utf8_lossy(&bad[..bad.len().min(600)]));
    }
    let mut comment = pax(&[("comment", "a commit")]);
    comment[156] = b'g';
    fix(&mut comment);
    assert_eq!(names(&[&comment, &a]).unwrap(), ["name"]);
}

// A046
#[test]
fn owners_are_numbers_of_somebody() {
    for (key, number, good) in [
        ("uid", "4294967294", true),
        ("uid", "4294967295", false),
        ("gid", "4294967295", false),
        ("gid", "4294967296", false),
        ("uid", "-1", false),
    ] {
        let bytes = [pax(&[(key, number)]), entry_header(&file(b"f", 0)), end().to_vec()].concat();
        assert_eq!(read(&bytes).is_ok(), good, "{key}={number}");
    }
}

#[test]
fn headers_cannot_ask_for_memory() {
    let mut huge = block(b'x', b"");
    huge[124..136].copy_from_slice(b"77777777777\0");
    fix(&mut huge);
    assert!(matches!(read(&huge), Err(ArchiveError::Limit { what: "bytes of an extended header", .. })));
    huge[156] = b'L';
    fix(&mut huge);
    assert!(matches!(read(&huge), Err(ArchiveError::Limit { what: "bytes of a path", .. })));
    for map in ["0,1,0,1", "5,1,1,1", "0,99", "0", "18446744073709551615,1"] {
        let records = [("GNU.sparse.map", map), ("GNU.sparse.size", "10"), ("GNU.sparse.numblocks", "1")];
        assert!(read(&[pax(&records), block(b'0', b"12")].concat()).is_err(), "{map}");
    }
}

proptest::proptest! {
    #[test]
    fn garbage_is_an_error_and_no_panic(
        at in proptest::collection::vec((0..2048usize, proptest::prelude::any::<u8>()), 1..8),
        fixed in proptest::prelude::any::<bool>(),
    ) {
        let mut bytes = [pax(&[("mtime", "1.5"), ("size", "4")]), block(b'0', b"data"), end().to_vec()].concat();
        for (at, byte) in at {
            bytes[at] = byte;
        }
        if fixed {
            fix(&mut bytes);
            fix(&mut bytes[1024..]);
        }
        drop(read(&bytes));
    }
}

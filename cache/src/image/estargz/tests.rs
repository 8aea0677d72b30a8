//! What is written is read by its footer and table alone, as a lazy reader does, and as plain gzip.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde_json::Value;

use super::*;

/// A tar by the `tar` crate, with what layers hold.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o750);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_700_000_000);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, name, data).unwrap();
    };
    add("d/", tar::EntryType::Directory, "", b"");
    add("d/empty", tar::EntryType::Regular, "", b"");
    add("d/small", tar::EntryType::Regular, "", b"some text");
    add("d/link", tar::EntryType::Symlink, "small", b"");
    add("d/hard", tar::EntryType::Link, "d/small", b"");
    add("d/exact", tar::EntryType::Regular, "", &vec![3; CHUNK]);
    add("d/large", tar::EntryType::Regular, "", &sample(2 * CHUNK + 77));
    add("d/.wh.gone", tar::EntryType::Regular, "", b"");
    add("z", tar::EntryType::Fifo, "", b"");
    tar.into_inner().unwrap()
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * at / 7) % 251).unwrap()).collect()
}

fn written(tar: &[u8], level: u32) -> (Vec<u8>, Written) {
    let mut out = Vec::new();
    let written = write(tar, &mut out, level).unwrap();
    (out, written)
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// The table of contents, found from the footer.
fn table(blob: &[u8]) -> (Value, Digest) {
    let footer = &blob[blob.len() - 51..];
    assert_eq!(&footer[..4], [0x1f, 0x8b, 8, 4]);
    assert_eq!(&footer[32..38], b"STARGZ");
    let at = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
    let mut empty = Vec::new();
    flate2::read::GzDecoder::new(footer).read_to_end(&mut empty).unwrap();
    assert!(empty.is_empty());
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&blob[at..]));
    let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path_bytes().as_ref(), b"stargz.index.json");
    let mut json = Vec::new();
    entry.read_to_end(&mut json).unwrap();
    (serde_json::from_slice(&json).unwrap(), Digest::of(&json))
}

#[test]
fn every_file_is_read_by_itself() {
    let tar = layer();
    for level in [0, 6, 9] {
        let (blob, written) = written(&tar, level);
        let (toc, digest) = table(&blob);
        assert_eq!((toc["version"].as_u64(), digest), (Some(1), written.toc));
        let entries = toc["entries"].as_array().unwrap();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let size = |name: &str| {
            let whole = entries.iter().find(|entry| entry["name"] == name && entry["type"] == "reg").unwrap();
            whole["size"].as_u64().unwrap_or(0)
        };
        for entry in entries.iter().filter(|entry| ["reg", "chunk"].contains(&entry["type"].as_str().unwrap())) {
            let name = entry["name"].as_str().unwrap();
            let file = files.entry(name.to_owned()).or_default();
            let Some(offset) = entry["offset"].as_u64() else { continue };
            assert_eq!(entry["chunkOffset"].as_u64().unwrap_or(0), file.len() as u64);
            let length = entry["chunkSize"].as_u64().unwrap_or_else(|| size(name) - file.len() as u64);
            let mut data = vec![0; usize::try_from(length).unwrap()];
            let at = usize::try_from(offset).unwrap();
            flate2::read::GzDecoder::new(&blob[at..]).read_exact(&mut data).unwrap();
            assert_eq!(entry["chunkDigest"], Digest::of(&data).to_string());
            file.extend_from_slice(&data);
        }
        assert_eq!(files["d/small"], b"some text");
        assert_eq!(files["d/exact"], vec![3; CHUNK]);
        assert_eq!(files["d/large"], sample(2 * CHUNK + 77));
        assert_eq!(files[".no.prefetch.landmark"], [0xf]);
        assert_eq!(files["d/empty"], b"");
        let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
        assert_eq!(entry("d/large")["digest"], Digest::of(&files["d/large"]).to_string());
        assert_eq!(entry("d/exact").get("chunkSize"), None, "a file of one chunk has no size of it");
        assert_eq!(entry("d/hard")["linkName"], "d/small");
        let small = entry("d/small");
        assert_eq!((&small["mode"], &small["uid"], &small["gid"]), (&0o750.into(), &7.into(), &8.into()));
        assert_eq!(small["modtime"], "2023-11-14T22:13:20Z");
    }
}

#[test]
fn whoever_unpacks_all_of_it_sees_the_layer() {
    let tar = layer();
    let (blob, written) = written(&tar, 6);
    let plain = gunzip(&blob);
    assert_eq!(&plain[..tar.len()], tar);
    assert_eq!((Digest::of(&plain), plain.len() as u64), (written.diff_id, written.uncompressed));
    assert_eq!(Digest::of(&tar), written.layer);
    // What a reader of archives sees ends where the layer ends.
    let names = |bytes: &[u8]| {
        let mut archive = tar::Archive::new(bytes);
        archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&plain), names(&tar));
    // An archive without an end, as `docker import` takes them.
    let torn = &tar[..tar.len() - 1024];
    assert_eq!(&gunzip(&self::written(torn, 1).0)[..torn.len()], torn);
}

#[test]
fn the_same_layer_has_the_same_bytes_on_any_number_of_cores() {
    let tar = layer();
    let whole = written(&tar, 6);
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| written(&tar, 6)), whole, "{threads} threads");
    }
    assert_eq!(
        &whole.1.toc.hex()[..16],
        "9698c9a9bfbf6127",
        "a change here changes digests: bump the number in `Compression::key`"
    );
}

#[test]
fn what_the_table_cannot_say_is_refused() {
    let archive = |name: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    for name in [&b"a\xff"[..], b"stargz.index.json", b"./stargz.index.json"] {
        let error = write(&archive(name)[..], io::sink(), 6).unwrap_err();
        assert!(matches!(error, EstargzError::Refused { .. }), "{error}");
    }
    assert!(matches!(write(&[1; 512][..], io::sink(), 6), Err(EstargzError::Archive(_))));
}

#[test]
fn pieces_come_in_order_and_both_ends_can_go() {
    let (mut reader, mut writer) = pipe();
    let data = sample(1 << 20);
    let sent = data.clone();
    let maker = std::thread::spawn(move || sent.chunks(1000).try_for_each(|piece| writer.write_all(piece)));
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    maker.join().unwrap().unwrap();
    assert!(received == data);
    let (reader, mut writer) = pipe();
    drop(reader);
    assert_eq!(writer.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

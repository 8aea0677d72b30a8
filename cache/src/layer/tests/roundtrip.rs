//! A tree becomes a layer, the layer a tar, the tar a layer again.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::layer::{LayerError, LayerInfo};
use crate::snapshot::Workspace;

/// A tree with one of everything that an image may hold.
fn odd_tree(root: &Path) {
    use rustix::fs::{CWD, FileType, Mode as FileMode, XattrFlags, makedev, mknodat, setxattr};
    let write = |name: &[u8], data: &[u8]| {
        let path = root.join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(&path, data).unwrap();
        path
    };
    std::fs::create_dir_all(root.join("dir/empty")).unwrap();
    write(b"plain", b"text");
    write(b"empty", b"");
    write(b"not utf-8 \xff\xfe", b"x");
    write(b"new\nline and \x1b[31m", b"x");
    write(&[b'n'; 255], b"long name");
    let deep = format!("dir/{}/{}", "d".repeat(200), "e".repeat(200));
    std::fs::create_dir_all(root.join(&deep)).unwrap();
    write(format!("{deep}/{}", "f".repeat(200)).as_bytes(), b"long path");
    let set = write(b"setuid", b"#!");
    std::os::unix::fs::chown(&set, Some(1000), Some(3_000_000)).unwrap();
    std::fs::set_permissions(&set, std::fs::Permissions::from_mode(0o6755)).unwrap();
    std::fs::set_permissions(root.join("dir"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("plain", root.join("link")).unwrap();
    symlink("t".repeat(3000), root.join("long link")).unwrap();
    std::fs::hard_link(root.join("plain"), root.join("dir/hard")).unwrap();
    std::fs::hard_link(root.join("link"), root.join("dir/hard link to a symlink")).unwrap();
    let mode = FileMode::from_raw_mode(0o640);
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
    mknodat(CWD, root.join("disk"), FileType::BlockDevice, mode, makedev(8, 17)).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    let caps = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    setxattr(write(b"capable", b"#!"), "security.capability", caps, XattrFlags::empty()).unwrap();
    setxattr(root.join("dir"), "user.note", b"a=b\n\0\xff", XattrFlags::empty()).unwrap();
    setxattr(root.join("plain"), "trusted.own", b"", XattrFlags::empty()).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(6 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (6 << 20) - 3).unwrap();
    for (name, seconds, nanoseconds) in
        [("plain", 1, 5), ("empty", -7, 250_000_000), ("sparse", 1 << 34, 0), ("dir", 2_000_000_000, 999_999_999)]
    {
        let dir = fs::open_dir(root).unwrap();
        fs::apply_times(&dir, name.as_bytes(), Timestamp { seconds, nanoseconds }).unwrap();
    }
}

fn commit(store: &Store, parents: &[Digest], fill: impl FnOnce(&Workspace)) -> Option<LayerInfo> {
    let workspace = store.workspace().unwrap();
    fill(&workspace);
    store.commit(workspace, parents, false).unwrap()
}

pub(super) fn tar_of(store: &Store, layer: &LayerInfo) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(store.write_tar(&layer.diff_id, &mut bytes).unwrap(), layer.tar_size);
    assert_eq!(Digest::of(&bytes), layer.diff_id);
    bytes
}

#[test]
fn everything_survives_the_way_through_a_tar() {
    if !is_root("everything_survives_the_way_through_a_tar") {
        return;
    }
    let (one, two) = (scratch(), scratch());
    let layer = commit(&one.store, &[], |workspace| odd_tree(&workspace.upper())).unwrap();
    let tar = tar_of(&one.store, &layer);
    let again = two.store.unpack(&tar[..], Some(layer.diff_id), &[]).unwrap();
    assert_eq!((again.diff_id, again.tar_size, again.entries), (layer.diff_id, layer.tar_size, layer.entries));
    assert_eq!(again.bytes, layer.bytes);
    let fs_of = |store: &Store| listing(&store.layer_dir(&layer.diff_id).join("fs"));
    let expected = fs_of(&one.store);
    assert_eq!(expected, fs_of(&two.store));
    assert!(!expected.contains_key("socket"));
    assert!(expected["dir/hard"].ends_with("= dir/hard") && expected["plain"].ends_with("= dir/hard"));
    assert!(expected["capable"].contains("[115, 101, 99, 117, 114, 105, 116, 121, 46, 99, 97, 112"));
    // What came from outside is the blob, not the directory.
    assert!(matches!(two.store.write_tar(&layer.diff_id, std::io::sink()), Err(LayerError::Foreign { .. })));
}

#[test]
fn gnu_tar_reads_the_same() {
    if !is_root("gnu_tar_reads_the_same") {
        return;
    }
    let scratch = scratch();
    let layer = commit(&scratch.store, &[], |workspace| odd_tree(&workspace.upper())).unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), tar_of(&scratch.store, &layer)).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new("tar");
    command.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-xf"]).arg(archive.path());
    let Ok(output) = command.arg("-C").arg(out.path()).output() else {
        println!("SKIPPED: no tar program");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(listing(out.path()), listing(&scratch.store.layer_dir(&layer.diff_id).join("fs")));
}

#[test]
fn archives_of_gnu_tar_unpack_alike_in_every_format() {
    if !is_root("archives_of_gnu_tar_unpack_alike_in_every_format") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    odd_tree(tree.path());
    std::fs::remove_file(tree.path().join("socket")).unwrap();
    let expected = listing(tree.path());
    let whole = std::os::unix::fs::FileTypeExt::is_fifo;
    assert!(whole(&std::fs::metadata(tree.path().join("pipe")).unwrap().file_type()));
    for (format, sparse) in [
        ("gnu", None),
        ("gnu", Some("0.0")),
        ("pax", None),
        ("pax", Some("0.0")),
        ("pax", Some("0.1")),
        ("pax", Some("1.0")),
    ] {
        let mut command = Command::new("tar");
        command.args(["--format", format, "--numeric-owner", "-C"]).arg(tree.path());
        if format == "pax" {
            command.args(["--xattrs", "--xattrs-include=*"]);
        }
        if let Some(version) = sparse {
            command.arg("--sparse");
            if format == "pax" {
                command.arg(format!("--sparse-version={version}"));
            }
        }
        let Ok(output) = command.args(["-cf", "-", "."]).output() else {
            println!("SKIPPED: no tar program");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let scratch = scratch();
        let layer = scratch.store.unpack(&output.stdout[..], None, &[]).unwrap();
        let root = scratch.store.layer_dir(&layer.diff_id).join("fs");
        let found = listing(&root);
        if format == "pax" {
            assert_eq!(found, expected, "{format} {sparse:?}");
        } else {
            // Neither attributes nor parts of seconds, but all else.
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        }
        if sparse.is_some() {
            let blocks = std::fs::metadata(root.join("sparse")).unwrap().blocks();
            assert!(blocks < 1000, "{format} {sparse:?}: {blocks} blocks");
        }
        let data = std::fs::read(root.join("sparse")).unwrap();
        assert_eq!((data.len(), &data[data.len() - 3..]), (6 << 20, &b"end"[..]));
    }
}

#[test]
fn ten_thousand_files_give_the_same_bytes_twice() {
    let scratch = scratch();
    let fill = |workspace: &Workspace| {
        for directory in 0..100 {
            let path = workspace.upper().join(format!("d{directory}"));
            std::fs::create_dir(&path).unwrap();
            for file in 0..100 {
                std::fs::write(path.join(format!("f{file}")), format!("{directory} {file}").repeat(file)).unwrap();
            }
        }
        let times = |path: &Path| fs::apply_times(fs::open_dir(path).unwrap(), b".", Timestamp::EPOCH).unwrap();
        for directory in 0..100 {
            let path = workspace.upper().join(format!("d{directory}"));
            let dir = fs::open_dir(&path).unwrap();
            for name in fs::sorted_names(&dir).unwrap() {
                fs::apply_times(&dir, &name, Timestamp::EPOCH).unwrap();
            }
            times(&path);
        }
    };
    let started = std::time::Instant::now();
    let one = commit(&scratch.store, &[], fill).unwrap();
    println!("10,000 files written and committed in {:?}", started.elapsed());
    let two = commit(&scratch.store, &[], fill).unwrap();
    assert_eq!(one, two);
    assert_eq!(one.entries, 10_100);
    let tar = tar_of(&scratch.store, &one);
    let started = std::time::Instant::now();
    let other = super::scratch();
    assert_eq!(other.store.unpack(&tar[..], Some(one.diff_id), &[]).unwrap().entries, 10_100);
    println!("unpacked in {:?}", started.elapsed());
}

#[test]
fn a_damaged_layer_is_not_written_out_as_whole() {
    let scratch = scratch();
    let layer = commit(&scratch.store, &[], |workspace| std::fs::write(workspace.upper().join("f"), b"one").unwrap());
    let layer = layer.unwrap();
    let path = scratch.store.layer_dir(&layer.diff_id).join("fs/f");
    let mtime = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, b"two").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
    let result = scratch.store.write_tar(&layer.diff_id, std::io::sink());
    assert!(matches!(result, Err(LayerError::WrongDiffId { .. })));
}

#[test]
fn nothing_changed_makes_no_layer_unless_wanted() {
    let scratch = scratch();
    assert_eq!(commit(&scratch.store, &[], |_| ()), None);
    let kept = scratch.store.commit(scratch.store.workspace().unwrap(), &[], true).unwrap().unwrap();
    assert_eq!((kept.entries, kept.tar_size, kept.diff_id), (0, 1024, Digest::of(&[0; 1024])));
    assert_eq!(tar_of(&scratch.store, &kept), [0; 1024]);
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(commit(&scratch.store, &[kept.diff_id], |_| ()), None);
    }
    println!("an empty commit takes {:?}", started.elapsed() / 100);
}

#[test]
fn the_root_directory_is_an_entry_only_where_it_changed() {
    let scratch = scratch();
    let fill = |workspace: &Workspace| {
        std::fs::write(workspace.upper().join("f"), b"").unwrap();
        std::fs::set_permissions(workspace.upper(), std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    let layer = commit(&scratch.store, &[], fill).unwrap();
    assert_eq!(layer.entries, 2);
    tar_of(&scratch.store, &layer);
    // A workspace above takes the root's mode over, and that is no change.
    let workspace = scratch.store.workspace().unwrap();
    scratch.store.overlay(&[layer.diff_id], Some(&workspace)).unwrap();
    assert_eq!(std::fs::metadata(workspace.upper()).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(scratch.store.commit(workspace, &[layer.diff_id], false).unwrap(), None);
}

#[test]
fn directories_nest_as_deep_as_a_path_allows() {
    let scratch = scratch();
    let new = fs::NewDirectory { mode: 0o755, uid: 0, gid: 0 };
    let nest = |workspace: &Workspace, path: &[u8]| {
        let upper = fs::open_dir(&workspace.upper()).unwrap();
        fs::mkdir_all_in_root(&upper, path, new).unwrap();
    };
    if !is_root("directories_nest_as_deep_as_a_path_allows") {
        return;
    }
    let layer = commit(&scratch.store, &[], |workspace| nest(workspace, &b"d/".repeat(2000))).unwrap();
    assert_eq!(layer.entries, 2000);
    tar_of(&scratch.store, &layer);
    let again = commit(&scratch.store, &[layer.diff_id], |workspace| nest(workspace, &b"d/".repeat(2000))).unwrap();
    assert_eq!(again.entries, 2000);
    let workspace = scratch.store.workspace().unwrap();
    let upper = fs::open_dir(&workspace.upper()).unwrap();
    let bottom = fs::mkdir_all_in_root(&upper, &b"d/".repeat(2000), new).unwrap();
    fs::mkdir_all_in_root(&bottom.dir, &b"e/".repeat(200), new).unwrap();
    assert!(scratch.store.commit(workspace, &[], false).is_err());
}

#[test]
fn an_estargz_of_others_is_unpacked_as_containerd_does() {
    if !is_root("an_estargz_of_others_is_unpacked_as_containerd_does") {
        return;
    }
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (landmark, table) = (file(b".no.prefetch.landmark", 1), file(b"stargz.index.json", 2));
    let own = (file(b"a", 4), &b"text"[..]);
    // As `ctr-remote` converts: landmark and table are entries like any other. As BuildKit writes: behind the end.
    let inside = tar(&[own.clone(), (landmark.clone(), &[15]), (table.clone(), b"{}")]);
    let behind = [tar(&[own]), tar(&[(table, b"{}")])].concat();
    for (plain, names) in [(inside, &[".no.prefetch.landmark", "a", "stargz.index.json"][..]), (behind, &["a"])] {
        let scratch = scratch();
        let members: Vec<u8> = plain.chunks(512).flat_map(gzip).collect();
        let reader = crate::layer::decompress(&members[..]).unwrap();
        let layer = scratch.store.unpack(reader, Some(Digest::of(&plain)), &[]).unwrap();
        let found = listing(&scratch.store.layer_dir(&layer.diff_id).join("fs"));
        assert_eq!(found.keys().collect::<Vec<_>>(), names);
    }
}

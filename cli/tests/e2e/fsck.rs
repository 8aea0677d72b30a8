//! Damage of every kind is found, mended, and the next build is the one that there was.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::support::{Lap, needs, run};

const DOCKERFILE: &str = "\
FROM busybox
COPY file /file
RUN mkdir -p /d && echo made > /d/made && ln /d/made /d/again && touch -d @1000000000 /d/made /d
";
/// So that what is made again is made the same.
const SAME: [&str; 3] = ["-q", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"];

/// What a store of that build is damaged by; gets the store.
type Break = fn(&Path);

/// Files below a directory, biggest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match std::fs::symlink_metadata(&path).unwrap() {
            about if about.is_dir() => found.extend(files(&path)),
            about if about.is_file() => found.push(path),
            _ => {}
        }
    }
    found.sort_by_key(|path| (std::cmp::Reverse(std::fs::metadata(path).unwrap().len()), path.clone()));
    found
}

fn flip(path: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn cut(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// The layer that has this file.
fn layer_with(store: &Path, file: &str) -> PathBuf {
    let layers = std::fs::read_dir(store.join("layers")).unwrap().map(|entry| entry.unwrap().path());
    layers.into_iter().find(|layer| layer.join("fs").join(file).exists()).unwrap()
}

fn record(store: &Path) -> PathBuf {
    let shelf = |path: &PathBuf| path.parent().unwrap().file_name().unwrap().len() == 2;
    let own = |path: &PathBuf| path.parent().unwrap().parent().unwrap().ends_with("records");
    files(&store.join("records")).into_iter().find(|path| shelf(path) && own(path)).unwrap()
}

/// The digest in the index of the first image.
fn manifest(store: &Path) -> PathBuf {
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(store.join("index.json")).unwrap()).unwrap();
    let named = |entry: &&serde_json::Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"].as_str().is_some_and(|name| name.contains("app"))
    };
    let entry = index["manifests"].as_array().unwrap().iter().find(named).unwrap();
    store.join("blobs/sha256").join(entry["digest"].as_str().unwrap().trim_start_matches("sha256:"))
}

/// Name of the damage, what does it, whether only a deep check sees it, and a part of what is said.
const DAMAGES: [(&str, Break, bool, &str); 20] = [
    ("a bit of a small blob", |store| flip(&manifest(store)), false, "its bytes have digest"),
    ("a bit of a large blob", |store| flip(&files(&store.join("blobs"))[0]), true, "its bytes have digest"),
    ("a large blob cut off", |store| cut(&files(&store.join("blobs"))[0]), false, "bytes, it should have"),
    ("an empty manifest", |store| drop(std::fs::write(manifest(store), "")), false, "it has 0 bytes, it should have"),
    ("a missing manifest", |store| std::fs::remove_file(manifest(store)).unwrap(), false, "is not there"),
    ("a record cut off", |store| cut(&record(store)), false, "it cannot be read"),
    (
        "a record under another name",
        |store| {
            let from = record(store);
            let to = from.parent().unwrap().join(format!("{}.json", "0".repeat(64)));
            std::fs::rename(from, to).unwrap();
        },
        false,
        "it is the record of",
    ),
    (
        "a name that stands for nothing",
        |store| {
            let text = std::fs::read_to_string(store.join("index.json")).unwrap();
            let digest = manifest(store).file_name().unwrap().to_string_lossy().into_owned();
            std::fs::write(store.join("index.json"), text.replace(&digest, &"a".repeat(64))).unwrap();
        },
        false,
        "its manifest sha256:aaaa",
    ),
    ("a stray temporary file", |store| drop(std::fs::write(store.join("tmp/x"), "")), false, "belongs to no command"),
    ("a strange file", |store| drop(std::fs::write(store.join("notes"), "x")), false, "does not belong to the store"),
    (
        "a strange blob",
        |store| drop(std::fs::write(store.join("blobs/sha256/x"), "x")),
        false,
        "does not belong to the store",
    ),
    (
        "a strange record",
        |store| drop(std::fs::write(store.join("records/x"), "x")),
        false,
        "does not belong to the store",
    ),
    (
        "a file gone from a layer",
        |store| std::fs::remove_file(layer_with(store, "d/made").join("fs/d/made")).unwrap(),
        false,
        "entries with",
    ),
    ("a bit of a layer made here", |store| flip(&layer_with(store, "d/made").join("fs/d/made")), true, "give diff ID"),
    (
        "a bit of a layer from outside",
        |store| flip(&layer_with(store, "bin/busybox").join("fs/bin/busybox")),
        true,
        "not those of its blob",
    ),
    ("a layer.json cut off", |store| cut(&layer_with(store, "d/made").join("layer.json")), false, "cannot be read"),
    ("a broken format", |store| cut(&store.join("format")), false, "format: it cannot be read"),
    ("a lost format", |store| std::fs::remove_file(store.join("format")).unwrap(), false, "format: it is missing"),
    ("a broken index", |store| cut(&store.join("index.json")), false, "listed without their names"),
    ("a lost directory", |store| std::fs::remove_dir_all(store.join("records")).unwrap(), false, "it is missing"),
];

#[test]
fn every_kind_of_damage_is_found_mended_and_built_again() {
    needs!(root);
    // An image that came from elsewhere, with its blob.
    let lap = Lap::empty();
    let archive = lap.path("busybox.tar");
    Lap::new().run(&["save".as_ref(), "-o".as_ref(), archive.as_os_str(), "busybox".as_ref()]).ok();
    let load = || lap.run(&["load".as_ref(), "-i".as_ref(), archive.as_os_str()]).ok();
    load();
    lap.write("ctx/file", "text");
    let digest = lap.build_with("app", DOCKERFILE, &SAME).ok().out;
    for deep in [&["fsck"][..], &["fsck", "--deep"]] {
        let said = lap.run(deep).ok().out;
        assert!(said.trim_end().ends_with(": clean") && said.contains("layers, "), "{said}");
    }
    let (store, golden) = (lap.path("store"), lap.path("golden"));
    std::fs::rename(&store, &golden).unwrap();
    for (name, damage, deep, problem) in DAMAGES {
        run("cp", &["-a".as_ref(), golden.as_os_str(), store.as_os_str()]).ok();
        damage(&store);
        if deep {
            lap.run(&["fsck"]).ok();
        }
        let flags = if deep { &["fsck", "--deep"][..] } else { &["fsck"] };
        let found = lap.run(flags).code(4).out;
        assert!(found.contains(problem) && found.contains("lap fsck --repair mends"), "{name}: {found}");
        let mended = lap.run(&[flags, &["--repair"]].concat()).code(1).out;
        assert!(mended.contains(problem), "{name}: {mended}");
        let clean = lap.run(flags).ok().out;
        assert!(clean.trim_end().ends_with(": clean"), "{name}: {clean}");
        if lap.run(&["inspect", "busybox"]).code != 0 {
            load();
        }
        assert_eq!(lap.build_with("app", DOCKERFILE, &SAME).ok().out, digest, "{name}");
        lap.run(&["fsck"]).ok();
        std::fs::remove_dir_all(&store).unwrap();
    }
}

#[test]
fn a_check_tells_programs_what_it_found() {
    needs!(root);
    let lap = Lap::new();
    let store = lap.path("store");
    std::fs::write(store.join("tmp/x"), "").unwrap();
    std::fs::write(store.join("notes"), "mine").unwrap();
    // What a killed command leaves is no damage.
    std::fs::create_dir(store.join("tmp/1-1")).unwrap();
    let json = lap.run(&["fsck", "--format", "json"]).code(4).json();
    assert_eq!(lap.run(&["fsck", "--format", "json"]).code(4).json(), json, "a check changes nothing");
    assert_eq!(json["checked"]["images"], 1, "{json}");
    let findings = json["findings"].as_array().unwrap();
    let of = |path: &str| findings.iter().find(|one| one["path"] == path).unwrap_or_else(|| panic!("{path}: {json}"));
    assert_eq!(
        (of("tmp/1-1")["severity"].as_str(), of("tmp/x")["severity"].as_str()),
        (Some("leftover"), Some("damage"))
    );
    assert_eq!((of("notes")["remedy"].as_str(), of("notes")["outcome"].as_str()), (Some("set_aside"), Some("found")));
    lap.run(&["fsck", "--repair"]).code(1);
    assert_eq!(std::fs::read_to_string(store.join("lost+found/notes")).unwrap(), "mine");
    let clean = lap.run(&["fsck"]).ok().out;
    assert!(clean.trim_end().ends_with("1 images, 0 containers: clean"), "{clean}");
    std::fs::create_dir(store.join("tmp/1-1")).unwrap();
    assert!(lap.run(&["fsck"]).ok().out.trim_end().ends_with(": clean, 1 leftovers"));

    // What is no store is neither checked nor made one.
    let elsewhere = lap.path("elsewhere");
    let said = lap.run(&["--root".as_ref(), elsewhere.as_os_str(), "fsck".as_ref()]).code(8).err;
    assert!(said.contains("cannot check the store") && !elsewhere.exists(), "{said}");
    std::fs::write(store.join("format"), r#"{"version":99,"mode":"root"}"#).unwrap();
    assert!(lap.run(&["fsck", "--repair"]).code(8).err.contains("format version 99"));
}

#[test]
fn damage_that_a_container_needs_is_left_to_its_owner() {
    needs!(root);
    let lap = Lap::new();
    lap.run(&["run", "--name", "kept", "--network", "none", "busybox", "sh", "-c", "echo work > /work"]).ok();
    let store = lap.path("store");
    cut(&layer_with(&store, "bin/busybox").join("layer.json"));
    let said = lap.run(&["fsck", "--repair"]).code(4).out;
    assert!(said.contains("is made of it: remove that, then repair again"), "{said}");
    lap.run(&["rm", "kept"]).ok();
    lap.run(&["fsck", "--repair"]).code(1);
    lap.run(&["fsck"]).ok();
    // The image was made here of nothing but that layer, so it is gone too.
    assert_ne!(lap.run(&["inspect", "busybox"]).code, 0);
}

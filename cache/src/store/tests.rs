//! Several stores on one directory, dead processes, power cuts.

use std::io::Write;
use std::path::Path;

use super::*;
use crate::content::ContentError;
use crate::layer::LayerInfo;

fn store(root: &Path) -> Store {
    Store::open(root, Mode::Root).unwrap()
}

fn layer(store: &Store, text: &str) -> LayerInfo {
    let workspace = store.workspace().unwrap();
    let file = workspace.upper().join("f");
    std::fs::write(&file, text).unwrap();
    std::fs::File::options().write(true).open(file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    store.commit(workspace, &[], false).unwrap().unwrap()
}

fn in_tmp(store: &Store) -> usize {
    std::fs::read_dir(store.root().join("tmp")).unwrap().count()
}

#[test]
fn a_store_is_made_once_and_checked_ever_after() {
    let root = tempfile::tempdir().unwrap();
    store(root.path());
    assert_eq!(std::fs::read(root.path().join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(root.path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    store(root.path());
    assert!(matches!(Store::open(root.path(), Mode::User), Err(StoreError::WrongMode { .. })));
    std::fs::write(root.path().join("format"), br#"{"version":99,"mode":"root"}"#).unwrap();
    assert!(matches!(Store::open(root.path(), Mode::Root), Err(StoreError::Version { found: 99, .. })));
    std::fs::write(root.path().join("format"), b"").unwrap();
    assert!(matches!(Store::open(root.path(), Mode::Root), Err(StoreError::Corrupt { .. })));

    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("thesis.tex"), b"").unwrap();
    assert!(matches!(Store::open(other.path(), Mode::Root), Err(StoreError::NotAStore { .. })));
    let deep = tempfile::tempdir().unwrap();
    store(&deep.path().join("a/b"));
    let started = std::time::Instant::now();
    for _ in 0..100 {
        store(&deep.path().join("a/b"));
    }
    println!("opening a store takes {:?}", started.elapsed() / 100);
}

#[test]
fn what_the_dead_leave_goes_and_what_the_living_hold_stays() {
    let root = tempfile::tempdir().unwrap();
    let living = store(root.path());
    let workspace = living.workspace().unwrap();
    let dead = root.path().join("tmp/1-dead/0/upper/deep");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join("file"), b"").unwrap();
    let next = store(root.path());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while in_tmp(&next) > 1 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(in_tmp(&next), 1);
    assert!(workspace.upper().exists());
    drop((workspace, living));
    assert_eq!(in_tmp(&next), 0);
}

#[test]
fn many_at_once_make_one_layer() {
    let root = tempfile::tempdir().unwrap();
    let made: Vec<LayerInfo> = std::thread::scope(|scope| {
        let make = || layer(&store(root.path()), "same");
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
    let store = store(root.path());
    assert_eq!(store.layers().unwrap(), [made[0].diff_id]);
    assert_eq!(in_tmp(&store), 0);
}

/// Says in `layer.json` that the layer was written in another boot.
fn power_cut(store: &Store, layer: &LayerInfo) {
    let path = store.layer_dir(&layer.diff_id).join("layer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text.replace(store.boot_id(), "another-boot")).unwrap();
}

#[test]
fn a_layer_is_believed_after_a_power_cut_only_if_it_was_synced() {
    let root = tempfile::tempdir().unwrap();
    let one = store(root.path());
    let (kept, lost) = (layer(&one, "kept"), layer(&one, "lost"));
    assert!(one.layer(&kept.diff_id).unwrap().is_some());
    // Used by another process than the one that made it, and synced by that.
    let two = store(root.path());
    two.layer(&kept.diff_id).unwrap();
    two.sync().unwrap();
    power_cut(&two, &kept);
    power_cut(&two, &lost);
    assert_eq!(two.layer(&kept.diff_id).unwrap(), Some(kept));
    assert_eq!(two.layer(&lost.diff_id).unwrap(), None);
    // Made again, it takes the place of the torn one.
    std::fs::write(two.layer_dir(&lost.diff_id).join("fs/f"), b"").unwrap();
    assert_eq!(layer(&two, "lost"), lost);
    assert_eq!(std::fs::read(two.layer_dir(&lost.diff_id).join("fs/f")).unwrap(), b"lost");
    assert_eq!(two.layer(&lost.diff_id).unwrap(), Some(lost.clone()));
    two.sync().unwrap();
    std::fs::write(two.layer_dir(&lost.diff_id).join("layer.json"), b"").unwrap();
    assert_eq!(two.layer(&lost.diff_id).unwrap(), None);
}

#[test]
fn a_foreign_layer_made_here_too_becomes_ours() {
    let root = tempfile::tempdir().unwrap();
    let (elsewhere, here) = (tempfile::tempdir().unwrap(), store(root.path()));
    let origin = store(elsewhere.path());
    let made = layer(&origin, "x");
    let mut tar = Vec::new();
    origin.write_tar(&made.diff_id, &mut tar).unwrap();
    let foreign = here.unpack(&tar[..], Some(made.diff_id), &[]).unwrap();
    assert_ne!(foreign.content_id, made.content_id);
    assert_eq!(layer(&here, "x"), made);
    assert_eq!(here.write_tar(&made.diff_id, io::sink()).unwrap(), made.tar_size);
    assert_eq!(here.unpack(&tar[..], Some(made.diff_id), &[]).unwrap(), made);
}

#[test]
fn blobs_come_in_whole_and_verified_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let content = store.content();
    let digest = Digest::of(b"hello");
    let ingest = |expected, bytes: &[u8]| {
        let mut ingest = content.ingest(expected).unwrap();
        ingest.write_all(bytes).map_err(|error| error.to_string())?;
        ingest.commit().map_err(|error| error.to_string())
    };
    assert!(ingest(Some((digest, 5)), b"hell").unwrap_err().contains("4 bytes, 5 were announced"));
    assert!(ingest(Some((digest, 5)), b"hello!").unwrap_err().contains("6 bytes"));
    assert!(ingest(Some((digest, 5)), b"jello").unwrap_err().contains("has digest"));
    assert_eq!(content.has(&digest).unwrap(), None);
    assert!(matches!(content.open(&digest), Err(ContentError::Missing { .. })));
    assert_eq!(ingest(Some((digest, 5)), b"hello"), Ok((digest, 5)));
    assert_eq!(ingest(None, b"hello"), Ok((digest, 5)));
    assert_eq!(content.put(b"hello").unwrap(), digest);
    assert_eq!(content.has(&digest).unwrap(), Some(5));
    assert_eq!(content.read(&digest, 5).unwrap(), b"hello");
    assert!(matches!(content.read(&digest, 4), Err(ContentError::TooLarge { size: 5, limit: 4, .. })));
    let session = std::fs::read_dir(store.root().join("tmp")).unwrap().next().unwrap().unwrap();
    assert_eq!(std::fs::read_dir(session.path()).unwrap().count(), 0);
    // A flipped bit is seen when the blob is used.
    std::fs::write(content.path(&digest), b"hallo").unwrap();
    assert!(matches!(content.read(&digest, 5), Err(ContentError::WrongDigest { .. })));
}

#[test]
fn small_files_are_replaced_whole() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    assert_eq!(store.read_file("names/a/b").unwrap(), None);
    store.write_file("names/a/b", b"one", true).unwrap();
    store.write_file("names/a/b", b"two", false).unwrap();
    assert_eq!(store.read_file("names/a/b").unwrap().unwrap(), b"two");
    store.remove_file("names/a/b").unwrap();
    store.remove_file("names/a/b").unwrap();
}

//! Killed at any system call that changes the store, a process leaves one that the next can use: F002.
//!
//! The test runs itself as a child under `strace`, which kills it at the Nth call of a kind, until the child gets
//! through; after each death the store is checked and the work done again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lap_solver::digest::Key;
use lap_solver::graph::{Metadata, Op, Vertex};
use lap_solver::key::KeyInputs;

use super::{Mode, Store};
use crate::records::Records;
use crate::snapshot::Snapshot;

/// Tells the child where its store is.
const STORE: &str = "LAP_TEST_CRASH_STORE";
/// The calls that change something on disk.
const CALLS: [&str; 10] =
    ["mkdirat", "renameat", "renameat2", "unlinkat", "write", "fsync", "syncfs", "mknodat", "fchmod", "utimensat"];

/// Everything that a build does with a store.
fn work(root: &Path) -> (Store, Snapshot) {
    let store = Store::open(root, Mode::Root).unwrap();
    let workspace = store.workspace().unwrap();
    std::fs::create_dir(workspace.upper().join("d")).unwrap();
    std::fs::write(workspace.upper().join("d/f"), b"data").unwrap();
    let made = store.commit(workspace, &[], false).unwrap().unwrap();
    let mut tar = Vec::new();
    store.write_tar(&made.diff_id, &mut tar).unwrap();
    tar.extend([0; 512]);
    let foreign = store.unpack(&tar[..], None, &[made.diff_id]).unwrap();
    store.content().put(&tar).unwrap();
    let snapshot = Snapshot { layers: vec![(&foreign).into(), (&made).into()] };
    let inputs = KeyInputs { op: Op::Merge, inputs: vec![], secrets: BTreeMap::new() };
    let vertex = Vertex { op: Op::Merge, inputs: vec![], definition: Key::of("t", "v"), metadata: Metadata::default() };
    let records = Records::new(store.clone());
    // Where this was done before, the earlier layer of the same content is taken.
    let snapshot = records.record(&inputs.key(), &inputs, &vertex, snapshot).unwrap();
    assert_eq!(records.lookup(&inputs.key(), |_| false).unwrap(), Some(snapshot.clone()));
    store.sync().unwrap();
    store.write_file("names/image", b"a name", true).unwrap();
    (store, snapshot)
}

/// What can be seen in the store is whole.
fn check(root: &Path) {
    let Ok(store) = Store::open(root, Mode::Root) else { return };
    for diff_id in store.layers().unwrap() {
        if store.layer(&diff_id).unwrap().is_some() {
            match store.write_tar(&diff_id, std::io::sink()) {
                Ok(_) | Err(crate::layer::LayerError::Foreign { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    for record in Records::new(store.clone()).all().unwrap() {
        for layer in record.snapshot.layers {
            assert!(store.layer(&layer.diff_id).unwrap().is_some());
        }
    }
    for blob in std::fs::read_dir(root.join("blobs/sha256")).unwrap() {
        let name = blob.unwrap().file_name();
        let digest = crate::digest::Digest::from_hex(name.to_str().unwrap()).unwrap();
        store.content().read(&digest, 1 << 20).unwrap();
    }
    if let Some(name) = store.read_file("names/image").unwrap() {
        assert_eq!(name, b"a name");
    }
}

#[test]
fn killed_at_any_point_it_leaves_a_whole_store() {
    if let Some(root) = std::env::var_os(STORE) {
        drop(work(Path::new(&root)));
        return;
    }
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no strace to kill with");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: killed_at_any_point_it_leaves_a_whole_store needs root for owners");
        return;
    }
    let mut deaths = 0;
    for call in CALLS {
        for at in 1.. {
            let root = tempfile::tempdir().unwrap();
            let inject = format!("inject={call}:signal=KILL:when={at}");
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            command.arg(std::env::current_exe().unwrap());
            command.args(["--exact", "store::crash_tests::killed_at_any_point_it_leaves_a_whole_store"]);
            let output = command.env(STORE, root.path()).output().unwrap();
            if !output.status.success() {
                assert!(at < 200, "{call}: {}", String::from_utf8_lossy(&output.stdout));
                deaths += 1;
            }
            check(root.path());
            let (store, snapshot) = work(root.path());
            assert!(snapshot.layers.iter().all(|layer| store.layer(&layer.diff_id).unwrap().is_some()));
            if output.status.success() {
                break;
            }
        }
    }
    println!("survived {deaths} deaths");
    assert!(deaths > 20);
}

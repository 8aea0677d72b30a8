//! Names that every store must agree on.

use std::path::Path;

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::{is_root, scratch};
use crate::layer::LayerInfo;

/// Content IDs name results in every store: see solver/tests/keys.rs for what a change of them takes.
#[test]
fn content_ids_and_diff_ids_are_those_of_the_golden_file() {
    if !is_root("a golden layer") {
        return;
    }
    let scratch = scratch();
    let store = &scratch.store;
    let workspace = store.workspace().unwrap();
    let upper = workspace.upper();
    std::fs::create_dir(upper.join("dir")).unwrap();
    std::fs::write(upper.join("dir/file"), "text\n").unwrap();
    std::os::unix::fs::symlink("dir/file", upper.join("link")).unwrap();
    std::fs::hard_link(upper.join("dir/file"), upper.join("same")).unwrap();
    for (path, mode) in [("", 0o755), ("dir", 0o750), ("dir/file", 0o4711)] {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(upper.join(path), permissions).unwrap();
    }
    let time = Timespec { tv_sec: 1_700_000_000, tv_nsec: 5 };
    let times = Timestamps { last_access: time, last_modification: time };
    for path in ["dir/file", "link", "dir"] {
        rustix::fs::utimensat(rustix::fs::CWD, upper.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    let layer = store.commit(workspace, &[], false).unwrap().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/keys/layer.json");
    if std::env::var_os("LAP_UPDATE").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&layer).unwrap() + "\n").unwrap();
    }
    let golden: LayerInfo = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(layer, golden);
}

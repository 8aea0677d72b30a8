//! What a step changes on an overlay mount comes out of the layer again: `apply(diff(a, b), a) = b`.

use std::path::Path;

use proptest::prelude::*;

use super::roundtrip::tar_of;
use super::*;
use crate::layer::LayerInfo;

/// One thing that a step does; names are chosen from few, so that steps meet.
#[derive(Debug, Clone)]
enum Act {
    Write(u8, u8, u8),
    Mkdir(u8, u8),
    Remove(u8, u8),
    Rename(u8, u8, u8, u8),
    Link(u8, u8, u8),
    Symlink(u8, u8),
    Chmod(u8, u8, u16),
    Chown(u8, u8),
    Touch(u8, u8),
    Reopen(u8, u8),
    Attribute(u8, u8),
}

fn act() -> impl Strategy<Value = Act> {
    let (d, n) = (0..4u8, 0..5u8);
    prop_oneof![
        (d.clone(), n.clone(), any::<u8>()).prop_map(|(d, n, x)| Act::Write(d, n, x)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Act::Mkdir(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Act::Remove(d, n)),
        (d.clone(), n.clone(), d.clone(), n.clone()).prop_map(|(a, b, c, e)| Act::Rename(a, b, c, e)),
        (d.clone(), n.clone(), n.clone()).prop_map(|(d, n, m)| Act::Link(d, n, m)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Act::Symlink(d, n)),
        (d.clone(), n.clone(), 0..0o7777u16).prop_map(|(d, n, m)| Act::Chmod(d, n, m)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Act::Chown(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Act::Touch(d, n)),
        (d.clone(), n.clone()).prop_map(|(d, n)| Act::Reopen(d, n)),
        (d, n).prop_map(|(d, n)| Act::Attribute(d, n)),
    ]
}

/// Does it; what is impossible at the moment is left.
fn perform(root: &Path, act: &Act) {
    use std::os::unix::fs::PermissionsExt;
    let path = |d: &u8, n: &u8| {
        let directory = ["", "n0", "n1", "n0/n1"][usize::from(*d)];
        root.join(directory).join(format!("n{n}"))
    };
    // Links are never followed: the targets are names inside the tree, or nothing.
    let plain = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink());
    match act {
        Act::Write(d, n, x) => drop(std::fs::write(path(d, n), vec![*x; usize::from(*x)])),
        Act::Mkdir(d, n) => drop(std::fs::create_dir(path(d, n))),
        Act::Remove(d, n) => {
            drop(std::fs::remove_file(path(d, n)));
            drop(std::fs::remove_dir_all(path(d, n)));
        }
        Act::Rename(d, n, e, m) => drop(std::fs::rename(path(d, n), path(e, m))),
        Act::Link(d, n, m) => drop(std::fs::hard_link(path(d, n), path(&0, m))),
        Act::Symlink(d, n) => drop(std::os::unix::fs::symlink("../n1", path(d, n))),
        Act::Chmod(d, n, mode) if plain(&path(d, n)) => {
            drop(std::fs::set_permissions(path(d, n), std::fs::Permissions::from_mode(u32::from(*mode))));
        }
        Act::Chown(d, n) => drop(std::os::unix::fs::lchown(path(d, n), Some(1000), Some(1001))),
        Act::Touch(d, n) => {
            let dir = fs::open_dir(root).unwrap();
            let inner = path(d, n);
            if let (Ok(parent), true) = (fs::open_dir(inner.parent().unwrap()), plain(&inner)) {
                let time = Timestamp { seconds: 1_700_000_000, nanoseconds: 123 };
                fs::apply_times(&parent, inner.file_name().unwrap().as_encoded_bytes(), time).unwrap();
            }
            drop(dir);
        }
        // Copies up and changes nothing.
        Act::Reopen(d, n) if plain(&path(d, n)) => drop(std::fs::File::options().write(true).open(path(d, n))),
        Act::Attribute(d, n) if plain(&path(d, n)) => {
            let flags = rustix::fs::XattrFlags::empty();
            let _ = rustix::fs::setxattr(path(d, n), "user.note", &[*d, *n], flags);
        }
        Act::Chmod(..) | Act::Reopen(..) | Act::Attribute(..) => {}
    }
}

/// Runs a step on a mount of `parents`: the layer, if any, and what was seen at its end.
fn step(store: &Store, parents: &[Digest], acts: &[Act]) -> (Option<LayerInfo>, BTreeMap<String, String>) {
    let workspace = store.workspace().unwrap();
    let mut plan = store.overlay(parents, Some(&workspace)).unwrap();
    let bottom = workspace.path().join("bottom");
    if plan.lowers.is_empty() {
        std::fs::create_dir(&bottom).unwrap();
        plan.lowers.push(bottom);
    }
    {
        let _mounted = Mounted::new(store.mode(), &plan, &workspace.merged());
        acts.iter().for_each(|act| perform(&workspace.merged(), act));
    }
    // Mounted anew: a link to a symbolic link below has an inode number of its own until then, where the overlay cannot
    // note where a symbolic link came from (`userxattr`).
    let seen = {
        let _mounted = Mounted::new(store.mode(), &plan, &workspace.merged());
        listing(&workspace.merged())
    };
    (store.commit(workspace, parents, false).unwrap(), seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn layers_hold_what_steps_did(
        steps in prop::collection::vec(prop::collection::vec(act(), 0..24), 1..4),
        mode in prop_oneof![Just(Mode::Root), Just(Mode::User)],
    ) {
        if !is_root("layers_hold_what_steps_did") {
            return Ok(());
        }
        let (one, two) = (scratch_in(mode), scratch_in(mode));
        let (mut layers, mut seen) = (Vec::new(), BTreeMap::new());
        for acts in &steps {
            let (layer, now) = step(&one.store, &layers, acts);
            prop_assert!(layer.is_some() || now == seen);
            seen = now;
            if let Some(layer) = layer {
                // The same tar from the directory and, unpacked elsewhere, the same layer.
                let tar = tar_of(&one.store, &layer);
                two.store.unpack(&tar[..], Some(layer.diff_id), &[]).unwrap();
                layers.push(layer.diff_id);
            }
            if !layers.is_empty() {
                prop_assert_eq!(&merged_listing(&one.store, &layers), &seen);
                prop_assert_eq!(&merged_listing(&two.store, &layers), &seen);
            }
        }
    }
}

#[test]
fn copied_up_but_equal_is_no_change() {
    if !is_root("copied_up_but_equal_is_no_change") {
        return;
    }
    let scratch = scratch();
    let base = [Act::Mkdir(0, 0), Act::Write(1, 2, 9), Act::Write(0, 3, 7), Act::Symlink(0, 4)];
    let base = step(&scratch.store, &[], &base).0.unwrap().diff_id;
    let nothing = [Act::Reopen(1, 2), Act::Reopen(0, 3), Act::Write(1, 4, 1), Act::Remove(1, 4)];
    // The directory's own time changed.
    let touched = step(&scratch.store, &[base], &nothing).0.unwrap();
    assert_eq!(touched.entries, 1);
    assert_eq!(step(&scratch.store, &[base], &nothing[..2]).0, None);
}

#[test]
fn whiteouts_and_opaque_directories_have_their_oci_form() {
    if !is_root("whiteouts_and_opaque_directories_have_their_oci_form") {
        return;
    }
    let scratch = scratch();
    let base = [Act::Mkdir(0, 0), Act::Write(1, 1, 1), Act::Write(1, 2, 1), Act::Write(0, 3, 1)];
    let base = step(&scratch.store, &[], &base).0.unwrap().diff_id;
    // n0 is made anew over the old one; n3 goes; n4 is new and hides nothing.
    let acts = [Act::Remove(0, 0), Act::Mkdir(0, 0), Act::Write(1, 1, 2), Act::Remove(0, 3), Act::Mkdir(0, 4)];
    let layer = step(&scratch.store, &[base], &acts).0.unwrap();
    let tar = tar_of(&scratch.store, &layer);
    let mut reader = crate::archive::Reader::new(&tar[..], crate::archive::Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(names, ["n0/", "n0/.wh..wh..opq", "n0/n1", ".wh.n3", "n4/"]);
}

//! Layers against the real overlayfs, GNU tar and hostile archives.

mod changes;
mod golden;
mod hostile;
mod roundtrip;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::archive::{Entry, EntryKind, end, entry_header, padding};
use crate::digest::Digest;
use crate::fs::{self, Kind, Timestamp, Xattrs};
use crate::snapshot::OverlayPlan;
use crate::store::{Mode, Store};

pub(super) struct Scratch {
    pub(super) store: Store,
    _root: tempfile::TempDir,
}

pub(super) fn scratch() -> Scratch {
    scratch_in(Mode::Root)
}

pub(super) fn scratch_in(mode: Mode) -> Scratch {
    let root = tempfile::tempdir().unwrap();
    Scratch { store: Store::open(root.path(), mode).unwrap(), _root: root }
}

/// Says why a test cannot run here.
pub(super) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: {test} needs root for owners, devices and trusted attributes");
    }
    root
}

pub(super) fn entry(path: &[u8], kind: EntryKind) -> Entry {
    let mtime = Timestamp { seconds: 1_000_000_000, nanoseconds: 0 };
    Entry { path: path.to_vec(), kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Xattrs::new() }
}

pub(super) fn file(path: &[u8], size: u64) -> Entry {
    entry(path, EntryKind::File { size, extents: None })
}

pub(super) fn directory(path: &[u8]) -> Entry {
    Entry { mode: 0o755, ..entry(path, EntryKind::Directory) }
}

pub(super) fn symlink(path: &[u8], target: &[u8]) -> Entry {
    entry(path, EntryKind::Symlink { target: target.to_vec() })
}

pub(super) fn link(path: &[u8], target: &[u8]) -> Entry {
    entry(path, EntryKind::HardLink { target: target.to_vec() })
}

/// A tar of entries and their data.
pub(super) fn tar(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (entry, data) in entries {
        bytes.extend(entry_header(entry));
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + padding(data.len() as u64), 0);
    }
    bytes.extend(end());
    bytes
}

/// An overlay mount, gone on drop.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub(super) fn new(mode: Mode, plan: &OverlayPlan, target: &Path) -> Self {
        let lowers: Vec<_> = plan.lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
        let own = match mode {
            Mode::Root => "redirect_dir=off,metacopy=off",
            Mode::User => "userxattr",
        };
        let mut options = format!("lowerdir={},{own}", lowers.join(":"));
        if let (Some(upper), Some(work)) = (&plan.upper, &plan.work) {
            options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
        }
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
        Self(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Every entry below `root` with all that matters about it, as text.
pub(super) fn listing(root: &Path) -> BTreeMap<String, String> {
    let (mut out, mut inodes) = (BTreeMap::new(), HashMap::new());
    list(root, "", &mut out, &mut inodes);
    out
}

fn list(root: &Path, path: &str, out: &mut BTreeMap<String, String>, inodes: &mut HashMap<(u64, u64), String>) {
    use std::os::unix::ffi::OsStrExt;
    let dir = fs::open_dir(&root.join(path)).unwrap();
    for name in fs::sorted_names(&dir).unwrap() {
        let (mut metadata, inode) = fs::metadata_at(&dir, &name).unwrap();
        metadata.xattrs = super::exported(&metadata.xattrs);
        let shown = format!("{path}{}", name.escape_ascii());
        let mut text = format!("{metadata:?}");
        if let Kind::File { .. } = metadata.kind {
            let on_disk = root.join(path).join(std::ffi::OsStr::from_bytes(&name));
            text += &format!(" {}", Digest::of(&std::fs::read(on_disk).unwrap()));
        }
        if !metadata.is_directory() && inode.links > 1 {
            let first = inodes.entry((inode.device, inode.number)).or_insert_with(|| shown.clone());
            text += &format!(" = {first}");
        }
        let below = metadata.is_directory();
        out.insert(shown.clone(), text);
        if below {
            list(root, &format!("{path}{}/", std::str::from_utf8(&name).unwrap()), out, inodes);
        }
    }
}

/// The listing of a stack of layers, mounted read-only.
pub(super) fn merged_listing(store: &Store, layers: &[Digest]) -> BTreeMap<String, String> {
    let workspace = store.workspace().unwrap();
    let mut plan = store.overlay(layers, None).unwrap();
    // One lower directory alone is no overlay.
    if plan.lowers.len() == 1 {
        plan.lowers.push(workspace.work());
    }
    let _mounted = Mounted::new(store.mode(), &plan, &workspace.merged());
    listing(&workspace.merged())
}

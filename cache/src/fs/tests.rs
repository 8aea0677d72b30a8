//! Paths inside a root, and trees that resist removal.

use std::os::unix::fs::symlink;

use super::*;

const NEW: NewDirectory = NewDirectory { mode: 0o750, uid: 0, gid: 0 };

#[test]
fn links_are_followed_inside_the_root_only() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir_all(root.join("usr/lib")).unwrap();
    std::fs::write(outer.path().join("secret"), b"secret").unwrap();
    std::fs::write(root.join("usr/lib/file"), b"file").unwrap();
    for (link, target) in
        [("lib", "usr/lib"), ("abs", "/usr/lib"), ("up", "../../../../usr/lib"), ("out", "../secret"), ("loop", "loop")]
    {
        symlink(target, root.join(link)).unwrap();
    }
    let dir = open_dir(&root).unwrap();
    for path in ["usr/lib/file", "lib/file", "abs/file", "up/file", "/lib/../lib/file", "../../lib/file"] {
        assert!(open_in_root(&dir, path.as_bytes(), OFlags::RDONLY).is_ok(), "{path}");
    }
    for path in ["out", "../secret", "loop", "proc/self/root", "missing"] {
        assert!(open_in_root(&dir, path.as_bytes(), OFlags::RDONLY).is_err(), "{path}");
    }
    assert!(open_beneath(&dir, b"lib/file", OFlags::RDONLY).is_err());
    assert!(open_beneath(&dir, b"../secret", OFlags::RDONLY).is_err());
    assert!(open_beneath(&dir, b"usr/lib/file", OFlags::RDONLY).is_ok());
    for path in ["", "/", "a/..", ".", "usr/."] {
        assert!(parent_in_root(&dir, path.as_bytes()).is_err(), "{path:?}");
    }
    assert_eq!(parent_in_root(&dir, b"abs/x/").unwrap().1, b"x");
}

#[test]
fn missing_directories_are_made_where_links_lead() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: missing_directories_are_made_where_links_lead needs root for owners");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    symlink("/usr/local", root.path().join("opt")).unwrap();
    symlink("../../../../var/x", root.path().join("up")).unwrap();
    symlink("loop2", root.path().join("loop1")).unwrap();
    symlink("loop1", root.path().join("loop2")).unwrap();
    std::fs::write(root.path().join("file"), b"").unwrap();
    let dir = open_dir(root.path()).unwrap();
    let make = |path: &str| mkdir_all_in_root(&dir, path.as_bytes(), NEW).map(|made| (made.path, made.made));
    for (path, real, made) in [
        ("opt/app", "usr/local/app", 3),
        ("/opt//app/./", "usr/local/app", 0),
        ("up/y", "var/x/y", 3),
        ("opt/../b", "usr/b", 1),
        ("../../../c", "c", 1),
        ("", "", 0),
    ] {
        assert_eq!(make(path).unwrap(), (real.as_bytes().to_vec(), made), "{path}");
    }
    assert_eq!(make("loop1/x").unwrap_err().errno(), Some(rustix::io::Errno::LOOP));
    assert_eq!(make("file/x").unwrap_err().errno(), Some(rustix::io::Errno::NOTDIR));
    let made = metadata_at(&dir, b"c").unwrap().0;
    assert_eq!((made.mode, made.uid), (0o750, 0));
}

#[test]
fn deep_and_odd_trees_are_removed_without_following_links() {
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("keep"), b"").unwrap();
    let dir = open_dir(outer.path()).unwrap();
    let mut bottom = mkdir_all_in_root(&dir, &[b"tree/".to_vec(), b"d/".repeat(1000)].concat(), NEW).unwrap().dir;
    for _ in 0..3 {
        // Deeper than any path can name.
        bottom = mkdir_all_in_root(&bottom, &b"e/".repeat(1000), NEW).unwrap().dir;
    }
    rustix::fs::symlinkat("/", &bottom, "root").unwrap();
    symlink(outer.path(), outer.path().join("tree/up")).unwrap();
    remove_entry(&dir, b"tree").unwrap();
    remove_entry(&dir, b"tree").unwrap();
    assert_eq!(sorted_names(&dir).unwrap(), [b"keep"]);
}

#[test]
fn attributes_and_times_round_trip() {
    let root = tempfile::tempdir().unwrap();
    symlink("nowhere", root.path().join("link")).unwrap();
    std::fs::write(root.path().join("file"), b"").unwrap();
    let dir = open_dir(root.path()).unwrap();
    let large = Xattrs::from([(b"user.large".to_vec(), vec![7; 2000]), (b"user.b".to_vec(), vec![])]);
    assert!(apply_xattrs(&dir, b"file", &large).unwrap().is_empty());
    assert_eq!(xattrs_at(&dir, b"file").unwrap(), large);
    // A symbolic link takes none of the user's: that is told, not swallowed.
    assert_eq!(apply_xattrs(&dir, b"link", &large).unwrap().len(), 2);
    for mtime in [Timestamp { seconds: -1, nanoseconds: 999_999_999 }, Timestamp { seconds: 1 << 33, nanoseconds: 1 }] {
        for name in [&b"file"[..], b"link"] {
            apply_times(&dir, name, mtime).unwrap();
            assert_eq!(metadata_at(&dir, name).unwrap().0.mtime, mtime);
        }
    }
    assert!(xattrs_at(&dir, b"a/b").is_err());
}

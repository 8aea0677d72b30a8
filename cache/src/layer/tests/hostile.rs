//! Archives that want out, or want more than is good.

use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;
use crate::archive::{ArchiveError, Limits};
use crate::layer::{LayerError, Owner};
use crate::tarball::extract_into;

type Entries<'a> = Vec<(Entry, &'a [u8])>;

/// Unpacks and says what came out, or why nothing did.
fn unpack(entries: &Entries<'_>) -> Result<BTreeMap<String, String>, LayerError> {
    unpack_bytes(&tar(entries))
}

fn unpack_bytes(bytes: &[u8]) -> Result<BTreeMap<String, String>, LayerError> {
    let scratch = scratch();
    let layer = scratch.store.unpack(bytes, None, &[])?;
    Ok(listing(&scratch.store.layer_dir(&layer.diff_id).join("fs")))
}

fn names(result: Result<BTreeMap<String, String>, LayerError>) -> Result<Vec<String>, String> {
    result.map(|listing| listing.into_keys().collect()).map_err(|error| error.to_string())
}

#[test]
fn names_stay_inside_or_are_refused() {
    for (name, expected) in [
        ("x", Some("x")),
        ("/x", Some("x")),
        ("//x", Some("x")),
        ("./x", Some("x")),
        ("././/x/", Some("x")),
        ("../x", None),
        ("./../x", None),
        ("a/../../x", None),
        ("a/..", None),
        ("..", None),
    ] {
        let result = names(unpack(&vec![(file(name.as_bytes(), 0), b"")]));
        // A file whose name ends in a slash is a directory of old archives.
        match expected {
            Some(expected) => assert_eq!(result, Ok(vec![expected.to_owned()]), "{name}"),
            None => assert!(result.is_err_and(|error| error.contains("upwards")), "{name}"),
        }
    }
    assert!(unpack(&vec![(file(b"", 0), b"")]).is_err());
    assert!(unpack(&vec![(file(b".", 0), b"")]).is_err());
    let long = vec![b'x'; 5000];
    assert!(matches!(
        unpack(&vec![(file(&long, 0), b"")]),
        Err(LayerError::Archive(ArchiveError::Limit { what: "bytes of a path", .. }))
    ));
    assert!(unpack(&vec![(file(&[b'x'; 256], 0), b"")]).is_err());
    let deep = tar(&[(directory(&b"d/".repeat(2000)), b"")]);
    assert_eq!(scratch().store.unpack(&deep[..], None, &[]).unwrap().entries, 1);
}

#[test]
fn depth_and_directories_cost_bounded_memory() {
    // Each link leads a thousand directories down, so that the last lies deeper than any path is long.
    let step = b"d/".repeat(1000);
    let mut entries: Vec<(Entry, &[u8])> = vec![(directory(&step), b"")];
    for depth in 0_u8..10 {
        let link = [b'a' + depth];
        let above: &[u8] = if depth == 0 { b"" } else { &[b'a' + depth - 1, b'/'] };
        entries.push((symlink(&link, &[above, &step].concat()), b""));
        entries.push((directory(&[&link[..], b"/", &step].concat()), b""));
    }
    // As deep as the kernel follows links, and then refused by name; gone either way.
    let deep = scratch();
    let error = deep.store.unpack(&tar(&entries)[..], None, &[]).map(|layer| layer.entries);
    assert!(error.is_err_and(|error| error.to_string().len() < 10_000));
    assert!(deep.store.layers().unwrap().is_empty());

    // Directories in plenty, below names as long as names can be.
    let long = [vec![b'x'; 250], vec![b'/']].concat().repeat(15);
    let many: Vec<(Entry, &[u8])> =
        (0..20_000).map(|at| (directory(&[&long[..], format!("{at:04}").as_bytes()].concat()), &b""[..])).collect();
    let error = unpack(&many).unwrap_err();
    assert!(error.to_string().contains("bytes of the paths of directories"), "{error}");
}

#[test]
fn links_lead_nowhere_outside() {
    let canary = tempfile::tempdir().unwrap();
    let secret = canary.path().join("secret");
    std::fs::write(&secret, b"canary").unwrap();
    let before = std::fs::metadata(&secret).unwrap();
    let outside = canary.path().as_os_str().as_encoded_bytes();
    let through = |rest: &str| [b"d/", rest.as_bytes()].concat();
    let absolute = [outside, b"/secret"].concat();
    for entries in [
        vec![(symlink(b"d", outside), &b""[..]), (file(&through("secret"), 4), b"evil")],
        vec![(symlink(b"d", b"../../../../../../../../tmp"), b""), (file(&through("x"), 4), b"evil")],
        vec![
            (symlink(b"a", outside), b""),
            (symlink(b"b", b"a"), b""),
            (symlink(b"d", b"b"), b""),
            (file(&through("secret"), 4), b"evil"),
        ],
        vec![(symlink(b"d", outside), b""), (Entry { mode: 0o777, ..directory(b"d") }, b"")],
        vec![(symlink(b"s", &absolute), b""), (file(b"s", 4), b"evil")],
        vec![(symlink(b"s", &absolute), b""), (link(b"h", b"s"), b""), (file(b"h", 4), b"evil")],
        vec![(link(b"h", &absolute), b"")],
        vec![(link(b"h", b"../../../../../../etc/passwd"), b"")],
        vec![(symlink(b"d", outside), b""), (link(b"h", b"d/secret"), b"")],
        vec![(symlink(b"d", outside), b""), (file(&through(".wh.secret"), 0), b"")],
        vec![(symlink(b"d", outside), b""), (file(&through(".wh..wh..opq"), 0), b"")],
        vec![(symlink(b"d", b"d"), b""), (file(&through("x"), 0), b"")],
    ] {
        // Whether it is refused or lands inside, nothing outside moves.
        drop(unpack(&entries));
        let after = std::fs::metadata(&secret).unwrap();
        assert_eq!(std::fs::read(&secret).unwrap(), b"canary");
        assert_eq!((after.nlink(), after.mode(), after.ctime_nsec()), (1, before.mode(), before.ctime_nsec()));
        assert_eq!(std::fs::read_dir(canary.path()).unwrap().count(), 1, "{entries:?}");
    }
    let inside = vec![(symlink(b"d", b"/real/../real"), &b""[..]), (file(b"d/x", 2), b"ok")];
    assert_eq!(names(unpack(&inside)), Ok(["d", "real", "real/x"].map(str::to_owned).to_vec()));
}

#[test]
fn whiteouts_hide_only_names_of_their_directory() {
    if !is_root("whiteouts_hide_only_names_of_their_directory") {
        return;
    }
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        assert!(unpack(&vec![(file(bad.as_bytes(), 0), b"")]).is_err(), "{bad}");
    }
    assert_eq!(names(unpack(&vec![(file(b".wh..wh.plnk", 0), b"")])), Ok(vec![]));
    let device = |major, minor| entry(b"w", EntryKind::CharDevice { major, minor });
    assert!(unpack(&vec![(device(0, 0), b"")]).is_err());
    assert!(unpack(&vec![(device(1, 3), b"")]).is_ok());
    for name in ["trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.opaque"] {
        let xattrs = Xattrs::from([(name.as_bytes().to_vec(), b"/etc".to_vec())]);
        assert!(unpack(&vec![(Entry { xattrs, ..directory(b"d") }, b"")]).is_err(), "{name}");
    }
    // A whiteout hides what is below; what the layer itself has stays.
    let scratch = scratch();
    let base = tar(&[(file(b"a", 1), b"1"), (file(b"d/x", 1), b"1"), (file(b"e/x", 1), b"1"), (file(b"f/x", 1), b"1")]);
    let base = scratch.store.unpack(&base[..], None, &[]).unwrap().diff_id;
    let upper = tar(&[
        (file(b"a", 1), b"2"),
        (file(b".wh.a", 0), b""),
        (file(b".wh.d", 0), b""),
        (directory(b"d"), b""),
        (file(b"d/y", 1), b"2"),
        (file(b"e/.wh.x", 0), b""),
        (directory(b"f"), b""),
        (file(b"f/y", 1), b"2"),
        (file(b".wh.f", 0), b""),
    ]);
    let upper = scratch.store.unpack(&upper[..], None, &[]).unwrap().diff_id;
    let seen = merged_listing(&scratch.store, &[base, upper]);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["a", "d", "d/y", "e", "f", "f/y"]);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let (f, d, s) = (|| (file(b"n", 1), &b"x"[..]), || (directory(b"n"), &b""[..]), || (symlink(b"n", b"m"), &b""[..]));
    for (entries, kind) in [
        (vec![f(), d()], "Directory"),
        (vec![d(), (file(b"n/x", 0), b""), f()], "File"),
        (vec![s(), d(), (file(b"n/x", 0), b"")], "Directory"),
        (vec![d(), (file(b"n/x", 0), b""), s()], "Symlink"),
        (vec![f(), f(), s(), f()], "File"),
        (vec![f(), (link(b"n", b"n"), b"")], "File"),
    ] {
        let found = unpack(&entries).unwrap();
        assert!(found["n"].contains(kind), "{entries:?}: {found:?}");
    }
}

#[test]
fn hard_links_into_lower_layers_are_copies() {
    let scratch = scratch();
    let base = scratch.store.unpack(&tar(&[(file(b"lower", 3), b"abc")])[..], None, &[]).unwrap().diff_id;
    let upper = tar(&[(link(b"d/l", b"/lower"), b"")]);
    let alone = scratch.store.unpack(&upper[..], None, &[]);
    assert!(matches!(alone, Err(LayerError::UnresolvedLink { .. })));
    let layer = scratch.store.unpack(&upper[..], None, &[base]).unwrap();
    let copy = scratch.store.layer_dir(&layer.diff_id).join("fs/d/l");
    assert_eq!(std::fs::read(copy).unwrap(), b"abc");
    assert!(scratch.store.unpack(&tar(&[(link(b"l", b"nowhere"), b"")])[..], None, &[base]).is_err());
}

#[test]
fn directories_without_an_entry_are_as_below() {
    let scratch = scratch();
    let base = tar(&[(Entry { mode: 0o1777, ..directory(b"tmp") }, b"")]);
    let base = scratch.store.unpack(&base[..], None, &[]).unwrap().diff_id;
    let layer = scratch.store.unpack(&tar(&[(file(b"tmp/a", 0), b"")])[..], None, &[base]).unwrap();
    let mode = std::fs::metadata(scratch.store.layer_dir(&layer.diff_id).join("fs/tmp")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o1777);
}

#[test]
fn budgets_and_digests_hold() {
    let scratch = scratch();
    let bytes = tar(&[(file(b"a", 5), b"12345"), (file(b"b", 0), b"")]);
    let within = |limits| scratch.store.unpack_within(&bytes[..], None, &[], limits).map(|layer| layer.entries);
    assert_eq!(within(Limits::default()).unwrap(), 2);
    let limit = |limits| matches!(within(limits), Err(LayerError::Archive(ArchiveError::Limit { .. })));
    assert!(limit(Limits { entries: 1, ..Limits::default() }));
    assert!(limit(Limits { bytes: 1024, ..Limits::default() }));
    let wrong = Digest::of(b"");
    let result = scratch.store.unpack(&bytes[..], Some(wrong), &[]);
    assert!(matches!(result, Err(LayerError::WrongDiffId { expected, actual })
        if expected == wrong && actual == Digest::of(&bytes)));
    assert_eq!(scratch.store.layer(&wrong).unwrap(), None);
    // Every cut but the one between entries or inside the zeros at the end is seen.
    for cut in [100, 512, 515, 1023, 1100] {
        assert!(scratch.store.unpack(&bytes[..cut], None, &[]).is_err(), "{cut}");
    }
    assert!(scratch.store.unpack(&[b'x'; 2048][..], None, &[]).is_err());
    // Nothing of all that is left.
    assert_eq!(scratch.store.layers().unwrap().len(), 1);
}

#[test]
fn add_unpacks_inside_the_root_of_the_image() {
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/usr/local", root.path().join("opt")).unwrap();
    let bytes = tar(&[(directory(b"./"), b""), (file(b"bin/x", 2), b"#!"), (file(b".wh.name", 0), b"")]);
    let packed = zstd::encode_all(&bytes[..], 1).unwrap();
    assert!(crate::tarball::is_archive(&packed[..]) && crate::tarball::is_archive(&bytes[..]));
    assert!(!crate::tarball::is_archive(&b"text"[..]) && !crate::tarball::is_archive(&[0; 4096][..]));
    let dir = fs::open_dir(root.path()).unwrap();
    let owner = Owner::Fixed { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let done = extract_into(&dir, b"/opt/app", &packed[..], owner, Mode::Root).unwrap();
    assert_eq!((done.entries, done.bytes), (3, 2));
    assert_eq!(std::fs::read(root.path().join("usr/local/app/bin/x")).unwrap(), b"#!");
    assert!(root.path().join("usr/local/app/.wh.name").exists());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    if !is_root("a_full_disk_is_told_and_leaves_nothing") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let options = std::ffi::CString::new("size=1m").unwrap();
    rustix::mount::mount("tmpfs", root.path(), "tmpfs", MountFlags::empty(), options.as_c_str()).unwrap();
    let _mounted = Mounted(root.path().to_owned());
    let store = Store::open(root.path(), Mode::Root).unwrap();
    let bytes = tar(&[(file(b"etc/large", 2 << 20), &vec![7; 2 << 20])]);
    let error = store.unpack(&bytes[..], None, &[]).unwrap_err().to_string();
    assert!(error.contains("etc/large") && error.contains("No space left"), "{error}");
    let error = store.content().put(&bytes).unwrap_err().to_string();
    assert!(error.contains("blobs/sha256") && error.contains("No space left"), "{error}");
    // The space is free again.
    assert_eq!(store.unpack(&tar(&[(file(b"small", 1 << 19), &vec![7; 1 << 19])])[..], None, &[]).unwrap().entries, 1);
}

#[test]
fn a_user_namespace_leaves_out_what_it_cannot_make() {
    const INSIDE: &str = "LAP_TEST_IN_USER_NAMESPACE";
    if std::env::var_os(INSIDE).is_none() {
        // The same test again, as root of a namespace that maps one user.
        let name = "layer::tests::hostile::a_user_namespace_leaves_out_what_it_cannot_make";
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
        match command.args(["--exact", name]).env(INSIDE, "1").output() {
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare: ") => {
                println!("SKIPPED: no user namespaces here");
            }
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => println!("SKIPPED: no unshare program: {error}"),
        }
        return;
    }
    let scratch = scratch_in(Mode::User);
    let bytes = tar(&[
        (entry(b"null", EntryKind::CharDevice { major: 1, minor: 3 }), b""),
        (Entry { uid: 5000, mode: 0o4755, ..file(b"setuid", 1) }, b"x"),
        (Entry { mode: 0o4755, ..file(b"setuid root", 1) }, b"x"),
        (Entry { xattrs: Xattrs::from([(b"trusted.x".to_vec(), b"1".to_vec())]), ..file(b"own", 0) }, b""),
        (file(b".wh.gone", 0), b""),
        (file(b"d/.wh..wh..opq", 0), b""),
    ]);
    let layer = scratch.store.unpack(&bytes[..], None, &[]).unwrap();
    assert_eq!(layer.skipped, 3);
    let root = scratch.store.layer_dir(&layer.diff_id).join("fs");
    let mode = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("setuid"), mode("setuid root")), (0o755, 0o4755));
    let names: Vec<String> = merged_listing(&scratch.store, &[layer.diff_id]).into_keys().collect();
    assert_eq!(names, ["d", "own", "setuid", "setuid root"]);
    // Made there, a layer gives its tar again, opaque marks and whiteouts too.
    let workspace = scratch.store.workspace().unwrap();
    std::fs::write(workspace.upper().join("own"), b"new").unwrap();
    let made = scratch.store.commit(workspace, &[layer.diff_id], false).unwrap().unwrap();
    assert_eq!(made.entries, 1);
    roundtrip::tar_of(&scratch.store, &made);
}

/// Paths of few names, so that entries meet, and of all that leads elsewhere.
fn any_path(outside: String) -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        6 => prop_oneof![Just("a"), Just("b"), Just("c")],
        1 => prop_oneof![Just(".wh.a"), Just(".wh..wh..opq"), Just(".."), Just("."), Just("")],
    ];
    prop_oneof![
        8 => prop::collection::vec(name, 1..4).prop_map(|names| names.join("/").into_bytes()),
        1 => Just(outside.into_bytes()),
    ]
}

fn any_entry(outside: String) -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        3 => Just(EntryKind::File { size: 0, extents: None }),
        2 => Just(EntryKind::Directory),
        3 => any_path(outside.clone()).prop_map(|target| EntryKind::Symlink { target }),
        2 => any_path(outside.clone()).prop_map(|target| EntryKind::HardLink { target }),
        1 => Just(EntryKind::Fifo),
    ];
    (any_path(outside), kind).prop_map(|(path, kind)| Entry { mode: 0o777, ..entry(&path, kind) })
}

#[test]
fn no_archive_reaches_outside() {
    let canary = tempfile::tempdir().unwrap();
    let secret = canary.path().join("secret");
    std::fs::write(&secret, b"canary").unwrap();
    let state = || {
        let of =
            |path: &Path| std::fs::metadata(path).map(|m| (m.ino(), m.nlink(), m.mode(), m.ctime(), m.ctime_nsec()));
        (of(canary.path()).unwrap(), of(&secret).unwrap())
    };
    let before = state();
    let entries = prop::collection::vec(any_entry(canary.path().to_str().unwrap().to_owned()), 1..12);
    let scratch = scratch();
    let unpacked = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&entries, |entries| {
        let bytes = tar(&entries.into_iter().map(|entry| (entry, &b""[..])).collect::<Vec<_>>());
        let target = tempfile::tempdir().unwrap();
        let dir = fs::open_dir(target.path()).unwrap();
        drop(extract_into(&dir, b"a/b", &bytes[..], Owner::Archive, Mode::Root));
        let sound = scratch.store.unpack(&bytes[..], None, &[]).is_ok();
        unpacked.set(unpacked.get() + u32::from(sound));
        prop_assert_eq!(state(), before);
        Ok(())
    });
    result.unwrap();
    assert!(unpacked.get() > 20, "only {} archives were sound", unpacked.get());
}

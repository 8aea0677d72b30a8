//! The rules of COPY as a table: a tree, what is there already, one action, the result.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use lap_solver::graph::{Copy, File, FileAction, Mode, Unpack};

use super::{FileError, apply};
use crate::tree::{Owners, Tree};

/// Makes entries of words: `d path mode [uid:gid]`, `f path content [mode] [uid:gid]`, `l path target`, `h path other`.
fn make(root: &Path, entries: &[&str]) {
    for entry in entries {
        let words: Vec<&str> = entry.split(' ').collect();
        let path = root.join(words[1]);
        let (mode, owner) = match words[0] {
            "d" => {
                fs::create_dir_all(&path).unwrap();
                (words.get(2).copied().unwrap_or("755"), words.get(3))
            }
            "f" => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, words.get(2).copied().unwrap_or_default()).unwrap();
                (words.get(3).copied().unwrap_or("644"), words.get(4))
            }
            "l" => {
                symlink(words[2], &path).unwrap();
                continue;
            }
            "h" => {
                fs::hard_link(root.join(words[2]), &path).unwrap();
                continue;
            }
            other => panic!("{other}"),
        };
        if let Some(owner) = owner {
            let (uid, gid) = owner.split_once(':').unwrap();
            std::os::unix::fs::chown(&path, uid.parse().ok(), gid.parse().ok()).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(u32::from_str_radix(mode, 8).unwrap())).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

/// What is below `root`, a line an entry: `d path mode`, `f path content mode`, `l path target`; owners unless root's.
fn show(root: &Path) -> Vec<String> {
    fn below(root: &Path, dir: &Path, lines: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let mode = format!("{:o}", meta.mode() & 0o7777);
            let owner = if (meta.uid(), meta.gid()) == (0, 0) {
                String::new()
            } else {
                format!(" {}:{}", meta.uid(), meta.gid())
            };
            let line = if meta.is_dir() {
                below(root, &path, lines);
                format!("d {name} {mode}{owner}")
            } else if meta.is_symlink() {
                format!("l {name} {}{owner}", fs::read_link(&path).unwrap().display())
            } else {
                format!("f {name} {} {mode}{owner}", fs::read_to_string(&path).unwrap())
            };
            lines.insert(name, line);
        }
    }
    let mut lines = BTreeMap::new();
    below(root, root, &mut lines);
    lines.into_values().collect()
}

fn copy(source: &str, dest: &str) -> Copy {
    Copy {
        from: Some(0),
        source: source.into(),
        dest: dest.into(),
        owner: None,
        keep_owner: false,
        mode: None,
        wildcard: source.contains(['*', '?', '[']),
        unpack: Unpack::No,
        include: vec![],
        exclude: vec![],
        parents: false,
    }
}

fn run(source: &Path, target: &Path, actions: Vec<FileAction>) -> Result<(), FileError> {
    let tree = Tree::open(source, None, Owners::Kept).unwrap();
    let root = fs::File::open(target).unwrap();
    let (mode, cancelled) = (lap_cache::store::Mode::Root, std::sync::atomic::AtomicBool::new(false));
    let applied = apply(&File { root: None, actions }, root.as_fd(), |_| Some(&tree), mode, &cancelled)?;
    assert_eq!(applied.skipped, 0);
    Ok(())
}

/// Whether owners can be given away; prints why not.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: owners of copies can only be set by root");
    }
    root
}

struct Case {
    name: &'static str,
    from: &'static [&'static str],
    before: &'static [&'static str],
    copy: fn() -> Copy,
    after: Result<&'static [&'static str], &'static str>,
}

const CASES: &[Case] = &[
    Case {
        name: "a file to a new name, in directories that are made",
        from: &["f a x 600 5:6"],
        before: &[],
        copy: || copy("/a", "/x/y/b"),
        after: Ok(&["d x 755", "d x/y 755", "f x/y/b x 600"]),
    },
    Case {
        name: "the owner stays when asked",
        from: &["f a x 644 5:6", "d d 700 7:8", "f d/b y 644 7:9"],
        before: &[],
        copy: || Copy { keep_owner: true, ..copy("/", "/x/") },
        after: Ok(&["d x 755", "f x/a x 644 5:6", "d x/d 700 7:8", "f x/d/b y 644 7:9"]),
    },
    Case {
        name: "chown is for what is copied and for what is made on the way",
        from: &["f d/a x 644 5:6"],
        before: &["d old 750"],
        copy: || Copy { owner: Some("10:20".into()), ..copy("/d", "/old/new/d") },
        after: Ok(&["d old 750", "d old/new 755 10:20", "d old/new/d 755 10:20", "f old/new/d/a x 644 10:20"]),
    },
    Case {
        name: "a user by number brings the group of that number",
        from: &["f a x"],
        before: &[],
        copy: || Copy { owner: Some("33".into()), ..copy("/a", "/a") },
        after: Ok(&["f a x 644 33:33"]),
    },
    Case {
        name: "names are those of the target",
        from: &["f a x"],
        before: &["f etc/passwd www:x:33:44::/:/bin/sh", "f etc/group staff:x:50:"],
        copy: || Copy { owner: Some("www:staff".into()), ..copy("/a", "/a") },
        after: Ok(&[
            "f a x 644 33:50",
            "d etc 755",
            "f etc/group staff:x:50: 644",
            "f etc/passwd www:x:33:44::/:/bin/sh 644",
        ]),
    },
    Case {
        name: "a passwd that leads out of the root is not read",
        from: &["f a x"],
        before: &["d etc", "l etc/passwd /../../../../proc/self/root/etc/passwd"],
        copy: || Copy { owner: Some("root".into()), ..copy("/a", "/a") },
        after: Err(r#"no user "root" in the image's /etc/passwd"#),
    },
    Case {
        name: "digits are a number whatever passwd says",
        from: &["f a x"],
        before: &["f etc/passwd 1000:x:0:0::/:/bin/sh"],
        copy: || Copy { owner: Some("1000:5".into()), ..copy("/a", "/a") },
        after: Ok(&["f a x 644 1000:5", "d etc 755", "f etc/passwd 1000:x:0:0::/:/bin/sh 644"]),
    },
    Case {
        name: "an owner that no inode can have",
        from: &["f a x"],
        before: &[],
        copy: || Copy { owner: Some("4294967295".into()), ..copy("/a", "/a") },
        after: Err(r#"invalid owner "4294967295": it has to be user[:group], by name or number"#),
    },
    Case {
        name: "octal chmod is for everything, made directories included",
        from: &["f d/a x", "f d/s/b y 755"],
        before: &[],
        copy: || Copy { mode: Some(Mode::Bits(0o4710)), ..copy("/d", "/n/m/") },
        after: Ok(&["d n 710", "d n/m 710", "f n/m/a x 4710", "d n/m/s 4710", "f n/m/s/b y 4710"]),
    },
    Case {
        name: "symbolic chmod looks at each entry",
        from: &["f d/a x 600", "f d/s/b y 700", "d d/s 700"],
        before: &[],
        copy: || Copy { mode: Some(Mode::Symbolic("go=rX".into())), ..copy("/d", "/n/") },
        after: Ok(&["d n 755", "f n/a x 644", "d n/s 755", "f n/s/b y 755"]),
    },
    Case {
        name: "a directory gives its contents; a new top directory has the mode of a made one",
        from: &["d d 700", "f d/a x", "d d/s 711"],
        before: &[],
        copy: || copy("/d", "/t"),
        after: Ok(&["d t 755", "f t/a x 644", "d t/s 711"]),
    },
    Case {
        name: "an existing top directory keeps its mode and owner, directories below do not",
        from: &["d d 700", "f d/a x", "d d/s 711"],
        before: &["d t 770 3:3", "d t/s 777 3:3", "f t/s/old o"],
        copy: || copy("/d", "/t"),
        after: Ok(&["d t 770 3:3", "f t/a x 644", "d t/s 711", "f t/s/old o 644"]),
    },
    Case {
        name: "a file goes into an existing directory",
        from: &["f a x"],
        before: &["d t"],
        copy: || copy("/a", "/t"),
        after: Ok(&["d t 755", "f t/a x 644"]),
    },
    Case {
        name: "a file replaces a file",
        from: &["f a x 600"],
        before: &["f t/a older 755 4:4"],
        copy: || copy("/a", "/t/"),
        after: Ok(&["d t 755", "f t/a x 600"]),
    },
    Case {
        name: "a file replaces a link in the destination directory",
        from: &["f a x"],
        before: &["d t", "f kept k", "l t/a ../kept"],
        copy: || copy("/a", "/t/"),
        after: Ok(&["f kept k 644", "d t 755", "f t/a x 644"]),
    },
    Case {
        name: "a link named as destination is followed inside the root",
        from: &["f a x"],
        before: &["d real", "l app /real", "l out /../../real/b"],
        copy: || copy("/a", "/app/sub/"),
        after: Ok(&["l app /real", "l out /../../real/b", "d real 755", "d real/sub 755", "f real/sub/a x 644"]),
    },
    Case {
        name: "a link to nothing is made to lead somewhere, inside the root",
        from: &["f a x"],
        before: &["l out /../../../nowhere/b"],
        copy: || copy("/a", "/out"),
        after: Ok(&["d nowhere 755", "f nowhere/b x 644", "l out /../../../nowhere/b"]),
    },
    Case {
        name: "a file does not replace a directory",
        from: &["f d/a x"],
        before: &["d t/a"],
        copy: || copy("/d", "/t"),
        after: Err(r#"cannot replace directory "/t/a" with a file"#),
    },
    Case {
        name: "a directory does not replace a file",
        from: &["d d/a"],
        before: &["f t/a x"],
        copy: || copy("/d", "/t"),
        after: Err(r#"cannot make directory "/t/a": something else is there"#),
    },
    Case {
        name: "a directory is not copied over a file",
        from: &["d d"],
        before: &["f t x"],
        copy: || copy("/d", "/t"),
        after: Err(r#"cannot make directory "/t": something else is there"#),
    },
    Case {
        name: "a directory does not merge through a link in the tree",
        from: &["f d/s/a x"],
        before: &["d real", "d t", "l t/s ../real"],
        copy: || copy("/d", "/t"),
        after: Err(r#"cannot make directory "/t/s": something else is there"#),
    },
    Case {
        name: "a source link is followed and gives its own name; links below stay",
        from: &["f real/a x", "l name real/a", "d d", "l d/in ../real/a"],
        before: &["d t"],
        copy: || copy("/name", "/t/"),
        after: Ok(&["d t 755", "f t/name x 644"]),
    },
    Case {
        name: "links in a directory stay links",
        from: &["d d", "l d/in ../real/a", "l d/abs /etc/passwd", "l top d"],
        before: &[],
        copy: || copy("/top", "/t"),
        after: Ok(&["d t 755", "l t/abs /etc/passwd", "l t/in ../real/a"]),
    },
    Case {
        name: "wildcards: each match, directories by their contents",
        from: &["f a.txt 1", "f b.txt 2", "f c.md 3", "f d.txt/in 4"],
        before: &[],
        copy: || copy("/*.txt", "/t/"),
        after: Ok(&["d t 755", "f t/a.txt 1 644", "f t/b.txt 2 644", "f t/in 4 644"]),
    },
    Case {
        name: "a wildcard without a match does nothing",
        from: &["f a x"],
        before: &[],
        copy: || copy("/*.c", "/t/"),
        after: Ok(&[]),
    },
    Case {
        name: "a missing source",
        from: &["f a x"],
        before: &[],
        copy: || copy("/dir/b", "/t/"),
        after: Err(r#""/dir/b": not found"#),
    },
    Case {
        name: "a source does not leave its root",
        from: &["l up ../../../../etc"],
        before: &[],
        copy: || copy("/up/passwd", "/t/"),
        after: Err(r#""/up/passwd": not found"#),
    },
    Case {
        name: "exclude leaves out, with exceptions",
        from: &["f d/a.txt 1", "f d/k.txt 2", "f d/b.md 3", "f d/s/c.txt 4"],
        before: &[],
        copy: || Copy { exclude: vec!["**/*.txt".into(), "!k.txt".into()], ..copy("/d", "/t/") },
        after: Ok(&["d t 755", "f t/b.md 3 644", "f t/k.txt 2 644", "d t/s 755"]),
    },
    Case {
        name: "an excluded directory is not made",
        from: &["f d/s/a 1", "f d/b 2"],
        before: &[],
        copy: || Copy { exclude: vec!["s".into()], ..copy("/d", "/t/") },
        after: Ok(&["d t 755", "f t/b 2 644"]),
    },
    Case {
        name: "parents: only what is included, with the directories it is in",
        from: &["f x/y/a.txt 1", "d x/y 711", "f x/z/b 2", "f c 3"],
        before: &["d t/x 700"],
        copy: || Copy { include: vec!["x/y/a.txt".into()], parents: true, ..copy("/", "/t/") },
        after: Ok(&["d t 755", "d t/x 755", "d t/x/y 711", "f t/x/y/a.txt 1 644"]),
    },
    Case {
        name: "hard links stay",
        from: &["f d/a x", "h d/b d/a", "h d/c d/a"],
        before: &[],
        copy: || copy("/d", "/t/"),
        after: Ok(&["d t 755", "f t/a x 644", "f t/b x 644", "f t/c x 644"]),
    },
];

#[test]
fn copy_follows_the_rules() {
    if !is_root() {
        return;
    }
    for Case { name, from, before, copy, after } in CASES {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(source.path(), from);
        make(target.path(), before);
        let result = run(source.path(), target.path(), vec![FileAction::Copy(copy())]);
        match (result, after) {
            (Ok(()), Ok(want)) => assert_eq!(show(target.path()), *want, "{name}"),
            (Err(error), Err(want)) => assert_eq!(error.to_string(), *want, "{name}"),
            (result, _) => panic!("{name}: {result:?}, there is {:?}", show(target.path())),
        }
    }
}

#[test]
fn times_attributes_holes_and_links_are_kept() {
    if !is_root() {
        return;
    }
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(source.path(), &["f d/a x", "h d/b d/a", "f d/big x"]);
    fs::File::options().write(true).open(source.path().join("d/big")).unwrap().set_len(64 << 20).unwrap();
    let a = fs::File::open(source.path().join("d/a")).unwrap();
    let set = rustix::fs::fsetxattr(&a, "user.lap", b"value", rustix::fs::XattrFlags::empty());
    rustix::fs::mknodat(
        fs::File::open(source.path().join("d")).unwrap(),
        "null",
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    run(source.path(), target.path(), vec![FileAction::Copy(copy("/d", "/t"))]).unwrap();

    let meta = |name: &str| fs::symlink_metadata(target.path().join(name)).unwrap();
    assert_eq!(meta("t/a").mtime(), 1_000_000);
    assert_eq!(meta("t").mtime(), fs::metadata(source.path().join("d")).unwrap().mtime());
    assert_eq!(meta("t/a").ino(), meta("t/b").ino());
    assert_eq!(meta("t/big").len(), 64 << 20);
    assert!(meta("t/big").blocks() < 1000, "holes stay holes");
    assert_eq!(meta("t/null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(meta("t/null").mode() & 0o777, fs::metadata(source.path().join("d/null")).unwrap().mode() & 0o777);
    if set.is_ok() {
        let copied = fs::File::open(target.path().join("t/a")).unwrap();
        let mut value = [0; 16];
        let length = rustix::fs::fgetxattr(&copied, "user.lap", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"value");
    }
}

#[test]
fn directories_and_inline_files_are_made() {
    if !is_root() {
        return;
    }
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(target.path(), &["d old 700 3:3", "l app /old/in"]);
    let mkdir = |path: &str, owner: Option<&str>| FileAction::Mkdir {
        path: path.into(),
        mode: 0o755,
        owner: owner.map(Into::into),
    };
    let mkfile = |path: &str, mode: Option<Mode>| FileAction::Mkfile {
        path: path.into(),
        name: "EOF".into(),
        data: "text".into(),
        mode,
        owner: Some("5".into()),
    };
    let actions = vec![
        mkdir("/old", None),
        mkdir("/app/x", Some("1:2")),
        mkfile("/old", None),
        mkfile("/etc/conf.d/", Some(Mode::Bits(0o600))),
        mkfile("/name", Some(Mode::Symbolic("u+x".into()))),
    ];
    run(source.path(), target.path(), actions).unwrap();
    assert_eq!(
        show(target.path()),
        [
            "l app /old/in",
            "d etc 600 5:5",
            "d etc/conf.d 600 5:5",
            "f etc/conf.d/EOF text 600 5:5",
            "f name text 744 5:5",
            "d old 700 3:3",
            "f old/EOF text 644 5:5",
            "d old/in 755 1:2",
            "d old/in/x 755 1:2",
        ]
    );
    let over_file = run(source.path(), target.path(), vec![mkdir("/name/x", None)]).unwrap_err();
    assert_eq!(over_file.to_string(), r#"cannot make directory "/name": something else is there"#);
}

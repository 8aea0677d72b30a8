//! Realistic Dockerfiles of `testdata/dockerfiles`, built by `lap` and by buildah on the same bases: the same file
//! trees and the same configs.
//!
//! What buildah is known to do otherwise stands in [`KNOWN`]. `LAP_CASE=NAME` builds one alone.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Lap, Said, debian, has, is_root, run};

/// Where buildah 1.28 makes something else, and why ours stays: Dockerfile (empty: any), a path with all below it, reason.
const KNOWN: [(&str, &str, &str); 11] = [
    ("", "etc/hosts", "buildah leaves the places of its mounts behind"),
    ("", "etc/resolv.conf", "the same"),
    ("", "etc/hostname", "the same"),
    ("distroless-like", "dev", "the same"),
    ("distroless-like", "proc", "the same"),
    ("distroless-like", "run", "the same"),
    ("distroless-like", "sys", "the same"),
    ("apt-cache", "var/cache/apt", "buildah removes a cache mount's target with what the base has there"),
    ("apt-cache", "var/lib/apt/lists", "the same"),
    ("archives", "owned", "--chown holds for what is in an archive, too, as in BuildKit"),
    ("archives", "plain", "an archive's own . does not change the directory it is unpacked to, as in BuildKit"),
];

/// What buildah 1.28 does not take, and what it is given instead.
const REWRITTEN: [(&str, &str, &str); 1] = [("arg-variants", "FROM variant-$VARIANT", "FROM variant-full")];

/// What stands in for the images that the Dockerfiles name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Busybox,
    Debian,
    Gcc,
    Python,
}

impl Base {
    /// The name of the Dockerfiles, and how the image is made where it is no import.
    fn names(self) -> (&'static [&'static str], Option<&'static str>) {
        match self {
            Self::Busybox => (&["busybox:1.36"], None),
            Self::Debian => (&["debian:bookworm-slim", "perl:5.36-slim"], None),
            Self::Gcc => (&["gcc:12"], Some("gcc libc6-dev make")),
            Self::Python => (&["python:3.11-slim"], Some("python3")),
        }
    }
}

/// The same bases in a store of `lap` and in one of buildah.
struct Yard {
    lap: Lap,
    driver: &'static str,
}

impl Yard {
    /// None where this machine cannot; that is said.
    fn new(test: &str, bases: &[Base]) -> Option<Self> {
        if !is_root(test) || !has(test, "buildah") || !has(test, "runc") {
            return None;
        }
        let mut yard = Self { lap: Lap::new(), driver: "overlay" };
        if yard.buildah(&["images"]).code != 0 {
            // Where the directory is on an overlay itself.
            yard.driver = "vfs";
        }
        for &base in bases {
            yard.provide(base);
        }
        Some(yard)
    }

    fn provide(&self, base: Base) {
        let (names, packages) = base.names();
        let archive = packages.map(|packages| self.toolbox(names[0], packages));
        match (base, archive) {
            (_, Some(archive)) => self.lap.run(&["load", "-q", "-i", archive.to_str().unwrap()]).ok(),
            (Base::Busybox, _) => self.lap.run(&["tag", "busybox:latest", names[0]]).ok(),
            (_, _) => self.lap.run(&["import", debian().to_str().unwrap(), names[0]]).ok(),
        };
        let tar = self.lap.path("base.tar");
        self.lap.run(&["save", "-o", tar.to_str().unwrap(), names[0]]).ok();
        let id = self.buildah(&["pull", "-q", &format!("docker-archive:{}", tar.display())]).ok().out;
        for name in names {
            self.lap.run(&["tag", names[0], name]).ok();
            self.buildah(&["tag", id.trim(), &format!("docker.io/library/{name}")]).ok();
        }
    }

    /// Debian with some packages; slow to make, so it is kept between runs.
    fn toolbox(&self, name: &str, packages: &str) -> PathBuf {
        let tar = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.tar", name.replace(':', "-")));
        if !tar.is_file() {
            self.lap.run(&["import", debian().to_str().unwrap(), "debian:toolbox"]).ok();
            let dockerfile = format!(
                "FROM debian:toolbox\nRUN apt-get update && apt-get install -y {packages} && rm -rf /var/lib/apt/lists/*\n"
            );
            self.lap.build(name, &dockerfile).ok();
            let part = tar.with_extension("part");
            self.lap.run(&["save", "-o", part.to_str().unwrap(), name]).ok();
            std::fs::rename(part, &tar).unwrap();
        }
        tar
    }

    fn buildah(&self, args: &[&str]) -> Said {
        let (root, runroot) = (self.lap.path("peer"), self.lap.path("peer-run"));
        let mut all =
            vec!["--root", root.to_str().unwrap(), "--runroot", runroot.to_str().unwrap(), "--storage-driver"];
        all.push(self.driver);
        all.extend(args);
        run("buildah", &all)
    }

    /// Everything that differs between our image and theirs, a line each.
    fn differences(&self, name: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfiles");
        let (file, context) = (folder.join(format!("{name}.Dockerfile")), self.lap.path(&format!("{name}-context")));
        // A context of its own: not every file can be kept as it must be in a repository.
        copy_context(&folder.join(name), &context);
        let (file, context) = (file.to_str().unwrap(), context.to_str().unwrap());
        let secret =
            |id: &str| format!("--secret=id={id},src={}", self.lap.write(&format!("secret-{id}"), id).display());
        let (token, key) = (secret("token"), secret("key"));

        let (tar, ours) = (self.lap.path("ours.tar"), self.lap.path(&format!("{name}-ours")));
        let output = format!("--output=type=tar,dest={}", tar.display());
        let mut args = vec!["build", "--progress=plain", &output, "--output=type=image"];
        args.extend(["-f", file, "-t", name, &token, &key, context]);
        let said = self.lap.run(&args);
        if said.code != 0 {
            return vec![format!("lap: {}", said.err)];
        }
        std::fs::create_dir(&ours).unwrap();
        let unpack = ["-x", "-p", "--numeric-owner", "-f", tar.to_str().unwrap(), "-C", ours.to_str().unwrap()];
        run("tar", &unpack).ok();

        let mut args = vec!["bud", "-q", "--format=docker", "--isolation=chroot", "--pull-never", "--layers=false"];
        let mut text = std::fs::read_to_string(file).unwrap();
        for (_, from, to) in REWRITTEN.iter().filter(|(case, _, _)| *case == name) {
            text = text.replace(from, to);
        }
        let theirs = self.lap.write("theirs.Dockerfile", text);
        args.extend(["-f", theirs.to_str().unwrap(), "-t", name, &token, &key, context]);
        let said = self.buildah(&args);
        if said.code != 0 {
            return vec![format!("buildah: {}", said.err)];
        }
        let container = self.buildah(&["from", "--pull-never", name]).ok().out;
        let mounted = self.buildah(&["mount", container.trim()]).ok().out;
        let mut lines = compare_trees(&ours, Path::new(mounted.trim()), name);
        self.buildah(&["umount", container.trim()]).ok();
        self.buildah(&["rm", container.trim()]).ok();
        std::fs::remove_dir_all(ours).unwrap();

        let theirs = self.buildah(&["inspect", "--type=image", name]).ok().json()["Docker"]["config"].clone();
        let (ours, theirs) = (config(&self.lap.config(name)), config(&theirs));
        for key in ours.keys().chain(theirs.keys()).collect::<std::collections::BTreeSet<_>>() {
            let value =
                |config: &BTreeMap<String, Value>| config.get(key).map_or_else(|| "-".to_owned(), Value::to_string);
            if ours.get(key) != theirs.get(key) {
                lines.push(format!("config {key}: {} | {}", value(&ours), value(&theirs)));
            }
        }
        lines
    }

    #[track_caller]
    fn same(&self, names: &[&str]) {
        let mut all = Vec::new();
        for name in names {
            if std::env::var("LAP_CASE").is_ok_and(|only| only != *name) {
                continue;
            }
            all.extend(self.differences(name).into_iter().map(|line| format!("{name}: {line}")));
        }
        assert!(all.is_empty(), "ours | theirs\n{}", all.join("\n"));
    }
}

/// What a place of a file tree is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// What a link says, or the numbers of a device.
    what: String,
    /// Of files only.
    size: u64,
    links: u64,
}

fn tree(root: &Path) -> BTreeMap<PathBuf, Place> {
    fn walk(root: &Path, below: &Path, all: &mut BTreeMap<PathBuf, Place>) {
        for entry in std::fs::read_dir(root.join(below)).unwrap() {
            let path = below.join(entry.unwrap().file_name());
            let facts = std::fs::symlink_metadata(root.join(&path)).unwrap();
            let kind = facts.file_type();
            let (name, what) = if kind.is_symlink() {
                ("link", std::fs::read_link(root.join(&path)).unwrap().display().to_string())
            } else if kind.is_dir() {
                ("directory", String::new())
            } else if kind.is_fifo() {
                ("pipe", String::new())
            } else if kind.is_file() {
                ("file", String::new())
            } else {
                ("special", facts.rdev().to_string())
            };
            let is_file = kind.is_file();
            let place = Place {
                kind: name,
                mode: facts.mode() & 0o7777,
                owner: (facts.uid(), facts.gid()),
                what,
                size: if is_file { facts.size() } else { 0 },
                links: if is_file { facts.nlink() } else { 0 },
            };
            all.insert(path.clone(), place);
            if kind.is_dir() {
                walk(root, &path, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, Path::new(""), &mut all);
    all
}

fn compare_trees(ours: &Path, theirs: &Path, name: &str) -> Vec<String> {
    let (one, two) = (tree(ours), tree(theirs));
    let mut lines = Vec::new();
    for path in one.keys().chain(two.keys()).collect::<std::collections::BTreeSet<_>>() {
        if KNOWN.iter().any(|(case, place, _)| (case.is_empty() || *case == name) && path.starts_with(place)) {
            continue;
        }
        match (one.get(path), two.get(path)) {
            (Some(a), Some(b)) if a == b => {
                if a.kind == "file" && bytes(&ours.join(path)) != bytes(&theirs.join(path)) {
                    lines.push(format!("/{}: other bytes", path.display()));
                }
            }
            (a, b) => lines.push(format!("/{}: {a:?} | {b:?}", path.display())),
        }
    }
    lines
}

fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// What a container is started with: nothing is the same as absent, and buildah's own label counts for nothing.
fn config(config: &Value) -> BTreeMap<String, Value> {
    let fields = [
        "Cmd",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Labels",
        "OnBuild",
        "Shell",
        "StopSignal",
        "User",
        "Volumes",
        "WorkingDir",
    ];
    let mut kept = BTreeMap::new();
    for field in fields {
        let mut value = config[field].clone();
        if let Some(labels) = value.as_object_mut() {
            labels.remove("io.buildah.version");
        }
        // A variable that is set again moves to the end in buildah.
        if let Some(variables) = value.as_array_mut().filter(|_| field == "Env") {
            variables.sort_by_key(|variable| variable.to_string());
        }
        // A range of ports stays one in buildah.
        if let Some(ports) = value.as_object_mut().filter(|_| field == "ExposedPorts") {
            let ranges: Vec<String> = ports.keys().filter(|port| port.contains('-')).cloned().collect();
            for range in ranges {
                ports.remove(&range);
                let (numbers, protocol) = range.split_once('/').unwrap();
                let (first, last) = numbers.split_once('-').unwrap();
                let numbers = first.parse::<u16>().unwrap()..=last.parse().unwrap();
                ports.extend(numbers.map(|number| (format!("{number}/{protocol}"), json!({}))));
            }
        }
        // `/` is where a container is without any directory, and BuildKit's images say so.
        let root = field == "WorkingDir" && value == "/";
        let empty = [Value::Null, json!([]), json!({}), json!("")];
        if !root && !empty.contains(&value) {
            kept.insert(field.to_owned(), value);
        }
    }
    kept
}

/// The context as a checkout of it, with the modes that a umask of 022 gives.
fn copy_context(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    if from.is_dir() {
        run("cp", &["-dR", "--preserve=timestamps,links", &format!("{}/.", from.display()), to.to_str().unwrap()]).ok();
        run("chmod", &["-R", "u=rwX,go=rX", to.to_str().unwrap()]).ok();
    }
}

#[test]
fn buildah_makes_the_same_on_busybox() {
    let Some(yard) = Yard::new(module_path!(), &[Base::Busybox]) else { return };
    yard.same(&[
        "archives",
        "arg-variants",
        "busybox-site",
        "copies",
        "ignored-files",
        "onbuild-family",
        "secret-bind",
    ]);
}

#[test]
fn buildah_makes_the_same_on_debian() {
    let Some(yard) = Yard::new(module_path!(), &[Base::Busybox, Base::Debian]) else { return };
    yard.same(&[
        "apt-cache",
        "bash-tool",
        "distroless-like",
        "old-style",
        "perl-report",
        "users-and-modes",
        "whiteouts",
    ]);
}

#[test]
fn buildah_makes_the_same_with_compilers() {
    let Some(yard) = Yard::new(module_path!(), &[Base::Debian, Base::Gcc, Base::Python]) else { return };
    yard.same(&["c-library", "c-static", "make-cache", "python-venv"]);
}

/// buildah has no heredocs yet, so what must be there is written down.
#[test]
fn heredocs_become_files() {
    if !is_root(module_path!()) {
        return;
    }
    let lap = Lap::new();
    lap.run(&["tag", "busybox:latest", "busybox:1.36"]).ok();
    lap.run(&["import", debian().to_str().unwrap(), "debian:bookworm-slim"]).ok();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfiles/heredoc-config.Dockerfile");
    std::fs::create_dir(lap.path("empty")).unwrap();
    lap.run(&["build", "-t", "app", "-f", file.to_str().unwrap(), "--build-arg", "PORT=81", "empty"]).ok();
    for (path, text) in [
        ("/etc/app/app.conf", "port = 81\nroot = /srv\nliteral = $HOME\n"),
        ("/etc/app/raw/EOF", "untouched $PORT\n"),
        ("/etc/app/raw/TABS", "no tabs before this\n"),
        ("/first", "port 81\n"),
        ("/second", "second\n"),
        ("/third", "by another descriptor\n"),
        ("/perl", "2,4,6\n"),
        ("/private/app.conf", "port = 81\nroot = /srv\nliteral = $HOME\n"),
    ] {
        assert_eq!(lap.sh("app", &format!("cat {path}")), text, "{path}");
    }
    assert_eq!(
        lap.sh("app", "ls /private; ls /version; stat -c %a /private/app.conf"),
        "app.conf\ndebian_version\n600\n"
    );
}

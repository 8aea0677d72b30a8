//! What the tests of images share: a store with an image of every kind of file, real tools, a real registry.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

pub mod scripted;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lap_cache::digest::Digest;
use lap_cache::image::{AssembleOptions, Image, assemble};
use lap_cache::registry::{Client, RegistryConfig, Retry};
use lap_cache::store::{Mode, Store};
use lap_solver::event::Events;
use lap_solver::image::{ContainerConfig, History, ImageConfig};
use lap_solver::platform::Platform;

pub fn amd64() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

/// Whether the test can run: as root, with these programs. Says why not.
pub fn ready(programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root, for owners and devices in layers");
        return false;
    }
    for program in programs {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).exists());
        if !found {
            eprintln!("SKIPPED: {program} is not installed");
            return false;
        }
    }
    true
}

pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// In memory where that can be had: for what syncs a great many files.
    pub fn fast() -> Self {
        Self { dir: tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self, name: &str) -> Store {
        Store::open(&self.path(name), Mode::Root).unwrap()
    }
}

/// Runs a program and returns what it wrote; its failure fails the test.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

pub fn skopeo(arguments: &[&str]) -> String {
    let mut all = vec!["--insecure-policy"];
    all.extend(arguments);
    run("skopeo", &all)
}

/// A layer with whatever `fill` puts into its directory.
pub fn layer(store: &Store, parents: &[Digest], fill: impl FnOnce(&Path)) -> Digest {
    let workspace = store.workspace().unwrap();
    fill(&workspace.upper());
    store.commit(workspace, parents, true).unwrap().unwrap().diff_id
}

/// Files of every kind.
pub fn fill_base(dir: &Path) {
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    std::fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    std::fs::write(dir.join("etc/gone"), "to be removed\n").unwrap();
    std::fs::create_dir_all(dir.join("opt/old")).unwrap();
    std::fs::write(dir.join("opt/old/file"), "hidden later\n").unwrap();
    std::fs::create_dir(dir.join("bin")).unwrap();
    std::fs::write(dir.join("bin/su"), "setuid\n").unwrap();
    std::fs::set_permissions(dir.join("bin/su"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::hard_link(dir.join("bin/su"), dir.join("bin/su2")).unwrap();
    symlink("../etc/passwd", dir.join("bin/link")).unwrap();
    std::fs::write(dir.join("owned"), "owned\n").unwrap();
    std::os::unix::fs::chown(dir.join("owned"), Some(1234), Some(4321)).unwrap();
    // Enough for several blocks of compression, half of it not compressible.
    let mut state = 7_u32;
    let noise: Vec<u8> = (0..3 << 20)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 2 == 0 { b'x' } else { state.to_be_bytes()[0] }
        })
        .collect();
    std::fs::write(dir.join("big"), noise).unwrap();
}

/// A change on top of [`fill_base`]: a whiteout, an opaque directory, a new file.
pub fn fill_change(dir: &Path) {
    std::fs::create_dir(dir.join("etc")).unwrap();
    let etc = std::fs::File::open(dir.join("etc")).unwrap();
    let whiteout = rustix::fs::Mode::empty();
    rustix::fs::mknodat(&etc, "gone", rustix::fs::FileType::CharacterDevice, whiteout, 0).unwrap();
    std::fs::create_dir_all(dir.join("opt/old")).unwrap();
    let old = dir.join("opt/old");
    rustix::fs::setxattr(&old, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    std::fs::write(old.join("new"), "visible\n").unwrap();
}

pub fn config() -> ImageConfig {
    let entry = |text: &str, empty_layer| History {
        created_by: Some(text.into()),
        created: Some("2026-01-02T03:04:05Z".into()),
        empty_layer,
        ..History::default()
    };
    ImageConfig {
        architecture: "amd64".into(),
        os: "linux".into(),
        created: Some("2026-01-02T03:04:05Z".into()),
        config: ContainerConfig {
            cmd: Some(vec!["/bin/su".into()]),
            env: vec!["A=b".into()],
            labels: [("z", "1"), ("a", "2"), ("m", "3")].map(|(k, v)| (k.into(), v.into())).into(),
            ..ContainerConfig::default()
        },
        history: vec![entry("COPY base", false), entry("ENV A=b", true), entry("RUN change", false)],
        ..ImageConfig::default()
    }
}

/// An image of two layers.
pub fn image(store: &Store, options: &AssembleOptions) -> Image {
    let base = layer(store, &[], fill_base);
    let change = layer(store, &[base], fill_change);
    assemble(store, &[base, change], config(), options, &Events::none()).unwrap()
}

/// A client that does not wait long.
pub fn client(change: impl FnOnce(&mut RegistryConfig)) -> Client {
    let retry = Retry { attempts: 4, base: Duration::from_millis(5), cap: Duration::from_millis(50) };
    let mut config = RegistryConfig { retry, stall_timeout: Duration::from_secs(3), ..RegistryConfig::default() };
    change(&mut config);
    Client::new(config)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Debian's docker-registry on a loopback port, gone at the end of the test.
pub struct Registry {
    child: Child,
    pub address: String,
    _scratch: Scratch,
}

impl Registry {
    pub fn start() -> Self {
        Self::with("", "")
    }

    /// With more lines for the `http` section and at the top level.
    pub fn with(http: &str, top: &str) -> Self {
        let scratch = Scratch::new();
        let address = format!("127.0.0.1:{}", free_port());
        // With TLS, other addresses of the machine count too: loopback is trusted whatever it shows.
        let listen = if http.contains("tls") { address.replace("127.0.0.1", "0.0.0.0") } else { address.clone() };
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {listen}\n{http}{top}",
            scratch.path("data").display()
        );
        std::fs::write(scratch.path("config.yml"), config).unwrap();
        let log = std::fs::File::create(scratch.path("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(scratch.path("config.yml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "docker-registry does not listen on {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address, _scratch: scratch }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a tree holds: path, kind and permissions, owner, number of links, data or target, one line each.
pub fn listing(root: &Path) -> Vec<String> {
    fn visit(root: &Path, dir: &Path, lines: &mut Vec<String>) {
        let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display();
            let (mode, owner) = (metadata.mode(), format!("{}:{}", metadata.uid(), metadata.gid()));
            let detail = match () {
                () if metadata.is_symlink() => std::fs::read_link(&path).unwrap().display().to_string(),
                () if metadata.is_file() => Digest::of(&std::fs::read(&path).unwrap()).hex(),
                () => String::new(),
            };
            // Of a directory that is the file system's own affair.
            let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
            lines.push(format!("{name} {mode:o} {owner} {links} {detail}"));
            if metadata.is_dir() {
                visit(root, &path, lines);
            }
        }
    }
    let mut lines = Vec::new();
    visit(root, root, &mut lines);
    lines
}

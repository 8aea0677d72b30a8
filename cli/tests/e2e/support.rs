//! A `lap` with its own store, base images, a registry, and what other tools say.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Asserts success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Asserts this exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Whether this process may do what only root may; says so when not.
#[must_use]
pub(crate) fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED {test}: needs root");
    }
    root
}

/// Whether a program is installed; says so when not.
#[must_use]
pub(crate) fn has(test: &str, program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("SKIPPED {test}: {program} is not installed");
    }
    found
}

/// Leaves the test where it cannot run.
macro_rules! needs {
    (root) => {
        if !crate::support::is_root(module_path!()) {
            return;
        }
    };
    ($program:literal) => {
        if !crate::support::has(module_path!(), $program) {
            return;
        }
    };
}
pub(crate) use needs;

/// Runs a program; any exit code is fine.
pub(crate) fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Said {
    said(Command::new(program).args(args))
}

fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The busybox base image's tar, made once for all tests.
pub(crate) fn busybox() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| {
        let tar = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox.tar");
        run(repository().join("testdata/bases/make.sh"), &["busybox".as_ref(), tar.as_os_str()]).ok();
        tar
    })
}

/// The Debian base image's tar; slow to make, so it is kept between runs.
pub(crate) fn debian() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| {
        let tar = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian.tar");
        if !tar.is_file() {
            run(repository().join("testdata/bases/make.sh"), &["debian".as_ref(), tar.as_os_str()]).ok();
        }
        tar
    })
}

/// `lap` with a store and a directory of its own; both go with it.
pub(crate) struct Lap {
    pub(crate) dir: tempfile::TempDir,
}

impl Lap {
    /// With an empty store.
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With `busybox:latest` in the store.
    pub(crate) fn new() -> Self {
        let lap = Self::empty();
        lap.run(&["import", busybox().to_str().unwrap(), "busybox:latest"]).ok();
        lap
    }

    /// A path below the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lap"));
        command.env("LAP_ROOT", self.path("store")).env("LAP_RUN_DIR", self.path("run")).current_dir(self.dir.path());
        command.env_remove("NO_COLOR").env_remove("BUILDKIT_PROGRESS").env_remove("SOURCE_DATE_EPOCH");
        command
    }

    /// Runs `lap` with these arguments.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        said(self.command().args(args))
    }

    /// Runs `lap` with `input` on standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Said {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input is fine.
        drop(stdin.write_all(input));
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Writes `ctx/Dockerfile` and builds `ctx` as `name`.
    pub(crate) fn build(&self, name: &str, dockerfile: &str) -> Said {
        self.build_with(name, dockerfile, &[])
    }

    /// The same with further flags.
    pub(crate) fn build_with(&self, name: &str, dockerfile: &str, flags: &[&str]) -> Said {
        self.write("ctx/Dockerfile", dockerfile);
        let mut args = vec!["build", "--progress", "plain", "-t", name];
        args.extend(flags);
        args.push("ctx");
        self.run(&args)
    }

    /// What a command prints in an image, without a network.
    #[track_caller]
    pub(crate) fn sh(&self, image: &str, script: &str) -> String {
        self.run(&["run", "--rm", "--network", "none", image, "/bin/sh", "-c", script]).ok().out
    }

    /// The config object of an image.
    #[track_caller]
    pub(crate) fn config(&self, image: &str) -> Value {
        self.run(&["inspect", image]).ok().json()[0]["Config"].clone()
    }
}

impl Drop for Lap {
    /// Containers that a failed test left must not outlive it.
    fn drop(&mut self) {
        let ids = said(self.command().args(["ps", "-aq"])).out;
        for id in ids.lines() {
            drop(said(self.command().args(["rm", "-f", id])));
        }
    }
}

/// Debian's docker-registry on a free loopback port.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
    dir: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{address}\"}}\n",
            dir.path().join("data").display()
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(std::fs::File::create(dir.path().join("requests")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, address, dir };
        wait_for("the registry", || TcpStream::connect(&registry.address).is_ok());
        registry
    }
}

impl Registry {
    /// The file in which a blob lies.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.dir.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// Method and path of every request so far that got this far.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("requests")).unwrap();
        // The common log format: the request stands between quotes.
        let request = |line: &str| Some(line.split('"').nth(1)?.rsplit_once(" HTTP")?.0.to_owned());
        log.lines().filter_map(request).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until something holds, and fails where it does not within a minute: loaded machines are slow.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

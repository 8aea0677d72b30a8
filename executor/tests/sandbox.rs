//! Every wall of the sandbox, asserted from inside. Needs root and /bin/busybox; prints SKIPPED otherwise.
//!
//! A program of its own (no libtest): the sandbox executes this very program as its init.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::exit, reason = "a test program")]

mod containers;
mod harness;
mod probe;
mod rootless;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lap_executor::sandbox::{
    self, EtcFiles, Exit, FailureKind, Init, Limits, MountSource, NetworkSetup, Rlimit, Rootfs, SandboxError,
    SandboxMount, Security, Spec, Stdio,
};

fn main() {
    if let Some(code) = lap_executor::hidden_entry(std::env::args_os()) {
        std::process::exit(code);
    }
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "--probe=calls" {
        return probe::calls();
    }
    if let Some(dir) = argument.strip_prefix("--spawn-and-hang=") {
        return spawn_and_hang(Path::new(dir));
    }
    if let Some(dir) = argument.strip_prefix("--rootless=") {
        return rootless::inside(Path::new(dir));
    }
    std::process::exit(harness::run(TESTS));
}

const TESTS: &[harness::Test] = &[
    ("runs_a_command", runs_a_command),
    ("exit_codes", exit_codes),
    ("namespaces", namespaces),
    ("nothing_of_the_host_is_mounted", nothing_of_the_host_is_mounted),
    ("capabilities", capabilities),
    ("seccomp_refuses", seccomp_refuses),
    ("masked_and_read_only_paths", masked_and_read_only_paths),
    ("devices", devices),
    ("no_descriptor_leaks", no_descriptor_leaks),
    ("nothing_remains_in_the_upper", nothing_remains_in_the_upper),
    ("etc_files_behind_links", etc_files_behind_links),
    ("working_directory", working_directory),
    ("hostile_images", hostile_images),
    ("users", users),
    ("mounts", mounts),
    ("racing_mount_points", racing_mount_points),
    ("limits", limits),
    ("rlimits", rlimits),
    ("leftovers_die_and_pipes_end", leftovers_die_and_pipes_end),
    ("orphans_are_reaped", orphans_are_reaped),
    ("kill_and_drop", kill_and_drop),
    ("terminal", terminal),
    ("command_as_process_one", command_as_process_one),
    ("own_program_cannot_be_written", own_program_cannot_be_written),
    ("insecure", insecure),
    ("containers::foreground", containers::foreground),
    ("containers::detached", containers::detached),
    ("containers::exec", containers::exec),
    ("containers::names_and_removal", containers::names_and_removal),
    ("containers::failures", containers::failures),
    ("containers::volumes_and_files", containers::volumes_and_files),
    ("containers::terminal", containers::terminal),
    ("containers::dead_watcher", containers::dead_watcher),
    ("containers::network", containers::network),
    ("rootless::single_id", rootless::single_id),
    ("rootless::ranges", rootless::ranges),
    ("speed", speed),
];

/// An image with busybox, and a place for changes.
struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sandbox").tempdir_in("/var/tmp").unwrap();
        let image = Self { dir };
        for name in ["lower/bin", "lower/tmp", "lower/etc", "upper", "work"] {
            std::fs::create_dir_all(image.path(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", image.path("lower/bin/busybox")).unwrap();
        for name in
            ["sh", "true", "false", "cat", "id", "ls", "mkdir", "sleep", "mount", "unshare", "chroot", "hostname"]
        {
            symlink("busybox", image.path(&format!("lower/bin/{name}"))).unwrap();
        }
        std::fs::write(
            image.path("lower/etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(image.path("lower/etc/group"), "root:x:0:\nusers:x:100:\nwheel:x:10:ada\n").unwrap();
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lower(&self, name: &str) -> PathBuf {
        self.path("lower").join(name)
    }

    fn upper(&self) -> Vec<String> {
        let mut all = Vec::new();
        walk(&self.path("upper"), "", &mut all);
        all
    }

    fn spec(&self, args: &[&str]) -> Spec {
        Spec {
            rootfs: Rootfs {
                lowers: vec![self.path("lower")],
                upper: Some(self.path("upper")),
                work: Some(self.path("work")),
                volatile: false,
                readonly: false,
            },
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: vec!["PATH=/bin".to_owned()],
            stdio: Stdio::Pipes { stdin: false },
            ..Spec::default()
        }
    }

    fn sh(&self, script: &str) -> Spec {
        self.spec(&["sh", "-c", script])
    }
}

fn walk(dir: &Path, prefix: &str, all: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        all.push(name.clone());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &name, all);
        }
    }
}

struct Done {
    exit: Exit,
    out: String,
    err: String,
}

fn read(fd: Option<OwnedFd>) -> String {
    let mut text = Vec::new();
    fd.map(|fd| std::fs::File::from(fd).read_to_end(&mut text).unwrap());
    String::from_utf8_lossy(&text).into_owned()
}

fn run(spec: Spec) -> Done {
    let mut running = sandbox::spawn(spec)
        .unwrap_or_else(|error| panic!("{error} {:?} {:?}", error.hint(), std::error::Error::source(&error)));
    let (out, err) = (running.stdout.take(), running.stderr.take());
    let errors = std::thread::spawn(move || read(err));
    let out = read(out);
    let exit = running.wait().unwrap();
    Done { exit, out, err: errors.join().unwrap() }
}

/// Output of a script that must succeed.
fn out(spec: Spec) -> String {
    let done = run(spec);
    assert_eq!(done.exit.code, 0, "{}{}", done.out, done.err);
    done.out
}

fn refused(spec: Spec) -> sandbox::Failure {
    match sandbox::spawn(spec) {
        Err(SandboxError::Inside(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn cgroup_leftovers() -> Vec<PathBuf> {
    let own = format!("{}-", std::process::id());
    let mut found = Vec::new();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()) {
        for dir in std::fs::read_dir(hierarchy.join("lapstrake")).into_iter().flatten().flatten() {
            if dir.file_name().to_string_lossy().starts_with(&own) {
                found.push(dir.path());
            }
        }
    }
    found
}

fn runs_a_command() {
    let image = Image::new();
    let done = run(image.sh("echo out; echo err >&2; echo $HOME; pwd; exit 7"));
    assert_eq!((done.exit.code, &done.out[..], &done.err[..]), (7, "out\n/root\n/\n", "err\n"));
    assert_eq!(done.exit, Exit { code: 7, signal: None, oom_killed: false });
    assert!(cgroup_leftovers().is_empty());
    // No image at all: only what the sandbox itself makes.
    let mut spec = image.spec(&["/busybox", "ls", "/", "/etc"]);
    spec.rootfs.lowers.clear();
    spec.mounts.push(bind("/bin/busybox", "/busybox", true));
    spec.etc.hosts = Some(Vec::new());
    assert_eq!(out(spec), "/:\nbusybox\ndev\netc\nproc\nsys\n\n/etc:\nhosts\n");
    assert!(image.upper().is_empty(), "{:?}", image.upper());
}

fn bind(source: &str, target: &str, readonly: bool) -> SandboxMount {
    let source = MountSource::Bind { source: source.into(), below: None, recursive: false };
    SandboxMount { target: target.to_owned(), readonly, source }
}

fn exit_codes() {
    let image = Image::new();
    for code in [0, 1, 42, 255] {
        assert_eq!(run(image.sh(&format!("exit {code}"))).exit.code, code);
    }
    let killed = run(image.sh("kill -9 $$")).exit;
    assert_eq!((killed.code, killed.signal), (137, Some(9)));
    std::fs::write(image.lower("bin/plain"), "x").unwrap();
    std::fs::write(image.lower("bin/garbage"), "\0\0garbage").unwrap();
    std::fs::set_permissions(image.lower("bin/garbage"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(image.lower("bin/broken"), "#!/no/such\n").unwrap();
    std::fs::set_permissions(image.lower("bin/broken"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        ("nosuch", FailureKind::NotFound, 127),
        ("/bin/nosuch", FailureKind::NotFound, 127),
        ("/nosuch/x", FailureKind::NotFound, 127),
        ("plain", FailureKind::NotExecutable, 126),
        ("/bin", FailureKind::NotExecutable, 126),
        ("garbage", FailureKind::NotExecutable, 126),
        ("broken", FailureKind::NotFound, 127),
    ];
    for init in [Init::Reaper, Init::Command] {
        for (program, kind, code) in cases {
            let mut spec = image.spec(&[program]);
            spec.init = init;
            let failure = refused(spec);
            assert_eq!(failure.kind, kind, "{program}: {failure}");
            assert_eq!(SandboxError::Inside(failure).exit_code(), code);
        }
    }
    assert!(matches!(sandbox::spawn(image.spec(&[])), Err(SandboxError::Invalid { .. })));
    let endless = "x".repeat(3 << 20);
    for args in [vec!["/bin/true", endless.as_str()], vec![endless.as_str()]] {
        assert!(refused(image.spec(&args)).act.len() < 10_000);
    }
    assert!(matches!(sandbox::spawn(image.spec(&["a\0b"])), Err(SandboxError::Invalid { .. })));
    assert!(cgroup_leftovers().is_empty());
}

fn namespaces() {
    let image = Image::new();
    let mut spec = image.sh("for n in mnt pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done; hostname; cat /proc/self/cgroup; ls /sys/class/net");
    spec.hostname = "inside".to_owned();
    spec.env.push("PATH=/bin".to_owned());
    symlink("busybox", image.lower("bin/readlink")).unwrap();
    let text = out(spec);
    let lines: Vec<&str> = text.lines().collect();
    for (line, name) in lines.iter().zip(["mnt", "pid", "ipc", "uts", "net", "cgroup"]) {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(line.starts_with(name) && *line != host.to_string_lossy(), "{line}");
    }
    assert_eq!(lines[6], "inside");
    assert!(text.contains("pids:/\n"), "{text}");
    assert!(text.ends_with("\nlo\n") || text.contains("\nlo\n"), "{text}");
    let mut spec = image.sh("readlink /proc/self/ns/net");
    spec.network = NetworkSetup::Host;
    assert_eq!(out(spec).trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy());
}

fn nothing_of_the_host_is_mounted() {
    let image = Image::new();
    let text = out(image.sh("cat /proc/self/mountinfo"));
    for line in text.lines() {
        let kind = line.split(" - ").nth(1).unwrap().split(' ').next().unwrap();
        let allowed = ["overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];
        assert!(allowed.contains(&kind), "{line}");
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
    }
    let first = text.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(first.contains("nodev") && first.contains(" overlay "), "{first}");
    assert_eq!(text.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{text}");
}

fn caps_of(text: &str) -> Vec<(String, String)> {
    let lines = text
        .lines()
        .filter(|line| line.starts_with("Cap") || line.starts_with("NoNewPrivs") || line.starts_with("Seccomp:"));
    lines.filter_map(|line| line.split_once(":\t")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn capabilities() {
    let image = Image::new();
    let check = |spec: Spec, expected: [&str; 7]| {
        let names = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
        let expected: Vec<(String, String)> =
            names.iter().zip(expected).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect();
        assert_eq!(caps_of(&out(spec)), expected);
    };
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    check(image.sh("cat /proc/self/status"), [none, docker, docker, docker, none, "0", "2"]);
    let mut spec = image.sh("cat /proc/self/status");
    spec.user = "ada".to_owned();
    spec.no_new_privileges = true;
    check(spec, [none, none, none, docker, none, "1", "2"]);
    let mut spec = image.sh("cat /proc/self/status");
    spec.cap_drop = vec!["ALL".to_owned()];
    spec.cap_add = vec!["net_bind_service".to_owned()];
    check(spec, [none, "0000000000000400", "0000000000000400", "0000000000000400", none, "0", "2"]);
    let mut spec = image.sh("true");
    spec.cap_add = vec!["FOO".to_owned()];
    assert!(matches!(sandbox::spawn(spec), Err(SandboxError::Invalid { .. })));
}

fn seccomp_refuses() {
    let image = Image::new();
    for command in ["mount -t tmpfs x /tmp", "unshare -U true", "unshare -m true", "unshare -n true", "hostname x"] {
        let done = run(image.sh(command));
        assert_ne!(done.exit.code, 0, "{command}");
        assert!(done.err.contains("ermitted") || done.err.contains("denied"), "{command}: {}", done.err);
    }
    // This program itself, as a probe that makes the calls (static, so it runs in any root).
    let calls = probe_inside(&image);
    for (name, errno) in [
        ("keyctl", 1),
        ("add_key", 1),
        ("bpf", 1),
        ("userfaultfd", 1),
        ("io_uring_setup", 1),
        ("perf_event_open", 1),
        ("kexec_load", 1),
        ("open_by_handle_at", 1),
        ("setns", 1),
        ("mount", 1),
        ("fsopen", 1),
        ("clone3", 38),
        ("x32_getpid", 38),
        ("socket_alg", 1),
        ("socket_vsock", 1),
        ("clone_newuser", 1),
        ("int80_mount", 1),
        ("int80_getpid", 0),
        ("getpid", 0),
    ] {
        assert!(calls.contains(&format!("{name}={errno}\n")), "{name} should give {errno}:\n{calls}");
    }
}

/// Runs this test program inside, as a probe.
fn probe_inside(image: &Image) -> String {
    let mut spec = image.spec(&["/bin/lap-probe", "--probe=calls"]);
    let own = std::env::current_exe().unwrap();
    spec.mounts.push(bind(&own.to_string_lossy(), "/bin/lap-probe", true));
    out(spec)
}

/// A caller that dies: starts a sandbox, prints its process number, and waits to be killed.
fn spawn_and_hang(dir: &Path) {
    let spec = Spec {
        rootfs: Rootfs {
            lowers: vec![dir.join("lower")],
            upper: Some(dir.join("upper")),
            work: Some(dir.join("work")),
            ..Rootfs::default()
        },
        args: ["sh", "-c", "trap '' HUP TERM; while true; do sleep 1; done"].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        limits: Limits { pids: Some(0), ..Limits::default() },
        ..Spec::default()
    };
    let mut running = sandbox::spawn(spec).unwrap();
    println!("{}", running.pid);
    running.wait().unwrap();
}

fn masked_and_read_only_paths() {
    let image = Image::new();
    let done = run(image.sh("cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
         echo 1 > /proc/sysrq-trigger; echo x > /proc/sys/kernel/hostname; echo 1 > /sys/kernel/mm/ksm/run; \
         echo x > /proc/irq/default_smp_affinity; echo x > /proc/kcore"));
    let busybox = run(image.sh("/bin/busybox cat /proc/kcore /proc/keys | /bin/busybox wc -c; ls /sys/firmware"));
    assert_eq!(busybox.out, "0\n", "{}", busybox.err);
    // Not every kernel has kcore, sysrq-trigger and irq; what exists is refused.
    assert!(done.err.matches("Read-only file system").count() >= 2, "{}", done.err);
    let lines = done.err.lines().filter(|line| line.starts_with("sh: can't create")).count();
    assert_eq!(lines, 5, "{}", done.err);
}

fn devices() {
    let image = Image::new();
    let text = out(image.sh("ls /dev; echo x > /dev/null; echo hi > /dev/stderr; ls /dev/pts /dev/shm"));
    assert_eq!(
        text,
        "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n/dev/pts:\nptmx\n\n/dev/shm:\n"
    );
    // The right to make a node is Docker's default; opening it must not work anywhere.
    let text = run(image.sh(
        "for d in / /tmp /dev /dev/shm; do /bin/busybox mknod $d/disk b 254 0; /bin/busybox head -c 1 $d/disk; done; chmod 0 /dev/null",
    ));
    assert_eq!(
        text.err.matches("disk: Permission denied").count() + text.err.matches("can't open").count(),
        4,
        "{}",
        text.err
    );
    assert_eq!(std::fs::metadata("/dev/null").unwrap().mode() & 0o777, 0o666);
}

fn no_descriptor_leaks() {
    let image = Image::new();
    // One that our caller left open on purpose.
    let file = std::fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    for init in [Init::Reaper, Init::Command] {
        let mut spec =
            image.sh("ls -l /proc/self/fd; /bin/busybox readlink /proc/1/fd/*; cat /proc/1/environ; ls -l /proc/1/exe");
        spec.init = init;
        let done = run(spec);
        // ls itself opens the directory as 3.
        let own: Vec<&str> =
            done.out.lines().filter(|line| line.contains(" -> ")).filter(|line| !line.contains("/exe")).collect();
        assert_eq!(own.len(), 3, "{}", done.out);
        assert!(!done.out.contains("hostname"), "{}", done.out);
        if init == Init::Reaper {
            assert_eq!(done.out.lines().count(), own.len() + 3, "{}", done.out);
            assert!(done.err.contains("/proc/1/exe: cannot read link: Permission denied"), "{}", done.err);
        }
    }
}

fn nothing_remains_in_the_upper() {
    let image = Image::new();
    std::fs::create_dir_all(image.lower("srv")).unwrap();
    let time = std::process::Command::new("touch").args(["-d", "2001-02-03"]).arg(image.lower("srv")).status().unwrap();
    assert!(time.success());
    let mut spec = image.sh("cat /etc/hosts /a/b/c/secret; ls -d /srv/cache");
    spec.etc = EtcFiles {
        hosts: Some(b"127.0.0.1 localhost\n".to_vec()),
        resolv_conf: Some(Vec::new()),
        hostname: Some(Vec::new()),
        dir: None,
    };
    spec.mounts.push(SandboxMount {
        target: "/a/b/c/secret".to_owned(),
        readonly: true,
        source: MountSource::File { data: b"s3cret\n".to_vec(), mode: 0o400, uid: 0, gid: 0 },
    });
    spec.mounts.push(SandboxMount {
        target: "/srv/cache".to_owned(),
        readonly: false,
        source: MountSource::Tmpfs { size: None, mode: 0o755 },
    });
    assert_eq!(out(spec), "127.0.0.1 localhost\ns3cret\n/srv/cache\n");
    assert_eq!(image.upper(), ["/srv"], "a copied-up parent may stay");
    let (before, after) =
        (std::fs::metadata(image.lower("srv")).unwrap(), std::fs::metadata(image.path("upper/srv")).unwrap());
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    // What the command itself leaves stays.
    let image = Image::new();
    let mut spec = image.sh("echo 1 > /a/kept");
    spec.mounts.push(SandboxMount {
        target: "/a/b".to_owned(),
        readonly: false,
        source: MountSource::Tmpfs { size: None, mode: 0o755 },
    });
    out(spec);
    assert_eq!(image.upper(), ["/a", "/a/kept"]);
}

fn etc_files_behind_links() {
    let image = Image::new();
    symlink("/run/resolve/stub.conf", image.lower("etc/resolv.conf")).unwrap();
    symlink("../../../../../../canary/hosts", image.lower("etc/hosts")).unwrap();
    let mut spec = image.sh("cat /etc/resolv.conf /etc/hosts; ls /canary");
    spec.etc.resolv_conf = Some(b"nameserver 192.0.2.1\n".to_vec());
    spec.etc.hosts = Some(b"192.0.2.2 x\n".to_vec());
    assert_eq!(out(spec), "nameserver 192.0.2.1\n192.0.2.2 x\nhosts\n");
    assert!(!Path::new("/canary").exists() && !Path::new("/run/resolve").exists());
    assert!(image.upper().is_empty(), "{:?}", image.upper());
}

fn working_directory() {
    let image = Image::new();
    let in_dir = |cwd: &str| {
        let mut spec = image.sh("pwd");
        spec.cwd = cwd.to_owned();
        spec
    };
    assert_eq!(out(in_dir("/new/deep")), "/new/deep\n");
    assert_eq!(image.upper(), ["/new", "/new/deep"]);
    symlink("/tmp", image.lower("link")).unwrap();
    assert_eq!(out(in_dir("/link/x")), "/tmp/x\n");
    symlink("../../../../../../../../etc", image.lower("up")).unwrap();
    assert_eq!(out(in_dir("/up")), "/etc\n");
    for number in 0..64 {
        let failure = refused(in_dir(&format!("/proc/self/fd/{number}")));
        assert_eq!(failure.kind, FailureKind::Directory, "{failure}");
        // Where that is no descriptor at all, the path is one of the image after all.
        if let Ok(mut running) = sandbox::spawn(in_dir(&format!("/proc/self/fd/{number}/../../.."))) {
            assert_eq!(read(running.stdout.take()), "/proc\n");
        }
    }
    assert_eq!(refused(in_dir("/etc/passwd")).kind, FailureKind::Directory);
    assert!(matches!(sandbox::spawn(in_dir("relative")), Err(SandboxError::Invalid { .. })));
}

fn hostile_images() {
    for name in ["dev", "proc", "sys"] {
        for (what, target) in [("absolute", "/canary"), ("relative", "../../canary")] {
            let image = Image::new();
            symlink(target, image.lower(name)).unwrap();
            let failure = refused(image.sh("true"));
            assert!(failure.act.contains(&format!("/{name} of the image")), "{what}: {failure}");
        }
        let image = Image::new();
        std::fs::write(image.lower(name), "x").unwrap();
        assert!(refused(image.sh("true")).act.contains(&format!("/{name} of the image")));
    }
    // Fake contents of these directories are covered.
    let image = Image::new();
    std::fs::create_dir_all(image.lower("dev")).unwrap();
    std::fs::create_dir_all(image.lower("proc/self/attr")).unwrap();
    for name in ["null", "ptmx", "fd", "shm", "pts"] {
        symlink("/proc/sys/kernel/core_pattern", image.lower(&format!("dev/{name}"))).unwrap();
    }
    let pattern = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    out(image.sh("echo x > /dev/null; ls /dev/shm /dev/pts"));
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    // Mount points that lead into the kernel's file systems.
    for target in ["/proc/self/attr", "/proc", "/sys/kernel", "/link"] {
        let image = Image::new();
        symlink("/proc/self", image.lower("link")).unwrap();
        let mut spec = image.sh("true");
        spec.mounts.push(SandboxMount {
            target: target.to_owned(),
            readonly: false,
            source: MountSource::Tmpfs { size: None, mode: 0o755 },
        });
        refused(spec);
    }
    for target in ["/", "/..", "/.", "", "relative"] {
        let image = Image::new();
        let mut spec = image.sh("true");
        spec.mounts.push(SandboxMount {
            target: target.to_owned(),
            readonly: false,
            source: MountSource::Tmpfs { size: None, mode: 0o755 },
        });
        assert!(matches!(sandbox::spawn(spec), Err(SandboxError::Invalid { .. })), "{target}");
    }
}

fn users() {
    let image = Image::new();
    let as_user = |user: &str| {
        let mut spec = image.sh("id -u; id -g; id -G; echo $HOME; echo x > /dev/stdout");
        spec.user = user.to_owned();
        spec
    };
    assert_eq!(out(as_user("ada")), "1000\n100\n100 10\n/home/ada\nx\n");
    assert_eq!(out(as_user("1000:5")), "1000\n5\n5\n/home/ada\nx\n");
    assert_eq!(out(as_user("4242")), "4242\n0\n0\n/\nx\n");
    assert_eq!(out(as_user("")), "0\n0\n0\n/root\nx\n");
    assert_eq!(refused(as_user("bob")).kind, FailureKind::User);
    // Hostile account files: endless, a pipe, a link out.
    let file = std::fs::File::create(image.lower("etc/passwd")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(refused(as_user("ada")).kind, FailureKind::User);
    std::fs::remove_file(image.lower("etc/passwd")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        image.lower("etc/passwd"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    assert_eq!(refused(as_user("ada")).kind, FailureKind::User);
    std::fs::remove_file(image.lower("etc/passwd")).unwrap();
    symlink("/proc/self/root/etc/passwd", image.lower("etc/passwd")).unwrap();
    assert_eq!(refused(as_user("7")).kind, FailureKind::User);
}

fn mounts() {
    let image = Image::new();
    let host = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::create_dir_all(host.path().join("sub")).unwrap();
    std::fs::write(host.path().join("sub/file"), "data\n").unwrap();
    symlink("/", host.path().join("escape")).unwrap();
    let place = host.path().to_string_lossy().into_owned();
    let mut spec = image.sh("cat /m/sub/file; echo new > /m/made; echo x > /r/x || echo read-only; cat /file");
    spec.mounts.push(bind(&place, "/m", false));
    spec.mounts.push(bind(&place, "/r", true));
    spec.mounts.push(bind(&format!("{place}/sub/file"), "/file", true));
    assert_eq!(out(spec), "data\nread-only\ndata\n");
    assert!(host.path().join("made").exists());
    // `below` never leads out.
    let mut spec = image.sh("ls /e");
    let source = MountSource::Bind { source: host.path().into(), below: Some("escape".to_owned()), recursive: false };
    spec.mounts.push(SandboxMount { target: "/e".to_owned(), readonly: true, source });
    assert_eq!(out(spec), "escape\nmade\nsub\n");
    // A stack of layers, whole and in part, and writes to it are refused or discarded.
    let stage = Image::new();
    std::fs::create_dir_all(stage.lower("out")).unwrap();
    std::fs::write(stage.lower("out/result"), "built\n").unwrap();
    let layers = |below: Option<&str>, readonly: bool, target: &str| SandboxMount {
        target: target.to_owned(),
        readonly,
        source: MountSource::Layers {
            rootfs: Rootfs {
                lowers: vec![stage.path("lower")],
                upper: (!readonly).then(|| stage.path("upper")),
                work: (!readonly).then(|| stage.path("work")),
                ..Rootfs::default()
            },
            below: below.map(str::to_owned),
        },
    };
    let mut spec = image.sh("cat /s/out/result /p/result /f; echo x > /p/y && echo wrote");
    spec.mounts.push(layers(None, true, "/s"));
    spec.mounts.push(layers(Some("out"), false, "/p"));
    spec.mounts.push(layers(Some("/out/result"), true, "/f"));
    assert_eq!(out(spec), "built\nbuilt\nbuilt\nwrote\n");
    assert!(!stage.lower("out/y").exists());
    // A read-only root.
    let mut spec = image.sh("echo x > /x || echo no; echo y > /tmp2/y && echo yes");
    spec.rootfs.readonly = true;
    spec.mounts.push(SandboxMount {
        target: "/tmp2".to_owned(),
        readonly: false,
        source: MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 },
    });
    assert_eq!(out(spec), "no\nyes\n");
}

/// A shared directory in which a name is a directory at one moment and a link to `/` at the next.
fn racing_mount_points() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let image = Image::new();
    let shared = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::create_dir(shared.path().join("dir")).unwrap();
    symlink("/", shared.path().join("link")).unwrap();
    let (a, b) = (shared.path().join("dir"), shared.path().join("link"));
    let done = Arc::new(AtomicBool::new(false));
    let racer = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).unwrap();
            }
        })
    };
    let canary = format!("/lap-race-{}", std::process::id());
    let (mut started, mut refused) = (0, 0);
    for _ in 0..150 {
        let mut spec = image.sh("true");
        spec.mounts.push(bind(&shared.path().to_string_lossy(), "/shared", false));
        let source = MountSource::Tmpfs { size: None, mode: 0o755 };
        spec.mounts.push(SandboxMount { target: format!("/shared/dir{canary}/x"), readonly: false, source });
        spec.cwd = "/shared/dir".to_owned();
        match sandbox::spawn(spec) {
            Ok(mut running) => {
                running.wait().unwrap();
                started += 1;
            }
            Err(SandboxError::Inside(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(!Path::new(&canary).exists(), "made on the host");
    }
    done.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    println!("  {started} started, {refused} refused");
}

fn limits() {
    let image = Image::new();
    let mut spec = image.sh("x=a; while true; do x=$x$x; done");
    spec.limits.memory = Some(16 << 20);
    let exit = run(spec).exit;
    assert!(exit.oom_killed, "{exit:?}");
    assert_eq!(exit.code, 137);
    let mut spec = image.sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo done");
    spec.limits.pids = Some(8);
    let done = run(spec);
    assert!(done.err.contains("can't fork"), "{}", done.err);
    let mut spec = image.sh("cat /proc/self/cgroup");
    spec.limits = Limits {
        memory: Some(32 << 20),
        nano_cpus: Some(500_000_000),
        cpu_shares: Some(512),
        cpuset: Some("0".to_owned()),
        pids: Some(20),
        cpuset_mems: Some("0".to_owned()),
        ..Limits::default()
    };
    let text = out(spec);
    for controller in ["cpu:/", "memory:/", "pids:/", "cpuset:/"] {
        assert!(text.contains(controller), "{text}");
    }
    let start = Instant::now();
    let mut spec = image.sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    spec.limits.nano_cpus = Some(100_000_000);
    out(spec);
    assert!(start.elapsed() > Duration::from_millis(200), "{:?}", start.elapsed());
    let mut spec = image.sh("true");
    spec.limits.cpuset = Some("900".to_owned());
    assert!(matches!(sandbox::spawn(spec), Err(SandboxError::Limit { .. })));
    assert!(cgroup_leftovers().is_empty());
}

fn rlimits() {
    let image = Image::new();
    let mut spec = image.sh("ulimit -n; ulimit -Hn");
    spec.rlimits.push(Rlimit { name: "nofile".to_owned(), soft: 100, hard: 200 });
    assert_eq!(out(spec), "100\n200\n");
    let mut spec = image.sh("true");
    spec.rlimits.push(Rlimit { name: "nonsense".to_owned(), soft: 1, hard: 1 });
    assert_eq!(refused(spec).kind, FailureKind::Setup);
}

fn leftovers_die_and_pipes_end() {
    let image = Image::new();
    let start = Instant::now();
    let text = out(image
        .sh("sleep 100 & (sleep 100 &) ; /bin/busybox setsid sleep 100 & /bin/busybox nohup sleep 100 & echo started"));
    assert_eq!(text, "started\n");
    assert!(start.elapsed() < Duration::from_secs(60));
    assert!(cgroup_leftovers().is_empty());
}

fn orphans_are_reaped() {
    let image = Image::new();
    let text = out(image.sh(
        "i=0; while [ $i -lt 200 ]; do (true & ) ; i=$((i+1)); done; sleep 0.3; cat /proc/[0-9]*/stat | /bin/busybox grep -c ' Z ' || true",
    ));
    assert_eq!(text.trim(), "0");
}

fn kill_and_drop() {
    let image = Image::new();
    let mut running = sandbox::spawn(image.sh("trap '' TERM INT; while true; do sleep 1; done")).unwrap();
    let killer = running.killer().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        killer.kill();
    });
    let exit = running.wait().unwrap();
    thread.join().unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    let image = Image::new();
    let running = sandbox::spawn(image.sh("while true; do sleep 1; done")).unwrap();
    let pid = running.pid;
    drop(running);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(cgroup_leftovers().is_empty());
    // The death of the caller ends the sandbox too: a helper that spawns and is killed.
    let image = Image::new();
    let mut helper = std::process::Command::new(std::env::current_exe().unwrap())
        .arg(format!("--spawn-and-hang={}", image.dir.path().display()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 16];
    let length = helper.stdout.as_mut().unwrap().read(&mut line).unwrap();
    let pid: i32 = String::from_utf8_lossy(&line[..length]).trim().parse().unwrap();
    helper.kill().unwrap();
    helper.wait().unwrap();
    let start = Instant::now();
    let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while alive() && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!alive(), "init {pid} lives on");
}

fn terminal() {
    let image = Image::new();
    for init in [Init::Reaper, Init::Command] {
        let mut spec = image.sh("tty; stty size; echo $TERM; ls -l /dev/console; exit 3");
        symlink("busybox", image.lower("bin/tty")).ok();
        symlink("busybox", image.lower("bin/stty")).ok();
        spec.stdio = Stdio::Pty { size: Some((100, 30)) };
        spec.init = init;
        spec.user = "ada".to_owned();
        let mut running = sandbox::spawn(spec).unwrap();
        let mut terminal = std::fs::File::from(running.terminal.take().unwrap());
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        // The end of a terminal is EIO.
        while let Ok(length @ 1..) = terminal.read(&mut buffer) {
            text.extend_from_slice(&buffer[..length]);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.starts_with("/dev/pts/0\r\n30 100\r\nxterm\r\ncrw"), "{text}");
        assert_eq!(running.wait().unwrap().code, 3);
    }
    // One without a size.
    let mut spec = image.sh("tty");
    spec.stdio = Stdio::Pty { size: None };
    let mut running = sandbox::spawn(spec).unwrap();
    let mut out = Vec::new();
    running.pump(&mut out, &mut std::io::sink()).unwrap();
    assert_eq!(out, b"/dev/pts/0\r\n");
}

fn command_as_process_one() {
    let image = Image::new();
    let mut spec = image.sh("echo $$; cat /proc/1/comm; ls -d /sys/fs/cgroup/pids /sys/fs/cgroup/cgroup.procs; exit 9");
    spec.init = Init::Command;
    let done = run(spec);
    assert!(done.out.starts_with("1\nsh\n"), "{}", done.out);
    assert_eq!(done.exit.code, 9);
    let mut spec = image.sh("kill -TERM $$; echo ignored");
    spec.init = Init::Command;
    assert_eq!(out(spec), "ignored\n");
    // Limits are seen inside, and control groups are read-only.
    let mut spec = image.sh("cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max; echo 5 > /sys/fs/cgroup/pids/pids.max || echo 5 > /sys/fs/cgroup/pids.max");
    spec.init = Init::Command;
    spec.limits.pids = Some(77);
    let done = run(spec);
    assert!(done.out.contains("77"), "{} {}", done.out, done.err);
    assert!(done.err.contains("Read-only file system"), "{}", done.err);
}

fn own_program_cannot_be_written() {
    let image = Image::new();
    symlink("/proc/self/exe", image.lower("bin/evil")).unwrap();
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut spec = image.sh("i=0; while [ $i -lt 50 ]; do for p in /proc/[0-9]*; do echo x 2>/dev/null >> $p/exe; done; i=$((i+1)); done; true");
    spec.cap_add = vec!["SYS_PTRACE".to_owned()];
    run(spec);
    assert!(own == std::fs::read(std::env::current_exe().unwrap()).unwrap());
    // Where it can be reached at all, it is on a read-only mount.
    let mut spec = image.sh("echo x >> /proc/1/exe");
    spec.cap_add = vec!["SYS_PTRACE".to_owned()];
    let done = run(spec);
    assert_ne!(done.exit.code, 0);
    assert!(done.err.contains("Read-only") || done.err.contains("busy") || done.err.contains("denied"), "{}", done.err);
}

fn insecure() {
    let image = Image::new();
    let mut spec = image.sh("mount -t tmpfs x /tmp && cat /proc/self/status");
    spec.security = Security::Insecure;
    let text = out(spec);
    assert!(caps_of(&text).contains(&("Seccomp".to_owned(), "0".to_owned())), "{text}");
    // What it mounts is not seen by the host.
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" x "));
}

/// Change of a specification.
type Change = fn(&mut Spec);

/// Prints what a no-op costs, and what its parts do.
fn speed() {
    let image = Image::new();
    let variants: [(&str, Change); 6] = [
        ("loopback only", |_| {}),
        ("host network", |spec| spec.network = NetworkSetup::Host),
        ("host network, no control group", |spec| {
            spec.network = NetworkSetup::Host;
            spec.limits.pids = Some(0);
        }),
        ("host network, no walls", |spec| {
            spec.network = NetworkSetup::Host;
            spec.security = Security::Insecure;
        }),
        ("host network, three files of /etc", |spec| {
            spec.network = NetworkSetup::Host;
            let data = Some(vec![b'x'; 100]);
            spec.etc = EtcFiles { hosts: data.clone(), resolv_conf: data.clone(), hostname: data, dir: None };
        }),
        ("host network, all limits", |spec| {
            spec.network = NetworkSetup::Host;
            spec.limits = Limits { memory: Some(1 << 30), nano_cpus: Some(2_000_000_000), ..Limits::default() };
        }),
    ];
    for (name, change) in variants {
        let mut times: Vec<(Duration, Duration)> = (0..30)
            .map(|_| {
                let mut spec = image.spec(&["/bin/true"]);
                spec.stdio = Stdio::Null;
                change(&mut spec);
                let start = Instant::now();
                let mut running = sandbox::spawn(spec).unwrap();
                let started = start.elapsed();
                running.wait().unwrap();
                (start.elapsed(), started)
            })
            .collect();
        times.sort();
        let ((min, started), (median, _), (slow, _)) = (times[0], times[15], times[27]);
        println!("  no-op, {name}: min {min:?} (of it {started:?} until it runs), median {median:?}, p90 {slow:?}");
    }
}

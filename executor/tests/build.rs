//! Builds with commands in them, from graph to layers. Needs root and /bin/busybox; prints SKIPPED otherwise.
//!
//! A program of its own (no libtest): the sandbox executes this very program as its init.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::exit, reason = "a test program")]

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lap_cache::store::{Mode, Store};
use lap_executor::grant::{Grants, Secret};
use lap_executor::network::Network as Bridge;
use lap_executor::op::exec::ExecError;
use lap_executor::source::local::LocalSource;
use lap_executor::worker::{BuildWorker, Options, Output, Uplink, WorkerError};
use lap_solver::drive::{Limits, Solution, SolveError, solve};
use lap_solver::event::{Event, Events};
use lap_solver::graph::{
    Builder, CacheSharing, Copy, Exec, File, FileAction, Graph, InlineFile, Metadata, Mount, MountKind, Network, Op,
    SecretEnv, SecretFile, Security, Source, Unpack, VertexId,
};
use lap_solver::pattern::Matcher;
use lap_solver::platform::Platform;

fn main() {
    if let Some(code) = lap_executor::hidden_entry(std::env::args_os()) {
        std::process::exit(code);
    }
    std::process::exit(harness::run(TESTS));
}

const TESTS: &[harness::Test] = &[
    ("commands_make_layers", commands_make_layers),
    ("equal_results_cut_off_what_follows", equal_results_cut_off_what_follows),
    ("failures_tell_code_and_output", failures_tell_code_and_output),
    ("environment_user_and_inline_files", environment_user_and_inline_files),
    ("mounts_are_seen_and_leave_nothing", mounts_are_seen_and_leave_nothing),
    ("binds_of_a_context", binds_of_a_context),
    ("caches_stay_and_are_shared_as_asked", caches_stay_and_are_shared_as_asked),
    ("secrets_need_to_be_given", secrets_need_to_be_given),
    ("walls_need_a_grant", walls_need_a_grant),
    ("networks", networks),
    ("cancelling_kills", cancelling_kills),
    ("speed", speed),
];

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    log: Arc<Mutex<String>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("build").tempdir_in("/var/tmp").unwrap();
        let store = Store::open(&dir.path().join("store"), Mode::Root).unwrap();
        let root = dir.path().join("image");
        for name in ["bin", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "id", "ls", "mkdir", "sleep", "touch", "rm", "echo", "env", "wc", "chmod", "stat"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\n").unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        Self { dir, store, log: Arc::default() }
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    fn options(&self) -> Options {
        let source = |name: &str, ignore: &[&str]| {
            let dir = self.dir.path().join(name);
            (name.to_owned(), LocalSource { dir, ignore: Matcher::new(ignore).unwrap() })
        };
        let contexts: BTreeMap<_, _> = [source("image", &[]), source("context", &[])].into();
        let log = Arc::clone(&self.log);
        let events = Events::new(move |event| {
            if let Event::Log { data, .. } = event {
                log.lock().unwrap().push_str(&String::from_utf8_lossy(&data));
            }
        });
        Options { contexts, events, ..Options::new(self.store.clone()) }
    }

    fn build(&self, options: Options, graph: &Graph, target: VertexId) -> Result<Solution<Output>, WorkerError> {
        self.log.lock().unwrap().clear();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let events = options.events.clone();
        let worker = BuildWorker::new(options);
        let graph = Arc::new(graph.clone());
        let (cancelled, limits) = (std::future::pending(), Limits::default());
        let solved = runtime.block_on(solve(graph, &[target], worker.clone(), worker, &events, limits, cancelled));
        solved.map_err(|error| match error {
            SolveError::Step { error, .. } => error,
            other => panic!("{other}"),
        })
    }

    /// Runs a shell command on the image, with mounts; gives what it said.
    fn run(&self, options: Options, exec: Exec) -> Result<String, WorkerError> {
        let mut builder = Builder::new();
        let root = image(&mut builder);
        let target = builder.add(Op::Exec(exec), vec![root], Metadata::default());
        self.build(options, &builder.finish(), target)?;
        Ok(self.log())
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Names of what the top layer of a result holds.
    fn layer(&self, solution: &Solution<Output>, target: VertexId) -> Vec<String> {
        let top = solution.outputs[&target].snapshot().unwrap().layers.last().unwrap().diff_id;
        let mut names = Vec::new();
        let mut tar = Vec::new();
        self.store.write_tar(&top, &mut tar).unwrap();
        for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        names
    }
}

fn local(builder: &mut Builder, name: &str) -> VertexId {
    builder.add(Op::Source(Source::Local { name: name.into() }), vec![], Metadata::default())
}

fn copy(source: &str, dest: &str) -> Copy {
    Copy {
        from: Some(0),
        source: source.into(),
        dest: dest.into(),
        owner: None,
        keep_owner: false,
        mode: None,
        wildcard: false,
        unpack: Unpack::No,
        include: vec![],
        exclude: vec![],
        parents: false,
    }
}

fn image(builder: &mut Builder) -> VertexId {
    let source = local(builder, "image");
    let file = File { root: None, actions: vec![FileAction::Copy(copy("/", "/"))] };
    builder.add(Op::File(file), vec![source], Metadata::default())
}

fn sh(command: &str) -> Exec {
    Exec {
        root: Some(0),
        args: ["/bin/sh", "-c", command].map(str::to_owned).into(),
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        user: String::new(),
        network: Network::Default,
        security: Security::Sandbox,
        mounts: vec![],
        secret_env: vec![],
        files: vec![],
        platform: Platform::host(),
    }
}

fn mount(target: &str, readonly: bool, kind: MountKind) -> Mount {
    Mount { target: target.into(), readonly, kind }
}

fn commands_make_layers() {
    let bench = Bench::new();
    let mut builder = Builder::new();
    let root = image(&mut builder);
    let first = builder.add(
        Op::Exec(sh("echo said; mkdir /made; echo x > /made/file; rm /etc/passwd")),
        vec![root],
        Metadata::default(),
    );
    let second = builder.add(Op::Exec(sh("cat /made/file; ls /etc")), vec![first], Metadata::default());
    let graph = builder.finish();
    let solution = bench.build(bench.options(), &graph, second).unwrap();
    assert!(bench.log().starts_with("said\nx\n"), "{}", bench.log());
    assert_eq!(bench.layer(&solution, first), ["etc/", "etc/.wh.passwd", "made/", "made/file"]);
    assert_eq!(solution.outputs[&second].snapshot().unwrap().layers.len(), 2, "nothing changed: no layer");

    let again = bench.build(bench.options(), &graph, second).unwrap();
    assert!(bench.log().is_empty());
    assert_eq!(again.outputs[&second].snapshot(), solution.outputs[&second].snapshot());
}

fn equal_results_cut_off_what_follows() {
    let bench = Bench::new();
    let build = |first: &str| {
        let mut builder = Builder::new();
        let root = image(&mut builder);
        let first = builder.add(Op::Exec(sh(first)), vec![root], Metadata::default());
        let second = builder.add(Op::Exec(sh("echo second > /second")), vec![first], Metadata::default());
        let solution = bench.build(bench.options(), &builder.finish(), second).unwrap();
        solution.cached.contains(&second)
    };
    assert!(!build("echo x > /first"));
    assert!(build("echo x > /first; true"), "another command, the same files");
    assert!(!build("echo y > /first"));
}

fn failures_tell_code_and_output() {
    let bench = Bench::new();
    let error = bench.run(bench.options(), sh("echo before; echo problem >&2; exit 3")).unwrap_err();
    assert_eq!(error.to_string(), "exit code: 3");
    let WorkerError::Exec(ExecError::Failed { code, oom_killed, tail, .. }) = error else { panic!("{error:?}") };
    assert_eq!((code, oom_killed), (3, false));
    let tail = String::from_utf8(tail).unwrap();
    assert!(tail.contains("before\n") && tail.contains("problem\n"), "{tail:?}");

    let missing = bench.run(bench.options(), Exec { args: vec!["/no/such".into()], ..sh("") }).unwrap_err();
    assert!(missing.to_string().contains("/no/such"), "{missing}");
}

fn environment_user_and_inline_files() {
    let bench = Bench::new();
    let inline = InlineFile { path: "/dev/pipes/EOF".into(), data: "#!/bin/sh\necho script\n".into(), mode: 0o755 };
    let exec = Exec {
        env: vec!["PATH=/bin".into(), "A=1".into(), "A=2".into()],
        cwd: "/new/dir".into(),
        user: "ada".into(),
        files: vec![inline],
        ..sh("echo $A $PWD $(id -u):$(id -g) $HOME; /dev/pipes/EOF; cat /etc/hosts")
    };
    let options = Options { add_hosts: vec![("db".into(), "10.1.2.3".into())], ..bench.options() };
    let said = bench.run(options, exec).unwrap();
    assert!(said.starts_with("2 /new/dir 1000:100 /home/ada\nscript\n"), "{said}");
    assert!(said.contains("127.0.0.1\tlocalhost") && said.contains("10.1.2.3\tdb"), "{said}");
}

fn mounts_are_seen_and_leave_nothing() {
    let bench = Bench::new();
    let mut builder = Builder::new();
    let root = image(&mut builder);
    let stage =
        builder.add(Op::Exec(sh("mkdir -p /out/sub; echo built > /out/sub/file")), vec![root], Metadata::default());
    let bind = |source: &str| MountKind::Bind { input: Some(1), source: source.into() };
    let exec = Exec {
        mounts: vec![
            mount("/ro", true, bind("/out")),
            mount("/rw", false, bind("/out/sub")),
            mount("/etc/one", true, bind("/out/sub/file")),
            mount("/mem", false, MountKind::Tmpfs { size: Some(1 << 20) }),
            mount("/empty", true, MountKind::Bind { input: None, source: "/".into() }),
        ],
        ..sh(
            "cat /ro/sub/file /rw/file /etc/one; echo changed > /rw/file; cat /rw/file; touch /ro/x 2>/dev/null || echo refused; \
              touch /mem/x /kept; ls -a /empty | wc -l",
        )
    };
    let target = builder.add(Op::Exec(exec), vec![root, stage], Metadata::default());
    let after = builder.add(Op::Exec(sh("cat /out/sub/file")), vec![stage], Metadata::default());
    let graph = builder.finish();
    let solution = bench.build(bench.options(), &graph, target).unwrap();
    let said = bench.log();
    assert!(said.starts_with("built\nbuilt\nbuilt\nchanged\n") && said.contains("refused\n2\n"), "{said}");
    assert_eq!(bench.layer(&solution, target), ["kept"], "mount points do not reach the layer");
    bench.build(bench.options(), &graph, after).unwrap();
    assert_eq!(bench.log(), "built\n", "what was written into the mount is gone");
}

fn binds_of_a_context() {
    let bench = Bench::new();
    fs::create_dir_all(bench.context().join("src")).unwrap();
    for name in ["src/a", "src/secret", "top"] {
        fs::write(bench.context().join(name), format!("{name}\n")).unwrap();
    }
    let build = |ignore: &[&str], readonly: bool, command: &str| {
        let mut builder = Builder::new();
        let root = image(&mut builder);
        let context = local(&mut builder, "context");
        let bind = mount("/src", readonly, MountKind::Bind { input: Some(1), source: "/src".into() });
        let target =
            builder.add(Op::Exec(Exec { mounts: vec![bind], ..sh(command) }), vec![root, context], Metadata::default());
        let mut options = bench.options();
        options.contexts.get_mut("context").unwrap().ignore = Matcher::new(ignore).unwrap();
        let solution = bench.build(options, &builder.finish(), target).unwrap();
        (bench.log(), solution.cached.contains(&target))
    };
    assert_eq!(build(&[], true, "ls /src; touch /src/x 2>/dev/null || echo refused").0, "a\nsecret\nrefused\n");
    assert_eq!(build(&["**/secret"], true, "ls /src").0, "a\n");
    assert_eq!(build(&[], false, "echo new > /src/a; touch /src/x; cat /src/a").0, "new\n");
    assert_eq!(build(&["**/secret"], false, "touch /src/x; ls /src").0, "a\nx\n");
    assert_eq!(fs::read_to_string(bench.context().join("src/a")).unwrap(), "src/a\n");
    assert!(!bench.context().join("src/x").exists());

    fs::write(bench.context().join("top"), "changed\n").unwrap();
    assert!(build(&["**/secret"], true, "ls /src").1, "only what is mounted counts");
    fs::write(bench.context().join("src/a"), "changed\n").unwrap();
    assert!(!build(&["**/secret"], true, "ls /src").1);
}

fn caches_stay_and_are_shared_as_asked() {
    let bench = Bench::new();
    let cache = |sharing: CacheSharing, input: Option<u32>| MountKind::Cache {
        id: "../../escape".into(),
        sharing,
        input,
        source: "/bin".into(),
        mode: 0o750,
        uid: 1000,
        gid: 100,
    };
    let run = |sharing: CacheSharing, command: &str| {
        let exec = Exec { mounts: vec![mount("/cache", false, cache(sharing, None))], ..sh(command) };
        bench.run(bench.options(), exec).unwrap()
    };
    assert_eq!(run(CacheSharing::Shared, "stat -c '%a %u:%g' /cache; echo kept > /cache/x"), "750 1000:100\n");
    assert_eq!(run(CacheSharing::Locked, "cat /cache/x"), "kept\n");
    assert_eq!(run(CacheSharing::Private, "cat /cache/x; :"), "kept\n");
    assert!(!bench.dir.path().join("escape").exists());

    // Two steps at once, one cache that only one may have at a time.
    let mut builder = Builder::new();
    let root = image(&mut builder);
    let locked = |name: &str| Exec {
        mounts: vec![mount("/cache", false, cache(CacheSharing::Locked, None))],
        ..sh(&format!("mkdir /cache/lock && sleep 0.2 && rm -r /cache/lock; echo {name} > /{name}"))
    };
    let one = builder.add(Op::Exec(locked("one")), vec![root], Metadata::default());
    let two = builder.add(Op::Exec(locked("two")), vec![root], Metadata::default());
    let both = builder.add(Op::Merge, vec![one, two], Metadata::default());
    bench.build(bench.options(), &builder.finish(), both).unwrap();

    let mut builder = Builder::new();
    let root = image(&mut builder);
    let filled = MountKind::Cache {
        id: "filled".into(),
        sharing: CacheSharing::Shared,
        input: Some(0),
        source: "/etc".into(),
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let exec = Exec { mounts: vec![mount("/cache", false, filled)], ..sh("ls /cache") };
    let target = builder.add(Op::Exec(exec), vec![root], Metadata::default());
    bench.build(bench.options(), &builder.finish(), target).unwrap();
    assert_eq!(bench.log(), "passwd\n");
}

fn secrets_need_to_be_given() {
    let bench = Bench::new();
    let secret =
        |required: bool| SecretFile { id: "token".into(), required, mode: 0o440, uid: 5, gid: 6, keyed: false };
    let exec = |required: bool| Exec {
        mounts: vec![mount("/run/secrets/token", true, MountKind::Secret(secret(required)))],
        secret_env: vec![SecretEnv { id: "token".into(), name: "TOKEN".into(), required, keyed: false }],
        ..sh("cat /run/secrets/token; stat -c ' %a %u:%g' /run/secrets/token; echo $TOKEN; touch /kept")
    };
    let secrets = [("token".to_owned(), Secret::Value(b"hidden".to_vec()))].into();
    let with = Options { grants: Grants { secrets, ..Grants::default() }, ..bench.options() };
    let mut builder = Builder::new();
    let root = image(&mut builder);
    let target = builder.add(Op::Exec(exec(true)), vec![root], Metadata::default());
    let graph = builder.finish();
    let refused = bench.build(bench.options(), &graph, target).unwrap_err();
    assert!(refused.to_string().contains("secret \"token\" is required"), "{refused}");
    let solution = bench.build(with, &graph, target).unwrap();
    assert_eq!(bench.log(), "hidden 440 5:6\nhidden\n");
    assert_eq!(bench.layer(&solution, target), ["kept"]);
    let without = bench.run(bench.options(), exec(false)).unwrap();
    assert!(without.contains("can't open"), "{without}");
}

fn walls_need_a_grant() {
    let bench = Bench::new();
    let host = Exec { network: Network::Host, ..sh("true") };
    let insecure = Exec { security: Security::Insecure, ..sh("true") };
    assert!(bench.run(bench.options(), host.clone()).unwrap_err().to_string().contains("--allow network.host"));
    assert!(
        bench.run(bench.options(), insecure.clone()).unwrap_err().to_string().contains("--allow security.insecure")
    );
    let granted = || {
        let grants = Grants { network_host: true, insecure: true, ..Grants::default() };
        Options { grants, ..bench.options() }
    };
    bench.run(granted(), Exec { args: vec!["/bin/busybox".into(), "true".into()], ..host }).unwrap();
    bench.run(granted(), Exec { args: vec!["/bin/busybox".into(), "true".into()], ..insecure }).unwrap();
}

fn networks() {
    let bench = Bench::new();
    let links = |step: &str| sh(&format!("cat /proc/net/dev /etc/resolv.conf # {step}"));
    let alone = bench.run(bench.options(), links("alone")).unwrap();
    assert!(alone.contains("lo:") && !alone.contains("eth0:"), "{alone}");
    let bridge = Bridge::open(&bench.dir.path().join("run")).unwrap();
    let options = Options { uplink: Uplink::Bridge(bridge.clone()), ..bench.options() };
    let said = bench.run(options.clone(), links("bridge")).unwrap();
    assert!(said.contains("eth0:"), "{said}");
    let none = bench.run(options, Exec { network: Network::None, ..links("none") }).unwrap();
    assert!(!none.contains("eth0:"), "{none}");
}

fn cancelling_kills() {
    let bench = Bench::new();
    let mut builder = Builder::new();
    let root = image(&mut builder);
    let target = builder.add(Op::Exec(sh("echo started; sleep 1234")), vec![root], Metadata::default());
    let graph = Arc::new(builder.finish());
    let options = bench.options();
    let (events, log) = (options.events.clone(), Arc::clone(&bench.log));
    let worker = BuildWorker::new(options);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begun = Instant::now();
    let cancelled = async move {
        while log.lock().unwrap().is_empty() && begun.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let solved =
        runtime.block_on(solve(graph, &[target], worker.clone(), worker, &events, Limits::default(), cancelled));
    assert!(matches!(solved, Err(SolveError::Cancelled)), "{:?}", solved.map(|_| ()));
    assert_eq!(bench.log(), "started\n");
    drop(runtime);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let alive = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|process| fs::read(process.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x001234\x00"));
    assert!(!alive, "the command outlived the build");
}

fn speed() {
    let bench = Bench::new();
    let mut builder = Builder::new();
    let mut last = image(&mut builder);
    for step in 0..30 {
        let exec =
            Exec { args: ["/bin/busybox", "true"].map(str::to_owned).into(), env: vec![format!("N={step}")], ..sh("") };
        last = builder.add(Op::Exec(exec), vec![last], Metadata::default());
    }
    let graph = builder.finish();
    for what in ["30 empty commands", "cached"] {
        let start = Instant::now();
        bench.build(bench.options(), &graph, last).unwrap();
        println!("{what}: {:?}", start.elapsed());
    }
}

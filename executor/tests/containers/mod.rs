//! Containers from start to removal, over a real store.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lap_cache::digest::Digest;
use lap_cache::store::{Mode, Store};
use lap_executor::container::{
    Container, ContainerError, Containers, CreateOptions, ExecOptions, LogOptions, NetworkMode, State, Stream, Volume,
};
use lap_executor::sandbox::Limits;

struct World {
    dir: tempfile::TempDir,
    containers: Containers,
    layer: Digest,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("containers").tempdir_in("/var/tmp").unwrap();
        let image = super::Image::new();
        let tar = dir.path().join("image.tar");
        let made =
            std::process::Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(image.path("lower")).arg(".").status();
        assert!(made.unwrap().success());
        let store = Store::open(&dir.path().join("store"), Mode::Root).unwrap();
        let layer = store.unpack(std::fs::File::open(&tar).unwrap(), None, &[]).unwrap().diff_id;
        let containers = Containers::new(store, &dir.path().join("run"));
        Self { dir, containers, layer }
    }

    fn options(&self, script: &str) -> CreateOptions {
        CreateOptions {
            image: "busybox".to_owned(),
            layers: vec![self.layer],
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".to_owned()],
            network: NetworkMode::None,
            ..CreateOptions::default()
        }
    }

    fn create(&self, options: CreateOptions) -> Container {
        self.containers.create(options).unwrap()
    }

    fn run(&self, options: CreateOptions) -> (i32, String, String) {
        let mut attached = self.containers.start(self.create(options), None).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        attached.pump(&mut out, &mut err).unwrap();
        let exit = attached.finish().unwrap();
        (exit.code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn exec(&self, container: &Container, options: ExecOptions) -> (i32, String, String) {
        let mut running = self.containers.exec(container, options).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        running.pump(&mut out, &mut err).unwrap();
        (running.wait().unwrap().code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn logs(&self, container: &Container, options: &LogOptions) -> Vec<(Stream, String)> {
        let mut lines = Vec::new();
        let mut each = |entry: lap_executor::container::LogEntry| {
            lines.push((entry.stream, entry.log));
            Ok(())
        };
        self.containers.logs(container, options, &mut each).unwrap();
        lines
    }

    fn wait_for_log(&self, container: &Container, line: &str) {
        let begun = Instant::now();
        while !self.logs(container, &LogOptions::default()).iter().any(|(_, log)| log == line) {
            assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {line:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for container in self.containers.list().unwrap_or_default() {
            drop(self.containers.remove(container, true));
        }
    }
}

fn sh(script: &str) -> ExecOptions {
    ExecOptions { command: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecOptions::default() }
}

pub(crate) fn foreground() {
    let world = World::new();
    let (code, out, err) =
        world.run(world.options("echo out; echo err >&2; hostname; echo $HOSTNAME; echo x > /made; exit 5"));
    assert_eq!((code, &err[..]), (5, "err\n"));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0] == "out" && lines[1].len() == 12 && lines[1] == lines[2], "{out}");
    let mut all = world.containers.list().unwrap();
    assert_eq!(all.len(), 1);
    let container = all.remove(0);
    assert!(matches!(&container.state, State::Exited(ended) if ended.code == 5), "{:?}", container.state);
    assert!(container.upper().join("made").exists());
    assert!(world.logs(&container, &LogOptions::default()).contains(&(Stream::Stderr, "err\n".to_owned())));
    // Started again, with what it left.
    let mut attached = world.containers.start(container, None).unwrap();
    attached.pump(&mut std::io::sink(), &mut std::io::sink()).unwrap();
    assert_eq!(attached.finish().unwrap().code, 5);
    let container = world.containers.list().unwrap().remove(0);
    assert_eq!(world.logs(&container, &LogOptions { tail: Some(2), ..LogOptions::default() }).len(), 2);
    world.containers.remove(container, false).unwrap();
    assert!(world.containers.list().unwrap().is_empty());
    // One that goes by itself leaves nothing.
    let mut options = world.options("exit 3");
    options.auto_remove = true;
    assert_eq!(world.run(options).0, 3);
    assert!(world.containers.list().unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(world.dir.path().join("store/containers")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".lock"), "{left:?}");
    // Memory that runs out is told.
    let mut options = world.options("x=a; while true; do x=$x$x; done");
    options.limits = Limits { memory: Some(16 << 20), ..Limits::default() };
    world.run(options);
    let container = world.containers.list().unwrap().remove(0);
    assert!(matches!(&container.state, State::Exited(ended) if ended.oom_killed && ended.code == 137));
    assert_eq!(world.containers.inspect(&container)["State"]["OOMKilled"], true);
}

pub(crate) fn detached() {
    let world = World::new();
    let mut options = world.options("trap 'echo bye; exit 7' TERM; echo hello; while true; do sleep 0.05; done");
    options.name = Some("web".to_owned());
    let container = world.create(options);
    assert_eq!(container.state, State::Created);
    world.containers.start_detached(&container).unwrap();
    let mut container = world.containers.find("web").unwrap();
    assert!(matches!(container.state, State::Running(_)), "{:?}", container.state);
    assert!(matches!(world.containers.start(container.clone(), None), Err(ContainerError::State { .. })));
    assert!(matches!(world.containers.remove(container.clone(), false), Err(ContainerError::State { .. })));
    let inspected = world.containers.inspect(&container);
    assert!(inspected["State"]["Pid"].as_i64().unwrap() > 0 && inspected["Name"] == "/web", "{inspected}");
    // A follower sees the end.
    let follower = {
        let (containers, container) = (world.containers.clone(), container.clone());
        std::thread::spawn(move || {
            let mut text = String::new();
            let options = LogOptions { follow: true, ..LogOptions::default() };
            let mut each = |entry: lap_executor::container::LogEntry| {
                text.push_str(&entry.log);
                Ok(())
            };
            containers.logs(&container, &options, &mut each).unwrap();
            text
        })
    };
    world.wait_for_log(&container, "hello\n");
    world.containers.stop(&mut container, None).unwrap();
    assert!(matches!(&container.state, State::Exited(ended) if ended.code == 7), "{:?}", container.state);
    assert_eq!(follower.join().unwrap(), "hello\nbye\n");
    // One that ignores the signal is killed in the end.
    world.containers.remove(container, false).unwrap();
    let mut container = world.create(world.options("trap '' TERM; while true; do sleep 1; done"));
    world.containers.start_detached(&container).unwrap();
    container.refresh().unwrap();
    world.containers.stop(&mut container, Some(Duration::from_millis(50))).unwrap();
    assert!(matches!(&container.state, State::Exited(ended) if ended.code == 137), "{:?}", container.state);
    // A reaping init passes the signal on.
    let mut options = world.options("trap 'exit 9' TERM; echo ready; while true; do sleep 0.05; done");
    options.init = true;
    let mut container = world.create(options);
    world.containers.start_detached(&container).unwrap();
    container.refresh().unwrap();
    world.wait_for_log(&container, "ready\n");
    world.containers.stop(&mut container, None).unwrap();
    assert!(matches!(&container.state, State::Exited(ended) if ended.code == 9), "{:?}", container.state);
    world.containers.remove(container, false).unwrap();
    // By force, and one that goes by itself.
    for auto_remove in [false, true] {
        let mut options = world.options("while true; do sleep 1; done");
        options.auto_remove = auto_remove;
        let mut container = world.create(options);
        world.containers.start_detached(&container).unwrap();
        container.refresh().unwrap();
        if auto_remove {
            world.containers.kill(&mut container, 9).unwrap();
        } else {
            world.containers.remove(container, true).unwrap();
        }
    }
    assert_eq!(world.containers.list().unwrap().len(), 1);
}

pub(crate) fn exec() {
    let world = World::new();
    let mut options = world.options("sleep 1000");
    options.env.push("GREETING=hello".to_owned());
    options.limits.pids = Some(50);
    let mut container = world.create(options);
    world.containers.start_detached(&container).unwrap();
    container.refresh().unwrap();
    let (code, out, _) = world.exec(&container, sh("echo $GREETING; hostname; cat /proc/1/cmdline; pwd; exit 4"));
    assert_eq!(code, 4);
    assert!(out.starts_with(&format!("hello\n{}\n", &container.id()[..12])) && out.contains("sleep"), "{out}");
    // The same walls.
    let (_, out, err) =
        world.exec(&container, sh("cat /proc/self/status; mount -t tmpfs x /tmp; ls -l /proc/self/fd >&2"));
    let caps = super::caps_of(&out);
    assert!(caps.contains(&("CapBnd".to_owned(), "00000000a80425fb".to_owned())), "{out}");
    assert!(caps.contains(&("Seccomp".to_owned(), "2".to_owned())) && err.contains("ermission denied"), "{out} {err}");
    assert_eq!(err.lines().filter(|line| line.contains(" -> ")).count(), 3, "{err}");
    let (_, out, _) = world.exec(&container, sh("for n in mnt pid net uts ipc cgroup; do [ $(/bin/busybox readlink /proc/1/ns/$n) = $(/bin/busybox readlink /proc/self/ns/$n) ] || echo $n; done; cat /proc/self/cgroup"));
    assert!(out.contains("pids:/\n") && !out.starts_with("mnt"), "{out}");
    let user = ExecOptions {
        user: Some("ada".to_owned()),
        working_dir: Some("/tmp".to_owned()),
        ..sh("id -u; pwd; echo $HOME")
    };
    assert_eq!(world.exec(&container, user).1, "1000\n/tmp\n/home/ada\n");
    for (command, code) in [("nosuch", 127), ("/etc/passwd", 126)] {
        let options = ExecOptions { command: vec![command.to_owned()], ..ExecOptions::default() };
        assert_eq!(world.containers.exec(&container, options).unwrap_err().exit_code(), code);
    }
    for number in 0..32 {
        let options = ExecOptions { working_dir: Some(format!("/proc/self/fd/{number}")), ..sh("true") };
        assert!(world.containers.exec(&container, options).is_err());
    }
    // A daemon it leaves holds the pipe, and nobody waits for it.
    let begun = Instant::now();
    let (code, out, _) = world.exec(&container, sh("sleep 100 & echo left"));
    assert_eq!((code, &out[..]), (0, "left\n"));
    assert!(begun.elapsed() < Duration::from_secs(60));
    // Dropping it kills the command.
    let running = world.containers.exec(&container, sh("exec sleep 4711")).unwrap();
    drop(running);
    let runs = || world.exec(&container, sh("/bin/busybox ps")).1.contains("4711");
    let begun = Instant::now();
    while runs() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it was not killed");
    }
    // A terminal.
    let options = ExecOptions { tty: true, size: Some((90, 20)), ..sh("/bin/busybox tty; /bin/busybox stty size") };
    let (_, out, _) = world.exec(&container, options);
    assert!(out.starts_with("/dev/pts/") && out.ends_with("20 90\r\n"), "{out}");
    // Input.
    let mut running = world.containers.exec(&container, ExecOptions { interactive: true, ..sh("cat") }).unwrap();
    let input = running.take_input().unwrap().unwrap();
    std::io::Write::write_all(&mut std::fs::File::from(input), b"typed").unwrap();
    let mut out = Vec::new();
    running.pump(&mut out, &mut std::io::sink()).unwrap();
    assert_eq!(out, b"typed");
    world.containers.stop(&mut container, Some(Duration::ZERO)).unwrap();
    assert!(matches!(world.containers.exec(&container, sh("true")), Err(ContainerError::State { .. })));
    world.containers.remove(container, false).unwrap();
}

pub(crate) fn names_and_removal() {
    let world = World::new();
    let named = |name: &str| CreateOptions { name: Some(name.to_owned()), ..world.options("true") };
    let one = world.create(named("one"));
    assert!(matches!(world.containers.create(named("one")), Err(ContainerError::NameTaken { .. })));
    assert_eq!(world.containers.find(&one.id()[..10]).unwrap().id(), one.id());
    assert_eq!(world.containers.find("/one").unwrap().id(), one.id());
    assert!(matches!(world.containers.find("two"), Err(ContainerError::NotFound { .. })));
    assert!(matches!(world.containers.find(""), Err(ContainerError::NotFound { .. })));
    world.containers.remove(one, false).unwrap();
    world.create(named("one"));
    // Many at once: names stay unique.
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| world.containers.create(named("same")).is_ok())).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    });
    assert_eq!(made, 1);
}

pub(crate) fn failures() {
    let world = World::new();
    for (command, code) in [("nosuch", 127), ("/etc/passwd", 126)] {
        let options = || CreateOptions { command: vec![command.to_owned()], ..world.options("") };
        let error = world.containers.start(world.create(options()), None).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        let container = world.create(options());
        let error = world.containers.start_detached(&container).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        let container = world.containers.find(container.id()).unwrap();
        assert!(matches!(&container.state, State::Exited(ended) if ended.code == code && ended.error.is_some()));
    }
    let mut options = world.options("true");
    options.user = Some("nobody-here".to_owned());
    options.auto_remove = true;
    let before = world.containers.list().unwrap().len();
    assert_eq!(world.containers.start(world.create(options), None).unwrap_err().exit_code(), 125);
    assert_eq!(world.containers.list().unwrap().len(), before);
}

pub(crate) fn volumes_and_files() {
    let world = World::new();
    let host: PathBuf = world.dir.path().join("host");
    let mut options = world.options("echo a > /data/file; echo b > /h/new/file; cat /etc/hostname /etc/resolv.conf; /bin/busybox grep extra /etc/hosts; echo more >> /etc/hosts; echo x > /ro/f || echo refused");
    options.volumes = vec![
        Volume::parse("data:/data").unwrap(),
        Volume::parse(&format!("{}:/h/new", host.display())).unwrap(),
        Volume::parse(&format!("{}:/ro:ro", host.display())).unwrap(),
    ];
    options.hostname = Some("box".to_owned());
    options.extra_hosts = vec![("extra".to_owned(), "192.0.2.9".to_owned())];
    let (code, out, err) = world.run(options);
    assert_eq!((code, &out[..]), (0, "box\n192.0.2.9\textra\nrefused\n"), "{err}");
    assert_eq!(std::fs::read_to_string(host.join("file")).unwrap(), "b\n");
    let mut options = world.options("cat /data/file");
    options.volumes = vec![Volume::parse("data:/data:ro").unwrap()];
    assert_eq!(world.run(options).1, "a\n");
}

pub(crate) fn terminal() {
    let world = World::new();
    let mut options = world.options("/bin/busybox tty; cat; echo end");
    (options.tty, options.interactive) = (true, true);
    let mut attached = world.containers.start(world.create(options), Some((81, 25))).unwrap();
    attached.running.resize(100, 40).unwrap();
    let input = attached.running.take_input().unwrap().unwrap();
    std::io::Write::write_all(&mut std::fs::File::from(input), b"line\n\x04").unwrap();
    let mut out = Vec::new();
    attached.pump(&mut out, &mut std::io::sink()).unwrap();
    let text = String::from_utf8(out).unwrap();
    // The echo of what was typed may come first.
    assert!(
        text.contains("/dev/pts/0\r\n") && text.matches("line\r\n").count() == 2 && text.ends_with("end\r\n"),
        "{text}"
    );
    assert_eq!(attached.finish().unwrap().code, 0);
}

pub(crate) fn dead_watcher() {
    let world = World::new();
    let mut container = world.create(world.options("while true; do sleep 1; done"));
    world.containers.start_detached(&container).unwrap();
    container.refresh().unwrap();
    let State::Running(live) = container.state.clone() else { panic!("{:?}", container.state) };
    let watcher = rustix::process::Pid::from_raw(live.supervisor.pid).unwrap();
    rustix::process::kill_process(watcher, rustix::process::Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    // The container lives on, and can be entered and stopped.
    container.refresh().unwrap();
    assert!(matches!(container.state, State::Running(_)), "{:?}", container.state);
    assert_eq!(world.exec(&container, sh("echo here")).1, "here\n");
    world.containers.stop(&mut container, Some(Duration::from_millis(10))).unwrap();
    assert!(matches!(&container.state, State::Exited(ended) if ended.code == 255), "{:?}", container.state);
    for dir in live.control_groups {
        assert!(!dir.exists(), "{}", dir.display());
    }
    world.containers.remove(container, false).unwrap();
}

pub(crate) fn network() {
    let world = World::new();
    let mut options = world.options("/bin/busybox ip -4 addr show eth0; /bin/busybox ip route; /bin/busybox ping -c 1 -W 2 $(/bin/busybox ip route | /bin/busybox awk '/default/ {print $3}')");
    options.network = NetworkMode::Default;
    let (code, out, err) = world.run(options);
    assert!(
        code == 0 && out.contains("inet ") && out.contains("default via") && out.contains("1 packets received"),
        "{out}{err}"
    );
    let mut container = world.create(CreateOptions { network: NetworkMode::Default, ..world.options("sleep 100") });
    world.containers.start_detached(&container).unwrap();
    container.refresh().unwrap();
    let address = world.containers.inspect(&container)["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    assert!(world.exec(&container, sh("/bin/busybox ip -4 addr show eth0")).1.contains(&address));
    world.containers.remove(container, true).unwrap();
}

//! The same as an unprivileged user, in a user namespace.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lap_cache::store::{Mode, Store};
use lap_executor::container::{Containers, CreateOptions, ExecOptions, NetworkMode, State};
use lap_executor::sandbox::{self, Limits, Rootfs, Spec, Stdio};
use lap_executor::userns::{self, Entered};

/// Runs [`inside`] as user 65534 of the machine with that one id.
pub(crate) fn single_id() {
    as_user("");
}

/// The same with ranges, granted by files that only this test sees.
pub(crate) fn ranges() {
    if !Path::new("/usr/bin/newuidmap").exists() {
        println!("SKIPPED: ranges need newuidmap (Debian package uidmap)");
        return;
    }
    as_user(
        "for f in subuid subgid; do touch /etc/$f; echo 65534:200000:65536 > \"$1/$f\"; mount --bind \"$1/$f\" /etc/$f; done; ",
    );
}

/// Runs [`inside`] twice: two processes of one user, the second of which finds the container of the first.
fn as_user(prepare: &str) {
    let image = super::Image::new();
    let dir = tempfile::Builder::new().prefix("rootless").tempdir_in("/var/tmp").unwrap();
    let tar = dir.path().join("image.tar");
    let made = Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&tar)
        .arg("-C")
        .arg(image.path("lower"))
        .arg(".")
        .status();
    assert!(made.unwrap().success());
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [dir.path().to_path_buf(), tar] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let script =
        format!("{prepare} exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$1/program\" \"--rootless=$1\"");
    for _ in 0..2 {
        let output = Command::new("unshare").args(["-m", "sh", "-ec", &script, "sh"]).arg(dir.path()).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if text.contains("SKIPPED") {
            println!("{text}");
            return;
        }
        assert!(output.status.success() && text.ends_with("rootless ok\n"), "{text}");
        let expected = if prepare.is_empty() { "SingleId" } else { "Ranges" };
        assert!(text.contains(expected), "{text}");
    }
}

/// What the unprivileged process does.
pub(crate) fn inside(dir: &Path) {
    let run_dir = dir.join("run");
    let entered = match userns::enter(&run_dir) {
        Ok(entered) => entered,
        Err(error) => {
            println!("SKIPPED: no user namespaces here: {error}: {:?}", std::error::Error::source(&error));
            return;
        }
    };
    assert_ne!(entered, Entered::Root);
    assert!(rustix::process::geteuid().is_root());
    println!("{entered:?}");
    if dir.join("store").exists() {
        second(dir, &run_dir);
    } else {
        first(dir, &run_dir, &entered);
    }
    println!("rootless ok");
}

/// Finds what the first process left running, enters it and ends it.
fn second(dir: &Path, run_dir: &Path) {
    let containers = Containers::new(Store::open(&dir.join("store"), Mode::User).unwrap(), run_dir);
    let mut container = containers.find("kept").unwrap();
    assert!(matches!(container.state, State::Running(_)), "{:?}", container.state);
    let command = ["sh", "-c", "echo $GREETING; id -u"].map(str::to_owned).to_vec();
    let mut running = containers.exec(&container, ExecOptions { command, ..ExecOptions::default() }).unwrap();
    let mut out = Vec::new();
    running.pump(&mut out, &mut std::io::stderr()).unwrap();
    assert_eq!(String::from_utf8_lossy(&out), "hello\n0\n");
    assert_eq!(running.wait().unwrap().code, 0);
    containers.stop(&mut container, Some(Duration::from_millis(10))).unwrap();
    containers.remove(container, false).unwrap();
}

fn first(dir: &Path, run_dir: &Path, entered: &Entered) {
    let store = Store::open(&dir.join("store"), Mode::User).unwrap();
    let layer = store.unpack(std::fs::File::open(dir.join("image.tar")).unwrap(), None, &[]).unwrap().diff_id;
    walls(&store, layer, dir);

    let containers = Containers::new(store, run_dir);
    let options = |script: &str| CreateOptions {
        layers: vec![layer],
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned(), "GREETING=hello".to_owned()],
        network: NetworkMode::None,
        ..CreateOptions::default()
    };
    let kept = CreateOptions { name: Some("kept".to_owned()), ..options("sleep 100") };
    let container = containers.create(kept).unwrap();
    containers.start_detached(&container).unwrap();
    if *entered == Entered::Ranges {
        let user = CreateOptions { user: Some("ada".to_owned()), ..options("id -u; id -g") };
        let mut attached = containers.start(containers.create(user).unwrap(), None).unwrap();
        let mut out = Vec::new();
        attached.pump(&mut out, &mut std::io::stderr()).unwrap();
        assert_eq!(out, b"1000\n100\n");
        attached.finish().unwrap();
    }
}

fn walls(store: &Store, layer: lap_cache::digest::Digest, dir: &Path) {
    let upper = dir.join("upper");
    for name in ["upper", "work"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let spec = |script: &str| Spec {
        rootfs: Rootfs {
            lowers: store.overlay(&[layer], None).unwrap().lowers,
            upper: Some(upper.clone()),
            work: Some(dir.join("work")),
            ..Rootfs::default()
        },
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        stdio: Stdio::Pipes { stdin: false },
        ..Spec::default()
    };
    let script = "id -u; echo x > /dev/null && echo ok > /made; mkdir /d; rmdir /d; mkdir /d; rm -r /tmp; mkdir /tmp; \
                  mount -t tmpfs x /d; cat /proc/self/status; ls /sys/class/net";
    let done = super::run(spec(script));
    assert!(done.out.starts_with("0\n") && done.out.ends_with("lo\n"), "{} {}", done.out, done.err);
    assert!(done.err.contains("ermission denied"), "{}", done.err);
    let caps = super::caps_of(&done.out);
    assert!(caps.contains(&("CapBnd".to_owned(), "00000000a80425fb".to_owned())), "{caps:?}");
    assert!(upper.join("made").exists() && upper.join("d").exists());
    // The machine's network, where sysfs is the machine's too.
    let mut host = spec("echo up");
    host.network = sandbox::NetworkSetup::Host;
    assert_eq!(super::out(host), "up\n");
    // A limit that cannot be set is an error, not silence.
    let mut limited = spec("true");
    limited.limits = Limits { memory: Some(64 << 20), ..Limits::default() };
    assert!(matches!(sandbox::spawn(limited), Err(sandbox::SandboxError::Limit { .. })));
}

//! SSH agents in steps, and repositories over ssh.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Lap, Said, needs, run, wait_for};
use crate::web::Repository;

/// Makes a key pair without a passphrase; the private one's path.
fn key(lap: &Lap, name: &str, kind: &str) -> PathBuf {
    let path = lap.path(name);
    run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-C", name, "-f", path.to_str().unwrap()]).ok();
    path
}

/// Puts the machine's `ssh-add` into the context, with what it is linked to.
fn client(lap: &Lap) {
    let linked = run("ldd", &["/usr/bin/ssh-add"]).ok().out;
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain(["/usr/bin/ssh-add"]) {
        let to = lap.path("ctx/root").join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
}

/// `ssh-agent` in the foreground, with one key.
struct Agent(Child, PathBuf);

impl Agent {
    fn start(lap: &Lap, key: &Path) -> Self {
        let socket = lap.path("agent.socket");
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let agent = Self(command.spawn().unwrap(), socket.clone());
        wait_for("ssh-agent", || socket.exists());
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status().unwrap();
        assert!(added.success());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn keys_and_agents_are_for_the_steps_that_mount_them() {
    needs!(root);
    needs!("ssh-agent");
    needs!("ldd");
    let lap = Lap::new();
    let (one, two) = (key(&lap, "one", "ed25519"), key(&lap, "two", "rsa"));
    // Files of CI variables have such modes, and no last end of a line.
    let text = std::fs::read_to_string(&two).unwrap();
    std::fs::write(&two, text.trim_end()).unwrap();
    std::fs::set_permissions(&two, PermissionsExt::from_mode(0o644)).unwrap();
    client(&lap);
    std::fs::copy(lap.path("one.pub"), lap.path("ctx/root/one.pub")).unwrap();
    let dockerfile = |id: &str| {
        format!(
            "FROM busybox\nCOPY root /\nENV LD_LIBRARY_PATH=/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu\n\
             RUN --mount=type=ssh,id={id} ssh-add -l > /keys && ssh-add -T /one.pub && ! ssh-add -D 2> /refused \
             && ssh-add -l | cmp - /keys\n\
             RUN test -z \"$SSH_AUTH_SOCK\" && test ! -e /run/buildkit\n"
        )
    };
    let both = format!("both={},{}", one.display(), two.display());
    lap.build_with("app", &dockerfile("both"), &["--ssh", &both, "--ssh", &format!("x={}", two.display())]).ok();
    let keys = lap.sh("app", "cat /keys");
    assert!(keys.contains("one (ED25519)") && keys.contains("two (RSA)"), "{keys}");
    assert_eq!(lap.sh("app", "cat /refused"), "Failed to remove all identities.\n");

    // An agent of the user's, by its socket, and as the default one.
    let agent = Agent::start(&lap, &one);
    let socket = format!("sock={}", agent.1.display());
    lap.build_with("app", &dockerfile("sock"), &["--ssh", &socket]).ok();
    lap.write("ctx/Dockerfile", dockerfile("default"));
    let mut command = lap.command();
    command.env("SSH_AUTH_SOCK", &agent.1).args(["build", "-q", "-t", "app", "--ssh", "default", "ctx"]);
    assert!(command.output().unwrap().status.success());
    assert!(lap.sh("app", "cat /keys").contains("one (ED25519)"));

    // Nothing is left, and no key is kept.
    assert_eq!(std::fs::read_dir(lap.path("run/ssh")).unwrap().count(), 0);
    let running = run("pgrep", &["-f", &format!("ssh-agent -a {}", lap.path("run").display())]);
    assert_eq!(running.out, "");
    let kept = run("grep", &["-rlaF", text.lines().nth(3).unwrap(), lap.path("store").to_str().unwrap()]);
    assert_eq!(kept.out, "");
}

#[test]
fn agents_that_cannot_be_had_are_named() {
    needs!(root);
    needs!("ssh-agent");
    let lap = Lap::new();
    let one = key(&lap, "one", "ed25519").display().to_string();
    let locked = lap.path("locked").display().to_string();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "passphrase", "-f", &locked]).ok();
    lap.write("no", "no key");
    let agent = Agent::start(&lap, Path::new(&one));
    let socket = agent.1.display().to_string();
    let build = |dockerfile: &str, flags: &[&str]| {
        lap.write("ctx/Dockerfile", dockerfile);
        let mut command = lap.command();
        let output = command.env_remove("SSH_AUTH_SOCK").arg("build").args(flags).arg("ctx").output().unwrap();
        Said { code: output.status.code().unwrap(), out: String::new(), err: String::from_utf8(output.stderr).unwrap() }
    };
    for (flag, words) in [
        ("default", "no agent runs here: SSH_AUTH_SOCK is not set"),
        ("x=/nowhere", "cannot read /nowhere"),
        (&format!("x={locked}"), "is no ssh key that can be used"),
        ("x=no", "is no ssh key that can be used"),
        (&format!("x={one},{socket}"), "one id has one socket, or keys"),
    ] {
        let said = build("FROM busybox\nRUN true\n", &["--ssh", flag]).code(1);
        assert!(said.err.contains(words), "{flag}: {}", said.err);
    }
    let twice = format!("x={one}");
    assert!(build("FROM busybox\n", &["--ssh", &twice, "--ssh", &twice]).code(1).err.contains("given twice"));
    let required = "FROM busybox\nRUN --mount=type=ssh,id=x,required=true true\n";
    let said = build(required, &[]).code(1);
    assert!(
        said.err.contains("pass it with --ssh x=SOCKET or x=KEY") && said.err.contains("Dockerfile:2"),
        "{}",
        said.err
    );
    assert_eq!(build(required, &["--ssh", &twice]).code, 0);
    assert_eq!(build("FROM busybox\nRUN --mount=type=ssh,id=y test ! -e \"$SSH_AUTH_SOCK\"\n", &[]).code, 0);
    assert_eq!(std::fs::read_dir(lap.path("run/ssh")).unwrap().count(), 0);
}

/// Debian's sshd for one key, which may only fetch; one process a connection.
struct Sshd {
    port: u16,
}

impl Sshd {
    fn start(lap: &Lap, host_key: &Path, user_key: &Path) -> Self {
        Self::start_at(0, lap, host_key, user_key)
    }

    fn start_at(port: u16, lap: &Lap, host_key: &Path, user_key: &Path) -> Self {
        let dir = host_key.parent().unwrap();
        // A connection that is kept by nobody else may be looked at by sshd only where this exists.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let public = std::fs::read_to_string(user_key.with_extension("pub")).unwrap();
        let allowed = format!(
            "restrict,command=\"exec git -c safe.directory=* shell -c \\\"$SSH_ORIGINAL_COMMAND\\\"\" {public}"
        );
        let keys = lap.write("authorized_keys", allowed);
        let name = host_key.file_name().unwrap().to_str().unwrap();
        let config = dir.join(format!("{name}.config"));
        let text = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n\
             PermitRootLogin prohibit-password\nSetEnv PATH=/usr/local/bin:/usr/bin:/bin\n",
            host_key.display(),
            keys.display()
        );
        std::fs::write(&config, text).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let output: OwnedFd = stream.try_clone().unwrap().into();
                let mut command = Command::new("/usr/sbin/sshd");
                command.args(["-i", "-f"]).arg(&config).stdin(OwnedFd::from(stream)).stdout(output);
                let mut child = command.stderr(Stdio::null()).spawn().unwrap();
                std::thread::spawn(move || child.wait());
            }
        });
        Self { port }
    }

    fn url(&self, path: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, path.display())
    }
}

#[test]
fn addresses_as_scp_writes_them_go_to_the_usual_port() {
    needs!(root);
    needs!("git");
    needs!("ssh-agent");
    needs!("ip");
    if !Path::new("/usr/sbin/sshd").exists() {
        println!("SKIPPED {}: sshd is not installed", module_path!());
        return;
    }
    // Such an address has no port: port 22 of a network that only this thread and its children have.
    let alone = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        run("ip", &["link", "set", "lo", "up"]).ok();
        let lap = Lap::new();
        let (host, user) = (key(&lap, "host", "ed25519"), key(&lap, "user", "ed25519"));
        let repository = Repository::new(lap.path("git/r.git"));
        repository.write("sub/Dockerfile", "FROM busybox\nCOPY b /b\n");
        repository.write("sub/b", "below");
        repository.commit();
        repository.git(&["tag", "v1"]);
        let _sshd = Sshd::start_at(22, &lap, &host, &user);
        let public = std::fs::read_to_string(host.with_extension("pub")).unwrap();
        lap.write("home/.ssh/known_hosts", format!("127.0.0.1 {public}"));
        let agent = format!("default={}", user.display());
        let build = |context: &str| {
            let mut command = lap.command();
            command.env("HOME", lap.path("home")).env_remove("SSH_AUTH_SOCK");
            let output = command.args(["build", "-q", "-t", "app", "--ssh", &agent, context]).output().unwrap();
            assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let address = format!("root@127.0.0.1:{}", repository.0.display());
        build(&format!("{address}#v1:sub"));
        assert_eq!(lap.sh("app", "cat /b"), "below");
        lap.write("ctx/Dockerfile", format!("FROM busybox\nADD {address} /r/\nADD {address}?subdir=sub /s/\n"));
        build("ctx");
        assert_eq!(lap.sh("app", "cat /r/sub/b /s/b"), "belowbelow");
    };
    std::thread::scope(|scope| scope.spawn(alone).join().unwrap());
}

#[test]
fn a_repository_over_ssh_is_a_context_and_a_source() {
    needs!(root);
    needs!("git");
    needs!("ssh-agent");
    if !Path::new("/usr/sbin/sshd").exists() {
        println!("SKIPPED {}: sshd is not installed", module_path!());
        return;
    }
    let lap = Lap::new();
    let (host, other, user) =
        (key(&lap, "host", "ed25519"), key(&lap, "other", "ed25519"), key(&lap, "user", "ed25519"));
    let repository = Repository::new(lap.path("git/r"));
    repository.write("Dockerfile", "FROM busybox\nCOPY a /a\n");
    repository.write("a", "over ssh");
    repository.write("sub/Dockerfile", "FROM busybox\nCOPY b /b\n");
    repository.write("sub/b", "below");
    repository.commit();
    repository.git(&["tag", "v1"]);
    let sshd = Sshd::start(&lap, &host, &user);
    let url = sshd.url(&lap.path("git/r"));
    let agent = format!("default={}", user.display());
    let build = |home: &str, flags: &[&str]| {
        let mut command = lap.command();
        command.env("HOME", lap.path(home)).env_remove("SSH_AUTH_SOCK");
        let output = command.args(["build", "-q", "-t", "app"]).args(flags).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    };
    // The user knows the server by another key: nothing is fetched.
    let known = |home: &str, key: &Path| {
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        lap.write(&format!("{home}/.ssh/known_hosts"), format!("[127.0.0.1]:{} {public}", sshd.port));
    };
    known("wary", &other);
    let said = build("wary", &["--ssh", &agent, &url]).code(1);
    assert!(said.err.contains("cannot fetch the build context"), "{}", said.err);
    known("home", &host);
    build("home", &["--ssh", &agent, &url]).ok();
    assert_eq!(lap.sh("app", "cat /a"), "over ssh");
    for rest in ["#v1:sub", "?tag=v1&subdir=sub"] {
        build("home", &["--ssh", &agent, &format!("{url}{rest}")]).ok();
        assert_eq!(lap.sh("app", "cat /b"), "below", "{rest}");
    }
    let said = build("home", &[&format!("{url}#refs/heads/main")]).code(1);
    assert!(said.err.contains("Permission denied"), "{}", said.err);

    // Nobody knows the server: it is remembered, and another key is noticed.
    lap.write("ctx/Dockerfile", format!("FROM busybox\nADD {url} /r/\n"));
    build("nobody", &["--ssh", &agent, "ctx"]).ok();
    assert_eq!(lap.sh("app", "cat /r/a /r/sub/b"), "over sshbelow");
    let changed = lap.path("store/caches/git-known-hosts");
    let remembered = std::fs::read_to_string(&changed).unwrap();
    let (address, _) = remembered.split_once(' ').unwrap();
    let public = std::fs::read_to_string(other.with_extension("pub")).unwrap();
    std::fs::write(&changed, format!("{address} {public}")).unwrap();
    let said = build("nobody", &["--ssh", &agent, "--no-cache", "ctx"]).code(1);
    assert!(said.err.contains("Dockerfile:2"), "{}", said.err);
}

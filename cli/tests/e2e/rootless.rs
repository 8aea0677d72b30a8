//! The same commands as an unprivileged user, in a user namespace.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::support::{Said, busybox, needs, run};
use crate::web::{Daemon, Page, Repository, Web};

/// Somebody who is nobody on this machine.
const USER: u32 = 54_321;

/// A home directory with `lap` in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::set_permissions(home.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_lap"), home.path("lap")).unwrap();
        std::fs::copy(busybox(), home.path("busybox.tar")).unwrap();
        std::fs::create_dir(home.path("ctx")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn lap(&self, args: &[&str]) -> Said {
        for path in [self.0.path(), &self.path("ctx")] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
        let user = USER.to_string();
        let home = format!("HOME={}", self.0.path().display());
        let lap = self.path("lap").display().to_string();
        let mut all =
            vec!["--reuid", &user, "--regid", &user, "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin", &home, &lap];
        all.extend(args);
        run("setpriv", &all)
    }
}

#[test]
fn an_unprivileged_user_builds_and_runs() {
    needs!(root);
    needs!("setpriv");
    let home = Home::new();
    let tar = home.path("busybox.tar").display().to_string();
    let imported = home.lap(&["import", &tar, "busybox"]);
    if imported.err.contains("cannot enter a user namespace") {
        println!("SKIPPED rootless: {}", imported.err.lines().last().unwrap_or_default());
        return;
    }
    imported.ok();
    let dockerfile = "FROM busybox\nCOPY f /f\nRUN --network=none id -u > /id && rm -r /home && mkdir /home\nRUN --network=none cat /f >> /id\n";
    std::fs::write(home.path("ctx/Dockerfile"), dockerfile).unwrap();
    std::fs::write(home.path("ctx/f"), "file\n").unwrap();
    let context = home.path("ctx").display().to_string();
    home.lap(&["build", "-q", "-t", "app", &context]).ok();
    let again = home.lap(&["build", "--progress", "plain", &context]).ok();
    assert_eq!(again.err.matches("CACHED").count(), 3, "{}", again.err);

    assert_eq!(home.lap(&["run", "--rm", "--network", "none", "app", "cat", "/id"]).ok().out, "0\nfile\n");
    home.lap(&["run", "--rm", "--network", "none", "app", "sh", "-c", "exit 7"]).code(7);
    home.lap(&["run", "-d", "--name", "one", "--network", "none", "app", "sleep", "1000"]).ok();
    assert_eq!(home.lap(&["exec", "one", "cat", "/f"]).ok().out, "file\n");
    home.lap(&["stop", "-t", "0", "one"]).ok();
    home.lap(&["rm", "one"]).ok();

    let archive = home.path("app.tar").display().to_string();
    home.lap(&["save", "-o", &archive, "app"]).ok();
    assert!(Path::new(&archive).metadata().unwrap().len() > 100_000);
    // What the user's namespace made, the user can remove.
    home.lap(&["rmi", "app", "busybox"]).ok();
}

#[test]
fn a_limit_that_cannot_be_set_is_refused() {
    needs!(root);
    needs!("setpriv");
    let home = Home::new();
    let tar = home.path("busybox.tar").display().to_string();
    let imported = home.lap(&["import", &tar, "busybox"]);
    if imported.code != 0 {
        println!("SKIPPED rootless limits: {}", imported.err.lines().last().unwrap_or_default());
        return;
    }
    let said = home.lap(&["run", "--rm", "--network", "none", "--memory", "32m", "busybox", "true"]);
    // Control groups may be delegated to whoever asks; then the limit holds.
    if said.code != 0 {
        assert_eq!(said.code, 125);
        assert!(said.err.contains("cannot limit memory"), "{}", said.err);
    }
    std::fs::write(home.path("ctx/Dockerfile"), "FROM busybox\nRUN --network=none true\n").unwrap();
    let context = home.path("ctx").display().to_string();
    let said = home.lap(&["build", "--resource", "memory=32m,cpu-quota=50000", &context]);
    if said.code != 0 {
        assert_eq!(said.code, 1);
        assert!(said.err.contains("cannot limit ") && said.err.contains("limits need root"), "{}", said.err);
    }
    // What nobody asked for may be missing.
    home.lap(&["build", "-q", &context]).ok();
}

#[test]
fn an_unprivileged_user_adds_from_elsewhere() {
    needs!(root);
    needs!("setpriv");
    needs!("git");
    let (home, web) = (Home::new(), Web::start());
    let served = tempfile::tempdir().unwrap();
    let repository = Repository::new(served.path().join("r"));
    repository.write("g", "git");
    repository.commit();
    let daemon = Daemon::start(served.path());
    let url = web.page("/u", Page::new("url"));
    let dockerfile = format!("FROM scratch\nADD {url} {}/r?keep-git-dir=1 /\nCOPY Dockerfile /\n", daemon.url);
    let file = web.page("/Dockerfile", Page::new(dockerfile));
    let out = home.path("ctx/out").display().to_string();
    let built = home.lap(&["build", "-q", "-o", &out, &file]);
    if built.err.contains("cannot enter a user namespace") {
        println!("SKIPPED rootless: {}", built.err.lines().last().unwrap_or_default());
        return;
    }
    built.ok();
    for (name, text) in [("u", "url"), ("g", "git")] {
        assert_eq!(std::fs::read_to_string(home.path("ctx/out").join(name)).unwrap(), text);
    }
    assert!(home.path("ctx/out/.git/HEAD").exists());
}

#[test]
fn an_unprivileged_user_builds_and_runs_for_another_platform() {
    needs!(root);
    needs!("setpriv");
    needs!("qemu-aarch64-static");
    let Some(base) = crate::platforms::arm64() else { return };
    let home = Home::new();
    std::fs::copy(base, home.path("ctx/arm64.tar")).unwrap();
    let dockerfile = "FROM scratch\nADD arm64.tar /\nRUN --network=none uname -m > /machine && id -u >> /machine\n";
    std::fs::write(home.path("ctx/Dockerfile"), dockerfile).unwrap();
    let context = home.path("ctx").display().to_string();
    let built = home.lap(&["build", "-q", "--platform", "linux/arm64", "-t", "arm", &context]);
    if built.err.contains("cannot enter a user namespace") {
        println!("SKIPPED rootless: {}", built.err.lines().last().unwrap_or_default());
        return;
    }
    built.ok();
    let script = "cat /machine; uname -m";
    let run = ["run", "--rm", "--network", "none", "--platform", "linux/arm64", "arm", "sh", "-c", script];
    assert_eq!(home.lap(&run).ok().out, "aarch64\n0\naarch64\n");
}

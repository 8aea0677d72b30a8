//! `push` and `pull` against Debian's docker-registry.

use crate::support::{Lap, Registry, needs, run};

#[test]
fn what_is_pushed_is_pulled_and_skopeo_agrees() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let name = format!("{}/team/app:1", registry.address);
    let lap = Lap::new();
    lap.build(&name, "FROM busybox\nRUN echo one > /one\nRUN echo two > /two && rm /one\nCMD cat /two\n").ok();
    let pushed = lap.run(&["push", &name]).ok();
    let digest = lap.run(&["inspect", &name]).ok().json()[0]["Descriptor"]["digest"].as_str().unwrap().to_owned();
    assert!(pushed.out.contains(&digest), "{}", pushed.out);
    let theirs = run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok().json();
    assert_eq!(theirs["Digest"], digest);

    let other = Lap::empty();
    other.run(&["pull", &name]).ok();
    assert_eq!(other.run(&["run", "--rm", "--network", "none", &name]).ok().out, "two\n");
    other.run(&["rmi", &name]).ok();
    other.run(&["pull", &format!("{}/team/app@{digest}", registry.address)]).ok();
    let missing = other.run(&["pull", &format!("{}/team/app:none", registry.address)]).code(1);
    assert!(missing.err.contains("team/app:none"), "{}", missing.err);

    let again = lap.run(&["push", "--progress", "plain", &name]).ok();
    assert!(!again.err.contains("pushing"), "nothing is sent twice: {}", again.err);
}

#[test]
fn a_base_image_comes_from_the_registry() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let name = format!("{}/base:1", registry.address);
    let lap = Lap::new();
    lap.run(&["save", "-o", "b.tar", "busybox"]).ok();
    let archive = format!("docker-archive:{}", lap.path("b.tar").display());
    run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &archive, &format!("docker://{name}")]).ok();

    let other = Lap::empty();
    other.build("app", &format!("FROM {name}\nRUN echo built > /built\n")).ok();
    assert_eq!(other.sh("app", "cat /built"), "built\n");
    let mirrored = Lap::empty();
    let mirror = format!("docker.io=http://{}", registry.address);
    run(
        "skopeo",
        &["copy", "-q", "--dest-tls-verify=false", &archive, &format!("docker://{}/library/box:1", registry.address)],
    )
    .ok();
    mirrored.build_with("app", "FROM box:1\nRUN true\n", &["--registry-mirror", &mirror]).ok();
    assert!(mirrored.run(&["run", "--rm", "--network", "none", &name, "true"]).code == 0, "run pulls what is missing");
}

#[test]
fn podmans_registries_conf_holds() {
    needs!(root);
    needs!("docker-registry");
    needs!("podman");
    let (mirror, inner) = (Registry::start(), Registry::start());
    let lap = Lap::new();
    for name in [format!("{}/hub/library/box:1", mirror.address), format!("{}/moved/app:1", inner.address)] {
        lap.run(&["tag", "busybox", &name]).ok();
        lap.run(&["push", &name]).ok();
    }
    let config = format!(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\ninsecure = true\n\
         [[registry]]\nprefix = \"apps.invalid/team\"\nlocation = \"{}/moved\"\ninsecure = true\n\
         [[registry]]\nlocation = \"closed.invalid\"\nblocked = true\n",
        mirror.address, inner.address
    );
    let file = lap.write("registries.conf", config);
    let other = Lap::empty();
    let said = |lap: &Lap, args: &[&str]| {
        let output = lap.command().env("CONTAINERS_REGISTRIES_CONF", &file).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(said(&other, &["pull", "box:1"]).0, Some(0), "a mirror below a path");
    assert_eq!(said(&other, &["pull", "apps.invalid/team/app:1"]).0, Some(0), "a registry that moved");
    // Podman reads the same file in the same way.
    let store = other.path("podman");
    let podman = |args: &[&str]| {
        let root = [store.join("root"), store.join("run")];
        let mut command = std::process::Command::new("podman");
        command.arg("--root").arg(&root[0]).arg("--runroot").arg(&root[1]).args(["--storage-driver", "vfs"]);
        command.env("CONTAINERS_REGISTRIES_CONF", &file).args(args).output().unwrap().status.success()
    };
    assert!(podman(&["pull", "-q", "docker.io/library/box:1"]) && podman(&["pull", "-q", "apps.invalid/team/app:1"]));
    // What is pushed goes where the registry is now.
    lap.run(&["tag", "busybox", "apps.invalid/team/new:1"]).ok();
    assert_eq!(said(&lap, &["push", "apps.invalid/team/new:1"]).0, Some(0));
    other.run(&["pull", &format!("{}/moved/new:1", inner.address)]).ok();
    for act in ["pull", "push"] {
        lap.run(&["tag", "busybox", "closed.invalid/x:1"]).ok();
        let (code, error) = said(&lap, &[act, "closed.invalid/x:1"]);
        assert!(code == Some(1) && error.contains("closed.invalid is blocked"), "{act}: {error}");
    }
    std::fs::write(&file, "[[registry]]\n").unwrap();
    let (code, error) = said(&lap, &["pull", "box:1"]);
    assert!(code == Some(1) && error.contains("registries.conf is broken"), "{error}");
}

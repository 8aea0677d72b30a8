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

//! What takes space, and giving it back.

use std::process::{Child, Stdio};

use crate::support::{Lap, Said, needs, wait_for};

const DOCKERFILE: &str = "\
FROM busybox
RUN head -c 300000 /dev/urandom > /one
RUN head -c 300000 /dev/urandom > /two
RUN --mount=type=cache,id=stuff,target=/cache head -c 200000 /dev/urandom > /cache/file
";

/// Parts of the cache, as `lap du --format json` tells them.
fn parts(lap: &Lap) -> Vec<serde_json::Value> {
    lap.run(&["du", "--format", "json"]).ok().out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Bytes of cache that no image has too.
fn private(lap: &Lap) -> u64 {
    parts(lap).iter().filter(|part| part["Shared"] == false).map(|part| part["Size"].as_u64().unwrap()).sum()
}

fn layers(lap: &Lap) -> usize {
    std::fs::read_dir(lap.path("store/layers")).unwrap().count()
}

#[test]
fn the_cache_is_shown_and_pruned_as_docker_does_it() {
    needs!(root);
    let lap = Lap::new();
    lap.build("app", DOCKERFILE).ok();
    let du = lap.run(&["du"]).ok().out;
    assert!(du.starts_with("ID "), "{du}");
    assert!(du.contains("RECLAIMABLE") && du.contains("LAST ACCESSED") && du.contains("\nTotal:"), "{du}");
    let verbose = lap.run(&["builder", "du", "--verbose", "--filter", "type=exec.cachemount"]).ok().out;
    assert!(verbose.contains("Description:   cached mount /stuff"), "{verbose}");
    assert!(verbose.contains("Mutable:       true") && verbose.contains("Type:          exec.cachemount"), "{verbose}");
    assert!(parts(&lap).iter().any(|part| part["Shared"] == true), "the image has the layers too");

    let df = lap.run(&["system", "df"]).ok().out;
    let kinds: Vec<&str> = df.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(kinds, ["TYPE", "Images", "Containers", "Local Volumes", "Build Cache"], "{df}");
    let all = lap.run(&["system", "df", "-v"]).ok().out;
    for title in ["Images space usage:", "Containers space usage:", "Local Volumes space usage:", "Build cache usage:"]
    {
        assert!(all.contains(title), "{all}");
    }

    // Whoever does not say yes has said no.
    let asked = lap.run_with(&["builder", "prune"], b"n\n").ok().out;
    assert!(asked.contains("remove all dangling build cache. Are you sure you want to continue? [y/N]"), "{asked}");
    assert!(!asked.contains("Total"), "{asked}");
    let pruned = lap.run_with(&["builder", "prune", "--filter", "type=exec.cachemount"], b"y\n").ok().out;
    assert!(
        pruned.contains("Deleted build cache objects:\n") && pruned.contains("Total reclaimed space: 2"),
        "{pruned}"
    );
    assert!(lap.run(&["prune", "-f", "--filter", "colour=red"]).code(1).err.contains("no such filter"), "refused");
    assert_eq!(layers(&lap), 3, "images keep their layers");

    lap.run(&["rmi", "app"]).ok();
    let young = lap.run(&["prune", "-f", "--filter", "until=1h"]).ok().out;
    assert!(young.contains("Total:  0B"), "{young}");
    let capped = lap.run(&["builder", "prune", "-f", "--max-used-space", "400k"]).ok().out;
    assert!(capped.contains("Total reclaimed space: "), "{capped}");
    assert!(private(&lap) <= 400 * 1024, "{}", private(&lap));
    lap.run(&["builder", "prune", "-af"]).ok();
    assert_eq!((layers(&lap), private(&lap)), (1, 0), "the base image is left");
    assert_eq!(lap.sh("busybox", "echo fine"), "fine\n");
    lap.build("app", DOCKERFILE).ok();
}

#[test]
fn images_and_containers_are_pruned() {
    needs!(root);
    let lap = Lap::new();
    lap.build("app", "FROM busybox\nLABEL keep=1\nRUN head -c 100000 /dev/urandom > /file\n").ok();
    lap.build("app", "FROM busybox\nRUN head -c 100000 /dev/urandom > /file; echo 2\n").ok();
    lap.run(&["run", "--name", "ended", "app", "sh", "-c", "head -c 50000 /dev/urandom > /x"]).ok();
    let ids = |said: &Said| said.out.lines().count();
    assert_eq!(ids(&lap.run(&["images", "-q"]).ok()), 3);
    let kept = lap.run(&["image", "prune", "-f", "--filter", "label!=keep=1"]).ok().out;
    assert_eq!(kept, "Total reclaimed space: 0B\n");
    let gone = lap.run(&["image", "prune", "-f"]).ok().out;
    assert!(
        gone.starts_with("Deleted Images:\ndeleted: sha256:") && gone.contains("\nTotal reclaimed space: "),
        "{gone}"
    );
    let gone = lap.run(&["image", "prune", "-af"]).ok().out;
    assert!(gone.contains("untagged: busybox:latest") && !gone.contains("app"), "a container is of it: {gone}");
    let gone = lap.run_with(&["container", "prune"], b"y\n").ok().out;
    assert!(gone.contains("WARNING! This will remove all stopped containers.\n"), "{gone}");
    assert!(gone.contains("Deleted Containers:\n") && gone.contains("Total reclaimed space: 5"), "{gone}");
    let gone = lap.run_with(&["system", "prune", "-a"], b"Y\n").ok().out;
    assert!(gone.contains("  - all stopped containers\n") && gone.contains("untagged: app:latest\n"), "{gone}");
    assert_eq!((ids(&lap.run(&["images", "-q"]).ok()), layers(&lap)), (0, 0));
}

#[test]
fn a_build_keeps_the_cache_below_its_cap() {
    needs!(root);
    let lap = Lap::new();
    let cap = 700_000;
    for round in 0..5 {
        let text = format!("FROM busybox\nRUN head -c 250000 /dev/urandom > /file; echo {round}\n");
        lap.write("ctx/Dockerfile", text);
        let mut command = lap.command();
        command.args(["build", "-q", "ctx"]).env("LAP_GC_MAX_USED_SPACE", cap.to_string());
        command.env("LAP_GC_MIN_FREE_SPACE", "0");
        assert!(command.output().unwrap().status.success());
        // Images without a name are cache: they do not add up.
        let mut sizes: Vec<u64> = parts(&lap).iter().map(|part| part["Size"].as_u64().unwrap()).collect();
        sizes.sort_unstable();
        // The biggest is the base image's layer.
        let used: u64 = sizes[..sizes.len() - 1].iter().sum();
        assert!(used <= cap, "round {round}: {used}");
    }
    assert_eq!(lap.sh("busybox", "echo fine"), "fine\n", "an image with a name is none");
}

/// A command in the background, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_running_build_loses_nothing_to_a_prune() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN echo 1 > /one\nRUN echo 2 > /two; while ! cat /go/go; do sleep 1; done\nRUN cat /one /two > /both\n");
    lap.write("go/nothing", "");
    let text = std::fs::read_to_string(lap.path("ctx/Dockerfile")).unwrap();
    lap.write("ctx/Dockerfile", text.replace("RUN echo 2", "RUN --mount=type=cache,id=go,target=/go echo 2"));
    let child =
        lap.command().args(["build", "-q", "-t", "app", "ctx"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut build = Running(child.unwrap());
    let mount =
        || std::fs::read_dir(lap.path("store/caches")).ok()?.flatten().next().map(|shelf| shelf.path().join("0"));
    wait_for("the second step", || layers(&lap) == 2 && mount().is_some_and(|mount| mount.exists()));
    for _ in 0..5 {
        lap.run(&["system", "prune", "-af"]).ok();
    }
    assert_eq!(layers(&lap), 2, "the base, without a name now, and the first step's");
    wait_for("the cache mount", || mount().is_some_and(|mount| mount.exists()));
    std::fs::write(mount().unwrap().join("go"), "").unwrap();
    assert!(build.0.wait().unwrap().success());
    assert_eq!(lap.sh("app", "cat /both"), "1\n2\n");
}

#[test]
fn a_prune_that_is_killed_leaves_a_store_that_works() {
    needs!(root);
    let lap = Lap::new();
    let text = "FROM busybox\nRUN for n in $(seq 500); do echo $n > /f$n; done\nRUN for n in $(seq 500); do echo $n > /g$n; done\n";
    for round in 0..6u64 {
        lap.build("app", text).ok();
        lap.run(&["rmi", "app"]).ok();
        let child = lap.command().args(["builder", "prune", "-af"]).stdout(Stdio::null()).spawn().unwrap();
        let mut prune = Running(child);
        // Somewhere in its work: each round a little later.
        std::thread::sleep(std::time::Duration::from_millis(round * 4));
        drop(prune.0.kill());
        prune.0.wait().unwrap();
        assert_eq!(lap.sh("busybox", "echo fine"), "fine\n");
    }
    lap.build("app", text).ok();
    assert_eq!(lap.sh("app", "cat /f500 /g1"), "500\n1\n");
    lap.run(&["rmi", "app"]).ok();
    lap.run(&["builder", "prune", "-af"]).ok();
    assert_eq!(layers(&lap), 1);
}

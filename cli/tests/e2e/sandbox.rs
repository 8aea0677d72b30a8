//! The walls around a RUN, seen from inside.

use crate::support::{Lap, needs};

#[test]
fn a_run_sees_its_own_world() {
    needs!(root);
    let lap = Lap::new();
    let probe = "FROM busybox\nRUN \
        echo pid $$ > /probe; \
        ls /proc | grep -c '^[0-9]' >> /probe; \
        hostname >> /probe; \
        grep CapEff /proc/self/status >> /probe; \
        grep Seccomp: /proc/self/status >> /probe; \
        ls /dev | sort | xargs >> /probe; \
        cat /proc/kcore 2>&1 | head -c 1 | wc -c >> /probe; \
        (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo sys read-only >> /probe; \
        mount -t tmpfs t /mnt 2>/dev/null || echo no mount >> /probe; \
        ls -l /proc/self/fd | wc -l >> /probe\n";
    lap.build("app", probe).ok();
    let probe = lap.sh("app", "cat /probe");
    assert!(probe.contains("CapEff:\t00000000a80425fb"), "Docker's default set: {probe}");
    assert!(probe.contains("Seccomp:\t2"), "a filter: {probe}");
    assert!(probe.contains("sys read-only") && probe.contains("no mount"), "{probe}");
    for node in
        ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    {
        assert!(probe.lines().any(|line| line.split(' ').any(|word| word == node)), "{node}: {probe}");
    }
}

#[test]
fn no_network_means_loopback_only() {
    needs!(root);
    let lap = Lap::new();
    lap.build_with("app", "FROM busybox\nRUN ip -o link | cut -d: -f2 | xargs > /links\n", &["--network", "none"]).ok();
    assert_eq!(lap.sh("app", "cat /links"), "lo\n");
    let said = lap.build("host", "FROM busybox\nRUN --network=host true\n").code(1);
    assert!(said.err.contains("network.host"), "not without --allow: {}", said.err);
    lap.build_with("host", "FROM busybox\nRUN --network=host true\n", &["--allow", "network.host"]).ok();
}

#[test]
fn limits_hold_and_an_out_of_memory_is_called_that() {
    needs!(root);
    let lap = Lap::new();
    let said = lap
        .build_with("app", "FROM busybox\nRUN head -c 200m /dev/zero | tail > /dev/null\n", &["--memory", "32m"])
        .code(1);
    assert!(said.err.contains("memory"), "{}", said.err);
    let said = lap
        .build_with("app", "FROM busybox\nRUN for i in $(seq 50); do sleep 2 & done; wait\n", &["--pids-limit", "10"])
        .code(1);
    assert!(said.err.contains("fork"), "{}", said.err);
    let said = lap.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--memory",
        "32m",
        "busybox",
        "sh",
        "-c",
        "head -c 200m /dev/zero | tail",
    ]);
    assert_ne!(said.code, 0);
}

#[test]
fn leftovers_of_a_step_are_dead_when_it_ends() {
    needs!(root);
    let lap = Lap::new();
    let start = std::time::Instant::now();
    lap.build("app", "FROM busybox\nRUN (setsid sleep 61.5 >/dev/null 2>&1 &); (sleep 61.5 &); echo done > /done\n")
        .ok();
    assert!(start.elapsed().as_secs() < 60, "the step does not wait for them");
    let left = crate::support::run("pgrep", &["-f", "sleep 61.5"]);
    assert_eq!(left.out, "");
}

#[test]
fn the_network_reaches_out_and_leaves_nothing() {
    needs!(root);
    let lap = Lap::new();
    let script = "grep -q nameserver /etc/resolv.conf && ip route | grep default | cut -d' ' -f3 > /gateway";
    lap.build("app", &format!("FROM busybox\nRUN {script}\n")).ok();
    let gateway = lap.sh("app", "cat /gateway");
    let gateway = gateway.trim();
    let addresses = crate::support::run("ip", &["-o", "addr"]).ok().out;
    assert!(!gateway.is_empty() && !addresses.contains(&format!(" {gateway}/")), "{gateway}: {addresses}");
    let (subnet, _) = gateway.rsplit_once('.').unwrap();
    let rules = crate::support::run("nft", &["list", "ruleset"]).out;
    assert!(!rules.contains(subnet), "{rules}");
}

#[test]
fn paths_of_an_image_cannot_lead_out() {
    needs!(root);
    let lap = Lap::new();
    lap.write("canary/file", "untouched");
    let canary = lap.path("canary");
    let canary = canary.display();
    lap.write("ctx/f", "f");
    // The last instruction may fail or write inside the image; the host stays as it was.
    for attack in [
        format!("RUN rm -rf /app && ln -s {canary} /app\nWORKDIR /app/made\nCOPY f ./f\n"),
        format!("RUN ln -s ../../../../../../..{canary} /up\nCOPY f /up/f\n"),
        format!("RUN ln -s {canary} /v\nRUN --mount=type=tmpfs,target=/v touch /v/x\n"),
        format!("RUN rm -rf /tmp && ln -s {canary} /tmp\nRUN touch /tmp/x || true\n"),
        "WORKDIR /proc/self/fd/3\nRUN cat ../../../../etc/hostname || true\n".to_owned(),
    ] {
        lap.build("app", &format!("FROM busybox\n{attack}"));
        let names: Vec<_> =
            std::fs::read_dir(lap.path("canary")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "{attack}");
        assert_eq!(std::fs::read_to_string(lap.path("canary/file")).unwrap(), "untouched");
    }
}

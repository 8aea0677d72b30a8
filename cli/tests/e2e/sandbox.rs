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
fn entitlements_are_needed_and_given_by_the_user_alone() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "# syntax=docker/dockerfile:1-labs\nFROM busybox\n\
        RUN --security=insecure grep CapEff /proc/self/status | cut -f2 > /caps\n";
    let refused = lap.build("app", dockerfile).code(1);
    assert!(refused.err.contains("--allow security.insecure"), "{}", refused.err);
    lap.build_with("app", dockerfile, &["--network", "none", "--allow", "security.insecure"]).ok();
    let all = u64::from_str_radix(lap.sh("app", "cat /caps").trim(), 16).unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    assert_eq!(all, u64::from_str_radix(own.trim(), 16).unwrap(), "all that this process can have");
    // What is granted holds for one build.
    let refused = lap.build_with("app", dockerfile, &["--no-cache", "--network", "none"]).code(1);
    assert!(refused.err.contains("--allow security.insecure"), "{}", refused.err);
    // Known, though nothing comes of it; and what is not known is refused.
    lap.build_with("app", "FROM busybox\n", &["--allow", "device", "--allow", "device=vendor.com/x"]).ok();
    let device = lap.build_with("app", "FROM busybox\nRUN --device=a.b/c=d true\n", &["--allow", "device"]).code(1);
    assert!(device.err.contains("--device"), "{}", device.err);
    let unknown = lap.build_with("app", "FROM busybox\n", &["--allow", "everything"]).code(2);
    assert!(unknown.err.contains("known are network.host, security.insecure"), "{}", unknown.err);
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

/// What a command says about itself.
const PRIVILEGES: &str = "grep NoNewPrivs /proc/self/status | tr -dc 01";

#[test]
fn nothing_gains_privileges_where_no_file_gives_any() {
    needs!(root);
    let lap = Lap::new();
    let probe = |head: &str| {
        let dockerfile = format!("{head}\nRUN {PRIVILEGES} > /root-user\nUSER 1000\nRUN {PRIVILEGES} > /tmp/user\n");
        let flags = ["--allow", "security.insecure"];
        lap.build_with("probe", &dockerfile, &flags).ok();
        lap.sh("probe", &format!("cat /root-user /tmp/user; {PRIVILEGES}"))
    };
    assert_eq!(probe("FROM busybox"), "111", "root, USER and run");
    // A program that a step installs counts from the next one on, and no more when it is gone.
    let set = "FROM busybox\nRUN cp /bin/busybox /bin/su-do && chmod 4755 /bin/su-do";
    assert_eq!(probe(set), "000");
    assert_eq!(probe(&format!("{set}\nRUN chmod 755 /bin/su-do")), "111");
    assert_eq!(probe(&format!("{set}\nRUN rm /bin/su-do")), "111");
    lap.write("ctx/tool", "#!/bin/sh\n");
    assert_eq!(probe("FROM busybox\nCOPY --chmod=2755 tool /bin/tool"), "000");
    // What is mounted counts for the step.
    let mounted = format!(
        "FROM busybox AS set\nRUN cp /bin/busybox /ping && chmod 4755 /ping\nFROM busybox\n\
         RUN --mount=from=set,target=/m {PRIVILEGES} > /with\n\
         RUN --mount=from=busybox,target=/m {PRIVILEGES} > /without\n\
         RUN --mount=type=tmpfs,target=/m {PRIVILEGES} > /memory\n\
         RUN --security=insecure {PRIVILEGES} > /insecure\n"
    );
    lap.build_with("mounted", &mounted, &["--allow", "security.insecure"]).ok();
    assert_eq!(lap.sh("mounted", "cat /with /without /memory /insecure"), "0110");
}

#[test]
fn containers_gain_no_privileges_unless_something_gives_them() {
    needs!(root);
    let lap = Lap::new();
    lap.build("set", "FROM busybox\nRUN cp /bin/busybox /bin/su-do && chmod 4755 /bin/su-do\n").ok();
    let run = |flags: &[&str], image: &str| {
        let head = ["run", "--rm", "--network", "none"];
        let command = [image, "sh", "-c", PRIVILEGES];
        lap.run(&[&head[..], flags, &command].concat()).ok().out
    };
    for (flags, image, expected) in [
        (&[][..], "busybox", "1"),
        (&["-u", "1000"], "busybox", "1"),
        (&[], "set", "0"),
        (&["--privileged"], "busybox", "0"),
        (&["--security-opt", "no-new-privileges=false"], "busybox", "0"),
        (&["--security-opt", "no-new-privileges:false"], "busybox", "0"),
        (&["--security-opt", "no-new-privileges"], "set", "1"),
        (&["--security-opt", "no-new-privileges:true", "--privileged"], "set", "1"),
        (&["-v", "/tmp:/host"], "busybox", "0"),
    ] {
        assert_eq!(run(flags, image), expected, "{flags:?} {image}");
    }
    lap.run(&["run", "--security-opt", "no-new-privileges=perhaps", "busybox"]).code(125);

    let start = ["run", "-d", "--name", "c", "--network", "none", "busybox", "sleep", "1000"];
    lap.run(&start).ok();
    let exec = |flags: &[&str]| lap.run(&[&["exec"][..], flags, &["c", "sh", "-c", PRIVILEGES]].concat()).ok().out;
    assert_eq!((exec(&[]), exec(&["--privileged"])), ("1".into(), "0".into()));
    // What was installed meanwhile works for what comes later.
    lap.run(&["exec", "c", "cp", "/bin/busybox", "/ping"]).ok();
    let ping = ["exec", "-u", "1000", "c", "/ping", "-c", "1", "127.0.0.1"];
    assert_ne!(lap.run(&ping).code, 0, "only root may");
    lap.run(&["exec", "c", "chmod", "4755", "/ping"]).ok();
    assert_eq!(exec(&[]), "0");
    lap.run(&ping).ok();
}

#[test]
fn a_step_may_use_the_setuid_program_that_it_installs() {
    needs!(root);
    let lap = Lap::new();
    let script = "cp /bin/busybox /ping && chmod 4755 /ping && echo 'u:x:1000:1000::/:/bin/sh' >> /etc/passwd && \
         su u -c '/ping -c 1 127.0.0.1 && echo reached'";
    let said = lap.build("app", &format!("FROM busybox\nRUN {script}\n")).ok();
    assert!(said.err.contains("reached") && said.err.contains("once more"), "{}", said.err);
    assert_eq!(lap.sh("app", "grep -c ^u: /etc/passwd"), "1\n", "of the second time only");
    // One that fails for another reason fails as it would.
    let said = lap.build("app", "FROM busybox\nRUN cp /bin/busybox /ping && chmod 4755 /ping && exit 3\n").code(1);
    assert!(said.err.contains("exit code: 3"), "{}", said.err);
}

#[test]
fn su_and_sudo_of_debian_work() {
    needs!(root);
    needs!("mmdebstrap");
    let lap = Lap::empty();
    lap.run(&["import", crate::support::debian().to_str().unwrap(), "debian"]).ok();
    let script = format!(
        "useradd -m u && passwd -d u && su u -c '{PRIVILEGES}' > /flag && su u -c 'su u -c id' > /id && \
         stat -c %a /usr/bin/su > /mode"
    );
    lap.build("app", &format!("FROM debian\nRUN {script}\n")).ok();
    let said = lap.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-u",
        "u",
        "app",
        "sh",
        "-c",
        "cat /flag /id /mode; su u -c whoami",
    ]);
    let out = said.ok().out;
    assert!(out.starts_with("0uid=1000(u)") && out.contains("4755") && out.ends_with("u\n"), "{out}");
}

//! `run`, `exec` and the rest of a container's life.

use crate::support::{Lap, needs, wait_for};

const NONE: [&str; 4] = ["run", "--rm", "--network", "none"];

fn with<'a>(head: &[&'a str], tail: &[&'a str]) -> Vec<&'a str> {
    head.iter().chain(tail).copied().collect()
}

#[test]
fn exit_codes_are_dockers() {
    needs!(root);
    let lap = Lap::new();
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["no-such-program"], 127),
        (&["/etc"], 126),
        (&["sh", "-c", "kill -9 $$ & sleep 5 & wait"], 137),
        (&["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"], 143),
    ] {
        // A signal to process 1 from inside is ignored by the kernel, so it is sent from a shell below an init.
        lap.run(&with(&["run", "--rm", "--init", "--network", "none", "busybox"], command)).code(code);
    }
    lap.run(&["run", "--rm", "--pull", "never", "nothing"]).code(125);
    for (program, hint) in [
        ("/etc", "it is a directory"),
        ("/etc/passwd", "chmod +x"),
        ("no-such-program", "install the program"),
        ("/no/such/program", "correct its path"),
    ] {
        let said = lap.run(&with(&NONE, &["busybox", program]));
        assert!(said.err.contains(program) && said.err.contains("try:") && said.err.contains(hint), "{}", said.err);
    }
    assert_eq!(lap.run(&["ps", "-aq"]).ok().out, "", "--rm leaves nothing");
}

#[test]
fn flags_reach_the_command() {
    needs!(root);
    let lap = Lap::new();
    lap.write("shared/f", "from the host");
    let volume = format!("{}:/v:ro", lap.path("shared").display());
    let script = "echo $A; pwd; id -u; id -g; cat /v/f; touch /v/x 2>/dev/null || echo ro; hostname";
    let said = lap.run(&with(
        &NONE,
        &["-e", "A=b", "-w", "/tmp", "-u", "12:34", "-v", &volume, "--hostname", "ship", "busybox", "sh", "-c", script],
    ));
    assert_eq!(said.ok().out, "b\n/tmp\n12\n34\nfrom the hostro\nship\n");
    let said = lap.run(&with(&NONE, &["--entrypoint", "echo", "busybox", "one", "two"])).ok();
    assert_eq!(said.out, "one two\n");
    let said = lap.run_with(&with(&NONE, &["-i", "busybox", "cat"]), b"through the pipe");
    assert_eq!(said.ok().out, "through the pipe");
}

#[test]
fn a_container_lives_in_the_background() {
    needs!(root);
    let lap = Lap::new();
    let id = lap
        .run(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo started; trap 'exit 3' TERM; while :; do sleep 0.1; done",
        ])
        .ok()
        .out;
    let id = id.trim();
    assert_eq!(id.len(), 64);
    let listed = lap.run(&["ps"]).ok().out;
    assert!(listed.contains(&id[..12]) && listed.contains("web") && listed.contains("Up "), "{listed}");
    wait_for("the log", || lap.run(&["logs", "web"]).out == "started\n");

    assert_eq!(lap.run(&["exec", "-e", "B=c", "-w", "/etc", "web", "sh", "-c", "echo $B; pwd"]).ok().out, "c\n/etc\n");
    lap.run(&["exec", "web", "sh", "-c", "exit 9"]).code(9);
    lap.run(&["exec", "web", "no-such-program"]).code(127);
    assert_eq!(lap.run_with(&["exec", "-i", "web", "cat"], b"in").ok().out, "in");

    lap.run(&["exec", "web", "/etc"]).code(126);
    lap.run(&["exec", "nothing", "true"]).code(1);
    lap.run(&["run", "-d", "--name", "web", "busybox"]).code(125);
    lap.run(&["rm", "web"]).code(1);
    assert_eq!(lap.run(&["stop", "web"]).ok().out, "web\n");
    lap.run(&["exec", "web", "true"]).code(1);
    let state = lap.run(&["inspect", "web"]).ok().json()[0]["State"].clone();
    assert_eq!((state["Status"].as_str(), state["ExitCode"].as_i64()), (Some("exited"), Some(3)));
    assert!(lap.run(&["ps"]).ok().out.lines().count() == 1);
    assert!(lap.run(&["ps", "-a"]).ok().out.contains("Exited (3)"));
    lap.run(&["rm", "web"]).ok();
    assert_eq!(lap.run(&["ps", "-aq"]).ok().out, "");
}

#[test]
fn logs_follow_until_the_end() {
    needs!(root);
    let lap = Lap::new();
    lap.run(&[
        "run",
        "-d",
        "--name",
        "talk",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.2; done; echo err >&2",
    ])
    .ok();
    let said = lap.run(&["logs", "-f", "talk"]).ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("1\n2\n3\n", "err\n"));
    assert_eq!(lap.run(&["logs", "-n", "2", "talk"]).ok().out, "3\n");
    lap.run(&["rm", "-f", "talk"]).ok();
}

#[test]
fn a_terminal_is_one() {
    needs!(root);
    needs!("script");
    let lap = Lap::new();
    let command = format!(
        "{} run --rm -it --network none busybox sh -c 'tty; test -t 0 && test -t 1 && echo both; stty size'",
        env!("CARGO_BIN_EXE_lap")
    );
    // Its input stays open: the end of it would be an end of file for the terminal.
    let mut child = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("LAP_ROOT", lap.path("store"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("/dev/pts/0") && text.contains("both"), "{text}");
}

#[test]
fn stop_kills_what_does_not_listen() {
    needs!(root);
    let lap = Lap::new();
    lap.run(&["run", "-d", "--name", "deaf", "--network", "none", "busybox", "sleep", "1000"]).ok();
    lap.run(&["stop", "-t", "1", "deaf"]).ok();
    assert_eq!(lap.run(&["inspect", "deaf"]).ok().json()[0]["State"]["ExitCode"], 137);
    lap.run(&["rm", "deaf"]).ok();
}

#[test]
fn a_removed_container_leaves_no_mount_and_no_control_group() {
    needs!(root);
    let lap = Lap::new();
    lap.run(&["run", "-d", "--name", "gone", "busybox", "sleep", "1000"]).ok();
    lap.run(&["rm", "-f", "gone"]).ok();
    let store = lap.path("store");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(store.to_str().unwrap()), "{mounts}");
    assert_eq!(lap.run(&["ps", "-aq"]).ok().out, "");
    let left =
        std::fs::read_dir(store.join("containers")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(left.count(), 0);
}

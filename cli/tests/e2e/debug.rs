//! A shell where a step has failed: the same files, mounts, user, directory and environment, and nothing changed by it.

use std::process::Command;

use crate::support::{Lap, needs};

const DOCKERFILE: &str = "\
FROM busybox
WORKDIR /work
ENV COLOUR=blue
RUN echo below > /below && touch -d @1000000000 /below
RUN --network=none --mount=type=cache,id=c,target=/cache --mount=type=bind,target=/src --mount=type=secret,id=token \
    echo cached >> /cache/f; rm /below; echo half > half; cat /src/file; echo broken >&2; exit 7
";

/// A `lap` in whose store that step has failed.
fn failed() -> Lap {
    let lap = Lap::new();
    lap.write("ctx/file", "from the context\n");
    lap.write("ctx/left-out", "");
    lap.write("ctx/.dockerignore", "left-out\n");
    lap.write("token", "quiet-as-a-mouse");
    let said = lap.build_with("app", DOCKERFILE, &["--secret", "id=token,src=token"]).code(1);
    assert!(said.err.contains("exit code: 7"), "{}", said.err);
    assert!(said.err.trim_end().ends_with("lap debug --last opens a shell where the step failed"), "{}", said.err);
    lap
}

#[test]
fn a_failed_step_is_entered_as_it_was_left() {
    needs!(root);
    let lap = failed();
    let look = "pwd; cat half; ls /below; echo $COLOUR; cat /cache/f /src/file; ls /src; cat /run/secrets/token";
    let said = lap.run_with(&["debug", "--secret", "id=token,src=token"], look.as_bytes());
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(
        lines,
        ["/work", "half", "blue", "cached", "from the context", "Dockerfile", "file", "quiet-as-a-mouse"],
        "{}{}",
        said.out,
        said.err
    );
    assert!(
        said.err.contains("exit code: 7") && said.err.contains("the command was: /bin/sh -c echo cached"),
        "{}",
        said.err
    );
    // Without the secret it is left out.
    let said = lap.run(&["debug", "--last", "--", "cat", "/run/secrets/token"]);
    assert_ne!(said.code, 0);
    assert!(!said.out.contains("quiet-as-a-mouse"), "{}", said.out);
    // The code is that of the command, and the step is found by its name.
    assert_eq!(lap.run(&["debug", "echo half", "--", "sh", "-c", "exit 9"]).code, 9);
    assert!(lap.run(&["debug", "no such step"]).code(1).err.contains("lap debug --list shows those that are"));
    let list = lap.run(&["debug", "--list"]).ok().out;
    assert!(list.starts_with("NUMBER") && list.contains("exit code: 7") && list.lines().count() == 2, "{list}");
    // Nothing of the secret is in the store.
    let found = Command::new("grep").args(["-rl", "quiet-as-a-mouse"]).arg(lap.path("store")).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn what_is_changed_there_is_thrown_away_unless_it_is_kept() {
    needs!(root);
    let lap = failed();
    lap.run(&["debug", "--", "sh", "-c", "echo changed > half; touch new"]).ok();
    assert_eq!(lap.run(&["debug", "--", "sh", "-c", "cat half; ls"]).ok().out, "half\nhalf\n");
    lap.run(&["debug", "--keep", "--", "sh", "-c", "echo changed > half; touch new"]).ok();
    assert_eq!(lap.run(&["debug", "--", "sh", "-c", "cat half; ls"]).ok().out, "changed\nhalf\nnew\n");
    lap.run(&["fsck"]).ok();
    // The next failure of the step takes the place of this one, and is as the step leaves it.
    lap.build_with("app", DOCKERFILE, &["--secret", "id=token,src=token"]).code(1);
    assert_eq!(lap.run(&["debug", "--", "sh", "-c", "cat half; ls"]).ok().out, "half\nhalf\n");
    assert!(lap.run(&["debug", "--list"]).ok().out.lines().count() == 2);
    // It counts as cache, and goes with it.
    assert!(lap.run(&["du", "--verbose"]).ok().out.contains("what a failed step left, for lap debug"));
    lap.run(&["prune", "-af"]).ok();
    assert!(lap.run(&["debug"]).code(1).err.contains("no failed step is kept"));
}

/// Runs `lap` on a terminal, types `input` and gives what was seen.
fn on_a_terminal(lap: &Lap, args: &str, input: &[u8]) -> String {
    use std::io::Write as _;
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_lap"));
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("LAP_ROOT", lap.path("store"))
        .env("LAP_RUN_DIR", lap.path("run"))
        .current_dir(lap.dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(input).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn on_a_terminal_it_is_a_shell() {
    needs!(root);
    needs!("script");
    let lap = failed();
    let seen = on_a_terminal(&lap, "debug", b"test -t 0 && echo a ter''minal; cat half\nexit\n");
    assert!(seen.contains("a terminal") && seen.contains("half\r\n"), "{seen}");
    assert!(seen.contains("what you change here is thrown away"), "{seen}");
    let seen = on_a_terminal(
        &lap,
        "build --progress plain --secret id=token,src=token --on-error shell ctx",
        b"cat /run/secrets/token; echo '<'`cat half`'>'\nexit\n",
    );
    assert!(seen.contains("exit code: 7") && seen.contains("quiet-as-a-mouse") && seen.contains("<half>"), "{seen}");
    // Without a terminal there is nobody to talk to.
    let said = lap.build_with("app", DOCKERFILE, &["--secret", "id=token,src=token", "--on-error", "shell"]).code(1);
    assert!(said.err.contains("--on-error shell needs a terminal"), "{}", said.err);
}

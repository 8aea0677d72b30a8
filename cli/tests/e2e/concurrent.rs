//! Several `lap` processes on one store.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::cache::steps;
use crate::support::{Lap, Said, needs, wait_for};

/// A command that counts its runs in a cache mount called `name`, and ends when the test lets it go.
fn counting(name: &str) -> String {
    format!(
        "RUN --mount=type=cache,id={name},target=/count echo ran >> /count/runs; \
         until [ -e /count/go ]; do sleep 0.05; done; echo {name} > /{name}"
    )
}

/// A file of the cache mount `name`, where a step has it by now.
fn in_cache(lap: &Lap, name: &str, file: &str) -> Option<PathBuf> {
    let caches = std::fs::read_dir(lap.path("store/caches")).ok()?;
    let found = caches.flatten().map(|entry| entry.path()).find(|dir| {
        std::fs::read_to_string(dir.join("about")).is_ok_and(|about| about.trim_start_matches('/') == name)
    })?;
    Some(found.join("0").join(file))
}

/// How often the command that is called so ran.
fn runs(lap: &Lap, name: &str) -> usize {
    let counted = in_cache(lap, name, "runs").and_then(|path| std::fs::read_to_string(path).ok());
    counted.map_or(0, |text| text.lines().count())
}

fn let_go(lap: &Lap, name: &str) {
    std::fs::write(in_cache(lap, name, "go").unwrap(), "").unwrap();
}

/// A `lap build` that goes on beside the test.
struct Beside {
    child: Child,
    err: PathBuf,
}

impl Beside {
    fn start(lap: &Lap, dockerfile: &str, number: usize) -> Self {
        let file = lap.write(&format!("ctx/Dockerfile.{number}"), dockerfile);
        let err = lap.path(&format!("err.{number}"));
        let child = lap
            .command()
            .args(["build", "--progress", "plain", "-f"])
            .arg(file)
            .args(["-t", &format!("app{number}"), "ctx"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Self { child, err }
    }

    fn waits_for_another(&self) {
        wait_for("a build that waits", || self.said().contains("waiting for another build's result"));
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    #[track_caller]
    fn end(self) -> Said {
        let err = self.err.clone();
        let output = self.child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: std::fs::read_to_string(err).unwrap(),
        }
    }
}

#[test]
fn a_step_that_two_builds_want_runs_once() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = format!("FROM busybox\n{}\nRUN cat /one > /two\n", counting("one"));
    let first = Beside::start(&lap, &dockerfile, 1);
    wait_for("the step", || runs(&lap, "one") == 1);
    // Another Dockerfile with the same step.
    let others: Vec<Beside> =
        (2..4).map(|n| Beside::start(&lap, &format!("{dockerfile}RUN echo {n} > /n\n"), n)).collect();
    others.iter().for_each(Beside::waits_for_another);
    let_go(&lap, "one");
    let first = first.end().ok();
    assert_eq!(steps(&first).0.len(), 2, "{}", first.err);
    for other in others {
        let said = other.end().ok();
        assert!(steps(&said).1[0].contains("RUN --mount"), "found, not executed: {}", said.err);
    }
    assert_eq!(runs(&lap, "one"), 1);
    assert_eq!(lap.sh("app3", "cat /two /n"), "one\n3\n");
    // What was not to come out of a cache does not wait for one either.
    lap.build_with("app", &dockerfile, &["--no-cache"]).ok();
    assert_eq!(runs(&lap, "one"), 2);
}

#[test]
fn who_waits_for_a_build_that_is_killed_or_fails_runs_the_step() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = format!("FROM busybox\n{}\n", counting("one"));
    let mut first = Beside::start(&lap, &dockerfile, 1);
    wait_for("the step", || runs(&lap, "one") == 1);
    let second = Beside::start(&lap, &dockerfile, 2);
    second.waits_for_another();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    wait_for("the second build", || runs(&lap, "one") == 2);

    // One that gives up frees the step too: here the first of two that wait.
    let third = Beside::start(&lap, &dockerfile, 3);
    third.waits_for_another();
    let_go(&lap, "one");
    second.end().ok();
    third.end().ok();
    assert_eq!(runs(&lap, "one"), 2);

    let failing = format!("FROM busybox\n{} && test $(wc -l < /count/runs) = 2\n", counting("two"));
    let bad = Beside::start(&lap, &failing, 4);
    wait_for("the failing step", || runs(&lap, "two") == 1);
    let good = Beside::start(&lap, &failing, 5);
    good.waits_for_another();
    let_go(&lap, "two");
    bad.end().code(1);
    good.end().ok();
}

#[test]
fn builds_that_want_each_others_steps_both_end() {
    needs!(root);
    let lap = Lap::new();
    // Each waits in its first command until the test has seen both, and then wants the other one's. What is between
    // them has the same content in both, so the commands have the same keys.
    let build = |first: &str, second: &str| {
        format!(
            "FROM busybox AS e\nRUN echo same > /e\nFROM busybox AS first\nCOPY --from=e /e /e\n{}\n\
             FROM busybox\nCOPY --from=first /e /e\n{}\n",
            counting(first),
            counting(second)
        )
    };
    let (one, two) = (build("left", "right"), build("right", "left"));
    let (one, two) = (Beside::start(&lap, &one, 1), Beside::start(&lap, &two, 2));
    wait_for("both commands", || runs(&lap, "left") == 1 && runs(&lap, "right") == 1);
    let_go(&lap, "left");
    let_go(&lap, "right");
    one.end().ok();
    two.end().ok();
    assert_eq!((runs(&lap, "left"), runs(&lap, "right")), (1, 1));
}

#[test]
fn locked_caches_taken_in_any_order_and_twice_do_not_stop_builds() {
    needs!(root);
    let lap = Lap::new();
    let mount = |id: &str, at: &str| format!("--mount=type=cache,id={id},sharing=locked,target={at}");
    let build = |one: &str, two: &str, n: usize| {
        // Both names of a cache are one directory.
        let script = "echo 1 > /x/f; cat /z/f; sleep 0.1";
        format!("FROM busybox\nRUN {} {} {} {script}; echo {n}\n", mount(one, "/x"), mount(two, "/y"), mount(one, "/z"))
    };
    let builds: Vec<Beside> = (0..8)
        .map(|n| {
            let (one, two) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
            Beside::start(&lap, &build(one, two, n), n)
        })
        .collect();
    for build in builds {
        build.end().ok();
    }
}

#[test]
fn a_locked_cache_is_for_one_process_and_a_private_one_is_its_own() {
    needs!(root);
    let lap = Lap::new();
    let build = |sharing: &str, n: usize| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,id=runs,target=/count --mount=type=cache,id={sharing},sharing={sharing},target=/c \
             echo {n} >> /count/runs; if [ {n} = 1 ]; then echo mine > /c/mine; until [ -e /count/go ]; do sleep 0.05; done; rm /c/mine; fi; ls /c > /seen\n"
        )
    };
    // A further user of a private cache gets one of its own, at once.
    let first = Beside::start(&lap, &build("private", 1), 1);
    wait_for("the first", || runs(&lap, "runs") == 1);
    Beside::start(&lap, &build("private", 2), 2).end().ok();
    assert_eq!(lap.sh("app2", "cat /seen"), "");
    let_go(&lap, "runs");
    first.end().ok();

    // A further user of a locked one waits: it does not see what the first has in between.
    std::fs::remove_file(in_cache(&lap, "runs", "go").unwrap()).unwrap();
    let first = Beside::start(&lap, &build("locked", 1), 3);
    wait_for("the third", || runs(&lap, "runs") == 3);
    let second = Beside::start(&lap, &build("locked", 2), 4);
    wait_for("the fourth's step", || second.said().contains("RUN --mount"));
    assert_eq!(runs(&lap, "runs"), 3, "it waits");
    let_go(&lap, "runs");
    first.end().ok();
    second.end().ok();
    assert_eq!(lap.sh("app4", "cat /seen"), "");
    // And of a shared one sees it.
    std::fs::remove_file(in_cache(&lap, "runs", "go").unwrap()).unwrap();
    let first = Beside::start(&lap, &build("shared", 1), 5);
    wait_for("the fifth", || runs(&lap, "runs") == 5);
    Beside::start(&lap, &build("shared", 2), 6).end().ok();
    assert_eq!(lap.sh("app6", "cat /seen"), "mine\n");
    let_go(&lap, "runs");
    first.end().ok();
}

//! Each mistake gets one clear message, a code, and a store that still works.

use crate::support::{Lap, needs};

/// Fails with `code`, says every one of `words`, and never speaks of panics.
#[track_caller]
fn refuses(lap: &Lap, args: &[&str], code: i32, words: &[&str]) {
    let said = lap.run(args).code(code);
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
    assert!(!said.err.contains("panicked") && !said.err.contains("RUST_BACKTRACE"), "{}", said.err);
}

#[test]
fn what_is_missing_is_named() {
    let lap = Lap::empty();
    refuses(&lap, &["build", "nowhere"], 1, &["nowhere"]);
    lap.write("empty/x", "");
    refuses(&lap, &["build", "empty"], 1, &["Dockerfile"]);
    refuses(&lap, &["build", "-f", "gone", "empty"], 1, &["gone"]);
    refuses(&lap, &["run", "--pull", "never", "no-such-image"], 125, &["no-such-image"]);
    refuses(&lap, &["rmi", "no-such-image"], 1, &["no-such-image"]);
    refuses(&lap, &["stop", "no-such-container"], 1, &["no-such-container"]);
    refuses(&lap, &["logs", "no-such-container"], 1, &["no-such-container"]);
    refuses(&lap, &["load", "-i", "gone.tar"], 1, &["gone.tar"]);
    refuses(&lap, &["import", "gone.tar", "x"], 1, &["gone.tar"]);
    refuses(&lap, &["tag", "no-such-image", "x"], 1, &["no-such-image"]);
}

#[test]
fn a_broken_dockerfile_is_shown_where_it_is_broken() {
    let lap = Lap::empty();
    for (text, words) in [
        ("FROM scratch\nCOPPY a b\n", &["Dockerfile:2", "COPPY", "COPY"][..]),
        ("FROM scratch\nCOPY --chwon=1 a b\n", &["Dockerfile:2", "chwon", "chown"]),
        ("RUN true\n", &["Dockerfile:1", "FROM"]),
        ("FROM scratch\nCOPY --from=nostage /a /b\nRUN <<EOF\nx\n", &["Dockerfile:3", "EOF"]),
        ("", &["Dockerfile"]),
    ] {
        lap.write("ctx/Dockerfile", text);
        refuses(&lap, &["build", "ctx"], 1, words);
    }
    lap.write("ctx/Dockerfile", "FROM scratch AS only\n");
    refuses(&lap, &["build", "--target", "onlyy", "ctx"], 1, &["onlyy", "did you mean only?"]);
    lap.write("ctx/Dockerfile", "FROM scratch AS one\nFROM scratch AS two\n");
    refuses(&lap, &["build", "--target", "final", "ctx"], 1, &["final", "stages: one, two"]);
    let said = lap.run(&["build", "--target", "final", "ctx"]);
    assert!(!said.err.contains("FROM"), "no line is to blame: {}", said.err);
}

#[test]
fn mistakes_of_the_command_line_have_their_own_code() {
    let lap = Lap::empty();
    refuses(&lap, &["build", "--no-such-flag", "."], 2, &["--no-such-flag"]);
    refuses(&lap, &["bulid", "."], 2, &["build"]);
    refuses(&lap, &["run", "--no-such-flag", "x"], 125, &["--no-such-flag"]);
    refuses(&lap, &["build", "-o", "type=zip", "."], 2, &["zip"]);
    refuses(&lap, &["build", "-t", "Upper Case", "."], 1, &["Upper Case"]);
    refuses(&lap, &["run", "--memory", "lots", "x"], 125, &["lots"]);
    // As with Docker the last one counts.
    refuses(&lap, &["run", "--pull", "always", "--pull", "never", "x"], 125, &["No such image: x"]);
}

#[test]
fn a_failed_step_shows_line_command_code_and_output() {
    needs!(root);
    let lap = Lap::new();
    let said = lap.build("app", "FROM busybox\nRUN echo before; echo telling >&2; exit 7\nRUN echo never\n").code(1);
    for word in ["Dockerfile:2", ">>> RUN echo before", "telling", "exit code: 7", "exit 7"] {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
    assert!(!said.err.contains("echo never\" did"));
    lap.build("app", "FROM busybox\nRUN true\n").ok();
}

#[test]
fn a_step_that_takes_too_long_is_killed_and_says_whose_limit_it_was() {
    needs!(root);
    let lap = Lap::new();
    // What it leaves in the background has to die too, or the step would never end.
    let slow = "FROM busybox\n\nRUN --timeout=300ms echo begun; sleep 1000 & sleep 1000\nRUN echo never\n";
    let said = lap.build("app", slow).code(1);
    for word in ["Dockerfile:3", ">>> RUN --timeout=300ms", "begun", "killed after 300ms", "--timeout"] {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
    let plain = "FROM busybox\nRUN sleep 1000\n";
    let said = lap.build_with("app", plain, &["--timeout", "0.2s"]).code(1);
    assert!(said.err.contains("killed after 200ms") && said.err.contains("Dockerfile:2"), "{}", said.err);
    // Time enough, or a step that asks for none: it counts per step, and a limit is no part of the cache's key.
    lap.build_with("app", "FROM busybox\nRUN --timeout=0 sleep 1\n", &["--timeout", "1ms"]).ok();
    let again = lap.build_with("app", "FROM busybox\nRUN --timeout=10m sleep 1\n", &[]).ok();
    assert!(again.err.contains("CACHED"), "{}", again.err);
    lap.run(&["build", "--timeout", "soon", "ctx"]).code(2);
}

#[test]
fn a_missing_source_names_file_and_line() {
    needs!(root);
    let lap = Lap::new();
    let said = lap.build("app", "FROM busybox\n\nCOPY missing.txt /x\n").code(1);
    for word in ["missing.txt", "Dockerfile:3", "not found"] {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
}

#[test]
fn a_registry_that_refuses_is_named() {
    let lap = Lap::empty();
    // Nobody listens there.
    refuses(&lap, &["pull", "127.0.0.1:1/a/b:c"], 1, &["127.0.0.1:1", "try: check the registry's name"]);
    refuses(&lap, &["push", "127.0.0.1:1/a/b:c"], 1, &["127.0.0.1:1/a/b:c"]);
    lap.write("ctx/Dockerfile", "FROM 127.0.0.1:1/a/b:c\n");
    refuses(&lap, &["build", "ctx"], 1, &["127.0.0.1:1/a/b:c", "Dockerfile:1", "try: "]);
}

#[test]
fn what_a_registry_refuses_has_advice() {
    needs!("docker-registry");
    let lap = Lap::empty();
    let registry = crate::support::Registry::start();
    let missing = format!("{}/a/b:c", registry.address);
    refuses(&lap, &["pull", &missing], 1, &["not known to the registry", "try: check name and tag"]);
    lap.write("ctx/Dockerfile", format!("FROM {missing}\n"));
    refuses(&lap, &["build", "ctx"], 1, &["not known to the registry", "Dockerfile:1", "try: check name and tag"]);
}

#[test]
fn a_full_disk_is_said_and_survived() {
    needs!(root);
    let lap = Lap::new();
    let mount = lap.path("small");
    std::fs::create_dir(&mount).unwrap();
    crate::support::run("mount", &["-t", "tmpfs", "-o", "size=12m", "none", mount.to_str().unwrap()]).ok();
    let store = mount.join("store");
    let small = |args: &[&str]| {
        let mut all = vec!["--root", store.to_str().unwrap()];
        all.extend(args);
        lap.run(&all)
    };
    small(&["import", crate::support::busybox().to_str().unwrap(), "busybox"]).ok();
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=64\n");
    let full = small(&["build", "ctx"]);
    let shared =
        small(&["run", "--rm", "--network", "none", "busybox", "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M"]);
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN echo small > /small\n");
    let after = small(&["build", "-q", "ctx"]);
    crate::support::run("umount", &["-l", mount.to_str().unwrap()]).ok();
    assert_eq!(full.code, 1, "{}", full.err);
    assert!(full.err.contains("No space left on device") && full.err.contains("make room"), "{}", full.err);
    assert!(shared.code != 0 && !shared.err.contains("make room"), "{}", shared.err);
    after.ok();
}

#[test]
fn files_without_an_end_are_not_read_to_it() {
    let lap = Lap::empty();
    refuses(&lap, &["dockerfile", "parse", "/dev/zero"], 1, &["/dev/zero", "not a regular file"]);
    let large = lap.write("large", vec![b'#'; 70 << 20]);
    let large = large.to_str().unwrap();
    refuses(&lap, &["dockerfile", "parse", large], 1, &[large, "larger than"]);
    let said = lap.run_with(&["dockerfile", "ignore"], &vec![b' '; 70 << 20]).code(1);
    assert!(said.err.contains("a question is longer than 64 MiB"), "{}", said.err);
    // Logins, and what the store says of itself.
    std::fs::create_dir(lap.path("docker")).unwrap();
    std::fs::copy(large, lap.path("docker/config.json")).unwrap();
    let mut pull = lap.command();
    let output = pull.env("DOCKER_CONFIG", lap.path("docker")).args(["pull", "127.0.0.1:1/x"]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("config.json") && err.contains("larger than"), "{err}");
    if !crate::support::is_root(module_path!()) {
        return;
    }
    lap.run(&["import", crate::support::busybox().to_str().unwrap(), "busybox"]).ok();
    let layer = std::fs::read_dir(lap.path("store/layers")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(large, layer.join("layer.json")).unwrap();
    refuses(&lap, &["run", "--network", "none", "busybox", "true"], 125, &["layer.json", "larger than"]);
}

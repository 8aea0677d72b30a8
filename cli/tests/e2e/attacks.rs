//! Hostile images, archives, Dockerfiles and callers. The letters and numbers are those of the project's list of
//! attacks (A) and faults (F).

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Lap, needs, run, wait_for};

/// No byte of it acts on a terminal.
#[track_caller]
fn assert_tame(text: &str) {
    let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!text.contains(acts), "{text:?}");
}

/// A tar with one entry, made by GNU tar.
fn tar_of(lap: &Lap, name: &str) -> std::path::PathBuf {
    lap.write(&format!("in/{name}"), "content");
    let (archive, dir) = (lap.path("evil.tar"), lap.path("in"));
    run("tar", &["-C".as_ref(), dir.as_os_str(), "-cPf".as_ref(), archive.as_os_str(), name.as_ref()]).ok();
    archive
}

// A113
#[test]
fn names_of_others_do_nothing_to_the_terminal() {
    needs!(root);
    let lap = Lap::new();
    for dockerfile in [
        "FROM busybox\n\x1b[31mFOO bar\n",
        "FROM busybox\nRUN echo \x1b]0;title\x07 && false\n",
        "FROM busybox\nRUN echo \u{9b}2J && false\n",
        "FROM busybox\nCOPY \x1b[2Jmissing /\n",
        "FROM \x1b[2Jbusybox\n",
        "FROM busybox\nRUN printf '\\033]52;c;aGk=\\007\\033[2J\\007\\302\\2332J'; false\n",
    ] {
        for progress in ["plain", "quiet", "rawjson"] {
            let said = lap.build_with("app", dockerfile, &["--progress", progress]);
            assert_ne!(said.code, 0, "{dockerfile:?}");
            assert_tame(&said.out);
            assert_tame(&said.err);
        }
    }
    let said = lap.run(&["import", tar_of(&lap, "../in/\x1b[2Jup").to_str().unwrap(), "evil"]).code(1);
    assert_tame(&said.err);
}

// A113
#[test]
fn what_an_image_says_of_itself_does_nothing_to_the_terminal() {
    needs!(root);
    let lap = Lap::new();
    let text =
        "FROM busybox\nLABEL x=\"\u{9b}2J\x1b[2J\"\nCMD [\"echo\", \"\u{9b}2J\"]\nRUN true # \x1b]0;x\x07\u{9b}2J\n";
    let said = lap.build("app", text).ok();
    assert_tame(&said.err);
    for args in [&["history", "--no-trunc", "app"][..], &["inspect", "app"], &["images"]] {
        assert_tame(&lap.run(args).ok().out);
    }
    lap.run(&["run", "--network", "none", "app"]).ok();
    assert_tame(&lap.run(&["ps", "-a"]).ok().out);
}

// A046
#[test]
fn the_owner_that_is_nobody_is_refused() {
    needs!(root);
    let lap = Lap::new();
    let archive = tar_of(&lap, "f");
    let mut bytes = std::fs::read(&archive).unwrap();
    // The owner in base 256, as GNU tar writes large numbers, and the sum of the header with it.
    bytes[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    std::fs::write(&archive, bytes).unwrap();
    let said = lap.run(&["import", archive.to_str().unwrap(), "evil"]).code(1);
    assert!(said.err.contains("bad owner"), "{}", said.err);
    lap.write("ctx/nobody.tar", std::fs::read(&archive).unwrap());
    let said = lap.build("app", "FROM busybox\nADD nobody.tar /\n").code(1);
    assert!(said.err.contains("bad owner"), "{}", said.err);
    for flag in ["4294967295", "4294967296", "0:4294967295"] {
        lap.run(&["run", "--rm", "--network", "none", "-u", flag, "busybox", "true"]).code(125);
        lap.build("app", &format!("FROM busybox\nCOPY --chown={flag} Dockerfile /\n")).code(1);
    }
}

// A070
#[test]
fn files_of_a_context_that_never_end_are_refused() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\n");
    let ignore = lap.path("ctx/.dockerignore");
    let build = |what: &str| {
        let mut child = lap.command().args(["build", "-q", "ctx"]).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(what, || child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    symlink("/dev/zero", &ignore).unwrap();
    assert_eq!(build("an endless ignore file").0, Some(1));
    std::fs::remove_file(&ignore).unwrap();
    run("mkfifo", &[&ignore]).ok();
    assert_eq!(build("a pipe as ignore file").0, Some(1));
    std::fs::remove_file(&ignore).unwrap();
    std::fs::remove_file(lap.path("ctx/Dockerfile")).unwrap();
    run("mkfifo", &[lap.path("ctx/Dockerfile")]).ok();
    let (code, err) = build("a pipe as Dockerfile");
    assert_eq!(code, Some(1));
    assert!(err.contains("not a regular file"), "{err}");
}

// A023
#[test]
fn the_store_is_for_its_owner_only() {
    needs!(root);
    let lap = Lap::empty();
    let script = format!(
        "umask 0; L={}; $L import {} busybox && $L run -d --name c busybox sleep 60 && $L tag busybox other",
        env!("CARGO_BIN_EXE_lap"),
        crate::support::busybox().display()
    );
    let mut shell = std::process::Command::new("sh");
    shell.env("LAP_ROOT", lap.path("store")).env("LAP_RUN_DIR", lap.path("run")).arg("-c").arg(script);
    assert!(shell.output().unwrap().status.success());
    for dir in ["store", "run"] {
        let mode = lap.path(dir).metadata().unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{dir}");
        writable(&lap.path(dir));
    }
    lap.run(&["rm", "-f", "c"]).ok();
}

/// Nothing of ours below may be written by others; what images hold keeps its modes.
fn writable(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(meta) = path.symlink_metadata() else { continue };
        if path.ends_with("fs") || meta.is_symlink() {
            continue;
        }
        assert_eq!(meta.permissions().mode() & 0o022, 0, "{}", path.display());
        if meta.is_dir() {
            writable(&path);
        }
    }
}

// A006, A017
#[test]
fn steps_that_race_in_a_cache_mount_stay_inside() {
    needs!(root);
    let lap = Lap::new();
    lap.write("canary/file", "untouched");
    let canary = lap.path("canary");
    let mut text = format!(
        "FROM busybox AS a\nRUN --mount=type=cache,target=/c,id=r mkdir -p /c/sub; i=0; while [ $i -lt 600 ]; do \
         mv /c/sub /c/old; ln -s {} /c/sub; rm /c/sub; mv /c/old /c/sub; i=$((i+1)); done 2>/dev/null; true\n\
         FROM busybox AS b\n",
        canary.display()
    );
    for step in 0..12 {
        text += &format!(
            "RUN --mount=type=cache,target=/d,id=r,source=sub ! test -e /d/file && touch /d/w{step} || true\n"
        );
        text += "RUN --mount=type=cache,target=/c,id=r --mount=type=tmpfs,target=/c/sub/made true\n";
    }
    text += "FROM busybox\nCOPY --from=a /etc/passwd /1\nCOPY --from=b /etc/passwd /2\n";
    // A step may fail when its mount point is a link just then; the host stays as it was.
    lap.build("app", &text);
    let names: Vec<_> = std::fs::read_dir(&canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
}

// F001
#[test]
fn a_killed_build_leaves_nothing_to_the_next() {
    needs!(root);
    let lap = Lap::new();
    lap.write(
        "ctx/Dockerfile",
        "FROM busybox AS a\nRUN i=0; while [ $i -lt 50 ]; do echo $i > /f$i; i=$((i+1)); done\nRUN sleep 0.1; echo a > /a\n\
         FROM busybox\nRUN sleep 0.1; echo b > /b\nCOPY --from=a / /a/\nRUN cat /b /a/a > /c\n",
    );
    for pause in [5, 20, 50, 90, 140, 200, 270, 350] {
        let mut child = lap
            .command()
            .args(["build", "-q", "--no-cache", "-t", "app", "ctx"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    lap.run(&["build", "-q", "-t", "app", "ctx"]).ok();
    assert_eq!(lap.sh("app", "cat /c"), "b\na\n");
    let left: Vec<_> = std::fs::read_dir(lap.path("store/tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

// F001
#[test]
fn a_killed_run_leaves_nothing_to_the_next() {
    needs!(root);
    let lap = Lap::new();
    let sleep = format!("1{:06}", std::process::id());
    for pause in [5, 10, 20, 40, 80, 400] {
        let mut child =
            lap.command().args(["run", "--rm", "--network", "none", "busybox", "sleep", &sleep]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A container in the foreground dies with who watches it.
    wait_for("the containers to die", || run("pgrep", &["-f", &sleep]).out.is_empty());
    lap.run(&["run", "--rm", "--network", "none", "busybox", "true"]).ok();
    assert_eq!(lap.run(&["ps", "-aq"]).ok().out, "");
    let left = std::fs::read_dir(lap.path("store/containers")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).filter(|name| name.len() == 64).collect();
    assert!(left.is_empty(), "{left:?}");
}

// F049
#[test]
fn signals_end_a_build_with_their_code() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN echo be''gun; sleep 30\n");
    let output = || Stdio::from(std::fs::File::create(lap.path("output")).unwrap());
    let wait_for_step =
        || wait_for("the step", || std::fs::read_to_string(lap.path("output")).unwrap().contains("begun"));
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        // Whoever runs the tests may have told them to go on after a hangup.
        let mut child = std::process::Command::new("env");
        child.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_lap"), "build", "--progress", "plain", "ctx"]);
        child.env("LAP_ROOT", lap.path("store")).env("LAP_RUN_DIR", lap.path("run")).current_dir(lap.path("."));
        let mut child = child.stderr(output()).spawn().unwrap();
        wait_for_step();
        run("kill", &[format!("-{signal}"), child.id().to_string()]).ok();
        wait_for("the build", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
    }
    assert_eq!(std::fs::read_dir(lap.path("store/tmp")).unwrap().count(), 0);
    // What nohup(1) starts goes on.
    let script = format!("trap '' HUP; exec {} build --progress plain ctx", env!("CARGO_BIN_EXE_lap"));
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN echo be''gun; sleep 1\n");
    let mut shell = std::process::Command::new("sh");
    shell.env("LAP_ROOT", lap.path("store")).env("LAP_RUN_DIR", lap.path("run")).current_dir(lap.path("."));
    let mut child = shell.arg("-c").arg(script).stdout(Stdio::null()).stderr(output()).spawn().unwrap();
    wait_for_step();
    run("kill", &["-HUP".to_owned(), child.id().to_string()]).ok();
    assert!(child.wait().unwrap().success());
}

// F018
#[test]
fn a_full_disk_is_told_and_the_store_goes_on() {
    needs!(root);
    let lap = Lap::empty();
    std::fs::create_dir(lap.path("store")).unwrap();
    let store = lap.path("store");
    let store = store.to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=6m", "tmpfs", store]).ok();
    let unmount = Unmount(store.to_owned());
    lap.run(&["import", crate::support::busybox().to_str().unwrap(), "busybox"]).ok();
    lap.write("ctx/big", vec![7; 8 << 20]);
    let said = lap.build("app", "FROM busybox\nCOPY big /\n").code(1);
    assert!(said.err.contains("No space left"), "{}", said.err);
    assert!(said.err.contains("make room"), "{}", said.err);
    assert_eq!(std::fs::read_dir(lap.path("store/tmp")).unwrap().count(), 0);
    run("mount", &["-o", "remount,size=64m", store]).ok();
    lap.build("app", "FROM busybox\nCOPY big /\n").ok();
    assert_eq!(lap.sh("app", "wc -c < /big"), "8388608\n");
    drop(unmount);
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        run("umount", &["-l", &self.0]);
    }
}

// A064
#[test]
fn a_secret_is_nowhere_but_in_its_step() {
    needs!(root);
    let lap = Lap::new();
    let secret = "canary-1c9b7a3f";
    lap.write("secret", secret);
    lap.write(
        "ctx/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=s test \"$(cat /run/secrets/s | wc -c)\" = 15\n\
         RUN --mount=type=secret,id=s,env=S test ${#S} = 15\nRUN test ! -s /run/secrets/s\n",
    );
    let said = lap.run(&["build", "--progress", "plain", "--secret", "id=s,src=secret", "-t", "app", "ctx"]).ok();
    assert!(!said.err.contains(secret));
    lap.run(&["save", "-o", "saved.tar", "app"]).ok();
    for place in ["store", "run", "saved.tar"] {
        let found = run("grep", &["-rlaF", secret, lap.path(place).to_str().unwrap()]);
        assert_eq!(found.out, "", "{place}");
    }
}

//! Contexts of strangers: links, patterns and paths that want to lead out.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::{Lap, needs};

/// A directory beside the context, which nothing may read or change.
fn canary(lap: &Lap) -> std::path::PathBuf {
    lap.write("canary/secret", "canary-7a1f");
    lap.path("canary")
}

/// The files that an image has below `/c`.
fn files(lap: &Lap, image: &str) -> String {
    lap.sh(image, "cd /c && find . | sort | tr '\\n' ' '")
}

// A070
#[test]
fn links_of_a_context_are_copied_and_not_followed_out_of_it() {
    needs!(root);
    let lap = Lap::new();
    let canary = canary(&lap);
    lap.write("ctx/in/file", "in");
    lap.write("ctx/hidden/key", "canary-7a1f");
    lap.write("ctx/.dockerignore", "hidden\nDockerfile\n.dockerignore\n!../canary\n!../x\n");
    symlink(&canary, lap.path("ctx/absolute")).unwrap();
    symlink("../canary", lap.path("ctx/relative")).unwrap();
    symlink("hidden", lap.path("ctx/ignored")).unwrap();
    symlink("in", lap.path("ctx/inside")).unwrap();
    lap.build("app", "FROM busybox\nCOPY . /c/\n").ok();
    assert_eq!(files(&lap, "app"), ". ./absolute ./ignored ./in ./in/file ./inside ./relative ");
    assert_eq!(lap.sh("app", "readlink /c/relative"), "../canary\n");
    lap.build("app", "FROM busybox\nCOPY inside /c/\n").ok();
    assert_eq!(files(&lap, "app"), ". ./file ");
    for source in ["absolute/secret", "relative/secret", "ignored/key", "hidden/key", "absolute/", "relative"] {
        let said = lap.build("app", &format!("FROM busybox\nCOPY {source} /c/\n")).code(1);
        assert!(said.err.contains("Dockerfile:2") && !said.err.contains("canary-7a1f"), "{source}: {}", said.err);
    }
    // Upwards is no further than the context.
    lap.build("app", "FROM busybox\nCOPY ../../in/file /c/\n").ok();
    assert_eq!(files(&lap, "app"), ". ./file ");
    lap.build("app", "FROM busybox\nCOPY ../canary/secret /c/\n").code(1);
    lap.build("app", "FROM busybox\nRUN --mount=type=bind,source=absolute,target=/c ls /c\n").code(1);

    // An ignore file that is a link leads nowhere else either.
    let ignore = lap.path("ctx/.dockerignore");
    for target in [canary.join("secret"), "../canary/secret".into(), "nowhere".into()] {
        std::fs::remove_file(&ignore).unwrap();
        symlink(target, &ignore).unwrap();
        let said = lap.build("app", "FROM busybox\nCOPY . /c/\n").code(1);
        assert!(said.err.contains("leads out") && !said.err.contains("canary-7a1f"), "{}", said.err);
    }
    std::fs::remove_file(&ignore).unwrap();
    lap.write("ctx/in/ignore", "*\n!in/file\n");
    symlink("in/ignore", &ignore).unwrap();
    lap.build("app", "FROM busybox\nCOPY . /c/\n").ok();
    assert_eq!(files(&lap, "app"), ". ./in ./in/file ");
}

// A070, A071
#[test]
fn patterns_of_an_ignore_file_are_many_long_or_wrong() {
    needs!(root);
    let lap = Lap::new();
    lap.write(&format!("ctx/{}f", "a/".repeat(40)), "deep");
    lap.write("ctx/keep", "k");
    let stars = format!("{}nothing", "**/a*/".repeat(40));
    let many: String = (0..100_000).map(|number| format!("no/such/{number}\n")).collect();
    for text in [stars, many, "x".repeat(1 << 20), "\u{feff}\r\nDockerfile\r\n\0\n".to_owned()] {
        lap.write("ctx/.dockerignore", text);
        lap.build("app", "FROM busybox\nCOPY keep /c/\n").ok();
        assert_eq!(files(&lap, "app"), ". ./keep ");
    }
    for pattern in ["[", "a[", "[]a]", "[z-", "a\\"] {
        lap.write("ctx/.dockerignore", format!("ok\n{pattern}\n"));
        let said = lap.build("app", "FROM busybox\nCOPY keep /c/\n");
        assert!(said.code == 0 || (said.code == 1 && said.err.contains("ignore")), "{pattern}: {said:?}");
    }
}

// A073
#[test]
fn archives_that_are_contexts_stay_in_themselves_and_leave_nothing() {
    needs!(root);
    let lap = Lap::new();
    canary(&lap);
    let secret = lap.path("canary/secret");
    let made = |script: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Dockerfile"), "FROM busybox\nCOPY . /c/\n").unwrap();
        let output =
            Command::new("sh").args(["-c", script]).current_dir(dir.path()).env("S", &secret).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    // A hard link to a file of the machine, by its absolute name and upwards.
    for name in ["$S", "../../../../../../../../$S"] {
        let archive = made(&format!(
            "ln \"$S\" ./l 2>/dev/null || cp \"$S\" l; tar -cPf - --transform=\"flags=h;s,^Dockerfile$,{name},\" Dockerfile l"
        ));
        let said = lap.run_with(&["build", "-t", "app", "-"], &archive);
        assert!(!said.err.contains("canary-7a1f"), "{}", said.err);
    }
    let whole = made("head -c 100000 /dev/urandom > big; tar -cf - .");
    for length in [600, 5000, whole.len() / 2, whole.len() - 20_000] {
        let said = lap.run_with(&["build", "-q", "-"], &whole[..length]);
        assert_ne!(said.code, 0, "{length}");
    }
    let archive = made("mkdir -p x && ln -s / x/root && tar -cf - x && :");
    let said = lap.run_with(&["build", "-q", "-f", "x/root/etc/passwd", "-"], &archive).code(1);
    assert!(said.err.contains("has no x/root/etc/passwd"), "{}", said.err);
    assert_eq!(std::fs::read_dir(lap.path("store/tmp")).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "canary-7a1f");
}

// A074
#[test]
fn what_is_copied_from_a_stage_is_in_that_stage() {
    needs!(root);
    let lap = Lap::new();
    let canary = canary(&lap);
    let up = format!("/{}", "../".repeat(20));
    let stage = format!("FROM busybox AS a\nRUN ln -s {} /link && ln -s {up} /up\nFROM busybox\n", canary.display());
    for source in ["/link/secret", "/link/..//../canary/secret", "/up/../..$C/secret", "/../../..$C/secret"] {
        let source = source.replace("$C", canary.to_str().unwrap());
        let said = lap.build("app", &format!("{stage}COPY --from=a {source} /\n")).code(1);
        assert!(said.err.contains("Dockerfile:4"), "{source}: {}", said.err);
    }
    // The host's own file is not what comes out of the stage's.
    lap.build("app", &format!("{stage}COPY --from=a /up/etc/ /c/\n")).ok();
    assert!(!Path::new(&lap.path("ctx/c")).exists());
    for (from, words) in [("-1", "-1"), ("https://h/x", "h/x"), ("1", "1"), ("self", "self"), ("..", "..")] {
        let text = format!("FROM busybox AS a\nFROM busybox AS self\nCOPY --from={from} /x /\n");
        let said = lap.build("app", &text).code(1);
        assert!(said.err.contains("Dockerfile:3") && said.err.contains(words), "{from}: {}", said.err);
    }
}

#[test]
fn a_dockerfile_may_lie_outside_of_its_context() {
    needs!(root);
    let lap = Lap::new();
    for (name, text) in [("ctx/a", "a"), ("ctx/b", "b"), ("ctx/.dockerignore", "b\n"), ("ctx/Dockerfile", "bad")] {
        lap.write(name, text);
    }
    let dockerfile = lap.write("build/Dockerfile.app", "FROM busybox\nCOPY . /c/\n");
    let build = |flags: &[&str]| lap.run(&[&["build", "-q", "-t", "app"], flags, &["ctx"]].concat());
    build(&["-f", "build/Dockerfile.app"]).ok();
    assert_eq!(files(&lap, "app"), ". ./.dockerignore ./Dockerfile ./a ");
    // Its own ignore file comes first.
    lap.write("build/Dockerfile.app.dockerignore", "a\nDockerfile\n.dockerignore\n");
    build(&["--file", dockerfile.to_str().unwrap()]).ok();
    assert_eq!(files(&lap, "app"), ". ./b ");
    // A Dockerfile in lower case is found, and the one in upper case comes first.
    std::fs::remove_file(lap.path("ctx/Dockerfile")).unwrap();
    lap.write("ctx/dockerfile", "FROM busybox\nCOPY a /c/lower\n");
    build(&[]).ok();
    assert_eq!(files(&lap, "app"), ". ./lower ");
    let said = build(&["-f", "build/none"]).code(1);
    assert!(said.err.contains("build/none"), "{}", said.err);
}

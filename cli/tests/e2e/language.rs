//! What of the language only a build of real files shows.

use crate::support::{Lap, needs};

/// Names below the root of an image's tree, as its tar has them.
fn files(lap: &Lap, args: &[&str]) -> Vec<String> {
    let out = lap.path("out");
    drop(std::fs::remove_dir_all(&out));
    let mut all = vec!["build", "-q", "-o", out.to_str().unwrap()];
    all.extend(args);
    lap.run(&all).ok();
    let mut names: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn ignore_files_are_found_where_they_lie() {
    needs!(root);
    let lap = Lap::empty();
    for name in ["a", "b", "c", "!d", "#e"] {
        lap.write(&format!("ctx/{name}"), name);
    }
    lap.write("ctx/Dockerfile", "FROM scratch\nCOPY [abc] /\n");
    lap.write("ctx/.dockerignore", "\u{feff}# note\r\n/a\n");
    assert_eq!(files(&lap, &["ctx"]), ["b", "c"]);
    // The one that has the name of the Dockerfile wins, inside of the context and beside it.
    lap.write("ctx/Dockerfile.dockerignore", "b");
    assert_eq!(files(&lap, &["ctx"]), ["a", "c"]);
    lap.write("elsewhere/Other", "FROM scratch\nCOPY [abc] /\n");
    lap.write("elsewhere/Other.dockerignore", "c");
    let other = lap.path("elsewhere/Other");
    assert_eq!(files(&lap, &["-f", other.to_str().unwrap(), "ctx"]), ["a", "b"]);
    // A named context has its own.
    lap.write("more/.dockerignore", "x");
    lap.write("more/x", "");
    lap.write("more/y", "");
    lap.write("elsewhere/Named", "FROM scratch\nCOPY --from=more [xy] /\n");
    let more = format!("more={}", lap.path("more").display());
    let named = lap.path("elsewhere/Named");
    assert_eq!(files(&lap, &["-f", named.to_str().unwrap(), "--build-context", &more, "ctx"]), ["y"]);
}

#[test]
fn a_line_that_is_no_pattern_is_named() {
    let lap = Lap::empty();
    lap.write("ctx/Dockerfile", "FROM scratch\n");
    for line in ["[", "[]a]", "a\\", "a[", "!"] {
        lap.write("ctx/.dockerignore", format!("fine\n{line}\n"));
        let said = lap.run(&["build", "ctx"]).code(1);
        assert!(said.err.contains(".dockerignore:2: ") && said.err.contains("pattern"), "{line}: {}", said.err);
    }
    // No patterns of ours, but nothing breaks: other encodings, long lines, bytes that are no text.
    let utf16: Vec<u8> = "\u{feff}a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for text in [utf16, vec![b'x'; 1 << 20], b"a\0b\r\n\xff\n".to_vec(), "**/".repeat(1 << 18).into_bytes()] {
        lap.write("ctx/.dockerignore", text);
        lap.run(&["build", "--print", "json", "ctx"]).ok();
    }
}

#[test]
fn the_file_may_be_called_dockerfile() {
    let lap = Lap::empty();
    lap.write("ctx/dockerfile", "FROM scratch AS small\n");
    let said = lap.run(&["build", "--call", "targets", "ctx"]).ok();
    assert!(said.out.contains("small"), "{}", said.out);
}

#[test]
fn another_frontend_is_never_run() {
    let lap = Lap::empty();
    lap.write("ctx/Dockerfile", "# syntax=127.0.0.1:1/evil/frontend\nFROM scratch\n");
    let said = lap.run(&["build", "ctx"]).code(1);
    assert!(said.err.contains("Dockerfile:1:1") && said.err.contains("never run"), "{}", said.err);
    lap.write("ctx/Dockerfile", "FROM scratch\n");
    let said = lap.run(&["build", "--build-arg", "BUILDKIT_SYNTAX=127.0.0.1:1/evil/frontend", "ctx"]).code(1);
    assert!(said.err.contains("never run"), "{}", said.err);
}

#[test]
fn owners_are_numbers_where_they_are_digits() {
    needs!(root);
    let lap = Lap::new();
    // A user of this name must not be taken for the number.
    let users = "FROM busybox\nRUN printf '1000:x:0:0::/:/bin/sh\\nme:x:7:8::/:/bin/sh\\n' > /etc/passwd; printf 'us:x:9:\\n' > /etc/group\n";
    lap.write("ctx/f", "");
    for (owner, want) in [("1000", "1000:1000"), ("1000:0", "1000:0"), ("me", "7:8"), ("me:us", "7:9"), ("00", "0:0")] {
        let text = format!("{users}COPY --chown={owner} f /f\nRUN stat -c %u:%g /f > /who\n");
        lap.build("app", &text).ok();
        assert_eq!(lap.sh("app", "cat /who").trim(), want, "{owner}");
    }
    lap.build("app", &format!("{users}USER 1000\nRUN id -u > /tmp/who\n")).ok();
    assert_eq!(lap.sh("app", "cat /tmp/who").trim(), "1000");
    for owner in ["+0", "nobody-here", "4294967296", "4294967295", "-1"] {
        let said = lap.build("app", &format!("{users}COPY --chown={owner} f /f\n")).code(1);
        assert!(said.err.contains(owner), "{owner}: {}", said.err);
        let said = lap.build("app", &format!("{users}USER {owner}\nRUN true\n")).code(1);
        assert!(said.err.contains(owner), "{owner}: {}", said.err);
    }
}

#[test]
fn paths_of_copy_stay_inside() {
    needs!(root);
    let lap = Lap::new();
    let canary = lap.write("canary", "secret");
    lap.write("ctx/plain", "plain");
    std::os::unix::fs::symlink(&canary, lap.path("ctx/link")).unwrap();
    std::os::unix::fs::symlink(lap.dir.path(), lap.path("ctx/dir")).unwrap();
    for source in ["../canary", "a/../../canary", "/../canary", "./../canary", "dir/canary", "link"] {
        let said = lap.build("app", &format!("FROM busybox\nCOPY {source} /x\n"));
        if said.code == 0 {
            assert!(!lap.sh("app", "cat /x 2>/dev/null; true").contains("secret"), "{source}");
        }
    }
    for source in ["/plain", "//plain", "./plain", "x/../plain"] {
        lap.build("app", &format!("FROM busybox\nCOPY {source} /x\n")).ok();
        assert_eq!(lap.sh("app", "cat /x"), "plain");
    }
    // Nor does a link of a stage lead to this machine, or the destination out of the image.
    let text = format!(
        "FROM busybox AS a\nRUN ln -s {0} /link && ln -s / /root-of-all\nFROM busybox\nCOPY --from=a /root-of-all/..//../{0} /x\n",
        canary.display()
    );
    assert_eq!(lap.build("app", &text).code, 1);
    lap.build("app", "FROM busybox\nRUN ln -s /../../../tmp /out\nCOPY plain /out/../../canary-of-lap\n").ok();
    assert!(!std::path::Path::new("/canary-of-lap").exists());
    assert_eq!(lap.sh("app", "cat /canary-of-lap"), "plain");
}

//! Files that were written to do harm: they are refused with a place, or mean something harmless.

use serde_json::json;

use crate::{action, last, lowered_with, options, refused, with_args};

#[test]
fn mounts_take_no_options_but_their_own() {
    for flags in [
        "type=cache,target=/x,bind-propagation=shared",
        "type=bind,target=/x,rshared",
        "type=bind,target=/x,propagation=rshared",
        "target=/x,src=a,b",
        "type=cache,target=/",
        "type=cache,target=..",
        "type=bind,target=",
        "type=tmpfs",
        "target=/x,mode=+1",
        "type=cache,target=/x,uid=-1",
        "type=cache,target=/x,uid=4294967296",
        "type=cache,target=/x,mode=99999999999999",
        "type=tmpfs,target=/x,size=99999999999999999999999999x",
        "",
        ",",
        "=",
        "target=/x,=",
    ] {
        let fault = refused(&format!("FROM a\nRUN --mount={flags} x"));
        assert!(fault.starts_with("Dockerfile:2:"), "{flags}: {fault}");
    }
    // A mount leads nowhere but below the root of the step and of its source.
    let mount = &last("FROM a\nRUN --mount=target=/a/../../../x,source=../../etc/shadow y")["mounts"][0];
    assert_eq!((&mount["target"], &mount["kind"]["bind"]["source"]), (&"/x".into(), &"/etc/shadow".into()));
    let id = &last("FROM a\nRUN --mount=type=cache,id=../../x,target=/c y")["mounts"][0]["kind"]["cache"]["id"];
    assert_eq!(*id, json!("/../../x"), "a name, which is never a path: cache_mount::tests::an_id_is_never_a_path");
}

#[test]
fn paths_are_cleaned_below_the_root() {
    let long = "a/".repeat(2500);
    for (path, want) in [
        ("../x", "/x"),
        ("a/../../x", "/x"),
        ("/x", "/x"),
        ("//x", "/x"),
        ("./../x", "/x"),
        ("/a/./b//c/..", "/a/b"),
        (".", "/"),
        ("/", "/"),
        ("..", "/"),
        (long.as_str(), &format!("/{}", long.trim_end_matches('/'))),
    ] {
        assert_eq!(action(&format!("FROM a\nCOPY {path} /d"))["source"], want);
        let dest = action(&format!("FROM a\nCOPY s {path}"))["dest"].as_str().unwrap().to_owned();
        assert_eq!(dest.trim_end_matches('/'), want.trim_end_matches('/'));
        if want != "/" {
            assert_eq!(last(&format!("FROM a\nWORKDIR {path}"))["actions"][0]["mkdir"]["path"], want);
        }
    }
    for name in ["..", ".", "/", "a/../.."] {
        let text = format!("FROM a\nCOPY <<\"{name}\" /d/\nx\n{name}\n");
        match lowered_with(&text, &options(), &[]) {
            Err(faults) => assert!(faults[0].position.line == 2, "{}", faults[0]),
            Ok(_) => assert!(!action(&text)["name"].as_str().unwrap().contains(['/', '.']), "{name}"),
        }
    }
    assert!(refused("FROM a\nRUN <<a/b\n#!/bin/sh\na/b").contains("without slashes"));
}

#[test]
fn sources_of_copy_are_stages_contexts_or_images() {
    for (from, why) in [
        ("-1", "invalid stage index -1"),
        ("99999999999999999999", "99999999999999999999"),
        ("https://x/y", "invalid reference format"),
        ("one:", "invalid reference format"),
        ("../x", "invalid reference format"),
        ("$x", "variable expansion is not supported"),
    ] {
        let text = format!("FROM a AS one\nFROM b\nCOPY --from={from} x y");
        match lowered_with(&text, &options(), &[]) {
            Err(faults) => assert!(faults[0].to_string().contains(why), "{from}: {}", faults[0]),
            // So large a number is a name, of an image that nobody has.
            Ok(_) => assert_eq!(from, "99999999999999999999"),
        }
    }
    for circle in [
        "FROM a AS one\nCOPY --from=one x y",
        "FROM a AS one\nCOPY --from=0 x y",
        "FROM a AS one\nCOPY --from=two x y\nFROM b AS two\nCOPY --from=one x y",
        "FROM a AS one\nRUN --mount=from=two,target=/x y\nFROM b AS two\nCOPY --from=one x y",
    ] {
        let fault = refused(circle);
        assert!(fault.contains("circular dependency detected on stage: one"), "{fault}");
        assert!(fault.starts_with("Dockerfile:2:") || fault.starts_with("Dockerfile:4:"), "{fault}");
    }
    let chain = (0..200).fold("FROM scratch AS s0\n".to_owned(), |text, n| format!("{text}FROM s{n} AS s{}\n", n + 1));
    lowered_with(&chain, &options(), &[]).unwrap();
}

#[test]
fn addresses_are_no_options_of_git() {
    for address in [
        "ssh://-oProxyCommand=touch/x.git",
        "git@-oProxyCommand=x:y.git",
        "https://h/r.git#--upload-pack=x:sub",
        "https://h/r.git#-x",
        "https://h/r.git?ref=--x",
        "https://h/r.git#main:../../..",
        "https://h/r.git#main:a/../../b",
    ] {
        let text = format!("FROM a\nADD {address} /x");
        match lowered_with(&text, &options(), &[]) {
            Err(faults) => assert_eq!(faults[0].position.line, 2, "{}", faults[0]),
            Ok(lowered) => {
                // A path of the context, or a directory that is looked for inside of the repository only.
                let graph = serde_json::to_string(&lowered.graph).unwrap();
                let inside = graph.contains("\"subdir\"") || !graph.contains("\"git\"");
                assert!(inside && !graph.contains("--upload-pack"), "{address}: {graph}");
            }
        }
    }
    // What is neither a repository nor an address of the web is a path of the context.
    for path in ["ext::sh", "file:///etc/passwd", "fd::7", "ftp://h/x"] {
        let source = action(&format!("FROM a\nADD {path} /x"))["source"].as_str().unwrap().to_owned();
        assert!(source.starts_with('/'), "{source}");
    }
}

#[test]
fn frontends_of_others_are_refused_however_they_are_asked_for() {
    for text in [
        "# syntax=evil/frontend\nFROM a",
        "\u{feff}# syntax=evil/frontend\nFROM a",
        "#!/x\n#syntax = evil/frontend\nFROM a",
        "# escape=`\n# syntax=evil/frontend\nFROM a",
        "# SYNTAX=evil/docker/dockerfile.evil\nFROM a",
        "# syntax=docker/dockerfile/evil\nFROM a",
        "# syntax=evil/frontend docker/dockerfile\nFROM a",
    ] {
        assert!(refused(text).contains("never run"), "{text}");
    }
    // A comment like others, where the header is over.
    for text in ["# note\n# syntax=evil/frontend\nFROM a", "FROM a\n# syntax=evil/frontend", "\n#syntax=evil/x\nFROM a"]
    {
        lowered_with(text, &options(), &[]).unwrap();
    }
    assert!(lowered_with("FROM a", &with_args(&[("BUILDKIT_SYNTAX", "evil/frontend")]), &[]).is_err());
}

#[test]
fn whatever_a_command_can_see_is_in_its_key() {
    let key = |text: &str, options: &lap_frontend::Options| {
        let lowered = lowered_with(text, options, &[]).unwrap();
        lowered.graph.vertex(lowered.image.root.unwrap()).definition
    };
    let plain = key("FROM a\nRUN x", &options());
    for other in [
        "FROM b\nRUN x",
        "FROM --platform=linux/arm64 a\nRUN x",
        "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nRUN x",
        "FROM a\nUSER 1\nRUN x",
        "FROM a\nWORKDIR /w\nRUN x",
        "FROM a\nENV A=1\nRUN x",
        "FROM a\nARG A=1\nRUN x",
        "FROM a\nRUN [\"x\"]",
        "FROM a\nRUN --network=none x",
        "FROM a\nRUN --security=insecure x",
        "FROM a\nRUN --mount=type=tmpfs,target=/t x",
        "FROM a\nRUN --mount=type=secret,id=s x",
        "FROM scratch\nRUN x",
    ] {
        assert_ne!(key(other, &options()), plain, "{other}");
    }
    for same in [
        "FROM a\nLABEL a=b\nRUN x",
        "FROM a\nCMD y\nRUN x",
        "FROM a\nHEALTHCHECK CMD y\nEXPOSE 1\nVOLUME /v\nRUN x",
        "FROM a AS other\n\n# note\nRUN    x",
        "FROM a\nRUN --timeout=1s x",
    ] {
        assert_eq!(key(same, &options()), plain, "{same}");
    }
    assert_eq!(key("FROM a\nRUN x", &with_args(&[("HTTP_PROXY", "p")])), plain);
}

//! Section 1.2 of docs/features.md but for `RUN`.

use lap_solver::graph::Op;
use serde_json::json;

use crate::{action, config, last, lowered, lowered_with, options, refused, with_args};

#[test]
fn from() {
    let images = |text: &str, args: &[(&str, &str)]| -> Vec<String> {
        let lowered = lowered_with(text, &with_args(args), &[]).unwrap();
        let image = |op: &Op| match op {
            Op::Source(lap_solver::graph::Source::Image { reference, platform }) => {
                Some(format!("{reference} {platform}"))
            }
            _ => None,
        };
        lowered.graph.vertices().iter().filter_map(|vertex| image(&vertex.op)).collect()
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    assert_eq!(images("FROM a", &[]), ["docker.io/library/a:latest linux/amd64"]);
    assert_eq!(images(&format!("FROM x.io/b/c:1@{digest}"), &[]), [format!("x.io/b/c:1@{digest} linux/amd64")]);
    assert_eq!(images("FROM --platform=linux/arm64 a", &[]), ["docker.io/library/a:latest linux/arm64"]);
    assert_eq!(images("ARG v=1\nFROM a:$v", &[("v", "2")]), ["docker.io/library/a:2 linux/amd64"]);
    assert_eq!(images("FROM scratch", &[]), Vec::<String>::new());
    assert_eq!(images("FROM a AS Base\nFROM base", &[]), ["docker.io/library/a:latest linux/amd64"]);
    // A stage by number is an image of that name here, unlike in COPY.
    assert_eq!(images("FROM a\nFROM 0", &[]), ["docker.io/library/0:latest linux/amd64"]);
    for name in ["a1", "a-b_c.d", "A"] {
        lowered(&format!("FROM x AS {name}"));
    }
    for name in ["1a", "-a", "a$", "a/b", "é"] {
        assert!(refused(&format!("FROM x AS {name}")).contains("invalid name for build stage"), "{name}");
    }
    // An earlier stage gives what it is; its arguments stay with it only as values.
    let derived = config("FROM a AS one\nENV E=1\nCMD [\"c\"]\nUSER u\nWORKDIR /w\nEXPOSE 1\nFROM one");
    for (key, value) in [
        ("Cmd", json!(["c"])),
        ("User", json!("u")),
        ("WorkingDir", json!("/w")),
        ("ExposedPorts", json!({"1/tcp": {}})),
    ] {
        assert_eq!(derived[key], value);
    }
    // Arguments of a stage are not those of FROM.
    assert_eq!(lowered("FROM a AS one\nARG v=a\nFROM one$v").warnings_of("UndefinedArgInFrom").len(), 1);
    for (bad, why) in [
        ("FROM", "either one or three arguments"),
        ("FROM a b", "either one or three arguments"),
        ("FROM a is b", "either one or three arguments"),
        ("FROM $nothing", "should not be blank"),
        ("FROM --platform=$nothing a", "empty platform value"),
        ("FROM UPPER", "must be lowercase"),
        ("RUN x\nFROM a", "no build stage in current context"),
    ] {
        assert!(refused(bad).contains(why), "{bad}: {}", refused(bad));
    }
}

#[test]
fn copy() {
    let plain = action("FROM a\nCOPY a/b /c/");
    assert_eq!((&plain["source"], &plain["dest"], &plain["wildcard"]), (&"/a/b".into(), &"/c/".into(), &json!(null)));
    assert_eq!(action("FROM a\nWORKDIR /w\nCOPY a .")["dest"], "/w/");
    assert_eq!(action("FROM a\nCOPY a*/[b-c]? /d/")["wildcard"], true);
    assert_eq!(action("FROM a\nCOPY --chown=u:g a b")["owner"], "u:g");
    for (mode, want) in [("755", json!({"bits": 0o755})), ("u=rwX,go=rX", json!({"symbolic": "u=rwX,go=rX"}))] {
        assert_eq!(action(&format!("FROM a\nCOPY --chmod={mode} a b"))["mode"], want);
    }
    let parents = action("FROM a\nCOPY --parents x/./**/y /d/");
    assert_eq!(
        (&parents["source"], &parents["include"], &parents["parents"]),
        (&"/x".into(), &json!(["**/y"]), &true.into())
    );
    assert_eq!(action("FROM a\nCOPY --exclude=a --exclude=**/b c d")["exclude"], json!(["a", "**/b"]));
    assert_eq!(last("FROM a\nCOPY a b c /d/")["actions"].as_array().unwrap().len(), 3);
    // Linked: a layer of its own; with --chmod the flag is dropped without a word, as in BuildKit.
    assert_eq!(last("FROM a\nCOPY --link a b"), json!("merge"));
    assert!(last("FROM a\nCOPY --link --chmod=600 a b")["actions"].is_array());
    // From a stage by name and number, a context, an image.
    for from in ["one", "ONE", "0", "example.com/image:1"] {
        lowered(&format!("FROM a AS one\nFROM b\nCOPY --from={from} x y"));
    }
    for (bad, why) in [
        ("COPY a", "at least two arguments"),
        ("COPY --from=1 a b", "circular dependency detected on stage: stage-1"),
        ("COPY --from=7 a b", "invalid stage index 7"),
        ("COPY --from=-1 a b", "invalid stage index -1"),
        ("COPY --chmod=9 a b", "invalid chmod parameter"),
        ("COPY --chmod=10000 a b", "between 0 and 07777"),
        ("COPY --checksum=x a b", "unknown flag"),
        ("COPY https://x/y b", "source can't be a URL for COPY"),
        ("COPY https://x/y.git b", "source can't be a git ref for COPY"),
    ] {
        let fault = refused(&format!("FROM a AS one\nFROM b\n{bad}"));
        assert!(fault.contains(why), "{bad}: {fault}");
    }
}

#[test]
fn add() {
    assert_eq!(action("FROM a\nADD a.tar /x/")["unpack"], "if_archive");
    assert_eq!(action("FROM a\nADD --unpack=false a.tar /x/")["unpack"], json!(null));
    let source = |text: &str| {
        let lowered = lowered(text);
        let op = lowered.graph.vertices().iter().find_map(|vertex| match &vertex.op {
            Op::Source(source @ (lap_solver::graph::Source::Http { .. } | lap_solver::graph::Source::Git { .. })) => {
                Some(serde_json::to_value(source).unwrap())
            }
            _ => None,
        });
        op.unwrap()
    };
    let sum = format!("sha256:{}", "b".repeat(64));
    let http = source(&format!("FROM a\nADD --checksum={sum} https://x/y.tgz /z/"));
    assert_eq!((&http["http"]["url"], &http["http"]["checksum"]), (&"https://x/y.tgz".into(), &sum.as_str().into()));
    assert_eq!(action("FROM a\nADD https://x/y.tgz /z/")["unpack"], json!(null), "files of the web stay as they are");
    assert_eq!(action("FROM a\nADD --unpack=true https://x/y.tgz /z/")["unpack"], "if_archive");
    let git = source("FROM a\nADD --keep-git-dir=true https://x/y.git#v1:dir /z");
    let want = json!({"url": "https://x/y.git", "reference": "v1", "subdir": "dir", "keep_git_dir": true});
    assert_eq!(git["git"], want);
    assert_eq!(source("FROM a\nADD git@x:y.git /z")["git"]["url"], "git@x:y.git");
    for (bad, why) in [
        ("ADD --from=a b c", "unknown flag"),
        ("ADD --parents a b", "unknown flag"),
        ("ADD --checksum=sha256:00 https://x/y z", "invalid checksum digest format"),
        ("ADD --checksum=sha256:00 a b", "checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=sha256:00 https://x/y https://x/z w/", "multiple sources"),
    ] {
        assert!(refused(&format!("FROM a\n{bad}")).contains(why), "{bad}: {}", refused(&format!("FROM a\n{bad}")));
    }
}

#[test]
fn env_and_label() {
    let text =
        "FROM a\nENV a=b 'c d'=\"e f\" g=h\\ i\nENV old  some value\nLABEL x=y \"z w\"=1\nLABEL old style here\n";
    let config = config(text);
    let env = config["Env"].as_array().unwrap();
    assert_eq!(env[2..], [json!("a=b"), json!("c d=e f"), json!("g=h i"), json!("old=some value")]);
    assert_eq!(config["Labels"], json!({"x": "y", "z w": "1", "old": "style here"}));
    assert_eq!(lowered(text).warnings_of("LegacyKeyValueFormat").len(), 2);
    for (bad, why) in [
        ("ENV", "requires at least one argument"),
        ("ENV a", "must have two arguments"),
        ("ENV a=b c", "can't find = in \"c\""),
        ("ENV =b", "names can not be blank"),
        ("LABEL a", "must have two arguments"),
    ] {
        assert!(refused(&format!("FROM a\n{bad}")).contains(why), "{bad}");
    }
}

#[test]
fn arg() {
    let text = "ARG g=1 h\nFROM a\nARG g h=2 i\nARG j='x y'\nLABEL g=$g h=$h i=$i j=$j";
    assert_eq!(config(text)["Labels"], json!({"g": "1", "h": "2", "i": "", "j": "x y"}));
    let given = lowered_with(text, &with_args(&[("h", "3"), ("g", "4")]), &[]).unwrap();
    assert_eq!(given.image.config.config.labels["g"], "4");
    assert_eq!(given.image.config.config.labels["h"], "3");
    assert_eq!(config("ARG g=1\nFROM a\nLABEL g=$g")["Labels"]["g"], "", "global ones must be declared");
    for (bad, why) in [("ARG", "requires at least one argument"), ("ARG =x", "names can not be blank")] {
        assert!(refused(&format!("FROM a\n{bad}")).contains(why), "{bad}");
    }
}

#[test]
fn workdir() {
    let made = last("FROM a\nUSER u\nWORKDIR /a\nWORKDIR b/../c");
    assert_eq!(made["actions"][0]["mkdir"], json!({"path": "/a/c", "mode": 0o755, "owner": "u"}));
    assert_eq!(config("FROM a\nWORKDIR x")["WorkingDir"], "/x");
    assert_eq!(lowered("FROM a\nWORKDIR /").image.root, lowered("FROM a").image.root, "no layer for the root");
    assert_eq!(last("FROM a\nWORKDIR /a\nRUN x")["cwd"], "/a");
    assert!(refused("FROM a\nWORKDIR").contains("exactly one argument"));
}

#[test]
fn what_only_changes_the_config() {
    let text = "FROM a\nUSER 1:2\nEXPOSE 80 53/udp 8000-8002/TCP\nVOLUME /v /w\nVOLUME [\"/x y\"]\nSTOPSIGNAL SIGRTMIN+3\n\
        SHELL [\"/bin/bash\", \"-c\"]\nCMD a b\nMAINTAINER me <m@x>\n";
    let found = config(text);
    assert_eq!(found["User"], "1:2");
    let ports = json!({"53/udp": {}, "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}});
    assert_eq!(found["ExposedPorts"], ports);
    assert_eq!(found["Volumes"], json!({"/v": {}, "/w": {}, "/x y": {}}));
    assert_eq!(found["StopSignal"], "SIGRTMIN+3");
    assert_eq!((&found["Shell"], &found["Cmd"]), (&json!(["/bin/bash", "-c"]), &json!(["/bin/bash", "-c", "a b"])));
    assert_eq!(lowered(text).image.config.author.as_deref(), Some("me <m@x>"));
    assert_eq!(lowered(text).image.root, lowered("FROM a").image.root);
    // An entrypoint takes away the base's command, not one of this file.
    assert_eq!(config("FROM a\nENTRYPOINT [\"e\"]")["Cmd"], json!(null));
    assert_eq!(config("FROM a\nCMD [\"c\"]\nENTRYPOINT e")["Cmd"], json!(["c"]));
    assert_eq!(lowered("FROM a\nEXPOSE 127.0.0.1:80:80").warnings_of("ExposeInvalidFormat").len(), 1);
    for (bad, why) in [
        ("EXPOSE x", "invalid containerPort"),
        ("EXPOSE 80/http", "invalid proto"),
        ("EXPOSE 9-8", "invalid containerPort"),
        ("STOPSIGNAL nope", "invalid signal"),
        ("SHELL /bin/sh", "JSON form"),
        ("VOLUME [\"\"]", "can not be an empty string"),
        ("USER", "exactly one argument"),
        ("STOPSIGNAL", "exactly one argument"),
    ] {
        assert!(refused(&format!("FROM a\n{bad}")).contains(why), "{bad}: {}", refused(&format!("FROM a\n{bad}")));
    }
}

#[test]
fn healthcheck() {
    let text =
        "FROM a\nHEALTHCHECK --interval=1m --timeout=2s --start-period=3ms --start-interval=1h --retries=4 CMD x y";
    let want = json!({"Test": ["CMD-SHELL", "x y"], "Interval": 60_000_000_000u64, "Timeout": 2_000_000_000u64,
        "StartPeriod": 3_000_000, "StartInterval": 3_600_000_000_000u64, "Retries": 4});
    assert_eq!(config(text)["Healthcheck"], want);
    assert_eq!(config("FROM a\nHEALTHCHECK CMD [\"x\", \"y\"]")["Healthcheck"]["Test"], json!(["CMD", "x", "y"]));
    assert_eq!(config("FROM a\nHEALTHCHECK none")["Healthcheck"]["Test"], json!(["NONE"]));
    config("FROM a\nHEALTHCHECK --interval=0 --timeout=0s CMD x");
    for (bad, why) in [
        ("--interval=500us CMD x", "cannot be less than 1ms"),
        ("--interval=5 CMD x", "invalid duration"),
        ("--retries=-1 CMD x", "cannot be negative"),
        ("--retries=x CMD x", "takes a number"),
        ("CMD", "Missing command"),
        ("NONE x", "takes no arguments"),
        ("RUN x", "Unknown type \"RUN\""),
    ] {
        assert!(refused(&format!("FROM a\nHEALTHCHECK {bad}")).contains(why), "{bad}");
    }
}

#[test]
fn onbuild() {
    assert_eq!(
        config("FROM a\nONBUILD RUN x\nONBUILD COPY <<E /f\nb\nE\n")["OnBuild"],
        json!(["RUN x", "COPY <<E /f\nb\nE"])
    );
    let used = lowered_with(
        "FROM a\nUSER own",
        &options(),
        &["ENV T=1", "RUN x", "COPY --from=tools /a /b", "COPY <<E /f\nb\nE", "USER trigger"],
    )
    .unwrap();
    assert_eq!(used.image.config.config.user, "own", "triggers come first");
    assert_eq!(used.image.config.config.env_value("T"), Some("1"));
    assert!(used.image.config.config.on_build.is_empty(), "used once");
    let names: Vec<&str> = used.graph.vertices().iter().map(|vertex| vertex.metadata.name.as_str()).collect();
    assert!(names.contains(&"ONBUILD RUN x") && names.contains(&"FROM docker.io/library/tools:latest"), "{names:?}");
    for (bad, why) in [
        ("ONBUILD RUN x", "Chaining ONBUILD"),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("MAINTAINER a", "MAINTAINER isn't allowed"),
    ] {
        assert!(refused(&format!("FROM a\nONBUILD {bad}")).contains(why), "{bad}");
    }
    let fault = lowered_with("FROM a", &options(), &["NONSENSE"]).unwrap_err()[0].to_string();
    assert!(fault.starts_with("Dockerfile:1:1: ") && fault.contains("onbuild trigger"), "{fault}");
}

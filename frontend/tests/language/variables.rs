//! Section 1.3 of docs/features.md. The operators themselves: `word::tests` and the reference in `properties`.

use lap_frontend::Epoch;
use serde_json::json;

use crate::{action, config, last, lowered, lowered_with, options, refused, with_args};

#[test]
fn operators_work_in_instructions() {
    let text = "FROM a\nENV e= v=a/b/c\nLABEL a=${x:-w} b=${e-w} c=${v:+w} d=${x+w} e=\\$v f='$v' g=${v#*/} h=${v##*/} \
        i=${v%/*} j=${v%%/*} k=${v/b/x} l=${v//\\//-} m=${x:-${y:-$v}}\n";
    let want = json!({"a": "w", "b": "", "c": "w", "d": "", "e": "$v", "f": "$v", "g": "b/c", "h": "c", "i": "a/b",
        "j": "a", "k": "a/x/c", "l": "a-b-c", "m": "a/b/c"});
    assert_eq!(config(text)["Labels"], want);
    assert!(refused("FROM a\nENV a=\"${x:?not set}\"").contains("x: not set"));
    assert!(refused("FROM a\nENV a=${x?}").contains("is not allowed to be unset"));
    assert_eq!(config("FROM a\nLABEL a=b$@c$1d")["Labels"], json!({"a": "bcd"}));
}

#[test]
fn what_is_expanded_where() {
    let head = "ARG v=x\nFROM a AS s\nFROM $v AS t\nENV v=y\n";
    let with = |line: &str| format!("{head}{line}\n");
    assert_eq!(config(&with("ENV n$v=$v"))["Env"][3], "ny=y");
    assert_eq!(config(&with("LABEL $v=$v"))["Labels"], json!({"y": "y"}));
    assert_eq!(config(&with("USER $v"))["User"], "y");
    assert_eq!(config(&with("VOLUME /$v"))["Volumes"], json!({"/y": {}}));
    assert_eq!(config(&with("STOPSIGNAL SIG${v:+INT}"))["StopSignal"], "SIGINT");
    assert_eq!(
        config(&with("ENV p=80 q='81 82'\nEXPOSE $p $q/tcp"))["ExposedPorts"],
        json!({"80/tcp": {}, "81/tcp": {}, "82/tcp": {}})
    );
    assert_eq!(config(&with("WORKDIR /$v"))["WorkingDir"], "/y");
    let copy = action(&with("COPY --chown=$v --chmod=${v:+600} --exclude=$v /$v /to$v"));
    assert_eq!((&copy["source"], &copy["dest"], &copy["owner"]), (&"/y".into(), &"/toy".into(), &"y".into()));
    assert_eq!((&copy["exclude"], &copy["mode"]["bits"]), (&json!(["y"]), &0o600.into()));
    let mounts = &last(&with("RUN --mount=type=cache,id=$v,target=/$v,mode=0${v:+700} x"))["mounts"][0];
    assert_eq!((&mounts["target"], &mounts["kind"]["cache"]["id"]), (&"/y".into(), &"/y@0:0:700".into()));
    // Not: commands, --from, triggers (until they are used), shells.
    assert_eq!(last(&with("RUN $v"))["args"][2], "$v");
    assert_eq!(config(&with("CMD [\"$v\"]"))["Cmd"], json!(["$v"]));
    assert_eq!(config(&with("ENTRYPOINT $v"))["Entrypoint"][2], "$v");
    assert_eq!(config(&with("ONBUILD USER $v"))["OnBuild"], json!(["USER $v"]));
    assert_eq!(config(&with("SHELL [\"$v\"]"))["Shell"], json!(["$v"]));
    assert!(refused(&with("COPY --from=$v a b")).contains("variable expansion is not supported for --from"));
    assert!(refused(&with("RUN --mount=from=$v,target=/x y")).contains("define alias stage instead"));
    // The value is the one before the instruction.
    assert_eq!(
        config("FROM a\nENV v=1\nENV v=2 w=$v\nLABEL l=$v")["Env"],
        json!(["BASE=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "v=2", "w=1"])
    );
}

#[test]
fn env_wins_over_arg_and_arg_is_in_the_key_of_every_later_run() {
    let env = |text: &str, args: &[(&str, &str)]| {
        let lowered = lowered_with(text, &with_args(args), &[]).unwrap();
        let root = lowered.graph.vertex(lowered.image.root.unwrap()).clone();
        (serde_json::to_value(&root.op).unwrap()["exec"]["env"].to_string(), root.definition)
    };
    assert!(
        env("FROM a\nENV v=env\nARG v=arg\nRUN x", &[]).0.contains("\"v=arg\""),
        "the later one, as BuildKit has it"
    );
    assert!(env("FROM a\nARG v=arg\nENV v=env\nRUN x", &[("v", "given")]).0.contains("\"v=env\""));
    let unused = |value| env("FROM a\nARG v\nRUN x", &[("v", value)]).1;
    assert_ne!(unused("1"), unused("2"));
    let before = |value| env("FROM a\nRUN x\nARG v", &[("v", value)]).1;
    assert_eq!(before("1"), before("2"));
    assert_eq!(config("FROM a\nARG v=1")["Env"].as_array().unwrap().len(), 2, "no part of the image");
}

#[test]
fn ten_proxy_arguments_are_seen_and_nowhere_kept() {
    for name in ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"] {
        for name in [name.to_owned(), name.to_uppercase()] {
            let given = lowered_with("FROM a\nRUN x", &with_args(&[(&name, "p")]), &[]).unwrap();
            let plain = lowered("FROM a\nRUN x");
            let step = |lowered: &lap_frontend::Lowered| lowered.graph.vertex(lowered.image.root.unwrap()).clone();
            assert_eq!(step(&given).op, step(&plain).op, "{name}");
            let both = [format!("{}=p", name.to_uppercase()), format!("{}=p", name.to_lowercase())];
            assert_eq!(step(&given).metadata.proxy_env, both);
            assert_eq!(format!("{:?}", given.image.history), format!("{:?}", plain.image.history));
        }
    }
}

#[test]
fn platform_arguments_are_those_of_the_build_where_declared() {
    let text = "FROM a\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDOS BUILDARCH BUILDVARIANT\nRUN x";
    let mut given = options();
    given.platform.architecture = "arm".into();
    given.platform.variant = Some("v7".into());
    let lowered = lowered_with(text, &given, &[]).unwrap();
    let op = serde_json::to_value(&lowered.graph.vertex(lowered.image.root.unwrap()).op).unwrap();
    let env = op["exec"]["env"].to_string();
    for want in [
        "TARGETPLATFORM=linux/arm/v7",
        "TARGETOS=linux",
        "TARGETARCH=arm",
        "TARGETVARIANT=v7",
        "BUILDPLATFORM=linux/amd64",
        "BUILDOS=linux",
        "BUILDARCH=amd64",
        "BUILDVARIANT=\"",
    ] {
        assert!(env.contains(want), "{want}: {env}");
    }
    assert!(!last("FROM a\nRUN x")["env"].to_string().contains("TARGET"), "only where declared");
    lowered_with("FROM --platform=$BUILDPLATFORM a", &given, &[]).unwrap();
    assert_eq!(config("FROM a AS b\nARG TARGETSTAGE\nLABEL l=$TARGETSTAGE")["Labels"]["l"], "b");
}

#[test]
fn arguments_of_the_builder() {
    let epoch = |args: &[(&str, &str)]| {
        let parsed = lap_frontend::parse("Dockerfile", "FROM a");
        lap_frontend::stages(&parsed.dockerfile, &with_args(args)).unwrap().source_date_epoch().cloned()
    };
    assert_eq!(epoch(&[("SOURCE_DATE_EPOCH", "7")]), Some(Epoch::Seconds(7)));
    assert_eq!(epoch(&[("SOURCE_DATE_EPOCH", "context")]), Some(Epoch::Context));
    let cache = |args: &[(&str, &str)]| {
        let lowered = lowered_with("FROM a\nRUN --mount=type=cache,target=/c x", &with_args(args), &[]).unwrap();
        let op = serde_json::to_value(&lowered.graph.vertex(lowered.image.root.unwrap()).op).unwrap();
        op["exec"]["mounts"][0]["kind"]["cache"]["id"].as_str().unwrap().to_owned()
    };
    assert_eq!((cache(&[]), cache(&[("BUILDKIT_CACHE_MOUNT_NS", "n")])), ("//c".into(), "n//c".into()));
    let checked = |check| lowered_with("FROM a\nENV A b", &with_args(&[("BUILDKIT_DOCKERFILE_CHECK", check)]), &[]);
    assert_eq!(checked("skip=all").unwrap().warnings, []);
    assert!(checked("error=true").is_err());
}

#[test]
fn outlines_hold_what_the_target_uses() {
    let args = |text: &str| {
        let outline = lowered(text).outline;
        outline.args.into_iter().map(|arg| (arg.name, arg.value.unwrap_or_default(), arg.line)).collect::<Vec<_>>()
    };
    let named = |list: &[(&str, &str, u32)]| -> Vec<(String, String, u32)> {
        list.iter().map(|&(name, value, line)| (name.to_owned(), value.to_owned(), line)).collect()
    };
    // A global one counts where a FROM is made of it, or a stage takes it over; so do those that it is made of.
    let text = "ARG UNUSED=1\nARG T=1.2 B=busybox:$T\n\nARG C=c\nARG D=d\nARG P=linux/amd64\n\
        FROM --platform=$P ${B%:*} AS x\nARG C\nFROM other AS unused\nARG D\nFROM scratch AS y\nCOPY --from=x / /\nARG S\nARG TARGETARCH\n";
    let want = [("T", "1.2", 2), ("B", "busybox:1.2", 2), ("C", "c", 4), ("P", "linux/amd64", 6), ("S", "", 13)];
    assert_eq!(args(text), named(&want));
    // One of the stage's own takes the place of a global one, and the target's that of another stage's.
    let text = "ARG A=1\nARG N=a\nFROM $N AS x\nARG A=2\nFROM x\nARG A=3\n";
    assert_eq!(args(text), named(&[("N", "a", 2), ("A", "3", 6)]));
    // Declared is declared, used or not.
    let text = "ARG UNUSED\nFROM a\n";
    let given = [("UNUSED".to_owned(), "1".to_owned()), ("NONE".to_owned(), "1".to_owned())].into();
    assert_eq!(lowered(text).outline.unused_args(&given), ["NONE"]);
}

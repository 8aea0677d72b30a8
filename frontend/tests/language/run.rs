//! `RUN` and its mounts, of section 1.2 of docs/features.md.

use serde_json::json;

use crate::{last, lowered, refused};

/// The mounts of a `RUN` in a second stage.
#[track_caller]
fn mounts(flags: &str) -> serde_json::Value {
    last(&format!("FROM a AS one\nRUN before\nFROM b\nWORKDIR /w\nRUN {flags} x"))["mounts"].clone()
}

#[track_caller]
fn refuses(flags: &str, why: &str) {
    let fault = refused(&format!("FROM a AS one\nFROM b\nRUN {flags} x"));
    assert!(fault.contains(why), "{flags}: {fault}");
    assert!(fault.starts_with("Dockerfile:3:"), "{fault}");
}

#[test]
fn run() {
    let plain = last("FROM a\nUSER u\nWORKDIR /w\nRUN x y");
    assert_eq!(plain["args"], json!(["/bin/sh", "-c", "x y"]));
    assert_eq!((&plain["user"], &plain["cwd"]), (&"u".into(), &"/w".into()));
    assert!(last("FROM scratch\nRUN x")["env"][0].as_str().unwrap().starts_with("PATH=/usr/local/sbin:"));
    for network in ["default", "none", "host"] {
        let want = if network == "default" { json!(null) } else { json!(network) };
        assert_eq!(last(&format!("FROM a\nRUN --network={network} x"))["network"], want);
    }
    assert_eq!(last("FROM a\nRUN --security=insecure x")["security"], "insecure");
    assert_eq!(last("FROM a\nRUN --security=sandbox x")["security"], json!(null));
    let timed = lowered("FROM a\nRUN --timeout=90s x");
    assert_eq!(timed.graph.vertex(timed.image.root.unwrap()).metadata.timeout, Some(90_000_000_000));
    refuses("--network=bridge", "invalid network mode \"bridge\"");
    refuses("--security=none", "security \"none\" is not valid");
    refuses("--timeout=x", "invalid duration \"x\" in flag --timeout");
    refuses("--timeout=-1s", "invalid duration");
    refuses("--device=gpu", "devices are not supported");
    assert!(refused("FROM a\nRUN []").contains("requires at least one argument"));
    // A shell without a command does nothing, as in BuildKit; so does one whose words are flags.
    for nothing in ["RUN", "RUN ", "RUN \\\n", "RUN --network=none"] {
        assert_eq!(last(&format!("FROM a\n{nothing}"))["args"], json!(["/bin/sh", "-c", ""]), "{nothing}");
    }
    assert_eq!(last("FROM a\nSHELL [\"x\"]\nRUN")["args"], json!(["x", ""]));
    // The order of mounts is the order of flags.
    let targets: Vec<_> = mounts("--mount=type=tmpfs,target=/b --mount=type=cache,target=/a --mount=target=/c")
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["target"].clone())
        .collect();
    assert_eq!(targets, ["/b", "/a", "/c"]);
}

#[test]
fn bind() {
    for target in ["target", "dst", "destination"] {
        for source in ["source", "src"] {
            let mount = &mounts(&format!("--mount={target}=t,{source}=s"))[0];
            assert_eq!(
                *mount,
                json!({"target": "/w/t", "readonly": true, "kind": {"bind": {"input": 1, "source": "/s"}}})
            );
        }
    }
    for rw in ["rw", "readwrite", "rw=true", "ro=false", "readonly=false"] {
        assert_eq!(mounts(&format!("--mount=target=/t,{rw}"))[0]["readonly"], json!(null), "{rw}");
    }
    for from in ["one", "0", "example.com/x:1"] {
        mounts(&format!("--mount=type=bind,from={from},target=/t"));
    }
    refuses("--mount=from=$x,target=/t", "define alias stage instead");
    refuses("--mount=target=/", "invalid mount target \"/\"");
    refuses("--mount=target=/../..", "invalid mount target \"/\"");
    refuses("--mount=target=/t,mode=0700", "mode not allowed for \"bind\"");
    refuses("--mount=target=/t,size=1", "unexpected key 'size' for mount type 'bind'");
}

#[test]
fn cache() {
    let kind = |options: &str| mounts(&format!("--mount=type=cache,target=c{options}"))[0]["kind"]["cache"].clone();
    assert_eq!(kind("")["id"], "/c");
    assert_eq!(kind(",id=name")["id"], "/name");
    for sharing in ["shared", "private", "locked"] {
        let found = kind(&format!(",sharing={sharing}"))["sharing"].clone();
        assert!(found == sharing || (sharing == "shared" && found.is_null()), "{found}");
    }
    let owned = kind(",mode=0700,uid=1,gid=2");
    assert_eq!((&owned["mode"], &owned["uid"], &owned["gid"]), (&0o700.into(), &1.into(), &2.into()));
    assert_eq!(kind(",from=one,source=/s")["source"], "/s");
    assert_eq!(mounts("--mount=type=cache,target=/c")[0]["readonly"], json!(null));
    assert_eq!(mounts("--mount=type=cache,target=/c,ro")[0]["readonly"], true);
    refuses("--mount=type=cache,target=/c,sharing=some", "unsupported sharing value \"some\"");
    refuses("--mount=type=cache,target=/c,required", "unexpected key 'required'");
}

#[test]
fn tmpfs() {
    assert_eq!(mounts("--mount=type=tmpfs,target=/t")[0]["kind"], json!({"tmpfs": {}}));
    assert_eq!(mounts("--mount=type=tmpfs,target=/t,size=2m")[0]["kind"], json!({"tmpfs": {"size": 2 << 20}}));
    refuses("--mount=type=tmpfs,target=/t,size=x", "invalid value for size");
}

#[test]
fn secret() {
    let mount = &mounts("--mount=type=secret,id=s")[0];
    assert_eq!(mount["target"], "/run/secrets/s");
    assert_eq!(mount["kind"]["secret"]["mode"], 0o400);
    let owned = &mounts("--mount=type=secret,id=s,target=t,required,mode=0440,uid=1,gid=2")[0];
    assert_eq!(owned["target"], "/w/t");
    let want = json!({"id": "s", "required": true, "mode": 0o440, "uid": 1, "gid": 2});
    assert_eq!(owned["kind"]["secret"], want);
    assert_eq!(mounts("--mount=type=secret,source=s,target=/t")[0]["kind"]["secret"]["id"], "s");
    assert_eq!(mounts("--mount=type=secret,target=/etc/s")[0]["kind"]["secret"]["id"], "s");
    let env = last("FROM a\nRUN --mount=type=secret,id=s,env=E x");
    assert_eq!((&env["secret_env"][0]["name"], &env["mounts"]), (&"E".into(), &json!(null)));
    let both = last("FROM a\nRUN --mount=type=secret,id=s,env=E,target=/t x");
    assert_eq!((&both["secret_env"][0]["id"], &both["mounts"][0]["target"]), (&"s".into(), &"/t".into()));
    refuses("--mount=type=secret", "one of source, target required");
    refuses("--mount=type=secret,id=a,source=b", "both source and id can't be set");
    refuses("--mount=type=secret,id=a,from=one", "should not have a from");
}

#[test]
fn ssh() {
    let mount = &mounts("--mount=type=ssh")[0];
    assert_eq!(
        (&mount["target"], &mount["kind"]["ssh"]["id"]),
        (&"/run/buildkit/ssh_agent.0".into(), &"default".into())
    );
    assert_eq!(mount["kind"]["ssh"]["mode"], 0o600);
    assert_eq!(mounts("--mount=type=ssh --mount=type=ssh,id=b")[1]["target"], "/run/buildkit/ssh_agent.1");
    let owned = &mounts("--mount=type=ssh,id=k,target=/s,required,mode=0666,uid=1,gid=2")[0];
    assert_eq!(owned["target"], "/s");
    assert_eq!(owned["kind"]["ssh"], json!({"id": "k", "required": true, "mode": 0o666, "uid": 1, "gid": 2}));
    let env = last("FROM a\nRUN --mount=type=ssh x")["env"].to_string();
    assert!(env.contains("SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"), "{env}");
    let own = last("FROM a\nENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh x")["env"].to_string();
    assert!(own.contains("SSH_AUTH_SOCK=/own") && !own.contains("agent.0"), "{own}");
}

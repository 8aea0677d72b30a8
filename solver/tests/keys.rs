//! Golden keys: what stands in testdata/keys must not change by accident, or every cache in the world is worth nothing.
//!
//! A change of what goes into keys is a deliberate act: raise `KEY_VERSION`, run with `LAP_UPDATE=1`, and say so in the
//! CHANGELOG.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use lap_solver::digest::{KEY_VERSION, Key};
use lap_solver::graph::{
    Builder, CacheSharing, Copy, Exec, File, FileAction, InlineFile, Metadata, Mode, Mount, MountKind, Network, Op,
    SecretEnv, SecretFile, Security, Source, Unpack,
};
use lap_solver::key::KeyInputs;
use lap_solver::platform::Platform;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Golden {
    version: u32,
    steps: Vec<Vector>,
}

/// A step, what it sees of its inputs, and its keys.
#[derive(Serialize, Deserialize)]
struct Vector {
    name: String,
    op: Op,
    inputs: Vec<Key>,
    definition: Key,
    key: Key,
}

fn amd64() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

fn exec() -> Exec {
    Exec {
        root: Some(0),
        args: ["/bin/sh", "-c", "make"].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".into(), "VERSION=1".into()],
        cwd: "/src".into(),
        user: String::new(),
        network: Network::Default,
        security: Security::Sandbox,
        mounts: Vec::new(),
        secret_env: Vec::new(),
        files: Vec::new(),
        platform: amd64(),
    }
}

fn copy() -> Copy {
    Copy {
        from: Some(1),
        source: "/src".into(),
        dest: "/app/".into(),
        owner: None,
        keep_owner: false,
        mode: None,
        wildcard: false,
        unpack: Unpack::No,
        include: Vec::new(),
        exclude: Vec::new(),
        parents: false,
    }
}

/// One of every kind, and each field at least once away from its default.
fn samples() -> Vec<(&'static str, Op, usize)> {
    let secret = SecretFile { id: "token".into(), required: true, mode: 0o400, uid: 1, gid: 2, keyed: false };
    let mount = |target: &str, kind| Mount { target: target.into(), readonly: true, kind };
    let mounts = vec![
        mount("/in", MountKind::Bind { input: Some(1), source: "/a".into() }),
        mount(
            "/cache",
            MountKind::Cache {
                id: "go".into(),
                sharing: CacheSharing::Locked,
                input: None,
                source: "/".into(),
                mode: 0o755,
                uid: 0,
                gid: 0,
            },
        ),
        mount("/tmp", MountKind::Tmpfs { size: Some(1 << 20) }),
        mount("/run/secrets/token", MountKind::Secret(secret.clone())),
        mount("/run/ssh", MountKind::Ssh(secret.clone())),
    ];
    let all = Exec {
        user: "app:app".into(),
        network: Network::None,
        security: Security::Insecure,
        mounts,
        secret_env: vec![SecretEnv { id: "token".into(), name: "TOKEN".into(), required: false, keyed: false }],
        files: vec![InlineFile { path: "/dev/script".into(), data: "#!/bin/sh\n".into(), mode: 0o755 }],
        platform: Platform { variant: Some("v7".into()), architecture: "arm".into(), ..amd64() },
        ..exec()
    };
    let counted = SecretFile { keyed: true, ..secret.clone() };
    let counts = Exec {
        mounts: vec![mount("/run/secrets/token", MountKind::Secret(counted))],
        secret_env: vec![SecretEnv { id: "token".into(), name: "TOKEN".into(), required: false, keyed: true }],
        ..exec()
    };
    let every = Copy {
        owner: Some("app:1".into()),
        keep_owner: true,
        mode: Some(Mode::Symbolic("u=rwX".into())),
        wildcard: true,
        unpack: Unpack::IfArchive,
        include: vec!["*.c".into()],
        exclude: vec!["x".into()],
        parents: true,
        ..copy()
    };
    let mkdir = FileAction::Mkdir { path: "/app".into(), mode: 0o755, owner: None };
    let mkfile = FileAction::Mkfile {
        path: "/f".into(),
        name: "f".into(),
        data: "text\n".into(),
        mode: Some(Mode::Bits(0o600)),
        owner: Some("1:2".into()),
    };
    let git = Source::Git {
        url: "https://example.com/a.git".into(),
        reference: Some("main".into()),
        subdir: Some("sub".into()),
        keep_git_dir: true,
        checksum: Some("ab".repeat(20)),
        skip_submodules: true,
    };
    let http =
        Source::Http { url: "https://example.com/a".into(), checksum: Some("sha256:0".into()), filename: "a".into() };
    vec![
        ("image", Op::Source(Source::Image { reference: "docker.io/library/debian:12".into(), platform: amd64() }), 0),
        ("context", Op::Source(Source::Local { name: "context".into() }), 0),
        ("http", Op::Source(http), 0),
        ("git", Op::Source(git), 0),
        ("run", Op::Exec(exec()), 1),
        ("run with everything", Op::Exec(all), 2),
        ("copy", Op::File(File { root: Some(0), actions: vec![FileAction::Copy(copy())] }), 2),
        ("copy with everything", Op::File(File { root: Some(0), actions: vec![FileAction::Copy(every)] }), 2),
        ("files", Op::File(File { root: None, actions: vec![mkdir, mkfile] }), 0),
        ("merge", Op::Merge, 2),
        ("run with a secret that counts", Op::Exec(counts), 1),
    ]
}

fn vector((name, op, count): (&str, Op, usize)) -> Vector {
    let inputs: Vec<Key> = (0..count).map(|at| Key::of("golden", &at.to_string())).collect();
    let mut builder = Builder::new();
    let input = |at: usize| Op::Source(Source::Local { name: format!("input {at}") });
    let ids = (0..count).map(|at| builder.add(input(at), Vec::new(), Metadata::default())).collect();
    let id = builder.add(op.clone(), ids, Metadata::default());
    let definition = builder.graph().vertex(id).definition;
    let key = KeyInputs { op: op.clone(), inputs: inputs.clone(), secrets: BTreeMap::new() }.key();
    Vector { name: name.to_owned(), op, inputs, definition, key }
}

#[test]
fn step_keys_are_those_of_the_golden_file() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/keys/steps.json");
    let now = Golden { version: KEY_VERSION, steps: samples().into_iter().map(vector).collect() };
    let text = serde_json::to_string_pretty(&now).unwrap() + "\n";
    if std::env::var_os("LAP_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(golden.version, KEY_VERSION, "the version was raised: write the keys anew with LAP_UPDATE=1");
    assert_eq!(golden.steps.len(), now.steps.len());
    for (old, new) in golden.steps.iter().zip(&now.steps) {
        let why = format!("{}: what goes into keys has changed: see the head of this file", old.name);
        // As the stored form reads, and as the step is written today.
        assert_eq!(
            KeyInputs { op: old.op.clone(), inputs: old.inputs.clone(), secrets: BTreeMap::new() }.key(),
            old.key,
            "{why}"
        );
        assert_eq!((new.definition, new.key), (old.definition, old.key), "{why}");
    }
}

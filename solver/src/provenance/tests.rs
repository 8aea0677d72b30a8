use super::*;
use crate::graph::{Builder, Copy, Exec, File, FileAction, Location, Metadata, Mount, SecretFile, Unpack};

const CANARY: &str = "canary-4711";

fn platform() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

fn at(line: u32) -> Metadata {
    let location = Location { file: "Dockerfile".into(), first: line, last: line };
    Metadata { location: Some(location), ..Metadata::default() }
}

fn exec(args: &str, env: &[&str], mounts: Vec<Mount>) -> Op {
    Op::Exec(Exec {
        root: Some(0),
        args: vec!["/bin/sh".into(), "-c".into(), args.into()],
        env: env.iter().map(|entry| (*entry).to_owned()).collect(),
        cwd: "/".into(),
        user: String::new(),
        network: Network::Default,
        security: crate::graph::Security::Sandbox,
        mounts,
        secret_env: Vec::new(),
        files: Vec::new(),
        platform: platform(),
    })
}

fn graph() -> (Graph, VertexId) {
    let mut builder = Builder::new();
    let base = Source::Image { reference: "docker.io/library/alpine:3".into(), platform: platform() };
    let base = builder.add(Op::Source(base), vec![], at(1));
    let context =
        builder.add(Op::Source(Source::Local { name: "directory /home/me".into() }), vec![], Metadata::default());
    let url = format!("https://user:{CANARY}@files.example/a.tgz");
    let checksum = Some(format!("sha256:{}", "a".repeat(64)));
    let http = Source::Http { url, checksum, filename: "a.tgz".into() };
    let http = builder.add(Op::Source(http), vec![], at(2));
    let git = Source::Git {
        url: format!("https://{CANARY}@git.example/r.git"),
        reference: Some("v1".into()),
        subdir: Some("sub".into()),
        keep_git_dir: false,
        checksum: None,
        skip_submodules: false,
    };
    let git = builder.add(Op::Source(git), vec![], at(3));
    let secret = SecretFile { id: "npm".into(), required: true, mode: 0o400, uid: 0, gid: 0, keyed: false };
    let mount = Mount { target: "/run/secrets/npm".into(), readonly: true, kind: MountKind::Secret(secret) };
    let command = format!("curl -H {CANARY} https://x:{CANARY}@h/");
    let env = format!("NPM_TOKEN={CANARY}");
    let run = builder.add(exec(&command, &["PATH=/bin", &env], vec![mount]), vec![base], at(4));
    let copy = |from, source: &str| {
        FileAction::Copy(Copy {
            from: Some(from),
            source: source.into(),
            dest: "/dst/".into(),
            owner: None,
            keep_owner: false,
            mode: None,
            wildcard: false,
            unpack: Unpack::No,
            include: vec![],
            exclude: vec![],
            parents: false,
        })
    };
    let file = File { root: Some(0), actions: vec![copy(1, "/src"), copy(2, "/a.tgz"), copy(3, "/")] };
    let last = builder.add(Op::File(file), vec![run, context, http, git], at(5));
    (builder.finish(), last)
}

fn facts<'a>(graph: &'a Graph, target: VertexId, args: &'a BTreeMap<String, String>, text: &'a str) -> Facts<'a> {
    let mut resolved = Resolved::default();
    let image = ("docker.io/library/alpine:3".to_owned(), "linux/amd64".to_owned());
    resolved.images.insert(image, format!("sha256:{}", "b".repeat(64)));
    resolved.commits.insert((format!("https://{CANARY}@git.example/r.git"), "v1".into()), "c".repeat(40));
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    Facts {
        graph,
        target: Some(target),
        file_name: "Dockerfile",
        text,
        context: None,
        build_args: args,
        labels: &NONE,
        parameters: BTreeMap::from([
            ("target".to_owned(), "release".to_owned()),
            ("context:lib".to_owned(), format!("https://u:{CANARY}@git.example/lib.git")),
        ]),
        locals: BTreeMap::from([("directory /home/me".to_owned(), "context".to_owned())]),
        resolved,
        layers: BTreeMap::from([(target, vec![json!({"digest": "sha256:d"})])]),
        builder_platform: platform(),
        builder_id: String::new(),
        invocation_id: "id".into(),
        started_on: "2023-01-01T00:00:00Z".into(),
        finished_on: "2023-01-01T00:00:01Z".into(),
        reproducible: false,
    }
}

fn args() -> BTreeMap<String, String> {
    let pairs = [("VERSION", "1.2"), ("NPM_TOKEN", CANARY), ("HTTP_PROXY", "http://u:canary-4711@proxy:3128")];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn min_is_golden() {
    let ((graph, target), args) = (graph(), args());
    let told = predicate(&facts(&graph, target, &args, "FROM alpine"), Mode::Min);
    let want = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "configSource": {"path": "Dockerfile"},
                "request": {
                    "frontend": "dockerfile.v0",
                    "args": {"context:lib": "https://xxxxx:xxxxx@git.example/lib.git", "target": "release"},
                    "locals": [{"name": "context"}, {"name": "dockerfile"}],
                },
            },
            "internalParameters": {"builderPlatform": "linux/amd64"},
            "resolvedDependencies": [
                {"uri": "pkg:docker/alpine@3?platform=linux%2Famd64", "digest": {"sha256": "b".repeat(64)}},
                {"uri": "https://xxxxx@git.example/r.git#v1", "digest": {"sha1": "c".repeat(40)}},
                {"uri": "https://xxxxx:xxxxx@files.example/a.tgz", "digest": {"sha256": "a".repeat(64)}},
            ],
        },
        "runDetails": {
            "builder": {"id": ""},
            "metadata": {
                "invocationID": "id",
                "startedOn": "2023-01-01T00:00:00Z",
                "finishedOn": "2023-01-01T00:00:01Z",
                "buildkit_metadata": {},
                "buildkit_completeness": {"request": false, "resolvedDependencies": false},
            },
        },
    });
    assert_eq!(told, want, "{told:#}");
}

#[test]
fn max_tells_steps_source_and_arguments() {
    let ((graph, target), args) = (graph(), args());
    let text = "FROM alpine:3\nADD https://u:canary-4711@files.example/a.tgz /dst/\n";
    let told = predicate(&facts(&graph, target, &args, text), Mode::Max);
    let request = &told["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:VERSION"], "1.2");
    assert_eq!(request["args"]["build-arg:NPM_TOKEN"], "xxxxx");
    assert_eq!(request["args"]["build-arg:HTTP_PROXY"], Value::Null);
    assert_eq!(request["secrets"], json!([{"id": "npm"}]));
    let steps = &told["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"];
    assert_eq!(steps.as_array().unwrap().len(), 6);
    let pinned = format!("docker-image://docker.io/library/alpine:3@sha256:{}", "b".repeat(64));
    assert_eq!(steps[0]["op"]["Op"]["source"]["identifier"], pinned);
    assert_eq!(steps[3]["op"]["Op"]["source"]["identifier"], "git://xxxxx@git.example/r.git#v1:sub");
    assert_eq!(
        steps[4]["op"]["Op"]["exec"],
        json!({
            "meta": {
                "args": ["/bin/sh", "-c", "curl -H xxxxx https://xxxxx:xxxxx@h/"],
                "env": ["PATH=/bin", "NPM_TOKEN=xxxxx"],
                "cwd": "/",
            },
            "mounts": [
                {"input": 0, "dest": "/", "output": 0},
                {
                    "dest": "/run/secrets/npm", "output": -1, "readonly": true, "mountType": 1,
                    "secretOpt": {"ID": "npm", "uid": 0, "gid": 0, "mode": 256, "optional": false},
                },
            ],
        })
    );
    assert_eq!(steps[5]["inputs"], json!(["step4:0", "step1:0", "step2:0", "step3:0"]));
    assert_eq!(steps[5]["op"]["Op"]["file"]["actions"][0]["Action"]["copy"]["src"], "/src");
    let buildkit = &told["runDetails"]["metadata"]["buildkit_metadata"];
    assert_eq!(buildkit["layers"], json!({"step5:0": [[{"digest": "sha256:d"}]]}));
    let range = json!([{"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]}]);
    assert_eq!(buildkit["source"]["locations"]["step4"]["locations"], range);
    assert_eq!(buildkit["source"]["infos"][0]["language"], "Dockerfile");
}

#[test]
fn no_mode_holds_a_credential() {
    let ((graph, target), args) = (graph(), args());
    let text = format!("ADD https://u:{CANARY}@files.example/a.tgz /dst/\nENV X={CANARY}\n");
    let facts = facts(&graph, target, &args, &text);
    for mode in [Mode::Min, Mode::Max] {
        let told = predicate(&facts, mode);
        assert!(!told.to_string().contains(CANARY), "{told:#}");
        let data = &told["runDetails"]["metadata"]["buildkit_metadata"]["source"]["infos"][0]["data"];
        // "canary" at any of the three positions of base64.
        for part in ["Y2FuYXJ5", "NhbmFye", "jYW5hcn"] {
            assert!(!data.as_str().unwrap_or_default().contains(part), "{data}");
        }
    }
}

#[test]
fn a_build_without_network_and_directories_is_hermetic() {
    let mut builder = Builder::new();
    let base = Source::Image { reference: "docker.io/library/alpine:3".into(), platform: platform() };
    let target = builder.add(Op::Source(base), vec![], Metadata::default());
    let (graph, none) = (builder.finish(), BTreeMap::new());
    let mut facts = facts(&graph, target, &none, "");
    let git = Source::Git {
        url: "https://git.example/r.git".into(),
        reference: None,
        subdir: None,
        keep_git_dir: false,
        checksum: Some("d".repeat(40)),
        skip_submodules: false,
    };
    facts.context = Some(&git);
    let told = predicate(&facts, Mode::Min);
    let metadata = &told["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_hermetic"], true, "{told:#}");
    assert_eq!(metadata["buildkit_completeness"], json!({"request": true, "resolvedDependencies": true}));
    assert_eq!(told["buildDefinition"]["externalParameters"]["configSource"]["digest"]["sha1"], "d".repeat(40));
}

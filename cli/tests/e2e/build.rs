//! What Dockerfiles mean.

use crate::support::{Lap, needs, run};

#[test]
fn a_multi_stage_build_runs() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/src/hello.txt", "hello\n");
    let dockerfile = "\
# escape=\\
ARG BASE=busybox
FROM ${BASE}:latest AS build
ARG GREETING=none
ENV WHO=world
WORKDIR /work
COPY --chmod=600 src/ ./
RUN cat hello.txt > out && \\
    # a comment inside
    echo \"$GREETING $WHO\" >> out
RUN <<EOF
echo heredoc >> out
EOF

FROM busybox AS unused
RUN exit 1

FROM scratch
COPY --from=build /work/out /out
COPY --from=build /bin/busybox /bin/busybox
LABEL a=b
EXPOSE 80
USER 1000:1000
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD [\"/bin/busybox\", \"true\"]
VOLUME /data
ENTRYPOINT [\"/bin/busybox\"]
CMD [\"cat\", \"/out\"]
";
    lap.build_with("app", dockerfile, &["--build-arg", "GREETING=hi"]).ok();
    assert_eq!(lap.run(&["run", "--rm", "--network", "none", "app"]).ok().out, "hello\nhi world\nheredoc\n");
    let config = lap.config("app");
    assert_eq!(config["Labels"]["a"], "b");
    assert_eq!(config["User"], "1000:1000");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000u64);
    assert!(config["ExposedPorts"]["80/tcp"].is_object() && config["Volumes"]["/data"].is_object());
}

#[test]
fn ignored_files_stay_out_and_archives_are_unpacked() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/.dockerignore", "*.log\nsecret\n!keep.log\n");
    for name in ["a.txt", "b.log", "keep.log", "secret/key"] {
        lap.write(&format!("ctx/{name}"), name);
    }
    lap.write("tar/inside.txt", "inside");
    run(
        "tar",
        &["-C", lap.path("tar").to_str().unwrap(), "-czf", lap.path("ctx/x.tar.gz").to_str().unwrap(), "inside.txt"],
    )
    .ok();
    lap.build("app", "FROM busybox\nCOPY . /all/\nADD x.tar.gz /unpacked/\nCOPY *.txt /txt/\n").ok();
    assert_eq!(lap.sh("app", "ls -A /all | sort | xargs"), ".dockerignore Dockerfile a.txt keep.log x.tar.gz\n");
    assert_eq!(lap.sh("app", "cat /unpacked/inside.txt; ls /txt"), "insidea.txt\n");
}

#[test]
fn triggers_of_a_base_run_in_the_image_built_on_it() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/f", "f");
    lap.build("base", "FROM busybox\nONBUILD COPY f /from-trigger\nONBUILD RUN echo ran > /ran\n").ok();
    lap.build("app", "FROM base\nRUN cat /from-trigger /ran\n").ok();
    assert_eq!(lap.sh("app", "cat /from-trigger /ran"), "fran\n");
    assert!(lap.config("app")["OnBuild"].is_null());
}

#[test]
fn a_run_leaves_nothing_of_its_mounts() {
    needs!(root);
    let lap = Lap::new();
    lap.build(
        "bare",
        "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo x > /x\"]\n",
    )
    .ok();
    lap.run(&["build", "-q", "-o", "type=tar,dest=out.tar", "ctx"]).ok();
    let listing = run("tar", &["-tf", lap.path("out.tar").to_str().unwrap()]).ok().out;
    let mut names: Vec<&str> =
        listing.lines().map(|name| name.trim_start_matches("./").trim_end_matches('/')).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    assert_eq!(names, ["bin", "bin/sh", "x"]);
}

#[test]
fn secrets_and_cache_mounts_are_not_in_the_image() {
    needs!(root);
    let lap = Lap::new();
    lap.write("secret", "hunter2");
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=key --mount=type=cache,target=/cache \
        test $(wc -c < /run/secrets/key) = 7 && echo kept >> /cache/n && wc -l < /cache/n > /count\n\
        ARG AGAIN\nRUN --mount=type=cache,target=/cache echo kept >> /cache/n && wc -l < /cache/n > /count\n";
    lap.build_with("app", dockerfile, &["--secret", "id=key,src=secret"]).ok();
    assert_eq!(lap.sh("app", "cat /count; ls -A /run | wc -l; ls -d /cache 2>/dev/null | wc -l"), "2\n0\n0\n");
    let found = run("grep", &["-rl", "hunter2", lap.path("store").to_str().unwrap()]);
    assert_eq!(found.out, "", "the secret is in the store");
}

#[test]
fn ids_names_and_metadata_are_written() {
    needs!(root);
    let lap = Lap::new();
    lap.build_with(
        "one",
        "FROM busybox\nENV A=1\n",
        &["-t", "two:x", "--iidfile", "iid", "--metadata-file", "meta", "--label", "l=1"],
    )
    .ok();
    let id = std::fs::read_to_string(lap.path("iid")).unwrap();
    let inspected = lap.run(&["inspect", "two:x"]).ok().json();
    assert_eq!(inspected[0]["Id"], id);
    assert_eq!(inspected[0]["Config"]["Labels"]["l"], "1");
    let metadata: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(lap.path("meta")).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], inspected[0]["Descriptor"]["digest"]);
    let quiet = lap.run(&["build", "-q", "ctx"]).ok();
    assert!(quiet.out.starts_with("sha256:") && quiet.err.is_empty(), "{quiet:?}");
}

#[test]
fn stages_without_a_path_between_them_run_side_by_side() {
    needs!(root);
    let lap = Lap::new();
    // Each waits for the other: only side by side do they end.
    let wait = |mine: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/c touch /c/{mine}; for i in $(seq 300); do [ -e /c/{other} ] && exit 0; sleep 0.1; done; exit 1\n"
        )
    };
    let dockerfile = format!(
        "FROM busybox AS a\n{}FROM busybox AS b\n{}FROM busybox\nCOPY --from=a /bin/true /a\nCOPY --from=b /bin/true /b\n",
        wait("a", "b"),
        wait("b", "a")
    );
    lap.build("app", &dockerfile).ok();
}

#[test]
fn rawjson_has_the_shape_of_buildkits() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM busybox AS base\nRUN printf out; printf err >&2; printf '\\377'\nFROM base\nCOPY Dockerfile /\n\
         RUN exit 3\n";
    let said = lap.build_with("app", dockerfile, &["--progress", "rawjson"]).code(1);
    let status: Vec<serde_json::Value> =
        said.err.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
    // Field by field what `client/graph.go` has; nothing is null.
    let fields = [
        ("vertexes", &["digest", "inputs", "name", "started", "completed", "cached", "error"][..]),
        ("statuses", &["id", "vertex", "name", "total", "current", "timestamp", "started", "completed"]),
        ("logs", &["vertex", "stream", "data", "timestamp"]),
        ("warnings", &["vertex", "level", "short", "detail", "url", "sourceInfo", "range"]),
    ];
    let mut found = std::collections::BTreeMap::<&str, Vec<&serde_json::Value>>::new();
    for (name, value) in status.iter().flat_map(|one| one.as_object().unwrap()) {
        let (name, known) = fields.iter().find(|(known, _)| known == name).unwrap();
        for value in value.as_array().unwrap() {
            for (field, value) in value.as_object().unwrap() {
                assert!(known.contains(&field.as_str()) && !value.is_null(), "{field}: {value}");
            }
            found.entry(name).or_default().push(value);
        }
    }
    let digest = |value: &serde_json::Value| {
        let text = value.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        assert!(text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
        text
    };
    let mut known = std::collections::BTreeSet::new();
    for vertex in &found["vertexes"] {
        known.insert(digest(&vertex["digest"]));
        let started = vertex["started"].as_str().unwrap();
        assert!(started.starts_with("20") && started.ends_with('Z') && started.contains('T'), "{started}");
    }
    let named =
        |name: &str| found["vertexes"].iter().rfind(|vertex| vertex["name"].as_str().unwrap().contains(name)).unwrap();
    assert!(named("RUN printf")["completed"].is_string() && named("RUN printf")["error"].is_null());
    assert!(named("RUN exit 3")["error"].as_str().unwrap().contains("exit code: 3"));
    let copy = named("COPY")["inputs"].as_array().unwrap().iter().map(digest).collect::<Vec<_>>();
    assert!(copy.len() == 2 && copy.iter().all(|input| known.contains(input)));
    // Bytes as they came, by stream.
    let data = |stream: u64| {
        let logs = found["logs"].iter().filter(|log| log["stream"] == stream);
        logs.map(|log| log["data"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert!(["b3V0/w==", "b3V0 /w=="].contains(&data(1).as_str()), "{}", data(1));
    assert_eq!(data(2), "ZXJy");
    assert!(found["logs"].iter().all(|log| known.contains(&digest(&log["vertex"]))));

    // A finding has what BuildKit's has: rule, line, what it is about, and where that is explained.
    let said = lap.build_with("app", "FROM busybox\nMAINTAINER me\n", &["--progress", "rawjson"]).ok();
    let warnings = said.err.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let warning = warnings.map(|one| one["warnings"][0].clone()).find(|one| !one.is_null()).unwrap();
    let short = "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)";
    let decoded = run("sh", &["-c", &format!("printf %s {} | base64 -d", warning["short"])]).ok().out;
    assert_eq!(decoded, short);
    assert_eq!(warning["range"], serde_json::json!([{"start": {"line": 2}, "end": {"line": 2}}]));
    assert_eq!(warning["url"], "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/");
    assert_eq!((&warning["level"], warning["detail"].as_array().unwrap().len()), (&1.into(), 1));
    assert_eq!(warning["sourceInfo"], serde_json::json!({"filename": "Dockerfile", "language": "Dockerfile"}));

    let cached = lap.build_with(
        "app",
        "FROM busybox\nRUN printf out; printf err >&2; printf '\\377'\n",
        &["--progress", "rawjson"],
    );
    assert!(cached.ok().err.contains(r#""cached":true"#));
    assert_eq!(lap.build_with("app", "FROM busybox\n", &["--progress", "none"]).ok().err, "");
}

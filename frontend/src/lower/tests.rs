use std::collections::BTreeMap;

use lap_solver::graph::{Exec, Network};
use lap_solver::image::{DEFAULT_PATH, History};
use lap_solver::platform::Platform;

use super::*;
use crate::options::{BaseImage, TargetContext};
use crate::{Epoch, check, parse, stages};

fn platform(text: &str) -> Platform {
    let host = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    Platform::parse(text, &host).unwrap()
}

fn options() -> Options {
    Options::new(platform("linux/amd64"))
}

fn with_args(pairs: &[(&str, &str)]) -> Options {
    let build_args: BTreeMap<_, _> = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Options { build_args, ..options() }
}

/// An image with `PATH`, and the triggers of a name that begins with `onbuild`.
fn image(image: &BaseImage) -> ImageConfig {
    let mut config = ImageConfig { history: vec![History::default()], ..ImageConfig::default() };
    config.os = image.platform.os.clone();
    config.architecture = image.platform.architecture.clone();
    config.config.env = vec![format!("PATH={DEFAULT_PATH}"), "FROM_BASE=1".into()];
    config.config.cmd = Some(vec!["base".into()]);
    if image.reference.contains("onbuild") {
        config.config.on_build = vec!["COPY --from=tools:1 /a /b".into(), "RUN <<X\ntrigger\nX".into()];
    }
    config
}

fn known(stages: &Stages, options: &Options) -> Result<Facts, Vec<Diagnostic>> {
    let mut facts = Facts::new();
    loop {
        let missing = stages.base_images(&facts, options)?;
        if missing.is_empty() {
            return Ok(facts);
        }
        for base in missing {
            let config = image(&base);
            facts.insert(base, config);
        }
    }
}

fn try_lower(text: &str, options: &Options) -> Result<Lowered, Vec<Diagnostic>> {
    let parsed = parse("Dockerfile", text);
    assert_eq!(parsed.diagnostics, []);
    let stages = stages(&parsed.dockerfile, options)?;
    lower(&stages, &known(&stages, options)?, options)
}

fn lowered(text: &str, options: &Options) -> Lowered {
    try_lower(text, options).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

fn fault(text: &str, options: &Options) -> String {
    try_lower(text, options).unwrap_err()[0].to_string()
}

fn execs(lowered: &Lowered) -> Vec<&Exec> {
    let exec = |vertex: &'_ lap_solver::graph::Vertex| matches!(vertex.op, Op::Exec(_));
    let vertices = lowered.graph.vertices().iter().filter(|vertex| exec(vertex));
    vertices.filter_map(|vertex| if let Op::Exec(exec) = &vertex.op { Some(exec) } else { None }).collect()
}

fn variable<'a>(exec: &'a Exec, name: &str) -> Option<&'a str> {
    exec.env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn arguments_have_scopes() {
    let text =
        "ARG G=global\nARG H\nFROM a AS one\nRUN no-arg\nARG G H X=${G}-x\nRUN with-arg\nFROM one\nRUN inherited\n";
    let lowered = lowered(text, &with_args(&[("H", "given"), ("UNUSED", "1")]));
    let [no_arg, with_arg, inherited] = execs(&lowered)[..] else { panic!("three commands") };
    assert_eq!(variable(no_arg, "G"), None);
    for exec in [with_arg, inherited] {
        assert_eq!((variable(exec, "G"), variable(exec, "H")), (Some("global"), Some("given")));
        assert_eq!(variable(exec, "X"), Some("global-x"));
    }
    assert_eq!(lowered.image.config.config.env, [&format!("PATH={DEFAULT_PATH}"), "FROM_BASE=1"]);
    let history: Vec<_> = lowered.image.history.iter().filter_map(|entry| entry.entry.created_by.as_deref()).collect();
    assert_eq!(history[1], "ARG G=global H=given X=global-x");
    assert_eq!(history[2], "RUN |3 G=global H=given X=global-x /bin/sh -c with-arg # buildkit");
    assert_eq!(lowered.outline.unused_args(&with_args(&[("H", ""), ("UNUSED", "1")]).build_args), ["UNUSED"]);
}

#[test]
fn values_are_those_before_the_instruction() {
    let lowered = lowered("FROM a\nENV A=1\nENV A=2 B=$A\nLABEL l=$A\n", &options());
    assert_eq!(lowered.image.config.config.env_value("B"), Some("1"));
    assert_eq!(lowered.image.config.config.labels["l"], "2");
}

#[test]
fn predefined_arguments_must_be_declared() {
    let mut options = options();
    options.platform = platform("linux/arm/v7");
    let text = "FROM --platform=$BUILDPLATFORM a AS b\nARG TARGETPLATFORM TARGETVARIANT BUILDARCH TARGETSTAGE\nRUN x\n";
    let lowered = lowered(text, &options);
    let exec = execs(&lowered)[0];
    for (name, value) in
        [("TARGETPLATFORM", "linux/arm/v7"), ("TARGETVARIANT", "v7"), ("BUILDARCH", "amd64"), ("TARGETSTAGE", "b")]
    {
        assert_eq!(variable(exec, name), Some(value));
    }
    assert_eq!(variable(exec, "TARGETARCH"), None);
    assert_eq!(exec.platform, platform("linux/amd64"));
}

#[test]
fn proxies_are_seen_but_name_nothing() {
    let one = lowered("FROM a\nRUN x\n", &with_args(&[("HTTP_PROXY", "http://p:1")]));
    let two = lowered("FROM a\nRUN x\n", &options());
    let (Some(one_root), Some(two_root)) = (one.image.root, two.image.root) else { panic!("no root") };
    assert_eq!(one.graph.vertex(one_root).definition, two.graph.vertex(two_root).definition);
    let proxies = &one.graph.vertex(one_root).metadata.proxy_env;
    assert_eq!(proxies.as_slice(), ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1"]);
}

#[test]
fn a_timeout_is_no_part_of_what_a_step_is() {
    let of = |flag: &str, default: Option<u64>| {
        let lowered = lowered(&format!("FROM a\nRUN {flag}x\n"), &Options { timeout: default, ..options() });
        let step = lowered.graph.vertex(lowered.image.root.unwrap()).clone();
        (step.metadata.timeout, step.definition)
    };
    const SECOND: u64 = 1_000_000_000;
    assert_eq!(of("", None).0, None);
    assert_eq!(of("--timeout=1m30s ", None), (Some(90 * SECOND), of("", None).1));
    assert_eq!(of("", Some(SECOND)).0, Some(SECOND), "that of the build");
    assert_eq!(of("--timeout=2s ", Some(SECOND)).0, Some(2 * SECOND));
    assert_eq!(of("--timeout=0 ", Some(SECOND)).0, None);
}

#[test]
fn only_what_the_target_needs_is_lowered() {
    let text = "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM one\nRUN 3\n";
    assert_eq!(execs(&lowered(text, &options())).len(), 2);
    let two = Options { target: Some("TWO".into()), ..options() };
    assert_eq!(execs(&lowered(text, &two)).len(), 1);
    let none = Options { target: Some("tow".into()), ..options() };
    let told = "Dockerfile: target stage \"tow\" could not be found (did you mean two? stages: one, two)";
    assert_eq!(fault(text, &none), told);
    let none = Options { target: Some("final".into()), ..options() };
    assert_eq!(
        fault("FROM a\n", &none),
        "Dockerfile: target stage \"final\" could not be found (no stage has a name: leave --target out)"
    );
}

#[test]
fn equal_steps_are_one() {
    let text =
        "FROM a AS one\nRUN same\nFROM a AS two\nRUN same\nFROM scratch\nCOPY --from=one /x /1\nCOPY --from=1 /x /2\n";
    assert_eq!(execs(&lowered(text, &options())).len(), 1);
}

#[test]
fn triggers_of_a_base_run_first_and_may_need_images() {
    let lowered = lowered("FROM onbuild\nRUN own\n", &options());
    let names: Vec<&str> = lowered.graph.vertices().iter().map(|vertex| vertex.metadata.name.as_str()).collect();
    assert!(names.contains(&"FROM docker.io/library/tools:1"), "{names:?}");
    assert_eq!(execs(&lowered)[0].args, ["/bin/sh", "-c", "trigger\n"]);
    assert_eq!(lowered.image.config.config.on_build, Vec::<String>::new());
    let metadata = &lowered.graph.vertex(lowered.image.root.unwrap()).metadata;
    assert_eq!(metadata.position, Some((4, 4)));
}

#[test]
fn triggers_are_kept_for_images_and_used_by_stages() {
    let onbuild = lowered("FROM a\nONBUILD RUN x\n", &options());
    assert_eq!(onbuild.image.config.config.on_build, ["RUN x"]);
    let used = lowered("FROM a AS b\nONBUILD RUN x\nFROM b AS c\nFROM c\n", &options());
    assert_eq!((execs(&used).len(), used.image.config.config.on_build.len()), (1, 0));
}

#[test]
fn an_entrypoint_resets_an_inherited_command_only() {
    let reset = lowered("FROM a\nENTRYPOINT [\"e\"]\n", &options());
    assert_eq!(reset.image.config.config.cmd, None);
    let kept = lowered("FROM a\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n", &options());
    assert_eq!(kept.image.config.config.cmd, Some(vec!["c".into()]));
}

#[test]
fn a_linked_copy_does_not_see_what_it_is_laid_over() {
    let one = lowered("FROM a\nRUN 1\nCOPY --link x /x\n", &options());
    let two = lowered("FROM a\nRUN 2\nCOPY --link x /x\n", &options());
    let copy = |lowered: &Lowered| {
        let merge = lowered.graph.vertex(lowered.image.root.unwrap());
        assert_eq!(merge.op, Op::Merge);
        lowered.graph.vertex(merge.inputs[1]).definition
    };
    assert_eq!(copy(&one), copy(&two));
}

#[test]
fn no_cache_reaches_the_stages_it_names() {
    let text = "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nCOPY --from=one /x /x\n";
    let ignored = |options: &Options| {
        let lowered = lowered(text, options);
        let vertices = lowered.graph.vertices().iter().filter(|vertex| vertex.metadata.ignore_cache);
        vertices.map(|vertex| vertex.metadata.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ignored(&Options { no_cache_filter: vec!["one".into()], ..options() }), ["RUN 1"]);
    assert_eq!(ignored(&Options { no_cache: true, ..options() }).len(), 3);
}

#[test]
fn named_contexts_replace_stages_and_images() {
    let files = |name: &str| NamedContext::Files(GraphSource::Local { name: name.into() });
    let mut given = options();
    given.contexts.insert("src".into(), files("src"));
    given.contexts.insert("alpine".into(), NamedContext::Image("example.com/alpine:3".into()));
    given.contexts.insert("build".into(), files("built"));
    let text = "FROM never AS build\nRUN never\nFROM alpine:latest\nCOPY --from=src . /src\nCOPY --from=build /x /x\n";
    let lowered = lowered(text, &given);
    let sources: Vec<String> = lowered
        .graph
        .vertices()
        .iter()
        .filter_map(|vertex| match &vertex.op {
            Op::Source(GraphSource::Image { reference, .. }) => Some(reference.clone()),
            Op::Source(GraphSource::Local { name }) => Some(name.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(sources, ["src", "built", "example.com/alpine:3"]);
}

#[test]
fn another_target_can_be_a_base_and_a_source() {
    let first = lowered("FROM a\nENV K=v\nRUN one\nONBUILD RUN trigger\n", &options());
    let steps = first.graph.vertices().len();
    let context = TargetContext { graph: first.graph, image: first.image };
    let mut given = options();
    given.contexts.insert("first".into(), NamedContext::Target(context.into()));
    let second = lowered("FROM first\nRUN two\nCOPY --from=first /x /y\n", &given);
    let commands: Vec<String> = execs(&second).iter().filter_map(|exec| exec.args.last().cloned()).collect();
    assert_eq!(commands, ["one", "trigger", "two"]);
    assert_eq!(second.graph.vertices().len(), steps + 3, "the steps of the first target are there once");
    assert_eq!(second.image.config.config.env_value("K"), Some("v"));
    let said: Vec<&str> = second.image.history.iter().filter_map(|e| e.entry.created_by.as_deref()).collect();
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(second.image.config.config.on_build.is_empty());
}

#[test]
fn empty_bases_have_the_default_path() {
    let lowered = lowered("FROM scratch\nWORKDIR /\n", &options());
    assert_eq!(lowered.image.root, None);
    assert_eq!(lowered.image.config.config.env, [format!("PATH={DEFAULT_PATH}")]);
    assert_eq!(lowered.image.history[0].vertex, None);
}

#[test]
fn options_reach_steps_and_image() {
    let mut given = options();
    given.network = Network::None;
    given.labels.insert("k".into(), "v".into());
    given.platform = platform("linux/arm64");
    given.platform_given = true;
    let lowered = lowered("FROM --platform=linux/amd64 a\nRUN x\nRUN --network=host y\n", &given);
    let networks: Vec<Network> = execs(&lowered).iter().map(|exec| exec.network).collect();
    assert_eq!(networks, [Network::None, Network::Host]);
    assert_eq!(lowered.image.config.config.labels["k"], "v");
    assert_eq!(lowered.image.platform, platform("linux/arm64"));
}

#[test]
fn health_and_history_read_as_docker_writes_them() {
    let text =
        "FROM a\nHEALTHCHECK --interval=90s --retries=3 CMD curl -f x\nSHELL [\"/bin/bash\", \"-c\"]\nVOLUME /a /b\n";
    let lowered = lowered(text, &options());
    let texts: Vec<_> = lowered.image.history.iter().filter_map(|entry| entry.entry.created_by.as_deref()).collect();
    assert_eq!(
        texts,
        [
            "HEALTHCHECK &{[\"CMD-SHELL\" \"curl -f x\"] \"1m30s\" \"0s\" \"0s\" \"0s\" '\\x03'}",
            "SHELL [/bin/bash -c]",
            "VOLUME [/a /b]",
        ]
    );
    assert!(lowered.image.history.iter().all(|entry| entry.entry.comment.as_deref() == Some("buildkit.dockerfile.v0")));
}

#[test]
fn checks_look_at_every_stage_and_hear_comments() {
    let text = "FROM a AS one\nENV K v\n# check=skip=LegacyKeyValueFormat\nENV L v\nFROM b\n";
    let parsed = parse("Dockerfile", text);
    let stages = stages(&parsed.dockerfile, &options()).unwrap();
    let facts = known(&stages, &Options { all_stages: true, ..options() }).unwrap();
    let found = check(&stages, &facts, &options()).unwrap();
    assert_eq!(found.iter().map(|found| found.position.line).collect::<Vec<_>>(), [2]);
    assert_eq!(lower(&stages, &facts, &options()).unwrap().warnings, []);
    let strict = "# check=error=true\nFROM a\nENV K v\n";
    assert!(fault(strict, &options()).contains("LegacyKeyValueFormat"));
    let skipped = "# check=skip=all;error=true\nFROM a\nENV K v\n";
    assert_eq!(lowered(skipped, &options()).warnings, []);
}

#[test]
fn ignored_sources_are_noticed() {
    let given = Options { ignore: Some(vec!["secret".into()]), ..options() };
    let found = |text: &str| lowered(text, &given).warnings_of("CopyIgnoredFile").len();
    assert_eq!(found("FROM a\nCOPY secret/key open /x/\n"), 1);
    assert_eq!(found("FROM a AS b\nFROM a\nCOPY --from=b secret /x\n"), 0);
}

#[test]
fn the_epoch_is_a_number_or_names_a_source() {
    let epoch = |text: &str, options: &Options| {
        let parsed = parse("Dockerfile", text);
        stages(&parsed.dockerfile, options).unwrap().source_date_epoch().cloned()
    };
    assert_eq!(epoch("FROM a", &with_args(&[("SOURCE_DATE_EPOCH", "42")])), Some(Epoch::Seconds(42)));
    assert_eq!(epoch("ARG SOURCE_DATE_EPOCH=context\nFROM a", &options()), Some(Epoch::Context));
    assert_eq!(epoch("FROM a", &options()), None);
    let text = "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD https://example.com/a.tar /\nFROM a\n";
    assert!(matches!(epoch(text, &options()), Some(Epoch::Source(GraphSource::Http { .. }))));
}

#[test]
fn secrets_are_masked_and_mounted_where_asked() {
    let text =
        "FROM a\nWORKDIR /w\nRUN --mount=type=secret,id=t,env=TOKEN --mount=type=secret,id=f,target=file use $TOKEN\n";
    let lowered = lowered(text, &options());
    let exec = execs(&lowered)[0];
    assert_eq!((exec.secret_env[0].name.as_str(), exec.mounts[0].target.as_str()), ("TOKEN", "/w/file"));
    assert_eq!(lowered.outline.secrets.len(), 2);
    let name = &lowered.graph.vertex(lowered.image.root.unwrap()).metadata.name;
    assert!(name.ends_with("use ****"), "{name}");
}

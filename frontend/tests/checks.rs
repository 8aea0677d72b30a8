//! docs/checks.md is made of the table of rules and of these examples, each of which is checked.

#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::fmt::Write as _;
use std::path::Path;

use lap_frontend::lint::RULES;
use lap_frontend::{Code, Facts, Options, check, parse, stages};
use lap_solver::image::ImageConfig;
use lap_solver::platform::Platform;

/// Rule, a Dockerfile that it finds fault with, and one that it does not.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("ConsistentInstructionCasing", "FROM alpine\nRUN true\nrun true\n", "FROM alpine\nRUN true\nRUN true\n"),
    (
        "CopyIgnoredFile",
        "# .dockerignore has the line: ignored\nFROM scratch\nCOPY ignored /\n",
        "FROM scratch\nCOPY kept /\n",
    ),
    (
        "DuplicateStageName",
        "FROM alpine AS build\nFROM alpine AS build\n",
        "FROM alpine AS build\nFROM alpine AS test\n",
    ),
    ("ExposeInvalidFormat", "FROM alpine\nEXPOSE 127.0.0.1:80:80\n", "FROM alpine\nEXPOSE 80\n"),
    ("ExposeProtoCasing", "FROM alpine\nEXPOSE 80/TCP\n", "FROM alpine\nEXPOSE 80/tcp\n"),
    ("FromAsCasing", "FROM alpine as build\n", "FROM alpine AS build\n"),
    (
        "FromPlatformFlagConstDisallowed",
        "FROM --platform=linux/amd64 alpine\n",
        "FROM --platform=$BUILDPLATFORM alpine\n",
    ),
    (
        "InvalidBaseImagePlatform",
        "# alpine has only linux/amd64\nFROM --platform=linux/arm64 alpine\n",
        "FROM --platform=linux/amd64 alpine\n",
    ),
    ("InvalidDefaultArgInFrom", "ARG TAG\nFROM alpine:$TAG\n", "ARG TAG=3\nFROM alpine:$TAG\n"),
    (
        "InvalidDefinitionDescription",
        "# check=experimental=all\n# compiles\nFROM alpine AS build\n",
        "# check=experimental=all\n# build compiles\nFROM alpine AS build\n",
    ),
    ("JSONArgsRecommended", "FROM alpine\nCMD sleep 1\n", "FROM alpine\nCMD [\"sleep\", \"1\"]\n"),
    ("LegacyKeyValueFormat", "FROM alpine\nENV NAME value\n", "FROM alpine\nENV NAME=value\n"),
    (
        "MaintainerDeprecated",
        "FROM alpine\nMAINTAINER me\n",
        "FROM alpine\nLABEL org.opencontainers.image.authors=me\n",
    ),
    ("MultipleInstructionsDisallowed", "FROM alpine\nCMD [\"a\"]\nCMD [\"b\"]\n", "FROM alpine\nCMD [\"b\"]\n"),
    (
        "NoEmptyContinuation",
        "FROM alpine\nRUN a && \\\n\n  b\n",
        "FROM alpine\nRUN a && \\\n  # a comment may stand here\n  b\n",
    ),
    ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM alpine\n", "FROM alpine\n"),
    ("ReservedStageName", "FROM alpine AS scratch\n", "FROM alpine AS builder\n"),
    ("SecretsUsedInArgOrEnv", "FROM alpine\nARG API_TOKEN\n", "FROM alpine\nRUN --mount=type=secret,id=token true\n"),
    ("StageNameCasing", "FROM alpine AS Build\n", "FROM alpine AS build\n"),
    ("UndefinedArgInFrom", "FROM alpine${VARIANT}\n", "ARG VARIANT=:3\nFROM alpine${VARIANT}\n"),
    ("UndefinedVar", "FROM alpine\nCOPY $src /\n", "FROM alpine\nARG src=.\nCOPY $src /\n"),
    ("WorkdirRelativePath", "FROM alpine\nWORKDIR app\n", "FROM alpine\nWORKDIR /app\n"),
];

/// Names of the rules that find something.
fn found(text: &str) -> Vec<String> {
    let parsed = parse("Dockerfile", text.as_bytes());
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let mut options = Options::new(platform);
    options.build_args.insert("TAG".to_owned(), "3".to_owned());
    options.ignore = Some(vec!["ignored".to_owned()]);
    let stages = match stages(&parsed.dockerfile, &options) {
        Ok(stages) => stages,
        Err(faults) => panic!("{faults:?}\n{text}"),
    };
    let mut facts = Facts::new();
    let wanted = Options { all_stages: true, ..options.clone() };
    for image in stages.base_images(&facts.clone(), &wanted).unwrap() {
        let (os, architecture) = ("linux".to_owned(), "amd64".to_owned());
        facts.insert(image, ImageConfig { os, architecture, ..ImageConfig::default() });
    }
    let names = check(&stages, &facts, &options).unwrap().into_iter().filter_map(|finding| match finding.code {
        Code::Rule(name) => Some(name),
        _ => None,
    });
    names.collect()
}

#[test]
fn every_rule_has_examples_that_are_true() {
    let names: Vec<&str> = EXAMPLES.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(names, RULES.iter().map(|rule| rule.name).collect::<Vec<_>>());
    for (name, bad, good) in EXAMPLES {
        assert!(found(bad).iter().any(|rule| rule == name), "{name} does not find: {bad}");
        assert!(!found(good).iter().any(|rule| rule == name), "{name} finds: {good}");
    }
}

#[test]
fn the_page_of_checks_is_up_to_date() {
    let mut page = String::from(
        "# Checks\n\n\
        Made from the table of rules by `cargo test -p lap-frontend --test checks`, which also runs the examples.\n\n\
        `lap check CONTEXT` runs them (`--format text|json|sarif`), `lap build --check` too; a build runs them and goes on.\n\
        They have the names, meaning and words of BuildKit's.\n\n\
        * `# check=skip=RULE,RULE` at the top of a Dockerfile leaves rules out, `skip=all` all of them;\n  \
        before an instruction it holds for that instruction.\n\
        * `# check=error=true` makes findings fail the build.\n\
        * `# check=experimental=RULE` asks for rules that are off by default.\n\n\
        | rule | asks for |\n|---|---|\n",
    );
    for rule in RULES {
        let anchor = rule.name.to_lowercase();
        let note = if rule.experimental { " *(experimental)*" } else { "" };
        let _ = writeln!(page, "| [{}](#{anchor}){note} | {} |", rule.name, rule.description);
    }
    for (rule, (_, bad, good)) in RULES.iter().zip(EXAMPLES) {
        let _ = write!(
            page,
            "\n## {}\n\n{}. See <{}>.\n\nInstead of\n\n```dockerfile\n{bad}```\n\nwrite\n\n```dockerfile\n{good}```\n",
            rule.name,
            rule.description,
            rule.url()
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checks.md");
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&page) {
        std::fs::write(&path, &page).unwrap();
        panic!("docs/checks.md was out of date and has been written anew: look at it and commit it");
    }
}

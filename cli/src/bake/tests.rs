//! Files of `testdata/bake`: the good ones with what `--print` says, the bad ones with what is said of them.
//!
//! `LAP_BLESS=1` writes the expectations anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Outside;
use super::{Config, Fault, Source, load};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/bake").join(name)
}

fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    files.iter().map(|(name, text)| Source::new(name, text)).collect()
}

/// Files whose names begin so are there and not named with `-f`.
const BESIDE: [&str; 3] = [".env", "other/", "env/"];

fn config(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config, Fault> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let builtin = [("BAKE_CMD_CONTEXT", "cwd://"), ("BAKE_LOCAL_PLATFORM", "linux/amd64")];
    let builtin = builtin.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    // What is not read itself lies beside it.
    let read = |path: &str| Ok(files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()));
    let outside = Outside { environment: &|name| environment.get(name).cloned(), read: &read };
    let read: Vec<(&str, &str)> =
        files.iter().filter(|(name, _)| !BESIDE.iter().any(|dir| name.starts_with(dir))).copied().collect();
    load(&sources(&read), &outside, builtin)
}

fn print(files: &[(&str, &str)], environment: &[(&str, &str)], set: &[&str]) -> Result<serde_json::Value, String> {
    let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
    let resolve = |config: Config| config.resolve(&["default".to_owned()], &set);
    let resolved = config(files, environment).and_then(resolve).map_err(|fault| fault.to_string())?;
    Ok(serde_json::to_value(&resolved).unwrap())
}

/// Every file of a directory, with the file that has what is expected.
fn cases(name: &str) -> Vec<(String, String, PathBuf)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end != "golden") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            all.push((name, text, PathBuf::from(format!("{}.golden", path.display()))));
        }
    }
    all.sort();
    assert!(all.len() > 3);
    all
}

fn compare(golden: &Path, said: &str) {
    if std::env::var_os("LAP_BLESS").is_some() {
        std::fs::write(golden, said).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    assert_eq!(said, expected, "{}", golden.display());
}

#[test]
fn good_files_print_as_expected() {
    for (name, text, golden) in cases("good") {
        let config = config(&[(&name, &text)], &[("FROM_ENV", "yes")]).unwrap_or_else(|fault| panic!("{fault}"));
        let resolved = config.resolve(&["default".to_owned()], &[]).unwrap_or_else(|fault| panic!("{fault}"));
        compare(&golden, &(serde_json::to_string_pretty(&resolved).unwrap() + "\n"));
    }
}

#[test]
fn bad_files_are_refused_with_a_place() {
    for (name, text, golden) in cases("bad") {
        let said = print(&[(&name, &text)], &[], &[]).err();
        let said = said.unwrap_or_else(|| panic!("{name} is accepted"));
        compare(&golden, &(said + "\n"));
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    for (name, text, _) in cases("good") {
        let config = config(&[(&name, &text)], &[]).unwrap();
        let once = config.resolve(&["default".to_owned()], &[]).unwrap();
        let printed = serde_json::to_string(&once).unwrap();
        let again = print(&[("again.json", &printed)], &[], &[]).unwrap();
        let mut once = serde_json::to_value(&once).unwrap();
        // Only buildx itself knows that a target is there for others; its output stays.
        for (linked, target) in once["target"].as_object_mut().unwrap() {
            assert_eq!(again["target"][linked], *target, "{name}: {linked}");
        }
    }
}

#[test]
fn the_environment_sets_variables() {
    let text = std::fs::read_to_string(directory("good").join("variables.hcl")).unwrap();
    let args = |environment: &[(&str, &str)]| {
        print(&[("x.hcl", &text)], environment, &[]).map(|printed| printed["target"]["default"].clone())
    };
    let set = args(&[
        ("TAG", "v1"),
        ("RELEASE", "1"),
        ("COUNT", "5"),
        ("EMPTY", "e"),
        ("NUMBERS", "10,20"),
        ("OPTIONS_JSON", "{\"debug\": false, \"level\": 2}"),
    ])
    .unwrap();
    assert_eq!(set["tags"], serde_json::json!(["app:v1", "app:latest"]));
    assert_eq!(set["args"]["COUNT"], "6");
    assert_eq!(set["args"]["EMPTY"], "e");
    assert_eq!(set["args"]["SUM"], "30");
    assert_eq!(set["args"]["DEBUG"], "false");
    for (name, value, said) in [
        ("COUNT", "12", "COUNT must be from 1 to 9, not 12"),
        ("COUNT", "x", "\"x\" is no number"),
        ("RELEASE", "maybe", "\"maybe\" is neither true nor false"),
        ("NUMBERS", "1,b", "\"b\" is no number"),
        ("OPTIONS_JSON", "{}", "the field \"debug\" is missing"),
    ] {
        let fault = args(&[(name, value)]).unwrap_err();
        assert!(fault.contains(said) && fault.starts_with("x.hcl:"), "{fault}");
    }
}

#[test]
fn set_changes_targets() {
    let text = "target \"default\" { args = { A = \"1\" } }\ntarget \"api\" { tags = [\"a\"] }\ntarget \"app\" {}\n\
                group \"all\" { targets = [\"default\", \"api\", \"app\"] }\n";
    let set = |name: &str, set: &[&str]| -> Result<serde_json::Value, String> {
        let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
        let config = config(&[("x.hcl", text)], &[]).unwrap();
        let resolved = config.resolve(&["all".to_owned()], &set).map_err(|fault| fault.to_string())?;
        Ok(serde_json::to_value(&resolved).unwrap()["target"][name].clone())
    };
    assert_eq!(
        set("default", &["default.args.A=2", "*.args.B=x=y"]).unwrap()["args"],
        serde_json::json!({"A": "2", "B": "x=y"})
    );
    assert_eq!(set("api", &["ap*.tags=b", "ap*.tags=c"]).unwrap()["tags"], serde_json::json!(["b", "c"]));
    assert_eq!(set("api", &["api.tags+=b"]).unwrap()["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(set("app", &["*.platform=linux/arm64"]).unwrap()["platforms"], serde_json::json!(["linux/arm64"]));
    assert_eq!(set("app", &["*.no-cache=true"]).unwrap()["no-cache"], true);
    assert_eq!(
        set("app", &["app.output=out"]).unwrap()["output"],
        serde_json::json!([{"type": "local", "dest": "out"}])
    );
    assert_eq!(set("app", &["*.push=true"]).unwrap()["output"], serde_json::json!([{"type": "image", "push": "true"}]));
    for (text, said) in [
        ("app", "write TARGET.KEY=VALUE"),
        ("app.tags", "write TARGET.tags=VALUE"),
        ("nothing.tags=x", "there is no target \"nothing\""),
        ("app.colour=x", "there is no such key"),
        ("app.args=x", "write TARGET.args.NAME=VALUE"),
        ("app.pull=x", "neither true nor false"),
    ] {
        assert!(set("app", &[text]).unwrap_err().contains(said), "{text}");
    }
}

#[test]
fn later_files_count_more() {
    let compose = "services:\n  app:\n    image: app:compose\n    build: ./app\n";
    let first = "target \"app\" { args = { A = \"1\", B = \"1\" } }\nvariable \"V\" { default = \"one\" }\n";
    let second = "target \"app\" { args = { B = V } }\nvariable \"V\" { default = \"two\" }\n";
    let files = [("compose.yaml", compose), ("docker-bake.hcl", first), ("docker-bake.override.hcl", second)];
    let printed = print(&files, &[], &[]).unwrap();
    assert_eq!(printed["target"]["app"]["args"], serde_json::json!({"A": "1", "B": "two"}));
    assert_eq!(printed["target"]["app"]["context"], "./app");
    assert_eq!(printed["group"]["default"]["targets"], serde_json::json!(["app"]));
}

#[test]
fn names_are_patterns_too() {
    let text = "target \"a-1\" {}\ntarget \"a-2\" {}\ntarget \"b\" {}\n";
    let config = config(&[("x.hcl", text)], &[]).unwrap();
    let names = |pattern: &str| -> Result<Vec<String>, String> {
        let resolved = config.resolve(&[pattern.to_owned()], &[]).map_err(|fault| fault.to_string())?;
        Ok(resolved.target.into_keys().collect())
    };
    assert_eq!(names("a-*").unwrap(), ["a-1", "a-2"]);
    assert!(names("c-*").unwrap_err().contains("there is no target"));
}

#[test]
fn compose_files_extend_and_include_others() {
    let main = "include:\n  - other/included.yaml\n  - path: [other/sub/project.yaml]\n    env_file: env/project.env\n\
                services:\n  app:\n    extends: { file: other/base.yaml, service: base }\n    build:\n      args: { B: 2 }\n      \
                tags: [two]\n  plain:\n    extends: app\n    build: ./plain\n";
    let base = "services:\n  root:\n    build:\n      context: .\n      labels: [from=root]\n\
                \x20 base:\n    extends: root\n    image: ${NAME:-base}\n    build:\n      context: ctx\n      \
                args: [A=1, B=1]\n      tags: [one]\n      additional_contexts:\n        files: ../files\n        web: https://example.com/x.git\n";
    let included = "services:\n  tool:\n    build:\n      context: ./tool\n      secrets: [token]\n\
                    secrets:\n  token:\n    file: token.txt\n";
    let project = "services:\n  sub:\n    build:\n      dockerfile_inline: FROM ${IMAGE} AS ${KIND}\n";
    let files = [
        ("compose.yaml", main),
        ("other/base.yaml", base),
        ("other/included.yaml", included),
        ("other/sub/project.yaml", project),
        ("other/sub/.env", "KIND=of-directory\nIMAGE=not-this\n"),
        ("env/project.env", "IMAGE=of-file\n"),
    ];
    let target = |name: &str| print(&files, &[("NAME", "named")], &[]).unwrap()["target"][name].clone();
    let app = target("app");
    assert_eq!(app["context"], "other/ctx");
    assert_eq!(app["args"], serde_json::json!({"A": "1", "B": "2"}));
    assert_eq!(app["tags"], serde_json::json!(["one", "two"]));
    assert_eq!(app["labels"], serde_json::json!({"from": "root"}));
    assert_eq!(app["contexts"], serde_json::json!({"files": "other/../files", "web": "https://example.com/x.git"}));
    assert_eq!(target("plain")["context"], "./plain");
    let tool = target("tool");
    assert_eq!(tool["context"], "other/tool");
    assert_eq!(tool["secret"], serde_json::json!([{"id": "token", "src": "other/token.txt"}]));
    let sub = target("sub");
    assert_eq!(
        (&sub["dockerfile-inline"], &sub["context"]),
        (&"FROM of-file AS of-directory".into(), &"other/sub".into())
    );
    let circle = "services:\n  a:\n    extends: { file: other/circle.yaml, service: b }\n    build: .\n";
    let other = "services:\n  b:\n    extends: { file: circle.yaml, service: b }\n    build: .\n";
    for (main, said) in [
        (circle, "extend each other in a circle"),
        ("include: [other/none.yaml]\nservices: {}\n", "there is no file other/none.yaml"),
        (
            "include: [other/included.yaml]\nservices:\n  tool: { build: . }\n",
            "tool of services is defined here and in",
        ),
        ("services:\n  a: { extends: { file: other/base.yaml, service: c }, build: . }\n", "there is no service \"c\""),
    ] {
        let files = [
            ("compose.yaml", main),
            ("other/base.yaml", base),
            ("other/included.yaml", included),
            ("other/circle.yaml", other),
        ];
        let fault = print(&files, &[], &[]).unwrap_err();
        assert!(fault.contains(said), "{fault}");
    }
}

#[test]
fn compose_files_see_the_environment_of_files() {
    let compose = "services:\n  app:\n    image: app:${TAG}\n    environment:\n      - OWN=service\n      - TAG\n    env_file:\n      \
                   - env/app.env\n      - { path: env/none.env, required: false }\n    build:\n      args: [OWN, FILE, TAG, NONE, SET]\n";
    let files = [
        ("compose.yaml", compose),
        (".env", "TAG=dotenv\nSET=dotenv\n"),
        ("env/app.env", "FILE=${TAG}-file\nOWN=file\n"),
    ];
    let target = |environment: &[(&str, &str)]| print(&files, environment, &[]).unwrap()["target"]["app"].clone();
    let app = target(&[]);
    assert_eq!(app["tags"], serde_json::json!(["app:dotenv"]));
    let args = serde_json::json!({"OWN": "service", "FILE": "dotenv-file", "TAG": "dotenv", "SET": "dotenv"});
    assert_eq!(app["args"], args);
    assert_eq!(target(&[("TAG", "process")])["tags"], serde_json::json!(["app:process"]));
    // HCL knows nothing of it.
    let fault =
        print(&[("x.hcl", "target \"default\" { tags = [TAG] }\n"), (".env", "TAG=x\n")], &[], &[]).unwrap_err();
    assert!(fault.contains("\"TAG\" is not defined"), "{fault}");
}

#[test]
fn later_compose_files_merge_by_name() {
    let first = "services:\n  app:\n    image: app\n    build: ./app\n";
    let second = "services:\n  app:\n    build:\n      args: [A=1, B=1]\n      platforms: [linux/amd64]\n";
    let third = "services:\n  app:\n    build:\n      args: { B: 2 }\n      platforms: [linux/amd64, linux/arm64]\n      \
                 target: x\n  more:\n    build: { context: more, network: host, no_cache: true, pull: true }\n";
    let files = [("compose.yaml", first), ("compose.override.yaml", second), ("third.yml", third)];
    let printed = print(&files, &[], &[]).unwrap();
    let app = &printed["target"]["app"];
    assert_eq!((&app["context"], &app["target"]), (&"./app".into(), &"x".into()));
    assert_eq!(app["args"], serde_json::json!({"A": "1", "B": "2"}));
    assert_eq!(app["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    let more = &printed["target"]["more"];
    assert_eq!((&more["no-cache"], &more["pull"], &more["network"]), (&true.into(), &true.into(), &"host".into()));
    assert_eq!(more["entitlements"], serde_json::json!(["network.host"]));
}

#[test]
fn targets_that_are_used_have_the_platforms_for_it() {
    let text = |own: &str, base: &str| {
        format!(
            "target \"default\" {{\n platforms = [{own}]\n contexts = {{ base = \"target:base\" }}\n}}\n\
             target \"base\" {{ platforms = [{base}] }}\n"
        )
    };
    let said = |own, base| print(&[("x.hcl", &text(own, base))], &[], &[]).err();
    let (a, b) = ("\"linux/amd64\"", "\"linux/amd64\", \"linux/arm64\"");
    assert_eq!((said(a, b), said(b, a), said(b, b)), (None, None, None));
    let more = "\"linux/amd64\", \"linux/s390x\"";
    assert!(said(more, b).unwrap().contains("base, which it uses, for linux/amd64, linux/arm64 only"));
}

#[test]
fn every_key_can_be_set() {
    let text = "target \"app\" {\n secret = [\"id=a,src=a\"]\n cache-from = [\"one\"]\n output = [\"out\"]\n ssh = [\"default\"]\n\
                attest = [\"type=sbom\"]\n ulimits = [\"nofile=1:2\"]\n annotations = [\"a=b\"]\n\
                resources = { cpu-quota = 7 }\n}\n";
    let config = config(&[("x.hcl", text)], &[]).unwrap();
    let set = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
        serde_json::to_value(config.resolve(&["app".to_owned()], &set).unwrap()).unwrap()["target"]["app"].clone()
    };
    for (what, key, value) in [
        ("context=x", "context", serde_json::json!("x")),
        ("contexts.a=b", "contexts", serde_json::json!({"a": "b"})),
        ("dockerfile=D", "dockerfile", serde_json::json!("D")),
        ("labels.a=b", "labels", serde_json::json!({"a": "b"})),
        ("target=t", "target", serde_json::json!("t")),
        ("call=check", "call", serde_json::json!("check")),
        ("network=none", "network", serde_json::json!("none")),
        ("pull=true", "pull", serde_json::json!(true)),
        ("shm-size=1m", "shm-size", serde_json::json!("1m")),
        ("extra-hosts.a=1.2.3.4", "extra-hosts", serde_json::json!({"a": "1.2.3.4"})),
        ("ulimits=nproc=3", "ulimits", serde_json::json!(["nproc=3"])),
        ("ulimits+=nproc=3", "ulimits", serde_json::json!(["nofile=1:2", "nproc=3"])),
        ("no-cache-filter=a", "no-cache-filter", serde_json::json!(["a"])),
        ("platform+=linux/arm64", "platforms", serde_json::json!(["linux/arm64"])),
        ("secrets=id=b,env=B", "secret", serde_json::json!([{"id": "b", "env": "B"}])),
        ("secrets+=id=b,env=B", "secret", serde_json::json!([{"id": "a", "src": "a"}, {"id": "b", "env": "B"}])),
        ("ssh+=k=/key", "ssh", serde_json::json!([{"id": "default"}, {"id": "k", "paths": ["/key"]}])),
        ("cache-to=type=inline", "cache-to", serde_json::json!([{"type": "inline"}])),
        ("cache-from=", "cache-from", serde_json::Value::Null),
        ("output=", "output", serde_json::Value::Null),
        (
            "output+=type=tar,dest=x",
            "output",
            serde_json::json!([{"type": "local", "dest": "out"}, {"type": "tar", "dest": "x"}]),
        ),
        ("attest=type=sbom,disabled=true", "attest", serde_json::json!([{"type": "sbom", "disabled": true}])),
        ("annotations=c=d", "annotations", serde_json::json!(["a=b", "c=d"])),
        ("entitlements=network.host", "entitlements", serde_json::json!(["network.host"])),
        (
            "attest=Type=sbom,generator=g,\"ENV=a,b\"",
            "attest",
            serde_json::json!([{"type": "sbom", "generator": "g", "ENV": "a,b"}]),
        ),
        ("resources.memory=512m", "resources", serde_json::json!({"memory": "512m", "cpu-quota": 7})),
        ("resources.cpu-quota=50000", "resources", serde_json::json!({"cpu-quota": 50000})),
        ("secret.a=env=A", "secret", serde_json::json!([{"id": "a", "env": "A"}])),
        ("secrets.a=id=a,src=b", "secret", serde_json::json!([{"id": "a", "src": "b"}])),
        ("load=true", "output", serde_json::json!([{"type": "local", "dest": "out"}])),
    ] {
        assert_eq!(set(&[&format!("*.{what}")])[key], value, "{what}");
    }
    for (what, words) in [
        ("secret.b=env=B", "no secret \"b\""),
        ("secret.a=id=b,env=B", "id=b is not the secret \"a\""),
        ("resources.cpu-quota=much", "write a whole number"),
        ("resources.disk=1g", "unknown resource \"disk\""),
        ("resources=memory=1g", "TARGET.resources.NAME=VALUE"),
    ] {
        let said = config.resolve(&["app".to_owned()], &[format!("*.{what}")]).unwrap_err().to_string();
        assert!(said.contains(words), "{what}: {said}");
    }
}

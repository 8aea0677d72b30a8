//! Files of `testdata/bake`: the good ones with what `--print` says, the bad ones with what is said of them.
//!
//! `LAP_BLESS=1` writes the expectations anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Config, Fault, Source, load};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/bake").join(name)
}

fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    files.iter().map(|(name, text)| Source::new(name, text)).collect()
}

fn config(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config, Fault> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let builtin = [("BAKE_CMD_CONTEXT", "cwd://"), ("BAKE_LOCAL_PLATFORM", "linux/amd64")];
    let builtin = builtin.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    load(&sources(files), &|name| environment.get(name).cloned(), builtin)
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

//! The house stays as it was laid: arrows of dependency, unsafe code in the `sys` modules only, pure crates pure.

#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Our crates and what each depends on, tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let names = package["dependencies"].as_array().unwrap().iter();
            let names = names.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
            let names = names.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn crates_depend_on_each_other_as_designed() {
    let arrows: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("lap-solver", &[][..]),
        ("lap-frontend", &["lap-solver"][..]),
        ("lap-cache", &["lap-solver"][..]),
        ("lap-executor", &["lap-cache", "lap-solver"][..]),
        ("lap", &["lap-cache", "lap-executor", "lap-frontend", "lap-solver"][..]),
    ]);
    let dependencies = dependencies();
    assert_eq!(dependencies.keys().map(String::as_str).collect::<Vec<_>>(), arrows.keys().copied().collect::<Vec<_>>());
    for (name, names) in &dependencies {
        let ours: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.starts_with("lap")).collect();
        assert_eq!(ours, arrows[name.as_str()], "dependencies of {name}");
    }
}

#[test]
fn each_outside_crate_stays_with_its_owner() {
    let owners: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("reqwest", &["lap-cache"][..]),
        ("rustls", &["lap-cache"][..]),
        ("hickory-resolver", &["lap-cache"][..]),
        ("tar", &["lap-cache"][..]),
        ("zstd", &["lap-cache"][..]),
        ("flate2", &["lap-cache"][..]),
        ("oci-spec", &["lap-cache"][..]),
        ("clap", &["lap"][..]),
        ("indicatif", &["lap"][..]),
        ("annotate-snippets", &["lap"][..]),
        ("anyhow", &["lap"][..]),
        ("hcl-edit", &["lap"][..]),
        ("md-5", &["lap"][..]),
        ("regex", &["lap"][..]),
        ("serde-saphyr", &["lap"][..]),
        ("sha1", &["lap"][..]),
        ("toml", &["lap"][..]),
        ("nix", &["lap", "lap-cache", "lap-executor"][..]),
        ("rustix", &["lap", "lap-cache", "lap-executor"][..]),
        ("libc", &["lap-cache", "lap-executor"][..]),
    ]);
    for (name, names) in dependencies() {
        for (outside, owners) in &owners {
            assert!(!names.contains(*outside) || owners.contains(&name.as_str()), "{name} must not use {outside}");
        }
    }
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn unsafe_code_lives_in_the_sys_modules() {
    let root = workspace();
    let mut files = Vec::new();
    for name in ["solver", "frontend", "cache", "executor", "cli"] {
        sources(&root.join(name).join("src"), &mut files);
    }
    let allowed = |path: &Path| {
        ["cache/src/sys", "executor/src/sys"]
            .iter()
            .any(|sys| path.starts_with(root.join(sys)) || path == root.join(format!("{sys}.rs")))
    };
    for path in files.iter().filter(|path| !allowed(path)) {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap();
            let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            assert!(!words.contains(&"unsafe"), "{}:{number}: unsafe outside of sys", path.display());
            assert!(!code.contains("allow(unsafe_code)"), "{}:{number}: unsafe allowed outside of sys", path.display());
        }
    }
}

#[test]
fn the_pure_crates_have_no_clock_no_environment_and_no_files() {
    let root = workspace();
    for name in ["solver", "frontend"] {
        let mut files = Vec::new();
        sources(&root.join(name).join("src"), &mut files);
        for path in files.iter().filter(|path| !path.ends_with("tests.rs")) {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for banned in [
                "std::fs",
                "TcpStream",
                "UdpSocket",
                "ToSocketAddrs",
                "std::env::var",
                "SystemTime",
                "Instant::now",
                "std::process",
            ] {
                assert!(!code.contains(banned), "{} uses {banned}", path.display());
            }
        }
    }
}

//! Python's packages: what pip has installed, and the lock files of Poetry, uv, PDM, Pipenv and pip.

use std::collections::BTreeMap;

use lap_solver::purl::Purl;
use serde_json::Value;

use super::super::record::{paragraphs, toml_packages};
use super::{Distribution, Malformed, Package, file_name, json};

pub(super) fn is_metadata(path: &str, _: bool) -> bool {
    path.ends_with(".dist-info/METADATA") || path.ends_with(".egg-info/PKG-INFO") || path.ends_with(".egg-info")
}

pub(super) fn is_toml_lock(path: &str, _: bool) -> bool {
    matches!(file_name(path), "poetry.lock" | "uv.lock" | "pdm.lock")
}

pub(super) fn is_pipfile_lock(path: &str, _: bool) -> bool {
    file_name(path) == "Pipfile.lock"
}

pub(super) fn is_requirements(path: &str, _: bool) -> bool {
    file_name(path) == "requirements.txt"
}

/// The name is normalised as PyPI does it (PEP 503).
fn package(name: &str, version: &str) -> Option<Package> {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    Package::new(Purl::new("pypi", &normal, version), name, version)
}

pub(super) fn metadata(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let fields = paragraphs(text).next().unwrap_or_default();
    let field = |key: &str| fields.get(key).copied().unwrap_or_default();
    Ok(package(field("Name"), field("Version")).into_iter().collect())
}

pub(super) fn toml_lock(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let of = |fields: BTreeMap<&str, &str>| package(fields.get("name")?, fields.get("version")?);
    Ok(toml_packages(text).into_iter().filter_map(of).collect())
}

pub(super) fn pipfile_lock(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let value = json(text)?;
    let groups = ["default", "develop"].into_iter().filter_map(|group| value.get(group)?.as_object());
    let of = |(name, entry): (&String, &Value)| {
        let version = entry.get("version").and_then(Value::as_str)?;
        package(name, version.strip_prefix("==")?)
    };
    Ok(groups.flatten().filter_map(of).collect())
}

/// Only lines that name one version: others say what may be, not what is.
pub(super) fn requirements(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let of = |line: &str| {
        let line = line.split(['#', ';']).next()?.trim();
        let (name, rest) = line.split_once("==").filter(|_| !line.starts_with('-'))?;
        let version = rest.trim_start_matches('=').split([' ', '\\', ',']).find(|part| !part.is_empty())?;
        let name = name.split('[').next()?.trim();
        let sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if sound && !version.contains('*') { package(name, version) } else { None }
    };
    Ok(text.lines().filter_map(of).collect())
}

//! JavaScript's packages: the lock files of npm, yarn and pnpm, and what lies in `node_modules`.

use lap_solver::purl::Purl;
use serde_json::Value;

use super::{Distribution, Malformed, Package, file_name, json};

/// Nesting of `dependencies` that is followed.
const DEPTH: usize = 100;

pub(super) fn is_package_lock(path: &str, _: bool) -> bool {
    matches!(file_name(path), "package-lock.json" | "npm-shrinkwrap.json" | ".package-lock.json")
}

pub(super) fn is_yarn_lock(path: &str, _: bool) -> bool {
    file_name(path) == "yarn.lock"
}

pub(super) fn is_pnpm_lock(path: &str, _: bool) -> bool {
    file_name(path) == "pnpm-lock.yaml"
}

/// `node_modules/NAME/package.json` or `node_modules/@SCOPE/NAME/package.json`.
pub(super) fn is_installed(path: &str, _: bool) -> bool {
    let Some(dir) = path.strip_suffix("/package.json") else { return false };
    let below = dir.rsplit_once("node_modules/").filter(|(before, _)| before.is_empty() || before.ends_with('/'));
    below.is_some_and(|(_, name)| name.split('/').count() == if name.starts_with('@') { 2 } else { 1 })
}

fn package(name: &str, version: &str) -> Option<Package> {
    let (scope, bare) = name.split_once('/').filter(|(scope, _)| scope.starts_with('@')).unwrap_or(("", name));
    Package::new(Purl::new("npm", bare, version).within(scope), name, version)
}

pub(super) fn installed(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let value = json(text)?;
    let field = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(package(field("name"), field("version")).into_iter().collect())
}

pub(super) fn package_lock(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let value = json(text)?;
    let mut packages = Vec::new();
    match value.get("packages").and_then(Value::as_object) {
        // Versions 2 and 3: by path; the empty one is the project itself.
        Some(by_path) => {
            for (path, entry) in by_path {
                let Some((_, name)) = path.rsplit_once("node_modules/") else { continue };
                let name = entry.get("name").and_then(Value::as_str).unwrap_or(name);
                let version = entry.get("version").and_then(Value::as_str).unwrap_or_default();
                packages.extend(package(name, version));
            }
        }
        None => dependencies(&value, 0, &mut packages),
    }
    Ok(packages)
}

/// Version 1: nested.
fn dependencies(value: &Value, depth: usize, packages: &mut Vec<Package>) {
    let Some(entries) = value.get("dependencies").and_then(Value::as_object).filter(|_| depth < DEPTH) else { return };
    for (name, entry) in entries {
        let version = entry.get("version").and_then(Value::as_str).unwrap_or_default();
        packages.extend(package(name, version));
        dependencies(entry, depth + 1, packages);
    }
}

/// Both forms: yarn's own, and the YAML of later versions.
pub(super) fn yarn_lock(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let mut packages = Vec::new();
    let mut name = None;
    for line in text.lines() {
        if !line.starts_with([' ', '#']) {
            let spec = line.trim_start_matches('"').trim_end_matches([':', '"']);
            // The name ends at the first `@` that does not begin a scope.
            let end = spec.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
            name = end.map(|end| &spec[..end]).filter(|name| *name != "__metadata");
        } else if let Some(version) = line.strip_prefix("  version")
            && let Some(name) = name
        {
            let version = version.trim_start_matches([':', ' ']).trim_matches('"');
            if !version.ends_with("-use.local") {
                packages.extend(package(name, version));
            }
        }
    }
    Ok(packages)
}

/// Keys of `packages:`: `/name/1.0.0`, `/name@1.0.0` or `name@1.0.0(peer@2.0.0)`.
pub(super) fn pnpm_lock(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let mut packages = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            inside = line.trim_end() == "packages:";
            continue;
        }
        let Some(key) = line.strip_prefix("  ").filter(|key| inside && !key.starts_with(' ')) else { continue };
        let Some(key) = key.trim_end().strip_suffix(':') else { continue };
        let key = key.trim_matches(['\'', '"']);
        let key = key.split('(').next().unwrap_or(key);
        let key = key.strip_prefix('/').unwrap_or(key);
        let split = match key.rfind('@').filter(|at| *at > 0) {
            Some(at) => Some(key.split_at(at)),
            None => key.rfind('/').map(|at| key.split_at(at)),
        };
        if let Some((name, version)) = split {
            let version = version.trim_start_matches(['@', '/']).split('_').next().unwrap_or_default();
            packages.extend(package(name, version));
        }
    }
    Ok(packages)
}

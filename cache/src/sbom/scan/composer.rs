//! PHP's packages: `composer.lock`, and Composer's list of what it has installed.

use lap_solver::purl::Purl;
use serde_json::Value;

use super::{Distribution, Malformed, Package, file_name, json};

pub(super) fn fits(path: &str, _: bool) -> bool {
    file_name(path) == "composer.lock" || path.ends_with("vendor/composer/installed.json")
}

pub(super) fn scan(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let value = json(text)?;
    // Version 1 of Composer writes the list alone.
    let lists = value
        .as_array()
        .into_iter()
        .chain(["packages", "packages-dev"].into_iter().filter_map(|key| value.get(key)?.as_array()));
    let of = |entry: &Value| {
        let (name, version) = (entry.get("name")?.as_str()?, entry.get("version")?.as_str()?);
        let (vendor, bare) = name.split_once('/').unwrap_or(("", name));
        Package::new(Purl::new("composer", bare, version).within(vendor), name, version)
    };
    Ok(lists.flatten().filter_map(of).collect())
}

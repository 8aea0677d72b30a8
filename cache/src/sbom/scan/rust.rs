//! Rust's crates: `Cargo.lock`.

use lap_solver::purl::Purl;

use super::super::record::toml_packages;
use super::{Distribution, Malformed, Package, file_name};

pub(super) fn fits(path: &str, _: bool) -> bool {
    file_name(path) == "Cargo.lock"
}

pub(super) fn scan(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let of = |fields: std::collections::BTreeMap<&str, &str>| {
        let (name, version) = (fields.get("name")?, fields.get("version")?);
        Package::new(Purl::new("cargo", name, version), name, version)
    };
    Ok(toml_packages(text).into_iter().filter_map(of).collect())
}

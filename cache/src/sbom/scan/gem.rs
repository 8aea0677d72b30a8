//! Ruby's packages: `Gemfile.lock`, and the specifications of installed gems.

use lap_solver::purl::Purl;

use super::{Distribution, Malformed, Package, file_name};

pub(super) fn is_lock(path: &str, _: bool) -> bool {
    matches!(file_name(path), "Gemfile.lock" | "gems.locked")
}

pub(super) fn is_specification(path: &str, _: bool) -> bool {
    path.ends_with(".gemspec") && path.contains("specifications/")
}

/// `1.2.3` or `1.2.3-x86_64-linux`.
fn package(name: &str, version: &str) -> Option<Package> {
    let (number, platform) = version.split_once('-').unwrap_or((version, ""));
    Package::new(Purl::new("gem", name, number).with("platform", platform), name, number)
}

/// Lines of four blanks below `specs:`; deeper ones say what is needed.
pub(super) fn lock(text: &str, _: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let mut packages = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(entry) if inside && !entry.starts_with(' ') => {
                let parts = entry.trim_end().strip_suffix(')').and_then(|entry| entry.split_once(" ("));
                packages.extend(parts.and_then(|(name, version)| package(name, version)));
            }
            Some(_) => {}
            None => inside = line.trim_end() == "  specs:",
        }
    }
    Ok(packages)
}

/// The name of the file says all: a specification is a program.
pub(super) fn specification(_: &str, path: &str, _: &Distribution) -> Result<Vec<Package>, Malformed> {
    let stem = file_name(path).trim_end_matches(".gemspec");
    let split = stem.match_indices('-').find(|(at, _)| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let named = split.and_then(|(at, _)| package(&stem[..at], &stem[at + 1..]));
    Ok(named.into_iter().collect())
}

//! Podman's `registries.conf` (containers-registries.conf(5), version 2): mirrors, moved, closed and insecure registries.
//!
//! Its short names and search lists are not used: a name without a registry is Docker Hub's, as in Docker, and must not
//! mean another image on another machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lap_cache::registry::{Mirror, PullBy, Rule};
use serde::Deserialize;

/// Bytes of a file, at most.
const LARGEST: u64 = 1 << 20;

/// What the files say.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    /// `host[:port]` that need not be secure.
    pub(crate) insecure: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorEntry {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<String>,
}

/// Reads files and the `*.conf` of directories; later ones win. What is not there says nothing.
///
/// # Errors
/// Where one cannot be read or makes no sense.
pub(crate) fn read(files: &[PathBuf], dirs: &[PathBuf]) -> anyhow::Result<Rules> {
    let mut all = files.to_vec();
    for dir in dirs {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "conf")).collect();
        found.sort();
        all.extend(found);
    }
    let mut rules = Rules::default();
    for path in &all {
        match std::fs::File::open(path).and_then(|file| lap_cache::fs::read_limited(file, LARGEST)) {
            Ok(text) => {
                add(&mut rules, &String::from_utf8_lossy(&text)).with_context(|| at(path))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    Ok(rules)
}

fn at(path: &Path) -> String {
    format!("{} is broken", path.display())
}

fn add(rules: &mut Rules, text: &str) -> anyhow::Result<()> {
    let file: File = toml::from_str(text)?;
    for entry in file.registry {
        let prefix = if entry.prefix.is_empty() { entry.location.clone() } else { entry.prefix };
        if prefix.is_empty() {
            bail!("a [[registry]] has neither prefix nor location");
        }
        let mut insecure = |location: &str| {
            rules.insecure.insert(host(location).to_owned());
        };
        if entry.insecure {
            insecure(if entry.location.is_empty() { &prefix } else { &entry.location });
        }
        let mut mirrors = Vec::new();
        for mirror in entry.mirror {
            if mirror.insecure {
                insecure(&mirror.location);
            }
            let pull = match mirror.pull_from_mirror.as_deref() {
                None | Some("") if entry.mirror_by_digest_only => PullBy::Digest,
                None | Some("" | "all") => PullBy::Any,
                Some("digest-only") => PullBy::Digest,
                Some("tag-only") => PullBy::Tag,
                Some(other) => bail!("pull-from-mirror = {other:?}: there are all, digest-only and tag-only"),
            };
            mirrors.push(Mirror { location: mirror.location, pull });
        }
        let location = Some(entry.location).filter(|location| !location.is_empty() && *location != prefix);
        rules.rules.push(Rule { prefix, blocked: entry.blocked, location, mirrors });
    }
    Ok(())
}

/// The host of `host[:port]/namespace`.
fn host(location: &str) -> &str {
    location.split('/').next().unwrap_or(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_podmans() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            short-name-mode = "enforcing"
            [[registry]]
            prefix = "docker.io/library"
            location = "inner.lan:5000/hub"
            insecure = true
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "mirror.lan/hub"
            insecure = true
            [[registry.mirror]]
            location = "tags.lan"
            pull-from-mirror = "tag-only"
            [[registry]]
            location = "closed.lan"
            blocked = true
            [aliases]
            "fedora" = "registry.fedoraproject.org/fedora"
        "#;
        let mut rules = Rules::default();
        add(&mut rules, text).unwrap();
        assert_eq!(rules.insecure, BTreeSet::from(["inner.lan:5000".to_owned(), "mirror.lan".to_owned()]));
        let mirror = |location: &str, pull| Mirror { location: location.to_owned(), pull };
        assert_eq!(
            rules.rules,
            [
                Rule {
                    prefix: "docker.io/library".to_owned(),
                    blocked: false,
                    location: Some("inner.lan:5000/hub".to_owned()),
                    mirrors: vec![mirror("mirror.lan/hub", PullBy::Digest), mirror("tags.lan", PullBy::Tag)],
                },
                Rule { prefix: "closed.lan".to_owned(), blocked: true, ..Rule::default() },
            ]
        );
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (text, message) in [
            ("[[registry]]\ninsecure = true", "neither prefix nor location"),
            ("[[registry]]\nlocation = 3", "invalid type"),
            (
                "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"x\"",
                "digest-only",
            ),
        ] {
            let error = format!("{:#}", add(&mut Rules::default(), text).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }
}

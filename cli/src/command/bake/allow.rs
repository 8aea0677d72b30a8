//! What targets ask for and the user did not allow: a bake file may be somebody else's.
//!
//! Files of the working directory are allowed, and what `--set` and `--allow` name; anything else is asked for on a
//! terminal and refused elsewhere, as buildx does.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::definition::Place;
use super::words::is_remote;
use crate::args::{Bake, fields};
use crate::bake::{Resolved, Target};
use crate::settings::variable;
use crate::ui::error::Hint as _;

/// Which kinds of access exist.
const KINDS: [&str; 9] =
    ["network.host", "security.insecure", "fs", "fs.read", "fs.write", "ssh", "device", "image", "buildx.local.delete"];

/// What may be done.
#[derive(Debug, Default)]
struct Granted {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    ssh: bool,
}

impl Granted {
    fn new(args: &Bake) -> anyhow::Result<Self> {
        let here = real(".")?;
        let mut granted = Self { read: vec![here.clone()], write: vec![here], ssh: false };
        for text in &args.allow {
            let (kind, value) = text.split_once('=').unwrap_or((text, ""));
            let family = kind.split_once('.').map_or(kind, |(family, _)| family);
            if !KINDS.contains(&kind) && family != "image" && text != "*" {
                bail!(
                    "--allow {text}: known are network.host, security.insecure, fs, fs.read, fs.write, ssh and buildx.local.delete"
                );
            }
            let all = ["", "*"].contains(&value);
            let path = if all { PathBuf::from("/") } else { real(value)? };
            if matches!(kind, "fs" | "fs.read" | "*") {
                granted.read.push(path.clone());
            }
            if matches!(kind, "fs" | "fs.write" | "*") {
                granted.write.push(path);
            }
            granted.ssh |= matches!(kind, "ssh" | "*");
        }
        granted.add_set(args)?;
        Ok(granted)
    }

    /// What `--set` names is the user's own word.
    fn add_set(&mut self, args: &Bake) -> anyhow::Result<()> {
        for set in &args.set {
            let Some((left, value)) = set.split_once('=') else { continue };
            let key = left.trim_end_matches('+').split('.').nth(1).unwrap_or_default();
            let named = |names: &[&str]| {
                let pairs = fields(value).unwrap_or_default();
                pairs.into_iter().find_map(|(name, value)| match value {
                    // A place alone.
                    None => Some(name),
                    value => value.filter(|_| names.contains(&name.as_str())),
                })
            };
            let (read, write) = match key {
                "output" => (None, named(&["dest"])),
                "cache-to" => (None, named(&["dest"])),
                "cache-from" => (named(&["src"]), None),
                "secret" | "secrets" => (named(&["src", "source"]), None),
                "ssh" => (value.split_once('=').map(|(_, path)| path.to_owned()), None),
                "context" | "contexts" | "dockerfile" => (Some(value.to_owned()), None),
                _ => (None, None),
            };
            self.ssh |= key == "ssh";
            self.read.extend(read.map(|path| real(&path)).transpose()?);
            self.write.extend(write.map(|path| real(&path)).transpose()?);
        }
        Ok(())
    }
}

/// What is asked for beyond that.
#[derive(Debug, Default)]
struct Wanted {
    rights: BTreeSet<String>,
    read: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    ssh: bool,
}

/// Asks for what is not allowed yet.
///
/// # Errors
/// Where it stays so.
pub(super) fn allow(args: &Bake, place: &Place, resolved: &Resolved) -> anyhow::Result<()> {
    let granted = Granted::new(args)?;
    let mut wanted = Wanted::default();
    for (name, target) in &resolved.target {
        rights(args, target, &mut wanted);
        paths(place, target, &granted, &mut wanted).with_context(|| format!("target {name}"))?;
    }
    // The same switch as buildx has.
    if variable("BUILDX_BAKE_ENTITLEMENTS_FS").is_some_and(|text| lap_frontend::go::parse_bool(&text) == Some(false)) {
        (wanted.read, wanted.write, wanted.ssh) = (BTreeSet::new(), BTreeSet::new(), false);
    }
    let (lines, flags) = told(&wanted)?;
    if flags.is_empty() {
        return Ok(());
    }
    eprintln!("Your build is requesting privileges for following possibly insecure capabilities:\n");
    for line in lines {
        eprintln!(" - {line}");
    }
    eprintln!("\nPass {:?} to grant requested privileges.\n", flags.join(" "));
    if std::io::stdin().is_terminal() {
        eprint!("Do you want to grant requested privileges and continue? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim().eq_ignore_ascii_case("y") {
            return Ok(());
        }
    }
    Err(anyhow::anyhow!("additional privileges requested")).hint(flags.join(" "))
}

fn rights(args: &Bake, target: &Target, wanted: &mut Wanted) {
    let granted = |right: &str| {
        let set = args.set.iter().filter_map(|set| set.split_once(".entitlements")).map(|(_, value)| value);
        args.allow.iter().any(|word| word == right || word == "*")
            || set.into_iter().any(|value| value.trim_start_matches(['+', '=']) == right)
    };
    for right in target.entitlements.iter().flatten() {
        if !granted(right) {
            wanted.rights.insert(right.clone());
        }
    }
}

fn paths(place: &Place, target: &Target, granted: &Granted, wanted: &mut Wanted) -> anyhow::Result<()> {
    let (mut read, mut write) = (Vec::new(), Vec::new());
    let local = |text: &str| {
        let text = match text.strip_prefix("cwd://") {
            Some("") => return None,
            Some(path) => path,
            // What was fetched is no file of this machine.
            None if is_remote(text) || text.starts_with("target:") || !matches!(place, Place::Here) => return None,
            None => text,
        };
        Some(text.to_owned())
    };
    let context = target.context.as_deref().unwrap_or(".");
    read.extend(local(context));
    read.extend(target.contexts.values().filter_map(|context| local(context)));
    if let Some(file) = target.dockerfile.as_ref().filter(|_| target.dockerfile_inline.is_none())
        && let Some(file) = local(file)
        && !is_remote(context)
    {
        read.push(Path::new(context.strip_prefix("cwd://").unwrap_or(context)).join(file).display().to_string());
    }
    let of = |entry: &crate::bake::Entry, key: &str| entry.get(key).filter(|path| *path != "-").cloned();
    write.extend(target.output.iter().flatten().filter_map(|entry| of(entry, "dest")));
    write.extend(target.cache_to.iter().flatten().filter_map(|entry| of(entry, "dest")));
    read.extend(target.cache_from.iter().flatten().filter_map(|entry| of(entry, "src")));
    read.extend(target.secret.iter().flatten().filter_map(|entry| of(entry, "src")));
    for agent in target.ssh.iter().flatten() {
        match agent.get("paths") {
            Some(paths) => read.extend(paths.split(',').map(str::to_owned)),
            None => wanted.ssh |= !granted.ssh,
        }
    }
    let missing = |paths: Vec<String>, granted: &[PathBuf]| -> anyhow::Result<Vec<PathBuf>> {
        let paths = paths.iter().map(real).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| !granted.iter().any(|above| path.starts_with(above))).collect())
    };
    wanted.read.extend(missing(read, &granted.read)?);
    wanted.write.extend(missing(write, &granted.write)?);
    Ok(())
}

/// A line for each thing that is wanted, and the flags that allow all of it.
fn told(wanted: &Wanted) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut lines, mut flags) = (Vec::new(), Vec::new());
    for right in &wanted.rights {
        lines.push(match right.as_str() {
            "network.host" => "Running build containers that can access host network".to_owned(),
            "security.insecure" => "Running privileged containers that can make system changes".to_owned(),
            other => format!("The entitlement {other}"),
        });
        flags.push(format!("--allow={right}"));
    }
    if wanted.ssh {
        lines.push("Forwarding default SSH agent socket".to_owned());
        flags.push("--allow=ssh".to_owned());
    }
    for path in wanted.read.union(&wanted.write) {
        let (what, kind) = match (wanted.read.contains(path), wanted.write.contains(path)) {
            (true, true) => ("Read and write", "fs"),
            (true, false) => ("Read", "fs.read"),
            _ => ("Write", "fs.write"),
        };
        lines.push(format!("{what} access to path {}", path.display()));
        flags.push(format!("--allow={kind}={}", path.display()));
    }
    Ok((lines, flags))
}

/// Where a path leads, links followed as far as it exists.
fn real(path: impl AsRef<Path>) -> anyhow::Result<PathBuf> {
    let whole = std::path::absolute(path.as_ref())?;
    let (mut above, mut missing) = (whole.as_path(), Vec::new());
    loop {
        match std::fs::canonicalize(above) {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, part| path.join(part))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (above.parent(), above.file_name()) else {
                    bail!("{} does not lead anywhere", whole.display())
                };
                missing.push(name.to_owned());
                above = parent;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot tell where {} leads", whole.display())),
        }
    }
}

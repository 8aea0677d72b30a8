//! A target as the command line of `lap build` that builds it alone, so that it means what the flags mean.

use anyhow::bail;
use clap::Parser as _;

use super::definition::Place;
use crate::args::{Bake, Build, Command, Lap};
use crate::bake::{Entry, Target, entry_text};

/// A target as the flags of `lap build`.
pub(super) fn parsed(args: &Bake, place: &Place, target: &Target) -> anyhow::Result<Build> {
    let lap = Lap::try_parse_from(words(args, place, target)?).map_err(|error| {
        let text = error.to_string();
        anyhow::anyhow!("{}", text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    let Command::Build(mut parsed) = lap.command else { bail!("internal error: no build") };
    parsed.inline.clone_from(&target.dockerfile_inline);
    Ok(*parsed)
}

/// The flags of a target.
fn words(args: &Bake, place: &Place, target: &Target) -> anyhow::Result<Vec<String>> {
    let mut words = vec!["lap".to_owned(), "build".to_owned()];
    let mut flag = |name: &str, value: &str| words.push(format!("--{name}={value}"));
    let named = target.context.as_deref().unwrap_or(".");
    if named == "-" || target.dockerfile.as_deref() == Some("-") {
        bail!("neither the context nor the Dockerfile of a target can be standard input");
    }
    let context = place.context(named);
    if target.dockerfile_inline.is_none()
        && let Some(path) = &target.dockerfile
        && path != "Dockerfile"
    {
        let (here, remote) = (path.strip_prefix("cwd://"), is_remote(&context));
        match here {
            Some(here) => flag("file", &std::path::absolute(here)?.display().to_string()),
            None if remote || is_remote(path) => flag("file", path),
            // A name of the file system is seen from the context.
            None => flag("file", &std::path::Path::new(&context).join(path).display().to_string()),
        }
    }
    for (name, value) in &target.args {
        flag("build-arg", &format!("{name}={value}"));
    }
    for (name, value) in &target.labels {
        flag("label", &format!("{name}={value}"));
    }
    for (name, other) in target.contexts.iter().filter(|(_, other)| !other.starts_with("target:")) {
        flag("build-context", &format!("{name}={}", place.context(other)));
    }
    for (name, limit) in &target.resources {
        flag("resource", &format!("{name}={limit}"));
    }
    for (name, address) in &target.extra_hosts {
        for address in address.split(',') {
            flag("add-host", &format!("{name}={address}"));
        }
    }
    let lists = [
        ("tag", &target.tags),
        ("no-cache-filter", &target.no_cache_filter),
        ("ulimit", &target.ulimits),
        ("annotation", &target.annotations),
        ("allow", &target.entitlements),
    ];
    for (name, values) in lists {
        values.iter().flatten().for_each(|value| flag(name, value));
    }
    // No target can ask for it: it is about the user's own directories.
    if args.allow.iter().any(|word| word == "buildx.local.delete" || word == "*") {
        flag("allow", "buildx.local.delete");
    }
    // Without a file, `type=docker` loads the image where containers are run from: the store has it.
    let loaded = |entry: &&Entry| entry.get("type").is_some_and(|kind| kind == "docker") && !entry.contains_key("dest");
    for entry in target.output.iter().flatten().filter(|entry| !loaded(entry)) {
        flag("output", &entry_text(entry));
    }
    let entries = [
        ("cache-from", &target.cache_from),
        ("cache-to", &target.cache_to),
        ("secret", &target.secret),
        ("attest", &target.attest),
    ];
    for (name, values) in entries {
        values.iter().flatten().for_each(|entry| flag(name, &entry_text(entry)));
    }
    for agent in target.ssh.iter().flatten() {
        let id = agent.get("id").map_or("default", String::as_str);
        flag("ssh", &agent.get("paths").map_or_else(|| id.to_owned(), |paths| format!("{id}={paths}")));
    }
    if let Some(platforms) = target.platforms.as_ref().filter(|platforms| !platforms.is_empty()) {
        flag("platform", &platforms.join(","));
    }
    let call = target.call.as_ref().map(|call| call.replacen("lint", "check", 1));
    let single =
        [("target", &target.target), ("network", &target.network), ("shm-size", &target.shm_size), ("call", &call)];
    for (name, value) in single {
        if let Some(value) = value {
            flag(name, value);
        }
    }
    for mirror in &args.registry_mirrors {
        flag("registry-mirror", &format!("{}={}", mirror.key, mirror.value.as_deref().unwrap_or_default()));
    }
    let switches = [("no-cache", target.no_cache), ("pull", target.pull)];
    words.extend(switches.iter().filter(|(_, given)| *given == Some(true)).map(|(name, _)| format!("--{name}")));
    words.extend(["--".to_owned(), context]);
    Ok(words)
}

/// Whether this is no place of the file system.
pub(super) fn is_remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/")
}

//! Bake: files that describe many builds at once.
//!
//! Each format is parsed into definitions; those are evaluated in a [`world`](World) of variables and functions into
//! one model of targets and groups; names, inheritance, `--set` and links make of it the targets that are asked for.
//! Nothing is built here: `command/bake` turns targets into requests of the pipeline.

mod compose;
mod config;
mod decode;
mod definitions;
mod eval;
mod functions;
mod model;
mod overrides;
mod source;
#[cfg(test)]
mod tests;
mod types;
mod value;
mod world;

use std::collections::BTreeMap;

pub(crate) use config::{Config, Resolved};
use definitions::Definitions;
pub(crate) use model::{Entry, Target, entry_text};
pub(crate) use source::{Fault, Source};
pub(crate) use world::Listed;
use world::World;

/// Files that are read where none is named, in this order; all that exist.
pub(crate) const DEFAULT_FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// What is asked of the world while files are evaluated.
pub(crate) struct Outside<'a> {
    /// A variable of the process.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file beside the definitions, none where there is none; compose files lead to others.
    pub(crate) read: &'a dyn Fn(&str) -> Result<Option<String>, Fault>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Hcl,
    Json,
    Compose,
}

/// Reads and evaluates files.
///
/// `builtin` are the variables that bake has of its own.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub(crate) fn load(
    files: &[Source],
    outside: &Outside<'_>,
    builtin: BTreeMap<String, String>,
) -> Result<Config, Fault> {
    let (mut definitions, mut composes) = (Definitions::default(), Vec::new());
    for file in files {
        match format(file) {
            Format::Hcl => definitions.add_hcl(file)?,
            Format::Json => definitions.add_json(file)?,
            Format::Compose => composes.push(file.clone()),
        }
    }
    let services = compose::services(&composes, outside)?;
    let world = World::new(&definitions, outside.environment, builtin);
    Config::new(services, &definitions, &world)
}

/// By the name's end; where that says nothing, by the text.
fn format(file: &Source) -> Format {
    let name = file.name().to_ascii_lowercase();
    let ends = |end: &str| name.ends_with(end);
    if ends(".yml") || ends(".yaml") {
        Format::Compose
    } else if ends(".json") {
        Format::Json
    } else if ends(".hcl") {
        Format::Hcl
    } else if file.text().trim_start().starts_with('{') {
        Format::Json
    } else if file.text().lines().any(|line| line.trim_end() == "services:") {
        Format::Compose
    } else {
        Format::Hcl
    }
}

//! Flags of `lap bake`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::{Called, KeyValue};
use crate::ui::Mode;

// Flags of `lap bake`.
#[derive(Debug, Args)]
pub(crate) struct Bake {
    /// Targets and groups to build; patterns are fine [default: default]. A URL before them is where the files are
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,

    /// A file with targets; `-` is standard input [env: BUILDX_BAKE_FILE] [default: compose and docker-bake files here]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Value that counts more than the file's; `+=` adds to a list
    #[arg(long = "set", value_name = "TARGET.KEY=VALUE")]
    pub(crate) set: Vec<String>,

    /// Value for a variable, in place of the environment's
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<KeyValue>,

    /// Print what would be built, as JSON
    #[arg(long)]
    pub(crate) print: bool,

    /// List what the files define: targets or variables, or type=targets,format=json
    #[arg(long, value_name = "WHAT", conflicts_with = "print")]
    pub(crate) list: Option<Listing>,

    /// The old form of --list targets
    #[arg(long, hide = true, conflicts_with_all = ["print", "list"])]
    list_targets: bool,

    /// The old form of --list variables
    #[arg(long, hide = true, conflicts_with_all = ["print", "list"])]
    list_variables: bool,

    /// Answer a question about the Dockerfiles and do not build: check, outline or targets, perhaps with ,format=json
    #[arg(long, value_name = "QUESTION", conflicts_with = "check")]
    call: Option<Called>,

    /// Check the Dockerfiles and do not build
    #[arg(long)]
    check: bool,

    /// Run every step again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_cache: Option<bool>,

    /// Ask registries for newer base images
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) pull: Option<bool>,

    /// Send the images to the registries of their names
    #[arg(long)]
    pub(crate) push: bool,

    /// Accepted for scripts: results are in the store anyway
    #[arg(long, hide = true)]
    pub(crate) load: bool,

    /// How progress is shown [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) progress: Option<Mode>,

    /// Write facts about the results to a file, as JSON by target
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Allow what a file may not do by itself: network.host, security.insecure, ssh, fs.read=PATH, fs.write=PATH, fs=PATH
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,

    /// Attest how the results were made, as in `lap build`
    #[arg(long, value_name = "OPTIONS")]
    pub(crate) provenance: Option<String>,

    /// Attest what is in the results, as in `lap build`
    #[arg(long, value_name = "OPTIONS")]
    pub(crate) sbom: Option<String>,

    /// Take images of HOST from URL
    #[arg(long = "registry-mirror", value_name = "HOST=URL")]
    pub(crate) registry_mirrors: Vec<KeyValue>,
}

impl Bake {
    /// What is to be listed.
    pub(crate) fn listing(&self) -> Option<Listing> {
        let old = self.list_targets.then_some(Listing::TARGETS);
        self.list.or(old).or_else(|| self.list_variables.then_some(Listing::VARIABLES))
    }

    /// The question that every target is asked.
    pub(crate) fn called(&self) -> Option<String> {
        let called = self.call.and_then(|called| called.0);
        let question =
            called.map(|call| format!("{}{}", call.name(), if call.is_json() { ",format=json" } else { "" }));
        question.or_else(|| self.check.then(|| "check".to_owned()))
    }
}

/// What is listed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) kind: Listed,
    pub(crate) json: bool,
}

/// What a file defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Targets,
    Variables,
}

impl Listing {
    /// Targets as a table: what `--list-targets` means.
    const TARGETS: Self = Self { kind: Listed::Targets, json: false };
    /// Variables as a table: what `--list-variables` means.
    const VARIABLES: Self = Self { kind: Listed::Variables, json: false };
}

impl FromStr for Listing {
    type Err = String;

    /// Reads `targets`, `variables`, or `type=targets,format=json`.
    fn from_str(text: &str) -> Result<Self, String> {
        let kind_of = |text: &str| match text {
            "targets" => Ok(Listed::Targets),
            "variables" => Ok(Listed::Variables),
            other => Err(format!("{other:?} cannot be listed: known are targets and variables")),
        };
        if !text.contains('=') {
            return Ok(Self { kind: kind_of(text)?, json: false });
        }
        let (mut kind, mut json) = (None, false);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(kind_of(value)?),
                Some(("format", "table")) => json = false,
                Some(("format", "json")) => json = true,
                Some(("format", other)) => return Err(format!("unknown format {other:?}: known are table and json")),
                _ => return Err(format!("unknown option {field:?}: known are type and format")),
            }
        }
        Ok(Self { kind: kind.ok_or("type is missing: write type=targets or type=variables")?, json })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_a_word_or_options() {
        assert_eq!("targets".parse(), Ok(Listing::TARGETS));
        assert_eq!("type=variables".parse(), Ok(Listing::VARIABLES));
        let json: Listing = "type=targets,format=json".parse().unwrap();
        assert!(json.json && json.kind == Listed::Targets);
        for bad in ["things", "type=things", "format=json", "type=targets,format=xml", "type=targets,colour=red"] {
            assert!(bad.parse::<Listing>().is_err(), "{bad}");
        }
    }
}

//! Flags of `lap bake`.

use std::path::PathBuf;

use clap::Args;

use super::KeyValue;
use crate::ui::Mode;

/// Flags of `lap bake`.
#[derive(Debug, Args)]
pub(crate) struct Bake {
    /// Targets and groups to build; patterns are fine [default: default]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,

    /// A file with targets; `-` is standard input [default: compose and docker-bake files here]
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

    /// List what the files define
    #[arg(long, value_name = "WHAT", value_parser = ["targets", "variables"])]
    pub(crate) list: Option<String>,

    /// Check the Dockerfiles and do not build
    #[arg(long)]
    pub(crate) check: bool,

    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Ask registries for newer base images
    #[arg(long)]
    pub(crate) pull: bool,

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

    /// Allow what a file may not do by itself: network.host, security.insecure
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

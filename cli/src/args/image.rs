//! Flags of the commands about images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::KeyValue;
use crate::ui::Mode;

// `lap image`: the commands about images under Docker's other names.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(Images),
    /// Show everything known about images, as JSON
    Inspect(InspectThese),
    /// Show the history of an image
    History(History),
    /// Show what makes an image large
    Tree(super::Tree),
    /// Show what differs between two images
    Diff(super::Diff),
    /// Give an image another name
    Tag(Tag),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(RemoveImages),
    /// Fetch an image from a registry
    Pull(Pull),
    /// Send an image to a registry
    Push(Push),
    /// Write images to a tar archive
    Save(Save),
    /// Read images from a tar archive
    Load(Load),
    /// Make an image of a root file system tar
    Import(Import),
    /// Build an image from a Dockerfile
    Build(Box<super::Build>),
    /// Remove images without a name, or all that no container uses
    Prune(super::PruneImages),
}

// Flags of `lap images`.
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,

    /// All images; none are hidden
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Only some: dangling=true, reference=PATTERN, label=NAME[=VALUE], before=IMAGE, since=IMAGE, until=TIME
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<KeyValue>,

    /// Show with a Go template; `json` is an object a line, `table TEMPLATE` has headings
    #[arg(long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    pub(crate) format: String,

    /// Only images of this name, which may have `*` in it
    pub(crate) name: Option<String>,
}

// Flags of `lap rmi`.
#[derive(Debug, Args)]
pub(crate) struct RemoveImages {
    /// Also where containers use it, or it has several names; no error where there is none
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Keep the layers that nothing needs any more
    #[arg(long)]
    pub(crate) no_prune: bool,

    /// Names or IDs
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

// Flags of `lap inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Only one kind of thing
    #[arg(long = "type", value_name = "KIND", value_parser = ["image", "container"])]
    pub(crate) kind: Option<String>,

    #[command(flatten)]
    pub(crate) these: InspectThese,
}

// Flags of `inspect` for one kind of thing.
#[derive(Debug, Args)]
pub(crate) struct InspectThese {
    /// Show with a Go template; `json` is everything on one line
    #[arg(short, long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    pub(crate) format: String,

    /// Sizes of containers, too
    #[arg(short, long)]
    pub(crate) size: bool,

    /// Of an image for several platforms, the one for this [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// Names or IDs
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

// Flags of `lap history`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct History {
    #[command(subcommand)]
    pub(crate) command: Option<super::HistoryCommand>,

    /// Whole commands and IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Sizes and times for people [default: true]
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true)]
    pub(crate) human: bool,

    /// Show with a Go template; `json` is an object a line, `table TEMPLATE` has headings
    #[arg(long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    pub(crate) format: String,

    /// Of an image for several platforms, the one for this [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// The image
    #[arg(required = true)]
    pub(crate) image: Option<String>,
}

// Flags of `lap tag`.
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// The image
    pub(crate) source: String,
    /// Its further name
    pub(crate) target: String,
}

// Flags of `lap pull`.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Platform to choose [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// Print the name only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// How progress is shown [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) progress: Option<Mode>,

    /// Take images of HOST from URL
    #[arg(long = "registry-mirror", value_name = "HOST=URL")]
    pub(crate) registry_mirrors: Vec<KeyValue>,

    /// Every tag of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,

    /// The image
    pub(crate) image: String,
}

// Flags of `lap push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Print the digest only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// How progress is shown [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) progress: Option<Mode>,

    /// Every tag of the repository that is here
    #[arg(short, long)]
    pub(crate) all_tags: bool,

    /// Compress layers with gzip or zstd [default: as they are, else gzip]
    #[arg(long, visible_alias = "compression", value_name = "FORMAT", value_parser = ["gzip", "zstd"])]
    pub(crate) compression_format: Option<String>,

    /// From 0 to 9 for gzip, to 22 for zstd
    #[arg(long, value_name = "LEVEL", requires = "compression_format")]
    pub(crate) compression_level: Option<i32>,

    /// Layers that are compressed otherwise too [default: true with --compression-format]
    #[arg(long, value_name = "BOOL", requires = "compression_format", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) force_compression: Option<bool>,

    /// The image, under the name that tells where it goes
    pub(crate) image: String,
}

// Flags of `lap save`.
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Of images for several platforms, only the one for this [default: all]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// The images
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

// Flags of `lap load`.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// File to read [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Of images for several platforms, only the one for this [default: all that are whole]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
}

// Flags of `lap import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A Dockerfile instruction for the config, such as CMD, ENV, ENTRYPOINT or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,

    /// A note in the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// The tar of a root file system, or its URL; `-` reads standard input
    pub(crate) file: PathBuf,

    /// Name for the image
    pub(crate) name: Option<String>,
}

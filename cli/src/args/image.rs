//! Flags of the commands about images.

use std::path::PathBuf;

use clap::Args;

use super::KeyValue;
use crate::ui::Mode;

/// Flags of `lap images`.
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

    /// Only images of this name
    pub(crate) name: Option<String>,
}

/// Flags of `lap rmi`.
#[derive(Debug, Args)]
pub(crate) struct RemoveImages {
    /// No error where there is no such image
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Names or IDs
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

/// Flags of `lap inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Only one kind of thing
    #[arg(long = "type", value_name = "KIND", value_parser = ["image", "container"])]
    pub(crate) kind: Option<String>,

    /// Names or IDs of containers or images
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// Flags of `lap history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Whole commands
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// The image
    pub(crate) image: String,
}

/// Flags of `lap tag`.
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// The image
    pub(crate) source: String,
    /// Its further name
    pub(crate) target: String,
}

/// Flags of `lap pull`.
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

    /// The image
    pub(crate) image: String,
}

/// Flags of `lap push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Print the digest only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// How progress is shown [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) progress: Option<Mode>,

    /// The image, under the name that tells where it goes
    pub(crate) image: String,
}

/// Flags of `lap save`.
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// The images
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

/// Flags of `lap load`.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// File to read [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Print nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Flags of `lap import`.
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

    /// The tar of a root file system; `-` reads standard input
    pub(crate) file: PathBuf,

    /// Name for the image
    pub(crate) name: Option<String>,
}

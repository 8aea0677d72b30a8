//! Flags of the commands about builds that were.

use clap::{Args, Subcommand};

use super::Form;

// Flags of `lap why`.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The last build; the default
    #[arg(long, conflicts_with = "build")]
    pub(crate) last: bool,

    /// Another build, by its ID or the beginning of it
    #[arg(long, value_name = "ID")]
    pub(crate) build: Option<String>,

    /// `table`, or `json`
    #[arg(long, value_name = "FORM", value_parser = super::prune::form)]
    pub(crate) format: Option<Form>,

    /// Only steps of this number, or with this text in their names
    pub(crate) step: Option<String>,
}

// What comes after `lap history`.
#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// Records of builds
    Build {
        #[command(subcommand)]
        command: Option<Builds>,
    },
}

// `lap history build`.
#[derive(Debug, Subcommand)]
pub(crate) enum Builds {
    /// List builds
    #[command(visible_alias = "list")]
    Ls(ListBuilds),
    /// Show a build and its steps
    #[command(visible_alias = "inspect")]
    Show(OneBuild),
    /// Show what the steps of a build put out
    Logs(OneBuild),
    /// Show a build again as it went
    Replay(Replay),
    /// Write a build as one HTML page: its graph, its time line, its logs
    Open(OpenBuild),
    /// Remove records of builds
    #[command(visible_alias = "remove")]
    Rm(RemoveBuilds),
}

// Flags of `lap history build ls`.
#[derive(Debug, Args)]
pub(crate) struct ListBuilds {
    /// IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Show with a Go template; `json` is an object a line, `table TEMPLATE` has headings
    #[arg(long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    pub(crate) format: String,
}

// A build.
#[derive(Debug, Args)]
pub(crate) struct OneBuild {
    /// `table`, or `json`
    #[arg(long, value_name = "FORM", value_parser = super::prune::form)]
    pub(crate) format: Option<Form>,

    /// ID of the build, or the beginning of it [default: the last one]
    pub(crate) build: Option<String>,
}

// Flags of `lap history build replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// How it is shown [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) progress: Option<crate::ui::Mode>,

    /// How many times faster; 0 is at once
    #[arg(long, value_name = "TIMES", default_value_t = 0.0)]
    pub(crate) speed: f64,

    /// ID of the build, or the beginning of it [default: the last one]
    pub(crate) build: Option<String>,
}

// Flags of `lap history build open`.
#[derive(Debug, Args)]
pub(crate) struct OpenBuild {
    /// The file to write; `-` is standard output [default: lap-build-ID.html in the directory for temporary files]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,

    /// ID of the build, or the beginning of it [default: the last one]
    pub(crate) build: Option<String>,
}

// Flags of `lap history build rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveBuilds {
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,

    /// IDs of builds, or the beginnings of them
    #[arg(required_unless_present = "all")]
    pub(crate) builds: Vec<String>,
}

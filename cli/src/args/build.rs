//! Flags of `lap build`.

use std::path::PathBuf;

use clap::Args;

use super::{ByteSize, Called, Cpus, KeyValue, Output, Ulimit};
use crate::ui::Mode;

const BUILD_EXAMPLES: &str = "\
Examples:
  lap build -t app .                                   the Dockerfile of this directory
  lap build -f deploy/Dockerfile --target test .       one stage of another file
  lap build --build-arg VERSION=2 -t app:2 --push .    a value for an ARG, and to the registry
  lap build -o type=oci,dest=app.tar .                 an OCI archive
  lap build -o out --target files .                    just the files, into the directory out";

/// Flags of `lap build`.
#[derive(Debug, Args)]
#[command(after_help = BUILD_EXAMPLES)]
pub(crate) struct Build {
    /// The build context: a directory, `-` for a tar or Dockerfile on standard input, a git or an http(s) URL
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,

    /// Name for the image, with an optional tag
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]", help_heading = "Results")]
    pub(crate) tags: Vec<String>,

    /// The Dockerfile; `-` reads standard input, a URL fetches it [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "Dockerfile")]
    pub(crate) file: Option<PathBuf>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE", help_heading = "Dockerfile")]
    pub(crate) target: Option<String>,

    /// Value for an ARG; without a value, the environment's
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", help_heading = "Dockerfile")]
    pub(crate) build_args: Vec<KeyValue>,

    /// A named context: a directory, docker-image://, oci-layout://, a git or an http(s) URL
    #[arg(long = "build-context", value_name = "NAME=PLACE", help_heading = "Dockerfile")]
    pub(crate) build_contexts: Vec<KeyValue>,

    /// Annotation for the image: [manifest|index|manifest-descriptor|index-descriptor[PLATFORM]:]NAME=VALUE
    #[arg(long = "annotation", value_name = "[LEVEL:]NAME=VALUE", help_heading = "Results")]
    pub(crate) annotations: Vec<String>,

    /// Label for the image
    #[arg(long = "label", value_name = "NAME=VALUE", help_heading = "Dockerfile")]
    pub(crate) labels: Vec<KeyValue>,

    /// Run every step again
    #[arg(long, help_heading = "Cache")]
    pub(crate) no_cache: bool,

    /// Run the steps of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Cache")]
    pub(crate) no_cache_filter: Vec<String>,

    /// Network of RUN steps that do not choose one
    #[arg(long, value_name = "MODE", default_value = "default", value_parser = ["default", "none", "host"], help_heading = "RUN steps")]
    pub(crate) network: String,

    /// Allow what a Dockerfile may not do by itself: network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',', value_parser = ["network.host", "security.insecure"], help_heading = "RUN steps")]
    pub(crate) allow: Vec<String>,

    /// Where the result goes besides the store: type=oci|docker|tar|local|registry,dest=PATH, or a directory
    #[arg(short, long = "output", value_name = "OUTPUT", help_heading = "Results")]
    pub(crate) outputs: Vec<Output>,

    /// Send the image to the registry of its name
    #[arg(long, help_heading = "Results")]
    pub(crate) push: bool,

    /// Accepted for scripts: results are in the store anyway
    #[arg(long, hide = true)]
    pub(crate) load: bool,

    /// Platforms to build for; several give an index [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH,...", value_delimiter = ',', help_heading = "Dockerfile")]
    pub(crate) platforms: Vec<String>,

    /// Make the same image of the same inputs at any time: times become that of the context's commit (or of its
    /// newest file, or SOURCE_DATE_EPOCH), in the layers made here too
    #[arg(long, help_heading = "Results")]
    pub(crate) reproducible: bool,

    /// Ask registries for newer base images
    #[arg(long, help_heading = "Cache")]
    pub(crate) pull: bool,

    /// How progress is shown [default: auto]
    #[arg(long, value_name = "MODE", value_enum, help_heading = "Results")]
    pub(crate) progress: Option<Mode>,

    /// Show nothing but the image's ID at the end
    #[arg(short, long, help_heading = "Results")]
    pub(crate) quiet: bool,

    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Write facts about the result to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// A secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]
    #[arg(long = "secret", value_name = "SECRET", help_heading = "RUN steps")]
    pub(crate) secrets: Vec<String>,

    /// An SSH agent for RUN --mount=type=ssh: default or NAME[=SOCKET]
    #[arg(long = "ssh", value_name = "AGENT", help_heading = "RUN steps")]
    pub(crate) ssh: Vec<String>,

    /// A line for /etc/hosts of RUN steps
    #[arg(long = "add-host", value_name = "HOST:IP", help_heading = "RUN steps")]
    pub(crate) add_hosts: Vec<String>,

    /// Process limit of RUN steps
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", help_heading = "RUN steps")]
    pub(crate) ulimits: Vec<Ulimit>,

    /// Size of /dev/shm of RUN steps
    #[arg(long, value_name = "SIZE", help_heading = "RUN steps")]
    pub(crate) shm_size: Option<ByteSize>,

    /// Memory limit of each RUN step
    #[arg(short, long, value_name = "SIZE", help_heading = "RUN steps")]
    pub(crate) memory: Option<ByteSize>,

    /// Processors each RUN step may use
    #[arg(long, value_name = "NUMBER", help_heading = "RUN steps")]
    pub(crate) cpus: Option<Cpus>,

    /// Processes each RUN step may have
    #[arg(long, value_name = "NUMBER", help_heading = "RUN steps")]
    pub(crate) pids_limit: Option<i64>,

    /// Control group above those of the steps
    #[arg(long, value_name = "PATH", help_heading = "RUN steps")]
    pub(crate) cgroup_parent: Option<String>,

    /// Take images of HOST from URL
    #[arg(long = "registry-mirror", value_name = "HOST=URL", help_heading = "Cache")]
    pub(crate) registry_mirrors: Vec<KeyValue>,

    /// Attest how the image was built: min, max, or options such as mode=max,builder-id=URL
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Results")]
    pub(crate) provenance: Option<String>,

    /// Attest which packages the image holds
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Results")]
    pub(crate) sbom: Option<String>,

    /// Attest something of the image: type=provenance[,mode=max], type=sbom
    #[arg(long = "attest", value_name = "ATTESTATION", help_heading = "Results")]
    pub(crate) attest: Vec<String>,

    /// Check the Dockerfile and do not build
    #[arg(long, help_heading = "Dockerfile")]
    pub(crate) check: bool,

    /// Answer a question about the Dockerfile and do not build: check, outline or targets, perhaps with ,format=json
    #[arg(long, value_name = "QUESTION", conflicts_with = "check", help_heading = "Dockerfile")]
    pub(crate) call: Option<Called>,

    /// Print the graph of steps and do not build
    #[arg(long, value_name = "FORM", value_parser = ["json", "dot", "svg"], help_heading = "Dockerfile")]
    pub(crate) print: Option<String>,

    /// Text of the Dockerfile; bake files may have it.
    #[arg(skip)]
    pub(crate) inline: Option<String>,
}

/// Flags of `lap check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// How findings are told
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    pub(crate) format: FindingsForm,

    #[command(flatten)]
    pub(crate) build: Build,
}

/// How findings are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FindingsForm {
    /// For people.
    Text,
    /// As BuildKit's JSON.
    Json,
    /// SARIF 2.1.0, which code hosts read.
    Sarif,
}

//! Flags of `lap build`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::{ByteSize, CacheFrom, CacheTo, Called, Cpus, Ignored, KeyValue, OldLimits, Output, Resource, Ulimit};
use crate::ui::Mode;

const BUILD_EXAMPLES: &str = "\
Examples:
  lap build -t app .                                   the Dockerfile of this directory
  lap build -f deploy/Dockerfile --target test .       one stage of another file
  lap build --build-arg VERSION=2 -t app:2 --push .    a value for an ARG, and to the registry
  lap build -o type=oci,dest=app.tar .                 an OCI archive
  lap build -o out --target files .                    just the files, into the directory out";

// Flags of `lap build`.
#[derive(Debug, Args)]
#[command(after_help = BUILD_EXAMPLES)]
pub(crate) struct Build {
    /// What to build from: a directory, a git or http(s) URL, or - for standard input
    ///
    /// A directory is read where it lies. Standard input and http(s) URLs give a tar archive (plain, gzip, bzip2, xz or
    /// zstd) or a Dockerfile. Repositories are https://HOST/PATH.git, git://, ssh://, USER@HOST:PATH or github.com/PATH,
    /// with #REF:DIR or ?ref=&tag=&branch=&subdir=&commit=&submodules=&keep-git-dir= behind it.
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,

    /// Name for the image, with an optional tag
    #[arg(short = 't', long = "tag", value_name = "NAME", help_heading = "Results")]
    pub(crate) tags: Vec<String>,

    /// The Dockerfile: a path, a URL, or - [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "Dockerfile")]
    pub(crate) file: Option<PathBuf>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE", help_heading = "Dockerfile")]
    pub(crate) target: Option<String>,

    /// Value for an ARG; a lone NAME takes the environment's
    #[arg(long = "build-arg", value_name = "NAME=VALUE", help_heading = "Dockerfile")]
    pub(crate) build_args: Vec<KeyValue>,

    /// What FROM and --from=NAME mean: a directory, an image or a URL
    ///
    /// A directory, docker-image://REFERENCE, oci-layout://PATH[:TAG|@DIGEST], or a git or http(s) URL. NAME::PLATFORM
    /// holds for one platform only.
    #[arg(long = "build-context", value_name = "NAME=FROM", help_heading = "Dockerfile")]
    pub(crate) build_contexts: Vec<KeyValue>,

    /// Annotation for the image
    ///
    /// NAME=VALUE, or with a level and perhaps a platform in front:
    /// [manifest|index|manifest-descriptor|index-descriptor[PLATFORM]:]NAME=VALUE
    #[arg(long = "annotation", value_name = "NAME=VALUE", help_heading = "Results")]
    pub(crate) annotations: Vec<String>,

    /// Label for the image
    #[arg(long = "label", value_name = "NAME=VALUE", help_heading = "Results")]
    pub(crate) labels: Vec<KeyValue>,

    /// Run every step again
    #[arg(long, help_heading = "Cache")]
    pub(crate) no_cache: bool,

    /// Run the steps of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Cache")]
    pub(crate) no_cache_filter: Vec<String>,

    /// Read a build cache: a name in a registry, or type=TYPE,...
    ///
    /// Types are registry (ref=), local (src=), gha and s3; an image with an inline cache is read as a registry's. May be
    /// given several times: the first cache that has a result counts.
    #[arg(long = "cache-from", value_name = "CACHE", help_heading = "Cache")]
    pub(crate) cache_from: Vec<CacheFrom>,

    /// Write a build cache: type=TYPE,mode=min|max,...
    ///
    /// Types are registry (ref=), local (dest=), inline, gha and s3. mode=min keeps the layers of the result, mode=max
    /// those of every step. A cache that fails is told and no more, unless ignore-error=false.
    #[arg(long = "cache-to", value_name = "CACHE", help_heading = "Cache")]
    pub(crate) cache_to: Vec<CacheTo>,

    /// Network of steps without one: default, none or host
    #[arg(long, value_name = "MODE", hide_possible_values = true, hide_default_value = true, default_value = "default", value_parser = ["default", "none", "host"], help_heading = "RUN steps")]
    pub(crate) network: String,

    /// Allow what files may not do: network.host, security.insecure
    ///
    /// buildx.local.delete lets -o type=local,mode=delete empty directories outside of the working one; device is known.
    #[arg(long, value_name = "WHAT", value_delimiter = ',', hide_possible_values = true, value_parser = super::entitlement, help_heading = "RUN steps")]
    pub(crate) allow: Vec<String>,

    /// Where the result goes besides the store: type=TYPE,dest=PATH
    ///
    /// Types are oci, docker, tar, local, registry, image and cacheonly; a lone path is a directory for the files, and a
    /// lone - a tar on standard output.
    #[arg(short, long = "output", value_name = "OUTPUT", help_heading = "Results")]
    pub(crate) outputs: Vec<Output>,

    /// Send the image to the registry of its name
    #[arg(long, help_heading = "Results")]
    pub(crate) push: bool,

    /// Accepted for scripts: results are in the store anyway
    #[arg(long, hide = true)]
    pub(crate) load: bool,

    /// Build for these; several give an index [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',', help_heading = "Dockerfile")]
    pub(crate) platforms: Vec<String>,

    /// Make the same image of the same inputs at any time
    ///
    /// Times become that of the context's commit, or of its newest file, or SOURCE_DATE_EPOCH, in the layers made here
    /// too.
    #[arg(long, help_heading = "Results")]
    pub(crate) reproducible: bool,

    /// Ask registries for newer base images
    #[arg(long, help_heading = "Cache")]
    pub(crate) pull: bool,

    /// Show progress as auto, plain, tty, quiet or rawjson
    #[arg(long, value_name = "FORM", value_enum, hide_possible_values = true, help_heading = "Results")]
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

    /// For --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]
    #[arg(long = "secret", value_name = "SECRET", help_heading = "RUN steps")]
    pub(crate) secrets: Vec<String>,

    /// `shell` opens one where a step has failed, on a terminal
    #[arg(long, value_name = "WHAT", value_parser = ["shell"], help_heading = "RUN steps")]
    pub(crate) on_error: Option<String>,

    /// For --mount=type=ssh: default, or NAME=SOCKET or NAME=KEY[,KEY]
    #[arg(long = "ssh", value_name = "AGENT", help_heading = "RUN steps")]
    pub(crate) ssh: Vec<String>,

    /// A line for /etc/hosts of RUN steps
    #[arg(long = "add-host", value_name = "HOST:IP", help_heading = "RUN steps")]
    pub(crate) add_hosts: Vec<String>,

    /// Process limit of RUN steps: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT", help_heading = "RUN steps")]
    pub(crate) ulimits: Vec<Ulimit>,

    /// Size of /dev/shm of RUN steps
    #[arg(long, value_name = "SIZE", help_heading = "RUN steps")]
    pub(crate) shm_size: Option<ByteSize>,

    /// Limits of each RUN step, such as memory=1g,cpu-quota=50000
    ///
    /// memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus and cpuset-mems, by Docker's units. Limits
    /// need root, or control groups that were delegated.
    #[arg(long = "resource", value_name = "NAME=VALUE", help_heading = "RUN steps")]
    pub(crate) resources: Vec<Resource>,

    /// Memory limit of each RUN step
    #[arg(short, long, value_name = "SIZE", help_heading = "RUN steps")]
    pub(crate) memory: Option<ByteSize>,

    /// Processors each RUN step may use
    #[arg(long, value_name = "NUMBER", help_heading = "RUN steps")]
    pub(crate) cpus: Option<Cpus>,

    /// Processes each RUN step may have
    #[arg(long, value_name = "NUMBER", help_heading = "RUN steps")]
    pub(crate) pids_limit: Option<i64>,

    /// Kill RUN steps without a --timeout of their own after this long, and fail: 90s, 1h30m
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "RUN steps")]
    pub(crate) timeout: Option<u64>,

    /// Control group above those of the steps
    #[arg(long, value_name = "PATH", help_heading = "RUN steps")]
    pub(crate) cgroup_parent: Option<String>,

    /// Take images of HOST from URL
    #[arg(long = "registry-mirror", value_name = "HOST=URL", help_heading = "Cache")]
    pub(crate) registry_mirrors: Vec<KeyValue>,

    /// Attest how the image was built: min or max
    ///
    /// Or options, such as mode=max,builder-id=URL.
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Results")]
    pub(crate) provenance: Option<String>,

    /// Attest which packages the image holds
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Results")]
    pub(crate) sbom: Option<String>,

    /// Attest something: type=provenance[,mode=max] or type=sbom
    #[arg(long = "attest", value_name = "WHAT", help_heading = "Results")]
    pub(crate) attest: Vec<String>,

    /// Do not build, but check the Dockerfile
    #[arg(long, help_heading = "Dockerfile")]
    pub(crate) check: bool,

    /// Do not build, but answer: check, outline or targets[,format=json]
    #[arg(long, value_name = "QUESTION", conflicts_with = "check", help_heading = "Dockerfile")]
    pub(crate) call: Option<Called>,

    /// Do not build, but print the graph of steps as json, dot or svg
    #[arg(long, value_name = "FORM", hide_possible_values = true, value_parser = forms(), help_heading = "Dockerfile")]
    pub(crate) print: Option<String>,

    #[command(flatten)]
    pub(crate) old_limits: OldLimits,

    #[command(flatten)]
    pub(crate) ignored: Ignored,

    /// Text of the Dockerfile; bake files may have it.
    #[arg(skip)]
    pub(crate) inline: Option<String>,
}

/// Forms of `--print`; in older Buildx it was what `--call` is today.
fn forms() -> PossibleValuesParser {
    let old = ["outline", "targets", "lint"].map(|name| PossibleValue::new(name).hide(true));
    PossibleValuesParser::new(["json", "dot", "svg"].map(PossibleValue::new).into_iter().chain(old))
}

// Flags of `lap check`.
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

/// Nanoseconds.
fn duration(text: &str) -> Result<u64, String> {
    lap_frontend::go::parse_duration(text)
        .ok_or_else(|| format!("{text:?} is no duration: write a number with a unit, such as 30s or 1m30s"))
}

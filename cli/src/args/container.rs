//! Flags of the commands about containers.

use clap::{Args, Subcommand};

use lap_executor::container::Volume;

use super::{ByteSize, Cpus, KeyValue, Ulimit, volume};

const RUN_EXAMPLES: &str = "\
Examples:
  lap run --rm -it debian:stable bash                  a shell, gone when it ends
  lap run -d --name db -v data:/var/lib/db db:1        in the background, with a volume
  lap run --rm -v $PWD:/src:ro -w /src gcc make        a tool on the files of this directory
  lap run --rm --memory 256m --network none app        within limits";

// `lap container`: the commands about containers under Docker's other names.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Ps),
    /// Show everything known about containers, as JSON
    Inspect(super::InspectThese),
    /// Run a command in a new container
    Run(Box<Run>),
    /// Run a command in a running container
    Exec(Exec),
    /// Stop containers: ask, wait, then kill
    Stop(Stop),
    /// Send a signal to containers
    Kill(Kill),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(Remove),
    /// Show what a container has put out
    Logs(Logs),
    /// Show what a container has changed in its image
    Diff(super::Diff),
    /// Remove containers that do not run
    Prune(super::PruneContainers),
}

// Flags of `lap run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// Remove the container when it ends
    #[arg(long, help_heading = "Life")]
    pub(crate) rm: bool,

    /// Keep standard input open
    #[arg(short, long, help_heading = "Process")]
    pub(crate) interactive: bool,

    /// Give the command a terminal
    #[arg(short, long, help_heading = "Process")]
    pub(crate) tty: bool,

    /// Run in the background and print the container's ID
    #[arg(short, long, help_heading = "Life")]
    pub(crate) detach: bool,

    /// Name of the container
    #[arg(long, help_heading = "Life")]
    pub(crate) name: Option<String>,

    /// Name of the machine inside
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub(crate) hostname: Option<String>,

    /// Environment variable; without a value, the one of this shell
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    pub(crate) env: Vec<KeyValue>,

    /// Mount a directory or file: SRC:DST[:ro]; a SRC without a slash names a volume
    #[arg(short, long, value_name = "SRC:DST[:ro]", value_parser = volume, help_heading = "Files")]
    pub(crate) volume: Vec<Volume>,

    /// Working directory
    #[arg(short, long, value_name = "DIR", help_heading = "Process")]
    pub(crate) workdir: Option<String>,

    /// User, by name or number, with an optional group
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    pub(crate) user: Option<String>,

    /// Program instead of the image's
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    pub(crate) entrypoint: Option<String>,

    /// Network: none, host or default
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "default", value_parser = ["default", "bridge", "none", "host"], help_heading = "Network")]
    pub(crate) network: String,

    /// Memory limit
    #[arg(short, long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) memory: Option<ByteSize>,

    /// Processors it may use
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pub(crate) cpus: Option<Cpus>,

    /// Processes it may have; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) pids_limit: Option<i64>,

    /// Process limit
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    pub(crate) ulimits: Vec<Ulimit>,

    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) shm_size: Option<ByteSize>,

    /// Make the root file system read-only
    #[arg(long, help_heading = "Files")]
    pub(crate) read_only: bool,

    /// All capabilities and devices, no filter
    #[arg(long, help_heading = "Security")]
    pub(crate) privileged: bool,

    /// Add a capability
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub(crate) cap_add: Vec<String>,

    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub(crate) cap_drop: Vec<String>,

    /// Security options: no-new-privileges=true|false [default: true where no file of the image gives any]
    #[arg(long, value_name = "OPTION", help_heading = "Security")]
    pub(crate) security_opt: Vec<String>,

    /// Run a small init as process 1
    #[arg(long, help_heading = "Life")]
    pub(crate) init: bool,

    /// A line for /etc/hosts
    #[arg(long = "add-host", value_name = "HOST:IP", help_heading = "Network")]
    pub(crate) add_hosts: Vec<String>,

    /// Label of the container
    #[arg(short, long = "label", value_name = "NAME[=VALUE]", help_heading = "Life")]
    pub(crate) labels: Vec<KeyValue>,

    /// Signal that asks it to stop
    #[arg(long, value_name = "SIGNAL", help_heading = "Life")]
    pub(crate) stop_signal: Option<String>,

    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// Fetch the image: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"], help_heading = "Life")]
    pub(crate) pull: String,

    /// Write the container's ID to a file
    #[arg(long, value_name = "FILE", help_heading = "Life")]
    pub(crate) cidfile: Option<std::path::PathBuf>,

    /// The image
    pub(crate) image: String,

    /// The command and its arguments instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

// Flags of `lap exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<KeyValue>,

    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// User, by name or number, with an optional group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    /// All capabilities, no filter
    #[arg(long)]
    pub(crate) privileged: bool,

    /// Name or ID of the container
    pub(crate) container: String,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND", required = true)]
    pub(crate) command: Vec<String>,
}

// Flags of `lap ps`.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Those that ended too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Whole IDs and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Only the newest
    #[arg(short, long)]
    pub(crate) latest: bool,

    /// Only so many, the newest
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub(crate) last: Option<usize>,

    /// Show sizes
    #[arg(short, long)]
    pub(crate) size: bool,

    /// Only some: id, name, label, ancestor, status, exited, before,
    /// since, volume, network, publish, expose or health
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<KeyValue>,

    /// Show with a Go template; `json` is an object a line, `table TEMPLATE` has headings
    #[arg(long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    pub(crate) format: String,
}

// Flags of `lap stop`.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Seconds to wait before killing [default: the container's, or else 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    pub(crate) time: Option<u64>,

    /// Names or IDs
    #[arg(required = true)]
    pub(crate) containers: Vec<String>,
}

// Flags of `lap kill`.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,

    /// Names or IDs
    #[arg(required = true)]
    pub(crate) containers: Vec<String>,
}

// Flags of `lap rm`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Kill it first where it runs
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Names or IDs
    #[arg(required = true)]
    pub(crate) containers: Vec<String>,
}

// Flags of `lap logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Stay and show what comes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Show the time of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,

    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<String>,

    /// Name or ID
    pub(crate) container: String,
}

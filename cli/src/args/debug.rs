//! Flags of `lap debug`.

use clap::Args;

// Flags of `lap debug`.
#[derive(Debug, Args)]
#[command(
    after_help = "What you change is thrown away when you leave, unless --keep says otherwise. The exit code is \
                        that of the command, as with `lap exec`."
)]
pub(crate) struct Debug {
    /// The step that failed last; the default
    #[arg(long, conflicts_with = "step")]
    pub(crate) last: bool,

    /// List the steps that can be entered
    #[arg(long, conflicts_with_all = ["step", "command", "last"])]
    pub(crate) list: bool,

    /// Keep what is changed for the next time
    #[arg(long)]
    pub(crate) keep: bool,

    /// For --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]; those not given are left out
    #[arg(long = "secret", value_name = "SECRET")]
    pub(crate) secrets: Vec<String>,

    /// For --mount=type=ssh: default, or NAME=SOCKET or NAME=KEY[,KEY]; those not given are left out
    #[arg(long = "ssh", value_name = "AGENT")]
    pub(crate) ssh: Vec<String>,

    /// A step by its number in --list, the beginning of its key, or text in its name
    pub(crate) step: Option<String>,

    /// A command in place of the shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

//! The tree: instructions with their parts, and what each means.

use serde::{Deserialize, Serialize};

use super::heredoc::Heredoc;
use crate::source::Span;

/// A word of an instruction and its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// The word: quotes and variables are still in it.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// The keyword as written.
    pub keyword: Argument,
    /// Flags as written.
    pub flags: Vec<Argument>,
    /// Arguments; `ENV` and `LABEL` have triples of name, value and separator.
    pub arguments: Vec<Argument>,
    /// Whether the arguments were a JSON array.
    pub json: bool,
    /// Heredocs that belong to it.
    pub heredocs: Vec<Heredoc>,
    /// Comment lines right before it.
    pub comments: Vec<String>,
    /// The logical line, trimmed.
    pub original: String,
    /// From the keyword to the end of the last line, heredocs included.
    pub span: Span,
    /// First and last line, counted from 1.
    pub lines: (u32, u32),
    /// Whether an empty line stands inside a continuation: the last line of it, counted from 1.
    pub empty_continuation: Option<u32>,
    /// What it means.
    pub command: Command,
}

/// What an instruction means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// `ADD`
    Add(Transfer),
    /// `ARG`
    Arg(Vec<ArgDefinition>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Transfer),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`, sorted
    Expose(Vec<Argument>),
    /// `FROM`
    From(From),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(Argument),
    /// `USER`
    User(Argument),
    /// `VOLUME`
    Volume(Vec<Argument>),
    /// `WORKDIR`
    Workdir(Argument),
    /// None of them, or a broken one: a diagnostic says why.
    Invalid,
}

/// `FROM [--platform=…] base [AS name]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct From {
    /// Image, stage or `scratch`; may hold variables.
    pub base: Argument,
    /// The name, in lower case.
    pub name: Option<String>,
    /// `--platform`; may hold variables.
    pub platform: Option<Argument>,
}

/// `name[=value]` of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgDefinition {
    /// The name.
    pub name: String,
    /// The default; may hold variables.
    pub value: Option<String>,
    /// What the comment before says of it.
    pub description: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// `name=value` of `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The name; may hold variables.
    pub name: String,
    /// The value; may hold variables.
    pub value: String,
    /// Whether it was written the old way, with a blank.
    pub legacy: bool,
    /// Where it stands.
    pub span: Span,
}

/// A command in exec or shell form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The arguments; one text in shell form.
    pub arguments: Vec<String>,
    /// Whether the shell runs it.
    pub shell: bool,
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The command; heredoc bodies are with the instruction.
    pub line: CommandLine,
    /// `--mount`; read when variables are known.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: Option<RunNetwork>,
    /// `--security`
    pub security: Option<RunSecurity>,
    /// `--device`
    pub devices: Vec<Device>,
    /// `--timeout` in nanoseconds; 0 is for ever, whatever the build's default is.
    pub timeout: Option<u64>,
}

/// `--mount` as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlag {
    /// `key=value,…`; values may hold variables.
    pub text: Argument,
    /// The source image, stage or context, which may not.
    pub from: Option<String>,
}

/// `RUN --network`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunNetwork {
    /// The build's default.
    Default,
    /// Loopback only.
    None,
    /// The machine's.
    Host,
}

/// `RUN --security`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunSecurity {
    /// All walls.
    Sandbox,
    /// None.
    Insecure,
}

/// `RUN --device`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name of the device.
    pub name: String,
    /// Whether its absence is an error.
    pub required: bool,
    /// Where the flag stands.
    pub span: Span,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Paths, patterns and URLs, in order.
    pub sources: Vec<Argument>,
    /// Heredocs among the sources: their place in the instruction's list.
    pub documents: Vec<usize>,
    /// The destination.
    pub dest: Argument,
    /// `COPY --from`
    pub from: Option<Argument>,
    /// `--chown`
    pub chown: Option<Argument>,
    /// `--chmod`
    pub chmod: Option<Argument>,
    /// `--link`
    pub link: bool,
    /// `COPY --parents`
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<Argument>,
    /// `ADD --keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `ADD --checksum`
    pub checksum: Option<Argument>,
    /// `ADD --unpack`
    pub unpack: Option<bool>,
}

/// `HEALTHCHECK`; durations are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`.
    pub test: Vec<String>,
    /// `--interval`
    pub interval: u64,
    /// `--timeout`
    pub timeout: u64,
    /// `--start-period`
    pub start_period: u64,
    /// `--start-interval`
    pub start_interval: u64,
    /// `--retries`
    pub retries: u64,
}

/// `ONBUILD`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Onbuild {
    /// The instruction for later, heredocs included.
    pub expression: String,
}

impl Instruction {
    /// The keyword in lower case.
    #[must_use]
    pub fn name(&self) -> String {
        self.keyword.text.to_lowercase()
    }
}

//! What a step does: the kinds of BuildKit's LLB (`solver/pb/ops.proto`), as plain data.
//!
//! Everything in an [`Op`] is part of the step's key. What must not be (limits, display text, addresses of
//! extra hosts, proxy settings) lives in [`super::Metadata`] or with the worker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::platform::Platform;

/// Position in [`super::Vertex::inputs`].
pub type InputIndex = u32;

/// What one vertex of the graph does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Brings in something from outside; has no inputs.
    Source(Source),
    /// Runs a command in a sandbox.
    Exec(Exec),
    /// Changes files without running anything.
    File(File),
    /// Lays the layers of all inputs over each other, first input lowest.
    Merge,
}

/// Where a source comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An image: a registry's or the store's.
    Image {
        /// Normalised reference with tag or digest (`docker.io/library/debian:12`).
        reference: String,
        /// The platform to choose from an index.
        platform: Platform,
    },
    /// A directory of the machine that asks for the build; the worker knows where it lies and what is ignored.
    Local {
        /// `context`, or the name of a named context.
        name: String,
    },
    /// A file fetched over HTTP.
    Http {
        /// Absolute URL.
        url: String,
        /// Expected digest (`sha256:…`), checked after the download.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checksum: Option<String>,
        /// Name of the one file in the result.
        filename: String,
    },
    /// A git checkout.
    Git {
        /// URL of the repository, without fragment.
        url: String,
        /// Branch, tag, commit or full ref; the remote's HEAD where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// Directory of the repository that becomes the root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subdir: Option<String>,
        /// Whether `.git` stays.
        #[serde(default, skip_serializing_if = "is_false")]
        keep_git_dir: bool,
        /// Expected commit, or a prefix of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checksum: Option<String>,
        /// Whether submodules are left out.
        #[serde(default, skip_serializing_if = "is_false")]
        skip_submodules: bool,
    },
}

/// A command in a sandbox. The result is the root file system after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exec {
    /// The root file system; nothing (an empty directory) where absent.
    pub root: Option<InputIndex>,
    /// The program and its arguments; the program is looked up in the `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`, in order, later ones win.
    pub env: Vec<String>,
    /// Absolute working directory, made if missing.
    pub cwd: String,
    /// `user[:group]` as in the image config; empty is root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// What the network namespace reaches.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Which walls the sandbox has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// Mounts other than the root, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Secrets that become environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_env: Vec<SecretEnv>,
    /// Files visible to this command only, read-only (`RUN` heredocs with a shebang).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InlineFile>,
    /// The platform whose programs run.
    pub platform: Platform,
}

/// A small file given in the graph itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InlineFile {
    /// Absolute path inside the sandbox.
    pub path: String,
    /// Content.
    pub data: String,
    /// Permission bits.
    pub mode: u32,
}

/// Network access of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Its own namespace with a way out.
    #[default]
    Default,
    /// Its own namespace with loopback only.
    None,
    /// The machine's own network; only where allowed.
    Host,
}

/// Security mode of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// All walls.
    #[default]
    Sandbox,
    /// All capabilities, no seccomp filter; only where allowed.
    Insecure,
}

/// One mount of an [`Exec`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the sandbox.
    pub target: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub readonly: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A path of an input (an empty directory where absent). Writes are discarded.
    Bind {
        /// The input.
        input: Option<InputIndex>,
        /// Path inside the input.
        source: String,
    },
    /// A directory kept between builds, not part of the result.
    Cache {
        /// Identity of the cache.
        id: String,
        /// Who may use it at once.
        sharing: CacheSharing,
        /// Initial content.
        input: Option<InputIndex>,
        /// Path inside the initial content.
        source: String,
        /// Permission bits of a new cache.
        mode: u32,
        /// Owner of a new cache.
        uid: u32,
        /// Group of a new cache.
        gid: u32,
    },
    /// Memory, gone afterwards.
    Tmpfs {
        /// Size limit in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// A secret as a file.
    Secret(SecretFile),
    /// A forwarded SSH agent's socket.
    Ssh(SecretFile),
}

/// How many steps may use a cache mount at once; the strictest is the greatest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheSharing {
    /// Any number at once.
    #[default]
    Shared,
    /// A further user gets a cache of its own.
    Private,
    /// A further user waits.
    Locked,
}

/// A secret or agent socket by name; its value is never here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretFile {
    /// Name the user gave the secret.
    pub id: String,
    /// Whether its absence is an error.
    pub required: bool,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether the step runs again when the value is another one (`cache=hash`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub keyed: bool,
}

/// A secret in an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretEnv {
    /// Name the user gave the secret.
    pub id: String,
    /// The variable.
    pub name: String,
    /// Whether its absence is an error.
    pub required: bool,
    /// Whether the step runs again when the value is another one (`cache=hash`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub keyed: bool,
}

impl Exec {
    /// Secrets whose values are part of the step's key: names, and whether one that is not given is an error.
    #[must_use]
    pub fn keyed_secrets(&self) -> BTreeMap<&str, bool> {
        let files = self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Secret(secret) if secret.keyed => Some((secret.id.as_str(), secret.required)),
            _ => None,
        });
        let variables = self.secret_env.iter().filter(|secret| secret.keyed);
        let mut found = BTreeMap::new();
        for (id, required) in files.chain(variables.map(|secret| (secret.id.as_str(), secret.required))) {
            *found.entry(id).or_default() |= required;
        }
        found
    }
}

/// Changes to a root file system, applied in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct File {
    /// The file system that is changed; an empty one where absent.
    pub root: Option<InputIndex>,
    /// The changes.
    pub actions: Vec<FileAction>,
}

/// One change of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAction {
    /// Makes a directory and its parents; one that exists stays as it is.
    Mkdir {
        /// Absolute path.
        path: String,
        /// Permission bits of what is made.
        mode: u32,
        /// `user[:group]`, names resolved in the root's passwd and group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
    /// Writes a file.
    Mkfile {
        /// Absolute path; with a trailing slash or an existing directory there, `name` inside it.
        path: String,
        /// Name of the file where `path` is a directory.
        name: String,
        /// Content.
        data: String,
        /// Permission bits (0644 unless `--chmod` says otherwise).
        mode: Option<Mode>,
        /// `user[:group]`, names resolved in the root's passwd and group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
    /// Copies from an input.
    Copy(Copy),
}

/// Copies files from an input into the root, as `COPY` and `ADD` do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Copy {
    /// Where from; an empty file system where absent.
    pub from: Option<InputIndex>,
    /// Path or pattern (Go's `filepath.Match`) below the input's root, cleaned, with a leading slash.
    pub source: String,
    /// Absolute destination; a trailing slash means a directory.
    pub dest: String,
    /// `user[:group]`, names resolved in the root's passwd and group; 0:0 where absent and `keep_owner` is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether the source's owner stays (`COPY --from` without `--chown`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_owner: bool,
    /// Permission bits instead of the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether `source` is a pattern.
    #[serde(default, skip_serializing_if = "is_false")]
    pub wildcard: bool,
    /// Whether local archives are unpacked instead of copied.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unpack: Unpack,
    /// Patterns below `source` that alone are copied (`--parents`); all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns below `source` that are left out (`--exclude`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether the source's directories are made below `dest` too (`--parents`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub parents: bool,
}

/// When an archive is unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpack {
    /// Never (`COPY`, `ADD --unpack=false`).
    #[default]
    No,
    /// Where the content is an archive, plain or compressed (`ADD`).
    IfArchive,
}

/// Permission bits as `--chmod` takes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `0755`: the bits.
    Bits(u32),
    /// `u=rwX,go=rX`: checked text, applied to the bits that each file has.
    Symbolic(String),
}

pub(super) const fn is_false(value: &bool) -> bool {
    !*value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

//! What a caller asks of a sandbox.
//!
//! Plain data: file descriptors are held, nothing has happened yet. [`super::spawn`] turns it into a plan.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A command and the walls around it.
#[derive(Debug)]
pub struct Spec {
    /// The root file system.
    pub rootfs: Rootfs,
    /// The program and its arguments; looked up in the `PATH` of `env`, inside the root.
    pub args: Vec<String>,
    /// `NAME=value`; the last one of a name counts. `HOME` is added from the image's passwd when missing.
    pub env: Vec<String>,
    /// Absolute working directory, made if missing.
    pub cwd: String,
    /// `user[:group]` by name or number; empty is root.
    pub user: String,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// Name of the machine as the command sees it.
    pub hostname: String,
    /// Mounts besides the root, `/dev`, `/proc` and `/sys`, in order.
    pub mounts: Vec<SandboxMount>,
    /// The network namespace.
    pub network: NetworkSetup,
    /// Which walls there are.
    pub security: Security,
    /// Capabilities added to Docker's default set, such as `CAP_NET_ADMIN` or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken away, or `ALL`.
    pub cap_drop: Vec<String>,
    /// Whether setuid programs and file capabilities give nothing. Off where there may be some, as in Docker: `su` and
    /// `sudo` of an image keep working.
    pub no_new_privileges: bool,
    /// Resource limits of the process, by name such as `nofile`: soft and hard.
    pub rlimits: Vec<Rlimit>,
    /// Limits of the control group.
    pub limits: Limits,
    /// Parent of the control group in each hierarchy, such as `/lapstrake`; the group's name is chosen here.
    pub cgroup_parent: Option<String>,
    /// Where input and output go.
    pub stdio: Stdio,
    /// What is written over `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`.
    pub etc: EtcFiles,
    /// Size of `/dev/shm` in bytes; nothing is 64 MiB.
    pub shm_size: Option<u64>,
    /// Who is process 1.
    pub init: Init,
    /// A user namespace that the command enters last, such as one in which emulators are registered
    /// ([`crate::emulation`]).
    pub user_namespace: Option<OwnedFd>,
}

impl Default for Spec {
    /// A sandbox over an empty root with all walls, no network and no command yet.
    fn default() -> Self {
        Self {
            rootfs: Rootfs::default(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            groups: Vec::new(),
            hostname: "lapstrake".to_owned(),
            mounts: Vec::new(),
            network: NetworkSetup::None,
            security: Security::Sandbox,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            no_new_privileges: false,
            rlimits: Vec::new(),
            limits: Limits::default(),
            cgroup_parent: None,
            stdio: Stdio::Null,
            etc: EtcFiles::default(),
            shm_size: None,
            init: Init::Reaper,
            user_namespace: None,
        }
    }
}

/// Directories stacked by overlayfs. No path may be one that the sandboxed command controls.
#[derive(Debug, Clone, Default)]
pub struct Rootfs {
    /// Unpacked layers, top first. May be empty: the command then sees only what the sandbox itself puts there.
    pub lowers: Vec<PathBuf>,
    /// Where changes go; nothing gives a read-only root.
    pub upper: Option<PathBuf>,
    /// Scratch directory of overlayfs, on the file system of `upper`.
    pub work: Option<PathBuf>,
    /// Whether a crash of the machine may lose the upper (build steps). Such an upper cannot be mounted again before
    /// `work` was emptied.
    pub volatile: bool,
    /// Whether the command sees the root read-only all the same.
    pub readonly: bool,
}

/// One mount.
#[derive(Debug)]
pub struct SandboxMount {
    /// Absolute path inside the root; links in it are followed inside the root. Made if missing, and then removed
    /// again from the upper afterwards.
    pub target: String,
    /// Whether writes are refused.
    pub readonly: bool,
    /// What is mounted.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug)]
pub enum MountSource {
    /// A directory, file or socket of the host.
    Bind {
        /// The place on the host, trusted.
        source: PathBuf,
        /// A path below `source`, resolved with `source` as the root: it cannot lead out of it.
        below: Option<String>,
        /// Whether mounts below the source come along.
        recursive: bool,
    },
    /// The same with the place given as a directory or file descriptor.
    BindFd {
        /// The place on the host (`O_PATH` is enough).
        source: OwnedFd,
        /// A path below it, resolved with it as the root.
        below: Option<String>,
        /// Whether mounts below the source come along.
        recursive: bool,
    },
    /// A stack of layers, or a path inside it.
    Layers {
        /// The stack.
        rootfs: Rootfs,
        /// A path inside, resolved with the stack as the root.
        below: Option<String>,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file with this content, on memory of its own that is never written to disk by us (secrets, heredocs).
    File {
        /// The content.
        data: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// The network namespace.
#[derive(Debug)]
pub enum NetworkSetup {
    /// The one of the caller.
    Host,
    /// A new one with loopback only.
    None,
    /// A prepared one.
    Namespace(OwnedFd),
}

/// Which walls there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Security {
    /// Docker's default capabilities, system call filter, masked paths.
    #[default]
    Sandbox,
    /// All capabilities, no filter, nothing masked, the host's devices; only where allowed.
    Insecure,
}

/// Who is process 1 of the sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Init {
    /// A small init that reaps orphans and ends the sandbox when the command ends or when the caller dies.
    #[default]
    Reaper,
    /// The command itself, as with `docker run -d`; it outlives the caller.
    Command,
    /// The command itself, which is killed when the calling thread dies. One that is setuid or has file capabilities
    /// is not, where these give anything (prctl(2), `PR_SET_PDEATHSIG`).
    Attached,
}

/// Soft and hard value of a process limit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rlimit {
    /// `nofile`, `nproc`, `core`, ...
    pub name: String,
    /// The value that holds; `u64::MAX` is unlimited.
    pub soft: u64,
    /// How far the command may raise it.
    pub hard: u64,
}

/// Limits of the control group.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Memory and swap together in bytes; `u64::MAX` is unlimited. Needs `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<u64>,
    /// Processors in units of one billionth, as Docker's `NanoCpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<u64>,
    /// Relative share, 1024 being normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Length of the periods that `cpu_quota` is of, in microseconds; nothing is Docker's 100,000. Not with `nano_cpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in each period. Not with `nano_cpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<u64>,
    /// Processors it may run on, such as `0-1,3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Memory nodes it may use, such as `0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads; nothing is [`super::DEFAULT_PIDS`], 0 is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// Where input and output go.
#[derive(Debug)]
pub enum Stdio {
    /// `/dev/null` all three.
    Null,
    /// The caller's own.
    Inherit,
    /// Pipes for output; a pipe for input if asked, else `/dev/null`.
    Pipes {
        /// Whether there is an input pipe.
        stdin: bool,
    },
    /// These descriptors.
    Files {
        /// Input.
        stdin: OwnedFd,
        /// Output.
        stdout: OwnedFd,
        /// Errors.
        stderr: OwnedFd,
    },
    /// A terminal of the sandbox's own devpts.
    Pty {
        /// Columns and rows.
        size: Option<(u16, u16)>,
    },
}

/// Files laid over those of the image. Nothing leaves the image's own.
#[derive(Debug, Clone, Default)]
pub struct EtcFiles {
    /// `/etc/hosts`.
    pub hosts: Option<Vec<u8>>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: Option<Vec<u8>>,
    /// `/etc/hostname`.
    pub hostname: Option<Vec<u8>>,
    /// Directory that holds the files `hosts`, `resolv.conf` and `hostname` writably (containers); without it they
    /// are read-only files in memory.
    pub dir: Option<PathBuf>,
}

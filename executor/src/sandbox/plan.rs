//! Everything a sandbox does, decided beforehand: a list of actions and the command.
//!
//! Plain data that crosses to the init through a sealed memory file, and that tests look at without being root.

use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use super::spec::{Init, MountSource, NetworkSetup, Rlimit, Rootfs, Security, Spec, Stdio};
use super::{SandboxError, caps};

/// What the init does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Socket to the outside.
    pub(crate) status: RawFd,
    /// In order.
    pub(crate) actions: Vec<Action>,
    /// What runs in the end.
    pub(crate) command: Command,
    /// Whether the init stays, as the parent of the command.
    pub(crate) reaper: bool,
    /// Whether the command is killed when the caller dies.
    #[serde(default)]
    pub(crate) attached: bool,
    /// Whether it runs the command in somebody else's namespaces, which do not end with it.
    pub(crate) guest: bool,
    /// Bytes that actions refer to; not part of the JSON.
    #[serde(skip)]
    pub(crate) blobs: Vec<u8>,
}

/// One act of the init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Write ourselves into these `cgroup.procs` files.
    JoinCgroups(Vec<RawFd>),
    /// Make these control groups the root of what is seen.
    CgroupNamespace,
    /// Enter all namespaces of a process; what is forked then is in its pid namespace.
    JoinNamespaces(RawFd),
    /// Enter this network namespace.
    JoinNetwork(RawFd),
    /// Switch loopback on.
    LoopbackUp,
    /// Name the machine.
    SetHostname(String),
    /// Cut mounts off from the host, and stand on a memory file system of our own; these files of `/etc` will be
    /// mounted over, and must be there.
    Base(Vec<String>),
    /// Mount the root file system.
    Root(Stack),
    /// Mount a fresh `/proc`.
    Proc,
    /// Mount a fresh `/sys`; writable if asked.
    Sys {
        /// Whether it may be written.
        writable: bool,
    },
    /// Show control groups read-only below `/sys/fs/cgroup`: of version 1 these, by name and place on the host; none
    /// means version 2.
    CgroupFs(Vec<(String, String)>),
    /// Mount `/dev` with its nodes, terminals, shared memory and message queues.
    Dev {
        /// Size of `/dev/shm` in bytes.
        shm_size: u64,
        /// Whether nodes are the host's, for lack of the right to make some.
        bind_nodes: bool,
    },
    /// Lay an empty file or directory over each path that exists.
    Mask(Vec<String>),
    /// Make each path that exists read-only.
    ReadOnly(Vec<String>),
    /// Mount something.
    Mount(PlannedMount),
    /// Make the root read-only.
    ReadOnlyRoot,
    /// Make the root file system `/` and forget the host's.
    Pivot,
}

/// One more mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedMount {
    /// Absolute path inside.
    pub(crate) target: String,
    /// Whether writes are refused.
    pub(crate) readonly: bool,
    /// What.
    pub(crate) source: PlannedSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PlannedSource {
    /// A place of the host by path.
    Path { path: String, below: Option<String>, recursive: bool },
    /// A place of the host by descriptor.
    Fd { fd: RawFd, below: Option<String>, recursive: bool },
    /// A stack of layers.
    Layers { stack: Stack, below: Option<String> },
    /// Memory.
    Tmpfs { size: Option<u64>, mode: u32 },
    /// A file of ours.
    File { data: Blob, mode: u32, uid: u32, gid: u32 },
}

/// Directories for overlayfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stack {
    /// Top first.
    pub(crate) lowers: Vec<String>,
    /// Upper and work directory.
    pub(crate) upper: Option<(String, String)>,
    /// Without syncing.
    pub(crate) volatile: bool,
    /// Where the kernel keeps overlay attributes: `user.` instead of `trusted.`.
    pub(crate) userxattr: bool,
}

/// A range of the plan's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    at: usize,
    len: usize,
}

/// A terminal to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terminal {
    /// Columns and rows; the kernel's default where absent.
    pub(crate) size: Option<(u16, u16)>,
}

/// What runs in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    /// Whether a missing working directory is made.
    pub(crate) create_cwd: bool,
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    pub(crate) rlimits: Vec<Rlimit>,
    /// The system call filter.
    pub(crate) filter: Option<Blob>,
    /// The terminal that is made for it.
    pub(crate) terminal: Option<Terminal>,
    /// Whether input and output belong to the command's user.
    pub(crate) own_stdio: bool,
    /// The user namespace that is entered at last.
    #[serde(default)]
    pub(crate) user_namespace: Option<RawFd>,
}

/// What of the machine a plan depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    /// Whether we are root of a user namespace only.
    pub(crate) user_namespace: bool,
    /// Whether control groups are version 2 only.
    pub(crate) cgroup_v2: bool,
}

/// Paths of `/proc` and `/sys` that show or change too much (Docker's list).
pub(crate) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of `/proc` that must not be written (Docker's list).
pub(crate) const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const DEFAULT_SHM: u64 = 64 << 20;

impl Plan {
    /// Decides everything about a sandbox. `cgroups` are descriptors of the files that
    /// let it join its control groups, `group` their directories.
    pub(crate) fn new(
        spec: &Spec,
        host: Host,
        status: RawFd,
        cgroups: Vec<RawFd>,
        group: &[PathBuf],
    ) -> Result<Self, SandboxError> {
        check(spec)?;
        let walls = spec.security == Security::Sandbox;
        let capabilities = if walls {
            caps::resolve(&spec.cap_add, &spec.cap_drop)?
        } else {
            caps::resolve(&["ALL".to_owned()], &[])?
        };
        let mut blobs = Vec::new();
        let filter = walls.then(|| store_filter(&mut blobs, capabilities));
        let mut actions = vec![Action::JoinCgroups(cgroups), Action::CgroupNamespace];
        match &spec.network {
            NetworkSetup::Host => {}
            NetworkSetup::None => actions.push(Action::LoopbackUp),
            NetworkSetup::Namespace(fd) => actions.push(Action::JoinNetwork(fd.as_raw_fd())),
        }
        actions.push(Action::SetHostname(spec.hostname.clone()));
        let etc = etc_files(spec, &mut blobs)?;
        // No others: removing one would leave a trace of a file that the image never had.
        actions
            .push(Action::Base(etc.iter().map(|(target, _)| target.trim_start_matches("/etc/").to_owned()).collect()));
        actions.push(Action::Root(stack(&spec.rootfs, host)?));
        actions.push(Action::Proc);
        actions.push(Action::Sys { writable: !walls });
        // In version 1 this is a mount for each controller: only for containers, which live long enough to look.
        if host.cgroup_v2 {
            actions.push(Action::CgroupFs(Vec::new()));
        } else if spec.init != Init::Reaper {
            let shown = group.iter().filter_map(|dir| super::cgroup::shown_as(dir)).collect::<Vec<_>>();
            if !shown.is_empty() {
                actions.push(Action::CgroupFs(shown));
            }
        }
        actions.push(Action::Dev { shm_size: spec.shm_size.unwrap_or(DEFAULT_SHM), bind_nodes: host.user_namespace });
        for (target, source) in etc {
            actions.push(Action::Mount(PlannedMount { target: target.to_owned(), readonly: false, source }));
        }
        for mount in &spec.mounts {
            let source = match &mount.source {
                MountSource::Bind { source, below, recursive } => {
                    PlannedSource::Path { path: utf8(source)?, below: below.clone(), recursive: *recursive }
                }
                MountSource::BindFd { source, below, recursive } => {
                    PlannedSource::Fd { fd: source.as_raw_fd(), below: below.clone(), recursive: *recursive }
                }
                MountSource::Layers { rootfs, below } => {
                    PlannedSource::Layers { stack: stack(rootfs, host)?, below: below.clone() }
                }
                MountSource::Tmpfs { size, mode } => PlannedSource::Tmpfs { size: *size, mode: *mode },
                MountSource::File { data, mode, uid, gid } => {
                    PlannedSource::File { data: store(&mut blobs, data), mode: *mode, uid: *uid, gid: *gid }
                }
            };
            actions.push(Action::Mount(PlannedMount {
                target: mount.target.clone(),
                readonly: mount.readonly,
                source,
            }));
        }
        if walls {
            actions.push(Action::Mask(MASKED.iter().map(|path| (*path).to_owned()).collect()));
            actions.push(Action::ReadOnly(READ_ONLY.iter().map(|path| (*path).to_owned()).collect()));
        }
        actions.push(Action::Pivot);
        if spec.rootfs.readonly {
            actions.push(Action::ReadOnlyRoot);
        }
        Ok(Self {
            status,
            actions,
            command: Command {
                args: spec.args.clone(),
                env: last_of_each_name(&spec.env),
                cwd: spec.cwd.clone(),
                create_cwd: true,
                user: spec.user.clone(),
                groups: spec.groups.clone(),
                capabilities,
                no_new_privileges: spec.no_new_privileges,
                rlimits: spec.rlimits.clone(),
                filter,
                terminal: match spec.stdio {
                    Stdio::Pty { size } => Some(Terminal { size }),
                    _ => None,
                },
                own_stdio: matches!(spec.stdio, Stdio::Pipes { .. } | Stdio::Pty { .. }),
                user_namespace: spec.user_namespace.as_ref().map(AsRawFd::as_raw_fd),
            },
            reaper: spec.init == Init::Reaper,
            attached: spec.init == Init::Attached,
            guest: false,
            blobs,
        })
    }

    /// Bytes of the plan.
    pub(crate) fn blob(&self, blob: Blob) -> &[u8] {
        self.blobs.get(blob.at..).and_then(|rest| rest.get(..blob.len)).unwrap_or_default()
    }

    /// Descriptors that the init inherits.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.status];
        all.extend(self.command.user_namespace);
        for action in &self.actions {
            match action {
                Action::JoinCgroups(fds) => all.extend(fds),
                Action::JoinNamespaces(fd)
                | Action::JoinNetwork(fd)
                | Action::Mount(PlannedMount { source: PlannedSource::Fd { fd, .. }, .. }) => all.push(*fd),
                Action::CgroupNamespace
                | Action::LoopbackUp
                | Action::SetHostname(_)
                | Action::Base(_)
                | Action::Root(_)
                | Action::Proc
                | Action::Sys { .. }
                | Action::CgroupFs(_)
                | Action::Dev { .. }
                | Action::Mask(_)
                | Action::ReadOnly(_)
                | Action::Mount(_)
                | Action::ReadOnlyRoot
                | Action::Pivot => {}
            }
        }
        all
    }

    /// A sealed memory file that holds the plan.
    pub(crate) fn to_memory(&self) -> std::io::Result<OwnedFd> {
        let json = serde_json::to_vec(self)?;
        let fd = rustix::fs::memfd_create("lap-plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(&(json.len() as u64).to_ne_bytes())?;
        file.write_all(&json)?;
        file.write_all(&self.blobs)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    }

    /// The plan in a memory file.
    pub(crate) fn from_memory(fd: OwnedFd) -> std::io::Result<Self> {
        let mut file = std::fs::File::from(fd);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        let (json, blobs) = rest.split_at_checked(length).ok_or_else(cut)?;
        let mut plan: Self = serde_json::from_slice(json)?;
        plan.blobs = blobs.to_vec();
        Ok(plan)
    }
}

/// The filter for these capabilities, among the plan's bytes.
pub(super) fn store_filter(blobs: &mut Vec<u8>, capabilities: u64) -> Blob {
    let bytes: Vec<u8> = super::seccomp::filter(capabilities).iter().flat_map(|one| one.to_bytes()).collect();
    store(blobs, &bytes)
}

fn store(blobs: &mut Vec<u8>, data: &[u8]) -> Blob {
    let blob = Blob { at: blobs.len(), len: data.len() };
    blobs.extend_from_slice(data);
    blob
}

fn stack(rootfs: &Rootfs, host: Host) -> Result<Stack, SandboxError> {
    let upper = match (&rootfs.upper, &rootfs.work) {
        (Some(upper), Some(work)) => Some((utf8(upper)?, utf8(work)?)),
        (None, None) => None,
        _ => return Err(invalid("a root file system needs both an upper and a work directory, or neither")),
    };
    // The limit is the kernel's (OVL_MAX_STACK); one place is ours.
    if rootfs.lowers.len() > 499 {
        return Err(invalid(&format!("{} layers: the kernel stacks 499 at most", rootfs.lowers.len())));
    }
    Ok(Stack {
        lowers: rootfs.lowers.iter().map(|path| utf8(path)).collect::<Result<_, _>>()?,
        upper,
        volatile: rootfs.volatile,
        userxattr: host.user_namespace,
    })
}

fn etc_files(spec: &Spec, blobs: &mut Vec<u8>) -> Result<Vec<(&'static str, PlannedSource)>, SandboxError> {
    let files = [
        ("/etc/hosts", "hosts", &spec.etc.hosts),
        ("/etc/resolv.conf", "resolv.conf", &spec.etc.resolv_conf),
        ("/etc/hostname", "hostname", &spec.etc.hostname),
    ];
    let mut mounts = Vec::new();
    for (target, name, data) in files {
        let Some(data) = data else { continue };
        let source = match &spec.etc.dir {
            Some(dir) => PlannedSource::Path { path: utf8(&dir.join(name))?, below: None, recursive: false },
            None => PlannedSource::File { data: store(blobs, data), mode: 0o644, uid: 0, gid: 0 },
        };
        mounts.push((target, source));
    }
    Ok(mounts)
}

/// Refuses what cannot be meant, before anything is done.
fn check(spec: &Spec) -> Result<(), SandboxError> {
    check_command(&spec.args, &spec.env, &spec.cwd)?;
    if spec.hostname.is_empty() || spec.hostname.len() > 64 || spec.hostname.contains(|c: char| c.is_control()) {
        return Err(invalid(&format!("{:?} cannot be a host name", spec.hostname)));
    }
    for mount in &spec.mounts {
        let target = &mount.target;
        let nul = target.contains('\0');
        let real = target.split('/').any(|part| !matches!(part, "" | "." | ".."));
        if !target.starts_with('/') || nul || !real {
            return Err(invalid(&format!(
                "{target:?} cannot be a mount point: an absolute path other than / is needed"
            )));
        }
    }
    Ok(())
}

/// Refuses a command that cannot be meant.
pub(super) fn check_command(args: &[String], env: &[String], cwd: &str) -> Result<(), SandboxError> {
    if args.first().is_none_or(String::is_empty) {
        return Err(invalid("no command given"));
    }
    if args.iter().chain(env).any(|text| text.contains('\0')) {
        return Err(invalid("a NUL byte in an argument or environment variable"));
    }
    if !cwd.starts_with('/') || cwd.contains('\0') {
        return Err(invalid(&format!("the working directory {cwd:?} is not an absolute path")));
    }
    Ok(())
}

/// An environment without the entries that a later one of the same name overrides.
pub(super) fn last_of_each_name(env: &[String]) -> Vec<String> {
    let name = |entry: &'_ str| entry.split_once('=').map_or(entry.len(), |(name, _)| name.len());
    let mut seen = std::collections::HashSet::new();
    let mut last: Vec<String> = env.iter().rev().filter(|entry| seen.insert(&entry[..name(entry)])).cloned().collect();
    last.reverse();
    last
}

fn utf8(path: &std::path::Path) -> Result<String, SandboxError> {
    path.to_str().map(str::to_owned).ok_or_else(|| invalid(&format!("path {} is not UTF-8", path.display())))
}

fn invalid(what: &str) -> SandboxError {
    SandboxError::Invalid { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{EtcFiles, Limits, SandboxMount};

    const HOST: Host = Host { user_namespace: false, cgroup_v2: false };

    fn spec() -> Spec {
        Spec { args: vec!["true".to_owned()], ..Spec::default() }
    }

    fn plan(spec: &Spec, host: Host) -> Plan {
        Plan::new(spec, host, 3, vec![4, 5], &[]).unwrap()
    }

    /// The names of the actions.
    fn names(plan: &Plan) -> Vec<String> {
        let name = |action: &Action| format!("{action:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        plan.actions.iter().map(name).collect()
    }

    #[test]
    fn actions_come_in_order() {
        let mut asked = spec();
        asked.etc = EtcFiles { hosts: Some(b"x".to_vec()), ..EtcFiles::default() };
        asked.rootfs.readonly = true;
        let mount = MountSource::Tmpfs { size: None, mode: 0o755 };
        asked.mounts.push(SandboxMount { target: "/m".to_owned(), readonly: false, source: mount });
        let plan = plan(&asked, HOST);
        assert_eq!(
            names(&plan).join(" "),
            "JoinCgroups CgroupNamespace LoopbackUp SetHostname Base Root Proc Sys Dev Mount Mount Mask ReadOnly Pivot ReadOnlyRoot"
        );
        assert!(plan.actions.contains(&Action::Base(vec!["hosts".to_owned()])));
        assert_eq!(plan.descriptors(), [3, 4, 5]);
        assert!(plan.command.filter.is_some() && plan.reaper && !plan.guest);
    }

    #[test]
    fn walls_fall_only_where_asked() {
        let open = Spec { security: Security::Insecure, network: NetworkSetup::Host, init: Init::Command, ..spec() };
        let plan = plan(&open, Host { user_namespace: true, cgroup_v2: true });
        assert_eq!(
            names(&plan).join(" "),
            "JoinCgroups CgroupNamespace SetHostname Base Root Proc Sys CgroupFs Dev Pivot"
        );
        assert!(plan.command.filter.is_none() && plan.command.capabilities == caps::ALL);
        assert!(plan.actions.contains(&Action::Sys { writable: true }));
        assert!(plan.actions.iter().any(|action| matches!(action, Action::Root(Stack { userxattr: true, .. }))));
    }

    #[test]
    fn a_plan_crosses_a_memory_file_whole() {
        let mut asked = Spec { stdio: Stdio::Pty { size: None }, ..spec() };
        let data = vec![0, 255, b'"'];
        let source = MountSource::File { data: data.clone(), mode: 0o400, uid: 1, gid: 2 };
        asked.mounts.push(SandboxMount { target: "/secret".to_owned(), readonly: true, source });
        let plan = plan(&asked, HOST);
        let again = Plan::from_memory(plan.to_memory().unwrap()).unwrap();
        assert_eq!((&again.actions, &again.command, &again.blobs), (&plan.actions, &plan.command, &plan.blobs));
        let blobs: Vec<&[u8]> = again
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Mount(PlannedMount { source: PlannedSource::File { data, .. }, .. }) => Some(again.blob(*data)),
                _ => None,
            })
            .collect();
        assert_eq!(blobs, [&data[..]]);
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let env = ["A=1", "B=2", "A=3"].map(str::to_owned);
        assert_eq!(last_of_each_name(&env), ["B=2", "A=3"]);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |change: fn(&mut Spec)| {
            let mut spec = Spec { limits: Limits::default(), ..spec() };
            change(&mut spec);
            Plan::new(&spec, HOST, 3, Vec::new(), &[]).is_err()
        };
        assert!(refused(|spec| spec.args.clear()));
        assert!(refused(|spec| spec.args[0].clear()));
        assert!(refused(|spec| spec.cwd = "x".to_owned()));
        assert!(refused(|spec| spec.env.push("A=\0".to_owned())));
        assert!(refused(|spec| spec.hostname = "a\nb".to_owned()));
        assert!(refused(|spec| spec.hostname.clear()));
        assert!(refused(|spec| spec.cap_add.push("NOPE".to_owned())));
        assert!(refused(|spec| spec.rootfs.upper = Some("/u".into())));
        assert!(refused(|spec| spec.rootfs.lowers = vec!["/l".into(); 500]));
    }
}

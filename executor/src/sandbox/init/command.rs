//! Becoming the command: identity, capabilities, filter, exec.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use lap_cache::account::{Account, AccountError, Accounts};
use nix::errno::Errno as NixErrno;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::super::error::{Failure, FailureKind};
use super::super::plan::{Command, Plan};
use super::super::seccomp::Instruction;
use super::super::spec::Rlimit;
use super::super::status::{self, Message};
use super::During;
use super::tree::{file_type, open_in, open_or_create};
use crate::sys;

/// A command with everything resolved that needs the root file system.
#[derive(Debug)]
pub(crate) struct Identified {
    identity: Account,
    env: Vec<String>,
}

impl Identified {
    /// Resolves the user against the current root.
    pub(crate) fn find(command: &Command) -> Result<Self, Failure> {
        let failure = |error: AccountError| Failure {
            kind: FailureKind::User,
            act: error.to_string(),
            errno: None,
            hint: Some("create the user or group in the image, or use its number".to_owned()),
        };
        let accounts = Accounts::read(root()?).map_err(failure)?;
        let mut identity = accounts.resolve(&command.user).map_err(failure)?;
        for group in &command.groups {
            identity.groups.push(accounts.group(group).map_err(failure)?);
        }
        identity.groups.sort_unstable();
        identity.groups.dedup();
        if !identity.home.starts_with('/') || identity.home.contains(char::is_control) {
            "/".clone_into(&mut identity.home);
        }
        let mut env = command.env.clone();
        let has = |env: &[String], name: &str| env.iter().any(|entry| entry.starts_with(name));
        if !has(&env, "HOME=") {
            env.push(format!("HOME={}", identity.home));
        }
        if command.terminal.is_some() && !has(&env, "TERM=") {
            env.push("TERM=xterm".to_owned());
        }
        Ok(Self { identity, env })
    }
}

fn root() -> Result<OwnedFd, Failure> {
    rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).during(|| "open /".to_owned())
}

/// Opens the working directory, making it if missing. A link that leads out of the root, such as one of `/proc`, is
/// refused.
pub(crate) fn working_directory(command: &Command) -> Result<OwnedFd, Failure> {
    let root = root()?;
    let path = &command.cwd;
    let failure = |mut failure: Failure| {
        failure.kind = FailureKind::Directory;
        failure.act = format!("working directory {path}: {}", failure.act);
        if failure.errno == Some(libc::ELOOP) {
            failure.hint = Some("it resolves outside the image".to_owned());
        }
        failure
    };
    let place = if command.create_cwd {
        open_or_create(root.as_fd(), path, true, &mut Vec::new()).map_err(failure)?
    } else {
        open_in(root.as_fd(), path, OFlags::PATH).during(|| "open".to_owned()).map_err(failure)?
    };
    let directory = file_type(place.as_fd()).is_ok_and(|kind| kind == FileType::Directory);
    if !directory {
        let act = format!("working directory {path} is not a directory");
        return Err(Failure { kind: FailureKind::Directory, act, errno: None, hint: None });
    }
    Ok(place)
}

/// Turns this process into the command. Comes back only with a failure.
pub(super) fn become_it(
    plan: &Plan,
    status: &OwnedFd,
    identified: &Identified,
    cwd: &OwnedFd,
    terminal: Option<OwnedFd>,
) -> Failure {
    let ready = || status::send(status.as_fd(), &Message::Ready, None).during(|| "report".to_owned());
    prepare(plan, &identified.identity, cwd, terminal)
        .and_then(|()| ready())
        .map_or_else(|failure| failure, |()| execute(&plan.command.args, &identified.env))
}

fn prepare(plan: &Plan, identity: &Account, cwd: &OwnedFd, terminal: Option<OwnedFd>) -> Result<(), Failure> {
    // Process 1 of a namespace may lead a session already.
    let _ = rustix::process::setsid();
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal).during(|| "take the terminal".to_owned())?;
        rustix::stdio::dup2_stdin(&terminal).during(|| "dup2".to_owned())?;
        rustix::stdio::dup2_stdout(&terminal).during(|| "dup2".to_owned())?;
        rustix::stdio::dup2_stderr(&terminal).during(|| "dup2".to_owned())?;
    }
    if plan.command.own_stdio {
        own_stdio(identity);
    }
    enter_directory(cwd)?;
    if let Some(number) = plan.command.user_namespace {
        let namespace = sys::take_fd(number)?;
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWUSER)
            .during(|| "enter the emulators' user namespace".to_owned())?;
    }
    let filter: Option<Vec<Instruction>> = plan.command.filter.map(|blob| {
        let (chunks, _) = plan.blob(blob).as_chunks::<8>();
        chunks.iter().map(|bytes| Instruction::from_bytes(*bytes)).collect()
    });
    confine(&plan.command, identity, filter.as_deref())?;
    if plan.attached {
        // Last, since a change of identity clears it.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .during(|| "set the parent-death signal".to_owned())?;
    }
    Ok(())
}

/// Goes there, and makes sure that the kernel agrees it is inside the root.
pub(crate) fn enter_directory(cwd: &OwnedFd) -> Result<(), Failure> {
    rustix::process::fchdir(cwd).during(|| "enter the working directory".to_owned())?;
    let inside = rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.to_bytes().starts_with(b"/"));
    if inside {
        return Ok(());
    }
    let act = "the working directory resolves outside the image".to_owned();
    Err(Failure { kind: FailureKind::Directory, act, errno: None, hint: None })
}

/// Pipes and terminals made for the command belong to its user, so that it can open `/dev/stdout` again.
fn own_stdio(identity: &Account) {
    let uid = Some(Uid::from_raw(identity.uid));
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let null = rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_rdev == rustix::fs::makedev(1, 3));
        if identity.uid != 0 && !null {
            let _ = rustix::fs::fchown(fd, uid, None);
        }
    }
}

/// Limits, filter, identity and capabilities, in the one order that works: a filter needs a right that is then given
/// up, unless no new privileges can be had anyway.
pub(crate) fn confine(command: &Command, identity: &Account, filter: Option<&[Instruction]>) -> Result<(), Failure> {
    command.rlimits.iter().try_for_each(limit)?;
    sys::join_session_keyring();
    let kept = CapabilitySet::from_bits_retain(command.capabilities);
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Err(Errno::INVAL) => break, // past the last one this kernel knows
            other => other.during(|| format!("drop capability {bit} from the bounding set"))?,
        }
    }
    if command.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(|| "set no_new_privs".to_owned())?;
    }
    if let Some(filter) = filter {
        sys::load_filter(filter)?;
    }
    set_identity(identity)?;
    if identity.uid == 0 {
        // Bits that this process itself does not have (nested sandboxes) cannot be given.
        let own = rustix::thread::capabilities(None).during(|| "capget".to_owned())?.permitted;
        let sets = CapabilitySets { effective: kept & own, permitted: kept & own, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets).during(|| "capset".to_owned())?;
    }
    rustix::thread::clear_ambient_capability_set().during(|| "clear ambient capabilities".to_owned())
}

fn set_identity(identity: &Account) -> Result<(), Failure> {
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A user namespace of one id has no groups to set.
        Err(Errno::PERM) if groups.iter().all(|gid| gid.is_root()) || single_id() => {}
        other => other.during(|| format!("setgroups({:?})", identity.groups)).map_err(unmapped)?,
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .during(|| format!("setresgid({})", identity.gid))
        .map_err(unmapped)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .during(|| format!("setresuid({})", identity.uid))
        .map_err(unmapped)
}

fn single_id() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.starts_with("deny"))
}

fn unmapped(mut failure: Failure) -> Failure {
    if failure.errno == Some(libc::EINVAL) {
        failure.kind = FailureKind::User;
        failure.hint = Some(
            "this id is not mapped in your user namespace: give the user ranges in /etc/subuid and /etc/subgid"
                .to_owned(),
        );
    }
    failure
}

fn limit(limit: &Rlimit) -> Result<(), Failure> {
    use rustix::process::Resource;
    let known = [
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];
    let act = || format!("limit {} to {}:{}", limit.name, limit.soft, limit.hard);
    let Some((_, resource)) = known.iter().find(|(name, _)| *name == limit.name) else {
        return Err(Failure {
            kind: FailureKind::Setup,
            act: format!("unknown limit {:?}", limit.name),
            errno: None,
            hint: None,
        });
    };
    let value = |value: u64| (value != u64::MAX).then_some(value);
    let new = rustix::process::Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
    rustix::process::setrlimit(*resource, new).during(act)
}

/// Looks the program up and executes it. Comes back only with a failure.
pub(crate) fn execute(args: &[String], env: &[String]) -> Failure {
    let c_strings = |all: &[String]| all.iter().map(|one| CString::new(one.as_str())).collect::<Result<Vec<_>, _>>();
    let failure =
        |kind, act: String, errno, hint: Option<&str>| Failure { kind, act, errno, hint: hint.map(str::to_owned) };
    let (Ok(argv), Ok(envp), Some(program)) = (c_strings(args), c_strings(env), args.first()) else {
        return failure(FailureKind::Setup, "a NUL byte in the command".to_owned(), None, None);
    };
    if program.contains('/') {
        let errno = run(argv[0].as_c_str(), &argv, &envp);
        let exists = std::fs::symlink_metadata(program).is_ok();
        return not_started(program, errno, exists);
    }
    let path =
        env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(lap_solver::image::DEFAULT_PATH);
    let mut refused = None;
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let Ok(candidate) = CString::new(format!("{dir}/{program}")) else { continue };
        let full = candidate.to_string_lossy().into_owned();
        match run(&candidate, &argv, &envp) {
            NixErrno::ENOENT if std::fs::symlink_metadata(&full).is_ok() => {
                return not_started(&full, NixErrno::ENOENT, true);
            }
            NixErrno::ENOENT | NixErrno::ENOTDIR | NixErrno::ELOOP => {}
            NixErrno::EACCES => refused = Some(full),
            errno => return not_started(&full, errno, true),
        }
    }
    match refused {
        Some(full) => not_started(&full, NixErrno::EACCES, true),
        None => failure(
            FailureKind::NotFound,
            format!("exec: {program:?}: executable file not found in $PATH"),
            None,
            Some("install the program in the image, or give its full path"),
        ),
    }
}

fn run(path: &CStr, argv: &[CString], envp: &[CString]) -> NixErrno {
    match nix::unistd::execve(path, argv, envp) {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

fn not_started(program: &str, errno: NixErrno, exists: bool) -> Failure {
    let (kind, hint) = match errno {
        NixErrno::ENOENT if exists => (
            FailureKind::NotFound,
            Some("the file is there, but what runs it is not: its #! line or its dynamic loader names a missing file"),
        ),
        NixErrno::ENOENT | NixErrno::ENOTDIR => {
            (FailureKind::NotFound, Some("install the program in the image, or correct its path"))
        }
        NixErrno::ENOEXEC => {
            (FailureKind::NotExecutable, Some("it is no program for this machine, or a script without a #! line"))
        }
        NixErrno::EACCES if std::fs::metadata(program).is_ok_and(|metadata| metadata.is_dir()) => {
            (FailureKind::NotExecutable, Some("it is a directory: name a program"))
        }
        NixErrno::EACCES => (
            FailureKind::NotExecutable,
            Some("the user may not execute it: see chmod +x, the directories above it, and the user it runs as"),
        ),
        NixErrno::E2BIG => (FailureKind::NotExecutable, Some("arguments and environment together are too long")),
        _ => (FailureKind::NotExecutable, None),
    };
    Failure { kind, act: format!("exec {program}"), errno: Some(errno as i32), hint: hint.map(str::to_owned) }
}

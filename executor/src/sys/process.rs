//! Starting processes: ourselves in new namespaces, and the command from the init.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::CallError;

/// A new process.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its number as seen from here.
    pub(crate) pid: i32,
    /// Refers to it.
    pub(crate) pidfd: OwnedFd,
}

struct Start {
    exe: RawFd,
    argv: *const *const c_char,
    envp: *const *const c_char,
    stdio: [RawFd; 3],
    keep: *const RawFd,
    keep_len: usize,
    errno: c_int,
}

/// Bytes of stack for the few calls between clone and exec.
const STACK: usize = 64 * 1024;

/// Starts `exe` in new namespaces (`CLONE_NEW*` in `namespaces`), with an empty environment, these descriptors as 0, 1
/// and 2, and the descriptors of `keep` open under their own numbers.
///
/// Works like `posix_spawn`: the child shares our memory and we sleep until it has executed, so it costs the same
/// however large this process is, and no thread of ours can have left a lock behind. All signals are blocked in the
/// child until it unblocks them.
pub(crate) fn spawn_self(
    exe: BorrowedFd<'_>,
    argv: &[CString],
    namespaces: c_int,
    stdio: [RawFd; 3],
    keep: &[RawFd],
) -> Result<Spawned, CallError> {
    let mut arguments: Vec<*const c_char> = argv.iter().map(|argument| argument.as_ptr()).collect();
    arguments.push(ptr::null());
    let environment: [*const c_char; 1] = [ptr::null()];
    let mut start = Start {
        exe: exe.as_raw_fd(),
        argv: arguments.as_ptr(),
        envp: environment.as_ptr(),
        stdio,
        keep: keep.as_ptr(),
        keep_len: keep.len(),
        errno: 0,
    };
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let mut pidfd: c_int = -1;
    let flags = namespaces | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let call = || format!("clone(flags {flags:#x})");
    // SAFETY: an all-zero signal set is valid storage that sigfillset and pthread_sigmask then fill.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both sets are ours; the mask is put back below on every path.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    // SAFETY: the stack is ours, 16-byte aligned, and its end is one past the last element. CLONE_VFORK keeps this
    // thread asleep until the child has executed or exited, so `start`, the stack and all pointers in them outlive
    // its use of them; with signals blocked no handler of ours runs in the shared memory.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        libc::clone(child, top, flags, (&raw mut start).cast(), &raw mut pidfd)
    };
    let failed = (pid < 0).then(|| CallError::last(call()));
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    drop(stack);
    if let Some(error) = failed {
        return Err(error);
    }
    // SAFETY: a successful clone with CLONE_PIDFD stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if start.errno != 0 {
        let source = std::io::Error::from_raw_os_error(start.errno);
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
            rustix::process::WaitIdOptions::EXITED,
        );
        return Err(CallError { call: format!("execveat({})", exe.as_raw_fd()), source });
    }
    Ok(Spawned { pid, pidfd })
}

/// What the child does between clone and exec: raw system calls only.
extern "C" fn child(start: *mut c_void) -> c_int {
    // SAFETY: `start` is the value given to clone, alive while the parent sleeps, and used by nobody else meanwhile.
    // All pointers in it are valid and null-terminated or given with their length; the calls are async-signal-safe.
    unsafe {
        let start = &mut *start.cast::<Start>();
        let mut ok = true;
        for (target, source) in start.stdio.iter().enumerate() {
            let target = target as c_int;
            ok &= if *source == target {
                libc::fcntl(target, libc::F_SETFD, 0) >= 0
            } else {
                libc::dup2(*source, target) >= 0
            };
        }
        for index in 0..start.keep_len {
            ok &= libc::fcntl(*start.keep.add(index), libc::F_SETFD, 0) >= 0;
        }
        if ok {
            libc::syscall(libc::SYS_execveat, start.exe, c"".as_ptr(), start.argv, start.envp, libc::AT_EMPTY_PATH);
        }
        start.errno = *libc::__errno_location();
        libc::_exit(125)
    }
}

/// Forks this single-threaded process; the parent sleeps until the child has executed or exited.
///
/// Returns nothing in the child, its process number in the parent. Only for processes with one thread: the init.
pub(crate) fn fork_until_exec() -> Result<Option<i32>, CallError> {
    let flags = (libc::CLONE_VFORK | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: without CLONE_VM this is fork: the child has its own copy of memory and may run any code, since the
    // caller is single-threaded and no lock can be held by another thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(i32::try_from(pid).unwrap_or(i32::MAX))),
        _ => Err(CallError::last("clone(CLONE_VFORK)")),
    }
}

/// Forks this single-threaded process. Returns nothing in the child, its process number in the parent. Only for a
/// program that has just started: the child may run any code as long as no other thread can have held a lock.
pub(crate) fn fork() -> Result<Option<i32>, CallError> {
    // SAFETY: the caller is single-threaded (entering a user namespace demands it too), so the child's copy of memory
    // is consistent.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(CallError::last("fork()")),
    }
}

/// Ends a forked child without running what the parent registered for its own end.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(code) }
}

/// Puts every signal back to its default action and unblocks all: exec keeps both.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: setting the default action installs no code of ours; the kernel refuses KILL, STOP and the two that
        // libc keeps for itself, which is harmless.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: zeroed storage that sigemptyset fills before use.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

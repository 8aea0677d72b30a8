//! Single calls that neither rustix nor nix wraps safely.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::CallError;
use crate::sandbox::seccomp::Instruction;

/// Takes a descriptor that was inherited under a known number. Each number may be taken once.
pub(crate) fn take_fd(number: RawFd) -> Result<OwnedFd, CallError> {
    // SAFETY: F_GETFD and F_SETFD only look at and mark the descriptor.
    let open = number >= 3 && unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } >= 0;
    if !open {
        return Err(CallError::last(format!("fcntl({number}, F_SETFD)")));
    }
    // SAFETY: it is open, and the plan that names it is walked once in a process that just started.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor above 2 that is not in `keep`. Only right after start, before any is owned.
pub(crate) fn close_other_fds(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3_u32;
    for fd in keep.into_iter().map(Some).chain([None]) {
        let last = fd.map_or(u32::MAX, |fd| fd.saturating_sub(1));
        if first <= last {
            // SAFETY: nothing of this process owns these descriptors yet: they came from whoever started it.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = fd.map_or(u32::MAX, |fd| fd.saturating_add(1)).max(first);
    }
}

/// Adds `MOUNT_ATTR_*` bits to a mount, with all mounts below it if asked.
pub(crate) fn mount_set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> Result<(), CallError> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure is ours and given with its size; the path is an empty C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 {
        return Err(CallError::last(format!("mount_setattr({}, set {set:#x}, flags {flags:#x})", mount.as_raw_fd())));
    }
    Ok(())
}

/// Loads a system call filter for this process.
pub(crate) fn load_filter(program: &[Instruction]) -> Result<(), CallError> {
    let call = || format!("seccomp(SET_MODE_FILTER, {} instructions)", program.len());
    let Ok(length) = u16::try_from(program.len()) else {
        return Err(CallError { call: call(), source: std::io::ErrorKind::InvalidInput.into() });
    };
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of `struct sock_filter`; the kernel copies and never writes to it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result < 0 { Err(CallError::last(call())) } else { Ok(()) }
}

/// Gives this process a new, empty session keyring. A kernel without keyrings is fine.
pub(crate) fn join_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
}

/// Switches the loopback interface of this network namespace on.
pub(crate) fn loopback_up() -> Result<(), CallError> {
    // SAFETY: an all-zero ifreq is valid; name and flags are set before use, and the socket is closed by its owner.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(CallError::last("socket(AF_INET)"));
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed() as libc::c_char;
        request.ifr_name[1] = b'o'.cast_signed() as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) < 0 {
            return Err(CallError::last("ioctl(SIOCSIFFLAGS, lo up)"));
        }
    }
    Ok(())
}

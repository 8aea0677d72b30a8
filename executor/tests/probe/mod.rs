//! Runs inside a sandbox and makes system calls that must be refused; prints `name=errno` for each.
#![allow(unsafe_code)]

/// Makes every call of the list.
pub(crate) fn calls() {
    let zero = [0_u64; 6];
    let first = |value: u64| [value, 0, 0, 0, 0, 0];
    let list: &[(&str, i64, [u64; 6])] = &[
        ("keyctl", libc::SYS_keyctl, zero),
        ("add_key", libc::SYS_add_key, zero),
        ("bpf", libc::SYS_bpf, zero),
        ("userfaultfd", libc::SYS_userfaultfd, zero),
        ("io_uring_setup", libc::SYS_io_uring_setup, zero),
        ("perf_event_open", libc::SYS_perf_event_open, zero),
        ("kexec_load", libc::SYS_kexec_load, zero),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, zero),
        ("setns", libc::SYS_setns, zero),
        ("mount", libc::SYS_mount, zero),
        ("fsopen", libc::SYS_fsopen, zero),
        ("clone3", libc::SYS_clone3, zero),
        ("x32_getpid", 0x4000_0000 | 39, zero),
        ("socket_alg", libc::SYS_socket, [38, 5, 0, 0, 0, 0]),
        ("socket_vsock", libc::SYS_socket, [40, 1, 0, 0, 0, 0]),
        ("clone_newuser", libc::SYS_clone, first(0x1000_0000 | 17)),
        ("getpid", libc::SYS_getpid, zero),
    ];
    for (name, number, arguments) in list {
        let [a, b, c, d, e, f] = *arguments;
        // SAFETY: each call is refused by the filter, or (getpid) takes no arguments.
        let result = unsafe { libc::syscall(*number, a, b, c, d, e, f) };
        let errno = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
        println!("{name}={errno}");
    }
    #[cfg(target_arch = "x86_64")]
    for (name, number) in [("int80_mount", 21_i32), ("int80_getpid", 20)] {
        let result: i32;
        // SAFETY: the 32-bit entry with no pointers: mount of null pointers fails whatever happens, getpid has no
        // arguments; only rax and r8-r11 change.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("eax") number => result, in("ecx") 0, in("edx") 0, in("esi") 0,
                in("edi") 0, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        println!("{name}={}", if result < 0 { -result } else { 0 });
    }
}

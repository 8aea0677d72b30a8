//! Capabilities as sets of bits, and Docker's rules for adding and dropping them.

use super::SandboxError;

/// Names in the order of their numbers, without `CAP_`.
#[rustfmt::skip]
const NAMES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's fourteen: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
pub(crate) const DEFAULT: u64 = 0xa804_25fb;

/// Every capability this program knows.
pub(crate) const ALL: u64 = (1 << NAMES.len()) - 1;

/// The set after additions and then removals; `ALL` stands for every one, and a single name beats `ALL` of the other
/// list, as in Docker.
pub(crate) fn resolve(add: &[String], drop: &[String]) -> Result<u64, SandboxError> {
    let (add_all, add) = bits(add)?;
    let (drop_all, drop) = bits(drop)?;
    let base = match (add_all, drop_all) {
        (_, true) => 0,
        (true, false) => ALL,
        (false, false) => DEFAULT,
    };
    Ok((base | add) & !drop)
}

fn bits(names: &[String]) -> Result<(bool, u64), SandboxError> {
    let mut set = 0;
    let mut all = false;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match NAMES.iter().position(|known| *known == short) {
            Some(bit) => set |= 1 << bit,
            None if short == "ALL" => all = true,
            None => return Err(SandboxError::Invalid { what: format!("capability {name:?} is not known") }),
        }
    }
    Ok((all, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn sets_are_dockers() {
        assert_eq!(DEFAULT.count_ones(), 14);
        assert_eq!(resolve(&[], &[]).unwrap(), DEFAULT);
        assert_eq!(resolve(&of(&["ALL"]), &[]).unwrap(), ALL);
        assert_eq!(resolve(&[], &of(&["all"])).unwrap(), 0);
        assert_eq!(resolve(&of(&["net_admin"]), &of(&["ALL"])).unwrap(), 1 << 12);
        assert_eq!(resolve(&of(&["ALL"]), &of(&["CAP_SYS_ADMIN"])).unwrap(), ALL & !(1 << 21));
        assert!(resolve(&of(&["FOO"]), &[]).is_err());
    }
}

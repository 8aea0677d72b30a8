//! Why a sandbox did not start.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a sandbox did not start or could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The request makes no sense.
    #[error("{what}")]
    Invalid {
        /// Which part, and why.
        what: String,
    },
    /// A limit was asked for that this machine cannot set here.
    #[error("cannot limit {limit}: {reason}")]
    Limit {
        /// `memory`, `pids`, ...
        limit: &'static str,
        /// Why.
        reason: String,
    },
    /// A system call of ours failed on the outside.
    #[error("{what}")]
    Os {
        /// The act with its arguments.
        what: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The inside reported a failure before the command ran.
    #[error(transparent)]
    Inside(#[from] Failure),
}

/// A failure inside the sandbox before the command ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{act}{}", self.reason())]
pub struct Failure {
    /// What kind of failure, which decides the exit code.
    pub kind: FailureKind,
    /// The act with its arguments.
    pub act: String,
    /// The error number of the system.
    pub errno: Option<i32>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What kind of failure happened inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The sandbox could not be set up: exit code 125.
    Setup,
    /// The user or group does not exist in the image: 125.
    User,
    /// The working directory cannot be used: 125.
    Directory,
    /// The program exists but does not start: 126.
    NotExecutable,
    /// The program does not exist: 127.
    NotFound,
}

impl Failure {
    fn reason(&self) -> String {
        self.errno.map(|errno| format!(": {}", io::Error::from_raw_os_error(errno))).unwrap_or_default()
    }
}

impl SandboxError {
    /// The exit code Docker gives: 125 the sandbox failed, 126 not executable, 127 not found.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Inside(Failure { kind: FailureKind::NotExecutable, .. }) => 126,
            Self::Inside(Failure { kind: FailureKind::NotFound, .. }) => 127,
            _ => 125,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Inside(failure) => failure.hint.as_deref().or_else(|| kernel_hint(&failure.act, failure.errno?)),
            Self::Os { what, source } => kernel_hint(what, source.raw_os_error()?),
            Self::Invalid { .. } | Self::Limit { .. } => None,
        }
    }
}

/// What to do where the kernel refuses what every sandbox needs.
pub(crate) fn kernel_hint(act: &str, errno: i32) -> Option<&'static str> {
    let namespaces = act.starts_with("clone") || act.starts_with("unshare");
    match errno {
        libc::ENOSYS => {
            Some("the kernel is too old, or a filter around us forbids the call: Linux 5.12 or later is needed")
        }
        libc::ENODEV if act.contains("overlay") => {
            Some("the kernel has no overlay file system: try `modprobe overlay`")
        }
        libc::ENODEV if act.starts_with("fsopen") => Some("the kernel lacks this file system"),
        libc::EINVAL if act.starts_with("seccomp") => {
            Some("the kernel lacks system call filters (CONFIG_SECCOMP_FILTER)")
        }
        libc::EINVAL if namespaces => {
            Some("the kernel lacks a kind of namespace: mount, pid, ipc, uts, net and cgroup (CONFIG_*_NS) are needed")
        }
        libc::EPERM if namespaces => {
            Some("namespaces may not be made here: inside another container, that one needs CAP_SYS_ADMIN")
        }
        libc::ENOSPC | libc::EUSERS if namespaces => {
            Some("there are as many namespaces as the machine allows: see the sysctls user.max_*_namespaces")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let inside = |act: &str, errno| {
            let failure = Failure { kind: FailureKind::Setup, act: act.to_owned(), errno: Some(errno), hint: None };
            SandboxError::from(failure).hint().map(str::to_owned)
        };
        assert!(inside("fsopen(overlay)", libc::ENODEV).is_some_and(|hint| hint.contains("modprobe overlay")));
        assert!(inside("mount_setattr", libc::ENOSYS).is_some_and(|hint| hint.contains("Linux 5.12")));
        assert!(inside("unshare(CLONE_NEWCGROUP)", libc::EINVAL).is_some_and(|hint| hint.contains("CONFIG_*_NS")));
        assert_eq!(inside("sethostname", libc::EINVAL), None);
        let outside = |errno| SandboxError::Os {
            what: "clone(flags 0x7c020000)".to_owned(),
            source: io::Error::from_raw_os_error(errno),
        };
        assert!(outside(libc::ENOSPC).hint().is_some_and(|hint| hint.contains("max_*_namespaces")));
        assert!(outside(libc::EPERM).hint().is_some_and(|hint| hint.contains("CAP_SYS_ADMIN")));
    }
}

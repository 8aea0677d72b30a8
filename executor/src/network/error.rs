//! What can go wrong with a network, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a network could not be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused a change of links, addresses, routes or rules.
    #[error("{request}")]
    Netlink {
        /// What was asked, with its arguments.
        request: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A call to the kernel failed.
    #[error("{call}")]
    Call {
        /// The call with its arguments.
        call: String,
        /// Its error.
        source: io::Error,
    },
    /// A file of the network's state, or a setting of the kernel below `/proc/sys`, could not be read or written.
    #[error("{act} {}", path.display())]
    File {
        /// What was done: `read`, `write`, `lock`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The state file does not hold what this program writes.
    #[error("parse network state {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Where it broke.
        source: serde_json::Error,
    },
    /// Every subnet of the list is in use by another network of this host.
    #[error("no free subnet for the bridge: all of {tried} collide with routes or name servers of this host")]
    NoFreeSubnet {
        /// The list.
        tried: String,
    },
    /// Every bridge name of the list is taken.
    #[error("no free name for the bridge: lap0 to lap{last} exist")]
    NoFreeName {
        /// The highest number tried.
        last: u32,
    },
    /// Every address of the subnet is leased.
    #[error("no free address in {subnet}")]
    NoFreeAddress {
        /// The subnet of the bridge.
        subnet: String,
    },
    /// An address is not leased, or by another process that is alive.
    #[error("address {address} is not leased to process {pid}")]
    NotLeased {
        /// The address.
        address: std::net::Ipv4Addr,
        /// The process that asked.
        pid: i32,
    },
    /// A process to which a lease shall be handed over does not exist.
    #[error("process {pid} does not exist")]
    NoProcess {
        /// Its number.
        pid: i32,
    },
    /// The thread that makes a namespace ended without a result.
    #[error("thread making a network namespace ended early")]
    Thread,
}

impl NetworkError {
    /// What the user can do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self.errno()? {
            libc::EPERM | libc::EACCES => Some("making a bridge network needs root; use --network host or none"),
            libc::EROFS => {
                Some("/proc/sys is read-only here: enable net.ipv4.ip_forward outside, or use --network host")
            }
            libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => {
                Some("the kernel lacks bridge, veth or nftables (nf_tables, nft_masq); use --network host or none")
            }
            _ => None,
        }
    }

    fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink { source, .. } | Self::Call { source, .. } | Self::File { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }

    pub(crate) fn netlink(request: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Netlink { request: request(), source }
    }

    pub(crate) fn call(call: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Call { call: call.into(), source: source.into() }
    }

    pub(crate) fn file(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { act, path: path.into(), source }
    }
}

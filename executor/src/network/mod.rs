//! The network of build steps and containers: a bridge, one veth pair per sandbox, and NAT, made over netlink.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Why a network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused a call.
    #[error("{act}")]
    Kernel {
        /// What was asked of the kernel.
        act: String,
        /// Its answer.
        source: std::io::Error,
    },
}

/// A handle on the default bridge network of a run directory. Opening it costs nothing: the bridge is made by the first
/// [`Network::attach`] or [`Network::prepare`], kept while any handle or attachment lives, and removed with the last.
#[derive(Debug, Clone)]
pub struct Network {}

impl Network {
    /// Opens the network whose state lies below `run_dir`.
    pub fn open(_run_dir: &Path) -> Result<Self, NetworkError> {
        Ok(Self {})
    }
    /// Begins to make one namespace in the background for a later [`Network::attach`].
    pub fn prepare(&self) {}
    /// A new network namespace with `lo` and `eth0` up, an address and a default route.
    pub fn attach(&self) -> Result<Attachment, NetworkError> {
        Err(NetworkError::Kernel { act: "attach".into(), source: std::io::ErrorKind::Unsupported.into() })
    }
}

/// One sandbox's end of the network. Dropping it releases the address and removes the veth pair.
#[derive(Debug)]
pub struct Attachment {
    namespace: OwnedFd,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
    prefix: u8,
}

impl Attachment {
    /// The network namespace, to be entered with `setns`.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
    /// The address of `eth0`.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
    /// The address of the bridge: the default route of the sandbox.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }
    /// The length of the subnet's prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

/// A new network namespace in which only `lo` is up.
pub fn loopback_only() -> Result<OwnedFd, NetworkError> {
    Err(NetworkError::Kernel { act: "loopback_only".into(), source: std::io::ErrorKind::Unsupported.into() })
}

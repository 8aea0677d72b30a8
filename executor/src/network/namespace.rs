//! Network namespaces. Making one means entering it, so it is done on a thread of its own.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::NetworkError;
use super::netlink::Socket;
use super::{forwarding, link};

const OWN: &str = "/proc/thread-self/ns/net";
/// `lo` is the first link of every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// The network namespace of the calling thread.
pub(crate) fn current() -> Result<OwnedFd, NetworkError> {
    Ok(File::open(OWN).map_err(NetworkError::file("open", OWN))?.into())
}

/// The number by which the kernel tells the namespace of the calling thread from others that exist now.
pub(crate) fn current_number() -> Result<u64, NetworkError> {
    Ok(std::fs::metadata(OWN).map_err(NetworkError::file("stat", OWN))?.ino())
}

/// Makes a new namespace and moves the calling thread into it; `lo` is up, IPv6 off for what comes later.
pub(crate) fn enter_new() -> Result<(OwnedFd, Socket), NetworkError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| NetworkError::call("unshare(CLONE_NEWNET)", error))?;
    let namespace = current()?;
    let mut inside = open_route_socket()?;
    link::set_up(&mut inside, LOOPBACK)?;
    forwarding::disable_ipv6("default")?;
    forwarding::relax_new_namespace()?;
    Ok((namespace, inside))
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(namespace: impl AsFd) -> Result<(), NetworkError> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| NetworkError::call("setns(CLONE_NEWNET)", error))
}

/// A netlink socket for links in the namespace of the calling thread.
pub(crate) fn open_route_socket() -> Result<Socket, NetworkError> {
    Socket::route().map_err(|error| NetworkError::call("socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)", error))
}

/// A netlink socket for packet rules in the namespace of the calling thread.
pub(crate) fn open_netfilter_socket() -> Result<Socket, NetworkError> {
    Socket::netfilter().map_err(|error| NetworkError::call("socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)", error))
}

/// Runs `make` on a new thread, which may change its namespace without disturbing any other.
pub(crate) fn on_own_thread<T: Send + 'static>(
    make: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<std::thread::JoinHandle<Result<T, NetworkError>>, NetworkError> {
    std::thread::Builder::new()
        .name("lap-netns".into())
        .spawn(make)
        .map_err(|error| NetworkError::call("clone(thread lap-netns)", error))
}

/// A new network namespace in which only `lo` is up.
pub fn loopback_only() -> Result<OwnedFd, NetworkError> {
    on_own_thread(|| enter_new().map(|(namespace, _)| namespace))?.join().map_err(|_| NetworkError::Thread)?
}

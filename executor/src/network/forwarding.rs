//! The kernel's settings below `/proc/sys/net`, for the namespace of the calling thread.
//!
//! Why forwarding per link and not by `ip_forward`: that one switch turns forwarding on for every link of the host, and once it is on
//! nobody can tell who else has come to rely on it. The setting of a link is checked where a packet comes in, so it is
//! enough to switch on the bridge and the links through which answers return. If `all` is on when the network is removed,
//! somebody else has asked for it meanwhile, and nothing is switched back.

use std::io;
use std::path::{Path, PathBuf};

use super::error::NetworkError;

/// Whether forwarding is on for all links.
pub(crate) fn all_forward() -> Result<bool, NetworkError> {
    forwards("all")
}

/// Whether packets that come in through this link are forwarded.
pub(crate) fn forwards(link: &str) -> Result<bool, NetworkError> {
    let path = setting("ipv4", link, "forwarding");
    let text = std::fs::read_to_string(&path).map_err(NetworkError::file("read", path))?;
    Ok(text.trim() == "1")
}

/// Switches forwarding on or off for a link; a link that is gone is no error.
pub(crate) fn set_forwarding(link: &str, on: bool) -> Result<(), NetworkError> {
    let path = setting("ipv4", link, "forwarding");
    write(&path, if on { "1" } else { "0" }).map_err(NetworkError::file("write", path))
}

/// Keeps a link, or with `default` the links yet to come, free of IPv6: no address and no trust in router advertisements.
/// A kernel without IPv6 has nothing to switch off.
pub(crate) fn disable_ipv6(link: &str) -> Result<(), NetworkError> {
    let path = setting("ipv6", link, "disable_ipv6");
    write(&path, "1").map_err(NetworkError::file("write", path))
}

/// Lets every user of a new namespace listen on low ports and send pings, as Docker does: both are harmless there.
pub(crate) fn relax_new_namespace() -> Result<(), NetworkError> {
    for (name, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
        let path = Path::new("/proc/sys/net/ipv4").join(name);
        match write(&path, value) {
            // In a user namespace that does not map all groups.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => result.map_err(NetworkError::file("write", path))?,
        }
    }
    Ok(())
}

fn setting(family: &str, link: &str, name: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(family).join("conf").join(link).join(name)
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    match std::fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

//! The `/etc/resolv.conf` of a sandbox, made from the host's.
//!
//! A name server on a loopback address is reached by nobody in another namespace, and one with an IPv6 address not
//! through an IPv4 bridge: such lines are left out. Everything else is kept as it is: search lists, options, unknown
//! lines.

use std::net::{IpAddr, Ipv4Addr};

/// The file that the host's own programs read.
pub const HOST_FILE: &str = "/etc/resolv.conf";
/// The file in which systemd-resolved names the servers that its local one asks.
pub const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// The text for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// What to put into the file.
    pub text: String,
    /// Whether it names a server; if not, only names of `/etc/hosts` can be found.
    pub has_server: bool,
}

/// What `/etc/resolv.conf` a sandbox on the bridge gets, from the text of the host's. If that names only servers the
/// sandbox cannot reach, `upstream` is taken instead: the text of [`RESOLVED_FILE`], where there is one.
pub fn resolv_conf(host: &str, upstream: Option<&str>) -> ResolvConf {
    let text = match upstream {
        Some(upstream) if name_servers(host).next().is_none() => upstream,
        _ => host,
    };
    let lines = text.lines().filter(|line| server_of(line).is_none_or(is_reachable));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let has_server = name_servers(&text).next().is_some();
    ResolvConf { text, has_server }
}

/// Reads the host's files and makes the sandbox's. A file that is missing counts as empty, as it does for the resolver.
///
/// # Errors
/// A file exists and cannot be read.
pub fn host_resolv_conf() -> Result<ResolvConf, super::NetworkError> {
    let read = |path: &str| match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(super::NetworkError::file("read", path)(error)),
    };
    Ok(resolv_conf(&read(HOST_FILE)?.unwrap_or_default(), read(RESOLVED_FILE)?.as_deref()))
}

/// The servers in this text that a sandbox can reach.
pub(crate) fn name_servers(text: &str) -> impl Iterator<Item = Ipv4Addr> {
    text.lines().filter_map(server_of).filter_map(|server| match server {
        Server::Address(IpAddr::V4(address)) if is_reachable(server) => Some(address),
        _ => None,
    })
}

#[derive(Clone, Copy)]
enum Server {
    Address(IpAddr),
    /// Not an address, or an IPv6 one with a zone.
    Unknown,
}

fn server_of(line: &str) -> Option<Server> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    Some(words.next().and_then(|word| word.parse().ok()).map_or(Server::Unknown, Server::Address))
}

fn is_reachable(server: Server) -> bool {
    matches!(server, Server::Address(IpAddr::V4(address)) if !address.is_loopback() && !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_can_be_reached() {
        let host = "# made by hand\nsearch example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n\
                    nameserver ::1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\noptions edns0 trust-ad";
        let made = resolv_conf(host, Some("nameserver 198.51.100.1\n"));
        assert_eq!(made.text, "# made by hand\nsearch example.org\nnameserver 192.0.2.1\noptions edns0 trust-ad\n");
        assert!(made.has_server);
    }

    #[test]
    fn asks_the_servers_behind_a_local_one() {
        let host = "nameserver 127.0.0.53\noptions edns0\nsearch a\n";
        let upstream = "nameserver 198.51.100.1\nnameserver 2001:db8::1\nsearch b\n";
        assert_eq!(resolv_conf(host, Some(upstream)).text, "nameserver 198.51.100.1\nsearch b\n");
    }

    #[test]
    fn says_when_no_server_is_left() {
        for host in ["", "nameserver 127.0.0.1\nsearch a\n", "nameserver\n", "nameserver 0.0.0.0\n"] {
            let made = resolv_conf(host, None);
            assert!(!made.has_server && !made.text.contains("nameserver"), "{host:?}");
        }
    }
}

//! `EXPOSE`: `80`, `80/udp`, `8000-8010`, and the host's side that means nothing here.

use std::net::IpAddr;

use super::Lowering;
use super::state::State;
use crate::diagnostic::Fault;
use crate::lint;
use crate::syntax::{Argument, Instruction};

impl Lowering<'_> {
    pub(super) fn expose(&mut self, state: &mut State, at: &Instruction, ports: &[Argument]) -> Result<(), Fault> {
        let mut exposed = Vec::new();
        for word in ports {
            let expanded = self.stages.lexer.expand(&word.text, &state.variables);
            let expanded = expanded.map_err(|error| Fault::new(error.to_string()).at(word.span))?;
            for text in &expanded.words {
                let hint =
                    || Some("write PORT or FIRST-LAST, up to 65535, perhaps with /tcp, /udp or /sctp".to_owned());
                let port = Port::parse(text).map_err(|message| Fault::new(message).at(word.span).hint(hint()))?;
                if port.protocol != port.protocol.to_lowercase() {
                    let message = format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
                    self.report(&lint::EXPOSE_PROTO_CASING, at, message);
                }
                if port.has_host {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
                    );
                    self.report(&lint::EXPOSE_INVALID_FORMAT, at, message);
                }
                let protocol = port.protocol.to_lowercase();
                exposed.extend((port.first..=port.last).map(|number| format!("{number}/{protocol}")));
            }
        }
        state.commit(format!("EXPOSE [{}]", exposed.join(" ")));
        state.config.config.exposed_ports.extend(exposed);
        Ok(())
    }
}

/// A port or a range of them.
struct Port<'a> {
    first: u16,
    last: u16,
    protocol: &'a str,
    /// Whether an address or a host port was given.
    has_host: bool,
}

impl<'a> Port<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut parts = text.rsplitn(3, ':');
        let container = parts.next().unwrap_or_default();
        let (host, address) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        if ports.is_empty() {
            return Err(format!("invalid port: {text:?}: no port specified: {container}<empty>"));
        }
        if !["tcp", "udp", "sctp"].contains(&protocol.to_lowercase().as_str()) {
            return Err(format!("invalid port: {text:?}: invalid proto: {protocol}"));
        }
        let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address: {address}"));
        }
        let (first, last) = range(ports).ok_or_else(|| format!("invalid containerPort: {ports}"))?;
        if !host.is_empty() {
            let (from, to) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
            if to - from != last - first && first != last {
                return Err(format!("invalid ranges specified for container and host Ports: {ports} and {host}"));
            }
        }
        Ok(Self { first, last, protocol, has_host: !host.is_empty() || !address.is_empty() })
    }
}

/// `8000` or `8000-8010`
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let port =
            |text: &'static str| Port::parse(text).map(|port| (port.first, port.last, port.protocol, port.has_host));
        assert_eq!(port("80"), Ok((80, 80, "tcp", false)));
        assert_eq!(port("8000-8002/UDP"), Ok((8000, 8002, "UDP", false)));
        assert_eq!(port("127.0.0.1:80:80"), Ok((80, 80, "tcp", true)));
        assert_eq!(port("[::1]:1-2:80"), Ok((80, 80, "tcp", true)));
        for text in ["", "/tcp", "80/x", "x", "70000", "2-1", "1-2-3", "a:80:80", "1-3:5-6", "+1"] {
            assert!(port(text).is_err(), "{text}");
        }
    }
}

//! `/etc/hosts` and `/etc/resolv.conf` of a command. They lie over the image's own and never reach a layer.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use lap_solver::event::Event;
use lap_solver::graph::VertexId;

use super::ExecError;
use crate::network::host_resolv_conf;
use crate::sandbox::{EtcFiles, NetworkSetup};
use crate::worker::{HOST_GATEWAY, Options, WorkerError};

/// Where the machine's own programs find name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// `gateway` is the address of this machine in the network of the step, where it has one of its own.
pub(super) fn files(
    options: &Options,
    id: VertexId,
    network: &NetworkSetup,
    gateway: Option<Ipv4Addr>,
) -> Result<EtcFiles, WorkerError> {
    let mut hosts = format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n", options.hostname);
    for (name, address) in &options.add_hosts {
        let address = match (address.as_str(), gateway, network) {
            (HOST_GATEWAY, Some(gateway), _) => &gateway.to_string(),
            (HOST_GATEWAY, None, NetworkSetup::Host) => "127.0.0.1",
            // Without a network there is no way to this machine.
            (HOST_GATEWAY, ..) => continue,
            (address, ..) => address,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(hosts, "{address}\t{name}");
    }
    let resolv_conf = match network {
        // The very servers of the machine, on loopback too.
        NetworkSetup::Host => std::fs::read(RESOLV_CONF).unwrap_or_default(),
        NetworkSetup::Namespace(_) => {
            let found = host_resolv_conf().map_err(ExecError::from)?;
            if !found.has_server {
                let message =
                    "no name server of this machine can be reached from the step: only addresses work".to_owned();
                options.events.send(Event::Warning { vertex: Some(id), message });
            }
            found.text.into_bytes()
        }
        NetworkSetup::None => Vec::new(),
    };
    Ok(EtcFiles { hosts: Some(hosts.into_bytes()), resolv_conf: Some(resolv_conf), ..EtcFiles::default() })
}

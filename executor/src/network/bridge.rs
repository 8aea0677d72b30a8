//! Making and removing the bridge with all that belongs to it: address, packet rules, forwarding.
//!
//! Invariants: what is about to be changed is written to the state first, so that a successor of a killed process knows
//! what to undo; removing works from any point of making, twice as well as once; a link that merely has our name is
//! left alone.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::error::NetworkError;
use super::link::{self, Link, Mac, Route};
use super::nat::{self, Notice};
use super::netlink::Socket;
use super::state::{Bridge, Locked, Phase, State};
use super::subnet::Subnet;
use super::{dns, forwarding, namespace};

const NAME: &str = "lap";
const LAST_NUMBER: u32 = 63;
const DEFAULT_MTU: u32 = 1500;
/// How the alias of each of our bridges begins; behind it stand the links switched on.
const ALIAS: &str = "lapstrake, forwarding on:";
const ALIAS_LIMIT: usize = 255;

/// The bridge of `state`, made if there is none; notices come only when it was made now.
pub(crate) fn ensure(locked: &Locked<'_>, state: &mut State) -> Result<(Link, Vec<Notice>), NetworkError> {
    let mut socket = namespace::open_route_socket()?;
    if let Some(bridge) = state.bridge.clone() {
        let found = ours(&mut socket, &bridge)?;
        if let (Phase::Up, Some(link)) = (bridge.phase, found) {
            return Ok((link, renew_rules(locked, state, bridge)?));
        }
    }
    let _host = HostLock::take()?;
    remove_parts(locked, state, &mut socket, &[])?;
    match make(locked, state, &mut socket) {
        Ok(made) => Ok(made),
        Err(error) => {
            // The first error is the one to report; what cannot be undone now stays in the state for the next.
            drop(remove_parts(locked, state, &mut socket, &[]));
            Err(error)
        }
    }
}

/// Removes the bridge and undoes all that was done for it; with it go the links `others`.
pub(crate) fn remove(locked: &Locked<'_>, state: &mut State, others: &[String]) -> Result<(), NetworkError> {
    if state.bridge.is_none() && others.is_empty() {
        return Ok(());
    }
    let _host = HostLock::take()?;
    remove_parts(locked, state, &mut namespace::open_route_socket()?, others)
}

fn make(locked: &Locked<'_>, state: &mut State, socket: &mut Socket) -> Result<(Link, Vec<Notice>), NetworkError> {
    let links = link::list(socket)?;
    let routes = link::routes(socket)?;
    let subnet = choose_subnet(state, &routes)?;
    let planned = Bridge {
        phase: Phase::Unsettled,
        name: String::new(),
        mac: random_mac(),
        subnet,
        mtu: uplink_mtu(&links, &routes),
        switched_on: to_switch_on(&links, &routes)?,
        rules_elsewhere: true,
    };
    let bridge = create_link(locked, state, socket, &links, planned)?;
    let made = link::by_name(socket, &bridge.name)?.unwrap_or_default();
    link::set_alias(socket, made.index, &alias(&bridge.switched_on))?;
    forwarding::disable_ipv6(&bridge.name)?;
    link::add_address(socket, made.index, subnet.gateway(), subnet)?;
    link::set_up(socket, made.index)?;
    let mut rules = namespace::open_netfilter_socket()?;
    nat::install(&mut rules, &bridge.name, subnet, &bridge.switched_on)?;
    let passed = nat::pass_firewalls(&mut rules, &bridge.name)?;
    for link in bridge.switched_on.iter().chain([&bridge.name]) {
        forwarding::set_forwarding(link, true)?;
    }
    state.bridge = Some(Bridge { phase: Phase::Up, rules_elsewhere: passed.inserted, ..bridge });
    locked.write(state)?;
    Ok((made, passed.notices))
}

/// Whether the bridge is there and has no port but `own`.
pub(crate) fn is_idle(bridge: &Bridge, own: &[String]) -> Result<bool, NetworkError> {
    let mut socket = namespace::open_route_socket()?;
    let Some(found) = ours(&mut socket, bridge)? else { return Ok(false) };
    let links = link::list(&mut socket)?;
    Ok(!links.iter().any(|link| link.master == Some(found.index) && !own.contains(&link.name)))
}

/// Puts the packet rules back if somebody has flushed them.
fn renew_rules(locked: &Locked<'_>, state: &mut State, bridge: Bridge) -> Result<Vec<Notice>, NetworkError> {
    let mut rules = namespace::open_netfilter_socket()?;
    if nat::is_installed(&mut rules, &bridge.name)? {
        return Ok(Vec::new());
    }
    state.bridge = Some(Bridge { rules_elsewhere: true, ..bridge.clone() });
    locked.write(state)?;
    nat::leave_firewalls(&mut rules, &bridge.name)?;
    nat::install(&mut rules, &bridge.name, bridge.subnet, &bridge.switched_on)?;
    Ok(nat::pass_firewalls(&mut rules, &bridge.name)?.notices)
}

/// Makes the link under the first name that is free. The kernel decides: another run directory may want the same one.
fn create_link(
    locked: &Locked<'_>,
    state: &mut State,
    socket: &mut Socket,
    links: &[Link],
    planned: Bridge,
) -> Result<Bridge, NetworkError> {
    for number in 0..=LAST_NUMBER {
        let bridge = Bridge { name: format!("{NAME}{number}"), ..planned.clone() };
        if links.iter().any(|link| link.name == bridge.name) {
            continue;
        }
        state.bridge = Some(bridge.clone());
        locked.write(state)?;
        match link::create_bridge(socket, &bridge.name, bridge.mac, bridge.mtu) {
            Err(NetworkError::Netlink { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {}
            result => return result.map(|()| bridge),
        }
    }
    Err(NetworkError::NoFreeName { last: LAST_NUMBER })
}

fn remove_parts(
    locked: &Locked<'_>,
    state: &mut State,
    socket: &mut Socket,
    others: &[String],
) -> Result<(), NetworkError> {
    let others = others.iter().map(String::as_str);
    let Some(bridge) = state.bridge.clone() else { return link::delete(socket, others) };
    if bridge.phase == Phase::Up {
        state.bridge = Some(Bridge { phase: Phase::Unsettled, ..bridge.clone() });
        locked.write(state)?;
    }
    let found = ours(socket, &bridge)?;
    // Another run directory's bridge may have taken the name since: then the rules of that name are its own.
    if found.is_some() || link::by_name(socket, &bridge.name)?.is_none() {
        let mut rules = namespace::open_netfilter_socket()?;
        if bridge.rules_elsewhere {
            nat::leave_firewalls(&mut rules, &bridge.name)?;
        }
        nat::remove(&mut rules, &bridge.name)?;
    }
    switch_off(socket, &bridge)?;
    link::delete(socket, found.iter().map(|link| link.name.as_str()).chain(others))?;
    state.bridge = None;
    locked.write(state)
}

/// Switches forwarding off where it was off, unless another of our bridges or anyone else needs it.
fn switch_off(socket: &mut Socket, bridge: &Bridge) -> Result<(), NetworkError> {
    if bridge.switched_on.is_empty() || forwarding::all_forward()? {
        return Ok(());
    }
    let links = link::list(socket)?;
    let needed = switched_on_by_others(&links, &bridge.name);
    let unneeded = bridge.switched_on.iter().filter(|link| !needed.contains(&link.as_str()));
    unneeded.into_iter().try_for_each(|link| forwarding::set_forwarding(link, false))
}

fn ours(socket: &mut Socket, bridge: &Bridge) -> Result<Option<Link>, NetworkError> {
    Ok(link::by_name(socket, &bridge.name)?.filter(|link| link.mac == Some(bridge.mac)))
}

/// A subnet that collides with nothing this host can reach and with no address of a lease that outlived its bridge.
fn choose_subnet(state: &State, routes: &[Route]) -> Result<Subnet, NetworkError> {
    let mut used: Vec<Subnet> = routes.iter().map(|route| route.to).collect();
    let resolvers = std::fs::read_to_string(dns::HOST_FILE).unwrap_or_default();
    used.extend(dns::name_servers(&resolvers).map(|address| Subnet::around(address, 32)));
    used.extend(state.leases.keys().map(|address| Subnet::around(*address, 32)));
    Subnet::choose(&used).ok_or_else(|| NetworkError::NoFreeSubnet { tried: Subnet::candidates() })
}

/// The smallest MTU among the links of the default routes: larger packets of a sandbox would get lost on paths that
/// drop the messages about it.
fn uplink_mtu(links: &[Link], routes: &[Route]) -> u32 {
    let defaults = routes.iter().filter(|route| route.to == Subnet::around(Ipv4Addr::UNSPECIFIED, 0));
    let indexes: Vec<u32> = defaults.flat_map(|route| route.links.iter().copied()).collect();
    let mtus = links.iter().filter(|link| indexes.contains(&link.index)).map(|link| link.mtu);
    mtus.min().filter(|mtu| *mtu >= 576).unwrap_or(DEFAULT_MTU)
}

/// The links through which answers can come back and that do not forward yet, or only for another of our bridges.
fn to_switch_on(links: &[Link], routes: &[Route]) -> Result<Vec<String>, NetworkError> {
    if forwarding::all_forward()? {
        return Ok(Vec::new());
    }
    let inherited = switched_on_by_others(links, "");
    let mut names = Vec::new();
    for link in links.iter().filter(|link| link.index != namespace::LOOPBACK && !is_lapstrake(link)) {
        let routed = routes.iter().any(|route| route.links.contains(&link.index));
        if routed && (inherited.contains(&link.name.as_str()) || !forwarding::forwards(&link.name)?) {
            names.push(link.name.clone());
        }
    }
    Ok(names)
}

fn is_lapstrake(link: &Link) -> bool {
    link.alias.as_deref().is_some_and(|alias| alias.starts_with(ALIAS))
}

/// What other bridges of ours, of other run directories, have switched on and will want to switch off.
fn switched_on_by_others<'a>(links: &'a [Link], own: &str) -> Vec<&'a str> {
    let aliases = links.iter().filter(|link| link.name != own).filter_map(|link| link.alias.as_deref());
    aliases.filter_map(|alias| alias.strip_prefix(ALIAS)).flat_map(str::split_ascii_whitespace).collect()
}

fn alias(switched_on: &[String]) -> String {
    let mut alias = ALIAS.to_owned();
    for link in switched_on {
        if alias.len() + 1 + link.len() <= ALIAS_LIMIT {
            alias.push(' ');
            alias.push_str(link);
        }
    }
    alias
}

/// A random Ethernet address of the locally administered range.
fn random_mac() -> Mac {
    let [a, b, c, d, e, _, _, _] = RandomState::new().build_hasher().finish().to_ne_bytes();
    [0x02, a, b, c, d, e]
}

/// Keeps run directories apart while they look at and change what they share: names, subnets, forwarding.
///
/// The lock is on the network namespace itself, which is exactly what is shared. Any user can take it, so it is waited
/// for a moment only: without it, two run directories beginning in the same instant might collide.
#[derive(Debug)]
struct HostLock {
    _namespace: OwnedFd,
}

impl HostLock {
    const PATIENCE: Duration = Duration::from_secs(2);

    fn take() -> Result<Self, NetworkError> {
        let namespace = namespace::current()?;
        let begin = Instant::now();
        while flock(&namespace, FlockOperation::NonBlockingLockExclusive).is_err() && begin.elapsed() < Self::PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { _namespace: namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, mtu: u32, alias: Option<&str>) -> Link {
        Link { index, name: name.into(), mtu, alias: alias.map(str::to_owned), ..Link::default() }
    }

    #[test]
    fn the_mtu_is_that_of_the_way_out() {
        let links = [link(1, "lo", 65536, None), link(2, "eth0", 1400, None), link(3, "eth1", 9000, None)];
        let route = |to: &str, links: &[u32]| {
            let (address, prefix) = to.split_once('/').unwrap();
            Route { to: Subnet::around(address.parse().unwrap(), prefix.parse().unwrap()), links: links.to_vec() }
        };
        assert_eq!(uplink_mtu(&links, &[route("0.0.0.0/0", &[2])]), 1400);
        assert_eq!(uplink_mtu(&links, &[route("0.0.0.0/0", &[3, 2])]), 1400);
        assert_eq!(uplink_mtu(&links, &[route("10.0.0.0/8", &[3])]), DEFAULT_MTU);
    }

    #[test]
    fn what_others_switched_on_is_read_from_their_alias() {
        let names = ["eth0".to_owned(), "tun0".to_owned()];
        let links = [link(5, "lap0", 1500, Some(&alias(&names))), link(6, "x", 1500, Some("something else"))];
        assert_eq!(switched_on_by_others(&links, "lap1"), ["eth0", "tun0"]);
        assert!(switched_on_by_others(&links, "lap0").is_empty());
        assert!(alias(&vec!["a-long-name-0".to_owned(); 40]).len() <= ALIAS_LIMIT);
        assert!(is_lapstrake(&links[0]) && !is_lapstrake(&links[1]));
    }

    #[test]
    fn random_addresses_are_local_and_differ() {
        let (first, second) = (random_mac(), random_mac());
        assert_eq!(first[0] & 3, 2);
        assert_ne!(first, second);
    }
}

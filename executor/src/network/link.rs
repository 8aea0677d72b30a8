//! Links, addresses and routes over rtnetlink: the few requests that a bridge network needs.
//!
//! Every function acts in the namespace of its [`Socket`]. Numbers are those of linux/if_link.h, linux/rtnetlink.h and
//! linux/if_addr.h.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::error::NetworkError;
use super::netlink::{ACK, Attributes, CREATE, EXCLUSIVE, Message, REQUEST, Socket, u32_at};
use super::subnet::Subnet;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const RTA_DESTINATION: u16 = 1;
const RTA_OUT_LINK: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;

const AF_INET: u8 = 2;
const FLAG_UP: u32 = 1;
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const TYPE_UNICAST: u8 = 1;

/// The group of links to be deleted: this with the number of the process that does it, so that no two meet.
const DOOMED: u32 = 0x4c00_0000;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// What is known of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) alias: Option<String>,
    /// The index of the bridge of which it is a port.
    pub(crate) master: Option<u32>,
}

/// One IPv4 route: where to, and through which links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: Subnet,
    pub(crate) links: Vec<u32>,
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Makes a bridge with its own fixed Ethernet address, so that it does not change with its ports.
pub(crate) fn create_bridge(socket: &mut Socket, name: &str, mac: Mac, mtu: u32) -> Result<(), NetworkError> {
    let message = Message::new(NEW_LINK, REQUEST | ACK | CREATE | EXCLUSIVE, &link_header(0, 0, 0))
        .string(IFLA_IFNAME, name)
        .bytes(IFLA_ADDRESS, &mac)
        .u32(IFLA_MTU, mtu)
        .nest(IFLA_LINKINFO, |info| info.string(INFO_KIND, "bridge"));
    socket.request(message).map_err(NetworkError::netlink(|| format!("create bridge {name} (mtu {mtu})")))
}

/// One veth pair to be made: the outer end a port of a bridge, the inner end `eth0` of another namespace.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) outer: &'a str,
    pub(crate) bridge: u32,
    pub(crate) inner: &'a str,
    pub(crate) inner_mac: Mac,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) mtu: u32,
}

/// Makes a veth pair in one request. The outer end is up; the inner one cannot be before it knows its peer.
pub(crate) fn create_veth(socket: &mut Socket, pair: &VethPair<'_>) -> Result<(), NetworkError> {
    let up = link_header(0, FLAG_UP, FLAG_UP);
    let message = Message::new(NEW_LINK, REQUEST | ACK | CREATE | EXCLUSIVE, &up)
        .string(IFLA_IFNAME, pair.outer)
        .u32(IFLA_MTU, pair.mtu)
        .u32(IFLA_MASTER, pair.bridge)
        .nest(IFLA_LINKINFO, |info| {
            info.string(INFO_KIND, "veth").nest(INFO_DATA, |data| {
                data.nest_behind(VETH_PEER, &link_header(0, 0, 0), |peer| {
                    peer.string(IFLA_IFNAME, pair.inner)
                        .bytes(IFLA_ADDRESS, &pair.inner_mac)
                        .u32(IFLA_MTU, pair.mtu)
                        .u32(IFLA_NET_NS_FD, pair.namespace.as_raw_fd().cast_unsigned())
                })
            })
        });
    socket.request(message).map_err(NetworkError::netlink(|| {
        format!("create veth {} on bridge {} with peer {}", pair.outer, pair.bridge, pair.inner)
    }))
}

/// Switches a link on.
pub(crate) fn set_up(socket: &mut Socket, index: u32) -> Result<(), NetworkError> {
    let message = Message::new(NEW_LINK, REQUEST | ACK, &link_header(index, FLAG_UP, FLAG_UP));
    socket.request(message).map_err(NetworkError::netlink(|| format!("set link {index} up")))
}

/// Sets the remark that `ip link` shows with a link.
pub(crate) fn set_alias(socket: &mut Socket, index: u32, alias: &str) -> Result<(), NetworkError> {
    let message =
        Message::new(NEW_LINK, REQUEST | ACK, &link_header(index, 0, 0)).bytes(IFLA_IFALIAS, alias.as_bytes());
    socket.request(message).map_err(NetworkError::netlink(|| format!("set alias of link {index} to `{alias}`")))
}

/// Removes links; those that are gone already are no error.
///
/// All at once, by way of a group made for this: for each request the kernel waits until no CPU can still see what it
/// removed, which takes 10 ms and more, whether it is one link or twenty.
pub(crate) fn delete<'a>(socket: &mut Socket, names: impl IntoIterator<Item = &'a str>) -> Result<(), NetworkError> {
    let group = DOOMED | std::process::id();
    let mut doomed = Vec::new();
    for name in names {
        let message = Message::new(NEW_LINK, REQUEST | ACK, &link_header(0, 0, 0))
            .string(IFLA_IFNAME, name)
            .u32(IFLA_GROUP, group);
        match socket.request(message) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            result => {
                result.map_err(NetworkError::netlink(|| format!("set group of link {name} to {group}")))?;
                doomed.push(name);
            }
        }
    }
    if doomed.is_empty() {
        return Ok(());
    }
    let message = Message::new(DELETE_LINK, REQUEST | ACK, &link_header(0, 0, 0)).u32(IFLA_GROUP, group);
    match socket.request(message) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result.map_err(NetworkError::netlink(|| format!("delete links {}", doomed.join(", ")))),
    }
}

/// Gives a link an address of `subnet`.
pub(crate) fn add_address(
    socket: &mut Socket,
    index: u32,
    address: Ipv4Addr,
    subnet: Subnet,
) -> Result<(), NetworkError> {
    let mut header = [0; 8];
    header[0] = AF_INET;
    header[1] = subnet.prefix();
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let message = Message::new(NEW_ADDRESS, REQUEST | ACK | CREATE | EXCLUSIVE, &header)
        .bytes(IFA_LOCAL, &address.octets())
        .bytes(IFA_ADDRESS, &address.octets())
        .bytes(IFA_BROADCAST, &subnet.broadcast().octets());
    socket
        .request(message)
        .map_err(NetworkError::netlink(|| format!("add address {address}/{} to link {index}", subnet.prefix())))
}

/// Makes `gateway` the way to everywhere.
pub(crate) fn add_default_route(socket: &mut Socket, index: u32, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    let mut header = [0; ROUTE_HEADER];
    header[0] = AF_INET;
    header[4] = TABLE_MAIN;
    header[5] = PROTOCOL_STATIC;
    header[7] = TYPE_UNICAST;
    let message = Message::new(NEW_ROUTE, REQUEST | ACK | CREATE | EXCLUSIVE, &header)
        .bytes(RTA_GATEWAY, &gateway.octets())
        .u32(RTA_OUT_LINK, index);
    socket
        .request(message)
        .map_err(NetworkError::netlink(|| format!("add default route via {gateway} on link {index}")))
}

/// The link of that name, if there is one.
pub(crate) fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, NetworkError> {
    let message = Message::new(GET_LINK, REQUEST | ACK, &link_header(0, 0, 0)).string(IFLA_IFNAME, name);
    let mut found = None;
    match socket.query(message, |kind, body| found = found.take().or_else(|| parse_link(kind, body))) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        result => {
            result.map_err(NetworkError::netlink(|| format!("get link {name}")))?;
            Ok(found)
        }
    }
}

/// All links.
pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Link>, NetworkError> {
    let mut links = Vec::new();
    let list = socket.dump(GET_LINK, &link_header(0, 0, 0), |kind, body| links.extend(parse_link(kind, body)));
    list.map_err(NetworkError::netlink(|| "list links".into()))?;
    Ok(links)
}

/// All IPv4 routes of all tables, those to own and broadcast addresses included.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>, NetworkError> {
    let mut header = [0; ROUTE_HEADER];
    header[0] = AF_INET;
    let mut routes = Vec::new();
    let list = socket.dump(GET_ROUTE, &header, |kind, body| routes.extend(parse_route(kind, body)));
    list.map_err(NetworkError::netlink(|| "list routes".into()))?;
    Ok(routes)
}

fn parse_link(kind: u16, body: &[u8]) -> Option<Link> {
    if kind != NEW_LINK {
        return None;
    }
    let attributes = Attributes::behind(body, LINK_HEADER);
    Some(Link {
        index: u32_at(body, 4)?,
        name: attributes.string(IFLA_IFNAME)?,
        mac: attributes.get(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        mtu: attributes.u32(IFLA_MTU).unwrap_or_default(),
        alias: attributes.string(IFLA_IFALIAS),
        master: attributes.u32(IFLA_MASTER),
    })
}

fn parse_route(kind: u16, body: &[u8]) -> Option<Route> {
    if kind != NEW_ROUTE || body.first() != Some(&AF_INET) {
        return None;
    }
    let attributes = Attributes::behind(body, ROUTE_HEADER);
    let destination = match attributes.get(RTA_DESTINATION) {
        Some(octets) => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?),
        None => Ipv4Addr::UNSPECIFIED,
    };
    let mut links: Vec<u32> = attributes.u32(RTA_OUT_LINK).into_iter().collect();
    // struct rtnexthop: u16 length, u8 flags, u8 hops, i32 link, then attributes.
    let mut hops = attributes.get(RTA_MULTIPATH).unwrap_or_default();
    while let Some(link) = u32_at(hops, 4) {
        links.push(link);
        let length = usize::from(u16::from_ne_bytes([hops[0], hops[1]])).max(8).next_multiple_of(4);
        hops = hops.get(length..).unwrap_or_default();
    }
    Some(Route { to: Subnet::around(destination, *body.get(1)?), links })
}

//! The packet rules of one bridge: what leaves it is masqueraded, and nobody outside can open a connection into it.
//!
//! All of ours stands in one table of its own, named after the bridge, so that removing it removes everything. A verdict
//! `accept` there does not override another table's `drop` (each base chain is asked): where a firewall drops forwarded
//! packets by policy, as Docker's and ufw's do, two rules of ours are inserted into its chain, marked by a comment, and
//! taken out again by that comment. What cannot be changed is reported as a [`Notice`].

use std::fmt;

use super::error::NetworkError;
use super::netlink::Socket;
use super::nftables::{
    Batch, Chain, Expression, Family, Hook, Is, STATE_ESTABLISHED, STATE_RELATED, STATUS_DESTINATION_NAT, Verdict,
    chains, has_table, rules_with_comment,
};
use super::subnet::Subnet;

const SOURCE_NAT_PRIORITY: i32 = 100;
const FILTER_PRIORITY: i32 = 0;

/// Something the user should know about the network that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Another firewall drops forwarded packets and its chain could not be changed.
    ForwardingDropped {
        /// The chain, as `family table chain`.
        chain: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::ForwardingDropped { chain } = self;
        write!(formatter, "the firewall chain {chain} drops forwarded packets and could not be changed")
    }
}

/// The name of the table of a bridge.
pub(crate) fn table_name(bridge: &str) -> String {
    format!("lapstrake_{bridge}")
}

/// Makes the table of a bridge anew, whatever an earlier one held.
///
/// `switched_on` are the links on which forwarding was off before: between them and anything but the bridge, the host
/// shall still not pass new connections on.
pub(crate) fn install(
    socket: &mut Socket,
    bridge: &str,
    subnet: Subnet,
    switched_on: &[String],
) -> Result<(), NetworkError> {
    let table = table_name(bridge);
    let name = || bridge.to_owned();
    let (nat, filter) = ((table.as_str(), "postrouting"), (table.as_str(), "forward"));
    let drop_new = |from: Expression, to: Expression| {
        [
            from,
            to,
            Expression::NoConnectionState(STATE_ESTABLISHED | STATE_RELATED),
            Expression::NoConnectionStatus(STATUS_DESTINATION_NAT),
            Expression::Verdict(Verdict::Drop),
        ]
    };
    let into_bridge = drop_new(Expression::Incoming(Is::NotEqual, name()), Expression::Outgoing(Is::Equal, name()));
    let batch = Batch::new()
        .add_table(Family::Ip, &table)
        .delete_table(Family::Ip, &table)
        .add_table(Family::Ip, &table)
        .add_base_chain(Family::Ip, nat, "nat", Hook::PostRouting, SOURCE_NAT_PRIORITY)
        .append_rule(
            Family::Ip,
            nat,
            &[Expression::Source(subnet), Expression::Outgoing(Is::NotEqual, name()), Expression::Masquerade],
        )
        .add_base_chain(Family::Ip, filter, "filter", Hook::Forward, FILTER_PRIORITY)
        .append_rule(Family::Ip, filter, &into_bridge);
    switched_on
        .iter()
        .map(|link| drop_new(Expression::Incoming(Is::Equal, link.clone()), Expression::Outgoing(Is::NotEqual, name())))
        .fold(batch, |batch, rule| batch.append_rule(Family::Ip, filter, &rule))
        .commit(socket)
        .map_err(NetworkError::netlink(|| format!("create nftables table ip {table}")))
}

/// Whether the table of a bridge is there: `nft flush ruleset`, as firewalls do when they start, takes it away.
pub(crate) fn is_installed(socket: &mut Socket, bridge: &str) -> Result<bool, NetworkError> {
    has_table(socket, Family::Ip, &table_name(bridge))
}

/// Removes the table of a bridge; one that is gone already is no error.
pub(crate) fn remove(socket: &mut Socket, bridge: &str) -> Result<(), NetworkError> {
    let table = table_name(bridge);
    match Batch::new().delete_table(Family::Ip, &table).commit(socket) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map_err(NetworkError::netlink(|| format!("delete nftables table ip {table}"))),
    }
}

/// What [`pass_firewalls`] came to.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Whether rules of ours now stand in another's chains.
    pub(crate) inserted: bool,
    pub(crate) notices: Vec<Notice>,
}

/// Lets packets from and to the bridge pass where another firewall would drop them. To be done once: what stands there
/// is not looked for.
pub(crate) fn pass_firewalls(socket: &mut Socket, bridge: &str) -> Result<Passed, NetworkError> {
    let mut passed = Passed::default();
    let comment = comment(bridge);
    for chain in dropping_chains(&chains(socket)?) {
        let place = (chain.table.as_str(), chain.name.as_str());
        let accept = |link| [link, Expression::Counter, Expression::Verdict(Verdict::Accept)];
        let inserted = Batch::new()
            .insert_rule(chain.family, place, &accept(Expression::Incoming(Is::Equal, bridge.to_owned())), &comment)
            .insert_rule(chain.family, place, &accept(Expression::Outgoing(Is::Equal, bridge.to_owned())), &comment)
            .commit(socket);
        if inserted.is_ok() {
            passed.inserted = true;
        } else {
            let family = if chain.family == Family::Inet { "inet" } else { "ip" };
            passed
                .notices
                .push(Notice::ForwardingDropped { chain: format!("{family} {} {}", chain.table, chain.name) });
        }
    }
    Ok(passed)
}

/// Takes the rules of [`pass_firewalls`] out again, wherever they are.
pub(crate) fn leave_firewalls(socket: &mut Socket, bridge: &str) -> Result<(), NetworkError> {
    let comment = comment(bridge);
    let rules = rules_with_comment(socket, &comment)?;
    if rules.is_empty() {
        return Ok(());
    }
    let batch = rules.iter().fold(Batch::new(), Batch::delete_rule);
    batch.commit(socket).map_err(NetworkError::netlink(|| format!("delete rules with comment `{comment}`")))
}

fn comment(bridge: &str) -> String {
    format!("lapstrake {bridge}")
}

/// The chains in which an `accept` is needed: for each forward chain that drops by policy, the chain that Docker leaves
/// to others in the same table, or else itself.
fn dropping_chains(chains: &[Chain]) -> Vec<&Chain> {
    const USER_CHAIN: &str = "DOCKER-USER";
    let drops = |chain: &&Chain| {
        matches!(chain.family, Family::Ip | Family::Inet)
            && chain.hook == Some(Hook::Forward as u32)
            && chain.policy == Some(Verdict::Drop as u32)
    };
    let user_chain = |base: &Chain| {
        chains.iter().find(|chain| chain.name == USER_CHAIN && chain.table == base.table && chain.family == base.family)
    };
    chains.iter().filter(drops).map(|base| user_chain(base).unwrap_or(base)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: Family, table: &str, name: &str, hook: Option<u32>, policy: Option<u32>) -> Chain {
        Chain { family, table: table.into(), name: name.into(), hook, policy }
    }

    #[test]
    fn finds_where_an_accept_is_needed() {
        let all = [
            chain(Family::Ip, "filter", "INPUT", Some(1), Some(0)),
            chain(Family::Ip, "filter", "FORWARD", Some(2), Some(0)),
            chain(Family::Ip, "filter", "DOCKER-USER", None, None),
            chain(Family::Inet, "mine", "forward", Some(2), Some(0)),
            chain(Family::Inet, "open", "forward", Some(2), Some(1)),
            chain(Family::Other(7), "filter", "FORWARD", Some(2), Some(0)),
        ];
        let found: Vec<_> =
            dropping_chains(&all).iter().map(|chain| (chain.table.as_str(), chain.name.as_str())).collect();
        assert_eq!(found, [("filter", "DOCKER-USER"), ("mine", "forward")]);
    }
}

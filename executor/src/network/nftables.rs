//! nftables: tables, chains and rules as netlink messages, sent as one atomic batch.
//!
//! Numbers are those of linux/netfilter/nf_tables.h and nfnetlink.h; numbers in attributes are big-endian, except what
//! is compared in a register: that has the form of what was loaded.

use super::error::NetworkError;
use super::netlink::{ACK, APPEND, Attributes, CREATE, Message, REQUEST, Socket};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
/// The fixed header of every message: family, version, resource.
const FAMILY_HEADER: usize = 4;

/// The protocol family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// Any other, by its number.
    Other(u8),
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Inet,
            2 => Self::Ip,
            other => Self::Other(other),
        }
    }
}

/// Where in a packet's way a base chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    Forward = 2,
    PostRouting = 4,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// A chain as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) family: Family,
    pub(crate) table: String,
    pub(crate) name: String,
    /// The hook's number, for a base chain.
    pub(crate) hook: Option<u32>,
    pub(crate) policy: Option<u32>,
}

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Goes on if the name of the incoming link is (or is not) this one.
    Incoming(Is, String),
    /// Goes on if the name of the outgoing link is (or is not) this one.
    Outgoing(Is, String),
    /// Goes on if the IPv4 source lies in the subnet.
    Source(super::Subnet),
    /// Goes on if none of these bits is set in the state of the connection.
    NoConnectionState(u32),
    /// Goes on if none of these bits is set in the status of the connection.
    NoConnectionStatus(u32),
    /// Counts.
    Counter,
    /// Gives the packet the address of the outgoing link as its source.
    Masquerade,
    /// Ends the rule.
    Verdict(Verdict),
}

/// Whether a comparison wants equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Is {
    Equal = 0,
    NotEqual = 1,
}

/// Bits of [`Expression::NoConnectionState`].
pub(crate) const STATE_ESTABLISHED: u32 = 2;
pub(crate) const STATE_RELATED: u32 = 4;
/// Bit of [`Expression::NoConnectionStatus`]: the destination was translated.
pub(crate) const STATUS_DESTINATION_NAT: u32 = 1 << 5;

/// Changes that take effect together or not at all.
#[derive(Debug)]
pub(crate) struct Batch {
    messages: Vec<Message>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { messages: vec![Message::new(BATCH_BEGIN, REQUEST, &batch_header())] }
    }

    fn push(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Makes a table, or leaves one of that name as it is.
    pub(crate) fn add_table(self, family: Family, table: &str) -> Self {
        self.push(request(NEW_TABLE, CREATE, family).string(TABLE_NAME, table))
    }

    /// Removes a table and all that is in it.
    pub(crate) fn delete_table(self, family: Family, table: &str) -> Self {
        self.push(request(DELETE_TABLE, 0, family).string(TABLE_NAME, table))
    }

    /// Makes a base chain that accepts what its rules do not end.
    pub(crate) fn add_base_chain(
        self,
        family: Family,
        (table, chain): (&str, &str),
        kind: &str,
        hook: Hook,
        priority: i32,
    ) -> Self {
        let message = request(NEW_CHAIN, CREATE, family)
            .string(CHAIN_TABLE, table)
            .string(CHAIN_NAME, chain)
            .nest(CHAIN_HOOK, |place| {
                place.be32(HOOK_NUMBER, hook as u32).be32(HOOK_PRIORITY, priority.cast_unsigned())
            })
            .be32(CHAIN_POLICY, Verdict::Accept as u32)
            .string(CHAIN_TYPE, kind);
        self.push(message)
    }

    /// Adds a rule behind the others of its chain.
    pub(crate) fn append_rule(self, family: Family, place: (&str, &str), rule: &[Expression]) -> Self {
        self.push(rule_message(family, place, CREATE | APPEND, rule))
    }

    /// Adds a rule before the others of its chain, with a comment by which it can be found again.
    pub(crate) fn insert_rule(self, family: Family, place: (&str, &str), rule: &[Expression], comment: &str) -> Self {
        self.push(rule_message(family, place, CREATE, rule).bytes(RULE_USERDATA, &comment_data(comment)))
    }

    /// Removes a rule.
    pub(crate) fn delete_rule(self, rule: &PlacedRule) -> Self {
        let message = request(DELETE_RULE, 0, rule.family)
            .string(RULE_TABLE, &rule.table)
            .string(RULE_CHAIN, &rule.chain)
            .bytes(RULE_HANDLE, &rule.handle);
        self.push(message)
    }

    /// Carries all of it out, or nothing.
    pub(crate) fn commit(self, socket: &mut Socket) -> std::io::Result<()> {
        let closed = self.push(Message::new(BATCH_END, REQUEST, &batch_header()));
        socket.batch(closed.messages)
    }
}

/// Whether there is a table of that name.
pub(crate) fn has_table(socket: &mut Socket, family: Family, table: &str) -> Result<bool, NetworkError> {
    match socket.query(request(GET_TABLE, 0, family).string(TABLE_NAME, table), |_, _| ()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        result => result.map(|()| true).map_err(NetworkError::netlink(|| format!("get nftables table {table}"))),
    }
}

/// All chains of all tables.
pub(crate) fn chains(socket: &mut Socket) -> Result<Vec<Chain>, NetworkError> {
    let mut chains = Vec::new();
    let list = socket.dump(kind(GET_CHAIN), &[0; FAMILY_HEADER], |_, body| chains.extend(parse_chain(body)));
    list.map_err(NetworkError::netlink(|| "list nftables chains".into()))?;
    Ok(chains)
}

/// A rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacedRule {
    pub(crate) family: Family,
    pub(crate) table: String,
    pub(crate) chain: String,
    handle: Vec<u8>,
}

/// The rules, of all tables, that have this comment.
pub(crate) fn rules_with_comment(socket: &mut Socket, comment: &str) -> Result<Vec<PlacedRule>, NetworkError> {
    let wanted = comment_data(comment);
    let mut rules = Vec::new();
    let list = socket.dump(kind(GET_RULE), &[0; FAMILY_HEADER], |_, body| {
        rules.extend(parse_rule(body).filter(|(_, comment)| *comment == wanted).map(|(rule, _)| rule));
    });
    list.map_err(NetworkError::netlink(|| "list nftables rules".into()))?;
    Ok(rules)
}

fn parse_rule(body: &[u8]) -> Option<(PlacedRule, &[u8])> {
    let attributes = Attributes::behind(body, FAMILY_HEADER);
    let rule = PlacedRule {
        family: Family::from_number(*body.first()?),
        table: attributes.string(RULE_TABLE)?,
        chain: attributes.string(RULE_CHAIN)?,
        handle: attributes.get(RULE_HANDLE)?.to_vec(),
    };
    Some((rule, attributes.get(RULE_USERDATA)?))
}

fn parse_chain(body: &[u8]) -> Option<Chain> {
    let attributes = Attributes::behind(body, FAMILY_HEADER);
    Some(Chain {
        family: Family::from_number(*body.first()?),
        table: attributes.string(CHAIN_TABLE)?,
        name: attributes.string(CHAIN_NAME)?,
        hook: attributes.nested(CHAIN_HOOK).and_then(|hook| hook.be32(HOOK_NUMBER)),
        policy: attributes.be32(CHAIN_POLICY),
    })
}

fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

fn request(message: u16, flags: u16, family: Family) -> Message {
    Message::new(kind(message), REQUEST | ACK | flags, &[family.number(), 0, 0, 0])
}

fn batch_header() -> [u8; FAMILY_HEADER] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [0, 0, high, low]
}

/// The form in which `nft` keeps and shows a comment: kind 0, length, text with NUL.
fn comment_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![0, length];
    data.extend(comment.bytes().chain([0]).take(usize::from(length)));
    data
}

fn rule_message(family: Family, (table, chain): (&str, &str), flags: u16, rule: &[Expression]) -> Message {
    request(NEW_RULE, flags, family)
        .string(RULE_TABLE, table)
        .string(RULE_CHAIN, chain)
        .nest(RULE_EXPRESSIONS, |list| rule.iter().fold(list, add_expression))
}

fn element(list: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    list.nest(LIST_ELEMENT, |element| element.string(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, data))
}

fn add_expression(list: Message, expression: &Expression) -> Message {
    const META_IN_NAME: u32 = 6;
    const META_OUT_NAME: u32 = 7;
    const CT_STATE: u32 = 0;
    const CT_STATUS: u32 = 2;
    match expression {
        Expression::Incoming(is, name) => compare(meta(list, META_IN_NAME), *is, &link_name(name)),
        Expression::Outgoing(is, name) => compare(meta(list, META_OUT_NAME), *is, &link_name(name)),
        Expression::Source(subnet) => {
            const SOURCE_OFFSET: u32 = 12;
            let loaded =
                element(list, "payload", |data| data.be32(1, REGISTER_1).be32(2, 1).be32(3, SOURCE_OFFSET).be32(4, 4));
            compare(bitwise_and(loaded, subnet.mask().octets()), Is::Equal, &subnet.network().octets())
        }
        Expression::NoConnectionState(bits) => none_set(connection(list, CT_STATE), *bits),
        Expression::NoConnectionStatus(bits) => none_set(connection(list, CT_STATUS), *bits),
        Expression::Counter => element(list, "counter", |data| data.be64(1, 0).be64(2, 0)),
        Expression::Masquerade => element(list, "masq", |data| data),
        Expression::Verdict(verdict) => element(list, "immediate", |data| {
            data.be32(1, REGISTER_VERDICT)
                .nest(2, |value| value.nest(DATA_VERDICT, |inner| inner.be32(VERDICT_CODE, *verdict as u32)))
        }),
    }
}

/// A link's name as a register holds it: 16 bytes, filled up with NUL.
fn link_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (slot, byte) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *slot = byte;
    }
    bytes
}

fn meta(list: Message, key: u32) -> Message {
    element(list, "meta", |data| data.be32(1, REGISTER_1).be32(2, key))
}

fn connection(list: Message, key: u32) -> Message {
    element(list, "ct", |data| data.be32(1, REGISTER_1).be32(2, key))
}

fn none_set(list: Message, bits: u32) -> Message {
    compare(bitwise_and(list, bits.to_ne_bytes()), Is::Equal, &[0; 4])
}

fn compare(list: Message, is: Is, value: &[u8]) -> Message {
    element(list, "cmp", |data| {
        data.be32(1, REGISTER_1).be32(2, is as u32).nest(3, |inner| inner.bytes(DATA_VALUE, value))
    })
}

fn bitwise_and(list: Message, mask: [u8; 4]) -> Message {
    element(list, "bitwise", |data| {
        data.be32(1, REGISTER_1)
            .be32(2, REGISTER_1)
            .be32(3, 4)
            .nest(4, |inner| inner.bytes(DATA_VALUE, &mask))
            .nest(5, |inner| inner.bytes(DATA_VALUE, &[0; 4]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_as_nft_writes_them() {
        assert_eq!(comment_data("ab"), [0, 3, b'a', b'b', 0]);
        assert_eq!(comment_data(&"x".repeat(300)).len(), 257);
    }

    #[test]
    fn link_names_fill_a_register() {
        assert_eq!(&link_name("lap0"), b"lap0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(link_name("a-name-that-is-too-long")[15], 0);
    }

    #[test]
    fn a_listed_chain_is_read() {
        let message = request(NEW_CHAIN, 0, Family::Ip)
            .string(CHAIN_TABLE, "filter")
            .string(CHAIN_NAME, "FORWARD")
            .nest(CHAIN_HOOK, |hook| hook.be32(HOOK_NUMBER, 2).be32(HOOK_PRIORITY, 0))
            .be32(CHAIN_POLICY, 0)
            .finish(1);
        let chain = parse_chain(&message[16..]).unwrap();
        assert_eq!((chain.family, chain.table.as_str(), chain.name.as_str()), (Family::Ip, "filter", "FORWARD"));
        assert_eq!((chain.hook, chain.policy), (Some(2), Some(0)));
    }
}

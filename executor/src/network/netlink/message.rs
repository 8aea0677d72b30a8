//! Netlink messages and attributes: building and reading them.
//!
//! Layout (linux/netlink.h): a header of 16 bytes, the family's own fixed header, then attributes; each attribute is a
//! length (header of 4 bytes included), a type and a value, padded to 4 bytes. Numbers are in host byte order except
//! inside nftables' attributes, which are big-endian.
//!
//! Invariants: a [`Message`] is aligned to 4 bytes and its length field is right whenever it is looked at; reading
//! never panics on what the kernel (or anyone) sent: what is cut short ends the walk.

/// Bytes of the fixed header of every message.
pub(crate) const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = !(0b11 << 14);

/// One request under construction.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Begins a message of `kind` with `flags` (`NLM_F_*`) and the family's fixed header.
    pub(crate) fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(family_header);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// Adds an attribute.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// Adds a number in host byte order.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a big-endian number.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a big-endian number of eight bytes.
    pub(crate) fn be64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a string with its final NUL.
    pub(crate) fn string(self, kind: u16, value: &str) -> Self {
        let mut text = value.as_bytes().to_vec();
        text.push(0);
        self.bytes(kind, &text)
    }

    /// Adds an attribute that holds what `fill` adds.
    pub(crate) fn nest(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        self.nest_behind(kind, &[], fill)
    }

    /// As [`Message::nest`], with bytes that are no attribute before the inner ones (`VETH_INFO_PEER` has such).
    pub(crate) fn nest_behind(mut self, kind: u16, head: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.push(kind | NESTED, head);
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start).unwrap_or(u16::MAX);
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.set_length();
        filled
    }

    /// The bytes to send, under sequence number `sequence`.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        self.set_length();
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        // Longer values are not built by this program; the kernel would refuse the message as cut short.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self.set_length();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn set_length(&mut self) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// One message received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    /// The family's fixed header and the attributes.
    pub(crate) body: &'a [u8],
}

/// Walks the messages of one datagram.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length =
            usize::try_from(u32_at(bytes, 0)?).ok().filter(|length| (HEADER..=bytes.len()).contains(length))?;
        let (kind, sequence) = (u16_at(bytes, 4)?, u32_at(bytes, 8)?);
        let body = &bytes[HEADER..length];
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received { kind, sequence, body })
    })
}

/// The attributes of a message or of a nested attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes behind a fixed header of `skip` bytes.
    pub(crate) fn behind(body: &'a [u8], skip: usize) -> Self {
        Self(body.get(skip..).unwrap_or_default())
    }

    /// All attributes, in the order sent.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut bytes = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(u16_at(bytes, 0)?);
            let kind = u16_at(bytes, 2)? & TYPE_MASK;
            let value = bytes.get(4..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        })
    }

    /// The first attribute of `kind`.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The attributes inside the first one of `kind`.
    pub(crate) fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self)
    }

    /// A number in host byte order.
    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    /// A big-endian number.
    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        self.u32(kind).map(u32::from_be)
    }

    /// A string without its final NUL; what is not UTF-8 is replaced.
    pub(crate) fn string(self, kind: u16) -> Option<String> {
        let value = self.get(kind)?;
        let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The number at `offset` in host byte order.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// The number at `offset` in host byte order.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_can_be_read() {
        let bytes = Message::new(16, 5, &[7; 8])
            .string(3, "eth0")
            .nest(18, |inner| inner.string(1, "veth").nest_behind(2, &[9; 16], |peer| peer.u32(4, 1400)))
            .be32(20, 0x0102_0304)
            .finish(42);
        assert_eq!(bytes.len() % 4, 0);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].sequence), (16, 42));
        let attributes = Attributes::behind(all[0].body, 8);
        assert_eq!(attributes.string(3).as_deref(), Some("eth0"));
        let info = attributes.nested(18).unwrap();
        assert_eq!(info.string(1).as_deref(), Some("veth"));
        assert_eq!(Attributes::behind(info.get(2).unwrap(), 16).u32(4), Some(1400));
        assert_eq!(attributes.be32(20), Some(0x0102_0304));
        assert_eq!(attributes.get(99), None);
    }

    #[test]
    fn what_is_cut_short_ends_the_walk() {
        let bytes = Message::new(16, 0, &[0; 8]).string(3, "eth0").finish(1);
        for length in 0..bytes.len() {
            assert_eq!(messages(&bytes[..length]).count(), 0, "{length}");
            let _ = Attributes::behind(&bytes[..length], HEADER + 8).iter().count();
        }
        assert_eq!(Attributes::behind(&[3, 0, 1, 0], 0).iter().count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}

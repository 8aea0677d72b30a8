//! The records of a PAX extended header: `<length> <key>=<value>\n`.

use super::Extent;
use crate::fs::{Timestamp, Xattrs};

/// What an extended header says about the entry behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: Sparse,
}

/// GNU's records about sparse files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// 1.0: the map stands before the data.
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// 0.0 and 0.1: the map stands here.
    pub(super) map: Vec<Extent>,
    /// Whether a map was given, empty or not.
    pub(super) mapped: bool,
    /// 0.0: an offset whose length has not come yet.
    pending: Option<u64>,
}

/// Reads all records; the name of the broken part as the error.
pub(super) fn parse(mut bytes: &[u8], max_extents: usize) -> Result<Pax, &'static str> {
    let mut pax = Pax::default();
    while !bytes.is_empty() {
        let blank = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or("extended record length")?;
        let length = decimal(&bytes[..blank]).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length > blank + 1 && *length <= bytes.len());
        let (record, rest) = bytes.split_at(length.ok_or("extended record length")?);
        let record = record[blank + 1..].strip_suffix(b"\n").ok_or("extended record end")?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or("extended record")?;
        pax.record(&record[..equals], &record[equals + 1..], max_extents)?;
        bytes = rest;
    }
    match pax.sparse.pending {
        None => Ok(pax),
        Some(_) => Err("sparse map"),
    }
}

/// Whether a global header has a record that would change what the entries behind it are. Readers disagree on
/// whether it holds for them.
pub(super) fn changes_meaning(pax: &Pax) -> bool {
    pax.path.is_some() || pax.link_target.is_some() || pax.size.is_some() || pax.sparse != Sparse::default()
}

impl Pax {
    fn record(&mut self, key: &[u8], value: &[u8], max_extents: usize) -> Result<(), &'static str> {
        // An empty value takes a record back (POSIX.1-2017, pax, "extended header").
        let number = |field| if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or(field) };
        let name = |field| match value {
            b"" => Ok(None),
            value if value.contains(&0) => Err(field),
            value => Ok(Some(value.to_vec())),
        };
        match key {
            b"path" => self.path = name("path")?,
            b"linkpath" => self.link_target = name("link target")?,
            b"size" => self.size = number("size")?,
            b"uid" => self.uid = number("owner")?,
            b"gid" => self.gid = number("group")?,
            b"mtime" => {
                self.mtime = if value.is_empty() { None } else { Some(time(value).ok_or("modification time")?) };
            }
            b"GNU.sparse.major" => self.sparse.major = number("sparse version")?,
            b"GNU.sparse.minor" => self.sparse.minor = number("sparse version")?,
            b"GNU.sparse.name" => self.sparse.name = name("sparse name")?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = number("sparse size")?,
            b"GNU.sparse.numblocks" => self.sparse.mapped = true,
            b"GNU.sparse.offset" => self.sparse.pending = number("sparse map")?,
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.pending.take().ok_or("sparse map")?;
                self.sparse.push(offset, decimal(value).ok_or("sparse map")?, max_extents)?;
            }
            b"GNU.sparse.map" => {
                self.sparse.mapped = true;
                self.sparse.map.clear();
                let mut numbers = value.split(|byte| *byte == b',').filter(|number| !number.is_empty());
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("sparse map")?;
                    let (offset, length) = (decimal(offset).ok_or("sparse map")?, decimal(length).ok_or("sparse map")?);
                    self.sparse.push(offset, length, max_extents)?;
                }
            }
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    if attribute.is_empty() || attribute.contains(&0) || attribute.len() > 255 {
                        return Err("extended attribute name");
                    }
                    self.xattrs.insert(attribute.to_vec(), value.to_vec());
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn push(&mut self, offset: u64, length: u64, max_extents: usize) -> Result<(), &'static str> {
        if self.map.len() >= max_extents {
            return Err("sparse map (too many pieces)");
        }
        self.mapped = true;
        self.map.push(Extent { offset, length });
        Ok(())
    }
}

/// A decimal number of digits only.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds with an optional fraction; digits beyond nanoseconds are cut off.
fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds =
        (0..9).fold(0, |value, place| value * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0')));
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds, nanoseconds) in
            [("0", 0, 0), ("1.5", 1, 500_000_000), ("-1.5", -2, 500_000_000), ("-5", -5, 0), ("7.0000000019", 7, 1)]
        {
            assert_eq!(time(text.as_bytes()), Some(Timestamp { seconds, nanoseconds }), "{text}");
        }
        for bad in ["", "x", "1.x", "1e3", "--1", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn records_are_strict() {
        let pax = parse(b"12 path=a/b\n29 SCHILY.xattr.user.a=b=\n\x00\x01\n", 10).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(pax.xattrs[&b"user.a"[..]], b"b=\n\x00\x01");
        // An empty value takes the record back.
        assert_eq!(parse(b"8 size=\n", 10), Ok(Pax::default()));
        for bad in [&b"12 path=a/b"[..], b"x path=a\n", b"99 path=a\n", b"3 a\n", b"8 path=a\n", b"11 path=a\0\n"] {
            assert!(parse(bad, 10).is_err(), "{bad:?}");
        }
    }
}

//! One 512-byte header block and its number fields.

use super::BLOCK;

/// A block that has passed its checksum.
#[derive(Debug, Clone)]
pub(super) struct Block(pub(super) [u8; BLOCK]);

/// Which dialect a block speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before 1988: no magic.
    V7,
    /// POSIX, with a prefix field.
    Ustar,
    /// Jörg Schilling's, with a shorter prefix.
    Star,
    /// GNU's old format: no prefix, but sparse maps.
    Gnu,
}

impl Block {
    /// Whether the checksum is right: of unsigned bytes, or of signed ones as some old programs wrote it.
    pub(super) fn checksum_ok(&self) -> bool {
        let Some(stated) = number(&self.0[148..156]).and_then(|stated| i64::try_from(stated).ok()) else {
            return false;
        };
        let bytes = || self.0.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        stated == unsigned || stated == signed
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub(super) fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") && &self.0[508..512] == b"tar\0" => Dialect::Star,
            magic if magic.starts_with(b"ustar") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(super) const fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The name field with its prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[0..100]);
        let prefix = match self.dialect() {
            Dialect::Ustar => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    pub(super) fn link_target(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn size(&self) -> Option<u64> {
        unsigned(&self.0[124..136])
    }

    pub(super) fn mode(&self) -> Option<u32> {
        // Some programs write the type bits of stat too.
        unsigned(&self.0[100..108]).map(|mode| u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Option<u64> {
        unsigned(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Option<u64> {
        unsigned(&self.0[116..124])
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148]).and_then(|time| i64::try_from(time).ok())
    }

    /// Major and minor number; zero where the dialect has none.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        if self.dialect() == Dialect::V7 {
            return Some((0, 0));
        }
        let field = |range: std::ops::Range<usize>| unsigned(&self.0[range]).and_then(|part| u32::try_from(part).ok());
        Some((field(329..337)?, field(337..345)?))
    }

    /// The real size of a GNU sparse file.
    pub(super) fn gnu_real_size(&self) -> Option<u64> {
        unsigned(&self.0[483..495])
    }

    /// The piece of a GNU sparse map at `at`; `None` inside says that the map ends.
    pub(super) fn gnu_sparse(&self, at: usize) -> Option<Option<(u64, u64)>> {
        sparse_pair(&self.0[at..at + 24])
    }
}

/// An offset and a length in 12 bytes each; an empty field ends the map.
pub(super) fn sparse_pair(bytes: &[u8]) -> Option<Option<(u64, u64)>> {
    if bytes[0] == 0 || bytes[12] == 0 {
        return Some(None);
    }
    Some(Some((unsigned(&bytes[..12])?, unsigned(&bytes[12..24])?)))
}

/// The bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn unsigned(field: &[u8]) -> Option<u64> {
    u64::try_from(number(field)?).ok()
}

/// A number field: octal digits within blanks and NULs, or GNU's base 256 (two's complement below a set top bit).
fn number(field: &[u8]) -> Option<i128> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let start = if first & 0x40 != 0 { -1 } else { i128::from(first & 0x3f) };
        // Twelve bytes at most: no overflow.
        return Some(field[1..].iter().fold(start, |value, byte| value << 8 | i128::from(*byte)));
    }
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = field[start..].split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'7' => Some(value << 3 | i128::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn number_fields() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfb", Some(-5)),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}

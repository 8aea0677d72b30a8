//! Symbolic modes of `--chmod`, as POSIX `chmod` has them with an empty umask.
//!
//! `X` is honoured after `=` too: the library that BuildKit uses ignores it there, which makes of its own documented
//! example `u=rwX,go=rX` directories that nobody can enter.

use lap_solver::graph::Mode;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// A mode that can be applied to any entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// These bits.
    Bits(u32),
    /// Changes one after another.
    Symbolic(Vec<Change>),
}

/// One `who op what`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The bits of the classes it is about.
    who: u32,
    operator: Operator,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Bits for every class, and whether `X` is among them.
    Bits { bits: u32, search: bool },
    /// The permissions that the class with this shift has.
    Like(u32),
}

/// The text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode {0:?}: it has to be like 0755 or u=rwX,go=rX")]
pub struct BadMode(pub String);

impl Chmod {
    /// # Errors
    /// Where a symbolic text is none.
    pub fn new(mode: &Mode) -> Result<Self, BadMode> {
        match mode {
            Mode::Bits(bits) => Ok(Self::Bits(bits & 0o7777)),
            Mode::Symbolic(text) => parse(text).map(Self::Symbolic).ok_or_else(|| BadMode(text.clone())),
        }
    }

    /// The bits that an entry with `mode` gets.
    #[must_use]
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Bits(bits) => *bits,
            Self::Symbolic(changes) => {
                let search = is_dir || mode & 0o111 != 0;
                changes.iter().fold(mode & 0o7777, |mode, change| change.apply(mode, search))
            }
        }
    }

    /// The bits of directories that are made on the way to the destination: only octal ones count.
    #[must_use]
    pub const fn for_parents(&self) -> Option<u32> {
        match self {
            Self::Bits(bits) => Some(*bits & 0o777),
            Self::Symbolic(_) => None,
        }
    }
}

impl Change {
    const fn apply(self, mode: u32, search: bool) -> u32 {
        let bits = match self.what {
            What::Bits { bits, search: x } => bits | if x && search { 0o111 } else { 0 },
            What::Like(shift) => {
                let class = (mode >> shift) & 0o7;
                class << 6 | class << 3 | class
            }
        } & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            // The sticky bit is only touched where it is named.
            Operator::Set => mode & !(self.who & !STICKY) | bits,
        }
    }
}

fn parse(text: &str) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    for clause in text.split(',') {
        let after = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let named = who(&clause[..clause.len() - after.len()]);
        let mut rest = after;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let operator = match rest.as_bytes()[0] {
                b'+' => Operator::Add,
                b'-' => Operator::Remove,
                b'=' => Operator::Set,
                _ => return None,
            };
            rest = &rest[1..];
            let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
            let (permissions, further) = rest.split_at(end);
            changes.push(Change { who: named, operator, what: what(permissions)? });
            rest = further;
        }
    }
    Some(changes)
}

/// Nobody named is everybody, and for the sticky bit a class that is more than the others.
fn who(classes: &str) -> u32 {
    let mask = classes.bytes().fold(0, |mask, class| {
        mask | match class {
            b'u' => SET_UID | STICKY | 0o700,
            b'g' => SET_GID | STICKY | 0o070,
            b'o' => 0o007,
            _ => 0o7777,
        }
    });
    if mask == 0 { 0o7777 } else { mask }
}

fn what(permissions: &str) -> Option<What> {
    match permissions {
        "u" => return Some(What::Like(6)),
        "g" => return Some(What::Like(3)),
        "o" => return Some(What::Like(0)),
        _ => {}
    }
    let (mut bits, mut search) = (0, false);
    for permission in permissions.bytes() {
        match permission {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= 0o111,
            b'X' => search = true,
            b's' => bits |= SET_UID | SET_GID,
            b't' => bits |= STICKY,
            _ => return None,
        }
    }
    Some(What::Bits { bits, search })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(text: &str, mode: u32, is_dir: bool) -> Option<u32> {
        Chmod::new(&Mode::Symbolic(text.into())).ok().map(|chmod| chmod.apply(mode, is_dir))
    }

    #[test]
    fn modes_apply_as_chmod_does() {
        for (text, mode, is_dir, want) in [
            ("u=rwX,go=rX", 0o644, false, 0o644),
            ("u=rwX,go=rX", 0o744, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("+x", 0o644, false, 0o755),
            ("a=r", 0o777, false, 0o444),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,o+s", 0o755, true, 0o2755),
            ("+s", 0o755, false, 0o6755),
            ("u=", 0o4777, false, 0o077),
            ("+t", 0o777, true, 0o1777),
            ("o+t", 0o777, true, 0o777),
            ("=rx", 0o1777, true, 0o1555),
            ("go=u-w", 0o750, false, 0o755),
            ("g=u,o=g", 0o740, false, 0o777),
            ("u-x+r", 0o300, false, 0o600),
            ("a-X", 0o755, false, 0o644),
        ] {
            assert_eq!(apply(text, mode, is_dir), Some(want), "{text} on {mode:o}");
        }
        for bad in ["", "u", "rwx", "u=rwz", "u+,", ",u+r", "u=ug", "0888", "u r"] {
            assert_eq!(apply(bad, 0o644, false), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn setting_is_idempotent_and_leaves_other_classes_alone(
            mode in 0u32..0o10000, who in "[ugo]{1,3}", bits in "[rwx]{0,3}", is_dir: bool,
        ) {
            let text = format!("{who}={bits}");
            let once = apply(&text, mode, is_dir).unwrap();
            prop_assert_eq!(apply(&text, once, is_dir), Some(once));
            for (class, mask) in [('u', 0o4700), ('g', 0o2070), ('o', 0o007)] {
                if !who.contains(class) {
                    prop_assert_eq!(once & mask, mode & mask);
                }
            }
        }

        #[test]
        fn adding_and_removing_are_opposites(mode in 0u32..0o10000, who in "[ugoa]{0,3}", bits in "[rwx]{1,3}", is_dir: bool) {
            let added = apply(&format!("{who}+{bits}"), mode, is_dir).unwrap();
            let removed = apply(&format!("{who}-{bits}"), mode, is_dir).unwrap();
            prop_assert_eq!(added & mode, mode);
            prop_assert_eq!(removed | mode, mode);
            prop_assert_eq!(apply(&format!("{who}-{bits}"), added, is_dir), Some(removed));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}", mode: u32, is_dir: bool) {
            let bits = apply(&text, mode, is_dir);
            prop_assert!(bits.is_none_or(|bits| bits <= 0o7777));
        }
    }
}

//! The patterns of `${x#p}` and `${x/p/r}`: `*`, `?` and letters, over all letters alike.

use super::Reason;

/// How much work a comparison may be: pieces of the pattern times bytes of the value.
const COST: usize = 1 << 28;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Glob(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Letter(char),
    One,
    Any,
}

impl Glob {
    /// Reads a pattern; the error is the letter that needs no escape.
    pub(super) fn new(pattern: &str) -> Result<Self, char> {
        let mut pieces = Vec::new();
        let mut letters = pattern.chars().peekable();
        while let Some(letter) = letters.next() {
            pieces.push(match letter {
                '*' if pieces.last() == Some(&Piece::Any) => continue,
                '*' => Piece::Any,
                '?' => Piece::One,
                // These two are escaped for the sake of `${}`, not of the pattern.
                '\\' if matches!(letters.peek(), Some('}' | '/')) => continue,
                '\\' => match letters.next() {
                    Some(escaped @ ('*' | '?' | '\\')) => Piece::Letter(escaped),
                    other => return Err(other.unwrap_or(char::REPLACEMENT_CHARACTER)),
                },
                letter => Piece::Letter(letter),
            });
        }
        Ok(Self(pieces))
    }

    /// The length of the shortest or longest start of `text` that matches.
    fn match_start(&self, text: impl Iterator<Item = char>, longest: bool) -> Option<usize> {
        let mut reached = vec![false; self.0.len() + 1];
        self.arrive(&mut reached, 0);
        let mut best = reached[self.0.len()].then_some(0);
        let mut length = 0;
        for letter in text {
            if best.is_some() && !longest {
                return best;
            }
            length += letter.len_utf8();
            reached = self.step(&reached, letter);
            if reached[self.0.len()] {
                best = Some(length);
            }
            if !reached.contains(&true) {
                break;
            }
        }
        best
    }

    /// The places reached after one more letter.
    fn step(&self, reached: &[bool], letter: char) -> Vec<bool> {
        let mut next = vec![false; self.0.len() + 1];
        for (at, piece) in self.0.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match piece {
                Piece::Letter(own) if *own != letter => {}
                Piece::Letter(_) | Piece::One => self.arrive(&mut next, at + 1),
                Piece::Any => self.arrive(&mut next, at),
            }
        }
        next
    }

    fn arrive(&self, reached: &mut [bool], mut at: usize) {
        reached[at] = true;
        while self.0.get(at) == Some(&Piece::Any) {
            at += 1;
            reached[at] = true;
        }
    }

    pub(super) fn trim_prefix<'a>(&self, value: &'a str, longest: bool) -> &'a str {
        self.match_start(value.chars(), longest).map_or(value, |length| &value[length..])
    }

    pub(super) fn trim_suffix<'a>(&self, value: &'a str, longest: bool) -> &'a str {
        let reversed = Self(self.0.iter().rev().copied().collect());
        reversed.match_start(value.chars().rev(), longest).map_or(value, |length| &value[..value.len() - length])
    }

    /// Whether comparing with `value` is worth what it costs; nobody writes patterns of that length.
    pub(super) fn afford(&self, value: &str) -> Result<(), Reason> {
        if self.0.len().saturating_mul(value.len()) > COST { Err(Reason::Cost) } else { Ok(()) }
    }

    /// Whether a match begins there, for each byte of `text` that begins a letter, and for its end.
    fn starts(&self, text: &str) -> Vec<bool> {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let all = reversed.0.len();
        let mut starts = vec![false; text.len() + 1];
        let mut reached = vec![false; all + 1];
        reversed.arrive(&mut reached, 0);
        starts[text.len()] = reached[all];
        for (at, letter) in text.char_indices().rev() {
            reached = reversed.step(&reached, letter);
            // A match may end anywhere.
            reversed.arrive(&mut reached, 0);
            starts[at] = reached[all];
        }
        starts
    }

    /// Replaces the first match, or every one from left to right, each as long as possible; none where the result
    /// would have more than `limit` bytes.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        // Known beforehand, so that a text without matches is not searched from each of its letters.
        let starts = self.starts(value);
        let mut out = String::new();
        let mut at = 0;
        let mut after_match = false;
        loop {
            if out.len() > limit {
                return None;
            }
            let found = starts[at].then(|| self.match_start(value[at..].chars(), true)).flatten();
            let found = found.filter(|length| *length > 0 || !after_match);
            if found.is_some() {
                out.push_str(replacement);
            }
            after_match = found.is_some_and(|length| length > 0);
            if found.is_some() && !all {
                at += found.unwrap_or(0);
                out.push_str(&value[at..]);
                return Some(out).filter(|out| out.len() <= limit);
            }
            if after_match {
                at += found.unwrap_or(0);
                continue;
            }
            let Some(letter) = value[at..].chars().next() else { return Some(out).filter(|out| out.len() <= limit) };
            out.push(letter);
            at += letter.len_utf8();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str) -> Glob {
        Glob::new(pattern).unwrap()
    }

    #[test]
    fn prefixes_and_suffixes_are_trimmed() {
        assert_eq!(glob("*/").trim_prefix("a/b/c", false), "b/c");
        assert_eq!(glob("*/").trim_prefix("a/b/c", true), "c");
        assert_eq!(glob("/*").trim_suffix("a/b/c", false), "a/b");
        assert_eq!(glob("/*").trim_suffix("a/b/c", true), "a");
        assert_eq!(glob("?").trim_prefix("éa", false), "a");
        assert_eq!(glob("x").trim_prefix("abc", false), "abc");
        assert_eq!(glob("\\*").trim_prefix("*b", false), "b");
        assert_eq!(Glob::new("\\a").unwrap_err(), 'a');
        assert!(glob("a").afford("b").is_ok());
        assert_eq!(glob(&"a".repeat(1 << 16)).afford(&"b".repeat(1 << 16)), Err(Reason::Cost));
    }

    #[test]
    fn matches_are_replaced() {
        assert_eq!(glob("a").replace("banana", "o", false, 100).as_deref(), Some("bonana"));
        assert_eq!(glob("a").replace("banana", "o", true, 100).as_deref(), Some("bonono"));
        assert_eq!(glob("a*n").replace("banana", "-", false, 100).as_deref(), Some("b-a"));
        assert_eq!(glob("*").replace("abc", "x", true, 100).as_deref(), Some("x"));
        assert_eq!(glob("").replace("ab", "-", true, 100).as_deref(), Some("-a-b-"));
        assert_eq!(glob("z").replace("ab", "-", true, 100).as_deref(), Some("ab"));
        assert_eq!(glob("a").replace("aaaa", "bbbb", true, 10), None);
        assert_eq!(glob("\\/").replace("a/b", "-", true, 100).as_deref(), Some("a-b"));
    }
}

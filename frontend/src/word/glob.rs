//! The patterns of `${x#p}` and `${x/p/r}`: `*`, `?` and letters, over all letters alike.

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
            let mut next = vec![false; self.0.len() + 1];
            for (at, piece) in self.0.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match piece {
                    Piece::Letter(own) if *own != letter => {}
                    Piece::Letter(_) | Piece::One => self.arrive(&mut next, at + 1),
                    Piece::Any => self.arrive(&mut next, at),
                }
            }
            reached = next;
            if reached[self.0.len()] {
                best = Some(length);
            }
            if !reached.contains(&true) {
                break;
            }
        }
        best
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

    /// Replaces the first match, or every one from left to right, each as long as possible.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let mut out = String::new();
        let mut at = 0;
        let mut after_match = false;
        loop {
            let found = self.match_start(value[at..].chars(), true).filter(|length| *length > 0 || !after_match);
            let step = value[at..].chars().next().map_or(0, char::len_utf8);
            match found {
                Some(length) => {
                    out.push_str(replacement);
                    if !all {
                        out.push_str(&value[at + length..]);
                        return out;
                    }
                    after_match = length > 0;
                    if length == 0 {
                        out.push_str(&value[at..at + step]);
                    }
                    at += length.max(step);
                    if length == 0 && step == 0 {
                        return out;
                    }
                }
                None => {
                    if step == 0 {
                        return out;
                    }
                    out.push_str(&value[at..at + step]);
                    at += step;
                    after_match = false;
                }
            }
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
    }

    #[test]
    fn matches_are_replaced() {
        assert_eq!(glob("a").replace("banana", "o", false), "bonana");
        assert_eq!(glob("a").replace("banana", "o", true), "bonono");
        assert_eq!(glob("a*n").replace("banana", "-", false), "b-a");
        assert_eq!(glob("*").replace("abc", "x", true), "x");
        assert_eq!(glob("").replace("ab", "-", true), "-a-b-");
        assert_eq!(glob("z").replace("ab", "-", true), "ab");
        assert_eq!(glob("\\/").replace("a/b", "-", true), "a-b");
    }
}

//! One pattern as a row of pieces, matched without backtracking.

use super::BadPattern;

/// A compiled pattern that must match a whole text.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    pieces: Vec<Piece>,
    /// How many letters it matches at least.
    least: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// This letter.
    Char(char),
    /// `?`: one letter but `/`.
    One,
    /// `*`: any number of letters but `/`.
    Run,
    /// Last `**`: anything.
    Any,
    /// `**/`: nothing, or anything that ends with `/`.
    Dirs,
    /// `[a-z]`.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// A pattern of `filepath.Match`.
    pub(super) fn name(text: &str) -> Result<Self, BadPattern> {
        Self::compile(text, false)
    }

    /// A pattern of patternmatcher, in which `**` crosses `/`.
    pub(super) fn path(text: &str) -> Result<Self, BadPattern> {
        Self::compile(text, true)
    }

    fn compile(text: &str, double_star: bool) -> Result<Self, BadPattern> {
        let bad = || BadPattern::Syntax(text.to_owned());
        let mut pieces = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(letter) = rest.next() {
            let piece = match letter {
                '*' if double_star && rest.next_if_eq(&'*').is_some() => {
                    let _slash = rest.next_if_eq(&'/');
                    if rest.peek().is_none() { Piece::Any } else { Piece::Dirs }
                }
                '*' => Piece::Run,
                '?' => Piece::One,
                '\\' => Piece::Char(rest.next().ok_or_else(bad)?),
                '[' => class(&mut rest).ok_or_else(bad)?,
                other => Piece::Char(other),
            };
            // Twice the same of these is the same as once.
            if !(matches!(piece, Piece::Run | Piece::Any | Piece::Dirs) && pieces.last() == Some(&piece)) {
                pieces.push(piece);
            }
        }
        let least = pieces.iter().filter(|piece| !matches!(piece, Piece::Run | Piece::Any | Piece::Dirs)).count();
        Ok(Self { pieces, least })
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        if text.chars().nth(self.least.saturating_sub(1)).is_none() && self.least > 0 {
            return false;
        }
        let mut now = Places::new(self.pieces.len());
        let mut next = Places::new(self.pieces.len());
        now.arrive(&self.pieces, 0);
        for letter in text.chars() {
            next.clear();
            for (at, piece) in self.pieces.iter().enumerate() {
                if now.at[at] {
                    match piece {
                        Piece::Char(own) if *own == letter => next.arrive(&self.pieces, at + 1),
                        Piece::One if letter != '/' => next.arrive(&self.pieces, at + 1),
                        Piece::Class { negated, ranges }
                            if ranges.iter().any(|(low, high)| (low..=high).contains(&&letter)) != *negated =>
                        {
                            next.arrive(&self.pieces, at + 1);
                        }
                        Piece::Run if letter != '/' => next.arrive(&self.pieces, at),
                        Piece::Any => next.arrive(&self.pieces, at),
                        _ => {}
                    }
                }
                if *piece == Piece::Dirs && (now.at[at] || now.inside[at]) {
                    next.inside[at] = true;
                    if letter == '/' {
                        next.arrive(&self.pieces, at + 1);
                    }
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        now.at[self.pieces.len()]
    }
}

/// The rest of a class after its `[`, up to its `]`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Piece> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Some(Piece::Class { negated, ranges });
        }
        let low = class_letter(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_letter(rest)? } else { low };
        ranges.push((low, high));
    }
}

fn class_letter(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        letter => Some(letter),
    }
}

/// The pieces that may come next: `at` before a piece, `inside` within a [`Piece::Dirs`] that has begun.
#[derive(Debug)]
struct Places {
    at: Vec<bool>,
    inside: Vec<bool>,
}

impl Places {
    fn new(pieces: usize) -> Self {
        Self { at: vec![false; pieces + 1], inside: vec![false; pieces + 1] }
    }

    fn clear(&mut self) {
        self.at.fill(false);
        self.inside.fill(false);
    }

    /// Reaches `at` and whatever follows pieces that may be empty.
    fn arrive(&mut self, pieces: &[Piece], mut at: usize) {
        while !self.at[at] {
            self.at[at] = true;
            if !matches!(pieces.get(at), Some(Piece::Run | Piece::Any | Piece::Dirs)) {
                return;
            }
            at += 1;
        }
    }
}

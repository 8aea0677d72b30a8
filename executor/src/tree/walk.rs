//! Which entries below a source a COPY takes: include and exclude patterns, asked from the top down.

use lap_solver::pattern::{BadPattern, MatchInfo, Matcher};

/// Include and exclude patterns of a COPY, for a walk from the top.
#[derive(Debug)]
pub struct Walk {
    include: Option<Matcher>,
    /// The include patterns as exceptions, which tell where they could match further down.
    reach: Option<Matcher>,
    exclude: Option<Matcher>,
}

/// What the patterns said of the directories above.
#[derive(Debug, Clone, Default)]
pub struct Matched {
    include: MatchInfo,
    exclude: MatchInfo,
}

/// What a walk does with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Take,
    /// A directory that is taken only if something below it is.
    Pass,
    /// Neither it nor anything below it is taken.
    Skip,
}

impl Walk {
    /// # Errors
    /// Where a pattern is malformed.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, BadPattern> {
        let matcher = |patterns: &[String]| {
            if patterns.is_empty() { Ok(None) } else { Matcher::new(patterns).map(Some) }
        };
        let reach: Vec<String> = include.iter().map(|pattern| format!("!{pattern}")).collect();
        Ok(Self { include: matcher(include)?, reach: matcher(&reach)?, exclude: matcher(exclude)? })
    }

    /// Whether there is no pattern.
    pub(super) const fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Judges the entry at `below`, its path below the source.
    #[must_use]
    pub fn judge(&self, below: &[u8], is_dir: bool, parent: &Matched) -> (Verdict, Matched) {
        if self.is_everything() {
            return (Verdict::Take, Matched::default());
        }
        let text = String::from_utf8_lossy(below);
        let (included, include) = match &self.include {
            Some(matcher) => matcher.matches_using_parents(&text, &parent.include),
            None => (true, MatchInfo::default()),
        };
        let (excluded, exclude) = match &self.exclude {
            Some(matcher) => matcher.matches_using_parents(&text, &parent.exclude),
            None => (false, MatchInfo::default()),
        };
        let could =
            |matcher: &Option<Matcher>| matcher.as_ref().is_some_and(|matcher| matcher.may_reinclude_below(&text));
        let verdict = match (included && !excluded, is_dir) {
            (true, _) => Verdict::Take,
            (false, false) => Verdict::Skip,
            (false, true) if excluded && !could(&self.exclude) => Verdict::Skip,
            (false, true) if !included && !could(&self.reach) => Verdict::Skip,
            (false, true) => Verdict::Pass,
        };
        (verdict, Matched { include, exclude })
    }
}

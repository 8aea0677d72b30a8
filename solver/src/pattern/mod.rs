//! Patterns over paths: Go's `filepath.Match`, and moby's `patternmatcher` (`.dockerignore`, `--exclude`).
//!
//! Matching never backtracks: a pattern is a row of pieces, and the set of rows reached moves along the path once.
//! Hostile patterns therefore cost their length times the path's, nothing worse.
//!
//! Where moby compiles to a regular expression and leaks its syntax (`^` as an anchor, `\d` as a class, `*` inside
//! brackets), the letters here mean themselves, as its documentation says.

mod glob;

use glob::Glob;

/// The text is no pattern: a bracket is not closed, a range is empty or an escape has nothing to escape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Go's `ErrBadPattern`.
    #[error("syntax error in pattern {0:?}")]
    Syntax(String),
    /// A lone `!`.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneExclusion,
}

/// Whether `name` matches the whole of `pattern` as in Go's `filepath.Match`: `*` and `?` do not cross `/`.
///
/// # Errors
/// Where `pattern` is none.
pub fn match_name(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    Ok(Glob::name(pattern)?.matches(name))
}

/// An ordered list of patterns of which the last one that matches decides; `!` takes back.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

/// What a directory's patterns matched, for the paths right below it. The default knows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatchInfo(Option<Vec<bool>>);

#[derive(Debug, Clone)]
struct Pattern {
    exclusion: bool,
    text: String,
    kind: Kind,
}

/// How a pattern is compared; the first three are what moby's matcher shortens `**` to.
#[derive(Debug, Clone)]
enum Kind {
    Exact,
    Prefix(String),
    Suffix(String),
    Glob(Glob),
}

impl Matcher {
    /// Reads patterns; blank ones are left out, the others are cleaned as paths.
    ///
    /// # Errors
    /// The first pattern that is none.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        let texts = patterns.iter().map(|pattern| pattern.as_ref().trim()).filter(|pattern| !pattern.is_empty());
        Ok(Self { patterns: texts.map(Pattern::new).collect::<Result<_, _>>()? })
    }

    /// The patterns, cleaned, from which the same list can be made again.
    #[must_use]
    pub fn patterns(&self) -> Vec<String> {
        let text = |pattern: &Pattern| format!("{}{}", if pattern.exclusion { "!" } else { "" }, pattern.text);
        self.patterns.iter().map(text).collect()
    }

    /// Whether there is no pattern at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether the slash-separated relative `path`, or a directory it is in, is matched.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let mut matched = false;
        for pattern in &self.patterns {
            if pattern.exclusion == matched && (pattern.matches(path) || parents(path).any(|dir| pattern.matches(dir)))
            {
                matched = !pattern.exclusion;
            }
        }
        matched
    }

    /// As [`Self::matches`], for a walk: `parent` is what the same call gave for the directory `path` is in (the
    /// default for the root of the walk), the second part of the answer is for what lies below `path`.
    #[must_use]
    pub fn matches_using_parents(&self, path: &str, parent: &MatchInfo) -> (bool, MatchInfo) {
        let known = parent.0.as_deref().filter(|known| known.len() == self.patterns.len());
        let mut matched = false;
        let mut info = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            let hit = known.is_some_and(|known| known[index])
                || pattern.matches(path)
                || (known.is_none() && parents(path).any(|dir| pattern.matches(dir)));
            info[index] = hit;
            if hit {
                matched = !pattern.exclusion;
            }
        }
        (matched, MatchInfo(Some(info)))
    }

    /// Whether a `!` pattern could match something below `dir`, so that an ignored `dir` must still be entered.
    #[must_use]
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.exclusion && pattern.may_match_below(dir))
    }
}

/// The directories a path is in, shortest first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).filter(|dir| !dir.is_empty())
}

impl Pattern {
    fn new(text: &str) -> Result<Self, BadPattern> {
        let cleaned = crate::path::clean(text);
        let (exclusion, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err(BadPattern::LoneExclusion),
            Some(rest) => (true, rest.to_owned()),
            None => (false, cleaned),
        };
        let kind = Kind::of(&text)?;
        Ok(Self { exclusion, text, kind })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Kind::Suffix(suffix) => path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path),
            Kind::Glob(glob) => glob.matches(path),
        }
    }

    fn may_match_below(&self, dir: &str) -> bool {
        let mut parts = self.text.split('/');
        for name in dir.split('/') {
            match parts.next() {
                None => return false,
                Some(part) if part.contains("**") => return true,
                Some(part) if !match_name(part, name).unwrap_or(true) => return false,
                Some(_) => {}
            }
        }
        parts.next().is_some()
    }
}

impl Kind {
    fn of(text: &str) -> Result<Self, BadPattern> {
        let glob = Glob::path(text)?;
        let inner = |part: &str| part.contains(['*', '?', '[', ']', '\\']);
        if !inner(text) {
            return Ok(Self::Exact);
        }
        if let Some(prefix) = text.strip_suffix("**")
            && !inner(prefix)
            && !prefix.is_empty()
        {
            return Ok(Self::Prefix(prefix.to_owned()));
        }
        if let Some(suffix) = text.strip_prefix("**")
            && !inner(suffix)
        {
            return Ok(Self::Suffix(suffix.to_owned()));
        }
        Ok(Self::Glob(glob))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, want) in [
            ("abc", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("ab[c]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("**", "a/b", false),
        ] {
            assert_eq!(match_name(pattern, name), Ok(want), "{pattern} {name}");
        }
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\"] {
            assert!(match_name(pattern, "a").is_err(), "{pattern}");
        }
    }

    #[test]
    fn lists_match_as_in_moby() {
        for (patterns, path, want) in [
            (&["**"][..], "file", true),
            (&["**/"], "dir/file", true),
            (&["dir/**"], "dir", false),
            (&["dir/**"], "dir/dir2/file", true),
            (&["**/dir2/**"], "dir/dir2/dir3/file", true),
            (&["**file"], "dir/file", true),
            (&["**/file"], "dir/xfile", false),
            (&["**/*.txt"], "file.txt", true),
            (&["a**/*.txt"], "a/dir/file.txt", true),
            (&["a/*.txt"], "a/dir/file.txt", false),
            (&["a"], "a/b/c", true),
            (&["a", "!a/b"], "a/b/c", false),
            (&["a", "!a/b", "a/b/c"], "a/b/c", true),
            (&["!a", "a"], "a/b", true),
            (&["*", "!*.md"], "README.md", false),
            (&[" a ", ""], "a", true),
            (&["a.b"], "axb", false),
        ] {
            let matcher = Matcher::new(patterns).unwrap();
            assert_eq!(matcher.matches(path), want, "{patterns:?} {path}");
        }
        assert_eq!(Matcher::new(&["!"]).unwrap_err(), BadPattern::LoneExclusion);
        assert!(Matcher::new(&["a["]).is_err());
    }

    #[test]
    fn ignored_directories_are_entered_only_for_exceptions_below() {
        let matcher = Matcher::new(&["*", "!a/b/*.c", "!x/**/y"]).unwrap();
        for (dir, want) in [("a", true), ("a/b", true), ("a/b/c.c", false), ("b", false), ("x/1/2/3", true)] {
            assert_eq!(matcher.may_reinclude_below(dir), want, "{dir}");
        }
    }

    #[test]
    fn hostile_patterns_are_no_slower_than_others() {
        let pattern = "*a".repeat(400) + "/**/" + &"**/a".repeat(100);
        let _slow = Matcher::new(&[pattern.as_str()]).unwrap().matches(&"a".repeat(4000));
        let long = ["a?".repeat(1 << 19), "**/".repeat(1 << 18), "*".repeat(1 << 20)];
        assert!(Matcher::new(&long[..1]).is_ok_and(|matcher| !matcher.matches(&"a".repeat(4000))));
        assert!(Matcher::new(&long).unwrap().matches(&"a/".repeat(2000)));
    }

    proptest! {
        #[test]
        fn walking_and_asking_agree(patterns in prop::collection::vec("!?[ab*/?]{1,6}", 0..5), path in "[ab]/[ab]{1,2}/[abc]/[ab]") {
            let Ok(matcher) = Matcher::new(&patterns) else { return Ok(()) };
            let mut info = MatchInfo::default();
            for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
                let (matched, below) = matcher.matches_using_parents(&path[..at], &info);
                prop_assert_eq!(matched, matcher.matches(&path[..at]), "{:?} {}", patterns, &path[..at]);
                info = below;
            }
        }

        #[test]
        fn nothing_panics(pattern in "\\PC{0,12}", path in "\\PC{0,12}") {
            let _name = match_name(&pattern, &path);
            let _list = Matcher::new(&[&pattern]).map(|matcher| matcher.matches(&path));
        }
    }
}

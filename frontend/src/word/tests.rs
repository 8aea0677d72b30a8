use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

impl Lookup for BTreeMap<&str, &str> {
    fn get(&self, name: &str) -> Option<&str> {
        Self::get(self, name).copied()
    }
}

fn variables() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("HOME", "/root"), ("EMPTY", ""), ("P", "a/b/c.tar.gz"), ("SPACES", " x  y ")])
}

#[test]
fn words_expand() {
    for (word, want) in [
        ("plain", "plain"),
        ("$HOME/x", "/root/x"),
        ("${HOME}x", "/rootx"),
        ("\\$HOME", "$HOME"),
        ("'$HOME'", "$HOME"),
        ("\"$HOME\\n\\\"\"", "/root\\n\""),
        ("$NONE.", "."),
        ("$", "$"),
        ("$.", "$."),
        ("a\\ b", "a b"),
        ("${NONE:-$HOME}", "/root"),
        ("${NONE:-${EMPTY:-x}}", "x"),
        ("${EMPTY-x}", ""),
        ("${EMPTY:-x}", "x"),
        ("${HOME+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${HOME:?no}", "/root"),
        ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "a/b/c.tar"),
        ("${P%%.*}", "a/b/c"),
        ("${P/b/x}", "a/x/c.tar.gz"),
        ("${P//\\//-}", "a-b-c.tar.gz"),
        ("$1a$@b$$c", "abc"),
        ("end\\", "end"),
    ] {
        assert_eq!(Lexer::new('\\').expand(word, &variables()).unwrap().text, want, "{word}");
    }
}

#[test]
fn words_split_at_unquoted_spaces() {
    let split = |word: &str| Lexer::new('\\').expand(word, &variables()).unwrap().words;
    assert_eq!(split("a $SPACES 'b c'"), ["a", "x", "y", "b c"]);
    assert_eq!(split("a\\ b  c"), ["a b", "c"]);
}

#[test]
fn faults_are_named() {
    for (word, want) in [
        ("'a", "failed to process \"'a\": unexpected end of statement while looking for matching single-quote"),
        ("\"a", "failed to process \"\\\"a\": unexpected end of statement while looking for matching double-quote"),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        ("${HOME:-", "failed to process \"${HOME:-\": syntax error: missing '}'"),
        ("${}", "failed to process \"${}\": syntax error: bad substitution"),
        ("${HOME^}", "failed to process \"${HOME^}\": unsupported modifier (^) in substitution"),
        ("${HOME:#x}", "failed to process \"${HOME:#x}\": unsupported modifier (:#) in substitution"),
        ("${NONE:?}", "failed to process \"${NONE:?}\": NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "failed to process \"${EMPTY:?}\": EMPTY: is not allowed to be empty"),
        ("${NONE?gone}", "failed to process \"${NONE?gone}\": NONE: gone"),
    ] {
        assert_eq!(Lexer::new('\\').expand(word, &variables()).unwrap_err().to_string(), want);
    }
}

#[test]
fn nesting_ends_somewhere() {
    let word = "${a:-".repeat(100_000);
    assert!(Lexer::new('\\').expand(&word, &Empty).is_err());
}

#[test]
fn unset_variables_can_stay() {
    let lexer = Lexer { keep_unset: true, raw_quotes: true, ..Lexer::new('\\') };
    assert_eq!(lexer.expand("'$A' $B ${C} ${D:-x} $HOME", &variables()).unwrap().text, "'$A' $B ${C} ${D:-x} /root");
}

#[test]
fn what_was_asked_for_is_told() {
    let expanded = Lexer::new('\\').expand("$HOME ${X:-$Y}", &variables()).unwrap();
    assert_eq!(expanded.matched, BTreeSet::from(["HOME".to_owned()]));
    assert_eq!(expanded.unmatched, BTreeSet::from(["X".to_owned(), "Y".to_owned()]));
}

proptest! {
    #[test]
    fn nothing_panics(word in "[a${}:?#%/\\\\'\" *<-]{0,24}") {
        let _unused = Lexer::new('\\').expand(&word, &variables());
    }
}

//! Expansion against a reference: it reads a word into a tree first and evaluates that, patterns as regular expressions.

use std::collections::BTreeMap;

use lap_frontend::word::{Lexer, Lookup};
use proptest::prelude::*;
use regex::Regex;

use crate::cases;

#[derive(Debug, Clone)]
struct Environment(BTreeMap<String, String>);

impl Lookup for Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A part of a word.
#[derive(Debug)]
enum Part {
    Text(String),
    Variable(String),
    /// `-`, `+` or `?`; whether an empty value counts as none.
    Test {
        name: String,
        operator: char,
        or_empty: bool,
        word: Vec<Self>,
    },
    /// `#` or `%`; twice for the longest.
    Trim {
        name: String,
        operator: char,
        pattern: Vec<Self>,
    },
    Replace {
        name: String,
        all: bool,
        pattern: Vec<Self>,
        by: Vec<Self>,
    },
}

/// What is wrong; the reference only says that something is.
#[derive(Debug, PartialEq, Eq)]
struct Wrong;

struct Reader {
    text: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.text.get(self.at - 1).copied()
    }

    fn take_while(&mut self, holds: impl Fn(char) -> bool) -> String {
        let mut out = String::new();
        while let Some(letter) = self.peek().filter(|letter| holds(*letter)) {
            out.push(letter);
            self.at += 1;
        }
        out
    }

    /// Parts up to `end`, which is read too. In patterns, escapes stay for whoever reads the pattern.
    fn parts(&mut self, end: Option<char>, pattern: bool) -> Result<Vec<Part>, Wrong> {
        let mut parts = Vec::new();
        loop {
            match self.next() {
                None => return if end.is_none() { Ok(parts) } else { Err(Wrong) },
                letter if letter == end => return Ok(parts),
                Some('$') => parts.push(self.dollar()?),
                Some('\'') => {
                    parts.push(Part::Text(self.take_while(|letter| letter != '\'')));
                    self.next().ok_or(Wrong)?;
                }
                Some('"') => self.double(&mut parts, pattern)?,
                Some('\\') => {
                    let escaped = self.next();
                    let kept = pattern.then_some('\\');
                    parts.push(Part::Text(kept.into_iter().chain(escaped).collect()));
                }
                Some(letter) => parts.push(Part::Text(letter.to_string())),
            }
        }
    }

    /// Within double quotes only `"`, `$` and `\` can be escaped.
    fn double(&mut self, parts: &mut Vec<Part>, pattern: bool) -> Result<(), Wrong> {
        loop {
            match self.next() {
                None => return Err(Wrong),
                Some('"') => return Ok(()),
                Some('$') => parts.push(self.dollar()?),
                Some('\\') => {
                    let escapes = self.peek().is_none_or(|letter| matches!(letter, '"' | '$' | '\\'));
                    let kept = if pattern { "\\" } else { "" };
                    let own = if escapes { String::new() } else { "\\".to_owned() };
                    let escaped = if escapes { self.next() } else { None };
                    parts.push(Part::Text(kept.to_owned() + &own + &escaped.map(String::from).unwrap_or_default()));
                }
                Some(letter) => parts.push(Part::Text(letter.to_string())),
            }
        }
    }

    fn name(&mut self) -> String {
        match self.peek() {
            Some(letter) if letter.is_numeric() => self.take_while(char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.next().into_iter().collect(),
            _ => self.take_while(|letter| letter.is_alphanumeric() || letter == '_'),
        }
    }

    fn dollar(&mut self) -> Result<Part, Wrong> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { Part::Text("$".to_owned()) } else { Part::Variable(name) });
        }
        self.at += 1;
        if matches!(self.peek(), None | Some('{' | '}' | ':')) {
            return Err(Wrong);
        }
        let name = self.name();
        match (self.next(), self.peek()) {
            (Some('}'), _) => Ok(Part::Variable(name)),
            (Some(operator @ ('-' | '+' | '?')), _) => {
                Ok(Part::Test { name, operator, or_empty: false, word: self.parts(Some('}'), false)? })
            }
            (Some(':'), Some(operator @ ('-' | '+' | '?'))) => {
                self.at += 1;
                Ok(Part::Test { name, operator, or_empty: true, word: self.parts(Some('}'), false)? })
            }
            (Some(operator @ ('#' | '%')), _) => {
                Ok(Part::Trim { name, operator, pattern: self.parts(Some('}'), true)? })
            }
            (Some('/'), next) => {
                let all = next == Some('/');
                self.at += usize::from(all);
                let pattern = self.parts(Some('/'), true)?;
                Ok(Part::Replace { name, all, pattern, by: self.parts(Some('}'), true)? })
            }
            _ => Err(Wrong),
        }
    }
}

fn evaluate(parts: &[Part], environment: &Environment) -> Result<String, Wrong> {
    parts.iter().map(|part| value(part, environment)).collect()
}

fn value(part: &Part, environment: &Environment) -> Result<String, Wrong> {
    let of = |name: &String| environment.0.get(name).cloned();
    match part {
        Part::Text(text) => Ok(text.clone()),
        Part::Variable(name) => Ok(of(name).unwrap_or_default()),
        Part::Test { name, operator, or_empty, word } => {
            // The word is read before anything is decided, mistakes in it included.
            let word = evaluate(word, environment)?;
            match (operator, of(name).filter(|value| !(*or_empty && value.is_empty()))) {
                ('-', Some(value)) | ('?', Some(value)) => Ok(value),
                ('-', None) | ('+', Some(_)) => Ok(word),
                ('+', None) => Ok(String::new()),
                _ => Err(Wrong),
            }
        }
        Part::Trim { name, operator, pattern } => {
            let pattern = evaluate(pattern, environment)?;
            let (longest, pattern) = match pattern.strip_prefix(*operator) {
                Some(rest) => (true, rest),
                None => (false, pattern.as_str()),
            };
            let value = of(name).unwrap_or_default();
            let pattern = translated(pattern, true)?;
            let whole = Regex::new(&format!("^(?s:{pattern})$")).unwrap();
            // Every cut is tried, from the shortest or from the longest.
            let mut cuts: Vec<usize> = (0..=value.len()).filter(|at| value.is_char_boundary(*at)).collect();
            if (*operator == '#') == longest {
                cuts.reverse();
            }
            let matches = |cut: &usize| whole.is_match(if *operator == '#' { &value[..*cut] } else { &value[*cut..] });
            Ok(match cuts.iter().find(|cut| matches(cut)) {
                Some(cut) if *operator == '#' => value[*cut..].to_owned(),
                Some(cut) => value[..*cut].to_owned(),
                None => value,
            })
        }
        Part::Replace { name, all, pattern, by } => {
            let (pattern, by) = (evaluate(pattern, environment)?, evaluate(by, environment)?);
            let regex = Regex::new(&format!("(?s:{})", translated(&pattern, true)?)).unwrap();
            let by = regex::NoExpand(&by);
            let value = of(name).unwrap_or_default();
            Ok(if *all { regex.replace_all(&value, by) } else { regex.replacen(&value, 1, by) }.into_owned())
        }
    }
}

/// A pattern as a regular expression.
fn translated(pattern: &str, greedy: bool) -> Result<String, Wrong> {
    let mut out = String::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => out.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            '\\' => match letters.peek() {
                Some('}' | '/') => {}
                Some('*' | '?' | '\\') => out.push_str(&regex::escape(&letters.next().unwrap().to_string())),
                _ => return Err(Wrong),
            },
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    Ok(out)
}

fn reference(word: &str, environment: &Environment) -> Result<String, Wrong> {
    // The reference knows nothing of heredocs, whose operator only matters for splitting.
    evaluate(&Reader { text: word.chars().collect(), at: 0 }.parts(None, false)?, environment)
}

fn environments() -> impl Strategy<Value = Environment> {
    let value = "[ab/.* \\\\$é}]{0,6}";
    (prop::option::of(value), prop::option::of(value), Just("")).prop_map(|(one, two, three)| {
        let pairs = [("a", one), ("b_1", two), ("é", Some(three.to_owned()))];
        let set = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Environment(set.collect())
    })
}

/// Words as people write them, one in another.
fn words() -> impl Strategy<Value = String> {
    let name = prop_oneof![4 => Just("a"), 4 => Just("b_1"), 1 => Just("é"), 2 => Just("none"), 1 => Just("1"), 1 => Just("@")];
    let plain = prop_oneof!["[ab.]{1,3}", "\\\\[$\"'\\\\ab}/*?]", "'[ab$}\\\\/]{0,3}'", "[*?/ ]"];
    let leaf = prop_oneof![
        plain,
        name.clone().prop_map(|name| format!("${name}")),
        name.clone().prop_map(|name| format!("${{{name}}}"))
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let many = prop::collection::vec(inner, 0..3).prop_map(|parts| parts.concat());
        let operator = prop::sample::select(vec!["-", ":-", "+", ":+", "?", ":?", "#", "##", "%", "%%", "^", ":#"]);
        prop_oneof![
            many.clone(),
            many.clone().prop_map(|inner| format!("\"{inner}\"")),
            (name.clone(), operator, many.clone()).prop_map(|(name, op, inner)| format!("${{{name}{op}{inner}}}")),
            (name.clone(), prop::bool::ANY, many.clone(), many)
                .prop_map(|(name, all, one, two)| { format!("${{{name}/{}{one}/{two}}}", if all { "/" } else { "" }) }),
        ]
    })
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn words_mean_what_the_reference_says(word in words(), environment in environments()) {
        let own = Lexer::new('\\').expand(&word, &environment).map(|expanded| expanded.text).map_err(|_| Wrong);
        prop_assert_eq!(own, reference(&word, &environment), "{} with {:?}", word, environment);
    }

    #[test]
    fn noise_means_what_the_reference_says(word in "[ab$${}{}:?#%/\\\\'\" *é1-]{0,14}", environment in environments()) {
        let own = Lexer::new('\\').expand(&word, &environment).map(|expanded| expanded.text).map_err(|_| Wrong);
        prop_assert_eq!(own, reference(&word, &environment), "{} with {:?}", word, environment);
    }
}

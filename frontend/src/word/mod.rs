//! Words: quotes, escapes and variables, as a Dockerfile expands them.
//!
//! This is the shell's language reduced to what Dockerfiles know: `$x`, `${x}`, the operators `-` `+` `?` (with and
//! without `:`), `#` `##` `%` `%%`, `/` and `//`, single and double quotes, one escape letter. Nested substitutions
//! are followed to a fixed depth, so that no text can exhaust the stack.

mod glob;

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use crate::go;

/// How deep `${a:-${b:-…}}` may nest.
const DEPTH: u32 = 100;

/// How many bytes the variables of one word may add: values of values double with each line.
const GROWTH: usize = 1 << 20;

/// Where variables come from.
pub trait Lookup {
    /// The value of a variable; none where it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable is set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Empty;

impl Lookup for Empty {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {reason}", go::quote(&shortened(word)))]
pub struct WordError {
    word: String,
    reason: Reason,
}

/// A word as errors show it.
fn shortened(word: &str) -> String {
    const MOST: usize = 200;
    match word.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &word[..end]),
        None => word.to_owned(),
    }
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    #[error("syntax error: missing '{0}'")]
    Missing(&'static str),
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    #[error("{name}: {message}")]
    Unset { name: String, message: String },
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{letter}'")]
    Escape { pattern: String, letter: char },
    #[error("substitutions are nested more than {DEPTH} deep")]
    Depth,
    #[error("the values of its variables take more than {} MiB", GROWTH >> 20)]
    Growth,
    #[error("the value and the pattern are too long to be compared")]
    Cost,
}

/// An expanded word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole, spaces kept.
    pub text: String,
    /// Split at unquoted spaces.
    pub words: Vec<String>,
    /// Variables that were set.
    pub matched: BTreeSet<String>,
    /// Variables that were not.
    pub unmatched: BTreeSet<String>,
}

/// How to read words.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// The escape letter (`\` or a backtick).
    pub escape: char,
    /// Whether quotes stay in the result.
    pub raw_quotes: bool,
    /// Whether escape letters stay in the result.
    pub raw_escapes: bool,
    /// Whether quotes are letters like any other (heredoc bodies).
    pub plain_quotes: bool,
    /// Whether variables that are not set stay as written.
    pub keep_unset: bool,
}

impl Lexer {
    /// The reading of instruction arguments.
    #[must_use]
    pub const fn new(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, plain_quotes: false, keep_unset: false }
    }

    /// Expands `word`.
    ///
    /// # Errors
    /// Quotes and braces that do not close, unknown operators, `${x:?}` of what is not set.
    pub fn expand(&self, word: &str, variables: &dyn Lookup) -> Result<Expanded, WordError> {
        let mut scan = Scan {
            lexer: *self,
            rest: word.chars().peekable(),
            variables,
            depth: 0,
            grown: 0,
            seen: Expanded::default(),
        };
        let (text, words) =
            scan.until(None, self.raw_escapes).map_err(|reason| WordError { word: word.to_owned(), reason })?;
        Ok(Expanded { text, words, ..scan.seen })
    }
}

/// Text split into words while it grows.
#[derive(Debug, Default)]
struct Words {
    current: String,
    done: Vec<String>,
}

impl Words {
    /// A letter that splits where it is a space.
    fn letter(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.current.push(letter);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Scan<'a> {
    lexer: Lexer,
    rest: Peekable<Chars<'a>>,
    variables: &'a dyn Lookup,
    depth: u32,
    /// Bytes that came from variables.
    grown: usize,
    seen: Expanded,
}

impl Scan<'_> {
    /// Reads up to `stop` (or the end), and past it.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), Reason> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(&letter) = self.rest.peek() {
            if Some(letter) == stop {
                self.rest.next();
                return Ok((text, words.finish()));
            }
            match letter {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|letter| words.letter(letter));
                    text.push_str(&value);
                }
                '<' => {
                    let operator = self.possible_heredoc();
                    words.current.push_str(&operator);
                    text.push_str(&operator);
                }
                '\'' | '"' if !self.lexer.plain_quotes => {
                    let quoted = if letter == '"' { self.double_quote(raw_escapes)? } else { self.single_quote()? };
                    words.current.push_str(&quoted);
                    text.push_str(&quoted);
                }
                letter => {
                    self.rest.next();
                    if letter != self.lexer.escape {
                        words.letter(letter);
                        text.push(letter);
                        continue;
                    }
                    if raw_escapes {
                        words.current.push(letter);
                        text.push(letter);
                    }
                    if let Some(escaped) = self.rest.next() {
                        words.current.push(escaped);
                        text.push(escaped);
                    }
                }
            }
        }
        match stop {
            Some('}') => Err(Reason::Missing("}")),
            Some(_) => Err(Reason::MissingSlash),
            None => Ok((text, words.finish())),
        }
    }

    /// `<<` and the spaces after it belong to the word of a heredoc.
    fn possible_heredoc(&mut self) -> String {
        self.rest.next();
        if self.rest.next_if_eq(&'<').is_none() {
            return "<".to_owned();
        }
        let mut operator = "<<".to_owned();
        while let Some(space) = self.rest.next_if(|letter| matches!(letter, '\t' | '\r' | ' ')) {
            operator.push(space);
        }
        operator
    }

    fn single_quote(&mut self) -> Result<String, Reason> {
        let mut text = String::new();
        let quote = self.rest.next().filter(|_| self.lexer.raw_quotes);
        text.extend(quote);
        loop {
            match self.rest.next() {
                None => return Err(Reason::Unclosed("single-quote")),
                Some('\'') => {
                    text.extend(quote);
                    return Ok(text);
                }
                Some(letter) => text.push(letter),
            }
        }
    }

    fn double_quote(&mut self, raw_escapes: bool) -> Result<String, Reason> {
        let mut text = String::new();
        let quote = self.rest.next().filter(|_| self.lexer.raw_quotes);
        text.extend(quote);
        loop {
            match self.rest.peek().copied() {
                None => return Err(Reason::Unclosed("double-quote")),
                Some('"') => {
                    self.rest.next();
                    text.extend(quote);
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(letter) => {
                    self.rest.next();
                    if letter != self.lexer.escape {
                        text.push(letter);
                        continue;
                    }
                    if raw_escapes {
                        text.push(letter);
                    }
                    match self.rest.peek().copied() {
                        None => {}
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == self.lexer.escape => {
                            self.rest.next();
                            text.push(escaped);
                        }
                        // Any other letter keeps its escape.
                        Some(_) => text.push(letter),
                    }
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, Reason> {
        if self.depth >= DEPTH {
            return Err(Reason::Depth);
        }
        self.depth += 1;
        self.rest.next();
        let value = if self.rest.next_if_eq(&'{').is_some() { self.braces() } else { Ok(self.plain()) };
        self.depth -= 1;
        self.grown += value.as_ref().map_or(0, String::len);
        if self.grown > GROWTH { Err(Reason::Growth) } else { value }
    }

    /// `$x`
    fn plain(&mut self) -> String {
        let name = self.name();
        if name.is_empty() {
            return "$".to_owned();
        }
        match self.value(&name) {
            None if self.lexer.keep_unset => format!("${name}"),
            value => value.unwrap_or_default(),
        }
    }

    /// `${…}`, after the brace.
    fn braces(&mut self) -> Result<String, Reason> {
        match self.rest.peek() {
            None => return Err(Reason::Missing("}")),
            Some('{' | '}' | ':') => return Err(Reason::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mut operator) = self.rest.next() else { return Err(Reason::Modifier(String::new())) };
        match operator {
            '}' => {
                return Ok(match self.value(&name) {
                    None if self.lexer.keep_unset => format!("${{{name}}}"),
                    value => value.unwrap_or_default(),
                });
            }
            '/' => return self.replacement(&name),
            _ => {}
        }
        let mut written = operator.to_string();
        let empty_is_unset = operator == ':';
        if empty_is_unset {
            operator = self.rest.next().ok_or_else(|| Reason::Modifier(written.clone()))?;
            written.push(operator);
        }
        let trims = matches!(operator, '#' | '%');
        let tests = matches!(operator, '-' | '+' | '?');
        if !tests && (!trims || empty_is_unset) {
            return Err(Reason::Modifier(written));
        }
        let (word, _) = self.until(Some('}'), trims)?;
        let value = self.value(&name);
        if self.lexer.keep_unset && value.is_none() {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let usable = value.as_ref().is_some_and(|value| !(empty_is_unset && value.is_empty()));
        match operator {
            '-' => Ok(if usable { value.unwrap_or_default() } else { word }),
            '+' => Ok(if usable { word } else { String::new() }),
            '?' if usable => Ok(value.unwrap_or_default()),
            '?' => {
                let state = if value.is_none() { "unset" } else { "empty" };
                let message = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                Err(Reason::Unset { name, message })
            }
            operator => trim(operator, &word, &value.unwrap_or_default()),
        }
    }

    /// `${x/pattern/replacement}` and `${x//pattern/replacement}`, after the first slash.
    fn replacement(&mut self, name: &str) -> Result<String, Reason> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let (pattern, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.value(name);
        if self.lexer.keep_unset && value.is_none() {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let glob = glob::Glob::new(&pattern).map_err(|letter| Reason::Escape { pattern, letter })?;
        let value = value.unwrap_or_default();
        glob.afford(&value)?;
        glob.replace(&value, &replacement, all, GROWTH).ok_or(Reason::Growth)
    }

    /// A name: digits, one special parameter, or letters, digits and underscores.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let digit = |letter: &char| letter.is_numeric();
        match self.rest.peek() {
            Some(letter) if letter.is_numeric() => {
                while let Some(letter) = self.rest.next_if(digit) {
                    name.push(letter);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.rest.next());
                return name;
            }
            _ => {}
        }
        while let Some(letter) = self.rest.next_if(|letter| letter.is_alphanumeric() || *letter == '_') {
            name.push(letter);
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).map(str::to_owned);
        let seen = if value.is_some() { &mut self.seen.matched } else { &mut self.seen.unmatched };
        seen.insert(name.to_owned());
        value
    }
}

/// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`; a doubled operator is the first letter of `word`.
fn trim(operator: char, word: &str, value: &str) -> Result<String, Reason> {
    let (longest, pattern) = word.strip_prefix(operator).map_or((false, word), |rest| (true, rest));
    let glob = glob::Glob::new(pattern).map_err(|letter| Reason::Escape { pattern: pattern.to_owned(), letter })?;
    glob.afford(value)?;
    Ok(if operator == '#' { glob.trim_prefix(value, longest) } else { glob.trim_suffix(value, longest) }.to_owned())
}

#[cfg(test)]
mod tests;

//! One logical line to keyword, flags and arguments, before anything is known of their meaning.

use std::ops::Range;

use crate::diagnostic::Fault;

/// A word and where it stands in the logical line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// A line taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) keyword: Word,
    pub(super) flags: Vec<Word>,
    /// The arguments as one text.
    pub(super) rest: Word,
}

/// Arguments of an instruction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) words: Vec<Word>,
    /// Whether they were a JSON array.
    pub(super) json: bool,
}

/// The blanks that separate words of an instruction.
const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Takes `line` apart; `base` is where it stands in its logical line.
pub(super) fn parts(line: &str, base: usize, escape: char) -> Parts {
    let (start, trimmed) = trim(line, base);
    let end = trimmed.find(BLANKS).unwrap_or(trimmed.len());
    let keyword = word(&trimmed[..end], start);
    let after = trimmed[end..].trim_start_matches(BLANKS);
    let after_start = start + trimmed.len() - after.len();
    let (flags, used) = flags(after, after_start, escape);
    let (rest_start, rest) = trim(&after[used..], after_start + used);
    Parts { keyword, flags, rest: word(rest, rest_start) }
}

fn word(text: &str, start: usize) -> Word {
    Word { text: text.to_owned(), range: start..start + text.len() }
}

fn trim(text: &str, base: usize) -> (usize, &str) {
    let left = text.trim_start();
    (base + text.len() - left.len(), left.trim_end())
}

/// Leading words that begin with `--`, without their quotes and escapes, and how many bytes they take.
fn flags(text: &str, base: usize, escape: char) -> (Vec<Word>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, at);
        }
        let (flag, length) = flag(&text[at..], escape);
        let range = base + at..base + at + length;
        at += length;
        if flag == "--" {
            return (flags, at);
        }
        flags.push(Word { text: flag, range });
    }
}

/// The word at the start of `text`, and its length there.
fn flag(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (_, letter) if letter == escape => word.extend(letters.next().map(|(_, escaped)| escaped)),
            (Some(_), letter) => word.push(letter),
            (None, '\'' | '"') => quote = Some(letter),
            (None, letter) if letter.is_whitespace() => return (word, at),
            (None, letter) => word.push(letter),
        }
    }
    (word, text.len())
}

/// The whole as one word.
pub(super) fn whole(rest: &Word) -> Arguments {
    let words = if rest.text.is_empty() { Vec::new() } else { vec![rest.clone()] };
    Arguments { words, json: false }
}

/// Words between blanks.
pub(super) fn blanks(rest: &Word) -> Arguments {
    let mut words = Vec::new();
    let mut at = 0;
    for part in rest.text.split(BLANKS) {
        if !part.is_empty() {
            words.push(word(part, rest.range.start + at));
        }
        // Each of the blanks is one byte.
        at += part.len() + 1;
    }
    Arguments { words, json: false }
}

/// A JSON array of strings, or else what `otherwise` makes of it.
pub(super) fn json_or(rest: &Word, otherwise: impl Fn(&Word) -> Arguments) -> Result<Arguments, Fault> {
    if !rest.text.starts_with('[') {
        return Ok(otherwise(rest));
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(&rest.text) else { return Ok(otherwise(rest)) };
    let mut words = Vec::new();
    for value in values {
        let serde_json::Value::String(text) = value else {
            let fault = Fault::new("when using JSON array syntax, arrays must be comprised of strings only");
            return Err(fault.hint(Some("put double quotes around each of them".to_owned())));
        };
        words.push(Word { text, range: rest.range.clone() });
    }
    Ok(Arguments { words, json: true })
}

/// Words that keep their quotes and escapes, split at unquoted spaces.
pub(super) fn quoted(rest: &Word, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut current: Option<Word> = None;
    let mut quote = None;
    let mut letters = rest.text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let at = rest.range.start + at;
        if quote.is_none() && letter.is_whitespace() {
            words.extend(current.take());
            continue;
        }
        let word = current.get_or_insert_with(|| Word { text: String::new(), range: at..at });
        if letter == escape && quote != Some('\'') {
            // An escape letter at the very end is dropped.
            if let Some((_, escaped)) = letters.next() {
                word.text.extend([letter, escaped]);
            }
        } else {
            match quote {
                Some(open) if letter == open => quote = None,
                None if matches!(letter, '\'' | '"') => quote = Some(letter),
                _ => {}
            }
            word.text.push(letter);
        }
        word.range.end = letters.peek().map_or(rest.range.end, |(next, _)| rest.range.start + next);
    }
    words.extend(current.filter(|word| !word.text.is_empty()));
    words
}

/// `name=value …`, or the old `name value`, as triples of name, value and separator.
pub(super) fn pairs(rest: &Word, instruction: &str, escape: char) -> Result<Arguments, Fault> {
    let words = quoted(rest, escape);
    let Some(first) = words.first() else { return Ok(Arguments::default()) };
    let mut triples = Vec::new();
    if !first.text.contains('=') {
        let Some((name, _)) = rest.text.split_once(BLANKS) else {
            let hint = format!("write {instruction} {}=VALUE", rest.text);
            return Err(Fault::new(format!("{instruction} must have two arguments")).hint(Some(hint)));
        };
        let value = rest.text[name.len()..].trim_start_matches(BLANKS);
        triples.push(word(name, rest.range.start));
        triples.push(word(value, rest.range.end - value.len()));
        triples.push(Word { text: String::new(), range: rest.range.clone() });
        return Ok(Arguments { words: triples, json: false });
    }
    for word in words {
        let Some((name, value)) = word.text.split_once('=') else {
            let text = crate::go::quote(&word.text);
            let message = format!("Syntax error - can't find = in {text}. Must be of the form: name=value");
            let hint = "a value with blanks needs quotes: NAME=\"some value\"".to_owned();
            return Err(Fault::new(message).hint(Some(hint)));
        };
        for text in [name, value, "="] {
            triples.push(Word { text: text.to_owned(), range: word.range.clone() });
        }
    }
    Ok(Arguments { words: triples, json: false })
}

/// `HEALTHCHECK`'s kind, and its command.
pub(super) fn healthcheck(rest: &Word) -> Result<Arguments, Fault> {
    let end = rest.text.find(char::is_whitespace).unwrap_or(rest.text.len());
    if end == 0 {
        return Ok(Arguments::default());
    }
    let command = rest.text[end..].trim_start();
    let command = word(command, rest.range.end - command.len());
    let mut arguments = json_or(&command, whole)?;
    arguments.words.insert(0, word(&rest.text[..end], rest.range.start));
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.text.as_str()).collect()
    }

    fn rest(text: &str) -> Word {
        word(text, 0)
    }

    #[test]
    fn lines_come_apart() {
        let parts = parts("  COPY \t--from=a --x=\"b c\" --y=d\\ e -- --z  w ", 0, '\\');
        assert_eq!(parts.keyword.text, "COPY");
        assert_eq!(texts(&parts.flags), ["--from=a", "--x=b c", "--y=d e"]);
        assert_eq!(parts.rest.text, "--z  w");
        assert_eq!(parts.flags[0].range, 8..16);
    }

    #[test]
    fn arguments_by_form() {
        assert_eq!(texts(&blanks(&rest("a\t b")).words), ["a", "b"]);
        let json = json_or(&rest("[\"a\", \"b c\"]"), whole).unwrap();
        assert!(json.json);
        assert_eq!(texts(&json.words), ["a", "b c"]);
        assert!(!json_or(&rest("['a']"), whole).unwrap().json);
        assert!(json_or(&rest("[1]"), whole).is_err());
        assert_eq!(texts(&quoted(&rest("a='b c' d\\ e \"f"), '\\')), ["a='b c'", "d\\ e", "\"f"]);
        assert_eq!(
            texts(&pairs(&rest("a=b c=\"d e\""), "ENV", '\\').unwrap().words),
            ["a", "b", "=", "c", "\"d e\"", "="]
        );
        assert_eq!(texts(&pairs(&rest("a  b c"), "ENV", '\\').unwrap().words), ["a", "b c", ""]);
        assert!(pairs(&rest("a"), "ENV", '\\').is_err());
        assert_eq!(texts(&healthcheck(&rest("CMD  [\"x\"]")).unwrap().words), ["CMD", "x"]);
    }
}

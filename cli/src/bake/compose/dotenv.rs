//! `.env` files: `NAME=VALUE` lines, in which values may be quoted and name other variables.

use std::collections::BTreeMap;

use super::expand::{expand, name_end};
use crate::bake::Outside;
use crate::bake::source::Fault;

/// The environment with what `.env` in `directory` adds to it, which counts less.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn beside<'a>(
    outside: &'a Outside<'_>,
    directory: &str,
) -> Result<impl Fn(&str) -> Option<String> + use<'a>, Fault> {
    let path = if directory.is_empty() { ".env".to_owned() } else { format!("{directory}/.env") };
    let values = match (outside.read)(&path)? {
        Some(text) => parse(&path, &text, outside.environment)?,
        None => BTreeMap::new(),
    };
    Ok(move |name: &str| (outside.environment)(name).or_else(|| values.get(name).cloned()))
}

/// Reads the text of such a file; `environment` counts more than the file where a value names a variable.
///
/// # Errors
/// The first line that is none.
pub(super) fn parse(
    name: &str,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut values = BTreeMap::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let number = text.len() - rest.len();
        let fault = |what: &str| {
            let line = text[..number].matches('\n').count() + 1;
            Fault::new(format!("{name}:{line}: {what}"))
        };
        let line = rest.split('\n').next().unwrap_or_default();
        let start = line.trim_start();
        if start.is_empty() || start.starts_with('#') {
            rest = rest.get(line.len() + 1..).unwrap_or_default();
            continue;
        }
        let start = start.strip_prefix("export ").map_or(start, str::trim_start);
        let end = start.find(|c: char| !c.is_ascii_alphanumeric() && !"_.-[]".contains(c)).unwrap_or(start.len());
        let (key, after) = start.split_at(end);
        if key.is_empty() {
            return Err(fault("a name is needed here"));
        }
        let after = after.trim_start_matches([' ', '\t']);
        let Some(after) = after.strip_prefix('=').or_else(|| after.strip_prefix(':')) else {
            // A name alone means the environment's value.
            if after.trim_end_matches('\r').is_empty() || after.starts_with('#') {
                rest = rest.get(line.len() + 1..).unwrap_or_default();
                continue;
            }
            return Err(fault("= is missing after the name"));
        };
        let after = after.trim_start_matches([' ', '\t']);
        // Quoted values may have more than one line: go on in the whole text.
        let at = rest.len() - rest[line.len()..].len() - after.len();
        let known = |name: &str| environment(name).or_else(|| values.get(name).cloned());
        let (value, next) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (value, length) = quoted(&rest[at..], quote).ok_or_else(|| fault("a quote is not closed"))?;
                let value =
                    if quote == '"' { expand(&value, &known, 0).map_err(|f| fault(&f.to_string()))? } else { value };
                let tail = &rest[at + length..];
                (value, tail.split_once('\n').map_or("", |(_, next)| next))
            }
            _ => {
                let plain = after.split_once(" #").map_or(after, |(plain, _)| plain);
                let plain = if plain.starts_with('#') { "" } else { plain };
                let value = expand(&lone_dollars(plain.trim()), &known, 0).map_err(|f| fault(&f.to_string()))?;
                (value, rest.get(line.len() + 1..).unwrap_or_default())
            }
        };
        values.insert(key.to_owned(), value);
        rest = next;
    }
    Ok(values)
}

/// A dollar sign before anything but a name stands for itself.
fn lone_dollars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if !rest.starts_with('{') && name_end(rest) == 0 {
            out.push('$');
        }
    }
    out + rest
}

/// The text between quotes, as [`expand`] reads it, and the bytes that it takes with them.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut rest = text.char_indices().skip(1);
    while let Some((at, c)) = rest.next() {
        match c {
            c if c == quote => return Some((if quote == '"' { lone_dollars(&value) } else { value }, at + 1)),
            '\\' if quote == '"' => match rest.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                '$' => value.push_str("$$"),
                '"' => value.push('"'),
                '\\' => value.push('\\'),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_plain_or_quoted() {
        let text = "# a comment\nA=1\nexport B = two words # not this\nC='$A'\nD=\"${A}-\\n$B\"\n\nE: 5\nF=\n\
                    G=\"two\nlines\"\nH=a$ b#c\nHOME\nI=${FROM:-none}\r\n";
        let values = parse(".env", text, &|name| (name == "FROM").then(|| "outside".to_owned())).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A"),
            ("D", "1-\ntwo words"),
            ("E", "5"),
            ("F", ""),
            ("G", "two\nlines"),
            ("H", "a$ b#c"),
            ("I", "outside"),
        ];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        for (text, said) in [
            ("A=1\n=2", ".env:2: a name is needed here"),
            ("A b", ".env:1: = is missing after the name"),
            ("A=\"x\n", ".env:1: a quote is not closed"),
        ] {
            assert_eq!(parse(".env", text, &|_| None).unwrap_err().to_string(), said);
        }
    }
}

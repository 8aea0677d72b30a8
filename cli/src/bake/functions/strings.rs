//! Strings and patterns.

use regex::{Captures, Regex};

use super::{Function, at_least, between, exactly, semver};
use crate::bake::source::Fault;
use crate::bake::value::{Value, count};

pub(super) const FUNCTIONS: &[Function] = &[
    exactly("upper", 1, |a| Ok(a[0].to_text()?.to_uppercase().into())),
    exactly("lower", 1, |a| Ok(a[0].to_text()?.to_lowercase().into())),
    exactly("title", 1, |a| Ok(title(&a[0].to_text()?).into())),
    exactly("chomp", 1, |a| Ok(a[0].to_text()?.trim_end_matches(['\n', '\r']).into())),
    exactly("trimspace", 1, |a| Ok(a[0].to_text()?.trim().into())),
    exactly("trim", 2, |a| {
        let set = a[1].to_text()?;
        Ok(a[0].to_text()?.trim_matches(|c| set.contains(c)).into())
    }),
    exactly("trimprefix", 2, |a| {
        let (text, prefix) = (a[0].to_text()?, a[1].to_text()?);
        Ok(text.strip_prefix(prefix.as_str()).unwrap_or(&text).into())
    }),
    exactly("trimsuffix", 2, |a| {
        let (text, suffix) = (a[0].to_text()?, a[1].to_text()?);
        Ok(text.strip_suffix(suffix.as_str()).unwrap_or(&text).into())
    }),
    exactly("indent", 2, |a| {
        let width = usize::try_from(a[0].to_integer()?).ok().filter(|width| *width <= 1000);
        let width = width.ok_or_else(|| Fault::new("the indentation is out of range"))?;
        Ok(a[1].to_text()?.replace('\n', &format!("\n{}", " ".repeat(width))).into())
    }),
    exactly("replace", 3, |a| Ok(a[0].to_text()?.replace(&a[1].to_text()?, &a[2].to_text()?).into())),
    exactly("reverse", 1, |a| Ok(a[0].to_text()?.chars().rev().collect::<String>().into())),
    exactly("strlen", 1, |a| Ok(count(a[0].to_text()?.chars().count()))),
    exactly("substr", 3, |a| substr(&a[0].to_text()?, a[1].to_integer()?, a[2].to_integer()?)),
    exactly("split", 2, |a| {
        let (separator, text) = (a[0].to_text()?, a[1].to_text()?);
        if separator.is_empty() {
            return Ok(text.chars().map(|c| c.to_string()).collect::<Vec<_>>().into());
        }
        Ok(text.split(separator.as_str()).map(str::to_owned).collect::<Vec<_>>().into())
    }),
    at_least("join", 2, |a| {
        let mut parts = Vec::new();
        for list in &a[1..] {
            for item in list.to_list()? {
                parts.push(item.to_text()?);
            }
        }
        Ok(parts.join(&a[0].to_text()?).into())
    }),
    exactly("basename", 1, |a| Ok(basename(&a[0].to_text()?).into())),
    exactly("dirname", 1, |a| Ok(dirname(&a[0].to_text()?).into())),
    exactly("sanitize", 1, |a| {
        let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
        Ok(a[0].to_text()?.chars().map(keep).collect::<String>().into())
    }),
    exactly("regex", 2, |a| {
        let (regex, text) = (regex(&a[0])?, a[1].to_text()?);
        match regex.captures(&text) {
            Some(found) => Ok(captured(&regex, &found)),
            None => Err(Fault::new("the pattern matches nothing")),
        }
    }),
    exactly("regexall", 2, |a| {
        let (regex, text) = (regex(&a[0])?, a[1].to_text()?);
        Ok(Value::List(regex.captures_iter(&text).map(|found| captured(&regex, &found)).collect()))
    }),
    exactly("regex_replace", 3, |a| {
        let (text, regex, with) = (a[0].to_text()?, regex(&a[1])?, a[2].to_text()?);
        Ok(regex.replace_all(&text, with.as_str()).into_owned().into())
    }),
    exactly("homedir", 0, |_| {
        let home = crate::settings::variable("HOME").ok_or_else(|| Fault::new("HOME is not set"))?;
        Ok(home.into())
    }),
    exactly("bytesslice", 3, |a| {
        let text = a[0].to_text()?;
        let (start, length) = (usize::try_from(a[1].to_integer()?), usize::try_from(a[2].to_integer()?));
        let (Ok(start), Ok(length)) = (start, length) else {
            return Err(Fault::new("offset and length must not be negative"));
        };
        let part = text.get(start..start.saturating_add(length));
        let part =
            part.ok_or_else(|| Fault::new("offset and length lie outside of the text, or within a character"))?;
        Ok(part.into())
    }),
    exactly("semvercmp", 2, |a| semver::matches(&a[0].to_text()?, &a[1].to_text()?).map(Value::Bool)),
    exactly("byteslen", 1, |a| Ok(count(a[0].to_text()?.len()))),
    between("coalesce", 1, usize::MAX, |a| {
        let found = a.iter().find(|value| !value.is_null());
        found.cloned().ok_or_else(|| Fault::new("every argument is null"))
    }),
];

fn title(text: &str) -> String {
    let mut start = true;
    let each = |c: char| {
        let out: String = if start { c.to_uppercase().collect() } else { c.to_string() };
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
        out
    };
    text.chars().map(each).collect()
}

/// A negative offset counts from the end; a length of -1 is all that is left.
fn substr(text: &str, offset: i64, length: i64) -> Result<Value, Fault> {
    let letters: Vec<char> = text.chars().collect();
    let total = i64::try_from(letters.len()).unwrap_or(i64::MAX);
    let start = if offset < 0 { (total + offset).max(0) } else { offset.min(total) };
    let end = match length {
        -1 => total,
        0.. => start.saturating_add(length).min(total),
        _ => return Err(Fault::new("the length is negative")),
    };
    let place = |at: i64| usize::try_from(at).unwrap_or_default();
    Ok(letters[place(start)..place(end)].iter().collect::<String>().into())
}

fn basename(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        _ if path.is_empty() => ".".to_owned(),
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "/".to_owned(),
    }
}

fn dirname(path: &str) -> String {
    let Some((directory, _)) = path.rsplit_once('/') else { return ".".to_owned() };
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}

fn regex(pattern: &Value) -> Result<Regex, Fault> {
    Regex::new(&pattern.to_text()?).map_err(|error| Fault::new(format!("no pattern: {error}")))
}

/// The whole match, or its groups: a map where they have names, else a list.
fn captured(regex: &Regex, found: &Captures<'_>) -> Value {
    let text = |group: Option<regex::Match<'_>>| group.map_or(Value::Null, |group| group.as_str().into());
    if regex.captures_len() == 1 {
        return text(found.get(0));
    }
    if regex.capture_names().flatten().next().is_some() {
        let named = regex.capture_names().flatten().map(|name| (name.to_owned(), text(found.name(name))));
        return Value::Map(named.collect());
    }
    Value::List(found.iter().skip(1).map(text).collect())
}

//! Variables in the strings of compose files.

use serde_json::Value;

use crate::bake::source::Fault;

/// Replaces variables in every string.
pub(super) fn interpolate(value: &mut Value, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), Fault> {
    match value {
        Value::String(text) if text.contains('$') => *text = expand(text, environment, 0)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| interpolate(item, environment))?,
        Value::Object(items) => items.values_mut().try_for_each(|item| interpolate(item, environment))?,
        _ => {}
    }
    Ok(())
}

/// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-…}`, `${NAME:?error}`, `${NAME?…}`, `${NAME:+other}`,
/// `${NAME+…}`; `$$` is a dollar sign.
pub(super) fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, Fault> {
    if depth > 32 {
        return Err(Fault::new("variables stand too deep in each other"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| Fault::new(format!("a }} is missing in {text:?}")))?;
            out.push_str(&braced(&after[..end], environment, depth)?);
            rest = &after[end + 1..];
        } else {
            let end = name_end(rest);
            if end == 0 {
                return Err(Fault::new(format!("{text:?}: write $$ for a dollar sign")));
            }
            out.push_str(&environment(&rest[..end]).unwrap_or_default());
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

pub(super) fn name_end(text: &str) -> usize {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if first { end } else { 0 }
}

/// The brace that closes one before the text.
pub(super) fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn braced(inner: &str, environment: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, Fault> {
    let end = name_end(inner);
    let (name, rest) = inner.split_at(end);
    if name.is_empty() {
        return Err(Fault::new(format!("${{{inner}}} names no variable")));
    }
    let value = environment(name);
    if rest.is_empty() {
        return Ok(value.unwrap_or_default());
    }
    let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let value = value.filter(|value| !(colon && value.is_empty()));
    let (operator, word) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
    match (operator, value) {
        ("-" | "?", Some(value)) => Ok(value),
        ("-", None) => expand(word, environment, depth + 1),
        ("?", None) => Err(Fault::new(format!("the variable {name} is required: {word}"))),
        ("+", Some(_)) => expand(word, environment, depth + 1),
        ("+", None) => Ok(String::new()),
        _ => Err(Fault::new(format!("${{{inner}}}: unknown operator"))),
    }
}

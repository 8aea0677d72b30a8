//! The tree as a Dockerfile again: one line an instruction, heredocs below, comments that belong to it above.

use super::instruction::Instruction;
use super::{Dockerfile, directive, heredoc, split};

/// A blank that ends no line: what stands before it keeps its last escape letter.
const BLANK: char = '\u{b}';

/// The whole file.
pub(super) fn file(file: &Dockerfile) -> String {
    let mut out = String::new();
    for directive in &file.directives {
        out.push_str(&format!("# {}={}\n", directive.key, directive.value));
    }
    let first = file.instructions.first();
    let comment = first.and_then(|first| first.comments.first()).map(|comment| format!("# {comment}"));
    let mistaken = comment.as_deref().and_then(directive::split).is_some();
    if mistaken || first.is_some_and(|first| first.keyword.text.starts_with('\u{feff}')) {
        // Ends the header, so that the next line is what it was.
        out.push_str("#\n");
    }
    for instruction in &file.instructions {
        for comment in &instruction.comments {
            out.push_str(&format!("# {comment}\n"));
        }
        out.push_str(&line(instruction, file.escape));
        out.push('\n');
        for heredoc in &instruction.heredocs {
            out.push_str(&heredoc.content);
            out.push_str(&heredoc.name);
            out.push('\n');
        }
    }
    out
}

fn line(instruction: &Instruction, escape: char) -> String {
    let mut out = instruction.keyword.text.to_uppercase();
    let rest = arguments(instruction, escape);
    for flag in &instruction.flags {
        out.push_str(" --");
        out.push_str(&quoted(flag.text.strip_prefix("--").unwrap_or(&flag.text), escape));
    }
    if rest.starts_with("--") {
        // Otherwise it would be a flag.
        out.push_str(" --");
    }
    if !rest.is_empty() {
        out.push(' ');
        out.push_str(&rest);
    }
    let continued = out.strip_suffix(escape).is_some_and(|rest| !rest.ends_with(escape));
    if continued { format!("{out}{BLANK}") } else { out }
}

/// A flag's text in quotes where something in it needs them.
fn quoted(text: &str, escape: char) -> String {
    let special = |letter: char| matches!(letter, '\'' | '"') || letter == escape || letter.is_whitespace();
    if !text.contains(special) {
        return text.to_owned();
    }
    let mut out = "\"".to_owned();
    for letter in text.chars() {
        if letter == '"' || letter == escape {
            out.push(escape);
        }
        out.push(letter);
    }
    out.push('"');
    out
}

fn arguments(instruction: &Instruction, escape: char) -> String {
    let texts = || instruction.arguments.iter().map(|argument| argument.text.as_str());
    let name = instruction.name();
    if instruction.json {
        let skip = usize::from(name == "healthcheck");
        let list: Vec<&str> = texts().skip(skip).collect();
        let json: Vec<String> = list.iter().map(|text| serde_json::Value::from(*text).to_string()).collect();
        return texts().take(skip).map(|kind| format!("{kind} ")).chain([format!("[{}]", json.join(", "))]).collect();
    }
    if !instruction.heredocs.is_empty() {
        // Blanks may stand in the quotes of a delimiter.
        return split::parts(&instruction.original, 0, escape).rest.text;
    }
    match name.as_str() {
        "env" | "label" => {
            let triples: Vec<&str> = texts().collect();
            let pairs = triples.chunks(3).map(|triple| match triple {
                [name, value, "="] => format!("{name}={value}"),
                other => other.join(" ").trim_end().to_owned(),
            });
            pairs.collect::<Vec<_>>().join(" ")
        }
        _ => {
            let words: Vec<&str> = texts().collect();
            let joined = words.join(" ");
            let is_json = joined.starts_with('[') && serde_json::from_str::<Vec<serde_json::Value>>(&joined).is_ok();
            // Other blanks than JSON and heredocs know keep words that were words.
            let is_other = is_json || !heredoc::openers(&joined).is_empty();
            if is_other { words.join(&BLANK.to_string()) } else { joined }
        }
    }
}

//! The tree as s-expressions: `(run ["--mount=…"] "make")`.

use super::instruction::{Argument, Instruction};
use super::split::{self, Word};
use crate::go;

/// All instructions, one a line.
pub(super) fn file(instructions: &[Instruction], escape: char) -> String {
    let lines: Vec<String> = instructions.iter().map(|instruction| one(instruction, escape)).collect();
    lines.join("\n")
}

fn one(instruction: &Instruction, escape: char) -> String {
    let name = instruction.name();
    let texts = |arguments: &[Argument]| arguments.iter().map(|argument| argument.text.clone()).collect::<Vec<_>>();
    let (flags, arguments) = (texts(&instruction.flags), texts(&instruction.arguments));
    match arguments.as_slice() {
        [inner] if name == "onbuild" => format!("({}{} {})", name, flag_list(&flags), trigger(inner, escape)),
        arguments => expression(&name, &flags, arguments),
    }
}

/// The instruction inside `ONBUILD`.
fn trigger(text: &str, escape: char) -> String {
    let parts = split::parts(text, 0, escape);
    let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
    let arguments = super::arguments(&parts, escape).unwrap_or_default();
    expression(&parts.keyword.text.to_lowercase(), &texts(&parts.flags), &texts(&arguments.words))
}

fn flag_list(flags: &[String]) -> String {
    if flags.is_empty() { String::new() } else { format!(" {}", go::quote_list(flags)) }
}

fn expression(name: &str, flags: &[String], arguments: &[String]) -> String {
    let arguments: String = arguments.iter().map(|argument| format!(" {}", go::quote(argument))).collect();
    format!("({name}{}{arguments})", flag_list(flags))
}

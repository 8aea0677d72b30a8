//! Checks of the text alone.

use std::collections::HashSet;

use super::{
    CONSISTENT_INSTRUCTION_CASING, DUPLICATE_STAGE_NAME, FROM_AS_CASING, INVALID_DEFINITION_DESCRIPTION, Linter,
    MAINTAINER_DEPRECATED, NO_EMPTY_CONTINUATION, RESERVED_STAGE_NAME, STAGE_NAME_CASING,
};
use crate::go;
use crate::syntax::{Command, Dockerfile, Instruction};

/// Runs them over a file without faults.
pub(crate) fn check(file: &Dockerfile, linter: &mut Linter) {
    let mut names: HashSet<&str> = HashSet::new();
    for instruction in &file.instructions {
        if let Some(line) = instruction.empty_continuation {
            let span = file.source.line(line as usize - 1);
            linter.report(
                &NO_EMPTY_CONTINUATION,
                &file.source,
                (span, &instruction.comments),
                "Empty continuation line".to_owned(),
            );
        }
        match &instruction.command {
            Command::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
                linter.report(&MAINTAINER_DEPRECATED, &file.source, (instruction.span, &instruction.comments), message);
            }
            Command::From(from) => {
                stage(file, instruction, linter);
                if let Some(name) = &from.name {
                    unique(file, instruction, name, &names, linter);
                    names.insert(name);
                    described(file, instruction, "FROM", &[name], linter);
                }
            }
            Command::Arg(definitions) => {
                let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
                described(file, instruction, "ARG", &names, linter);
            }
            _ => {}
        }
    }
    casing(file, linter);
}

fn stage(file: &Dockerfile, from: &Instruction, linter: &mut Linter) {
    let [_, word, name] = from.arguments.as_slice() else { return };
    if name.text != name.text.to_lowercase() {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        linter.report(&STAGE_NAME_CASING, &file.source, (from.span, &from.comments), message);
    }
    let keyword = &from.keyword.text;
    let lower = *keyword == keyword.to_lowercase();
    if (lower || *keyword == keyword.to_uppercase())
        && word.text != if lower { word.text.to_lowercase() } else { word.text.to_uppercase() }
    {
        let message = format!("'{}' and '{keyword}' keywords' casing do not match", word.text);
        linter.report(&FROM_AS_CASING, &file.source, (from.span, &from.comments), message);
    }
}

fn unique(file: &Dockerfile, from: &Instruction, name: &str, earlier: &HashSet<&str>, linter: &mut Linter) {
    if matches!(name, "context" | "scratch") {
        let message = format!("Stage name should not use the same name as reserved stage {}", go::quote(name));
        linter.report(&RESERVED_STAGE_NAME, &file.source, (from.span, &from.comments), message);
    }
    if earlier.contains(name) {
        let message = format!("Duplicate stage name {}, stage names should be unique", go::quote(name));
        linter.report(&DUPLICATE_STAGE_NAME, &file.source, (from.span, &from.comments), message);
    }
}

/// The comment before a definition must begin with one of its names.
fn described(file: &Dockerfile, instruction: &Instruction, keyword: &str, names: &[&str], linter: &mut Linter) {
    let is_note = |comment: &&String| !comment.to_lowercase().starts_with("check");
    let Some(comment) = instruction.comments.iter().rfind(is_note) else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.contains(&first) {
        return;
    }
    let example = if let [name] = names { name } else { "<arg_key>" };
    let message = format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    linter.report(&INVALID_DEFINITION_DESCRIPTION, &file.source, (instruction.span, &instruction.comments), message);
}

/// Every keyword must have the case that most of them have.
fn casing(file: &Dockerfile, linter: &mut Linter) {
    let in_stages = file.instructions.iter().skip_while(|first| !matches!(first.command, Command::From(_)));
    let keywords: Vec<&Instruction> = in_stages.collect();
    let lower = |keyword: &str| keyword == keyword.to_lowercase();
    let upper = |keyword: &str| keyword == keyword.to_uppercase();
    let count = |is: &dyn Fn(&str) -> bool| keywords.iter().filter(|one| is(&one.keyword.text)).count();
    let majority_is_lower = count(&lower) > count(&|keyword| upper(keyword) && !lower(keyword));
    for instruction in keywords {
        let keyword = &instruction.keyword.text;
        let (fits, wanted) =
            if majority_is_lower { (lower(keyword), "lowercase") } else { (upper(keyword), "uppercase") };
        if !fits {
            let message = format!("Command '{keyword}' should match the case of the command majority ({wanted})");
            linter.report(
                &CONSISTENT_INSTRUCTION_CASING,
                &file.source,
                (instruction.span, &instruction.comments),
                message,
            );
        }
    }
}

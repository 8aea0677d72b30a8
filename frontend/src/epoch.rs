//! `SOURCE_DATE_EPOCH`: a number, the context's time, or the time of one remote source.

use lap_solver::graph::Source;

use crate::args::Variables;
use crate::diagnostic::Fault;
use crate::git;
use crate::options::{NamedContext, Options};
use crate::source::Span;
use crate::stage::{Base, Stage, Stages};
use crate::syntax::{Command, Transfer};
use crate::word::{Lexer, Lookup};

/// The time that a build pretends it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Epoch {
    /// Seconds since 1970.
    Seconds(i64),
    /// That of the build context (its commit, or its newest file).
    Context,
    /// That of a named context.
    Named(NamedContext),
    /// That of a remote source.
    Source(Source),
}

/// Reads the build argument, or else the global one.
pub(crate) fn resolve(stages: &Stages, options: &Options) -> Result<Option<Epoch>, (Fault, Span)> {
    let given = options.build_args.get("SOURCE_DATE_EPOCH").map(String::as_str);
    let Some(text) = given.or_else(|| stages.globals.get("SOURCE_DATE_EPOCH")).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if let Ok(seconds) = text.parse() {
        return Ok(Some(Epoch::Seconds(seconds)));
    }
    if text == "context" {
        return Ok(Some(Epoch::Context));
    }
    if let Some(context) = options.named_context(text, &options.platform) {
        return Ok(Some(Epoch::Named(context.clone())));
    }
    match stages.stages.iter().find(|stage| stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(text))) {
        Some(stage) => {
            let source = of_stage(stage, stages, options).map_err(|fault| (fault, stage.instruction.span))?;
            Ok(Some(Epoch::Source(source)))
        }
        None => {
            let span = stages.definitions.first().map_or_else(Span::default, |instruction| instruction.span);
            let hint = "write seconds since 1970, context, or the name of a stage with one remote ADD";
            Err((Fault::new(format!("invalid SOURCE_DATE_EPOCH: {text}")).hint(Some(hint.to_owned())), span))
        }
    }
}

/// The one remote `ADD` of a stage that has nothing else.
fn of_stage(stage: &Stage, stages: &Stages, options: &Options) -> Result<Source, Fault> {
    if stage.base != Base::Scratch {
        return Err(Fault::new("SOURCE_DATE_EPOCH stage must use FROM scratch"));
    }
    let mut variables = stages.globals.clone();
    let mut source = None;
    let one = || Fault::new("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD");
    for instruction in &stage.commands {
        match &instruction.command {
            Command::Arg(definitions) => {
                for definition in definitions {
                    crate::args::define_global(&mut variables, definition, &options.build_args, &stages.lexer)?;
                }
            }
            Command::Add(transfer) if source.is_none() => source = Some(of_add(transfer, &variables, &stages.lexer)?),
            Command::Add(_) => return Err(one()),
            _ => {
                let name = &instruction.keyword.text;
                return Err(Fault::new(format!(
                    "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {name} instruction"
                )));
            }
        }
    }
    source.ok_or_else(one)
}

fn of_add(transfer: &Transfer, variables: &Variables, lexer: &Lexer) -> Result<Source, Fault> {
    let [word] = transfer.sources.as_slice() else {
        return Err(Fault::new("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
    };
    let expand = |text: &str| {
        lexer.expand(text, variables).map(|expanded| expanded.text).map_err(|error| Fault::new(error.to_string()))
    };
    let text = expand(&word.text)?;
    let checksum = transfer.checksum.as_ref().map(|checksum| expand(&checksum.text)).transpose()?;
    let git = git::parse(&text, transfer.keep_git_dir.is_some()).map_err(|error| Fault::new(error.to_string()))?;
    if let Some(git) = git {
        return Ok(crate::lower::git_source(git, transfer.keep_git_dir, checksum));
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(crate::lower::http_source(&text, checksum));
    }
    Err(Fault::new("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD").at(word.span))
}

//! `lap check` and `lap build --call`: questions about a Dockerfile that need no build.

use lap_frontend::outline::{Outline, OutlineArg, OutlineSecret};
use lap_frontend::source::Source;
use lap_frontend::{Diagnostic, Target};
use serde_json::{Value, json};

use crate::args::{Call, Check, FindingsForm};
use crate::command::App;
use crate::exit::FAILED;
use crate::pipeline::{self, Request};
use crate::ui::error::Shown;
use crate::ui::rawjson::base64;
use crate::ui::{findings, table};

/// `lap check`.
pub(super) fn run(app: &App, args: &Check) -> anyhow::Result<i32> {
    let request = super::build::request(app, &args.build)?;
    check(app, request, args.format)
}

/// Answers a `--call` other than `build`.
pub(super) fn answer(app: &App, mut request: Request, call: &Call) -> anyhow::Result<i32> {
    match call {
        call if call.is_json() => {
            let (said, code) = json(app, request, call)?;
            outln!("{said:#}")?;
            Ok(code)
        }
        Call::Check { .. } => check(app, request, FindingsForm::Text),
        Call::Outline { .. } => {
            request.options.all_stages = false;
            out!("{}", outline_text(&pipeline::analyse(app, &request)?.outline))?;
            Ok(0)
        }
        Call::Targets { .. } => {
            out!("{}", targets_text(&pipeline::targets(app, &request)?))?;
            Ok(0)
        }
    }
}

/// The answer as JSON, and the exit code that goes with it.
pub(super) fn json(app: &App, mut request: Request, call: &Call) -> anyhow::Result<(Value, i32)> {
    match call {
        Call::Check { .. } => {
            let (found, source) = find(app, request, FindingsForm::Json)?;
            Ok((findings::json(&found, &source), if found.is_empty() { 0 } else { FAILED }))
        }
        Call::Outline { .. } => {
            request.options.all_stages = false;
            Ok((outline_json(&pipeline::analyse(app, &request)?.outline, &request), 0))
        }
        Call::Targets { .. } => Ok((targets_json(&pipeline::targets(app, &request)?, &request), 0)),
    }
}

fn check(app: &App, request: Request, form: FindingsForm) -> anyhow::Result<i32> {
    let (found, source) = find(app, request, form)?;
    match form {
        FindingsForm::Text => out!("{}", findings::text(&found, &source))?,
        FindingsForm::Json => outln!("{:#}", findings::json(&found, &source))?,
        FindingsForm::Sarif => outln!("{:#}", findings::sarif(&found, &source))?,
    }
    Ok(if found.is_empty() { 0 } else { FAILED })
}

fn find(app: &App, mut request: Request, form: FindingsForm) -> anyhow::Result<(Vec<Diagnostic>, Source)> {
    request.options.all_stages = request.options.target.is_none();
    let source = Source::new(&request.file_name, &request.text);
    let found: Vec<Diagnostic> = match (pipeline::analyse(app, &request), form) {
        (Ok(analysis), _) => analysis.warnings,
        // Machines get the faults in their form too.
        (Err(error), FindingsForm::Json | FindingsForm::Sarif) => error.downcast::<Shown>()?.findings,
        // Findings that fail a build (`# check=error=true`) are findings all the same.
        (Err(error), FindingsForm::Text) => match error.downcast::<Shown>() {
            Ok(shown) if shown.findings.iter().any(findings::is_of_rule) => {
                shown.findings.into_iter().filter(findings::is_of_rule).collect()
            }
            Ok(shown) => return Err(shown.into()),
            Err(error) => return Err(error),
        },
    };
    Ok((found, source))
}

/// The bytes of the files.
fn sources(request: &Request) -> Value {
    json!([base64(&request.text)])
}

fn location(line: u32) -> Value {
    json!({"ranges": [{"start": {"line": line}, "end": {"line": line}}]})
}

/// An object without fields that are nothing, as Go's `omitempty` leaves them out.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    fields.into_iter().filter(|(_, value)| !nothing(value)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// BuildKit's words (`frontend/subrequests/outline`).
fn outline_text(outline: &Outline) -> String {
    let mut out = String::new();
    if outline.name.is_some() || outline.description.is_some() {
        let name = outline.name.as_deref().unwrap_or("(default)");
        let described = outline.description.iter().map(|text| vec!["DESCRIPTION:".to_owned(), text.clone()]);
        let rows: Vec<Vec<String>> = described.collect();
        out.push_str(&table::table(&["TARGET:", name], &rows));
    }
    let mut block = |header: &[&str], rows: Vec<Vec<String>>| {
        if rows.is_empty() {
            return;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&table::table(header, &rows));
    };
    let arg = |arg: &OutlineArg| {
        vec![arg.name.clone(), arg.value.clone().unwrap_or_default(), arg.description.clone().unwrap_or_default()]
    };
    block(&["BUILD ARG", "VALUE", "DESCRIPTION"], outline.args.iter().map(arg).collect());
    let needed = |list: &[OutlineSecret]| {
        let row =
            |one: &OutlineSecret| vec![one.name.clone(), if one.required { "true".to_owned() } else { String::new() }];
        list.iter().map(row).collect()
    };
    block(&["SECRET", "REQUIRED"], needed(&outline.secrets));
    block(&["SSH", "REQUIRED"], needed(&outline.ssh));
    out
}

fn outline_json(outline: &Outline, request: &Request) -> Value {
    let arg = |arg: &OutlineArg| {
        object([
            ("name", json!(arg.name)),
            ("description", json!(arg.description)),
            ("value", json!(arg.value)),
            ("location", location(arg.line)),
        ])
    };
    let needed = |one: &OutlineSecret| {
        object([("name", json!(one.name)), ("required", one.required.into()), ("location", location(one.line))])
    };
    object([
        ("name", json!(outline.name)),
        ("description", json!(outline.description)),
        ("args", outline.args.iter().map(arg).collect()),
        ("secrets", outline.secrets.iter().map(needed).collect()),
        ("ssh", outline.ssh.iter().map(needed).collect()),
        ("sources", sources(request)),
    ])
}

/// BuildKit's words (`frontend/subrequests/targets`).
fn targets_text(targets: &[Target]) -> String {
    let row = |target: &Target| {
        let name = match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_owned(),
            (None, false) => String::new(),
        };
        vec![name, target.description.clone().unwrap_or_default()]
    };
    table::table(&["TARGET", "DESCRIPTION"], &targets.iter().map(row).collect::<Vec<_>>())
}

fn targets_json(targets: &[Target], request: &Request) -> Value {
    let target = |target: &Target| {
        object([
            ("name", json!(target.name)),
            ("default", target.default.into()),
            ("description", json!(target.description)),
            ("base", json!(target.base)),
            ("platform", json!(target.platform)),
            ("location", location(target.line)),
        ])
    };
    json!({"targets": targets.iter().map(target).collect::<Vec<_>>(), "sources": sources(request)})
}

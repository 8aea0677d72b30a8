//! `lap check` and `lap build --call`: questions about a Dockerfile that need no build.

use lap_frontend::outline::Outline;
use lap_frontend::source::Source;
use lap_frontend::{Diagnostic, Target};
use serde_json::{Value, json};

use crate::args::{Call, Check, FindingsForm};
use crate::command::App;
use crate::exit::FAILED;
use crate::pipeline::{self, Request};
use crate::ui::error::Shown;
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
        (Err(error), FindingsForm::Json | FindingsForm::Sarif) => match error.downcast::<Shown>() {
            Ok(shown) => shown.findings,
            Err(error) => return Err(error),
        },
        (Err(error), FindingsForm::Text) => return Err(error),
    };
    Ok((found, source))
}

fn sources(request: &Request) -> Value {
    json!([{"filename": request.file_name, "language": "Dockerfile"}])
}

fn location(line: u32) -> Value {
    json!({"sourceIndex": 0, "ranges": [{"start": {"line": line}, "end": {"line": line}}]})
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
    let arg = |arg: &lap_frontend::outline::OutlineArg| {
        vec![arg.name.clone(), arg.value.clone().unwrap_or_default(), arg.description.clone().unwrap_or_default()]
    };
    block(&["BUILD ARG", "VALUE", "DESCRIPTION"], outline.args.iter().map(arg).collect());
    let needed = |list: &[lap_frontend::outline::OutlineSecret]| {
        let row = |one: &lap_frontend::outline::OutlineSecret| {
            vec![one.name.clone(), if one.required { "true".to_owned() } else { String::new() }]
        };
        list.iter().map(row).collect()
    };
    block(&["SECRET", "REQUIRED"], needed(&outline.secrets));
    block(&["SSH", "REQUIRED"], needed(&outline.ssh));
    out
}

fn outline_json(outline: &Outline, request: &Request) -> Value {
    let arg = |arg: &lap_frontend::outline::OutlineArg| json!({"name": arg.name, "description": arg.description, "value": arg.value, "location": location(arg.line)});
    let needed = |one: &lap_frontend::outline::OutlineSecret| json!({"name": one.name, "required": one.required, "location": location(one.line)});
    json!({
        "name": outline.name,
        "description": outline.description,
        "args": outline.args.iter().map(arg).collect::<Vec<_>>(),
        "secrets": outline.secrets.iter().map(needed).collect::<Vec<_>>(),
        "ssh": outline.ssh.iter().map(needed).collect::<Vec<_>>(),
        "sources": sources(request),
    })
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
        json!({
            "name": target.name,
            "default": target.default,
            "description": target.description,
            "base": target.base,
            "platform": target.platform,
            "location": location(target.line),
        })
    };
    json!({"targets": targets.iter().map(target).collect::<Vec<_>>(), "sources": sources(request)})
}

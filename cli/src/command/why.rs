//! `lap why`: which steps ran, which did not, and why.

use anyhow::bail;
use lap_cache::builds::{Build, Builds, Outcome, Step};
use lap_cache::records::Records;
use serde_json::json;

use crate::args::{Form, Why};
use crate::command::App;
use crate::command::builds::{ago, counts, find, label};
use crate::record::long;
use crate::ui::visible;

pub(super) fn run(app: &App, args: &Why) -> anyhow::Result<i32> {
    let store = app.store()?;
    let (builds, records) = (Builds::new(store.clone()), Records::new(store.clone()));
    let build = find(&builds, args.build.as_deref())?;
    let steps = wanted(&build, args.step.as_deref())?;
    let all = builds.list()?;
    // The oldest record of a build in which the step was executed under this key.
    let maker = |step: &Step| {
        let made = |other: &&Build| other.steps.iter().any(|one| one.key == step.key && one.outcome == Outcome::Done);
        all.iter().rev().find(made).map(|build| build.id.clone())
    };
    let mut objects = Vec::new();
    if args.format != Some(Form::Json) {
        outln!("Build {} of {}, {}: {}", build.id, visible(&build.name), ago(build.started), counts(&build))?;
    }
    for (number, step) in steps {
        let record = match step.key {
            Some(key) => records.get(&key)?,
            None => None,
        };
        if args.format == Some(Form::Json) {
            objects.push(json!({
                "number": number,
                "step": label(step),
                "outcome": step.outcome,
                "key": step.key,
                "why": step.why,
                "recorded": record.as_ref().map(|record| record.created),
                "build": maker(step),
            }));
            continue;
        }
        outln!("\n{number}. {}", label(step))?;
        match (step.outcome, &step.why) {
            (Outcome::Cached, _) => {
                let key = step.key.map_or_else(String::new, |key| key.to_hex()[..12].to_owned());
                let recorded =
                    record.map_or_else(String::new, |record| format!(", recorded {}", ago(record.created * 1000)));
                let by = maker(step).map_or_else(String::new, |id| format!(" by build {id}"));
                outln!("   cached: key {key}{recorded}{by}")?;
            }
            (outcome, Some(why)) => {
                let verb = if outcome == Outcome::Failed { "failed" } else { "ran" };
                for (at, line) in long(why).iter().enumerate() {
                    let before = if at == 0 { format!("{verb}: ") } else { " ".repeat(verb.len() + 2) };
                    outln!("   {before}{line}")?;
                }
            }
            (_, None) => outln!("   not come to")?,
        }
    }
    if args.format == Some(Form::Json) {
        let text = serde_json::to_string_pretty(&json!({"build": build.id, "name": build.name, "steps": objects}))?;
        outln!("{}", crate::ui::tame_json(&text))?;
    }
    Ok(0)
}

/// The steps that were asked for, with their numbers from 1. What only brings something in has no key.
fn wanted<'b>(build: &'b Build, text: Option<&str>) -> anyhow::Result<Vec<(usize, &'b Step)>> {
    let all = (1..).zip(build.steps.iter().filter(|step| !step.source));
    let Some(text) = text else { return Ok(all.collect()) };
    let number: Option<usize> = text.parse().ok();
    let fits = |(at, step): &(usize, &Step)| match number {
        Some(number) => *at == number,
        None => label(step).to_lowercase().contains(&text.to_lowercase()),
    };
    let found: Vec<_> = all.filter(fits).collect();
    if found.is_empty() {
        bail!("build {} has no step {text:?}: lap why shows all of them", build.id);
    }
    Ok(found)
}

//! `lap fsck`

use lap_cache::fsck::{self, Finding, Options, Outcome, Remedy, Report, Severity};
use lap_cache::store::Mode;

use crate::args::{Form, Fsck};
use crate::command::App;
use crate::exit::WithCode;
use crate::ui::visible;

/// The codes of fsck(8).
const MENDED: i32 = 1;
const LEFT: i32 = 4;
const NOT_CHECKED: i32 = 8;

pub(super) fn run(app: &App, args: &Fsck) -> anyhow::Result<i32> {
    let mode = if app.settings.rootless { Mode::User } else { Mode::Root };
    let options = Options { deep: args.deep, repair: args.repair };
    let report = fsck::check(&app.settings.root, mode, options).map_err(|error| {
        let error = anyhow::Error::from(error);
        WithCode::wrap(NOT_CHECKED, error.context(format!("cannot check the store {}", app.settings.root.display())))
    })?;
    if args.format == Some(Form::Json) {
        outln!("{}", crate::ui::tame_json(&serde_json::to_string(&report)?))?;
    } else {
        for finding in &report.findings {
            outln!("{}", visible(&line(finding)))?;
        }
        outln!("{}", summary(&report, args))?;
    }
    Ok(match (report.is_clean(), report.is_mended()) {
        (true, _) => 0,
        (false, true) => MENDED,
        (false, false) => LEFT,
    })
}

/// `blob blobs/sha256/ab..: it has 3 bytes, it should have 5: removed`
fn line(finding: &Finding) -> String {
    let Finding { kind, path, problem, severity, remedy, outcome } = finding;
    let done = match (outcome, remedy) {
        (Outcome::Repaired, Remedy::Remove) => "removed".to_owned(),
        (Outcome::Repaired, Remedy::SetAside) => "moved to lost+found".to_owned(),
        (Outcome::Repaired, _) => "written anew".to_owned(),
        (Outcome::Left { because }, _) => format!("left: {because}"),
        (Outcome::Found, Remedy::Remove) => "--repair removes it".to_owned(),
        (Outcome::Found, Remedy::SetAside) => "--repair moves it to lost+found".to_owned(),
        (Outcome::Found, Remedy::Rewrite) => "--repair writes it anew".to_owned(),
        (Outcome::Found, Remedy::Leave) => "--repair leaves it".to_owned(),
    };
    let severity = match severity {
        Severity::Leftover => "leftover ",
        Severity::Damage => "",
    };
    format!("{severity}{kind} {path}: {problem}: {done}")
}

fn summary(report: &Report, args: &Fsck) -> String {
    let checked = &report.checked;
    let damaged = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).count();
    let leftovers = report.findings.len() - damaged;
    let unverified = match checked.unverified_layers {
        0 => String::new(),
        count => format!(" ({count} of them with nothing to compare their files with)"),
    };
    let found = match (damaged, leftovers) {
        (0, 0) => "clean".to_owned(),
        (0, leftovers) => format!("clean, {leftovers} leftovers"),
        (damaged, 0) => format!("{damaged} damaged"),
        (damaged, leftovers) => format!("{damaged} damaged, {leftovers} leftovers"),
    };
    let advice = if damaged > 0 && !args.repair { "; lap fsck --repair mends the store" } else { "" };
    format!(
        "{} blobs, {} layers{unverified}, {} records, {} images, {} containers: {found}{advice}",
        checked.blobs, checked.layers, checked.records, checked.images, checked.containers
    )
}

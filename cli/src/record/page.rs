//! A build as one HTML page that needs nothing else: no script, no address of another file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use lap_cache::builds::{Build, Builds, Outcome, Step};
use lap_solver::event::Event;
use lap_solver::graph::Metadata;

use super::words::{long, title};
use crate::ui::html::escaped;
use crate::ui::printable;
use crate::ui::table::rfc3339;

/// Bytes of logs in the page; a browser shows no more without trouble.
const LOGS_LIMIT: usize = 16 << 20;
const ROW: usize = 24;
const NAMES: usize = 360;
const CHART: usize = 720;
const BOX_WIDTH: usize = 230;
const BOX_HEIGHT: usize = 34;
const GAP: usize = 46;

const STYLE: &str = "\
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1160px;padding:0 1em;color:#1b1f24;background:#fff}\
h1{font-size:1.4em;margin:0}h2{font-size:1.1em;margin:2em 0 .5em}dl{display:grid;grid-template-columns:max-content 1fr;gap:.1em 1em}\
dt{color:#59636e}dd{margin:0}svg{display:block;max-width:100%;overflow:visible}text{font:12px ui-monospace,monospace;fill:#1b1f24}\
.cached{fill:#9ec5fe}.done{fill:#75b798}.failed{fill:#ea868f}.cancelled{fill:#ffda6a}.pending{fill:#dee2e6}.wait{fill:#eef0f2}\
.critical{stroke:#b02a37;stroke-width:2.5}.edge{stroke:#adb5bd;fill:none}.edge.critical{stroke:#b02a37}.grid{stroke:#e9ecef}\
details{border:1px solid #d0d7de;border-radius:6px;margin:.4em 0;padding:.4em .7em}summary{cursor:pointer;font-family:ui-monospace,monospace}\
pre{overflow:auto;background:#f6f8fa;padding:.6em;border-radius:6px;font-size:12px}.why{color:#59636e}.tag{font-size:.85em;padding:.1em .5em;border-radius:1em;background:#eef0f2;margin-left:.5em}\
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}text{fill:#e6edf3}.box text,.in{fill:#1b1f24}pre{background:#161b22}details{border-color:#30363d}.grid{stroke:#21262d}.wait{fill:#21262d}.tag{background:#21262d}}";

/// The page.
///
/// # Errors
/// Where the events cannot be read.
pub(crate) fn render(build: &Build, builds: &Builds) -> anyhow::Result<String> {
    let critical = critical_path(&build.steps);
    let logs = logs(build, builds)?;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"script-src 'none'; connect-src 'none'; img-src 'none'; frame-src 'none'; object-src 'none'\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Build of {name}</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>Build of {name}</h1>\n",
        name = escaped(&build.name),
    );
    head(&mut out, build, &critical);
    out.push_str("<h2>Time line</h2>\n");
    timeline(&mut out, build, &critical);
    out.push_str("<h2>Graph</h2>\n");
    graph(&mut out, build, &critical);
    out.push_str("<h2>Steps and logs</h2>\n");
    for (at, step) in build.steps.iter().enumerate() {
        details(&mut out, step, critical.contains(&at), logs.get(&at).map(String::as_str));
    }
    out.push_str("</body></html>\n");
    Ok(out)
}

fn head(out: &mut String, build: &Build, critical: &[usize]) {
    let count = |outcome| build.steps.iter().filter(|step| !step.source && step.outcome == outcome).count();
    let long: u64 = critical.iter().map(|at| took(&build.steps[*at])).sum();
    let facts = [
        ("Build", build.id.clone()),
        ("Context", build.context.clone()),
        ("Dockerfile", build.file.clone()),
        ("Started", rfc3339(Duration::from_millis(build.started))),
        ("Took", seconds(build.took)),
        ("Steps", format!("{} ran, {} cached", count(Outcome::Done), count(Outcome::Cached))),
        ("Critical path", format!("{} in {} steps", seconds(long), critical.len())),
        ("Error", build.error.clone().unwrap_or_default()),
    ];
    out.push_str("<dl>");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        // Writing to a String cannot fail.
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
    }
    out.push_str("</dl>\n");
}

/// A row a step: how long it waited for its key, and how long it ran.
fn timeline(out: &mut String, build: &Build, critical: &[usize]) {
    let end = build.steps.iter().map(|step| step.ended).max().unwrap_or(0).max(build.took).max(1);
    let x = |at: u64| NAMES + usize::try_from(at.min(end) * CHART as u64 / end).unwrap_or(0);
    let height = (build.steps.len() + 1) * ROW;
    let _ = writeln!(out, "<svg class=\"timeline\" viewBox=\"0 0 {} {height}\" role=\"img\">", NAMES + CHART + 60);
    for tick in 0..=4u64 {
        let at = end * tick / 4;
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{0}\" x2=\"{0}\" y1=\"14\" y2=\"{height}\"/><text x=\"{0}\" y=\"11\">{1}</text>",
            x(at),
            seconds(at)
        );
    }
    for (at, step) in build.steps.iter().enumerate() {
        let y = (at + 1) * ROW;
        let ran = step.ran.unwrap_or(step.started);
        let class = class(step.outcome);
        let mark = if critical.contains(&at) { " critical" } else { "" };
        let _ = writeln!(
            out,
            "<g><title>{}: {} {}</title><text x=\"0\" y=\"{}\">{}</text><rect class=\"wait\" x=\"{}\" y=\"{}\" width=\"{}\" \
             height=\"14\"/><rect class=\"{class}{mark}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"14\" rx=\"2\"/></g>",
            escaped(&label(step)),
            class,
            seconds(took(step)),
            y + 3,
            escaped(&cut(&label(step), 48)),
            x(step.started),
            y - 8,
            x(ran).saturating_sub(x(step.started)),
            x(ran),
            y - 8,
            x(step.ended).saturating_sub(x(ran)).max(3),
        );
    }
    out.push_str("</svg>\n");
}

/// A row a depth, with lines from each step to those that it uses.
fn graph(out: &mut String, build: &Build, critical: &[usize]) {
    let mut depths = vec![0usize; build.steps.len()];
    for at in 0..build.steps.len() {
        let below = inputs(&build.steps[at], at).map(|input| depths[input] + 1).max();
        depths[at] = below.unwrap_or(0);
    }
    let (mut places, mut widths) = (Vec::new(), BTreeMap::<usize, usize>::new());
    for depth in &depths {
        let column = widths.entry(*depth).or_insert(0);
        places.push((*column * (BOX_WIDTH + 20), depth * (BOX_HEIGHT + GAP)));
        *column += 1;
    }
    let width = widths.values().max().unwrap_or(&1) * (BOX_WIDTH + 20);
    let height = widths.len() * (BOX_HEIGHT + GAP);
    let _ =
        writeln!(out, "<svg class=\"graph\" width=\"{width}\" viewBox=\"-4 -4 {} {height}\" role=\"img\">", width + 8);
    for (at, step) in build.steps.iter().enumerate() {
        for input in inputs(step, at) {
            let ((x1, y1), (x2, y2)) = (places[input], places[at]);
            let (x1, x2, y1) = (x1 + BOX_WIDTH / 2, x2 + BOX_WIDTH / 2, y1 + BOX_HEIGHT);
            let mark = if critical.contains(&at) && critical.contains(&input) { " critical" } else { "" };
            let middle = y1.midpoint(y2);
            let _ =
                writeln!(out, "<path class=\"edge{mark}\" d=\"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}\"/>");
        }
    }
    for (at, (step, (x, y))) in build.steps.iter().zip(&places).enumerate() {
        let mark = if critical.contains(&at) { " critical" } else { "" };
        let _ = writeln!(
            out,
            "<g class=\"box\"><title>{}</title><rect class=\"{}{mark}\" x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" \
             height=\"{BOX_HEIGHT}\" rx=\"5\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
            escaped(&label(step)),
            class(step.outcome),
            x + 8,
            y + 21,
            escaped(&cut(&label(step), 29)),
        );
    }
    out.push_str("</svg>\n");
}

fn details(out: &mut String, step: &Step, critical: bool, log: Option<&str>) {
    let open = if step.outcome == Outcome::Failed { " open" } else { "" };
    let _ = write!(
        out,
        "<details{open}><summary>{}<span class=\"tag\">{}</span><span class=\"tag\">{}</span>",
        escaped(&label(step)),
        class(step.outcome),
        seconds(took(step))
    );
    if critical {
        out.push_str("<span class=\"tag\">critical path</span>");
    }
    out.push_str("</summary>\n");
    if let Some(why) = &step.why {
        let _ = writeln!(out, "<pre class=\"why\">{}</pre>", escaped(&long(why).join("\n")));
    }
    if let Some(key) = &step.key {
        let _ = writeln!(out, "<p class=\"why\">key {key}</p>");
    }
    if let Some(error) = &step.error {
        let _ = writeln!(out, "<pre>{}</pre>", escaped(error));
    }
    if let Some(log) = log {
        let _ = writeln!(out, "<pre class=\"log\">{log}</pre>");
    }
    out.push_str("</details>\n");
}

/// What each step put out, escaped, without colours.
fn logs(build: &Build, builds: &Builds) -> anyhow::Result<BTreeMap<usize, String>> {
    let (mut raw, mut total) = (BTreeMap::<usize, Vec<u8>>::new(), 0);
    builds.events::<anyhow::Error>(&build.id, |_, event| {
        if let Event::Log { vertex, data, .. } = event
            && total < LOGS_LIMIT
        {
            total += data.len();
            let log = raw.entry(vertex.index()).or_default();
            log.extend_from_slice(&data);
            if total >= LOGS_LIMIT {
                log.extend_from_slice(b"\n... the rest: lap history build logs\n");
            }
        }
        Ok(())
    })?;
    let text = |log: Vec<u8>| {
        let lines = log.split(|byte| *byte == b'\n').map(|line| plain(&printable(line)));
        escaped(lines.collect::<Vec<_>>().join("\n").trim_end())
    };
    Ok(raw.into_iter().map(|(at, log)| (at, text(log))).collect())
}

/// A line without its colours.
fn plain(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let mut out = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| out.push_str(part.split_once('m').map_or("", |(_, rest)| rest)));
    out
}

/// The steps that, one after the other, took longest: what must become faster for the build to become so.
fn critical_path(steps: &[Step]) -> Vec<usize> {
    let (mut longest, mut before) = (vec![0u64; steps.len()], vec![None; steps.len()]);
    for (at, step) in steps.iter().enumerate() {
        before[at] = inputs(step, at).max_by_key(|input| longest[*input]);
        longest[at] = took(step) + before[at].map_or(0, |input: usize| longest[input]);
    }
    let mut path: Vec<usize> = (0..steps.len()).max_by_key(|at| longest[*at]).into_iter().collect();
    while let Some(input) = path.last().and_then(|at| before[*at]) {
        path.push(input);
    }
    path.reverse();
    path
}

/// Inputs stand before a step; anything else is damage.
fn inputs(step: &Step, at: usize) -> impl Iterator<Item = usize> {
    step.inputs.iter().map(|input| *input as usize).filter(move |input| *input < at)
}

fn took(step: &Step) -> u64 {
    step.ended.saturating_sub(step.ran.unwrap_or(step.started))
}

const fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pending => "pending",
        Outcome::Cached => "cached",
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
    }
}

fn label(step: &Step) -> String {
    let (name, stage) = (step.name.clone(), step.stage.clone());
    title(&Metadata { name, stage, position: step.position, ..Metadata::default() })
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() > width { text.chars().take(width - 1).chain(['…']).collect() } else { text.to_owned() }
}

fn seconds(millis: u64) -> String {
    format!("{:.2}s", Duration::from_millis(millis).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(inputs: &[u32], ran: u64, ended: u64) -> Step {
        Step { inputs: inputs.to_vec(), ran: Some(ran), ended, outcome: Outcome::Done, ..Step::default() }
    }

    #[test]
    fn the_critical_path_is_the_longest_chain() {
        let steps = [step(&[], 0, 10), step(&[], 0, 50), step(&[0], 10, 30), step(&[1, 2], 50, 60)];
        assert_eq!(critical_path(&steps), [1, 3]);
        assert_eq!(critical_path(&[]), [0usize; 0]);
    }

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(plain("\x1b[31mred\x1b[0m x"), "red x");
    }
}

//! `lap history build`: records of builds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use lap_cache::builds::{Build, Builds, Outcome, Step};
use lap_solver::event::Event;
use lap_solver::graph::{Metadata, VertexId};

use crate::args::{Builds as Command, Form, ListBuilds, OneBuild, OpenBuild, RemoveBuilds, Replay};
use crate::command::App;
use crate::record::{long, page};
use crate::template::{Listing, Row};
use crate::ui::table::{human_duration, rfc3339};
use crate::ui::{Mode, Screen, printable, visible};

pub(super) fn run(app: &App, command: &Command) -> anyhow::Result<i32> {
    let builds = Builds::new(app.store()?.clone());
    match command {
        Command::Ls(args) => list(&builds, args),
        Command::Show(args) => show(&builds, args),
        Command::Logs(args) => logs(&builds, args),
        Command::Replay(args) => replay(app, &builds, args),
        Command::Open(args) => open(&builds, args),
        Command::Rm(args) => remove(&builds, args),
    }
}

/// The build with this ID or beginning of an ID; the last one where none is given.
pub(super) fn find(builds: &Builds, id: Option<&str>) -> anyhow::Result<Build> {
    let Some(id) = id else {
        return builds.newest()?.context("no build was recorded yet: run lap build");
    };
    if id.is_empty() {
        bail!("an empty ID names no build");
    }
    let mut found = builds.list()?;
    found.retain(|build| build.id.starts_with(id));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!("no such build: {id}; lap history build ls shows which there are"),
        _ => bail!("{id} is the beginning of several build IDs: give more digits"),
    }
}

/// `[build 2/5] COPY src /src`.
pub(super) fn label(step: &Step) -> String {
    let (name, stage) = (step.name.clone(), step.stage.clone());
    crate::record::title(&Metadata { name, stage, position: step.position, ..Metadata::default() })
}

/// How long ago a time in milliseconds since 1970 was.
pub(super) fn ago(millis: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{} ago", human_duration(now.saturating_sub(Duration::from_millis(millis))))
}

/// `2 steps ran, 3 cached`.
pub(super) fn counts(build: &Build) -> String {
    let count = |outcome: Outcome| build.steps.iter().filter(|step| !step.source && step.outcome == outcome).count();
    let mut text = format!("{} ran, {} cached", count(Outcome::Done), count(Outcome::Cached));
    for (outcome, word) in [(Outcome::Failed, "failed"), (Outcome::Cancelled, "canceled")] {
        if count(outcome) > 0 {
            text += &format!(", {} {word}", count(outcome));
        }
    }
    text
}

/// Labels before lines of output are cut to this.
const LABEL_WIDTH: usize = 48;

/// buildx's words.
const fn status(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done | Outcome::Cached => "Completed",
        Outcome::Failed => "Error",
        Outcome::Cancelled => "Canceled",
        Outcome::Pending => "Running",
    }
}

fn seconds(millis: u64) -> String {
    format!("{:.1}s", Duration::from_millis(millis).as_secs_f64())
}

fn list(builds: &Builds, args: &ListBuilds) -> anyhow::Result<i32> {
    const TABLE: &str = "table {{.Ref}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}\t{{.Duration}}";
    const HEADINGS: &[(&str, &str)] = &[
        ("Ref", "BUILD ID"),
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("CreatedAt", "CREATED AT"),
        ("Duration", "DURATION"),
        ("TotalSteps", "STEPS"),
        ("CachedSteps", "CACHED"),
    ];
    let format = if args.quiet { "{{.Ref}}" } else { args.format.as_str() };
    let listing = Listing::new(format, TABLE).context("template parsing error")?;
    let row = |build: &Build| {
        let steps = build.steps.iter().filter(|step| !step.source);
        let cached = steps.clone().filter(|step| step.outcome == Outcome::Cached).count();
        let id = if args.no_trunc || args.quiet { &build.id } else { &build.id[..16] };
        Row::new("*history.historyContext")
            .field("Ref", id.to_owned())
            .field("Name", build.name.clone())
            .field("Status", status(build.outcome).to_owned())
            .field("CreatedAt", ago(build.started))
            .field("Duration", seconds(build.took))
            .field("TotalSteps", steps.count().to_string())
            .field("CachedSteps", cached.to_string())
    };
    let rows: Vec<Row> = builds.list()?.iter().map(row).collect();
    let text = listing.render(HEADINGS, rows).context("template parsing error")?;
    out!("{}", crate::command::inspect::show(text))?;
    Ok(0)
}

fn show(builds: &Builds, args: &OneBuild) -> anyhow::Result<i32> {
    let build = find(builds, args.build.as_deref())?;
    if args.format == Some(Form::Json) {
        outln!("{}", crate::ui::tame_json(&serde_json::to_string_pretty(&build)?))?;
        return Ok(0);
    }
    outln!("Name:        {}", visible(&build.name))?;
    outln!("Build ID:    {}", build.id)?;
    outln!("Context:     {}", visible(&build.context))?;
    outln!("Dockerfile:  {}", visible(&build.file))?;
    outln!("Started:     {}", rfc3339(Duration::from_millis(build.started)))?;
    outln!("Duration:    {}", seconds(build.took))?;
    outln!("Status:      {}", status(build.outcome))?;
    if let Some(error) = &build.error {
        outln!("Error:       {}", visible(error))?;
    }
    outln!("Steps:       {}\n", counts(&build))?;
    for step in build.steps.iter().filter(|step| !step.source) {
        let state = match step.outcome {
            Outcome::Cached => "CACHED".to_owned(),
            Outcome::Done => seconds(step.ended.saturating_sub(step.ran.unwrap_or(step.started))),
            Outcome::Failed => "ERROR".to_owned(),
            Outcome::Cancelled => "CANCELED".to_owned(),
            Outcome::Pending => "-".to_owned(),
        };
        outln!("{state:>8}  {}", label(step))?;
        if let Some(why) = &step.why {
            outln!("          {}", long(why).join("; "))?;
        }
    }
    Ok(0)
}

fn logs(builds: &Builds, args: &OneBuild) -> anyhow::Result<i32> {
    let build = find(builds, args.build.as_deref())?;
    let mut partial = std::collections::BTreeMap::<VertexId, Vec<u8>>::new();
    let tell = |vertex: VertexId, line: &[u8]| -> anyhow::Result<()> {
        let step = build.steps.get(vertex.index()).map_or_else(String::new, label);
        let step: String = step.chars().take(LABEL_WIDTH).collect();
        Ok(outln!("{step}: {}", printable(line))?)
    };
    builds.events::<anyhow::Error>(&build.id, |_, event| {
        if let Event::Log { vertex, data, .. } = event {
            let text = partial.entry(vertex).or_default();
            text.extend_from_slice(&data);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                tell(vertex, &line)?;
            }
        }
        Ok(())
    })?;
    partial.iter().filter(|(_, rest)| !rest.is_empty()).try_for_each(|(vertex, rest)| tell(*vertex, rest))?;
    Ok(0)
}

fn replay(app: &App, builds: &Builds, args: &Replay) -> anyhow::Result<i32> {
    let build = find(builds, args.build.as_deref())?;
    let screen = Screen::start(args.progress.unwrap_or(Mode::Auto), &app.settings);
    screen.set_steps(build.steps.iter().map(label).collect());
    let (events, began) = (screen.events_at(), SystemTime::now());
    builds.events::<anyhow::Error>(&build.id, |at, event| {
        if args.speed > 0.0 {
            let due = at.div_f64(args.speed);
            let passed = began.elapsed().unwrap_or_default();
            std::thread::sleep(due.saturating_sub(passed));
        }
        events(event, at);
        Ok(())
    })?;
    drop(screen.finish());
    Ok(0)
}

fn open(builds: &Builds, args: &OpenBuild) -> anyhow::Result<i32> {
    let build = find(builds, args.build.as_deref())?;
    let text = page::render(&build, builds)?;
    match &args.output {
        Some(path) if path.as_os_str() == "-" => out!("{text}")?,
        path => {
            let default = || std::env::temp_dir().join(format!("lap-build-{}.html", &build.id[..16]));
            let path = path.clone().unwrap_or_else(default);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            outln!("{}", path.display())?;
        }
    }
    Ok(0)
}

fn remove(builds: &Builds, args: &RemoveBuilds) -> anyhow::Result<i32> {
    if args.all {
        for build in builds.list()? {
            builds.remove(&build.id)?;
        }
        return Ok(0);
    }
    for id in &args.builds {
        let build = find(builds, Some(id))?;
        builds.remove(&build.id)?;
        outln!("{}", build.id)?;
    }
    Ok(0)
}

//! `lap prune` and `lap du`: the build cache.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use lap_cache::gc::{Filter, Rule, Unnamed, Usage};

use super::confirmed;
use crate::args::{ByteSize, DiskUsage, Form, KeyValue, PruneCache, duration};
use crate::command::App;
use crate::ui::table::{bytes, human_duration, rfc3339, table};
use crate::ui::visible;

/// Age below which nothing goes only since nothing leads to it, unless all shall go.
const GRACE: Duration = Duration::from_secs(600);

/// In Docker's form, or in buildx's.
pub(in crate::command) fn prune(app: &App, args: &PruneCache, docker: bool) -> anyhow::Result<i32> {
    let rule = rule(args)?;
    let warning = match args.all {
        true => "WARNING! This will remove all build cache. ",
        false => "WARNING! This will remove all dangling build cache. ",
    };
    if !args.force && !confirmed(warning)? {
        return Ok(0);
    }
    let limited = !rule.filters.is_empty() || !rule.unused_for.is_zero();
    let grace = if limited { None } else { Some(if args.all { Duration::ZERO } else { GRACE }) };
    let pruned = app.store()?.prune(&[rule], grace, Unnamed::Kept).context("cannot prune the build cache")?;
    if docker {
        if !pruned.parts.is_empty() {
            outln!("Deleted build cache objects:")?;
            for part in &pruned.parts {
                outln!("{}", visible(&part.id))?;
            }
            outln!("")?;
        }
        outln!("Total reclaimed space: {}", bytes(pruned.bytes))?;
        return Ok(0);
    }
    if args.verbose {
        pruned.parts.iter().try_for_each(verbose)?;
    } else if !pruned.parts.is_empty() {
        out!("{}", table(&HEADER, &rows(&pruned.parts)))?;
    }
    outln!("Total:  {}", bytes(pruned.bytes))?;
    Ok(0)
}

/// What the flags mean.
fn rule(args: &PruneCache) -> anyhow::Result<Rule> {
    let (filters, unused_for) = filters(&args.filters)?;
    let size = |size: Option<ByteSize>| size.map_or(0, |size| size.0);
    Ok(Rule {
        all: args.all,
        filters,
        unused_for,
        reserved_space: size(args.reserved_space),
        max_used_space: size(args.max_used_space),
        min_free_space: size(args.min_free_space),
    })
}

/// `--filter`, and the time among them.
fn filters(texts: &[KeyValue]) -> anyhow::Result<(Vec<Filter>, Duration)> {
    let (mut filters, mut unused) = (Vec::new(), None);
    for KeyValue { key, value } in texts {
        if key == "until" || key == "unused-for" {
            if unused.is_some() {
                bail!("the filters until and unused-for mean the same and are given twice");
            }
            let given = value.as_deref().and_then(duration);
            unused = Some(given.with_context(|| format!("the filter {key} needs a duration, such as {key}=24h"))?);
        } else {
            filters.push(Filter::parse(key, value.as_deref())?);
        }
    }
    Ok((filters, unused.unwrap_or_default()))
}

const HEADER: [&str; 4] = ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"];

fn rows(parts: &[Usage]) -> Vec<Vec<String>> {
    let row = |part: &Usage| {
        vec![
            // buildx marks what may still change, and what images have too.
            format!("{}{}", part.id, if part.mutable { "*" } else { "" }),
            part.is_reclaimable().to_string(),
            format!("{}{}", bytes(part.size), if part.shared { "*" } else { "" }),
            format!("{} ago", human_duration(since(part.last_used))),
        ]
    };
    parts.iter().map(row).collect()
}

/// `lap du`
pub(in crate::command) fn du(app: &App, args: &DiskUsage) -> anyhow::Result<i32> {
    let (filters, unused) = filters(&args.filters)?;
    let mut parts = app.store()?.usage().context("cannot read the build cache")?;
    parts.retain(|part| since(part.last_used) >= unused && filters.iter().all(|filter| filter.matches(part)));
    if args.format == Some(Form::Json) {
        for part in &parts {
            outln!("{}", crate::ui::tame_json(&json(part)?))?;
        }
        return Ok(0);
    }
    if args.verbose {
        parts.iter().try_for_each(verbose)?;
    } else {
        out!("{}", table(&HEADER, &rows(&parts)))?;
    }
    let sum = |fits: &dyn Fn(&Usage) -> bool| parts.iter().filter(|part| fits(part)).map(|part| part.size).sum::<u64>();
    if parts.iter().any(|part| part.shared) {
        outln!("Shared:       {}", bytes(sum(&|part| part.shared)))?;
        outln!("Private:      {}", bytes(sum(&|part| !part.shared)))?;
    }
    outln!("Reclaimable:  {}", bytes(sum(&Usage::is_reclaimable)))?;
    outln!("Total:        {}", bytes(sum(&|_| true)))?;
    Ok(0)
}

fn json(part: &Usage) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(part)?;
    value["Reclaimable"] = part.is_reclaimable().into();
    for field in ["CreatedAt", "LastUsedAt"] {
        let seconds = value[field].as_u64().unwrap_or(0);
        value[field] = rfc3339(Duration::from_secs(seconds)).into();
    }
    Ok(value.to_string())
}

/// All about a part, in buildx's form.
fn verbose(part: &Usage) -> anyhow::Result<()> {
    outln!("ID:            {}", visible(&part.id))?;
    if !part.parents.is_empty() {
        outln!("Parents:       {}", part.parents.join(", "))?;
    }
    outln!("Created at:    {}", rfc3339(Duration::from_secs(part.created)))?;
    outln!("Mutable:       {}", part.mutable)?;
    outln!("Reclaimable:   {}", part.is_reclaimable())?;
    outln!("Shared:        {}", part.shared)?;
    outln!("Size:          {}", bytes(part.size))?;
    if !part.description.is_empty() {
        outln!("Description:   {}", visible(&part.description))?;
    }
    outln!("Last used:     {} ago", human_duration(since(part.last_used)))?;
    outln!("Type:          {}\n", part.kind.name())?;
    Ok(())
}

/// How long ago a time in seconds since 1970 was.
pub(super) fn since(seconds: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(seconds))
}

//! `lap image tree`: what makes an image large.

mod page;
mod weight;

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use lap_cache::digest::Digest;
use lap_cache::image::Image;
use lap_cache::layer::{Hidden, Stack};
use serde_json::json;

use crate::args::{InsideFormat, Tree};
use crate::command::App;
use crate::image::{need, short};
use crate::pipeline::to_file;
use crate::ui::table::bytes;
use crate::ui::{tame_json, visible};
use weight::{Wasted, Weight};
pub(crate) use weight::{one_line, shown_path};

/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 70;

pub(super) fn run(app: &App, args: &Tree) -> anyhow::Result<i32> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let image = need(store, &args.image)?.image;
    super::run::ensure_layers(app, &image)?;
    let chain: Vec<Digest> = image.diff_ids().collect();
    let stack = Stack::of(store, &chain).with_context(|| format!("cannot look into {}", args.image))?;
    let weight = Weight::new(&image, &stack);
    match &args.html {
        Some(path) => {
            let page = page::render(&args.image, &image, &weight)?;
            to_file(Some(path), |writer| Ok(writer.write_all(page.as_bytes())?))?;
            if path.as_os_str() != "-" {
                outln!("{}", visible(&path.display().to_string()))?;
            }
        }
        None if args.json || args.format == InsideFormat::Json => {
            let text = serde_json::to_string_pretty(&value(args, &image, &weight))?;
            outln!("{}", tame_json(&text))?;
        }
        None => out!("{}", text(args, &image, &weight))?,
    }
    if let Some(allowance) = args.max_wasted
        && allowance.is_exceeded(weight.wasted_bytes(), weight.total)
    {
        bail!("{} of {} are wasted, which is more than allowed", bytes(weight.wasted_bytes()), bytes(weight.total));
    }
    Ok(0)
}

fn text(args: &Tree, image: &Image, weight: &Weight) -> String {
    let count = weight.layers.len();
    let plural = if count == 1 { "" } else { "s" };
    let mut out = format!(
        "{}  {}  {}  {} in {count} layer{plural}\n",
        visible(&args.image),
        short(&image.id()),
        image.platform(),
        bytes(weight.total)
    );
    // Writing to a String cannot fail.
    for (number, layer) in (1..).zip(&weight.layers) {
        let (fork, trunk) = if number == count { ("└─", "  ") } else { ("├─", "│ ") };
        let command = match layer.command.chars().count() > COMMAND_WIDTH && !args.no_trunc {
            true => layer.command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect(),
            false => layer.command.clone(),
        };
        let line = format!("{fork} {number}  {:>7}  {command}", bytes(layer.size));
        let _ = writeln!(out, "{}", line.trim_end());
        for file in layer.files.iter().take(args.top).map(|at| &weight.files[*at]).filter(|file| file.size > 0) {
            let note = file.hidden.map(|hidden| format!("  ({})", fate(hidden))).unwrap_or_default();
            let _ = writeln!(out, "{trunk}      {:>7}  {}{note}", bytes(file.size), shown_path(&file.path));
        }
    }
    let wasted = weight.wasted_bytes();
    let _ = writeln!(out, "\nEfficiency: {:.1} %", weight.efficiency() * 100.0);
    let _ = writeln!(out, "Wasted:     {}", bytes(wasted));
    for Wasted { path, size, count, hidden } in weight.wasted.iter().take(args.top) {
        let times = if *count > 1 { format!(", {count} times") } else { String::new() };
        let _ = writeln!(out, "  {:>7}  {}  ({}{times})", bytes(*size), shown_path(path), fate(*hidden));
    }
    if weight.wasted.len() > args.top {
        let rest: u64 = weight.wasted.iter().skip(args.top).map(|one| one.size).sum();
        let _ = writeln!(out, "  {:>7}  in {} more", bytes(rest), weight.wasted.len() - args.top);
    }
    out
}

/// What has become of a file.
fn fate(hidden: Hidden) -> String {
    format!("{} in layer {}", if hidden.is_replaced { "replaced" } else { "removed" }, hidden.by + 1)
}

/// The shape of dive's report, with more in it.
fn value(args: &Tree, image: &Image, weight: &Weight) -> serde_json::Value {
    let file = |at: &usize| {
        let file = &weight.files[*at];
        json!({
            "path": String::from_utf8_lossy(&[b"/", &file.path[..]].concat()),
            "size": file.size,
            "hiddenByLayer": file.hidden.map(|hidden| hidden.by),
        })
    };
    let layers: Vec<_> = weight
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let files: Vec<_> = layer.files.iter().take(args.top).map(file).collect();
            json!({
                "index": index,
                "id": layer.digest,
                "digestId": layer.diff_id,
                "sizeBytes": layer.size,
                "wastedBytes": layer.wasted,
                "files": layer.files.len(),
                "command": image.commands()[index],
                "largestFiles": files,
            })
        })
        .collect();
    let wasted: Vec<_> = weight
        .wasted
        .iter()
        .map(|one| {
            let path = String::from_utf8_lossy(&[b"/", &one.path[..]].concat()).into_owned();
            json!({"count": one.count, "sizeBytes": one.size, "file": path})
        })
        .collect();
    json!({
        "layer": layers,
        "image": {
            "name": args.image,
            "id": image.id().to_string(),
            "platform": image.platform().to_string(),
            "sizeBytes": weight.total,
            "inefficientBytes": weight.wasted_bytes(),
            "efficiencyScore": weight.efficiency(),
            "fileReference": wasted,
        },
    })
}

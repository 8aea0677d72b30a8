//! `lap diff`: what a container has changed in its image, or what differs between two images.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use lap_cache::fs::{Kind, Metadata};
use lap_cache::image::Image;
use lap_cache::image::compare::{Aspect, Comparison, ConfigDifference, FileDifference, compare};
use lap_cache::layer::{Change, Top, changes};
use serde_json::{Value, json};

use super::containers::all;
use super::tree::{one_line, shown_path};
use crate::args::{Diff, InsideFormat};
use crate::command::App;
use crate::image::{find, need};
use crate::ui::error::advise;
use crate::ui::table::{bytes, rfc3339};
use crate::ui::{tame_json, visible};

pub(super) fn run(app: &App, args: &Diff) -> anyhow::Result<i32> {
    let as_json = args.json || args.format == InsideFormat::Json;
    let differs = match &args.second {
        Some(second) => images(app, args, second, as_json)?,
        None => container(app, args, as_json)?,
    };
    Ok(i32::from(differs && (args.exit_code || args.quiet)))
}

/// docker's `container diff`.
fn container(app: &App, args: &Diff, as_json: bool) -> anyhow::Result<bool> {
    if !args.ignore.is_empty() {
        bail!("--ignore is for two images: of a container, what was written is shown");
    }
    let container = match all(app)?.find(&args.first) {
        Err(error) if find(app.store()?, &args.first)?.is_some() => {
            return Err(advise(error, "name a second image to compare the image of this name with"));
        }
        found => found?,
    };
    let store = app.store()?;
    let changes = changes(store, &container.upper(), &container.config.layers)
        .with_context(|| format!("cannot look into {}", args.first))?;
    if args.quiet {
        return Ok(!changes.is_empty());
    }
    if as_json {
        // The Engine API's list: 0 is changed, 1 added, 2 deleted.
        let number = |change: &Change| match change {
            Change::Changed => 0,
            Change::Added => 1,
            Change::Deleted => 2,
        };
        let list: Vec<Value> =
            changes.iter().map(|(path, change)| json!({"Path": whole(path), "Kind": number(change)})).collect();
        outln!("{}", tame_json(&serde_json::to_string(&list)?))?;
        return Ok(!changes.is_empty());
    }
    let mut out = String::new();
    for (path, change) in &changes {
        let letter = match change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{letter} {}", shown_path(path));
    }
    out!("{out}")?;
    Ok(!changes.is_empty())
}

fn images(app: &App, args: &Diff, second: &str, as_json: bool) -> anyhow::Result<bool> {
    let store = app.store()?;
    let _lease = store.lease()?;
    let (before, after) = (need(store, &args.first)?.image, need(store, second)?.image);
    super::run::ensure_layers(app, &before)?;
    super::run::ensure_layers(app, &after)?;
    let ignored: Vec<Aspect> = args.ignore.iter().map(|what| Aspect::from(*what)).collect();
    let found = compare(store, &before, &after, &ignored)
        .with_context(|| format!("cannot compare {} with {second}", args.first))?;
    let differs = !found.is_empty();
    if args.quiet {
    } else if as_json {
        let value = value((&args.first, &before), (second, &after), &found);
        outln!("{}", tame_json(&serde_json::to_string_pretty(&value)?))?;
    } else {
        out!("{}", text((&args.first, &before), (second, &after), &found))?;
    }
    Ok(differs)
}

fn text((first, before): (&str, &Image), (second, after): (&str, &Image), found: &Comparison) -> String {
    let mut out = format!("--- {}\n+++ {}\n", visible(first), visible(second));
    // Writing to a String cannot fail.
    let _ = match found.shared_layers {
        1 => writeln!(out, "1 layer is shared"),
        count => writeln!(out, "{count} layers are shared"),
    };
    let changed = |difference: &&FileDifference, layer: usize| {
        difference.after.as_ref().is_some_and(|after| after.layer == layer)
    };
    for (sign, image) in [('-', before), ('+', after)] {
        let commands = image.commands();
        for (number, command) in commands.into_iter().enumerate().skip(found.shared_layers) {
            let command = command.map(one_line).unwrap_or_default();
            let _ = writeln!(out, "{sign} layer {}  {command}", number + 1);
            if sign == '+' {
                found.files.iter().filter(|one| changed(one, number)).for_each(|one| file_line(&mut out, one));
            }
        }
    }
    // What a shared layer shows again, since nothing hides it any more.
    for number in 0..found.shared_layers {
        found.files.iter().filter(|one| changed(one, number)).for_each(|one| file_line(&mut out, one));
    }
    found.files.iter().filter(|one| one.after.is_none()).for_each(|one| file_line(&mut out, one));
    if !found.config.is_empty() {
        out.push_str("config\n");
    }
    let show = |value: &Option<Value>| value.as_ref().map_or_else(String::new, |value| visible(&value.to_string()));
    for ConfigDifference { field, before, after } in &found.config {
        let field = visible(field);
        let _ = match (before, after) {
            (None, after) => writeln!(out, "  A {field}: {}", show(after)),
            (before, None) => writeln!(out, "  D {field}: {}", show(before)),
            (before, after) => writeln!(out, "  C {field}: {} → {}", show(before), show(after)),
        };
    }
    if found.is_empty() {
        out.push_str("no differences\n");
    }
    out
}

fn file_line(out: &mut String, one: &FileDifference) {
    let path = shown_path(&one.path);
    // Writing to a String cannot fail.
    let _ = match (&one.before, &one.after) {
        (Some(before), Some(after)) => {
            let (before, after) = (&before.node.metadata, &after.node.metadata);
            let what: Vec<String> = one.aspects.iter().map(|aspect| aspect_text(*aspect, before, after)).collect();
            writeln!(out, "  C {path}  ({})", what.join(", "))
        }
        (None, Some(after)) => writeln!(out, "  A {path}{}", size_of(after)),
        (Some(before), None) => writeln!(out, "  D {path}{}", size_of(before)),
        (None, None) => Ok(()),
    };
}

fn size_of(top: &Top) -> String {
    match top.node.metadata.kind {
        Kind::File { size } => format!("  {}", bytes(size)),
        _ => String::new(),
    }
}

fn aspect_text(aspect: Aspect, before: &Metadata, after: &Metadata) -> String {
    let (one, two) = (aspect_value(aspect, before), aspect_value(aspect, after));
    match (one, two) {
        (Some(one), Some(two)) => format!("{} {one} → {two}", aspect_name(aspect)),
        _ => aspect_name(aspect).to_owned(),
    }
}

const fn aspect_name(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Type => "type",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Size => "size",
        Aspect::Content => "content",
        Aspect::Target => "target",
        Aspect::Device => "device",
        Aspect::Xattrs => "xattrs",
        Aspect::Mtime => "mtime",
    }
}

/// What an entry has of an aspect, in short; nothing where that says nothing.
fn aspect_value(aspect: Aspect, metadata: &Metadata) -> Option<String> {
    Some(match (aspect, &metadata.kind) {
        (Aspect::Type, kind) => kind_name(kind).to_owned(),
        (Aspect::Mode, _) => format!("{:04o}", metadata.mode),
        (Aspect::Owner, _) => format!("{}:{}", metadata.uid, metadata.gid),
        (Aspect::Size, Kind::File { size }) => size.to_string(),
        (Aspect::Target, Kind::Symlink { target }) => visible(&String::from_utf8_lossy(target)),
        (Aspect::Device, Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }) => {
            format!("{major}:{minor}")
        }
        (Aspect::Xattrs, _) => {
            let names: Vec<_> = metadata.xattrs.keys().map(|name| visible(&String::from_utf8_lossy(name))).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(" ") }
        }
        (Aspect::Mtime, _) => {
            let seconds = u64::try_from(metadata.mtime.seconds).ok()?;
            rfc3339(std::time::Duration::new(seconds, metadata.mtime.nanoseconds))
        }
        _ => return None,
    })
}

const fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::File { .. } => "file",
        Kind::Directory => "directory",
        Kind::Symlink { .. } => "symlink",
        Kind::CharDevice { .. } => "character device",
        Kind::BlockDevice { .. } => "block device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

fn whole(path: &[u8]) -> String {
    String::from_utf8_lossy(&[b"/", path].concat()).into_owned()
}

fn value((first, before): (&str, &Image), (second, after): (&str, &Image), found: &Comparison) -> Value {
    let image = |name: &str, image: &Image| {
        let commands = image.commands();
        let layers = image.layers.iter().zip(commands).enumerate().map(|(number, (layer, command))| {
            json!({
                "diffId": layer.diff_id.to_string(),
                "shared": number < found.shared_layers,
                "command": command,
            })
        });
        json!({"name": name, "id": image.id().to_string(), "layers": layers.collect::<Vec<_>>()})
    };
    let entry = |top: &Option<Top>| {
        top.as_ref().map(|Top { layer, node, .. }| {
            let metadata = &node.metadata;
            let mut value = json!({
                "layer": layer,
                "type": kind_name(&metadata.kind),
                "mode": format!("{:04o}", metadata.mode),
                "uid": metadata.uid,
                "gid": metadata.gid,
                "mtime": metadata.mtime.seconds,
            });
            match &metadata.kind {
                Kind::File { size } => value["size"] = (*size).into(),
                Kind::Symlink { target } => value["target"] = String::from_utf8_lossy(target).into(),
                _ => {}
            }
            value
        })
    };
    let files: Vec<Value> = found
        .files
        .iter()
        .map(|one| {
            let change = match (&one.before, &one.after) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            };
            let aspects: Vec<_> = one.aspects.iter().map(|aspect| aspect_name(*aspect)).collect();
            json!({
                "path": whole(&one.path),
                "change": change,
                "differs": aspects,
                "before": entry(&one.before),
                "after": entry(&one.after),
            })
        })
        .collect();
    let config: Vec<Value> =
        found.config.iter().map(|one| json!({"field": one.field, "before": one.before, "after": one.after})).collect();
    json!({"before": image(first, before), "after": image(second, after), "files": files, "config": config})
}

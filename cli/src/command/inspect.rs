//! `lap inspect`

use std::path::Path;

use anyhow::Context as _;
use lap_cache::store::Store;
use lap_executor::container::{Container, Containers};
use serde_json::{Value as Json, json};

use crate::args::Inspect;
use crate::command::{App, containers};
use crate::exit::FAILED;
use crate::image::{Found, find, for_platform, no_such_image};
use crate::shape;
use crate::template::{MissingKey, Template, Value};
use crate::ui::table::rfc3339;
use crate::ui::{tame_json, visible};

pub(super) fn run(app: &App, args: &Inspect) -> anyhow::Result<i32> {
    let store = app.store()?;
    let containers = containers::all(app)?;
    let format = match args.these.format.as_str() {
        "" | "json" => None,
        text => Some(Template::parse(text).context("template parsing error")?),
    };
    let mut all = Vec::new();
    let mut code = 0;
    for name in &args.these.names {
        let kind = args.kind.as_deref();
        let container = if kind == Some("image") { None } else { containers.find(name).ok() };
        let value = match container {
            Some(container) => Some(self::container(store, &containers, &container, args.these.size)?),
            None if kind == Some("container") => None,
            None => match find(store, name)? {
                Some(found) => Some(image(store, &for_platform(store, found, args.these.platform.as_deref())?)?),
                None => None,
            },
        };
        match (value, &format) {
            (Some(value), None) => all.push(value),
            (Some(value), Some(template)) => out!("{}\n", show(execute(template, &value)?))?,
            (None, _) => {
                match kind {
                    Some("image") => eprintln!("lap: {}", no_such_image(name)),
                    kind => eprintln!("lap: No such {}: {name}", kind.unwrap_or("object")),
                }
                code = FAILED;
            }
        }
    }
    if format.is_none() {
        let all = Value::list("interface {}", all);
        let text = if args.these.format == "json" { all.json() } else { all.json_lines() };
        outln!("{}", tame_json(&text))?;
    }
    Ok(code)
}

/// What a template says of one thing, with a newline.
///
/// # Errors
/// Where the template is none or asks for what is not there.
pub(super) fn said(format: &str, value: &Value) -> anyhow::Result<String> {
    if format == "json" {
        return Ok(format!("{}\n", tame_json(&value.json())));
    }
    let template = Template::parse(format).context("template parsing error")?;
    Ok(show(execute(&template, value)?) + "\n")
}

/// As Docker does: what the typed value does not have is looked for in its JSON, where fields go by other names.
fn execute(template: &Template, value: &Value) -> anyhow::Result<String> {
    match template.execute(value, MissingKey::NoValue) {
        Ok(text) => Ok(text),
        Err(_) => template.execute(&value.raw(), MissingKey::Error).context("template parsing error"),
    }
}

/// Text of others as it is for programs, and made harmless for terminals.
pub(super) fn show(text: String) -> String {
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) { visible(&text) } else { text }
}

fn container(store: &Store, containers: &Containers, container: &Container, size: bool) -> anyhow::Result<Value> {
    let mut json = containers.inspect(container);
    if size {
        let own = bytes_below(&container.upper());
        json["SizeRw"] = json!(own);
        json["SizeRootFs"] = json!(own.saturating_add(layer_bytes(store, &container.config.layers)?));
    }
    Ok(shape::container(json))
}

/// Bytes of the files in some layers.
///
/// # Errors
/// Where the store cannot be read.
pub(super) fn layer_bytes<'a>(
    store: &Store,
    layers: impl IntoIterator<Item = &'a lap_cache::digest::Digest>,
) -> anyhow::Result<u64> {
    let mut size = 0u64;
    for layer in layers {
        size = size.saturating_add(store.layer(layer)?.map_or(0, |layer| layer.bytes));
    }
    Ok(size)
}

/// Bytes of the regular files below a directory; what cannot be read counts nothing.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let (mut size, mut dirs) = (0u64, vec![dir.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => dirs.push(entry.path()),
                Ok(meta) if meta.is_file() => size = size.saturating_add(meta.len()),
                _ => {}
            }
        }
    }
    size
}

/// When an image got the newest of its names, in seconds since 1970; Go's zero time where it has none.
fn last_tag_time(tagged: Option<u64>) -> String {
    match tagged {
        Some(seconds) if seconds > 0 => rfc3339(std::time::Duration::from_secs(seconds)),
        _ => "0001-01-01T00:00:00Z".to_owned(),
    }
}

/// An image in Docker's shape.
fn image(store: &Store, found: &Found) -> anyhow::Result<Value> {
    let Found { image, entry: target, .. } = found;
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    let mut tagged = None;
    for entry in store.names()?.into_iter().filter(|entry| entry.digest == target.digest) {
        let set_at = entry.set_at();
        if let Some(name) = entry.name {
            tagged = tagged.max(Some(set_at));
            tags.push(name.familiar());
            digests.push(format!("{}@{}", name.familiar_name(), entry.digest));
        }
    }
    digests.dedup();
    let layers: Vec<_> = image.diff_ids().collect();
    let dir = |layer| store.layer_files(layer).to_string_lossy().into_owned();
    let mut data = serde_json::Map::new();
    if let Some((top, below)) = layers.split_last() {
        data.insert("UpperDir".to_owned(), Json::String(dir(top)));
        if !below.is_empty() {
            let below: Vec<String> = below.iter().rev().map(dir).collect();
            data.insert("LowerDir".to_owned(), Json::String(below.join(":")));
        }
    }
    let config = &image.config;
    Ok(shape::image(&json!({
        "Id": image.id().to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": layer_bytes(store, &layers)?,
        "GraphDriver": {"Name": "overlay", "Data": data},
        "Config": config.config,
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": last_tag_time(tagged)},
        "Descriptor": {
            "mediaType": target.descriptor.media_type().to_string(),
            "digest": target.digest.to_string(),
            "size": target.descriptor.size(),
        },
    })))
}

//! The weights as one HTML page with a treemap. It needs nothing else, and nothing but its own script and style counts in it.

use std::collections::BTreeMap;

use lap_cache::digest::Digest;
use lap_cache::image::Image;
use serde_json::{Value, json};

use super::weight::{Weight, shown_name};
use super::{fate, shown_path};
use crate::ui::html::{escaped, script_json};
use crate::ui::table::bytes;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Entries that are smaller than this part of the whole are shown together.
const GRAIN: u64 = 4000;
/// Directories within directories that are told apart.
const DEPTH: usize = 64;
/// Wasted files in the list.
const WASTED: usize = 100;

/// The page.
///
/// # Errors
/// Where the data have no JSON form.
pub(super) fn render(name: &str, image: &Image, weight: &Weight) -> anyhow::Result<String> {
    let layers: Vec<Value> = weight
        .layers
        .iter()
        .map(|layer| json!({"command": layer.command, "size": layer.size, "wasted": layer.wasted}))
        .collect();
    let data = json!({"layers": layers, "root": tree(weight)});
    let mut rows = String::new();
    for one in weight.wasted.iter().take(WASTED) {
        rows.push_str(&format!(
            "<tr><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td></tr>\n",
            bytes(one.size),
            one.count,
            escaped(&shown_path(&one.path)),
            fate(one.hidden)
        ));
    }
    if rows.is_empty() {
        rows.push_str("<tr><td colspan=\"4\">nothing</td></tr>\n");
    }
    let name = escaped(&shown_name(name.as_bytes()));
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src '{style_hash}'; script-src '{script_hash}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}: what is heavy</title>\n\
         <style>{STYLE}</style></head>\n<body>\n<h1>{name}</h1>\n\
         <p class=\"facts\">{id} · {platform} · {total} in {count} layers · <strong>{wasted} wasted</strong> · \
         efficiency {efficiency:.1} %</p>\n<noscript><p>The map needs JavaScript; the list below does not.</p></noscript>\n\
         <nav id=\"views\" aria-label=\"What is shown\"></nav>\n<nav id=\"crumbs\" aria-label=\"Directory\"></nav>\n\
         <div id=\"map\" role=\"group\" aria-label=\"Map of sizes\"></div>\n\
         <table id=\"list\"><caption></caption><thead><tr><th scope=\"col\">Size</th><th scope=\"col\">Share</th>\
         <th scope=\"col\">Name</th><th scope=\"col\">Layer</th></tr></thead><tbody></tbody></table>\n\
         <h2>Wasted</h2>\n<table><thead><tr><th scope=\"col\">Size</th><th scope=\"col\">Times</th><th scope=\"col\">File</th>\
         <th scope=\"col\">Why</th></tr></thead><tbody>\n{rows}</tbody></table>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script>\n</body></html>\n",
        style_hash = Digest::of(STYLE.as_bytes()).integrity(),
        script_hash = Digest::of(SCRIPT.as_bytes()).integrity(),
        id = image.id(),
        platform = escaped(&shown_name(image.platform().to_string().as_bytes())),
        total = bytes(weight.total),
        count = weight.layers.len(),
        wasted = bytes(weight.wasted_bytes()),
        efficiency = weight.efficiency() * 100.0,
        data = script_json(&serde_json::to_string(&data)?),
    ))
}

/// Data of one kind: of which layer, and hidden by which.
type Kind = (usize, Option<usize>);

#[derive(Default)]
struct Directory {
    directories: BTreeMap<Vec<u8>, Self>,
    /// Name, size, kind.
    files: Vec<(Vec<u8>, u64, Kind)>,
    size: u64,
}

/// Every file of every layer below its directory. A leaf is `{n: name, s: size, l: layer, h: hidden by}`, a directory
/// `{n: name, c: [...]}`.
fn tree(weight: &Weight) -> Value {
    let mut root = Directory::default();
    for file in weight.files.iter().filter(|file| file.size > 0) {
        let mut parts: Vec<&[u8]> = file.path.splitn(DEPTH, |byte| *byte == b'/').collect();
        let Some(name) = parts.pop() else { continue };
        let mut at = &mut root;
        at.size += file.size;
        for part in parts {
            at = at.directories.entry(part.to_vec()).or_default();
            at.size += file.size;
        }
        at.files.push((name.to_vec(), file.size, (file.layer, file.hidden.map(|hidden| hidden.by))));
    }
    let least = weight.total / GRAIN;
    json!({"n": "", "c": children(root, least)})
}

/// What is too small to be shown for itself: files and bytes by kind.
type Small = BTreeMap<Kind, (u64, u64)>;

/// The entries of a directory; what is small in it is added up at its end.
fn children(directory: Directory, least: u64) -> Vec<Value> {
    let mut list = Vec::new();
    let mut small = Small::default();
    for (name, inner) in directory.directories {
        match inner.size < least {
            true => gather(inner, &mut small),
            false => list.push(json!({"n": shown_name(&name), "c": children(inner, least)})),
        }
    }
    for (name, size, kind) in directory.files {
        match size < least {
            true => add(&mut small, kind, 1, size),
            false => list.push(leaf(&shown_name(&name), size, kind)),
        }
    }
    for (kind, (count, size)) in small {
        let files = if count == 1 { "file" } else { "files" };
        list.push(leaf(&format!("({count} small {files})"), size, kind));
    }
    list
}

fn gather(directory: Directory, small: &mut Small) {
    for (_, size, kind) in directory.files {
        add(small, kind, 1, size);
    }
    directory.directories.into_values().for_each(|inner| gather(inner, small));
}

fn add(small: &mut Small, kind: Kind, count: u64, size: u64) {
    let sum = small.entry(kind).or_default();
    *sum = (sum.0 + count, sum.1 + size);
}

fn leaf(name: &str, size: u64, (layer, hidden): Kind) -> Value {
    let mut value = json!({"n": name, "s": size, "l": layer});
    if let Some(hidden) = hidden {
        value["h"] = hidden.into();
    }
    value
}

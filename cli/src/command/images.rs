//! `lap images`

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lap_cache::digest::Digest;
use lap_cache::image::{Image, Reference};
use lap_cache::names::Entry;
use lap_cache::store::Store;

use crate::args::Images;
use crate::command::inspect::{layer_bytes, show};
use crate::command::{App, image_filter};
use crate::docker_config::DockerConfig;
use crate::image::{image_of, short};
use crate::template::{Listing, Row};
use crate::ui::table::{bytes, human_duration, rfc3339, seconds_of_rfc3339};

const TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

pub(super) fn run(app: &App, args: &Images) -> anyhow::Result<i32> {
    let store = app.store()?;
    let filter = image_filter::Filter::new(store, &args.filters, args.name.as_deref())?;
    let default = if args.digests { TABLE_WITH_DIGESTS } else { TABLE };
    let format = match args.format.as_str() {
        _ if args.quiet => "{{.ID}}".to_owned(),
        "" => DockerConfig::read(&app.settings).images_format,
        given => given.to_owned(),
    };
    let list = Listing::new(&format, default).context("template parsing error")?;
    let entries = store.names()?;
    // By image, where it was named last.
    let last: BTreeMap<Digest, usize> = entries.iter().enumerate().map(|(at, entry)| (entry.digest, at)).collect();
    let mut rows = Vec::new();
    for entry in entries.iter().filter(|entry| filter.fits_name(entry)) {
        let image = image_of(store, entry)?;
        if filter.fits(entry, &image) {
            let created = image.config.created.as_deref().and_then(seconds_of_rfc3339);
            let name = entry.name.as_ref().map(Reference::familiar);
            let order = (Reverse(created), Reverse(last.get(&entry.digest).copied()), name);
            rows.push((order, row(store, entry, &image, args.no_trunc)?));
        }
    }
    // As Docker lists them: what was made last comes first, the names of an image stand together.
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    out!("{}", show(list.render(HEADINGS, rows).context("template parsing error")?))?;
    Ok(0)
}

fn row(store: &Store, entry: &Entry, image: &Image, whole: bool) -> anyhow::Result<Row> {
    let (repository, tag) = match &entry.name {
        Some(name) => (name.familiar_name(), name.tag().unwrap_or("<none>").to_owned()),
        None => ("<none>".to_owned(), "<none>".to_owned()),
    };
    let size = bytes(layer_bytes(store, &image.diff_ids().collect::<Vec<_>>())?);
    let created = image.config.created.as_deref();
    Ok(Row::new("*formatter.imageContext")
        .field("ID", if whole { image.id().to_string() } else { short(&image.id()) })
        .field("Repository", repository)
        .field("Tag", tag)
        .field("Digest", entry.digest.to_string())
        .field("CreatedSince", created_since(created))
        .field("CreatedAt", created_at(created))
        .field("Size", size.clone())
        .field("VirtualSize", size)
        .field("Containers", "N/A")
        .field("SharedSize", "N/A")
        .field("UniqueSize", "N/A"))
}

/// `3 hours ago`; `N/A` where it is not known.
pub(super) fn created_since(created: Option<&str>) -> String {
    let Some(then) = created.and_then(seconds_of_rfc3339).and_then(|seconds| u64::try_from(seconds).ok()) else {
        return "N/A".to_owned();
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{} ago", human_duration(now.saturating_sub(Duration::from_secs(then))))
}

/// `2026-01-02 03:04:05 +0000 UTC`, as Go prints a time.
pub(super) fn created_at(created: Option<&str>) -> String {
    let Some(then) = created.and_then(seconds_of_rfc3339).and_then(|seconds| u64::try_from(seconds).ok()) else {
        return "N/A".to_owned();
    };
    go_time(Duration::from_secs(then))
}

/// A time since 1970 as Go prints it.
pub(super) fn go_time(since_epoch: Duration) -> String {
    rfc3339(since_epoch).replace('T', " ").replace('Z', " +0000 UTC")
}

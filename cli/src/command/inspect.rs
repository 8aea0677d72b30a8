//! `lap inspect`

use lap_cache::store::Store;
use serde_json::{Value, json};

use crate::args::Inspect;
use crate::command::{App, containers};
use crate::exit::FAILED;
use crate::image::{Found, find};

pub(super) fn run(app: &App, args: &Inspect) -> anyhow::Result<i32> {
    let store = app.store()?;
    let containers = containers::all(app)?;
    let mut all = Vec::new();
    let mut code = 0;
    for name in &args.names {
        let kind = args.kind.as_deref();
        let container = if kind == Some("image") { None } else { containers.find(name).ok() };
        let value = match container {
            Some(container) => Some(containers.inspect(&container)),
            None if kind == Some("container") => None,
            None => find(store, name)?.map(|found| image(store, &found)).transpose()?,
        };
        match value {
            Some(value) => all.push(value),
            None => {
                eprintln!("lap: no such {}: {name}", kind.unwrap_or("container or image"));
                code = FAILED;
            }
        }
    }
    outln!("{}", crate::ui::tame_json(&serde_json::to_string_pretty(&all)?))?;
    Ok(code)
}

/// An image in Docker's shape.
fn image(store: &Store, found: &Found) -> anyhow::Result<Value> {
    let Found { image, entry: target, .. } = found;
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for entry in store.names()?.into_iter().filter(|entry| entry.digest == target.digest) {
        if let Some(name) = entry.name {
            tags.push(name.familiar());
            digests.push(format!("{}@{}", name.familiar_name(), entry.digest));
        }
    }
    digests.dedup();
    let mut size = 0u64;
    for diff_id in image.diff_ids() {
        size = size.saturating_add(store.layer(&diff_id)?.map_or(0, |layer| layer.bytes));
    }
    let config = &image.config;
    Ok(json!({
        "Id": image.id().to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": size,
        "Config": config.config,
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Descriptor": {
            "mediaType": target.descriptor.media_type().to_string(),
            "digest": target.digest.to_string(),
            "size": target.descriptor.size(),
        },
    }))
}

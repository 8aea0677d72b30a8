//! `lap push`

use anyhow::{Context as _, bail};
use lap_cache::image::index::Role;
use lap_cache::image::{Artifact, Compression, Image, Index, Reference, recompressed};
use lap_cache::registry::Client;
use lap_solver::event::Events;

use crate::args::Push;
use crate::command::App;
use crate::complete::{complete, complete_by};
use crate::image::{reference, repository};
use crate::registry::{block_on, client};
use crate::ui::{Mode, Screen};

pub(super) fn run(app: &App, args: Push) -> anyhow::Result<i32> {
    let store = app.store()?;
    let (names, wanted) = if args.all_tags {
        let wanted = repository(&args.image)?;
        let entries = store.names()?.into_iter().filter_map(|entry| entry.name);
        let of_it = entries.filter(|name| name.name() == wanted.name() && name.tag().is_some());
        (of_it.collect(), wanted.familiar_name())
    } else {
        let name = reference(&args.image)?;
        let shown = name.familiar();
        (if store.name_get(&name)?.is_some() { vec![name] } else { Vec::new() }, shown)
    };
    if names.is_empty() {
        bail!("An image does not exist locally with the tag: {wanted}");
    }
    let packing = Packing::of(&args)?;
    let _lease = store.lease()?;
    let client = client(&app.settings, &[])?;
    let mode = if args.quiet { Mode::Quiet } else { args.progress.unwrap_or(Mode::Auto) };
    for name in names {
        let screen = Screen::start(mode, app.settings.color);
        let result = push(app, &client, &name, packing, &screen.events());
        drop(screen.finish());
        let artifact = result?;
        if args.quiet {
            outln!("{name}")?;
        } else {
            let (tag, digest) = (name.tag().unwrap_or("latest"), artifact.digest());
            outln!("{tag}: digest: {digest} size: {}", artifact.raw().len())?;
        }
    }
    Ok(0)
}

/// Sends what a name of the store stands for.
fn push(
    app: &App,
    client: &Client,
    name: &Reference,
    packing: Option<Packing>,
    events: &Events,
) -> anyhow::Result<Artifact> {
    let store = app.store()?;
    let digest = store.name_get(name)?.with_context(|| format!("no such image: {}", name.familiar()))?;
    let artifact = match store.artifact(&digest)? {
        Artifact::Image(image) => match packing {
            None => complete(app, *image, events)?.into(),
            Some(packing) => packing.image(app, *image, events)?.into(),
        },
        Artifact::Index(index) => match packing {
            Some(packing) if packing.force => packing.index(app, *index, events)?.into(),
            _ => Artifact::Index(index),
        },
    };
    block_on(async {
        let pushed = client.push_artifact(store, &artifact, name, events).await;
        pushed.with_context(|| format!("cannot push {}", name.familiar()))
    })?;
    Ok(artifact)
}

/// How layers are to be compressed.
#[derive(Debug, Clone, Copy)]
struct Packing {
    compression: Compression,
    /// Those too that are compressed already.
    force: bool,
}

impl Packing {
    fn of(args: &Push) -> anyhow::Result<Option<Self>> {
        let Some(format) = &args.compression_format else { return Ok(None) };
        let mut compression: Compression = format.parse()?;
        if let Some(level) = args.compression_level {
            compression = compression.at_level(level)?;
        }
        Ok(Some(Self { compression, force: args.force_compression.unwrap_or(true) }))
    }

    fn image(self, app: &App, image: Image, events: &Events) -> anyhow::Result<Image> {
        let image = complete_by(app, image, self.compression, events)?;
        if !self.force {
            return Ok(image);
        }
        Ok(recompressed(app.store()?, &image, self.compression, events)?)
    }

    /// The same images in another index.
    fn index(self, app: &App, index: Index, events: &Events) -> anyhow::Result<Index> {
        if index.entries.iter().any(|entry| entry.role != Role::Runnable) {
            bail!(
                "the attestations of the image speak of its digest, which another compression changes: \
                 build it with --output type=image,compression={} instead",
                self.compression
            );
        }
        let mut entries = index.entries;
        for entry in &mut entries {
            entry.image = self.image(app, entry.image.clone(), events)?;
        }
        let annotations = annotations(&index.raw);
        Ok(Index::assemble(app.store()?, entries, &annotations)?)
    }
}

/// The annotations of an index.
fn annotations(raw: &[u8]) -> std::collections::BTreeMap<String, String> {
    let document: serde_json::Value = serde_json::from_slice(raw).unwrap_or_default();
    serde_json::from_value(document["annotations"].clone()).unwrap_or_default()
}

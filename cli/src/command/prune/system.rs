//! `lap container prune`, `lap image prune`, `lap system prune`: Docker's questions and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lap_cache::digest::Digest;
use lap_cache::gc::{Rule, Unnamed, Usage};
use lap_cache::names::Entry;
use lap_cache::store::Store;
use lap_executor::container::{Container, State};

use super::confirmed;
use super::filter::{Filters, whole};
use crate::args::{PruneContainers, PruneImages, PruneSystem};
use crate::command::inspect::layer_bytes;
use crate::command::{App, containers};
use crate::docker_config::DockerConfig;
use crate::image::image_of;
use crate::ui::table::{bytes, seconds_of_rfc3339};

/// `lap container prune`
pub(in crate::command) fn prune_containers(app: &App, args: &PruneContainers) -> anyhow::Result<i32> {
    let filters = Filters::parse(&filter_texts(app, &args.filters))?;
    if !args.force && !confirmed("WARNING! This will remove all stopped containers.\n")? {
        return Ok(0);
    }
    let (ids, freed) = remove_containers(app, &filters)?;
    section("Deleted Containers:", &ids)?;
    total(freed)
}

/// `lap image prune`
pub(in crate::command) fn prune_images(app: &App, args: &PruneImages) -> anyhow::Result<i32> {
    let filters = Filters::parse(&filter_texts(app, &args.filters))?;
    let all = filters.dangling.map_or(args.all, |dangling| !dangling);
    let warning = match all {
        true => "WARNING! This will remove all images without at least one container associated to them.\n",
        false => "WARNING! This will remove all dangling images.\n",
    };
    if !args.force && !confirmed(warning)? {
        return Ok(0);
    }
    let kept = Kept { each: args.keep.unwrap_or(0), bytes: args.keep_bytes.map_or(0, |size| size.0) };
    let (lines, freed) = remove_images(app, all, &filters, kept)?;
    section("Deleted Images:", &lines)?;
    total(freed)
}

/// `lap system prune`
pub(super) fn prune(app: &App, args: &PruneSystem) -> anyhow::Result<i32> {
    let texts = filter_texts(app, &args.filters);
    let filters = Filters::parse(&texts)?;
    let mut warning = "WARNING! This will remove:\n  - all stopped containers\n".to_owned();
    warning += match args.all {
        true => "  - all images without at least one container associated to them\n  - all build cache\n",
        false => "  - all dangling images\n  - unused build cache\n",
    };
    if !texts.is_empty() {
        warning += "\n  Items to be pruned will be filtered with:\n";
        texts.iter().for_each(|filter| warning += &format!("  - {filter}\n"));
    }
    if !args.force && !confirmed(&(warning + "\n"))? {
        return Ok(0);
    }
    let (ids, mut freed) = remove_containers(app, &filters)?;
    section("Deleted Containers:", &ids)?;
    let (lines, of_images) = remove_images(app, args.all, &filters, Kept::default())?;
    section("Deleted Images:", &lines)?;
    freed += of_images;
    // Parts of the cache have no labels: with a filter by label, none fits.
    if texts.is_empty() {
        let grace = if args.all { Duration::ZERO } else { Duration::from_secs(600) };
        let pruned = app.store()?.prune(&[Rule { all: args.all, ..Rule::default() }], Some(grace), Unnamed::Kept)?;
        let ids: Vec<String> = pruned.parts.into_iter().map(|part: Usage| part.id).collect();
        section("Deleted build cache objects:", &ids)?;
        freed += pruned.bytes;
    }
    total(freed)
}

/// The filters of the command line and those that Docker's `config.json` adds.
fn filter_texts(app: &App, given: &[String]) -> Vec<String> {
    DockerConfig::read(&app.settings).prune_filters_with(given)
}

fn section(title: &str, lines: &[String]) -> anyhow::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    outln!("{title}")?;
    lines.iter().try_for_each(|line| outln!("{line}"))?;
    Ok(outln!("")?)
}

fn total(freed: u64) -> anyhow::Result<i32> {
    outln!("Total reclaimed space: {}", bytes(freed))?;
    Ok(0)
}

/// Removes containers that do not run; their ids, and the bytes that they had changed.
fn remove_containers(app: &App, filters: &Filters) -> anyhow::Result<(Vec<String>, u64)> {
    let all = containers::all(app)?;
    let (mut ids, mut freed) = (Vec::new(), 0);
    for container in all.list()? {
        let fits = filters.match_all(whole(container.config.created), &container.config.labels);
        if matches!(container.state, State::Running(_)) || !fits {
            continue;
        }
        let (id, size) = (container.id().to_owned(), Store::space_of(&container.upper()));
        // One that was started or removed meanwhile is not ours to remove any more.
        if all.remove(container, false).is_ok() {
            ids.push(id);
            freed += size;
        }
    }
    Ok((ids, freed))
}

/// Images that containers are of.
fn used_images(containers: &[Container]) -> BTreeSet<Digest> {
    containers.iter().filter_map(|container| container.config.image_digest).collect()
}

/// What stays although it would fit.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    /// Images of each repository, the newest.
    each: usize,
    /// Bytes of files of the newest images together.
    bytes: u64,
}

impl Kept {
    /// Takes what stays out of a list.
    fn take(self, store: &Store, list: &mut Vec<Candidate>) -> anyhow::Result<()> {
        // Newest first; of equals, the one that was named last.
        list.reverse();
        list.sort_by_key(|candidate| std::cmp::Reverse(candidate.created));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let (mut layers, mut used) = (BTreeSet::new(), 0u64);
        let mut gone = Vec::new();
        for candidate in list.drain(..) {
            let count = candidate.entry.name.as_ref().map(|name| counts.entry(name.name()).or_default());
            let is_new = count.is_some_and(|count| {
                *count += 1;
                *count <= self.each
            });
            let own = candidate.layers.iter().filter(|layer| !layers.contains(*layer));
            let more = layer_bytes(store, own)?;
            if self.bytes > 0 && used.saturating_add(more) <= self.bytes {
                used = used.saturating_add(more);
                layers.extend(candidate.layers.iter().copied());
            } else if !is_new {
                gone.push(candidate);
            }
        }
        *list = gone;
        Ok(())
    }
}

/// An image that may go.
struct Candidate {
    entry: Entry,
    /// In seconds since 1970.
    created: i64,
    layers: Vec<Digest>,
}

/// Removes images without a name, or all that no container is of; what was taken away, and the bytes of files.
fn remove_images(app: &App, all: bool, filters: &Filters, kept: Kept) -> anyhow::Result<(Vec<String>, u64)> {
    let store = app.store()?;
    let used = used_images(&containers::all(app)?.list()?);
    let mut candidates = Vec::new();
    for entry in store.names()? {
        if entry.name.is_some() && !all {
            continue;
        }
        // An image that cannot be read has neither labels nor a time.
        let image = image_of(store, &entry).ok();
        let is_used =
            used.contains(&entry.digest) || image.as_ref().is_some_and(|image| used.contains(&image.digest()));
        let labels = image.as_ref().map(|image| image.config.config.labels.clone()).unwrap_or_default();
        let created = image.as_ref().and_then(|image| seconds_of_rfc3339(image.config.created.as_deref()?));
        if is_used || !filters.match_all(created.unwrap_or(0), &labels) {
            continue;
        }
        let layers = image.iter().flat_map(lap_cache::image::Image::diff_ids).collect();
        candidates.push(Candidate { entry, created: created.unwrap_or(0), layers });
    }
    if kept.each > 0 || kept.bytes > 0 {
        kept.take(store, &mut candidates)?;
    }
    let mut lines = Vec::new();
    for Candidate { entry, .. } in candidates {
        let removed = match &entry.name {
            Some(name) => store.name_remove(name)?,
            None => store.image_remove(&entry.digest)?,
        };
        lines.extend(removed.untagged.iter().map(|name| format!("untagged: {}", name.familiar())));
        lines.extend(removed.deleted.iter().map(|digest| format!("deleted: {digest}")));
    }
    let freed = if lines.is_empty() { 0 } else { store.prune_unreferenced(Duration::ZERO)?.bytes };
    Ok((lines, freed))
}

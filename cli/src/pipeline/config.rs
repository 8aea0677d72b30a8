//! The config of a built image: the frontend's intent, with a history that fits the layers.

use std::time::Duration;

use lap_cache::digest::Digest;
use lap_cache::store::Store;
use lap_executor::worker::Output;
use lap_solver::drive::Solution;
use lap_solver::graph::{Graph, Op, VertexId};
use lap_solver::image::{History, ImageConfig};
use lap_solver::intent::ImageIntent;

use crate::ui::table::rfc3339;

/// Completes the intent's config once the layers are known.
///
/// Times are those of the layers' making, so a build that makes no new layer makes no new image; or all are `epoch`
/// (the time since 1970) where one is given.
///
/// # Errors
/// Where the store cannot be read.
pub(super) fn complete(
    store: &Store,
    graph: &Graph,
    intent: &ImageIntent,
    solution: &Solution<Output>,
    layers: &[Digest],
    epoch: Option<Duration>,
) -> anyhow::Result<ImageConfig> {
    let made_at = |layer: &Digest| match epoch {
        Some(epoch) => Ok(Some(rfc3339(epoch))),
        None => store.layer_made_at(layer).map(|at| at.map(rfc3339)),
    };
    let made_at = layers.iter().map(made_at).collect::<Result<Vec<_>, _>>()?;
    let count = |vertex: VertexId| {
        solution.outputs.get(&vertex).and_then(Output::snapshot).map_or(0, |snapshot| snapshot.layers.len())
    };
    let base = match intent.history.iter().find_map(|entry| entry.vertex) {
        None => layers.len(),
        Some(first) => root_of(graph, first).map_or(0, count),
    };
    let entries = intent.history.iter().map(|entry| (entry.entry.clone(), entry.vertex.map(count)));
    Ok(with_history(intent.config.clone(), base, entries, &made_at, epoch.map(rfc3339)))
}

/// The step whose layers a step adds to.
fn root_of(graph: &Graph, id: VertexId) -> Option<VertexId> {
    let vertex = graph.vertex(id);
    let root = match &vertex.op {
        Op::Exec(exec) => exec.root?,
        Op::File(file) => file.root?,
        Op::Merge => 0,
        Op::Source(_) => return None,
    };
    vertex.inputs.get(root as usize).copied()
}

/// `config` holds the history of the base, which has `base` layers. Each entry comes with the number of layers after
/// it, where it belongs to a step.
fn with_history(
    mut config: ImageConfig,
    base: usize,
    entries: impl Iterator<Item = (History, Option<usize>)>,
    made_at: &[Option<String>],
    epoch: Option<String>,
) -> ImageConfig {
    fit_to_base(&mut config.history, base);
    let last = config.history.iter().rev().find_map(|entry| entry.created.clone());
    let mut created = epoch.or(last).or_else(|| config.created.take());
    let mut seen = base;
    for (mut entry, after) in entries {
        let after = after.unwrap_or(seen);
        entry.empty_layer = after <= seen;
        if after > seen {
            created = made_at.get(after - 1).cloned().flatten().or(created);
            seen = after;
        }
        entry.created.clone_from(&created);
        config.history.push(entry);
    }
    config.created = created;
    config
}

/// Gives every layer of the base one entry, also where its history is missing or speaks of other layers.
fn fit_to_base(history: &mut Vec<History>, base: usize) {
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    if told > base {
        history.clear();
    }
    let told = told.min(if history.is_empty() { 0 } else { told });
    history.extend((told..base).map(|_| History::default()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> History {
        History { created_by: Some(text.into()), ..History::default() }
    }

    fn shape(config: &ImageConfig) -> Vec<(Option<&str>, bool, Option<&str>)> {
        let entries = config.history.iter();
        entries.map(|e| (e.created_by.as_deref(), e.empty_layer, e.created.as_deref())).collect()
    }

    #[test]
    fn entries_without_a_layer_say_so_and_times_come_from_layers() {
        let base = ImageConfig {
            history: vec![History { created: Some("t0".into()), ..entry("base") }],
            ..ImageConfig::default()
        };
        let steps =
            [(entry("RUN"), Some(2)), (entry("ENV"), None), (entry("RUN true"), Some(2)), (entry("COPY"), Some(3))];
        let made = [None, Some("t1".to_owned()), Some("t2".to_owned())];
        let config = with_history(base, 1, steps.into_iter(), &made, None);
        assert_eq!(
            shape(&config),
            [
                (Some("base"), false, Some("t0")),
                (Some("RUN"), false, Some("t1")),
                (Some("ENV"), true, Some("t1")),
                (Some("RUN true"), true, Some("t1")),
                (Some("COPY"), false, Some("t2")),
            ]
        );
        assert_eq!(config.created.as_deref(), Some("t2"));
    }

    #[test]
    fn a_base_without_a_sound_history_gets_one_entry_a_layer() {
        let none = with_history(ImageConfig::default(), 2, std::iter::empty(), &[None, None], None);
        assert_eq!(none.history.len(), 2);
        let wrong = ImageConfig { history: vec![entry("a"), entry("b"), entry("c")], ..ImageConfig::default() };
        assert_eq!(with_history(wrong, 1, std::iter::empty(), &[None], None).history.len(), 1);
    }
}

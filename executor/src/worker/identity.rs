//! What a step can see of an input: all of a root file system, only the selected paths of anything else.

use std::sync::Arc;

use lap_solver::digest::Key;
use lap_solver::graph::{FileAction, MountKind, Op, Vertex};

use super::files::Source;
use super::{BuildWorker, Output, WorkerError};
use crate::tree::Selection;

pub(super) async fn of(
    worker: &Arc<BuildWorker>,
    vertex: &Vertex,
    input: usize,
    output: &Output,
) -> Result<Key, WorkerError> {
    let selections = selections(vertex, input);
    match (output, selections) {
        (Output::Layers(snapshot), None) => Ok(snapshot.identity()),
        (_, Some(selections)) if selections.is_empty() => Ok(Key::of("selection", "nothing")),
        (Output::Layers(snapshot), Some(selections)) => {
            let name = Key::of("selection", &(snapshot.identity(), &selections));
            if let Some(known) = worker.known_selection(&name)? {
                return Ok(known);
            }
            worker.ensure_layers(snapshot).await?;
            let (store, output) = (worker.store().clone(), output.clone());
            let work = move || Ok::<_, WorkerError>(Source::open(&store, &output)?.tree().identity(&selections)?);
            let found = tokio::task::spawn_blocking(work).await??;
            worker.remember_selection(&name, found)?;
            Ok(found)
        }
        (Output::Local(tree), selections) => {
            let tree = Arc::clone(tree);
            let selections = selections.unwrap_or_else(|| vec![Selection::Path("/".to_owned())]);
            Ok(tokio::task::spawn_blocking(move || tree.identity(&selections)).await??)
        }
    }
}

/// What the step takes of an input; nothing where it sees the whole root file system.
fn selections(vertex: &Vertex, input: usize) -> Option<Vec<Selection>> {
    let this = |position: &Option<u32>| position.is_some_and(|position| position as usize == input);
    let selections: Vec<Selection> = match &vertex.op {
        Op::File(file) if !this(&file.root) => {
            let copies = file.actions.iter().filter_map(|action| match action {
                FileAction::Copy(copy) if this(&copy.from) => Some(Selection::of_copy(copy)),
                _ => None,
            });
            copies.collect()
        }
        Op::Exec(exec) if !this(&exec.root) => {
            let mounts = exec.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { input, source } | MountKind::Cache { input, source, .. } if this(input) => {
                    Some(Selection::Path(source.clone()))
                }
                _ => None,
            });
            mounts.collect()
        }
        _ => return None,
    };
    // The layers name the whole without looking into it.
    if selections.iter().any(Selection::is_everything) { None } else { Some(selections) }
}

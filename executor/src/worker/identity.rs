//! What a step can see of an input: all of a root file system, only the selected paths of anything else.

use std::sync::Arc;

use lap_solver::digest::Key;
use lap_solver::graph::{FileAction, MountKind, Op, Vertex};

use super::files::Source;
use super::{BuildWorker, Output, WorkerError};
use crate::tree::Selection;

pub(super) async fn of(
    worker: &BuildWorker,
    vertex: &Vertex,
    input: usize,
    output: &Output,
) -> Result<Key, WorkerError> {
    match (output, selections(vertex, input)) {
        (_, Some(selections)) => worker.selection_identity(output, selections).await,
        (Output::Layers(snapshot), None) => Ok(snapshot.identity()),
        (local, None) => worker.selection_identity(local, vec![Selection::Path("/".to_owned())]).await,
    }
}

impl BuildWorker {
    /// The identity of parts of a result; of layers it is computed once and remembered.
    pub(crate) async fn selection_identity(
        &self,
        output: &Output,
        selections: Vec<Selection>,
    ) -> Result<Key, WorkerError> {
        if selections.is_empty() {
            return Ok(Key::of("selection", "nothing"));
        }
        let snapshot = match output {
            Output::Layers(snapshot) => snapshot,
            Output::Local(tree) => {
                let tree = Arc::clone(tree);
                let (selected, read) = (selections.clone(), Arc::clone(&tree));
                let found = tokio::task::spawn_blocking(move || read.identity(&selections)).await??;
                self.saw(found, tree, selected);
                return Ok(found);
            }
        };
        let name = Key::of("selection", &(snapshot.identity(), &selections));
        if let Some(known) = self.known_selection(&name)? {
            return Ok(known);
        }
        self.ensure_layers(snapshot).await?;
        let (store, output) = (self.store().clone(), output.clone());
        let work = move || Ok::<_, WorkerError>(Source::open(&store, &output)?.tree().identity(&selections)?);
        let found = tokio::task::spawn_blocking(work).await??;
        self.remember_selection(&name, found)?;
        Ok(found)
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

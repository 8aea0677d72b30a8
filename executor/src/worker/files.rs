//! Carrying out a [`File`] step: views of the inputs, a workspace on top of the root, the layer that comes out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lap_cache::snapshot::{Snapshot, Workspace};
use lap_cache::store::Store;
use lap_solver::event::Event;
use lap_solver::graph::{File, FileAction, VertexId};

use super::{BuildWorker, CancelOnDrop, Output, WorkerError, root_of, with_layer};
use crate::op::file;
use crate::overlay::View;
use crate::tree::{Owners, Tree};

pub(super) async fn run(
    worker: &Arc<BuildWorker>,
    id: VertexId,
    step: &File,
    inputs: Vec<Output>,
) -> Result<Snapshot, WorkerError> {
    let root = root_of(step.root, &inputs)?;
    worker.ensure_layers(&root).await?;
    let sources = sources(step);
    for source in &sources {
        if let Some(Output::Layers(snapshot)) = inputs.get(*source as usize) {
            worker.ensure_layers(snapshot).await?;
        }
    }
    let cancel = CancelOnDrop::default();
    let (store, step, cancelled) = (worker.store().clone(), step.clone(), cancel.flag());
    let work = move || apply(&store, &step, root, &sources, &inputs, &cancelled);
    let (snapshot, skipped) = tokio::task::spawn_blocking(work).await??;
    if skipped > 0 {
        let message = format!("{skipped} owners or devices were left out: they need root, or more ids in /etc/subuid");
        worker.options.events.send(Event::Warning { vertex: Some(id), message });
    }
    Ok(snapshot)
}

/// The inputs that are copied from.
fn sources(step: &File) -> Vec<u32> {
    let copies = step.actions.iter().filter_map(|action| match action {
        FileAction::Copy(copy) => copy.from,
        _ => None,
    });
    let mut sources: Vec<u32> = copies.collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

fn apply(
    store: &Store,
    step: &File,
    root: Snapshot,
    sources: &[u32],
    inputs: &[Output],
    cancelled: &AtomicBool,
) -> Result<(Snapshot, u64), WorkerError> {
    let mut trees = HashMap::new();
    for source in sources {
        let input = inputs.get(*source as usize).ok_or(WorkerError::Input(*source as usize))?;
        trees.insert(*source, Source::open(store, input)?);
    }
    let parents = root.diff_ids();
    let workspace = store.workspace()?;
    let view = View::open(&store.overlay(&parents, Some(&workspace))?, store.mode())?;
    let applied = file::apply(step, view.root(), |input| trees.get(&input).map(Source::tree), store.mode(), cancelled)?;
    drop(view);
    drop(trees);
    let layer = store.commit(workspace, &parents, false)?;
    Ok((with_layer(root, layer.as_ref()), applied.skipped))
}

/// The tree of an input, and what keeps it there.
pub(crate) enum Source {
    Local(Arc<Tree>),
    Layers(Box<Stacked>),
}

/// A tree over layers.
pub(crate) struct Stacked {
    tree: Tree,
    /// Keeps the mount.
    _view: View,
    /// What is seen where there is no layer.
    _empty: Option<Workspace>,
}

impl Source {
    /// The layers must be in the store.
    pub(crate) fn open(store: &Store, input: &Output) -> Result<Self, WorkerError> {
        let snapshot = match input {
            Output::Local(tree) => return Ok(Self::Local(Arc::clone(tree))),
            Output::Layers(snapshot) => snapshot,
        };
        let empty = if snapshot.layers.is_empty() { Some(store.workspace()?) } else { None };
        let mut plan = store.overlay(&snapshot.diff_ids(), None)?;
        plan.lowers.extend(empty.as_ref().map(Workspace::upper));
        let view = View::open(&plan, store.mode())?;
        let root = view.root().try_clone_to_owned().map_err(|error| crate::tree::TreeError::io("open", b"", error))?;
        let tree = Tree::over(root, None, Owners::Kept)?;
        Ok(Self::Layers(Box::new(Stacked { tree, _view: view, _empty: empty })))
    }

    pub(crate) fn tree(&self) -> &Tree {
        match self {
            Self::Local(tree) => tree,
            Self::Layers(stacked) => &stacked.tree,
        }
    }
}

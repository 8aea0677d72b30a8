//! The graph of steps: vertices in topological order, equal ones merged as they are added.

mod dump;
mod op;
mod svg;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

pub use op::{
    CacheSharing, Copy, Exec, File, FileAction, InlineFile, InputIndex, Mode, Mount, MountKind, Network, Op, SecretEnv,
    SecretFile, Security, Source, Unpack,
};

use crate::digest::Key;

/// Position of a vertex in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VertexId(pub u32);

impl VertexId {
    /// The position as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vertex {
    /// What it does.
    pub op: Op,
    /// Whose results it uses; ops name them by position.
    pub inputs: Vec<VertexId>,
    /// Hash of the op and of the definitions of its inputs.
    pub definition: Key,
    /// What does not change the result.
    pub metadata: Metadata,
}

/// What a step is called and where it comes from; never part of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Shown to people: `RUN make`, `COPY src /src`.
    pub name: String,
    /// Name of the stage, or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Position among the steps of its stage and how many there are (`[build 2/7]`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<(u32, u32)>,
    /// Where the instruction stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Whether an earlier result must not be used (`--no-cache`, `--no-cache-filter`).
    #[serde(default, skip_serializing_if = "op::is_false")]
    pub ignore_cache: bool,
    /// Proxy variables that the command sees but that name no result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_env: Vec<String>,
    /// For how long the command may run, in nanoseconds; nothing is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// Lines of a Dockerfile, counted from 1, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Name of the Dockerfile as the user gave it.
    pub file: String,
    /// First line.
    pub first: u32,
    /// Last line.
    pub last: u32,
}

/// A graph of steps. Inputs of a vertex stand before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    vertices: Vec<Vertex>,
}

impl Graph {
    /// The vertices in topological order.
    #[must_use]
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// The vertex at `id`.
    ///
    /// # Panics
    /// Where `id` belongs to another graph.
    #[must_use]
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.index()]
    }

    /// Every vertex that `targets` need, themselves included, in topological order.
    #[must_use]
    pub fn reachable(&self, targets: &[VertexId]) -> Vec<VertexId> {
        let mut wanted = vec![false; self.vertices.len()];
        for target in targets {
            wanted[target.index()] = true;
        }
        for index in (0..self.vertices.len()).rev() {
            if wanted[index] {
                for input in &self.vertices[index].inputs {
                    wanted[input.index()] = true;
                }
            }
        }
        (0..).zip(&wanted).filter(|(_, wanted)| **wanted).map(|(id, _)| VertexId(id)).collect()
    }
}

/// Where the steps of an imported graph are now.
#[derive(Debug, Clone)]
pub struct Imported(Vec<VertexId>);

impl Imported {
    /// The place of a step of the imported graph.
    ///
    /// # Panics
    /// Where `id` belongs to another graph.
    #[must_use]
    pub fn place(&self, id: VertexId) -> VertexId {
        self.0[id.index()]
    }

    /// The places of all of them, in the order of the imported graph.
    #[must_use]
    pub fn places(&self) -> &[VertexId] {
        &self.0
    }
}

/// Builds a [`Graph`]; a step that is already there is not added again.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    known: HashMap<Key, VertexId>,
}

impl Builder {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step, or finds the equal one. The first one's metadata stays, but a wish to ignore the cache is kept,
    /// and of two timeouts the longer one holds.
    pub fn add(&mut self, op: Op, inputs: Vec<VertexId>, metadata: Metadata) -> VertexId {
        let definition = {
            let inputs: Vec<&Key> = inputs.iter().map(|id| &self.graph.vertex(*id).definition).collect();
            Key::of("definition", &(&op, inputs))
        };
        if let Some(id) = self.known.get(&definition) {
            let known = &mut self.graph.vertices[id.index()].metadata;
            known.ignore_cache |= metadata.ignore_cache;
            known.timeout = known.timeout.zip(metadata.timeout).map(|(one, two)| one.max(two));
            return *id;
        }
        // More than u32::MAX steps do not fit into memory.
        let id = VertexId(u32::try_from(self.graph.vertices.len()).unwrap_or(u32::MAX));
        self.known.insert(definition, id);
        self.graph.vertices.push(Vertex { op, inputs, definition, metadata });
        id
    }

    /// Adds every step of another graph, equal ones once; tells what each of them is called here, in order.
    pub fn import(&mut self, other: &Graph, mut metadata: impl FnMut(&Metadata) -> Metadata) -> Imported {
        let mut ids: Vec<VertexId> = Vec::with_capacity(other.vertices.len());
        for vertex in &other.vertices {
            // Inputs stand before what uses them, so they are here already.
            let inputs = vertex.inputs.iter().map(|input| ids[input.index()]).collect();
            ids.push(self.add(vertex.op.clone(), inputs, metadata(&vertex.metadata)));
        }
        Imported(ids)
    }

    /// The graph so far.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Ends building.
    #[must_use]
    pub fn finish(self) -> Graph {
        self.graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Op {
        Op::Source(Source::Local { name: name.into() })
    }

    #[test]
    fn equal_steps_are_one_vertex_and_order_of_adding_does_not_change_definitions() {
        let mut one = Builder::new();
        let a = one.add(source("a"), vec![], Metadata::default());
        let b = one.add(source("b"), vec![], Metadata::default());
        assert_eq!(one.add(source("a"), vec![], Metadata { name: "other".into(), ..Metadata::default() }), a);
        let timed = |timeout| Metadata { timeout, ..Metadata::default() };
        let c = one.add(source("c"), vec![], timed(Some(2)));
        for (other, want) in [(Some(1), Some(2)), (Some(3), Some(3)), (None, None), (Some(1), None)] {
            one.add(source("c"), vec![], timed(other));
            assert_eq!(one.graph().vertex(c).metadata.timeout, want);
        }
        let merged = one.add(Op::Merge, vec![a, b], Metadata::default());

        let mut two = Builder::new();
        let b2 = two.add(source("b"), vec![], Metadata::default());
        let a2 = two.add(source("a"), vec![], Metadata::default());
        let merged2 = two.add(Op::Merge, vec![a2, b2], Metadata::default());
        assert_eq!(one.graph().vertex(merged).definition, two.graph().vertex(merged2).definition);
        let swapped = two.add(Op::Merge, vec![b2, a2], Metadata::default());
        assert_ne!(two.graph().vertex(swapped).definition, two.graph().vertex(merged2).definition);
    }

    #[test]
    fn importing_keeps_equal_steps_once_and_tells_where_they_are() {
        let mut one = Builder::new();
        let a = one.add(source("a"), vec![], Metadata::default());
        let b = one.add(source("b"), vec![], Metadata::default());
        one.add(Op::Merge, vec![a, b], Metadata::default());
        let mut two = Builder::new();
        let b = two.add(source("b"), vec![], Metadata { ignore_cache: true, ..Metadata::default() });
        let c = two.add(source("c"), vec![], Metadata { name: "c".into(), ..Metadata::default() });
        let top = two.add(Op::Merge, vec![b, c], Metadata::default());
        let two = two.finish();

        let one = one.finish();
        let mut all = Builder::new();
        let first = all.import(&one, Metadata::clone);
        let second = all.import(&two, |metadata| Metadata { stage: Some("x".into()), ..metadata.clone() });
        let all = all.finish();
        assert_eq!(all.vertices().len(), 5);
        assert_eq!(second.place(b), first.place(VertexId(1)));
        assert!(all.vertex(second.place(b)).metadata.ignore_cache, "a wish to ignore the cache is kept");
        assert_eq!(all.vertex(second.place(top)).definition, two.vertex(top).definition);
        assert_eq!(all.vertex(second.place(c)).metadata.stage.as_deref(), Some("x"));
        let mut again = Builder::new();
        again.import(&one, Metadata::clone);
        assert_eq!(again.finish(), one);
    }

    #[test]
    fn only_what_a_target_needs_is_reachable() {
        let mut builder = Builder::new();
        let a = builder.add(source("a"), vec![], Metadata::default());
        let _unused = builder.add(source("b"), vec![], Metadata::default());
        let c = builder.add(Op::Merge, vec![a], Metadata::default());
        assert_eq!(builder.finish().reachable(&[c]), [a, c]);
    }
}

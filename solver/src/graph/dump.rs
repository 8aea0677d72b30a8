//! Printable forms of a graph.

use std::fmt::Write as _;

use super::{Graph, Op, Source, Vertex};

impl Graph {
    /// Graphviz text: a box a step, an arrow from each input.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph build {\n  rankdir=BT;\n  node [shape=box];\n");
        for (index, vertex) in self.vertices().iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  v{index} [label={:?}];", label(vertex));
            for input in &vertex.inputs {
                let _ = writeln!(out, "  v{} -> v{index};", input.0);
            }
        }
        out.push_str("}\n");
        out
    }
}

/// What a step is called.
pub(super) fn label(vertex: &Vertex) -> &str {
    if vertex.metadata.name.is_empty() { kind(&vertex.op) } else { &vertex.metadata.name }
}

const fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(Source::Image { .. }) => "image",
        Op::Source(Source::Local { .. }) => "local",
        Op::Source(Source::Http { .. }) => "http",
        Op::Source(Source::Git { .. }) => "git",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Merge => "merge",
    }
}

//! BuildKit's `rawjson` progress: one `SolveStatus` object a line (`client/graph.go`).

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lap_cache::digest::Digest;
use lap_frontend::lint::RULES;
use lap_solver::event::Stream;
use lap_solver::graph::{Graph, VertexId};
use serde_json::{Value, json};

use super::Painter;
use super::model::{Change, Finding, Model, State};
use super::table::rfc3339;

/// Prints status objects. Fields without a value are left out, as Go leaves them.
#[derive(Debug, Default)]
pub(super) struct RawJson {
    vertices: Vec<Value>,
    /// When steps and parts began.
    began: HashMap<String, String>,
}

impl RawJson {
    fn put(value: &Value) {
        drop(writeln!(std::io::stderr(), "{}", super::tame_json(&value.to_string())));
    }

    fn digest(&self, vertex: VertexId) -> Option<&Value> {
        Some(&self.vertices.get(vertex.index())?["digest"])
    }

    fn began(&mut self, what: &str) -> &str {
        self.began.entry(what.to_owned()).or_insert_with(now)
    }
}

fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Painter for RawJson {
    fn graph(&mut self, graph: &Graph, model: &Model) {
        // Readers of this form know digests of SHA-256 only.
        let digest = |index: usize| Digest::of(graph.vertices()[index].definition.to_string().as_bytes()).to_string();
        self.vertices = (0..)
            .zip(graph.vertices())
            .map(|(index, vertex)| {
                let mut value = json!({"digest": digest(index)});
                if !vertex.inputs.is_empty() {
                    value["inputs"] = vertex.inputs.iter().map(|input| digest(input.index())).collect();
                }
                value["name"] = json!(model.steps[index].label);
                value
            })
            .collect();
    }

    fn changed(&mut self, model: &Model, change: &Change, _: Duration) {
        match change {
            Change::Step(vertex) => {
                let index = vertex.index();
                let Some(mut value) = self.vertices.get(index).cloned() else { return };
                value["started"] = json!(self.began(&format!("step {index}")));
                match &model.steps[index].state {
                    State::Cached => {
                        value["completed"] = json!(now());
                        value["cached"] = json!(true);
                    }
                    State::Done { .. } => value["completed"] = json!(now()),
                    State::Failed { message, .. } => {
                        value["completed"] = json!(now());
                        value["error"] = json!(message);
                    }
                    State::Cancelled => {
                        value["completed"] = json!(now());
                        value["error"] = json!("context canceled");
                    }
                    State::Pending | State::Started { .. } | State::Waiting { .. } | State::Running { .. } => {}
                }
                Self::put(&json!({ "vertexes": [value] }));
            }
            Change::Lines(..) => {}
            Change::Part(id) => {
                let Some(part) = model.parts.get(id) else { return };
                let mut value = json!({
                    "id": id, "name": super::doing(part.action), "current": part.current, "timestamp": now(),
                    "started": self.began(&format!("part {id}")),
                });
                if let Some(vertex) = part.vertex.and_then(|vertex| self.digest(vertex)) {
                    value["vertex"] = vertex.clone();
                }
                if let Some(total) = part.total.filter(|total| *total > 0) {
                    value["total"] = json!(total);
                }
                if part.done {
                    value["completed"] = json!(now());
                }
                Self::put(&json!({ "statuses": [value] }));
            }
            Change::Warning(vertex, message) => {
                let mut value = json!({"level": 1, "short": base64(message.as_bytes())});
                if let Some(vertex) = vertex.and_then(|vertex| self.digest(vertex)) {
                    value["vertex"] = vertex.clone();
                }
                Self::put(&json!({ "warnings": [value] }));
            }
            Change::Finding(found) => Self::put(&json!({ "warnings": [warning(found)] })),
        }
    }

    fn log(&mut self, vertex: VertexId, stream: Stream, data: &[u8]) {
        let Some(vertex) = self.digest(vertex) else { return };
        let stream = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        let log = json!({"vertex": vertex, "stream": stream, "data": base64(data), "timestamp": now()});
        Self::put(&json!({ "logs": [log] }));
    }

    fn end(&mut self, _: &Model, _: Duration) {}
}

/// A finding as BuildKit's frontend sends it: the rule and the line stand in the short form, too.
fn warning(found: &Finding) -> Value {
    let line = if found.line > 0 { format!(" (line {})", found.line) } else { String::new() };
    let mut value = json!({
        "level": 1,
        "short": base64(format!("{}: {}{line}", found.rule, found.message).as_bytes()),
        "sourceInfo": {"filename": found.file, "language": "Dockerfile"},
    });
    if let Some(rule) = RULES.iter().find(|rule| rule.name == found.rule) {
        value["detail"] = json!([base64(rule.description.as_bytes())]);
        value["url"] = json!(rule.url());
    }
    if found.line > 0 {
        value["range"] = json!([{"start": {"line": found.line}, "end": {"line": found.line}}]);
    }
    value
}

/// Standard base64 (RFC 4648 §4): Go's JSON form of bytes.
pub(crate) fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            if position <= chunk.len() {
                out.push(char::from(ALPHABET[(word >> (18 - 6 * position) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(super::base64(plain.as_bytes()), coded);
        }
    }
}

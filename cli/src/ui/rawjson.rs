//! BuildKit's `rawjson` progress: one `SolveStatus` object a line (`client/graph.go`).

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lap_solver::graph::Graph;
use serde_json::{Value, json};

use super::Painter;
use super::model::{Change, Model, State};
use super::table::rfc3339;

/// Prints status objects.
#[derive(Debug, Default)]
pub(super) struct RawJson {
    vertices: Vec<Value>,
    began: HashMap<usize, String>,
}

impl RawJson {
    fn put(value: &Value) {
        drop(writeln!(std::io::stderr(), "{}", super::tame_json(&value.to_string())));
    }
}

fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Painter for RawJson {
    fn graph(&mut self, graph: &Graph, model: &Model) {
        let digest = |index: usize| format!("blake3:{}", graph.vertices()[index].definition);
        self.vertices = (0..)
            .zip(graph.vertices())
            .map(|(index, vertex)| {
                let inputs: Vec<String> = vertex.inputs.iter().map(|input| digest(input.index())).collect();
                json!({"digest": digest(index), "inputs": inputs, "name": model.steps[index].label})
            })
            .collect();
    }

    fn changed(&mut self, model: &Model, change: &Change, _: Duration) {
        match change {
            Change::Step(vertex) => {
                let index = vertex.index();
                let Some(mut value) = self.vertices.get(index).cloned() else { return };
                let began = self.began.entry(index).or_insert_with(now).clone();
                value["started"] = json!(began);
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
                    State::Pending | State::Started { .. } | State::Running { .. } => {}
                }
                Self::put(&json!({ "vertexes": [value] }));
            }
            Change::Lines(vertex, lines) => {
                let Some(value) = self.vertices.get(vertex.index()) else { return };
                let data = base64(format!("{}\n", lines.join("\n")).as_bytes());
                Self::put(
                    &json!({"logs": [{"vertex": value["digest"], "stream": 1, "data": data, "timestamp": now()}]}),
                );
            }
            Change::Part(id) => {
                let Some(part) = model.parts.get(id) else { return };
                Self::put(&json!({"statuses": [{
                    "id": id, "name": super::doing(part.action), "current": part.current, "total": part.total, "timestamp": now(),
                    "completed": part.done.then(now),
                }]}));
            }
            Change::Warning(message) => {
                Self::put(&json!({"warnings": [{"level": 1, "short": base64(message.as_bytes())}]}));
            }
        }
    }

    fn end(&mut self, _: &Model, _: Duration) {}
}

/// Standard base64 (RFC 4648 §4): Go's JSON form of bytes.
fn base64(data: &[u8]) -> String {
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

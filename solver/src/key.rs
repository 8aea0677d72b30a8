//! The content key of a step, and the inputs it was made of, so that a miss can be explained.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::graph::{Op, Vertex};
use crate::provenance::redact::Redactor;

/// How a value begins that stands for one that is not written down.
pub const CONCEALED: &str = "concealed:";

/// Everything a content key is made of, stored with each record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInputs {
    /// The step itself.
    pub op: Op,
    /// What the step sees of each input, in order.
    pub inputs: Vec<Key>,
    /// What stands for the values of secrets that count, by name: made with a key that never leaves the store.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Key>,
}

impl KeyInputs {
    /// Of a step whose inputs have these identities, and whose secrets have these.
    #[must_use]
    pub fn new(vertex: &Vertex, inputs: Vec<Key>, secrets: BTreeMap<String, Key>) -> Self {
        Self { op: vertex.op.clone(), inputs, secrets }
    }

    /// The content key.
    #[must_use]
    pub fn key(&self) -> Key {
        if self.secrets.is_empty() {
            return Key::of("step", &(&self.op, &self.inputs));
        }
        Key::of("step", &(&self.op, &self.inputs, &self.secrets))
    }

    /// Puts a stand-in, [`CONCEALED`] and what `stand_in` makes of the value, in the place of each value of the
    /// environment that is a credential by its name, or holds one, so that this can be written down. It does not lead
    /// to the key any more. Stand-ins stay as they are.
    pub fn conceal(&mut self, mut stand_in: impl FnMut(&str) -> Key) {
        let Op::Exec(exec) = &mut self.op else { return };
        let redactor = Redactor::new(exec.env.iter().filter_map(|variable| variable.split_once('=')));
        for variable in &mut exec.env {
            if let Some((name, value)) = variable.split_once('=')
                && !value.starts_with(CONCEALED)
                && redactor.value(name, value) != value
            {
                *variable = format!("{name}={CONCEALED}{}", stand_in(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_concealed_and_the_rest_is_not() {
        let op: Op = serde_json::from_value(serde_json::json!({"exec": {
            "root": 0, "args": ["make"], "cwd": "/", "platform": {"os": "linux", "architecture": "amd64"},
            "env": ["PATH=/bin", "API_TOKEN=hunter2", "URL=https://me:hunter3@host/", "LINE=x hunter2", "V=1"],
        }}))
        .unwrap();
        let mut inputs = KeyInputs { op, inputs: vec![], secrets: BTreeMap::new() };
        inputs.conceal(|value| Key::of("t", value));
        let Op::Exec(exec) = &inputs.op else { panic!() };
        let shown: Vec<&str> = exec.env.iter().map(|text| text.get(..14).unwrap_or(text)).collect();
        assert_eq!(shown, ["PATH=/bin", "API_TOKEN=conc", "URL=concealed:", "LINE=concealed", "V=1"]);
        let once = inputs.clone();
        inputs.conceal(|_| panic!("a stand-in is not concealed again"));
        assert_eq!(inputs, once);
    }
}

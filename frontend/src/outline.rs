//! What a target can be given: arguments, secrets, agents.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::args::Variables;
use crate::stage::{Stage, Stages, global_definitions};
use crate::syntax::{ArgDefinition, Instruction};
use crate::word::Lookup;

/// The answer to `--call outline`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Name of the target.
    pub name: Option<String>,
    /// What the comment before it says.
    pub description: Option<String>,
    /// Build arguments.
    pub args: Vec<OutlineArg>,
    /// Secrets.
    pub secrets: Vec<OutlineSecret>,
    /// Forwarded agents.
    pub ssh: Vec<OutlineSecret>,
    #[serde(skip)]
    known: Known,
}

/// The names in the lists, so that a long file needs no search through them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    args: HashSet<String>,
    secrets: HashSet<String>,
    ssh: HashSet<String>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment before it says.
    pub description: Option<String>,
    /// The value it has in this build.
    pub value: Option<String>,
    /// The line that declares it.
    pub line: u32,
}

/// A secret or agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineSecret {
    /// The name the user gives it.
    pub name: String,
    /// Whether the build fails without.
    pub required: bool,
    /// The line that asks for it first.
    pub line: u32,
}

impl Outline {
    /// Begins with the global arguments.
    pub(crate) fn new(stages: &Stages) -> Self {
        let target = stages.stages.get(stages.target);
        let mut outline = Self { name: target.and_then(|stage| stage.name.clone()), ..Self::default() };
        if let Some(stage) = target {
            outline.description = description(stage);
        }
        let globals: &Variables = &stages.globals;
        for instruction in &stages.definitions {
            for definition in global_definitions(std::slice::from_ref(instruction)) {
                outline.argument(definition, globals.get(&definition.name), false, instruction);
            }
        }
        outline
    }

    /// Notes an `ARG`; one that only takes over a global value adds nothing.
    pub(crate) fn argument(
        &mut self,
        definition: &ArgDefinition,
        value: Option<&str>,
        inherited: bool,
        at: &Instruction,
    ) {
        if (inherited && value.is_some()) || !self.known.args.insert(definition.name.clone()) {
            return;
        }
        self.args.push(OutlineArg {
            name: definition.name.clone(),
            description: definition.description.clone(),
            value: value.map(str::to_owned),
            line: at.lines.0,
        });
    }

    pub(crate) fn secret(&mut self, name: &str, required: bool, at: &Instruction) {
        add(&mut self.secrets, &mut self.known.secrets, name, required, at);
    }

    pub(crate) fn ssh(&mut self, name: &str, required: bool, at: &Instruction) {
        add(&mut self.ssh, &mut self.known.ssh, name, required, at);
    }

    /// Build arguments that nothing declares, with the declared name that is near.
    #[must_use]
    pub fn unused_args<'a>(&self, given: &'a BTreeMap<String, String>) -> Vec<&'a str> {
        given.keys().map(String::as_str).filter(|name| !self.known.args.contains(*name)).collect()
    }
}

fn description(stage: &Stage) -> Option<String> {
    let of_name = |comment: &String| comment.strip_prefix(stage.name.as_deref()?)?.strip_prefix(' ').map(str::to_owned);
    stage.instruction.comments.iter().find_map(of_name)
}

fn add(list: &mut Vec<OutlineSecret>, known: &mut HashSet<String>, name: &str, required: bool, at: &Instruction) {
    if known.insert(name.to_owned()) {
        list.push(OutlineSecret { name: name.to_owned(), required, line: at.lines.0 });
    }
}

//! What a target can be given: arguments, secrets, agents.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

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
    /// Global arguments, until something uses them.
    #[serde(skip)]
    globals: HashMap<String, Global>,
}

/// A global argument, and those that its default is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Global {
    arg: OutlineArg,
    made_of: BTreeSet<String>,
}

/// The names in the lists, so that a long file needs no search through them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// Places in the list.
    args: HashMap<String, usize>,
    /// Everything that is declared, used or not.
    declared: HashSet<String>,
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
    /// Knows the global arguments, and lists none.
    pub(crate) fn new(stages: &Stages) -> Self {
        let target = stages.stages.get(stages.target);
        let mut outline = Self { name: target.and_then(|stage| stage.name.clone()), ..Self::default() };
        if let Some(stage) = target {
            outline.description = description(stage);
        }
        for instruction in &stages.definitions {
            for definition in global_definitions(std::slice::from_ref(instruction)) {
                let default = definition.value.as_deref().unwrap_or_default();
                let made_of = stages.lexer.expand(default, &stages.globals).map(|expanded| expanded.matched);
                let arg = argument(definition, stages.globals.get(&definition.name), instruction);
                outline.known.declared.insert(definition.name.clone());
                outline.globals.insert(definition.name.clone(), Global { arg, made_of: made_of.unwrap_or_default() });
            }
        }
        outline
    }

    /// Notes that a global argument is used, and with it those that its default is made of.
    pub(crate) fn global(&mut self, name: &str) {
        let mut open = vec![name.to_owned()];
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        while let Some(name) = open.pop() {
            let Some(global) = self.globals.get(&name).filter(|_| seen.insert(name.clone())) else { continue };
            open.extend(global.made_of.iter().cloned());
            found.push(global.arg.clone());
        }
        // What another one is made of stands before it.
        found.into_iter().rev().for_each(|arg| self.put(arg));
    }

    /// Notes an `ARG` of a stage; one that only takes over a global value is that.
    pub(crate) fn argument(
        &mut self,
        definition: &ArgDefinition,
        value: Option<&str>,
        inherited: bool,
        at: &Instruction,
    ) {
        self.known.declared.insert(definition.name.clone());
        if inherited && value.is_some() {
            self.global(&definition.name);
        } else {
            self.put(argument(definition, value, at));
        }
    }

    /// The last one of a name counts: stages come in order, the target at the end.
    fn put(&mut self, arg: OutlineArg) {
        match self.known.args.get(&arg.name).and_then(|place| self.args.get_mut(*place)) {
            Some(other) => *other = arg,
            None => {
                self.known.args.insert(arg.name.clone(), self.args.len());
                self.args.push(arg);
            }
        }
    }

    /// In the order of the file.
    pub(crate) fn sort(&mut self) {
        self.args.sort_by_key(|arg| arg.line);
        self.known.args = (0..).zip(&self.args).map(|(place, arg)| (arg.name.clone(), place)).collect();
        self.secrets.sort_by_key(|secret| secret.line);
        self.ssh.sort_by_key(|agent| agent.line);
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
        given.keys().map(String::as_str).filter(|name| !self.known.declared.contains(*name)).collect()
    }
}

fn argument(definition: &ArgDefinition, value: Option<&str>, at: &Instruction) -> OutlineArg {
    OutlineArg {
        name: definition.name.clone(),
        description: definition.description.clone(),
        value: value.map(str::to_owned),
        line: at.lines.0,
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

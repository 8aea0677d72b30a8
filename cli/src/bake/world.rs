//! Names and what they stand for, evaluated when first asked for.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;

use hcl_edit::Span as _;

use super::definitions::{Attribute, Block, Definitions, Kind};
use super::eval::{Locals, Scope};
use super::functions;
use super::source::Fault;
use super::types::{Type, parse_bool};
use super::value::{Value, parse_number};

/// How deep names may stand for names.
const DEPTH: usize = 128;
/// Targets that one matrix may make.
const COMBINATIONS: usize = 10_000;

/// All definitions with the environment they are evaluated in.
pub(crate) struct World<'a> {
    definitions: &'a Definitions,
    environment: &'a dyn Fn(&str) -> Option<String>,
    builtin: BTreeMap<String, String>,
    known: RefCell<BTreeMap<String, Value>>,
    /// What is being evaluated; none of it may be needed for itself.
    busy: RefCell<Vec<String>>,
    depth: Cell<usize>,
    instances: OnceCell<Vec<Instance<'a>>>,
}

/// A block for one combination of its matrix.
pub(crate) struct Instance<'a> {
    pub(crate) block: &'a Block,
    pub(crate) name: String,
    locals: BTreeMap<String, Value>,
}

/// A variable as `--list variables` shows it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) value: Value,
    pub(crate) description: Option<String>,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        definitions: &'a Definitions,
        environment: &'a dyn Fn(&str) -> Option<String>,
        builtin: BTreeMap<String, String>,
    ) -> Self {
        Self {
            definitions,
            environment,
            builtin,
            known: RefCell::default(),
            busy: RefCell::default(),
            depth: Cell::new(0),
            instances: OnceCell::new(),
        }
    }

    /// Evaluates an attribute outside of any block.
    fn global(&self, attribute: &Attribute) -> Result<Value, Fault> {
        Scope { world: self, source: &attribute.source, locals: None }.value(&attribute.value)
    }

    /// Evaluates an attribute of a target or group.
    pub(crate) fn attribute(&self, instance: &Instance<'_>, attribute: &Attribute) -> Result<Value, Fault> {
        let locals = Locals { values: instance.locals.clone(), outer: None };
        Scope { world: self, source: &attribute.source, locals: Some(&locals) }.value(&attribute.value)
    }

    /// Does `work` unless it is being done already for the sake of itself.
    fn once<T>(&self, name: String, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        if self.busy.borrow().contains(&name) {
            return Err(Fault::new(format!("{name} needs itself")));
        }
        if self.depth.get() >= DEPTH {
            return Err(Fault::new(format!("{name} stands at the end of more than {DEPTH} names")));
        }
        self.busy.borrow_mut().push(name);
        self.depth.set(self.depth.get() + 1);
        let done = work();
        self.depth.set(self.depth.get() - 1);
        self.busy.borrow_mut().pop();
        done
    }

    /// The value of a variable, or of an attribute of the file.
    ///
    /// # Errors
    /// Where there is no such name, or its value cannot be had.
    pub(crate) fn variable(&self, name: &str) -> Result<Value, Fault> {
        if let Some(value) = self.known.borrow().get(name) {
            return Ok(value.clone());
        }
        let value = self.once(format!("variable {name}"), || self.find(name))?;
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        Ok(value)
    }

    fn find(&self, name: &str) -> Result<Value, Fault> {
        if let Some(text) = self.builtin.get(name) {
            return Ok(text.as_str().into());
        }
        if let Some(attribute) = self.definitions.attributes.get(name)
            && !self.definitions.variables.contains_key(name)
        {
            return self.global(attribute);
        }
        let Some(variable) = self.definitions.variables.get(name) else {
            let known = self.definitions.variables.keys().chain(self.definitions.attributes.keys());
            let near = nearest(name, known.map(String::as_str));
            let near = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
            return Err(Fault::new(format!("the variable {name:?} is not defined{near}")));
        };
        let kind = variable.kind.as_ref();
        let kind = kind.map(|kind| Type::parse(&kind.value).map_err(|fault| fault.at(&kind.source, kind.value.span())));
        let kind = kind.transpose()?;
        let default = variable.default.as_ref().or_else(|| self.definitions.attributes.get(name));
        let of_environment = |fault: Fault| Fault::new(format!("the value of {name} in the environment: {fault}"));
        let at = |fault: Fault| fault.at(&variable.source, variable.span.clone());
        if let Some(kind) = &kind {
            if let Some(text) = (self.environment)(name) {
                return kind.read_text(&text).map_err(of_environment).map_err(at);
            }
            if let Some(text) = (self.environment)(&format!("{name}_JSON")) {
                return kind.read_json(&text).map_err(of_environment).map_err(at);
            }
            let Some(default) = default else { return Ok(Value::Null) };
            let value = self.global(default)?;
            return kind
                .convert(value)
                .map_err(|fault| default.fault(format!("the default of {name} is no {kind}: {fault}")));
        }
        let value = match default {
            Some(default) => self.global(default)?,
            None => return Ok((self.environment)(name).unwrap_or_default().into()),
        };
        let Some(text) = (self.environment)(name) else { return Ok(value) };
        match value {
            Value::Bool(_) => parse_bool(&text).map(Value::Bool).map_err(of_environment).map_err(at),
            Value::Number(_) => parse_number(&text)
                .map(Value::Number)
                .ok_or_else(|| of_environment(Fault::new(format!("{text:?} is no number"))))
                .map_err(at),
            Value::String(_) | Value::Null => Ok(text.into()),
            other => Err(at(Fault::new(format!(
                "{name} is set in the environment, but a {} can be set only where the variable has a type",
                other.kind()
            )))),
        }
    }

    /// Calls a function of the files or of the standard library.
    ///
    /// # Errors
    /// Where there is none of that name, or it fails.
    pub(crate) fn call(&self, name: &str, arguments: Vec<Value>) -> Result<Value, Fault> {
        let Some(function) = self.definitions.functions.get(name) else {
            return match functions::find(name) {
                Some(function) => function.call(&arguments).map_err(|fault| Fault::new(format!("{name}(): {fault}"))),
                None => {
                    let mut known: Vec<&str> = functions::names().collect();
                    known.extend(self.definitions.functions.keys().map(String::as_str));
                    let near = nearest(name, known.into_iter());
                    let near = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
                    Err(Fault::new(format!("there is no function {name:?}{near}")))
                }
            };
        };
        let needed = function.parameters.len();
        if arguments.len() < needed || (arguments.len() > needed && function.variadic.is_none()) {
            return Err(Fault::new(format!("{name}() takes {needed} arguments, not {}", arguments.len())));
        }
        let mut arguments = arguments.into_iter();
        let mut values: BTreeMap<String, Value> = function.parameters.iter().cloned().zip(arguments.by_ref()).collect();
        if let Some(variadic) = &function.variadic {
            values.insert(variadic.clone(), Value::List(arguments.collect()));
        }
        self.once(format!("function {name}"), || {
            let locals = Locals { values, outer: None };
            Scope { world: self, source: &function.result.source, locals: Some(&locals) }.value(&function.result.value)
        })
    }

    /// An attribute of a target or group as it was written, or all of them; inheritance does not count.
    ///
    /// # Errors
    /// Where there is no such block, or its value cannot be had.
    pub(crate) fn block(&self, kind: &str, name: &str, attribute: Option<&str>) -> Result<Value, Fault> {
        let instances = self.instances()?.iter();
        let own: Vec<&Instance<'_>> = instances.filter(|i| i.block.kind.name() == kind && i.name == name).collect();
        if own.is_empty() {
            return Err(Fault::new(format!("there is no {kind} {name:?}")));
        }
        let value = |attribute: &str| {
            if attribute == "name" {
                return Ok(name.into());
            }
            let last = own.iter().rev().find_map(|i| Some((i, i.block.attributes.get(attribute)?)));
            let Some((instance, found)) = last else { return Ok(Value::Null) };
            self.once(format!("{kind}.{name}.{attribute}"), || self.attribute(instance, found))
        };
        if let Some(attribute) = attribute {
            return value(attribute);
        }
        let names = own.iter().flat_map(|instance| instance.block.attributes.keys());
        names.map(|name| Ok((name.clone(), value(name)?))).collect::<Result<_, Fault>>().map(Value::Map)
    }

    /// Every target and group, those of a matrix one by one.
    ///
    /// # Errors
    /// Where a matrix or a name cannot be evaluated.
    pub(crate) fn instances(&self) -> Result<&[Instance<'a>], Fault> {
        if let Some(instances) = self.instances.get() {
            return Ok(instances);
        }
        let made = self.once("the matrix".to_owned(), || {
            let mut made = Vec::new();
            for block in &self.definitions.blocks {
                made.extend(self.expand(block).map_err(|fault| fault.at(&block.source, block.span.clone()))?);
            }
            Ok(made)
        })?;
        Ok(self.instances.get_or_init(|| made))
    }

    fn expand(&self, block: &'a Block) -> Result<Vec<Instance<'a>>, Fault> {
        check_name(&block.label)?;
        let (matrix, name) = (block.attributes.get("matrix"), block.attributes.get("name"));
        if block.kind == Kind::Group
            && let Some(attribute) = matrix.or(name)
        {
            return Err(attribute.fault("a group has neither a matrix nor a name of its own"));
        }
        let Some(matrix) = matrix else {
            return match name {
                Some(name) => Err(name.fault("name needs a matrix")),
                None => Ok(vec![Instance { block, name: block.label.clone(), locals: BTreeMap::new() }]),
            };
        };
        let Value::Map(axes) = self.global(matrix)? else { return Err(matrix.fault("a matrix is a map of lists")) };
        let mut combinations = vec![BTreeMap::new()];
        for (axis, values) in axes {
            let Value::List(values) = values else {
                return Err(matrix.fault(format!("{axis} of the matrix is no list")));
            };
            if values.len().saturating_mul(combinations.len()) > COMBINATIONS {
                return Err(matrix.fault(format!("the matrix makes more than {COMBINATIONS} targets")));
            }
            let with = |value: &Value, old: &BTreeMap<String, Value>| {
                let mut new = old.clone();
                new.insert(axis.clone(), value.clone());
                new
            };
            combinations = values
                .iter()
                .flat_map(|value| combinations.iter().map(move |old| (value, old)))
                .map(|(value, old)| with(value, old))
                .collect();
        }
        let mut made: Vec<Instance<'a>> = Vec::with_capacity(combinations.len());
        for locals in combinations {
            let mut instance = Instance { block, name: block.label.clone(), locals };
            if let Some(name) = name {
                instance.name =
                    self.attribute(&instance, name)?.to_text().map_err(|fault| name.fault(fault.to_string()))?;
                check_name(&instance.name).map_err(|fault| name.fault(fault.to_string()))?;
            }
            if made.iter().any(|other| other.name == instance.name) {
                let attribute = name.unwrap_or(matrix);
                return Err(
                    attribute.fault(format!("two targets of the matrix are called {:?}: set name", instance.name))
                );
            }
            made.push(instance);
        }
        Ok(made)
    }

    /// Evaluates what no target may need: every variable with its conditions, every attribute.
    ///
    /// # Errors
    /// The first that cannot be evaluated, or does not hold.
    pub(crate) fn check(&self) -> Result<Vec<Listed>, Fault> {
        let mut listed = Vec::new();
        for (name, variable) in &self.definitions.variables {
            let value = self.variable(name).map_err(|fault| fault.at(&variable.source, variable.span.clone()))?;
            for (condition, message) in &variable.validations {
                let holds = self.global(condition)?.to_bool().map_err(|fault| condition.fault(fault.to_string()))?;
                if !holds {
                    let said = message.as_ref().map(|message| self.global(message)?.to_text()).transpose()?;
                    let said = said.unwrap_or_else(|| "the condition does not hold".to_owned());
                    return Err(condition.fault(format!("{name} is not valid: {said}")));
                }
            }
            let description = variable.description.as_ref().map(|text| self.global(text)?.to_text()).transpose()?;
            let kind = variable.kind.as_ref().and_then(|kind| Type::parse(&kind.value).ok());
            let kind = kind.map(|kind| kind.to_string());
            listed.push(Listed { name: name.clone(), kind, value, description });
        }
        for (name, attribute) in &self.definitions.attributes {
            self.variable(name).map_err(|fault| fault.at(&attribute.source, attribute.value.span()))?;
        }
        Ok(listed)
    }
}

/// Names of targets and groups hold letters, digits, `_` and `-`.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits {
        Ok(())
    } else {
        Err(Fault::new(format!("{name:?} is no name: only letters, digits, _ and - are allowed")))
    }
}

/// The known word that is nearly this one.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| {
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in word.chars().enumerate() {
            let mut corner = i;
            row[0] = i + 1;
            for (j, b) in other.iter().enumerate() {
                let cost = corner + usize::from(!a.eq_ignore_ascii_case(b));
                corner = row[j + 1];
                row[j + 1] = cost.min(corner + 1).min(row[j] + 1);
            }
        }
        row[other.len()]
    };
    let limit = (word.len() / 3).clamp(1, 3);
    known.map(|other| (distance(other), other)).filter(|(d, _)| *d <= limit).min().map(|(_, other)| other)
}

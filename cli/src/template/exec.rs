//! A tree and a value to text.

use super::functions::{self, Parameter, Set};
use super::node::{Branch, Call, Command, Node, Number, Pipe, Place, Word, WordKind};
use super::value::Value;
use super::{MissingKey, Template, TemplateError};

/// How deep templates may call each other. Go allows more; what needs more never ends.
const MAX_DEPTH: usize = 100;

pub(super) fn execute(
    template: &Template,
    value: &Value,
    missing: MissingKey,
    set: &Set,
) -> Result<String, TemplateError> {
    let mut state = State {
        template,
        name: "",
        missing,
        set,
        place: None,
        variables: vec![("$", value.clone())],
        depth: 0,
        out: String::new(),
    };
    match state.walk(value, &template.root) {
        Ok(()) => Ok(state.out),
        Err(Stop::Error(error)) => Err(error),
        // The parser lets them be in loops only.
        Err(Stop::Break | Stop::Continue) => Ok(state.out),
    }
}

/// Go's name for the type of anything.
const ANY: &str = "interface {}";

/// Why a list of nodes is left early.
enum Stop {
    Error(TemplateError),
    Break,
    Continue,
}

type Flow<T = Value> = Result<T, Stop>;

struct State<'t> {
    template: &'t Template,
    /// Of the template that runs; empty for the outermost.
    name: &'t str,
    missing: MissingKey,
    set: &'t Set,
    /// What messages point at: the node looked at last.
    place: Option<&'t dyn Place>,
    variables: Vec<(&'t str, Value)>,
    depth: usize,
    out: String,
}

impl<'t> State<'t> {
    fn error<T>(&self, message: impl std::fmt::Display) -> Flow<T> {
        use lap_frontend::go::quote;
        let text = &self.template.text;
        Err(Stop::Error(TemplateError(match self.place {
            None => format!("template: {}: {message}", self.name),
            Some(place) => {
                let before = &text[..place.at().min(text.len())];
                let line = 1 + before.matches('\n').count();
                let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
                format!("template: :{line}:{column}: executing {} at <{place}>: {message}", quote(self.name))
            }
        })))
    }

    fn walk(&mut self, dot: &Value, nodes: &'t [Node]) -> Flow<()> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipeline(dot, pipe)?;
                    if pipe.variables.is_empty() {
                        if matches!(value, Value::Method(_)) {
                            self.place = Some(pipe);
                            return self.error(format!("can't print {pipe} of type {}", value.type_name()));
                        }
                        self.out.push_str(&super::format::printed(&value));
                    }
                }
                Node::If(branch) => self.branch(dot, branch, false)?,
                Node::With(branch) => self.branch(dot, branch, true)?,
                Node::Range(branch) => self.range(dot, branch)?,
                Node::Template(call) => self.call(dot, call)?,
                Node::Break => return Err(Stop::Break),
                Node::Continue => return Err(Stop::Continue),
            }
        }
        Ok(())
    }

    fn branch(&mut self, dot: &Value, branch: &'t Branch, moves_dot: bool) -> Flow<()> {
        let mark = self.variables.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        if value.truth() {
            self.walk(if moves_dot { &value } else { dot }, &branch.body)?;
        } else if let Some(otherwise) = &branch.otherwise {
            self.walk(dot, otherwise)?;
        }
        self.variables.truncate(mark);
        Ok(())
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Flow<()> {
        let mark = self.variables.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        let items: Vec<(Value, Value)> = match value {
            Value::List(list) => (0..).map(Value::Int).zip(list.items.iter().cloned()).collect(),
            Value::Map(map) => map.entries.iter().map(|(key, value)| (key.as_str().into(), value.clone())).collect(),
            Value::Int(count) => (0..count).map(|index| (Value::Int(index), Value::Int(index))).collect(),
            Value::Missing | Value::Nil => Vec::new(),
            other => return self.error(format!("range can't iterate over {}", super::format::plain(&other))),
        };
        if items.is_empty()
            && let Some(otherwise) = &branch.otherwise
        {
            self.walk(dot, otherwise)?;
        }
        let top = self.variables.len();
        for (index, item) in items {
            match &branch.pipe.variables[..] {
                [_] => self.variables[top - 1].1 = item.clone(),
                [..] if branch.pipe.variables.len() == 2 => {
                    self.variables[top - 2].1 = index;
                    self.variables[top - 1].1 = item.clone();
                }
                _ => {}
            }
            match self.walk(&item, &branch.body) {
                Err(Stop::Break) => break,
                Err(Stop::Continue) | Ok(()) => self.variables.truncate(top),
                error => return error,
            }
        }
        self.variables.truncate(mark);
        Ok(())
    }

    fn call(&mut self, dot: &Value, call: &'t Call) -> Flow<()> {
        self.place = Some(call);
        let Some((name, body)) = self.template.defined.get_key_value(&call.name) else {
            return self.error(format!("template {} not defined", lap_frontend::go::quote(&call.name)));
        };
        if self.depth == MAX_DEPTH {
            return self.error(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        let dot = call.pipe.as_ref().map_or(Ok(Value::Missing), |pipe| self.pipeline(dot, pipe))?;
        // The callee sees none of our variables.
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let caller = std::mem::replace(&mut self.name, name);
        self.depth += 1;
        self.walk(&dot, body)?;
        self.depth -= 1;
        self.name = caller;
        self.variables = variables;
        Ok(())
    }

    fn pipeline(&mut self, dot: &Value, pipe: &'t Pipe) -> Flow {
        self.place = Some(pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(match self.command(dot, command, value)? {
                // An interface that holds nothing is nothing here.
                Value::Nil => Value::Missing,
                value => value,
            });
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipe.variables {
            if pipe.assigns {
                match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    Some(variable) => variable.1 = value.clone(),
                    None => return self.error(format!("undefined variable: {name}")),
                }
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, dot: &Value, command: &'t Command, last: Option<Value>) -> Flow {
        let (first, arguments) = (&command.words[0], &command.words[1..]);
        let is_call = !arguments.is_empty() || last.is_some();
        match &first.kind {
            WordKind::Field(_) | WordKind::Chain(..) | WordKind::Variable(_) => {
                return self.chain(dot, first, arguments, last);
            }
            WordKind::Identifier(name) => {
                self.place = Some(first);
                return self.function(dot, command, name, arguments, last);
            }
            WordKind::Pipe(pipe) => {
                if is_call {
                    return self.error(format!("can't give argument to non-function {first}"));
                }
                return self.pipeline(dot, pipe);
            }
            _ => {}
        }
        self.place = Some(first);
        if is_call {
            return self.error(format!("can't give argument to non-function {first}"));
        }
        match &first.kind {
            WordKind::Nil => self.error("nil is not a command"),
            _ => self.literal(dot, first),
        }
    }

    /// A word that stands for itself.
    fn literal(&self, dot: &Value, word: &Word) -> Flow {
        Ok(match &word.kind {
            WordKind::Dot => dot.clone(),
            WordKind::Bool(value) => Value::Bool(*value),
            WordKind::String { text, .. } => text.as_str().into(),
            WordKind::Number { value: Number::Int(value), .. } => Value::Int(*value),
            WordKind::Number { value: Number::Float(value), .. } => Value::Float(*value),
            WordKind::Number { text, .. } => return self.error(format!("{text} overflows int")),
            _ => Value::Missing,
        })
    }

    /// `.a.b`, `$x.a` or `(pipe).a`, whose last name may be a method that takes the arguments.
    fn chain(&mut self, dot: &Value, word: &'t Word, arguments: &'t [Word], last: Option<Value>) -> Flow {
        self.place = Some(word);
        let (mut receiver, names) = match &word.kind {
            WordKind::Field(names) => (dot.clone(), &names[..]),
            WordKind::Variable(names) => {
                let found = self.variables.iter().rev().find(|(known, _)| *known == names[0]);
                let value = found.map_or(Value::Missing, |(_, value)| value.clone());
                if names.len() == 1 && (!arguments.is_empty() || last.is_some()) {
                    return self.error(format!("can't give argument to non-function {word}"));
                }
                (value, &names[1..])
            }
            WordKind::Chain(inner, names) => {
                if matches!(inner.kind, WordKind::Nil) {
                    return self.error(format!("indirection through explicit nil in {word}"));
                }
                (self.argument(dot, Parameter::Any, inner)?, &names[..])
            }
            _ => return Ok(Value::Missing),
        };
        let Some((final_name, names)) = names.split_last() else { return Ok(receiver) };
        // What comes out of a map of anything is, to Go, of no type of its own.
        let mut is_any = false;
        for name in names {
            let value = self.field(dot, (&receiver, is_any), name, &[], None)?;
            is_any = matches!(&receiver, Value::Map(map) if map.of == ANY);
            receiver = value;
        }
        self.field(dot, (&receiver, is_any), final_name, arguments, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        (receiver, is_any): (&Value, bool),
        name: &str,
        arguments: &'t [Word],
        last: Option<Value>,
    ) -> Flow {
        let has_arguments = !arguments.is_empty() || last.is_some();
        let found = match receiver {
            Value::Missing if self.missing == MissingKey::Error => {
                return self.error(format!("nil data; no entry for key {}", lap_frontend::go::quote(name)));
            }
            Value::Missing => return Ok(Value::Missing),
            Value::Nil | Value::NilPointer(_) => {
                return self.error(format!("nil pointer evaluating {}.{name}", receiver.type_name()));
            }
            Value::Struct(fields) => fields.get(name).cloned(),
            Value::Map(map) => match map.entries.get(name).cloned() {
                None if has_arguments => return self.error(format!("{name} is not a method but has arguments")),
                None if self.missing == MissingKey::Error => {
                    return self.error(format!("map has no entry for key {}", lap_frontend::go::quote(name)));
                }
                value => Some(value.unwrap_or(Value::Missing)),
            },
            _ => None,
        };
        match found {
            Some(Value::Method(method)) => {
                let count = arguments.len() + usize::from(last.is_some());
                if count != 1 {
                    return self.error(format!("wrong number of args for {name}: want 1 got {count}"));
                }
                let argument = match (arguments.first(), last) {
                    (Some(word), _) => self.argument(dot, Parameter::String, word)?,
                    (None, last) => self.fitting(last.unwrap_or(Value::Missing), Parameter::String)?,
                };
                let Value::String(text) = argument else { return Ok(Value::Missing) };
                Ok(method.0(&text).into())
            }
            Some(_) if has_arguments && matches!(receiver, Value::Map(_)) => {
                self.error(format!("{name} is not a method but has arguments"))
            }
            Some(_) if has_arguments => self.error(format!("{name} has arguments but cannot be invoked as function")),
            Some(value) => Ok(value),
            None => {
                let type_name = if is_any { ANY.to_owned() } else { receiver.type_name() };
                self.error(format!("can't evaluate field {name} in type {type_name}"))
            }
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        node: &'t dyn Place,
        name: &str,
        arguments: &'t [Word],
        last: Option<Value>,
    ) -> Flow {
        if name == "and" || name == "or" {
            if arguments.is_empty() && last.is_none() {
                return self.error(format!("wrong number of args for {name}: want at least 1 got 0"));
            }
            let mut value = Value::Missing;
            for word in arguments {
                value = self.argument(dot, Parameter::Value, word)?;
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let Some(function) = functions::find(name) else {
            return self.error(format!("{} is not a defined function", lap_frontend::go::quote(name)));
        };
        let count = arguments.len() + usize::from(last.is_some());
        let fixed = function.parameters.len();
        if function.more.is_some() && count < fixed {
            return self
                .error(format!("wrong number of args for {name}: want at least {fixed} got {}", arguments.len()));
        }
        if function.more.is_none() && count != fixed {
            return self.error(format!("wrong number of args for {name}: want {fixed} got {count}"));
        }
        let parameter =
            |index: usize| function.parameters.get(index).copied().or(function.more).unwrap_or(Parameter::Any);
        let mut values = Vec::with_capacity(count);
        for (index, word) in arguments.iter().enumerate() {
            values.push(self.argument(dot, parameter(index), word)?);
        }
        if let Some(last) = last {
            values.push(self.fitting(last, parameter(arguments.len()))?);
        }
        match self.set.call(function, &values) {
            Ok(value) => Ok(value),
            Err(message) => {
                self.place = Some(node);
                self.error(format!("error calling {name}: {message}"))
            }
        }
    }

    fn argument(&mut self, dot: &Value, parameter: Parameter, word: &'t Word) -> Flow {
        self.place = Some(word);
        let value = match &word.kind {
            WordKind::Dot => dot.clone(),
            WordKind::Nil if parameter.can_be_nil() => {
                return Ok(if parameter == Parameter::Value { Value::Missing } else { Value::Nil });
            }
            WordKind::Nil => return self.error(format!("cannot assign nil to {}", parameter.type_name())),
            WordKind::Field(_) | WordKind::Variable(_) | WordKind::Chain(..) => self.chain(dot, word, &[], None)?,
            WordKind::Pipe(pipe) => self.pipeline(dot, pipe)?,
            WordKind::Identifier(name) => self.function(dot, word, name, &[], None)?,
            WordKind::Bool(_) | WordKind::Number { .. } | WordKind::String { .. } => {
                let value = self.literal(dot, word)?;
                return match (parameter, &value) {
                    (Parameter::String, Value::String(_)) | (Parameter::Int, Value::Int(_)) => Ok(value),
                    (Parameter::Any | Parameter::Value, _) => Ok(value),
                    (Parameter::String, _) => self.error(format!("expected string; found {word}")),
                    (Parameter::Int, _) => self.error(format!("expected integer; found {word}")),
                    (Parameter::Strings, _) => {
                        self.error(format!("can't handle {word} for arg of type {}", parameter.type_name()))
                    }
                };
            }
        };
        self.fitting(value, parameter)
    }

    /// The value, where a parameter takes it.
    fn fitting(&self, value: Value, parameter: Parameter) -> Flow {
        match (parameter, value) {
            (Parameter::Value, value) => Ok(value),
            (Parameter::Any | Parameter::Strings, Value::Missing) => Ok(Value::Nil),
            (Parameter::Any, value) => Ok(value),
            (parameter, Value::Missing) => self.error(format!("invalid value; expected {}", parameter.type_name())),
            (Parameter::String, value @ Value::String(_)) | (Parameter::Int, value @ Value::Int(_)) => Ok(value),
            (Parameter::Strings, Value::List(list)) if list.of == "string" => Ok(Value::List(list)),
            (parameter, value) => self.error(format!(
                "wrong type for value; expected {}; got {}",
                parameter.type_name(),
                value.type_name()
            )),
        }
    }
}

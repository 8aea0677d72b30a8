//! The tree of a template. Nodes print as Go prints them, for its messages quote them.

use std::fmt::{Display, Formatter, Result};

/// What messages point at.
pub(super) trait Place: Display {
    /// Byte of the template.
    fn at(&self) -> usize;
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(Call),
    Break,
    Continue,
}

/// A condition, a loop or a change of the dot.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Option<Vec<Node>>,
}

/// `{{template "name" pipe}}`
#[derive(Debug)]
pub(super) struct Call {
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) pipe: Option<Pipe>,
}

/// Commands, each given the result of the one before, and the variables that take the last.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand, or a function or method and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: usize,
    pub(super) words: Vec<Word>,
}

#[derive(Debug)]
pub(super) struct Word {
    pub(super) at: usize,
    pub(super) kind: WordKind,
}

#[derive(Debug)]
pub(super) enum WordKind {
    Dot,
    Nil,
    Bool(bool),
    Number {
        text: String,
        value: Number,
    },
    String {
        quoted: String,
        text: String,
    },
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a`, the name with its `$` first.
    Variable(Vec<String>),
    /// A function.
    Identifier(String),
    /// `(pipe)`
    Pipe(Box<Pipe>),
    /// `(pipe).a.b`
    Chain(Box<Word>, Vec<String>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
    /// More than an `int` holds.
    TooLarge,
}

impl Place for Pipe {
    fn at(&self) -> usize {
        self.at
    }
}

impl Place for Command {
    fn at(&self) -> usize {
        self.at
    }
}

impl Place for Word {
    fn at(&self) -> usize {
        self.at
    }
}

impl Place for Call {
    fn at(&self) -> usize {
        self.at
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if !self.variables.is_empty() {
            write!(f, "{} := ", self.variables.join(", "))?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if index > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, word) in self.words.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            match &word.kind {
                WordKind::Pipe(pipe) => write!(f, "{space}({pipe})")?,
                _ => write!(f, "{space}{word}")?,
            }
        }
        Ok(())
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.kind {
            WordKind::Dot => f.write_str("."),
            WordKind::Nil => f.write_str("nil"),
            WordKind::Bool(value) => write!(f, "{value}"),
            WordKind::Number { text, .. } => f.write_str(text),
            WordKind::String { quoted, .. } => f.write_str(quoted),
            WordKind::Field(names) => write!(f, ".{}", names.join(".")),
            WordKind::Variable(names) => f.write_str(&names.join(".")),
            WordKind::Identifier(name) => f.write_str(name),
            WordKind::Pipe(pipe) => write!(f, "{pipe}"),
            WordKind::Chain(word, fields) => match &word.kind {
                WordKind::Pipe(pipe) => write!(f, "({pipe}).{}", fields.join(".")),
                _ => write!(f, "{word}.{}", fields.join(".")),
            },
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{{{{template {}", lap_frontend::go::quote(&self.name))?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}

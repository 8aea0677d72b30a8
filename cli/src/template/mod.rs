//! Go's `text/template`, as far as commands with `--format` need it: text in, a tree, and text out for a value.
//!
//! Scripts that read Docker's answers are full of such templates, and what they print must not differ by a byte. So
//! this follows Go where it is odd, too: the column of an error is that of the last field of a chain, a missing key
//! prints `<no value>`, and `and` and `or` give back one of their arguments. What a value is, struct or map, nil or
//! empty, is told by [`Value`]; JSON alone cannot.
//!
//! Left out: complex numbers, channels, functions as values (`call`), user-defined delimiters.

mod exec;
mod format;
mod functions;
mod lex;
mod literal;
mod node;
mod parse;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;

pub(crate) use table::{Listing, Row};
pub(crate) use value::{Struct, Value};

/// Why a template cannot be read or not be applied, in Go's words, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError(String);

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

/// What a key that a map does not have is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingKey {
    /// Nothing, printed as `<no value>`.
    NoValue,
    /// An error.
    Error,
}

/// A template that was read.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
    root: Vec<node::Node>,
    /// What `define` and `block` made.
    defined: BTreeMap<String, Vec<node::Node>>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Where it is none, with the line.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text)
    }

    /// What the template says of a value.
    ///
    /// # Errors
    /// Where it asks for what the value does not have, with line and column.
    pub(crate) fn execute(&self, value: &Value, missing: MissingKey) -> Result<String, TemplateError> {
        exec::execute(self, value, missing, &functions::Set::Values)
    }

    /// What the template says of a table's headings, where the functions that change text do nothing.
    fn execute_header(&self, value: &Value) -> Result<String, TemplateError> {
        exec::execute(self, value, MissingKey::NoValue, &functions::Set::Headings)
    }
}

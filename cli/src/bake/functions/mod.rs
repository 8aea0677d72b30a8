//! The standard functions of bake files: a table by name, one file a family.
//!
//! The names and meanings are those of go-cty's standard library as buildx offers it, and of buildx's own. `bcrypt` and
//! `rsadecrypt` are left out: secrets have no place in a bake file. `try`, `can` and `convert` look at their arguments before these are
//! evaluated, so the evaluator has them.

mod collections;
mod encoding;
mod format;
mod network;
mod numbers;
mod semver;
mod strings;
mod time;

use super::source::Fault;
use super::value::Value;

/// What a function is given and yields.
type Run = fn(&[Value]) -> Result<Value, Fault>;

/// One function.
pub(crate) struct Function {
    name: &'static str,
    least: usize,
    /// None: any number.
    most: Option<usize>,
    run: Run,
}

impl Function {
    /// Calls it.
    ///
    /// # Errors
    /// Where the arguments are too few or many, or of the wrong kind.
    pub(crate) fn call(&self, arguments: &[Value]) -> Result<Value, Fault> {
        if arguments.len() < self.least || self.most.is_some_and(|most| arguments.len() > most) {
            let takes = match self.most {
                Some(most) if most == self.least => most.to_string(),
                Some(most) => format!("{} to {most}", self.least),
                None => format!("at least {}", self.least),
            };
            return Err(Fault::new(format!("takes {takes} arguments, not {}", arguments.len())));
        }
        (self.run)(arguments)
    }
}

const fn exactly(name: &'static str, count: usize, run: Run) -> Function {
    Function { name, least: count, most: Some(count), run }
}

const fn between(name: &'static str, least: usize, most: usize, run: Run) -> Function {
    Function { name, least, most: Some(most), run }
}

const fn at_least(name: &'static str, least: usize, run: Run) -> Function {
    Function { name, least, most: None, run }
}

const FAMILIES: [&[Function]; 7] = [
    strings::FUNCTIONS,
    numbers::FUNCTIONS,
    collections::FUNCTIONS,
    encoding::FUNCTIONS,
    time::FUNCTIONS,
    network::FUNCTIONS,
    format::FUNCTIONS,
];

/// The function called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FAMILIES.iter().flat_map(|family| family.iter()).find(|function| function.name == name)
}

/// Every name.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.iter()).map(|function| function.name)
}

#[cfg(test)]
mod tests;

//! Checks: names, meaning and wording of `BuildKit`'s rules (`frontend/dockerfile/linter`).
//!
//! A rule is a row of [`RULES`]. What a rule looks at decides where its check lives: the text alone here in
//! [`mod@text`], what variables and stages make of it beside the lowering that knows them.

mod config;
mod rules;
mod text;

pub use config::{Config, ConfigError};
pub(crate) use rules::*;
pub use rules::{RULES, Rule};
pub(crate) use text::check as check_text;

use std::collections::HashSet;

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::source::{Source, Span};

/// Collects what the rules find.
#[derive(Debug, Clone)]
pub(crate) struct Linter {
    config: Config,
    pub(crate) found: Vec<Diagnostic>,
    /// Rule, place and message of what was found.
    said: HashSet<(&'static str, Span, String)>,
}

impl Linter {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, found: Vec::new(), said: HashSet::new() }
    }

    /// Reports unless the rule is skipped, here or in the file, or the same was said of the same place.
    ///
    /// `comments` are those right before the instruction: `# check=skip=…` there is for it alone.
    pub(crate) fn report(
        &mut self,
        rule: &Rule,
        source: &Source,
        (span, comments): (Span, &[String]),
        message: String,
    ) {
        let local = comments.iter().filter_map(|comment| Config::of_comment(comment));
        if !self.config.enabled(rule) || local.into_iter().any(|local| local.skips(rule)) {
            return;
        }
        if !self.said.insert((rule.name, span, message.clone())) {
            return;
        }
        let code = Code::Rule(rule.name.to_owned());
        let found = Diagnostic::new(Severity::Warning, code, message, source, span)
            .with_hint(Some(format!("see {}", rule.url())));
        self.found.push(found);
    }

    /// Whether another finding may come with a suggestion, which costs a look at every name there is: whoever has
    /// more findings than that is helped by the first ones.
    pub(crate) const fn may_suggest(&self) -> bool {
        self.found.len() < 100
    }

    /// The names of violated rules, where the file asks that they be errors.
    pub(crate) fn violated(&self) -> Option<String> {
        if !self.config.error || self.found.is_empty() {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        for found in &self.found {
            if let Code::Rule(name) = &found.code
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        Some(names.join(", "))
    }
}

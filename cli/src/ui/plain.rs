//! Lines as they come, in the form BuildKit's plain progress has.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::time::Duration;

use super::model::{Change, Model, State};
use super::{Painter, WAITING, doing, ended, seconds, visible};

/// Prints each change as a line.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// When each step began, by its number, for the times before log lines.
    began: HashMap<usize, Duration>,
    last: usize,
    /// Which parts were told of: several outputs export the same blobs.
    told: HashSet<(String, &'static str)>,
}

impl Plain {
    fn line(&mut self, number: usize, text: &str) {
        let mut out = std::io::stderr().lock();
        if self.last != 0 && self.last != number {
            drop(writeln!(out));
        }
        self.last = number;
        // Nobody is left to tell when standard error is closed.
        drop(writeln!(out, "#{number} {text}"));
    }
}

impl Painter for Plain {
    fn changed(&mut self, model: &Model, change: &Change, at: Duration) {
        match change {
            Change::Step(vertex) => {
                let step = &model.steps[vertex.index()];
                let Some(number) = step.number else { return };
                if let std::collections::hash_map::Entry::Vacant(entry) = self.began.entry(number) {
                    entry.insert(at);
                    self.line(number, &step.label);
                }
                match &step.state {
                    State::Cached => self.line(number, "CACHED"),
                    State::Done { took } => self.line(number, &format!("DONE {}", seconds(*took))),
                    State::Failed { message, .. } => self.line(number, &format!("ERROR: {}", visible(message))),
                    State::Cancelled => self.line(number, "CANCELED"),
                    State::Running { at } => {
                        self.began.insert(number, *at);
                        if let Some(why) = &step.why {
                            self.line(number, &format!("runs: {why}"));
                        }
                    }
                    State::Waiting { .. } => self.line(number, WAITING),
                    State::Pending | State::Started { .. } => {}
                }
            }
            Change::Lines(vertex, lines) => {
                let Some(number) = model.steps[vertex.index()].number else { return };
                let since = at.saturating_sub(self.began.get(&number).copied().unwrap_or(at));
                for line in lines {
                    self.line(number, &format!("{:.3} {line}", since.as_secs_f64()));
                }
            }
            Change::Part(id) => {
                let Some(part) = model.parts.get(id) else { return };
                if part.done && self.told.insert((id.clone(), doing(part.action))) {
                    let mut out = std::io::stderr().lock();
                    drop(writeln!(out, "{}", ended(id, part)));
                }
            }
            Change::Warning(_, message) => drop(writeln!(std::io::stderr(), "WARN: {}", visible(message))),
            Change::Finding(found) => drop(writeln!(std::io::stderr(), "WARN: {}", visible(&found.text()))),
        }
    }

    fn end(&mut self, _: &Model, _: Duration) {
        if self.last != 0 {
            drop(writeln!(std::io::stderr()));
        }
    }
}

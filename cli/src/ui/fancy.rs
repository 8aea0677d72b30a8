//! Lines that move: a headline, the steps that are under way with the end of their output, bars for transfers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lap_solver::event::Action;
use lap_solver::graph::VertexId;

use super::look::{Look, Tone};
use super::model::{Change, Model, State};
use super::{Painter, WAITING, doing, ended, seconds, short, transfer, visible};

/// Columns of a terminal from which on bars are long.
const ROOMY: usize = 94;
const BAR: &str =
    " {prefix} {msg:11} [{bar:25}] {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>11} {eta:>4}";
const SHORT_BAR: &str =
    " {prefix} {msg:11} [{bar:11}] {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>11} {eta:>4}";

/// Draws with indicatif on standard error.
pub(super) struct Fancy {
    screen: MultiProgress,
    headline: ProgressBar,
    steps: BTreeMap<VertexId, ProgressBar>,
    parts: BTreeMap<String, ProgressBar>,
    /// The parts whose end was told: fetching and unpacking a layer end together.
    told: BTreeSet<String>,
    look: Look,
    any_step: bool,
}

impl Fancy {
    pub(super) fn new(look: Look) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20));
        let headline = screen.add(ProgressBar::new_spinner().with_style(style("{msg}")));
        Self {
            screen,
            headline,
            steps: BTreeMap::new(),
            parts: BTreeMap::new(),
            told: BTreeSet::new(),
            look,
            any_step: false,
        }
    }

    fn width() -> usize {
        crate::terminal::columns().unwrap_or(80).max(20)
    }

    /// ` => [2/3] RUN make                     1.2s`, cut to the terminal.
    fn row(&self, label: &str, time: &str) -> String {
        let width = Self::width();
        let room = width.saturating_sub(5 + time.len());
        let label: String = if label.chars().count() > room {
            label.chars().take(room.saturating_sub(1)).chain(['…']).collect()
        } else {
            label.to_owned()
        };
        let pad = room.saturating_sub(label.chars().count());
        format!(" => {label}{:pad$} {time}", "")
    }

    fn headline(&self, model: &Model, at: Duration) {
        if self.any_step {
            let (done, seen) = model.counts();
            self.headline.set_message(format!("[+] Building {} ({done}/{seen})", seconds(at)));
        } else if let Some(text) = transfer::summary(model, at) {
            self.headline.set_message(text);
        }
    }

    fn warn(&self, message: &str) {
        drop(self.screen.println(self.look.paint(Tone::Warning, &format!(" ! {}", visible(message)))));
    }

    fn running(&self, model: &Model, vertex: VertexId, at: Duration) -> String {
        let step = &model.steps[vertex.index()];
        let (began, note) = match step.state {
            State::Started { at } | State::Running { at } => (at, step.why.as_deref()),
            State::Waiting { at } => (at, Some(WAITING)),
            _ => return String::new(),
        };
        let label = note.map_or_else(|| step.label.clone(), |note| format!("{} ({note})", step.label));
        let mut text = self.row(&label, &seconds(at.saturating_sub(began)));
        let width = Self::width().saturating_sub(9);
        for line in &step.tail[step.tail.len().saturating_sub(self.look.lines)..] {
            let line: String = strip(line).chars().take(width).collect();
            text.push_str(&format!("\n => => {}", self.look.paint(Tone::Faint, &line)));
        }
        text
    }

    fn close(&mut self, vertex: VertexId, line: &str) {
        if let Some(bar) = self.steps.remove(&vertex) {
            bar.finish_and_clear();
        }
        drop(self.screen.println(line));
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Painter for Fancy {
    fn changed(&mut self, model: &Model, change: &Change, at: Duration) {
        match change {
            Change::Step(vertex) => {
                self.any_step = true;
                let step = &model.steps[vertex.index()];
                match &step.state {
                    State::Started { .. } | State::Waiting { .. } | State::Running { .. } => {
                        let bar = self
                            .steps
                            .entry(*vertex)
                            .or_insert_with(|| self.screen.add(ProgressBar::new_spinner().with_style(style("{msg}"))));
                        let bar = bar.clone();
                        bar.set_message(self.running(model, *vertex, at));
                    }
                    State::Cached => {
                        let line = self.row(&format!("CACHED {}", step.label), "0.0s");
                        self.close(*vertex, &self.look.paint(Tone::Run, &line));
                    }
                    State::Done { took } => {
                        let line = self.row(&step.label, &seconds(*took));
                        self.close(*vertex, &self.look.paint(Tone::Run, &line));
                    }
                    State::Failed { took, .. } => {
                        let line = self.row(&format!("ERROR {}", step.label), &seconds(*took));
                        self.close(*vertex, &self.look.paint(Tone::Error, &line));
                    }
                    State::Cancelled => {
                        let line = self.row(&format!("CANCELED {}", step.label), "");
                        self.close(*vertex, &self.look.paint(Tone::Cancel, &line));
                    }
                    State::Pending => {}
                }
                self.headline(model, at);
            }
            Change::Lines(vertex, _) => {
                if let Some(bar) = self.steps.get(vertex) {
                    bar.set_message(self.running(model, *vertex, at));
                }
            }
            Change::Part(id) => {
                let Some(part) = model.parts.get(id) else { return };
                if part.action == Action::Exists && !part.done {
                    return;
                }
                let bar = self.parts.entry(id.clone()).or_insert_with(|| {
                    let template = if part.total.is_some_and(|total| total > 0) {
                        // Eighty columns are enough for all of it.
                        match Self::width() >= ROOMY {
                            true => BAR,
                            false => SHORT_BAR,
                        }
                    } else if part.action == Action::Resolve {
                        " {prefix} {msg}"
                    } else {
                        " {prefix} {msg} {decimal_bytes}"
                    };
                    let bar = ProgressBar::new(part.total.unwrap_or(0)).with_style(style(template));
                    self.screen.add(bar.with_prefix(visible(&short(id))))
                });
                bar.set_message(doing(part.action));
                bar.set_position(part.current);
                if let Some(total) = part.total {
                    bar.set_length(total);
                }
                if part.done
                    && let Some(bar) = self.parts.remove(id)
                {
                    bar.finish_and_clear();
                    // In a build the transfers belong to steps, which stay. That a name was looked up says nothing.
                    if !self.any_step && part.action != Action::Resolve && self.told.insert(id.clone()) {
                        drop(self.screen.println(format!(" {}", ended(id, part))));
                    }
                }
            }
            Change::Warning(_, message) => self.warn(message),
            Change::Finding(found) => self.warn(&found.text()),
        }
    }

    fn tick(&mut self, model: &Model, at: Duration) {
        for (vertex, bar) in &self.steps {
            bar.set_message(self.running(model, *vertex, at));
        }
        self.headline(model, at);
    }

    fn end(&mut self, model: &Model, at: Duration) {
        for bar in self.steps.values() {
            bar.finish_and_clear();
        }
        for bar in self.parts.values() {
            bar.finish_and_clear();
        }
        self.headline.finish_and_clear();
        if self.any_step {
            let (done, seen) = model.counts();
            let word = model.outcome();
            // Nothing moves any more: what comes after begins on a line of its own.
            drop(writeln!(std::io::stderr(), "[+] Building {} ({done}/{seen}) {word}", seconds(at)));
        }
    }
}

/// A line without colours, which would be cut in the middle.
fn strip(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            rest.by_ref().find(|c| c.is_ascii_alphabetic());
        } else if c == '\t' {
            out.push_str("    ");
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_lines_are_shown_as_the_user_wants() {
        use lap_solver::event::{Event, Stream};
        use lap_solver::graph::{Builder, Metadata, Op, Source};
        let mut builder = Builder::new();
        let vertex = builder.add(Op::Source(Source::Local { name: "x".into() }), vec![], Metadata::default());
        let mut model = Model::default();
        model.set_graph(builder.graph());
        model.fold(Event::Started { vertex }, Duration::ZERO);
        let data = (1..=9).map(|line| format!("line {line}\n")).collect::<String>().into_bytes();
        model.fold(Event::Log { vertex, stream: Stream::Stdout, data }, Duration::ZERO);
        for lines in [1, 6, 9, 100] {
            let mut look = Look::from(false);
            look.lines = lines;
            let fancy = Fancy::new(look);
            let shown = fancy.running(&model, vertex, Duration::ZERO);
            assert_eq!(shown.matches(" => => line").count(), lines.min(9), "{shown}");
            assert!(shown.ends_with("line 9"));
        }
    }

    #[test]
    fn templates_of_bars_are_good_ones() {
        for template in [BAR, SHORT_BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn names_and_lines_are_shortened() {
        assert_eq!(short("sha256:0123456789abcdef layer"), "0123456789ab layer");
        assert_eq!(strip("\x1b[31mred\x1b[0m\tx"), "red    x");
    }
}

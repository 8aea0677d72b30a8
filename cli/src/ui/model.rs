//! The view model: a pure fold of events into what a screen may show.

use std::collections::BTreeMap;
use std::time::Duration;

use lap_solver::event::{Action, Event};
use lap_solver::graph::{Graph, VertexId};

use super::visible;

/// Where a step stands; times count from the start of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    /// Its key is being derived and looked up, or a source is being read.
    Started {
        at: Duration,
    },
    /// Another build executes it; counts from when it was started.
    Waiting {
        at: Duration,
    },
    Running {
        at: Duration,
    },
    Cached,
    Done {
        took: Duration,
    },
    Failed {
        took: Duration,
        message: String,
    },
    Cancelled,
}

/// One step as people see it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// `[build 2/7] RUN make`.
    pub(crate) label: String,
    pub(crate) state: State,
    /// Number on the plain screen, given when the step first shows up.
    pub(crate) number: Option<usize>,
    /// The end of its output, as lines.
    pub(crate) tail: Vec<String>,
    /// Why it is executed, in short.
    pub(crate) why: Option<String>,
    partial: Vec<u8>,
}

/// A part of the work with a size.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) action: Action,
    /// The step it belongs to.
    pub(crate) vertex: Option<VertexId>,
    pub(crate) current: u64,
    pub(crate) total: Option<u64>,
    pub(crate) done: bool,
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
}

/// What a fold changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// This step is in another state.
    Step(VertexId),
    /// These whole lines were put out by this step.
    Lines(VertexId, Vec<String>),
    /// This part moved on.
    Part(String),
    /// Something to tell, perhaps about a step.
    Warning(Option<VertexId>, String),
    /// What a check found.
    Finding(Finding),
}

/// What a check of a Dockerfile found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) rule: String,
    pub(crate) message: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

impl Finding {
    /// In one line.
    pub(crate) fn text(&self) -> String {
        format!("{} ({}:{})", self.message, self.file, self.line)
    }
}

/// How many lines of a step's output are kept for errors and the screen.
const TAIL: usize = 40;
/// A line longer than this is cut into several.
const LONGEST_LINE: usize = 16 * 1024;

/// Everything there is to show.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) steps: Vec<Step>,
    pub(crate) parts: BTreeMap<String, Part>,
    shown: usize,
}

impl Model {
    /// The steps of a graph become visible.
    pub(crate) fn set_graph(&mut self, graph: &Graph) {
        self.set_labels(graph.vertices().iter().map(|vertex| label(&vertex.metadata)).collect());
    }

    /// The same for steps by what they are called.
    pub(crate) fn set_labels(&mut self, labels: Vec<String>) {
        self.steps = labels.into_iter().map(Step::new).collect();
    }

    /// Why the step that an event speaks of is executed.
    pub(crate) fn set_why(&mut self, event: &Event, why: Option<String>) {
        if let (Event::Running { vertex, .. }, Some(why)) = (event, why)
            && let Some(step) = self.steps.get_mut(vertex.index())
        {
            step.why = Some(why);
        }
    }

    /// How it all ended, in a word.
    pub(crate) fn outcome(&self) -> &'static str {
        let any = |what: fn(&State) -> bool| self.steps.iter().any(|step| what(&step.state));
        if any(|state| matches!(state, State::Failed { .. })) {
            "FAILED"
        } else if any(|state| matches!(state, State::Cancelled) || is_open(state)) {
            "CANCELED"
        } else {
            "FINISHED"
        }
    }

    /// How many of the steps that showed up are over, and how many showed up.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let seen = self.steps.iter().filter(|step| step.state != State::Pending);
        let over = seen.clone().filter(|step| !is_open(&step.state));
        (over.count(), seen.count())
    }

    /// Takes in an event that happened at `at`.
    pub(crate) fn fold(&mut self, event: Event, at: Duration) -> Vec<Change> {
        match event {
            Event::Started { vertex } => self.change(vertex, |_| State::Started { at }),
            Event::Waiting { vertex } => self.change(vertex, |_| State::Waiting { at }),
            Event::Running { vertex, .. } => self.change(vertex, |_| State::Running { at }),
            Event::Cached { vertex, .. } => self.change(vertex, |_| State::Cached),
            Event::Completed { vertex } => self.end(vertex, |state| State::Done { took: since(state, at) }),
            Event::Failed { vertex, message } => {
                self.end(vertex, |state| State::Failed { took: since(state, at), message })
            }
            Event::Cancelled { vertex } => self.end(vertex, |_| State::Cancelled),
            Event::Log { vertex, data, .. } => {
                let Some(step) = self.steps.get_mut(vertex.index()) else { return Vec::new() };
                let lines = step.take_lines(&data);
                if lines.is_empty() { Vec::new() } else { vec![Change::Lines(vertex, lines)] }
            }
            Event::Progress { id, action, vertex, current, total, done } => {
                let part = self.parts.entry(id.clone()).or_insert(Part {
                    action,
                    vertex,
                    current,
                    total,
                    done,
                    started: at,
                    ended: at,
                });
                (part.action, part.current, part.total, part.done, part.ended) = (action, current, total, done, at);
                vec![Change::Part(id)]
            }
            Event::Warning { vertex, message } => vec![Change::Warning(vertex, message)],
            Event::Finding { rule, message, file, line } => {
                vec![Change::Finding(Finding { rule, message, file, line })]
            }
        }
    }

    fn change(&mut self, vertex: VertexId, to: impl FnOnce(&State) -> State) -> Vec<Change> {
        let shown = &mut self.shown;
        let Some(step) = self.steps.get_mut(vertex.index()) else { return Vec::new() };
        step.number.get_or_insert_with(|| {
            *shown += 1;
            *shown
        });
        step.state = to(&step.state);
        vec![Change::Step(vertex)]
    }

    /// As `change`, after what is left of an unfinished line.
    fn end(&mut self, vertex: VertexId, to: impl FnOnce(&State) -> State) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(step) = self.steps.get_mut(vertex.index())
            && !step.partial.is_empty()
        {
            changes.push(Change::Lines(vertex, step.take_lines(b"\n")));
        }
        changes.extend(self.change(vertex, to));
        changes
    }
}

impl Step {
    fn new(label: String) -> Self {
        Self { label, state: State::Pending, number: None, tail: Vec::new(), why: None, partial: Vec::new() }
    }

    /// Adds output; returns the lines that are whole now, without control characters that would move the cursor.
    fn take_lines(&mut self, data: &[u8]) -> Vec<String> {
        self.partial.extend_from_slice(data);
        let mut lines = Vec::new();
        while let Some(end) = self
            .partial
            .iter()
            .position(|byte| *byte == b'\n')
            .or_else(|| (self.partial.len() > LONGEST_LINE).then_some(LONGEST_LINE))
        {
            let line: Vec<u8> = self.partial.drain(..=end.min(self.partial.len() - 1)).collect();
            lines.push(printable(&line));
        }
        self.tail.extend(lines.iter().cloned());
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        lines
    }
}

/// `[build 2/7] RUN make`; without a stage just the name.
pub(crate) fn label(metadata: &lap_solver::graph::Metadata) -> String {
    let name = visible(&metadata.name.split_whitespace().collect::<Vec<_>>().join(" "));
    match (&metadata.stage, metadata.position) {
        (Some(stage), Some((at, of))) => format!("[{stage} {at}/{of}] {name}"),
        (None, Some((at, of))) => format!("[{at}/{of}] {name}"),
        _ => name,
    }
}

/// Whether a step was taken up and is not over.
const fn is_open(state: &State) -> bool {
    matches!(state, State::Started { .. } | State::Waiting { .. } | State::Running { .. })
}

fn since(state: &State, at: Duration) -> Duration {
    match state {
        State::Started { at: began } | State::Waiting { at: began } | State::Running { at: began } => {
            at.saturating_sub(*began)
        }
        _ => Duration::ZERO,
    }
}

/// Text of a line of output: what a terminal would show after a carriage return, colours and all, but nothing that
/// moves the cursor or clears the screen.
pub(crate) fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let text = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or("");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                if rest.peek() == Some(&'[') {
                    let sequence: String = std::iter::once(c).chain(take_until_final(&mut rest)).collect();
                    // Only digits and separators: a control character inside would act, or begin another sequence.
                    let plain = |c: char| matches!(c, '0'..='9' | ';' | ':');
                    if sequence
                        .strip_prefix("\x1b[")
                        .and_then(|rest| rest.strip_suffix('m'))
                        .is_some_and(|rest| rest.chars().all(plain))
                    {
                        out.push_str(&sequence);
                    }
                }
            }
            '\t' => out.push('\t'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// The characters of a control sequence up to its final one (ECMA-48 5.4).
fn take_until_final(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<char> {
    let mut out = Vec::new();
    for c in rest.by_ref() {
        out.push(c);
        if out.len() > 1 && ('@'..='~').contains(&c) {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use lap_solver::event::Stream;
    use lap_solver::graph::{Builder, Metadata, Op, Source};

    use super::*;

    fn model() -> (Model, VertexId) {
        let mut builder = Builder::new();
        let metadata = Metadata {
            name: "RUN make".into(),
            stage: Some("build".into()),
            position: Some((2, 7)),
            ..Metadata::default()
        };
        let id = builder.add(Op::Source(Source::Local { name: "x".into() }), vec![], metadata);
        let mut model = Model::default();
        model.set_graph(builder.graph());
        (model, id)
    }

    #[test]
    fn a_step_goes_through_its_states_and_output_comes_in_lines() {
        let (mut model, vertex) = model();
        assert_eq!(model.steps[0].label, "[build 2/7] RUN make");
        let seconds = Duration::from_secs;
        model.fold(Event::Started { vertex }, seconds(1));
        let log = |data: &[u8]| Event::Log { vertex, stream: Stream::Stdout, data: data.to_vec() };
        assert_eq!(model.fold(log(b"on"), seconds(2)), []);
        assert_eq!(
            model.fold(log(b"e\ntwo\nthr"), seconds(2)),
            [Change::Lines(vertex, vec!["one".into(), "two".into()])]
        );
        let changes = model.fold(Event::Completed { vertex }, seconds(4));
        assert_eq!(changes[0], Change::Lines(vertex, vec!["thr".into()]));
        assert_eq!(model.steps[0].state, State::Done { took: seconds(3) });
        assert_eq!(model.counts(), (1, 1));
    }

    #[test]
    fn a_build_is_finished_only_when_its_steps_are() {
        for (event, word) in [
            (None, "CANCELED"),
            (Some(Event::Completed { vertex: model().1 }), "FINISHED"),
            (Some(Event::Cancelled { vertex: model().1 }), "CANCELED"),
            (Some(Event::Failed { vertex: model().1, message: "no".into() }), "FAILED"),
        ] {
            let (mut model, vertex) = model();
            assert_eq!(model.outcome(), "FINISHED", "nothing was begun");
            for event in std::iter::once(Event::Started { vertex }).chain(event) {
                model.fold(event, Duration::ZERO);
            }
            assert_eq!(model.outcome(), word);
        }
    }

    #[test]
    fn lines_cannot_move_the_cursor() {
        assert_eq!(printable(b"10%\r50%\r100%\r\n"), "100%");
        assert_eq!(printable(b"\x1b[31mred\x1b[0m\x1b[2J\x07!\n"), "\x1b[31mred\x1b[0m!");
        assert_eq!(printable(b"\xff\n"), "\u{fffd}");
        assert_eq!(printable("\x1b[\u{9d}0;m\x1b[1;\x07m!".as_bytes()), "!", "sequences inside sequences");
    }
}

//! Pictures out: everything a person or a script sees, folded from the event stream.
//!
//! One thread draws. Events reach it through a bounded queue: a terminal that stalls for long holds the build back
//! rather than filling memory.

pub(crate) mod diagnostic;
pub(crate) mod error;
mod fancy;
pub(crate) mod findings;
pub(crate) mod html;
mod look;
mod model;
mod plain;
pub(crate) mod rawjson;
pub(crate) mod table;
mod transfer;
mod visible;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lap_solver::event::{Action, Event, Events, Stream};
use lap_solver::graph::{Graph, VertexId};

use crate::record::Recorder;
use look::Look;
use model::{Change, Model, Part};
pub(crate) use model::{label, printable};
pub(crate) use visible::{tame_json, visible, visible_in_place};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// `tty` on a terminal, else `plain`.
    Auto,
    /// Lines as they come.
    Plain,
    /// Lines that move.
    Tty,
    /// Nothing.
    #[value(alias = "none")]
    Quiet,
    /// BuildKit's status messages, one JSON object a line.
    Rawjson,
}

/// Told of a step that another build executes.
const WAITING: &str = "waiting for another build's result";

enum Message {
    Event(Event, Duration),
    Graph(Arc<Graph>),
    Steps(Vec<String>),
    End,
}

/// Something that draws.
trait Painter: Send {
    /// The model changed.
    fn changed(&mut self, model: &Model, change: &Change, at: Duration);
    /// Output of a step as it came, before it is cut into the lines of a change.
    fn log(&mut self, _vertex: VertexId, _stream: Stream, _data: &[u8]) {}
    /// Time went by.
    fn tick(&mut self, _model: &Model, _at: Duration) {}
    /// Steps are known.
    fn graph(&mut self, _graph: &Graph, _model: &Model) {}
    /// Nothing more comes.
    fn end(&mut self, model: &Model, at: Duration);
}

/// The drawing thread.
pub(crate) struct Screen {
    sender: SyncSender<Message>,
    thread: Option<JoinHandle<Option<Box<Recorder>>>>,
    start: Instant,
}

impl Screen {
    /// Starts drawing on standard error.
    pub(crate) fn start(mode: Mode, look: impl Into<Look>) -> Self {
        Self::recording(mode, look, None)
    }

    /// The same for something that is written down.
    pub(crate) fn recording(mode: Mode, look: impl Into<Look>, recorder: Option<Recorder>) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let mode = match mode {
            Mode::Auto if terminal => Mode::Tty,
            Mode::Auto => Mode::Plain,
            other => other,
        };
        let painter: Box<dyn Painter> = match mode {
            Mode::Quiet => Box::new(Nothing),
            Mode::Tty => Box::new(fancy::Fancy::new(look.into())),
            Mode::Rawjson => Box::new(rawjson::RawJson::default()),
            Mode::Plain | Mode::Auto => Box::new(plain::Plain::default()),
        };
        let start = Instant::now();
        let (sender, receiver) = sync_channel(4096);
        let recorder = recorder.map(Box::new);
        let thread = std::thread::spawn(move || draw(painter, recorder, &receiver, start));
        Self { sender, thread: Some(thread), start }
    }

    /// Where libraries send what happens.
    pub(crate) fn events(&self) -> Events {
        let (sender, start) = (self.sender.clone(), self.start);
        // A send fails only after the end, when nobody looks any more.
        Events::new(move |event| drop(sender.send(Message::Event(event, start.elapsed()))))
    }

    /// The steps that events will speak of.
    pub(crate) fn set_graph(&self, graph: Arc<Graph>) {
        drop(self.sender.send(Message::Graph(graph)));
    }

    /// The same by what they are called, without a graph.
    pub(crate) fn set_steps(&self, labels: Vec<String>) {
        drop(self.sender.send(Message::Steps(labels)));
    }

    /// Takes events that happened at another time than now.
    pub(crate) fn events_at(&self) -> impl Fn(Event, Duration) + use<> {
        let sender = self.sender.clone();
        move |event, at| drop(sender.send(Message::Event(event, at)))
    }

    /// Draws what is left and ends; what was written down is not yet in the store.
    pub(crate) fn finish(mut self) -> Record {
        Record { recorder: self.end(), took: self.start.elapsed() }
    }

    fn end(&mut self) -> Option<Box<Recorder>> {
        drop(self.sender.send(Message::End));
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for Screen {
    /// An error on the way out must not leave a half-drawn screen.
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// What was written down of a build, if anything.
pub(crate) struct Record {
    recorder: Option<Box<Recorder>>,
    took: Duration,
}

impl Record {
    /// Keeps it in the store.
    pub(crate) fn keep(self, error: Option<&anyhow::Error>) {
        if let Some(recorder) = self.recorder {
            recorder.finish(self.took, error);
        }
    }
}

fn draw(
    mut painter: Box<dyn Painter>,
    mut recorder: Option<Box<Recorder>>,
    receiver: &Receiver<Message>,
    start: Instant,
) -> Option<Box<Recorder>> {
    let mut model = Model::default();
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(Message::Event(event, at)) => {
                if let Event::Log { vertex, stream, data } = &event {
                    painter.log(*vertex, *stream, data);
                }
                if let Some(recorder) = &mut recorder {
                    let why = recorder.event(&event, at);
                    model.set_why(&event, why);
                }
                for change in model.fold(event, at) {
                    painter.changed(&model, &change, at);
                }
            }
            Ok(Message::Graph(graph)) => {
                model.set_graph(&graph);
                if let Some(recorder) = &mut recorder {
                    recorder.graph(&graph);
                }
                painter.graph(&graph, &model);
            }
            Ok(Message::Steps(labels)) => model.set_labels(labels),
            Err(RecvTimeoutError::Timeout) => painter.tick(&model, start.elapsed()),
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    painter.end(&model, start.elapsed());
    recorder
}

struct Nothing;

impl Painter for Nothing {
    fn changed(&mut self, _: &Model, _: &Change, _: Duration) {}
    fn end(&mut self, _: &Model, _: Duration) {}
}

/// Text on standard output. Unlike `print!`, a closed pipe is an error and no panic.
///
/// # Errors
/// Where standard output cannot be written.
pub(crate) fn put(text: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    std::io::Write::write_fmt(&mut std::io::stdout().lock(), text)
}

/// `12.3s`.
fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// A digest inside a name by its first twelve digits.
fn short(id: &str) -> String {
    id.split(' ')
        .map(|word| word.strip_prefix("sha256:").map_or(word, |hex| hex.get(..12).unwrap_or(hex)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is said of a part of the work that is over.
fn ended(id: &str, part: &Part) -> String {
    let id = visible(&short(id));
    let took = seconds(part.ended.saturating_sub(part.started));
    match (part.action, part.total) {
        (Action::Exists, _) => format!("{id}: exists"),
        (action, Some(total)) if total > 0 => format!("{id}: {} {} done {took}", doing(action), table::bytes(total)),
        (action, _) => format!("{id}: {} done {took}", doing(action)),
    }
}

/// What an action is called while it is going on.
const fn doing(action: Action) -> &'static str {
    match action {
        Action::Resolve => "resolving",
        Action::Download => "downloading",
        Action::Extract => "extracting",
        Action::Export => "exporting",
        Action::Upload => "pushing",
        Action::Exists => "exists",
    }
}

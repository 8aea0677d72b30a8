//! What is written down of each build: steps with times, keys and reasons, and every event.

mod explain;
pub(crate) mod page;
mod words;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lap_cache::builds::{self, Build, Builds, Outcome, Step};
use lap_cache::store::Store;
use lap_solver::digest::Key;
use lap_solver::event::Event;
use lap_solver::graph::{Graph, Op};
use lap_solver::key::KeyInputs;

use crate::pipeline::Request;
use explain::Explainer;
use words::short;
pub(crate) use words::{long, title};

/// Events of one build that are kept, in bytes; the rest is left out, and said so.
const EVENTS_LIMIT: usize = 256 << 20;

/// Writes a build down while it runs; in memory until it is over.
pub(crate) struct Recorder {
    builds: Builds,
    explainer: Explainer,
    build: Build,
    graph: Option<Arc<Graph>>,
    events: Vec<u8>,
    full: bool,
}

impl Recorder {
    /// Of a build of these requests.
    pub(crate) fn new(store: &Store, requests: &[&Request]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let what = |request: &&Request| {
            let directories: Vec<String> =
                request.directories.iter().map(|(_, path, _)| path.display().to_string()).collect();
            let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
            // A context that was fetched lies elsewhere each time.
            let origin = request.origin.as_ref().map(|origin| serde_json::to_string(origin).unwrap_or_default());
            let place = origin.map_or(directories, |origin| vec![origin]);
            // Tags tell versions of one thing apart.
            let names: Vec<String> = request.names.iter().map(lap_cache::image::Reference::familiar_name).collect();
            (place, request.file_name.clone(), request.options.target.clone(), platforms, names)
        };
        let identity = Key::of("build identity", &requests.iter().map(what).collect::<Vec<_>>());
        let names = requests.iter().flat_map(|request| &request.names).map(lap_cache::image::Reference::familiar);
        let first = requests.first();
        let context =
            first.and_then(|request| request.directories.first()).map(|(_, path, _)| path.display().to_string());
        let context = context.unwrap_or_default();
        let mut name = names.collect::<Vec<_>>().join(", ");
        if name.is_empty() {
            name = context.rsplit('/').next().unwrap_or_default().to_owned();
        }
        let build = Build {
            version: builds::VERSION,
            id: builds::new_id(now),
            identity,
            name,
            context,
            file: first.map(|request| request.file_name.clone()).unwrap_or_default(),
            started: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            took: 0,
            outcome: Outcome::Pending,
            error: None,
            steps: Vec::new(),
        };
        Self {
            builds: Builds::new(store.clone()),
            explainer: Explainer::new(store, identity),
            build,
            graph: None,
            events: Vec::new(),
            full: false,
        }
    }

    /// The steps are known.
    pub(crate) fn graph(&mut self, graph: &Arc<Graph>) {
        let step = |vertex: &lap_solver::graph::Vertex| {
            let metadata = &vertex.metadata;
            Step {
                name: metadata.name.clone(),
                stage: metadata.stage.clone(),
                position: metadata.position,
                lines: metadata.location.as_ref().map(|location| (location.first, location.last)),
                inputs: vertex.inputs.iter().map(|input| input.0).collect(),
                source: matches!(vertex.op, Op::Source(_)),
                definition: Some(vertex.definition),
                ..Step::default()
            }
        };
        self.build.steps = graph.vertices().iter().map(step).collect();
        self.graph = Some(Arc::clone(graph));
    }

    /// Something happened. Of a step that is executed, the short reason.
    pub(crate) fn event(&mut self, event: &Event, at: Duration) -> Option<String> {
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.keep(event, at);
        let (vertex, outcome) = match event {
            Event::Started { vertex } | Event::Waiting { vertex } | Event::Running { vertex, .. } => {
                (vertex, Outcome::Pending)
            }
            Event::Cached { vertex, .. } => (vertex, Outcome::Cached),
            Event::Completed { vertex } => (vertex, Outcome::Done),
            Event::Failed { vertex, .. } => (vertex, Outcome::Failed),
            Event::Cancelled { vertex } => (vertex, Outcome::Cancelled),
            Event::Log { .. } | Event::Progress { .. } | Event::Warning { .. } | Event::Finding { .. } => return None,
        };
        let step = self.build.steps.get_mut(vertex.index())?;
        step.outcome = outcome;
        step.ended = at;
        match event {
            Event::Started { .. } => step.started = at,
            Event::Cached { key, .. } => step.key = Some(*key),
            Event::Completed { .. } => step.made_of = None,
            Event::Failed { message, .. } => step.error = Some(message.clone()),
            Event::Running { key, inputs, secrets, .. } => {
                (step.key, step.ran) = (Some(*key), Some(at));
                let graph = self.graph.as_ref()?;
                let op = graph.vertex(*vertex).op.clone();
                let made_of =
                    self.explainer.concealed(KeyInputs { op, inputs: inputs.clone(), secrets: secrets.clone() });
                let why = self.explainer.why(graph, *vertex, *key, &made_of);
                step.made_of = Some(made_of);
                let words = short(&why);
                step.why = Some(why);
                return words;
            }
            _ => {}
        }
        None
    }

    fn keep(&mut self, event: &Event, at: u64) {
        if self.full {
            return;
        }
        // A Vec takes all.
        drop(serde_json::to_writer(&mut self.events, &(at, event)));
        drop(self.events.write_all(b"\n"));
        if self.events.len() > EVENTS_LIMIT {
            self.full = true;
            let message = format!("more than {} MiB of events: the rest is not kept", EVENTS_LIMIT >> 20);
            drop(serde_json::to_writer(&mut self.events, &(at, Event::Warning { vertex: None, message })));
            drop(self.events.write_all(b"\n"));
        }
    }

    /// The build is over: writes the record. A fault here is no fault of the build.
    pub(crate) fn finish(mut self, took: Duration, error: Option<&anyhow::Error>) {
        if self.graph.is_none() {
            // Nothing that could be compared with or looked at.
            return;
        }
        self.build.took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.build.outcome = match error {
            None => Outcome::Done,
            Some(error) if error.is::<crate::exit::WithCode>() => Outcome::Cancelled,
            Some(_) => Outcome::Failed,
        };
        self.build.error = error.map(|error| format!("{error:#}"));
        if error.is_some() {
            self.explainer.hand_on(&mut self.build.steps);
        }
        if let Err(error) = self.builds.write(&self.build, &self.events) {
            eprintln!("lap: the build could not be written down: {error}");
        }
    }
}

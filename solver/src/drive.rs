//! Carries out the schedule with tokio: one task a step, cancelled by dropping.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use crate::digest::Key;
use crate::event::{Event, Events};
use crate::graph::{Graph, Op, VertexId};
use crate::key::KeyInputs;
use crate::schedule::{Action, Input, Outcome, Schedule};
use crate::worker::{Index, Turn, Worker};

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Steps that are executed at the same time.
    pub steps: usize,
}

impl Default for Limits {
    /// Steps mostly wait for something else than this machine's cores: many at once.
    fn default() -> Self {
        Self { steps: 64 }
    }
}

/// Results of every step that was needed.
#[derive(Debug)]
pub struct Solution<Output> {
    /// What each step yielded.
    pub outputs: HashMap<VertexId, Output>,
    /// Content key of each step that has one.
    pub keys: HashMap<VertexId, Key>,
    /// Steps that did not have to be executed.
    pub cached: BTreeSet<VertexId>,
}

/// Why there is no solution.
#[derive(Debug, thiserror::Error)]
pub enum SolveError<E: std::fmt::Display> {
    /// A step failed.
    #[error("{error}")]
    Step {
        /// The step.
        vertex: VertexId,
        /// Its error.
        error: E,
    },
    /// A step's task panicked: a fault of this program.
    #[error("internal error: a step ended without a result: {0}")]
    Lost(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// What a task of the driver comes back with.
enum Answer<Output> {
    Probed {
        inputs: Box<KeyInputs>,
        key: Key,
        hit: Option<Output>,
    },
    Executed(Output),
    /// Another build executed it meanwhile.
    Found {
        key: Key,
        output: Output,
    },
}

type Tasks<Output, E> = JoinSet<(VertexId, Result<Answer<Output>, E>)>;

/// Solves what `targets` need.
///
/// Ends early when `cancelled` resolves; everything that was started is dropped before this returns.
///
/// # Errors
/// The first failing step, or cancellation.
pub async fn solve<W, I>(
    graph: Arc<Graph>,
    targets: &[VertexId],
    worker: Arc<W>,
    index: Arc<I>,
    events: &Events,
    limits: Limits,
    cancelled: impl Future<Output = ()> + Send,
) -> Result<Solution<W::Output>, SolveError<W::Error>>
where
    W: Worker,
    I: Index<W::Output, W::Error>,
{
    let (schedule, actions) = Schedule::new(&graph, targets, limits.steps);
    let driver = Driver {
        graph,
        worker,
        index,
        events,
        schedule,
        tasks: JoinSet::new(),
        handles: HashMap::new(),
        inputs: HashMap::new(),
        solution: Solution { outputs: HashMap::new(), keys: HashMap::new(), cached: BTreeSet::new() },
        error: None,
    };
    driver.run(actions, cancelled).await
}

struct Driver<'a, W: Worker, I> {
    graph: Arc<Graph>,
    worker: Arc<W>,
    index: Arc<I>,
    events: &'a Events,
    schedule: Schedule,
    tasks: Tasks<W::Output, W::Error>,
    handles: HashMap<tokio::task::Id, VertexId>,
    inputs: HashMap<VertexId, KeyInputs>,
    solution: Solution<W::Output>,
    error: Option<SolveError<W::Error>>,
}

impl<W: Worker, I: Index<W::Output, W::Error>> Driver<'_, W, I> {
    async fn run(
        mut self,
        first: Vec<Action>,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<Solution<W::Output>, SolveError<W::Error>> {
        let mut aborts: HashMap<VertexId, AbortHandle> = HashMap::new();
        let mut cancelled = std::pin::pin!(cancelled);
        let mut asked = false;
        let mut actions = first;
        loop {
            for action in actions {
                match action {
                    Action::Probe(vertex) => {
                        let handle = self.probe(vertex);
                        aborts.insert(vertex, handle);
                    }
                    Action::Execute(vertex) => {
                        let handle = self.execute(vertex);
                        aborts.insert(vertex, handle);
                    }
                    Action::Share { vertex, from } => self.share(vertex, from),
                    Action::Cancel(vertex) => {
                        if let Some(handle) = aborts.get(&vertex) {
                            handle.abort();
                        }
                    }
                    Action::Finish(Outcome::Done) => return Ok(self.solution),
                    Action::Finish(Outcome::Failed(_)) => return Err(self.error.unwrap_or(SolveError::Cancelled)),
                    Action::Finish(Outcome::Cancelled) => return Err(SolveError::Cancelled),
                }
            }
            actions = tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => {
                    let input = self.take(ended);
                    self.schedule.step(input)
                }
                () = &mut cancelled, if !asked => {
                    asked = true;
                    self.schedule.step(Input::Cancel)
                }
            };
        }
    }

    /// Derives the key of a step from what it sees of its inputs, and looks it up.
    fn probe(&mut self, id: VertexId) -> AbortHandle {
        self.events.send(Event::Started { vertex: id });
        let (graph, worker, index) = (Arc::clone(&self.graph), Arc::clone(&self.worker), Arc::clone(&self.index));
        let outputs = self.input_outputs(id);
        self.spawn(id, async move {
            let vertex = graph.vertex(id);
            let mut identities = Vec::with_capacity(outputs.len());
            for (position, output) in outputs.iter().enumerate() {
                identities.push(worker.identity(vertex, position, output).await?);
            }
            let inputs = KeyInputs::new(vertex, identities, worker.secrets(id, vertex)?);
            let key = inputs.key();
            let hit =
                if vertex.metadata.ignore_cache { None } else { index.lookup(&key, &inputs, vertex, &outputs).await? };
            if hit.is_none() {
                index.missed(&inputs);
            }
            Ok(Answer::Probed { inputs: Box::new(inputs), key, hit })
        })
    }

    fn execute(&mut self, id: VertexId) -> AbortHandle {
        let (graph, worker, index) = (Arc::clone(&self.graph), Arc::clone(&self.worker), Arc::clone(&self.index));
        let outputs = self.input_outputs(id);
        let vertex = graph.vertex(id);
        if matches!(vertex.op, Op::Source(_)) {
            self.events.send(Event::Started { vertex: id });
        }
        // A source has no key of its own; its definition names it.
        let key = self.solution.keys.get(&id).copied().unwrap_or(vertex.definition);
        let inputs = self.inputs.remove(&id);
        let events = self.events.clone();
        self.spawn(id, async move {
            let vertex = graph.vertex(id);
            let Some(inputs) = inputs else {
                return Ok(Answer::Executed(worker.execute(id, vertex, key, outputs).await?));
            };
            let mut guard = None;
            if !vertex.metadata.ignore_cache {
                let waiting = || events.send(Event::Waiting { vertex: id });
                match index.turn(&key, &inputs, vertex, waiting).await? {
                    Turn::Ours(ours) => guard = Some(ours),
                    Turn::Theirs(output) => return Ok(Answer::Found { key, output }),
                }
            }
            let (seen, secrets) = (inputs.inputs.clone(), inputs.secrets.clone());
            events.send(Event::Running { vertex: id, key, inputs: seen, secrets });
            let output = worker.execute(id, vertex, key, outputs).await?;
            let output = index.record(&key, &inputs, vertex, output)?;
            // Who waits looks for the record.
            drop(guard);
            Ok(Answer::Executed(output))
        })
    }

    fn share(&mut self, vertex: VertexId, from: VertexId) {
        if let Some(output) = self.solution.outputs.get(&from).cloned() {
            self.solution.outputs.insert(vertex, output);
        }
        if let Some(key) = self.solution.keys.get(&from).copied() {
            self.events.send(Event::Cached { vertex, key });
            self.solution.cached.insert(vertex);
        }
    }

    fn spawn(
        &mut self,
        id: VertexId,
        work: impl Future<Output = Result<Answer<W::Output>, W::Error>> + Send + 'static,
    ) -> AbortHandle {
        let handle = self.tasks.spawn(async move { (id, work.await) });
        self.handles.insert(handle.id(), id);
        handle
    }

    /// Outputs of a step's inputs; the schedule starts a step only when all of them are there.
    fn input_outputs(&self, id: VertexId) -> Vec<W::Output> {
        self.graph.vertex(id).inputs.iter().filter_map(|input| self.solution.outputs.get(input).cloned()).collect()
    }

    /// Takes in a finished task; tells what it means for the schedule.
    #[expect(clippy::type_complexity, reason = "the type of JoinSet::join_next_with_id")]
    fn take(
        &mut self,
        ended: Result<(tokio::task::Id, (VertexId, Result<Answer<W::Output>, W::Error>)), tokio::task::JoinError>,
    ) -> Input {
        match ended {
            Ok((task, (vertex, result))) => {
                self.handles.remove(&task);
                match result {
                    Ok(Answer::Probed { inputs, key, hit }) => {
                        self.solution.keys.insert(vertex, key);
                        let found = hit.is_some();
                        if let Some(output) = hit {
                            self.events.send(Event::Cached { vertex, key });
                            self.solution.outputs.insert(vertex, output);
                            self.solution.cached.insert(vertex);
                        } else {
                            self.inputs.insert(vertex, *inputs);
                        }
                        Input::Probed { vertex, key, hit: found }
                    }
                    Ok(Answer::Executed(output)) => {
                        self.events.send(Event::Completed { vertex });
                        self.solution.outputs.insert(vertex, output);
                        Input::Executed { vertex }
                    }
                    Ok(Answer::Found { key, output }) => {
                        self.events.send(Event::Cached { vertex, key });
                        self.solution.outputs.insert(vertex, output);
                        self.solution.cached.insert(vertex);
                        Input::Executed { vertex }
                    }
                    Err(error) => {
                        self.events.send(Event::Failed { vertex, message: error.to_string() });
                        self.error.get_or_insert(SolveError::Step { vertex, error });
                        Input::Failed { vertex }
                    }
                }
            }
            Err(error) => {
                // A task is known by its id from spawn to end, so one that is not known cannot end.
                let vertex = self.handles.remove(&error.id()).unwrap_or(VertexId(0));
                if error.is_cancelled() {
                    self.events.send(Event::Cancelled { vertex });
                    Input::Ended { vertex }
                } else {
                    self.error.get_or_insert(SolveError::Lost(error.to_string()));
                    Input::Failed { vertex }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Which step may do what, when: a pure state machine.
//!
//! The driver feeds it [`Input`]s and carries out the [`Action`]s that come back. Invariants, whatever the order of
//! inputs: a step is probed only after all its inputs are done; it is executed at most once and never after a hit;
//! of steps with one key, one is executed and the others share its result; after the first failure nothing starts;
//! [`Action::Finish`] comes exactly once, when nothing is under way any more.

use std::collections::{BTreeSet, HashMap};

use crate::digest::Key;
use crate::graph::{Graph, Op, VertexId};

/// What the world tells the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The key of a step is known, and whether the index has a result.
    Probed {
        /// The step.
        vertex: VertexId,
        /// Its content key.
        key: Key,
        /// Whether an earlier result is used.
        hit: bool,
    },
    /// A step was executed.
    Executed {
        /// The step.
        vertex: VertexId,
    },
    /// Probing or executing a step failed.
    Failed {
        /// The step.
        vertex: VertexId,
    },
    /// A step that was to be cancelled has ended.
    Ended {
        /// The step.
        vertex: VertexId,
    },
    /// The user does not want the result any more.
    Cancel,
}

/// What the driver has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Derive the step's key and look it up; answer with [`Input::Probed`] or [`Input::Failed`].
    Probe(VertexId),
    /// Execute the step; answer with [`Input::Executed`] or [`Input::Failed`].
    Execute(VertexId),
    /// Take over the result of `from`; no answer.
    Share {
        /// The step.
        vertex: VertexId,
        /// The step whose result it is.
        from: VertexId,
    },
    /// Stop what is under way for the step; answer with [`Input::Ended`].
    Cancel(VertexId),
    /// All is over.
    Finish(Outcome),
}

/// How a solve ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every target has a result.
    Done,
    /// This step failed first.
    Failed(VertexId),
    /// Cancelled by the user.
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No target needs it.
    Unwanted,
    /// Waits for this many inputs.
    Waiting(u32),
    /// Its key is being derived and looked up.
    Probing,
    /// It must be executed, as soon as there is room.
    Ready,
    /// Another step with the same key is being executed.
    Joined,
    /// It is being executed.
    Running,
    /// It has a result.
    Done,
    /// It will have none.
    Over,
}

/// The state of one solve.
#[derive(Debug)]
pub struct Schedule {
    states: Vec<State>,
    /// Who uses a step, by its position.
    users: Vec<Vec<VertexId>>,
    sources: Vec<bool>,
    /// Length of the longest chain of users: the critical path goes first.
    heights: Vec<u32>,
    ready: BTreeSet<(std::cmp::Reverse<u32>, VertexId)>,
    keys: HashMap<Key, VertexId>,
    joined: HashMap<VertexId, Vec<VertexId>>,
    running: usize,
    limit: usize,
    unfinished: usize,
    under_way: usize,
    ending: Option<Outcome>,
    finished: bool,
}

impl Schedule {
    /// Plans what `targets` need; at most `limit` steps are executed at once. Returns what to do first.
    #[must_use]
    pub fn new(graph: &Graph, targets: &[VertexId], limit: usize) -> (Self, Vec<Action>) {
        let count = graph.vertices().len();
        let wanted = graph.reachable(targets);
        let mut schedule = Self {
            states: vec![State::Unwanted; count],
            users: vec![Vec::new(); count],
            sources: graph.vertices().iter().map(|vertex| matches!(vertex.op, Op::Source(_))).collect(),
            heights: vec![0; count],
            ready: BTreeSet::new(),
            keys: HashMap::new(),
            joined: HashMap::new(),
            running: 0,
            limit: limit.max(1),
            unfinished: wanted.len(),
            under_way: 0,
            ending: None,
            finished: false,
        };
        for id in wanted.iter().rev() {
            for input in &graph.vertex(*id).inputs {
                schedule.users[input.index()].push(*id);
                schedule.heights[input.index()] =
                    schedule.heights[input.index()].max(schedule.heights[id.index()].saturating_add(1));
            }
        }
        let mut actions = Vec::new();
        for id in &wanted {
            let waiting = u32::try_from(graph.vertex(*id).inputs.len()).unwrap_or(u32::MAX);
            schedule.states[id.index()] = State::Waiting(waiting);
        }
        for id in wanted {
            if schedule.states[id.index()] == State::Waiting(0) {
                schedule.begin(id, &mut actions);
            }
        }
        schedule.settle(&mut actions);
        (schedule, actions)
    }

    /// Takes in what happened; returns what to do now.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Probed { vertex, key, hit } => self.probed(vertex, key, hit, &mut actions),
            Input::Executed { vertex } => {
                self.leave(vertex);
                self.done(vertex, &mut actions);
            }
            Input::Failed { vertex } => {
                self.leave(vertex);
                self.over(vertex);
                self.end(Outcome::Failed(vertex), &mut actions);
            }
            Input::Ended { vertex } => {
                self.leave(vertex);
                self.over(vertex);
            }
            Input::Cancel => self.end(Outcome::Cancelled, &mut actions),
        }
        self.settle(&mut actions);
        actions
    }

    /// A step whose inputs are done is taken up. Sources have no key of their own: they are executed at once.
    fn begin(&mut self, vertex: VertexId, actions: &mut Vec<Action>) {
        if self.sources[vertex.index()] {
            self.make_ready(vertex);
        } else {
            self.states[vertex.index()] = State::Probing;
            self.under_way += 1;
            actions.push(Action::Probe(vertex));
        }
    }

    fn make_ready(&mut self, vertex: VertexId) {
        self.states[vertex.index()] = State::Ready;
        self.ready.insert((std::cmp::Reverse(self.heights[vertex.index()]), vertex));
    }

    fn probed(&mut self, vertex: VertexId, key: Key, hit: bool, actions: &mut Vec<Action>) {
        if self.states[vertex.index()] != State::Probing {
            return;
        }
        self.leave(vertex);
        if self.ending.is_some() {
            self.over(vertex);
        } else if hit {
            self.done(vertex, actions);
        } else if let Some(first) = self.keys.get(&key).copied() {
            if self.states[first.index()] == State::Done {
                actions.push(Action::Share { vertex, from: first });
                self.done(vertex, actions);
            } else {
                self.states[vertex.index()] = State::Joined;
                self.joined.entry(first).or_default().push(vertex);
            }
        } else {
            self.keys.insert(key, vertex);
            self.make_ready(vertex);
        }
    }

    /// What was under way for `vertex` has come back.
    fn leave(&mut self, vertex: VertexId) {
        match self.states[vertex.index()] {
            State::Probing => self.under_way -= 1,
            State::Running => {
                self.under_way -= 1;
                self.running -= 1;
            }
            _ => {}
        }
    }

    fn over(&mut self, vertex: VertexId) {
        self.states[vertex.index()] = State::Over;
    }

    fn done(&mut self, vertex: VertexId, actions: &mut Vec<Action>) {
        if self.ending.is_some() {
            // The result is recorded by whoever made it; nothing is built on it here.
            self.over(vertex);
            return;
        }
        self.states[vertex.index()] = State::Done;
        self.unfinished -= 1;
        for user in self.users[vertex.index()].clone() {
            if let State::Waiting(missing) = self.states[user.index()] {
                self.states[user.index()] = State::Waiting(missing - 1);
                if missing == 1 {
                    self.begin(user, actions);
                }
            }
        }
        for waiter in self.joined.remove(&vertex).unwrap_or_default() {
            actions.push(Action::Share { vertex: waiter, from: vertex });
            self.done(waiter, actions);
        }
    }

    /// The first ending counts; everything under way is cancelled once.
    fn end(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.ending.is_some() || self.finished {
            return;
        }
        self.ending = Some(outcome);
        self.ready.clear();
        for (index, state) in (0..).zip(&self.states) {
            if matches!(state, State::Probing | State::Running) {
                actions.push(Action::Cancel(VertexId(index)));
            }
        }
    }

    /// Fills free places and notices the end.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        while self.ending.is_none() && self.running < self.limit {
            let Some((_, vertex)) = self.ready.pop_first() else { break };
            self.states[vertex.index()] = State::Running;
            self.running += 1;
            self.under_way += 1;
            actions.push(Action::Execute(vertex));
        }
        let outcome = match self.ending {
            Some(outcome) if self.under_way == 0 => outcome,
            None if self.unfinished == 0 => Outcome::Done,
            _ => return,
        };
        if !self.finished {
            self.finished = true;
            actions.push(Action::Finish(outcome));
        }
    }
}

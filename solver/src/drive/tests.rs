//! The driver and the schedule against a simulated world.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::graph::{Builder, File, FileAction, Metadata, Source, Vertex};

/// A step yields the key of everything it depends on; steps named in `constant` always yield the same.
#[derive(Default)]
struct World {
    executions: Mutex<HashMap<VertexId, usize>>,
    records: Mutex<HashMap<Key, Key>>,
    context: Mutex<u64>,
    fails: Option<VertexId>,
    constant: Vec<VertexId>,
    dropped: Arc<AtomicUsize>,
    delay: Duration,
}

struct Drop1(Arc<AtomicUsize>, bool);

impl Drop for Drop1 {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Worker for World {
    type Output = Key;
    type Error = String;

    async fn identity(self: &Arc<Self>, _: &Vertex, _: usize, output: &Key) -> Result<Key, String> {
        Ok(*output)
    }

    fn secrets(&self, _: VertexId, _: &Vertex) -> Result<BTreeMap<String, Key>, String> {
        Ok(BTreeMap::new())
    }

    async fn execute(self: &Arc<Self>, id: VertexId, vertex: &Vertex, _: Key, inputs: Vec<Key>) -> Result<Key, String> {
        assert_eq!(inputs.len(), vertex.inputs.len(), "a step started before its inputs were done");
        *self.executions.lock().unwrap().entry(id).or_default() += 1;
        if self.fails == Some(id) {
            return Err(format!("step {} failed", id.0));
        }
        let mut guard = Drop1(Arc::clone(&self.dropped), false);
        tokio::time::sleep(self.delay).await;
        guard.1 = true;
        if self.constant.contains(&id) {
            return Ok(Key::of("constant", ""));
        }
        let context = if matches!(vertex.op, Op::Source(_)) { *self.context.lock().unwrap() } else { 0 };
        Ok(Key::of("output", &(&vertex.op, inputs, context)))
    }
}

impl Index<Key, String> for World {
    type Guard = ();

    async fn turn(&self, _: &Key, _: &KeyInputs, _: &Vertex, _: impl FnOnce() + Send) -> Result<Turn<(), Key>, String> {
        Ok(Turn::Ours(()))
    }

    async fn lookup(&self, key: &Key, _: &KeyInputs, _: &Vertex, _: &[Key]) -> Result<Option<Key>, String> {
        Ok(self.records.lock().unwrap().get(key).copied())
    }

    fn record(&self, key: &Key, _: &KeyInputs, _: &Vertex, output: Key) -> Result<Key, String> {
        self.records.lock().unwrap().insert(*key, output);
        Ok(output)
    }
}

fn step(builder: &mut Builder, name: &str, inputs: Vec<VertexId>) -> VertexId {
    let action = FileAction::Mkdir { path: name.into(), mode: 0o755, owner: None };
    let op = if inputs.is_empty() {
        Op::Source(Source::Local { name: name.into() })
    } else {
        Op::File(File { root: Some(0), actions: vec![action] })
    };
    builder.add(op, inputs, Metadata::default())
}

fn run(graph: &Arc<Graph>, targets: &[VertexId], world: &Arc<World>) -> Result<Solution<Key>, SolveError<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(solve(
        Arc::clone(graph),
        targets,
        Arc::clone(world),
        Arc::clone(world),
        &Events::none(),
        Limits::default(),
        std::future::pending(),
    ))
}

fn executed(world: &World) -> HashMap<VertexId, usize> {
    std::mem::take(&mut world.executions.lock().unwrap())
}

#[test]
fn a_second_solve_executes_only_sources_and_a_change_what_depends_on_it() {
    let mut builder = Builder::new();
    let context = step(&mut builder, "context", vec![]);
    let base = step(&mut builder, "base", vec![]);
    let on_base = step(&mut builder, "on base", vec![base]);
    let on_both = step(&mut builder, "on both", vec![on_base, context]);
    let _unwanted = step(&mut builder, "unwanted", vec![base]);
    let graph = Arc::new(builder.finish());
    let world = Arc::new(World::default());

    run(&graph, &[on_both], &world).unwrap();
    assert_eq!(executed(&world).len(), 4, "the unwanted step is not run");

    let again = run(&graph, &[on_both], &world).unwrap();
    assert_eq!(executed(&world).len(), 2, "only the sources are looked at");
    assert_eq!(again.cached, BTreeSet::from([on_base, on_both]));

    *world.base_change() += 1;
    run(&graph, &[on_both], &world).unwrap();
    let ran = executed(&world);
    assert!(ran.contains_key(&on_both) && ran.contains_key(&on_base));
}

impl World {
    /// What every source yields.
    fn base_change(&self) -> std::sync::MutexGuard<'_, u64> {
        self.context.lock().unwrap()
    }
}

#[test]
fn an_execution_that_yields_the_same_leaves_what_follows_cached() {
    let mut builder = Builder::new();
    let context = step(&mut builder, "context", vec![]);
    let same = step(&mut builder, "same", vec![context]);
    let after = step(&mut builder, "after", vec![same]);
    let graph = Arc::new(builder.finish());
    let world = Arc::new(World { constant: vec![same], ..World::default() });
    run(&graph, &[after], &world).unwrap();
    executed(&world);
    *world.base_change() += 1;
    let solution = run(&graph, &[after], &world).unwrap();
    let ran = executed(&world);
    assert!(ran.contains_key(&same), "its input changed");
    assert!(!ran.contains_key(&after) && solution.cached.contains(&after), "its input did not");
}

#[test]
fn steps_with_one_key_run_once() {
    // Two definitions, but what they see is equal: both inputs yield the same.
    let mut builder = Builder::new();
    let (one, two) = (step(&mut builder, "one", vec![]), step(&mut builder, "two", vec![]));
    let (same, also) = (step(&mut builder, "a", vec![one]), step(&mut builder, "b", vec![two]));
    let (left, right) = (step(&mut builder, "x", vec![same]), step(&mut builder, "x", vec![also]));
    let graph = Arc::new(builder.finish());
    let world = Arc::new(World { constant: vec![same, also], ..World::default() });
    let solution = run(&graph, &[left, right], &world).unwrap();
    let ran = executed(&world);
    assert_eq!(ran.contains_key(&left) as u8 + ran.contains_key(&right) as u8, 1);
    assert_eq!(solution.outputs[&left], solution.outputs[&right]);
}

#[test]
fn a_failure_cancels_the_rest() {
    let mut builder = Builder::new();
    let bad = step(&mut builder, "bad", vec![]);
    let slow: Vec<_> = (0..8).map(|n| step(&mut builder, &format!("slow {n}"), vec![])).collect();
    let mut all = slow;
    all.push(bad);
    let last = step(&mut builder, "last", all);
    let graph = Arc::new(builder.finish());
    let world = Arc::new(World { fails: Some(bad), delay: Duration::from_secs(60), ..World::default() });
    let error = run(&graph, &[last], &world).unwrap_err();
    assert!(matches!(error, SolveError::Step { vertex, .. } if vertex == bad), "{error}");
    assert_eq!(world.dropped.load(Ordering::SeqCst), 8, "every other step was dropped before the end");
}

#[test]
fn cancelling_ends_at_once() {
    let mut builder = Builder::new();
    let slow = step(&mut builder, "slow", vec![]);
    let graph = Arc::new(builder.finish());
    let world = Arc::new(World { delay: Duration::from_secs(60), ..World::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let result = runtime.block_on(solve(
        graph,
        &[slow],
        Arc::clone(&world),
        Arc::clone(&world),
        &Events::none(),
        Limits::default(),
        std::future::ready(()),
    ));
    assert!(matches!(result, Err(SolveError::Cancelled)));
}

/// Plays the world for a bare schedule: answers in any order, with hits, misses, failures and equal keys.
fn play(edges: &[Vec<usize>], choices: &[u8], limit: usize) {
    let mut builder = Builder::new();
    let mut ids: Vec<VertexId> = Vec::new();
    for (n, inputs) in edges.iter().enumerate() {
        let inputs = inputs.iter().filter(|_| n > 0).map(|i| ids[i % n]).collect();
        ids.push(step(&mut builder, &n.to_string(), inputs));
    }
    let graph = builder.finish();
    let (mut schedule, mut actions) = Schedule::new(&graph, &ids[ids.len() - 1..], limit);
    let mut under_way: Vec<(VertexId, bool)> = Vec::new();
    let (mut done, mut executed) = (BTreeSet::new(), BTreeSet::new());
    let mut choices = choices.iter().cycle();
    let mut failed = false;
    for _ in 0..10_000 {
        for action in actions {
            match action {
                Action::Probe(v) | Action::Execute(v) => {
                    assert!(!failed, "nothing starts after a failure");
                    assert!(graph.vertex(v).inputs.iter().all(|i| done.contains(i)), "inputs come first");
                    let executing = matches!(action, Action::Execute(_));
                    assert!(!executing || executed.insert(v), "at most once");
                    under_way.push((v, executing));
                }
                Action::Share { vertex, from } => {
                    assert!(done.contains(&from));
                    done.insert(vertex);
                }
                Action::Cancel(v) => assert!(under_way.iter().any(|(w, _)| *w == v)),
                Action::Finish(outcome) => {
                    assert!(under_way.is_empty() || outcome == Outcome::Done, "nothing is left under way");
                    assert_eq!(outcome == Outcome::Done, !failed);
                    return;
                }
            }
        }
        assert!(under_way.iter().filter(|(_, executing)| *executing).count() <= limit);
        let choice = *choices.next().unwrap();
        assert!(!under_way.is_empty(), "nobody waits for ever");
        let (vertex, executing) = under_way.remove(usize::from(choice) % under_way.len());
        let input = if failed {
            Input::Ended { vertex }
        } else if choice % 23 == 22 {
            failed = true;
            Input::Failed { vertex }
        } else if executing {
            done.insert(vertex);
            Input::Executed { vertex }
        } else {
            let hit = choice.is_multiple_of(3);
            if hit {
                done.insert(vertex);
            }
            Input::Probed { vertex, key: Key::of("k", &(choice % 7)), hit }
        };
        // Whoever joined an execution is done with it: mirrored by Share, which must come after.
        actions = schedule.step(input);
    }
    panic!("no end");
}

proptest! {
    #[test]
    fn any_order_of_answers_keeps_the_promises(
        edges in prop::collection::vec(prop::collection::vec(0usize..32, 0..4), 1..24),
        choices in prop::collection::vec(any::<u8>(), 8..64),
        limit in 1usize..5,
    ) {
        play(&edges, &choices, limit);
    }
}

//! The cache against the truth: random graphs, random edits, each build beside one from scratch.
//!
//! Steps are small programs over small file systems, executed by an interpreter that sees what a real step would see:
//! files of its root, its environment, what it copies or mounts. Two promises are checked after every edit. A result
//! is never stale. And a step that runs though it sees nothing new runs for one of the reasons that docs/cache.md
//! lists: its own text or environment is another one, or its root file system is, where it does not look.

#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lap_solver::digest::Key;
use lap_solver::drive::{Limits, Solution, solve};
use lap_solver::event::Events;
use lap_solver::graph::{
    Builder, Copy, Exec, File, FileAction, Graph, Metadata, Mount, MountKind, Network, Op, Security, Source, Unpack,
    Vertex, VertexId,
};
use lap_solver::key::KeyInputs;
use lap_solver::platform::Platform;
use lap_solver::worker::{Index, Turn, Worker};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

type Files = BTreeMap<String, u64>;

/// A layer: what it holds, and when it was made, which nobody may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    files: Files,
    time: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    Context(Files),
    Layers(Vec<Layer>),
}

impl Output {
    fn view(&self) -> Files {
        match self {
            Self::Context(files) => files.clone(),
            Self::Layers(layers) => layers.iter().flat_map(|layer| layer.files.clone()).collect(),
        }
    }

    fn chain(&self) -> Key {
        match self {
            Self::Context(files) => Key::of("context", files),
            Self::Layers(layers) => Key::of("chain", &layers.iter().map(|layer| &layer.files).collect::<Vec<_>>()),
        }
    }
}

/// What a command does; its text is this as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Program {
    reads: Vec<String>,
    variable: Option<String>,
    write: String,
    /// Whether it makes little of what it reads, so that other input often gives the same output.
    lossy: bool,
    comment: u8,
}

/// What a step takes of an input that is not its root.
fn selected(vertex: &Vertex, output: &Output) -> Key {
    let path = match &vertex.op {
        Op::File(File { actions, .. }) => match &actions[0] {
            FileAction::Copy(copy) => &copy.source[1..],
            _ => "",
        },
        _ => "f0",
    };
    Key::of("selected", &output.view().get(path))
}

/// Executes steps, and remembers what every build yielded.
#[derive(Default)]
struct World {
    context: Mutex<Files>,
    clock: AtomicU64,
    records: Mutex<HashMap<Key, Output>>,
    adopted: Mutex<HashMap<Key, Layer>>,
    /// What the steps of these keys see.
    observed: Mutex<HashMap<Key, Key>>,
    /// Of all steps that were ever executed: what they saw, and what their keys were made of.
    seen: Mutex<HashMap<Key, Vec<KeyInputs>>>,
    executed: Mutex<usize>,
    /// Of those, the ones that a perfect cache had kept.
    needless: Mutex<usize>,
    /// Steps by what a builder knows them by that looks at the history of a root file system, as BuildKit does.
    histories: Mutex<BTreeSet<Key>>,
    /// Those of which nobody knows why they ran.
    wrong: Mutex<Vec<String>>,
}

impl World {
    /// All that a step can tell the world by.
    fn observed(vertex: &Vertex, inputs: &[Output]) -> Option<(Key, String, u64)> {
        match &vertex.op {
            Op::Exec(exec) => {
                let program: Program = serde_json::from_str(&exec.args[2]).unwrap();
                let (view, mounted) = (inputs[0].view(), inputs.get(1).map(Output::view));
                let read = |path: &String| match path.strip_prefix("/mount") {
                    Some(_) => mounted.as_ref().and_then(|files| files.get("f0").copied()),
                    None => view.get(path).copied(),
                };
                let found: Vec<Option<u64>> = program.reads.iter().map(read).collect();
                let variable =
                    program.variable.as_ref().and_then(|name| exec.env.iter().find(|line| line.starts_with(name)));
                let told = (&program.reads, found, variable, program.lossy, &program.write);
                let key = Key::of("observed", &told);
                let number = u64::from_le_bytes(key.as_bytes()[..8].try_into().unwrap());
                Some((key, program.write.clone(), if program.lossy { number % 2 } else { number }))
            }
            Op::File(file) => {
                let FileAction::Copy(copy) = &file.actions[0] else { return None };
                let found = inputs[1].view().get(&copy.source[1..]).copied();
                let dest = copy.dest[1..].to_owned();
                // Nothing is copied as something else than any file.
                Some((Key::of("copied", &(&dest, found)), dest, found.unwrap_or(u64::MAX)))
            }
            _ => None,
        }
    }
}

impl Worker for World {
    type Output = Output;
    type Error = String;

    async fn identity(self: &Arc<Self>, vertex: &Vertex, input: usize, output: &Output) -> Result<Key, String> {
        Ok(if input == 0 { output.chain() } else { selected(vertex, output) })
    }

    fn secrets(&self, _: VertexId, _: &Vertex) -> Result<BTreeMap<String, Key>, String> {
        Ok(BTreeMap::new())
    }

    async fn execute(
        self: &Arc<Self>,
        _: VertexId,
        vertex: &Vertex,
        _: Key,
        inputs: Vec<Output>,
    ) -> Result<Output, String> {
        let time = self.clock.fetch_add(1, Ordering::Relaxed);
        // Others may come in between.
        tokio::task::yield_now().await;
        let Some((_, path, value)) = Self::observed(vertex, &inputs) else {
            return Ok(match &vertex.op {
                Op::Source(Source::Local { .. }) => Output::Context(self.context.lock().unwrap().clone()),
                _ => Output::Layers(vec![Layer { files: Files::from([("f0".to_owned(), 7)]), time: 0 }]),
            });
        };
        let Output::Layers(mut layers) = inputs[0].clone() else { return Err("no root".into()) };
        // What is as it was is in no layer.
        if inputs[0].view().get(&path) != Some(&value) {
            layers.push(Layer { files: Files::from([(path, value)]), time });
        }
        Ok(Output::Layers(layers))
    }
}

impl Index<Output, String> for World {
    type Guard = ();

    async fn turn(
        &self,
        key: &Key,
        inputs: &KeyInputs,
        vertex: &Vertex,
        _: impl FnOnce() + Send,
    ) -> Result<Turn<(), Output>, String> {
        let observed = self.observed.lock().unwrap()[key];
        let mut seen = self.seen.lock().unwrap();
        let before = seen.entry(observed).or_default();
        for earlier in before.iter() {
            // It was executed with the same outcome before: only its own text, or its root, can be the reason.
            let reason = earlier.op != inputs.op || earlier.inputs[0] != inputs.inputs[0];
            if !reason {
                self.wrong.lock().unwrap().push(vertex.metadata.name.clone());
            }
        }
        *self.executed.lock().unwrap() += 1;
        *self.needless.lock().unwrap() += usize::from(!before.is_empty());
        before.push(inputs.clone());
        Ok(Turn::Ours(()))
    }

    async fn lookup(
        &self,
        key: &Key,
        _: &KeyInputs,
        vertex: &Vertex,
        outputs: &[Output],
    ) -> Result<Option<Output>, String> {
        let (observed, ..) = Self::observed(vertex, outputs).unwrap();
        self.observed.lock().unwrap().insert(*key, observed);
        Ok(self.records.lock().unwrap().get(key).cloned())
    }

    fn record(&self, key: &Key, inputs: &KeyInputs, _: &Vertex, mut output: Output) -> Result<Output, String> {
        if let Output::Layers(layers) = &mut output
            && !inputs.inputs.contains(&Output::Layers(layers.clone()).chain())
            && let Some(top) = layers.last_mut()
        {
            let adoption = Key::of("adoption", &(&inputs.op, &top.files));
            *top = self.adopted.lock().unwrap().entry(adoption).or_insert_with(|| top.clone()).clone();
        }
        self.records.lock().unwrap().insert(*key, output.clone());
        Ok(output)
    }
}

/// A step of a plan; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Run { root: usize, mount: Option<usize>, reads: Vec<u8>, variable: Option<u8>, write: u8, lossy: bool, comment: u8 },
    Copy { root: usize, from: usize, source: u8, dest: u8 },
}

/// What somebody builds.
#[derive(Debug, Clone)]
struct Plan {
    files: Vec<u8>,
    variables: Vec<u8>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Edit {
    File {
        name: usize,
        value: u8,
    },
    Variable {
        name: usize,
        value: u8,
    },
    Comment {
        step: usize,
        comment: u8,
    },
    Replace {
        step: usize,
        with: Step,
    },
    Insert {
        at: usize,
        step: Step,
    },
    Remove {
        step: usize,
    },
    /// As it was before all edits.
    Revert,
}

impl Plan {
    fn context(&self) -> Files {
        self.files.iter().enumerate().map(|(at, value)| (format!("f{at}"), u64::from(*value))).collect()
    }

    /// Where the first vertices are the context and the base image.
    fn graph(&self) -> (Arc<Graph>, VertexId) {
        let mut builder = Builder::new();
        let name = |name: String| Metadata { name, ..Metadata::default() };
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let context = builder.add(Op::Source(Source::Local { name: "context".into() }), vec![], name("context".into()));
        let image = Source::Image { reference: "base".into(), platform: platform.clone() };
        let base = builder.add(Op::Source(image), vec![], name("FROM base".into()));
        let mut roots = vec![base];
        let env: Vec<String> = self.variables.iter().enumerate().map(|(at, value)| format!("V{at}={value}")).collect();
        for (number, step) in self.steps.iter().enumerate() {
            let root_of = |at: usize| roots[roots.len() - 1 - at % roots.len()];
            let source_of = |at: usize| if at.is_multiple_of(3) { context } else { root_of(at / 3) };
            let id = match step {
                Step::Run { root, mount, reads, variable, write, lossy, comment } => {
                    let mut inputs = vec![root_of(*root)];
                    inputs.extend(mount.map(source_of));
                    let mut reads: Vec<String> = reads.iter().map(|at| format!("f{}", at % 5)).collect();
                    reads.extend(mount.map(|_| "/mount".to_owned()));
                    let program = Program {
                        reads,
                        variable: variable.map(|at| format!("V{}=", usize::from(at) % (env.len() + 1))),
                        write: format!("f{}", write % 5),
                        lossy: *lossy,
                        comment: *comment,
                    };
                    let bind = MountKind::Bind { input: Some(1), source: "/f0".into() };
                    let bind = Mount { target: "/mount".into(), readonly: true, kind: bind };
                    let exec = Exec {
                        root: Some(0),
                        args: vec!["/bin/sh".into(), "-c".into(), serde_json::to_string(&program).unwrap()],
                        env: env.clone(),
                        cwd: "/".into(),
                        user: String::new(),
                        network: Network::None,
                        security: Security::Sandbox,
                        mounts: mount.map(|_| bind).into_iter().collect(),
                        secret_env: vec![],
                        files: vec![],
                        platform: platform.clone(),
                    };
                    builder.add(Op::Exec(exec), inputs, name(format!("RUN {number}")))
                }
                Step::Copy { root, from, source, dest } => {
                    let copy = Copy {
                        from: Some(1),
                        source: format!("/f{}", source % 5),
                        dest: format!("/f{}", dest % 5),
                        owner: None,
                        keep_owner: false,
                        mode: None,
                        wildcard: false,
                        unpack: Unpack::No,
                        include: vec![],
                        exclude: vec![],
                        parents: false,
                    };
                    let file = File { root: Some(0), actions: vec![FileAction::Copy(copy)] };
                    builder.add(Op::File(file), vec![root_of(*root), source_of(*from)], name(format!("COPY {number}")))
                }
            };
            roots.push(id);
        }
        let last = roots[roots.len() - 1];
        (Arc::new(builder.finish()), last)
    }

    fn edit(&mut self, edit: &Edit, first: &Self) {
        let (files, variables, steps) = (self.files.len(), self.variables.len(), self.steps.len());
        match edit {
            Edit::File { name, value } => self.files[name % files] = *value,
            Edit::Variable { name, value } => self.variables[name % variables] = *value,
            Edit::Comment { step, comment } => {
                if let Step::Run { comment: old, .. } = &mut self.steps[step % steps] {
                    *old = *comment;
                }
            }
            Edit::Replace { step, with } => self.steps[step % steps] = with.clone(),
            Edit::Insert { at, step } => self.steps.insert(at % (steps + 1), step.clone()),
            Edit::Remove { step } if steps > 1 => drop(self.steps.remove(step % steps)),
            Edit::Remove { .. } => {}
            Edit::Revert => *self = first.clone(),
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let small = || prop_oneof![3 => Just(0usize), 1 => 0usize..6];
    let run = (small(), prop::option::weighted(0.3, 0usize..9), prop::collection::vec(0u8..5, 0..3))
        .prop_flat_map(move |(root, mount, reads)| {
            (Just((root, mount, reads)), prop::option::weighted(0.3, 0u8..3), 0u8..5, any::<bool>(), 0u8..3)
        })
        .prop_map(|((root, mount, reads), variable, write, lossy, comment)| Step::Run {
            root,
            mount,
            reads,
            variable,
            write,
            lossy,
            comment,
        });
    let copy = (small(), 0usize..9, 0u8..5, 0u8..5).prop_map(|(root, from, source, dest)| Step::Copy {
        root,
        from,
        source,
        dest,
    });
    prop_oneof![3 => run, 2 => copy]
}

fn plans() -> impl Strategy<Value = Plan> {
    (prop::collection::vec(0u8..4, 4), prop::collection::vec(0u8..3, 2), prop::collection::vec(steps(), 1..10))
        .prop_map(|(files, variables, steps)| Plan { files, variables, steps })
}

fn edits() -> impl Strategy<Value = Edit> {
    let at = || 0usize..10;
    prop_oneof![
        4 => (at(), 0u8..4).prop_map(|(name, value)| Edit::File { name, value }),
        2 => (at(), 0u8..3).prop_map(|(name, value)| Edit::Variable { name, value }),
        2 => (at(), 0u8..3).prop_map(|(step, comment)| Edit::Comment { step, comment }),
        2 => (at(), steps()).prop_map(|(step, with)| Edit::Replace { step, with }),
        1 => (at(), steps()).prop_map(|(at, step)| Edit::Insert { at, step }),
        1 => at().prop_map(|step| Edit::Remove { step }),
        1 => Just(Edit::Revert),
    ]
}

fn build(world: &Arc<World>, plan: &Plan) -> (Solution<Output>, VertexId) {
    *world.context.lock().unwrap() = plan.context();
    let (graph, target) = plan.graph();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (worker, index) = (Arc::clone(world), Arc::clone(world));
    let events = Events::none();
    let targets = [target];
    let solved =
        solve(Arc::clone(&graph), &targets, worker, index, &events, Limits { steps: 3 }, std::future::pending());
    let solution = runtime.block_on(solved).unwrap();
    let mut histories: HashMap<VertexId, Key> = HashMap::new();
    for id in graph.reachable(&targets) {
        let vertex = graph.vertex(id);
        let Some(root) = vertex.inputs.first() else { continue };
        let taken = vertex.inputs.get(1).map(|input| selected(vertex, &solution.outputs[input]));
        let history = Key::of("history", &(&vertex.op, histories.get(root), taken));
        histories.insert(id, history);
    }
    world.histories.lock().unwrap().extend(histories.into_values());
    (solution, target)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_result_is_stale_and_no_step_runs_for_nothing(
        first in plans(),
        edits in prop::collection::vec(edits(), 1..10),
    ) {
        let world = Arc::new(World::default());
        let mut plan = first.clone();
        build(&world, &plan);
        for edit in &edits {
            plan.edit(edit, &first);
            let (solution, target) = build(&world, &plan);
            let (truth, same) = build(&Arc::new(World::default()), &plan);
            prop_assert_eq!(target, same);
            for (vertex, output) in &truth.outputs {
                prop_assert_eq!(output.view(), solution.outputs[vertex].view(), "stale: {:?}", vertex);
                prop_assert_eq!(output.chain(), solution.outputs[vertex].chain(), "other layers: {:?}", vertex);
            }
            prop_assert_eq!(&*world.wrong.lock().unwrap(), &[""; 0], "ran again for nothing");
            let (executed, peers) = (*world.executed.lock().unwrap(), world.histories.lock().unwrap().len());
            prop_assert!(executed <= peers, "{} steps ran, {} with a cache of histories", executed, peers);
            // Nothing runs when nothing changes, and the result is the same to the last bit.
            let before = *world.executed.lock().unwrap();
            let (again, _) = build(&world, &plan);
            prop_assert_eq!(*world.executed.lock().unwrap(), before);
            prop_assert_eq!(&again.outputs[&target], &solution.outputs[&target]);
        }
    }
}

/// How much runs, how much of it a perfect cache had kept, and how much one of histories runs.
#[test]
fn less_runs_than_with_a_cache_of_histories() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut executed, mut needless, mut wanted, mut peers) = (0, 0, 0, 0);
    for _ in 0..100 {
        let first = plans().new_tree(&mut runner).unwrap().current();
        let world = Arc::new(World::default());
        let mut plan = first.clone();
        build(&world, &plan);
        for _ in 0..10 {
            plan.edit(&edits().new_tree(&mut runner).unwrap().current(), &first);
            let (solution, _) = build(&world, &plan);
            wanted += solution.keys.len();
        }
        executed += *world.executed.lock().unwrap();
        needless += *world.needless.lock().unwrap();
        peers += world.histories.lock().unwrap().len();
    }
    let told = format!("{wanted} wanted, {executed} executed, {needless} of them needlessly, {peers} by histories");
    println!("{told}");
    assert!(executed < peers && peers < wanted, "{told}");
}

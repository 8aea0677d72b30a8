//! Why a step is executed: this build beside the last one of the same thing.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use lap_cache::builds::{Build, Builds, Outcome, Reason, Step, Why};
use lap_cache::records::{Listed, Records};
use lap_cache::store::Store;
use lap_solver::digest::Key;
use lap_solver::graph::{Graph, Op, Source, VertexId};
use lap_solver::key::KeyInputs;
use lap_solver::why::{Difference, compare};

use super::words;

/// Files that are told one by one.
const FILES: usize = 20;

/// Compares with the last build, which is read when the first step is executed.
pub(super) struct Explainer {
    builds: Builds,
    records: Records,
    identity: Key,
    last: OnceCell<Option<Build>>,
}

impl Explainer {
    pub(super) fn new(store: &Store, identity: Key) -> Self {
        let (builds, records) = (Builds::new(store.clone()), Records::new(store.clone()));
        Self { builds, records, identity, last: OnceCell::new() }
    }

    /// What may be written down and compared; where that cannot be made, nothing of the environment.
    pub(super) fn concealed(&self, made_of: KeyInputs) -> KeyInputs {
        let mut bare = made_of.clone();
        self.records.conceal(made_of).unwrap_or_else(|_| {
            if let Op::Exec(exec) = &mut bare.op {
                exec.env.clear();
            }
            bare
        })
    }

    /// A record that cannot be read explains nothing and stops nothing.
    fn last(&self) -> Option<&Build> {
        self.last.get_or_init(|| self.builds.last_of(&self.identity).ok().flatten()).as_ref()
    }

    /// The step of the last build that is most likely this one: with the same definition, the same text in the same
    /// stage, or the same instruction in the same place.
    fn same_step(&self, graph: &Graph, vertex: VertexId) -> Option<&Step> {
        let steps = &self.last()?.steps;
        let vertex = graph.vertex(vertex);
        let metadata = &vertex.metadata;
        let word = |name: &str| name.split_whitespace().next().unwrap_or_default().to_owned();
        let defined = steps.iter().find(|step| step.definition == Some(vertex.definition));
        let named = || steps.iter().find(|step| step.stage == metadata.stage && step.name == metadata.name);
        let placed = || {
            steps.iter().find(|step| {
                let at = |position: Option<(u32, u32)>| position.map(|(at, _)| at);
                step.stage == metadata.stage
                    && at(step.position) == at(metadata.position)
                    && word(&step.name) == word(&metadata.name)
            })
        };
        defined.or_else(named).or_else(placed)
    }

    pub(super) fn why(&self, graph: &Graph, vertex: VertexId, key: Key, made_of: &KeyInputs) -> Why {
        if graph.vertex(vertex).metadata.ignore_cache {
            return Why::NoCache;
        }
        let known = self.records.get(&key).ok().flatten().is_some();
        let Some(step) = self.same_step(graph, vertex) else { return if known { Why::Pruned } else { Why::Never } };
        let Some(before) = step.key.or(step.earlier) else { return Why::Never };
        if before == key {
            let succeeded = matches!(step.outcome, Outcome::Done | Outcome::Cached);
            return if succeeded || known { Why::Pruned } else { Why::Failed };
        }
        let recorded = self.records.get(&before).ok().flatten().map(|record| record.inputs);
        let Some(before) = recorded.or_else(|| step.made_of.clone()) else { return Why::Pruned };
        // One of an older version may hold values in clear.
        let before = self.concealed(before);
        let mut differences = Vec::new();
        for difference in compare(&before, made_of) {
            match difference {
                Difference::Input { input } => self.input(graph, vertex, input, &before, made_of, &mut differences),
                other => differences.push(Reason::Other(words::hidden(other))),
            }
        }
        Why::Changed { differences }
    }

    /// What is known of an input that the step sees differently.
    fn input(
        &self,
        graph: &Graph,
        vertex: VertexId,
        input: u32,
        before: &KeyInputs,
        after: &KeyInputs,
        into: &mut Vec<Reason>,
    ) {
        let at = input as usize;
        let Some(id) = graph.vertex(vertex).inputs.get(at) else { return };
        let from = graph.vertex(*id);
        match &from.op {
            Op::Source(Source::Image { reference, .. }) => into.push(Reason::Image { image: reference.clone() }),
            Op::Source(Source::Local { .. }) => {
                let listing = |inputs: &KeyInputs| self.records.listing(inputs.inputs.get(at)?).ok().flatten();
                match (listing(before), listing(after)) {
                    (Some(before), Some(after)) => files(&before, &after, into),
                    _ => into.push(Reason::Step { step: "the files of the context".to_owned() }),
                }
            }
            _ => into.push(Reason::Step { step: words::title(&from.metadata) }),
        }
    }

    /// Steps that this build did not come to keep the keys of the last one: the next is compared with those.
    pub(super) fn hand_on(&self, steps: &mut [Step]) {
        let Some(last) = self.last() else { return };
        for step in steps.iter_mut().filter(|step| step.key.is_none() && !step.source) {
            let same = |other: &&Step| other.stage == step.stage && other.name == step.name;
            step.earlier = last.steps.iter().find(same).and_then(|other| other.key.or(other.earlier));
        }
    }
}

/// Files that are not as they were, in order of path.
fn files(before: &[Listed], after: &[Listed], into: &mut Vec<Reason>) {
    let by_path = |listed: &'_ [Listed]| -> BTreeMap<String, Listed> {
        listed.iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
    };
    let (before, after) = (by_path(before), by_path(after));
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut told = 0;
    let mut more = 0;
    for path in paths {
        let (one, two) = (before.get(path), after.get(path));
        let change = match (one, two) {
            (Some(one), Some(two)) if one == two => continue,
            (Some(one), Some(two)) if one.digest == two.digest => "mode or owner",
            (Some(_), Some(_)) => "content",
            (None, _) => "added",
            (_, None) => "removed",
        };
        if told == FILES {
            more += 1;
            continue;
        }
        told += 1;
        let digest = |entry: Option<&Listed>| entry.and_then(|entry| entry.digest);
        let (file, change) = (path.clone(), change.to_owned());
        into.push(Reason::File { file, change, before: digest(one), after: digest(two) });
    }
    if more > 0 {
        into.push(Reason::MoreFiles { more_files: more });
    }
}

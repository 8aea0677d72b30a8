//! Stages to a graph: one file a family of instructions.
//!
//! Follows `BuildKit`'s `dockerfile2llb` in what an instruction does, in what it leaves in the config and the history,
//! and in its messages. Stages are lowered in the order of the file; only those that the target needs.

mod config;
mod copy;
mod expose;
mod history;
mod mounts;
mod run;
mod state;

use lap_solver::graph::{Builder, Graph, Location, Metadata, Op, Source as GraphSource, VertexId};
use lap_solver::image::ImageConfig;
use lap_solver::intent::ImageIntent;

use crate::args::Variables;
use crate::diagnostic::{Code, Diagnostic, Fault, Severity};
use crate::lint::{self, Linter, Rule};
use crate::options::{Facts, NamedContext, Options};
use crate::outline::Outline;
use crate::plan::{Node, Plan, Step};
use crate::source::Span;
use crate::stage::{Base, Stages};
use crate::suggest;
use crate::syntax::{Command, Instruction};
use crate::word::{Lexer, Lookup};
pub use config::is_secret_name;
pub use copy::remote_source;
pub(crate) use copy::{git_source, http_source};
use state::State;

/// A graph and the image its target becomes.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The steps.
    pub graph: Graph,
    /// The image.
    pub image: ImageIntent,
    /// What checks found, in order of place.
    pub warnings: Vec<Diagnostic>,
    /// What the target can be given.
    pub outline: Outline,
}

/// Variables that are never in a command's environment.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Lowers the stages that the target needs.
///
/// # Errors
/// What cannot be carried out; where a base image is not among `facts`, that.
pub fn lower(stages: &Stages, facts: &Facts, options: &Options) -> Result<Lowered, Vec<Diagnostic>> {
    let plan = Plan::new(stages, facts, options)?;
    if let Some(image) = plan.missing.first() {
        let fault = Fault::new(format!("the config of image {} is not known", image.reference));
        return Err(vec![stages.diagnose(fault, Span::default())]);
    }
    let mut lowering = Lowering {
        stages,
        options,
        builder: Builder::new(),
        linter: stages.linter.clone(),
        outline: Outline::new(stages),
        states: Vec::new(),
        faults: Vec::new(),
    };
    lowering.run(&plan, facts);
    lowering.finish()
}

/// Runs the checks over all stages, or over those that a named target needs.
///
/// # Errors
/// As [`lower()`].
pub fn check(stages: &Stages, facts: &Facts, options: &Options) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let options = Options { all_stages: options.target.is_none(), ..options.clone() };
    lower(stages, facts, &options).map(|lowered| lowered.warnings)
}

/// Everything the lowering of an instruction may need.
struct Lowering<'a> {
    stages: &'a Stages,
    options: &'a Options,
    builder: Builder,
    linter: Linter,
    outline: Outline,
    /// One a node of the plan, once it is done.
    states: Vec<Option<State>>,
    faults: Vec<Diagnostic>,
}

impl Lowering<'_> {
    fn run(&mut self, plan: &Plan, facts: &Facts) {
        self.states = plan.nodes.iter().map(|_| None).collect();
        for (index, node) in plan.nodes.iter().enumerate().filter(|(_, node)| node.needed && node.stage.is_none()) {
            self.states[index] = Some(self.begin(node, facts));
        }
        for (index, node) in plan.nodes.iter().enumerate().filter(|(_, node)| node.needed) {
            let Some(stage) = node.stage else { continue };
            self.note_globals(stage);
            let mut state = self.begin(node, facts);
            if !matches!(node.base, Base::Replaced(_)) {
                for step in &node.steps {
                    if let Err(fault) = self.step(&mut state, step) {
                        let fault = if step.trigger { Fault { span: None, ..fault } } else { fault };
                        self.faults.push(self.stages.diagnose(fault, step.instruction.span));
                    }
                }
            }
            self.states[index] = Some(state);
        }
    }

    /// Notes the global arguments that the `FROM` of a stage is made of.
    fn note_globals(&mut self, stage: usize) {
        let Some(Command::From(from)) = self.stages.stages.get(stage).map(|stage| &stage.instruction.command) else {
            return;
        };
        for word in [Some(&from.base), from.platform.as_ref()].into_iter().flatten() {
            // What cannot be expanded is told elsewhere.
            let Ok(expanded) = self.stages.lexer.expand(&word.text, &self.stages.globals) else { continue };
            expanded.matched.iter().for_each(|name| self.outline.global(name));
        }
    }

    fn finish(mut self) -> Result<Lowered, Vec<Diagnostic>> {
        if self.faults.is_empty()
            && let Some(names) = self.linter.violated()
        {
            let fault = Fault::new(format!("lint violation found for rules: {names}"));
            // What BuildKit says comes first, then all that it is about.
            self.faults.push(self.stages.diagnose(fault, Span::default()));
            let mut found = self.linter.found.clone();
            found.sort_by_key(|found| found.position);
            found.iter_mut().for_each(|found| found.severity = Severity::Error);
            self.faults.append(&mut found);
        }
        let target = self.states.get_mut(self.stages.target).and_then(Option::take);
        let Some(state) = target.filter(|_| self.faults.is_empty()) else { return Err(self.faults) };
        self.outline.sort();
        let mut warnings = self.linter.found;
        warnings.sort_by_key(|found| found.position);
        let image = state.into_intent(self.options);
        Ok(Lowered { graph: self.builder.finish(), image, warnings, outline: self.outline })
    }

    /// The state a node begins with: its base, with `PATH` set.
    fn begin(&mut self, node: &Node, facts: &Facts) -> State {
        let platform = node.platform.clone().unwrap_or_else(|| self.options.platform.clone());
        let mut state = match &node.base {
            Base::Stage(base) => match self.states.get_mut(*base).and_then(Option::as_mut) {
                Some(state) => state.derive(),
                None => State::empty(platform),
            },
            Base::Scratch => State::empty(self.options.platform.clone()),
            Base::Replaced(NamedContext::Files(source)) | Base::Context(NamedContext::Files(source)) => {
                let metadata = Metadata { name: "[internal] load build context".to_owned(), ..Metadata::default() };
                let root = self.builder.add(Op::Source(source.clone()), Vec::new(), metadata);
                let mut state = State::empty(platform);
                state.root = Some(root);
                state.files_only = true;
                state
            }
            Base::Replaced(NamedContext::Target(target)) | Base::Context(NamedContext::Target(target)) => {
                let places = self.builder.import(&target.graph, Metadata::clone);
                State::of_target(target.image.moved(&places))
            }
            Base::Image(_) | Base::Replaced(_) | Base::Context(_) => self.image(node, facts, platform),
        };
        if let Some(stage) = node.stage {
            let stage = &self.stages.stages[stage];
            state.enter(stage.label.clone(), total(node), self.options.ignores_cache(stage.name.as_deref()));
        }
        state.settle();
        state
    }

    fn image(&mut self, node: &Node, facts: &Facts, platform: lap_solver::platform::Platform) -> State {
        let image = node.image(self.options);
        let config = image.as_ref().and_then(|image| facts.get(image)).cloned().unwrap_or_default();
        let Some(image) = image else { return State::empty(platform) };
        let without_layers = config.rootfs.diff_ids.is_empty() && config.history.iter().all(|entry| entry.empty_layer);
        let root = (!without_layers).then(|| {
            let source = GraphSource::Image { reference: image.reference.clone(), platform: platform.clone() };
            let stage = node.stage.map(|stage| &self.stages.stages[stage]);
            let metadata = Metadata {
                name: format!("FROM {}", image.reference),
                stage: stage.map(|stage| stage.label.clone()).filter(|label| !label.is_empty()),
                position: stage.map(|_| (1, total(node))),
                location: stage.map(|stage| self.location(&stage.instruction)),
                ..Metadata::default()
            };
            self.builder.add(Op::Source(source), Vec::new(), metadata)
        });
        if let Some(stage) = node.stage.filter(|_| !config.os.is_empty()) {
            self.check_platform(&self.stages.stages[stage].instruction, &image.reference, &platform, &config);
        }
        State::of_image(config, root, platform)
    }

    fn check_platform(
        &mut self,
        instruction: &Instruction,
        reference: &str,
        expected: &lap_solver::platform::Platform,
        config: &ImageConfig,
    ) {
        if (&expected.os, &expected.architecture) != (&config.os, &config.architecture) {
            let message = format!(
                "Base image {} was pulled with platform \"{}/{}\", expected \"{expected}\" for current build",
                crate::reference::familiar(reference),
                config.os,
                config.architecture
            );
            self.report(&lint::INVALID_BASE_IMAGE_PLATFORM, instruction, message);
        }
    }

    fn step(&mut self, state: &mut State, step: &Step) -> Result<(), Fault> {
        let instruction = &step.instruction;
        match &instruction.command {
            Command::Add(transfer) => self.transfer(state, step, transfer, true),
            Command::Copy(transfer) => self.transfer(state, step, transfer, false),
            Command::Run(run) => self.run_command(state, step, run),
            Command::Workdir(path) => self.workdir(state, step, path),
            Command::Expose(ports) => self.expose(state, instruction, ports),
            Command::Arg(definitions) => self.arg(state, instruction, definitions),
            Command::Env(pairs) => self.env(state, instruction, pairs),
            Command::Label(pairs) => self.label(state, instruction, pairs),
            Command::Cmd(line) => {
                self.cmd(state, instruction, line);
                Ok(())
            }
            Command::Entrypoint(line) => {
                self.entrypoint(state, instruction, line);
                Ok(())
            }
            Command::Healthcheck(check) => {
                self.healthcheck(state, instruction, check);
                Ok(())
            }
            Command::User(user) => self.user(state, instruction, user),
            Command::Volume(paths) => self.volume(state, instruction, paths),
            Command::StopSignal(signal) => self.stop_signal(state, instruction, signal),
            Command::Shell(shell) => {
                state.config.config.shell = Some(shell.clone());
                state.commit(format!("SHELL [{}]", shell.join(" ")));
                Ok(())
            }
            Command::Maintainer(text) => {
                state.config.author = Some(text.clone());
                state.commit(format!("MAINTAINER {text}"));
                Ok(())
            }
            Command::Onbuild(onbuild) => {
                state.config.config.on_build.push(onbuild.expression.clone());
                Ok(())
            }
            Command::From(_) | Command::Invalid => {
                Err(Fault::new(format!("{} cannot stand here", instruction.keyword.text)))
            }
        }
    }

    fn report(&mut self, rule: &Rule, instruction: &Instruction, message: String) {
        let place = (instruction.span, instruction.comments.as_slice());
        self.linter.report(rule, &self.stages.source, place, message);
    }

    /// Expands a word and reports variables that nothing defines.
    fn word(&mut self, state: &State, instruction: &Instruction, text: &str) -> Result<String, Fault> {
        self.expand(state, instruction, text, self.stages.lexer)
    }

    fn expand(&mut self, state: &State, at: &Instruction, text: &str, lexer: Lexer) -> Result<String, Fault> {
        let expanded = lexer.expand(text, &state.variables).map_err(|error| Fault::new(error.to_string()))?;
        self.report_undefined(state, at, &expanded.unmatched);
        Ok(expanded.text)
    }

    fn report_undefined(&mut self, state: &State, at: &Instruction, names: &std::collections::BTreeSet<String>) {
        for name in names {
            if state.arguments.declares(name) || NOT_IN_ENVIRONMENT.contains(&name.as_str()) {
                continue;
            }
            let near = Some(name).filter(|_| self.linter.may_suggest());
            let near = near.and_then(|name| suggest::nearest(name, state.variables.names()));
            let near = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
            self.report(&lint::UNDEFINED_VAR, at, format!("Usage of undefined variable '${name}'{near}"));
        }
    }

    fn location(&self, instruction: &Instruction) -> Location {
        let (first, last) = instruction.lines;
        Location { file: self.stages.source.name().to_owned(), first, last }
    }

    /// What a step of this instruction is called and where it stands; counts it.
    fn metadata(&self, state: &mut State, step: &Step, name: String) -> Metadata {
        let prefix = if step.trigger { "ONBUILD " } else { "" };
        Metadata {
            name: format!("{prefix}{name}"),
            stage: Some(state.label.clone()).filter(|label| !label.is_empty()),
            position: Some(state.next_position()),
            location: Some(self.location(&step.instruction)),
            ignore_cache: state.ignore_cache,
            ..Metadata::default()
        }
    }

    /// The instruction as people see it: the keyword in capitals, variables expanded where that is possible.
    fn shown(&self, instruction: &Instruction, lexer: Lexer, variables: &dyn Lookup) -> String {
        let expanded = lexer.expand(&instruction.original, variables).map(|expanded| expanded.text);
        let text = expanded.unwrap_or_else(|_| instruction.original.clone());
        match text.split_once(' ') {
            Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
            None => text.to_uppercase(),
        }
    }

    /// The build context.
    fn context(&mut self) -> VertexId {
        let metadata = Metadata { name: "[internal] load build context".to_owned(), ..Metadata::default() };
        self.builder.add(Op::Source(self.options.context.clone()), Vec::new(), metadata)
    }

    fn globals(&self) -> &Variables {
        &self.stages.globals
    }
}

/// How many steps people see of a stage.
fn total(node: &Node) -> u32 {
    let base = usize::from(!matches!(node.base, Base::Scratch | Base::Stage(_)));
    let shown = node.steps.iter().filter(|step| {
        matches!(step.instruction.command, Command::Add(_) | Command::Copy(_) | Command::Run(_) | Command::Workdir(_))
            || step.trigger
    });
    u32::try_from(base + shown.count()).unwrap_or(u32::MAX)
}

impl Lowered {
    /// The warnings of a rule.
    #[must_use]
    pub fn warnings_of(&self, rule: &str) -> Vec<&Diagnostic> {
        self.warnings.iter().filter(|found| found.code == Code::Rule(rule.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests;

//! The stages that are needed, with their triggers and with what each instruction takes from where.

use std::collections::HashMap;

use lap_solver::platform::Platform;

use crate::diagnostic::{Code, Diagnostic, Fault, Severity};
use crate::options::{BaseImage, Facts, NamedContext, Options};
use crate::source::Span;
use crate::stage::{self, Base, Stages};
use crate::syntax::{self, Command, Instruction};
use crate::word::Empty;

/// Stages in order, then the images and contexts that instructions name.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    /// Images that are needed and not known.
    pub(crate) missing: Vec<BaseImage>,
}

/// A stage, or what an instruction takes files from.
#[derive(Debug)]
pub(crate) struct Node {
    /// Which stage; none for what an instruction names.
    pub(crate) stage: Option<usize>,
    pub(crate) base: Base,
    pub(crate) platform: Option<Platform>,
    pub(crate) steps: Vec<Step>,
    pub(crate) span: Span,
    pub(crate) needed: bool,
    triggered: bool,
}

/// An instruction and the nodes it takes files from.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) instruction: Instruction,
    /// One for `COPY --from`; one a mount for `RUN`.
    pub(crate) sources: Vec<Option<usize>>,
    pub(crate) trigger: bool,
}

impl Plan {
    /// Lays the plan as far as `facts` let it be known.
    pub(crate) fn new(stages: &Stages, facts: &Facts, options: &Options) -> Result<Self, Vec<Diagnostic>> {
        let mut planner = Planner { stages, options, nodes: Vec::new(), named: HashMap::new(), faults: Vec::new() };
        planner.lay();
        planner.refuse_circles();
        if planner.faults.is_empty() {
            planner.follow(facts);
        }
        if !planner.faults.is_empty() {
            return Err(planner.faults);
        }
        let missing = planner.missing(facts);
        Ok(Self { nodes: planner.nodes, missing })
    }
}

impl Node {
    /// The image that must be known before the node can be lowered.
    pub(crate) fn image(&self, options: &Options) -> Option<BaseImage> {
        let platform = self.platform.as_ref().unwrap_or(&options.platform).clone();
        let reference = match &self.base {
            Base::Image(reference) => reference.clone(),
            Base::Replaced(NamedContext::Image(text)) | Base::Context(NamedContext::Image(text)) => {
                crate::reference::normalize(text).unwrap_or_else(|_| text.clone())
            }
            _ => return None,
        };
        Some(BaseImage { reference, platform })
    }

    fn dependencies(&self) -> impl Iterator<Item = (usize, Span)> {
        self.steps.iter().flat_map(|step| step.sources.iter().flatten().map(|source| (*source, step.instruction.span)))
    }
}

struct Planner<'a> {
    stages: &'a Stages,
    options: &'a Options,
    nodes: Vec<Node>,
    /// Nodes that are no stages, by the names instructions have for them.
    named: HashMap<String, usize>,
    faults: Vec<Diagnostic>,
}

impl Planner<'_> {
    fn fault(&mut self, fault: Fault, span: Span) {
        self.faults.push(self.stages.diagnose(fault, span));
    }

    fn lay(&mut self) {
        for (index, stage) in self.stages.stages.iter().enumerate() {
            self.nodes.push(Node {
                stage: Some(index),
                base: stage.base.clone(),
                platform: stage.platform.clone(),
                steps: Vec::new(),
                span: stage.instruction.span,
                needed: false,
                triggered: false,
            });
        }
        for (index, stage) in self.stages.stages.iter().enumerate() {
            for instruction in &stage.commands {
                match self.step(instruction.clone(), false) {
                    Ok(step) => self.nodes[index].steps.push(step),
                    Err(fault) => self.fault(fault, instruction.span),
                }
            }
        }
    }

    fn step(&mut self, instruction: Instruction, trigger: bool) -> Result<Step, Fault> {
        let sources = match &instruction.command {
            Command::Copy(transfer) => match &transfer.from {
                None => Vec::new(),
                Some(from) => vec![Some(self.flag_source(&from.text).map_err(|fault| fault.at(from.span))?)],
            },
            Command::Run(run) => {
                let mut sources = Vec::new();
                for mount in &run.mounts {
                    let from = mount.from.as_deref().filter(|from| !from.is_empty());
                    let node = from.map(|from| self.named(from)).transpose();
                    sources.push(node.map_err(|fault| fault.at(mount.text.span))?);
                }
                sources
            }
            _ => Vec::new(),
        };
        Ok(Step { instruction, sources, trigger })
    }

    /// `COPY --from`: a stage by number or name, a context, or an image.
    fn flag_source(&mut self, text: &str) -> Result<usize, Fault> {
        let expanded = self.stages.lexer.expand(text, &Empty).map_err(|error| Fault::new(error.to_string()))?;
        if expanded.text != text {
            return Err(Fault::new(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            ));
        }
        match text.parse::<i64>() {
            Ok(number) => {
                usize::try_from(number).ok().filter(|index| *index < self.stages.stages.len()).ok_or_else(|| {
                    let last = self.stages.stages.len().saturating_sub(1);
                    let fault = Fault::new(format!("invalid stage index {number}"));
                    fault.hint(Some(format!("stages are counted from 0, the last one is {last}")))
                })
            }
            Err(_) => self.named(text),
        }
    }

    /// A stage, context or image by name; what is no stage becomes a node of its own.
    fn named(&mut self, text: &str) -> Result<usize, Fault> {
        if let Some(index) = self.stages.find(text) {
            return Ok(index);
        }
        if let Some(known) = self.named.get(text) {
            return Ok(*known);
        }
        let base = stage::base(text, &self.options.platform, self.options, self.stages)?;
        let span = Span::default();
        self.nodes.push(Node {
            stage: None,
            base,
            platform: None,
            steps: Vec::new(),
            span,
            needed: false,
            triggered: true,
        });
        self.named.insert(text.to_owned(), self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    fn refuse_circles(&mut self) {
        let dependencies: Vec<Vec<(usize, Span)>> =
            self.nodes.iter().map(|node| node.dependencies().collect()).collect();
        let mut state = vec![0u8; self.nodes.len()];
        for start in 0..self.nodes.len() {
            // Depth first without recursion: 1 is on the path, 2 is done.
            let mut path = vec![(start, 0)];
            while let Some((node, next)) = path.pop() {
                if next == 0 {
                    if state[node] == 2 {
                        continue;
                    }
                    state[node] = 1;
                }
                let Some(&(dependency, span)) = dependencies[node].get(next) else {
                    state[node] = 2;
                    continue;
                };
                path.push((node, next + 1));
                match state[dependency] {
                    0 => path.push((dependency, 0)),
                    1 => {
                        let label = self.label(start);
                        let begin = path.iter().position(|(on, _)| *on == dependency).unwrap_or(0);
                        let round: Vec<String> = path[begin..].iter().map(|(on, _)| self.label(*on)).collect();
                        let end = self.label(dependency);
                        let hint = match round.len() {
                            ..10 => format!("{} needs {end}", round.join(" needs ")),
                            many => format!("a round of {many} stages leads back to {end}"),
                        };
                        let fault = Fault::new(format!("circular dependency detected on stage: {label}"));
                        self.fault(fault.hint(Some(hint)), span);
                        return;
                    }
                    _ => {}
                }
            }
        }
    }

    fn label(&self, node: usize) -> String {
        // Not the label, which is empty where there is but one stage.
        let name = |index: usize| self.stages.stages[index].name.clone().unwrap_or_else(|| format!("stage-{index}"));
        self.nodes[node].stage.map_or_else(String::new, name)
    }

    /// Marks what is needed and adds triggers, until nothing new is needed.
    fn follow(&mut self, facts: &Facts) {
        loop {
            self.mark();
            let known = |node: &Node| node.image(self.options).is_none_or(|image| facts.get(&image).is_some());
            let ready = |node: &Node| node.needed && !node.triggered && known(node);
            let ready: Vec<usize> = (0..self.nodes.len()).filter(|node| ready(&self.nodes[*node])).collect();
            if ready.is_empty() {
                return;
            }
            for node in ready {
                self.nodes[node].triggered = true;
                if let Err(fault) = self.add_triggers(node, facts) {
                    return self.fault(Fault { span: None, ..fault }, self.nodes[node].span);
                }
            }
        }
    }

    /// Puts the triggers of a node's base before its own steps; they stand where its `FROM` does.
    fn add_triggers(&mut self, node: usize, facts: &Facts) -> Result<(), Fault> {
        let triggers = self.triggers(node, facts);
        let mut steps = triggers.iter().map(|text| self.trigger(text)).collect::<Result<Vec<Step>, Fault>>()?;
        let lines = self.nodes[node].stage.map_or((0, 0), |stage| self.stages.stages[stage].instruction.lines);
        for step in &mut steps {
            step.instruction.span = self.nodes[node].span;
            step.instruction.lines = lines;
        }
        steps.append(&mut self.nodes[node].steps);
        self.nodes[node].steps = steps;
        Ok(())
    }

    fn mark(&mut self) {
        let all = self.options.all_stages;
        let mut wanted: Vec<usize> =
            if all { (0..self.stages.stages.len()).collect() } else { vec![self.stages.target] };
        // Triggers may have added to a stage that was needed before, so everything is walked again.
        let mut seen = vec![false; self.nodes.len()];
        while let Some(node) = wanted.pop() {
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            self.nodes[node].needed = true;
            wanted.extend(self.nodes[node].dependencies().map(|(source, _)| source));
            if let Base::Stage(base) = self.nodes[node].base {
                wanted.push(base);
            }
        }
    }

    /// What the base of a stage asks to be done in it.
    fn triggers(&self, node: usize, facts: &Facts) -> Vec<String> {
        if let Base::Stage(base) = self.nodes[node].base {
            let of_step = |step: &Step| match &step.instruction.command {
                Command::Onbuild(onbuild) => Some(onbuild.expression.clone()),
                _ => None,
            };
            return self.nodes[base].steps.iter().filter_map(of_step).collect();
        }
        if self.nodes[node].stage.is_none() {
            return Vec::new();
        }
        if let Base::Context(NamedContext::Target(target)) = &self.nodes[node].base {
            return target.image.config.config.on_build.clone();
        }
        let image = self.nodes[node].image(self.options);
        image.and_then(|image| facts.get(&image)).map(|config| config.config.on_build.clone()).unwrap_or_default()
    }

    fn trigger(&mut self, text: &str) -> Result<Step, Fault> {
        let parsed = syntax::parse("onbuild trigger", text);
        if let Some(found) = parsed.diagnostics.iter().find(|found| found.severity == Severity::Error) {
            let found = Diagnostic { code: Code::Meaning, ..found.clone() };
            return Err(Fault::new(format!("{} in onbuild trigger {text:?} of the base", found.text())));
        }
        let [instruction] = <[Instruction; 1]>::try_from(parsed.dockerfile.instructions)
            .map_err(|_| Fault::new("onbuild trigger should be a single expression"))?;
        if matches!(instruction.command, Command::From(_)) {
            return Err(Fault::new("FROM isn't allowed as an ONBUILD trigger"));
        }
        self.step(instruction, true)
    }

    fn missing(&self, facts: &Facts) -> Vec<BaseImage> {
        let needed = self.nodes.iter().filter(|node| node.needed);
        let images = needed.filter_map(|node| node.image(self.options));
        let mut missing: Vec<BaseImage> = images.filter(|image| facts.get(image).is_none()).collect();
        missing.sort();
        missing.dedup();
        missing
    }
}

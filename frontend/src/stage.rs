//! Stages: which there are, what they stand on, and which a target needs.
//!
//! Follows `BuildKit`'s `dockerfile2llb`: global arguments are expanded first, then every base name and platform;
//! a base name that an earlier stage has means that stage.

use std::collections::{HashMap, HashSet};

use lap_solver::platform::Platform;

use crate::args::{self, Variables};
use crate::diagnostic::{Code, Diagnostic, Fault};
use crate::epoch::{self, Epoch};
use crate::lint::{self, Linter};
use crate::options::{BaseImage, Facts, NamedContext, Options};
use crate::plan::Plan;
use crate::source::{Position, Source, Span};
use crate::syntax::{Argument, Command, Dockerfile, From, Instruction};
use crate::word::{Expanded, Lexer, Lookup, WordError};
use crate::{go, reference, suggest};

/// How many stages may be told to be wrong; each is compared with the names of all others.
const FAULTS: usize = 100;

/// With more names of stages than this, an error does not list them.
const MOST_NAMES: usize = 20;

/// The stages of a Dockerfile for one set of options.
#[derive(Debug, Clone)]
pub struct Stages {
    pub(crate) source: Source,
    pub(crate) lexer: Lexer,
    pub(crate) stages: Vec<Stage>,
    /// The last stage of each name so far.
    pub(crate) by_name: HashMap<String, usize>,
    /// Global and predefined variables with their values.
    pub(crate) globals: Variables,
    /// Global `ARG`s.
    pub(crate) definitions: Vec<Instruction>,
    pub(crate) target: usize,
    pub(crate) linter: Linter,
    pub(crate) epoch: Option<Epoch>,
}

/// One stage.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// The `FROM` instruction.
    pub(crate) instruction: Instruction,
    pub(crate) name: Option<String>,
    /// What progress calls it; empty where there is only one.
    pub(crate) label: String,
    pub(crate) base: Base,
    pub(crate) platform: Option<Platform>,
    pub(crate) commands: Vec<Instruction>,
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, in normal form.
    Image(String),
    /// A named context with the stage's own name: its instructions are not used.
    Replaced(NamedContext),
    /// A named context with the base's name.
    Context(NamedContext),
}

/// A stage as `--call targets` lists it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Target {
    /// Its name.
    pub name: Option<String>,
    /// Its base as written.
    pub base: String,
    /// Its platform as written.
    pub platform: Option<String>,
    /// Whether it is built where no target is named.
    pub default: bool,
    /// What the comment before says of it.
    pub description: Option<String>,
    /// The line of its `FROM`.
    pub line: u32,
}

/// Every stage of a file, in order.
#[must_use]
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let mut targets: Vec<Target> = file.instructions.iter().filter_map(target).collect();
    if let Some(last) = targets.last_mut() {
        last.default = true;
    }
    targets
}

fn target(instruction: &Instruction) -> Option<Target> {
    let Command::From(from) = &instruction.command else { return None };
    let of_name = |comment: &String| comment.strip_prefix(from.name.as_deref()?)?.strip_prefix(' ').map(str::to_owned);
    Some(Target {
        name: from.name.clone(),
        base: from.base.text.clone(),
        platform: from.platform.as_ref().map(|platform| platform.text.clone()),
        default: false,
        description: instruction.comments.iter().find_map(of_name),
        line: instruction.lines.0,
    })
}

/// Resolves stages, base names, platforms and the target.
///
/// # Errors
/// Everything that is wrong with them, in order of place.
pub fn stages(file: &Dockerfile, options: &Options) -> Result<Stages, Vec<Diagnostic>> {
    let mut resolver = Resolver::new(file, options);
    resolver.run();
    let Resolver { mut faults, out, .. } = resolver;
    if faults.is_empty() {
        return Ok(out);
    }
    faults.sort_by_key(|found| found.span.start);
    Err(faults)
}

impl Stages {
    /// Every stage, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect()
    }

    /// The images whose config is not among `facts` and that the target needs. Triggers of known images may need
    /// more: ask until there is none.
    ///
    /// # Errors
    /// Where a trigger of a base image cannot be used.
    pub fn base_images(&self, facts: &Facts, options: &Options) -> Result<Vec<BaseImage>, Vec<Diagnostic>> {
        Plan::new(self, facts, options).map(|plan| plan.missing)
    }

    /// The stage called `name`, in any case; the last one where several are.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// The time that `SOURCE_DATE_EPOCH` sets.
    #[must_use]
    pub const fn source_date_epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    pub(crate) fn diagnose(&self, fault: Fault, span: Span) -> Diagnostic {
        fault.into_diagnostic(Code::Meaning, &self.source, span)
    }
}

struct Resolver<'a> {
    file: &'a Dockerfile,
    options: &'a Options,
    faults: Vec<Diagnostic>,
    /// Names of global `ARG`s.
    declared: HashSet<&'a str>,
    out: Stages,
}

impl<'a> Resolver<'a> {
    fn new(file: &'a Dockerfile, options: &'a Options) -> Self {
        let out = Stages {
            source: file.source.clone(),
            lexer: Lexer::new(file.escape),
            stages: Vec::new(),
            by_name: HashMap::new(),
            globals: Variables::default(),
            definitions: Vec::new(),
            target: 0,
            linter: Linter::new(lint::Config::default()),
            epoch: None,
        };
        let declared = file.instructions.iter().take_while(|first| !matches!(first.command, Command::From(_)));
        let declared = declared.flat_map(|instruction| match &instruction.command {
            Command::Arg(definitions) => definitions.as_slice(),
            _ => &[],
        });
        let declared = declared.map(|definition| definition.name.as_str()).collect();
        Self { file, options, faults: Vec::new(), declared, out }
    }

    fn fault(&mut self, fault: Fault, span: Span) {
        self.faults.push(fault.into_diagnostic(Code::Meaning, &self.file.source, span));
    }

    fn run(&mut self) {
        self.configure();
        let groups = self.group();
        if groups.is_empty() && self.faults.is_empty() {
            self.fault(Fault::new("dockerfile contains no stages to build"), Span::default());
        }
        if !self.faults.is_empty() {
            return;
        }
        lint::check_text(self.file, &mut self.out.linter);
        self.define_globals(&groups);
        for (index, (instruction, from, commands)) in groups.iter().enumerate() {
            if let Err(fault) = self.stage(index, instruction, from, commands) {
                self.fault(fault, instruction.span);
                if self.faults.len() == FAULTS {
                    break;
                }
            }
        }
        if let [only] = self.out.stages.as_mut_slice() {
            only.label.clear();
        }
        self.choose_target();
        if self.faults.is_empty() {
            match epoch::resolve(&self.out, self.options) {
                Ok(epoch) => self.out.epoch = epoch,
                Err((fault, span)) => self.fault(fault, span),
            }
        }
    }

    /// Reads the directives that ask for something.
    fn configure(&mut self) {
        let given = self.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
        let directive = self.file.directive("check");
        let span = directive.map_or_else(Span::default, |directive| directive.span);
        if let Some(text) = given.or_else(|| directive.map(|directive| &directive.value)) {
            match lint::Config::parse(text) {
                Ok(config) => self.out.linter = Linter::new(config),
                Err(error) => self.fault(Fault::new(error.to_string()), span),
            }
        }
        let directive = self.file.directive("syntax");
        let given = self.options.build_args.get("BUILDKIT_SYNTAX");
        let span = directive.map_or_else(Span::default, |directive| directive.span);
        if let Some(text) = given.or_else(|| directive.map(|directive| &directive.value))
            && !is_own_syntax(text)
        {
            let fault = Fault::new(format!("syntax image {} is not docker/dockerfile", go::quote(text)));
            let hint = "another frontend is never run: remove the line, or write # syntax=docker/dockerfile:1";
            self.fault(fault.hint(Some(hint.to_owned())), span);
        }
    }

    /// Sorts instructions into global arguments and stages.
    fn group(&mut self) -> Vec<(&'a Instruction, &'a From, Vec<Instruction>)> {
        let mut groups: Vec<(&Instruction, &From, Vec<Instruction>)> = Vec::new();
        for instruction in &self.file.instructions {
            match (&instruction.command, groups.last_mut()) {
                (Command::From(from), _) => groups.push((instruction, from, Vec::new())),
                (Command::Invalid, _) => {
                    self.fault(Fault::new(format!("{} is broken", instruction.keyword.text)), instruction.span);
                }
                (_, Some((_, _, commands))) => commands.push(instruction.clone()),
                (Command::Arg(_), None) => self.out.definitions.push(instruction.clone()),
                (_, None) => {
                    let fault = Fault::new("no build stage in current context")
                        .hint(Some("only ARG may stand before the first FROM".to_owned()));
                    self.fault(fault, instruction.span);
                }
            }
        }
        groups
    }

    fn define_globals(&mut self, groups: &[(&Instruction, &From, Vec<Instruction>)]) {
        let last = groups.last().and_then(|(_, from, _)| from.name.clone());
        let target = self.options.target.clone().or(last).unwrap_or_default();
        let predefined = args::predefined(self.options, &target);
        self.check_defaults(groups, predefined.clone());
        self.out.globals = predefined;
        for instruction in &self.out.definitions {
            let Command::Arg(definitions) = &instruction.command else { continue };
            for definition in definitions {
                let globals = &mut self.out.globals;
                if let Err(fault) = args::define_global(globals, definition, &self.options.build_args, &self.out.lexer)
                {
                    self.faults.push(fault.into_diagnostic(Code::Meaning, &self.file.source, instruction.span));
                    return;
                }
            }
        }
    }

    /// Base names should be sound without build arguments too.
    fn check_defaults(&mut self, groups: &[(&Instruction, &From, Vec<Instruction>)], mut variables: Variables) {
        let none = std::collections::BTreeMap::new();
        for definition in global_definitions(&self.out.definitions) {
            if args::define_global(&mut variables, definition, &none, &self.out.lexer).is_err() {
                return;
            }
        }
        for (instruction, from, _) in groups {
            let Ok(name) = self.out.lexer.expand(&from.base.text, &variables) else { return };
            if reference::normalize(&name.text).is_err() {
                let message =
                    format!("Default value for ARG {} results in empty or invalid base image name", from.base.text);
                let rule = &lint::INVALID_DEFAULT_ARG_IN_FROM;
                self.out.linter.report(rule, &self.file.source, (instruction.span, &instruction.comments), message);
            }
        }
    }

    /// Expands a word of `FROM` and reports arguments that are not declared.
    fn expand(&mut self, word: &Argument, instruction: &Instruction) -> Result<Expanded, WordError> {
        let expanded = self.out.lexer.expand(&word.text, &self.out.globals)?;
        if expanded.unmatched.is_empty() {
            return Ok(expanded);
        }
        for name in expanded.unmatched.iter().filter(|name| !self.declared.contains(name.as_str())) {
            let declared = global_definitions(&self.out.definitions).map(|definition| definition.name.as_str());
            let near = Some(name).filter(|_| self.out.linter.may_suggest());
            let near = near.and_then(|name| suggest::nearest(name, declared.chain(self.out.globals.names())));
            let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            let message = format!("FROM argument '{name}' is not declared{near}");
            let place = (instruction.span, instruction.comments.as_slice());
            self.out.linter.report(&lint::UNDEFINED_ARG_IN_FROM, &self.file.source, place, message);
        }
        Ok(expanded)
    }

    fn stage(
        &mut self,
        index: usize,
        instruction: &Instruction,
        from: &From,
        commands: &[Instruction],
    ) -> Result<(), Fault> {
        let text = self.expand(&from.base, instruction).map_err(|error| Fault::new(error.to_string()));
        let text = text.map_err(|fault| fault.at(from.base.span))?.text;
        let label = from.name.clone().unwrap_or_else(|| format!("stage-{index}"));
        let mut stage = Stage {
            instruction: instruction.clone(),
            name: from.name.clone(),
            label,
            base: Base::Scratch,
            platform: None,
            commands: commands.to_vec(),
        };
        let resolved = self.resolve(&mut stage, from, &text);
        if let Some(name) = &stage.name {
            self.out.by_name.insert(name.clone(), index);
        }
        self.out.stages.push(stage);
        resolved
    }

    fn resolve(&mut self, stage: &mut Stage, from: &From, text: &str) -> Result<(), Fault> {
        if text.is_empty() {
            let message = format!("base name ({}) should not be blank", from.base.text);
            let hint = "give its ARG a value before the first FROM, or with --build-arg".to_owned();
            return Err(Fault::new(message).at(from.base.span).hint(Some(hint)));
        }
        if let Some(platform) = &from.platform {
            let parsed = self.platform(platform, stage).map_err(|fault| fault.at(platform.span))?;
            stage.platform = Some(parsed);
        }
        let platform = stage.platform.as_ref().unwrap_or(&self.options.platform);
        let own = stage.name.as_deref().and_then(|name| self.options.named_context(name, platform));
        if let Some(context) = own {
            stage.base = Base::Replaced(context.clone());
            return Ok(());
        }
        stage.base = match self.out.by_name.get(text) {
            Some(earlier) => Base::Stage(*earlier),
            None => base(text, platform, self.options, &self.out).map_err(|fault| fault.at(from.base.span))?,
        };
        Ok(())
    }

    fn platform(&mut self, word: &Argument, stage: &Stage) -> Result<Platform, Fault> {
        let instruction = &stage.instruction;
        let expanded = self
            .expand(word, instruction)
            .map_err(|error| Fault::new(format!("failed to process arguments for platform {}: {error}", word.text)))?;
        let near = |fault: Fault| match expanded.unmatched.first() {
            Some(name) => fault.suggest(name, self.out.globals.names()),
            None => fault,
        };
        if expanded.text.is_empty() {
            return Err(near(Fault::new(format!("empty platform value from expression {}", word.text))));
        }
        let platform = Platform::parse(&expanded.text, &self.options.platform)
            .map_err(|error| near(Fault::new(format!("failed to parse platform {}: {error}", word.text))))?;
        self.check_platform(word, stage, &expanded, &platform);
        Ok(platform)
    }

    fn check_platform(&mut self, word: &Argument, stage: &Stage, expanded: &Expanded, platform: &Platform) {
        let source = &self.file.source;
        let place = (stage.instruction.span, stage.instruction.comments.as_slice());
        let target = self.out.globals.get("TARGETPLATFORM");
        if expanded.unmatched.is_empty()
            && expanded.matched.iter().eq(["TARGETPLATFORM"])
            && target == Some(expanded.text.as_str())
        {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                word.text
            );
            self.out.linter.report(&lint::REDUNDANT_TARGET_PLATFORM, source, place, message);
        }
        let name = stage.name.as_deref().unwrap_or("");
        let in_name = name.contains(&platform.os) || name.contains(&platform.architecture);
        if expanded.matched.is_empty() && expanded.unmatched.is_empty() && !in_name {
            let text = go::quote(&expanded.text);
            let message = format!("FROM --platform flag should not use constant value {text}");
            self.out.linter.report(&lint::FROM_PLATFORM_FLAG_CONST_DISALLOWED, source, place, message);
        }
    }

    fn choose_target(&mut self) {
        let Some(wanted) = &self.options.target else {
            self.out.target = self.out.stages.len().saturating_sub(1);
            return;
        };
        match self.out.find(wanted) {
            Some(index) => self.out.target = index,
            None => {
                let fault = Fault::new(format!("target stage {} could not be found", go::quote(wanted)));
                let mut hint = suggest::nearest(wanted, self.out.names())
                    .map(|near| format!("did you mean {near}? "))
                    .unwrap_or_default();
                let names = self.out.names();
                match names.len() {
                    0 => hint.push_str("no stage has a name: leave --target out"),
                    1..=MOST_NAMES => hint.push_str(&format!("stages: {}", names.join(", "))),
                    more => hint.push_str(&format!("{more} stages, see --call targets")),
                }
                // No line of the file is to blame.
                let fault = fault.hint(Some(hint)).into_diagnostic(Code::Meaning, &self.file.source, Span::default());
                self.faults.push(Diagnostic { position: Position { line: 0, column: 0 }, ..fault });
            }
        }
    }
}

pub(crate) fn global_definitions(instructions: &[Instruction]) -> impl Iterator<Item = &crate::syntax::ArgDefinition> {
    instructions.iter().flat_map(|instruction| match &instruction.command {
        Command::Arg(definitions) => definitions.as_slice(),
        _ => &[],
    })
}

/// What a name that is no stage stands for.
pub(crate) fn base(text: &str, platform: &Platform, options: &Options, stages: &Stages) -> Result<Base, Fault> {
    if text == "scratch" {
        return Ok(Base::Scratch);
    }
    match options.named_context(text, platform) {
        Some(NamedContext::Image(image)) if image == "scratch" => return Ok(Base::Scratch),
        Some(context) => return Ok(Base::Context(context.clone())),
        None => {}
    }
    let reference = reference::normalize(text).map_err(|error| {
        let fault = Fault::new(format!("failed to parse stage name {}: {error}", go::quote(text)));
        match stages.find(text) {
            Some(_) => fault.hint(Some(format!("stages are called in lower case: {}", text.to_lowercase()))),
            None => fault.suggest(text, stages.names()),
        }
    })?;
    Ok(Base::Image(reference))
}

/// Whether a `# syntax=` asks for the language that is built in.
fn is_own_syntax(text: &str) -> bool {
    let image = text.split(' ').next().unwrap_or_default();
    if image == "dockerfile.v0" {
        return true;
    }
    let name = image.split('@').next().unwrap_or_default();
    let name = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
    let mut parts = name.rsplit('/');
    matches!(parts.next(), Some("dockerfile" | "dockerfile-upstream")) && matches!(parts.next(), Some("docker"))
}

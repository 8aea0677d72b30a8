//! What a stage has become so far.

use std::collections::HashMap;

use lap_solver::graph::VertexId;
use lap_solver::image::{DEFAULT_PATH, History, ImageConfig};
use lap_solver::intent::{HistoryIntent, ImageIntent};
use lap_solver::path;
use lap_solver::platform::Platform;

use super::history::Chain;
use crate::args::Variables;
use crate::options::Options;
use crate::source::Span;
use crate::word::Lookup;

/// The note in each entry of the history.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// What `ARG` declared.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    list: Vec<(String, Option<String>)>,
    index: HashMap<String, usize>,
}

impl Arguments {
    pub(super) fn declare(&mut self, name: &str, value: Option<String>) {
        match self.index.get(name) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    pub(super) fn declares(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }
}

/// The file system, config and variables of a stage between two of its instructions.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) root: Option<VertexId>,
    pub(super) config: ImageConfig,
    pub(super) history: Chain,
    pub(super) platform: Platform,
    /// What words and commands see: `ENV` and `ARG`.
    pub(super) variables: Variables,
    /// `ARG`s in the order they were first declared, with their last values.
    pub(super) arguments: Arguments,
    /// Where each variable stands in the config's environment.
    environment: HashMap<String, usize>,
    pub(super) label: String,
    pub(super) ignore_cache: bool,
    /// Whether a `WORKDIR` stood in this file.
    pub(super) workdir_set: bool,
    /// Where the stage's own `CMD`, `ENTRYPOINT` and `HEALTHCHECK` stand.
    pub(super) cmd: Option<Span>,
    pub(super) entrypoint: Option<Span>,
    pub(super) healthcheck: Option<Span>,
    /// Whether this is the plain files of a context, whose owners mean nothing.
    pub(super) files_only: bool,
    position: u32,
    total: u32,
}

impl State {
    fn new(config: ImageConfig, root: Option<VertexId>, platform: Platform) -> Self {
        Self {
            root,
            config,
            history: Chain::default(),
            platform,
            variables: Variables::default(),
            arguments: Arguments::default(),
            environment: HashMap::new(),
            label: String::new(),
            ignore_cache: false,
            workdir_set: false,
            cmd: None,
            entrypoint: None,
            healthcheck: None,
            files_only: false,
            position: 0,
            total: 0,
        }
    }

    /// `FROM scratch`
    pub(super) fn empty(platform: Platform) -> Self {
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        config.config.working_dir = "/".to_owned();
        Self::new(config, None, platform)
    }

    /// `FROM image`
    pub(super) fn of_image(mut config: ImageConfig, root: Option<VertexId>, platform: Platform) -> Self {
        config.created = None;
        config.config.on_build.clear();
        config.rootfs = Default::default();
        let mut state = Self::new(config, root, platform);
        state.position = u32::from(root.is_some());
        state
    }

    /// `FROM context`, where the context is another target whose steps were taken over.
    pub(super) fn of_target(image: ImageIntent) -> Self {
        let mut state = Self::of_image(image.config, image.root, image.platform);
        state.history = Chain::new(image.history);
        state
    }

    /// `FROM stage`
    pub(super) fn derive(&mut self) -> Self {
        let history = self.history.share();
        let mut state = Self { history, ..self.clone() };
        state.config.config.on_build.clear();
        (state.cmd, state.entrypoint, state.healthcheck) = (None, None, None);
        state.position = 0;
        state.files_only = false;
        state
    }

    pub(super) fn enter(&mut self, label: String, total: u32, ignore_cache: bool) {
        self.label = label;
        self.total = total;
        self.ignore_cache = ignore_cache;
    }

    /// Takes variables and directory from the config, with a `PATH` in any case.
    pub(super) fn settle(&mut self) {
        if self.config.config.env_value("PATH").is_none() && self.platform.os != "windows" {
            self.config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        self.environment.clear();
        for (at, entry) in self.config.config.env.iter().enumerate() {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.variables.set(name, value);
            self.environment.entry(name.to_owned()).or_insert(at);
        }
        let directory = &self.config.config.working_dir;
        if !directory.is_empty() {
            let slash = if directory.ends_with('/') { "/" } else { "" };
            let directory = self.resolve("");
            self.config.config.working_dir = if directory == "/" { directory } else { format!("{directory}{slash}") };
        }
    }

    /// `ENV`: in the config where the variable stands already, or else at the end.
    pub(super) fn set_environment(&mut self, name: &str, value: &str) {
        let (list, entry) = (&mut self.config.config.env, format!("{name}={value}"));
        self.variables.set(name, value);
        match self.environment.get(name) {
            Some(at) => list[*at] = entry,
            None => {
                self.environment.insert(name.to_owned(), list.len());
                list.push(entry);
            }
        }
    }

    /// A path seen from the working directory, cleaned.
    pub(super) fn resolve(&self, target: &str) -> String {
        if target.starts_with('/') {
            return path::clean(target);
        }
        path::clean(&format!("/{}/{target}", self.config.config.working_dir))
    }

    pub(super) fn next_position(&mut self) -> (u32, u32) {
        self.position += 1;
        (self.position, self.total.max(self.position))
    }

    /// Notes an instruction that makes no layer.
    pub(super) fn commit(&mut self, text: String) {
        self.note(text, None);
    }

    /// Notes a step that may make one.
    pub(super) fn commit_step(&mut self, text: String, vertex: VertexId) {
        self.note(text, Some(vertex));
    }

    fn note(&mut self, text: String, vertex: Option<VertexId>) {
        let entry = History {
            created_by: Some(text),
            comment: Some(COMMENT.to_owned()),
            empty_layer: vertex.is_none(),
            ..History::default()
        };
        self.history.push(HistoryIntent { entry, vertex });
    }

    /// The shell of the shell form.
    pub(super) fn shell(&self) -> Vec<String> {
        let own = self.config.config.shell.as_ref().filter(|shell| !shell.is_empty());
        own.cloned().unwrap_or_else(|| {
            let default: &[&str] = if self.config.os == "windows" { &["cmd", "/S", "/C"] } else { &["/bin/sh", "-c"] };
            default.iter().map(|word| (*word).to_owned()).collect()
        })
    }

    pub(super) fn with_shell(&self, arguments: &[String]) -> Vec<String> {
        let mut line = self.shell();
        line.push(arguments.join(" "));
        line
    }

    /// What the history says of a command: the `ARG`s it saw, and its words.
    pub(super) fn command_text(&self, arguments: &[String]) -> String {
        let mut words = Vec::new();
        if !self.arguments.list.is_empty() {
            words.push(format!("|{}", self.arguments.list.len()));
            words.extend(self.arguments.list.iter().map(|(name, value)| {
                let value = self.variables.get(name).or(value.as_deref()).unwrap_or("");
                format!("{name}={value}")
            }));
        }
        words.extend_from_slice(arguments);
        words.join(" ")
    }

    /// The image this state is.
    pub(super) fn into_intent(mut self, options: &Options) -> ImageIntent {
        self.config.config.labels.extend(options.labels.clone());
        let (config, platform) = (&mut self.config, &options.platform);
        if options.platform_given || config.os.is_empty() {
            let same = config.os == platform.os && config.architecture == platform.architecture;
            platform.os.clone_into(&mut config.os);
            platform.architecture.clone_into(&mut config.architecture);
            if platform.variant.is_some() || !same {
                config.variant.clone_from(&platform.variant);
            }
        }
        let platform = Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
        };
        ImageIntent { root: self.root, config: self.config, history: self.history.entries(), platform }
    }
}

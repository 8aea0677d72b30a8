//! What a build was asked for, and what is known of the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use lap_solver::graph::{Graph, Network, Source};
use lap_solver::image::ImageConfig;
use lap_solver::intent::ImageIntent;
use lap_solver::platform::Platform;
use serde::{Deserialize, Serialize};

use crate::reference;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--target`; the last stage where absent.
    pub target: Option<String>,
    /// The platform to build for.
    pub platform: Platform,
    /// Whether the user named it (`--platform`): then the image says it is of that platform whatever its base is.
    pub platform_given: bool,
    /// The platform that builds.
    pub build_platform: Platform,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--no-cache-filter`: names of stages.
    pub no_cache_filter: Vec<String>,
    /// `--network`
    pub network: Network,
    /// For how many nanoseconds a `RUN` without `--timeout` may run; nothing is for ever.
    pub timeout: Option<u64>,
    /// The build context.
    pub context: Source,
    /// `--build-context`, by name as given, perhaps with `::os/arch`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Patterns of the ignore file, for the check that looks for ignored sources.
    pub ignore: Option<Vec<String>>,
    /// Whether stages that the target does not need are lowered too (checks).
    pub all_stages: bool,
}

/// A context with a name; it takes the place of a stage or image of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory, archive or repository: its files, with an empty config.
    Files(Source),
    /// An image.
    Image(String),
    /// The result of another target that is solved in the same graph.
    Target(Arc<TargetContext>),
}

/// A target that was lowered before: its steps and the image it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetContext {
    /// Its steps. Their local sources must not share names with other directories of the graph they end in.
    pub graph: Graph,
    /// Its image; vertices are those of `graph`.
    pub image: ImageIntent,
}

impl Options {
    /// The defaults for a platform.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            build_platform: platform.clone(),
            platform,
            platform_given: false,
            labels: BTreeMap::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            network: Network::Default,
            timeout: None,
            context: Source::Local { name: "context".to_owned() },
            contexts: BTreeMap::new(),
            ignore: None,
            all_stages: false,
        }
    }

    /// The context called `name` (a stage's name or an image reference), the one for `platform` first.
    pub(crate) fn named_context(&self, name: &str, platform: &Platform) -> Option<&NamedContext> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let familiar = |name: &str| {
            reference::normalize(name).map_or_else(|_| name.to_owned(), |full| reference::familiar(&full).to_owned())
        };
        let wanted = familiar(name);
        let of = |wanted_platform: Option<&Platform>| {
            self.contexts.iter().find(|(key, _)| {
                let (key, own) = key.split_once("::").map_or((key.as_str(), None), |(key, own)| (key, Some(own)));
                let own = own.map(|text| Platform::parse(text, &self.build_platform));
                let fits = match (own, wanted_platform) {
                    (None, None) => true,
                    (Some(Ok(own)), Some(wanted)) => own == *wanted,
                    _ => false,
                };
                fits && familiar(key) == wanted
            })
        };
        of(Some(platform)).or_else(|| of(None)).map(|(_, context)| context)
    }

    pub(crate) fn ignores_cache(&self, stage: Option<&str>) -> bool {
        self.no_cache
            || stage.is_some_and(|stage| self.no_cache_filter.iter().any(|name| name.eq_ignore_ascii_case(stage)))
    }
}

/// An image that lowering must know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BaseImage {
    /// In normal form (`docker.io/library/debian:12`).
    pub reference: String,
    /// Which of its platforms.
    pub platform: Platform,
}

/// The configs of base images.
#[derive(Debug, Clone, Default)]
pub struct Facts(BTreeMap<BaseImage, ImageConfig>);

impl Facts {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the config of an image.
    pub fn insert(&mut self, image: BaseImage, config: ImageConfig) {
        self.0.insert(image, config);
    }

    pub(crate) fn get(&self, image: &BaseImage) -> Option<&ImageConfig> {
        self.0.get(image)
    }
}

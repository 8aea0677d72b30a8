//! A build: Dockerfile text → AST → stages → graph → schedule → layers → image → outputs.

pub(crate) mod agents;
mod attest;
mod bases;
mod caches;
mod config;
pub(crate) mod context;
mod crew;
mod epoch;
pub(crate) mod failure;
mod named;
pub(crate) mod outputs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use lap_cache::image::assemble::{AssembleOptions, Blobs, assemble};
use lap_cache::image::{Artifact, Image, Reference};
use lap_cache::store::Lease;
use lap_executor::emulation::Emulators;
use lap_executor::grant::Grants;
use lap_executor::network::Network;
use lap_executor::sandbox::{Limits, Rlimit};
use lap_executor::source::local::LocalSource;
use lap_executor::worker::{BuildWorker, Commits, Options as WorkerOptions, Output as StepOutput, Uplink, WorkerError};
use lap_frontend::outline::Outline;
use lap_frontend::{Code, Diagnostic, Lowered, NamedContext, Severity, TargetContext};
use lap_solver::drive::{Limits as DriveLimits, Solution, SolveError, solve};
use lap_solver::event::{Event, Events};
use lap_solver::graph::{Builder, Graph, Metadata, Op, Source, VertexId};
use lap_solver::intent::ImageIntent;
use lap_solver::pattern::Matcher;
use lap_solver::platform::Platform;
use serde_json::Value;

use crate::args::{Annotation, Attestations, CacheFrom, CacheTo, KeyValue, Level, Output, Place};
use crate::command::App;
use crate::exit::WithCode;
use crate::signal::{Interrupt, exit_code};
use crate::ui::Screen;
use crate::ui::error::Shown;

use attest::Attester;
use bases::Resolver;
use caches::Caches;
pub(crate) use context::{Context, Fetched, Opener, read_inside};
use crew::Crew;
pub(crate) use epoch::settle as settle_epoch;
pub(crate) use failure::Located;
pub(crate) use outputs::{no_terminal, to_file, to_stdout};

/// What a build was asked for.
pub(crate) struct Request {
    /// Name of the Dockerfile in messages.
    pub(crate) file_name: String,
    pub(crate) text: Vec<u8>,
    /// Where the context was fetched from; none for one of this machine.
    pub(crate) origin: Option<Source>,
    pub(crate) options: lap_frontend::Options,
    /// Contexts: name in the graph, directory, ignore patterns.
    pub(crate) directories: Vec<(String, PathBuf, Vec<String>)>,
    /// Keeps contexts that were fetched in the store.
    pub(crate) _lease: Option<Lease>,
    pub(crate) names: Vec<Reference>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) push: bool,
    /// Whether registries are asked for images that the store has.
    pub(crate) pull: bool,
    /// Build caches of elsewhere that are read,
    pub(crate) cache_from: Vec<CacheFrom>,
    /// and written.
    pub(crate) cache_to: Vec<CacheTo>,
    pub(crate) mirrors: Vec<KeyValue>,
    pub(crate) secrets: Vec<String>,
    pub(crate) ssh: Vec<String>,
    pub(crate) allow: Vec<String>,
    pub(crate) host_network: bool,
    pub(crate) add_hosts: Vec<(String, String)>,
    pub(crate) limits: Limits,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) cgroup_parent: Option<String>,
    /// What is built for; more than one give an index.
    pub(crate) platforms: Vec<Platform>,
    /// Of every image that is written out or kept.
    pub(crate) annotations: Vec<Annotation>,
    /// Whether layers made here get times that do not depend on when they were made.
    pub(crate) reproducible: bool,
    /// The time, since 1970, that the build pretends it is; see [`settle_epoch`].
    pub(crate) epoch: Option<Duration>,
    pub(crate) attestations: Attestations,
    /// When the build was asked for.
    pub(crate) started: SystemTime,
}

impl Request {
    /// What is attached at a level to the image of a platform, of `--annotation` and of an output.
    fn annotations(&self, output: Option<&Output>, level: Level, platform: &Platform) -> BTreeMap<String, String> {
        let of_output = output.into_iter().flat_map(|output| &output.annotations);
        let all = self.annotations.iter().chain(of_output);
        let wanted = all.filter(|annotation| {
            annotation.level == level && annotation.platform.as_ref().is_none_or(|own| own == platform)
        });
        wanted.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
    }

    /// Whether anything is attached to an index.
    fn index_annotations(&self, output: Option<&Output>) -> bool {
        let of_output = output.into_iter().flat_map(|output| &output.annotations);
        let mut all = self.annotations.iter().chain(of_output);
        all.any(|annotation| matches!(annotation.level, Level::Index | Level::IndexDescriptor))
    }

    /// Whether the image holds what a later build needs to take its layers as results.
    fn inline_cache(&self) -> bool {
        let asked = self.options.build_args.get("BUILDKIT_INLINE_CACHE");
        asked.is_some_and(|value| value == "1" || value == "true")
            || self.cache_to.iter().any(|to| to.place == Place::Inline)
    }

    /// Whether any result has other times than the steps made.
    fn rewrites_times(&self) -> bool {
        self.reproducible || self.outputs.iter().any(|output| output.rewrite_timestamp)
    }
}

/// What came of it.
pub(crate) struct Built {
    pub(crate) image: Image,
    /// What the names stand for: the image, or an index of it and its attestations.
    pub(crate) artifact: Artifact,
    pub(crate) names: Vec<Reference>,
    /// Names the build, as in its provenance.
    pub(crate) invocation: String,
    /// What is told of the build of each platform in metadata, where it was asked for.
    pub(crate) provenance: Vec<(Platform, Value)>,
}

/// Findings about a Dockerfile that stop a build, shown with their source.
fn refuse(request: &Request, findings: &[Diagnostic], color: bool) -> anyhow::Error {
    let source = lap_frontend::source::Source::new(&request.file_name, &request.text);
    let errors: Vec<&Diagnostic> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let shown = errors.iter().map(|finding| crate::ui::diagnostic::render(finding, source.text(), color)).collect();
    let line = errors.first().map_or_else(String::new, |finding| format!("failed to solve: {}", finding.text()));
    Shown { shown, line, findings: findings.to_vec() }.into()
}

/// What is known of a Dockerfile without building it.
pub(crate) struct Analysis {
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) outline: Outline,
}

/// Checks a Dockerfile.
///
/// # Errors
/// Faults that stop a build, as [`Shown`]; base images that cannot be had.
pub(crate) fn analyse(app: &App, request: &Request) -> anyhow::Result<Analysis> {
    crate::registry::block_on(async {
        let mut resolver = Resolver::new(app, request, Events::none())?;
        let lowered = lower(app, request, &request.options, &mut resolver).await?;
        Ok(Analysis { warnings: lowered.warnings, outline: lowered.outline })
    })
}

/// The stages of a Dockerfile.
pub(crate) fn targets(app: &App, request: &Request) -> anyhow::Result<Vec<lap_frontend::Target>> {
    let parsed = lap_frontend::parse(&request.file_name, &request.text);
    if parsed.diagnostics.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(refuse(request, &parsed.diagnostics, app.settings.color));
    }
    Ok(lap_frontend::targets(&parsed.dockerfile))
}

/// The graph of a build, without running it.
pub(crate) fn graph(app: &App, request: &Request, screen: &Screen) -> anyhow::Result<Graph> {
    crate::registry::block_on(async {
        let mut resolver = Resolver::new(app, request, screen.events())?;
        Ok(lower(app, request, &request.options, &mut resolver).await?.graph)
    })
}

/// One of several requests that are solved together.
pub(crate) struct Job<'a> {
    pub(crate) request: &'a Request,
    /// Told with each of its steps; empty where it is alone.
    pub(crate) name: String,
    /// Contexts that are the results of jobs before it: the context's name, and which job.
    pub(crate) linked: Vec<(String, usize)>,
    /// Whether the result goes anywhere, or only others use it.
    pub(crate) wanted: bool,
}

/// Builds one.
pub(crate) fn build(app: &App, request: &Request, screen: &Screen) -> anyhow::Result<Built> {
    let job = Job { request, name: String::new(), linked: Vec::new(), wanted: true };
    let built = build_all(app, &[job], screen)?.into_iter().flatten().next();
    built.context("internal error: a build ended without a result")
}

/// Builds several as one graph: side by side where nothing is between them, and equal steps once. Local sources that
/// have one name must be one directory: see [`tell_apart`].
///
/// One result a job, in order; none for those whose result is not wanted.
pub(crate) fn build_all(app: &App, jobs: &[Job<'_>], screen: &Screen) -> anyhow::Result<Vec<Option<Built>>> {
    let Some(first) = jobs.first() else { return Ok(Vec::new()) };
    let outputs: Vec<Output> = jobs.iter().flat_map(|job| &job.request.outputs).cloned().collect();
    outputs::check_streams(&outputs)?;
    for job in jobs {
        outputs::check_deletes(job.request)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        let interrupt = Interrupt::listen()?;
        let events = screen.events();
        let _lease = app.store()?.lease()?;
        let mut resolver = Resolver::new(app, first.request, events.clone())?;
        let merged = tokio::select! {
            merged = merge(app, jobs, &mut resolver) => merged?,
            () = interrupt.asked() => return Err(interrupted()),
        };
        let graph = Arc::new(merged.graph);
        screen.set_graph(Arc::clone(&graph));
        warn(&merged.warnings, &events);
        let requests: Vec<&Request> = jobs.iter().map(|job| job.request).collect();
        let contexts = contexts(&requests)?;
        let uplink = uplink(app, &graph, &events)?;
        let commits = Commits::default();
        let emulators = Arc::new(Emulators::new(app.settings.programs.clone()));
        let caches = Caches::new(app, jobs, &merged.images, &graph, &events)?;
        let crew = Crew::new(&requests, merged.owners, |request| {
            let mut options = worker_options(app, request, &resolver, &events)?;
            (options.contexts, options.uplink) = (contexts.clone(), uplink.clone());
            options.commits = commits.clone();
            options.emulators = Arc::clone(&emulators);
            (options.imports, options.exports) = (caches.imports.clone(), caches.exports.clone());
            Ok(BuildWorker::new(options))
        })?;

        let targets: Vec<VertexId> = merged.images.iter().flatten().filter_map(|image| image.root).collect();
        let told = caches.told();
        let solution = loop {
            let (graph, executor, index) = (Arc::clone(&graph), Arc::clone(&crew), Arc::clone(&crew));
            let limits = DriveLimits::default();
            let mut solved = solve(graph, &targets, executor, index, &told, limits, interrupt.asked()).await;
            if let Ok(solution) = &solved {
                // A result outlives the caches that it came from.
                let fetched = tokio::select! {
                    fetched = ensure_imported(jobs, &merged.images, &crew, solution) => fetched,
                    () = interrupt.asked() => return Err(interrupted()),
                };
                if let Err((vertex, error)) = fetched {
                    solved = Err(SolveError::Step { vertex, error });
                }
            }
            match solved {
                // Without what a cache has named and does not have.
                Err(error) if caches.recovers(&error) => {}
                solved => break solved,
            }
        };
        if let Uplink::Bridge(network) = &uplink {
            // Its end takes a while in the kernel and nobody needs it any more.
            network.let_go();
        }
        let solution = solution.map_err(|error| match error {
            SolveError::Cancelled => interrupted(),
            error => {
                let owner = if let SolveError::Step { vertex, .. } = &error { crew.owner(*vertex) } else { 0 };
                let request = jobs.get(owner).unwrap_or(first).request;
                failure::step(error, &graph, &request.file_name, &request.text)
            }
        })?;

        caches.prepare(&solution, &merged.images).await?;
        let mut built = Vec::with_capacity(jobs.len());
        for (index, (job, images)) in jobs.iter().zip(&merged.images).enumerate() {
            if !job.wanted {
                built.push(None);
                continue;
            }
            let solved = Solved { graph: &graph, solution: &solution, intents: images };
            let finish = finish(app, job.request, &solved, crew.worker(index), &resolver, &caches, &events);
            built.push(Some(tokio::select! {
                built = finish => built?,
                () = interrupt.asked() => return Err(interrupted()),
            }));
        }
        tokio::select! {
            finished = caches.finish() => finished?,
            () = interrupt.asked() => return Err(interrupted()),
        }
        Ok(built)
    })
}

/// Brings the layers of wanted results into the store that only a build cache has.
async fn ensure_imported(
    jobs: &[Job<'_>],
    images: &[Vec<ImageIntent>],
    crew: &Crew,
    solution: &Solution<StepOutput>,
) -> Result<(), (VertexId, WorkerError)> {
    for (index, (_, images)) in jobs.iter().zip(images).enumerate().filter(|(_, (job, _))| job.wanted) {
        for root in images.iter().filter_map(|image| image.root) {
            if let Some(snapshot) = solution.outputs.get(&root).and_then(StepOutput::snapshot) {
                crew.worker(index).ensure_imported(snapshot).await.map_err(|error| (root, error))?;
            }
        }
    }
    Ok(())
}

/// The graphs of several requests as one.
struct Merged {
    graph: Graph,
    /// Of each job, one a platform.
    images: Vec<Vec<ImageIntent>>,
    warnings: Vec<Diagnostic>,
    /// The first job that needs each vertex.
    owners: Vec<usize>,
}

async fn merge(app: &App, jobs: &[Job<'_>], resolver: &mut Resolver<'_>) -> anyhow::Result<Merged> {
    let (mut targets, mut warnings) = (Vec::<Vec<Arc<TargetContext>>>::new(), Vec::new());
    for job in jobs {
        resolver.set_pull(job.request.pull);
        let mut of_job = Vec::new();
        for platform in &job.request.platforms {
            let mut options = job.request.options.clone();
            options.platform = platform.clone();
            for (name, index) in &job.linked {
                let built = targets.get(*index).map(Vec::as_slice).unwrap_or_default();
                let target = built.iter().find(|target| target.image.platform == *platform).or_else(|| built.first());
                let target = target.context("internal error: a target is linked before it is lowered")?;
                options.contexts.insert(name.clone(), NamedContext::Target(Arc::clone(target)));
            }
            let lowered = lower(app, job.request, &options, resolver).await?;
            if of_job.is_empty() {
                warnings.extend(lowered.warnings);
            }
            of_job.push(Arc::new(TargetContext { graph: lowered.graph, image: lowered.image }));
        }
        targets.push(of_job);
    }
    let (mut builder, mut images, mut owners) = (Builder::new(), Vec::new(), Vec::new());
    for (index, (job, targets)) in jobs.iter().zip(&targets).enumerate() {
        let mut of_job = Vec::new();
        for (platform, target) in job.request.platforms.iter().zip(targets) {
            // Steps that do not depend on the platform are one, and bear the name of the first.
            let mut name = job.name.clone();
            if targets.len() > 1 {
                name = format!("{name} {platform}").trim_start().to_owned();
            }
            let places = builder.import(&target.graph, |metadata| named(metadata, &name));
            owners.resize(builder.graph().vertices().len(), index);
            check_secrets(jobs, index, builder.graph(), places.places(), &owners)?;
            of_job.push(target.image.moved(&places));
        }
        images.push(of_job);
    }
    Ok(Merged { graph: builder.finish(), images, warnings, owners })
}

/// A step that two jobs share is one, so the secrets that it depends on must be the same in both.
fn check_secrets(
    jobs: &[Job<'_>],
    index: usize,
    graph: &Graph,
    places: &[VertexId],
    owners: &[usize],
) -> anyhow::Result<()> {
    for place in places {
        let (Op::Exec(exec), Some(owner)) = (&graph.vertex(*place).op, owners.get(place.index())) else { continue };
        let (one, two) = (jobs[*owner].request, jobs[index].request);
        if one.secrets != two.secrets && !exec.keyed_secrets().is_empty() {
            bail!(
                "targets {} and {} share the step {:?}, which depends on a secret (cache=hash), and give other \
                 secrets: build them one after the other",
                jobs[*owner].name,
                jobs[index].name,
                graph.vertex(*place).metadata.name
            );
        }
    }
    Ok(())
}

/// A step as it is told beside those of other jobs: `[app build 2/3] RUN make`.
fn named(metadata: &Metadata, job: &str) -> Metadata {
    let mut metadata = metadata.clone();
    if !job.is_empty() {
        let stage = metadata.stage.take().filter(|stage| !stage.is_empty());
        metadata.stage = Some(stage.map_or_else(|| job.to_owned(), |stage| format!("{job} {stage}")));
    }
    metadata
}

/// Gives each directory of several requests a name of its own, as one graph needs it.
pub(crate) fn tell_apart(requests: &mut [Request]) {
    let mut seen: Vec<(String, PathBuf, Vec<String>)> = Vec::new();
    for request in requests {
        for (name, dir, ignore) in &mut request.directories {
            let known = seen.iter().find(|(_, other, patterns)| other == dir && patterns == ignore);
            let unique = match known {
                Some((unique, _, _)) => unique.clone(),
                None => {
                    let taken = |name: &str| seen.iter().any(|(other, _, _)| other == name);
                    let mut unique = format!("directory {}", dir.display());
                    // One directory may be read with several ignore files.
                    while taken(&unique) {
                        unique.push('\'');
                    }
                    seen.push((unique.clone(), dir.clone(), ignore.clone()));
                    unique
                }
            };
            let rename = |source: &mut Source| {
                if let Source::Local { name: own } = source
                    && own == name
                {
                    own.clone_from(&unique);
                }
            };
            rename(&mut request.options.context);
            for context in request.options.contexts.values_mut() {
                if let NamedContext::Files(source) = context {
                    rename(source);
                }
            }
            *name = unique;
        }
    }
}

fn interrupted() -> anyhow::Error {
    WithCode::wrap(exit_code(), anyhow::anyhow!("interrupted: finished steps are kept"))
}

/// Text to graph. Base images are asked for as they become known: triggers of one may name others.
async fn lower(
    app: &App,
    request: &Request,
    options: &lap_frontend::Options,
    resolver: &mut Resolver<'_>,
) -> anyhow::Result<Lowered> {
    let color = app.settings.color;
    let parsed = lap_frontend::parse(&request.file_name, &request.text);
    if parsed.diagnostics.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(refuse(request, &parsed.diagnostics, color));
    }
    let stages =
        lap_frontend::stages(&parsed.dockerfile, options).map_err(|findings| refuse(request, &findings, color))?;
    loop {
        let missing =
            stages.base_images(resolver.facts(), options).map_err(|findings| refuse(request, &findings, color))?;
        if missing.is_empty() {
            break;
        }
        resolver.resolve(&missing).await.map_err(|(image, error)| failure::base(error, &image, request))?;
    }
    let lowered = lap_frontend::lower(&stages, resolver.facts(), options)
        .map_err(|findings| refuse(request, &findings, color))?;
    let copied_from = bases::images_of(&lowered.graph);
    resolver.resolve(&copied_from).await.map_err(|(image, error)| failure::base(error, &image, request))?;
    Ok(lowered)
}

fn warn(findings: &[Diagnostic], events: &Events) {
    for finding in findings {
        let (message, file, line) = (finding.message.clone(), finding.file.clone(), finding.position.line);
        events.send(match &finding.code {
            Code::Rule(rule) => Event::Finding { rule: rule.clone(), message, file, line },
            Code::Syntax | Code::Meaning => {
                Event::Warning { vertex: None, message: format!("{message} ({file}:{line})") }
            }
        });
    }
}

/// Every local source of several requests.
fn contexts(requests: &[&Request]) -> anyhow::Result<BTreeMap<String, LocalSource>> {
    let mut contexts = BTreeMap::new();
    for (name, dir, patterns) in requests.iter().flat_map(|request| &request.directories) {
        let ignore = Matcher::new(patterns)
            .with_context(|| format!("the ignore file of {} has a pattern that cannot be read", dir.display()))?;
        contexts.insert(name.clone(), LocalSource { dir: dir.clone(), ignore });
    }
    Ok(contexts)
}

/// How the steps of a request run; contexts and network are those of the whole solve.
fn worker_options(
    app: &App,
    request: &Request,
    resolver: &Resolver<'_>,
    events: &Events,
) -> anyhow::Result<WorkerOptions> {
    let mut options = WorkerOptions::new(app.store()?.clone());
    options.bases = resolver.bases();
    options.registry = resolver.client().clone();
    options.grants = Grants {
        secrets: outputs::secrets(&request.secrets)?,
        ssh: app.agents.sockets(&app.settings, &request.ssh)?,
        known_hosts: app.settings.known_hosts.clone(),
        network_host: request.host_network || request.allow.iter().any(|word| word == "network.host"),
        insecure: request.allow.iter().any(|word| word == "security.insecure"),
    };
    options.add_hosts.clone_from(&request.add_hosts);
    options.limits = request.limits.clone();
    options.rlimits.clone_from(&request.rlimits);
    options.shm_size = request.shm_size;
    options.cgroup_parent.clone_from(&request.cgroup_parent);
    options.events = events.clone();
    Ok(options)
}

/// What the default network is on this machine; opened only where a step uses it.
fn uplink(app: &App, graph: &Graph, events: &Events) -> anyhow::Result<Uplink> {
    let used = graph
        .vertices()
        .iter()
        .any(|vertex| matches!(&vertex.op, Op::Exec(exec) if exec.network == lap_solver::graph::Network::Default));
    if !used {
        return Ok(Uplink::None);
    }
    if app.settings.rootless {
        let message = "RUN steps use the machine's own network: a user cannot make a bridge".to_owned();
        events.send(Event::Warning { vertex: None, message });
        return Ok(Uplink::Host);
    }
    Ok(Uplink::Bridge(Network::open(&app.settings.run_dir).context("cannot prepare the network of RUN steps")?))
}

/// A solved graph, and the images that one request wants of it.
struct Solved<'a> {
    graph: &'a Graph,
    solution: &'a Solution<StepOutput>,
    intents: &'a [ImageIntent],
}

/// Layers to images to everywhere it was asked for.
async fn finish(
    app: &App,
    request: &Request,
    &Solved { graph, solution, intents }: &Solved<'_>,
    worker: &Arc<BuildWorker>,
    resolver: &Resolver<'_>,
    caches: &Caches,
    events: &Events,
) -> anyhow::Result<Built> {
    let store = app.store()?;
    let mut parts = Vec::new();
    for intent in intents {
        let root = intent.root.and_then(|root| solution.outputs.get(&root)).and_then(StepOutput::snapshot);
        let snapshot = root.cloned().unwrap_or_default();
        let made = snapshot.diff_ids();
        let mut config = config::complete(store, graph, intent, solution, &made, request.epoch)?;
        let rewritten = match request.epoch {
            Some(epoch) if request.rewrites_times() => {
                epoch::retimed(store, &made, epoch, solution, resolver, &caches.imports)?
            }
            _ => made.clone(),
        };
        let layers = if request.reproducible { rewritten.clone() } else { made.clone() };
        let twins = made.into_iter().zip(layers.iter().copied()).collect();
        caches.inline(request, graph, intent, &mut config, &twins)?;
        let commits = worker.commits();
        let warned = AtomicBool::new(false);
        let attester = Attester { store, request, graph, intent, solution, resolver, commits, events, warned };
        parts.push(outputs::Part { snapshot, layers, rewritten, config, platform: &intent.platform, attester });
    }
    let outputs = outputs::Outputs { app, request, parts: &parts, worker, resolver, events };
    let (written, called) = outputs.write().await?;
    let artifact = match (written, parts.as_slice()) {
        (Some(written), _) => written,
        (None, [part]) if !part.attester.is_asked() => {
            let annotations = request.annotations(None, Level::Manifest, part.platform);
            let deferred = AssembleOptions { blobs: Blobs::Deferred, annotations, ..AssembleOptions::default() };
            let image = assemble(store, &part.layers, part.config.clone(), &deferred, events);
            image.context("cannot put the image together")?.into()
        }
        (None, _) => outputs.whole().await?,
    };
    let first = artifact.runnable().first().map(|image| (*image).clone());
    let image = first.context("internal error: a build ended without an image")?;
    let mut names = request.names.clone();
    names.extend(called.into_iter().filter(|name| !request.names.contains(name)));
    if names.is_empty() {
        store.keep(artifact.descriptor())?;
    }
    for name in &names {
        store.name_point(name, artifact.descriptor())?;
    }
    let mut provenance = Vec::new();
    if let Some(mode) = app.settings.metadata_provenance {
        let told = |part: &outputs::Part<'_>| Some((part.platform.clone(), part.attester.metadata(mode)?));
        provenance.extend(parts.iter().filter_map(told));
    }
    let invocation = parts.first().map(|part| part.attester.invocation()).unwrap_or_default();
    Ok(Built { image, artifact, names, invocation, provenance })
}

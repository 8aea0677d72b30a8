//! The build caches of elsewhere that a build reads and writes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use lap_cache::digest::Digest;
use lap_cache::registry::Client;
use lap_cache::remote::{
    Backend, Exports, GhaCache, INLINE_FIELD, Imports, LocalCache, Lost, Part, Protocol, RegistryCache, S3Cache,
    S3Options, Source, Target,
};
use lap_cache::store::Store;
use lap_executor::worker::{Output, WorkerError};
use lap_frontend::go::parse_bool;
use lap_solver::drive::{Solution, SolveError};
use lap_solver::event::{Event, Events};
use lap_solver::graph::{Graph, Op, VertexId};
use lap_solver::image::ImageConfig;
use lap_solver::intent::ImageIntent;

use super::{Job, Request};
use crate::args::{Bucket, CacheFrom, CacheTo, Place};
use crate::command::App;
use crate::settings::variable;

/// The caches of one solve.
pub(super) struct Caches {
    pub(super) imports: Imports,
    pub(super) exports: Option<Exports>,
    events: Events,
}

impl Caches {
    /// Those of all `jobs`; `images` are what the jobs make of `graph`, one a platform.
    ///
    /// # Errors
    /// Where a name is none, or the user's logins cannot be read.
    pub(super) fn new(
        app: &App,
        jobs: &[Job<'_>],
        images: &[Vec<ImageIntent>],
        graph: &Graph,
        events: &Events,
    ) -> anyhow::Result<Self> {
        let store = app.store()?;
        let mut opener = Opener { app, store, client: None, events };
        let mut sources: Vec<Source> = Vec::new();
        let mut targets: Vec<Target> = Vec::new();
        let mut definitions = BTreeSet::new();
        for (job, images) in jobs.iter().zip(images) {
            let request = job.request;
            let parts: Vec<Part> = images.iter().filter_map(|image| part(graph, image.root?)).collect();
            definitions.extend(parts.iter().map(|part| part.definition));
            for CacheFrom { place, mounts } in &request.cache_from {
                let Some(backend) = opener.open(place, request)? else { continue };
                match sources.iter_mut().find(|source| source.backend.label() == backend.label()) {
                    Some(source) => source.mounts |= mounts,
                    None => sources.push(Source { backend, by_step: true, mounts: *mounts }),
                }
            }
            for to in &request.cache_to {
                let Some(backend) = opener.open(&to.place, request)? else { continue };
                let same = |target: &&mut Target| target.backend.label() == backend.label() && target.mode == to.mode;
                if let Some(target) = targets.iter_mut().find(same) {
                    target.parts.extend(parts.clone());
                    target.mounts |= to.mounts;
                    continue;
                }
                let &CacheTo { mode, packing, ignore_error, mounts, .. } = to;
                targets.push(Target { backend, mode, packing, parts: parts.clone(), mounts, ignore_error });
            }
        }
        let imports = Imports::new(store, sources, definitions.into_iter().collect(), events);
        let inline = jobs.iter().any(|job| job.request.inline_cache());
        let exports = (inline || !targets.is_empty()).then(|| Exports::new(store, targets, imports.clone()));
        Ok(Self { imports, exports, events: events.clone() })
    }

    /// Whether a solve ended because a cache does not have what it named, and another one can do without.
    pub(super) fn recovers(&self, error: &SolveError<WorkerError>) -> bool {
        match error {
            SolveError::Step { error: WorkerError::CacheLost(lost), .. } => self.imports.recover(lost),
            _ => false,
        }
    }

    /// What the solve tells, without failures that [`Self::recovers`] makes good.
    pub(super) fn told(&self) -> Events {
        let events = self.events.clone();
        let lost = Lost::default().to_string();
        Events::new(move |event| match event {
            Event::Failed { message, .. } if message == lost => {}
            event => events.send(event),
        })
    }

    /// Makes the blobs that the exported layers of `solution` have, before an image is put together of them.
    pub(super) async fn prepare(&self, solution: &Solution<Output>, images: &[Vec<ImageIntent>]) -> anyhow::Result<()> {
        let Some(exports) = self.exports.clone().filter(|exports| !exports.is_empty()) else { return Ok(()) };
        let roots = images.iter().flatten().filter_map(|image| solution.outputs.get(&image.root?)?.snapshot());
        let layers: BTreeSet<Digest> = roots.flat_map(|snapshot| snapshot.diff_ids()).collect();
        let layers: Vec<Digest> = layers.into_iter().collect();
        let made = tokio::task::spawn_blocking(move || exports.prepare(&layers)).await?;
        made.context("cannot make the blobs of the build cache")
    }

    /// Waits until everything is sent. What failed is told.
    ///
    /// # Errors
    /// The first failure that the user does not want ignored.
    pub(super) async fn finish(&self) -> anyhow::Result<()> {
        let Some(exports) = &self.exports else { return Ok(()) };
        let mut first = Ok(());
        for failed in exports.finish().await {
            if failed.ignore || first.is_err() {
                let message = format!("cannot {} {}: {}", failed.act, failed.label, failed.error.chain());
                self.events.send(Event::Warning { vertex: None, message });
            } else {
                first = Err(failed.error).with_context(|| format!("cannot {} {}", failed.act, failed.label));
            }
        }
        first
    }

    /// Puts the inline cache into a config where the request wants one. That of the base image is not ours.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn inline(
        &self,
        request: &Request,
        graph: &Graph,
        image: &ImageIntent,
        config: &mut ImageConfig,
        twins: &HashMap<Digest, Digest>,
    ) -> anyhow::Result<()> {
        config.other.remove(INLINE_FIELD);
        let part = image.root.and_then(|root| part(graph, root));
        if let (true, Some(exports), Some(part)) = (request.inline_cache(), &self.exports, part) {
            let twin = |layer: &Digest| twins.get(layer).copied().unwrap_or(*layer);
            let document = exports.inline(&part, twin, request.epoch.is_some())?;
            config.other.insert(INLINE_FIELD.to_owned(), serde_json::to_value(document)?);
        }
        Ok(())
    }
}

/// What is exported of the graph for a result.
fn part(graph: &Graph, root: VertexId) -> Option<Part> {
    let definition = |id: VertexId| graph.vertex(id).definition;
    let steps = graph.reachable(&[root]).into_iter().map(definition).collect();
    let (mut result, mut open) = (HashSet::new(), vec![root]);
    while let Some(id) = open.pop() {
        let vertex = graph.vertex(id);
        if !result.insert(vertex.definition) {
            continue;
        }
        let root = match &vertex.op {
            Op::Exec(exec) => exec.root,
            Op::File(file) => file.root,
            Op::Merge => {
                open.extend(&vertex.inputs);
                None
            }
            Op::Source(_) => None,
        };
        open.extend(root.and_then(|root| vertex.inputs.get(root as usize)));
    }
    Some(Part { definition: definition(root), steps, result })
}

/// Opens caches; logins are read when the first one needs them.
struct Opener<'a> {
    app: &'a App,
    store: &'a Store,
    client: Option<Client>,
    events: &'a Events,
}

/// The options of a bucket, with what the environment has to say.
fn s3(bucket: &Bucket) -> anyhow::Result<S3Options> {
    let from = |given: &Option<String>, names: &[&str]| {
        given.clone().filter(|value| !value.is_empty()).or_else(|| names.iter().find_map(|name| variable(name)))
    };
    let region = from(&bucket.region, &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let id = from(&bucket.access_key_id, &["AWS_ACCESS_KEY_ID"]);
    let secret = from(&bucket.secret_access_key, &["AWS_SECRET_ACCESS_KEY"]);
    Ok(S3Options {
        bucket: from(&bucket.bucket, &["AWS_BUCKET"]).context("type=s3: bucket= is missing")?,
        region: region.context("type=s3: region= is missing, and AWS_REGION is not set")?,
        endpoint: bucket.endpoint.clone(),
        path_style: bucket.path_style,
        prefix: bucket.prefix.clone(),
        blobs_prefix: bucket.blobs_prefix.clone(),
        manifests_prefix: bucket.manifests_prefix.clone(),
        names: bucket.names.clone(),
        access_key_id: id.context("type=s3: no access_key_id=, and AWS_ACCESS_KEY_ID is not set")?,
        secret_access_key: secret.context("type=s3: no secret_access_key=, and AWS_SECRET_ACCESS_KEY is not set")?,
        session_token: from(&bucket.session_token, &["AWS_SESSION_TOKEN"]),
    })
}

impl Opener<'_> {
    /// Nothing for a place that is no backend.
    fn open(&mut self, place: &Place, request: &Request) -> anyhow::Result<Option<Arc<dyn Backend>>> {
        Ok(Some(match place {
            Place::Inline => return Ok(None),
            Place::Registry { reference, form } => {
                let reference = crate::image::reference(reference).context("the name of a build cache")?;
                let client = self.client()?;
                let (platforms, store) = (request.platforms.clone(), self.store.clone());
                Arc::new(RegistryCache::new(client, reference, platforms, store, *form))
            }
            Place::Local { dir, selected, form, reset } => {
                Arc::new(LocalCache::new(dir, selected.clone()).written_as(*form, *reset))
            }
            Place::Gha { url, url_v2, token, scope } => {
                // Runners write "True".
                let second = || variable("ACTIONS_CACHE_SERVICE_V2").and_then(|text| parse_bool(&text)) == Some(true);
                let results = || variable("ACTIONS_RESULTS_URL").filter(|_| second());
                let v2 = url_v2.clone().or_else(|| results().filter(|_| url.is_none()));
                let v1 = url.clone().or_else(|| variable("ACTIONS_CACHE_URL"));
                let address = v2.map(|url| (Protocol::V2, url)).or_else(|| v1.map(|url| (Protocol::V1, url)));
                let token = token.clone().or_else(|| variable("ACTIONS_RUNTIME_TOKEN"));
                let (Some((protocol, url)), Some(token)) = (address, token) else {
                    // As buildx: the same command is of use outside of a workflow.
                    let message = "type=gha is left out: ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL (with \
                        ACTIONS_CACHE_SERVICE_V2) or ACTIONS_CACHE_URL are only set in steps of a workflow that pass them \
                        on"
                    .to_owned();
                    self.events.send(Event::Warning { vertex: None, message });
                    return Ok(None);
                };
                Arc::new(GhaCache::new(self.client()?, protocol, &url, token, scope).context("type=gha")?)
            }
            Place::S3(bucket) => Arc::new(S3Cache::new(self.client()?, s3(bucket)?).context("type=s3")?),
        }))
    }

    fn client(&mut self) -> anyhow::Result<Client> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::new(crate::registry::impatient(&self.app.settings)?);
        self.client = Some(client.clone());
        Ok(client)
    }
}

//! Attestations of a build's result: where it came from and what it holds, as asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lap_cache::digest::Digest;
use lap_cache::export::file_digests;
use lap_cache::image::attest::{Form, Predicate, Subject, attested, statement};
use lap_cache::image::{Artifact, Image, Reference};
use lap_cache::layer::View;
use lap_cache::sbom;
use lap_cache::store::Store;
use lap_executor::worker::Output as StepOutput;
use lap_frontend::NamedContext;
use lap_solver::digest::Key;
use lap_solver::drive::Solution;
use lap_solver::event::{Event, Events};
use lap_solver::graph::{Graph, Op, Source, VertexId};
use lap_solver::intent::ImageIntent;
use lap_solver::platform::Platform;
use lap_solver::provenance::{self, Facts, Mode, Resolved};
use lap_solver::purl::Purl;
use serde_json::Value;

use super::Request;
use super::bases::Resolver;
use crate::args::{Level, Output};
use crate::ui::table::rfc3339;

/// Makes what a request asks to be attested.
pub(super) struct Attester<'a> {
    pub(super) store: &'a Store,
    pub(super) request: &'a Request,
    pub(super) graph: &'a Graph,
    pub(super) intent: &'a ImageIntent,
    pub(super) solution: &'a Solution<StepOutput>,
    pub(super) resolver: &'a Resolver<'a>,
    /// By URL and ref.
    pub(super) commits: BTreeMap<(String, String), String>,
    pub(super) events: &'a Events,
    /// Whether it was told that something could not be read; once is enough for all outputs.
    pub(super) warned: AtomicBool,
}

impl Attester<'_> {
    /// Whether anything was asked for.
    pub(super) const fn is_asked(&self) -> bool {
        self.request.attestations.any()
    }

    /// An image with its attestations beside it; the image alone where none were asked for. Its layers are in the
    /// store as `layers`, and its manifest is final: statements name its digest. The index gets the annotations of the
    /// output only where it is `alone`, not to be taken apart again.
    pub(super) fn artifact(
        &self,
        image: Image,
        layers: &[Digest],
        names: &[Reference],
        output: &Output,
        alone: bool,
    ) -> anyhow::Result<Artifact> {
        if !self.is_asked() {
            return Ok(image.into());
        }
        let platform = image.platform();
        let purl = |name: &Reference| Purl::of_image(&name.to_string(), Some(&platform)).to_string();
        let purls: Vec<String> = names.iter().map(purl).collect();
        let called = names.first().map_or_else(|| image.digest().to_string(), Reference::familiar);
        let created = image.config.created.clone().unwrap_or_default();
        let mut predicates = Vec::new();
        predicates.extend(self.sbom(layers, &called, Some(image.digest()), &created)?);
        predicates.extend(self.provenance(Some((&image, layers))));
        let annotations = self.request.annotations(alone.then_some(output), Level::Index, &platform);
        let form = if output.oci_artifact { Form::Artifact } else { Form::Image };
        let index = attested(self.store, image, &purls, &predicates, form, &annotations);
        Ok(index.context("cannot keep the attestations")?.into())
    }

    /// Files for an output that is a tree: each statement is about all files of the tree.
    pub(super) fn files(
        &self,
        output: &Output,
        layers: &[Digest],
        created: &str,
    ) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        if !self.is_asked() {
            return Ok(Vec::new());
        }
        let digests = file_digests(self.store, layers)?;
        let subjects: Vec<Subject> = digests.into_iter().map(|(name, digest)| Subject { name, digest }).collect();
        let sbom = self.sbom(layers, "rootfs", None, created)?.map(|predicate| ("sbom.spdx.json", predicate));
        let provenance = self.provenance(None).map(|predicate| ("provenance.json", predicate));
        let file = |(name, predicate): (&str, Predicate)| {
            let text = serde_json::to_vec_pretty(&statement(&predicate, &subjects))?;
            Ok((format!("{}{name}", output.attestation_prefix), text))
        };
        sbom.into_iter().chain(provenance).map(file).collect()
    }

    fn sbom(
        &self,
        layers: &[Digest],
        name: &str,
        digest: Option<Digest>,
        created: &str,
    ) -> anyhow::Result<Option<Predicate>> {
        if !self.request.attestations.sbom {
            return Ok(None);
        }
        let view = View::open(self.store, layers).context("cannot read the layers")?;
        let inventory = sbom::inventory(&view).context("cannot list the packages of the image")?;
        if let Some(first) = inventory.notes.first()
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let more = match inventory.notes.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more: see the comment of the document)"),
            };
            let message = format!("the SBOM lacks what could not be read: {first}{more}");
            self.events.send(Event::Warning { vertex: None, message });
        }
        let tool = concat!("lapstrake-", env!("CARGO_PKG_VERSION"));
        let content = sbom::spdx::document(&inventory, &sbom::spdx::Described { name, digest, created, tool });
        Ok(Some(Predicate { kind: sbom::PREDICATE_TYPE.to_owned(), content }))
    }

    /// The provenance predicate for a metadata file, in a mode of its own; nothing where no provenance was asked for.
    pub(super) fn metadata(&self, mode: Mode) -> Option<Value> {
        Some(self.predicate(None, mode)?.content)
    }

    /// The provenance predicate; `image` tells the layers of the steps.
    fn provenance(&self, image: Option<(&Image, &[Digest])>) -> Option<Predicate> {
        self.predicate(image, self.request.attestations.provenance.as_ref()?.mode)
    }

    /// Names the build: the same steps at the same time are the same invocation.
    pub(super) fn invocation(&self) -> String {
        let target = self.intent.root.map(|root| self.graph.vertex(root).definition);
        let started = self.request.epoch.unwrap_or_else(|| since_1970(self.request.started));
        Key::of("invocation", &(target, started.as_nanos().to_string())).to_hex()[..25].to_owned()
    }

    fn predicate(&self, image: Option<(&Image, &[Digest])>, mode: Mode) -> Option<Predicate> {
        let asked = self.request.attestations.provenance.as_ref()?;
        let request = self.request;
        let text = String::from_utf8_lossy(&request.text);
        // A build that pretends it is another time tells that time, and is the same build whenever it is made again.
        let (started, finished) = match request.epoch {
            Some(epoch) => (epoch, epoch),
            None => (since_1970(request.started), since_1970(SystemTime::now())),
        };
        let options = &request.options;
        let facts = Facts {
            graph: self.graph,
            target: self.intent.root,
            file_name: &request.file_name,
            text: &text,
            context: Some(request.origin.as_ref().unwrap_or(&options.context)),
            build_args: &options.build_args,
            labels: &options.labels,
            parameters: parameters(options),
            locals: locals(options),
            resolved: Resolved {
                images: self.resolver.digests(),
                commits: self.commits.clone(),
                files: self.downloads(),
            },
            layers: image.map(|(image, layers)| self.layers(image, layers)).unwrap_or_default(),
            builder_platform: Platform::host(),
            builder_id: asked.builder_id.clone(),
            invocation_id: self.invocation(),
            started_on: rfc3339(started),
            finished_on: rfc3339(finished),
            reproducible: asked.reproducible || request.reproducible,
        };
        let content = provenance::predicate(&facts, mode);
        Some(Predicate { kind: provenance::PREDICATE_TYPE.to_owned(), content })
    }

    /// Digests of the files that were fetched, by URL: each is the one file of its step's result.
    fn downloads(&self) -> BTreeMap<String, String> {
        let of = |(id, output): (&VertexId, &StepOutput)| {
            let Op::Source(Source::Http { url, .. }) = &self.graph.vertex(*id).op else { return None };
            let files = file_digests(self.store, &output.snapshot()?.diff_ids()).ok()?;
            let [(_, digest)] = files.as_slice() else { return None };
            Some((url.clone(), digest.to_string()))
        };
        self.solution.outputs.iter().filter_map(of).collect()
    }

    /// The image's layers after each step, for those steps whose layers are all in the image; `layers` are what the
    /// store knows them as.
    fn layers(&self, image: &Image, layers: &[Digest]) -> BTreeMap<VertexId, Vec<Value>> {
        let of: BTreeMap<Digest, Value> = image
            .layers
            .iter()
            .zip(layers)
            .filter_map(|(layer, own)| Some((*own, serde_json::to_value(&layer.descriptor).ok()?)))
            .collect();
        let steps = self.solution.outputs.iter().filter_map(|(id, output)| {
            let diff_ids = output.snapshot()?.diff_ids();
            let layers: Option<Vec<Value>> = diff_ids.iter().map(|diff_id| of.get(diff_id).cloned()).collect();
            Some((*id, layers.filter(|layers| !layers.is_empty())?))
        });
        steps.collect()
    }
}

fn since_1970(time: SystemTime) -> Duration {
    Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// What was asked for besides arguments and labels, by the names of BuildKit's frontend options.
fn parameters(options: &lap_frontend::Options) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    if let Some(target) = &options.target {
        parameters.insert("target".to_owned(), target.clone());
    }
    if options.no_cache {
        parameters.insert("no-cache".to_owned(), String::new());
    } else if !options.no_cache_filter.is_empty() {
        parameters.insert("no-cache".to_owned(), options.no_cache_filter.join(","));
    }
    for (name, context) in &options.contexts {
        let place = match context {
            NamedContext::Files(Source::Local { .. }) => format!("local:{name}"),
            NamedContext::Files(Source::Git { url, .. } | Source::Http { url, .. }) => url.clone(),
            NamedContext::Files(Source::Image { reference, .. }) | NamedContext::Image(reference) => {
                format!("docker-image://{reference}")
            }
            NamedContext::Target(_) => format!("target:{name}"),
        };
        parameters.insert(format!("context:{name}"), place);
    }
    parameters
}

/// Directories by what the user calls them: their names in the graph may hold paths.
fn locals(options: &lap_frontend::Options) -> BTreeMap<String, String> {
    let mut locals = BTreeMap::new();
    for (name, context) in &options.contexts {
        if let NamedContext::Files(Source::Local { name: own }) = context {
            locals.insert(own.clone(), name.clone());
        }
    }
    if let Source::Local { name } = &options.context {
        locals.insert(name.clone(), "context".to_owned());
    }
    locals
}

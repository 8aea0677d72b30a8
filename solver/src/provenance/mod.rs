//! What a build was made of and how: the predicate of a provenance attestation.
//!
//! The shape is SLSA's provenance v1 as BuildKit fills it (its `docs/attestations/slsa-definitions.md`), so that the
//! same tools read it. Mode `min` names materials and the request without its values; `max` adds steps, source, build
//! arguments and the names of secrets. No mode holds a secret: see [`redact`]. Times and identities are parameters.

pub mod redact;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::graph::{Graph, MountKind, Network, Op, Source, VertexId};
use crate::platform::Platform;
use crate::purl::Purl;
use redact::Redactor;

/// Type of the predicate.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// What tells a reader how to read the fields.
pub const BUILD_TYPE: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// What is safe in any case: materials, platform, times.
    #[default]
    Min,
    /// Also steps, source, build arguments and labels.
    Max,
}

/// What is told of a build. References to vertices are those of `graph`.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The steps.
    pub graph: &'a Graph,
    /// The step that the image is made of; none for an image without layers.
    pub target: Option<VertexId>,
    /// Name of the Dockerfile.
    pub file_name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Where the build comes from. One that was fetched beforehand is a local source of the graph, told as `context`.
    pub context: Option<&'a Source>,
    /// `--build-arg`
    pub build_args: &'a BTreeMap<String, String>,
    /// `--label`
    pub labels: &'a BTreeMap<String, String>,
    /// Other parameters by BuildKit's names (`target`, `no-cache`, `context:NAME`).
    pub parameters: BTreeMap<String, String>,
    /// What local sources of the graph are called where they are told; others keep their names.
    pub locals: BTreeMap<String, String>,
    /// What sources turned out to be.
    pub resolved: Resolved,
    /// Layers that a step's result has in the image.
    pub layers: BTreeMap<VertexId, Vec<Value>>,
    /// The platform that built.
    pub builder_platform: Platform,
    /// Says who built; may be empty.
    pub builder_id: String,
    /// Says which build it was.
    pub invocation_id: String,
    /// RFC 3339.
    pub started_on: String,
    /// RFC 3339.
    pub finished_on: String,
    /// Whether the user says that the build yields the same bytes again.
    pub reproducible: bool,
}

/// Digests of what came from outside.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// `sha256:…` by reference and platform.
    pub images: BTreeMap<(String, String), String>,
    /// Commits by URL and ref (empty for HEAD).
    pub commits: BTreeMap<(String, String), String>,
    /// `sha256:…` by URL.
    pub files: BTreeMap<String, String>,
}

/// The predicate.
#[must_use]
pub fn predicate(facts: &Facts<'_>, mode: Mode) -> Value {
    let steps = facts.target.map(|target| facts.graph.reachable(&[target])).unwrap_or_default();
    let redactor = redactor(facts, &steps);
    let materials = materials(facts, &steps, &redactor);
    let locals = locals(facts, &steps);
    let networked = steps.iter().any(|id| match &facts.graph.vertex(*id).op {
        Op::Exec(exec) => exec.network != Network::None,
        _ => false,
    });
    let complete = locals.is_empty() && materials.iter().all(|material| material.get("digest").is_some());
    let told = mode == Mode::Max || (facts.build_args.is_empty() && facts.labels.is_empty());

    let mut internal = json!({"builderPlatform": facts.builder_platform.to_string()});
    let mut buildkit = Map::new();
    if mode == Mode::Max {
        internal["buildConfig"] = steps::build_config(facts, &steps, &redactor);
        buildkit.insert("source".to_owned(), steps::source(facts, &steps, &redactor));
        if !facts.layers.is_empty() {
            buildkit.insert("layers".to_owned(), layers(facts, &steps));
        }
    }
    let mut metadata = json!({
        "invocationID": facts.invocation_id,
        "startedOn": facts.started_on,
        "finishedOn": facts.finished_on,
        "buildkit_metadata": buildkit,
        "buildkit_completeness": {"request": told, "resolvedDependencies": complete},
    });
    if complete && !networked {
        metadata["buildkit_hermetic"] = true.into();
    }
    if facts.reproducible {
        metadata["buildkit_reproducible"] = true.into();
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "configSource": config_source(facts, &redactor),
                "request": request(facts, &steps, mode, &locals, &redactor),
            },
            "internalParameters": internal,
            "resolvedDependencies": materials,
        },
        "runDetails": {"builder": {"id": facts.builder_id}, "metadata": metadata},
    })
}

/// Knows every secret value that a variable of the build has.
fn redactor(facts: &Facts<'_>, steps: &[VertexId]) -> Redactor {
    let args = facts.build_args.iter().chain(facts.labels).map(|(name, value)| (name.as_str(), value.as_str()));
    let variables = steps.iter().flat_map(|id| match &facts.graph.vertex(*id).op {
        Op::Exec(exec) => exec.env.as_slice(),
        _ => &[],
    });
    Redactor::new(args.chain(variables.filter_map(|entry| entry.split_once('='))))
}

fn config_source(facts: &Facts<'_>, redactor: &Redactor) -> Value {
    let mut value = json!({"path": facts.file_name});
    if let Some(source) = facts.context
        && let Some(material) = material(facts, source, redactor)
    {
        value["uri"] = material["uri"].clone();
        if let Some(digest) = material.get("digest") {
            value["digest"] = digest.clone();
        }
    }
    value
}

fn request(facts: &Facts<'_>, steps: &[VertexId], mode: Mode, locals: &BTreeSet<String>, redactor: &Redactor) -> Value {
    let mut args: BTreeMap<String, String> =
        facts.parameters.iter().map(|(key, value)| (key.clone(), redactor.text(value))).collect();
    let mut request = json!({"frontend": "dockerfile.v0"});
    if mode == Mode::Max {
        // Proxies say something of this machine, not of the build.
        let told = facts.build_args.iter().filter(|(name, _)| !redact::is_proxy(name));
        args.extend(told.map(|(name, value)| (format!("build-arg:{name}"), redactor.value(name, value))));
        let labels = facts.labels.iter();
        args.extend(labels.map(|(name, value)| (format!("label:{name}"), redactor.value(name, value))));
        let (secrets, agents) = grants(facts.graph, steps);
        let list = |grants: BTreeMap<String, bool>| -> Value {
            let of = |(id, required)| if required { json!({"id": id}) } else { json!({"id": id, "optional": true}) };
            grants.into_iter().map(of).collect()
        };
        if !secrets.is_empty() {
            request["secrets"] = list(secrets);
        }
        if !agents.is_empty() {
            request["ssh"] = list(agents);
        }
    }
    if !args.is_empty() {
        request["args"] = json!(args);
    }
    if !locals.is_empty() {
        request["locals"] = locals.iter().map(|name| json!({"name": name})).collect();
    }
    request
}

/// Names of secrets and agents that steps ask for, and whether any step must have them.
fn grants(graph: &Graph, steps: &[VertexId]) -> (BTreeMap<String, bool>, BTreeMap<String, bool>) {
    let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
    let mut note = |agent: bool, id: &str, required: bool| {
        let grants = if agent { &mut agents } else { &mut secrets };
        *grants.entry(id.to_owned()).or_insert(false) |= required;
    };
    for id in steps {
        let Op::Exec(exec) = &graph.vertex(*id).op else { continue };
        for secret in &exec.secret_env {
            note(false, &secret.id, secret.required);
        }
        for mount in &exec.mounts {
            match &mount.kind {
                MountKind::Secret(file) => note(false, &file.id, file.required),
                MountKind::Ssh(agent) => note(true, &agent.id, agent.required),
                _ => {}
            }
        }
    }
    (secrets, agents)
}

/// Names of the directories of this machine that were read.
fn locals(facts: &Facts<'_>, steps: &[VertexId]) -> BTreeSet<String> {
    let of = |id: &VertexId| match &facts.graph.vertex(*id).op {
        Op::Source(Source::Local { name }) => Some(local(facts, name).to_owned()),
        _ => None,
    };
    let mut locals: BTreeSet<String> = steps.iter().filter_map(of).collect();
    match facts.context {
        None | Some(Source::Local { .. }) => drop(locals.insert("dockerfile".to_owned())),
        Some(_) => drop(locals.remove("context")),
    }
    locals
}

fn local<'a>(facts: &'a Facts<'_>, name: &'a str) -> &'a str {
    facts.locals.get(name).map_or(name, String::as_str)
}

/// Everything from outside, images first, each once, in order of name.
fn materials(facts: &Facts<'_>, steps: &[VertexId], redactor: &Redactor) -> Vec<Value> {
    let sources = steps.iter().filter_map(|id| match &facts.graph.vertex(*id).op {
        Op::Source(source) => Some(source),
        _ => None,
    });
    let mut found: BTreeMap<(u8, String), Value> = BTreeMap::new();
    for source in sources.chain(facts.context) {
        if let Some(material) = material(facts, source, redactor) {
            let rank = match source {
                Source::Image { .. } => 0,
                Source::Git { .. } => 1,
                _ => 2,
            };
            found.insert((rank, material["uri"].as_str().unwrap_or_default().to_owned()), material);
        }
    }
    found.into_values().collect()
}

fn material(facts: &Facts<'_>, source: &Source, redactor: &Redactor) -> Option<Value> {
    let (uri, digest) = match source {
        Source::Image { reference, platform } => {
            let digest = facts.resolved.images.get(&(reference.clone(), platform.to_string())).cloned();
            (Purl::of_image(reference, Some(platform)).to_string(), digest)
        }
        Source::Git { url, reference, checksum, .. } => {
            let reference = reference.clone().unwrap_or_default();
            let commit = facts.resolved.commits.get(&(url.clone(), reference.clone()));
            let whole = |commit: &&String| matches!(commit.len(), 40 | 64);
            let commit = commit.or_else(|| checksum.as_ref().filter(whole));
            let kind = |commit: &String| if commit.len() == 64 { "sha256" } else { "sha1" };
            let digest = commit.map(|commit| format!("{}:{commit}", kind(commit)));
            let uri = if reference.is_empty() { url.clone() } else { format!("{url}#{reference}") };
            (redactor.text(&uri), digest)
        }
        Source::Http { url, checksum, .. } => {
            (redactor.text(url), facts.resolved.files.get(url).or(checksum.as_ref()).cloned())
        }
        Source::Local { .. } => return None,
    };
    let mut material = json!({"uri": uri});
    if let Some((algorithm, hex)) = digest.as_ref().and_then(|digest| digest.split_once(':')) {
        material["digest"] = json!({algorithm: hex});
    }
    Some(material)
}

/// The layers of each step's result that are in the image.
fn layers(facts: &Facts<'_>, steps: &[VertexId]) -> Value {
    let of = |(number, id): (usize, &VertexId)| Some((format!("step{number}:0"), json!([facts.layers.get(id)?])));
    Value::Object(steps.iter().enumerate().filter_map(of).collect())
}

/// A reference with the digest it stood for.
fn pinned(facts: &Facts<'_>, reference: &str, platform: &Platform) -> String {
    match facts.resolved.images.get(&(reference.to_owned(), platform.to_string())) {
        Some(digest) if !reference.contains('@') => format!("{reference}@{digest}"),
        _ => reference.to_owned(),
    }
}

#[cfg(test)]
mod tests;

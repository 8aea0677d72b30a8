//! The language row by row, as docs/features.md lists it: what each instruction and flag becomes, what is refused.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod attacks;
mod documents;
mod instructions;
mod run;
mod syntax;
mod variables;

use lap_frontend::{Diagnostic, Facts, Lowered, Options, lower, parse, stages};
use lap_solver::image::{History, ImageConfig};
use lap_solver::platform::Platform;
use serde_json::Value;

pub(crate) fn options() -> Options {
    Options::new(Platform { os: "linux".into(), architecture: "amd64".into(), variant: None })
}

pub(crate) fn with_args(pairs: &[(&str, &str)]) -> Options {
    let build_args = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Options { build_args, ..options() }
}

/// Lowers over base images that have a layer, `BASE=1`, a command, an entrypoint, and the triggers given here.
pub(crate) fn lowered_with(text: &str, options: &Options, triggers: &[&str]) -> Result<Lowered, Vec<Diagnostic>> {
    let parsed = parse("Dockerfile", text);
    if parsed.has_errors() {
        return Err(parsed.diagnostics);
    }
    let stages = stages(&parsed.dockerfile, options)?;
    let mut facts = Facts::new();
    loop {
        let missing = stages.base_images(&facts, options)?;
        if missing.is_empty() {
            return lower(&stages, &facts, options);
        }
        for image in missing {
            let mut config = ImageConfig { history: vec![History::default()], ..ImageConfig::default() };
            config.os = image.platform.os.clone();
            config.architecture = image.platform.architecture.clone();
            config.config.env = vec!["BASE=1".into()];
            config.config.cmd = Some(vec!["base".into()]);
            config.config.on_build = triggers.iter().map(|text| (*text).to_owned()).collect();
            facts.insert(image, config);
        }
    }
}

#[track_caller]
pub(crate) fn lowered(text: &str) -> Lowered {
    lowered_with(text, &options(), &[]).unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]))
}

/// The first fault.
#[track_caller]
pub(crate) fn refused(text: &str) -> String {
    match lowered_with(text, &options(), &[]) {
        Ok(_) => panic!("accepted: {text}"),
        Err(faults) => faults[0].to_string(),
    }
}

/// The image's config as JSON.
#[track_caller]
pub(crate) fn config(text: &str) -> Value {
    serde_json::to_value(lowered(text).image.config.config).unwrap()
}

/// The last step's op as JSON, without its kind.
#[track_caller]
pub(crate) fn last(text: &str) -> Value {
    let lowered = lowered(text);
    let op = serde_json::to_value(&lowered.graph.vertex(lowered.image.root.unwrap()).op).unwrap();
    op.as_object().and_then(|op| op.values().next()).cloned().unwrap_or(op)
}

/// The last step's first action of files.
#[track_caller]
pub(crate) fn action(text: &str) -> Value {
    let action = last(text)["actions"][0].clone();
    action.as_object().unwrap().values().next().unwrap().clone()
}

/// The tree.
#[track_caller]
pub(crate) fn tree(text: &str) -> String {
    let parsed = parse("Dockerfile", text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.dockerfile.to_sexp()
}

//! Variables: global, predefined, and those of a stage.

use std::collections::{BTreeMap, HashMap};

use lap_solver::platform::Platform;

use crate::diagnostic::Fault;
use crate::options::Options;
use crate::syntax::ArgDefinition;
use crate::word::{Lexer, Lookup};

/// Build arguments that carry proxies; every command sees them, no key holds them.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Variables in the order they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Lookup for Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.list[*at].1.as_str())
    }
}

impl Variables {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.index.get(name) {
            Some(at) => value.clone_into(&mut self.list[*at].1),
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, _)| name.as_str())
    }

    /// `NAME=value`, in order.
    pub(crate) fn entries(&self) -> Vec<String> {
        self.list.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Variables with a mask over some of them.
#[derive(Debug)]
pub(crate) struct Masked<'a> {
    pub(crate) under: &'a Variables,
    pub(crate) masked: &'a [String],
}

impl Lookup for Masked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if self.masked.iter().any(|masked| masked == name) { Some("****") } else { self.under.get(name) }
    }
}

/// What is predefined for a build: the platforms, and the name of the target.
pub(crate) fn predefined(options: &Options, target: &str) -> Variables {
    let mut variables = Variables::default();
    let mut of_platform = |prefix: &str, platform: &Platform| {
        let variant = platform.variant.as_deref().unwrap_or("");
        for (name, value) in [
            ("PLATFORM", platform.to_string().as_str()),
            ("OS", &platform.os),
            ("OSVERSION", ""),
            ("ARCH", &platform.architecture),
            ("VARIANT", variant),
        ] {
            variables.set(&format!("{prefix}{name}"), value);
        }
    };
    of_platform("BUILD", &options.build_platform);
    of_platform("TARGET", &options.platform);
    variables.set("TARGETSTAGE", if target.is_empty() { "default" } else { target });
    for name in variables.names().map(str::to_owned).collect::<Vec<_>>() {
        if let Some(value) = options.build_args.get(&name) {
            variables.set(&name, value);
        }
    }
    variables
}

/// Defines a global `ARG`: a build argument, or its default expanded over what came before.
pub(crate) fn define_global(
    variables: &mut Variables,
    definition: &ArgDefinition,
    build_args: &BTreeMap<String, String>,
    lexer: &Lexer,
) -> Result<(), Fault> {
    let value = match (build_args.get(&definition.name), &definition.value) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(default)) => {
            let expanded = lexer.expand(default, variables);
            Some(expanded.map_err(|error| Fault::new(error.to_string()).at(definition.span))?.text)
        }
        (None, None) => None,
    };
    if let Some(value) = value {
        variables.set(&definition.name, &value);
    }
    Ok(())
}

/// The proxy variables a command sees, in both cases.
pub(crate) fn proxies(build_args: &BTreeMap<String, String>) -> Vec<String> {
    let mut out = Vec::new();
    for name in PROXIES {
        if let Some((_, value)) = build_args.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            out.push(format!("{}={value}", name.to_uppercase()));
            out.push(format!("{name}={value}"));
        }
    }
    out
}

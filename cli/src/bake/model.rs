//! Targets and groups as the files have them, and as `--print` shows them.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::source::Fault;
use super::types::{csv, parse_bool};

/// `type=registry,ref=x` as a map; the keys depend on what it is for.
pub(crate) type Entry = BTreeMap<String, String>;

/// What one image is built from and where it goes. A list that is absent is inherited; one that is empty is not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) inherits: Vec<String>,
    #[serde(skip_serializing_if = "empty", serialize_with = "escaped_list")]
    pub(crate) annotations: Option<Vec<String>>,
    #[serde(skip_serializing_if = "empty", serialize_with = "attests")]
    pub(crate) attest: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) contexts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dockerfile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "escaped")]
    pub(crate) dockerfile_inline: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub(crate) args: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) cache_from: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) cache_to: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) secret: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "empty", serialize_with = "agents")]
    pub(crate) ssh: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) platforms: Option<Vec<String>>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) output: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pull: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_cache: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) no_cache_filter: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shm_size: Option<String>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) ulimits: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "limits")]
    pub(crate) resources: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) call: Option<String>,
    #[serde(skip_serializing_if = "empty")]
    pub(crate) entitlements: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub(crate) extra_hosts: BTreeMap<String, String>,
}

/// Several targets under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Group {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) targets: Vec<String>,
}

/// What the entries of a list are, which decides how their short forms read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Attest,
    Cache,
    Output,
    Secret,
    Ssh,
}

impl EntryKind {
    /// Reads the form of the command line. A cache without `=` may be several references.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn parse(self, text: &str) -> Result<Vec<Entry>, Fault> {
        let fields = csv(text)?;
        let pair = |key: &str, value: &str| Entry::from([(key.to_owned(), value.to_owned())]);
        let plain = fields.iter().all(|field| !field.contains('='));
        match self {
            Self::Cache if plain => {
                let entry = |name: &String| {
                    let mut entry = pair("type", "registry");
                    entry.insert("ref".to_owned(), name.clone());
                    entry
                };
                return Ok(fields.iter().map(entry).collect());
            }
            Self::Output if plain && fields.len() == 1 => {
                let mut entry = pair("type", if text == "-" { "tar" } else { "local" });
                entry.insert("dest".to_owned(), text.to_owned());
                return Ok(vec![entry]);
            }
            Self::Ssh => {
                let (id, paths) = text.split_once('=').unwrap_or((text, ""));
                let mut entry = pair("id", id);
                if !paths.is_empty() {
                    entry.insert("paths".to_owned(), paths.to_owned());
                }
                return Ok(vec![entry]);
            }
            _ => {}
        }
        let mut entry = Entry::new();
        for field in &fields {
            let (key, value) = field.split_once('=').ok_or_else(|| Fault::new(format!("{field:?} is no KEY=VALUE")))?;
            let (key, lower) = (key.trim(), key.trim().to_ascii_lowercase());
            let key = match (self, lower.as_str()) {
                (Self::Secret, "source") => "src".to_owned(),
                // What a generator gets is spelt as it is.
                (Self::Attest, other) if !matches!(other, "type" | "disabled") => key.to_owned(),
                _ => lower,
            };
            entry.insert(key, value.to_owned());
        }
        self.check(entry, text).map(|entry| vec![entry])
    }

    /// What must be there is there.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn check(self, mut entry: Entry, text: &str) -> Result<Entry, Fault> {
        match self {
            Self::Secret => {
                if entry.remove("type").as_deref() == Some("env")
                    && !entry.contains_key("env")
                    && let Some(name) = entry.remove("src")
                {
                    entry.insert("env".to_owned(), name);
                }
            }
            Self::Attest if entry.contains_key("disabled") => {
                let disabled = parse_bool(&entry["disabled"])?;
                entry.insert("disabled".to_owned(), disabled.to_string());
                if !disabled {
                    entry.remove("disabled");
                }
            }
            _ => {}
        }
        if !matches!(self, Self::Secret | Self::Ssh) && !entry.contains_key("type") {
            return Err(Fault::new(format!("type is missing in {text:?}")));
        }
        Ok(entry)
    }
}

/// The form of the command line.
pub(crate) fn entry_text(entry: &Entry) -> String {
    let field = |(key, value): (&String, &String)| {
        let field = format!("{key}={value}");
        if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
    };
    // The type comes first, as people write it.
    let (first, rest): (Vec<_>, Vec<_>) = entry.iter().partition(|(key, _)| *key == "type");
    first.into_iter().chain(rest).map(field).collect::<Vec<_>>().join(",")
}

impl Target {
    /// Puts another target over this one: single values replace, maps and most lists grow.
    pub(crate) fn merge(&mut self, over: &Self) {
        fn replace<T: Clone>(own: &mut Option<T>, over: &Option<T>) {
            if over.is_some() {
                own.clone_from(over);
            }
        }
        fn append<T: Clone + PartialEq>(own: &mut Option<Vec<T>>, over: &Option<Vec<T>>) {
            if let Some(over) = over {
                own.get_or_insert_default().extend(over.iter().cloned());
            }
        }
        replace(&mut self.description, &over.description);
        replace(&mut self.context, &over.context);
        replace(&mut self.dockerfile, &over.dockerfile);
        replace(&mut self.dockerfile_inline, &over.dockerfile_inline);
        replace(&mut self.tags, &over.tags);
        replace(&mut self.target, &over.target);
        replace(&mut self.call, &over.call);
        replace(&mut self.platforms, &over.platforms);
        replace(&mut self.cache_to, &over.cache_to);
        replace(&mut self.output, &over.output);
        replace(&mut self.pull, &over.pull);
        replace(&mut self.no_cache, &over.no_cache);
        replace(&mut self.network, &over.network);
        replace(&mut self.shm_size, &over.shm_size);
        append(&mut self.annotations, &over.annotations);
        append(&mut self.attest, &over.attest);
        append(&mut self.secret, &over.secret);
        append(&mut self.ssh, &over.ssh);
        append(&mut self.cache_from, &over.cache_from);
        append(&mut self.no_cache_filter, &over.no_cache_filter);
        append(&mut self.ulimits, &over.ulimits);
        append(&mut self.entitlements, &over.entitlements);
        let extend = |own: &mut BTreeMap<String, String>, over: &BTreeMap<String, String>| own.extend(over.clone());
        extend(&mut self.args, &over.args);
        extend(&mut self.labels, &over.labels);
        extend(&mut self.contexts, &over.contexts);
        extend(&mut self.extra_hosts, &over.extra_hosts);
        extend(&mut self.resources, &over.resources);
        self.inherits.extend(over.inherits.iter().cloned());
    }

    /// Drops what is there twice or empty, and asks for what the network needs.
    pub(crate) fn normalize(&mut self) {
        fn once<T: PartialEq>(list: &mut Option<Vec<T>>, empty: impl Fn(&T) -> bool) {
            if let Some(list) = list {
                let mut seen = Vec::with_capacity(list.len());
                for item in list.drain(..) {
                    if !empty(&item) && !seen.contains(&item) {
                        seen.push(item);
                    }
                }
                *list = seen;
            }
        }
        if self.network.as_deref() == Some("host") {
            self.entitlements.get_or_insert_default().push("network.host".to_owned());
        }
        for list in [
            &mut self.annotations,
            &mut self.tags,
            &mut self.platforms,
            &mut self.no_cache_filter,
            &mut self.ulimits,
            &mut self.entitlements,
        ] {
            once(list, String::is_empty);
        }
        for list in [&mut self.secret, &mut self.ssh, &mut self.cache_from, &mut self.cache_to, &mut self.output] {
            once(list, Entry::is_empty);
        }
        if let Some(attests) = &mut self.attest {
            // The last of a kind counts, in the place of the first.
            let mut kept: Vec<Entry> = Vec::new();
            for attest in attests.drain(..) {
                match kept.iter_mut().find(|other| other.get("type") == attest.get("type")) {
                    Some(other) => *other = attest,
                    None => kept.push(attest),
                }
            }
            *attests = kept;
        }
        self.contexts.retain(|_, context| !context.is_empty());
    }
}

fn empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// What is printed is a bake file again, so templates must not be found in it.
fn escape(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

fn escaped<S: Serializer>(text: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    text.as_deref().map(escape).serialize(to)
}

fn escaped_list<S: Serializer>(list: &Option<Vec<String>>, to: S) -> Result<S::Ok, S::Error> {
    list.iter().flatten().map(|text| escape(text)).collect::<Vec<_>>().serialize(to)
}

fn escaped_map<S: Serializer>(map: &BTreeMap<String, String>, to: S) -> Result<S::Ok, S::Error> {
    map.iter().map(|(key, text)| (key, escape(text))).collect::<BTreeMap<_, _>>().serialize(to)
}

/// Those of the processor are numbers, as in buildx.
fn limits<S: Serializer>(map: &BTreeMap<String, String>, to: S) -> Result<S::Ok, S::Error> {
    let value = |(key, value): (&String, &String)| {
        let number = value.parse::<i64>().ok().filter(|_| key.starts_with("cpu-"));
        (key.clone(), number.map_or_else(|| value.clone().into(), serde_json::Value::from))
    };
    map.iter().map(value).collect::<serde_json::Map<String, serde_json::Value>>().serialize(to)
}

fn attests<S: Serializer>(list: &Option<Vec<Entry>>, to: S) -> Result<S::Ok, S::Error> {
    let value = |(key, value): (&String, &String)| {
        let json = if key == "disabled" { (value == "true").into() } else { value.clone().into() };
        (key.clone(), json)
    };
    let entry = |entry: &Entry| entry.iter().map(value).collect::<serde_json::Map<String, serde_json::Value>>();
    list.iter().flatten().map(entry).collect::<Vec<_>>().serialize(to)
}

fn agents<S: Serializer>(list: &Option<Vec<Entry>>, to: S) -> Result<S::Ok, S::Error> {
    let value = |(key, value): (&String, &String)| {
        let paths = || value.split(',').map(Into::into).collect::<Vec<serde_json::Value>>();
        (key.clone(), if key == "paths" { paths().into() } else { value.clone().into() })
    };
    let entry = |entry: &Entry| entry.iter().map(value).collect::<serde_json::Map<String, serde_json::Value>>();
    list.iter().flatten().map(entry).collect::<Vec<_>>().serialize(to)
}

//! `--set TARGET.KEY=VALUE`: values that count more than those of the files.

use std::collections::BTreeMap;

use super::config::Config;
use super::decode::limit;
use super::model::{Entry, EntryKind, Target};
use super::source::Fault;
use super::types::parse_bool;

/// What is set, by target; in order.
#[derive(Debug, Default)]
pub(super) struct Overrides(BTreeMap<String, Vec<Override>>);

/// Every value given for one key.
#[derive(Debug, Clone)]
struct Override {
    key: String,
    /// The second part of `args.NAME`.
    name: String,
    values: Vec<String>,
    /// `KEY+=VALUE`
    append: bool,
}

impl Overrides {
    /// Reads what was typed.
    ///
    /// # Errors
    /// Where one has not the right form, or names no target.
    pub(super) fn parse(texts: &[String], config: &Config) -> Result<Self, Fault> {
        let mut all = Self::default();
        for text in texts {
            let (left, value) = text.split_once('=').map_or((text.as_str(), None), |(left, value)| (left, Some(value)));
            let (left, append) = left.strip_suffix('+').map_or((left, false), |left| (left, true));
            let mut parts = left.splitn(3, '.');
            let (pattern, key) = (parts.next().unwrap_or_default(), parts.next());
            let name = parts.next().unwrap_or_default().to_owned();
            let Some(key) = key.map(str::to_owned) else {
                return Err(Fault::new(format!("--set {text}: write TARGET.KEY=VALUE")));
            };
            let named = matches!(key.as_str(), "args" | "contexts" | "labels" | "extra-hosts" | "resources");
            let either = matches!(key.as_str(), "secret" | "secrets");
            if named == name.is_empty() && !either {
                return Err(Fault::new(if named {
                    format!("--set {text}: write TARGET.{key}.NAME=VALUE")
                } else {
                    format!("--set {text}: {key} has no parts")
                }));
            }
            let value = match value {
                Some(value) => value.to_owned(),
                None if key == "args" => match crate::settings::variable(&name) {
                    Some(value) => value,
                    None => continue,
                },
                None => return Err(Fault::new(format!("--set {text}: write TARGET.{key}=VALUE"))),
            };
            for target in config.matching(pattern).map_err(|fault| Fault::new(format!("--set {text}: {fault}")))? {
                let own = all.0.entry(target).or_default();
                match own.iter_mut().find(|other| other.key == key && other.name == name) {
                    Some(other) => {
                        other.append = append;
                        other.values.push(value.clone());
                    }
                    None => {
                        own.push(Override {
                            key: key.clone(),
                            name: name.clone(),
                            values: vec![value.clone()],
                            append,
                        });
                    }
                }
            }
        }
        Ok(all)
    }

    /// Changes a target.
    ///
    /// # Errors
    /// Where a key does not exist or a value does not fit it.
    pub(super) fn apply(&self, target_name: &str, target: &mut Target) -> Result<(), Fault> {
        for set in self.0.get(target_name).into_iter().flatten() {
            set.apply(target).map_err(|fault| Fault::new(format!("--set {target_name}.{}: {fault}", set.key)))?;
        }
        Ok(())
    }
}

impl Override {
    fn apply(&self, target: &mut Target) -> Result<(), Fault> {
        let last = self.values.last().cloned().unwrap_or_default();
        match self.key.as_str() {
            "args" => {
                target.args.insert(self.name.clone(), last);
            }
            "contexts" => {
                target.contexts.insert(self.name.clone(), last);
            }
            "labels" => {
                target.labels.insert(self.name.clone(), last);
            }
            "extra-hosts" => {
                target.extra_hosts.insert(self.name.clone(), last);
            }
            "resources" => {
                limit(&self.name, &last)?;
                target.resources.insert(self.name.clone(), last);
            }
            "secret" | "secrets" if !self.name.is_empty() => self.secret(target, &last)?,
            "context" => target.context = Some(last),
            "dockerfile" => target.dockerfile = Some(last),
            "dockerfile-inline" => target.dockerfile_inline = Some(last),
            "target" => target.target = Some(last),
            "call" => target.call = Some(last),
            "network" => target.network = Some(last),
            "shm-size" => target.shm_size = Some(last),
            "no-cache" => target.no_cache = Some(parse_bool(&last)?),
            "pull" => target.pull = Some(parse_bool(&last)?),
            "push" => set_push(target, parse_bool(&last)?),
            "load" => set_load(target, parse_bool(&last)?),
            "tags" => self.texts(&mut target.tags),
            "platform" | "platforms" => self.texts(&mut target.platforms),
            "no-cache-filter" => self.texts(&mut target.no_cache_filter),
            "ulimits" => self.texts(&mut target.ulimits),
            "annotations" => target.annotations.get_or_insert_default().extend(self.values.clone()),
            "entitlements" => target.entitlements.get_or_insert_default().extend(self.values.clone()),
            "output" => self.entries(EntryKind::Output, &mut target.output)?,
            "cache-from" => self.entries(EntryKind::Cache, &mut target.cache_from)?,
            "cache-to" => self.entries(EntryKind::Cache, &mut target.cache_to)?,
            "secret" | "secrets" => self.entries(EntryKind::Secret, &mut target.secret)?,
            "ssh" => self.entries(EntryKind::Ssh, &mut target.ssh)?,
            "attest" => {
                for value in &self.values {
                    target.attest.get_or_insert_default().extend(EntryKind::Attest.parse(value)?);
                }
            }
            _ => return Err(Fault::new("there is no such key")),
        }
        Ok(())
    }

    /// Another source for a secret that the target has.
    fn secret(&self, target: &mut Target, source: &str) -> Result<(), Fault> {
        let is_it = |entry: &&mut Entry| entry.get("id") == Some(&self.name);
        let Some(declared) = target.secret.iter_mut().flatten().find(is_it) else {
            return Err(Fault::new(format!("the target has no secret {:?} whose source could be another", self.name)));
        };
        let mut entry = EntryKind::Secret.parse(source)?.pop().unwrap_or_default();
        let id = entry.insert("id".to_owned(), self.name.clone());
        if let Some(other) = id.filter(|id| *id != self.name) {
            return Err(Fault::new(format!("id={other} is not the secret {:?}", self.name)));
        }
        *declared = entry;
        Ok(())
    }

    fn texts(&self, list: &mut Option<Vec<String>>) {
        if !self.append {
            *list = None;
        }
        list.get_or_insert_default().extend(self.values.clone());
    }

    fn entries(&self, kind: EntryKind, list: &mut Option<Vec<Entry>>) -> Result<(), Fault> {
        if !self.append {
            *list = None;
        }
        let list = list.get_or_insert_default();
        for value in self.values.iter().filter(|value| !value.is_empty()) {
            list.extend(kind.parse(value)?);
        }
        Ok(())
    }
}

/// `push`: every image goes to its registry, or none does.
fn set_push(target: &mut Target, push: bool) {
    let outputs = target.output.get_or_insert_default();
    let kind = |entry: &Entry| entry.get("type").cloned().unwrap_or_default();
    if !push {
        outputs.retain(|entry| kind(entry) != "registry");
    }
    for image in outputs.iter_mut().filter(|entry| kind(entry) == "image") {
        image.insert("push".to_owned(), push.to_string());
    }
    if push && outputs.iter().all(|entry| kind(entry) == "docker") {
        outputs
            .push([("type", "image"), ("push", "true")].map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}

/// `load`: the result is an image of the store besides what else it is.
fn set_load(target: &mut Target, load: bool) {
    let outputs = target.output.get_or_insert_default();
    let only_images = outputs.iter().all(|entry| match entry.get("type").map_or("", String::as_str) {
        "docker" => entry.contains_key("dest"),
        "image" | "registry" | "oci" => true,
        _ => false,
    });
    if load && only_images {
        outputs.push([("type".to_owned(), "docker".to_owned())].into());
    }
}

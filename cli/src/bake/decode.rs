//! Evaluated blocks to targets and groups.

use std::collections::BTreeMap;

use crate::args::Resource;

use super::definitions::{Attribute, Kind};
use super::model::{Entry, EntryKind, Group, Target};
use super::source::Fault;
use super::value::Value;
use super::world::{Instance, World, nearest};

const ATTRIBUTES: [&str; 33] = [
    "annotations",
    "args",
    "attest",
    "cache-from",
    "cache-to",
    "call",
    "context",
    "contexts",
    "description",
    "dockerfile",
    "dockerfile-inline",
    "entitlements",
    "extra-hosts",
    "inherits",
    "labels",
    "matrix",
    "name",
    "network",
    "no-cache",
    "no-cache-filter",
    "output",
    "platforms",
    "policy",
    "pull",
    "resources",
    "secret",
    "shm-size",
    "ssh",
    "tags",
    "target",
    "ulimits",
    "platform",
    "secrets",
];

/// The target that a block describes.
pub(super) fn target(world: &World<'_>, instance: &Instance<'_>) -> Result<Target, Fault> {
    let mut target = Target::default();
    for (name, attribute) in &instance.block.attributes {
        if name == "matrix" || name == "name" {
            continue;
        }
        let value = world.attribute(instance, attribute)?;
        if value.is_null() {
            continue;
        }
        let set = set(&mut target, name, value);
        set.map_err(|fault| unknown(fault, name, attribute))?;
    }
    Ok(target)
}

fn unknown(fault: Fault, name: &str, attribute: &Attribute) -> Fault {
    attribute.fault(format!("{name}: {fault}"))
}

fn set(target: &mut Target, name: &str, value: Value) -> Result<(), Fault> {
    match name {
        "annotations" => target.annotations = Some(texts(&value)?),
        "args" => target.args = pairs(&value)?,
        "attest" => target.attest = Some(entries(EntryKind::Attest, &value)?),
        "cache-from" => target.cache_from = Some(entries(EntryKind::Cache, &value)?),
        "cache-to" => target.cache_to = Some(entries(EntryKind::Cache, &value)?),
        "call" => target.call = Some(value.to_text()?),
        "context" => target.context = Some(value.to_text()?),
        "contexts" => target.contexts = pairs(&value)?,
        "description" => target.description = Some(value.to_text()?),
        "dockerfile" => target.dockerfile = Some(value.to_text()?),
        "dockerfile-inline" => target.dockerfile_inline = Some(value.to_text()?),
        "entitlements" => target.entitlements = Some(texts(&value)?),
        "extra-hosts" => target.extra_hosts = pairs(&value)?,
        "inherits" => target.inherits = texts(&value)?,
        "labels" => target.labels = pairs(&value)?,
        "network" => target.network = Some(value.to_text()?),
        "no-cache" => target.no_cache = Some(value.to_bool()?),
        "no-cache-filter" => target.no_cache_filter = Some(texts(&value)?),
        "output" => target.output = Some(entries(EntryKind::Output, &value)?),
        "platforms" => target.platforms = Some(texts(&value)?),
        "policy" => return Err(Fault::new("source policies are not supported")),
        "pull" => target.pull = Some(value.to_bool()?),
        "resources" => {
            target.resources = pairs(&value)?;
            for (key, value) in &target.resources {
                limit(key, value)?;
            }
        }
        "secret" => target.secret = Some(entries(EntryKind::Secret, &value)?),
        "shm-size" => target.shm_size = Some(value.to_text()?),
        "ssh" => target.ssh = Some(entries(EntryKind::Ssh, &value)?),
        "tags" => target.tags = Some(texts(&value)?),
        "target" => target.target = Some(value.to_text()?),
        "ulimits" => target.ulimits = Some(texts(&value)?),
        other => {
            let near = nearest(other, ATTRIBUTES.iter().copied().filter(|known| *known != other));
            let near = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
            return Err(Fault::new(format!("a target has no such attribute{near}")));
        }
    }
    Ok(())
}

/// The group that a block describes.
pub(super) fn group(world: &World<'_>, instance: &Instance<'_>) -> Result<Group, Fault> {
    let mut group = Group::default();
    for (name, attribute) in &instance.block.attributes {
        let value = world.attribute(instance, attribute)?;
        let read = match name.as_str() {
            "targets" => texts(&value).map(|targets| group.targets = targets),
            "description" if value.is_null() => Ok(()),
            "description" => value.to_text().map(|text| group.description = Some(text)),
            _ => Err(Fault::new("a group has no such attribute: known are targets and description")),
        };
        read.map_err(|fault| unknown(fault, name, attribute))?;
    }
    if !instance.block.attributes.contains_key("targets") {
        let message = format!("the {} {:?} has no targets", Kind::Group.name(), instance.name);
        return Err(instance.block.source.fault(instance.block.span.clone(), message));
    }
    Ok(group)
}

fn texts(value: &Value) -> Result<Vec<String>, Fault> {
    value.to_list()?.iter().filter(|item| !item.is_null()).map(Value::to_text).collect()
}

fn pairs(value: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let given = value.to_map()?.into_iter().filter(|(_, item)| !item.is_null());
    let text = |(key, item): (String, Value)| match item.to_text() {
        Ok(text) => Ok((key, text)),
        Err(fault) => Err(Fault::new(format!("{key}: {fault}"))),
    };
    given.map(text).collect()
}

/// Whether `--resource` takes it.
///
/// # Errors
/// Where it does not.
pub(super) fn limit(key: &str, value: &str) -> Result<(), Fault> {
    format!("{key}={value}").parse::<Resource>().map(drop).map_err(Fault::new)
}

/// Strings as on the command line, or maps.
fn entries(kind: EntryKind, value: &Value) -> Result<Vec<Entry>, Fault> {
    let mut all = Vec::new();
    for item in value.to_list()? {
        match item {
            Value::Null => {}
            Value::Map(ref fields) => {
                let mut entry = Entry::new();
                for (key, field) in fields.iter().filter(|(_, field)| !field.is_null()) {
                    let text = match field {
                        Value::List(items) => {
                            items.iter().map(Value::to_text).collect::<Result<Vec<_>, _>>()?.join(",")
                        }
                        single => single.to_text()?,
                    };
                    entry.insert(key.clone(), text);
                }
                all.push(kind.check(entry, &item.to_json().to_string())?);
            }
            item => {
                let text = item.to_text()?;
                if !text.is_empty() {
                    all.extend(kind.parse(&text)?);
                }
            }
        }
    }
    Ok(all)
}

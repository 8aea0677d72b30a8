//! Compose files: every service that is built is a target, all of them the group `default`.

mod dotenv;
mod expand;
mod files;

use std::collections::BTreeMap;

use serde_json::Value;

use super::Outside;
use super::model::{Entry, EntryKind, Target};
use super::source::{Fault, Source};
use super::world::check_name;

/// The targets of all compose files, by name.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) targets: Vec<(String, Target)>,
}

/// Reads compose files, later ones over earlier ones.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn services(files: &[Source], outside: &Outside<'_>) -> Result<Services, Fault> {
    let mut services = Services::default();
    let Some(file) = files.first() else { return Ok(services) };
    let environment = dotenv::beside(outside, "")?;
    let reader = files::Reader { outside, environment: &environment };
    let whole = reader.project(files)?;
    let fault = |fault: Fault| Fault::new(format!("{}: {fault}", file.name()));
    let Some(all) = whole.get("services").and_then(Value::as_object) else {
        return Err(fault(Fault::new("no services: no compose file")));
    };
    for (name, service) in all {
        let Some(build) = service.get("build").filter(|build| !build.is_null()) else { continue };
        let told = |inner: Fault| fault(Fault::new(format!("service {name}: {inner}")));
        // The service's own environment comes before that of the process.
        let own = reader.environment_of(service).map_err(told)?;
        let of_service = |name: &str| own.get(name).cloned().or_else(|| environment(name));
        let built = target(build, service, whole.get("secrets"), &of_service).map_err(told)?;
        let name = sanitized(name);
        check_name(&name).map_err(fault)?;
        services.targets.push((name, built));
    }
    Ok(services)
}

/// Names of services may have points.
fn sanitized(name: &str) -> String {
    name.replace('.', "_")
}

fn target(
    build: &Value,
    service: &Value,
    all_secrets: Option<&Value>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Target, Fault> {
    let mut target = Target::default();
    if let Value::String(context) = build {
        target.context = Some(context.clone());
    } else if let Value::Object(fields) = build {
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            set(&mut target, key, value, environment).map_err(|fault| Fault::new(format!("build.{key}: {fault}")))?;
        }
        if let Some(given) = fields.get("secrets") {
            target.secret = Some(secrets(given, all_secrets)?);
        }
        if let Some(more) = fields.get("x-bake") {
            extension(&mut target, more).map_err(|fault| Fault::new(format!("build.x-bake: {fault}")))?;
        }
    } else {
        return Err(Fault::new("build is a directory or a map"));
    }
    if target.tags.as_ref().is_none_or(Vec::is_empty)
        && let Some(image) = service.get("image").and_then(Value::as_str)
    {
        target.tags = Some(vec![image.to_owned()]);
    }
    Ok(target)
}

fn set(
    target: &mut Target,
    key: &str,
    value: &Value,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Fault> {
    match key {
        "context" => target.context = Some(text(value)?),
        "dockerfile" => target.dockerfile = Some(text(value)?),
        "dockerfile_inline" => target.dockerfile_inline = Some(text(value)?),
        "args" => target.args = pairs(value, environment)?,
        "labels" => target.labels = pairs(value, &|_| Some(String::new()))?,
        "additional_contexts" => target.contexts = contexts(pairs(value, &|_| None)?),
        "target" => target.target = Some(text(value)?),
        "network" => target.network = Some(text(value)?),
        "tags" => target.tags = Some(texts(value)?),
        "platforms" => target.platforms = Some(texts(value)?),
        "cache_from" => target.cache_from = Some(entries(EntryKind::Cache, &texts(value)?)?),
        "cache_to" => target.cache_to = Some(entries(EntryKind::Cache, &texts(value)?)?),
        "ssh" => target.ssh = Some(entries(EntryKind::Ssh, &listed(value)?)?),
        "no_cache" => target.no_cache = truth(value)?.then_some(true),
        "pull" => target.pull = truth(value)?.then_some(true),
        "shm_size" => target.shm_size = Some(text(value)?),
        "entitlements" => target.entitlements = Some(texts(value)?),
        "extra_hosts" => target.extra_hosts = hosts(value)?,
        "ulimits" => target.ulimits = Some(ulimits(value)?),
        "sbom" | "provenance" => {
            let options = match text(value)?.as_str() {
                "true" => String::new(),
                "false" => ",disabled=true".to_owned(),
                more => format!(",{more}"),
            };
            target.attest.get_or_insert_default().extend(EntryKind::Attest.parse(&format!("type={key}{options}"))?);
        }
        // Read by their own functions, of no meaning here, or an extension.
        "secrets" | "isolation" | "privileged" => {}
        other if other.starts_with("x-") => {}
        _ => return Err(Fault::new("there is no such key")),
    }
    Ok(())
}

/// Fields of `x-bake` have the names that bake files have; lists may be a string with blanks.
fn extension(target: &mut Target, more: &Value) -> Result<(), Fault> {
    let words = |value: &Value| match value {
        Value::String(words) => Ok(words.split_whitespace().map(str::to_owned).collect()),
        value => texts(value),
    };
    for (key, value) in more.as_object().into_iter().flatten() {
        let into = |list: &mut Option<Vec<String>>| -> Result<(), Fault> {
            list.get_or_insert_default().extend(words(value)?);
            Ok(())
        };
        let parsed = |kind: EntryKind, list: &mut Option<Vec<Entry>>| -> Result<(), Fault> {
            list.get_or_insert_default().extend(entries(kind, &words(value)?)?);
            Ok(())
        };
        match key.as_str() {
            "tags" => into(&mut target.tags)?,
            "platforms" => into(&mut target.platforms)?,
            "no-cache-filter" => into(&mut target.no_cache_filter)?,
            "cache-from" => parsed(EntryKind::Cache, &mut target.cache_from)?,
            "cache-to" => parsed(EntryKind::Cache, &mut target.cache_to)?,
            "secret" => parsed(EntryKind::Secret, &mut target.secret)?,
            "ssh" => parsed(EntryKind::Ssh, &mut target.ssh)?,
            "output" => parsed(EntryKind::Output, &mut target.output)?,
            "pull" => target.pull = Some(truth(value)?),
            "no-cache" => target.no_cache = Some(truth(value)?),
            "contexts" => target.contexts.extend(contexts(pairs(value, &|_| None)?)),
            other => return Err(Fault::new(format!("{other}: there is no such key"))),
        }
    }
    Ok(())
}

/// `service:NAME` is the result of that service.
fn contexts(given: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let each = |(name, place): (String, String)| {
        let other = place.strip_prefix("service:").or_else(|| place.strip_prefix("target:"));
        let place = other.map(|other| format!("target:{}", sanitized(other))).unwrap_or(place);
        (name, place)
    };
    given.into_iter().map(each).collect()
}

fn secrets(given: &Value, all: Option<&Value>) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    for item in given.as_array().into_iter().flatten() {
        let name = item.as_str().or_else(|| item.get("source").and_then(Value::as_str));
        let name = name.ok_or_else(|| Fault::new("a secret has no source"))?;
        let mut entry = Entry::from([("id".to_owned(), name.to_owned())]);
        if let Some(secret) = all.and_then(|all| all.get(name)) {
            if secret.get("external").is_some_and(|external| external != &Value::Bool(false)) {
                return Err(Fault::new(format!("the secret {name} is external: that is not supported")));
            }
            for (field, key) in [("file", "src"), ("environment", "env")] {
                if let Some(value) = secret.get(field).and_then(Value::as_str) {
                    entry.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entries(kind: EntryKind, texts: &[String]) -> Result<Vec<Entry>, Fault> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(kind.parse(text)?);
    }
    Ok(all)
}

fn ulimits(value: &Value) -> Result<Vec<String>, Fault> {
    let limit = |(name, value): (&String, &Value)| {
        let part = |key: &str| value.get(key).map_or_else(|| Ok("-1".to_owned()), text);
        if value.is_object() {
            Ok(format!("{name}={}:{}", part("soft")?, part("hard")?))
        } else {
            let both = text(value)?;
            Ok(format!("{name}={both}:{both}"))
        }
    };
    value.as_object().ok_or_else(|| Fault::new("a map is needed"))?.iter().map(limit).collect()
}

fn hosts(value: &Value) -> Result<BTreeMap<String, String>, Fault> {
    let mut all = BTreeMap::new();
    if let Value::Object(map) = value {
        for (name, address) in map {
            all.insert(name.clone(), if address.is_array() { texts(address)?.join(",") } else { text(address)? });
        }
        return Ok(all);
    }
    for line in texts(value)? {
        let pair = line.split_once('=').or_else(|| line.split_once(':'));
        let (name, address) = pair.ok_or_else(|| Fault::new(format!("{line:?} is no HOST=ADDRESS")))?;
        all.insert(name.to_owned(), address.trim_matches(['[', ']']).to_owned());
    }
    Ok(all)
}

/// A map, or a list of `NAME=VALUE`; `default` is asked for names without a value.
fn pairs(value: &Value, default: &dyn Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, Fault> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, given: Option<String>| {
        if let Some(value) = given.or_else(|| default(name)) {
            all.insert(name.to_owned(), value);
        }
    };
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                put(name, if value.is_null() { None } else { Some(text(value)?) });
            }
        }
        Value::Array(_) => {
            for line in texts(value)? {
                let (name, given) =
                    line.split_once('=').map_or((line.as_str(), None), |(name, value)| (name, Some(value)));
                put(name, given.map(str::to_owned));
            }
        }
        _ => return Err(Fault::new("a map or a list is needed")),
    }
    Ok(all)
}

/// A list, or a map whose values follow a `=`.
fn listed(value: &Value) -> Result<Vec<String>, Fault> {
    match value {
        Value::Object(map) => {
            let each = |(name, value): (&String, &Value)| {
                if value.is_null() { Ok(name.clone()) } else { Ok(format!("{name}={}", text(value)?)) }
            };
            map.iter().map(each).collect()
        }
        value => texts(value),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, Fault> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        single => Ok(vec![text(single)?]),
    }
}

fn text(value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err(Fault::new("a string is needed")),
    }
}

fn truth(value: &Value) -> Result<bool, Fault> {
    match value {
        Value::Bool(value) => Ok(*value),
        other => super::types::parse_bool(&text(other)?),
    }
}

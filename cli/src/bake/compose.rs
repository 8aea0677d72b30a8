//! Compose files: every service that is built is a target, all of them the group `default`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

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
pub(super) fn services(files: &[Source], environment: &dyn Fn(&str) -> Option<String>) -> Result<Services, Fault> {
    let mut whole = Value::Null;
    for file in files {
        let mut parsed: Value = serde_saphyr::from_str(file.text()).map_err(|error| refused(file, &error))?;
        interpolate(&mut parsed, environment).map_err(|fault| Fault::new(format!("{}: {fault}", file.name())))?;
        merge(&mut whole, parsed);
    }
    let mut services = Services::default();
    let Some(file) = files.first() else { return Ok(services) };
    let fault = |fault: Fault| Fault::new(format!("{}: {fault}", file.name()));
    let Some(all) = whole.get("services").and_then(Value::as_object) else {
        return Err(fault(Fault::new("no services: no compose file")));
    };
    for name in all.keys() {
        let service = extended(all, name, &mut Vec::new()).map_err(fault)?;
        let Some(build) = service.get("build").filter(|build| !build.is_null()) else { continue };
        let built = target(build, &service, whole.get("secrets"), environment);
        let built = built.map_err(|inner| fault(Fault::new(format!("service {name}: {inner}"))))?;
        let name = sanitized(name);
        check_name(&name).map_err(fault)?;
        services.targets.push((name, built));
    }
    Ok(services)
}

fn refused(file: &Source, error: &serde_saphyr::Error) -> Fault {
    let place = error.location().and_then(|location| {
        let (line, column) = (usize::try_from(location.line()).ok()?, usize::try_from(location.column()).ok()?);
        let start: usize = file.text().split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
        let line = file.text().get(start..)?;
        let at = start + line.char_indices().nth(column.saturating_sub(1)).map_or(0, |(at, _)| at);
        Some(at..at)
    });
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    // The place is told by us.
    let message = match message.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => message,
    };
    file.fault(place, message)
}

/// Names of services may have points.
fn sanitized(name: &str) -> String {
    name.replace('.', "_")
}

/// Maps grow, lists too, everything else is replaced.
fn merge(own: &mut Value, over: Value) {
    match (own, over) {
        (Value::Object(own), Value::Object(over)) => {
            for (key, value) in over {
                merge(own.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(own), Value::Array(over)) => own.extend(over),
        (_, Value::Null) => {}
        (own, over) => *own = over,
    }
}

/// A service over the one that it extends in the same file.
fn extended(all: &Map<String, Value>, name: &str, path: &mut Vec<String>) -> Result<Value, Fault> {
    let service = all.get(name).cloned().ok_or_else(|| Fault::new(format!("there is no service {name:?}")))?;
    if path.iter().any(|other| other == name) {
        return Err(Fault::new(format!("services extend each other in a circle: {} → {name}", path.join(" → "))));
    }
    path.push(name.to_owned());
    let base = match service.get("extends") {
        None => return Ok(service),
        Some(Value::String(base)) => base.clone(),
        Some(more) if more.get("file").is_some() => {
            return Err(Fault::new(format!("service {name} extends one of another file: that is not supported")));
        }
        Some(more) => more.get("service").and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let mut whole = extended(all, &base, path)?;
    merge(&mut whole, service);
    Ok(whole)
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

/// Replaces variables in every string.
fn interpolate(value: &mut Value, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), Fault> {
    match value {
        Value::String(text) if text.contains('$') => *text = expand(text, environment, 0)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| interpolate(item, environment))?,
        Value::Object(items) => items.values_mut().try_for_each(|item| interpolate(item, environment))?,
        _ => {}
    }
    Ok(())
}

/// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-…}`, `${NAME:?error}`, `${NAME?…}`, `${NAME:+other}`,
/// `${NAME+…}`; `$$` is a dollar sign.
fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, Fault> {
    if depth > 32 {
        return Err(Fault::new("variables stand too deep in each other"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| Fault::new(format!("a }} is missing in {text:?}")))?;
            out.push_str(&braced(&after[..end], environment, depth)?);
            rest = &after[end + 1..];
        } else {
            let end = name_end(rest);
            if end == 0 {
                return Err(Fault::new(format!("{text:?}: write $$ for a dollar sign")));
            }
            out.push_str(&environment(&rest[..end]).unwrap_or_default());
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn name_end(text: &str) -> usize {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if first { end } else { 0 }
}

/// The brace that closes one before the text.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn braced(inner: &str, environment: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, Fault> {
    let end = name_end(inner);
    let (name, rest) = inner.split_at(end);
    if name.is_empty() {
        return Err(Fault::new(format!("${{{inner}}} names no variable")));
    }
    let value = environment(name);
    if rest.is_empty() {
        return Ok(value.unwrap_or_default());
    }
    let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let value = value.filter(|value| !(colon && value.is_empty()));
    let (operator, word) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
    match (operator, value) {
        ("-" | "?", Some(value)) => Ok(value),
        ("-", None) => expand(word, environment, depth + 1),
        ("?", None) => Err(Fault::new(format!("the variable {name} is required: {word}"))),
        ("+", Some(_)) => expand(word, environment, depth + 1),
        ("+", None) => Ok(String::new()),
        _ => Err(Fault::new(format!("${{{inner}}}: unknown operator"))),
    }
}

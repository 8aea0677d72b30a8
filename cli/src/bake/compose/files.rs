//! Compose files to one document: read, interpolated, with what they extend and include, merged.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{dotenv, expand};
use crate::bake::Outside;
use crate::bake::source::{Fault, Source};

/// How deep files may lead to files.
const DEPTH: usize = 32;

/// Reads files as seen from one project directory.
pub(super) struct Reader<'a> {
    pub(super) outside: &'a Outside<'a>,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    /// All files as one, with every service whole.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn project(&self, files: &[Source]) -> Result<Value, Fault> {
        self.merged(files, "", 0)
    }

    fn merged(&self, files: &[Source], directory: &str, depth: usize) -> Result<Value, Fault> {
        let mut whole = Value::Null;
        for file in files {
            merge(&mut whole, self.document(file)?);
        }
        let told = |fault: Fault| match files.first() {
            Some(file) => Fault::new(format!("{}: {fault}", file.name())),
            None => fault,
        };
        if let Some(services) = whole.get("services").and_then(Value::as_object) {
            let mut all = Map::new();
            for name in services.keys() {
                let service = self.extended(services, name, directory, &mut Vec::new()).map_err(told)?;
                all.insert(name.clone(), service);
            }
            whole["services"] = Value::Object(all);
        }
        if let Some(included) = whole.get("include").cloned() {
            self.include(&mut whole, &included, directory, depth).map_err(told)?;
        }
        Ok(whole)
    }

    /// One file alone, in the long forms.
    fn document(&self, file: &Source) -> Result<Value, Fault> {
        let mut parsed: Value = serde_saphyr::from_str(file.text()).map_err(|error| refused(file, &error))?;
        let told = |fault: Fault| Fault::new(format!("{}: {fault}", file.name()));
        expand::interpolate(&mut parsed, self.environment).map_err(told)?;
        if let Some(services) = parsed.get_mut("services").and_then(Value::as_object_mut) {
            services.values_mut().for_each(long_forms);
        }
        Ok(parsed)
    }

    /// A service over the one that it extends, in the same file or another.
    fn extended(
        &self,
        all: &Map<String, Value>,
        name: &str,
        directory: &str,
        path: &mut Vec<String>,
    ) -> Result<Value, Fault> {
        let mut service = all.get(name).cloned().ok_or_else(|| Fault::new(format!("there is no service {name:?}")))?;
        let place = format!("{directory}/{name}");
        if path.contains(&place) || path.len() > DEPTH {
            let names: Vec<&str> = path.iter().map(|place| place.rsplit('/').next().unwrap_or_default()).collect();
            return Err(Fault::new(format!("services extend each other in a circle: {} → {name}", names.join(" → "))));
        }
        path.push(place);
        let Some(extends) = service.as_object_mut().and_then(|service| service.remove("extends")) else {
            return Ok(service);
        };
        let other = extends.as_str().or_else(|| extends.get("service").and_then(Value::as_str));
        let other = other.ok_or_else(|| Fault::new(format!("extends of the service {name} names no service")))?;
        let mut whole = match extends.get("file").and_then(Value::as_str) {
            None => self.extended(all, other, directory, path)?,
            Some(file) => {
                let file = within(directory, file);
                let document = self.document(&self.read(&file)?)?;
                let services = document.get("services").and_then(Value::as_object);
                let services = services.ok_or_else(|| Fault::new(format!("{file} has no services")))?;
                let inner = parent(&file);
                let mut whole = self.extended(services, other, &inner, path)?;
                // Paths are seen from the file that has them.
                if directory != inner {
                    rebase(&mut whole, inner.strip_prefix(&format!("{directory}/")).unwrap_or(&inner));
                }
                whole
            }
        };
        merge(&mut whole, service);
        Ok(whole)
    }

    /// Adds the services and secrets of included projects.
    fn include(&self, whole: &mut Value, included: &Value, directory: &str, depth: usize) -> Result<(), Fault> {
        if depth >= DEPTH {
            return Err(Fault::new(format!("files include files more than {DEPTH} deep")));
        }
        for entry in included.as_array().into_iter().flatten() {
            let paths = texts(entry.get("path").unwrap_or(entry));
            let Some(first) = paths.first() else { return Err(Fault::new("include names no file")) };
            let sources = paths.iter().map(|path| self.read(&within(directory, path)));
            let sources = sources.collect::<Result<Vec<_>, _>>()?;
            let project = entry.get("project_directory").and_then(Value::as_str).map(|path| within(directory, path));
            let project = project.unwrap_or_else(|| parent(&within(directory, first)));
            let environment = dotenv::beside(self.outside, &project)?;
            let mut files = BTreeMap::new();
            for file in entry.get("env_file").map(texts).unwrap_or_default() {
                files.extend(self.env_file(&within(directory, &file), true)?);
            }
            let both = |name: &str| {
                (self.environment)(name).or_else(|| files.get(name).cloned()).or_else(|| environment(name))
            };
            let reader = Reader { outside: self.outside, environment: &both };
            let mut other = reader.merged(&sources, "", depth + 1)?;
            for kind in ["services", "secrets"] {
                let Some(theirs) = other.get_mut(kind).and_then(Value::as_object_mut) else { continue };
                for (name, mut value) in std::mem::take(theirs) {
                    if kind == "services" {
                        rebase(&mut value, &project);
                    } else if let Some(Value::String(file)) = value.get_mut("file") {
                        *file = within(&project, file);
                    }
                    let own = whole.as_object_mut().and_then(|whole| {
                        whole.entry(kind).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
                    });
                    let Some(own) = own else { continue };
                    if own.get(&name).is_some_and(|known| *known != value) {
                        let message = format!("{name} of {kind} is defined here and in {first}, which is included");
                        return Err(Fault::new(message));
                    }
                    own.insert(name, value);
                }
            }
        }
        Ok(())
    }

    fn read(&self, path: &str) -> Result<Source, Fault> {
        let text = (self.outside.read)(path)?.ok_or_else(|| Fault::new(format!("there is no file {path}")))?;
        Ok(Source::new(path, &text))
    }

    fn env_file(&self, path: &str, required: bool) -> Result<BTreeMap<String, String>, Fault> {
        match (self.outside.read)(path)? {
            Some(text) => dotenv::parse(path, &text, self.environment),
            None if required => Err(Fault::new(format!("there is no file {path}"))),
            None => Ok(BTreeMap::new()),
        }
    }

    /// What a service's containers would have in their environment; arguments without a value are looked up in it.
    ///
    /// # Errors
    /// Where a file of it cannot be read.
    pub(super) fn environment_of(&self, service: &Value) -> Result<BTreeMap<String, String>, Fault> {
        let mut all = BTreeMap::new();
        let files = match service.get("env_file") {
            Some(Value::Array(files)) => files.clone(),
            Some(file) => vec![file.clone()],
            None => Vec::new(),
        };
        for file in files {
            let required = file.get("required").and_then(Value::as_bool).unwrap_or(true);
            if let Some(path) = file.as_str().or_else(|| file.get("path").and_then(Value::as_str)) {
                all.extend(self.env_file(path, required)?);
            }
        }
        for (name, value) in service.get("environment").and_then(Value::as_object).into_iter().flatten() {
            let value = if value.is_null() { (self.environment)(name) } else { Some(scalar(value)) };
            all.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(all)
    }
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

/// Maps grow, lists too by what they do not have yet, everything else is replaced.
fn merge(own: &mut Value, over: Value) {
    match (own, over) {
        (Value::Object(own), Value::Object(over)) => {
            for (key, value) in over {
                merge(own.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(own), Value::Array(over)) => {
            for item in over {
                if !own.contains(&item) {
                    own.push(item);
                }
            }
        }
        (_, Value::Null) => {}
        (own, over) => *own = over,
    }
}

/// What may be written short, in its long form, so that files merge by name.
fn long_forms(service: &mut Value) {
    let Some(service) = service.as_object_mut() else { return };
    service.get_mut("environment").map(as_map).unwrap_or_default();
    let Some(build) = service.get_mut("build") else { return };
    if let Value::String(context) = build {
        let context = std::mem::take(context);
        *build = Value::Object(Map::from_iter([("context".to_owned(), Value::String(context))]));
    }
    for key in ["args", "labels", "additional_contexts"] {
        build.get_mut(key).map(as_map).unwrap_or_default();
    }
}

/// `[NAME=VALUE]` as a map; a name alone has no value.
fn as_map(value: &mut Value) {
    let Value::Array(items) = value else { return };
    let mut map = Map::new();
    for item in items {
        let text = scalar(item);
        match text.split_once('=') {
            Some((name, value)) => map.insert(name.to_owned(), Value::String(value.to_owned())),
            None => map.insert(text, Value::Null),
        };
    }
    *value = Value::Object(map);
}

/// Paths of a service that were written in a file of another directory.
fn rebase(service: &mut Value, directory: &str) {
    if directory.is_empty() {
        return;
    }
    let moved = |value: &mut Value| {
        if let Value::String(path) = value
            && !path.contains("://")
            && !["service:", "target:", "docker-image:", "git@", "github.com/"]
                .iter()
                .any(|kind| path.starts_with(kind))
        {
            *path = within(directory, path);
        }
    };
    if let Some(build) = service.get_mut("build").filter(|build| build.is_object()) {
        match build.get_mut("context") {
            Some(context) => moved(context),
            None => build["context"] = Value::String(directory.to_owned()),
        }
        if let Some(contexts) = build.get_mut("additional_contexts").and_then(Value::as_object_mut) {
            contexts.values_mut().for_each(moved);
        }
    }
    match service.get_mut("env_file") {
        Some(Value::Array(files)) => files.iter_mut().for_each(moved),
        Some(file) => moved(file),
        None => {}
    }
}

/// A path as seen from a directory, `""` being the one where everything is seen from.
fn within(directory: &str, path: &str) -> String {
    if directory.is_empty() || path.starts_with('/') {
        return path.to_owned();
    }
    match path.trim_start_matches("./") {
        "" | "." => directory.to_owned(),
        path => format!("{directory}/{path}"),
    }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map(|(parent, _)| parent.to_owned()).unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(scalar).collect(),
        Value::Null | Value::Object(_) => Vec::new(),
        single => vec![scalar(single)],
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

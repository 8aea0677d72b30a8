//! JSON in the shape of Docker's API: which fields there are, in which order, of which types, and what stands in those
//! that say nothing. Scripts and templates see the difference between `null`, `[]` and a field that is not there.

mod docker;

use serde_json::Value as Json;

use crate::template::{Struct, Value};

/// A container as `docker inspect` has it.
pub(crate) fn container(mut json: Json) -> Value {
    networks(&mut json);
    binds(&mut json);
    let mut whole: Json = serde_json::from_str(docker::CONTAINER_DEFAULTS).unwrap_or_default();
    merge(&mut whole, json);
    shaped("container.InspectResponse", Some(&whole))
}

/// An image as `docker image inspect` has it.
pub(crate) fn image(json: &Json) -> Value {
    shaped("image.InspectResponse", Some(json))
}

/// The version of this program as `docker version` has it.
pub(crate) fn version(json: &Json) -> Value {
    shaped("command.versionInfo", Some(json))
}

/// What `docker info` says, of ours.
pub(crate) fn info(json: &Json) -> Value {
    shaped("system.dockerInfo", Some(json))
}

/// What the second has replaces what the first has, object by object.
fn merge(into: &mut Json, from: Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Json::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// The network that the mode of a container names, where nothing tells of its networks yet.
fn networks(json: &mut Json) {
    let mode = json["HostConfig"]["NetworkMode"].as_str().unwrap_or_default();
    let name = match mode {
        "default" | "" => "bridge",
        mode => mode,
    };
    let name = name.to_owned();
    let settings = &mut json["NetworkSettings"];
    if settings["Networks"].is_null() {
        let address = settings["IPAddress"].as_str().unwrap_or_default().to_owned();
        settings["Networks"] = serde_json::json!({name: {"IPAddress": address}});
    }
}

/// Mounts in the form of `-v`, where nothing tells of it yet.
fn binds(json: &mut Json) {
    let bind = |mount: &Json| {
        let text = |key: &str| mount[key].as_str();
        let source = text("Name").or_else(|| text("Source"))?;
        let end = if mount["RW"] == Json::Bool(false) { ":ro" } else { "" };
        Some(Json::String(format!("{source}:{}{end}", text("Destination")?)))
    };
    let binds: Vec<Json> = json["Mounts"].as_array().into_iter().flatten().filter_map(bind).collect();
    let host = &mut json["HostConfig"];
    if host["Binds"].is_null() && !binds.is_empty() {
        host["Binds"] = Json::Array(binds);
    }
}

/// JSON as a value of one of Docker's types.
fn shaped(kind: &'static str, json: Option<&Json>) -> Value {
    let given = json.filter(|json| !json.is_null());
    if let Some(inner) = kind.strip_prefix('*') {
        return given.map_or(Value::NilPointer(kind), |json| shaped(inner, Some(json)));
    }
    if let Some(of) = kind.strip_prefix("[]") {
        return match given.and_then(Json::as_array) {
            Some(items) => Value::list(of, items.iter().map(|item| shaped(of, Some(item))).collect()),
            None => Value::nil_list(of),
        };
    }
    if let Some(of) = kind.strip_prefix("map[string]") {
        return match given.and_then(Json::as_object) {
            Some(entries) => {
                Value::map(of, entries.iter().map(|(key, value)| (key.clone(), shaped(of, Some(value)))).collect())
            }
            None => Value::nil_map(of),
        };
    }
    match kind {
        "string" => given.and_then(Json::as_str).unwrap_or_default().into(),
        "bool" => given.and_then(Json::as_bool).unwrap_or_default().into(),
        "int" => given.and_then(Json::as_i64).unwrap_or_default().into(),
        "any" => given.map_or(Value::Nil, Value::from),
        kind => structure(kind, given),
    }
}

fn structure(kind: &'static str, json: Option<&Json>) -> Value {
    let fields = docker::TYPES.iter().find(|(name, _)| *name == kind).map_or("", |(_, fields)| *fields);
    let mut shape = Struct::new(kind);
    let mut known = Vec::new();
    for line in fields.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, kind) = line.split_once(' ').unwrap_or((line, "any"));
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let (name, key) = name.split_once('=').unwrap_or((name, name));
        let given = json.and_then(|json| json.get(key)).filter(|json| !json.is_null());
        let value = shaped(kind, given);
        known.push(key);
        // A pointer is empty where it is nil, whatever it points to.
        let is_pointed_to = kind.starts_with('*') && given.is_some();
        shape = if optional && !is_pointed_to { shape.optional(name, value) } else { shape.renamed(name, key, value) };
    }
    // What is ours alone comes last.
    for (key, value) in json.and_then(Json::as_object).into_iter().flatten() {
        if !known.contains(&key.as_str()) {
            shape = shape.field(key.clone(), Value::from(value));
        }
    }
    shape.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::{MissingKey, Template};

    fn say(value: &Value, template: &str) -> String {
        Template::parse(template).unwrap().execute(value, MissingKey::NoValue).unwrap()
    }

    #[test]
    fn a_container_has_what_scripts_ask_for() {
        let value = container(json!({
            "Id": "ab", "Name": "/web",
            "State": {"Status": "running", "Pid": 7},
            "HostConfig": {"NetworkMode": "default", "Memory": 5},
            "Mounts": [{"Type": "bind", "Source": "/src", "Destination": "/dst", "Mode": "ro", "RW": false, "Propagation": "rprivate"}],
            "Config": {"Env": ["A=b"], "Labels": {}},
            "NetworkSettings": {"IPAddress": "10.0.0.2"},
            "Why": "ours",
        }));
        assert_eq!(say(&value, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"), "10.0.0.2");
        assert_eq!(say(&value, "{{.Mounts}}"), "[{bind  /src /dst  ro false rprivate}]");
        assert_eq!(
            say(&value, "{{json .Config.Env}} {{json .Config.Labels}} {{json .Config.Cmd}}"),
            r#"["A=b"] {} null"#
        );
        assert_eq!(say(&value, "{{.HostConfig.Binds}} {{.HostConfig.RestartPolicy.Name}}"), "[/src:/dst:ro] no");
        assert_eq!(say(&value, "{{.ID}} {{.Why}}{{if .State.Health}}x{{end}}"), "ab ours");
        let text = value.json();
        assert!(
            text.starts_with(r#"{"Id":"ab","Created":"","Path":"","Args":null,"State":{"Status":"running","#),
            "{text}"
        );
        assert!(!text.contains("Health") && text.ends_with(r#","Why":"ours"}"#), "{text}");
    }

    #[test]
    fn an_image_leaves_out_what_it_does_not_say() {
        let value = image(&json!({
            "Id": "sha256:ab", "RepoTags": ["a:1"], "RepoDigests": [], "Architecture": "amd64", "Os": "linux",
            "Config": {"Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}},
            "RootFS": {"Type": "layers", "Layers": ["sha256:cd"]},
        }));
        assert_eq!(say(&value, "{{.Config.ExposedPorts}} {{index .RootFS.Layers 0}}"), "map[80/tcp:{}] sha256:cd");
        assert_eq!(say(&value, "{{json .Config}}"), r#"{"ExposedPorts":{"80/tcp":{}},"Env":["A=b"]}"#);
    }
}

//! The image config: what every runtime reads of an image, kept whole.
//!
//! Follows the OCI image specification (`config.md`) and Docker's additions (Healthcheck, OnBuild, Shell,
//! ArgsEscaped, ...). Unknown fields are kept; fields and maps serialise in order of name, so the same config
//! always has the same bytes. It lives in the pure core since the frontend writes it, the store wraps it and the
//! runtime reads it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// `PATH` of an image that does not set one, as Docker's.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The config blob of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// GOARCH of its programs.
    #[serde(default)]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What a container of it runs, and how.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// One entry an instruction, oldest first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// GOOS of its programs.
    #[serde(default)]
    pub os: String,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields this type does not name.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The `config` object of an image config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// Default arguments, or the whole command where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// The program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`, in order.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `80/tcp`.
    #[serde(
        default,
        deserialize_with = "set_of_keys",
        serialize_with = "keys_of_set",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// How to ask whether a container is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Free-form labels.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Instructions for images built on this one.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Shell of the shell form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Signal that asks a container to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// `user[:group]`; empty is root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Paths that a container keeps outside its layers.
    #[serde(
        default,
        deserialize_with = "set_of_keys",
        serialize_with = "keys_of_set",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// Absolute working directory; empty is `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Fields this type does not name.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A health check; durations are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// Time between checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Failures in a row that make a container unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u64,
    /// Time between checks during the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Time in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// `["CMD", …]`, `["CMD-SHELL", "…"]` or `["NONE"]`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time after which a check counts as failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: u64,
}

/// One step in an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Note of the builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether no layer belongs to this entry.
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

/// The layers of an image by the digests of their uncompressed tars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `sha256:…`, lowest layer first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<String>,
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { diff_ids: Vec::new(), kind: "layers".to_owned() }
    }
}

impl ContainerConfig {
    /// The value of an environment variable; the last one counts.
    #[must_use]
    pub fn env_value(&self, name: &str) -> Option<&str> {
        let of = |entry: &'_ String| entry.split_once('=').is_some_and(|(key, _)| key == name);
        self.env.iter().rfind(|entry| of(entry)).and_then(|entry| entry.split_once('=')).map(|(_, value)| value)
    }

    /// Sets an environment variable where it stands, or at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let same = |old: &String| old.split_once('=').map_or(old.as_str(), |(key, _)| key) == name;
        match self.env.iter_mut().find(|old| same(old)) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

const fn is_false(value: &bool) -> bool {
    !*value
}

/// Go writes empty lists and maps as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `{"80/tcp": {}}` is a set.
fn set_of_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, Value>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn keys_of_set<S: serde::Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(set.iter().map(|key| (key, Value::Object(serde_json::Map::new()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_docker_fields_survive() {
        let text = r#"{"architecture":"amd64","config":{"ArgsEscaped":true,"Cmd":null,"Env":null,"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"]},"history":null,"moby.buildkit.x":"y","os":"linux","rootfs":{"diff_ids":null,"type":"layers"}}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.other["ArgsEscaped"], Value::Bool(true));
        let again = serde_json::to_string(&config).unwrap();
        for part in ["moby.buildkit.x", "ArgsEscaped", "80/tcp", "OnBuild", "NONE"] {
            assert!(again.contains(part), "{part} in {again}");
        }
    }

    #[test]
    fn the_last_variable_counts_and_setting_keeps_its_place() {
        let mut config = ContainerConfig { env: vec!["A=1".into(), "B=2".into()], ..ContainerConfig::default() };
        config.set_env("A", "3");
        assert_eq!(config.env, ["A=3", "B=2"]);
        assert_eq!(config.env_value("A"), Some("3"));
    }
}

//! What a container is asked to be: the user's options over the image's config. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lap_cache::digest::Digest;
use lap_solver::image::{ContainerConfig, DEFAULT_PATH, Healthcheck};
use lap_solver::platform::Platform;
use serde::{Deserialize, Serialize};

use super::ContainerError;
use super::state::ProcessId;
use crate::sandbox::{Limits, Rlimit};

/// What programs of another architecture need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulated {
    /// Which they are for.
    pub platform: Platform,
    /// Directories in which emulators are looked for.
    pub emulators: Vec<PathBuf>,
}

/// What `run` and `create` are given.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Its name; one is made up where absent.
    pub name: Option<String>,
    /// The image as the user named it, for people.
    pub image: String,
    /// Digest of its manifest.
    pub image_digest: Option<Digest>,
    /// Diff IDs of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// Its config.
    pub image_config: ContainerConfig,
    /// `--entrypoint`: an empty string removes the image's.
    pub entrypoint: Option<String>,
    /// The words after the image.
    pub command: Vec<String>,
    /// `-e`, as `NAME=value`; a name without value must have been looked up by the caller.
    pub env: Vec<String>,
    /// `-w`.
    pub working_dir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// `--hostname`; the short id where absent.
    pub hostname: Option<String>,
    /// `-l`.
    pub labels: BTreeMap<String, String>,
    /// `-v`.
    pub volumes: Vec<Volume>,
    /// `--tmpfs`.
    pub tmpfs: Vec<String>,
    /// `--network`.
    pub network: NetworkMode,
    /// `--add-host`, as name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--init`.
    pub init: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--security-opt no-new-privileges`; where absent, set where no file could give any.
    pub no_new_privileges: Option<bool>,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--ulimit`.
    pub rlimits: Vec<Rlimit>,
    /// `--memory`, `--cpus`, `--pids-limit` and so on.
    pub limits: Limits,
    /// `--shm-size`.
    pub shm_size: Option<u64>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// What its programs need to run, where they are of another architecture.
    pub emulated: Option<Emulated>,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--stop-timeout`, in seconds.
    pub stop_timeout: Option<u64>,
    /// Bytes of log kept, roughly; nothing is without end.
    pub log_limit: Option<u64>,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Its own, with a way out.
    #[default]
    Default,
    /// Its own, with loopback only.
    None,
    /// The machine's.
    Host,
}

/// `-v SRC:DST[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What is mounted.
    pub source: VolumeSource,
    /// Where.
    pub target: String,
    /// Whether writes are refused.
    pub readonly: bool,
}

/// What is mounted by `-v`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A place of the host; a directory is made where it is missing, as Docker does.
    Path(PathBuf),
    /// A named directory kept in the store.
    Named(String),
}

impl Volume {
    /// Reads `SRC:DST[:ro|rw]`; SRC is an absolute path or a name. Options that change nothing here (`z`, `Z`,
    /// `cached`, `delegated`, `consistent`, propagation stays private) other than these are refused.
    ///
    /// # Errors
    /// Where the text is none of this.
    pub fn parse(text: &str) -> Result<Self, ContainerError> {
        let bad = |why: &str| ContainerError::invalid(format!("volume {text:?}: {why}"));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => return Err(bad("SOURCE:TARGET[:ro] is needed")),
        };
        let mut readonly = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => readonly = true,
                "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "private" | "rprivate" => {}
                _ => return Err(bad(&format!("option {option:?} is not supported"))),
            }
        }
        if !target.starts_with('/') {
            return Err(bad("the target is not an absolute path"));
        }
        let source = if source.starts_with('/') {
            VolumeSource::Path(source.into())
        } else if is_name(source) {
            VolumeSource::Named(source.to_owned())
        } else {
            return Err(bad("the source is neither an absolute path nor a volume's name"));
        };
        Ok(Self { source, target: target.to_owned(), readonly })
    }
}

/// A container as it was made: all decided, nothing inherited any more. Kept as `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: u64,
    /// The image as the user named it.
    pub image: String,
    /// Digest of the image's manifest.
    pub image_digest: Option<Digest>,
    /// Diff IDs of the image's layers, lowest first.
    pub layers: Vec<Digest>,
    /// Program part of the command, for people.
    pub entrypoint: Vec<String>,
    /// The rest of it.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user[:group]`.
    pub user: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// Name of the machine.
    pub hostname: String,
    /// Labels of image and user.
    pub labels: BTreeMap<String, String>,
    /// Ports that the image says it listens on, as `80/tcp`.
    #[serde(default)]
    pub exposed_ports: BTreeSet<String>,
    /// How the image says whether it is well.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// Mounts.
    pub volumes: Vec<Volume>,
    /// File systems in memory.
    pub tmpfs: Vec<String>,
    /// Network.
    pub network: NetworkMode,
    /// Lines of `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is open.
    pub interactive: bool,
    /// Whether it goes when it ends.
    pub auto_remove: bool,
    /// Whether a reaping init is process 1.
    pub init: bool,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Whether it has no walls.
    pub privileged: bool,
    /// Whether setuid gives nothing; where absent, that holds where no file could give anything.
    #[serde(default)]
    pub no_new_privileges: Option<bool>,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Limits of its processes.
    pub rlimits: Vec<Rlimit>,
    /// Limits of its control group.
    pub limits: Limits,
    /// Size of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Parent of its control group.
    pub cgroup_parent: Option<String>,
    /// What its programs need to run, where they are of another architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated: Option<Emulated>,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
    /// Seconds until it is killed instead.
    pub stop_timeout: u64,
    /// Bytes of log kept.
    pub log_limit: Option<u64>,
    /// Who made it, and was to start it.
    #[serde(default)]
    pub creator: Option<ProcessId>,
}

/// SIGTERM.
pub(super) const DEFAULT_STOP_SIGNAL: i32 = 15;
/// Seconds.
pub(super) const DEFAULT_STOP_TIMEOUT: u64 = 10;

impl Config {
    /// Merges the user's options with the image's config.
    ///
    /// # Errors
    /// Where nothing is left to run, or a value makes no sense.
    pub fn merge(options: CreateOptions, id: String, created: u64) -> Result<Self, ContainerError> {
        let image = &options.image_config;
        let (entrypoint, cmd) = command(&options)?;
        let name = options.name.clone().unwrap_or_else(|| made_up_name(&id));
        if !is_name(&name) {
            return Err(ContainerError::invalid(format!(
                "container name {name:?}: only letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
            )));
        }
        let hostname = options.hostname.clone().unwrap_or_else(|| id.chars().take(12).collect());
        for (host, address) in &options.extra_hosts {
            if host.chars().chain(address.chars()).any(|c| c.is_control() || c.is_whitespace()) || host.is_empty() {
                return Err(ContainerError::invalid(format!("extra host {host:?} with address {address:?}")));
            }
        }
        let stop_signal = options.stop_signal.as_ref().or(image.stop_signal.as_ref());
        let mut labels = image.labels.clone();
        labels.extend(options.labels.clone());
        Ok(Self {
            name,
            created,
            image: options.image.clone(),
            image_digest: options.image_digest,
            layers: options.layers.clone(),
            entrypoint,
            cmd,
            env: environment(image, &options.env, &hostname, options.tty),
            working_dir: match options.working_dir.as_deref().unwrap_or(&image.working_dir) {
                "" => "/".to_owned(),
                dir => dir.to_owned(),
            },
            user: options.user.clone().unwrap_or_else(|| image.user.clone()),
            groups: options.groups,
            hostname,
            labels,
            exposed_ports: image.exposed_ports.clone(),
            healthcheck: image.healthcheck.clone(),
            volumes: options.volumes,
            tmpfs: options.tmpfs,
            network: options.network,
            extra_hosts: options.extra_hosts,
            tty: options.tty,
            interactive: options.interactive,
            auto_remove: options.auto_remove,
            init: options.init,
            read_only: options.read_only,
            privileged: options.privileged,
            no_new_privileges: options.no_new_privileges,
            cap_add: options.cap_add,
            cap_drop: options.cap_drop,
            rlimits: options.rlimits,
            limits: options.limits,
            shm_size: options.shm_size,
            cgroup_parent: options.cgroup_parent,
            emulated: options.emulated,
            stop_signal: stop_signal.map_or(Ok(DEFAULT_STOP_SIGNAL), |text| signal_number(text))?,
            stop_timeout: options.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT),
            log_limit: options.log_limit,
            creator: ProcessId::of(std::process::id().cast_signed()),
            id,
        })
    }

    /// The whole command.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

/// Docker's rule: a new entrypoint drops the image's arguments; words on the command line replace them.
fn command(options: &CreateOptions) -> Result<(Vec<String>, Vec<String>), ContainerError> {
    let image = &options.image_config;
    let entrypoint = match options.entrypoint.as_deref() {
        None => image.entrypoint.clone().unwrap_or_default(),
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
    };
    let cmd = if !options.command.is_empty() {
        options.command.clone()
    } else if options.entrypoint.is_some() {
        Vec::new()
    } else {
        image.cmd.clone().unwrap_or_default()
    };
    if entrypoint.is_empty() && cmd.is_empty() {
        return Err(ContainerError::invalid("no command given, and the image names none"));
    }
    Ok((entrypoint, cmd))
}

/// The image's variables, overridden in place by the user's; PATH, HOSTNAME and TERM as Docker adds them.
fn environment(image: &ContainerConfig, given: &[String], hostname: &str, tty: bool) -> Vec<String> {
    let mut merged = ContainerConfig::default();
    merged.set_env("PATH", DEFAULT_PATH);
    merged.set_env("HOSTNAME", hostname);
    if tty {
        merged.set_env("TERM", "xterm");
    }
    for entry in image.env.iter().chain(given) {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        merged.set_env(name, value);
    }
    merged.env
}

/// Whether a text can be the name of a container or volume.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The number of a signal by number or name, with or without `SIG`.
///
/// # Errors
/// Where there is no such signal.
pub fn signal_number(text: &str) -> Result<i32, ContainerError> {
    let unknown = || ContainerError::invalid(format!("there is no signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(offset) = name.strip_prefix("SIGRTMIN+").and_then(|offset| offset.parse::<i32>().ok())
        && offset <= 30
    {
        return Ok(34 + offset);
    }
    name.parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

/// The name of a signal, or its number where it has none.
pub(super) fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}

/// Two words chosen by the id.
fn made_up_name(id: &str) -> String {
    const HOW: [&str; 16] = [
        "brisk", "calm", "deft", "eager", "fair", "glad", "hardy", "keen", "lively", "merry", "neat", "proud", "quick",
        "sturdy", "trim", "wry",
    ];
    const WHAT: [&str; 16] = [
        "anchor", "barque", "cutter", "dinghy", "ferry", "galley", "hull", "keel", "ketch", "mast", "oar", "punt",
        "rudder", "sail", "sloop", "yawl",
    ];
    let digit = |at: usize| id.as_bytes().get(at).and_then(|byte| char::from(*byte).to_digit(16)).unwrap_or(0) as usize;
    format!("{}_{}_{}", HOW[digit(0)], WHAT[digit(1)], id.get(2..6).unwrap_or("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entrypoint_and_cmd_merge_as_dockers() {
        // image entrypoint, image cmd, --entrypoint, words -> whole command
        let cases = [
            ("", "sh", None, "", "sh"),
            ("", "sh", None, "ls -l", "ls -l"),
            ("run", "a", None, "", "run a"),
            ("run", "a", None, "b c", "run b c"),
            ("run", "a", Some("other"), "", "other"),
            ("run", "a", Some("other"), "b", "other b"),
            ("run", "a", Some(""), "b", "b"),
        ];
        for (entrypoint, cmd, given, command, expected) in cases {
            let options = CreateOptions {
                image_config: ContainerConfig {
                    entrypoint: Some(words(entrypoint)),
                    cmd: Some(words(cmd)),
                    ..ContainerConfig::default()
                },
                entrypoint: given.map(str::to_owned),
                command: words(command),
                ..CreateOptions::default()
            };
            let config = Config::merge(options, "ab".repeat(32), 0).unwrap();
            assert_eq!(config.args(), words(expected), "{entrypoint} {cmd} {given:?} {command}");
        }
        assert!(Config::merge(CreateOptions::default(), "ab".repeat(32), 0).is_err());
    }

    #[test]
    fn environment_user_and_directory_merge() {
        let image = ContainerConfig {
            env: vec!["PATH=/x".into(), "A=1".into()],
            user: "ada".into(),
            working_dir: "/w".into(),
            stop_signal: Some("SIGQUIT".into()),
            labels: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "1".into())]),
            ..ContainerConfig::default()
        };
        let options = CreateOptions {
            image_config: image,
            command: words("x"),
            env: vec!["A=2".into(), "B=3".into()],
            labels: BTreeMap::from([("b".into(), "2".into())]),
            hostname: Some("h".into()),
            ..CreateOptions::default()
        };
        let config = Config::merge(options, "ab".repeat(32), 0).unwrap();
        assert_eq!(config.env, ["PATH=/x", "HOSTNAME=h", "A=2", "B=3"]);
        assert_eq!((&config.user[..], &config.working_dir[..], config.stop_signal), ("ada", "/w", 3));
        assert_eq!(config.labels["b"], "2");
    }

    #[test]
    fn volumes_parse() {
        let parsed = Volume::parse("/a:/b:ro").unwrap();
        assert_eq!((parsed.source, parsed.readonly), (VolumeSource::Path("/a".into()), true));
        assert_eq!(Volume::parse("data:/b").unwrap().source, VolumeSource::Named("data".into()));
        for bad in ["", "/a", "/a:b", "../a:/b", "/a:/b:shared", "a/b:/c", "/a:/b:ro:x", "-x:/b", "/a:/b:rshared"] {
            assert!(Volume::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_numbers() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("1", 1), ("SIGRTMIN+3", 37)] {
            assert_eq!(signal_number(text).unwrap(), number);
        }
        for text in ["0", "65", "NOPE", ""] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hostile_values_are_refused() {
        let with = |change: fn(&mut CreateOptions)| {
            let mut options = CreateOptions { command: words("x"), ..CreateOptions::default() };
            change(&mut options);
            Config::merge(options, "ab".repeat(32), 0).is_err()
        };
        assert!(with(|options| options.name = Some("../x".into())));
        assert!(with(|options| options.extra_hosts = vec![("a".into(), "1.2.3.4\nroot::0:0".into())]));
        assert!(with(|options| options.stop_signal = Some("BOGUS".into())));
    }
}

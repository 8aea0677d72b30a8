//! A container as JSON in Docker's shape, main fields.

use lap_cache::image::Image;
use lap_solver::image::DEFAULT_PATH;
use serde_json::{Map, Value, json};

use super::Containers;
use super::config::{Config, DEFAULT_STOP_SIGNAL, DEFAULT_STOP_TIMEOUT, NetworkMode, VolumeSource, signal_name};
use super::directory::Container;
use super::state::State;
use super::time::rfc3339;
use crate::sandbox::plan::{MASKED, READ_ONLY};

impl Containers {
    /// The container in the shape of `docker inspect`.
    #[must_use]
    pub fn inspect(&self, container: &Container) -> Value {
        let config = &container.config;
        let args = config.args();
        let network = match config.network {
            NetworkMode::Default => "default",
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
        };
        let address = match &container.state {
            State::Running(live) => live.address.map(|address| address.to_string()),
            _ => None,
        };
        // The image may be gone since.
        let image = config.image_digest.and_then(|digest| self.store.image(&digest).ok());
        let env = told_env(config, image.as_ref());
        // Nothing is published: the image's ports stand there without a place, and only while something listens.
        let open = matches!(container.state, State::Running(_)).then_some(&config.exposed_ports);
        let ports: Map<String, Value> = open.into_iter().flatten().map(|port| (port.clone(), Value::Null)).collect();
        let exposed: Map<String, Value> = config.exposed_ports.iter().map(|port| (port.clone(), json!({}))).collect();
        let walls = |paths: &[&str]| if config.privileged { Value::Null } else { json!(paths) };
        json!({
            "Id": config.id,
            "Created": rfc3339(config.created),
            "Path": args.first(),
            "Args": args.get(1..),
            "State": state(&container.state),
            "Image": image.as_ref().map(Image::id).or(config.image_digest),
            "Name": format!("/{}", config.name),
            "LogPath": container.log(),
            "Driver": "overlay",
            "HostConfig": {
                "AutoRemove": config.auto_remove,
                "Privileged": config.privileged,
                "ReadonlyRootfs": config.read_only,
                "SecurityOpt": config.no_new_privileges.map(|on| vec![format!("no-new-privileges={on}")]),
                "NetworkMode": network,
                "CapAdd": given(&config.cap_add),
                "CapDrop": given(&config.cap_drop),
                "ExtraHosts": given(
                    &config.extra_hosts.iter().map(|(host, to)| format!("{host}:{to}")).collect::<Vec<_>>()
                ),
                "Memory": config.limits.memory.unwrap_or(0),
                "MemorySwap": config.limits.memory_swap.map_or(0, |swap| i64::try_from(swap).unwrap_or(-1)),
                "NanoCpus": config.limits.nano_cpus.unwrap_or(0),
                "CpuShares": config.limits.cpu_shares.unwrap_or(0),
                "CpusetCpus": config.limits.cpuset.clone().unwrap_or_default(),
                "PidsLimit": config.limits.pids,
                "CgroupParent": config.cgroup_parent.clone().unwrap_or_default(),
                "ShmSize": config.shm_size.unwrap_or(64 << 20),
                "Init": config.init.then_some(true),
                "MaskedPaths": walls(MASKED),
                "ReadonlyPaths": walls(READ_ONLY),
                "Ulimits": config.rlimits.iter()
                    .map(|limit| json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard}))
                    .collect::<Vec<_>>(),
            },
            "Mounts": self.mounts_json(container),
            "Config": {
                "Hostname": config.hostname,
                "User": config.user,
                "ExposedPorts": exposed,
                "Tty": config.tty,
                "OpenStdin": config.interactive,
                "Env": env,
                "Cmd": config.cmd,
                "Entrypoint": if config.entrypoint.is_empty() { Value::Null } else { json!(config.entrypoint) },
                "Healthcheck": config.healthcheck,
                "Image": config.image,
                "WorkingDir": config.working_dir,
                "Labels": config.labels,
                "StopSignal": (config.stop_signal != DEFAULT_STOP_SIGNAL).then(|| signal_name(config.stop_signal)),
                "StopTimeout": (config.stop_timeout != DEFAULT_STOP_TIMEOUT).then_some(config.stop_timeout),
            },
            "NetworkSettings": { "IPAddress": address.unwrap_or_default(), "Ports": ports },
            "GraphDriver": {
                "Name": "overlay",
                "Data": {
                    "UpperDir": container.upper(),
                    "WorkDir": container.work(),
                    "LowerDir": config.layers.iter().rev()
                        .map(|layer| self.store.layer_files(layer).to_string_lossy().into_owned())
                        .collect::<Vec<_>>().join(":"),
                },
            },
        })
    }

    fn mounts_json(&self, container: &Container) -> Vec<Value> {
        let mount = |volume: &super::Volume| match &volume.source {
            VolumeSource::Path(path) => json!({
                "Type": "bind", "Source": path, "Destination": volume.target,
                "Mode": if volume.readonly { "ro" } else { "" }, "RW": !volume.readonly, "Propagation": "rprivate",
            }),
            VolumeSource::Named(name) => json!({
                "Type": "volume", "Name": name, "Source": self.volume_dir(name).join("_data"),
                "Destination": volume.target, "Driver": "local", "Mode": "", "RW": !volume.readonly, "Propagation": "",
            }),
        };
        container.config.volumes.iter().map(mount).collect()
    }
}

/// A list that was given; Docker has `null` where none was.
fn given(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

/// The variables of user and image, without those that every container gets.
fn told_env(config: &Config, image: Option<&Image>) -> Vec<String> {
    let added = |entry: &str| match entry.split_once('=') {
        Some(("HOSTNAME", value)) => value == config.hostname,
        Some(("TERM", value)) => config.tty && value == "xterm",
        // Of an image that cannot be asked, nothing is left out.
        Some(("PATH", value)) => {
            let is_own = |image: &Image| image.config.config.env.iter().any(|own| own.starts_with("PATH="));
            value == DEFAULT_PATH && image.is_some_and(|image| !is_own(image))
        }
        _ => false,
    };
    config.env.iter().filter(|entry| !added(entry)).cloned().collect()
}

fn state(state: &State) -> Value {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let time = |nanos: u64| if nanos == 0 { NEVER.to_owned() } else { rfc3339(nanos) };
    let (pid, code, oom, error, started, finished) = match state {
        State::Created => (0, 0, false, None, 0, 0),
        State::Running(live) => (live.process.pid, 0, false, None, live.started, 0),
        State::Exited(ended) => (0, ended.code, ended.oom_killed, ended.error.clone(), ended.started, ended.finished),
    };
    json!({
        "Status": state.name(),
        "Running": matches!(state, State::Running(_)),
        "Paused": false,
        "Restarting": false,
        "OOMKilled": oom,
        "Dead": false,
        "Pid": pid,
        "ExitCode": code,
        "Error": error.unwrap_or_default(),
        "StartedAt": time(started),
        "FinishedAt": time(finished),
    })
}

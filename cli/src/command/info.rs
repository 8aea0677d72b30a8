//! `lap info`: what there is and how it is set up, with the fields of `docker info` that mean something here.

use std::collections::BTreeSet;
use std::path::Path;

use lap_executor::container::State;
use lap_executor::sandbox::ControlGroups;
use lap_solver::platform::Platform;
use serde_json::{Value as Json, json};

use crate::command::{App, containers, inspect};
use crate::settings::Settings;
use crate::shape;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// As Docker writes it; the memory is put in for people.
const TEXT: &str = r#"Client:
 Version:    {{.ClientInfo.Version}}
 Context:    {{.ClientInfo.Context}}
 Debug Mode: false

Server:
 Containers: {{.Containers}}
  Running: {{.ContainersRunning}}
  Paused: {{.ContainersPaused}}
  Stopped: {{.ContainersStopped}}
 Images: {{.Images}}
 Server Version: {{.ServerVersion}}
 Storage Driver: {{.Driver}}
{{- range .DriverStatus}}
  {{index . 0}}: {{index . 1}}{{end}}
 Logging Driver: {{.LoggingDriver}}
 Cgroup Driver: {{.CgroupDriver}}
 Cgroup Version: {{.CgroupVersion}}
 Plugins:
  Volume: {{join .Plugins.Volume " "}}
  Network: {{join .Plugins.Network " "}}
  Log: {{join .Plugins.Log " "}}
 Default Runtime: {{.DefaultRuntime}}
 Security Options:
{{- range .SecurityOptions}}
  {{index (split (index (split . ",") 0) "=") 1}}{{end}}
 Kernel Version: {{.KernelVersion}}
 Operating System: {{.OperatingSystem}}
 OSType: {{.OSType}}
 Architecture: {{.Architecture}}
 CPUs: {{.NCPU}}
 Total Memory: {{MEMORY}}
 Name: {{.Name}}
 Docker Root Dir: {{.DockerRootDir}}
 Debug Mode: {{.Debug}}
{{- with .HTTPProxy}}
 HTTP Proxy: {{.}}{{end}}
{{- with .HTTPSProxy}}
 HTTPS Proxy: {{.}}{{end}}
{{- with .NoProxy}}
 No Proxy: {{.}}{{end}}
 Experimental: {{.ExperimentalBuild}}
 Insecure Registries:
{{- range .RegistryConfig.IndexConfigs}}{{if not .Secure}}
  {{.Name}}{{end}}{{end}}
{{- range .RegistryConfig.InsecureRegistryCIDRs}}
  {{.}}{{end}}
 Live Restore Enabled: {{.LiveRestoreEnabled}}
{{- range .Warnings}}
{{.}}{{end}}"#;

pub(super) fn run(app: &App, format: &str) -> anyhow::Result<i32> {
    let facts = facts(app)?;
    let text = TEXT.replace("{{MEMORY}}", &binary(facts["MemTotal"].as_u64().unwrap_or(0)));
    let format = if format.is_empty() { text.as_str() } else { format };
    out!("{}", inspect::said(format, &shape::info(&facts))?)?;
    Ok(0)
}

fn facts(app: &App) -> anyhow::Result<Json> {
    let (store, settings) = (app.store()?, &app.settings);
    let containers = containers::all(app)?.list()?;
    let in_state = |wanted: &str| containers.iter().filter(|container| container.state.name() == wanted).count();
    let running = containers.iter().filter(|container| matches!(container.state, State::Running(_))).count();
    let images: BTreeSet<_> = store.names()?.into_iter().map(|entry| entry.digest).collect();
    let uname = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let proxy = |name: &str| {
        let of = |name: &str| settings.proxies.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        without_login(of(&name.to_ascii_lowercase()).or_else(|| of(name)).unwrap_or_default())
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (system, version) = operating_system();
    let mut facts = limits(&ControlGroups::of_machine());
    let more = json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": in_state("paused"),
        "ContainersStopped": containers.len() - running - in_state("paused"),
        "Images": images.len(),
        "Driver": "overlay",
        "DriverStatus": [["Backing Filesystem", file_system(store.root())], ["userxattr", settings.rootless.to_string()]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "none"], "Log": ["json-file"]},
        "IPv4Forwarding": number("/proc/sys/net/ipv4/ip_forward") == Some(1),
        "SystemTime": crate::ui::table::rfc3339(now),
        "LoggingDriver": "json-file",
        "KernelVersion": uname.release().to_string_lossy(),
        "OperatingSystem": system,
        "OSVersion": version,
        "OSType": "linux",
        "Architecture": uname.machine().to_string_lossy(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": registries(settings)?,
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": u64::from(memory.mem_unit) * memory.totalram as u64,
        "DockerRootDir": settings.root,
        "HttpProxy": proxy("HTTP_PROXY"),
        "HttpsProxy": proxy("HTTPS_PROXY"),
        "NoProxy": proxy("NO_PROXY"),
        "Name": uname.nodename().to_string_lossy(),
        "Labels": [],
        "ServerVersion": VERSION,
        "Runtimes": {"lap": {"path": "lap"}},
        "DefaultRuntime": "lap",
        "Swarm": {"LocalNodeState": "inactive"},
        "SecurityOptions": security(settings),
        "ClientInfo": {
            "Debug": false, "Version": VERSION, "Os": "linux", "Arch": Platform::host().architecture, "Context": "default",
            "Plugins": [], "Warnings": null,
        },
    });
    if let (Json::Object(facts), Json::Object(more)) = (&mut facts, more) {
        facts.extend(more);
    }
    Ok(facts)
}

/// What containers can be held to.
fn limits(groups: &ControlGroups) -> Json {
    let has = |name: &str| groups.controllers.contains(name);
    json!({
        "MemoryLimit": has("memory"),
        "SwapLimit": has("memory"),
        "CpuCfsPeriod": has("cpu"),
        "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"),
        "CPUSet": has("cpuset"),
        "PidsLimit": has("pids"),
        "OomKillDisable": groups.version == 1 && has("memory"),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": groups.version.to_string(),
        "Warnings": warnings(groups),
    })
}

/// The registries that files speak of.
fn registries(settings: &Settings) -> anyhow::Result<Json> {
    let rules = crate::registries_conf::read(&settings.registries_conf, &settings.registries_conf_dirs)?;
    let mut hosts = serde_json::Map::new();
    for name in std::iter::once("docker.io").chain(rules.insecure.iter().map(String::as_str)) {
        let secure = !rules.insecure.contains(name);
        let index = json!({"Name": name, "Mirrors": [], "Secure": secure, "Official": name == "docker.io"});
        hosts.insert(name.to_owned(), index);
    }
    Ok(json!({"InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "IndexConfigs": hosts, "Mirrors": null}))
}

fn security(settings: &Settings) -> Vec<&'static str> {
    let mut options = vec!["name=seccomp,profile=builtin"];
    if settings.rootless {
        options.push("name=rootless");
    }
    options.push("name=cgroupns");
    options
}

fn warnings(groups: &ControlGroups) -> Vec<String> {
    let missing = [("memory", "memory limit"), ("cpu", "cpu cfs quota"), ("cpuset", "cpuset"), ("pids", "pids limit")];
    let absent = missing.iter().filter(|(controller, _)| !groups.controllers.contains(*controller));
    absent.map(|(_, what)| format!("WARNING: No {what} support")).collect()
}

/// What the machine calls itself, and its version (os-release(5)).
fn operating_system() -> (String, String) {
    let text = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    let text = text.unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    (value("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()), value("VERSION_ID").unwrap_or_default())
}

/// The type of the file system below a directory: that of the mount whose place is the longest beginning of it.
fn file_system(dir: &Path) -> String {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((before.split(' ').nth(4)?, after.split(' ').next()?))
    });
    let best = mounts.filter(|(place, _)| dir.starts_with(place)).max_by_key(|(place, _)| place.len());
    best.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A proxy's address without name and password.
fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((login, _)) if scheme.is_empty() => rest[login.len() + 1..].to_owned(),
        Some((login, _)) => format!("{scheme}://xxxxx:xxxxx@{}", &rest[login.len() + 1..]),
        None => url.to_owned(),
    }
}

/// Bytes in powers of 1024, as Docker writes memory: `23.45GiB`.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // Four digits that count, as Go's `%.4g` has them.
    let digits = match value {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_as_docker_does() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1 << 30, "1GiB"),
            (25_179_869_184, "23.45GiB"),
            (1_610_612_736, "1.5GiB"),
            (137_438_953_472, "128GiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }

    #[test]
    fn logins_of_proxies_are_not_told() {
        assert_eq!(without_login("http://me:secret@proxy:3128/x@y"), "http://xxxxx:xxxxx@proxy:3128/x@y");
        assert_eq!(without_login("me:se@cret@proxy:1"), "proxy:1");
        assert_eq!(without_login("http://proxy:3128"), "http://proxy:3128");
        assert_eq!(without_login(""), "");
    }
}

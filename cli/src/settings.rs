//! Flags and environment become settings: the only place that reads the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lap_solver::provenance::Mode;

/// What holds for every command.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The store.
    pub(crate) root: PathBuf,
    /// State of what runs now, gone with a reboot.
    pub(crate) run_dir: PathBuf,
    /// Whether output may be coloured.
    pub(crate) color: bool,
    /// Where Docker's config.json lies.
    pub(crate) docker_config: Option<PathBuf>,
    /// Podman's auth file, if named.
    pub(crate) auth_file: Option<PathBuf>,
    /// Podman's auth files where none is named.
    pub(crate) podman_auth_files: Vec<PathBuf>,
    /// Certificate authorities instead of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Podman's `registries.conf`, later ones over earlier ones, and directories with more of them.
    pub(crate) registries_conf: Vec<PathBuf>,
    pub(crate) registries_conf_dirs: Vec<PathBuf>,
    /// Directories with certificates of single registries.
    pub(crate) certificate_dirs: Vec<PathBuf>,
    /// Whether an unprivileged user asked.
    pub(crate) rootless: bool,
    /// Proxy variables of the environment, by name.
    pub(crate) proxies: Vec<(String, String)>,
    /// `DOCKER_DEFAULT_PLATFORM`: what `--platform` of `build`, `pull` and `run` is where it is not given.
    pub(crate) default_platform: Option<String>,
    /// `SOURCE_DATE_EPOCH`.
    pub(crate) source_date_epoch: Option<String>,
    /// Keys of ssh servers that the user knows.
    pub(crate) known_hosts: Option<PathBuf>,
    /// Where programs lie.
    pub(crate) programs: Vec<PathBuf>,
    /// Bytes of a container's log that are kept.
    pub(crate) log_limit: Option<u64>,
    /// `BUILDKIT_PROGRESS`.
    pub(crate) progress: Option<String>,
    /// How much the build cache may take.
    pub(crate) collection: Collection,
    /// `BUILDKIT_TTY_LOG_LINES`: lines of output shown below a running step.
    pub(crate) log_lines: Option<usize>,
    /// `BUILDKIT_COLORS`.
    pub(crate) colors: Option<String>,
    /// `BUILDX_METADATA_PROVENANCE`: how much of a provenance stands in metadata files; none of it where absent.
    pub(crate) metadata_provenance: Option<Mode>,
}

/// `LAP_GC` and its sizes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collection {
    /// Whether builds leave the cache alone.
    pub(crate) off: bool,
    /// `LAP_GC_RESERVED_SPACE`, in bytes; without it, a tenth of the disk.
    pub(crate) reserved_space: Option<u64>,
    /// `LAP_GC_MAX_USED_SPACE`; three fifths.
    pub(crate) max_used_space: Option<u64>,
    /// `LAP_GC_MIN_FREE_SPACE`; a fifth.
    pub(crate) min_free_space: Option<u64>,
}

impl Collection {
    fn new() -> anyhow::Result<Self> {
        let size = |name: &str| -> anyhow::Result<Option<u64>> {
            let Some(text) = variable(name) else { return Ok(None) };
            let size = text.parse::<crate::args::ByteSize>().map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
            Ok(Some(size.0))
        };
        Ok(Self {
            off: variable("LAP_GC").is_some_and(|value| matches!(value.as_str(), "off" | "0" | "false" | "no")),
            reserved_space: size("LAP_GC_RESERVED_SPACE")?,
            max_used_space: size("LAP_GC_MAX_USED_SPACE")?,
            min_free_space: size("LAP_GC_MIN_FREE_SPACE")?,
        })
    }
}

/// Logs that grow without end fill disks: the newest 100 MiB of each container are kept.
const LOG_LIMIT: u64 = 100 << 20;

/// Proxy variables that Docker passes into builds by itself.
pub(crate) const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

impl Settings {
    /// Of the environment, and `--root` where given.
    ///
    /// # Errors
    /// Where there is no place for the store.
    pub(crate) fn new(root: Option<&Path>) -> anyhow::Result<Self> {
        let rootless = !is_machine_root();
        let home = path("HOME");
        let root = match (root.map(Path::to_path_buf).or_else(|| path("LAP_ROOT")), rootless) {
            (Some(root), _) => root,
            (None, false) => PathBuf::from("/var/lib/lapstrake"),
            (None, true) => path("XDG_DATA_HOME")
                .or_else(|| home.as_ref().map(|home| home.join(".local/share")))
                .context("no place for the store: set HOME, XDG_DATA_HOME or LAP_ROOT")?
                .join("lapstrake"),
        };
        if root.as_os_str().is_empty() {
            bail!("LAP_ROOT is empty: name a directory or unset it");
        }
        let root = std::path::absolute(&root).with_context(|| format!("cannot tell where {} is", root.display()))?;
        let run_dir = match (path("LAP_RUN_DIR"), rootless, path("XDG_RUNTIME_DIR")) {
            (Some(dir), ..) => dir,
            (None, false, _) => PathBuf::from("/run/lapstrake"),
            (None, true, Some(runtime)) => runtime.join("lapstrake"),
            // Beside the store, which must hold nothing that it does not know.
            (None, true, None) => {
                let mut name = root.file_name().unwrap_or_default().to_owned();
                name.push("-run");
                root.with_file_name(name)
            }
        };
        let config_dir = path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let (registries_conf, registries_conf_dirs) = match path("CONTAINERS_REGISTRIES_CONF") {
            Some(file) => (vec![file], Vec::new()),
            None => {
                let users = config_dir.as_ref().map(|dir| dir.join("containers"));
                let all = [Some(PathBuf::from("/etc/containers")), users].into_iter().flatten();
                let all: Vec<PathBuf> = all.collect();
                // The user's file replaces the machine's; what lies in directories is added.
                let main = all.iter().rev().map(|dir| dir.join("registries.conf")).find(|file| file.is_file());
                (main.into_iter().collect(), all.iter().map(|dir| dir.join("registries.conf.d")).collect())
            }
        };
        Ok(Self {
            root,
            run_dir,
            color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::io::IsTerminal::is_terminal(&std::io::stderr()),
            known_hosts: home.as_ref().map(|home| home.join(".ssh/known_hosts")),
            docker_config: path("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker"))),
            auth_file: path("REGISTRY_AUTH_FILE"),
            podman_auth_files: match path("REGISTRY_AUTH_FILE") {
                Some(_) => Vec::new(),
                None => {
                    let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
                    let config = config_dir.as_ref().map(|dir| dir.join("containers/auth.json"));
                    runtime.into_iter().chain(config).collect()
                }
            },
            ca_file: path("SSL_CERT_FILE"),
            registries_conf,
            registries_conf_dirs,
            certificate_dirs: config_dir
                .iter()
                .flat_map(|dir| ["containers/certs.d", "docker/certs.d"].map(|name| dir.join(name)))
                .chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from))
                .collect(),
            rootless,
            proxies: PROXIES.iter().filter_map(|name| Some(((*name).to_owned(), variable(name)?))).collect(),
            default_platform: variable("DOCKER_DEFAULT_PLATFORM"),
            source_date_epoch: variable("SOURCE_DATE_EPOCH"),
            programs: std::env::var_os("PATH")
                .map_or_else(|| vec![PathBuf::from("/usr/bin")], |path| std::env::split_paths(&path).collect()),
            log_limit: Some(LOG_LIMIT),
            progress: variable("LAP_PROGRESS").or_else(|| variable("BUILDKIT_PROGRESS")),
            collection: Collection::new()?,
            log_lines: variable("BUILDKIT_TTY_LOG_LINES").and_then(|text| text.parse().ok()).filter(|lines| *lines > 0),
            colors: variable("BUILDKIT_COLORS"),
            metadata_provenance: match variable("BUILDX_METADATA_PROVENANCE").as_deref() {
                Some("max") => Some(Mode::Max),
                Some("disabled" | "false" | "0") => None,
                _ => Some(Mode::Min),
            },
        })
    }
}

/// Whether this process is root and its user IDs are the machine's own: root of a user namespace is no more than the
/// user who made it.
fn is_machine_root() -> bool {
    let whole = || {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().eq(["0", "0", "4294967295"])
    };
    nix::unistd::geteuid().is_root() && whole()
}

/// A variable of the environment, where it is set and text.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

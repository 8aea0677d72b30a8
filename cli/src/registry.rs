//! The registry client that the settings describe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lap_cache::registry::{Client, ConfigFile, Credentials, Login, Proxies, RegistryConfig, Retry};

use crate::args::KeyValue;
use crate::registries_conf;
use crate::settings::Settings;

/// A client with the user's logins, authorities and proxies. Nothing is connected yet.
///
/// # Errors
/// Where an auth file cannot be read or a mirror is no URL.
pub(crate) fn client(settings: &Settings, mirrors: &[KeyValue]) -> anyhow::Result<Client> {
    Ok(Client::new(config(settings, mirrors)?))
}

/// The same, for which plain http and unchecked certificates of some hosts will do.
///
/// # Errors
/// As [`client`].
pub(crate) fn insecure(
    settings: &Settings,
    mirrors: &[KeyValue],
    insecure: BTreeSet<String>,
) -> anyhow::Result<Client> {
    let mut config = config(settings, mirrors)?;
    config.insecure.extend(insecure);
    Ok(Client::new(config))
}

/// For what a build can do without: waits and tries again for seconds, not minutes.
///
/// # Errors
/// Where an auth file cannot be read.
pub(crate) fn impatient(settings: &Settings) -> anyhow::Result<RegistryConfig> {
    Ok(RegistryConfig {
        retry: Retry { attempts: 3, base: Duration::from_millis(200), cap: Duration::from_secs(2) },
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(20),
        ..config(settings, &[])?
    })
}

/// A client that has one login, which is to be tried.
///
/// # Errors
/// As [`client`].
pub(crate) fn client_as(settings: &Settings, registry: &str, login: Login, tls_verify: bool) -> anyhow::Result<Client> {
    let mut config = config(settings, &[])?;
    config.credentials.given.insert(registry.to_owned(), login);
    if !tls_verify {
        config.insecure.insert(registry.to_owned());
    }
    Ok(Client::new(config))
}

/// How one registry is reached, where flags say so.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    /// `HOST[:PORT]`
    pub(crate) registry: &'a str,
    pub(crate) login: Option<Login>,
    /// No login, whatever files say.
    pub(crate) anonymous: bool,
    /// The only file with logins.
    pub(crate) auth_file: Option<&'a PathBuf>,
    pub(crate) tls_verify: bool,
    /// The only directory with certificates.
    pub(crate) certificates: Option<&'a PathBuf>,
    /// Tries after the first one.
    pub(crate) retries: Option<u32>,
}

/// A client for one registry.
///
/// # Errors
/// As [`client`]; also where the file with logins is missing.
pub(crate) fn client_for(settings: &Settings, reach: &Reach<'_>) -> anyhow::Result<Client> {
    let mut settings = settings.clone();
    if let Some(file) = reach.auth_file {
        if !file.is_file() {
            bail!("no such file with logins: {}", file.display());
        }
        settings.docker_config = None;
        settings.podman_auth_files.clear();
        settings.auth_file = Some(file.clone());
    }
    let mut config = config(&settings, &[])?;
    if reach.anonymous {
        config.credentials = Credentials::default();
    }
    if let Some(login) = &reach.login {
        config.credentials.given.insert(reach.registry.to_owned(), login.clone());
    }
    if !reach.tls_verify {
        config.insecure.insert(reach.registry.to_owned());
    }
    if let Some(dir) = reach.certificates {
        let host = if reach.registry == "docker.io" { "registry-1.docker.io" } else { reach.registry };
        config.certificate_dir_of.insert(host.to_owned(), dir.clone());
    }
    if let Some(retries) = reach.retries {
        config.retry.attempts = retries.saturating_add(1);
    }
    Ok(Client::new(config))
}

fn config(settings: &Settings, mirrors: &[KeyValue]) -> anyhow::Result<RegistryConfig> {
    let mut by_host: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mirror in mirrors {
        match &mirror.value {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                by_host.entry(mirror.key.clone()).or_default().push(url.clone());
            }
            _ => bail!("--registry-mirror {}: write HOST=URL, such as docker.io=https://mirror.example", mirror.key),
        }
    }
    let mut files = Vec::new();
    let docker = settings.docker_config.as_ref().map(|dir| dir.join("config.json"));
    for path in docker.iter().chain(&settings.auth_file).chain(&settings.podman_auth_files) {
        match std::fs::File::open(path).and_then(|file| lap_cache::fs::read_limited(file, LARGEST_AUTH_FILE)) {
            Ok(text) => {
                files.push(ConfigFile::read(&text).with_context(|| format!("{} is broken", path.display()))?);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    let rules = registries_conf::read(&settings.registries_conf, &settings.registries_conf_dirs)?;
    let proxy = |name: &str| {
        let value = |name: &str| settings.proxies.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        value(&name.to_ascii_lowercase()).or_else(|| value(name))
    };
    Ok(RegistryConfig {
        mirrors: by_host,
        rules: rules.rules,
        insecure: rules.insecure,
        credentials: Credentials { files, ..Credentials::default() },
        ca_files: settings.ca_file.iter().cloned().collect(),
        certificate_dirs: settings.certificate_dirs.clone(),
        proxies: Proxies { http: proxy("HTTP_PROXY"), https: proxy("HTTPS_PROXY"), no_proxy: proxy("NO_PROXY") },
        ..RegistryConfig::default()
    })
}

/// Bytes of a file with logins, at most.
const LARGEST_AUTH_FILE: u64 = 16 << 20;

/// Runs a future on a runtime of its own; Ctrl-C ends it.
///
/// # Errors
/// The future's, or that the user interrupted.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        let interrupt = crate::signal::Interrupt::listen()?;
        tokio::select! {
            result = work => result,
            () = interrupt.asked() => {
                Err(crate::exit::WithCode::wrap(crate::signal::exit_code(), anyhow::anyhow!("interrupted")))
            }
        }
    })
}

//! How registries are reached. Everything is given by the caller: nothing here reads the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::credentials::Credentials;
use super::rules::Rule;

/// Settings of a [`super::Client`].
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `host[:port]` for which certificates are not checked and plain http will do. Loopback hosts always are.
    pub insecure: BTreeSet<String>,
    /// For a registry (`docker.io`), addresses that are asked first, in order: `https://mirror.example[/path]`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Where parts of registries are looked for. Mirrors above come first.
    pub rules: Vec<Rule>,
    /// Logins.
    pub credentials: Credentials,
    /// Files with CA certificates (PEM) that replace the machine's; none: the machine's, or else a built-in set.
    pub ca_files: Vec<PathBuf>,
    /// Directories with certificates of single registries, in a directory `host[:port]` each; the first one counts.
    pub certificate_dirs: Vec<PathBuf>,
    /// Directories with the certificates of one host, by `host[:port]`; they count instead of those above.
    pub certificate_dir_of: BTreeMap<String, PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// When to try again.
    pub retry: Retry,
    /// Blobs in transit at once.
    pub parallel: usize,
    /// Bytes of one range of a large blob that is fetched over several connections.
    pub part: u64,
    /// Bytes of one request of an upload; a larger blob is sent in several.
    pub chunk: u64,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time without a byte after which an answer counts as broken off.
    pub stall_timeout: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            mirrors: BTreeMap::new(),
            rules: Vec::new(),
            credentials: Credentials::default(),
            ca_files: Vec::new(),
            certificate_dirs: Vec::new(),
            certificate_dir_of: BTreeMap::new(),
            proxies: Proxies::default(),
            retry: Retry::default(),
            parallel: 6,
            part: 8 << 20,
            chunk: 64 << 20,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

impl RegistryConfig {
    /// Whether plain http and unchecked certificates will do for a host.
    #[must_use]
    pub fn is_insecure(&self, host: &str) -> bool {
        self.is_marked_insecure(host) || is_loopback(host)
    }

    /// Whether the user said so of a host.
    pub(super) fn is_marked_insecure(&self, host: &str) -> bool {
        self.insecure.contains(host) || self.insecure.contains(without_port(host))
    }
}

/// Addresses of proxies, as in `HTTP_PROXY` and its like.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For http.
    pub http: Option<String>,
    /// For https.
    pub https: Option<String>,
    /// Hosts without proxy, separated by commas.
    pub no_proxy: Option<String>,
}

/// When and how often to try again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// Wait before the second try; doubled each time.
    pub base: Duration,
    /// Longest wait, also where the server asks for more.
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, base: Duration::from_millis(500), cap: Duration::from_secs(30) }
    }
}

impl Retry {
    /// How long to wait before try `number` (the first one is 1), with what the server asked for.
    ///
    /// Half of it is jitter, so that many clients do not come back at once.
    #[must_use]
    pub fn wait(&self, number: u32, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            return asked.min(self.cap);
        }
        let full = self.base.saturating_mul(1 << number.saturating_sub(2).min(16)).min(self.cap);
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        full.mul_f64(0.5 + f64::from(nanos.subsec_nanos() % 1000) / 2000.0)
    }
}

/// The host of `host[:port]`, without brackets.
pub(super) fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether a host is this machine: `localhost`, `127.0.0.0/8`, `::1`.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_insecure_and_nothing_else() {
        let config = RegistryConfig { insecure: BTreeSet::from(["reg.lan:5000".into()]), ..RegistryConfig::default() };
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "reg.lan:5000"] {
            assert!(config.is_insecure(host), "{host}");
        }
        for host in ["docker.io", "localhost.evil.com", "127.0.0.1.evil.com:80", "reg.lan", "reg.lan:5001", "[::2]:1"] {
            assert!(!config.is_insecure(host), "{host}");
        }
    }

    #[test]
    fn waits_grow_and_are_capped() {
        let retry = Retry { attempts: 5, base: Duration::from_millis(100), cap: Duration::from_secs(1) };
        for (number, full) in [(2, 100), (3, 200), (4, 400), (20, 1000), (u32::MAX, 1000)] {
            let wait = retry.wait(number, None).as_millis();
            assert!((full / 2..=full).contains(&wait), "{number}: {wait}");
        }
        assert_eq!(retry.wait(2, Some(Duration::from_secs(3600))), Duration::from_secs(1));
        assert_eq!(retry.wait(2, Some(Duration::ZERO)), Duration::ZERO);
    }
}

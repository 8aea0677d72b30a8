//! Logins: Docker's `config.json`, podman's `auth.json`, credential helpers, and what the caller gives.
//!
//! In Docker's order: a helper for the host, then the store for all hosts, then the file's own entries. A helper is
//! asked only when a registry asks for a login, with a limit of time. Secrets are never printed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::RegistryError;
use super::config::without_port;
use super::helper::{self, Verb};

/// What Docker calls Docker Hub in its files.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which a helper marks an identity token.
const TOKEN_USER: &str = "<token>";

/// A way to prove who one is.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// User name and password.
    Password {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// A refresh token, exchanged for access tokens (OAuth 2).
    IdentityToken(String),
    /// An access token, sent as it is.
    RegistryToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Login::Password(..)",
            Self::IdentityToken(_) => "Login::IdentityToken(..)",
            Self::RegistryToken(_) => "Login::RegistryToken(..)",
        })
    }
}

/// Where logins come from.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Given directly, by `host[:port]`; they win.
    pub given: BTreeMap<String, Login>,
    /// Files, in order; the first that knows a host wins.
    pub files: Vec<ConfigFile>,
}

/// The parts of Docker's `config.json` or podman's `auth.json` that concern logins.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(alias = "identityToken")]
    identitytoken: Option<String>,
    #[serde(alias = "registryToken")]
    registrytoken: Option<String>,
}

impl fmt::Debug for AuthEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthEntry(..)")
    }
}

impl ConfigFile {
    /// Reads the JSON text of such a file.
    ///
    /// # Errors
    /// Where it is not JSON of that shape.
    pub fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    pub(super) fn helper(&self, keys: &[String]) -> Option<(String, String)> {
        let special = keys.iter().find_map(|key| self.cred_helpers.get(key).map(|helper| (helper, key)));
        let (helper, key) = special.or_else(|| self.creds_store.as_ref().zip(keys.first()))?;
        (!helper.is_empty()).then(|| (helper.clone(), key.clone()))
    }

    fn entry(&self, keys: &[String]) -> Option<Login> {
        let direct = keys.iter().find_map(|key| self.auths.get(key));
        let by_host = || {
            let entry = |key: &String| self.auths.iter().find(|(written, _)| host_of(written) == key.as_str());
            keys.iter().find_map(entry).map(|(_, entry)| entry)
        };
        direct.or_else(by_host)?.login()
    }
}

impl AuthEntry {
    fn login(&self) -> Option<Login> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = some(&self.registrytoken) {
            return Some(Login::RegistryToken(token));
        }
        if let Some(token) = some(&self.identitytoken) {
            return Some(Login::IdentityToken(token));
        }
        if let Some(auth) = some(&self.auth) {
            let text = String::from_utf8(decode_base64(&auth)?).ok()?;
            let (username, password) = text.split_once(':')?;
            // Docker pads old entries with NULs.
            let password = password.trim_matches('\0').to_owned();
            return Some(Login::Password { username: username.to_owned(), password });
        }
        Some(Login::Password { username: some(&self.username)?, password: some(&self.password)? })
    }
}

impl Credentials {
    /// The login for a repository of a registry, if there is one.
    ///
    /// # Errors
    /// Where a helper fails: going on without a login would only hide why access is refused.
    pub async fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>, RegistryError> {
        if let Some(login) = self.given.get(registry) {
            return Ok(Some(login.clone()));
        }
        let hosts = host_keys(registry);
        for file in &self.files {
            if let Some((helper, key)) = file.helper(&hosts)
                && let Some(login) = ask_helper(&helper, &key, registry).await?
            {
                return Ok(Some(login));
            }
            if let Some(login) = file.entry(&all_keys(registry, repository, &hosts)) {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

/// Under what a registry may stand in a file, the usual spelling first.
pub(super) fn host_keys(registry: &str) -> Vec<String> {
    match registry {
        "docker.io" => [HUB_KEY, "docker.io", "index.docker.io", "registry-1.docker.io"].map(str::to_owned).to_vec(),
        other => vec![other.to_owned()],
    }
}

/// podman's keys with a path (`host/namespace/name`), the longest first, then the hosts.
fn all_keys(registry: &str, repository: &str, hosts: &[String]) -> Vec<String> {
    let whole = format!("{registry}/{repository}");
    let cuts = whole.rmatch_indices('/').map(|(at, _)| &whole[..at]);
    let mut keys: Vec<String> = std::iter::once(whole.as_str()).chain(cuts).map(str::to_owned).collect();
    keys.retain(|key| key.as_str() != registry);
    keys.extend(hosts.iter().cloned());
    keys
}

/// `https://host/v2/` is `host`.
pub(super) fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    // A key with a path but no scheme is one of podman's and matches as a whole only.
    if rest.len() == key.len() { key } else { rest.split('/').next().unwrap_or(rest) }
}

/// The registry that a key of a file is for.
pub(super) fn registry_of(key: &str) -> String {
    let host = host_of(key);
    let is_hub = host_keys("docker.io").iter().any(|hub| hub == key || hub == host);
    if is_hub { "docker.io".to_owned() } else { host.to_owned() }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

async fn ask_helper(helper: &str, key: &str, registry: &str) -> Result<Option<Login>, RegistryError> {
    let Some(text) = helper::call(helper, Verb::Get, key.as_bytes(), registry).await? else { return Ok(None) };
    let program = format!("docker-credential-{helper}");
    let failed = |message: &str| RegistryError::Helper {
        program: program.clone(),
        registry: without_port(registry).to_owned(),
        message: message.to_owned(),
    };
    let answer: HelperAnswer = serde_json::from_str(&text).map_err(|_| failed("its answer is no JSON"))?;
    Ok(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        (TOKEN_USER, secret) => Some(Login::IdentityToken(secret)),
        (username, password) => Some(Login::Password { username: username.to_owned(), password }),
    })
}

/// Base 64 of RFC 4648, with or without padding.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut buffer, mut bits) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str, password: &str) -> Option<Login> {
        Some(Login::Password { username: username.into(), password: password.into() })
    }

    #[tokio::test]
    async fn files_are_read_as_docker_and_podman_do() {
        // "dXNlcjpwYTpzcw==" is user:pa:ss, "bjp4" is n:x
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="}, "https://reg.lan:5000/v2/": {"auth":"bjp4"},
            "quay.io": {"username": "q", "password": "w"}, "quay.io/team/app": {"auth": "bjp4"}, "t.io": {"identitytoken": "I"},
            "r.io": {"registrytoken": "R"}, "empty.io": {}}, "HttpHeaders": {"X": "y"}}"#;
        let found = Credentials { files: vec![ConfigFile::read(text.as_bytes()).unwrap()], ..Credentials::default() };
        for (registry, repository, want) in [
            ("docker.io", "library/x", password("user", "pa:ss")),
            ("reg.lan:5000", "x", password("n", "x")),
            ("reg.lan", "x", None),
            ("quay.io", "other", password("q", "w")),
            ("quay.io", "team/app", password("n", "x")),
            ("quay.io", "team/app/deep", password("n", "x")),
            ("quay.io", "team/apple", password("q", "w")),
            ("t.io", "x", Some(Login::IdentityToken("I".into()))),
            ("r.io", "x", Some(Login::RegistryToken("R".into()))),
            ("empty.io", "x", None),
            ("evil.io", "x", None),
        ] {
            assert_eq!(found.find(registry, repository).await.unwrap(), want, "{registry}/{repository}");
        }
    }

    #[tokio::test]
    async fn a_broken_helper_is_an_error_not_an_anonymous_pull() {
        let file = ConfigFile::read(br#"{"credsStore": "lapstrake-has-no-such-helper"}"#).unwrap();
        let found = Credentials { files: vec![file], ..Credentials::default() };
        assert!(matches!(found.find("docker.io", "x").await, Err(RegistryError::Helper { .. })));
    }

    #[test]
    fn secrets_are_not_printed() {
        let file =
            ConfigFile::read(br#"{"auths": {"a": {"auth": "c2VjcmV0OnNlY3JldA==", "password": "hush"}}}"#).unwrap();
        let shown = format!("{file:?} {:?}", password("me", "hush"));
        assert!(!shown.contains("hush") && !shown.contains("c2Vj"), "{shown}");
    }

    #[test]
    fn base64_is_decoded() {
        for (text, want) in
            [("", Some(&b""[..])), ("Zg==", Some(b"f")), ("Zm8", Some(b"fo")), ("Zm9v", Some(b"foo")), ("Z$", None)]
        {
            assert_eq!(decode_base64(text).as_deref(), want, "{text}");
        }
    }
}

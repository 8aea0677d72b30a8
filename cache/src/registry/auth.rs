//! Answering a challenge: Basic, or a token from the registry's token server.
//!
//! The token server is whatever the registry says, so a login is sent there only over https and only where it is the
//! registry's own host or one beside it under the same domain (`auth.docker.io` for `registry-1.docker.io`);
//! without https only where the registry itself is reached without, on the same host (CVE-2020-15157).

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::RegistryError;
use super::challenge::Challenge;
use super::config::is_loopback;
use super::credentials::Login;
use super::transport::{Endpoint, Scope, Transport, authority, read_limited, shown};
use crate::store::lock;

/// Longest answer of a token server that is read, in bytes.
const TOKEN_LIMIT: u64 = 1 << 20;
/// How long a token is good where the server does not say (distribution token spec).
const TOKEN_LIFE: u64 = 60;

/// What goes into the `Authorization` header of a repository's requests.
pub(super) enum Authorization {
    Basic(HeaderValue),
    Bearer {
        header: HeaderValue,
        until: Instant,
        /// Whether a login was shown for it.
        with_login: bool,
    },
}

impl Authorization {
    pub(super) const fn has_login(&self) -> bool {
        matches!(self, Self::Basic(_) | Self::Bearer { with_login: true, .. })
    }
}

impl Transport {
    /// The header for a request, if a login was asked for before and is still good.
    pub(super) fn authorization(&self, endpoint: &Endpoint, scope: &Scope) -> Option<HeaderValue> {
        let known = lock(&self.authorizations);
        match known.get(&(endpoint.base.to_string(), scope.clone()))? {
            Authorization::Basic(header) => Some(header.clone()),
            Authorization::Bearer { header, until, .. } => (Instant::now() < *until).then(|| header.clone()),
        }
    }

    /// Meets the challenge of a 401 to a request that was `authorized` or not. False where there is nothing (new) to
    /// show.
    pub(super) async fn authenticate(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        headers: &HeaderMap,
        authorized: bool,
    ) -> Result<bool, RegistryError> {
        let texts = || headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = Challenge::of(texts()) else {
            let challenge = texts().collect::<Vec<_>>().join(", ").chars().take(200).collect();
            return Err(RegistryError::Challenge { registry: endpoint.registry.clone(), challenge });
        };
        let login = self.config.credentials.find(&endpoint.registry, &scope.repository).await?;
        let authorization = match (challenge, login) {
            (Challenge::Basic, Some(Login::Password { username, password })) => {
                Authorization::Basic(basic(&username, &password)?)
            }
            (Challenge::Basic, _) => return Ok(false),
            (Challenge::Bearer { .. }, Some(Login::RegistryToken(token))) => {
                let until = Instant::now() + Duration::from_secs(3600);
                Authorization::Bearer { header: bearer(&token)?, until, with_login: true }
            }
            (Challenge::Bearer { realm, service, scope: theirs }, login) => {
                self.token(endpoint, scope, Realm { realm, service, theirs }, login).await?
            }
        };
        // The same login again would be refused again; but a request beside this one may only just have found it.
        let mut known = lock(&self.authorizations);
        let key = (endpoint.base.to_string(), scope.clone());
        let tried = matches!((&authorization, known.get(&key)), (Authorization::Basic(new), Some(Authorization::Basic(old))) if new == old);
        known.insert(key, authorization);
        Ok(!(authorized && tried))
    }

    async fn token(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        realm: Realm,
        login: Option<Login>,
    ) -> Result<Authorization, RegistryError> {
        let mut url = self.check_realm(endpoint, &realm.realm, login.is_some())?;
        let scopes = scopes(scope, realm.theirs.as_deref());
        let with_login = login.is_some();
        let response = match login {
            Some(Login::IdentityToken(token)) => self.exchange(&url, &realm, &scopes, &token).await?,
            login => {
                let account = match &login {
                    Some(Login::Password { username, .. }) => Some(("account", username.as_str())),
                    _ => None,
                };
                let service = realm.service.iter().map(|service| ("service", service.as_str()));
                let pairs = service.chain(scopes.iter().map(|scope| ("scope", scope.as_str()))).chain(account);
                url.query_pairs_mut().extend_pairs(pairs);
                let header = match &login {
                    Some(Login::Password { username, password }) => Some(basic(username, password)?),
                    _ => None,
                };
                let request = |client: &reqwest::Client| match &header {
                    Some(header) => client.get(url.clone()).header(AUTHORIZATION, header),
                    None => client.get(url.clone()),
                };
                self.send_to_realm(request, &url).await?
            }
        };
        self.read_token(endpoint, scope, &url, response, with_login).await
    }

    /// OAuth 2: a refresh token for an access token.
    async fn exchange(
        &self,
        url: &Url,
        realm: &Realm,
        scopes: &[String],
        token: &str,
    ) -> Result<Response, RegistryError> {
        let mut form = url.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", realm.service.as_deref().unwrap_or_default())
            .append_pair("client_id", "lapstrake")
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token);
        let body = form.query().unwrap_or_default().to_owned();
        let request = |client: &reqwest::Client| {
            client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.clone())
        };
        self.send_to_realm(request, url).await
    }

    async fn read_token(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        url: &Url,
        response: Response,
        with_login: bool,
    ) -> Result<Authorization, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        let status = response.status();
        if matches!(status.as_u16(), 401 | 403) {
            let (registry, repository) = (endpoint.registry.clone(), scope.repository.clone());
            let message = format!(
                "the token server {} refuses {}",
                authority(url),
                if with_login { "the login" } else { "access without login" }
            );
            return Err(RegistryError::Denied { registry, repository, message, with_login });
        }
        if !status.is_success() {
            let (method, url, status) = ("GET".to_owned(), shown(url), status.as_u16());
            return Err(RegistryError::Status { method, url, status, message: String::new() });
        }
        let body = read_limited(response, TOKEN_LIMIT).await?;
        let no_token = || RegistryError::NoToken { realm: shown(url) };
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| no_token())?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() {
            return Err(no_token());
        }
        // A little less, so that it does not run out on the way; never longer than a day.
        let life = answer.expires_in.unwrap_or(TOKEN_LIFE).clamp(10, 86_400) * 9 / 10;
        let until = Instant::now() + Duration::from_secs(life);
        Ok(Authorization::Bearer { header: bearer(&token)?, until, with_login })
    }

    /// The token server's address, where it may be asked.
    fn check_realm(&self, endpoint: &Endpoint, realm: &str, with_login: bool) -> Result<Url, RegistryError> {
        let refuse = |why| RegistryError::Realm {
            registry: endpoint.registry.clone(),
            realm: realm.split('?').next().unwrap_or_default().chars().take(200).collect(),
            why,
        };
        let url = Url::parse(realm).map_err(|_| refuse("that is no address"))?;
        let (Some(ours), Some(theirs)) = (endpoint.base.host_str(), url.host_str()) else {
            return Err(refuse("that is no address"));
        };
        let same_machine = ours == theirs || (is_loopback(ours) && is_loopback(theirs));
        match url.scheme() {
            "https" if !with_login || same_machine || are_siblings(ours, theirs) => Ok(url),
            "https" => Err(refuse("a login is not sent to a host of another domain")),
            "http" if endpoint.base.scheme() == "http" && same_machine => Ok(url),
            "http" if self.config.insecure.contains(&authority(&url)) => Ok(url),
            "http" => Err(refuse("it is not https")),
            _ => Err(refuse("it is neither http nor https")),
        }
    }
}

struct Realm {
    realm: String,
    service: Option<String>,
    theirs: Option<String>,
}

/// What to ask a token for: what we need; where the registry names something else for this repository, that too.
fn scopes(scope: &Scope, theirs: Option<&str>) -> Vec<String> {
    // Who only shows a login wants no repository.
    if scope.repository.is_empty() {
        return Vec::new();
    }
    let ours = format!("repository:{}:pull{}", scope.repository, if scope.push { ",push" } else { "" });
    let mut all = vec![ours];
    all.extend(scope.also_pull.as_ref().map(|other| format!("repository:{other}:pull")));
    let prefix = format!("repository:{}:", scope.repository);
    for word in theirs.unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
        if !word.starts_with(&prefix) && !all.iter().any(|known| known == word) {
            all.push(word.to_owned());
        }
    }
    all
}

/// Whether two hosts lie under the same domain, one level up at most and never directly under a top-level domain.
fn are_siblings(ours: &str, theirs: &str) -> bool {
    let is_name = |host: &str| host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[');
    let parent = |host: &str| host.split_once('.').map(|(_, parent)| parent.to_owned()).filter(|it| it.contains('.'));
    let below =
        |host: &str, domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    is_name(ours)
        && is_name(theirs)
        && (parent(ours).is_some_and(|domain| below(theirs, &domain)) || (ours.contains('.') && below(theirs, ours)))
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    secret(&basic_authorization(username, password))
}

/// Value of an `Authorization` header with a name and a password (RFC 7617).
#[must_use]
pub fn basic_authorization(username: &str, password: &str) -> String {
    format!("Basic {}", encode_base64(format!("{username}:{password}").as_bytes()))
}

fn bearer(token: &str) -> Result<HeaderValue, RegistryError> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Result<HeaderValue, RegistryError> {
    let refuse = |_| RegistryError::NoToken { realm: "a token with characters that no header may have".to_owned() };
    let mut value = HeaderValue::from_str(text).map_err(refuse)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = 0_usize;
        for at in 0..3 {
            bits = bits << 8 | usize::from(group.get(at).copied().unwrap_or_default());
        }
        for at in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * at) & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryConfig;

    fn endpoint(base: &str) -> Endpoint {
        Endpoint { registry: "the-registry".into(), base: Url::parse(base).unwrap(), repository: None }
    }

    #[test]
    fn logins_go_to_the_registrys_own_token_server_only() {
        let transport = Transport::new(RegistryConfig::default());
        for (base, realm, anonymous, with_login) in [
            ("https://registry-1.docker.io/", "https://auth.docker.io/token", true, true),
            ("https://ghcr.io/", "https://ghcr.io/token", true, true),
            ("https://registry.gitlab.com/", "https://gitlab.com/jwt/auth", true, true),
            ("https://reg.example.com:5000/", "https://reg.example.com:8443/auth", true, true),
            ("https://reg.example.com/", "https://evil.com/auth", true, false),
            ("https://reg.example.com/", "https://notexample.com/auth", true, false),
            ("https://reg.example.com/", "https://example.com.evil.com/auth", true, false),
            ("https://example.com/", "https://other.com/auth", true, false),
            ("https://example.com/", "https://auth.example.com/", true, true),
            ("https://reg.example.com/", "http://reg.example.com/auth", false, false),
            ("https://10.0.0.1/", "https://11.0.0.1/auth", true, false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/auth", true, true),
            ("http://127.0.0.1:5000/", "http://localhost:5001/auth", true, true),
            ("http://127.0.0.1:5000/", "http://evil:1/", false, false),
            ("https://reg.example.com/", "file:///etc/passwd", false, false),
            ("https://reg.example.com/", "nonsense", false, false),
        ] {
            let endpoint = endpoint(base);
            assert_eq!(transport.check_realm(&endpoint, realm, false).is_ok(), anonymous, "{base} {realm}");
            assert_eq!(transport.check_realm(&endpoint, realm, true).is_ok(), with_login, "{base} {realm} with login");
        }
    }

    #[test]
    fn scopes_are_ours_and_what_the_registry_adds() {
        let scope = Scope { also_pull: Some("b".into()), ..Scope::push("a") };
        assert_eq!(
            scopes(&scope, Some("repository:a:pull repository:c:*")),
            ["repository:a:pull,push", "repository:b:pull", "repository:c:*"]
        );
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode_base64(bytes.as_bytes()), text);
        }
    }
}

//! Requests: where they go, who is trusted, when they are repeated, which redirects are followed.
//!
//! A login belongs to one registry. It is sent to that registry's own address only, never along a redirect to
//! another one, and to a token server only where [`super::auth`] finds that it may go there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};

use tokio::sync::Semaphore;

use super::auth::Authorization;
use super::certificates::Certificates;
use super::config::{RegistryConfig, is_loopback};
use super::rules::places;
use super::{RegistryError, tls};
use crate::store::lock;

/// Longest error answer that is read, in bytes.
const MESSAGE_LIMIT: u64 = 64 << 10;
/// Redirects followed for one request.
const REDIRECTS: usize = 5;
/// Tries where nobody listens: a registry that is down is told soon.
const CONNECT_ATTEMPTS: u32 = 3;
const USER_AGENT: &str = concat!("lapstrake/", env!("CARGO_PKG_VERSION"));

/// How the other side is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// Plain http.
    Plain,
    /// https with a certificate that is checked.
    Verified,
    /// https with any certificate.
    Unverified,
}

/// An address that serves a registry: its own, or a mirror's.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Whose logins are used: `host[:port]`, `docker.io` for Docker Hub.
    pub(super) registry: String,
    /// Without `/v2/`.
    pub(super) base: Url,
    /// What a repository is called there, where it goes by another name.
    pub(super) repository: Option<String>,
}

impl Endpoint {
    /// What a repository is called there.
    pub(super) fn local<'a>(&'a self, repository: &'a str) -> &'a str {
        self.repository.as_deref().unwrap_or(repository)
    }

    /// The address of something in a repository.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Result<Url, RegistryError> {
        let text = format!("{}/v2/{repository}/{rest}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&text).map_err(|_| RegistryError::Address { text })
    }
}

/// What a request may do: a repository, and whether to write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) push: bool,
    /// A second repository to read, for a mount.
    pub(super) also_pull: Option<String>,
}

impl Scope {
    pub(super) fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), push: false, also_pull: None }
    }

    pub(super) fn push(repository: &str) -> Self {
        Self { repository: repository.to_owned(), push: true, also_pull: None }
    }
}

/// Makes the body of a request; called again for each try.
pub(super) type MakeBody = Arc<dyn Fn(&Arc<Pulse>) -> Result<reqwest::Body, RegistryError> + Send + Sync>;

/// One request.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Option<MakeBody>,
    /// Not to be repeated as it is, but for a login.
    once: bool,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: None, once: false }
    }

    pub(super) fn once(mut self) -> Self {
        self.once = true;
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: MakeBody) -> Self {
        self.body = Some(body);
        self
    }
}

/// An answer, and whether it came from another address than the one that was asked.
struct Answer {
    response: Response,
    redirected: bool,
    /// Whether the request bore a login or a token.
    authorized: bool,
}

/// What a client gives up on by itself. The limit of HTTP clients for an answer counts from the first byte that is
/// sent, and sending much takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wait {
    /// Answers that do not come.
    ForAnswers,
    /// Nothing.
    ToSend,
}

/// When a body moved on last.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<tokio::time::Instant>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(tokio::time::Instant::now()))
    }
}

impl Pulse {
    /// It moves.
    pub(super) fn beat(&self) {
        *lock(&self.0) = tokio::time::Instant::now();
    }

    /// Waits until nothing has moved for so long.
    async fn stops(&self, limit: Duration) {
        loop {
            let due = *lock(&self.0) + limit;
            if tokio::time::Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// The HTTP clients and what has been learnt about registries.
pub(super) struct Transport {
    pub(super) config: RegistryConfig,
    /// One for each blob that is being fetched; what is left may be used for ranges of one of them.
    pub(super) downloads: Arc<Semaphore>,
    /// One for each kind of trust and of waiting, and one more for a host with certificates of its own.
    clients: Mutex<HashMap<(Trust, String, Wait), Client>>,
    certificates: Mutex<HashMap<String, Arc<Certificates>>>,
    endpoints: tokio::sync::Mutex<HashMap<String, Endpoint>>,
    pub(super) authorizations: Mutex<HashMap<(String, Scope), Authorization>>,
}

impl Transport {
    pub(super) fn new(config: RegistryConfig) -> Self {
        Self {
            downloads: Arc::new(Semaphore::new(config.parallel.max(1))),
            config,
            clients: Mutex::default(),
            certificates: Mutex::default(),
            endpoints: tokio::sync::Mutex::default(),
            authorizations: Mutex::default(),
        }
    }

    /// The client for an address; made when it is first needed, so that CA certificates are only read for https.
    pub(super) fn client(&self, url: &Url) -> Result<Client, RegistryError> {
        self.client_that_waits(url, Wait::ForAnswers)
    }

    fn client_that_waits(&self, url: &Url, wait: Wait) -> Result<Client, RegistryError> {
        let trust = self.trust(url);
        let certificates = match trust {
            Trust::Plain => Arc::default(),
            Trust::Verified | Trust::Unverified => self.certificates(&authority(url))?,
        };
        let host = if certificates.is_empty() { String::new() } else { authority(url) };
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&(trust, host.clone(), wait)) {
            return Ok(client.clone());
        }
        let tls = tls::config(trust, &self.config.ca_files, &certificates)?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .hickory_dns(true)
            // Blobs travel over several connections; one multiplexed connection is slower.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(self.config.connect_timeout)
            .no_proxy();
        if wait == Wait::ForAnswers {
            builder = builder.read_timeout(self.config.stall_timeout);
        }
        let proxies = &self.config.proxies;
        let none = proxies.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        if let Some(proxy) = &proxies.http {
            builder = builder.proxy(reqwest::Proxy::http(proxy).map_err(RegistryError::Client)?.no_proxy(none.clone()));
        }
        if let Some(proxy) = &proxies.https {
            builder = builder.proxy(reqwest::Proxy::https(proxy).map_err(RegistryError::Client)?.no_proxy(none));
        }
        let client = builder.build().map_err(RegistryError::Client)?;
        clients.insert((trust, host, wait), client.clone());
        Ok(client)
    }

    fn certificates(&self, host: &str) -> Result<Arc<Certificates>, RegistryError> {
        let mut known = lock(&self.certificates);
        if let Some(certificates) = known.get(host) {
            return Ok(Arc::clone(certificates));
        }
        let certificates = match self.config.certificate_dir_of.get(host) {
            Some(dir) => Certificates::within(dir)?,
            None => Certificates::of(&self.config.certificate_dirs, host)?,
        };
        let certificates = Arc::new(certificates);
        known.insert(host.to_owned(), Arc::clone(&certificates));
        Ok(certificates)
    }

    /// Whether any certificate and plain http will do for a host. This machine need not prove itself, unless there is
    /// an authority for it; where that cannot be told, it must.
    fn is_insecure(&self, host: &str) -> bool {
        let has_authority = || self.certificates(host).map_or(true, |found| !found.authorities.is_empty());
        self.config.is_marked_insecure(host) || (self.config.is_insecure(host) && !has_authority())
    }

    /// How the host of an address is trusted.
    fn trust(&self, url: &Url) -> Trust {
        match url.scheme() {
            "http" => Trust::Plain,
            _ if self.is_insecure(&authority(url)) => Trust::Unverified,
            _ => Trust::Verified,
        }
    }

    /// The addresses to ask for a repository of a registry: mirrors, then the registry itself. `by_digest` tells how the
    /// image is named, where that matters.
    pub(super) async fn endpoints(
        &self,
        registry: &str,
        repository: &str,
        by_digest: Option<bool>,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        let mut endpoints = Vec::new();
        for mirror in self.config.mirrors.get(registry).into_iter().flatten() {
            let text = if mirror.contains("://") { mirror.clone() } else { format!("https://{mirror}") };
            let base = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            let base = base.ok_or_else(|| RegistryError::Address { text: mirror.clone() })?;
            endpoints.push(Endpoint { registry: authority(&base), base, repository: None });
        }
        for place in places(&self.config.rules, registry, repository, by_digest)? {
            let repository = Some(place.repository).filter(|there| there != repository);
            endpoints.push(Endpoint { repository, ..self.upstream(&place.registry).await? });
        }
        Ok(endpoints)
    }

    /// The registry itself, no mirror, and what the repository is called there.
    pub(super) async fn home(&self, registry: &str, repository: &str) -> Result<(Endpoint, String), RegistryError> {
        match places(&self.config.rules, registry, repository, None)?.pop() {
            Some(place) => Ok((self.upstream(&place.registry).await?, place.repository)),
            None => Ok((self.upstream(registry).await?, repository.to_owned())),
        }
    }

    /// The registry itself. For a host that need not be secure, https is tried once, then plain http.
    pub(super) async fn upstream(&self, registry: &str) -> Result<Endpoint, RegistryError> {
        let mut known = self.endpoints.lock().await;
        if let Some(endpoint) = known.get(registry) {
            return Ok(endpoint.clone());
        }
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let address = |scheme: &str| {
            let text = format!("{scheme}://{host}/");
            Url::parse(&text).map_err(|_| RegistryError::Address { text: registry.to_owned() })
        };
        let mut base = address("https")?;
        if self.is_insecure(host) {
            let probe = base.join("v2/").map_err(|_| RegistryError::Address { text: registry.to_owned() })?;
            if self.client(&probe)?.get(probe).send().await.is_err() {
                base = address("http")?;
            }
        }
        let endpoint = Endpoint { registry: registry.to_owned(), base, repository: None };
        known.insert(registry.to_owned(), endpoint.clone());
        Ok(endpoint)
    }

    /// Sends a request, again where that may help, with a login where one is asked for. Any status that is not worth
    /// another try is returned as it is.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        call: &Call,
    ) -> Result<Response, RegistryError> {
        let retry = self.config.retry;
        let attempts = if call.once { 1 } else { retry.attempts };
        let mut asked_for_login = false;
        let mut attempt = 1;
        loop {
            let wait = match self.follow(endpoint, scope, call).await {
                Ok(Answer { response, redirected: false, authorized })
                    if response.status() == StatusCode::UNAUTHORIZED && !asked_for_login =>
                {
                    asked_for_login = true;
                    if !self.authenticate(endpoint, scope, response.headers(), authorized).await? {
                        return Ok(response);
                    }
                    continue;
                }
                Ok(Answer { response, .. }) if is_passing(response.status()) && attempt < attempts => {
                    retry_after(response.headers())
                }
                Ok(Answer { response, .. }) => return Ok(response),
                Err(error) if attempt < retry_limit(&error, attempts) => None,
                Err(error) => return Err(error),
            };
            attempt += 1;
            tokio::time::sleep(retry.wait(attempt, wait)).await;
        }
    }

    /// Like [`Self::send`], but an answer that is no success is an error.
    pub(super) async fn expect(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        call: &Call,
    ) -> Result<Response, RegistryError> {
        let response = self.send(endpoint, scope, call).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(endpoint, scope, call, response).await)
    }

    /// The error that an answer stands for.
    pub(super) async fn refusal(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        call: &Call,
        response: Response,
    ) -> RegistryError {
        let status = response.status();
        let url = shown(response.url());
        // What cannot be read says nothing.
        let body = read_limited(response, MESSAGE_LIMIT).await.unwrap_or_default();
        let message = registry_message(&body);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let with_login = lock(&self.authorizations)
                .get(&(endpoint.base.to_string(), scope.clone()))
                .is_some_and(Authorization::has_login);
            let (registry, repository) = (endpoint.registry.clone(), scope.repository.clone());
            return RegistryError::Denied { registry, repository, message, with_login };
        }
        RegistryError::Status { method: call.method.to_string(), url, status: status.as_u16(), message }
    }

    async fn follow(&self, endpoint: &Endpoint, scope: &Scope, call: &Call) -> Result<Answer, RegistryError> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            let at_home = url.origin() == endpoint.base.origin();
            let wait = if call.body.is_some() { Wait::ToSend } else { Wait::ForAnswers };
            let mut request = self.client_that_waits(&url, wait)?.request(call.method.clone(), url.clone());
            for (name, value) in &call.headers {
                request = request.header(name, value);
            }
            let authorization = if at_home { self.authorization(endpoint, scope) } else { None };
            let authorized = authorization.is_some();
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let pulse = Arc::default();
            if let Some(body) = &call.body {
                request = request.body(body(&pulse)?);
            }
            let limit = self.config.stall_timeout;
            let response = tokio::select! {
                response = request.send() => response.map_err(|error| unreachable(&call.method, &url, error))?,
                () = pulse.stops(limit), if wait == Wait::ToSend => {
                    return Err(RegistryError::Stalled { method: call.method.to_string(), url: shown(&url), limit });
                }
            };
            let may_follow = matches!(call.method, Method::GET | Method::HEAD);
            if !(response.status().is_redirection() && may_follow) || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(Answer { response, redirected: !at_home, authorized });
            }
            url = self.redirect(&url, &response)?;
        }
        Err(RegistryError::Redirect { url: shown(&call.url), target: shown(&url), why: "too many redirects" })
    }

    fn redirect(&self, from: &Url, response: &Response) -> Result<Url, RegistryError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.redirect_to(from, location)
    }

    /// Where a redirect leads, where that may be followed: never to less security, never from elsewhere into this
    /// machine, whose servers trust who comes from it.
    fn redirect_to(&self, from: &Url, location: &str) -> Result<Url, RegistryError> {
        let refuse = |why| {
            let target = location.split('?').next().unwrap_or_default().chars().take(200).collect();
            RegistryError::Redirect { url: shown(from), target, why }
        };
        let target = from.join(location).map_err(|_| refuse("that is no address"))?;
        match target.scheme() {
            _ if location.is_empty() => Err(refuse("no address is given")),
            _ if is_loopback(host(&target)) && !is_loopback(host(from)) => {
                Err(refuse("from elsewhere into this machine"))
            }
            "https" => Ok(target),
            "http" if from.scheme() == "http" || self.is_insecure(&authority(&target)) => Ok(target),
            "http" => Err(refuse("from https to plain http")),
            _ => Err(refuse("neither http nor https")),
        }
    }

    /// A request to a server outside any registry.
    pub(super) async fn send_to_realm(
        &self,
        request: impl Fn(&Client) -> reqwest::RequestBuilder,
        url: &Url,
    ) -> Result<Response, RegistryError> {
        let retry = self.config.retry;
        let mut attempt = 1;
        loop {
            let (client, built) = request(&self.client(url)?).build_split();
            let result = match built {
                // Whoever sends a stream says how long that may take.
                Ok(request) if request.body().is_some_and(|body| body.as_bytes().is_none()) => {
                    self.client_that_waits(url, Wait::ToSend)?.execute(request).await
                }
                Ok(request) => client.execute(request).await,
                Err(error) => Err(error),
            };
            let wait = match result.map_err(|error| unreachable(&Method::GET, url, error)) {
                Ok(response) if is_passing(response.status()) && attempt < retry.attempts => {
                    retry_after(response.headers())
                }
                Ok(response) => return Ok(response),
                Err(error) if attempt < retry_limit(&error, retry.attempts) => None,
                Err(error) => return Err(error),
            };
            attempt += 1;
            tokio::time::sleep(retry.wait(attempt, wait)).await;
        }
    }
}

/// `host[:port]` as it stands in the address.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// An address without its query and login, which may be secrets.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

pub(super) fn unreachable(method: &Method, url: &Url, error: reqwest::Error) -> RegistryError {
    RegistryError::Unreachable { method: method.to_string(), url: shown(url), source: error.without_url() }
}

/// Statuses that may be gone at the next try.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How often a request is tried that failed without an answer.
pub(super) fn retry_limit(error: &RegistryError, attempts: u32) -> u32 {
    match error {
        RegistryError::Unreachable { source, .. } if is_tls(source) || source.is_builder() => 1,
        RegistryError::Unreachable { source, .. } if source.is_connect() => attempts.min(CONNECT_ATTEMPTS),
        RegistryError::Unreachable { .. } => attempts,
        _ => 1,
    }
}

/// Whether it was TLS: a certificate does not get better by asking again.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// `Retry-After` in seconds; a date counts as "as late as we would wait at all".
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(Duration::MAX),
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_limited(mut response: Response, limit: u64) -> Result<Vec<u8>, RegistryError> {
    let url = shown(response.url());
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() as u64 + chunk.len() as u64 > limit => {
                return Err(RegistryError::TooLarge { url, limit });
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(_) => return Err(RegistryError::BrokenOff { url, received: bytes.len() as u64 }),
        }
    }
}

/// What a registry says in its error document (distribution spec, "Error Codes"), or the start of any other text.
fn registry_message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(document) => {
            let one = |error: One| format!("{} ({})", error.message, error.code);
            document.errors.into_iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Err(_) if body.starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    // Hostile text must neither flood nor steer a terminal.
    text.chars().filter(|character| !character.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_no_less_security_and_not_into_this_machine() {
        let transport = Transport::new(RegistryConfig::default());
        for (from, location, wanted) in [
            ("https://reg.example/v2/a", "https://cdn.example/blob?sig=1", Some("https://cdn.example/blob?sig=1")),
            ("https://reg.example/v2/a", "/other", Some("https://reg.example/other")),
            ("https://reg.example/v2/a", "http://reg.example/v2/a", None),
            ("https://reg.example/v2/a", "http://127.0.0.1:8080/secret", None),
            ("https://reg.example/v2/a", "https://localhost/secret", None),
            ("http://reg.example/v2/a", "http://[::1]:1/secret", None),
            ("http://127.0.0.1:5000/v2/a", "http://localhost:5001/x", Some("http://localhost:5001/x")),
            ("http://reg.example/v2/a", "http://cdn.example/x", Some("http://cdn.example/x")),
            ("https://reg.example/v2/a", "file:///etc/passwd", None),
            ("https://reg.example/v2/a", "", None),
        ] {
            let target = transport.redirect_to(&Url::parse(from).unwrap(), location).ok();
            assert_eq!(target.as_ref().map(Url::as_str), wanted, "{from} to {location}");
        }
    }
}

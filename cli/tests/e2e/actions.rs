//! The cache service of GitHub Actions, both versions, as its clients see it: entries are never changed, an entry counts
//! when it is concluded, keys are found whole or by their beginning, the newest first, and the service's token goes to
//! the service alone.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "runtime-token";

#[derive(Default)]
struct Entry {
    key: String,
    version: String,
    bytes: Vec<u8>,
    complete: bool,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    requests: Vec<String>,
}

/// The service on a free loopback port; ends with the test.
pub(crate) struct Actions {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Actions {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let (shared, own) = (Arc::clone(&state), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, url) = (Arc::clone(&shared), own.clone());
                std::thread::spawn(move || serve(&stream, &state, &url));
            }
        });
        Self { url, state }
    }

    /// Method and path of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Keys of the entries that are complete.
    pub(crate) fn keys(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.entries.iter().filter(|entry| entry.complete).map(|entry| entry.key.clone()).collect()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>, url: &str) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let (status, body) = answer(&request, &mut state.lock().unwrap(), url);
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        let body: &[u8] = if status == 204 { b"" } else { &body };
        let head = if status == 204 { format!("HTTP/1.1 {status}\r\n\r\n") } else { head };
        if (&*stream).write_all(&[head.as_bytes(), body].concat()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let query = query.split('&').filter_map(pair).collect();
    Some(Request { method, path: path.to_owned(), query, headers, body })
}

fn answer(request: &Request, state: &mut State, url: &str) -> (u16, Vec<u8>) {
    state.requests.push(format!("{} {}", request.method, request.path));
    let signed = request.query.get("sig").is_some_and(|sig| sig == "signed");
    let authorized = request.headers.get("authorization").is_some_and(|value| *value == format!("Bearer {TOKEN}"));
    if signed == authorized {
        // Neither, or a token sent where it must not go.
        return (401, b"no".to_vec());
    }
    let text = |status, value: Value| (status, value.to_string().into_bytes());
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let string = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let last = request.path.rsplit('/').next().unwrap_or_default();
    let number = || last.parse::<usize>().unwrap();
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", path) if path.starts_with("/blob/") => {
            let entry = &state.entries[number()];
            if entry.complete { (200, entry.bytes.clone()) } else { (404, Vec::new()) }
        }
        ("PUT", path) if path.starts_with("/blob/") => {
            assert_eq!(request.headers.get("x-ms-blob-type").map(String::as_str), Some("BlockBlob"));
            state.entries[number()].bytes.clone_from(&request.body);
            (201, Vec::new())
        }
        ("GET", "/_apis/artifactcache/cache") => {
            assert!(request.headers["accept"].contains("api-version=6.0-preview.1"));
            match state.find(&request.query["keys"], &[request.query["keys"].clone()], &request.query["version"]) {
                Some((number, key)) => {
                    text(200, json!({"cacheKey": key, "archiveLocation": format!("{url}/blob/{number}?sig=signed")}))
                }
                None => (204, Vec::new()),
            }
        }
        ("POST", "/_apis/artifactcache/caches") => match state.reserve(string("key"), string("version")) {
            Some(number) => text(201, json!({"cacheId": number})),
            None => text(409, json!({"message": "already exists"})),
        },
        ("PATCH", path) if path.starts_with("/_apis/artifactcache/caches/") => {
            let range = request.headers["content-range"].trim_start_matches("bytes ");
            let (start, rest) = range.split_once('-').unwrap();
            let entry = &mut state.entries[number()];
            assert_eq!(entry.bytes.len(), start.parse::<usize>().unwrap());
            entry.bytes.extend(&request.body);
            assert_eq!(entry.bytes.len(), rest.trim_end_matches("/*").parse::<usize>().unwrap() + 1);
            (204, Vec::new())
        }
        ("POST", path) if path.starts_with("/_apis/artifactcache/caches/") => {
            let entry = &mut state.entries[number()];
            entry.complete = body["size"].as_u64() == Some(entry.bytes.len() as u64);
            (if entry.complete { 204 } else { 400 }, Vec::new())
        }
        ("POST", path) if path.starts_with("/twirp/github.actions.results.api.v1.CacheService/") => match last {
            "GetCacheEntryDownloadURL" => {
                let restore: Vec<String> =
                    body["restore_keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().into()).collect();
                match state.find(&string("key"), &restore, &string("version")) {
                    Some((number, key)) => text(
                        200,
                        json!({"ok": true, "signed_download_url": format!("{url}/blob/{number}?sig=signed"), "matched_key": key}),
                    ),
                    None => text(200, json!({"ok": false, "signed_download_url": "", "matched_key": ""})),
                }
            }
            "CreateCacheEntry" => match state.reserve(string("key"), string("version")) {
                Some(number) => {
                    text(200, json!({"ok": true, "signed_upload_url": format!("{url}/blob/{number}?sig=signed")}))
                }
                None => text(409, json!({"code": "already_exists", "msg": "cache entry already exists"})),
            },
            "FinalizeCacheEntryUpload" => {
                let (key, version) = (string("key"), string("version"));
                let at = state.entries.iter().position(|entry| entry.key == key && entry.version == version).unwrap();
                let entry = &mut state.entries[at];
                entry.complete = string("size_bytes") == entry.bytes.len().to_string();
                text(200, json!({"ok": entry.complete, "entry_id": at.to_string()}))
            }
            _ => text(404, json!({"code": "bad_route"})),
        },
        _ => (404, Vec::new()),
    }
}

impl State {
    fn find(&self, key: &str, restore: &[String], version: &str) -> Option<(usize, String)> {
        let usable = || self.entries.iter().enumerate().filter(|(_, entry)| entry.complete && entry.version == version);
        let whole = usable().find(|(_, entry)| entry.key == key);
        let begins = |entry: &Entry| restore.iter().any(|prefix| entry.key.starts_with(prefix.as_str()));
        let found = whole.or_else(|| usable().rfind(|(_, entry)| begins(entry)));
        found.map(|(number, entry)| (number, entry.key.clone()))
    }

    fn reserve(&mut self, key: String, version: String) -> Option<usize> {
        if self.entries.iter().any(|entry| entry.key == key && entry.version == version) {
            return None;
        }
        self.entries.push(Entry { key, version, ..Entry::default() });
        Some(self.entries.len() - 1)
    }
}

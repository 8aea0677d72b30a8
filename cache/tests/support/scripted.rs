//! A registry that answers what a script says: honestly, late, wrongly or not at all.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use lap_cache::digest::Digest;
use lap_cache::image::{AssembleOptions, Image, Reference};
use lap_cache::store::Store;

use super::image;

#[derive(Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Not in the log.
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The bytes that are asked for of so many, if not all.
    pub fn range(&self, length: usize) -> Option<Range<usize>> {
        let (start, end) = self.header("range").strip_prefix("bytes=")?.split_once('-')?;
        let end = if end.is_empty() { length } else { end.parse::<usize>().unwrap() + 1 };
        Some(start.parse().unwrap()..end.min(length))
    }
}

#[derive(Default, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Ends the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Does not say how long the body is.
    pub unsized_body: bool,
    /// Says nothing more after what was cut, and keeps the connection.
    pub stalls: bool,
}

/// No answer at all: the connection ends.
pub fn hang_up() -> Answer {
    Answer::default()
}

pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, body: body.into(), ..Answer::default() }
}

impl Answer {
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// A server on a loopback port; its script gets each request and how often its method and path came before.
pub struct Server {
    pub address: String,
    pub log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (script, kept): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&log));
        // Lives as long as the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, &*script, &log));
            }
        });
        Self { address, log }
    }

    pub fn count(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        self.log.lock().unwrap().iter().filter(|request| wanted(request)).count()
    }
}

fn serve(stream: TcpStream, script: &Script, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        // A TLS handshake: not spoken here.
        if reader.fill_buf().map_or(true, |start| start.first().is_none_or(|byte| *byte == 0x16)) {
            return;
        }
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() {
            return;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let request = Request { method, path, headers, body };
        let before = {
            let mut log = log.lock().unwrap();
            let same = log.iter().filter(|old| (&old.method, &old.path) == (&request.method, &request.path)).count();
            log.push(Request { body: Vec::new(), ..request.clone() });
            same
        };
        let reply = script(&request, before);
        if reply.status == 0 {
            return;
        }
        let mut head = format!("HTTP/1.1 {} x\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let own_length = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if reply.unsized_body {
            head.push_str("Connection: close\r\n");
        } else if !own_length {
            head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
        }
        head.push_str("\r\n");
        let body = if request.method == "HEAD" { &[][..] } else { &reply.body[..] };
        let sent = &body[..reply.cut.unwrap_or(body.len()).min(body.len())];
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)).is_err() {
            return;
        }
        if reply.stalls {
            // Until the other side has had enough.
            drop(reader.fill_buf());
            return;
        }
        if reply.cut.is_some() || reply.unsized_body || own_length {
            return;
        }
    }
}

/// The honest documents and blobs of an image, by path.
#[derive(Clone)]
pub struct Shelf {
    pub image: Image,
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Shelf {
    pub fn of(store: &Store) -> Self {
        Self::of_image(store, image(store, &AssembleOptions::default()))
    }

    /// An image of the store.
    pub fn of_image(store: &Store, image: Image) -> Self {
        let mut blobs = BTreeMap::new();
        blobs.insert(format!("/v2/app/blobs/{}", image.id()), image.raw_config.clone());
        for layer in &image.layers {
            let bytes = store.content().read(&layer.digest, u64::MAX).unwrap();
            blobs.insert(format!("/v2/app/blobs/{}", layer.digest), bytes);
        }
        Self { image, blobs }
    }

    /// An image whose layers are `blobs`, each with its media type and diff ID.
    pub fn crafted(blobs: &[(&str, Vec<u8>, Digest)]) -> Self {
        let mut image = super::config();
        image.rootfs.diff_ids = blobs.iter().map(|(_, _, diff_id)| diff_id.to_string()).collect();
        image.history.clear();
        let config = serde_json::to_vec(&image).unwrap();
        let described = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
        let layers: Vec<_> = blobs.iter().map(|(media_type, bytes, _)| described(media_type, bytes)).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "layers": layers,
            "config": described("application/vnd.oci.image.config.v1+json", &config)});
        let all = blobs.iter().map(|(_, bytes, _)| bytes).chain([&config]);
        let blobs = all.map(|bytes| (format!("/v2/app/blobs/{}", Digest::of(bytes)), bytes.clone())).collect();
        Self { image: Image::read(manifest.to_string().into_bytes(), Some(media_type), config.clone()).unwrap(), blobs }
    }

    /// Path of the large layer.
    pub fn big(&self) -> String {
        format!("/v2/app/blobs/{}", self.image.layers[0].digest)
    }

    /// What an honest registry answers.
    pub fn honest(&self, request: &Request) -> Answer {
        let manifests = ["/v2/app/manifests/1".to_owned(), format!("/v2/app/manifests/{}", self.image.digest())];
        if manifests.contains(&request.path) {
            let media_type = self.image.descriptor.media_type().to_string();
            return answer(200, self.image.raw_manifest.clone()).with("Content-Type", media_type);
        }
        let Some(blob) = self.blobs.get(&request.path) else { return answer(404, "{}") };
        match request.range(blob.len()) {
            Some(range) => {
                let told = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.len());
                answer(206, &blob[range]).with("Content-Range", told)
            }
            None => answer(200, blob.clone()),
        }
    }
}

pub fn name(server: &Server) -> Reference {
    format!("{}/app:1", server.address).parse().unwrap()
}

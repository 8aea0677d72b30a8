//! Layers pass through memory, they are never in it: a layer far larger than what `lap` may take, from and to a registry
//! that makes it up as it goes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::{Lap, needs, run};

/// What `lap` may take at its peak, in KiB.
const MOST: u64 = 256 << 10;
const BLOCK: usize = 512;

/// A registry with one image, whose one layer is a tar of one file of zeros.
struct Registry {
    header: Vec<u8>,
    /// Bytes of the layer.
    size: u64,
    /// The small documents, by path.
    documents: BTreeMap<String, Vec<u8>>,
    layer: String,
}

impl Registry {
    /// Of a file of `size` bytes; a multiple of a block.
    fn start(size: u64) -> String {
        let header = header(size);
        let whole = size + header.len() as u64 + 2 * BLOCK as u64;
        let mut hasher = Sha256::new();
        hasher.update(&header);
        let zeros = vec![0; 1 << 20];
        let mut left = whole - header.len() as u64;
        while left > 0 {
            let part = left.min(zeros.len() as u64);
            hasher.update(&zeros[..usize::try_from(part).unwrap()]);
            left -= part;
        }
        let layer = format!("sha256:{}", hex(&hasher.finalize()));
        let config = json!({"os": "linux", "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "rootfs": {"type": "layers", "diff_ids": [layer]}})
        .to_string();
        let id = format!("sha256:{}", hex(&Sha256::digest(&config)));
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": id, "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": whole}]})
        .to_string()
        .into_bytes();
        let documents = BTreeMap::from([
            ("/v2/zeros/manifests/1".to_owned(), manifest),
            (format!("/v2/zeros/blobs/{id}"), config.into_bytes()),
        ]);
        let registry = Arc::new(Self { header, size: whole, documents, layer: format!("/v2/zeros/blobs/{layer}") });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Lives as long as the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let registry = Arc::clone(&registry);
                std::thread::spawn(move || drop(registry.serve(&stream)));
            }
        });
        address
    }

    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        // A TLS handshake is not spoken here.
        while reader.fill_buf()?.first().is_some_and(|byte| *byte != 0x16) {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let (mut range, mut length) = (None, 0);
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let header = header.trim().to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(text) = header.strip_prefix("range: bytes=") {
                    range =
                        text.split_once('-').map(|(first, last)| (first.parse().unwrap(), last.parse::<u64>().ok()));
                }
                if let Some(text) = header.strip_prefix("content-length: ") {
                    length = text.parse().unwrap();
                }
            }
            io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
            let mut words = line.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match (method, self.documents.get(path)) {
                ("GET", _) if path == self.layer => self.send(stream, range)?,
                ("GET", Some(document)) => {
                    write!(stream, "HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", document.len())?;
                    stream.write_all(document)?;
                }
                ("POST" | "PATCH", _) => {
                    write!(
                        stream,
                        "HTTP/1.1 202 x\r\nLocation: /v2/zeros/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n"
                    )?;
                }
                ("PUT", _) => write!(stream, "HTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n")?,
                _ => write!(stream, "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n")?,
            }
        }
        Ok(())
    }

    /// The layer, or a range of it.
    fn send(&self, mut stream: &TcpStream, range: Option<(u64, Option<u64>)>) -> io::Result<()> {
        let (start, end) = match range {
            Some((first, last)) => (first, last.map_or(self.size, |last| last + 1)),
            None => (0, self.size),
        };
        let (size, length) = (self.size, end - start);
        let status = if range.is_some() { 206 } else { 200 };
        write!(
            stream,
            "HTTP/1.1 {status} x\r\nContent-Range: bytes {start}-{}/{size}\r\nContent-Length: {length}\r\n\r\n",
            end - 1
        )?;
        let from = usize::try_from(start).unwrap_or(BLOCK).min(BLOCK);
        let head = &self.header[from..];
        stream.write_all(head)?;
        io::copy(&mut io::repeat(0).take(length - head.len() as u64), &mut stream)?;
        Ok(())
    }
}

/// The header of a tar's file (POSIX ustar) whose size may be larger than eleven octal digits hold.
fn header(size: u64) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, b"zeros");
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `lap` took at its peak, in KiB.
fn peak(lap: &Lap, args: &[&str]) -> u64 {
    let measure = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=sys.stderr); \
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)";
    let (store, lap) = (format!("LAP_ROOT={}", lap.path("store").display()), env!("CARGO_BIN_EXE_lap"));
    let mut all = vec!["-i", "PATH=/usr/bin:/bin", &store, "python3", "-c", measure, lap];
    all.extend(args);
    run("env", &all).ok().out.trim().parse().unwrap()
}

#[test]
fn a_large_layer_is_never_in_memory() {
    needs!(root);
    needs!("python3");
    // On demand more: 5120 is five gibibytes.
    let mebibytes = std::env::var("LAP_LARGE_LAYER_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let name = format!("{}/zeros:1", Registry::start(mebibytes << 20));
    let lap = Lap::empty();
    let pulled = peak(&lap, &["pull", "-q", &name]);
    let pushed = peak(&lap, &["push", "-q", &name]);
    println!("{mebibytes} MiB: pull {pulled} KiB, push {pushed} KiB");
    assert!(pulled < MOST, "pull: {pulled} KiB");
    assert!(pushed < MOST, "push: {pushed} KiB");
}

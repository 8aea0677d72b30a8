//! A web server and git repositories, on loopback.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::wait_for;

/// An answer to a path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body is sent again and again, until nobody reads it any more.
    pub(crate) endless: bool,
}

impl Page {
    pub(crate) fn new(body: impl AsRef<[u8]>) -> Self {
        Self { status: 200, body: body.as_ref().to_vec(), ..Self::default() }
    }

    pub(crate) fn endless() -> Self {
        Self { endless: true, ..Self::new(vec![b'x'; 1 << 16]) }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self { status: 302, ..Self::default() }.header("Location", to)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

#[derive(Default)]
struct State {
    pages: HashMap<String, Page>,
    /// Files below it are served where there is no page.
    files: Option<PathBuf>,
    /// Lines of each request, lower case.
    requests: Vec<Vec<String>>,
}

/// Serves pages until the test ends.
pub(crate) struct Web {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Web {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is fine.
                std::thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { url, state }
    }

    pub(crate) fn page(&self, path: &str, page: Page) -> String {
        self.state.lock().unwrap().pages.insert(path.to_owned(), page);
        format!("{}{path}", self.url)
    }

    pub(crate) fn files(&self, dir: &Path) {
        self.state.lock().unwrap().files = Some(dir.to_path_buf());
    }

    /// Requests since the last call: their lines in lower case.
    pub(crate) fn requests(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/").to_owned();
    let lower: Vec<String> = lines.iter().map(|line| line.to_ascii_lowercase()).collect();
    let known = |page: &Page| {
        let tag = page.headers.iter().find(|(name, _)| name == "ETag").map(|(_, tag)| tag.to_ascii_lowercase());
        tag.is_some_and(|tag| lower.iter().any(|line| *line == format!("if-none-match: {tag}")))
    };
    let page = {
        let mut state = state.lock().unwrap();
        state.requests.push(lower.clone());
        let bare = path.split('?').next().unwrap_or_default();
        let file = state.files.as_ref().map(|dir| dir.join(bare.trim_start_matches('/')));
        let file = file.and_then(|path| std::fs::read(path).ok()).map(Page::new);
        state.pages.get(&path).cloned().or(file).unwrap_or_else(|| Page { status: 404, ..Page::default() })
    };
    let (status, body) = if known(&page) { (304, &[][..]) } else { (page.status, &page.body[..]) };
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    for (name, value) in &page.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 304 && !page.endless && !page.headers.iter().any(|(name, _)| name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if page.endless {
        loop {
            stream.write_all(body)?;
        }
    }
    stream.write_all(body)
}

/// A repository with a work tree.
pub(crate) struct Repository(pub(crate) PathBuf);

impl Repository {
    pub(crate) fn new(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        let repository = Self(dir);
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"])
            .args(["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"])
            .args(args)
            .current_dir(&self.0)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Commits everything; the commit.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// `git daemon` for the repositories below a directory.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) url: String,
}

impl Daemon {
    pub(crate) fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("git")
            .args(["-c", "safe.directory=*", "daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("git daemon", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, url: format!("git://127.0.0.1:{port}") }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        // SIGTERM lets `git` take its daemon along.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        drop(self.child.wait());
    }
}

//! Repositories behind a login and behind a proxy: `git http-backend` as a web server's CGI program.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::{Lap, Said, needs};
use crate::web::{Page, Repository, Web};

/// The first line of each request, and its `Authorization` header.
type Requests = Vec<(String, Option<String>)>;

/// Serves the repositories below a directory, to whoever sends the right header.
struct GitHttp {
    host: String,
    url: String,
    /// The `Authorization` header that is asked for.
    wanted: Arc<Mutex<Option<String>>>,
    seen: Arc<Mutex<Requests>>,
}

impl GitHttp {
    fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = Self { url: format!("http://{host}"), host, wanted: Arc::default(), seen: Arc::default() };
        let (wanted, seen, dir) = (Arc::clone(&server.wanted), Arc::clone(&server.seen), dir.to_path_buf());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (wanted, seen, dir) = (Arc::clone(&wanted), Arc::clone(&seen), dir.clone());
                // A client that goes away is fine.
                std::thread::spawn(move || drop(serve(&stream, &dir, &wanted, &seen)));
            }
        });
        server
    }

    fn want(&self, header: &str) {
        *self.wanted.lock().unwrap() = Some(header.to_owned());
        self.seen.lock().unwrap().clear();
    }

    fn seen(&self) -> Requests {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn serve(
    stream: &TcpStream,
    dir: &Path,
    wanted: &Mutex<Option<String>>,
    seen: &Mutex<Requests>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let found =
            lines.iter().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body)?;
    let words: Vec<&str> = lines[0].split(' ').collect();
    let authorization = header("authorization");
    seen.lock().unwrap().push((lines[0].clone(), authorization.clone()));
    let mut stream = stream;
    if wanted.lock().unwrap().as_ref().is_some_and(|wanted| Some(wanted) != authorization.as_ref()) {
        let answer =
            "HTTP/1.1 401 x\r\nConnection: close\r\nContent-Length: 0\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n";
        return stream.write_all(answer.as_bytes());
    }
    // A proxy is asked for whole addresses.
    let path = words[1].strip_prefix("http://").map_or(words[1], |rest| &rest[rest.find('/').unwrap()..]);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", dir)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", words[0])
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().unwrap().write_all(&body)?;
    let output = child.wait_with_output()?.stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    stream.write_all(&output)
}

/// A repository with a Dockerfile, a file and a submodule, as bare ones below `www`.
fn repositories(lap: &Lap) -> PathBuf {
    let inner = Repository::new(lap.path("inner"));
    inner.write("in", "inner");
    inner.commit();
    let outer = Repository::new(lap.path("outer"));
    outer.write("Dockerfile", "FROM busybox\nCOPY . /r/\n");
    outer.write("out", "outer");
    outer.git(&["submodule", "add", "-q", lap.path("inner").to_str().unwrap(), "sub"]);
    outer.git(&["config", "-f", ".gitmodules", "submodule.sub.url", "../inner.git"]);
    outer.commit();
    for (repository, name) in [(&inner, "inner"), (&outer, "outer")] {
        let bare = lap.path(&format!("www/{name}.git"));
        repository.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    }
    lap.path("www")
}

#[test]
fn a_repository_behind_a_login_gets_the_secret_that_is_meant_for_it() {
    needs!(root);
    needs!("git");
    let lap = Lap::new();
    let server = GitHttp::start(&repositories(&lap));
    let url = format!("{}/outer.git", server.url);
    for (name, text) in [("token", "canary\n"), ("wrong", "wrong"), ("header", "Custom canary")] {
        lap.write(name, text);
    }
    let host = &server.host;
    let token = "Basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5";
    lap.write("ctx/Dockerfile", format!("FROM busybox\nADD {url} /r/\n"));
    lap.write("named/Dockerfile", "FROM busybox\nCOPY --from=repo . /r/\n");
    let build = |secrets: &[&str], args: &[&str]| -> Said {
        let mut all = vec!["build", "--progress=plain", "-t", "app"];
        secrets.iter().for_each(|secret| all.extend(["--secret", secret]));
        all.extend(args);
        lap.run(&all)
    };
    server.want(token);
    let said = build(&[], &[&url]).code(1);
    assert!(said.err.contains("cannot fetch the build context"), "{}", said.err);
    // A secret for another host goes nowhere.
    let other = ["id=GIT_AUTH_TOKEN.other.example,src=token"];
    build(&other, &[&url]).code(1);
    assert!(server.seen().iter().all(|(_, authorization)| authorization.is_none()));

    let repo = format!("repo={url}");
    let (own_token, own_header) =
        (format!("id=GIT_AUTH_TOKEN.{host},src=token"), format!("id=GIT_AUTH_HEADER.{host},src=header"));
    let places: [&[&str]; 3] = [&[&url], &["ctx"], &["--build-context", &repo, "named"]];
    for (wanted, secrets) in [
        (token, vec!["id=GIT_AUTH_TOKEN,src=token"]),
        (token, vec!["id=GIT_AUTH_TOKEN,src=wrong", &own_token]),
        ("Custom canary", vec!["id=GIT_AUTH_HEADER,src=header"]),
        ("Custom canary", vec!["id=GIT_AUTH_HEADER,src=wrong", "id=GIT_AUTH_TOKEN,src=wrong", &own_header]),
    ] {
        for place in places {
            server.want(wanted);
            // What was fetched before is known: the server is asked for its branch all the same.
            let said = build(&secrets, place).ok();
            assert!(!server.seen().is_empty() && !said.err.contains("canary"), "{secrets:?} {place:?}: {}", said.err);
            assert_eq!(lap.sh("app", "cat /r/out /r/sub/in"), "outerinner", "{secrets:?} {place:?}");
        }
        let store = lap.path("store/sources");
        std::fs::remove_dir_all(store).unwrap();
        std::fs::remove_dir_all(lap.path("store/caches/git")).unwrap();
    }
    let kept = crate::support::run("grep", &["-rlaF", "canary", lap.path("store").to_str().unwrap()]);
    assert_eq!(kept.out, "");
    let said = build(&["id=GIT_AUTH_TOKEN,src=wrong"], &[&format!("{url}?ref=main")]).code(1);
    assert!(!said.err.contains("d3Jvbmc"), "{}", said.err);
}

#[test]
fn web_contexts_get_the_header_that_is_meant_for_their_server() {
    needs!(root);
    let (lap, web) = (Lap::new(), Web::start());
    lap.write("header", "Custom canary");
    let host = web.url.trim_start_matches("http://").to_owned();
    let file = web.page("/D", Page::new("FROM busybox\nRUN true\n"));
    lap.write("ctx/Dockerfile", format!("FROM busybox\nADD {file} /x\n"));
    let secret = format!("id=HTTP_AUTH_HEADER_{host},src=header");
    for args in [&[&file[..]][..], &["-f", &file, "ctx"], &["ctx"]] {
        lap.run(&[&["build", "-q", "--secret", &secret][..], args].concat()).ok();
        let seen = web.requests();
        assert!(
            !seen.is_empty() && seen.iter().all(|lines| lines.contains(&"authorization: custom canary".to_owned()))
        );
        let elsewhere = "id=HTTP_AUTH_TOKEN_other.example,src=header";
        lap.run(&[&["build", "-q", "--secret", elsewhere][..], args].concat()).ok();
        assert!(web.requests().iter().flatten().all(|line| !line.contains("canary")));
    }
}

#[test]
fn repositories_and_files_come_through_a_proxy() {
    needs!(root);
    needs!("git");
    let lap = Lap::new();
    let (git, web) = (GitHttp::start(&repositories(&lap)), Web::start());
    web.page("http://files.example/f", Page::new("proxied"));
    let build = |proxy: &str, more: &[(&str, &str)], args: &[&str]| {
        let mut command = lap.command();
        command.args(["build", "-q", "-t", "app"]).args(args).env("http_proxy", proxy).envs(more.iter().copied());
        let output = command.output().unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::new(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    };
    build(&git.url, &[], &["http://repositories.example/outer.git"]).ok();
    assert_eq!(lap.sh("app", "cat /r/out /r/sub/in"), "outerinner");
    assert!(git.seen().iter().all(|(line, _)| line.contains("http://repositories.example/")));
    lap.write("ctx/Dockerfile", "FROM busybox\nADD http://files.example/f /f\n");
    build(&web.url, &[], &["ctx"]).ok();
    assert_eq!(lap.sh("app", "cat /f"), "proxied");
    // Where it is not wanted, it is not asked.
    web.requests();
    let own = web.page("/own", Page::new("direct"));
    lap.write("ctx/Dockerfile", format!("FROM busybox\nADD {own} /f\n"));
    build("http://127.0.0.1:1", &[("no_proxy", "127.0.0.1")], &["ctx"]).ok();
    assert_eq!(lap.sh("app", "cat /f"), "direct");
}

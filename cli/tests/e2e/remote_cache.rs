//! `--cache-to` on one machine, `--cache-from` on another: two stores that share nothing but the cache.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::OnceLock;

use crate::actions::{Actions, TOKEN};
use crate::cache::steps;
use crate::support::{Lap, Registry, Said, needs, wait_for};

const DOCKERFILE: &str = "\
FROM busybox AS build
COPY src /src
RUN head -c 3000000 /dev/urandom > /big && cat /src/a > /made
FROM busybox
RUN date +%N > /random
COPY --from=build /made /made
RUN cat /made /late > /out 2>&1 || true
CMD [\"cat\", \"/made\"]
";

/// The base image, with one time of its making: importing gives it another each time.
fn base() -> &'static Path {
    static BASE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = BASE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        Lap::new().run(&["save", "-o", dir.path().join("base.tar").to_str().unwrap(), "busybox"]).ok();
        dir
    });
    dir.path()
}

/// A machine with the base image, the sources, and nothing built.
fn machine() -> Lap {
    let lap = Lap::empty();
    lap.run(&["load", "-i", base().join("base.tar").to_str().unwrap()]).ok();
    lap.write("ctx/src/a", "a1\n");
    lap
}

/// Builds and returns what it said with the digests of the image and its config.
fn build(lap: &Lap, dockerfile: &str, flags: &[&str]) -> (Said, String) {
    let said = lap.build_with("app", dockerfile, flags).ok();
    let digest = lap.run(&["inspect", "app"]).ok().json()[0]["Descriptor"]["digest"].as_str().unwrap().to_owned();
    let digests = format!("{}{digest}", said.out);
    (said, digests)
}

fn ran(said: &Said) -> Vec<String> {
    steps(said).0
}

/// Builds on one machine, then on another: nothing runs there, and the image is the same to the byte.
fn travels(to: &[&str], from: &[&str]) -> (Lap, Lap) {
    let (one, two) = (machine(), machine());
    let (first, digests) = build(&one, DOCKERFILE, to);
    assert_eq!(ran(&first).len(), 5, "{}", first.err);
    let (second, same) = build(&two, DOCKERFILE, from);
    assert_eq!(ran(&second), [""; 0], "{}", second.err);
    assert!(!second.err.contains("WARN"), "{}", second.err);
    assert_eq!(digests, same);
    // The result is whole without the cache.
    let random = |lap: &Lap| lap.sh("app", "cat /random /made /out");
    assert_eq!(random(&one), random(&two));
    (one, two)
}

#[test]
fn a_directory_carries_results_from_one_machine_to_another() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().display();
    let (to, from) = (format!("type=local,dest={place}"), format!("type=local,src={place}"));
    let (to_max, from_tagged) = (format!("{to},mode=max,tag=all"), format!("{from},tag=all"));
    travels(&["--cache-to", &to], &["--cache-from", &from]);
    travels(&["--cache-to", &to_max], &["--cache-from", &from_tagged]);
}

#[test]
fn a_directory_keeps_old_exports_until_it_is_reset() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().display();
    let (to, from) = (format!("type=local,dest={place},mode=max"), format!("type=local,src={place}"));
    let digest_of = |tag: &str| {
        let index = std::fs::read(shared.path().join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let mut entries = index["manifests"].as_array().unwrap().iter();
        let name = "org.opencontainers.image.ref.name";
        entries.find(|entry| entry["annotations"][name] == tag).unwrap()["digest"].as_str().unwrap().to_owned()
    };
    let file = |n: usize| format!("FROM busybox\nRUN echo {n} > /n; head -c 9 /dev/urandom > /random\n");
    let one = machine();
    build(&one, &file(1), &["--cache-to", &to]);
    let random = one.sh("app", "cat /random");
    let old = digest_of("latest");
    build(&one, &file(3), &["--cache-to", &format!("{to},tag=other/one,image-manifest=false")]);
    build(&one, &file(2), &["--cache-to", &to]);
    assert_ne!(digest_of("latest"), old);

    // The one directory is a layout that others can read.
    assert_eq!(std::fs::read(shared.path().join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let blob = |digest: &str| shared.path().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(blob(&digest_of("other/one"))).unwrap()).unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "a layer and the document: {index}");

    // A digest reads that export and no other.
    let by_digest = format!("{from},digest={old}");
    let two = machine();
    let (said, _) = build(&two, &file(1), &["--cache-from", &by_digest]);
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
    assert_eq!(two.sh("app", "cat /random"), random);
    let (said, _) = build(&two, &file(2), &["--cache-from", &by_digest]);
    assert_eq!(ran(&said).len(), 1, "{}", said.err);

    // Nobody resets under another one's hands.
    let lock = std::fs::File::options().write(true).open(shared.path().join("lapstrake-cache-1/lock")).unwrap();
    lock.lock_shared().unwrap();
    let reset = format!("{to},reset=true");
    let (said, _) = build(&one, &file(2), &["--cache-to", &reset]);
    assert!(said.err.contains("cannot reset local cache") && said.err.contains("another build is"), "{}", said.err);
    assert!(blob(&old).exists());
    drop(lock);

    // What the newest exports of the tags name stays, and nothing else.
    std::fs::write(shared.path().join("blobs/sha256/notes"), "mine").unwrap();
    let (said, _) = build(&one, &file(2), &["--cache-to", &reset]);
    assert!(!said.err.contains("WARN"), "{}", said.err);
    assert!(!blob(&old).exists());
    let left: Vec<_> = std::fs::read_dir(shared.path().join("blobs/sha256")).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(left.len(), 2 * 3 + 1, "a manifest, a document and a layer each: {left:?}");
    for (n, tag, steps) in [(2, "latest", 0), (3, "other/one", 0), (1, "latest", 1)] {
        let (said, _) = build(&machine(), &file(n), &["--cache-from", &format!("{from},tag={tag}")]);
        assert_eq!(ran(&said).len(), steps, "{n}: {}", said.err);
    }
    let (said, _) = build(&machine(), &file(1), &["--cache-from", &by_digest]);
    assert!(said.err.contains("is not used any more") && ran(&said).len() == 1, "{}", said.err);
}

#[test]
fn a_registry_keeps_a_cache_as_an_index_too() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    for (number, types) in ["image-manifest=false", "image-manifest=false,oci-mediatypes=false"].iter().enumerate() {
        let name = format!("{}/cache:{number}", registry.address);
        travels(&["--cache-to", &format!("type=registry,ref={name},{types}")], &["--cache-from", &name]);
        let raw = std::process::Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
            .output();
        let Ok(raw) = raw else { continue };
        let index: serde_json::Value = serde_json::from_slice(&raw.stdout).unwrap();
        assert!(index["manifests"].as_array().is_some_and(|list| list.len() > 3), "{index}");
    }
}

#[test]
fn only_what_changed_runs_and_only_the_blobs_it_needs_are_fetched() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let name = format!("{}/team/cache:main", registry.address);
    let to = format!("type=registry,ref={name},mode=max");
    let (one, two) = travels(&["--cache-to", &to], &["--cache-from", &name]);
    let fetched = |from: usize| {
        let requests = registry.requests();
        let blobs = requests[from..].iter().filter(|request| request.starts_with("GET") && request.contains("/blobs/"));
        blobs.count()
    };
    assert_eq!(fetched(0), 3, "the layers of the result, not those of the stage: {:?}", registry.requests());

    // A late step is another: it runs, on what the steps before it made.
    let three = machine();
    let before = registry.requests().len();
    let (said, _) = build(&three, &DOCKERFILE.replace("/late", "/later"), &["--cache-from", &name]);
    assert_eq!(ran(&said).len(), 1, "{}", said.err);
    assert_eq!(fetched(before), 2, "{:?}", &registry.requests()[before..]);
    assert_eq!(three.sh("app", "cat /random"), one.sh("app", "cat /random"));

    // A source is another: its stage runs on, and what does not see it stays.
    let four = machine();
    four.write("ctx/src/a", "a2\n");
    let (said, _) = build(&four, DOCKERFILE, &["--cache-from", &name]);
    assert_eq!(ran(&said).len(), 4, "{}", said.err);
    assert_eq!(four.sh("app", "cat /random"), one.sh("app", "cat /random"));

    // What is in the own store asks nobody; what only the cache has is named by two documents.
    let before = registry.requests().len();
    let (said, _) = build(&one, DOCKERFILE, &["--cache-from", &name]);
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
    assert_eq!(registry.requests().len(), before);
    let (said, _) = build(&two, DOCKERFILE, &["--cache-from", &name]);
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
    assert_eq!(registry.requests().len(), before + 2, "{:?}", &registry.requests()[before..]);
}

#[test]
fn an_older_state_is_still_found_step_by_step() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let name = format!("{}/cache:main", registry.address);
    let to = format!("type=registry,ref={name},mode=max");
    let one = machine();
    let (_, first) = build(&one, DOCKERFILE, &["--cache-to", &to]);
    one.write("ctx/src/a", "a2\n");
    build(&one, DOCKERFILE, &["--cache-to", &to]);
    let two = machine();
    let (said, same) = build(&two, DOCKERFILE, &["--cache-from", &name]);
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
    assert_eq!(first, same);
}

#[test]
fn mode_min_holds_the_layers_of_the_result_and_knows_the_rest() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let name = format!("{}/cache:min", registry.address);
    let (one, _) = travels(&["--cache-to", &format!("type=registry,ref={name}")], &["--cache-from", &name]);
    let size = |lap: &Lap| lap.sh("app", "cat /made /random");

    // The layers of the stage are nowhere: where they are needed, they are made again.
    let three = machine();
    three.write("ctx/src/b", "new\n");
    let (said, _) =
        build(&three, &DOCKERFILE.replace("cat /src/a > /made", "cat /src/a >> /made"), &["--cache-from", &name]);
    assert!(ran(&said).iter().any(|step| step.contains("COPY src")), "{}", said.err);
    assert!(!said.err.contains("ERROR") && !said.err.contains("WARN"), "{}", said.err);
    assert_eq!(size(&three), size(&one));
}

#[test]
fn an_image_carries_its_own_cache() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    for (tag, flag) in [("one", ["--build-arg", "BUILDKIT_INLINE_CACHE=1"]), ("two", ["--cache-to", "type=inline"])] {
        let name = format!("{}/app:{tag}", registry.address);
        let (one, two) = (machine(), machine());
        one.build_with(&name, DOCKERFILE, &[flag[0], flag[1], "--push"]).ok();
        let said = two.build_with("app", DOCKERFILE, &[flag[0], flag[1], "--cache-from", &name]).ok();
        assert_eq!(ran(&said), [""; 0], "{}", said.err);
        assert_eq!(two.run(&["inspect", "app"]).json()[0]["Id"], one.run(&["inspect", &name]).json()[0]["Id"]);

        // It is the image's own: one that is built on it begins anew.
        two.build("child", "FROM app\nRUN true\n").ok();
        two.run(&["save", "-o", "child.tar", "child"]).ok();
        let tar = std::fs::read(two.path("child.tar")).unwrap();
        assert!(!String::from_utf8_lossy(&tar).contains("dev.lapstrake.cache"));
    }
}

#[test]
fn reproducible_images_are_the_same_out_of_a_cache() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let name = format!("{}/cache:r", registry.address);
    let to = format!("type=registry,ref={name},mode=max");
    let epoch = ["--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let with = |more: [&'static str; 3], flag: [&str; 2]| {
        [more.to_vec(), flag.map(str::to_owned).iter().map(|s| s.clone().leak() as &str).collect()].concat()
    };
    let (one, two) = (machine(), machine());
    let (_, first) = build(&one, DOCKERFILE, &with(epoch, ["--cache-to", &to]));
    let (said, second) = build(&two, DOCKERFILE, &with(epoch, ["--cache-from", &name]));
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
    assert_eq!(first, second);
}

#[test]
fn a_workflow_of_github_keeps_results_for_the_next_one() {
    needs!(root);
    for (version, option) in [("v1", "url"), ("v2", "url_v2")] {
        let service = Actions::start();
        let common = format!("type=gha,{option}={},token={TOKEN},scope=main", service.url);
        let (to, from) = (format!("{common},mode=max"), common);
        travels(&["--cache-to", &to], &["--cache-from", &from]);
        // Two questions and as many documents, then the three layers of the result.
        let keys = service.keys();
        let blobs = keys.iter().filter(|key| key.contains("-blob-")).count();
        assert!(blobs == 5 && keys.iter().all(|key| key.starts_with("lapstrake-1-")), "{version}: {keys:?}");

        // Another source: what is new is added, and found.
        let three = machine();
        three.write("ctx/src/a", "a3\n");
        let (said, _) = build(&three, DOCKERFILE, &["--cache-from", &from, "--cache-to", &to]);
        assert_eq!(ran(&said).len(), 4, "{version}: {}", said.err);
        assert!(!said.err.contains("cannot export"), "{version}: {}", said.err);
        let four = machine();
        four.write("ctx/src/a", "a3\n");
        let (said, _) = build(&four, DOCKERFILE, &["--cache-from", &from]);
        assert_eq!(ran(&said), [""; 0], "{version}: {}", said.err);
        let (said, _) = build(&machine(), DOCKERFILE, &["--cache-from", &from]);
        assert_eq!(ran(&said), [""; 0], "{version}: {}", said.err);
        assert!(service.requests().len() > 20);

        // What a runner tells its steps is enough, in the words that it uses.
        let before = service.requests().len();
        let other = machine();
        other.write("ctx/Dockerfile", DOCKERFILE);
        let mut command = other.command();
        command.env("ACTIONS_CACHE_SERVICE_V2", if version == "v2" { "True" } else { "" });
        command.env("ACTIONS_RESULTS_URL", &service.url).env("ACTIONS_CACHE_URL", &service.url);
        command.env("ACTIONS_RUNTIME_TOKEN", TOKEN).args(["build", "-q", "--cache-from", "type=gha,scope=main", "ctx"]);
        assert!(command.output().unwrap().status.success());
        let asked = &service.requests()[before..];
        assert!(
            !asked.is_empty() && asked.iter().any(|line| line.contains("/twirp/")) == (version == "v2"),
            "{asked:?}"
        );
    }
    let outside = machine();
    let (said, _) =
        build(&outside, "FROM busybox\nRUN true\n", &["--cache-from", "type=gha", "--cache-to", "type=gha"]);
    assert_eq!(said.err.matches("type=gha is left out").count(), 2, "{}", said.err);
}

#[test]
fn a_bucket_carries_results() {
    needs!(root);
    needs!("moto_server");
    let server = Moto::start();
    let common = format!(
        "type=s3,bucket=cache,region=eu-central-1,endpoint_url={},use_path_style=true,prefix=team/,name=main,access_key_id=id,secret_access_key=key",
        server.url
    );
    let to = format!("{common},mode=max,ignore-error=false");
    travels(&["--cache-to", &to], &["--cache-from", &common]);
}

/// A real S3 server of Python's moto, with an empty bucket.
struct Moto {
    child: std::process::Child,
    url: String,
}

impl Moto {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = std::process::Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, url: format!("http://{address}") };
        wait_for("moto", || std::net::TcpStream::connect(&address).is_ok());
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request = format!(
            "PUT /cache HTTP/1.1\r\nhost: {address}\r\nauthorization: AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
        server
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn nothing_secret_is_in_a_cache() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let lap = machine();
    let secret = lap.write("token", "s3cr3t-of-a-file");
    let dockerfile = "FROM busybox\nARG TOKEN\nENV ALSO=s3cr3t-of-the-env\n\
        RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /n; echo s3cr3t-of-the-command > /dev/null\n";
    let secret = format!("id=token,src={}", secret.display());
    let to = format!("type=local,dest={},mode=max,compression=uncompressed", shared.path().display());
    let flags = ["--cache-to", &to, "--secret", &secret, "--build-arg", "TOKEN=s3cr3t-of-an-argument"];
    lap.build_with("app", dockerfile, &flags).ok();
    let mut files = 0;
    let mut directories = vec![shared.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files += 1;
                let text = std::fs::read(&path).unwrap();
                assert!(!String::from_utf8_lossy(&text).contains("s3cr3t"), "{}", path.display());
            }
        }
    }
    assert!(files >= 4, "{files}");
}

/// Listens and does with each connection as told; ends with the test.
fn server(act: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let act = std::sync::Arc::new(act);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = std::sync::Arc::clone(&act);
            std::thread::spawn(move || act(stream));
        }
    });
    address
}

#[test]
fn a_broken_cache_is_told_once_and_fails_no_build() {
    needs!(root);
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let silent = server(|mut stream| {
        // Reads whatever comes and never answers.
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let failing = server(|mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            drop(stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    for address in [closed, silent, failing] {
        let (from, to) = (format!("{address}/cache:x"), format!("type=registry,ref={address}/cache:x,mode=max"));
        let (said, _) = build(&machine(), DOCKERFILE, &["--cache-from", &from, "--cache-to", &to]);
        assert_eq!(ran(&said).len(), 5, "{}", said.err);
        assert_eq!(said.err.matches("is not used any more").count(), 1, "{}", said.err);
        assert_eq!(said.err.matches("cannot export").count(), 1, "{}", said.err);
    }
    let nowhere = machine();
    let strict = "type=local,dest=/proc/none,ignore-error=false";
    let said = nowhere.build_with("app", "FROM busybox\nRUN true > /x\n", &["--cache-to", strict]).code(1);
    assert!(said.err.contains("cannot export to local cache /proc/none"), "{}", said.err);
    assert_eq!(nowhere.sh("app", "ls /x"), "/x\n", "the image is there all the same");
}

#[test]
fn what_a_cache_has_lost_or_falsified_is_made_again() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().display();
    let (to, from) = (format!("type=local,dest={place},mode=max"), format!("type=local,src={place}"));
    let one = machine();
    build(&one, DOCKERFILE, &["--cache-to", &to]);
    let blobs = || std::fs::read_dir(shared.path().join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let documents = shared.path().join("lapstrake-cache-1/latest");

    // Other bytes of the same length.
    for blob in blobs() {
        let mut bytes = std::fs::read(&blob).unwrap();
        if bytes[0] == b'{' {
            continue; // A manifest, or a document.
        }
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&blob, bytes).unwrap();
    }
    let two = machine();
    let (said, _) = build(&two, DOCKERFILE, &["--cache-from", &from]);
    assert_eq!(said.err.matches("is not used any more").count(), 1, "{}", said.err);
    assert_eq!(two.sh("app", "cat /made"), "a1\n");
    assert!(!said.err.contains("ERROR"), "{}", said.err);

    // A layer that is sound in itself but not the one that keys are derived from.
    build(&one, DOCKERFILE, &["--no-cache", "--cache-to", &to]);
    let lie = |path: &Path| {
        let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for entry in document["entries"].as_array_mut().unwrap() {
            entry["layer"]["identity"] = "00".repeat(32).into();
        }
        std::fs::write(path, document.to_string()).unwrap();
    };
    for directory in ["definitions", "steps", ""] {
        for entry in std::fs::read_dir(documents.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                lie(&path);
            }
        }
    }
    let three = machine();
    let (said, _) = build(&three, DOCKERFILE, &["--cache-from", &from]);
    assert_eq!(three.sh("app", "cat /made"), "a1\n", "{}", said.err);
    let (said, _) = build(&three, DOCKERFILE, &[]);
    assert_eq!(ran(&said), [""; 0], "what was made here is in the own store: {}", said.err);

    for blob in blobs() {
        std::fs::remove_file(blob).unwrap();
    }
    let four = machine();
    let (_, _) = build(&four, DOCKERFILE, &["--cache-from", &from]);
    assert_eq!(four.sh("app", "cat /made"), "a1\n");
}

#[test]
fn builds_that_export_at_once_do_not_disturb_each_other() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().display();
    let (to, from) = (format!("type=local,dest={place},mode=max"), format!("type=local,src={place}"));
    let file = |n: usize| format!("FROM busybox\nRUN echo shared > /s\nRUN echo {n} > /n\n");
    let machines: Vec<Lap> = (0..4).map(|_| machine()).collect();
    std::thread::scope(|scope| {
        for (n, lap) in machines.iter().enumerate() {
            let to = &to;
            scope.spawn(move || build(lap, &file(n), &["--cache-to", to]));
        }
    });
    let two = machine();
    for n in 0..4 {
        let (said, _) = build(&two, &file(n), &["--cache-from", &from]);
        assert_eq!(ran(&said), [""; 0], "{}", said.err);
        assert_eq!(two.sh("app", "cat /s /n"), format!("shared\n{n}\n"));
    }
}

#[test]
fn bake_targets_have_caches_of_their_own() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let target = |lap: &Lap, attribute: &str, field: &str| {
        let target = |name: &str| {
            format!(
                "target \"{name}\" {{\n context = \"ctx\"\n tags = [\"{name}\"]\n args = {{ V = \"{name}\" }}\n {attribute} = [\"type=local,{field}={}/{name}\"]\n}}\n",
                shared.path().display()
            )
        };
        lap.write(
            "docker-bake.hcl",
            format!("group \"default\" {{ targets = [\"a\", \"b\"] }}\n{}{}", target("a"), target("b")),
        );
        lap.write("ctx/Dockerfile", "FROM busybox\nRUN echo both > /both\nARG V\nRUN echo $V > /v\n");
    };
    let (one, two) = (Lap::new(), Lap::new());
    target(&one, "cache-to", "dest");
    let leave = format!("--allow=fs={}", shared.path().display());
    one.run(&["bake", "--progress", "plain", &leave]).ok();
    target(&two, "cache-from", "src");
    let said = two.run(&["bake", "--progress", "plain", &leave]).ok();
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
    assert_eq!(two.sh("b", "cat /both /v"), "both\nb\n");
}

/// A Dockerfile whose step says what its cache mount holds, and adds a file named `name` with so many lines to it.
fn with_mount(name: &str, lines: usize) -> String {
    format!(
        "FROM busybox\nRUN --mount=type=cache,id=packages,target=/c \
         echo found $(ls /c | tr '\\n' ' '); seq {lines} > /c/{name}; \
         ln -s {name} /c/l-{name}; chmod 640 /c/{name}; chown 7:8 /c/{name}\n"
    )
}

#[test]
fn cache_mounts_travel_and_send_what_is_new() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let name = format!("{}/team/cache:mounts", registry.address);
    let (to, from) = (format!("type=registry,ref={name},mounts=all"), format!("type=registry,ref={name},mounts=all"));
    let one = machine();
    let sent = |from: usize| {
        let requests = registry.requests();
        let puts = requests[from..].iter().filter(|request| request.starts_with("PUT") && request.contains("/blobs/"));
        puts.count()
    };
    build(&one, &with_mount("first", 4_000_000), &["--cache-to", &to]);
    let first = sent(0);
    let before = registry.requests().len();
    let (said, _) = build(&one, &with_mount("second", 10), &["--cache-to", &to]);
    assert!(said.err.contains("found first l-first"), "{}", said.err);
    let second = sent(before);
    assert!(first > 2 * second, "the second export sent {second} blobs, the first {first}");

    // Only who asks for the mounts of others gets them.
    let two = machine();
    let (said, _) = build(&two, &with_mount("third", 10), &["--cache-from", &name]);
    assert!(said.err.contains("found\n"), "{}", said.err);
    let three = machine();
    let (said, _) = build(&three, &with_mount("third", 10), &["--cache-from", &from]);
    assert!(said.err.contains("found first l-first l-second second"), "{}", said.err);
    let look = "FROM busybox\nRUN --mount=type=cache,id=packages,target=/c \
                cd /c && stat -c '%n %a %u:%g %s %N' first l-second && sha256sum first second\n";
    let seen = |lap: &Lap| {
        let said = build(lap, look, &["--progress", "plain"]).0.err;
        said.lines()
            .filter(|line| line.contains("first") || line.contains("second"))
            .map(after_time)
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&one), seen(&three));
    // What is there already is not replaced.
    let (said, _) = build(&two, &with_mount("fourth", 10), &["--cache-from", &from]);
    assert!(said.err.contains("found l-third third"), "{}", said.err);
}

/// A line of progress without the step's clock.
fn after_time(line: &str) -> String {
    line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_cache_mount_that_is_damaged_elsewhere_begins_empty() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().display();
    let (to, from) = (format!("type=local,dest={place},mounts=all"), format!("type=local,src={place},mounts=all"));
    let one = machine();
    build(&one, &with_mount("first", 1_000_000), &["--cache-to", &to]);
    let mounts = shared.path().join("lapstrake-cache-1/latest/mounts");
    let document = std::fs::read_dir(mounts).unwrap().next().unwrap().unwrap().path();
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(document).unwrap()).unwrap();
    let digest = document["chunks"][0]["blob"]["digest"].as_str().unwrap();
    let chunk = shared.path().join("blobs").join(digest.replace(':', "/"));
    let whole = std::fs::read(&chunk).unwrap();
    std::fs::write(&chunk, [&whole[..whole.len() - 1], b"!"].concat()).unwrap();
    let two = machine();
    let (said, _) = build(&two, &with_mount("second", 10), &["--cache-from", &from]);
    assert!(said.err.contains("found\n") && said.err.contains("is not used any more"), "{}", said.err);
}

/// A registry that knows nothing and takes everything, but no byte of a blob before `open` says so.
fn slow_registry(open: std::sync::Arc<std::sync::atomic::AtomicBool>) -> String {
    use std::sync::atomic::Ordering;
    server(move |mut stream| {
        loop {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                } else {
                    return;
                }
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: u64 = length.map_or(0, |text| text.trim().parse().unwrap());
            let blob = head.starts_with("put") && head.contains("/blobs/");
            while blob && !open.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink()).unwrap();
            let status = match head.split_whitespace().collect::<Vec<_>>()[..] {
                ["get", "/v2/", ..] => "200 OK",
                ["get" | "head", ..] => "404 Not Found",
                ["post", ..] => "202 Accepted\r\nlocation: /v2/cache/blobs/uploads/1",
                _ => "201 Created",
            };
            if stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_slow_cache_holds_no_step_back_and_a_stalled_one_is_given_up() {
    use std::sync::atomic::{AtomicBool, Ordering};
    needs!(root);
    let open = std::sync::Arc::new(AtomicBool::new(false));
    let address = slow_registry(std::sync::Arc::clone(&open));
    let to = format!("type=registry,ref={address}/cache:x,mode=max,ignore-error=false");
    let lap = machine();
    lap.write("ctx/Dockerfile", DOCKERFILE);
    let mut child = lap
        .command()
        .args(["build", "--progress", "plain", "-t", "app", "--cache-to", &to, "ctx"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(lap.path("err")).unwrap())
        .spawn()
        .unwrap();
    // All steps are done and the image has its name, while the cache has not taken a byte.
    wait_for("the image", || lap.run(&["inspect", "app"]).code == 0);
    assert!(child.try_wait().unwrap().is_none(), "the cache is not written yet");
    assert_eq!(lap.sh("app", "cat /made"), "a1\n");
    open.store(true, Ordering::Relaxed);
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{}", std::fs::read_to_string(lap.path("err")).unwrap());

    // One that takes nothing at all, beside one that works.
    open.store(false, Ordering::Relaxed);
    let good = tempfile::tempdir().unwrap();
    let place = good.path().display();
    let lap = machine();
    let to = format!("type=registry,ref={address}/cache:y,mode=max");
    let (said, _) =
        build(&lap, DOCKERFILE, &["--cache-to", &to, "--cache-to", &format!("type=local,dest={place},mode=max")]);
    assert_eq!(said.err.matches("cannot export").count(), 1, "{}", said.err);
    let (said, _) = build(&machine(), DOCKERFILE, &["--cache-from", &format!("type=local,src={place}")]);
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
}

#[test]
fn a_cached_build_fetches_its_result_and_no_layer_of_the_base() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let (base, cache) = (format!("{}/base:1", registry.address), format!("{}/cache:1", registry.address));
    let one = machine();
    one.run(&["tag", "busybox", &base]).ok();
    one.run(&["push", &base]).ok();
    let dockerfile = format!("FROM {base}\nCOPY src /src\nRUN cat /src/a > /made\nENV A=1\n");
    let to = format!("type=registry,ref={cache},mode=max");
    build(&one, &dockerfile, &["--cache-to", &to]);
    let blobs = |from: usize| {
        let requests = registry.requests();
        let blobs = requests[from..].iter().filter(|request| request.starts_with("GET") && request.contains("/blobs/"));
        blobs.cloned().collect::<Vec<_>>()
    };
    // Nothing is written out: the config of the base is read, and none of its layers. The result is kept in the store,
    // so the two layers that only the cache has are brought in.
    let two = Lap::empty();
    two.write("ctx/src/a", "a1\n");
    let before = registry.requests().len();
    let args = ["build", "--progress", "plain", "--cache-from", &cache, "-o", "type=cacheonly", "ctx"];
    two.write("ctx/Dockerfile", &dockerfile);
    let said = two.run(&args).ok();
    assert_eq!(ran(&said), [""; 0], "{}", said.err);
    let of_base = blobs(before).iter().filter(|request| request.contains("/base/")).count();
    assert_eq!((of_base, blobs(before).len()), (1, 3), "{:?}", blobs(before));
    // Again: nothing at all.
    let before = registry.requests().len();
    two.run(&args).ok();
    assert_eq!(blobs(before), [""; 0]);
}

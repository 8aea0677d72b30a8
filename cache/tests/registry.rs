//! Against a real registry, with skopeo as the second opinion.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod support;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lap_cache::image::{AssembleOptions, Compression, Reference};
use lap_cache::registry::{ConfigFile, Credentials, Login, RegistryError};
use lap_solver::event::{Action, Event, Events};
use support::{Registry, Scratch, amd64, client, image, ready, run, skopeo};

/// Counts finished actions.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<Vec<Action>>>);

impl Counter {
    fn events(&self) -> Events {
        let list = Arc::clone(&self.0);
        Events::new(move |event| {
            if let Event::Progress { action, done: true, .. } = event {
                list.lock().unwrap().push(action);
            }
        })
    }

    fn count(&self, action: Action) -> usize {
        self.0.lock().unwrap().iter().filter(|one| **one == action).count()
    }
}

/// An address of this machine that is not loopback. Nothing is sent to find it.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_images_are_what_skopeo_sees_and_come_back_whole() {
    if !ready(&["docker-registry", "skopeo"]) {
        return;
    }
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let store = scratch.store("a");
    for (tag, compression, docker_media_types) in
        [("gzip", Compression::GZIP, false), ("zstd", Compression::ZSTD, false), ("docker", Compression::GZIP, true)]
    {
        let options = AssembleOptions { compression, docker_media_types, ..AssembleOptions::default() };
        let image = image(&store, &options);
        let name: Reference = format!("{}/team/app:{tag}", registry.address).parse().unwrap();
        let counter = Counter::default();
        let client = client(|_| {});
        let digest = client.push(&store, &image, &name, &counter.events()).await.unwrap();
        assert_eq!(digest, image.digest());

        let at = format!("docker://{name}");
        let seen = json(&skopeo(&["inspect", "--tls-verify=false", &at]));
        assert_eq!(seen["Digest"], digest.to_string(), "{tag}");
        let layers: Vec<_> = image.layers.iter().map(|layer| layer.digest.to_string()).collect();
        assert_eq!(seen["Layers"], serde_json::json!(layers));
        assert_eq!(skopeo(&["inspect", "--raw", "--tls-verify=false", &at]).as_bytes(), image.raw_manifest);

        let copy = scratch.path(&format!("copy-{tag}"));
        skopeo(&["copy", "--preserve-digests", "--src-tls-verify=false", &at, &format!("dir:{}", copy.display())]);
        assert_eq!(std::fs::read(copy.join("manifest.json")).unwrap(), image.raw_manifest);

        // A second push sends nothing but the manifest.
        let again = Counter::default();
        client.push(&store, &image, &name, &again.events()).await.unwrap();
        assert_eq!((again.count(Action::Upload), again.count(Action::Exists)), (0, 3), "{tag}");

        let other = scratch.store(&format!("b-{tag}"));
        let pulled = client.pull(&name, &amd64(), &other, &Events::none()).await.unwrap();
        assert_eq!(pulled.digest(), digest);
        assert_eq!(pulled.config, image.config);
        assert_eq!(other.name_get(&name).unwrap(), Some(digest));
        assert!(other.missing_layers(&pulled).unwrap().is_empty());
        for layer in pulled.diff_ids() {
            let (ours, theirs) = (store.layer_dir(&layer).join("fs"), other.layer_dir(&layer).join("fs"));
            assert_eq!(support::listing(&theirs), support::listing(&ours));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_skopeo_pushed_are_pulled_and_shared_layers_are_skipped() {
    if !ready(&["docker-registry", "skopeo"]) {
        return;
    }
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    let local: Reference = "app:1".parse().unwrap();
    store.name_set(&local, &image).unwrap();
    // skopeo reads the store itself as an OCI layout.
    let source = format!("oci:{}:docker.io/library/app:1", scratch.path("a").display());
    assert_eq!(json(&skopeo(&["inspect", &source]))["Digest"], image.digest().to_string());
    for (tag, format) in [("oci", "oci"), ("v2s2", "v2s2")] {
        let target = format!("docker://{}/by-skopeo:{tag}", registry.address);
        skopeo(&["copy", "--format", format, "--dest-tls-verify=false", &source, &target]);
    }
    let other = scratch.store("b");
    let client = client(|_| {});
    let pull = async |tag: &str, counter: &Counter| {
        let name: Reference = format!("{}/by-skopeo:{tag}", registry.address).parse().unwrap();
        client.pull(&name, &amd64(), &other, &counter.events()).await
    };
    let first = Counter::default();
    let pulled = pull("oci", &first).await.unwrap();
    assert_eq!(pulled.digest(), image.digest());
    assert_eq!((first.count(Action::Download), first.count(Action::Extract)), (2, 2));
    let second = Counter::default();
    let pulled = pull("v2s2", &second).await.unwrap();
    assert_eq!(pulled.config.rootfs, image.config.rootfs);
    assert_eq!((second.count(Action::Download), second.count(Action::Exists)), (0, 2));
    let missing = pull("nothing", &Counter::default()).await;
    assert!(matches!(missing, Err(RegistryError::NotFound { .. })), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_image_stays_remote_until_its_files_are_needed() {
    if !ready(&["docker-registry"]) {
        return;
    }
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let store = scratch.store("a");
    let base = image(&store, &AssembleOptions::default());
    let name: Reference = format!("{}/base:1", registry.address).parse().unwrap();
    let client = client(|_| {});
    client.push(&store, &base, &name, &Events::none()).await.unwrap();

    let other = scratch.store("b");
    let remote = client.resolve(&name, &amd64(), &other, &Events::none()).await.unwrap();
    assert_eq!(remote.image.digest(), base.digest());
    let chain: Vec<_> = remote.image.diff_ids().collect();
    assert_eq!(other.missing_layers(&remote.image).unwrap(), chain);

    // A build on top needs nothing of it to make its image, and a push to the same registry only mounts.
    let top = support::layer(&other, &[], |dir| std::fs::write(dir.join("top"), "top").unwrap());
    let layers = [chain[0], chain[1], top];
    let options = AssembleOptions::default();
    let built = lap_cache::image::assemble(&other, &layers, support::config(), &options, &Events::none()).unwrap();
    assert_eq!(built.layers[0].digest, base.layers[0].digest);
    let target: Reference = format!("{}/elsewhere/app:1", registry.address).parse().unwrap();
    let counter = Counter::default();
    client.push(&other, &built, &target, &counter.events()).await.unwrap();
    assert_eq!((counter.count(Action::Download), counter.count(Action::Exists)), (0, 2));
    assert_eq!(other.missing_layers(&built).unwrap(), chain);

    // Another registry does not have them: they are fetched on the way.
    let second = Registry::start();
    let target: Reference = format!("{}/app:1", second.address).parse().unwrap();
    let counter = Counter::default();
    client.push(&other, &built, &target, &counter.events()).await.unwrap();
    assert_eq!((counter.count(Action::Download), counter.count(Action::Upload)), (2, 4));

    client.ensure_layers(&layers, &other, &Events::none()).await.unwrap();
    assert!(other.missing_layers(&built).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_asked_for_and_used() {
    if !ready(&["docker-registry", "htpasswd"]) {
        return;
    }
    let scratch = Scratch::new();
    let users = scratch.path("users");
    std::fs::write(&users, run("htpasswd", &["-Bbn", "me", "pa:ss"])).unwrap();
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display());
    let registry = Registry::with("", &auth);
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    let name: Reference = format!("{}/private/app:1", registry.address).parse().unwrap();
    for (login, fits) in [(None, false), (Some("wrong"), false), (Some("pa:ss"), true)] {
        let client = client(|config| {
            if let Some(password) = login {
                let login = Login::Password { username: "me".into(), password: password.into() };
                config.credentials.given.insert(registry.address.clone(), login);
            }
        });
        match client.push(&store, &image, &name, &Events::none()).await {
            Ok(_) => assert!(fits),
            Err(RegistryError::Denied { with_login, .. }) => assert_eq!((with_login, fits), (login.is_some(), false)),
            other => panic!("{other:?}"),
        }
    }
    // base64 of me:pa:ss
    let text = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6cGE6c3M="}}}}}}"#, registry.address);
    let file = ConfigFile::read(text.as_bytes()).unwrap();
    let client = client(|config| config.credentials = Credentials { files: vec![file], ..Credentials::default() });
    // Side by side, before the first one knows that a login is wanted.
    let (one, two, events, platform) = (scratch.store("b"), scratch.store("c"), Events::none(), amd64());
    let pulled =
        tokio::join!(client.pull(&name, &platform, &one, &events), client.pull(&name, &platform, &two, &events));
    assert!(pulled.0.is_ok() && pulled.1.is_ok(), "{pulled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_against_the_given_roots() {
    if !ready(&["docker-registry", "openssl"]) {
        return;
    }
    let scratch = Scratch::new();
    let (key, certificate) = (scratch.path("key.pem"), scratch.path("cert.pem"));
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let names = match outer_address() {
        Some(outer) => format!("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:{outer}"),
        None => "subjectAltName=DNS:localhost,IP:127.0.0.1".to_owned(),
    };
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            names.as_str(),
            // A certificate that may sign others is not taken for a server's.
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
    );
    let registry = Registry::with(&format!("  tls:\n    certificate: {certificate}\n    key: {key}\n"), "");
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    // A loopback host need not be secure: any certificate will do.
    let name: Reference = format!("{}/app:1", registry.address).parse().unwrap();
    client(|_| {}).push(&store, &image, &name, &Events::none()).await.unwrap();
    // Any other host has to be trusted.
    match outer_address() {
        None => eprintln!("SKIPPED in part: no address but loopback"),
        Some(outer) => {
            let outer: Reference =
                format!("{outer}:{}/app:1", registry.address.rsplit_once(':').unwrap().1).parse().unwrap();
            let pull = async |name: &str, ca_files: Vec<PathBuf>, insecure: bool| {
                let client = client(|config| {
                    config.ca_files = ca_files;
                    if insecure {
                        config.insecure.insert(outer.registry().to_owned());
                    }
                });
                client.pull(&outer, &amd64(), &scratch.store(name), &Events::none()).await
            };
            let refused = pull("system", Vec::new(), false).await;
            assert!(matches!(refused, Err(RegistryError::Unreachable { .. })), "{refused:?}");
            pull("own-ca", vec![certificate.into()], false).await.unwrap();
            pull("insecure", Vec::new(), true).await.unwrap();
        }
    }
    // A mirror on loopback is as good; its certificate is not asked for either.
    let mirrored: Reference = "mirrored.invalid/app:1".parse().unwrap();
    let mirror = format!("https://{}", registry.address);
    let through = client(|config| drop(config.mirrors.insert("mirrored.invalid".into(), vec![mirror])));
    let pulled = through.pull(&mirrored, &amd64(), &scratch.store("b"), &Events::none()).await.unwrap();
    assert_eq!(pulled.digest(), image.digest());
}

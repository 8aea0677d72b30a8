//! Against a scripted registry that fails, lies and steals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;

use lap_cache::content::ContentError;
use lap_cache::digest::Digest;
use lap_cache::image::{AssembleOptions, Image, ImageError, Reference};
use lap_cache::layer::LayerError;
use lap_cache::registry::{Login, RegistryError};
use lap_cache::store::Store;
use lap_solver::event::Events;
use support::scripted::{Answer, Request, Server, Shelf, answer, name};
use support::{Scratch, amd64, client, image, ready};

/// Pulls from a server that answers `script`, which gets the shelf; returns what came of it, and the server.
async fn pull(
    shelf: &Shelf,
    script: impl Fn(&Shelf, &Request, usize) -> Answer + Send + Sync + 'static,
) -> (Result<Image, RegistryError>, Server, Store, Scratch) {
    let scratch = Scratch::new();
    let store = scratch.store("pulled");
    let copy = shelf.clone();
    let server = Server::start(move |request, before| script(&copy, request, before));
    let result = client(|_| {}).pull(&name(&server), &amd64(), &store, &Events::none()).await;
    if result.is_err() {
        assert!(store.names().unwrap().is_empty(), "a failed pull leaves no name");
    }
    (result, server, store, scratch)
}

fn has(store: &Store, digest: &Digest) -> bool {
    store.content().has(digest).unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_faults_are_got_over() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    type Fault = fn(&Shelf, &Request, usize) -> Option<Answer>;
    let faults: [(&str, Fault); 11] = [
        ("nothing", |_, _, _| None),
        ("429 twice", |_, _, before| (before < 2).then(|| answer(429, "").with("Retry-After", "0"))),
        ("429 with a date", |_, _, before| {
            (before < 1).then(|| answer(429, "").with("Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT"))
        }),
        ("503 three times", |_, _, before| (before < 3).then(|| answer(503, "<html>busy</html>"))),
        ("documents cut", |shelf, request, before| {
            (before < 1 && request.path != shelf.big()).then(|| Answer { cut: Some(10), ..shelf.honest(request) })
        }),
        ("cut, then a range", |shelf, request, before| {
            (request.path == shelf.big() && before < 3).then(|| {
                let honest = shelf.honest(request);
                Answer { cut: Some(honest.body.len() / 3), ..honest }
            })
        }),
        ("cut, then the whole", |shelf, request, before| {
            (request.path == shelf.big()).then(|| {
                let whole = answer(200, shelf.blobs[&request.path].clone());
                Answer { cut: (before < 2).then_some(100_000 * (before + 1)), ..whole }
            })
        }),
        ("silent in the middle", |shelf, request, before| {
            (request.path == shelf.big() && before < 1).then(|| Answer {
                cut: Some(5000),
                stalls: true,
                ..shelf.honest(request)
            })
        }),
        ("cut at the first byte", |shelf, request, before| {
            (request.path == shelf.big() && before < 2).then(|| Answer { cut: Some(0), ..shelf.honest(request) })
        }),
        ("a wrong range once", |shelf, request, before| match before {
            0 if request.path == shelf.big() => Some(Answer { cut: Some(1000), ..shelf.honest(request) }),
            1 if request.path == shelf.big() => Some(answer(206, "xyz").with("Content-Range", "bytes 5000-5002/9999")),
            _ => None,
        }),
        ("a flipped byte once", |shelf, request, before| {
            (request.path == shelf.big() && before < 1).then(|| {
                let mut honest = shelf.honest(request);
                honest.body[5000] ^= 1;
                honest
            })
        }),
    ];
    for (what, fault) in faults {
        let (result, _server, store, _scratch) = pull(&shelf, move |shelf, request, before| {
            fault(shelf, request, before).unwrap_or_else(|| shelf.honest(request))
        })
        .await;
        let image = result.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(image.digest(), shelf.image.digest(), "{what}");
        assert!(store.missing_layers(&image).unwrap().is_empty() && store.missing_blobs(&image).unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_blobs_are_noticed_and_nothing_is_kept() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    type Lie = fn(Answer) -> Answer;
    let lies: [(&str, Lie); 7] = [
        ("other bytes", |mut honest| {
            honest.body.fill(7);
            honest
        }),
        ("longer", |mut honest| {
            honest.body.push(0);
            honest
        }),
        ("longer, and it does not say so", |mut honest| {
            honest.body.extend([0; 100_000]);
            Answer { unsized_body: true, ..honest }
        }),
        ("shorter", |mut honest| {
            honest.body.pop();
            honest
        }),
        ("shorter for ever", |honest| Answer { cut: Some(0), ..honest }),
        ("an impossible length", |honest| honest.with("Content-Length", "9223372036854775808")),
        ("an error page", |_| answer(200, "<html>please log in</html>")),
    ];
    for (what, lie) in lies {
        let (result, server, store, _scratch) = pull(&shelf, move |shelf, request, _| {
            let honest = shelf.honest(request);
            if request.path == shelf.big() { lie(honest) } else { honest }
        })
        .await;
        let error = result.expect_err(what);
        assert!(!has(&store, &shelf.image.layers[0].digest), "{what}");
        assert!(store.layer(&shelf.image.layers[0].diff_id).unwrap().is_none() || what == "longer", "{what}");
        let tries = server.count(|request| request.path == shelf.big());
        assert!(tries <= 8, "{what}: {tries} tries, {error}");
        let fits = match &error {
            RegistryError::WrongSize { .. } | RegistryError::BrokenOff { .. } | RegistryError::Unreachable { .. } => {
                true
            }
            RegistryError::Content(ContentError::WrongDigest { .. }) => what == "other bytes",
            _ => false,
        };
        assert!(fits, "{what}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_in_doubt_are_refused() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    let honest: serde_json::Value = serde_json::from_slice(&shelf.image.raw_manifest).unwrap();
    let changed = |change: fn(&mut serde_json::Value)| {
        let mut document = honest.clone();
        change(&mut document);
        document.to_string().into_bytes()
    };
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let documents: Vec<(&str, &'static str, Vec<u8>)> = vec![
        ("both kinds", manifest, changed(|it| it["manifests"] = serde_json::json!([]))),
        ("another type", "application/vnd.oci.image.index.v1+json", changed(|_| ())),
        ("schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", b"{\"schemaVersion\":1}".to_vec()),
        ("size 0", manifest, changed(|it| it["layers"][0]["size"] = 0.into())),
        ("negative size", manifest, changed(|it| it["layers"][0]["size"] = (-1).into())),
        ("huge size", manifest, changed(|it| it["layers"][0]["size"] = (u64::MAX / 2).into())),
        ("a layer less", manifest, changed(|it| drop(it["layers"].as_array_mut().unwrap().pop()))),
        ("config as layer", manifest, changed(|it| it["config"] = it["layers"][0].clone())),
        ("layers swapped", manifest, changed(|it| it["layers"].as_array_mut().unwrap().swap(0, 1))),
        (
            "foreign layer",
            manifest,
            changed(|it| {
                it["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
            }),
        ),
        ("null", manifest, b"null".to_vec()),
        ("endless", manifest, vec![b' '; 5 << 20]),
        ("deep", manifest, b"[".repeat(100_000)),
    ];
    for (what, media_type, body) in documents {
        let (result, _server, store, _scratch) = pull(&shelf, move |shelf, request, _| match request.path.as_str() {
            "/v2/app/manifests/1" => answer(200, body.clone()).with("Content-Type", media_type),
            _ => shelf.honest(request),
        })
        .await;
        let error = result.expect_err(what);
        match what {
            "layers swapped" => {
                assert!(
                    matches!(error, RegistryError::Layer { source: LayerError::WrongDiffId { .. }, .. }),
                    "{error:?}"
                );
                assert!(store.layers().unwrap().is_empty());
            }
            "foreign layer" => assert!(matches!(error, RegistryError::ForeignLayer { .. }), "{error:?}"),
            "a layer less" => {
                assert!(matches!(error, RegistryError::Image(ImageError::LayerCount { .. })), "{error:?}");
            }
            "endless" => assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_what_it_says() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    let server = {
        let shelf = shelf.clone();
        // Whatever manifest is asked for, this one comes, with a header that says what was asked for.
        Server::start(move |request, _| match request.path.strip_prefix("/v2/app/manifests/") {
            Some(asked) => answer(200, shelf.image.raw_manifest.clone()).with("Docker-Content-Digest", asked),
            None => shelf.honest(request),
        })
    };
    let store = scratch.store("b");
    let other: Reference = format!("{}/app@{}", server.address, Digest::of(b"other")).parse().unwrap();
    let result = client(|_| {}).pull(&other, &amd64(), &store, &Events::none()).await;
    assert!(matches!(result, Err(RegistryError::WrongDigest { .. })), "{result:?}");
    let right: Reference = format!("{}/app@{}", server.address, shelf.image.digest()).parse().unwrap();
    let client = client(|_| {});
    client.pull(&right, &amd64(), &store, &Events::none()).await.unwrap();
    // What is pinned and here asks nobody.
    let before = server.count(|_| true);
    client.pull(&right, &amd64(), &store, &Events::none()).await.unwrap();
    assert_eq!(server.count(|_| true), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_lead_to_the_platform_and_not_in_circles() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    let entry = |digest: String, size: usize, architecture: &str| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let ours = |architecture| entry(shelf.image.digest().to_string(), shelf.image.raw_manifest.len(), architecture);
    let index = |entries: Vec<serde_json::Value>| {
        serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries})
            .to_string()
            .into_bytes()
    };
    let nested = |depth: usize| {
        let mut documents = vec![index(vec![ours("amd64")])];
        for _ in 0..depth {
            let inner = documents.last().unwrap();
            let mut link = entry(Digest::of(inner).to_string(), inner.len(), "amd64");
            link["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
            documents.push(index(vec![link]));
        }
        documents
    };
    for (what, documents, fits) in [
        ("plain", vec![index(vec![ours("arm64"), ours("amd64")])], true),
        ("only others", vec![index(vec![ours("s390x")])], false),
        ("empty", vec![index(Vec::new())], false),
        ("index of an index", nested(1), true),
        ("a hundred deep", nested(100), false),
    ] {
        let (result, _server, _store, _scratch) = pull(&shelf, move |shelf, request, _| {
            if request.path == "/v2/app/manifests/1" {
                return answer(200, documents.last().unwrap().clone());
            }
            let asked = documents.iter().find(|it| request.path.ends_with(&Digest::of(it).to_string()));
            asked.map_or_else(|| shelf.honest(request), |bytes| answer(200, bytes.clone()))
        })
        .await;
        assert_eq!(result.is_ok(), fits, "{what}: {result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_stay_with_their_registry() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    // Another host, as far as a login is concerned: another port.
    let thief = {
        let shelf = shelf.clone();
        Server::start(move |request, _| {
            let there = Request { path: request.path.clone(), ..Request::default() };
            match shelf.honest(&there) {
                found if found.status == 200 => found,
                _ => answer(401, "").with("WWW-Authenticate", "Basic realm=x"),
            }
        })
    };
    let login = |server: &Server| {
        let login = Login::Password { username: "me".into(), password: "secret".into() };
        let address = server.address.clone();
        client(move |config| drop(config.credentials.given.insert(address, login)))
    };
    let guarded = |request: &Request, honest: Answer| match request.header("authorization") {
        // me:secret
        "Basic bWU6c2VjcmV0" => honest,
        _ => answer(401, "").with("WWW-Authenticate", "Basic realm=x"),
    };
    for (what, fits) in
        [("to a copy", true), ("to a 401", false), ("to a file", false), ("to nowhere", false), ("in circles", false)]
    {
        let (shelf, target) = (shelf.clone(), thief.address.clone());
        let server = Server::start(move |request, _| {
            let honest = shelf.honest(request);
            let location = match what {
                _ if !request.path.contains("/blobs/") => return guarded(request, honest),
                "to a copy" => format!("http://{target}{}", request.path),
                "to a 401" => format!("http://{target}/elsewhere"),
                "to a file" => "file:///etc/shadow".to_owned(),
                "to nowhere" => String::new(),
                _ => request.path.clone(),
            };
            guarded(request, answer(307, "").with("Location", location))
        });
        let store = scratch.store(&what.replace(' ', "-"));
        let result = login(&server).pull(&name(&server), &amd64(), &store, &Events::none()).await;
        assert_eq!(result.is_ok(), fits, "{what}: {result:?}");
    }
    assert!(thief.count(|_| true) > 0);
    assert_eq!(thief.count(|request| !request.header("authorization").is_empty()), 0, "the login went elsewhere");

    // A token server that is not the registry's.
    let server = Server::start(|_, _| {
        answer(401, "").with("WWW-Authenticate", r#"Bearer realm="http://tokens.evil.example/",service="x""#)
    });
    let result = login(&server).pull(&name(&server), &amd64(), &scratch.store("realm"), &Events::none()).await;
    assert!(matches!(result, Err(RegistryError::Realm { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_and_renewed() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let shelf = Shelf::of(&store);
    let tokens = Server::start(|request, before| {
        assert_eq!(request.header("authorization"), "Basic bWU6c2VjcmV0");
        let pairs = ["service=registry", "scope=repository%3Aapp%3Apull", "account=me"];
        assert!(pairs.iter().all(|pair| request.path.contains(pair)), "{}", request.path);
        answer(200, format!(r#"{{"token":"T{before}","expires_in":300}}"#))
    });
    let realm = tokens.address.clone();
    let server = {
        let shelf = shelf.clone();
        Server::start(move |request, _| {
            // Manifests take the first token, blobs only the second: it has run out meanwhile.
            let wanted = if request.path.contains("/blobs/") { "Bearer T1" } else { "Bearer T0" };
            if request.header("authorization") == wanted {
                return shelf.honest(request);
            }
            let challenge =
                format!(r#"Bearer realm="http://{realm}/token",service="registry",scope="repository:app:pull""#);
            answer(401, "").with("WWW-Authenticate", challenge)
        })
    };
    let address = server.address.clone();
    let login = Login::Password { username: "me".into(), password: "secret".into() };
    let client = client(move |config| drop(config.credentials.given.insert(address, login)));
    client.resolve(&name(&server), &amd64(), &scratch.store("b"), &Events::none()).await.unwrap();
    assert_eq!(tokens.count(|_| true), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_amid_an_upload_is_renewed() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    let tokens = Server::start(|_, before| answer(200, format!(r#"{{"token":"T{before}","expires_in":300}}"#)));
    let realm = tokens.address.clone();
    // By path: the token with which it was first sent, which had run out when all of it was there.
    let first: Mutex<BTreeMap<String, String>> = Mutex::default();
    let server = Server::start(move |request, _| {
        let token = request.header("authorization").to_owned();
        let challenge =
            || answer(401, "").with("WWW-Authenticate", format!(r#"Bearer realm="http://{realm}/token",service="r""#));
        if !token.starts_with("Bearer T") {
            return challenge();
        }
        if request.method == "PUT" {
            let mut first = first.lock().unwrap();
            if *first.entry(request.path.clone()).or_insert_with(|| token.clone()) == token {
                return challenge();
            }
        }
        match request.method.as_str() {
            "HEAD" => answer(404, ""),
            "POST" => answer(202, "").with("Location", "/v2/app/blobs/uploads/some"),
            _ => answer(201, ""),
        }
    });
    let address = server.address.clone();
    let login = Login::Password { username: "me".into(), password: "secret".into() };
    let client = client(move |config| drop(config.credentials.given.insert(address, login)));
    client.push(&store, &image, &name(&server), &Events::none()).await.unwrap();
    let puts = server.count(|request| request.method == "PUT");
    assert_eq!(puts, 2 * (image.layers.len() + 2), "each blob and the manifest are sent again, once");
    let with_login = tokens.count(|request| request.header("authorization") == "Basic bWU6c2VjcmV0");
    assert!(with_login > 1 && with_login == tokens.count(|_| true));
    assert_eq!(server.count(|request| request.header("authorization").starts_with("Basic")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_survive_a_registry_that_forgets() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    for (what, fits) in [
        ("relative location", true),
        ("session lost", true),
        ("500 on the upload", true),
        ("lying HEAD", true),
        ("no location", false),
        ("never", false),
        ("other digest", false),
    ] {
        let digest = image.digest().to_string();
        let server = Server::start(move |request, before| {
            let path = request.path.split('?').next().unwrap_or_default();
            match (request.method.as_str(), path) {
                ("HEAD", _) if what == "lying HEAD" => answer(200, ""),
                ("HEAD", _) => answer(404, ""),
                ("POST", _) if what == "no location" => answer(202, ""),
                ("POST", _) => answer(202, "").with("Location", "/v2/app/blobs/uploads/some?state=a%2Bb"),
                ("PUT", "/v2/app/blobs/uploads/some") => {
                    assert!(request.path.contains("state=a%2Bb&digest=sha256%3A"), "{}", request.path);
                    match what {
                        "session lost" if before < 1 => {
                            answer(404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#)
                        }
                        "500 on the upload" if before < 2 => answer(500, ""),
                        "never" => answer(500, ""),
                        _ => answer(201, ""),
                    }
                }
                ("PUT", "/v2/app/manifests/1") if what == "lying HEAD" && before < 1 => {
                    answer(400, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}"#)
                }
                ("PUT", "/v2/app/manifests/1") => {
                    let theirs = if what == "other digest" { Digest::of(b"other").to_string() } else { digest.clone() };
                    answer(201, "").with("Docker-Content-Digest", theirs)
                }
                _ => answer(404, ""),
            }
        });
        let result = client(|_| {}).push(&store, &image, &name(&server), &Events::none()).await;
        assert_eq!(result.is_ok(), fits, "{what}: {result:?}");
        if what == "lying HEAD" {
            assert_eq!(server.count(|request| request.path.contains("digest=")), 3);
        }
    }
}

/// The header of a file that is said to have so many bytes.
fn announced(bytes: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("bomb").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(bytes);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_stop_at_their_limit_and_leave_nothing() {
    const SIZE: u64 = 10 << 30;
    if !ready(&[]) {
        return;
    }
    let zeros = vec![0; 32 << 20];
    let start = [announced(SIZE), vec![0; 4 << 20]].concat();
    let repeated = |start: Vec<u8>, one: &[u8]| {
        let mut all = start;
        (0..SIZE / zeros.len() as u64).for_each(|_| all.extend(one));
        all
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bzip2 = |bytes: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let layer = "application/vnd.oci.image.layer.v1.tar";
    // A frame that asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2).
    let window = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
    for (what, blob) in [
        // All of it is there: ten gigabytes in a third of a megabyte, and in fewer.
        ("zstd", repeated(zstd(&start), &zstd(&zeros))),
        ("bzip2", repeated(bzip2(&start), &bzip2(&zeros))),
        ("gzip", gzip(&start)),
        ("behind the end", repeated(zstd(&[0; 1024]), &zstd(&zeros))),
        ("window", window),
    ] {
        let shelf = Shelf::crafted(&[(layer, blob, Digest::of(what.as_bytes()))]);
        let (result, _server, store, scratch) = pull(&shelf, |shelf, request, _| shelf.honest(request)).await;
        let error = result.expect_err(what);
        let RegistryError::Layer { source, .. } = &error else { panic!("{what}: {error:?}") };
        let shown = source.to_string();
        assert!(what == "window" || shown.contains("bytes"), "{what}: {shown}");
        assert!(store.layers().unwrap().is_empty(), "{what}");
        let space = Store::space_of(&scratch.path("pulled").join("tmp"));
        assert!(space < 1 << 20, "{what}: {space} bytes are left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_meanwhile_changes_nothing() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    let other = Shelf::crafted(&[]);
    let index = |shelf: &Shelf| {
        let entry = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": shelf.image.digest().to_string(), "size": shelf.image.raw_manifest.len(),
            "platform": {"os": "linux", "architecture": "amd64"}});
        serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]})
            .to_string()
            .into_bytes()
    };
    let (first, second) = (index(&shelf), index(&other));
    // With the former manifest still there, and removed with the tag.
    for gone in [false, true] {
        let (first, second, other) = (first.clone(), second.clone(), other.clone());
        let (result, server, store, _scratch) =
            pull(&shelf, move |shelf, request, before| match request.path.as_str() {
                "/v2/app/manifests/1" if before == 0 => answer(200, first.clone()),
                "/v2/app/manifests/1" => answer(200, second.clone()),
                path if gone && path.ends_with(&shelf.image.digest().to_string()) => answer(404, ""),
                _ => Some(shelf.honest(request)).filter(|it| it.status != 404).unwrap_or_else(|| other.honest(request)),
            })
            .await;
        if gone {
            assert!(matches!(result, Err(RegistryError::NotFound { .. })), "{result:?}");
            continue;
        }
        assert_eq!(result.unwrap().digest(), shelf.image.digest());
        assert_eq!(store.name_get(&name(&server)).unwrap(), Some(shelf.image.digest()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_lead_nowhere_are_told() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let pull = async |name: &str, client: lap_cache::registry::Client| {
        client.pull(&name.parse().unwrap(), &amd64(), &store, &Events::none()).await.expect_err(name)
    };
    let nobody = format!("127.0.0.1:{}/app:1", support::free_port());
    // A name that is none by definition (RFC 6761), and a port where nobody listens.
    for name in ["registry.invalid/app:1", nobody.as_str()] {
        let error = pull(name, client(|_| {})).await;
        assert!(matches!(error, RegistryError::Unreachable { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name.split('/').next().unwrap()), "{error}");
    }
    // A proxy that wants a login of its own, and one that is not there.
    let proxy = Server::start(|_, _| answer(407, "who are you").with("Proxy-Authenticate", "Basic realm=proxy"));
    for (proxy, wants_login) in [(format!("http://{}", proxy.address), true), ("http://127.0.0.1:1".into(), false)] {
        let through = client(|config| {
            config.insecure.insert("registry.example:80".into());
            config.proxies.http = Some(proxy.clone());
            config.proxies.https = Some(proxy.clone());
        });
        let error = pull("registry.example:80/app:1", through).await;
        match error {
            RegistryError::Status { status: 407, .. } => assert!(wants_login),
            RegistryError::Unreachable { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(store.names().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_many_layers_and_files_come_whole() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::fast();
    let store = scratch.store("a");
    let mut layers = vec![support::layer(&store, &[], |dir| {
        for at in 0..10_000 {
            std::fs::write(dir.join(at.to_string()), at.to_string()).unwrap();
        }
    })];
    for at in 1..500 {
        layers.push(support::layer(&store, &[], |dir| std::fs::write(dir.join("layer"), at.to_string()).unwrap()));
    }
    let built =
        lap_cache::image::assemble(&store, &layers, support::config(), &AssembleOptions::default(), &Events::none());
    let shelf = Shelf::of_image(&store, built.unwrap());
    let (copy, pulled) = (shelf.clone(), scratch.store("b"));
    let server = Server::start(move |request, _| copy.honest(request));
    let image = client(|_| {}).pull(&name(&server), &amd64(), &pulled, &Events::none()).await.unwrap();
    assert_eq!(image.layers.len(), 500);
    assert!(pulled.missing_layers(&image).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(pulled.layer_dir(&layers[0]).join("fs")).unwrap().count(), 10_000);
    assert_eq!(server.count(|request| request.path.contains("/blobs/")), 501, "each blob once");
}

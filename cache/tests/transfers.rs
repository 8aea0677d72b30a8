//! How blobs travel: in ranges, in chunks, again after a break, and not at all where they are there already.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lap_cache::digest::Digest;
use lap_cache::image::{AssembleOptions, Image, attest};
use lap_cache::registry::{RegistryConfig, RegistryError};
use lap_cache::store::{Mode, Store};
use lap_solver::event::Events;
use support::scripted::{Answer, Request, Server, Shelf, answer, hang_up, name};
use support::{Scratch, amd64, client, image, ready};

/// Parts and chunks so small that the large layer of the image has many.
fn small(config: &mut RegistryConfig) {
    (config.part, config.chunk) = (100_000, 400_000);
}

type Fault = fn(&Shelf, &Request, usize) -> Option<Answer>;

#[tokio::test(flavor = "multi_thread")]
async fn large_blobs_come_in_ranges_as_long_as_they_are_honoured() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    let size = shelf.blobs[&shelf.big()].len();
    let ranged = |request: &Request| request.header("range").split_once('-').is_some_and(|(_, end)| !end.is_empty());
    // What is answered to requests for the large layer, and whether it is asked for in one stream in the end, where that
    // does not depend on what comes first.
    let faults: [(&str, Option<bool>, Fault); 9] = [
        ("nothing", Some(false), |_, _, _| None),
        ("no ranges", Some(false), |shelf, request, _| Some(answer(200, shelf.blobs[&request.path].clone()))),
        ("416", Some(true), |shelf, request, _| match request.header("range") {
            "" => Some(answer(200, shelf.blobs[&request.path].clone())),
            _ => Some(answer(416, "")),
        }),
        ("another range", Some(true), |shelf, request, _| {
            let mut honest = shelf.honest(request);
            honest.headers.iter_mut().for_each(|(_, value)| *value = value.replace("bytes ", "bytes 1"));
            (request.range(usize::MAX)?.end < usize::MAX).then_some(honest)
        }),
        ("of another whole", Some(true), |shelf, request, _| {
            let mut honest = shelf.honest(request);
            honest.headers.iter_mut().for_each(|(_, value)| value.push('7'));
            (request.range(usize::MAX)?.end < usize::MAX).then_some(honest)
        }),
        ("only the first range", Some(false), |shelf, request, before| {
            (before > 0).then(|| answer(200, shelf.blobs[&request.path].clone()))
        }),
        ("cut in the middle of a range", None, |shelf, request, before| {
            (before % 3 == 2).then(|| Answer { cut: Some(50_000), ..shelf.honest(request) })
        }),
        ("more than asked for", Some(true), |shelf, request, _| {
            let mut honest = shelf.honest(request);
            honest.body.extend([1; 1000]);
            (request.range(usize::MAX)?.end < usize::MAX).then_some(honest)
        }),
        ("429 to what goes side by side", None, |_, _, before| {
            (before % 4 == 3).then(|| answer(429, "").with("Retry-After", "0"))
        }),
    ];
    for (what, one_stream, fault) in faults {
        let copy = shelf.clone();
        let server = Server::start(move |request, before| {
            let fault = if request.path == copy.big() { fault(&copy, request, before) } else { None };
            fault.unwrap_or_else(|| copy.honest(request))
        });
        let store = scratch.store(&what.replace(' ', "-"));
        let pulled = client(small).pull(&name(&server), &amd64(), &store, &Events::none()).await;
        let pulled = pulled.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(pulled.digest(), shelf.image.digest(), "{what}");
        assert!(store.missing_layers(&pulled).unwrap().is_empty() && store.missing_blobs(&pulled).unwrap().is_empty());
        let whole = server.count(|request| request.path == shelf.big() && !ranged(request));
        assert!(one_stream.is_none_or(|expected| expected == (whole > 0)), "{what}: {whole}");
        if what == "no ranges" {
            assert_eq!(server.count(|request| request.path == shelf.big()), 1, "what came was taken");
        }
        if what == "nothing" {
            let parts = server.count(|request| request.path == shelf.big() && ranged(request));
            assert_eq!(parts, size.div_ceil(100_000), "each range is asked for once");
            assert_eq!(server.count(|request| request.path != shelf.big() && ranged(request)), 0);
        }
    }
}

/// A pull that fails for good after `some` bytes of the large layer, into a store that is closed then.
async fn cut_short(shelf: &Shelf, scratch: &Scratch, store: &str, some: usize) {
    let copy = shelf.clone();
    let server = Server::start(move |request, _| {
        let honest = copy.honest(request);
        match request.range(usize::MAX).map_or(0, |range| range.start) {
            _ if request.path != copy.big() => honest,
            0 => Answer { cut: Some(some), ..honest },
            _ => Answer { cut: Some(0), ..honest },
        }
    });
    let store = scratch.store(store);
    let result = client(|_| {}).pull(&name(&server), &amd64(), &store, &Events::none()).await;
    assert!(matches!(result, Err(RegistryError::BrokenOff { .. } | RegistryError::Unreachable { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_where_the_last_one_was_cut_short() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let shelf = Shelf::of(&scratch.store("a"));
    let hex = shelf.image.layers[0].digest.hex();
    let half = shelf.blobs[&shelf.big()].len() / 2;
    let cases: [(&str, Fault); 4] = [
        ("with ranges", |_, _, _| None),
        ("without ranges", |shelf, request, _| Some(answer(200, shelf.blobs[&request.path].clone()))),
        ("416", |shelf, request, _| match request.header("range") {
            "" => Some(answer(200, shelf.blobs[&request.path].clone())),
            _ => Some(answer(416, "")),
        }),
        ("other bytes", |_, _, _| None),
    ];
    for (what, fault) in cases {
        let at = what.replace(' ', "-");
        cut_short(&shelf, &scratch, &at, half).await;
        let kept = scratch.path(&at).join("partial").join(&hex);
        let length = usize::try_from(kept.metadata().unwrap().len()).unwrap();
        assert!(length > 0 && length <= half, "{what}: {length} of {half}");
        if what == "other bytes" {
            std::fs::write(&kept, vec![7; length]).unwrap();
        }
        let copy = shelf.clone();
        let server = Server::start(move |request, before| {
            let fault = if request.path == copy.big() { fault(&copy, request, before) } else { None };
            fault.unwrap_or_else(|| copy.honest(request))
        });
        let store = Store::open(&scratch.path(&at), Mode::Root).unwrap();
        let pulled = client(|_| {}).pull(&name(&server), &amd64(), &store, &Events::none()).await.unwrap();
        assert!(store.missing_layers(&pulled).unwrap().is_empty() && store.missing_blobs(&pulled).unwrap().is_empty());
        assert!(!kept.exists(), "{what}");
        let asked: Vec<String> = server
            .log
            .lock()
            .unwrap()
            .iter()
            .filter(|it| it.path == shelf.big())
            .map(|it| it.header("range").to_owned())
            .collect();
        let rest = format!("bytes={length}-");
        let expected: &[&str] = match what {
            "with ranges" | "without ranges" => &[&rest],
            // Thrown away once, and fetched whole.
            _ => &[&rest, ""],
        };
        assert_eq!(asked, expected, "{what}");
    }

    // What was begun and is not wanted any more goes with a prune.
    cut_short(&shelf, &scratch, "pruned", half).await;
    let store = scratch.store("pruned");
    store.prune_unreferenced(std::time::Duration::ZERO).unwrap();
    assert!(!scratch.path("pruned").join("partial").join(&hex).exists());
}

/// What a registry has of one upload, by the path of it.
#[derive(Default)]
struct Uploads {
    parts: BTreeMap<String, Vec<u8>>,
    whole: Vec<Digest>,
    begun: usize,
}

/// Answers uploads as the specification says.
fn take_upload(request: &Request, uploads: &Mutex<Uploads>) -> Answer {
    let mut uploads = uploads.lock().unwrap();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let upto = |length: usize| format!("0-{}", length.saturating_sub(1));
    match request.method.as_str() {
        "POST" => {
            uploads.begun += 1;
            let location = format!("/v2/app/blobs/uploads/{}", uploads.begun);
            uploads.parts.insert(location.clone(), Vec::new());
            answer(202, "").with("Location", location)
        }
        "GET" | "PATCH" if path.contains("/uploads/") => {
            let Some(part) = uploads.parts.get_mut(path) else { return answer(404, "") };
            if request.method == "PATCH" {
                let range = request.header("content-range");
                let wanted = format!("{}-{}", part.len(), part.len() + request.body.len() - 1);
                if range != wanted {
                    return answer(416, "").with("Range", upto(part.len()));
                }
                part.extend(&request.body);
            }
            let status = if request.method == "GET" { 204 } else { 202 };
            answer(status, "").with("Location", path).with("Range", upto(part.len()))
        }
        "PUT" if path.contains("/uploads/") => {
            let Some(mut part) = uploads.parts.remove(path) else { return answer(404, "") };
            part.extend(&request.body);
            let digest = Digest::of(&part);
            if !query.replace("%3A", ":").contains(&digest.to_string()) {
                return answer(400, r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#);
            }
            uploads.whole.push(digest);
            answer(201, "")
        }
        "PUT" => answer(201, ""),
        _ => answer(404, ""),
    }
}

type Upset = fn(&Request, usize, &Mutex<Uploads>) -> Option<Answer>;

#[tokio::test(flavor = "multi_thread")]
async fn large_blobs_are_sent_in_chunks_that_go_on_after_a_break() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    let size = usize::try_from(image.layers[0].descriptor.size()).unwrap();
    // What goes wrong, and whether the blob is begun anew.
    let upsets: [(&str, bool, Upset); 11] = [
        ("nothing", false, |_, _, _| None),
        ("a break that leaves half a chunk", false, |request, before, uploads| {
            (request.method == "PATCH" && before == 1).then(|| {
                let half = Request { body: request.body[..request.body.len() / 2].to_vec(), ..request.clone() };
                let start = uploads.lock().unwrap().parts[&request.path].len();
                let range = format!("{start}-{}", start + half.body.len() - 1);
                let half = Request { headers: [("content-range".to_owned(), range)].into(), ..half };
                take_upload(&half, uploads);
                hang_up()
            })
        }),
        ("an answer that is lost", false, |request, before, uploads| {
            (request.method == "PATCH" && before == 1).then(|| {
                take_upload(request, uploads);
                hang_up()
            })
        }),
        ("503 twice", false, |request, before, _| {
            (request.method == "PATCH" && (1..3).contains(&before)).then(|| answer(503, "").with("Retry-After", "0"))
        }),
        ("a chunk that is half taken", false, |request, before, uploads| {
            (request.method == "PATCH" && before == 0).then(|| {
                let body = request.body[..request.body.len() / 2].to_vec();
                let range = format!("0-{}", body.len() - 1);
                let headers = [("content-range".to_owned(), range)].into();
                take_upload(&Request { body, headers, ..request.clone() }, uploads)
            })
        }),
        ("an upload that is forgotten", true, |request, before, uploads| {
            (request.method == "PATCH" && before == 2 && uploads.lock().unwrap().begun < 4).then(|| {
                uploads.lock().unwrap().parts.remove(&request.path);
                answer(404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#)
            })
        }),
        ("a break, and then it is forgotten", true, |request, before, uploads| {
            (request.method == "PATCH" && before == 1 && uploads.lock().unwrap().begun < 4).then(|| {
                uploads.lock().unwrap().parts.remove(&request.path);
                hang_up()
            })
        }),
        ("no chunks", true, |request, _, _| (request.method == "PATCH").then(|| answer(405, ""))),
        ("one chunk and no more", true, |request, before, _| {
            (request.method == "PATCH" && before > 0).then(|| answer(400, ""))
        }),
        ("neither address nor range", false, |request, _, uploads| {
            (request.method == "PATCH").then(|| Answer { headers: Vec::new(), ..take_upload(request, uploads) })
        }),
        ("a wrong whole once", true, |request, _, uploads| {
            let wrong = request.method == "PUT" && request.body.is_empty() && uploads.lock().unwrap().begun < 4;
            (wrong && request.path.contains("/uploads/"))
                .then(|| answer(400, r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#))
        }),
    ];
    for (what, anew, upset) in upsets {
        let uploads: Arc<Mutex<Uploads>> = Arc::default();
        let kept = Arc::clone(&uploads);
        let server = Server::start(move |request, before| {
            upset(request, before, &kept).unwrap_or_else(|| take_upload(request, &kept))
        });
        let result = client(small).push(&store, &image, &name(&server), &Events::none()).await;
        assert!(result.is_ok(), "{what}: {result:?}");
        let uploads = uploads.lock().unwrap();
        for layer in &image.layers {
            assert_eq!(uploads.whole.iter().filter(|digest| **digest == layer.digest).count(), 1, "{what}");
        }
        assert_eq!(uploads.begun > 3, anew, "{what}: {} uploads of 3 blobs", uploads.begun);
        if what == "nothing" {
            assert_eq!(server.count(|request| request.method == "PATCH"), size.div_ceil(400_000));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_as_large_as_the_registry_wants_them() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    // Not compressed, so that it is larger than the smallest chunk.
    let options =
        AssembleOptions { compression: lap_cache::image::Compression::Uncompressed, ..AssembleOptions::default() };
    let image = image(&store, &options);
    let size = usize::try_from(image.layers[0].descriptor.size()).unwrap();
    for (what, limit, least) in [("too large", 1 << 20, 0), ("at least", usize::MAX, 1_500_000), ("never", 1000, 0)] {
        let uploads: Arc<Mutex<Uploads>> = Arc::default();
        let kept = Arc::clone(&uploads);
        let server = Server::start(move |request, _| match request.method.as_str() {
            "PATCH" if request.body.len() > limit => answer(413, "<html>nginx</html>"),
            "POST" if least > 0 => take_upload(request, &kept).with("OCI-Chunk-Min-Length", least.to_string()),
            _ => take_upload(request, &kept),
        });
        let chunk = if least > 0 { 1 << 20 } else { 2 << 20 };
        let client = client(|config| config.chunk = chunk);
        client.push(&store, &image, &name(&server), &Events::none()).await.unwrap();
        let sent = server.count(|request| request.method == "PATCH");
        let expected = match what {
            "at least" => size.div_ceil(least),
            // 2 MiB, then what is a quarter of it would be too small: in one request.
            "too large" | "never" => 1,
            _ => unreachable!(),
        };
        assert_eq!(sent, expected, "{what}");
        assert!(uploads.lock().unwrap().whole.contains(&image.layers[0].digest), "{what}");
    }
    let uploads: Arc<Mutex<Uploads>> = Arc::default();
    let kept = Arc::clone(&uploads);
    let server = Server::start(move |request, _| match request.method.as_str() {
        "PATCH" if request.body.len() > 1 << 20 => answer(413, ""),
        _ => take_upload(request, &kept),
    });
    let client = client(|config| config.chunk = 16 << 20);
    let large = support::layer(&store, &[], |dir| {
        std::fs::write(dir.join("large"), vec![3; 17 << 20]).unwrap();
    });
    let large = lap_cache::image::assemble(&store, &[large], support::config(), &options, &Events::none()).unwrap();
    client.push(&store, &large, &name(&server), &Events::none()).await.unwrap();
    let taken = server.count(|request| request.method == "PATCH" && request.header("content-length") == "1048576");
    assert_eq!(taken, 17, "chunks of 1 MiB, and a rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_asked_for_once() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    let digest = image.digest().to_string();
    let server = Server::start(move |request, _| match request.method.as_str() {
        "HEAD" if request.path == "/v2/app/manifests/1" => {
            answer(200, "").with("Docker-Content-Digest", digest.clone())
        }
        _ => answer(500, ""),
    });
    client(|_| {}).push(&store, &image, &name(&server), &Events::none()).await.unwrap();
    assert_eq!(server.count(|request| request.path != "/v2/"), 1, "one request, and no blob");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_that_are_refused_are_uploads() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    for (status, location, sent) in [
        (201, false, false),
        (202, true, true),
        (202, false, true),
        (401, false, true),
        (403, false, true),
        (404, false, true),
        (500, false, true),
    ] {
        let store = scratch.store(&format!("{status}-{location}"));
        let image = image(&store, &AssembleOptions::default());
        let uploads: Arc<Mutex<Uploads>> = Arc::default();
        let kept = Arc::clone(&uploads);
        let server = Server::start(move |request, _| {
            if request.method == "POST" && request.path.contains("mount=") {
                assert!(request.path.contains("from=other"), "{}", request.path);
                let begun = take_upload(request, &kept);
                return Answer { status, headers: if location { begun.headers } else { Vec::new() }, ..begun };
            }
            take_upload(request, &kept)
        });
        let origin = lap_cache::image::blobs::Origin { registry: server.address.clone(), repository: "other".into() };
        store.remember_origin(&image, &origin).unwrap();
        let result = client(|_| {}).push(&store, &image, &name(&server), &Events::none()).await;
        assert!(result.is_ok(), "{status}: {result:?}");
        let uploads = uploads.lock().unwrap();
        assert_eq!(image.layers.iter().all(|layer| uploads.whole.contains(&layer.digest)), sent, "{status}");
        assert!(server.count(|request| request.path.contains("mount=")) >= 2);
    }
}

fn attested(store: &Store, image: &Image) -> lap_cache::image::Index {
    let predicate = attest::Predicate { kind: "https://example.com/x".into(), content: serde_json::json!({"a": 1}) };
    attest::attested(store, image.clone(), &[], &[predicate], attest::Form::Artifact, &BTreeMap::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_go_with_the_image_and_are_listed_where_the_registry_does_not() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("a");
    let image = image(&store, &AssembleOptions::default());
    let index = attested(&store, &image);
    let referrer = index.entries[1].image.clone();
    let tag = format!("/v2/app/manifests/sha256-{}", image.digest().hex());
    let other = serde_json::json!({"schemaVersion": 2, "manifests": [{"mediaType": "x/y", "size": 1,
        "digest": Digest::of(b"other").to_string()}]});
    // As a part of an index, and by itself.
    for alone in [false, true] {
        for (what, before) in [("listed", None), ("not listed", None), ("others listed", Some(other.clone()))] {
            let list: Arc<Mutex<Option<serde_json::Value>>> = Arc::new(Mutex::new(before));
            let uploads: Arc<Mutex<Uploads>> = Arc::default();
            let (kept, path) = (Arc::clone(&list), tag.clone());
            let server = Server::start(move |request, _| match request.method.as_str() {
                "GET" if request.path == path => match &*kept.lock().unwrap() {
                    Some(list) => answer(200, list.to_string()),
                    None => answer(404, ""),
                },
                "PUT" if request.path == path => {
                    *kept.lock().unwrap() = serde_json::from_slice(&request.body).ok();
                    answer(201, "")
                }
                "PUT" if what == "listed" && request.path.contains("/manifests/") => {
                    answer(201, "").with("OCI-Subject", "sha256:whatever")
                }
                _ => take_upload(request, &uploads),
            });
            let client = client(|_| {});
            for _ in 0..2 {
                if alone {
                    store.keep(&referrer.descriptor).unwrap();
                    client.push(&store, &image, &name(&server), &Events::none()).await.unwrap();
                } else {
                    client.push_artifact(&store, &index.clone().into(), &name(&server), &Events::none()).await.unwrap();
                }
            }
            let put = format!("/v2/app/manifests/{}", referrer.digest());
            assert!(server.count(|request| request.method == "PUT" && request.path == put) > 0, "{what}");
            let list = list.lock().unwrap();
            if what == "listed" {
                assert!(list.is_none());
                continue;
            }
            let entries = list.as_ref().unwrap()["manifests"].as_array().unwrap();
            assert_eq!(entries.len(), if what == "others listed" { 2 } else { 1 }, "{what}: {entries:?}");
            let ours = entries.last().unwrap();
            assert_eq!(ours["digest"], referrer.digest().to_string());
            assert_eq!(ours["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
        }
    }
}

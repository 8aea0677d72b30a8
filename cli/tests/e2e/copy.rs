//! `lap copy` beside skopeo, umoci, podman and Debian's docker-registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::login::Guarded;
use crate::support::{Lap, Registry, needs, run};

const DOCKERFILE: &str =
    "FROM busybox\nRUN echo one > /one\nRUN echo two > /two && rm /one\nENV WHO=copy\nCMD cat /two\n";

/// What skopeo says of a place: the bytes of its manifest.
#[track_caller]
fn raw(place: &str) -> String {
    run("skopeo", &["inspect", "--raw", "--tls-verify=false", place]).ok().out
}

/// Names and contents below a directory.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(at) = stack.pop() {
        for entry in std::fs::read_dir(&at).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => stack.push(entry.path()),
                false => drop(files.insert(entry.path(), std::fs::read(entry.path()).unwrap())),
            }
        }
    }
    files
}

#[test]
fn every_place_gives_the_same_manifest_and_skopeo_agrees() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    needs!("umoci");
    let registry = Registry::start();
    let lap = Lap::new();
    lap.build("app", DOCKERFILE).ok();
    let places = [
        format!("docker://{}/team/app:1", registry.address),
        format!("docker://{}/other/app:2", registry.address),
        format!("oci:{}:v1", lap.path("layout").display()),
        format!("dir:{}", lap.path("dir").display()),
        format!("oci-archive:{}:v1", lap.path("oci.tar").display()),
        format!("docker-archive:{}:app:3", lap.path("docker.tar").display()),
    ];
    // From one to the next, and from the last one home again.
    let mut from = "app".to_owned();
    let mut manifests = Vec::new();
    for place in &places {
        lap.run(&["copy", "--digestfile", "digest", &from, place]).ok();
        if !place.starts_with("docker-archive") {
            manifests.push(raw(place));
        }
        from.clone_from(place);
    }
    lap.run(&["copy", "-q", &from, "store:back:1"]).ok();
    assert!(manifests.iter().all(|raw| *raw == manifests[0]), "{manifests:#?}");
    let digest = std::fs::read_to_string(lap.path("digest")).unwrap();
    assert_eq!(lap.run(&["inspect", "back:1"]).ok().json()[0]["Descriptor"]["digest"], digest.as_str());
    assert_eq!(lap.run(&["run", "--rm", "--network", "none", "back:1"]).ok().out, "two\n");
    // The second repository of the registry got its blobs from the first, by mounting.
    let requests = registry.requests();
    let sent = |what: &str| requests.iter().filter(|line| line.contains("/other/app/") && line.contains(what)).count();
    assert!(sent("mount=") > 0 && sent("PUT /v2/other/app/blobs") == 0, "{requests:#?}");

    // What we wrote, skopeo reads whole; umoci unpacks our layout.
    for (number, place) in places.iter().enumerate() {
        let copy = format!("dir:{}", lap.path(&format!("theirs-{number}")).display());
        run("skopeo", &["copy", "-q", "--src-tls-verify=false", "--preserve-digests", place, &copy]).ok();
    }
    let image = format!("{}:v1", lap.path("layout").display());
    run("umoci", &["raw", "unpack", "--image", &image, lap.path("rootfs").to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(lap.path("rootfs/two")).unwrap(), "two\n");

    // Their directory of our image is our directory of it.
    let names = |dir: &str| {
        tree(&lap.path(dir))
            .into_iter()
            .map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(names("dir"), names("theirs-0"));
    // And a copy in place of another one leaves nothing of it.
    lap.run(&["copy", "-q", "busybox", &places[3]]).ok();
    assert_eq!(tree(&lap.path("dir")).len(), 4, "version, manifest, config, layer");
}

#[test]
fn what_skopeo_wrote_is_copied_as_it_is() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let lap = Lap::new();
    lap.build("app", DOCKERFILE).ok();
    lap.run(&["save", "-o", "app.tar", "app"]).ok();
    let archive = format!("docker-archive:{}", lap.path("app.tar").display());
    for (number, format) in ["oci", "v2s2"].into_iter().enumerate() {
        let theirs = [
            format!("docker://{}/theirs/app:{number}", registry.address),
            format!("oci:{}:x/y:{number}", lap.path("theirs-layout").display()),
            format!("oci-archive:{}:a", lap.path(&format!("theirs-{number}.tar")).display()),
            format!("dir:{}", lap.path(&format!("theirs-dir-{number}")).display()),
        ];
        for (at, place) in theirs.iter().enumerate() {
            if format == "v2s2" && place.starts_with("oci") {
                continue;
            }
            run("skopeo", &["copy", "-q", "-f", format, "--dest-tls-verify=false", &archive, place]).ok();
            let ours = format!("docker://{}/ours/app:{number}-{at}", registry.address);
            lap.run(&["copy", "-q", place, &ours]).ok();
            assert_eq!(raw(&ours), raw(place), "{place}");
            let name = format!("from-{number}-{at}");
            lap.run(&["copy", "-q", place, &name]).ok();
            assert_eq!(lap.run(&["run", "--rm", "--network", "none", &name]).ok().out, "two\n", "{place}");
        }
    }
    // Docker's own form of an archive has no manifest and plain layers: they are compressed on the way, as by skopeo.
    let plain = format!("docker-archive:{}:app:plain", lap.path("plain.tar").display());
    run("skopeo", &["copy", "-q", &archive, &plain]).ok();
    let ours = format!("oci:{}:1", lap.path("from-plain").display());
    lap.run(&["copy", &plain, &ours]).ok();
    let manifest: Value = serde_json::from_str(&raw(&ours)).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    let id = lap.run(&["inspect", "-f", "{{.Id}}", "app"]).ok().out;
    assert_eq!(manifest["config"]["digest"], id.trim());
    let missing = lap.run(&["copy", &format!("docker-archive:{}:none", lap.path("plain.tar").display()), "x"]).code(1);
    assert!(missing.err.contains("none is not in the archive"), "{}", missing.err);
}

#[test]
fn podman_loads_our_docker_archive() {
    needs!(root);
    needs!("podman");
    let lap = Lap::new();
    lap.build("app", DOCKERFILE).ok();
    let archive = lap.path("a.tar");
    let place = format!("docker-archive:{}:localhost/one:1", archive.display());
    lap.run(&["copy", "--additional-tag", "localhost/two:2", "app", &place]).ok();
    let (root, runroot) = (lap.path("podman"), lap.path("podman-run"));
    let podman = |args: &[&str]| {
        let mut all =
            vec!["--root", root.to_str().unwrap(), "--runroot", runroot.to_str().unwrap(), "--storage-driver", "vfs"];
        all.extend(args);
        run("podman", &all).ok().out
    };
    podman(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let id = lap.run(&["inspect", "-f", "{{.Id}}", "app"]).ok().out;
    for name in ["localhost/one:1", "localhost/two:2"] {
        let theirs = podman(&["image", "inspect", "--format", "{{.Id}}", name]);
        assert_eq!(format!("sha256:{}", theirs.trim()), id.trim(), "{name}");
    }
    let again = lap.run(&["copy", "app", &place]).code(1);
    assert!(again.err.contains("is there already"), "{}", again.err);
}

#[test]
fn an_index_is_copied_whole_or_by_platform() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    lap.run(&["build", "-q", "--platform", "linux/amd64,linux/arm64", "-t", "multi", "ctx"]).ok();
    let at = |name: &str| format!("docker://{}/{name}", registry.address);
    let layout = format!("oci:{}:all", lap.path("layout").display());
    let dir = format!("dir:{}", lap.path("dir").display());
    let mut from = "multi".to_owned();
    for place in [&at("multi:1"), &at("multi:2"), &layout, &dir, &at("again:1")] {
        lap.run(&["copy", "-q", "--all", &from, place]).ok();
        assert_eq!(raw(place), raw(&at("multi:1")), "{place}");
        from.clone_from(place);
    }
    // skopeo finds every image of it, in each.
    for (number, place) in [&layout, &dir, &at("again:1")].into_iter().enumerate() {
        let copy = format!("dir:{}", lap.path(&format!("theirs-{number}")).display());
        run("skopeo", &["copy", "-q", "--all", "--src-tls-verify=false", place, &copy]).ok();
        assert_eq!(raw(&copy), raw(&at("multi:1")));
    }
    let index: Value = serde_json::from_str(&raw(&at("multi:1"))).unwrap();
    let entry = |arch: &str| {
        let entries = index["manifests"].as_array().unwrap();
        entries.iter().find(|entry| entry["platform"]["architecture"] == arch).unwrap()["digest"].clone()
    };
    let said = lap.run(&["copy", "--override-arch", "arm64", &at("multi:1"), &at("arm:1")]).ok();
    assert_eq!(said.out.trim(), entry("arm64").as_str().unwrap());
    let none = lap.run(&["copy", "--override-arch", "s390x", &at("multi:1"), &at("none:1")]).code(1);
    assert!(none.err.contains("no image for linux/s390x (there are: linux/amd64, linux/arm64)"), "{}", none.err);
    // The index alone goes where its images are.
    lap.run(&["copy", "-q", "--multi-arch", "index-only", &at("multi:1"), &at("multi:3")]).ok();
    assert_eq!(raw(&at("multi:3")), raw(&at("multi:1")));
    lap.run(&["copy", "-q", "--all", &at("multi:3"), "whole:1"]).ok();
    lap.run(&["copy", "-q", "--all", "whole:1", &at("whole:1")]).ok();
    assert_eq!(raw(&at("whole:1")), raw(&at("multi:1")), "through the store");
}

#[test]
fn manifests_and_layers_take_another_form_when_asked() {
    needs!(root);
    needs!("skopeo");
    let lap = Lap::new();
    lap.build("app", DOCKERFILE).ok();
    let id = lap.run(&["inspect", "-f", "{{.Id}}", "app"]).ok().out;
    let copy = |flags: &[&str], from: &str, to: &str| {
        let place = format!("dir:{}", lap.path(to).display());
        let mut args = vec!["copy", "-q"];
        args.extend(flags);
        args.extend([from, place.as_str()]);
        (lap.run(&args), place)
    };
    let read = |place: &str| serde_json::from_str::<Value>(&raw(place)).unwrap();
    let (said, docker) = copy(&["--format", "v2s2"], "app", "docker");
    said.ok();
    let manifest = read(&docker);
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    assert_eq!(manifest["config"]["digest"], id.trim(), "the config stays as it is");
    // Back again it is what it was.
    let (said, oci) = copy(&["--format", "oci"], &docker, "oci");
    said.ok();
    let (said, first) = copy(&[], "app", "first");
    said.ok();
    assert_eq!(raw(&oci), raw(&first));

    let (said, zstd) = copy(&["--dest-compress-format", "zstd"], &first, "zstd");
    said.ok();
    assert_eq!(read(&zstd)["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    lap.run(&["copy", "-q", &zstd, "zstd"]).ok();
    assert_eq!(lap.run(&["run", "--rm", "--network", "none", "zstd"]).ok().out, "two\n");
    let (said, _) = copy(&["--format", "v2s2"], &zstd, "no");
    assert!(said.code(1).err.contains("no layers of zstd"));
    let (said, plain) = copy(&["--dest-decompress"], &zstd, "plain");
    said.ok();
    let config: Value =
        serde_json::from_slice(&std::fs::read(lap.path("plain").join(&id.trim()[7..])).unwrap()).unwrap();
    let layers =
        read(&plain)["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>();
    assert_eq!(json!(layers), config["rootfs"]["diff_ids"], "plain layers are what their diff IDs say");
    let (said, _) = copy(&["--preserve-digests", "--format", "v2s2"], "app", "kept");
    assert!(said.code(1).err.contains("cannot be kept"));
    assert!(!lap.path("kept").exists() && !lap.path("no").exists(), "nothing is left of what failed");
}

/// A layout of busybox, with its documents.
fn layout(lap: &Lap) -> (PathBuf, Value) {
    let path = lap.path("layout");
    lap.run(&["copy", "-q", "busybox", &format!("oci:{}:v1", path.display())]).ok();
    let index: Value = serde_json::from_slice(&std::fs::read(path.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = std::fs::read(path.join("blobs/sha256").join(&digest[7..])).unwrap();
    (path, serde_json::from_slice(&manifest).unwrap())
}

#[test]
fn hostile_layouts_are_refused_and_leave_nothing() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    type Damage = fn(&Path, &Path);
    let cases: [(&str, &str, Damage); 8] = [
        ("other bytes", "has digest", |layer, _| {
            let mut bytes = std::fs::read(layer).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(layer, bytes).unwrap();
        }),
        ("longer", "were announced", |layer, _| {
            let mut bytes = std::fs::read(layer).unwrap();
            bytes.push(0);
            std::fs::write(layer, bytes).unwrap();
        }),
        ("shorter", "were announced", |layer, _| {
            let bytes = std::fs::read(layer).unwrap();
            std::fs::write(layer, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("missing", "is not in the archive", |layer, _| std::fs::remove_file(layer).unwrap()),
        ("a directory", "it is no file", |layer, _| {
            std::fs::remove_file(layer).unwrap();
            std::fs::create_dir(layer).unwrap();
        }),
        ("a link out", "", |layer, outside| {
            std::fs::rename(layer, outside).unwrap();
            std::os::unix::fs::symlink(outside, layer).unwrap();
        }),
        ("blobs elsewhere", "", |layer, outside| {
            let blobs = layer.parent().unwrap().parent().unwrap();
            std::fs::rename(blobs, outside).unwrap();
            std::os::unix::fs::symlink(outside, blobs).unwrap();
        }),
        ("a name that leads out", "index.json", |layer, _| {
            let index = layer.parent().unwrap().parent().unwrap().parent().unwrap().join("index.json");
            let text = std::fs::read_to_string(&index).unwrap();
            std::fs::write(index, text.replacen("\"digest\":\"sha256:", "\"digest\":\"sha256:../../", 1)).unwrap();
        }),
    ];
    for (what, why, damage) in cases {
        let lap = Lap::new();
        let (path, manifest) = layout(&lap);
        lap.run(&["rmi", "busybox"]).ok();
        lap.run(&["system", "prune", "-af"]).ok();
        let layer = path.join("blobs/sha256").join(&manifest["layers"][0]["digest"].as_str().unwrap()[7..]);
        damage(&layer, &lap.path("outside"));
        let source = format!("oci:{}:v1", path.display());
        let before = tree(&lap.path("store/blobs"));
        let tag = what.replace(' ', "-");
        for place in [
            format!("oci:{}:x", lap.path("to/layout").display()),
            format!("dir:{}", lap.path("to/dir").display()),
            format!("oci-archive:{}", lap.path("to.tar").display()),
            format!("docker-archive:{}:x", lap.path("to.tar").display()),
            format!("docker://{}/hostile:{tag}", registry.address),
            "store:hostile".to_owned(),
        ] {
            let said = lap.run(&["copy", "-q", &source, &place]).code(1);
            assert!(said.err.contains(why), "{what} to {place}: {}", said.err);
        }
        assert!(!lap.path("to").exists() && !lap.path("to.tar").exists(), "{what}: nothing half-written");
        assert_eq!(tree(&lap.path("store/blobs")), before, "{what}: nothing in the store");
        assert_eq!(lap.run(&["images", "-q"]).ok().out, "", "{what}");
        let pulled = lap.run(&["pull", &format!("{}/hostile:{tag}", registry.address)]).code(1);
        assert!(pulled.err.contains("not known") || pulled.err.contains("404"), "{what}: {}", pulled.err);
    }
}

#[test]
fn a_destination_in_use_is_left_alone() {
    needs!(root);
    let lap = Lap::new();
    lap.write("mine/letter", "dear");
    let said = lap.run(&["copy", "busybox", &format!("dir:{}", lap.path("mine").display())]).code(1);
    assert!(said.err.contains("neither empty nor a directory of an image"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(lap.path("mine/letter")).unwrap(), "dear");
    for place in ["oci-archive:-", "oci-archive:/dev/stdout"] {
        let out = lap.run(&["copy", "busybox", place]).ok().out;
        assert!(out.starts_with("blobs/") && out.contains("index.json") && !out.contains("\nsha256:"), "{place}");
    }
    // Other images of a layout stay, a link in it is not written through.
    let place = |name: &str| format!("oci:{}:{name}", lap.path("layout").display());
    lap.run(&["copy", "-q", "busybox", &place("one")]).ok();
    lap.run(&["copy", "-q", "busybox", &place("two")]).ok();
    lap.run(&["copy", "-q", "busybox", &place("two")]).ok();
    let index: Value = serde_json::from_slice(&std::fs::read(lap.path("layout/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    std::fs::rename(lap.path("layout/blobs"), lap.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(lap.path("elsewhere"), lap.path("layout/blobs")).unwrap();
    lap.run(&["copy", "-q", "busybox", &place("three")]).code(1);
    for (bad, why) in [("containers-storage:x", "store:"), ("docker:x", "docker://NAME"), ("oci:", "oci:PATH")] {
        assert!(lap.run(&["copy", bad, "y"]).code(2).err.contains(why), "{bad}");
    }
}

#[test]
fn logins_of_the_two_ends_are_their_own() {
    needs!(root);
    needs!("docker-registry");
    let (open, locked) = (Registry::start(), Guarded::with_passwords());
    let lap = Lap::new();
    let from = format!("docker://{}/app:1", open.address);
    let to = format!("docker://{}/app:1", locked.address);
    lap.run(&["copy", "-q", "busybox", &from]).ok();
    lap.run(&["copy", "-q", &from, &to]).code(1);
    let wrong = lap.run(&["copy", "-q", "--dest-creds", "user:wrong", &from, &to]).code(1);
    assert!(!wrong.err.contains("user:wrong"), "passwords are not shown: {}", wrong.err);
    lap.run(&["copy", "-q", "--dest-creds", "user:pa:ss w0rd", &from, &to]).ok();
    lap.run(&["copy", "-q", "--src-creds", "user:pa:ss w0rd", &to, "store:got"]).ok();
    let auth = lap
        .write("auth.json", format!("{{\"auths\":{{\"{}\":{{\"auth\":\"dXNlcjpwYTpzcyB3MHJk\"}}}}}}", locked.address));
    let auth = auth.to_str().unwrap();
    lap.run(&["copy", "-q", "--authfile", auth, &to, "store:got"]).ok();
    lap.run(&["copy", "-q", "--src-authfile", auth, &to, "store:got"]).ok();
    lap.run(&["copy", "-q", "--dest-authfile", auth, &to, "store:got"]).code(1);
    lap.run(&["copy", "-q", "--src-no-creds", "--authfile", auth, &to, "store:got"]).code(1);
    lap.run(&["copy", "-q", "--authfile", "none.json", &to, "store:got"]).code(1);
}

#[test]
fn a_registry_that_lies_gives_nothing() {
    needs!(root);
    needs!("docker-registry");
    let (from, to) = (Registry::start(), Registry::start());
    let source = format!("docker://{}/app:1", from.address);
    Lap::new().run(&["copy", "-q", "busybox", &source]).ok();
    let lap = Lap::empty();
    lap.run(&["copy", "-q", &source, &format!("dir:{}", lap.path("dir").display())]).ok();
    let manifest: Value = serde_json::from_slice(&std::fs::read(lap.path("dir/manifest.json")).unwrap()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let mut bytes = std::fs::read(from.blob(layer)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(from.blob(layer), bytes).unwrap();
    for place in [
        format!("docker://{}/app:1", to.address),
        format!("oci:{}:1", lap.path("layout").display()),
        format!("oci-archive:{}", lap.path("a.tar").display()),
        "store:lie".to_owned(),
    ] {
        let said = lap.run(&["copy", "-q", &source, &place]).code(1);
        assert!(said.err.contains("has digest") && said.err.contains(layer), "{place}: {}", said.err);
    }
    assert!(!to.blob(layer).exists(), "the last bytes were never sent");
    assert!(!lap.path("layout").exists() && !lap.path("a.tar").exists());
    assert!(!lap.run(&["images"]).ok().out.contains("lie"));
}

#[test]
fn an_interrupted_copy_leaves_nothing() {
    needs!(root);
    let lap = Lap::new();
    // A registry that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let from = format!("docker://{}/app:1", silent.local_addr().unwrap());
    let to = format!("oci:{}:1", lap.path("out").display());
    for (source, destination) in [(from.as_str(), to.as_str()), ("busybox", from.as_str())] {
        let mut child = lap.command().args(["copy", "-q", source, destination]).spawn().unwrap();
        let _asked = silent.accept().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{source}");
    }
    assert!(!lap.path("out").exists());
}

#[test]
fn artifacts_are_copied_as_they_are() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let lap = Lap::empty();
    let blob = |bytes: &[u8]| {
        let name = lap.write("blob", bytes);
        let digest = run("sha256sum", &[name]).ok().out[..64].to_owned();
        lap.write(&format!("layout/blobs/sha256/{digest}"), bytes);
        digest
    };
    let part = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", blob(bytes)), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x.chart",
        "config": part("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [part("application/x.chart+tar", b"any bytes"), part("text/plain", b"more")],
        "annotations": {"a": "b"},
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = json!({"schemaVersion": 2, "manifests": [part(kind, manifest.to_string().as_bytes())]});
    lap.write("layout/index.json", index.to_string());
    lap.write("layout/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    let (from, there) =
        (format!("oci:{}", lap.path("layout").display()), format!("docker://{}/chart:1", registry.address));
    lap.run(&["copy", "-q", &from, &there]).ok();
    assert_eq!(raw(&there), manifest.to_string());
    lap.run(&["copy", "-q", &there, &format!("dir:{}", lap.path("dir").display())]).ok();
    assert_eq!(std::fs::read_to_string(lap.path("dir/manifest.json")).unwrap(), manifest.to_string());
    let no = lap.run(&["copy", "-q", "--format", "v2s2", &from, &there]).code(1);
    assert!(no.err.contains("it is no image"), "{}", no.err);
}

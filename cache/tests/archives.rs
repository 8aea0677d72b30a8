//! Exports and imports, with skopeo, umoci, podman and tar as second opinions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod support;

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use lap_cache::export::{Named, docker_archive, local_dir, oci_dir, oci_tar, rootfs_tar};
use lap_cache::gc::{Kind, Pruned};
use lap_cache::image::{AssembleOptions, Blobs, Compression, Image, Reference, written};
use lap_cache::import::{ImportOptions, import};
use lap_cache::layer::Owner;
use lap_cache::load::{LoadError, Loaded, Wanted, load};
use lap_cache::store::Store;
use lap_solver::event::Events;
use lap_solver::image::ContainerConfig;
use support::{Scratch, amd64, image, listing, ready, run, skopeo};

fn named(image: &Image, names: &[&str]) -> Vec<Named> {
    vec![Named { content: image.clone().into(), names: names.iter().map(|name| name.parse().unwrap()).collect() }]
}

/// The one image that was loaded.
fn only(loaded: &Loaded) -> &Image {
    loaded.content.images()[0]
}

/// The merged tree of an image as overlayfs shows it.
fn mounted(store: &Store, image: &Image, check: impl FnOnce(&Path)) {
    let plan = store.overlay(&image.diff_ids().collect::<Vec<_>>(), None).unwrap();
    let target = tempfile::tempdir().unwrap();
    let lowers: Vec<String> = plan.lowers.iter().map(|path| path.display().to_string()).collect();
    let options = format!("lowerdir={}", lowers.join(":"));
    run("mount", &["-t", "overlay", "overlay", "-o", &options, target.path().to_str().unwrap()]);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(target.path())));
    run("umount", &[target.path().to_str().unwrap()]);
    result.unwrap();
}

#[test]
fn umoci_and_skopeo_read_our_layouts() {
    if !ready(&["skopeo", "umoci"]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let image = image(&store, &AssembleOptions::default());
    let layout = scratch.path("layout");
    oci_dir(&store, &named(&image, &["team/app:1"]), &layout, &Events::none()).unwrap();
    // A second image beside it; the first one stays.
    let zstd = AssembleOptions { compression: Compression::ZSTD, ..AssembleOptions::default() };
    let second = support::image(&store, &zstd);
    oci_dir(&store, &named(&second, &["team/app:2"]), &layout, &Events::none()).unwrap();
    for (tag, image) in [("1", &image), ("2", &second)] {
        let seen = skopeo(&["inspect", &format!("oci:{}:{tag}", layout.display())]);
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["Digest"], image.digest().to_string());
        assert_eq!(seen["Labels"], serde_json::json!({"a": "2", "m": "3", "z": "1"}));
    }
    let bundle = scratch.path("bundle");
    run("umoci", &["unpack", "--image", &format!("{}:1", layout.display()), bundle.to_str().unwrap()]);
    mounted(&store, &image, |tree| assert_eq!(listing(&bundle.join("rootfs")), listing(tree)));
    // The store itself is such a layout.
    store.name_set(&"team/app:1".parse().unwrap(), &image).unwrap();
    let bundle = scratch.path("bundle2");
    let own = format!("{}:docker.io/team/app:1", scratch.path("store").display());
    run("umoci", &["unpack", "--image", &own, bundle.to_str().unwrap()]);
    assert_eq!(listing(&bundle.join("rootfs")), listing(&scratch.path("bundle").join("rootfs")));
}

#[test]
fn what_is_saved_is_loaded_again() {
    if !ready(&["skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let image = image(&store, &AssembleOptions::default());
    let images = named(&image, &["team/app:1", "localhost:5000/x:y"]);
    let mut archive = Vec::new();
    docker_archive(&store, &images, &amd64(), &mut archive, &Events::none()).unwrap();
    let mut again = Vec::new();
    docker_archive(&store, &images, &amd64(), &mut again, &Events::none()).unwrap();
    assert!(archive == again, "same images, same bytes");
    let mut oci = Vec::new();
    oci_tar(&store, &images, &mut oci, &Events::none()).unwrap();
    for (number, bytes) in [archive.clone(), oci, zstd::encode_all(&archive[..], 1).unwrap()].into_iter().enumerate() {
        let other = scratch.store(&format!("other{number}"));
        let loaded = load(&other, Cursor::new(bytes), Wanted::AllOr(&amd64()), &Events::none()).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(only(&loaded[0]).digest(), image.digest());
        assert_eq!(loaded[0].names, images[0].names);
        assert_eq!(other.name_get(&images[0].names[1]).unwrap(), Some(image.digest()));
        mounted(&store, &image, |ours| {
            mounted(&other, only(&loaded[0]), |tree| assert_eq!(listing(tree), listing(ours)));
        });
    }
    // skopeo reads both faces of it.
    let file = scratch.path("save.tar");
    std::fs::write(&file, &archive).unwrap();
    for kind in ["docker-archive", "oci-archive"] {
        let at = if kind == "oci-archive" {
            format!("{kind}:{}:1", file.display())
        } else {
            format!("{kind}:{}:team/app:1", file.display())
        };
        let target = scratch.path(kind);
        skopeo(&["copy", &at, &format!("dir:{}", target.display())]);
    }
}

#[test]
fn archives_of_skopeo_are_loaded() {
    if !ready(&["skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let image = image(&store, &AssembleOptions::default());
    store.name_set(&"app:1".parse().unwrap(), &image).unwrap();
    let source = format!("oci:{}:docker.io/library/app:1", scratch.path("store").display());
    for (kind, name, want) in [
        ("docker-archive", "team/app:2", Some("team/app:2")),
        ("oci-archive", "team/app:2", Some("team/app:2")),
        ("oci-archive", "lonely", None),
    ] {
        let file = scratch.path(&format!("{kind}-{}.tar", name.len()));
        skopeo(&["copy", &source, &format!("{kind}:{}:{name}", file.display())]);
        let other = scratch.store(&format!("{kind}-{}", name.len()));
        let loaded = load(&other, File::open(&file).unwrap(), Wanted::AllOr(&amd64()), &Events::none()).unwrap();
        let names: Vec<Reference> = want.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(loaded[0].names, names, "{kind} {name}");
        assert_eq!(only(&loaded[0]).config.rootfs, image.config.rootfs);
        assert_eq!(only(&loaded[0]).id(), image.id(), "{kind}: the config is kept to the byte");
        mounted(&store, &image, |ours| {
            mounted(&other, only(&loaded[0]), |tree| assert_eq!(listing(tree), listing(ours)));
        });
        // Nothing that no image needs stays behind.
        let blobs = std::fs::read_dir(other.root().join("blobs/sha256")).unwrap().count();
        assert_eq!(blobs, 4, "{kind}");
    }
}

#[test]
fn podman_loads_and_lists_our_archive() {
    if !ready(&["podman"]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let image = image(&store, &AssembleOptions::default());
    let file = scratch.path("save.tar");
    docker_archive(&store, &named(&image, &["team/app:1"]), &amd64(), File::create(&file).unwrap(), &Events::none())
        .unwrap();
    let (root, runroot) = (scratch.path("podman"), scratch.path("podman-run"));
    let podman = |arguments: &[&str]| {
        let mut all = vec!["--root", root.to_str().unwrap(), "--runroot", runroot.to_str().unwrap()];
        all.extend(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        all.extend(arguments);
        run("podman", &all)
    };
    podman(&["load", "-i", file.to_str().unwrap()]);
    let seen = podman(&["image", "inspect", "docker.io/team/app:1", "--format", "{{.Id}} {{.Config.Env}}"]);
    assert_eq!(seen.trim(), format!("{} [A=b]", image.id().hex()));
    podman(&["rmi", "-f", "docker.io/team/app:1"]);
}

#[test]
fn the_merged_tree_is_what_overlayfs_shows() {
    if !ready(&["tar", "mount"]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let image = image(&store, &AssembleOptions::default());
    let layers: Vec<_> = image.diff_ids().collect();
    let file = scratch.path("rootfs.tar");
    rootfs_tar(&store, &layers, File::create(&file).unwrap()).unwrap();
    let (unpacked, local) = (scratch.path("unpacked"), scratch.path("local"));
    std::fs::create_dir(&unpacked).unwrap();
    run("tar", &["-xpf", file.to_str().unwrap(), "-C", unpacked.to_str().unwrap()]);
    local_dir(&store, &layers, &local, Owner::Archive).unwrap();
    mounted(&store, &image, |tree| {
        assert_eq!(listing(&unpacked), listing(tree));
        assert_eq!(listing(&local), listing(tree));
    });
    let mine = scratch.path("mine");
    local_dir(&store, &layers, &mine, Owner::Fixed { uid: 7, gid: 8 }).unwrap();
    assert!(listing(&mine).iter().all(|line| line.contains(" 7:8 ")));
}

#[test]
fn a_root_file_system_is_imported_and_pruned_with_its_name() {
    if !ready(&["tar"]) {
        return;
    }
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    std::fs::create_dir(&tree).unwrap();
    support::fill_base(&tree);
    let archive = scratch.path("rootfs.tar.xz");
    run("tar", &["-C", tree.to_str().unwrap(), "-cJf", archive.to_str().unwrap(), "."]);
    let store = scratch.store("store");
    let options = ImportOptions {
        platform: amd64(),
        config: ContainerConfig { cmd: Some(vec!["/bin/sh".into()]), ..ContainerConfig::default() },
        comment: Some("Imported from -".into()),
        created: None,
        assemble: AssembleOptions::default(),
    };
    let image = import(&store, File::open(&archive).unwrap(), &options, &Events::none()).unwrap();
    assert_eq!((image.layers.len(), image.config.history.len()), (1, 1));
    assert_eq!(listing(&store.layer_dir(&image.layers[0].diff_id).join("fs")), listing(&tree));
    let name: Reference = "base:1".parse().unwrap();
    assert_eq!(store.names().unwrap().len(), 1);
    store.name_set(&name, &image).unwrap();
    assert_eq!(store.names().unwrap().len(), 1, "the nameless entry took the name");

    let nothing = |pruned: Pruned| assert_eq!((pruned.parts, pruned.bytes), (Vec::new(), 0));
    nothing(store.prune_unreferenced(Duration::ZERO).unwrap());
    let other: Reference = "other".parse().unwrap();
    store.name_set(&other, &image).unwrap();
    assert!(store.name_remove(&name).unwrap().deleted.is_empty());
    assert_eq!(store.name_remove(&other).unwrap().deleted, [image.digest()]);
    nothing(store.prune_unreferenced(Duration::from_secs(3600)).unwrap());
    let user = scratch.store("store");
    let lease = user.lease().unwrap();
    user.image(&image.digest()).unwrap();
    user.layer(&image.layers[0].diff_id).unwrap().unwrap();
    nothing(store.prune_unreferenced(Duration::ZERO).unwrap());
    drop(lease);
    let gone = store.prune_unreferenced(Duration::ZERO).unwrap();
    assert_eq!(gone.parts.iter().filter(|part| part.kind == Kind::Internal).count(), 3, "blobs");
    assert_eq!(gone.parts.iter().filter(|part| part.kind == Kind::Regular).count(), 1);
    assert!(store.image(&image.digest()).is_err());
}

#[test]
fn names_move_and_leave_nameless_images_behind() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let one = image(&store, &AssembleOptions::default());
    let two = image(&store, &AssembleOptions { docker_media_types: true, ..AssembleOptions::default() });
    let name: Reference = "app".parse().unwrap();
    assert_eq!(store.name_set(&name, &one).unwrap(), None);
    assert_eq!(store.name_set(&name, &one).unwrap(), None);
    assert_eq!(store.name_set(&name, &two).unwrap(), Some(one.digest()));
    let names: Vec<_> = store.names().unwrap().into_iter().map(|entry| (entry.name, entry.digest)).collect();
    assert_eq!(names, [(None, one.digest()), (Some(name.clone()), two.digest())]);
    assert_eq!(store.name_get(&name.with_digest(two.digest())).unwrap(), Some(two.digest()));
    assert_eq!(store.name_get(&name.with_digest(one.digest())).unwrap(), None);
    let removed = store.image_remove(&two.digest()).unwrap();
    assert_eq!((removed.untagged, removed.deleted), (vec![name], vec![two.digest()]));

    // Many processes may name images at once.
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (store, one) = (&store, &one);
            scope.spawn(move || store.name_set(&format!("many:{number}").parse().unwrap(), one).unwrap());
        }
    });
    assert_eq!(store.names().unwrap().len(), 8);
}

#[test]
fn hostile_archives_are_refused() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let archive = |entries: &[(&str, Option<&str>, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, link, data) in entries {
            let mut header = tar::Header::new_ustar();
            // Written by hand: the library refuses some of these names.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(data.len() as u64);
            if let Some(link) = link {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(link).unwrap();
            }
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let manifest = br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l/layer.tar"]}]"#;
    let hex = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";
    let (blob, diff) =
        (format!("blobs/sha256/{hex}"), format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["sha256:{hex}"]}}}}"#));
    for (what, bytes) in [
        ("nothing at all", Vec::new()),
        ("no tar", vec![1; 4096]),
        ("nothing of use", archive(&[("readme", None, b"x")])),
        ("a blob that is another", archive(&[(&blob, None, b"x")])),
        ("a blob that leads out", archive(&[("blobs/sha256/../../x", None, b"x")])),
        ("a name that leads out", archive(&[("../../x", None, b"x")])),
        ("a link for a layer", archive(&[("manifest.json", None, manifest), ("c.json", None, diff.as_bytes()), ("l/layer.tar", Some("/etc/shadow"), b"")])),
        ("a link that leads out", archive(&[("l/layer.tar", Some("../../../etc/shadow"), b"")])),
        ("a link to itself", archive(&[("manifest.json", None, manifest), ("c.json", None, diff.as_bytes()), ("l/layer.tar", Some("layer.tar"), b"")])),
        ("another layer", archive(&[("manifest.json", None, manifest), ("c.json", None, diff.as_bytes()), ("l/layer.tar", None, &[0; 1024])])),
        ("no diff IDs", archive(&[("manifest.json", None, manifest), ("c.json", None, b"{}"), ("l/layer.tar", None, &[0; 1024])])),
        ("two lists", archive(&[("manifest.json", None, manifest), ("manifest.json", None, manifest)])),
        ("a missing config", archive(&[("manifest.json", None, manifest)])),
        ("null", archive(&[("manifest.json", None, b"null")])),
        ("a missing manifest", archive(&[("index.json", None, format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{hex}","size":5}}]}}"#).as_bytes())])),
    ] {
        let store = scratch.store(&what.replace(' ', "-"));
        let result = load(&store, Cursor::new(bytes), Wanted::AllOr(&amd64()), &Events::none());
        assert!(result.is_err(), "{what}: {result:?}");
        assert!(store.names().unwrap().is_empty(), "{what}");
        assert_eq!(std::fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 0, "{what} leaves blobs");
        assert!(store.layers().unwrap().is_empty(), "{what} leaves layers");
    }
    let huge = archive(&[("index.json", None, &vec![b' '; 5 << 20])]);
    let result = load(&scratch.store("huge"), Cursor::new(huge), Wanted::AllOr(&amd64()), &Events::none());
    assert!(matches!(result, Err(LoadError::TooLarge { .. })), "{result:?}");
}

/// A tar of entries: path (a directory where it ends in a slash), mode, link target, data.
fn tarball(entries: &[(&str, u32, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, link, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(*mode);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        header.set_path(path).unwrap();
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Link);
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn layers_that_lean_on_lower_ones_come_out_right_in_any_order() {
    if !ready(&["mount"]) {
        return;
    }
    // The lowest one takes longest, so the others are done before it.
    let big = vec![7; 16 << 20];
    let layers = [
        tarball(&[("tmp/", 0o1777, None, b""), ("data", 0o640, None, &big), ("secret/", 0o700, None, b"")]),
        tarball(&[("tmp/of-two", 0o644, None, b"2")]),
        tarball(&[("secret/deep/of-three", 0o644, None, b"3"), ("link", 0o640, Some("data"), b"")]),
    ];
    let diff_ids: Vec<String> = layers.iter().map(|bytes| lap_cache::digest::Digest::of(bytes).to_string()).collect();
    let config =
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let manifest = br#"[{"Config":"c.json","RepoTags":["lean:1"],"Layers":["0.tar","1.tar","2.tar"]}]"#;
    let config = config.to_string();
    let names = ["0.tar", "1.tar", "2.tar"];
    let mut entries: Vec<(&str, u32, Option<&str>, &[u8])> = vec![("manifest.json", 0o644, None, manifest)];
    entries.push(("c.json", 0o644, None, config.as_bytes()));
    entries.extend(names.iter().zip(&layers).map(|(name, bytes)| (*name, 0o644, None, &bytes[..])));
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let loaded = load(&store, Cursor::new(tarball(&entries)), Wanted::AllOr(&amd64()), &Events::none()).unwrap();
    mounted(&store, only(&loaded[0]), |tree| {
        let lines: Vec<String> =
            listing(tree).into_iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "data 100640",
                "link 100640",
                "secret 40700",
                "secret/deep 40755",
                "secret/deep/of-three 100644",
                "tmp 41777",
                "tmp/of-two 100644"
            ]
        );
    });
}

#[test]
fn deferred_layers_are_written_out_under_the_same_config() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let deferred = image(&store, &AssembleOptions { blobs: Blobs::Deferred, ..AssembleOptions::default() });
    assert_eq!(store.missing_blobs(&deferred).unwrap().len(), 2);
    let whole = written(&store, &deferred, &AssembleOptions::default(), &Events::none()).unwrap();
    assert!(store.missing_blobs(&whole).unwrap().is_empty());
    assert_eq!((whole.id(), &whole.raw_config), (deferred.id(), &deferred.raw_config));
    assert_ne!(whole.digest(), deferred.digest());
    let again = written(&store, &whole, &AssembleOptions::default(), &Events::none()).unwrap();
    assert_eq!(again.digest(), whole.digest());
}

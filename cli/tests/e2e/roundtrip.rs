//! Images go through other tools and come back: the same config and the same layers, to the byte.
//!
//! The image has what gets lost easily: extended attributes, capabilities, hard links, devices, large owners, names that
//! are no text, files and whole directories that a later layer hides.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::peers::peer;
use crate::support::{Lap, Registry, Said, needs, run};

const DOCKERFILE: &str = "\
FROM busybox
ADD nasty.tar /
RUN ln /n/file /n/hard && mkfifo /n/fifo && mknod /n/null c 1 3 && chown 2000000000:2000000001 /n/big \\
    && chmod 6755 /n/setuid && ln -s /etc/passwd /n/link && mkdir /n/gone /n/opaque && touch /n/gone/f /n/opaque/old
RUN rm -r /n/gone /n/opaque && mkdir /n/opaque && touch /n/opaque/new && rm /bin/who && chmod 700 /n/file
CMD [\"cat\", \"/n/file\"]
";

const XATTR: &CStr = c"user.note";

/// A store with the image `nasty`.
fn nasty() -> Lap {
    let lap = Lap::new();
    for name in ["file", "big", "setuid", "xattr"] {
        lap.write(&format!("ctx/n/{name}"), name);
    }
    lap.write(&format!("ctx/n/{}", "l".repeat(200)), "long");
    let odd = lap.path("ctx/n").join(std::ffi::OsStr::from_bytes(b"b\xff\xfed"));
    std::fs::write(odd, "no text").unwrap();
    rustix::fs::setxattr(lap.path("ctx/n/xattr"), XATTR, b"hello", rustix::fs::XattrFlags::empty()).unwrap();
    let tar = format!("cd {} && tar --xattrs --xattrs-include='*' -cf nasty.tar n", lap.path("ctx").display());
    run("sh", &["-c", &tar]).ok();
    std::fs::remove_dir_all(lap.path("ctx/n")).unwrap();
    lap.build("nasty", DOCKERFILE).ok();
    lap
}

/// What must stay the same: the digests of the config and of the layers' files.
fn identity(lap: &Lap, name: &str) -> String {
    let text = lap.run(&["inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", name]).ok().out;
    assert!(text.starts_with("sha256:"), "{text}");
    text
}

/// Whether the layers in a store really hold what the image is about.
fn check_files(lap: &Lap, name: &str) {
    let data = lap.run(&["inspect", "-f", "{{.GraphDriver.Data.LowerDir}}", name]).ok().out;
    let layers: Vec<&Path> = data.trim().split(':').map(Path::new).collect();
    let mut value = [0; 16];
    let file = layers.iter().map(|layer| layer.join("n/xattr")).find(|file| file.exists()).unwrap();
    let length = rustix::fs::getxattr(&file, XATTR, &mut value).unwrap();
    assert_eq!(&value[..length], b"hello");
    let script = "cd /n && stat -c '%n %u:%g %a %h' big setuid hard && ls && ls opaque && ls /bin/who";
    let said = lap.run(&["run", "--rm", "--network", "none", name, "sh", "-c", script]).code(1);
    assert!(said.out.starts_with("big 2000000000:2000000001 644 1\nsetuid 0:0 6755 1\nhard 0:0 644 2\n"), "{said:?}");
    assert!(said.out.ends_with("\nnew\n") && !said.out.contains("gone") && !said.out.contains("old"), "{said:?}");
}

/// What comes of an archive in an empty store.
fn loaded(archive: &Path) -> (Lap, String) {
    let lap = Lap::empty();
    let said = lap.run(&["load", "-q", "-i", archive.to_str().unwrap()]).ok().out;
    let name = said
        .lines()
        .find_map(|line| line.strip_prefix("Loaded image: "))
        .unwrap_or_else(|| said.trim().strip_prefix("Loaded image ID: ").unwrap());
    (lap, name.to_owned())
}

fn skopeo(args: &[&str]) -> Said {
    let mut all = vec!["--insecure-policy"];
    all.extend(args);
    run("skopeo", &all).ok()
}

#[test]
fn podman_gives_back_what_it_was_given() {
    needs!(root);
    needs!("podman");
    let lap = nasty();
    check_files(&lap, "nasty");
    let wanted = identity(&lap, "nasty");
    lap.run(&["save", "-o", "ours.tar", "nasty", "busybox"]).ok();
    let ours = lap.path("ours.tar");
    peer(&lap, "podman", &["load", "-q", "-i", ours.to_str().unwrap()]).ok();
    let podman = peer(&lap, "podman", &["image", "inspect", "-f", "{{.Id}}", "nasty"]).ok().out;
    assert_eq!(wanted.split_whitespace().next(), Some(format!("sha256:{}", podman.trim()).as_str()));
    let only = lap.path("only.tar");
    lap.run(&["save", "-o", only.to_str().unwrap(), "nasty"]).ok();
    for format in ["docker-archive", "oci-archive"] {
        // From one format into the other, podman writes the config anew.
        peer(&lap, "podman", &["rmi", "-f", "nasty"]).ok();
        let pulled = peer(&lap, "podman", &["pull", "-q", &format!("{format}:{}", only.display())]).ok().out;
        peer(&lap, "podman", &["tag", pulled.trim(), "nasty"]).ok();
        let theirs = lap.path(&format!("{format}.tar"));
        peer(&lap, "podman", &["save", "-q", "--format", format, "-o", theirs.to_str().unwrap(), "nasty"]).ok();
        let (back, name) = loaded(&theirs);
        assert_eq!(identity(&back, &name), wanted, "{format}");
        check_files(&back, &name);
    }
    // Several images in one archive.
    let theirs = lap.path("several.tar");
    peer(&lap, "podman", &["save", "-q", "-m", "-o", theirs.to_str().unwrap(), "nasty", "busybox"]).ok();
    let other = Lap::empty();
    let said = other.run(&["load", "-i", theirs.to_str().unwrap()]).ok().out;
    assert_eq!(said.matches("Loaded image: ").count(), 2, "{said}");
    let name = said.lines().filter_map(|line| line.strip_prefix("Loaded image: ")).find(|name| name.contains("nasty"));
    assert_eq!(identity(&other, name.unwrap()), wanted);
}

#[test]
fn a_layout_of_buildah_has_the_same_manifest() {
    needs!(root);
    needs!("buildah");
    needs!("skopeo");
    let lap = nasty();
    let wanted = identity(&lap, "nasty");
    lap.run(&["save", "-o", "ours.tar", "nasty"]).ok();
    let source = format!("oci-archive:{}", lap.path("ours.tar").display());
    peer(&lap, "buildah", &["pull", "-q", &source]).ok();
    let id = &wanted["sha256:".len()..][..64];
    let layout = lap.path("layout");
    peer(&lap, "buildah", &["push", "-q", id, &format!("oci:{}:theirs", layout.display())]).ok();
    let pack = format!("tar -C {} -cf {} .", layout.display(), lap.path("theirs.tar").display());
    run("sh", &["-c", &pack]).ok();
    let (back, name) = loaded(&lap.path("theirs.tar"));
    assert_eq!(identity(&back, &name), wanted);
    check_files(&back, &name);
}

#[test]
fn what_umoci_repacks_is_loaded() {
    needs!(root);
    needs!("umoci");
    needs!("skopeo");
    let lap = nasty();
    lap.run(&["save", "-o", "ours.tar", "nasty"]).ok();
    let layout = lap.path("layout");
    let target = format!("oci:{}:app", layout.display());
    skopeo(&["copy", "-q", &format!("oci-archive:{}", lap.path("ours.tar").display()), &target]);
    let (image, bundle) = (format!("{}:app", layout.display()), lap.path("bundle"));
    run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]).ok();
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(bundle.join("rootfs/n/xattr"), XATTR, &mut value).unwrap();
    assert_eq!(&value[..length], b"hello");
    assert!(!bundle.join("rootfs/n/gone").exists() && !bundle.join("rootfs/n/opaque/old").exists());
    std::fs::write(bundle.join("rootfs/n/file"), "changed").unwrap();
    std::fs::remove_file(bundle.join("rootfs/n/hard")).unwrap();
    run("umoci", &["repack", "--image", &format!("{}:new", layout.display()), bundle.to_str().unwrap()]).ok();
    run("umoci", &["config", "--image", &format!("{}:new", layout.display()), "--config.env", "BY=umoci"]).ok();
    let theirs = lap.path("theirs.tar");
    let new = format!("oci:{}:new", layout.display());
    skopeo(&["copy", "-q", &new, &format!("oci-archive:{}:example.org/new:1", theirs.display())]);
    let (back, name) = loaded(&theirs);
    let said = back.run(&["run", "--rm", "--network", "none", &name, "sh", "-c", "cat /n/file; echo $BY; ls /n/hard"]);
    assert_eq!(said.code(1).out, "changedumoci\n");
}

#[test]
fn skopeo_copies_keep_every_digest() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let lap = nasty();
    let registry = Registry::start();
    let (ours, copy) = (format!("{}/ours:1", registry.address), format!("{}/copy:1", registry.address));
    lap.run(&["tag", "nasty", &ours]).ok();
    lap.run(&["push", "-q", &ours]).ok();
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let (from, to) = (format!("docker://{ours}"), format!("docker://{copy}"));
    skopeo(&[&["copy", "-q"], &insecure[..], &[&from, &to]].concat());
    let raw = |name: &str| skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).out;
    assert_eq!(raw(&ours), raw(&copy));
    let other = Lap::empty();
    other.run(&["pull", "-q", &copy]).ok();
    let digest = |lap: &Lap, name: &str| lap.run(&["inspect", "-f", "{{.Descriptor.Digest}}", name]).ok().out;
    assert_eq!(digest(&lap, &ours), digest(&other, &copy));
    assert_eq!(identity(&lap, &ours), identity(&other, &copy));
    check_files(&other, &copy);
    // And as a directory of skopeo's, by way of its own archive.
    let theirs = lap.path("theirs.tar");
    skopeo(&["copy", "-q", "--src-tls-verify=false", &from, &format!("docker-archive:{}:a/b:c", theirs.display())]);
    let (back, name) = loaded(&theirs);
    assert_eq!((identity(&back, &name), name.as_str()), (identity(&lap, &ours), "a/b:c"));
}

/// `docker save` of Docker 20.10: a directory a layer, a link where two images share one, and `repositories`.
#[test]
fn an_archive_of_docker_is_loaded_with_all_names() {
    needs!(root);
    let lap = Lap::empty();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/archives/docker-20.10.tar.gz");
    let said = lap.run(&["load", "-i", archive.to_str().unwrap()]).ok().out;
    for name in ["legacy:1", "legacy:2", "team/legacy:two"] {
        assert!(said.contains(&format!("Loaded image: {name}\n")), "{name}: {said}");
    }
    // What `docker inspect` says of it.
    let docker = "sha256:92572444c2599fdc0f7808a38ddc98c399f0a6a78a4269e8fb959f3268afa118 \
                  [sha256:1a87f85b18ae87d4be77eb02128efcb47671e3e796f4b2e4bfa7f7020735eda9 \
                  sha256:b1b100f3e8fa75c573ed105f9d9f9b668ddcdd099eb1bd8a3375a36617ca1513]\n";
    assert_eq!(identity(&lap, "legacy:2"), docker);
    assert_eq!(identity(&lap, "team/legacy:two"), docker);
    assert_eq!(lap.config("legacy:2")["Labels"]["x"], "y");
    // By any compression, from standard input, too.
    let bytes = std::fs::read(&archive).unwrap();
    let plain = lap.write("plain.tar.gz", &bytes);
    for program in ["xz", "zstd", "bzip2"] {
        let packed = lap.path(program);
        let pack = format!("gzip -dc {} | {program} -c > {}", plain.display(), packed.display());
        if crate::support::has(module_path!(), program) {
            run("sh", &["-c", &pack]).ok();
            let other = Lap::empty();
            let said = other.run_with(&["load", "-q"], &std::fs::read(packed).unwrap()).ok();
            assert!(said.out.contains("legacy:2") && said.err.is_empty(), "{program}: {said:?}");
            assert_eq!(identity(&other, "legacy:2"), docker, "{program}");
        }
    }
}

#[test]
fn an_index_is_saved_and_loaded_whole_or_for_one_platform() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n";
    for architecture in ["amd64", "arm64"] {
        lap.write(&format!("ctx/{architecture}"), architecture);
    }
    lap.build_with("many:1", dockerfile, &["--platform=linux/amd64,linux/arm64"]).ok();
    lap.run(&["save", "-o", "all.tar", "many:1"]).ok();
    let digest = |lap: &Lap| lap.run(&["images", "--digests", "--format", "{{.Digest}}", "many:1"]).ok().out;
    let architecture = |lap: &Lap, platform: &str| {
        lap.run(&["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}", "many:1"])
    };
    let all = lap.path("all.tar");
    let load = |flags: &[&str], archive: &Path| {
        let other = Lap::empty();
        let said = other.run(&[&["load", "-q", "-i", archive.to_str().unwrap()], flags].concat()).ok();
        assert_eq!(said.out, "Loaded image: many:1\n");
        other
    };
    let whole = load(&[], &all);
    assert_eq!(digest(&whole), digest(&lap));
    assert_eq!(architecture(&whole, "linux/arm64").ok().out, "arm64\n");
    // And it can be saved again, to the same bytes.
    whole.run(&["save", "-o", "again.tar", "many:1"]).ok();
    assert!(std::fs::read(&all).unwrap() == std::fs::read(whole.path("again.tar")).unwrap());

    let arm = load(&["--platform", "linux/arm64"], &all);
    assert_eq!(architecture(&arm, "linux/arm64").ok().out, "arm64\n");
    assert!(architecture(&arm, "linux/amd64").code(1).err.contains("not for linux/amd64"));
    lap.run(&["save", "--platform", "linux/arm64", "-o", "arm.tar", "many:1"]).ok();
    let arm = load(&[], &lap.path("arm.tar"));
    assert_eq!(architecture(&arm, "linux/arm64").ok().out, "arm64\n");
    for (args, words) in [
        (&["save", "--platform", "linux/s390x", "-o", "x.tar", "many:1"][..], "linux/s390x"),
        (&["load", "--platform", "linux/s390x", "-i", "arm.tar"], "no image for linux/s390x"),
        (&["save", "-o", "gone/x.tar", "many:1"], "gone"),
        (&["save", "-o", "x.tar", "nope"], "No such image: nope"),
    ] {
        let said = lap.run(args).code(1);
        assert!(said.err.contains(words), "{args:?}: {said:?}");
    }
    assert!(!lap.path("x.tar").exists());
}

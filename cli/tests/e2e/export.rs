//! Outputs, and what other tools read in them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Lap, needs, run};

const DOCKERFILE: &str = "FROM busybox\nRUN mkdir /d && echo text > /d/f && ln -s f /d/link && chmod 4755 /d/f && rm -r /home && chown 7:8 /d\nENV A=b\nCMD [\"cat\", \"/d/f\"]\n";

/// Every path of a tree with kind, mode, owner and content or target.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let script = "find . -mindepth 1 \\( -type f -printf '%P %y %m %U:%G ' -exec sha256sum {} \\; \\) -o -printf '%P %y %m %U:%G %l\\n' | sed 's/  .*//' | sort";
    let out = run("sh", &["-c", &format!("cd {} && {script}", root.display())]).ok().out;
    out.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

#[test]
fn every_output_holds_the_same_tree() {
    needs!(root);
    needs!("skopeo");
    needs!("umoci");
    let lap = Lap::new();
    lap.build("app", DOCKERFILE).ok();
    let outputs = "type=oci,dest=o.tar type=oci,dest=o.dir,tar=false type=docker,dest=d.tar type=tar,dest=fs.tar type=local,dest=fs type=oci,dest=z.tar,compression=zstd";
    let mut args = vec!["build", "-q", "-t", "app"];
    for output in outputs.split(' ') {
        args.extend(["-o", output]);
    }
    args.push("ctx");
    lap.run(&args).ok();

    let path = |name: &str| lap.path(name).display().to_string();
    let local = tree(&lap.path("fs"));
    assert!(local.contains_key("d/link") && !local.contains_key("home"));
    assert!(local["d/f"].contains(" 4755 ") || local["d/f"].contains("f 4755"), "{}", local["d/f"]);
    std::fs::create_dir(lap.path("untar")).unwrap();
    run("tar", &["-C", &path("untar"), "-xpf", &path("fs.tar")]).ok();
    assert_eq!(tree(&lap.path("untar")), local);

    let tag = |directory: &str| run("skopeo", &["inspect", "--raw", &format!("oci:{}", path(directory))]).ok();
    tag("o.dir");
    run("umoci", &["raw", "unpack", "--image", &format!("{}:latest", path("o.dir")), &path("umoci")]).ok();
    assert_eq!(tree(&lap.path("umoci")), local);

    for archive in [
        format!("oci-archive:{}", path("o.tar")),
        format!("docker-archive:{}", path("d.tar")),
        format!("oci-archive:{}", path("z.tar")),
    ] {
        let copy = path("copy");
        drop(std::fs::remove_dir_all(&copy));
        run("skopeo", &["copy", "-q", &archive, &format!("oci:{copy}:latest")]).ok();
        let config = run("skopeo", &["inspect", "--config", &format!("oci:{copy}:latest")]).ok().json();
        assert_eq!(config["config"]["Cmd"][0], "cat", "{archive}");
        if !archive.contains("z.tar") {
            // Debian's umoci knows no zstd layers.
            let out = path("unpacked");
            drop(std::fs::remove_dir_all(&out));
            run("umoci", &["raw", "unpack", "--image", &format!("{copy}:latest"), &out]).ok();
            assert_eq!(tree(Path::new(&out)), local, "{archive}");
        }
    }
}

#[test]
fn saved_images_load_elsewhere_with_their_names() {
    needs!(root);
    needs!("skopeo");
    let lap = Lap::new();
    lap.build("app:1", DOCKERFILE).ok();
    lap.run(&["save", "-o", "saved.tar", "app:1", "busybox"]).ok();
    let other = Lap::empty();
    let archive = lap.path("saved.tar");
    let loaded = other.run(&["load", "-i", archive.to_str().unwrap()]).ok().out;
    assert!(loaded.contains("app:1") && loaded.contains("busybox:latest"), "{loaded}");
    assert_eq!(other.run(&["run", "--rm", "--network", "none", "app:1"]).ok().out, "text\n");
    let id = |lap: &Lap| lap.run(&["inspect", "app:1"]).ok().json()[0]["Id"].clone();
    assert_eq!(id(&lap), id(&other));

    let docker = format!("docker-archive:{}", lap.path("one.tar").display());
    lap.run(&["save", "-o", "one.tar", "app:1"]).ok();
    let names = run("skopeo", &["inspect", "--config", &docker]).ok().json();
    assert_eq!(names["config"]["Env"][1], "A=b");
    // And what skopeo writes is read.
    let theirs = lap.path("theirs.tar");
    run("skopeo", &["copy", "-q", &docker, &format!("docker-archive:{}:theirs:1", theirs.display())]).ok();
    let third = Lap::empty();
    third.run(&["load", "-i", theirs.to_str().unwrap()]).ok();
    assert_eq!(third.run(&["run", "--rm", "--network", "none", "theirs:1"]).ok().out, "text\n");
}

#[test]
fn an_imported_tar_has_its_changes() {
    needs!(root);
    let lap = Lap::empty();
    let tar = crate::support::busybox().to_str().unwrap();
    lap.run(&["import", "-c", "CMD [\"echo\", \"hi\"]", "-c", "ENV X=y", tar, "box"]).ok();
    assert_eq!(lap.run(&["run", "--rm", "--network", "none", "box"]).ok().out, "hi\n");
    assert_eq!(lap.config("box")["Env"][0], "X=y");
    lap.run(&["images", "box"]).ok();
    assert_eq!(lap.run(&["rmi", "box"]).ok().out.lines().next(), Some("Untagged: box:latest"));
    assert_eq!(lap.run(&["images", "-q"]).ok().out, "");
}

#[test]
fn two_stores_make_the_same_layers_of_the_same_files() {
    needs!(root);
    let layers = || {
        let lap = Lap::new();
        let file = lap.write("ctx/f", "same");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().append(true).open(file).unwrap().set_modified(old).unwrap();
        lap.build("app", "FROM busybox\nCOPY f /f\n").ok();
        lap.run(&["inspect", "app"]).ok().json()[0]["RootFS"]["Layers"].clone()
    };
    assert_eq!(layers(), layers());
}

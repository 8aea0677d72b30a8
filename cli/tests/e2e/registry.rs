//! `push` and `pull` against Debian's docker-registry.

use crate::support::{Lap, Registry, needs, run};

#[test]
fn what_is_pushed_is_pulled_and_skopeo_agrees() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let name = format!("{}/team/app:1", registry.address);
    let lap = Lap::new();
    lap.build(&name, "FROM busybox\nRUN echo one > /one\nRUN echo two > /two && rm /one\nCMD cat /two\n").ok();
    let pushed = lap.run(&["push", &name]).ok();
    let digest = lap.run(&["inspect", &name]).ok().json()[0]["Descriptor"]["digest"].as_str().unwrap().to_owned();
    assert!(pushed.out.contains(&digest), "{}", pushed.out);
    let theirs = run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok().json();
    assert_eq!(theirs["Digest"], digest);

    let other = Lap::empty();
    other.run(&["pull", &name]).ok();
    assert_eq!(other.run(&["run", "--rm", "--network", "none", &name]).ok().out, "two\n");
    other.run(&["rmi", &name]).ok();
    other.run(&["pull", &format!("{}/team/app@{digest}", registry.address)]).ok();
    let missing = other.run(&["pull", &format!("{}/team/app:none", registry.address)]).code(1);
    assert!(missing.err.contains("team/app:none"), "{}", missing.err);

    let again = lap.run(&["push", "--progress", "plain", &name]).ok();
    assert!(!again.err.contains("pushing"), "nothing is sent twice: {}", again.err);
}

#[test]
fn a_base_image_comes_from_the_registry() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let name = format!("{}/base:1", registry.address);
    let lap = Lap::new();
    lap.run(&["save", "-o", "b.tar", "busybox"]).ok();
    let archive = format!("docker-archive:{}", lap.path("b.tar").display());
    run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &archive, &format!("docker://{name}")]).ok();

    let other = Lap::empty();
    other.build("app", &format!("FROM {name}\nRUN echo built > /built\n")).ok();
    assert_eq!(other.sh("app", "cat /built"), "built\n");
    let mirrored = Lap::empty();
    let mirror = format!("docker.io=http://{}", registry.address);
    run(
        "skopeo",
        &["copy", "-q", "--dest-tls-verify=false", &archive, &format!("docker://{}/library/box:1", registry.address)],
    )
    .ok();
    mirrored.build_with("app", "FROM box:1\nRUN true\n", &["--registry-mirror", &mirror]).ok();
    assert!(mirrored.run(&["run", "--rm", "--network", "none", &name, "true"]).code == 0, "run pulls what is missing");
}

#[test]
fn podmans_registries_conf_holds() {
    needs!(root);
    needs!("docker-registry");
    needs!("podman");
    let (mirror, inner) = (Registry::start(), Registry::start());
    let lap = Lap::new();
    for name in [format!("{}/hub/library/box:1", mirror.address), format!("{}/moved/app:1", inner.address)] {
        lap.run(&["tag", "busybox", &name]).ok();
        lap.run(&["push", &name]).ok();
    }
    let config = format!(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\ninsecure = true\n\
         [[registry]]\nprefix = \"apps.invalid/team\"\nlocation = \"{}/moved\"\ninsecure = true\n\
         [[registry]]\nlocation = \"closed.invalid\"\nblocked = true\n",
        mirror.address, inner.address
    );
    let file = lap.write("registries.conf", config);
    let other = Lap::empty();
    let said = |lap: &Lap, args: &[&str]| {
        let output = lap.command().env("CONTAINERS_REGISTRIES_CONF", &file).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(said(&other, &["pull", "box:1"]).0, Some(0), "a mirror below a path");
    assert_eq!(said(&other, &["pull", "apps.invalid/team/app:1"]).0, Some(0), "a registry that moved");
    // Podman reads the same file in the same way.
    let store = other.path("podman");
    let podman = |args: &[&str]| {
        let root = [store.join("root"), store.join("run")];
        let mut command = std::process::Command::new("podman");
        command.arg("--root").arg(&root[0]).arg("--runroot").arg(&root[1]).args(["--storage-driver", "vfs"]);
        command.env("CONTAINERS_REGISTRIES_CONF", &file).args(args).output().unwrap().status.success()
    };
    assert!(podman(&["pull", "-q", "docker.io/library/box:1"]) && podman(&["pull", "-q", "apps.invalid/team/app:1"]));
    // What is pushed goes where the registry is now.
    lap.run(&["tag", "busybox", "apps.invalid/team/new:1"]).ok();
    assert_eq!(said(&lap, &["push", "apps.invalid/team/new:1"]).0, Some(0));
    other.run(&["pull", &format!("{}/moved/new:1", inner.address)]).ok();
    for act in ["pull", "push"] {
        lap.run(&["tag", "busybox", "closed.invalid/x:1"]).ok();
        let (code, error) = said(&lap, &[act, "closed.invalid/x:1"]);
        assert!(code == Some(1) && error.contains("closed.invalid is blocked"), "{act}: {error}");
    }
    std::fs::write(&file, "[[registry]]\n").unwrap();
    let (code, error) = said(&lap, &["pull", "box:1"]);
    assert!(code == Some(1) && error.contains("registries.conf is broken"), "{error}");
}

#[test]
fn all_tags_of_a_repository_come_and_go() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let name = format!("{}/team/app", registry.address);
    let lap = Lap::new();
    let other = format!("{}/team/other:1", registry.address);
    for tag in ["one", "two", "three"] {
        lap.build(&format!("{name}:{tag}"), &format!("FROM busybox\nRUN echo {tag} > /tag\n")).ok();
    }
    lap.run(&["tag", "busybox", &other]).ok();
    let refused = lap.run(&["push", "-a", &format!("{name}:one")]).code(1);
    assert!(refused.err.contains("tag can't be used with --all-tags/-a"), "{}", refused.err);
    let pushed = lap.run(&["push", "--all-tags", &name]).ok();
    for tag in ["one", "two", "three"] {
        assert!(pushed.out.contains(&format!("{tag}: digest: sha256:")), "{}", pushed.out);
    }
    let listed = run("skopeo", &["list-tags", "--tls-verify=false", &format!("docker://{name}")]).ok().json();
    assert_eq!(listed["Tags"].as_array().unwrap().len(), 3);
    run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{other}")]).code(1);

    let there = Lap::empty();
    let pulled = there.run(&["pull", "-a", &name]).ok();
    assert_eq!(pulled.out.lines().last(), Some(name.as_str()));
    for tag in ["one", "two", "three"] {
        assert_eq!(there.sh(&format!("{name}:{tag}"), "cat /tag"), format!("{tag}\n"));
    }
    let again = there.run(&["pull", "-a", &name]).ok();
    assert!(again.out.contains("Status: Image is up to date for"), "{}", again.out);
    let nobody = there.run(&["pull", "-a", &format!("{}/team/nothing", registry.address)]).code(1);
    assert!(nobody.err.contains("team/nothing"), "{}", nobody.err);
}

#[test]
fn a_push_compresses_as_it_is_told() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let lap = Lap::new();
    lap.build("app", "FROM busybox\nRUN echo one > /one\nCMD cat /one\n").ok();
    let layers = |tag: &str, flags: &[&str]| -> Vec<String> {
        let name = format!("{}/app:{tag}", registry.address);
        lap.run(&["tag", "app", &name]).ok();
        let mut args = vec!["push"];
        args.extend(flags);
        args.push(&name);
        let pushed = lap.run(&args).ok();
        let at = format!("docker://{name}");
        let seen = run("skopeo", &["inspect", "--tls-verify=false", &at]).ok().json();
        assert!(pushed.out.contains(seen["Digest"].as_str().unwrap()), "{}", pushed.out);
        // Another tool unpacks them, and finds what the config says.
        let copy = format!("oci:{}:x", lap.path(&format!("copy-{tag}")).display());
        run("skopeo", &["copy", "-q", "--src-tls-verify=false", &at, &copy]).ok();
        let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &at]).ok().json();
        let types =
            raw["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned());
        types.map(|kind| kind.rsplit(['+', '.']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(layers("plain", &[]), ["gzip", "gzip"]);
    assert_eq!(layers("zstd", &["--compression-format", "zstd"]), ["zstd", "zstd"]);
    assert_eq!(layers("high", &["--compression", "zstd", "--compression-level", "19"]), ["zstd", "zstd"]);
    assert_eq!(layers("kept", &["--compression", "zstd", "--force-compression=false"]), ["gzip", "gzip"]);
    lap.run(&["push", "--compression", "gzip", "--compression-level", "12", "app"]).code(1);
    lap.run(&["push", "--compression-level", "3", "app"]).code(2);

    let there = Lap::empty();
    let name = format!("{}/app:high", registry.address);
    assert_eq!(there.run(&["run", "--rm", "--network", "none", &name]).ok().out, "one\n");
}

#[test]
fn annotations_of_a_build_are_pushed_later_too() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let lap = Lap::new();
    let registry = Registry::start();
    let name = format!("{}/app:1", registry.address);
    let dockerfile = "FROM busybox\nRUN --network=none echo made > /made\n";
    lap.build_with(&name, dockerfile, &["--annotation", "org.example.who=we"]).ok();
    lap.run(&["push", "-q", &name]).ok();
    let seen = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok().json();
    assert_eq!(seen["annotations"]["org.example.who"], "we", "{seen}");
}

// F040
#[test]
fn an_address_that_swallows_everything_beside_one_that_works_is_got_over() {
    needs!(root);
    needs!("docker-registry");
    needs!("nft");
    needs!("ip");
    let lap = Lap::new();
    let data = lap.path("data");
    lap.write(
        "registry.yml",
        format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:5000\"}}\n",
            data.display()
        ),
    );
    lap.write("registries.conf", "[[registry]]\nlocation = \"both.test:5000\"\ninsecure = true\n");
    lap.write("hosts", "127.0.0.1 localhost\nfd00::1 both.test\n127.0.0.1 both.test\n");
    // A network and a view of the files of its own: packets to the first address are dropped without a word.
    let script = "ip link set lo up && ip -6 addr add fd00::2/64 dev lo && ip -6 route add fd00::1/128 dev lo && \
        nft 'add table inet t; add chain inet t o { type filter hook output priority 0; }; add rule inet t o ip6 daddr fd00::1 drop' && \
        mount --bind hosts /etc/hosts || exit 1; \
        docker-registry serve registry.yml >/dev/null 2>&1 & registry=$!; \
        until \"$0\" push -q both.test:5000/x; do kill -0 $registry || exit 1; done; \
        \"$0\" rmi both.test:5000/x && \"$0\" pull -q both.test:5000/x; code=$?; kill $registry; exit $code";
    lap.run(&["tag", "busybox", "both.test:5000/x"]).ok();
    let mut command = std::process::Command::new("timeout");
    command.args(["100", "unshare", "-nm", "sh", "-c", script, env!("CARGO_BIN_EXE_lap")]).current_dir(lap.path("."));
    command.env("LAP_ROOT", lap.path("store")).env("LAP_RUN_DIR", lap.path("run"));
    let output = command.env("CONTAINERS_REGISTRIES_CONF", lap.path("registries.conf")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lap.run(&["inspect", "both.test:5000/x"]).ok();
}

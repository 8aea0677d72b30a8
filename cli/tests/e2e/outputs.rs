//! `-o` and its options: what is written, named and pushed, and what others read of it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::attest::blob;
use crate::support::{Lap, Registry, Said, needs, run};

fn shell(script: &str) -> String {
    run("sh", &["-c", script]).ok().out.trim().to_owned()
}

/// The manifest of the only image of a layout.
fn manifest(layout: &Path) -> Value {
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    blob(layout, &top["manifests"][0]["digest"])
}

fn skopeo(name: &str, flags: &[&str]) -> Said {
    let mut args = vec!["inspect", "--no-tags", "--tls-verify=false"];
    args.extend(flags);
    let name = format!("docker://{name}");
    args.push(&name);
    run("skopeo", &args)
}

fn metadata(lap: &Lap, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(lap.path(file)).unwrap()).unwrap()
}

/// What an eStargz says of itself is so: by gzip, tar and sha256sum alone.
fn check_estargz(path: &Path, layer: &Value, diff_id: &Value) {
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let path = path.join("blobs/sha256").join(&layer["digest"].as_str().unwrap()[7..]);
    let path = path.display();
    let plain = format!("gzip -dc {path}");
    assert_eq!(shell(&format!("{plain} | sha256sum | cut -c -64")), diff_id.as_str().unwrap()[7..]);
    let annotations = &layer["annotations"];
    assert_eq!(annotations["io.containers.estargz.uncompressed-size"], shell(&format!("{plain} | wc -c")));
    let footer = shell(&format!("tail -c 51 {path} | head -c 38 | tail -c 22"));
    let offset = u64::from_str_radix(footer.strip_suffix("STARGZ").unwrap(), 16).unwrap();
    let table = format!("tail -c +{} {path} | gzip -dc | tar -xOf - stargz.index.json", offset + 1);
    let digest = format!("sha256:{}", shell(&format!("{table} | sha256sum | cut -c -64")));
    assert_eq!(annotations["containerd.io/snapshot/stargz/toc.digest"], digest);
    let table: Value = serde_json::from_str(&shell(&table)).unwrap();
    for entry in table["entries"].as_array().unwrap().iter().filter(|entry| entry["offset"].is_u64()) {
        let size = entry["chunkSize"].as_u64().or_else(|| entry["size"].as_u64()).unwrap();
        let at = entry["offset"].as_u64().unwrap() + 1;
        let data = format!("tail -c +{at} {path} | gzip -dc 2>/dev/null | head -c {size} | sha256sum | cut -c -64");
        assert_eq!(entry["chunkDigest"], format!("sha256:{}", shell(&data)), "{entry}");
    }
}

#[test]
fn an_estargz_image_is_an_image_like_any_other() {
    needs!(root);
    needs!("docker-registry");
    needs!("umoci");
    needs!("skopeo");
    let registry = Registry::start();
    let name = format!("{}/app:1", registry.address);
    let lap = Lap::new();
    let dockerfile = "FROM busybox\nRUN mkdir /d && echo text > /d/f && ln /d/f /d/hard && ln -s f /d/s && rm -r /home\nCMD cat /d/f\n";
    lap.build_with(
        &name,
        dockerfile,
        &["-o", "type=oci,dest=e,tar=false,compression=estargz", "-o", "type=local,dest=fs"],
    )
    .ok();
    let layout = lap.path("e");
    let image = manifest(&layout);
    let config = blob(&layout, &image["config"]["digest"]);
    let layers = image["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
        check_estargz(&layout, layer, diff_id);
    }
    // Who unpacks all of it sees the same files as without.
    let tree =
        |path: &Path| shell(&format!("cd {} && find . -printf '%P %y %m %U:%G %n %s %l\\n' | sort", path.display()));
    let unpacked = lap.path("unpacked");
    // A name with a colon is no tag of umoci's: one of its own.
    run("skopeo", &["copy", "-q", &format!("oci:{}", layout.display()), &format!("oci:{}:x", lap.path("u").display())])
        .ok();
    run("umoci", &["raw", "unpack", "--image", &format!("{}:x", lap.path("u").display()), unpacked.to_str().unwrap()])
        .ok();
    assert_eq!(tree(&unpacked), tree(&lap.path("fs")));
    assert_eq!(lap.run(&["run", "--rm", "--network", "none", &name]).ok().out, "text\n");
    assert_eq!(lap.sh(&name, "ls -A / | grep -c -e landmark -e stargz; true"), "0\n");

    // The registry keeps what it is; so does an image made of it.
    let push = format!("type=registry,name={name},compression=estargz");
    lap.run(&["build", "-q", "-o", &push, "ctx"]).ok();
    let other = Lap::empty();
    other.run(&["pull", &name]).ok();
    assert_eq!(other.run(&["run", "--rm", "--network", "none", &name]).ok().out, "text\n");
    other
        .build_with("child", &format!("FROM {name}\nRUN echo more > /more\n"), &["-o", "type=oci,dest=c,tar=false"])
        .ok();
    let child = manifest(&other.path("c"));
    assert_eq!(child["layers"].as_array().unwrap()[..2], layers[..]);
    assert_eq!(child["layers"][2].get("annotations"), None);
}

#[test]
fn an_estargz_has_the_same_bytes_in_any_store() {
    needs!(root);
    let layers = |level: &str, flags: &[&str]| {
        let lap = Lap::new();
        let file = lap.write("ctx/f", "same".repeat(10_000));
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().append(true).open(file).unwrap().set_modified(old).unwrap();
        let output = format!("type=oci,dest=e,tar=false,compression=estargz,compression-level={level}");
        let mut all = vec!["-o", &*output];
        all.extend(flags);
        lap.build_with("app", "FROM busybox\nCOPY f /f\n", &all).ok();
        manifest(&lap.path("e"))["layers"][1].clone()
    };
    assert_eq!(layers("9", &[]), layers("9", &["--sbom=false"]));
    assert!(layers("0", &[])["size"].as_u64() > layers("9", &[])["size"].as_u64());
}

#[test]
fn every_name_of_an_output_is_pushed_and_kept() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let at = |name: &str| format!("{}/{name}", registry.address);
    let lap = Lap::new();
    let output = format!("type=image,\"name={},{}\",name={},push=true", at("b:2"), at("c"), at("deep/d:3"));
    lap.build_with(&at("a:1"), "FROM busybox\nCMD true\n", &["-o", &output, "--metadata-file", "m"]).ok();
    let told = metadata(&lap, "m");
    let digest = told["containerimage.digest"].clone();
    for name in ["a:1", "b:2", "c:latest", "deep/d:3"] {
        assert_eq!(skopeo(&at(name), &[]).ok().json()["Digest"], digest, "{name}");
        assert_eq!(lap.run(&["inspect", &at(name)]).ok().json()[0]["Descriptor"]["digest"], digest, "{name}");
    }
    assert_eq!(told["image.name"], ["a:1", "b:2", "c:latest", "deep/d:3"].map(at).join(","));

    // Without a tag; and by all of its names, in the store only where it is to be.
    let output = format!("type=image,name={},push-by-digest=true,name-canonical=true,push=true", at("e"));
    lap.run(&["build", "-q", "-o", &output, "ctx"]).ok();
    let pinned = at(&format!("e@{}", digest.as_str().unwrap()));
    assert_eq!(skopeo(&pinned, &[]).ok().json()["Digest"], digest);
    assert_ne!(skopeo(&at("e:latest"), &[]).code, 0);
    lap.run(&["inspect", &pinned]).ok();
    let output = format!("type=registry,name={},store=false", at("f"));
    lap.run(&["build", "-q", "-o", &output, "ctx"]).ok();
    skopeo(&at("f"), &[]).ok();
    assert_ne!(lap.run(&["inspect", &at("f")]).code, 0);
    lap.run(&["build", "-q", "-o", "type=image,dangling-name-prefix=held", "ctx"]).ok();
    lap.run(&["inspect", &format!("held@{}", digest.as_str().unwrap())]).ok();
    let named = "type=image,name=named,dangling-name-prefix=other,danging-name-empty-only=true";
    lap.run(&["build", "-q", "-o", named, "ctx"]).ok();
    assert_ne!(lap.run(&["inspect", &format!("other@{}", digest.as_str().unwrap())]).code, 0);
    let nowhere = lap.run(&["build", "-q", "-o", "type=registry", "ctx"]).code(1);
    assert!(nowhere.err.contains("nothing says where to push"), "{}", nowhere.err);
}

#[test]
fn an_index_of_platforms_is_pushed_under_every_name() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let registry = Registry::start();
    let names = ["a:1", "team/b:2"].map(|name| format!("{}/{name}", registry.address));
    let lap = Lap::empty();
    lap.write("ctx/f", "x");
    let flags = ["-t", &names[1], "--platform", "linux/amd64,linux/arm64/v8", "--push", "--metadata-file", "m"];
    lap.build_with(&names[0], "FROM scratch\nCOPY f /\n", &flags).ok();
    let told = metadata(&lap, "m");
    for name in &names {
        let raw = skopeo(name, &["--raw"]).ok();
        let index = raw.json();
        let platforms: Vec<&Value> =
            index["manifests"].as_array().unwrap().iter().map(|entry| &entry["platform"]["architecture"]).collect();
        assert_eq!(platforms, ["amd64", "arm64"]);
        assert_eq!(told["containerimage.descriptor"]["size"], raw.out.len());
        for entry in index["manifests"].as_array().unwrap() {
            let repository = name.rsplit_once(':').unwrap().0;
            skopeo(&format!("{repository}@{}", entry["digest"].as_str().unwrap()), &["--raw"]).ok();
        }
    }
    assert_eq!(told["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(told["image.name"], names.join(","));
}

#[test]
fn metadata_has_the_keys_of_buildx() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("ctx/f", "x");
    let keys = |file: &str| metadata(&lap, file).as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
    let plain = [
        "buildx.build.ref",
        "containerimage.config.digest",
        "containerimage.descriptor",
        "containerimage.digest",
        "image.name",
    ];
    lap.build_with("app", "FROM scratch\nCOPY f /\n", &["--metadata-file", "m"]).ok();
    assert_eq!(keys("m"), set(&plain));
    let told = metadata(&lap, "m");
    let inspected = lap.run(&["inspect", "app"]).ok().json()[0].clone();
    assert_eq!(told["containerimage.digest"], inspected["Descriptor"]["digest"]);
    assert_eq!(told["containerimage.descriptor"]["digest"], told["containerimage.digest"]);
    assert_eq!(told["containerimage.config.digest"], inspected["Id"]);
    assert_eq!(told["containerimage.descriptor"]["annotations"]["config.digest"], inspected["Id"]);
    assert_eq!(told["image.name"], "docker.io/library/app:latest");

    let mut with = set(&plain);
    with.insert("buildx.build.provenance".to_owned());
    lap.run(&["build", "-q", "-t", "app", "--provenance=max", "--metadata-file", "p", "ctx"]).ok();
    assert_eq!(keys("p"), with);
    let told = metadata(&lap, "p");
    let provenance = &told["buildx.build.provenance"];
    let id = provenance["runDetails"]["metadata"]["invocationID"].as_str().unwrap();
    assert!(told["buildx.build.ref"].as_str().unwrap().ends_with(id), "{told:#}");
    // The whole of it is in the image; here it is the short form unless asked for.
    assert_eq!(provenance["buildDefinition"]["internalParameters"].get("buildConfig"), None);
    let flags = ["build", "-q", "--provenance=max", "--metadata-file", "max", "ctx"];
    let output = lap.command().args(flags).env("BUILDX_METADATA_PROVENANCE", "max").output().unwrap();
    assert!(output.status.success());
    let whole = metadata(&lap, "max")["buildx.build.provenance"].to_string().len();
    assert!(whole > provenance.to_string().len());
    let output = lap.command().args(flags).env("BUILDX_METADATA_PROVENANCE", "disabled").output().unwrap();
    assert!(output.status.success());
    assert_eq!(metadata(&lap, "max").get("buildx.build.provenance"), None);
    let both = ["build", "-q", "--platform", "linux/amd64,linux/arm64", "--provenance", "--metadata-file", "b", "ctx"];
    lap.run(&both).ok();
    assert!(keys("b").contains("buildx.build.provenance/linux/arm64"), "{:?}", keys("b"));
}

#[test]
fn directories_hold_the_platforms_and_lose_what_is_not_in_the_result() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("ctx/f", "x");
    lap.write("ctx/amd64", "x");
    lap.write("ctx/arm64", "x");
    lap.write("ctx/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /d/$TARGETARCH\n");
    let both = ["build", "-q", "--platform", "linux/amd64,linux/arm64"];
    let build = |flags: &[&str]| lap.run(&[&both[..], flags, &["ctx"]].concat());
    let files = |name: &str| shell(&format!("cd {} && find . -type f | sort | xargs", lap.path(name).display()));
    build(&["-o", "split"]).ok();
    assert_eq!(files("split"), "./linux_amd64/d/amd64 ./linux_arm64/d/arm64");
    build(&["-o", "type=local,dest=one,platform-split=false"]).ok();
    assert_eq!(files("one"), "./d/amd64 ./d/arm64");
    lap.run(&["build", "-q", "--platform", "linux/arm64", "-o", "type=local,dest=own,platform-split=true", "ctx"]).ok();
    assert_eq!(files("own"), "./linux_arm64/d/arm64");

    lap.write("split/old", "x");
    lap.write("split/linux_amd64/d/old", "x");
    build(&["-o", "type=local,dest=split,mode=copy"]).ok();
    assert!(files("split").contains("old"));
    build(&["-o", "type=local,dest=split,mode=delete"]).ok();
    assert_eq!(files("split"), "./linux_amd64/d/amd64 ./linux_arm64/d/arm64");
    lap.write("ctx/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /same\n");
    let same = build(&["-o", "type=local,dest=same,platform-split=false"]).code(1);
    assert!(same.err.contains("same is in the results of several platforms"), "{}", same.err);

    // Outside of the working directory nothing is removed without a word; nor the working directory itself.
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("precious"), "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), lap.path("link")).unwrap();
    let place = format!("type=local,dest={},mode=delete", outside.path().display());
    for output in [
        &*place,
        "type=local,dest=link,mode=delete",
        "type=local,dest=.,mode=delete",
        "type=local,dest=a/../..,mode=delete",
    ] {
        let said = build(&["-o", output]).code(1);
        assert!(said.err.contains("--allow buildx.local.delete"), "{}", said.err);
    }
    assert!(outside.path().join("precious").exists());
    build(&["-o", &place, "--allow", "buildx.local.delete"]).ok();
    assert!(!outside.path().join("precious").exists());
}

#[test]
fn an_output_has_a_time_of_its_own() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("ctx/f", "x");
    lap.build_with(
        "app",
        "FROM scratch\nCOPY f /\n",
        &["-o", "type=tar,dest=t,source-date-epoch=1000000000,rewrite-timestamp=true"],
    )
    .ok();
    let listed = run("tar", &["--utc", "--full-time", "-tvf", lap.path("t").to_str().unwrap()]).ok().out;
    assert!(listed.contains("2001-09-09 01:46:40 f"), "{listed}");
    assert_eq!(lap.run(&["inspect", "app"]).ok().json()[0]["Created"], "2001-09-09T01:46:40Z");
    let flags = ["build", "-o", "type=image,source-date-epoch=1", "-o", "type=image,source-date-epoch=2", "ctx"];
    assert!(lap.run(&flags).code(1).err.contains("source-date-epoch=2"));
}

#[test]
fn archives_go_to_standard_output_but_never_to_a_terminal() {
    needs!(root);
    needs!("skopeo");
    needs!("script");
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN echo ran > /ran\nCMD true\n");
    for (output, kind) in [("type=docker", "docker-archive"), ("type=oci", "oci-archive")] {
        let file = lap.path("stream");
        let status = lap
            .command()
            .args(["build", "-q", "-o", output, "ctx"])
            .stdout(std::fs::File::create(&file).unwrap())
            .status();
        assert!(status.unwrap().success());
        let seen = run("skopeo", &["inspect", "--config", &format!("{kind}:{}", file.display())]).ok().json();
        assert_eq!(seen["config"]["Cmd"][2], "true", "{output}");
    }
    let file = lap.path("stream");
    let status =
        lap.command().args(["build", "-q", "-o", "-", "ctx"]).stdout(std::fs::File::create(&file).unwrap()).status();
    assert!(status.unwrap().success());
    assert_eq!(run("tar", &["-xOf", file.to_str().unwrap(), "ran"]).ok().out, "ran\n");

    let both = lap.run(&["build", "-o", "-", "-o", "type=oci", "ctx"]).code(1);
    assert!(both.err.contains("2 outputs want standard output"), "{}", both.err);
    let fresh = Lap::new();
    fresh.write("ctx/Dockerfile", "FROM busybox\nRUN echo ran > /ran\n");
    for output in ["-", "type=docker", "type=oci"] {
        let (code, shown) = on_a_terminal(&fresh, &format!("build -o {output} ctx"), &[]);
        assert!(code != Some(0) && shown.contains("a terminal cannot take an archive"), "{shown}");
        assert!(!shown.contains("RUN echo"), "nothing is built first: {shown}");
    }
    let (code, shown) = on_a_terminal(&fresh, "save busybox", &[]);
    assert!(code == Some(1) && shown.contains("a terminal cannot take an archive"), "{shown}");
    assert!(!shown.contains("exporting"), "nothing is compressed first: {shown}");
}

/// Runs `lap` with a pseudo-terminal for all three streams.
fn on_a_terminal(lap: &Lap, args: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let own = lap.command();
    let mut command = std::process::Command::new("script");
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_lap"));
    command.args(["-qec", &line, "/dev/null"]).envs(variables.iter().copied()).env("TERM", "xterm");
    let said = command.current_dir(lap.dir.path()).stdin(std::process::Stdio::null()).output().unwrap();
    (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned())
}

#[test]
fn colours_are_the_users() {
    needs!(root);
    needs!("script");
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN false\n");
    let build = |variables: &[(&str, &str)]| on_a_terminal(&lap, "build --network none ctx", variables).1;
    let plain = build(&[]);
    assert!(plain.contains("\x1b[34m => ") && plain.contains("\x1b[31m => ERROR"), "{plain:?}");
    let own = build(&[("BUILDKIT_COLORS", "run=green:error=1,2,3")]);
    assert!(own.contains("\x1b[32m => ") && own.contains("\x1b[38;2;1;2;3m => ERROR"), "{own:?}");
    for variables in [&[("NO_COLOR", "1")][..], &[("NO_COLOR", "1"), ("BUILDKIT_COLORS", "run=green")]] {
        let none = build(variables);
        assert!(none.contains(" => ERROR") && !none.contains("m => "), "{none:?}");
    }
}

#[test]
fn a_registry_is_insecure_only_on_request() {
    needs!(root);
    needs!("docker-registry");
    needs!("unshare");
    needs!("ip");
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\nCMD true\n");
    let config = "version: 0.1\nlog: {level: error}\nstorage: {inmemory: {}}\nhttp: {addr: \"192.0.2.1:5000\"}\n";
    lap.write("registry.yml", config);
    // An address that is not loopback, in a network of the test's own.
    lap.write(
        "test.sh",
        format!(
            "ip link set lo up && ip addr add 192.0.2.1/32 dev lo || exit 9\n\
             docker-registry serve registry.yml >/dev/null 2>&1 &\n\
             tries=0; until (exec 3<>/dev/tcp/192.0.2.1/5000) 2>/dev/null; do\n\
             tries=$((tries + 1)); [ $tries -lt 200 ] || exit 8; sleep 0.1; done\n\
             lap='{} build -q ctx -o type=registry,name=192.0.2.1:5000/app'\n\
             $lap && exit 7\n\
             $lap,registry.insecure=true; code=$?; kill %1; exit $code\n",
            env!("CARGO_BIN_EXE_lap")
        ),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["-n", "bash", "test.sh"]).current_dir(lap.dir.path());
    command.env("LAP_ROOT", lap.path("store")).env("LAP_RUN_DIR", lap.path("run")).stdin(std::process::Stdio::null());
    let said = command.output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn logs_of_steps_are_whole() {
    needs!(root);
    let lap = Lap::new();
    // More than the 2 MiB, and far more than the 200 KiB a second, at which others cut.
    let said = lap.build_with("app", "FROM busybox\nRUN seq 1 500000\n", &["--network", "none"]).ok();
    // `#2 0.123 LINE`
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, time, number] if time.parse::<f64>().is_ok() => number.parse::<u32>().ok(),
        _ => None,
    };
    let lines = said.err.lines().filter_map(line);
    assert!(lines.eq(1..=500_000), "lines are missing");
}

#[test]
fn a_bake_file_alone_empties_no_directory_elsewhere() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("f", "x");
    lap.write("Dockerfile", "FROM scratch\nCOPY f /\n");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("precious"), "x").unwrap();
    let place = outside.path().display();
    let file = format!(
        "target \"default\" {{\n  output = [\"type=local,dest={place},mode=delete\"]\n  entitlements = []\n}}\n"
    );
    lap.write("docker-bake.hcl", file);
    let write = format!("--allow=fs.write={place}");
    let refused = lap.run(&["bake", "--progress", "plain", &write]).code(1);
    assert!(refused.err.contains("--allow buildx.local.delete"), "{}", refused.err);
    assert!(outside.path().join("precious").exists());
    lap.run(&["bake", "--progress", "plain", &write, "--allow=buildx.local.delete"]).ok();
    assert!(!outside.path().join("precious").exists() && outside.path().join("f").exists());
}

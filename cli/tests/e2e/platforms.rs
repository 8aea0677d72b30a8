//! Images of several platforms, and programs that are not this machine's.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{Lap, Registry, busybox, needs, run};

/// The arm64 busybox root file system, or nothing where it cannot be had.
pub(crate) fn arm64() -> Option<&'static Path> {
    static TAR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = TAR.get_or_init(|| {
        let tar = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox-arm64.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/bases/make.sh");
        let made = tar.exists() || run(script, &["busybox-arm64".as_ref(), tar.as_os_str()]).code == 0;
        if !made {
            println!("SKIPPED {}: Debian's busybox-static:arm64 cannot be fetched", module_path!());
        }
        made.then_some(tar)
    });
    made.as_deref()
}

/// A store with `box`, an image of two platforms.
fn with_base() -> Option<Lap> {
    if cfg!(not(target_arch = "x86_64")) {
        println!("SKIPPED {}: written for amd64", module_path!());
        return None;
    }
    let arm = arm64()?;
    let lap = Lap::empty();
    std::fs::create_dir(lap.path("ctx")).unwrap();
    std::fs::copy(arm, lap.path("ctx/arm64.tar")).unwrap();
    std::fs::copy(busybox(), lap.path("ctx/amd64.tar")).unwrap();
    let dockerfile = "FROM scratch\nARG TARGETARCH\nADD $TARGETARCH.tar /\nCMD [\"uname\", \"-m\"]\n";
    lap.build_with("box", dockerfile, &["--platform", "linux/amd64,linux/arm64"]).ok();
    Some(lap)
}

#[test]
fn an_index_of_two_platforms_is_built_run_pushed_and_pulled() {
    needs!(root);
    needs!("skopeo");
    needs!("docker-registry");
    needs!("qemu-aarch64-static");
    let Some(lap) = with_base() else { return };
    let registry = Registry::start();
    let name = format!("{}/app:1", registry.address);
    let dockerfile = "\
FROM --platform=$BUILDPLATFORM box AS build
ARG TARGETARCH
RUN uname -m > /built && echo $TARGETARCH >> /built
FROM --platform=$BUILDPLATFORM box AS once
RUN echo once && head -c 8 /dev/urandom | md5sum > /once
FROM box
COPY --from=build /built /built
COPY --from=once /once /once
RUN uname -m > /ran && chown 7:8 /ran
ENTRYPOINT [\"cat\"]
CMD [\"/built\", \"/ran\"]
";
    let outputs = [
        "--platform=linux/amd64,linux/arm64",
        "--push",
        "--output=type=oci,dest=o,tar=false,annotation-index.a=b,annotation[linux/arm64].only=arm",
        "--output=type=local,dest=files",
    ];
    let said = lap.build_with(&name, dockerfile, &outputs).ok();
    assert_eq!(said.err.matches(" once\n").count(), 1, "a native step runs once: {}", said.err);

    // What the store has.
    let run_it = |lap: &Lap, platform: &str| {
        lap.run(&["run", "--rm", "--network", "none", "--platform", platform, &name]).ok().out
    };
    assert_eq!(run_it(&lap, "linux/amd64"), "x86_64\namd64\nx86_64\n");
    assert_eq!(run_it(&lap, "linux/arm64"), "x86_64\narm64\naarch64\n");
    assert_eq!(lap.run(&["run", "--rm", "--network", "none", &name]).ok().out, "x86_64\namd64\nx86_64\n");

    // What others see: the layout, the registry, the files.
    let layout = run("skopeo", &["inspect", "--raw", &format!("oci:{}:1", lap.path("o").display())]).ok().json();
    assert_eq!(layout["annotations"]["a"], "b");
    let platforms: Vec<&str> = layout["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    for (architecture, only) in [("amd64", None), ("arm64", Some("arm"))] {
        let source = format!("docker://{name}");
        let config = ["--override-arch", architecture, "inspect", "--tls-verify=false", "--config", &source];
        assert_eq!(run("skopeo", &config).ok().json()["architecture"], architecture);
        let mut entries = layout["manifests"].as_array().unwrap().iter();
        let entry = entries.find(|m| m["platform"]["architecture"] == architecture).unwrap();
        let hex = entry["digest"].as_str().unwrap().replace("sha256:", "");
        let manifest = std::fs::read(lap.path(&format!("o/blobs/sha256/{hex}"))).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["annotations"]["only"].as_str(), only);
    }
    let once = |platform: &str| std::fs::read(lap.path(&format!("files/linux_{platform}/once"))).unwrap();
    assert_eq!(once("amd64"), once("arm64"));
    let ran = std::os::linux::fs::MetadataExt::st_uid(&std::fs::metadata(lap.path("files/linux_arm64/ran")).unwrap());
    assert_eq!(ran, 7);

    // Another store takes the platform it is asked for.
    let other = Lap::empty();
    assert_eq!(run_it(&other, "linux/arm64"), "x86_64\narm64\naarch64\n");
    let single = lap.run(&["build", "-q", "--platform=linux/amd64,linux/arm64", "-o", "type=docker,dest=d.tar", "ctx"]);
    assert!(single.code(1).err.contains("type=docker holds one platform"));
}

#[test]
fn foreign_containers_live_as_native_ones_do() {
    needs!(root);
    needs!("qemu-aarch64-static");
    let Some(lap) = with_base() else { return };
    let run = ["run", "-d", "--name", "arm", "--network", "none", "--platform", "arm64", "box", "sleep", "60"];
    lap.run(&run).ok();
    assert_eq!(lap.run(&["exec", "arm", "uname", "-m"]).ok().out, "aarch64\n");
    lap.run(&["rm", "-f", "arm"]).ok();
}

#[test]
fn a_missing_emulator_is_named_and_stages_without_foreign_steps_need_none() {
    needs!(root);
    let Some(lap) = with_base() else { return };
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() {
        println!("SKIPPED {}: this machine has an emulator of its own", module_path!());
        return;
    }
    let build = |dockerfile: &str| {
        lap.write("ctx/Dockerfile", dockerfile);
        let mut command = lap.command();
        command.env("PATH", "/nonexistent").args(["build", "-q", "--platform", "linux/arm64", "ctx"]);
        command.output().unwrap()
    };
    let failed = build("FROM box\nRUN true\n");
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("install the package qemu-user-static"), "{said}");
    assert!(
        build("FROM --platform=$BUILDPLATFORM box AS b\nRUN touch /x\nFROM box\nCOPY --from=b /x /\n").status.success()
    );
}

#[test]
fn platforms_are_listed_repeated_and_have_variants() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("ctx/f", "f");
    let dockerfile =
        "FROM scratch\nARG TARGETPLATFORM TARGETVARIANT\nCOPY f /$TARGETPLATFORM/f\nLABEL v=$TARGETVARIANT\n";
    lap.write("ctx/Dockerfile", dockerfile);
    let build = |flags: &[&str]| lap.run(&[&["build", "-q", "-t", "app"], flags, &["ctx"]].concat());
    let list = |flags: &[&str]| {
        build(&[flags, &["-o", "type=oci,dest=o,tar=false"]].concat()).ok();
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(lap.path("o/index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
        let blob = std::fs::read(lap.path(&format!("o/blobs/sha256/{digest}"))).unwrap();
        let inner: serde_json::Value = serde_json::from_slice(&blob).unwrap();
        std::fs::remove_dir_all(lap.path("o")).unwrap();
        let name = |entry: &serde_json::Value| {
            let parts =
                ["os", "architecture", "variant"].map(|key| entry["platform"][key].as_str().unwrap_or_default());
            parts.join("/").trim_end_matches('/').to_owned()
        };
        inner["manifests"].as_array().map(|all| all.iter().map(name).collect::<Vec<_>>()).unwrap_or_default()
    };
    let all = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6"];
    assert_eq!(list(&["--platform=linux/amd64,linux/arm64,linux/arm/v7,linux/arm/v6"]), all);
    let flags = ["--platform", "x86_64,aarch64", "--platform", "linux/arm", "--platform=linux/arm/v6,linux/arm64/v8"];
    assert_eq!(list(&flags), all);
    build(&["--platform=linux/amd64,linux/arm/v6", "-o", "out"]).ok();
    for name in ["linux_amd64/linux/amd64/f", "linux_arm_v6/linux/arm/v6/f"] {
        assert!(lap.path("out").join(name).exists(), "{name}");
    }
    // One is an image, not an index; `local` is this machine.
    assert_eq!(list(&["--platform=local,local"]), [""; 0]);
    assert_eq!(lap.config("app")["Labels"]["v"], "");
    build(&["--platform=linux/arm/v6"]).ok();
    assert_eq!(lap.config("app")["Labels"]["v"], "v6");
    for (text, words) in [
        ("linux/amd46", "there is no architecture \"amd46\": known are 386, amd64, arm"),
        ("linus/amd64", "there is no operating system \"linus\": known are linux"),
        ("nonsense", "write os/architecture[/variant]"),
        ("linux/arm/v7/x", "write os/architecture[/variant]"),
    ] {
        let said = build(&["--platform", text]).code(1);
        assert!(said.err.contains(words), "{text}: {}", said.err);
    }
    let archive = build(&["--platform=linux/amd64,linux/arm64", "-o", "type=docker,dest=d.tar"]).code(1);
    assert!(archive.err.contains("type=docker holds one platform") && !lap.path("d.tar").exists(), "{}", archive.err);
}

#[test]
fn contexts_may_differ_by_platform() {
    needs!(root);
    let lap = Lap::empty();
    lap.write("all/f", "all");
    lap.write("arm/f", "arm");
    lap.write("base/Dockerfile", "FROM scratch\nARG TARGETARCH\nLABEL of=$TARGETARCH\nCOPY --from=all f /\n");
    let layout = ["build", "-q", "--platform=linux/amd64,linux/arm64", "-t", "base:1", "--build-context=all=all"];
    lap.run(&[&layout[..], &["-o", "type=oci,dest=layout,tar=false", "base"]].concat()).ok();
    lap.write("ctx/Dockerfile", "FROM base\nCOPY --from=files f /g\n");
    let out = ["build", "-q", "--platform=linux/amd64,linux/arm64,linux/arm/v7", "-o", "out"];
    let contexts = ["--build-context=files=all", "--build-context=files::linux/arm64/v8=arm"];
    let layout = ["--build-context=base=oci-layout://layout:1"];
    // The layout has nothing for arm/v7.
    let said = lap.run(&[&out[..], &contexts, &layout, &["ctx"]].concat()).code(1);
    assert!(said.err.contains("linux/arm/v7"), "{}", said.err);
    let own = ["--build-context=base::linux/arm/v7=docker-image://scratch"];
    let said = lap.run(&[&out[..], &contexts, &own, &["--build-context=base=docker-image://scratch", "ctx"]].concat());
    said.ok();
    for (platform, text) in [("amd64", "all"), ("arm64", "arm"), ("arm_v7", "all")] {
        assert_eq!(std::fs::read_to_string(lap.path(&format!("out/linux_{platform}/g"))).unwrap(), text);
    }
    // Each platform has its own image of the layout.
    let two = ["build", "-q", "--platform=linux/amd64,linux/arm64", "-t", "two", "-o", "type=oci,dest=two,tar=false"];
    lap.run(&[&two[..], &contexts, &layout, &["ctx"]].concat()).ok();
    for platform in ["amd64", "arm64"] {
        let image = ["build", "-q", "--platform", platform, "-t", platform];
        let layout = ["--build-context=base=oci-layout://layout:1"];
        lap.run(&[&image[..], &contexts, &layout, &["ctx"]].concat()).ok();
        assert_eq!(lap.config(platform)["Labels"]["of"], platform);
    }
    let bad = lap.run(&["build", "--build-context=files::=all", "ctx"]).code(1);
    assert!(bad.err.contains("is no platform"), "{}", bad.err);
}

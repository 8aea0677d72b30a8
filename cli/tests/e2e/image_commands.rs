//! Commands about images and lists of containers: what Docker's users script against.

use crate::support::{Lap, needs, run};
use crate::web::{Page, Web};

/// `sleep` in the background; its ID.
fn sleeper(lap: &Lap, name: &str, image: &str) -> String {
    let args = ["run", "-d", "--name", name, "--network", "none", image, "sleep", "1000"];
    lap.run(&args).ok().out.trim().to_owned()
}

#[test]
fn images_that_containers_need_stay() {
    needs!(root);
    let lap = Lap::new();
    let id = lap.run(&["images", "-q", "busybox"]).ok().out.trim().to_owned();
    sleeper(&lap, "up", "busybox");
    let said = lap.run(&["rmi", "busybox"]).code(1);
    assert!(said.err.contains("conflict: unable to remove repository reference \"busybox\" (must force)"), "{said:?}");
    let said = lap.run(&["rmi", "-f", &id]).code(1);
    assert!(said.err.contains("(cannot be forced) - image is being used by running container"), "{said:?}");
    // By name and forced, the name goes; the image stays for what runs.
    let said = lap.run(&["rmi", "-f", "busybox"]).ok();
    assert_eq!(said.out, "Untagged: busybox:latest\n");
    assert_eq!(lap.run(&["images", "-q"]).ok().out.trim(), id);
    lap.run(&["tag", &id, "busybox"]).ok();
    lap.run(&["kill", "up"]).ok();
    let said = lap.run(&["rmi", &id]).code(1);
    assert!(said.err.contains("(must be forced) - image is being used by stopped container"), "{said:?}");
    lap.run(&["rm", "-f", "up"]).ok();

    lap.run(&["tag", "busybox", "team/other:1"]).ok();
    let said = lap.run(&["rmi", &id]).code(1);
    assert!(said.err.contains("(must be forced) - image is referenced in multiple repositories"), "{said:?}");
    assert_eq!(lap.run(&["rmi", "team/other:1"]).ok().out, "Untagged: team/other:1\n");
    let said = lap.run(&["rmi", "nope", "busybox"]).code(1);
    assert!(said.err.contains("No such image: nope:latest"), "{said:?}");
    assert!(said.out.starts_with("Untagged: busybox:latest\nDeleted: sha256:"), "{said:?}");
    assert_eq!(lap.run(&["rmi", "-f", "nope"]).ok().out, "");
}

#[test]
fn layers_stay_where_nothing_is_to_be_pruned() {
    needs!(root);
    let stays = |flags: &[&str]| {
        let lap = Lap::new();
        let layer = lap.run(&["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "busybox"]).ok().out;
        // Young ones stay in any case.
        let store = lap.path("store");
        run("find", &[store.to_str().unwrap(), "-exec", "touch", "-h", "-d", "@1000000000", "{}", "+"]).ok();
        lap.run(&[&["rmi"], flags, &["busybox"]].concat()).ok();
        std::path::Path::new(layer.trim()).exists()
    };
    assert!(stays(&["--no-prune"]));
    assert!(!stays(&[]));
}

#[test]
fn containers_are_found_by_what_they_have() {
    needs!(root);
    let lap = Lap::new();
    lap.build("app", "FROM busybox\nEXPOSE 8081 8080 53/udp\n").ok();
    let volume = format!("{}:/data:ro", lap.dir.path().display());
    lap.run(&["run", "-d", "--name", "web", "-v", &volume, "-v", "kept:/kept", "app", "sleep", "1000"]).ok();
    sleeper(&lap, "plain", "busybox");
    let names = |filters: &[&str]| {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}"];
        filters.iter().for_each(|filter| args.extend(["-f", filter]));
        lap.run(&args).ok().out
    };
    for filter in [
        "volume=/data",
        "volume=kept",
        "network=bridge",
        "expose=8080",
        "expose=8070-8080/tcp",
        "expose=53/udp",
        "name=^web$",
        "name=^/web$",
        "ancestor=app",
    ] {
        assert_eq!(names(&[filter]), "web\n", "{filter}");
    }
    assert_eq!(names(&["network=none", "network=host"]), "plain\n");
    assert_eq!(names(&["health=none", "publish=80"]), "");
    assert_eq!(names(&["health=none"]), "plain\nweb\n");
    assert_eq!(names(&["health=healthy"]), "");
    for bad in ["health=well", "status=nope", "expose=x", "exited=x", "name=("] {
        assert!(!lap.run(&["ps", "-f", bad]).code(1).err.is_empty(), "{bad}");
    }
    assert_eq!(lap.run(&["ps", "-f", "name=web", "--format", "{{.Ports}}"]).ok().out, "53/udp, 8080-8081/tcp\n");
    let inspect = |template: &str| lap.run(&["inspect", "-f", template, "web"]).ok().out;
    assert_eq!(inspect("{{json .NetworkSettings.Ports}}"), "{\"53/udp\":null,\"8080/tcp\":null,\"8081/tcp\":null}\n");
    assert_eq!(inspect("{{.Config.ExposedPorts}}"), "map[53/udp:{} 8080/tcp:{} 8081/tcp:{}]\n");
    assert_eq!(
        inspect("{{index .HostConfig.ReadonlyPaths 3}} {{index .HostConfig.MaskedPaths 0}}"),
        "/proc/sys /proc/acpi\n"
    );
    lap.run(&["rm", "-f", "web", "plain"]).ok();
}

#[test]
fn info_has_the_fields_of_dockers() {
    needs!(root);
    let lap = Lap::new();
    sleeper(&lap, "up", "busybox");
    let info = lap.run(&["info", "-f", "{{json .}}"]).ok().json();
    assert_eq!(
        (info["Containers"].as_i64(), info["ContainersRunning"].as_i64(), info["Images"].as_i64()),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(info["DockerRootDir"], lap.path("store").to_str().unwrap());
    assert!(info["MemTotal"].as_u64().unwrap() > 1 << 20 && info["NCPU"].as_u64().unwrap() > 0, "{info}");
    assert!(info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"].as_bool().unwrap());
    let said =
        lap.run(&["system", "info", "--format", "{{.Driver}} {{.OSType}} {{.CgroupVersion}} {{.ServerVersion}}"]).ok();
    let words: Vec<&str> = said.out.split_whitespace().collect();
    assert_eq!(words[..2], ["overlay", "linux"]);
    assert!(["1", "2"].contains(&words[2]) && words[3] == env!("CARGO_PKG_VERSION"), "{words:?}");
    let text = lap.run(&["info"]).ok().out;
    for line in [
        " Storage Driver: overlay\n",
        " Containers: 1\n  Running: 1\n",
        " Images: 1\n",
        "\n  seccomp\n",
        "  127.0.0.0/8\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    // Proxies are told of without their logins.
    let output = lap.command().args(["info"]).env("HTTPS_PROXY", "http://me:hidden@proxy:1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("http://xxxxx:xxxxx@proxy:1") && !text.contains("hidden"), "{text}");
    lap.run(&["rm", "-f", "up"]).ok();
}

#[test]
fn formats_and_filters_of_dockers_config_hold() {
    needs!(root);
    let lap = Lap::new();
    lap.build("kept", "FROM busybox\nLABEL keep=1\nRUN echo 1 > /f\n").ok();
    lap.build("kept", "FROM busybox\nRUN echo 2 > /f\n").ok();
    sleeper(&lap, "up", "busybox");
    let with = |config: &str, args: &[&str]| {
        lap.write("docker/config.json", config);
        let output = lap.command().args(args).env("DOCKER_CONFIG", lap.path("docker")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let formats = r#"{"psFormat": "table {{.Names}}", "imagesFormat": "{{.Repository}}", "HttpHeaders": {"a": "b"}}"#;
    assert_eq!(with(formats, &["ps"]).0, "NAMES\nup\n");
    assert_eq!(with(formats, &["ps", "--format", "{{.State}}"]).0, "running\n");
    assert_eq!(with(formats, &["images", "kept"]).0, "kept\n");
    assert_eq!(with(formats, &["images", "-q", "kept"]).0.trim().len(), 12);
    let (out, err) = with("{ broken", &["ps"]);
    assert!(out.starts_with("CONTAINER ID") && err.contains("config.json is left out"), "{out} {err}");

    let filters = r#"{"pruneFilters": ["label!=keep"]}"#;
    assert_eq!(with(filters, &["image", "prune", "-f"]).0, "Total reclaimed space: 0B\n");
    assert!(with(filters, &["image", "prune", "-f", "--filter", "label=keep"]).0.contains("deleted: sha256:"));
    lap.run(&["rm", "-f", "up"]).ok();
}

#[test]
fn inspected_images_tell_when_they_were_tagged_and_by_platform() {
    needs!(root);
    let lap = Lap::new();
    let tagged = lap.run(&["inspect", "-f", "{{.Metadata.LastTagTime}}", "busybox"]).ok().out;
    assert!(tagged.starts_with("20") && tagged.ends_with("Z\n"), "{tagged}");
    let host = lap.run(&["version", "-f", "{{.Client.Os}}/{{.Client.Arch}}"]).ok().out;
    let own = ["image", "inspect", "--platform", host.trim(), "-f", "{{.Os}}", "busybox"];
    assert_eq!(lap.run(&own).ok().out, "linux\n");
    let said = lap.run(&["image", "inspect", "--platform", "linux/s390x", "busybox"]).code(1);
    assert!(said.err.contains("not for linux/s390x"), "{said:?}");
    let said = lap.run(&["history", "--platform", "linux/s390x", "busybox"]).code(1);
    assert!(said.err.contains("not for linux/s390x"), "{said:?}");
    for (args, words) in [
        (&["image", "inspect", "nope"][..], "No such image: nope:latest"),
        (&["inspect", "nope"], "No such object: nope"),
        (&["container", "inspect", "nope"], "No such container: nope"),
        (&["history", "nope:1"], "No such image: nope:1"),
        (&["stop", "nope"], "No such container: nope"),
        (&["tag", "nope", "x"], "No such image: nope:latest"),
        (&["push", "nope"], "An image does not exist locally with the tag: nope"),
    ] {
        let said = lap.run(args).code(1);
        assert!(said.err.contains(words), "{args:?}: {said:?}");
    }
}

#[test]
fn imports_come_from_files_standard_input_and_web_servers() {
    needs!(root);
    let lap = Lap::empty();
    let tar = std::fs::read(crate::support::busybox()).unwrap();
    let changes = ["-c", "CMD [\"id\"]", "-c", "ENV A=b", "-c", "WORKDIR /tmp", "-c", "USER 7:8", "-c", "EXPOSE 80"];
    lap.run_with(&[&["import"], &changes[..], &["-m", "mine", "-", "a/box:1"]].concat(), &tar).ok();
    let said = lap.run(&["run", "--rm", "--network", "none", "a/box:1"]).ok().out;
    assert!(said.starts_with("uid=7 gid=8"), "{said}");
    let image = lap.run(&["inspect", "a/box:1"]).ok().json()[0].clone();
    assert_eq!(image["Comment"], "mine");
    let config = serde_json::json!({"User": "7:8", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Cmd": ["id"], "WorkingDir": "/tmp"});
    assert_eq!(image["Config"], config);

    let web = Web::start();
    let url = web.page("/root.tar?token=hidden", Page::new(&tar));
    lap.run(&["import", "--platform", "linux/arm64", &url, "web"]).ok();
    let image = lap.run(&["inspect", "web"]).ok().json()[0].clone();
    assert_eq!(image["Architecture"], "arm64");
    assert_eq!(image["Comment"], format!("Imported from {}/root.tar", web.url));
    assert_eq!(image["Config"], serde_json::json!({}));
    let file = lap.run(&["inspect", "-f", "{{.RootFS.Layers}}", "a/box:1"]).ok().out;
    assert_eq!(lap.run(&["inspect", "-f", "{{.RootFS.Layers}}", "web"]).ok().out, file);
    for (args, words) in [
        (&["import", "-c", "RUN true", "-"][..], "run is not a valid change command"),
        (&["import", "-c", "NOPE x", "-"], "NOPE"),
        (&["import", "gone.tar"], "cannot import gone.tar"),
        (&["import", "-", "UPPER"], "lower-case"),
    ] {
        let said = lap.run_with(args, &tar).code(1);
        assert!(said.err.contains(words), "{args:?}: {said:?}");
    }
}

#[test]
fn shells_complete_commands_and_flags() {
    let lap = Lap::empty();
    for (shell, words) in [
        ("bash", &["complete -F _lap", "--no-prune", "completion"][..]),
        ("zsh", &["#compdef lap", "--no-prune"]),
        ("fish", &["complete -c lap", "no-prune"]),
        ("powershell", &["Register-ArgumentCompleter", "--no-prune"]),
    ] {
        let script = lap.run(&["completion", shell]).ok().out;
        assert!(words.iter().all(|word| script.contains(word)), "{shell}");
        if crate::support::has(module_path!(), shell) {
            let file = lap.write("script", &script);
            run(shell, &["-n", file.to_str().unwrap()]).ok();
        }
    }
    lap.run(&["completion", "nosh"]).code(2);
}

#[test]
fn the_environment_names_the_platform_where_no_flag_does() {
    needs!(root);
    let lap = Lap::new();
    let with = |args: &[&str], platform: &str| {
        let output = lap.command().args(args).env("DOCKER_DEFAULT_PLATFORM", platform).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    lap.write("ctx/Dockerfile", "FROM scratch\nARG TARGETARCH\nLABEL built=$TARGETARCH\n");
    assert_eq!(with(&["build", "-q", "-t", "foreign", "ctx"], "linux/s390x").0, Some(0));
    let architecture =
        lap.run(&["image", "inspect", "--platform", "linux/s390x", "-f", "{{.Architecture}}", "foreign"]);
    assert_eq!(architecture.ok().out, "s390x\n");
    assert_eq!(with(&["build", "-q", "--platform", "linux/riscv64", "-t", "flag", "ctx"], "linux/s390x").0, Some(0));
    assert_eq!(lap.config("flag")["Labels"]["built"], "riscv64");
    let (code, error) = with(&["run", "--rm", "--pull", "never", "busybox", "true"], "linux/s390x");
    assert!(code == Some(125) && error.contains("not for linux/s390x"), "{error}");
    assert_eq!(with(&["run", "--rm", "--network", "none", "busybox", "true"], "").0, Some(0));
}

#[test]
fn the_newest_images_can_be_kept() {
    needs!(root);
    let lap = Lap::empty();
    for number in 1..=4 {
        lap.write("ctx/f", vec![number; 1000]);
        let epoch = format!("SOURCE_DATE_EPOCH={}", 1_700_000_000 + u32::from(number));
        let name = format!("app:{number}");
        lap.build_with(&name, "FROM scratch\nCOPY f /f\n", &["--build-arg", &epoch]).ok();
    }
    lap.run(&["tag", "app:1", "other:1"]).ok();
    let prune = |flags: &[&str]| {
        lap.run(&[&["image", "prune", "-f", "-a"], flags].concat()).ok();
        let mut names: Vec<String> =
            lap.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().out.lines().map(str::to_owned).collect();
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(prune(&["--keep-bytes", "1mb"]), "app:1 app:2 app:3 app:4 other:1");
    assert_eq!(prune(&["--keep", "2"]), "app:3 app:4 other:1");
    // Another name of an image costs nothing.
    lap.run(&["tag", "app:4", "again:4"]).ok();
    assert_eq!(prune(&["--keep-bytes", "1500b"]), "again:4 app:4");
    assert_eq!(prune(&["--keep", "1", "--filter", "label=none"]), "again:4 app:4");
    assert_eq!(prune(&[]), "");
    lap.run(&["image", "prune", "-f", "--keep", "1"]).code(2);
}

#[test]
fn images_are_listed_by_age_and_matched_as_docker_does() {
    needs!(root);
    let lap = Lap::empty();
    for (name, age) in [("middle:1", 2), ("old:1", 1), ("new:1", 3)] {
        lap.write("ctx/f", name);
        let epoch = format!("SOURCE_DATE_EPOCH={}", 1_700_000_000 + age);
        lap.build_with(name, "FROM scratch\nCOPY f /f\n", &["--build-arg", &epoch]).ok();
    }
    for name in ["zebra:1", "apple:1", "reg.example:5000/a/b/c:x"] {
        lap.run(&["tag", "middle:1", name]).ok();
    }
    let names = |flags: &[&str]| {
        let args = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], flags].concat();
        lap.run(&args).ok().out.lines().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&[]), "new:1 apple:1 middle:1 reg.example:5000/a/b/c:x zebra:1 old:1");
    for (pattern, wanted) in [
        ("*/*/*", ""),
        ("reg.example:5000/*/*/c", "reg.example:5000/a/b/c:x"),
        ("[a-n]*", "new:1 apple:1 middle:1"),
        ("old:[0-9]", "old:1"),
        ("*:x", ""),
    ] {
        assert_eq!(names(&["-f", &format!("reference={pattern}")]), wanted, "{pattern}");
    }
    assert_eq!(names(&["docker.io/library/old:1"]), "old:1");
}

//! The flags of `lap build`, beyond those that have a file of their own.

use std::path::Path;

use crate::support::{Lap, Registry, needs, run, wait_for};

#[test]
fn resources_limit_each_step_and_are_not_in_its_key() {
    needs!(root);
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("memory/memory.limit_in_bytes").exists() || !root.join("cpuset").exists() {
        println!("SKIPPED {}: this machine has no control groups of version 1", module_path!());
        return;
    }
    let lap = Lap::new();
    let parent = format!("lap-test-{}", std::process::id());
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN sleep 1000\n");
    // What a file of the control group of a running step says.
    let value = |controller: &str, file: &str| {
        let groups = std::fs::read_dir(root.join(controller).join(&parent)).ok()?;
        let mut texts = groups.flatten().filter_map(|group| std::fs::read_to_string(group.path().join(file)).ok());
        texts.find_map(|text| Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    };
    let check = |flags: &[&str], wanted: &[(&str, &str, &str)]| {
        let mut child = lap
            .command()
            .args(["build", "-q", "--cgroup-parent", &parent])
            .args(flags)
            .arg("ctx")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        for (controller, file, text) in wanted {
            let is_set = || value(controller, file).as_deref() == Some(*text);
            wait_for(&format!("{file} to be {text}"), is_set);
        }
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        child.wait().unwrap();
    };
    let all = "memory=48m,cpu-shares=512,cpu-period=50000,cpu-quota=20000,cpuset-cpus=0,cpuset-mems=0";
    let mut wanted = vec![
        ("memory", "memory.limit_in_bytes", "50331648"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
    ];
    check(&["--resource", all], &wanted);
    let swap = root.join("memory/memory.memsw.limit_in_bytes").exists();
    let mut flags = vec!["-c", "512", "--cpu-period=50000", "--cpu-quota", "20000", "--cpuset-cpus", "0"];
    flags.extend(["--cpuset-mems=0", "-m", "40m", "--resource", "memory=48m"]);
    if swap {
        wanted.push(("memory", "memory.memsw.limit_in_bytes", "67108864"));
        flags.push("--memory-swap=64m");
    }
    check(&flags, &wanted);

    // The same step with other limits is the same step.
    let dockerfile = "FROM busybox\nRUN echo x > /x\n";
    lap.build_with("app", dockerfile, &["--resource", all]).ok();
    let again = lap.build_with("app", dockerfile, &["--resource", "memory=99m", "--cpu-shares", "3"]).ok();
    assert!(again.err.contains("CACHED"), "{}", again.err);

    let said = lap.build_with("app", "FROM busybox\nRUN echo x\n", &["--resource", "cpuset-cpus=900"]).code(1);
    assert!(said.err.contains("cannot limit cpuset") && said.err.contains("Dockerfile:2"), "{}", said.err);
    let said = lap.build_with("app", "FROM busybox\nRUN echo x\n", &["--memory-swap", "1g"]).code(1);
    assert!(said.err.contains("a memory limit is needed too"), "{}", said.err);
    let said = lap.build_with("app", "FROM busybox\n", &["--resource", "gpus=1"]).code(2);
    assert!(said.err.contains("known are memory, memory-swap"), "{}", said.err);
}

#[test]
fn flags_of_other_builders_are_taken_and_told_where_an_effect_is_expected() {
    needs!(root);
    let lap = Lap::new();
    let silent = ["--compress", "--rm=false", "--force-rm", "-D", "--builder", "default", "--isolation", "default"];
    let silent = [&silent[..], &["--load", "--squash=false"]].concat();
    let said = lap.build_with("app", "FROM busybox\n", &silent).ok();
    assert!(!said.err.contains("has no effect"), "{}", said.err);
    let loud = ["--squash", "--security-opt", "apparmor=x", "--isolation", "hyperv", "--builder", "remote"];
    let said = lap.build_with("app", "FROM busybox\n", &loud).ok();
    assert_eq!(said.err.matches("has no effect").count(), 4, "{}", said.err);
    let outline = lap.build_with("app", "FROM busybox AS first\n", &["--print=targets"]).ok();
    assert!(outline.out.contains("first"), "{}", outline.out);
}

#[test]
fn help_has_every_flag_in_a_group_and_on_one_line() {
    let help = run(env!("CARGO_BIN_EXE_lap"), &["build", "-h"]).ok().out;
    let (flags, _) = help.split_once("Examples:").unwrap();
    let (_, flags) = flags.split_once("Options:").unwrap();
    let mut group = "Options:";
    for line in flags.lines().filter(|line| !line.is_empty()) {
        match line.trim_start().split_once("  ") {
            None => group = line,
            Some((flag, said)) => {
                assert!(flag.starts_with('-') && !said.trim().is_empty() && line.chars().count() <= 100, "{line}");
                let general = ["--root <DIR>", "-h, --help", "-V, --version"].contains(&flag);
                assert_eq!(group == "Options:", general, "{group} {line}");
            }
        }
    }
    for wanted in ["\nDockerfile:\n", "\nResults:\n", "\nCache:\n", "\nRUN steps:\n"] {
        assert!(help.contains(wanted), "{wanted}: {help}");
    }
    for hidden in ["--squash", "--cpu-period", "--isolation", "--builder"] {
        assert!(!help.contains(hidden), "{hidden}");
    }
}

#[test]
fn hosts_are_added_to_steps_and_the_gateway_is_this_machine() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM busybox\nRUN cp /etc/hosts /h && ip route | grep default | cut -d' ' -f3 > /gateway\n\
                      RUN --network=none cp /etc/hosts /none\n";
    let hosts = ["--add-host=a.example:10.1.2.3", "--add-host", "b=fd00::7", "--add-host=c:[fd00::8]"];
    let flags = [&hosts[..], &["--add-host", "here:host-gateway"]].concat();
    lap.build_with("app", dockerfile, &flags).ok();
    let found = lap.sh("app", "cat /h");
    for line in ["10.1.2.3\ta.example\n", "fd00::7\tb\n", "fd00::8\tc\n"] {
        assert!(found.contains(line), "{line}: {found}");
    }
    let gateway = lap.sh("app", "cat /gateway");
    assert!(found.contains(&format!("{}\there\n", gateway.trim())), "{found}: {gateway}");
    assert!(lap.sh("app", "cat /none").contains("a.example") && !lap.sh("app", "cat /none").contains("here"));
    // Not in the key, and not in the image.
    let again = lap.build_with("app", dockerfile, &["--add-host", "a.example:10.9.9.9"]).ok();
    assert!(again.err.matches("CACHED").count() == 2, "{}", again.err);
    assert!(!lap.sh("app", "cat /etc/hosts").contains("a.example"));
    let on_host = ["--network=host", "--add-host", "here:host-gateway", "--no-cache"];
    lap.build_with("app", "FROM busybox\nRUN grep here /etc/hosts > /h\n", &on_host).ok();
    assert_eq!(lap.sh("app", "cat /h"), "127.0.0.1\there\n");
    for bad in ["x", "x:", ":1.2.3.4", "x:1.2.3", "x:1.2.3.4\nroot::0:0"] {
        let said = lap.build_with("app", dockerfile, &["--add-host", bad]).code(1);
        assert!(said.err.contains("write HOST:IP"), "{bad}: {}", said.err);
    }
}

#[test]
fn steps_have_the_shm_limits_and_control_group_that_were_asked_for() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM busybox\nRUN df -k /dev/shm | tail -n 1 | awk '{print $2}' > /f; ulimit -n >> /f; \
                      ulimit -Hn >> /f; cat /proc/self/cgroup > /c\n";
    let parent = format!("/lap-test-{}", std::process::id());
    let flags = ["--shm-size", "7m", "--ulimit", "nofile=100:200", "--cgroup-parent", &parent, "--memory", "64m"];
    lap.build_with("app", dockerfile, &flags).ok();
    assert_eq!(lap.sh("app", "cat /f"), "7168\n100\n200\n");
    let again = lap.build_with("app", dockerfile, &["--shm-size=9m"]).ok();
    assert!(again.err.contains("CACHED"), "{}", again.err);
    let found = run("find", &["/sys/fs/cgroup", "-name", parent.trim_start_matches('/')]);
    assert_eq!(found.out, "", "the control group goes with the build");
    for (flag, words) in [("--shm-size=x", "is no size"), ("--ulimit=nofile=2:1", "above the hard one")] {
        let said = lap.build_with("app", dockerfile, &[flag]).code(2);
        assert!(said.err.contains(words), "{flag}: {}", said.err);
    }
    let said = lap.build_with("app", dockerfile, &["--no-cache", "--cgroup-parent=/a/../../b"]).code(1);
    assert!(said.err.contains("leads upwards"), "{}", said.err);
}

#[test]
fn secrets_come_from_files_and_variables() {
    needs!(root);
    let lap = Lap::new();
    lap.write("file", "from file");
    lap.write("BARE", "bare file");
    let dockerfile =
        |id: &str| format!("FROM busybox\nARG N\nRUN --mount=type=secret,id={id} cat /run/secrets/{id} > /s\n");
    let build = |number: usize, id: &str, secret: &str| {
        lap.write("ctx/Dockerfile", dockerfile(id));
        let mut command = lap.command();
        command.env("VARIABLE", "from variable").env("named", "by id");
        let number = format!("N={number}");
        command.args(["build", "-q", "-t", "app", "--build-arg", &number, "--secret", secret, "ctx"]);
        command.output().unwrap()
    };
    for (number, (id, secret, want)) in [
        ("a", "id=a,src=file", "from file"),
        ("a", "type=file,id=a,source=file", "from file"),
        ("a", "id=a,env=VARIABLE", "from variable"),
        ("a", "type=env,id=a,env=VARIABLE", "from variable"),
        ("a", "type=env,id=a,src=VARIABLE", "from variable"),
        ("named", "id=named", "by id"),
        ("named", "type=env,id=named", "by id"),
        ("BARE", "id=BARE", "bare file"),
        ("file", "src=file", "from file"),
    ]
    .into_iter()
    .enumerate()
    {
        let output = build(number, id, secret);
        assert!(output.status.success(), "{secret}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(lap.sh("app", "cat /s"), want, "{secret}");
    }
    for (secret, words) in [
        ("id=a,src=none", "none"),
        ("id=a,env=UNSET_VARIABLE", "is not set"),
        ("src", "id= is missing"),
        ("id=a,what=1", "unknown option"),
        ("type=vault,id=a", "type"),
    ] {
        let output = build(99, "a", secret);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{secret}: {said}");
    }
}

#[test]
fn several_names_labels_and_a_stage_are_what_the_image_has() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM busybox AS one\nLABEL own=1 both=file\nRUN touch /one\nFROM one AS two\nRUN false\n";
    let flags = ["-t", "b:2", "--tag=h.example/c", "--target", "one", "--label", "both=flag", "--label", "none"];
    let said = lap.build_with("a", dockerfile, &flags).ok();
    for name in ["a", "b:2", "h.example/c"] {
        let inspected = lap.run(&["inspect", name]).ok().json();
        assert_eq!(inspected[0]["Id"], said.out.trim(), "{name}");
        let labels = serde_json::json!({"own": "1", "both": "flag", "none": ""});
        assert_eq!(inspected[0]["Config"]["Labels"], labels, "{name}");
    }
    lap.build_with("a", dockerfile, &["--target", "ONE"]).ok();
    let said = lap.build_with("a", dockerfile, &["--target", "thre"]).code(1);
    assert!(said.err.contains("thre"), "{}", said.err);
    let said = lap.build_with("UPPER", dockerfile, &["--target", "one"]).code(1);
    assert!(said.err.contains("UPPER"), "{}", said.err);
}

#[test]
fn stages_without_cache_run_again_and_others_do_not() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM busybox AS a\nRUN head -c 8 /dev/urandom > /a\nFROM busybox AS b\nRUN head -c 8 /dev/urandom > /b\n\
                      FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    let sums = |flags: &[&str]| {
        lap.build_with("app", dockerfile, flags).ok();
        (lap.sh("app", "md5sum /a"), lap.sh("app", "md5sum /b"))
    };
    let first = sums(&[]);
    assert_eq!(sums(&[]), first);
    let second = sums(&["--no-cache-filter", "a"]);
    assert!(second.0 != first.0 && second.1 == first.1);
    let third = sums(&["--no-cache-filter", "a,b"]);
    assert!(third.0 != second.0 && third.1 != second.1);
    let fourth = sums(&["--no-cache"]);
    assert!(fourth.0 != third.0 && fourth.1 != third.1);
}

#[test]
fn pull_asks_the_registry_for_what_the_store_has() {
    needs!(root);
    needs!("docker-registry");
    let registry = Registry::start();
    let name = format!("{}/base:1", registry.address);
    let (theirs, lap) = (Lap::new(), Lap::empty());
    let publish = |text: &str| {
        theirs.build_with(&name, &format!("FROM busybox\nRUN echo {text} > /v\n"), &["--push"]).ok();
    };
    publish("one");
    let dockerfile = format!("FROM {name}\nRUN cat /v\n");
    lap.build("app", &dockerfile).ok();
    publish("two");
    lap.build("app", &dockerfile).ok();
    assert_eq!(lap.sh("app", "cat /v"), "one\n");
    lap.build_with("app", &dockerfile, &["--pull"]).ok();
    assert_eq!(lap.sh("app", "cat /v"), "two\n");
}

#[test]
fn progress_is_told_in_the_form_that_was_asked_for() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN echo a word\n");
    let said = |flags: &[&str]| lap.run(&[&["build"], flags, &["--no-cache", "ctx"]].concat()).ok();
    for flags in [&["--progress=none"][..], &["--progress=quiet"], &["-q"]] {
        let quiet = said(flags);
        assert!(quiet.err.is_empty() && quiet.out.starts_with("sha256:"), "{flags:?}: {quiet:?}");
    }
    for flags in [&[][..], &["--progress=auto"], &["--progress", "plain"]] {
        assert!(said(flags).err.lines().any(|line| line.starts_with('#') && line.ends_with("a word")), "{flags:?}");
    }
    let raw = said(&["--progress=rawjson"]).err;
    assert!(raw.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{raw}");
    said(&["--progress=tty"]);
    let mut command = lap.command();
    let output = command.env("BUILDKIT_PROGRESS", "quiet").args(["build", "ctx"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}

#[test]
fn build_arguments_have_values_of_the_command_line_or_the_environment() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "ARG TAG=latest\nFROM busybox:$TAG\nARG A=default B C=kept\nRUN echo \"$A|$B|$C|$UNUSED\" > /v\n";
    lap.write("ctx/Dockerfile", dockerfile);
    let build = |flags: &[&str]| {
        let mut command = lap.command();
        command.env("A", "of environment").env_remove("B").args(["build", "-q", "-t", "app"]).args(flags).arg("ctx");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lap.sh("app", "cat /v")
    };
    assert_eq!(build(&[]), "default||kept|\n");
    assert_eq!(build(&["--build-arg", "A"]), "of environment||kept|\n");
    // One that the environment does not have is as if it were not given; an empty one is empty.
    assert_eq!(build(&["--build-arg=B", "--build-arg", "C=", "--build-arg=UNUSED=x"]), "default|||\n");
    assert_eq!(build(&["--build-arg", "B=a=b,c", "--build-arg=A=1", "--build-arg=A=2"]), "2|a=b,c|kept|\n");
    let said = lap.run(&["build", "--build-arg", "TAG=none:x", "ctx"]).code(1);
    assert!(said.err.contains("none:x") && said.err.contains("Dockerfile:2"), "{}", said.err);
}

#[test]
fn what_a_dockerfile_may_not_do_is_allowed_by_a_flag() {
    needs!(root);
    let lap = Lap::new();
    for (flag, word) in [("--network=host", "network.host"), ("--security=insecure", "security.insecure")] {
        let dockerfile = format!("FROM busybox\nRUN {flag} true\n");
        let said = lap.build("app", &dockerfile).code(1);
        assert!(said.err.contains(&format!("--allow {word}")), "{}", said.err);
        lap.build_with("app", &dockerfile, &["--allow", word]).ok();
    }
    let both = "FROM busybox\nRUN --network=host --security=insecure true\n";
    lap.build_with("app", both, &["--allow", "network.host,security.insecure", "--no-cache"]).ok();
    lap.build_with("app", both, &["--allow=network.host", "--allow=security.insecure", "--no-cache"]).ok();
    lap.build_with("app", both, &["--allow=network.host", "--no-cache"]).code(1);
    let said = lap.build_with("app", both, &["--allow=everything"]).code(2);
    assert!(said.err.contains("network.host") && said.err.contains("security.insecure"), "{}", said.err);
}

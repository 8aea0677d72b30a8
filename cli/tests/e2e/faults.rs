//! What the machine does to a store while `lap` works: it turns read-only, fails, is full, or takes the memory away; many
//! commands work in it at once. And what a registry holds after a push was killed.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Lap, Registry, needs, run, wait_for};

/// A mount that goes with the test.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run("umount", &["-l".as_ref(), self.0.as_os_str()]);
    }
}

const DOCKERFILE: &str = "FROM busybox\nCOPY file /\nRUN --network=none cat /file > /copy\n";

// F022
#[test]
fn a_store_that_cannot_be_written_is_read_and_says_so() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/file", "file\n");
    let store = lap.path("store");
    run("mount", &["--bind".as_ref(), store.as_os_str(), store.as_os_str()]).ok();
    let mounted = Mounted(&store);
    let remount = |how: &str| run("mount", &["-o".as_ref(), how.as_ref(), store.as_os_str()]).ok();
    remount("remount,bind,ro");
    let id = lap.run(&["images", "-q", "--no-trunc"]).ok().out;
    assert_eq!(lap.run(&["inspect", "-f", "{{.Id}}", "busybox"]).ok().out, id);
    lap.run(&["history", "busybox"]).ok();
    assert_eq!(lap.run(&["ps", "-aq"]).ok().out, "");
    lap.run(&["fsck", "--deep"]).ok();
    for said in [
        lap.build("app", DOCKERFILE),
        lap.run(&["run", "--rm", "--network", "none", "busybox", "true"]),
        lap.run(&["tag", "busybox", "other"]),
        lap.run(&["rmi", "busybox"]),
    ] {
        assert!(said.code != 0 && said.err.contains("Read-only file system"), "{}", said.err);
        assert!(said.err.contains(store.to_str().unwrap()), "{}", said.err);
    }
    remount("remount,bind,rw");
    lap.build("app", DOCKERFILE).ok();
    lap.run(&["fsck"]).ok();
    drop(mounted);
}

// F015
#[test]
fn a_file_system_that_fails_amid_a_build_ends_it_and_the_store_goes_on() {
    needs!(root);
    needs!("mkfs.ext4");
    needs!("e2fsck");
    let lap = Lap::empty();
    let (disk, store) = (lap.path("disk"), lap.path("store"));
    std::fs::File::create(&disk).unwrap().set_len(256 << 20).unwrap();
    run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), disk.as_os_str()]).ok();
    std::fs::create_dir(&store).unwrap();
    let mount =
        || run("mount", &["-o".as_ref(), "loop,errors=remount-ro".as_ref(), disk.as_os_str(), store.as_os_str()]);
    mount().ok();
    let mounted = Mounted(&store);
    lap.run(&["import", crate::support::busybox().to_str().unwrap(), "busybox"]).ok();
    let device = run("findmnt", &["-no".as_ref(), "SOURCE".as_ref(), store.as_os_str()]).ok().out;
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.trim().trim_start_matches("/dev/"));
    if !Path::new(&trigger).exists() {
        println!("SKIPPED {}: the kernel has no {trigger}", module_path!());
        return;
    }
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN --network=none echo be''gun; sleep 2; echo made > /made\n");
    let output = std::fs::File::create(lap.path("output")).unwrap();
    let args = ["build", "--progress", "plain", "-t", "app", "ctx"];
    let mut build = lap.command().args(args).stdout(Stdio::null()).stderr(output).spawn().unwrap();
    let said = || std::fs::read_to_string(lap.path("output")).unwrap();
    wait_for("the step", || said().contains("begun"));
    std::fs::write(&trigger, "a test").unwrap();
    wait_for("the build", || build.try_wait().unwrap().is_some());
    assert_eq!(build.wait().unwrap().code(), Some(1), "{}", said());
    assert!(said().contains("Read-only file system") && !said().contains("panicked"), "{}", said());
    assert!(lap.run(&["images", "-q"]).ok().out.lines().count() == 1);

    run("umount", &["-l".as_ref(), store.as_os_str()]).ok();
    wait_for("the disk to be free", || run("e2fsck", &["-fy".as_ref(), disk.as_os_str()]).code <= 1);
    mount().ok();
    lap.run(&["fsck", "--deep"]).ok();
    lap.run(&["build", "-q", "-t", "app", "ctx"]).ok();
    assert_eq!(lap.sh("app", "cat /made"), "made\n");
    drop(mounted);
}

// F018, F019
#[test]
fn a_disk_that_is_full_anywhere_is_told_and_loses_nothing() {
    needs!(root);
    let lap = Lap::empty();
    let store = lap.path("store");
    std::fs::create_dir(&store).unwrap();
    run("mount", &["-t".as_ref(), "tmpfs".as_ref(), "tmpfs".as_ref(), store.as_os_str()]).ok();
    let mounted = Mounted(&store);
    lap.run(&["import", crate::support::busybox().to_str().unwrap(), "busybox"]).ok();
    lap.write("ctx/Dockerfile", DOCKERFILE);
    lap.write("ctx/file", vec![7; 1 << 20]);
    let remount = |what: &str, value: u64| {
        let how = format!("remount,{what}={value}");
        run("mount", &["-o".as_ref(), how.as_ref(), store.as_os_str()]).ok();
    };
    let df = |what: &str| -> u64 {
        let args = [format!("--output={what}"), "-B1".to_owned(), store.display().to_string()];
        run("df", &args).ok().out.lines().last().unwrap().trim().parse().unwrap()
    };
    let mut full = 0;
    for (what, used, step) in [("size", "used", 256 << 10), ("nr_inodes", "iused", 6)] {
        for more in (0..14).map(|n| n * step) {
            // What a build leaves by design (its record) counts from then on.
            remount(what, df(used) + more);
            let said = lap.run(&["build", "--progress", "plain", "--no-cache", "-t", "app", "ctx"]);
            if said.code != 0 {
                full += 1;
                assert!(said.err.contains("No space left") && !said.err.contains("panicked"), "{more}: {}", said.err);
            }
            remount(what, 1 << 30);
            lap.run(&["fsck"]).ok();
            lap.run(&["rmi", "app"]);
            lap.run(&["prune", "-af"]).ok();
        }
    }
    println!("{full} of 28 builds had no space");
    assert!(full > 5 && full < 28, "{full}");
    lap.run(&["build", "-q", "-t", "app", "ctx"]).ok();
    assert_eq!(lap.sh("app", "wc -c < /copy"), "1048576\n");
    drop(mounted);
}

// F026
#[test]
fn many_commands_at_once_in_one_store_all_get_on() {
    needs!(root);
    needs!("docker-registry");
    let lap = Lap::new();
    let registry = Registry::start();
    let pulled = format!("{}/pulled", registry.address);
    lap.write("ctx/file", "file\n");
    lap.build("app", DOCKERFILE).ok();
    lap.run(&["tag", "app", &pulled]).ok();
    lap.run(&["push", "-q", &pulled]).ok();
    let seconds = std::env::var("LAP_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let end = Instant::now() + Duration::from_secs(seconds);
    let build = |number: usize, round: usize| {
        let file = lap.write(
            &format!("{number}/Dockerfile"),
            format!("{DOCKERFILE}RUN --network=none echo {number} {round} > /n\n"),
        );
        let (dir, name) = (file.parent().unwrap(), format!("app{number}"));
        std::fs::write(dir.join("file"), format!("{number}\n")).unwrap();
        lap.run(&["build", "-q", "-t", &name, dir.to_str().unwrap()]).ok();
        assert_eq!(lap.sh(&name, "cat /copy /n"), format!("{number}\n{number} {round}\n"));
    };
    let counted: Vec<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|number| {
                let (lap, build, pulled) = (&lap, &build, &pulled);
                scope.spawn(move || {
                    let mut round = 0;
                    while round == 0 || Instant::now() < end {
                        match number {
                            0 => drop(lap.run(&["pull", "-q", pulled]).ok()),
                            1 => drop(lap.run(&["run", "--rm", "--network", "none", "busybox", "true"]).ok()),
                            2 => drop(lap.run(&["prune", "-f"]).ok()),
                            3 => drop(lap.run(&["images"]).ok()),
                            _ => build(number, round),
                        }
                        round += 1;
                    }
                    round
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    println!("rounds of pull, run, prune, images and four builds: {counted:?}");
    lap.run(&["fsck", "--deep"]).ok();
}

// F024
#[test]
fn whoever_takes_the_memory_away_leaves_a_whole_store() {
    needs!(root);
    let name = format!("lap-test-{}", std::process::id());
    // The second version's file, and the first one's.
    let places = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
    let groups = places.map(|(root, limit)| (Path::new(root).join(&name), limit));
    let made = |group: &Path, limit| std::fs::create_dir(group).is_ok() && group.join(limit).exists();
    let Some((group, limit)) = groups.iter().find(|(group, limit)| made(group, limit)) else {
        println!("SKIPPED {}: no control group with a memory controller", module_path!());
        groups.iter().for_each(|(group, _)| drop(std::fs::remove_dir(group)));
        return;
    };
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", DOCKERFILE);
    lap.write("ctx/file", vec![7; 4 << 20]);
    let mut killed = 0;
    for kibibytes in [1024, 2048, 4096, 6144, 8192, 12288, 16384, 32768] {
        std::fs::write(group.join(limit), (kibibytes * 1024).to_string()).unwrap();
        let script = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", group.display());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_lap")]).args([
            "build",
            "-q",
            "--no-cache",
            "-t",
            "app",
            "ctx",
        ]);
        command.env("LAP_ROOT", lap.path("store")).env("LAP_RUN_DIR", lap.path("run")).current_dir(lap.path("."));
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        killed += u32::from(!ended.success());
        lap.run(&["fsck"]).ok();
    }
    lap.build("app", DOCKERFILE).ok();
    assert_eq!(lap.sh("app", "wc -c < /copy"), "4194304\n");
    println!("{killed} of 8 were killed");
    assert!(killed > 0);
    wait_for("the control group to be empty", || std::fs::remove_dir(group).is_ok());
    drop(std::fs::remove_dir(&groups[0].0));
}

// F004
#[test]
fn a_push_that_is_killed_leaves_no_tag_without_its_blobs() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    let lap = Lap::new();
    for file in ["a", "b", "c"] {
        lap.write(&format!("ctx/{file}"), format!("{file}\n").repeat(500_000));
    }
    lap.build("app", "FROM busybox\nCOPY a /\nCOPY b /\nCOPY c /\n").ok();
    let registry = Registry::start();
    let rounds = std::env::var("LAP_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12_u64);
    let (mut seed, mut without) = (1_u64, 0);
    for round in 0..rounds {
        let name = format!("{}/app{round}", registry.address);
        lap.run(&["tag", "app", &name]).ok();
        let mut push =
            lap.command().args(["push", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The moment is what is tried.
        std::thread::sleep(Duration::from_millis((seed >> 33) % 60));
        push.kill().unwrap();
        push.wait().unwrap();
        let copy = |to: &str| {
            let place = lap.path(to);
            let args = [
                "copy",
                "-q",
                "--src-tls-verify=false",
                &format!("docker://{name}"),
                &format!("dir:{}", place.display()),
            ];
            run("skopeo", &[&["--insecure-policy"][..], &args].concat())
        };
        let there = copy(&format!("killed{round}"));
        if there.code != 0 {
            assert!(there.err.contains("unknown"), "{}", there.err);
            without += 1;
        }
        lap.run(&["push", "-q", &name]).ok();
        copy(&format!("pushed{round}")).ok();
        for what in ["killed", "pushed"] {
            drop(std::fs::remove_dir_all(lap.path(&format!("{what}{round}"))));
        }
    }
    println!("{without} of {rounds} pushes were killed before their tag was there");
    lap.run(&["fsck"]).ok();
}

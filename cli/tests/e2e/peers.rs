//! The same Dockerfile through buildah, and our image through podman.

use crate::support::{Lap, Said, needs, run};

/// Storage of podman and buildah in a directory of the test.
pub(crate) fn peer(lap: &Lap, program: &str, args: &[&str]) -> Said {
    let (root, runroot) = (lap.path("peer"), lap.path("peer-run"));
    let mut all =
        vec!["--root", root.to_str().unwrap(), "--runroot", runroot.to_str().unwrap(), "--storage-driver", "vfs"];
    all.extend(args);
    run(program, &all)
}

#[test]
fn podman_runs_our_image() {
    needs!(root);
    needs!("podman");
    needs!("runc");
    let lap = Lap::new();
    lap.build("app", "FROM busybox\nRUN echo ours > /f\nENV WHO=podman\nCMD cat /f; echo $WHO\n").ok();
    lap.run(&["save", "-o", "app.tar", "app"]).ok();
    let archive = lap.path("app.tar");
    peer(&lap, "podman", &["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    let said = peer(
        &lap,
        "podman",
        &[
            "--runtime",
            "runc",
            "run",
            "--rm",
            "--network",
            "none",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
            "app",
        ],
    )
    .ok();
    assert_eq!(said.out, "ours\npodman\n");
}

#[test]
fn buildah_makes_the_same_tree_and_config() {
    needs!(root);
    needs!("buildah");
    needs!("skopeo");
    needs!("umoci");
    let lap = Lap::new();
    lap.write("ctx/dir/a.txt", "a");
    lap.write("ctx/dir/b.txt", "b");
    let dockerfile = "FROM localhost/busybox:latest\nENV A=1 B=\"two words\"\nWORKDIR /work\nCOPY dir/ ./\nCOPY --chown=5:6 --chmod=640 dir/a.txt /owned\nRUN echo run > made && rm b.txt\nLABEL x=y\nEXPOSE 80\nUSER 5\nCMD [\"sh\"]\n";
    lap.run(&["tag", "busybox", "localhost/busybox:latest"]).ok();
    lap.build("app", dockerfile).ok();
    lap.run(&["save", "-o", "base.tar", "localhost/busybox:latest"]).ok();
    let base = format!("docker-archive:{}", lap.path("base.tar").display());
    peer(&lap, "buildah", &["pull", "-q", &base]).ok();
    let context = lap.path("ctx");
    peer(
        &lap,
        "buildah",
        &[
            "bud",
            "-q",
            "--runtime",
            "runc",
            "--isolation",
            "chroot",
            "--pull-never",
            "-t",
            "app",
            context.to_str().unwrap(),
        ],
    )
    .ok();
    let theirs = lap.path("theirs");
    peer(&lap, "buildah", &["push", "-q", "app", &format!("oci:{}:latest", theirs.display())]).ok();
    lap.run(&["build", "-q", "-t", "app", "-o", "type=oci,dest=ours,tar=false", "ctx"]).ok();

    let listing = |name: &str| {
        let out = lap.path(&format!("{name}-fs"));
        run(
            "umoci",
            &["raw", "unpack", "--image", &format!("{}:latest", lap.path(name).display()), out.to_str().unwrap()],
        )
        .ok();
        run("sh", &["-c", &format!("cd {} && find . -printf '%P %y %m %U:%G %l\\n' | sort && find . -type f -exec sha256sum {{}} + | sort -k2", out.display())]).ok().out
    };
    let (ours, theirs) = (listing("ours"), listing("theirs"));
    // buildah leaves the places of its mounts behind as empty files; BuildKit and we do not.
    let place = |line: &str| ["etc/hostname", "etc/hosts", "etc/resolv.conf"].iter().any(|place| line.contains(place));
    let only = |these: &str, those: &str| {
        let lines = these.lines().filter(|line| !place(line) && !those.lines().any(|other| other == *line));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(only(&ours, &theirs), none, "only ours");
    assert_eq!(only(&theirs, &ours), none, "only theirs");

    let config = |name: &str| {
        run("skopeo", &["inspect", "--config", &format!("oci:{}:latest", lap.path(name).display())]).ok().json()["config"].clone()
    };
    let (ours, theirs) = (config("ours"), config("theirs"));
    for field in ["Cmd", "WorkingDir", "User", "ExposedPorts"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    assert_eq!(ours["Labels"]["x"], theirs["Labels"]["x"]);
}

//! Kernel 6.1 with control groups of version 2 only, as user-mode Linux: another way to mount overlays, another way
//! to set limits.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::{busybox, needs};

const SCRIPT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LAP_ROOT=/mnt/store LAP_RUN_DIR=/mnt/run HOME=/mnt
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -t tmpfs tmpfs /mnt
for controller in cpu io memory pids; do echo +$controller > /sys/fs/cgroup/cgroup.subtree_control; done
busybox insmod /usr/lib/uml/modules/*/kernel/fs/overlayfs/overlay.ko
lap=@DIR@/lap
$lap import @DIR@/busybox.tar busybox > /dev/null
mkdir /mnt/ctx && cd /mnt/ctx && echo content > f
printf 'FROM busybox\nCOPY f /f\nRUN --network=none rm -r /home && cat /f > /g\n' > Dockerfile
$lap build -q --memory 64m --pids-limit 50 -t app . > /dev/null; echo "build $?"
printf 'FROM busybox\nRUN --network=none cd /sys/fs/cgroup && echo limits $(cat memory.max memory.swap.max cpu.max cpu.weight)\n' > limits
all=memory=48m,memory-swap=64m,cpu-shares=512,cpu-period=50000,cpu-quota=20000
$lap build --progress plain --resource $all -f limits . 2>&1 | grep -o ' limits [0-9].*'
$lap build --progress plain --resource memory=99m -f limits . 2>&1 | grep -o 'CACHED'
$lap build --resource cpuset-cpus=0 -f limits --no-cache . 2>&1 | grep -o 'cannot limit cpuset.*'
$lap run --rm --network none app sh -c 'cat /g; ls -d /home' ; echo "run $?"
$lap run --rm --network none --memory 32m app sh -c 'head -c 100m /dev/zero | tail > /dev/null'; echo "memory $?"
$lap run --rm --network none --pids-limit 5 app sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait'; echo "pids $?"
$lap run -d --name one --network none --cpus 0.5 app sleep 100 > /dev/null
$lap exec one cat /sys/fs/cgroup/cpu.max; echo "exec $?"
$lap rm -f one > /dev/null; echo "rm $?"
echo "left $(find /sys/fs/cgroup -mindepth 2 -type d | wc -l)"
busybox poweroff -f
"#;

#[test]
fn kernel_6_1_with_control_groups_of_version_2() {
    needs!(root);
    needs!("linux.uml");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::copy(env!("CARGO_BIN_EXE_lap"), path("lap")).unwrap();
    std::fs::copy(busybox(), path("busybox.tar")).unwrap();
    std::fs::write(path("init"), SCRIPT.replace("@DIR@", dir.path().to_str().unwrap())).unwrap();
    std::fs::set_permissions(path("init"), PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new("timeout")
        .args([
            "180",
            "linux.uml",
            "mem=1024M",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "con=null",
            "con0=null,fd:1",
            "quiet",
        ])
        .arg(format!("init={}", path("init").display()))
        .arg(format!("uml_dir={}", path("uml").display()))
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let has = |line: &str| said.lines().any(|other| other == line);
    if said.trim().is_empty() {
        println!("SKIPPED old_kernel: user-mode Linux does not start here");
        return;
    }
    let limits = " limits 50331648 16777216 20000 50000 20";
    for line in
        ["build 0", limits, "CACHED", "content", "run 1", "memory 137", "50000 100000", "exec 0", "rm 0", "left 0"]
    {
        assert!(has(line), "{line:?} is missing in:\n{said}");
    }
    assert!(said.contains("out of memory") && said.contains("can't fork"), "{said}");
    assert!(said.contains("cannot limit cpuset: "), "{said}");
}

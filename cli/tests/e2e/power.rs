//! Power cuts: user-mode Linux with a disk of its own is killed while `lap` works in it, which loses everything that
//! was not synced. After each cut the store is clean, what was acknowledged is there, and a build gives the same
//! digest: F008. `LAP_POWER_CUTS` (2) cuts at moments that `LAP_CRASH_SEED` (1) decides.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{busybox, needs, run};

/// Says `boot`, what fsck and a build of everything acknowledged come to, then works until it is cut. An image is
/// acknowledged by a line `made NAME DIGEST` on the console, which the host reads.
const SCRIPT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LAP_ROOT=/mnt/store LAP_RUN_DIR=/run/lap HOME=/mnt SOURCE_DATE_EPOCH=1000000000
# The root is the host's: nothing goes on before what is written to is the guest's own.
set -e
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir /run/ctx
cd /run/ctx
set +e
busybox insmod /usr/lib/uml/modules/*/kernel/fs/overlayfs/overlay.ko
mount -t ext4 /dev/ubda /mnt || echo "no disk"
lap=@DIR@/lap
echo boot
if [ -d /mnt/store ]; then
  $lap fsck --deep > /run/fsck 2>&1; echo "fsck $?"; grep -v ' records, ' /run/fsck | sed 's/^/found /'
  for name in $($lap images --format '{{.Repository}}={{.ID}}' --no-trunc); do echo "has $name"; done
  $lap run --rm --network none busybox cat /etc/passwd > /dev/null 2>&1; echo "run $?"
fi
$lap inspect busybox > /dev/null 2>&1 || $lap import @DIR@/busybox.tar busybox > /dev/null 2>&1
round=@ROUND@
while true; do
  round=$((round+1))
  echo "content $round" > f; head -c 300000 /dev/urandom > g; touch -d @1000000000 f g
  printf "FROM busybox\nCOPY f g /\nRUN --network=none cat /f > /h && touch -d @1000000000 /h\n" > Dockerfile
  id=$($lap build -q --progress plain -t made$round . 2>/run/error) || { echo "failed $(cat /run/error)"; break; }
  echo "made made$round $id"
  $lap save -o /mnt/saved.tar made$round > /dev/null 2>&1
  $lap prune -f > /dev/null 2>&1
  $lap rmi made$round > /dev/null 2>&1 && echo "gone made$round"
  $lap load -q -i /mnt/saved.tar > /dev/null 2>&1 && echo "made made$round $id"
  printf "FROM busybox\nCOPY f /always\nRUN --network=none echo same > /same && touch -d @1000000000 /same\n" > Dockerfile
  echo always > f; touch -d @1000000000 f
  echo "same $($lap build -q --no-cache --progress plain -t same . 2>/dev/null)"
done
busybox poweroff -f
"#;

/// Boots; the console comes line by line.
fn boot(dir: &Path, cut: u64) -> Child {
    let script = SCRIPT.replace("@DIR@", dir.to_str().unwrap()).replace("@ROUND@", &(cut * 1000).to_string());
    std::fs::write(dir.join("init"), script).unwrap();
    std::fs::set_permissions(dir.join("init"), PermissionsExt::from_mode(0o755)).unwrap();
    Command::new("linux.uml")
        .args(["mem=768M", "rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=null,fd:1", "quiet"])
        .arg(format!("ubd0={}", dir.join("disk").display()))
        .arg(format!("init={}", dir.join("init").display()))
        .arg(format!("uml_dir={}", dir.join("uml").display()))
        .arg(format!("umid=cut{cut}"))
        .env("TMPDIR", dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the machine: the process of ours, and those that are its processors.
fn cut_power(child: &mut Child, dir: &Path) {
    child.kill().unwrap();
    child.wait().unwrap();
    let marker = dir.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains("linux.uml") && command.contains(marker) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    needs!(root);
    needs!("linux.uml");
    needs!("mkfs.ext4");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::copy(env!("CARGO_BIN_EXE_lap"), path("lap")).unwrap();
    std::fs::copy(busybox(), path("busybox.tar")).unwrap();
    std::fs::File::create(path("disk")).unwrap().set_len(1 << 30).unwrap();
    run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), path("disk").as_os_str()]).ok();
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (cuts, mut seed) = (number("LAP_POWER_CUTS", 2), number("LAP_CRASH_SEED", 1));
    // Acknowledged images by name, with their IDs.
    let mut made = std::collections::BTreeMap::new();
    let (mut same, mut checked, mut acknowledged) = (None::<String>, 0, 0);
    for cut in 0..=cuts {
        let mut child = boot(dir.path(), cut);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // As many lines as chance decides, then a part of a second more, so that the cut comes amid the work.
        let (mut left, wait) = (3 + (seed >> 33) % 8, Duration::from_millis((seed >> 20) % 400));
        let (mut booted, mut has, mut seen) = (false, Vec::new(), Vec::new());
        for line in lines.by_ref() {
            let line = line.trim_end().to_owned();
            seen.push(line.clone());
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["boot"] => booted = true,
                ["fsck", code] => assert_eq!(*code, "0", "cut {cut}: {seen:#?}"),
                ["found", rest @ ..] => assert_eq!(rest[0], "leftover", "cut {cut}: {line}"),
                ["has", image] => has.push((*image).to_owned()),
                ["run", code] => {
                    assert_eq!(*code, "0", "cut {cut}: {seen:#?}");
                    checked += 1;
                    for (name, id) in &made {
                        let there = has.iter().any(|one| one == &format!("{name}={id}"));
                        assert!(there, "cut {cut}: {name} {id} was acknowledged and is lost: {has:#?}");
                    }
                    acknowledged += made.len();
                }
                ["made", name, id] => drop(made.insert((*name).to_owned(), (*id).to_owned())),
                ["gone", name] => drop(made.remove(*name)),
                ["same", id] => match &same {
                    Some(before) => assert_eq!(before, id, "cut {cut}"),
                    None => same = Some((*id).to_owned()),
                },
                ["failed", ..] => panic!("cut {cut}: {line}"),
                _ => {}
            }
            if matches!(words[0], "made" | "same" | "gone") {
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        if !booted {
            println!("SKIPPED power_cuts: user-mode Linux does not start here: {seen:?}");
            cut_power(&mut child, dir.path());
            return;
        }
        // The moment is what is tried.
        std::thread::sleep(wait);
        cut_power(&mut child, dir.path());
        // What was said before the cut and not read yet was acknowledged too.
        for line in lines {
            match line.trim_end().split(' ').collect::<Vec<_>>().as_slice() {
                ["made", name, id] => drop(made.insert((*name).to_owned(), (*id).to_owned())),
                ["gone", name] => drop(made.remove(*name)),
                _ => {}
            }
        }
    }
    println!("{checked} boots after power cuts: {acknowledged} acknowledged images seen again");
    assert_eq!(checked, cuts);
}

//! Whatever kills `lap`, or lets its calls fail, and wherever: the store is clean, nothing that was acknowledged is
//! lost, and the next build gives the same digest. F001, F002, F005, F007 and F012 of the list of faults.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Lap, Registry, needs, run};

const DOCKERFILE: &str = "\
FROM busybox AS one
RUN --network=none echo one > /one && touch -d @1000000000 /one
FROM busybox
COPY file /file
COPY --from=one /one /one
RUN --network=none cat /one /file > /both && touch -d @1000000000 /both
";
const BUILD: [&str; 8] =
    ["build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1000000000", "-t", "app", "--progress=plain", "ctx"];

/// A `lap` whose store holds `busybox` and `kept`, which must never be lost, the digest of what [`BUILD`] gives, an
/// archive and a registry with `other`.
struct Rig {
    lap: Lap,
    golden: PathBuf,
    app: String,
    kept: String,
    registry: Registry,
}

impl Rig {
    fn new() -> Self {
        let lap = Lap::new();
        lap.write("ctx/file", "file\n");
        lap.write("ctx/Dockerfile", DOCKERFILE);
        let app = lap.run(&BUILD).ok().out;
        let registry = Registry::start();
        let other = format!("{}/other", registry.address);
        lap.run(&["tag", "app", &other]).ok();
        lap.run(&["push", &other]).ok();
        lap.run(&["save", "-o", "other.tar", &other]).ok();
        lap.run(&["rmi", "app", &other]).ok();
        lap.run(&["prune", "-af"]).ok();
        lap.run(&["tag", "busybox", "kept"]).ok();
        let kept = lap.run(&["images", "-q", "--no-trunc", "kept"]).ok().out;
        let golden = lap.path("golden");
        run("cp", &["-a".as_ref(), lap.path("store").as_os_str(), golden.as_os_str()]).ok();
        Self { lap, golden, app, kept, registry }
    }

    fn other(&self) -> String {
        format!("{}/other", self.registry.address)
    }

    /// The store as it was in the beginning.
    fn reset(&self) {
        std::fs::remove_dir_all(self.lap.path("store")).unwrap();
        run("cp", &["-a".as_ref(), self.golden.as_os_str(), self.lap.path("store").as_os_str()]).ok();
    }

    /// What must hold after any death.
    #[track_caller]
    fn is_whole(&self, when: &str) {
        let said = self.lap.run(&["fsck"]);
        assert_eq!(said.code, 0, "{when}: {}{}", said.out, said.err);
        assert_eq!(self.lap.run(&["images", "-q", "--no-trunc", "kept"]).ok().out, self.kept, "{when}");
    }
}

/// Fails each transition of a command, one after the other; `before` prepares the store, `holds` looks at what a
/// success means.
fn walk(rig: &Rig, before: &[&[&str]], args: &[&str], holds: impl Fn(&Lap) -> bool) {
    rig.reset();
    for args in before {
        rig.lap.run(args).ok();
    }
    let ready = rig.lap.path("ready");
    run("cp", &["-a".as_ref(), rig.lap.path("store").as_os_str(), ready.as_os_str()]).ok();
    for effects in [&["kill"][..], &["ENOSPC", "EIO", "EDQUOT"]] {
        for at in 1.. {
            std::fs::remove_dir_all(rig.lap.path("store")).unwrap();
            run("cp", &["-a".as_ref(), ready.as_os_str(), rig.lap.path("store").as_os_str()]).ok();
            let fault = format!("{at}:{}", effects[at % effects.len()]);
            let when = format!("{args:?} {fault}");
            let output = rig.lap.command().args(args).env("LAP_TEST_FAULT", &fault).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let killed = output.status.code().is_none();
            let fired = killed || told.contains("the test fault came");
            rig.is_whole(&when);
            if output.status.success() {
                assert!(holds(&rig.lap), "{when}: {told}");
            } else if !killed {
                assert!(fired && !told.contains("panicked"), "{when}: {told}");
            }
            let again = rig.lap.run(args);
            // What was removed already cannot be removed again.
            assert!(again.code == 0 || args[0] == "rmi", "{when}: {}", again.err);
            assert!(holds(&rig.lap), "{when}");
            if !fired {
                assert!(output.status.success(), "{when}: {told}");
                println!("{args:?}: {} transitions", at - 1);
                assert!(at > 2, "{args:?} has transitions");
                break;
            }
            if args == BUILD {
                assert_eq!(again.out, rig.app, "{when}");
            } else if at % 8 == 1 {
                assert_eq!(rig.lap.run(&BUILD).ok().out, rig.app, "{when}");
            }
        }
    }
    std::fs::remove_dir_all(ready).unwrap();
}

fn has(name: &str) -> impl Fn(&Lap) -> bool {
    move |lap| lap.run(&["inspect", name]).code == 0
}

/// Whether this `lap` can be told to fail.
fn can_fail(test: &str) -> bool {
    if !cfg!(debug_assertions) {
        println!("SKIPPED {test}: only debug builds fail on purpose");
    }
    cfg!(debug_assertions)
}

#[test]
fn any_transition_of_a_build_may_fail() {
    needs!(root);
    needs!("docker-registry");
    if can_fail("any_transition_of_a_build_may_fail") {
        let rig = Rig::new();
        walk(&rig, &[], &BUILD, has("app"));
    }
}

#[test]
fn any_transition_of_tag_rmi_and_prune_may_fail() {
    needs!(root);
    needs!("docker-registry");
    if can_fail("any_transition_of_tag_rmi_and_prune_may_fail") {
        let rig = Rig::new();
        walk(&rig, &[], &["tag", "busybox", "new"], has("new"));
        walk(&rig, &[&BUILD], &["rmi", "app"], |lap| !has("app")(lap));
        walk(&rig, &[&BUILD, &["rmi", "app"]], &["prune", "-af"], |lap| {
            std::fs::read_dir(lap.path("store/layers")).unwrap().count() == 1
        });
    }
}

#[test]
fn any_transition_of_pull_and_load_may_fail() {
    needs!(root);
    needs!("docker-registry");
    if can_fail("any_transition_of_pull_and_load_may_fail") {
        let rig = Rig::new();
        let other = rig.other();
        walk(&rig, &[], &["pull", "-q", &other], has(&other));
        walk(&rig, &[], &["load", "-q", "-i", "other.tar"], has(&other));
    }
}

/// Numbers that are the same in each run with the same seed.
struct Dice(u64);

impl Dice {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        // Knuth's linear congruential generator; the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Mounts of this process that lie below a directory.
fn mounts_below(dir: &Path) -> Vec<String> {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(dir.to_str().unwrap())).map(str::to_owned).collect()
}

/// Processes, but for this one, whose command line or environment names a directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if process != std::process::id() && String::from_utf8_lossy(&environment).contains(dir.to_str().unwrap()) {
            found.push(std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " "));
        }
    }
    found
}

/// `LAP_CRASH_ROUNDS` (25) deaths at moments that `LAP_CRASH_SEED` (1) decides, in one store, one after the other.
#[test]
fn killed_in_random_places_it_loses_nothing() {
    needs!(root);
    needs!("docker-registry");
    let rig = Rig::new();
    let (rounds, mut dice) = (number("LAP_CRASH_ROUNDS", 25), Dice(number("LAP_CRASH_SEED", 1)));
    let other = rig.other();
    let fresh = [&BUILD[..7], &["--no-cache", "ctx"]].concat();
    let bridged = ["run", "--rm", "busybox", "true"];
    let commands: [&[&str]; 7] = [
        &BUILD,
        &fresh,
        &["pull", "-q", &other],
        &["load", "-q", "-i", "other.tar"],
        &["prune", "-af"],
        &bridged,
        &["run", "--rm", "--network", "none", "--memory", "64m", "busybox", "true"],
    ];
    // How long each takes when nobody kills it, so that the moments are spread over all of it.
    let took = commands.map(|args| {
        let began = Instant::now();
        rig.lap.run(args).ok();
        began.elapsed()
    });
    let mut deaths = 0;
    for round in 0..rounds {
        let at = usize::try_from(dice.below(commands.len() as u64)).unwrap();
        let wait = Duration::from_micros(dice.below(u64::try_from(took[at].as_micros()).unwrap().max(1)));
        if dice.below(2) == 0 {
            // Something to do for pulls and builds.
            rig.lap.run(&["rmi", "-f", &other, "app"]);
            rig.lap.run(&["prune", "-af"]).ok();
        }
        let mut child =
            rig.lap.command().args(commands[at]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The moment is what is tried, nothing waits for it to be enough.
        std::thread::sleep(wait);
        child.kill().unwrap();
        let killed = child.wait().unwrap().code().is_none();
        deaths += u64::from(killed);
        let when = format!("round {round}: {:?} after {wait:?}", commands[at]);
        rig.is_whole(&when);
        if round % 5 == 0 {
            assert_eq!(rig.lap.run(&BUILD).ok().out, rig.app, "{when}");
        }
    }
    println!("survived {deaths} deaths in {rounds} rounds");
    assert!(deaths * 4 > rounds, "{deaths} of {rounds} came to death before the end");
    assert_eq!(rig.lap.run(&BUILD).ok().out, rig.app);
    // The next commands clear away what is left.
    rig.lap.run(&bridged).ok();
    let said = rig.lap.run(&["fsck", "--deep"]).ok().out;
    assert!(said.contains(": clean"), "{said}");
    rig.lap.run(&["fsck", "--repair"]).ok();
    assert!(rig.lap.run(&["fsck"]).ok().out.trim_end().ends_with(": clean"));
    assert_eq!(std::fs::read_dir(rig.lap.path("store/tmp")).unwrap().count(), 0);
    assert_eq!(mounts_below(rig.lap.dir.path()), [""; 0]);
    let left = || processes_of(&rig.lap.path("store"));
    crate::support::wait_for("the network to go", || left().is_empty());
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    for name in bridges(&rig.lap.path("run")) {
        assert!(!links.contains(&format!(": {name}:")), "{name} is left:\n{links}");
    }
}

/// The bridges that a run directory's networks have, as their state says.
fn bridges(run: &Path) -> Vec<String> {
    let files = std::fs::read_dir(run).into_iter().flatten().flatten();
    let texts = files.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let states = texts.filter_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    states.filter_map(|state| Some(state["bridge"]["name"].as_str()?.to_owned())).collect()
}

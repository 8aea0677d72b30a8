//! The same inputs make the same image, whenever and wherever it is made.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Lap, needs, run};

const DOCKERFILE: &str = "\
FROM busybox AS build
WORKDIR /work
COPY . .
RUN mkdir out && cat a b > out/ab && touch -d '2001-02-03 04:05:06' out/old
FROM busybox
RUN mkdir /made && echo made > /made/file && chmod 600 /made/file
COPY --from=build /work/out /out
COPY a /a
RUN chmod -R 700 /out
ENV A=b
";

/// The base image, the same for all: an import says when it was made.
fn base() -> &'static Path {
    static BASE: OnceLock<(Lap, PathBuf)> = OnceLock::new();
    let (_, archive) = BASE.get_or_init(|| {
        let lap = Lap::new();
        lap.run(&["save", "-o", "base.tar", "busybox"]).ok();
        let archive = lap.path("base.tar");
        (lap, archive)
    });
    archive
}

/// A store of its own with a context of its own, whose files are of `age` seconds ago.
fn fresh(age: u64) -> Lap {
    let lap = Lap::empty();
    lap.run(&["load", "-i", base().to_str().unwrap()]).ok();
    for name in ["a", "b"] {
        let file = std::fs::File::options().append(true).open(lap.write(&format!("ctx/{name}"), name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    lap.write("ctx/Dockerfile", DOCKERFILE);
    lap.write("ctx/.dockerignore", "Dockerfile\n.dockerignore\n.git\n");
    lap
}

fn digest(lap: &Lap, flags: &[&str]) -> String {
    let mut args = vec!["build", "-q", "-t", "app", "--metadata-file", "metadata.json"];
    args.extend(flags);
    args.push("ctx");
    lap.run(&args).ok();
    let metadata: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lap.path("metadata.json")).unwrap()).unwrap();
    metadata["containerimage.digest"].as_str().unwrap().to_owned()
}

fn git(lap: &Lap, args: &[&str]) {
    let dir = lap.path("ctx");
    let mut all = vec!["-C", dir.to_str().unwrap(), "-c", "user.name=a", "-c", "user.email=a@b"];
    all.extend(args);
    run("git", &all).ok();
}

#[test]
fn two_fresh_stores_give_the_same_digest() {
    needs!(root);
    let epoch = ["--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=1600000000"];
    let (one, two) = (fresh(1), fresh(100));
    let first = digest(&one, &epoch);
    assert_eq!(first, digest(&two, &epoch));

    // Not only the digest: the image that is kept has these times too, and those of the base stay.
    let times = |path: &str| one.sh("app", &format!("stat -c %Y {path}")).trim().to_owned();
    assert_eq!([times("/made/file"), times("/out/ab"), times("/a")], ["1600000000"; 3]);
    assert_eq!(times("/out/old"), "981173106");
    let history = one.run(&["inspect", "app"]).ok().json();
    assert_eq!(history[0]["Created"], "2020-09-13T12:26:40Z");

    // An epoch later than the steps: found in the cache, or made just now, it is the same.
    let later = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 100_000).to_string();
    let later = format!("SOURCE_DATE_EPOCH={later}");
    let flags = ["--reproducible", "--build-arg", &later];
    let three = fresh(50);
    for lap in [&one, &three] {
        for name in ["a", "b"] {
            let file = std::fs::File::options().append(true).open(lap.path(&format!("ctx/{name}"))).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_500_000_000)).unwrap();
        }
    }
    let again = digest(&one, &flags);
    // The layers of the cache keep the times of the files they were made of; what was made by steps does not.
    assert_ne!(again, first);
    assert_eq!(digest(&three, &flags), digest(&three, &[flags.as_slice(), &["--no-cache"]].concat()));
}

#[test]
fn the_epoch_is_that_of_the_commit_or_of_the_newest_file() {
    needs!(root);
    needs!("git");
    let created = |lap: &Lap| lap.run(&["inspect", "app"]).ok().json()[0]["Created"].as_str().unwrap().to_owned();
    let one = fresh(1);
    let newest = std::fs::File::options().append(true).open(one.path("ctx/a")).unwrap();
    newest.set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    let older = std::fs::File::options().append(true).open(one.path("ctx/b")).unwrap();
    older.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    digest(&one, &["--reproducible"]);
    assert_eq!(created(&one), "2023-11-14T22:13:20Z");

    let two = fresh(1);
    for lap in [&one, &two] {
        git(lap, &["init", "-q"]);
        git(lap, &["add", "."]);
        let dir = lap.path("ctx");
        let script = format!(
            "cd {} && GIT_COMMITTER_DATE=1650000000 git -c user.name=a -c user.email=a@b commit -q --date=1 -m m",
            dir.display()
        );
        run("sh", &["-c", &script]).ok();
    }
    for flags in [&["--reproducible"][..], &["--build-arg", "SOURCE_DATE_EPOCH=context"]] {
        digest(&two, flags);
        assert_eq!(created(&two), "2022-04-15T05:20:00Z");
    }
    let archive = ["-o", "type=oci,dest=o.tar,rewrite-timestamp=true"];
    let flags = [&["--build-arg", "SOURCE_DATE_EPOCH=1600000000"][..], &archive].concat();
    assert_eq!(digest(&fresh(9), &flags), digest(&fresh(3), &flags));
}

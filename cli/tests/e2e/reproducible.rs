//! The same inputs make the same image, whenever and wherever it is made.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Lap, needs, run};
use crate::web::{Daemon, Page, Repository, Web};

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

/// The time of the image that these flags give.
fn created(lap: &Lap, flags: &[&str]) -> String {
    lap.run(&[&["build", "-q", "-t", "app"], flags].concat()).ok();
    lap.run(&["inspect", "app"]).ok().json()[0]["Created"].as_str().unwrap_or_default().to_owned()
}

const COMMIT: &str = "2001-02-03T04:05:06Z";
const MODIFIED: &str = "1994-11-06T08:49:37Z";
const NEWEST: &str = "2009-02-13T23:31:30Z";

#[test]
fn the_epoch_is_that_of_what_was_fetched() {
    needs!(root);
    needs!("git");
    let (lap, web) = (fresh(1), Web::start());
    let repository = Repository::new(lap.path("git/r"));
    repository.write("Dockerfile", "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /e\n");
    repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    let git = format!("{}/r", daemon.url);
    let dated = |page: Page| page.header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let script = "mkdir t && printf 'FROM busybox\\nCOPY x /\\n' > t/Dockerfile && echo x > t/x && touch -d @1234567890 t/x \
                  && touch -d @1000000000 t/Dockerfile && tar -czf t.tar.gz -C t .";
    let script = format!("cd {} && {script}", lap.dir.path().display());
    run("sh", &["-c", &script]).ok();
    let archive = std::fs::read(lap.path("t.tar.gz")).unwrap();
    let dockerfile = web.page("/D", dated(Page::new("FROM busybox\nRUN true\n")));
    let undated = web.page("/U", Page::new("FROM busybox\nRUN true\n"));
    let packed = web.page("/t.tar.gz", Page::new(&archive));
    let packed_and_dated = web.page("/d.tar.gz", dated(Page::new(&archive)));

    // The main context.
    let context = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    let main = |place: &str| created(&lap, &[&context[..], &[place]].concat());
    assert_eq!(main(&git), COMMIT);
    assert_eq!(lap.sh("app", "cat /e"), "981173106\n");
    assert_eq!(created(&lap, &["--reproducible", &git]), COMMIT);
    assert_eq!(main(&dockerfile), MODIFIED);
    assert_eq!(main(&packed), NEWEST);
    assert_eq!(main(&packed_and_dated), MODIFIED);
    let now = main(&undated);
    assert!(now.as_str() > "2020", "without a time it is now: {now}");
    lap.run_with(&[&["build", "-q", "-t", "app"], &context[..], &["-"]].concat(), &archive).ok();
    assert_eq!(lap.run(&["inspect", "app"]).ok().json()[0]["Created"], NEWEST);

    // A named context, and a stage that only says where something is from.
    lap.write("files/f", "f");
    let file = std::fs::File::options().append(true).open(lap.path("files/f")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_234_567_890)).unwrap();
    for (place, time) in [
        (git.as_str(), COMMIT),
        (&format!("{git}#main"), COMMIT),
        (&dockerfile, MODIFIED),
        (&packed, NEWEST),
        (&packed_and_dated, MODIFIED),
        ("files", NEWEST),
    ] {
        let named = format!("src={place}");
        let flags = ["--build-arg", "SOURCE_DATE_EPOCH=src", "--build-context", &named, "ctx"];
        assert_eq!(created(&lap, &flags), time, "{place}");
        if place == "files" {
            continue;
        }
        let stage = format!("ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD {place} /\nFROM busybox\nRUN true\n");
        lap.write("ctx/stage", stage);
        assert_eq!(created(&lap, &["-f", "ctx/stage", "ctx"]), time, "{place}");
        assert_eq!(
            created(&lap, &["-f", "ctx/stage", "--build-arg", "SOURCE_DATE_EPOCH=0", "ctx"]),
            "1970-01-01T00:00:00Z"
        );
    }
    let image = ["--build-arg", "SOURCE_DATE_EPOCH=src", "--build-context", "src=docker-image://busybox", "ctx"];
    assert!(created(&lap, &image).as_str() > "2020");
    lap.write("ctx/empty", "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN echo \"<$SOURCE_DATE_EPOCH>\" > /e\n");
    created(&lap, &[&["-f", "ctx/empty"], &image[..]].concat());
    assert_eq!(lap.sh("app", "cat /e"), "<>\n");

    for (stage, words) in [
        ("FROM busybox AS src\nADD https://h/x /\n", "must use FROM scratch"),
        ("FROM scratch AS src\nCOPY a /\n", "unsupported COPY instruction"),
        ("FROM scratch AS src\nADD https://h/x /\nADD https://h/y /\n", "exactly one remote ADD"),
        ("FROM scratch AS src\nADD a /\n", "must be a single HTTP(S) or Git ADD"),
        ("FROM scratch AS other\n", "invalid SOURCE_DATE_EPOCH: src"),
    ] {
        lap.write("ctx/bad", format!("ARG SOURCE_DATE_EPOCH=src\n{stage}FROM busybox\n"));
        let said = lap.run(&["build", "-f", "ctx/bad", "ctx"]).code(1);
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
}

#[test]
fn every_form_of_output_is_the_same_from_two_fresh_stores() {
    needs!(root);
    // Nothing foreign runs.
    let dockerfile = "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\nCOPY a b /w/\n\
                      RUN cat /w/a /w/b > /w/$TARGETARCH && date > /w/date && rm /w/date\n\
                      FROM scratch\nCOPY --from=build /w /w\nCOPY a /x/y/\n";
    let made = [fresh(1), fresh(500)].map(|lap| {
        lap.write("ctx/Dockerfile", dockerfile);
        let forms = ["gzip", "zstd", "uncompressed"].map(|name| [("oci", name), ("docker", name)]).concat();
        let mut sums = Vec::new();
        for (kind, compression) in forms {
            let platforms = if kind == "oci" { "linux/amd64,linux/arm64" } else { "linux/amd64" };
            let name = format!("{kind}-{compression}.tar");
            let output = format!("type={kind},dest={name},compression={compression},rewrite-timestamp=true");
            let flags = ["build", "-q", "--build-arg=SOURCE_DATE_EPOCH=1600000000", "-t", "app", "-o", &output];
            lap.run(&[&flags[..], &["--platform", platforms, "ctx"]].concat()).ok();
            let sum = run("sha256sum", &[lap.path(&name)]).ok().out;
            sums.push((name, sum.split(' ').next().unwrap().to_owned()));
        }
        sums
    });
    assert_eq!(made[0], made[1]);
    let different: std::collections::BTreeSet<_> = made[0].iter().map(|(_, sum)| sum).collect();
    assert_eq!(different.len(), made[0].len(), "{:?}", made[0]);
}

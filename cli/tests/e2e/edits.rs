//! What each of many small edits runs again: here, and with the BuildKit of Docker, by one table.
//!
//! The table stands in docs/cache.md too, row by row.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use crate::cache::steps;
use crate::support::{Lap, Said, busybox, needs, run, wait_for};

const DOCKERFILE: &str = "\
FROM busybox AS tools
ARG TOOL=1
RUN echo tool > /tool; true $TOOL
FROM busybox
ARG UNUSED=1
ENV ONE=1 TWO=2
LABEL version=1
COPY --from=tools /tool /tool
COPY src /src
RUN cat /src/a > /made
RUN wc -c < /made > /size
RUN cat /size > /last
";

/// The steps of [`DOCKERFILE`] in words, by what their text holds. The first that fits counts.
const STEPS: [(&str, &str); 9] = [
    ("echo tool", "tool"),
    ("--from=tools", "copy tool"),
    ("noop", "noop"),
    ("wc -c", "size"),
    ("/last", "last"),
    ("COPY --link", "link"),
    ("/made", "made"),
    ("EOF", "made"),
    ("src", "copy src"),
];

/// What a builder gets.
struct Project {
    dir: PathBuf,
    dockerfile: String,
    flags: Vec<String>,
    /// Of the secret `token`.
    secret: &'static str,
}

impl Project {
    fn new(dir: PathBuf) -> Self {
        let project = Self { dir, dockerfile: DOCKERFILE.to_owned(), flags: Vec::new(), secret: "one" };
        for (name, text) in
            [("src/a", "aaa\n"), ("src/b", "bbb\n"), ("ignored", "1"), (".dockerignore", "ignored\nsrc/*.log\n")]
        {
            project.write(name, text);
        }
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn chmod(&self, name: &str, mode: &str) {
        run("chmod", &[mode, self.dir.join(name).to_str().unwrap()]).ok();
    }

    fn age(&self, name: &str) {
        let path = self.dir.join(name);
        std::fs::File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }

    fn replace(&mut self, from: &str, to: &str) {
        assert!(self.dockerfile.contains(from), "{from:?} in {}", self.dockerfile);
        self.dockerfile = self.dockerfile.replace(from, to);
    }

    fn flag(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }
}

/// Everything after the first stage and `COPY src`.
const RUNS: &[&str] = &["made", "size", "last"];
const SRC: &[&str] = &["copy src", "made", "size", "last"];

struct Edit {
    name: &'static str,
    /// How the project is first.
    before: fn(&mut Project),
    edit: fn(&mut Project),
    lap: &'static [&'static str],
    buildkit: &'static [&'static str],
    /// Whether the BuildKit of Docker 20.10 has what it needs; else the column is what BuildKit's code says.
    measured: bool,
}

const fn edit(
    name: &'static str,
    lap: &'static [&'static str],
    buildkit: &'static [&'static str],
    edit: fn(&mut Project),
) -> Edit {
    Edit { name, before: |_| {}, edit, lap, buildkit, measured: true }
}

const NONE: &[&str] = &[];

const EDITS: &[Edit] = &[
    edit("touch of a file", NONE, NONE, |p| p.age("src/a")),
    edit("a file written again with the same bytes", NONE, NONE, |p| p.write("src/a", "aaa\n")),
    edit("another directory for the context", NONE, NONE, |_| {}),
    edit("a comment and empty lines", NONE, NONE, |p| p.dockerfile.insert_str(0, "# comment\n\n")),
    edit("instructions in lower case, further in", NONE, NONE, |p| p.replace("RUN wc", "  run   wc")),
    edit("name of a stage", NONE, NONE, |p| {
        p.replace("AS tools", "AS made-tools");
        p.replace("--from=tools", "--from=made-tools");
    }),
    edit("number of a stage for its name", NONE, NONE, |p| p.replace("--from=tools", "--from=0")),
    edit("a label", NONE, NONE, |p| p.replace("version=1", "version=2")),
    edit("CMD, EXPOSE, STOPSIGNAL added", NONE, NONE, |p| {
        p.dockerfile.push_str("CMD [\"x\"]\nEXPOSE 80\nSTOPSIGNAL 9\n");
    }),
    edit("an ignored file", NONE, NONE, |p| p.write("ignored", "2")),
    edit("an ignored file in what is copied", NONE, NONE, |p| p.write("src/x.log", "2")),
    edit("a new file beside what is copied", NONE, NONE, |p| p.write("other/file", "2")),
    edit("`COPY ./src/ /src/` for `COPY src /src`", &["copy src"], SRC, |p| {
        p.replace("COPY src /src", "COPY ./src/ /src/");
    }),
    edit("an ARG declared and not given", NONE, NONE, |p| p.replace("ARG UNUSED=1", "ARG UNUSED=1\nARG ANOTHER")),
    edit("the platform, named", NONE, NONE, |p| p.flag(&["--platform", "linux/amd64"])),
    edit("base image under another name", NONE, NONE, |p| p.replace("FROM busybox", "FROM base:renamed")),
    edit("base image with another label", NONE, NONE, |p| p.replace("FROM busybox", "FROM base:labelled")),
    Edit {
        before: |p| p.replace("RUN wc -c", "RUN --mount=type=secret,id=token wc -c"),
        ..edit("value of a secret", NONE, NONE, |p| p.secret = "two")
    },
    Edit {
        before: |p| p.replace("RUN wc -c", "RUN --mount=type=cache,target=/c echo >> /c/x; wc -c"),
        ..edit("content of a cache mount", NONE, NONE, |_| {})
    },
    edit("argument of another stage, same outcome", &["tool"], &["tool"], |p| p.flag(&["--build-arg", "TOOL=2"])),
    edit("argument of the stage that nobody reads", RUNS, RUNS, |p| p.flag(&["--build-arg", "UNUSED=2"])),
    edit("a variable that nobody reads", RUNS, RUNS, |p| p.replace("ONE=1", "ONE=2")),
    edit("order of variables", RUNS, RUNS, |p| p.replace("ONE=1 TWO=2", "TWO=2 ONE=1")),
    edit("content of a file that is copied", SRC, SRC, |p| p.write("src/a", "other\n")),
    edit("chmod of a file that is copied", SRC, SRC, |p| p.chmod("src/b", "600")),
    edit("another name for a file that is copied", SRC, SRC, |p| {
        std::fs::rename(p.dir.join("src/b"), p.dir.join("src/c")).unwrap();
    }),
    edit(
        "order of two COPY",
        &["copy tool", "copy src", "made", "size", "last"],
        &["copy tool", "copy src", "made", "size", "last"],
        |p| {
            p.replace(
                "COPY --from=tools /tool /tool\nCOPY src /src\n",
                "COPY src /src\nCOPY --from=tools /tool /tool\n",
            );
        },
    ),
    edit(
        "another base image",
        &["tool", "copy tool", "copy src", "made", "size", "last"],
        &["tool", "copy tool", "copy src", "made", "size", "last"],
        |p| {
            p.replace("FROM busybox", "FROM base:other");
        },
    ),
    Edit {
        before: |p| {
            "FROM busybox AS tools\nRUN echo tool > /tool; true $TOOL\nFROM busybox\nCOPY --link .dockerignore /l\nRUN cat /l > /last\n".clone_into(&mut p.dockerfile);
        },
        measured: false,
        ..edit("another base image below `COPY --link`", &["last"], &["last"], |p| {
            p.replace("busybox\nCOPY", "base:other\nCOPY");
        })
    },
    edit("spaces within a command", &["made"], RUNS, |p| p.replace("cat /src/a >", "cat  /src/a  >")),
    edit("a command over two lines", &["made"], RUNS, |p| p.replace("cat /src/a >", "cat /src/a \\\n  >")),
    edit("another command with the same outcome", &["made"], RUNS, |p| p.replace("cat /src/a >", "cat < /src/a >")),
    Edit {
        measured: false,
        ..edit("a heredoc for the same command", &["made"], RUNS, |p| {
            p.replace("RUN cat /src/a > /made", "RUN <<EOF\ncat /src/a > /made\nEOF");
        })
    },
    edit("a RUN added that changes nothing", &["noop"], &["noop", "size", "last"], |p| {
        p.replace("RUN wc", "RUN true noop\nRUN wc");
    }),
    Edit {
        // Another text below it, which was not built without it.
        before: |p| p.replace("RUN wc -c <", "RUN true noop\nRUN wc -c 0<"),
        ..edit("a RUN removed that changed nothing", NONE, &["size", "last"], |p| p.replace("RUN true noop\n", ""))
    },
    edit("`--chown=0:0`, as it is anyway", &["copy src"], SRC, |p| p.replace("COPY src", "COPY --chown=0:0 src")),
    edit(
        "base image made anew: other times",
        &["tool", "copy tool", "copy src", "made", "size", "last"],
        &["tool", "copy tool", "copy src", "made", "size", "last"],
        |p| p.replace("FROM busybox", "FROM base:retimed"),
    ),
];

/// What ran, in words and in the order of the Dockerfile.
fn ran(said: &Said) -> Vec<&'static str> {
    let word =
        |label: &String| STEPS.iter().find(|(part, _)| label.contains(part)).unwrap_or_else(|| panic!("{label}")).1;
    let ran: Vec<&str> = steps(said).0.iter().map(word).collect();
    let order = ["tool", "copy tool", "copy src", "made", "noop", "size", "last", "link"];
    order.into_iter().filter(|step| ran.contains(step)).collect()
}

/// Builds the project as it is first, edits it, and builds it again.
fn outcome(edit: &Edit, place: &Path, mut build: impl FnMut(&Project) -> Said) -> Vec<&'static str> {
    let mut first = Project::new(place.join("first"));
    (edit.before)(&mut first);
    build(&first);
    let again = build(&first);
    assert_eq!(ran(&again), NONE, "{}: {}", edit.name, again.err);
    let mut second = Project::new(place.join("second"));
    (edit.before)(&mut second);
    (edit.edit)(&mut second);
    ran(&build(&second))
}

/// The busybox base with other times.
fn retimed(dir: &Path) -> PathBuf {
    let tar = dir.join("retimed.tar");
    let script = format!(
        "mkdir {0}/tree && tar -C {0}/tree -xpf {1} && find {0}/tree -exec touch -hd @1000000000 {{}} + && \
         tar -C {0}/tree --numeric-owner --sort=name -cf {2} .",
        dir.display(),
        busybox().display(),
        tar.display()
    );
    run("/bin/sh", &["-c", &script]).ok();
    tar
}

const LABELLED: &str =
    "FROM busybox\nLABEL x=1\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
const OTHER: &str = "FROM busybox\nRUN echo other > /other\n";

fn words(steps: &[&str]) -> String {
    if steps.is_empty() { "-".to_owned() } else { steps.join(", ") }
}

#[test]
fn each_edit_runs_what_the_table_says_and_never_more_than_buildkit() {
    needs!(root);
    let lap = Lap::new();
    lap.run(&["tag", "busybox", "base:renamed"]).ok();
    lap.build("base:labelled", LABELLED).ok();
    lap.build("base:other", OTHER).ok();
    lap.run(&["import", retimed(lap.dir.path()).to_str().unwrap(), "base:retimed"]).ok();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cache.md");
    let document = std::fs::read_to_string(document).unwrap();
    let (mut wrong, mut less) = (Vec::new(), 0);
    for (number, edit) in EDITS.iter().enumerate() {
        let place = lap.path(&format!("edit{number}"));
        let found = outcome(edit, &place, |project| {
            let file = lap.write("Dockerfile", &project.dockerfile);
            let secret = format!("id=token,src={}", lap.write("token", project.secret).display());
            let mut args = vec!["build", "--progress", "plain", "--secret", &secret, "-f", file.to_str().unwrap()];
            args.extend(project.flags.iter().map(String::as_str));
            args.push(project.dir.to_str().unwrap());
            lap.run(&args).ok()
        });
        if found != edit.lap {
            wrong.push(format!("{}: {found:?}", edit.name));
        }
        assert!(edit.lap.iter().all(|step| edit.buildkit.contains(step)), "more than BuildKit: {}", edit.name);
        less += usize::from(edit.lap.len() < edit.buildkit.len());
        let row = format!("| {} | {} | {} |", edit.name, words(edit.lap), words(edit.buildkit));
        assert!(document.contains(&row), "docs/cache.md lacks: {row}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(less >= 6, "{less}");
}

/// Debian's Docker with its BuildKit, in a directory of the test, without a network.
struct Dockerd {
    child: Child,
    socket: String,
}

impl Dockerd {
    fn start(dir: &Path) -> Self {
        let path = |name: &str| dir.join(name).display().to_string();
        let socket = format!("unix://{}", path("docker.sock"));
        std::fs::write(dir.join("daemon.json"), "{}").unwrap();
        let child = Command::new("dockerd")
            .args(["--config-file", &path("daemon.json"), "--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "-H", &socket, "--bridge=none", "--iptables=false", "--ip6tables=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let docker = Self { child, socket };
        wait_for("dockerd", || docker.said(&["version"], None).code == 0);
        docker
    }

    fn said(&self, args: &[&str], stdin: Option<&Path>) -> Said {
        let mut command = Command::new("docker");
        command.env("DOCKER_BUILDKIT", "1").args(["-H", &self.socket]).args(args);
        command.stdin(stdin.map_or_else(Stdio::null, |path| std::fs::File::open(path).unwrap().into()));
        let output = command.output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // Its children go with it where it is asked to end.
        drop(run("kill", &[self.child.id().to_string()]));
        drop(self.child.wait());
    }
}

#[test]
fn buildkit_runs_what_the_table_says() {
    needs!(root);
    needs!("dockerd");
    let dir = tempfile::tempdir().unwrap();
    let docker = Dockerd::start(dir.path());
    let import = |tar: &Path, name: &str| docker.said(&["import", tar.to_str().unwrap(), name], None).ok();
    import(busybox(), "busybox:latest");
    docker.said(&["tag", "busybox", "base:renamed"], None).ok();
    import(&retimed(dir.path()), "base:retimed");
    for (name, text) in [("base:labelled", LABELLED), ("base:other", OTHER)] {
        let file = dir.path().join("base");
        std::fs::write(&file, text).unwrap();
        docker.said(&["build", "--network", "none", "-t", name, "-"], Some(&file)).ok();
    }
    let mut wrong = Vec::new();
    for (number, edit) in EDITS.iter().enumerate().filter(|(_, edit)| edit.measured) {
        let found = outcome(edit, &dir.path().join(format!("edit{number}")), |project| {
            let (file, secret) = (dir.path().join("Dockerfile"), dir.path().join("token"));
            std::fs::write(&file, &project.dockerfile).unwrap();
            std::fs::write(&secret, project.secret).unwrap();
            let secret = format!("id=token,src={}", secret.display());
            let mut args = vec!["build", "--progress", "plain", "--network", "none", "--secret", &secret];
            args.extend(["-f", file.to_str().unwrap()]);
            args.extend(project.flags.iter().map(String::as_str));
            args.push(project.dir.to_str().unwrap());
            docker.said(&args, None).ok()
        });
        if found != edit.buildkit {
            wrong.push(format!("{}: {found:?}", edit.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

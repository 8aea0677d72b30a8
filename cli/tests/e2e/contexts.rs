//! What comes from elsewhere: `ADD` of URLs and repositories, and build contexts that are no directory.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Lap, Said, needs, run};
use crate::web::{Daemon, Page, Repository, Web};

/// Whether a step whose label holds `text` was carried out rather than taken from the cache.
fn ran(said: &Said, text: &str) -> bool {
    let line = said.err.lines().find(|line| line.contains(text) && line.starts_with('#'));
    let number = line.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("no {text}: {}", said.err));
    !said.err.lines().any(|line| line == format!("{number} CACHED"))
}

/// What a script prints in the directory that an image is written to.
#[track_caller]
fn look(lap: &Lap, image: &str, script: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("root");
    lap.write("look/Dockerfile", format!("FROM {image}\n"));
    lap.run(&["build", "-q", "-o", to.to_str().unwrap(), "look"]).ok();
    let script = format!("cd {} && {script}", to.display());
    run("sh", &["-c", &script]).ok().out
}

#[test]
fn add_of_a_url_keeps_the_time_and_is_asked_for_again_only_by_its_tag() {
    needs!(root);
    let (lap, web) = (Lap::new(), Web::start());
    let page = |text: &str, tag: &str| {
        Page::new(text).header("ETag", tag).header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
    };
    let url = web.page("/dir/file.txt?x=1", page("one", "\"1\""));
    let dockerfile = format!("FROM busybox\nADD {url} /got/\nRUN cat /got/file.txt > /copy\n");
    let first = lap.build("app", &dockerfile).ok();
    assert_eq!(look(&lap, "app", "stat -c '%a %Y %s %u' got/file.txt; cat copy"), "600 784111777 3 0\none");
    web.requests();

    let again = lap.build("app", &dockerfile).ok();
    assert_eq!(first.out, again.out);
    assert!(!ran(&again, "RUN cat"), "{}", again.err);
    let asked = web.requests();
    assert!(asked.len() == 1 && asked[0].contains(&"if-none-match: \"1\"".to_owned()), "{asked:?}");

    // Another tag, the same bytes: nothing below runs.
    web.page("/dir/file.txt?x=1", page("one", "\"2\""));
    assert!(!ran(&lap.build("app", &dockerfile).ok(), "RUN cat"));
    web.page("/dir/file.txt?x=1", page("two", "\"3\""));
    assert!(ran(&lap.build("app", &dockerfile).ok(), "RUN cat"));
    assert_eq!(look(&lap, "app", "cat copy"), "two");
}

#[test]
fn add_of_a_url_with_a_checksum() {
    needs!(root);
    let (lap, web) = (Lap::new(), Web::start());
    let url = web.page("/a", Page::new("abc"));
    let sum = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let right = format!("FROM scratch\nADD --checksum={sum} {url} /a\n");
    lap.build("app", &right).ok();
    web.requests();
    lap.build("app", &right).ok();
    assert!(web.requests().is_empty(), "a known digest needs no question");

    let wrong = format!("FROM scratch\nADD --checksum=sha256:{} {url} /a\n", "0".repeat(64));
    let said = lap.build("app", &wrong).code(1);
    assert!(said.err.contains(sum) && said.err.contains("Dockerfile:2"), "{}", said.err);
}

#[test]
fn redirects_and_answers_that_are_not_followed_or_taken() {
    needs!(root);
    let (lap, web) = (Lap::new(), Web::start());
    let fail = |page: Page, words: &str| {
        let url = web.page("/x", page);
        let said = lap.build("app", &format!("FROM scratch\nADD {url} /x\n")).code(1);
        assert!(said.err.contains(words), "{words}: {}", said.err);
    };
    fail(Page::redirect("file:///etc/passwd"), "neither http nor https");
    fail(Page::redirect("/x"), "too many redirects");
    fail(Page::redirect(""), "redirects");
    fail(Page::redirect("http://169.254.169.254/latest/meta-data"), "into this machine or its link");
    fail(Page::redirect("http://[fe80::1%25eth0]/"), "redirects");
    fail(Page::new("x").header("Content-Length", "99999999999999"), "larger than");
    fail(Page { status: 404, ..Page::default() }, "404");
    let url = web.page("/start", Page::redirect("/end"));
    web.page("/end", Page::new("fine"));
    lap.build("app", &format!("FROM busybox\nADD {url} /x\n")).ok();
    assert_eq!(look(&lap, "app", "cat x"), "fine");
}

#[test]
fn files_that_are_larger_than_they_should_be_leave_nothing() {
    needs!(root);
    needs!("unshare");
    let (lap, web) = (Lap::new(), Web::start());
    // Ten gigabytes are announced, a kilobyte comes, time and again.
    let url = web.page("/short", Page::new([b'x'; 1024]).header("Content-Length", "10737418240"));
    let said = lap.build("app", &format!("FROM busybox\nADD {url} /x\n")).code(1);
    assert!(said.err.contains("1024") && said.err.contains("Dockerfile:2"), "{}", said.err);
    assert!(web.requests().len() > 1);
    let leftovers = || {
        let found = run(
            "find",
            &[lap.path("store").as_os_str(), "-type".as_ref(), "f".as_ref(), "-name".as_ref(), "x".as_ref()],
        );
        found.ok().out
    };
    assert_eq!(leftovers(), "");

    // One that never ends fills a disk: that is told, and the disk is as empty as before.
    let url = web.page("/endless", Page::endless());
    lap.write("ctx/Dockerfile", format!("FROM scratch\nADD {url} /x\n"));
    let store = lap.path("small");
    std::fs::create_dir(&store).unwrap();
    let script = "mount -t tmpfs -o size=24m tmpfs \"$LAP_ROOT\" && \"$0\" build -t app ctx; echo \"code $?\" \
                  && du -sm \"$LAP_ROOT\" && printf 'FROM scratch\\nCOPY Dockerfile /\\n' | \"$0\" build -q -f - ctx";
    let program = lap.command().get_program().to_owned();
    let output = Command::new("unshare")
        .args(["--mount".as_ref(), "sh".as_ref(), "-c".as_ref(), script.as_ref(), program.as_os_str()])
        .current_dir(lap.dir.path())
        .env("LAP_ROOT", &store)
        .env("LAP_RUN_DIR", lap.path("run"))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(err.contains("No space left on device") && err.contains("Dockerfile:2"), "{err}");
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("code 1"), "{out}{err}");
    let used = lines.next().and_then(|line| line.split_whitespace().next()).unwrap().parse::<u64>().unwrap();
    assert!(used < 4, "{used} MiB are left behind");
    assert!(lines.next().is_some_and(|id| id.starts_with("sha256:")), "{out}{err}");
}

#[test]
fn tokens_go_to_their_server_and_nowhere_else() {
    needs!(root);
    let (web, other) = (Web::start(), Web::start());
    let lap = Lap::new();
    lap.write("token", "canary\n");
    let end = other.page("/end", Page::new("fine"));
    let url = web.page("/start", Page::redirect(&end));
    let host = web.url.trim_start_matches("http://");
    let secret = format!("id=HTTP_AUTH_TOKEN_{host},src=token");
    let said = lap.build_with("app", &format!("FROM busybox\nADD {url} /x\n"), &["--secret", &secret]).ok();
    assert!(web.requests()[0].contains(&"authorization: bearer canary".to_owned()));
    assert!(!other.requests()[0].iter().any(|line| line.contains("canary")));
    assert!(!said.err.contains("canary"));
}

#[test]
fn add_of_a_repository_in_all_forms() {
    needs!(root);
    needs!("git");
    let lap = Lap::new();
    let repository = Repository::new(lap.path("git/r.git"));
    repository.write("a.txt", "one");
    repository.write("sub/dir/b.txt", "b");
    repository.write("run.sh", "#!/bin/sh\n");
    repository.write(".gitattributes", "a.txt export-ignore\nrun.sh export-subst\n");
    run("chmod", &["+x".as_ref(), repository.0.join("run.sh").as_os_str()]).ok();
    let first = repository.commit();
    repository.git(&["tag", "-a", "-m", "t", "v1"]);
    repository.git(&["branch", "other"]);
    repository.write("a.txt", "two");
    let second = repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    let url = format!("{}/r.git", daemon.url);

    let list = "cd r; find . -type f | sort | tr '\\n' ' '; cat a.txt; stat -c '%a %Y' a.txt; stat -c %a run.sh sub";
    lap.build("app", &format!("FROM busybox\nADD {url} /r\n")).ok();
    let all = "./.gitattributes ./a.txt ./run.sh ./sub/dir/b.txt ";
    assert_eq!(look(&lap, "app", list), format!("{all}two644 981173106\n755\n755\n"));
    for (rest, want) in [
        ("#v1", "one"),
        ("#other", "one"),
        ("#main", "two"),
        (&format!("#{first}"), "one"),
        (&format!("#{second}"), "two"),
        ("?tag=v1", "one"),
        ("?branch=other", "one"),
        ("?ref=refs/heads/other", "one"),
        (&format!("?ref=main&checksum={}", &second[..10]), "two"),
        (&format!("?checksum={first}"), "one"),
    ] {
        lap.build("app", &format!("FROM busybox\nADD {url}{rest} /r\n")).ok();
        assert_eq!(look(&lap, "app", "cat r/a.txt"), want, "{rest}");
    }
    for rest in ["#main:sub/dir", "?subdir=/sub/dir/"] {
        lap.build("app", &format!("FROM busybox\nADD {url}{rest} /r/\n")).ok();
        assert_eq!(look(&lap, "app", "cd r; find ."), ".\n./b.txt\n", "{rest}");
    }
    for keep in [format!("--keep-git-dir {url}#v1"), format!("{url}?keep-git-dir=1&ref=main")] {
        lap.build("app", &format!("FROM busybox\nADD {keep} /r\n")).ok();
        assert!(look(&lap, "app", "cat r/.git/HEAD; cat r/.git/config; cat r/a.txt").contains(&url), "{keep}");
    }
}

#[test]
fn an_unchanged_repository_is_not_fetched_again() {
    needs!(root);
    needs!("git");
    let lap = Lap::new();
    let repository = Repository::new(lap.path("git/r"));
    repository.write("a", "1");
    let commit = repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    let dockerfile = |rest: &str| format!("FROM busybox\nADD {}/r{rest} /r\nRUN cat /r/a > /out\n", daemon.url);
    let first = lap.build("app", &dockerfile("")).ok();
    let again = lap.build("app", &dockerfile("")).ok();
    assert_eq!(first.out, again.out);
    assert!(!ran(&again, "RUN cat"));
    lap.build("app", &dockerfile(&format!("#{commit}"))).ok();
    repository.write("a", "2");
    repository.commit();
    let changed = lap.build("app", &dockerfile("")).ok();
    assert!(ran(&changed, "RUN cat"));
    let pinned = dockerfile(&format!("#{commit}"));
    drop(daemon);
    lap.build("app", &pinned).ok();
}

#[test]
fn repositories_over_dumb_http_and_with_submodules() {
    needs!(root);
    needs!("git");
    let (lap, web) = (Lap::new(), Web::start());
    let inner = Repository::new(lap.path("inner"));
    inner.write("in.txt", "inner");
    inner.commit();
    let outer = Repository::new(lap.path("outer"));
    outer.write("out.txt", "outer");
    outer.git(&["submodule", "add", "-q", lap.path("inner").to_str().unwrap(), "lib/inner"]);
    outer.git(&["config", "-f", ".gitmodules", "submodule.lib/inner.url", "../inner.git"]);
    outer.commit();
    for name in ["inner", "outer"] {
        let bare = lap.path(&format!("www/{name}.git"));
        let repository = if name == "inner" { &inner } else { &outer };
        repository.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        Repository(bare).git(&["update-server-info"]);
    }
    web.files(&lap.path("www"));
    let url = format!("{}/outer.git", web.url);
    lap.build("app", &format!("FROM busybox\nADD {url} /r\n")).ok();
    assert_eq!(look(&lap, "app", "cat r/out.txt r/lib/inner/in.txt"), "outerinner");
    lap.build("app", &format!("FROM busybox\nADD {url}?submodules=false /r\n")).ok();
    assert_eq!(look(&lap, "app", "ls r/lib/inner"), "");

    let hostile = Repository(lap.path("outer"));
    for bad in ["/etc", "file:///etc", "ext::sh -c 'touch /tmp/canary'", "--upload-pack=x"] {
        hostile.git(&["config", "-f", ".gitmodules", "submodule.lib/inner.url", bad]);
        hostile.commit();
        hostile.git(&["push", "-q", lap.path("www/outer.git").to_str().unwrap(), "main"]);
        Repository(lap.path("www/outer.git")).git(&["update-server-info"]);
        let said = lap.build("app", &format!("FROM busybox\nADD {url} /r\n")).code(1);
        assert!(said.err.contains("is no repository to fetch from"), "{bad}: {}", said.err);
    }
}

#[test]
fn hostile_repository_addresses_are_refused() {
    needs!(root);
    needs!("git");
    let lap = Lap::new();
    let repository = Repository::new(lap.path("git/r.git"));
    repository.write("a", "1");
    std::os::unix::fs::symlink("/etc", lap.path("git/r.git/link")).unwrap();
    repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    let url = format!("{}/r.git", daemon.url);
    let canary = lap.path("canary");
    let command = format!("--upload-pack=touch${{IFS}}{}", canary.display()).replace('$', "\\$");
    for source in [
        format!("{url}#{command}"),
        format!("{url}#-x"),
        format!("{url}?ref=--upload-pack=x"),
        format!("ssh://-oProxyCommand=touch\\${{IFS}}{}/x", canary.display()),
        format!("{url}#main:../../etc"),
        format!("{url}#main:link"),
        format!("{url}?subdir=%2e%2e/%2e%2e"),
        format!("{url}#main:.git"),
        format!("{url}#a..b"),
        format!("{url}#none"),
        format!("{url}?ref=main&checksum=0000000000"),
    ] {
        let said = lap.build("app", &format!("FROM busybox\nADD {source} /r\n")).code(1);
        assert!(said.err.contains("Dockerfile:2"), "{source}: {}", said.err);
        assert!(!canary.exists(), "{source}");
    }
    // These are paths of the context, which is empty, and no repositories.
    for source in [format!("file://{}", repository.0.display()), "ext::sh".to_owned()] {
        lap.build("app", &format!("FROM busybox\nADD {source} /r\n")).code(1);
    }
}

/// A tar of these files, and of whatever else `more` puts in.
fn tar(files: &[(&str, &str)], more: impl FnOnce(&Path)) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    more(dir.path());
    let out = Command::new("tar").args(["-cf", "-", "-C"]).arg(dir.path()).arg(".").output().unwrap();
    assert!(out.status.success());
    out.stdout
}

/// What a program makes of these bytes.
fn filter(program: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

const FILES: [(&str, &str); 4] = [
    ("Dockerfile", "FROM busybox\nCOPY . /ctx/\n"),
    ("other/D", "FROM busybox\nCOPY a /other\n"),
    ("a", "content"),
    (".dockerignore", "other\n"),
];

#[test]
fn a_context_on_standard_input_is_a_tar_in_any_compression_or_a_dockerfile() {
    needs!(root);
    let lap = Lap::new();
    let plain = tar(&FILES, |_| {});
    let list = "cd ctx && find . | sort | tr '\\n' ' '";
    let files = ". ./.dockerignore ./Dockerfile ./a ";
    lap.run_with(&["build", "-t", "app", "-"], &plain).ok();
    assert_eq!(look(&lap, "app", list), files);
    let first = lap.config("app");
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        if !crate::support::has("contexts", program) {
            continue;
        }
        lap.run_with(&["build", "-t", "app", "-"], &filter(program, &plain)).ok();
        assert_eq!(look(&lap, "app", list), files, "{program}");
    }
    assert_eq!(first, lap.config("app"));
    lap.run_with(&["build", "-t", "app", "-f", "other/D", "-"], &plain).ok();
    assert_eq!(look(&lap, "app", "cat other"), "content");

    lap.run_with(&["build", "-t", "app", "-"], b"FROM busybox\nCOPY . /ctx\n").ok();
    assert_eq!(look(&lap, "app", "cd ctx && find ."), ".\n");
    lap.write("ctx/a", "local");
    lap.run_with(&["build", "-t", "app", "-f", "-", "ctx"], b"FROM busybox\nCOPY a /b\n").ok();
    assert_eq!(look(&lap, "app", "cat b"), "local");

    for (args, words) in
        [(&["build", "-f", "-", "-"][..], "cannot be both"), (&["build", "-f", "x", "-"][..], "name a Dockerfile")]
    {
        let said = lap.run_with(args, b"FROM busybox\n").code(1);
        assert!(said.err.contains(words), "{}", said.err);
    }
    let said = lap.run_with(&["build", "-"], b"").code(1);
    assert!(said.err.contains("is empty"), "{}", said.err);
    let said = lap.run_with(&["build", "-"], &plain[..plain.len() / 2 + 100]);
    assert_ne!(said.code, 0);
    let said = lap.run_with(&["build", "-f", "none", "-"], &plain).code(1);
    assert!(said.err.contains("has no none"), "{}", said.err);
}

#[test]
fn links_of_an_unpacked_context_lead_nowhere_else() {
    needs!(root);
    let lap = Lap::new();
    let secret = lap.write("secret", "FROM busybox\nLABEL canary=1\n");
    let link = |name: &'static str| {
        let secret = secret.clone();
        move |dir: &Path| std::os::unix::fs::symlink(secret, dir.join(name)).unwrap()
    };
    let said = lap.run_with(&["build", "-"], &tar(&[("x", "")], link("Dockerfile"))).code(1);
    assert!(said.err.contains("has no Dockerfile"), "{}", said.err);
    let said =
        lap.run_with(&["build", "-t", "app", "-"], &tar(&[("Dockerfile", "FROM busybox\nCOPY a /a\n")], link("a")));
    assert!(!said.err.contains("canary"), "{}", said.err);
    let device = |dir: &Path| drop(run("mknod", &[dir.join("null").to_str().unwrap(), "c", "1", "3"]).ok());
    let said = lap.run_with(&["build", "-"], &tar(&FILES, device)).code(1);
    assert!(said.err.contains("null in it is a device"), "{}", said.err);
    let said = lap.run_with(&["build", "-f", "../../../../../../etc/hostname", "-"], &tar(&FILES, |_| {})).code(1);
    assert!(said.err.contains("build context"), "{}", said.err);
}

#[test]
fn a_context_of_a_web_server_is_an_archive_or_a_dockerfile() {
    needs!(root);
    let (lap, web) = (Lap::new(), Web::start());
    let url = web.page("/c.tar.gz", Page::new(filter("gzip", &tar(&FILES, |_| {}))));
    lap.run(&["build", "-t", "app", &url]).ok();
    assert_eq!(look(&lap, "app", "cat ctx/a; test -e ctx/other || echo -n ' ignored'"), "content ignored");
    let file = web.page("/D?x", Page::new("FROM busybox\nCOPY . /ctx/\n"));
    lap.run(&["build", "-t", "app", &file]).ok();
    assert_eq!(look(&lap, "app", "ls ctx"), "Dockerfile\n");
    lap.write("ctx/a", "local");
    lap.run(&["build", "-t", "app", "-f", &file, "ctx"]).ok();
    assert_eq!(look(&lap, "app", "cat ctx/a"), "local");
    let gone = format!("{}/gone", web.url);
    let said = lap.run(&["build", &gone]).code(1);
    assert!(said.err.contains("404"), "{}", said.err);
}

#[test]
fn a_context_that_is_a_repository() {
    needs!(root);
    needs!("git");
    let lap = Lap::new();
    let repository = Repository::new(lap.path("git/r"));
    for (name, text) in FILES {
        repository.write(name, text);
    }
    repository.write("sub/Dockerfile", "FROM busybox\nCOPY . /sub/\n");
    repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    let url = format!("{}/r", daemon.url);
    lap.run(&["build", "-t", "app", &url]).ok();
    assert_eq!(look(&lap, "app", "ls -A ctx | tr '\\n' ' '"), ".dockerignore Dockerfile a sub ");
    lap.run(&["build", "-t", "app", &format!("{url}#main:sub")]).ok();
    assert_eq!(look(&lap, "app", "ls sub"), "Dockerfile\n");
    lap.run(&["build", "-t", "app", "-f", "other/D", &url]).ok();
    assert_eq!(look(&lap, "app", "cat other"), "content");
    lap.run(&["build", "-t", "app", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url]).ok();
    assert_eq!(look(&lap, "app", "ls -d ctx/.git"), "ctx/.git\n");
    for bad in [format!("{url}#--upload-pack=x"), format!("{url}#main:../.."), "ssh://-oProxyCommand=x/r".to_owned()] {
        assert_ne!(lap.run(&["build", &bad]).code, 0, "{bad}");
    }
}

#[test]
fn named_contexts_of_every_kind() {
    needs!(root);
    needs!("git");
    let (lap, web) = (Lap::new(), Web::start());
    let repository = Repository::new(lap.path("git/r"));
    repository.write("g", "git");
    repository.commit();
    let daemon = Daemon::start(&lap.path("git"));
    lap.write("dir/d", "dir");
    let file = web.page("/f.txt", Page::new("http"));
    let layout = lap.path("layout");
    lap.write("base/Dockerfile", "FROM busybox\nLABEL from=layout\nRUN echo -n layout > /l\n");
    let output = format!("type=oci,dest={},tar=false", layout.display());
    lap.run(&["build", "-t", "made:v1", "-o", &output, "base"]).ok();
    let dockerfile = "FROM base\nCOPY --from=d d /\nCOPY --from=g g /\nCOPY --from=h context /f.txt\n";
    lap.write("ctx/Dockerfile", dockerfile);
    let named = [
        format!("base=oci-layout://{}", layout.display()),
        "d=dir".to_owned(),
        format!("g={}/r", daemon.url),
        format!("h={file}"),
    ];
    let mut args = vec!["build", "-t", "app"];
    args.extend(named.iter().flat_map(|named| ["--build-context", named]));
    args.push("ctx");
    lap.run(&args).ok();
    assert_eq!(look(&lap, "app", "cat l d g f.txt"), "layoutdirgithttp");
    assert_eq!(lap.config("app")["Labels"]["from"], "layout");
    for tail in [":v1", ""] {
        let base = format!("base=oci-layout://{}{tail}", layout.display());
        lap.write("ctx/Dockerfile", "FROM base\n");
        lap.run(&["build", "--build-context", &base, "ctx"]).ok();
    }
    for bad in ["x=oci-layout:///nowhere", "x=ftp://h/y", "x=nowhere", "x", "x=git://h/r#--y"] {
        assert_ne!(lap.run(&["build", "--build-context", bad, "ctx"]).code, 0, "{bad}");
    }
}

#[test]
fn logins_of_repositories_go_nowhere_else_and_are_not_kept() {
    needs!(root);
    needs!("git");
    let (lap, web, other) = (Lap::new(), Web::start(), Web::start());
    let repository = Repository::new(lap.path("r"));
    repository.write("a", "1");
    repository.commit();
    repository.git(&["clone", "-q", "--bare", ".", lap.path("www/r.git").to_str().unwrap()]);
    Repository(lap.path("www/r.git")).git(&["update-server-info"]);
    for server in [&web, &other] {
        server.files(&lap.path("www"));
    }
    lap.write("token", "canary");
    let flags = ["--secret", "id=GIT_AUTH_TOKEN,src=token"];
    let basic = "authorization: basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5".to_ascii_lowercase();
    let dockerfile = |url: &str| format!("FROM busybox\nADD {url} /r\n");

    lap.build_with("app", &dockerfile(&format!("{}/r.git", web.url)), &flags).ok();
    assert!(web.requests().iter().all(|request| request.contains(&basic)));

    // A server that sends elsewhere gets nothing more, and neither does the other.
    let info = "/moved.git/info/refs?service=git-upload-pack";
    web.page(info, Page::redirect(&format!("{}/r.git/info/refs?service=git-upload-pack", other.url)));
    let moved = dockerfile(&format!("{}/moved.git", web.url));
    lap.build_with("app", &moved, &flags).code(1);
    assert!(other.requests().is_empty());
    lap.build("app", &moved).ok();
    assert!(!other.requests().is_empty());

    // A login in the address is used, and told to nobody.
    let address = web.url.replace("http://", "http://user:canary@");
    let said = lap.build("app", &dockerfile(&format!("--keep-git-dir {address}/r.git?ref=main"))).ok();
    assert!(!said.err.contains("canary") || said.err.contains("ADD --keep-git-dir"), "{}", said.err);
    let out = look(&lap, "app", "cat r/.git/config");
    assert!(out.contains("/r.git") && !out.contains("canary"), "{out}");
    let said = lap.build("app", &dockerfile(&format!("{address}/none.git#x"))).code(1);
    let told = said.err.lines().filter(|line| !line.contains("ADD"));
    assert!(told.clone().all(|line| !line.contains("canary")), "{}", said.err);
    let kept = run("grep", &["-rlI", "canary", lap.path("store/caches").to_str().unwrap()]);
    assert_eq!(kept.out, "");
}

#[test]
fn what_is_added_takes_the_flags_of_add() {
    needs!(root);
    let (lap, web) = (Lap::new(), Web::start());
    let archive = web.page("/a.tar", Page::new(tar(&[("in/x", "packed")], |_| {})));
    let one = web.page("/one", Page::new("1"));
    lap.write("ctx/local", "l");
    let lines = [
        format!("ADD --unpack=true {archive} /unpacked/"),
        format!("ADD {archive} /plain/"),
        format!("ADD --chmod=751 --chown=5:6 {one} /file"),
        format!("ADD {one} local {archive} /many/"),
        format!("ADD --link {one} /linked/"),
    ];
    lap.build("app", &format!("FROM busybox\n{}\n", lines.join("\n"))).ok();
    let found = look(
        &lap,
        "app",
        "cat unpacked/in/x; ls plain; stat -c '%a %u %g' file; ls many | tr '\\n' ' '; cat linked/one",
    );
    assert_eq!(found, "packeda.tar\n751 5 6\na.tar local one 1");
}

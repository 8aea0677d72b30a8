//! Why steps ran, and what is kept of builds.

use serde_json::Value;

use crate::support::{Lap, has, needs, run};

const DOCKERFILE: &str = "\
FROM busybox
ARG VERSION=1
ARG API_TOKEN=none
COPY src /src
RUN echo $VERSION > /version; echo made
RUN cat /src/a /version > /both
";

/// What `lap why` says, as JSON: the steps by the first words of their names.
fn why(lap: &Lap) -> Vec<(String, Value)> {
    let said = lap.run(&["why", "--format", "json"]).ok().json();
    let steps = said["steps"].as_array().unwrap().clone();
    steps.into_iter().map(|step| (step["step"].as_str().unwrap().to_owned(), step)).collect()
}

/// The reason of the step whose name holds this.
fn reason(lap: &Lap, step: &str) -> Value {
    let steps = why(lap);
    let found = steps.iter().find(|(name, _)| name.contains(step));
    found.unwrap_or_else(|| panic!("no {step} in {steps:?}")).1.clone()
}

fn lap() -> Lap {
    let lap = Lap::new();
    lap.write("ctx/src/a", "a1");
    lap.write("ctx/src/b", "b1");
    lap
}

#[test]
fn a_miss_names_the_file_the_variable_or_the_text_that_changed() {
    needs!(root);
    let lap = lap();
    lap.build("app", DOCKERFILE).ok();
    assert_eq!(reason(&lap, "COPY")["why"]["reason"], "never");
    lap.build("app", DOCKERFILE).ok();
    let hit = reason(&lap, "RUN echo");
    assert_eq!(hit["outcome"], "cached");
    assert!(hit["recorded"].as_u64().unwrap() > 1_600_000_000, "{hit}");
    assert_eq!(hit["build"].as_str().unwrap().len(), 24, "the build that made it: {hit}");

    lap.write("ctx/src/b", "b2");
    lap.write("ctx/src/c", "c1");
    let said = lap.build("app", DOCKERFILE).ok();
    assert!(said.err.contains("runs: src/b changed ("), "{}", said.err);
    let copy = reason(&lap, "COPY")["why"]["differences"].clone();
    assert_eq!((&copy[0]["file"], &copy[0]["change"]), (&"src/b".into(), &"content".into()), "{copy}");
    assert!(copy[0]["before"] != copy[0]["after"] && copy[0]["before"].is_string(), "{copy}");
    assert_eq!((&copy[1]["file"], &copy[1]["change"]), (&"src/c".into(), &"added".into()), "{copy}");
    let after = reason(&lap, "RUN echo")["why"]["differences"].clone();
    assert!(after[0]["step"].as_str().unwrap().contains("COPY src /src"), "{after}");

    let said = lap.build_with("app", DOCKERFILE, &["--build-arg", "VERSION=2"]).ok();
    assert!(said.err.contains("runs: VERSION changed: 1 -> 2"), "{}", said.err);
    assert_eq!(reason(&lap, "COPY")["outcome"], "cached");

    let canary = "canary-5f1c";
    lap.build_with("app", DOCKERFILE, &["--build-arg", "VERSION=2", "--build-arg", "API_TOKEN=canary-5f1c"]).ok();
    let token = reason(&lap, "RUN echo")["why"]["differences"].to_string();
    assert!(token.contains("API_TOKEN") && token.contains("***") && !token.contains(canary), "{token}");
    assert!(!lap.run(&["why"]).ok().out.contains(canary), "values of secrets are never told");

    let text = DOCKERFILE.replace("cat /src/a /version", "cat /version /src/a");
    let flags = ["--build-arg", "VERSION=2", "--build-arg", "API_TOKEN=canary-5f1c"];
    lap.build_with("app", &text, &flags).ok();
    let told = lap.run(&["why", "cat"]).ok().out;
    assert!(
        told.contains("ran: its text changed:") && told.contains("- cat /src/a") && told.contains("+ cat /version"),
        "{told}"
    );
    assert_eq!(told.matches("cached").count(), 1, "one step was asked for: {told}");
    assert!(lap.run(&["why", "nothing-like-it"]).code(1).err.contains("no step"), "refused");
}

#[test]
fn a_miss_names_what_else_made_it() {
    needs!(root);
    let lap = lap();
    let text = "FROM busybox\nRUN --network=none echo one > /one\n";
    lap.build("app", text).ok();
    lap.build_with("app", text, &["--no-cache"]).ok();
    assert_eq!(reason(&lap, "RUN")["why"]["reason"], "no_cache");
    lap.run(&["rmi", "app"]).ok();
    lap.run(&["builder", "prune", "-f"]).ok();
    lap.build("app", text).ok();
    assert_eq!(reason(&lap, "RUN")["why"]["reason"], "pruned");
    lap.build("base", "FROM busybox\nRUN echo other > /other\n").ok();
    lap.run(&["tag", "base", "busybox"]).ok();
    lap.build("app", text).ok();
    let base = reason(&lap, "RUN --network")["why"]["differences"][0].clone();
    assert_eq!(base["image"], "docker.io/library/busybox:latest", "{base}");

    let failing = "FROM busybox\nRUN echo before; false\nRUN echo after\n";
    lap.build("app", failing).code(1);
    lap.build("app", failing).code(1);
    assert_eq!(reason(&lap, "false")["why"]["reason"], "failed");
    let cured = lap.build("app", &failing.replace("false", "true")).ok();
    assert!(cured.err.contains("runs: its text changed"), "{}", cured.err);
}

#[test]
fn builds_are_kept_listed_shown_replayed_and_removed() {
    needs!(root);
    let lap = lap();
    assert!(lap.run(&["why"]).code(1).err.contains("no build was recorded yet"), "an empty store");
    let long = "x".repeat(100);
    lap.build("app", &format!("{DOCKERFILE}RUN for n in $(seq 20000); do echo {long}; done; echo the end\n")).ok();
    lap.build("other", "FROM busybox\nRUN echo oh no; exit 3\n").code(1);
    let listed = lap.run(&["history", "build", "ls"]).ok().out;
    assert!(listed.starts_with("BUILD ID"), "{listed}");
    let line = |name: &str| listed.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("app").contains("Completed") && line("other").contains("Error"), "{listed}");
    let ids = lap.run(&["history", "build", "ls", "-q"]).ok().out;
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 2, "newest first");
    let shown = lap.run(&["history", "build", "show", ids[0]]).ok().out;
    assert!(shown.contains("Status:      Error") && shown.contains("ERROR  [2/2] RUN echo oh no"), "{shown}");
    // All of it: 2 MB, which BuildKit would have cut.
    let logs = lap.run(&["history", "build", "logs", ids[1]]).ok().out;
    assert_eq!(logs.matches(&long).count(), 20_000);
    assert!(logs.trim_end().ends_with("the end"), "to the last line");
    let replayed = lap.run(&["history", "build", "replay", "--progress", "plain", ids[0]]).ok().err;
    assert!(replayed.contains("[2/2] RUN echo oh no; exit 3") && replayed.contains("ERROR: "), "{replayed}");
    assert!(replayed.contains(" oh no\n"), "{replayed}");

    lap.run(&["history", "build", "rm", ids[0]]).ok();
    assert_eq!(lap.run(&["history", "build", "ls", "-q"]).ok().out.trim(), ids[1]);
    // An image may be called build.
    lap.run(&["tag", "busybox", "build"]).ok();
    assert!(lap.run(&["history", "build"]).ok().out.starts_with("IMAGE"), "the history of an image");
}

#[test]
fn a_build_becomes_a_page_that_a_browser_shows() {
    needs!(root);
    let lap = lap();
    lap.build("app<script>", DOCKERFILE).code(1);
    lap.build("app", DOCKERFILE).ok();
    lap.write("ctx/src/a", "a2");
    lap.build("app", &format!("{DOCKERFILE}RUN echo '<script>document.title=1</script>'; exit 4\n")).code(1);
    let page = lap.path("page.html");
    let said = lap.run(&["history", "build", "open", "-o", page.to_str().unwrap()]).ok();
    assert_eq!(said.out.trim(), page.to_str().unwrap());
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(!text.contains("<script") && !text.contains("http://") && !text.contains("https://"), "self-contained");
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| has("page", name));
    let Some(chromium) = chromium else { return };
    let data = lap.path("chromium");
    let seen = run(
        chromium,
        &[
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", data.display()),
            "--dump-dom",
            &format!("file://{}", page.display()),
        ],
    )
    .ok()
    .out;
    assert!(seen.contains("<title>Build of app:latest</title>"), "{seen}");
    for part in ["svg class=\"timeline\"", "svg class=\"graph\"", "critical path", "src/a changed", "class=\"log\""] {
        assert!(seen.contains(part), "{part} is missing in {seen}");
    }
    assert_eq!(seen.matches("<details").count(), seen.matches("</details>").count());
    assert!(seen.contains("&lt;script&gt;document.title=1"), "what steps put out stays text: {seen}");
}

/// Every file below a directory of the store that is written down for later, apart from what steps made.
fn written_down(lap: &Lap) -> String {
    let mut text = String::new();
    let mut directories = vec![lap.path("store")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !["layers", "blobs"].iter().any(|name| path.ends_with(name)) {
                directories.push(path);
            } else if path.is_file() {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            }
        }
    }
    text
}

#[test]
fn a_secret_that_counts_runs_its_step_again_and_is_told_by_name_alone() {
    needs!(root);
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().display();
    let lap = lap();
    for mount in ["id=npm,cache=hash", "id=npm,env=NPM,cache=hash"] {
        let dockerfile = format!("FROM busybox\nRUN --mount=type=secret,{mount} echo {} > /n\n", mount.len());
        let mut said = String::new();
        let mut build = |lap: &Lap, value: &str, more: &[&str]| {
            let secret = lap.write("npm", value);
            let secret = format!("id=npm,src={}", secret.display());
            let to = format!("type=local,dest={place},mode=max,compression=uncompressed");
            let flags = [&["--secret", secret.as_str(), "--cache-to", to.as_str()], more].concat();
            let built = lap.build_with("app", &dockerfile, &flags).ok();
            let ran = crate::cache::steps(&built).0.len();
            said.push_str(&built.err);
            said.push_str(&lap.run(&["why", "--format", "json"]).ok().out);
            ran
        };
        assert_eq!(build(&lap, "s3cr3t-one", &[]), 1);
        assert_eq!(build(&lap, "s3cr3t-one", &[]), 0, "the same value");
        assert_eq!(build(&lap, "s3cr3t-two", &[]), 1, "another one");
        let why = reason(&lap, "RUN")["why"]["differences"].clone();
        assert_eq!(why, serde_json::json!([{"changed": "secret", "name": "npm"}]));
        assert_eq!(build(&lap, "s3cr3t-one", &[]), 0, "the first one again");
        // What stands for it is of this store: elsewhere it finds nothing.
        let elsewhere = Lap::new();
        let from = format!("type=local,src={place}");
        assert_eq!(build(&elsewhere, "s3cr3t-one", &["--cache-from", &from]), 1);

        assert!(said.contains("the secret npm changed"), "{said}");
        said.push_str(&written_down(&lap));
        let mut exported = vec![shared.path().to_owned()];
        while let Some(path) = exported.pop() {
            if path.is_dir() {
                exported.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                said.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
            }
        }
        for value in ["s3cr3t-one", "s3cr3t-two"] {
            let hash = |program: &str| run("/bin/sh", &["-c", &format!("printf %s {value} | {program}")]).ok().out;
            assert!(!said.contains(value) && !said.contains(&hash("sha256sum")[..64]), "{said}");
        }
    }
    let plain = "FROM busybox\nRUN --mount=type=secret,id=npm true > /plain\n";
    for (value, ran) in [("s3cr3t-one", 1), ("s3cr3t-two", 0)] {
        let secret = format!("id=npm,src={}", lap.write("npm", value).display());
        let said = lap.build_with("app", plain, &["--secret", &secret]).ok();
        assert_eq!(crate::cache::steps(&said).0.len(), ran, "as BuildKit: {}", said.err);
    }
}

#[test]
fn arguments_that_are_credentials_are_not_written_down() {
    needs!(root);
    let lap = lap();
    let dockerfile = "FROM busybox\nARG API_TOKEN\nARG URL\nARG V\nRUN echo made > /made\n";
    let build = |token: &str| {
        let token = format!("API_TOKEN={token}");
        let url = "URL=https://me:hunter-of-the-url@example.com/";
        let flags = ["--build-arg", &token, "--build-arg", url, "--build-arg", "V=visible"];
        lap.build_with("app", dockerfile, &flags).ok()
    };
    build("hunter-one");
    build("hunter-two");
    let differences = reason(&lap, "RUN")["why"]["differences"].clone();
    let changed = serde_json::json!([{"changed": "variable", "name": "API_TOKEN", "before": "***", "after": "***"}]);
    assert_eq!(differences, changed);
    let text = written_down(&lap);
    assert!(text.contains("V=visible") && !text.contains("hunter"), "{text}");
}

//! What runs again, and what does not.

use crate::support::{Lap, Said, needs};

/// Labels of the steps that ran, and of those that were cached, from plain progress.
pub(crate) fn steps(said: &Said) -> (Vec<String>, Vec<String>) {
    let label = |number: &str| {
        let prefix = format!("{number} [");
        said.err.lines().find(|line| line.starts_with(&prefix)).map(|line| line[number.len() + 1..].to_owned())
    };
    let (mut ran, mut cached) = (Vec::new(), Vec::new());
    for line in said.err.lines() {
        if let Some((number, rest)) = line.split_once(' ')
            && number.starts_with('#')
            && let Some(label) = label(number)
        {
            if rest == "CACHED" {
                cached.push(label);
            } else if rest.starts_with("DONE")
                && (label.contains("] RUN") || label.contains("] COPY") || label.contains("] ADD"))
            {
                ran.push(label);
            }
        }
    }
    (ran, cached)
}

const DOCKERFILE: &str = "\
FROM busybox AS one
COPY a /a
RUN cat /a > /one
FROM busybox AS two
COPY b /b
RUN cat /b > /two
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
RUN cat /one /two > /both
";

#[test]
fn a_second_build_runs_nothing_and_a_change_only_what_depends_on_it() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/a", "a1");
    lap.write("ctx/b", "b1");
    let id = |said: &Said| said.out.clone();
    let first = lap.build("app", DOCKERFILE).ok();
    assert_eq!(steps(&first).0.len(), 7, "{}", first.err);

    let again = lap.build("app", DOCKERFILE).ok();
    assert_eq!(steps(&again).0, [""; 0], "{}", again.err);
    assert_eq!(id(&first), id(&again));

    lap.write("ctx/b", "b2");
    let changed = lap.build("app", DOCKERFILE).ok();
    let (ran, cached) = steps(&changed);
    assert_eq!(ran.len(), 4, "COPY b, cat /b, COPY two, cat both: {ran:?}");
    assert_eq!(cached.len(), 3, "{cached:?}");
    assert_eq!(lap.sh("app", "cat /both"), "a1b2");
}

#[test]
fn a_touch_a_comment_and_an_unrelated_file_change_nothing() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/a", "a1");
    lap.write("ctx/b", "b1");
    let first = lap.build("app", DOCKERFILE).ok();
    lap.write("ctx/unrelated", "x");
    let file = std::fs::File::options().append(true).open(lap.path("ctx/a")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    let again = lap.build("app", &format!("# a comment\n{DOCKERFILE}")).ok();
    assert_eq!(steps(&again).0, [""; 0], "{}", again.err);
    assert_eq!(first.out, again.out);
}

#[test]
fn the_same_output_after_another_input_leaves_the_rest_cached() {
    needs!(root);
    let lap = Lap::new();
    let dockerfile = "FROM busybox\nCOPY a /a\nRUN rm /a; echo constant > /out\nRUN cat /out > /copy\n";
    lap.write("ctx/a", "1");
    lap.build("app", dockerfile).ok();
    let before = lap.run(&["build", "-q", "--no-cache", "ctx"]).ok().out;
    let after = lap.run(&["build", "-q", "--no-cache", "ctx"]).ok().out;
    assert_eq!(before, after, "equal layers are adopted, so the image keeps its ID");
}

#[test]
fn no_cache_runs_everything_again() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/a", "a1");
    lap.write("ctx/b", "b1");
    lap.build("app", DOCKERFILE).ok();
    let again = lap.build_with("app", DOCKERFILE, &["--no-cache"]).ok();
    assert_eq!(steps(&again).0.len(), 7, "{}", again.err);
    let filtered = lap.build_with("app", DOCKERFILE, &["--no-cache-filter", "one"]).ok();
    assert_eq!(steps(&filtered).0.len(), 2, "{}", filtered.err);
}

#[test]
fn a_build_after_a_killed_one_works() {
    needs!(root);
    let lap = Lap::new();
    lap.write("ctx/Dockerfile", "FROM busybox\nRUN sleep 30\n");
    let mut child = lap.command().args(["build", "ctx"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    child.kill().unwrap();
    child.wait().unwrap();
    lap.build("app", "FROM busybox\nRUN echo fine > /fine\n").ok();
    assert_eq!(lap.sh("app", "cat /fine"), "fine\n");
}

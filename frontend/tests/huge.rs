//! Files larger than anybody writes: the work must grow with the file, not with its square, and the stack not at all.
//!
//! Nothing is timed. The sizes are such that a pass over everything for each line would take hours.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::fmt::Write as _;

use lap_frontend::{Facts, Lowered, Options, lower, parse, stages};
use lap_solver::image::ImageConfig;
use lap_solver::platform::Platform;

fn options() -> Options {
    Options::new(Platform { os: "linux".into(), architecture: "amd64".into(), variant: None })
}

fn lowered(text: &str) -> Result<Lowered, String> {
    let parsed = parse("Dockerfile", text);
    let first = |faults: &[lap_frontend::Diagnostic]| faults[0].to_string();
    if parsed.has_errors() {
        return Err(first(&parsed.diagnostics));
    }
    let stages = stages(&parsed.dockerfile, &options()).map_err(|faults| first(&faults))?;
    let mut facts = Facts::new();
    for image in stages.base_images(&facts.clone(), &options()).unwrap() {
        facts.insert(image, ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() });
    }
    lower(&stages, &facts, &options()).map_err(|faults| first(&faults))
}

/// A text of `count` lines, each made from its number.
fn lines(head: &str, count: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    for number in 0..count {
        writeln!(text, "{}", line(number)).unwrap();
    }
    text
}

#[test]
fn many_arguments() {
    let text = lines("FROM a\n", 50_000, |n| format!("ARG A{n}"));
    assert_eq!(lowered(&text).unwrap().outline.args.len(), 50_000);
    let global = lines("", 50_000, |n| format!("ARG A{n}={n}"));
    assert_eq!(lowered(&format!("{global}FROM a\n")).unwrap().outline.args.len(), 0, "nothing uses them");
    let text = global + &lines("FROM a\n", 50_000, |n| format!("ARG A{n}"));
    assert_eq!(lowered(&text).unwrap().outline.args.len(), 50_000);
    let text = lines("FROM a\n", 20_000, |n| format!("ARG B{n}\nLABEL l{n}=$B{n}"));
    assert_eq!(lowered(&text).unwrap().warnings.len(), 0);
}

#[test]
fn many_undefined_variables() {
    let text = lines("FROM a\n", 20_000, |n| format!("ENV DEFINED{n}=1\nLABEL l=$DEFINDE{n}"));
    assert_eq!(lowered(&text).unwrap().warnings.len(), 20_000);
    let arguments = lines("", 10_000, |n| format!("ARG DEFINED{n}=1"));
    let text = lines(&arguments, 10_000, |n| format!("FROM a$DEFINDE{n}"));
    assert_eq!(lowered(&text).unwrap().warnings.len(), 10_000);
    let text = lines("FROM a AS one\n", 10_000, |n| format!("FROM $one{n} AS s{n}"));
    assert!(lowered(&text).is_err());
}

#[test]
fn many_commands() {
    let text = lines("FROM a\n", 100_000, |n| format!("RUN echo {n}"));
    assert_eq!(lowered(&text).unwrap().graph.vertices().len(), 100_000);
    let text = lines("FROM a\n", 50_000, |n| format!("RUN --mount=type=secret,id=s{n} echo {n}"));
    assert_eq!(lowered(&text).unwrap().outline.secrets.len(), 50_000);
}

#[test]
fn many_stages() {
    let text = lines("", 50_000, |n| format!("FROM scratch AS s{n}\nCOPY f{n} /"));
    assert_eq!(lowered(&text).unwrap().graph.vertices().len(), 2);
    let text = lines("FROM scratch AS s0\n", 50_000, |n| format!("FROM s{n} AS s{}\nRUN {n}", n + 1));
    assert_eq!(lowered(&text).unwrap().image.history.len(), 50_000);
    let text = lines("FROM scratch AS s0\n", 20_000, |n| format!("FROM scratch AS s{}\nCOPY --from=s{n} / /", n + 1));
    lowered(&text).unwrap();
}

#[test]
fn long_lines() {
    let long = "x".repeat(1 << 20);
    lowered(&format!("FROM a\nRUN echo {long}\nENV A={long}\nCOPY <<E /f\n{long}\nE\n")).unwrap();
    let words = lines("", 200_000, |n| format!("k{n}=v{n} \\"));
    assert_eq!(lowered(&format!("FROM a\nLABEL {words}\n")).unwrap().image.config.config.labels.len(), 200_000);
    let documents: String = (0..5_000).map(|n| format!("<<E{n} ")).collect();
    let bodies = lines("", 5_000, |n| format!("text\nE{n}"));
    lowered(&format!("FROM a\nCOPY {documents} /d/\n{bodies}")).unwrap();
    let continued = "RUN true".to_owned() + &" \\\n && true".repeat(200_000);
    lowered(&format!("FROM a\n{continued}\n")).unwrap();
}

#[test]
fn nested_substitutions() {
    for text in ["${a:-", "${a/x/", "\"${a:-", "${a#"] {
        let fault = lowered(&format!("FROM a\nENV A={}\n", text.repeat(100_000))).err().unwrap();
        assert!(fault.contains("nested more than") || fault.contains("missing"), "{}", &fault[fault.len() - 80..]);
    }
    lowered(&format!("FROM a\nRUN --mount=type=bind,target={} true\n", "${a:-/x".repeat(50) + &"}".repeat(50)))
        .unwrap();
}

#[test]
fn values_do_not_multiply_without_end() {
    let text = lines("FROM a\nENV A0=0123456789\n", 30, |n| format!("ENV A{}={}", n + 1, format!("$A{n}").repeat(10)));
    let fault = lowered(&text).err().unwrap();
    assert!(fault.contains("MiB"), "{fault}");
}

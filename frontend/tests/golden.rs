//! Own Dockerfiles and what becomes of them; own mistakes and what is said of them.
//!
//! `LAP_UPDATE=1 cargo test -p lap-frontend --test golden` writes the expectations anew: read the difference.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lap_frontend::{Diagnostic, Facts, Lowered, Options, lower, parse, stages};
use lap_solver::graph::{Copy, FileAction, Mode, MountKind, Op, Source, Vertex};
use lap_solver::image::{DEFAULT_PATH, History, ImageConfig};
use lap_solver::platform::Platform;

fn testdata(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(kind);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ext| ext == "Dockerfile")).collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {}", folder.display());
    files
}

/// Every base is an image of one layer with `PATH` alone.
fn lowered(text: &[u8]) -> Result<Lowered, Vec<Diagnostic>> {
    let parsed = parse("Dockerfile", text);
    if parsed.has_errors() {
        return Err(parsed.diagnostics);
    }
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let options = Options::new(platform);
    let stages = stages(&parsed.dockerfile, &options)?;
    let mut facts = Facts::new();
    loop {
        let missing = stages.base_images(&facts, &options)?;
        if missing.is_empty() {
            return lower(&stages, &facts, &options);
        }
        for image in missing {
            let mut config = ImageConfig { history: vec![History::default()], ..ImageConfig::default() };
            config.os = "linux".into();
            config.architecture = "amd64".into();
            config.config.env = vec![format!("PATH={DEFAULT_PATH}")];
            facts.insert(image, config);
        }
    }
}

fn compare(path: &Path, extension: &str, got: &str) -> Option<String> {
    let expected = path.with_extension(extension);
    if std::env::var_os("LAP_UPDATE").is_some() {
        std::fs::write(&expected, got).unwrap();
    }
    let want = std::fs::read_to_string(&expected).unwrap_or_default();
    (want != got).then(|| format!("--- {}\n{want}\n--- got\n{got}", expected.display()))
}

fn no_differences(differences: &[String]) {
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn dockerfiles_become_steps() {
    let check = |path: &PathBuf| {
        let text = std::fs::read(path).unwrap();
        let got = match lowered(&text) {
            Ok(lowered) => describe(&lowered),
            Err(faults) => panic!("{}: {}", path.display(), faults[0]),
        };
        compare(path, "steps", &got)
    };
    no_differences(&testdata("dockerfiles").iter().filter_map(check).collect::<Vec<_>>());
}

#[test]
fn mistakes_are_named() {
    let check = |path: &PathBuf| {
        let text = std::fs::read(path).unwrap();
        let Err(faults) = lowered(&text) else { panic!("{} has no fault", path.display()) };
        let got: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        compare(path, "expected", &got)
    };
    no_differences(&testdata("errors").iter().filter_map(check).collect::<Vec<_>>());
}

#[test]
fn printing_and_parsing_again_changes_nothing() {
    for path in testdata("dockerfiles") {
        let text = std::fs::read(&path).unwrap();
        let (one, two) = (parse("a", &text).dockerfile, parse("b", &text).dockerfile);
        assert_eq!(one.to_sexp(), two.to_sexp());
        let (one, two) = (lowered(&text).unwrap(), lowered(&text).unwrap());
        assert_eq!(one.graph, two.graph, "{}", path.display());
    }
}

fn describe(lowered: &Lowered) -> String {
    let mut out = String::new();
    for (index, vertex) in lowered.graph.vertices().iter().enumerate() {
        let inputs: Vec<String> = vertex.inputs.iter().map(|input| format!("v{}", input.0)).collect();
        let place = match (&vertex.metadata.stage, vertex.metadata.position) {
            (Some(stage), Some((at, of))) => format!("[{stage} {at}/{of}] "),
            (None, Some((at, of))) => format!("[{at}/{of}] "),
            _ => String::new(),
        };
        writeln!(out, "v{index} {place}{} <- {}", vertex.metadata.name.escape_default(), inputs.join(" ")).unwrap();
        for line in details(vertex) {
            writeln!(out, "    {line}").unwrap();
        }
    }
    let image = &lowered.image;
    writeln!(out, "root {}", image.root.map_or_else(|| "none".to_owned(), |root| format!("v{}", root.0))).unwrap();
    writeln!(out, "config {}", serde_json::to_string_pretty(&image.config.config).unwrap()).unwrap();
    for entry in &image.history {
        let text = entry.entry.created_by.as_deref().unwrap_or_default();
        let vertex = entry.vertex.map_or_else(String::new, |vertex| format!(" v{}", vertex.0));
        writeln!(out, "history{vertex} {}", text.escape_default()).unwrap();
    }
    for found in &lowered.warnings {
        writeln!(out, "{found}").unwrap();
    }
    out
}

fn details(vertex: &Vertex) -> Vec<String> {
    match &vertex.op {
        Op::Source(Source::Image { reference, platform }) => vec![format!("image {reference} {platform}")],
        Op::Source(Source::Local { name }) => vec![format!("local {name}")],
        Op::Source(other) => vec![format!("{other:?}")],
        Op::Merge => vec!["merge".to_owned()],
        Op::File(file) => file.actions.iter().map(action_text).collect(),
        Op::Exec(exec) => {
            let mut lines = vec![format!("exec {:?} in {} as {:?}", exec.args, exec.cwd, exec.user)];
            lines.push(format!("env {:?}", exec.env));
            if exec.network != Default::default() {
                lines.push(format!("network {:?}", exec.network));
            }
            for mount in &exec.mounts {
                let readonly = if mount.readonly { "ro" } else { "rw" };
                let kind = match &mount.kind {
                    MountKind::Cache { id, sharing, .. } => format!("cache {id} {sharing:?}"),
                    other => format!("{other:?}"),
                };
                lines.push(format!("mount {} {readonly} {kind}", mount.target));
            }
            lines.extend(exec.secret_env.iter().map(|secret| format!("{secret:?}")));
            lines.extend(exec.files.iter().map(|file| format!("{file:?}")));
            lines
        }
    }
}

fn action_text(action: &FileAction) -> String {
    match action {
        FileAction::Mkdir { path, mode, owner } => format!("mkdir {path} {mode:o} {owner:?}"),
        FileAction::Mkfile { path, name, data, mode, owner } => {
            format!("mkfile {path} {name} {data:?} {} {owner:?}", mode_text(mode.as_ref()))
        }
        FileAction::Copy(copy) => copy_text(copy),
    }
}

fn mode_text(mode: Option<&Mode>) -> String {
    match mode {
        None => "-".to_owned(),
        Some(Mode::Bits(bits)) => format!("{bits:o}"),
        Some(Mode::Symbolic(text)) => text.clone(),
    }
}

fn copy_text(copy: &Copy) -> String {
    let mut text = format!("copy {:?}:{} to {}", copy.from, copy.source, copy.dest);
    for (set, word) in [(copy.wildcard, "wildcard"), (copy.keep_owner, "keep-owner"), (copy.parents, "parents")] {
        if set {
            write!(text, " {word}").unwrap();
        }
    }
    for (list, word) in [(&copy.include, "include"), (&copy.exclude, "exclude")] {
        if !list.is_empty() {
            write!(text, " {word} {list:?}").unwrap();
        }
    }
    if let Some(owner) = &copy.owner {
        write!(text, " owner {owner}").unwrap();
    }
    if copy.mode.is_some() {
        write!(text, " mode {}", mode_text(copy.mode.as_ref())).unwrap();
    }
    if copy.unpack != Default::default() {
        text.push_str(" unpack");
    }
    text
}

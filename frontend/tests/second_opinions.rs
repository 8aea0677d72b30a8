//! Two other parsers read our Dockerfiles: they must see the same instructions.
//!
//! Neither knows the whole language (`dockerfile-parser` no heredocs and hardly any flags, `parse-dockerfile` one
//! heredoc a line), so each is asked only about the files that it understands; how many those are is fixed below.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use lap_frontend::parse;

fn files() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfiles");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "Dockerfile"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn own(text: &str) -> Vec<String> {
    let parsed = parse("Dockerfile", text);
    assert_eq!(parsed.diagnostics, []);
    parsed.dockerfile.instructions.iter().map(lap_frontend::syntax::Instruction::name).collect()
}

#[test]
fn parse_dockerfile_sees_the_same() {
    let mut understood = 0;
    for (name, text) in files() {
        let Ok(theirs) = parse_dockerfile::parse(&text) else { continue };
        understood += 1;
        let theirs: Vec<String> = theirs
            .instructions
            .iter()
            .map(|instruction| format!("{instruction:?}").split('(').next().unwrap_or_default().to_lowercase())
            .collect();
        assert_eq!(own(&text), theirs, "{name}");
    }
    assert!(understood >= 11, "parse-dockerfile understood {understood} files only");
}

#[test]
fn dockerfile_parser_sees_the_same() {
    let mut understood = 0;
    for (name, text) in files() {
        // It takes the lines of a heredoc for instructions, or for nothing.
        let Ok(theirs) = dockerfile_parser::Dockerfile::parse(&text) else { continue };
        if text.contains("<<") {
            continue;
        }
        understood += 1;
        assert_eq!(own(&text).len(), theirs.instructions.len(), "{name}");
    }
    assert!(understood >= 4, "dockerfile-parser understood {understood} files only");
}

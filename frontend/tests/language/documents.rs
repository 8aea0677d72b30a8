//! What the documentation shows is true: every Dockerfile in it parses, and lowers where it is a whole one.

use std::path::{Path, PathBuf};

use crate::{lowered_with, with_args};

/// Pages with Dockerfiles in them.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    pages.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// Blocks that are said to be Dockerfiles, with the line they begin in and the words after the language.
fn blocks(text: &str) -> Vec<(usize, String, String)> {
    let mut blocks = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```dockerfile") else { continue };
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        let body: String = body.map(|line| format!("{line}\n")).collect();
        blocks.push((number, info.trim().to_owned(), body));
    }
    blocks
}

#[test]
fn every_dockerfile_in_the_documentation_is_one() {
    let mut count = 0;
    // The one that an example asks for.
    let given = with_args(&[("TAG", "3")]);
    for page in pages() {
        for (line, info, body) in blocks(&std::fs::read_to_string(&page).unwrap()) {
            count += 1;
            let place = format!("{}:{line}", page.display());
            // A part of a file stands below a base; `refused` is an example of what is.
            let whole = body.lines().any(|line| line.trim_start().to_uppercase().starts_with("FROM "));
            let text = if whole { body.clone() } else { format!("FROM alpine\n{body}") };
            let result = lowered_with(&text, &given, &[]);
            match (info.as_str(), result) {
                ("refused", Ok(_)) => panic!("{place}: is said to be refused and is not"),
                ("refused", Err(_)) | (_, Ok(_)) => {}
                (_, Err(faults)) => panic!("{place}: {}\n{body}", faults[0]),
            }
        }
    }
    assert!(count > 50, "only {count} blocks were found");
}

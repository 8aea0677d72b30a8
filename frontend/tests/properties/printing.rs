//! Parsing, printing and parsing again gives the same tree, and printing that again the same text.

use lap_frontend::syntax::{Command, Dockerfile};
use lap_frontend::{Options, lower, parse, stages};
use lap_solver::platform::Platform;
use proptest::prelude::*;
use serde_json::Value;

use crate::cases;

/// A tree without places and without what stands on the page only.
fn tree(file: &Dockerfile) -> Vec<Value> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for gone in ["span", "lines", "original", "empty_continuation"] {
                    fields.remove(gone);
                }
                if let Some(keyword) = fields.get_mut("keyword").and_then(|keyword| keyword.get_mut("text")) {
                    *keyword = keyword.as_str().unwrap().to_uppercase().into();
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut list: Vec<Value> = file.instructions.iter().map(|one| serde_json::to_value(one).unwrap()).collect();
    list.iter_mut().for_each(strip);
    list
}

/// Whether printing loses nothing; nothing to say of files with faults.
fn survives(text: &str) -> Result<(), TestCaseError> {
    let one = parse("Dockerfile", text);
    if one.has_errors() {
        return Ok(());
    }
    let printed = one.dockerfile.to_text();
    let two = parse("Dockerfile", &printed);
    prop_assert_eq!(&two.diagnostics, &vec![], "{:?} became {:?}", text, printed);
    prop_assert_eq!(tree(&one.dockerfile), tree(&two.dockerfile), "{:?} became {:?}", text, printed);
    prop_assert_eq!(one.dockerfile.escape, two.dockerfile.escape);
    let pairs =
        |file: &Dockerfile| file.directives.iter().map(|d| (d.key.clone(), d.value.clone())).collect::<Vec<_>>();
    prop_assert_eq!(pairs(&one.dockerfile), pairs(&two.dockerfile));
    prop_assert_eq!(two.dockerfile.to_text(), printed, "from {:?}", text);
    Ok(())
}

#[test]
fn our_own_files_survive_printing_and_mean_the_same() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfiles");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "Dockerfile") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        survives(&text).unwrap();
        let steps = |text: &str| {
            let parsed = parse("Dockerfile", text).dockerfile;
            let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
            let options = Options::new(platform);
            let stages = stages(&parsed, &options).unwrap();
            let mut facts = lap_frontend::Facts::new();
            loop {
                let missing = stages.base_images(&facts, &options).unwrap();
                if missing.is_empty() {
                    break;
                }
                missing.into_iter().for_each(|image| facts.insert(image, Default::default()));
            }
            let lowered = lower(&stages, &facts, &options).unwrap();
            let definitions = lowered.graph.vertices().iter().map(|vertex| vertex.definition);
            (definitions.collect::<Vec<_>>(), serde_json::to_value(&lowered.image.config).unwrap())
        };
        assert_eq!(steps(&text), steps(&parse("Dockerfile", &text).dockerfile.to_text()), "{}", path.display());
    }
    assert!(count >= 10, "only {count} files");
}

#[test]
fn what_is_printed_is_plain() {
    let text = "# Escape = `\n\n# other\nfrom  a `\n  as B\nrun  --mount=type=cache,target=\"/x y\"  [ \"a\" , \"b\" ]\nrun -- --x\n\
        COPY <<e f\\ /\n1\ne\nENV  a  b c\nENV a=b   'c d'=e\n";
    let printed = parse("Dockerfile", text).dockerfile.to_text();
    let want = "# escape=`\n# other\nFROM a as B\nRUN --\"mount=type=cache,target=/x y\" [\"a\", \"b\"]\nRUN -- --x\n\
        COPY <<e f\\ /\n1\ne\nENV a b c\nENV a=b 'c d'=e\n";
    assert_eq!(printed, want);
}

#[test]
fn words_that_were_no_heredoc_become_none() {
    for text in
        ["COPY a <<\u{b}b c d", "RUN a <<\u{b}b", "ADD <<\u{c}b c", "COPY a << b\nb\n", "ONBUILD COPY a <<\u{b}b c"]
    {
        survives(&format!("FROM a\n{text}\n")).unwrap();
    }
}

/// Lines of every kind, joined at random.
fn lines() -> impl Strategy<Value = String> {
    let words = "([ab$=<]|\\\\|'|\"| |\t|\\[|\\]|--|\"a\"|,|<<E|`|\u{a0}|\u{b}|#){0,8}";
    let keyword = prop::sample::select(vec![
        "FROM a",
        "run",
        "RUN",
        "COPY",
        "ADD a",
        "ENV",
        "LABEL",
        "ARG",
        "CMD",
        "ENTRYPOINT",
        "HEALTHCHECK CMD",
        "USER",
        "WORKDIR",
        "EXPOSE",
        "VOLUME",
        "SHELL",
        "STOPSIGNAL",
        "ONBUILD RUN",
        "ONBUILD COPY",
        "RUN --mount=",
        "COPY --link",
        "COPY --from=",
        "# ",
        "#",
        "# syntax=",
        "\u{feff}",
        "",
        "E",
        "\tE",
        "RUN <<E",
        "COPY <<-E",
        "MAINTAINER",
    ]);
    (
        keyword,
        prop::sample::select(vec![" ", "\t", "  ", " \\\n ", ""]),
        words,
        prop::sample::select(vec!["", " ", "\r", "\\", "\\\n#c", "`\n"]),
    )
        .prop_map(|(keyword, blank, words, end)| format!("{keyword}{blank}{words}{end}\n"))
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn printing_loses_nothing(
        head in prop::sample::select(vec!["", "# escape=`\n", "#!x\n# syntax=a\n", "\n", "\u{feff}# check=skip=all\n"]),
        // One line alone comes through far more often than many.
        lines in prop_oneof![prop::collection::vec(lines(), 1..2), prop::collection::vec(lines(), 1..4)],
    ) {
        survives(&(head.to_owned() + &lines.concat()))?;
    }

    #[test]
    fn an_instruction_alone_is_not_lost(line in lines()) {
        let parsed = parse("Dockerfile", &line).dockerfile;
        let broken = parsed.instructions.iter().any(|instruction| instruction.command == Command::Invalid);
        prop_assert!(broken || parse("Dockerfile", parsed.to_text()).dockerfile.instructions.len() == parsed.instructions.len());
    }
}

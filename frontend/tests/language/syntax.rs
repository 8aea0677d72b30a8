//! Section 1.1 of docs/features.md.

use lap_frontend::parse;

use crate::{last, lowered, refused, tree};

const ALL: &str = "ADD a b\nARG a\nCMD a\nCOPY a b\nENTRYPOINT a\nENV a=b\nEXPOSE 1\nFROM a\nHEALTHCHECK NONE\nLABEL a=b\n\
    MAINTAINER a\nONBUILD RUN a\nRUN a\nSHELL [\"a\"]\nSTOPSIGNAL 1\nUSER a\nVOLUME a\nWORKDIR a\n";

#[test]
fn eighteen_instructions_in_any_case() {
    let parsed = parse("Dockerfile", ALL);
    assert_eq!((parsed.diagnostics.len(), parsed.dockerfile.instructions.len()), (0, 18));
    let names = |text: &str| -> Vec<String> {
        parse("Dockerfile", text).dockerfile.instructions.iter().map(|instruction| instruction.name()).collect()
    };
    assert_eq!(names(ALL), names(&ALL.to_lowercase()));
    assert_eq!(tree("fRoM a\nRuN b"), "(from \"a\")\n(run \"b\")");
    assert!(refused("FROM a\nINCLUDE b").contains("unknown instruction: INCLUDE"));
}

#[test]
fn comments_blanks_and_byte_order_marks_are_nothing() {
    let text = "\u{feff}  \t# c\n\n   FROM a\r\n\tRUN b \\\n# c\n   # c\n  && d\n#RUN e\n";
    assert_eq!(tree(text), "(from \"a\")\n(run \"b   && d\")");
    // Not a comment: in the middle of a line.
    assert_eq!(tree("RUN a # b"), "(run \"a # b\")");
    // Blank lines in a continuation are found fault with; comments there are not.
    assert_eq!(lowered("FROM a\nRUN b \\\n\n c").warnings_of("NoEmptyContinuation").len(), 1);
    assert_eq!(lowered("FROM a\nRUN b \\\n#\n c").warnings_of("NoEmptyContinuation").len(), 0);
}

#[test]
fn continuations() {
    for (text, want) in [
        ("RUN a\\\nb", "(run \"ab\")"),
        ("RUN a \\ \t\nb", "(run \"a b\")"),
        ("RUN a \\\\\nRUN b", "(run \"a \\\\\\\\\")\n(run \"b\")"),
        ("\\\nRUN a", "(run \"a\")"),
        ("RU\\\nN a", "(run \"a\")"),
        ("RUN a \\\r\n b", "(run \"a  b\")"),
        ("RUN a \\", "(run \"a\")"),
        ("# escape=`\nRUN a `\n b \\\nRUN c", "(run \"a  b \\\\\")\n(run \"c\")"),
    ] {
        assert_eq!(tree(text), want, "{text:?}");
    }
}

#[test]
fn lines_have_any_length() {
    let long = "x".repeat(200_000);
    assert_eq!(tree(&format!("RUN {long}")), format!("(run \"{long}\")"));
}

#[test]
fn the_escape_directive() {
    for (text, escape) in [("# escape=`\nFROM a", '`'), ("#Escape = \\\nFROM a", '\\'), ("FROM a\n# escape=`", '\\')] {
        assert_eq!(parse("Dockerfile", text).dockerfile.escape, escape, "{text:?}");
    }
    assert!(refused("# escape=x\nFROM a").contains("invalid escape token 'x'"));
    assert_eq!(last("# escape=`\nFROM a\nWORKDIR C:\\x`\\y")["actions"][0]["mkdir"]["path"], "/C:\\x\\y");
}

#[test]
fn the_syntax_directive_never_fetches_anything() {
    for own in [
        "docker/dockerfile:1",
        "docker/dockerfile",
        "docker/dockerfile:1.7-labs",
        "docker.io/docker/dockerfile:1",
        "docker/dockerfile-upstream:master",
        "docker/dockerfile:1@sha256:aa",
        "mirror.example.com/docker/dockerfile:1",
    ] {
        lowered(&format!("# syntax={own}\nFROM a"));
        lowered(&format!("#!/usr/bin/env lap\n# syntax = {own}\nFROM a"));
    }
    for other in ["evil/frontend", "docker/other", "example.com/dockerfile:1", "x"] {
        let fault = refused(&format!("# syntax={other}\nFROM a"));
        assert!(fault.starts_with("Dockerfile:1:1: ") && fault.contains("never run"), "{fault}");
    }
    // By argument: the same rule, and it wins over the line.
    let given =
        |image: &str, text: &str| crate::lowered_with(text, &crate::with_args(&[("BUILDKIT_SYNTAX", image)]), &[]);
    assert!(given("dockerfile.v0", "# syntax=evil/x\nFROM a").is_ok());
    assert!(given("evil/x", "FROM a").is_err());
}

#[test]
fn directives_stand_at_the_top_and_once() {
    let keys = |text: &str| {
        let directives = parse("Dockerfile", text).dockerfile.directives;
        directives.into_iter().map(|directive| directive.key).collect::<Vec<_>>()
    };
    assert_eq!(keys("# syntax=docker/dockerfile\n#check=skip=all\n# Escape=`\nFROM a"), ["syntax", "check", "escape"]);
    for ended in
        ["# note\n# escape=`", "# unknown=x\n# escape=`", "\n# escape=`", "FROM a\n# escape=`", "#\n# escape=`"]
    {
        assert_eq!(keys(ended), Vec::<String>::new(), "{ended:?}");
    }
    assert_eq!(keys("\u{feff}# escape=`\nFROM a"), ["escape"]);
    assert!(refused("# escape=`\n# escape=`\nFROM a").contains("only one escape parser directive"));
    for check in ["# check=skip=A,B;error=true", "# check=skip=all", "# check=experimental=all"] {
        lowered(&format!("{check}\nFROM a"));
    }
    assert!(refused("# check=nonsense\nFROM a").contains("invalid check option"));
}

#[test]
fn heredocs_in_all_forms() {
    for (text, want) in [
        ("RUN <<E\na $x\nE", ("a $x\n", true)),
        ("RUN <<-E\n\t\ta\n \tb\n\tE", ("a\n \tb\n", true)),
        ("RUN <<\"E\"\na $x\nE", ("a $x\n", false)),
        ("RUN <<'E'\na\nE", ("a\n", false)),
        ("RUN cat 3<<E\na\nE", ("a\n", true)),
        ("RUN <<E\nE", ("", true)),
        ("RUN <<E\r\na\r\nE\r\n", ("a\r\n", true)),
        ("COPY <<E /x\n# a\n\n \\\nE", ("# a\n\n \\\n", true)),
        ("ADD <<E /x\na\nE", ("a\n", true)),
        ("ONBUILD RUN <<E\na\nE", ("a\n", true)),
        ("ONBUILD COPY <<E /x\na\nE", ("a\n", true)),
    ] {
        let parsed = parse("Dockerfile", text);
        assert_eq!(parsed.diagnostics, [], "{text:?}");
        let heredoc = &parsed.dockerfile.instructions[0].heredocs[0];
        assert_eq!((heredoc.body().as_str(), heredoc.expand), want, "{text:?}");
    }
    let two = parse("Dockerfile", "COPY <<a <<b /x\n1\na\n2\nb\nFROM c").dockerfile;
    assert_eq!(two.instructions[0].heredocs.iter().map(|one| one.body()).collect::<Vec<_>>(), ["1\n", "2\n"]);
    assert_eq!(two.instructions.len(), 2);
    // Elsewhere they are words.
    assert_eq!(parse("Dockerfile", "FROM a\nCMD cat <<E\nUSER E").dockerfile.instructions.len(), 3);
    assert_eq!(tree("RUN [\"<<E\"]"), "(run \"<<E\")");
    assert_eq!(tree("RUN a <<<E"), "(run \"a <<<E\")");
    assert!(refused("FROM a\nRUN <<E\nx").contains("unterminated heredoc (a line with nothing but E ends it)"));
}

#[test]
fn a_heredoc_is_the_script_of_its_run() {
    let alone = last("FROM a\nRUN <<E\none $x\ntwo\nE");
    assert_eq!(alone["args"], serde_json::json!(["/bin/sh", "-c", "one $x\ntwo\n"]));
    let script = last("FROM a\nRUN <<E\n#!/bin/py\none\nE");
    assert_eq!(script["args"], serde_json::json!(["/bin/sh", "-c", "/dev/pipes/E"]));
    assert_eq!(
        script["files"],
        serde_json::json!([{"path": "/dev/pipes/E", "data": "#!/bin/py\none\n", "mode": 0o755}])
    );
    let given = last("FROM a\nRUN python3 <<E - <<F\nx\nE\ny\nF\n");
    assert_eq!(given["args"][2], "python3 <<E - <<F\nx\nE\ny\nF");
    assert_eq!(last("FROM a\nSHELL [\"/bin/bash\", \"-e\"]\nRUN <<E\nx\nE")["args"][0], "/bin/bash");
}

#[test]
fn a_heredoc_is_a_file_of_its_copy() {
    let file = |text: &str| crate::action(text);
    let plain = file("FROM a\nARG v=1\nCOPY <<name /d/\n$v\nname");
    assert_eq!((&plain["path"], &plain["name"], &plain["data"]), (&"/d/".into(), &"name".into(), &"1\n".into()));
    assert!(plain.get("mode").is_none_or(serde_json::Value::is_null), "0644 by default");
    assert_eq!(file("FROM a\nARG v=1\nCOPY <<\"name\" /d/\n$v\nname")["data"], "$v\n");
    let owned = file("FROM a\nADD --chmod=600 --chown=1:2 <<x /d\ny\nx");
    assert_eq!((owned["mode"]["bits"].as_u64(), owned["owner"].as_str()), (Some(0o600), Some("1:2")));
    assert!(refused("FROM a\nCOPY a <<E\nE").contains("cannot accept a heredoc as a destination"));
}

#[test]
fn json_or_shell_form() {
    for (text, want) in [
        ("CMD [\"a\", \"b c\"]", "(cmd \"a\" \"b c\")"),
        ("CMD [ \"a\" ]", "(cmd \"a\")"),
        ("CMD ['a']", "(cmd \"['a']\")"),
        ("CMD [\"a\"", "(cmd \"[\\\"a\\\"\")"),
        ("CMD [\"a\"] b", "(cmd \"[\\\"a\\\"] b\")"),
        ("COPY [\"a b\", \"c\"]", "(copy \"a b\" \"c\")"),
        ("COPY [a, c]", "(copy \"[a,\" \"c]\")"),
        ("VOLUME [\"/a b\"]", "(volume \"/a b\")"),
        ("HEALTHCHECK CMD [\"a\"]", "(healthcheck \"CMD\" \"a\")"),
        ("ENV a=[\"b\"]", "(env \"a\" \"[\\\"b\\\"]\" \"=\")"),
    ] {
        assert_eq!(tree(text), want, "{text}");
    }
    assert!(refused("FROM a\nCMD [1]").contains("arrays must be comprised of strings only"));
    assert_eq!(last("FROM a\nRUN [\"x\", \"$y\"]")["args"], serde_json::json!(["x", "$y"]));
}

#[test]
fn comments_describe_stages_and_arguments() {
    let text = "# VERSION which one\nARG VERSION=1\n# build compiles\nFROM a:$VERSION AS build\n# UNUSED nothing\nARG UNUSED\n";
    let parsed = parse("Dockerfile", text);
    assert_eq!(lap_frontend::targets(&parsed.dockerfile)[0].description.as_deref(), Some("compiles"));
    let outline = lowered(text).outline;
    let args: Vec<_> = outline.args.iter().map(|arg| (arg.name.as_str(), arg.description.as_deref())).collect();
    assert_eq!(args, [("VERSION", Some("which one")), ("UNUSED", Some("nothing"))]);
    assert_eq!(outline.description.as_deref(), Some("compiles"));
}

#[test]
fn words_that_are_nearly_right_are_told() {
    for (text, near) in [
        ("FROM a\nENTRYPONT x", "did you mean ENTRYPOINT?"),
        ("FROM a\nCOPY --chwon=1 a b", "did you mean chown?"),
        ("FROM a AS builder\nFROM Builder", "stages are called in lower case: builder"),
        ("FROM a\nRUN --mount=tipe=cache,target=/x y", "did you mean type?"),
        ("FROM a\nRUN --mount=type=cash,target=/x y", "did you mean cache?"),
        ("FROM a\nRUN --mount=type=cache,target=/x,sharing=lock y", "did you mean locked?"),
        ("FROM a\nRUN --network=non x", "did you mean none?"),
        ("FROM --platform=$TARGETPLATFROM a", "did you mean TARGETPLATFORM?"),
    ] {
        let fault = refused(text);
        assert!(fault.contains(near), "{fault}");
    }
    let undefined = lowered("FROM a\nENV NAME=1\nLABEL l=$NMAE");
    assert!(undefined.warnings[0].message.contains("(did you mean $NAME?)"), "{}", undefined.warnings[0]);
}

#[test]
fn flags() {
    let copy = |flags: &str| crate::lowered_with(&format!("FROM a\nCOPY {flags} a b"), &crate::options(), &[]);
    for good in ["--link", "--link=true", "--link=FALSE", "--exclude=a --exclude=b", "--chown=1 --link", "--chown="] {
        assert!(copy(good).is_ok(), "{good}");
    }
    for (bad, why) in [
        ("--link=1", "expecting boolean value for flag --link, not: 1"),
        ("--link=", "missing a value on flag: --link"),
        ("--chown", "missing a value on flag: --chown"),
        ("--chown=1 --chown=2", "duplicate flag specified: --chown"),
        ("--nothing", "unknown flag: --nothing"),
    ] {
        let faults = copy(bad).unwrap_err();
        assert!(faults[0].to_string().contains(why), "{}", faults[0]);
    }
    // After the arguments, or after two dashes, they are arguments.
    assert_eq!(tree("RUN a --mount=b"), "(run \"a --mount=b\")");
    assert_eq!(tree("RUN -- --mount=b"), "(run \"--mount=b\")");
    assert_eq!(tree("RUN --network=\"none\" a"), "(run [\"--network=none\"] \"a\")");
}

#[test]
fn every_fault_has_a_place_and_every_place_is_in_the_file() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/errors");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "Dockerfile") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let Err(faults) = crate::lowered_with(&text, &crate::options(), &[]) else { panic!("{}", path.display()) };
        for fault in faults {
            let lines = text.lines().count().max(1) as u32;
            assert!((1..=lines).contains(&fault.position.line), "{}: {fault}", path.display());
            assert!(fault.position.column > 0 && fault.span.end <= text.len(), "{}: {fault}", path.display());
        }
    }
}

use proptest::prelude::*;

use super::*;

fn dump(text: &str) -> String {
    let parsed = parse("Dockerfile", text);
    assert_eq!(parsed.diagnostics, []);
    parsed.dockerfile.to_sexp()
}

fn faults(text: &str) -> Vec<String> {
    parse("Dockerfile", text).diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn files_become_trees() {
    let text = "# syntax=docker/dockerfile:1\n# escape=`\nFROM --platform=$P a AS b\nRUN --mount=type=cache,target=/c `\n  # note\n  make\nENV A=b \"C=d e\"\nONBUILD COPY --from=x a b\n";
    assert_eq!(
        dump(text),
        "(from [\"--platform=$P\"] \"a\" \"AS\" \"b\")\n(run [\"--mount=type=cache,target=/c\"] \"make\")\n(env \"A\" \"b\" \"=\" \"\\\"C\" \"d e\\\"\" \"=\")\n(onbuild (copy [\"--from=x\"] \"a\" \"b\"))"
    );
    let parsed = parse("Dockerfile", text).dockerfile;
    assert_eq!(parsed.escape, '`');
    assert_eq!(parsed.directive("syntax").map(|found| found.value.as_str()), Some("docker/dockerfile:1"));
    assert_eq!(parsed.instructions[1].lines, (4, 6));
}

#[test]
fn heredocs_belong_to_their_instruction() {
    let text = "FROM a\nCOPY <<one <<-\"two\" /x/\n1\none\n\t2 $x\n\ttwo\nRUN <<EOF cat\n$y\nEOF\n";
    let parsed = parse("Dockerfile", text);
    assert_eq!(parsed.diagnostics, []);
    let copy = &parsed.dockerfile.instructions[1];
    let Command::Copy(transfer) = &copy.command else { panic!("{copy:?}") };
    assert_eq!((transfer.documents.as_slice(), transfer.sources.len()), (&[0, 1][..], 0));
    assert_eq!((copy.heredocs[0].body(), copy.heredocs[0].expand), ("1\n".to_owned(), true));
    assert_eq!((copy.heredocs[1].body(), copy.heredocs[1].expand), ("2 $x\n".to_owned(), false));
    assert_eq!(copy.lines, (2, 6));
    assert_eq!(parsed.dockerfile.instructions[2].heredocs[0].content, "$y\n");
}

#[test]
fn every_fault_is_told_with_its_place() {
    assert_eq!(
        faults("FROM a\nRUM x\nCOPY --form=b a b\nWORKDIR\n"),
        [
            "Dockerfile:2:1: dockerfile parse error on line 2: unknown instruction: RUM (did you mean RUN?)",
            "Dockerfile:3:6: dockerfile parse error on line 3: unknown flag: --form (did you mean from?)",
            "Dockerfile:4:1: dockerfile parse error on line 4: WORKDIR requires exactly one argument",
        ]
    );
    assert_eq!(faults("# only\n"), ["Dockerfile:1:1: dockerfile parse error on line 1: file with no instructions"]);
    assert_eq!(faults("# escape=`\n# escape=\\\nFROM a").len(), 1);
}

#[test]
fn descriptions_come_from_comments() {
    let parsed = parse("Dockerfile", "# bin the thing\n# VERSION which one\nARG VERSION=1 X\n");
    let Command::Arg(definitions) = &parsed.dockerfile.instructions[0].command else { panic!("no ARG") };
    assert_eq!(definitions[0].description.as_deref(), Some("which one"));
    assert_eq!((definitions[1].name.as_str(), &definitions[1].value), ("X", &None));
}

const SAMPLES: [&str; 3] = [
    "# syntax=x\nFROM a AS b\nRUN --mount=type=secret,id=x <<EOF\n$x\nEOF\nCOPY [\"a\", \"b\"] /c\n",
    "ARG A=1\nFROM ${A:-b}\nENV a=b \\\n# c\n  c=\"d\\\" e\"\nHEALTHCHECK --interval=3s CMD [\"x\"]\n",
    "from a\nonbuild run <<-X cat\n\ty\n\tX\nSHELL [\"/bin/sh\"]\nADD --checksum=sha256:00 http://a/b /c\nEXPOSE 1-2/udp\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spliced_and_cut_files_never_panic(one in 0..3usize, two in 0..3usize, cut in 0..200usize, from in 0..200usize) {
        let (a, b) = (SAMPLES[one].as_bytes(), SAMPLES[two].as_bytes());
        let mut text = a[..cut.min(a.len())].to_vec();
        text.extend_from_slice(&b[from.min(b.len())..]);
        let parsed = parse("Dockerfile", &text);
        for found in &parsed.diagnostics {
            let _text = found.to_string();
        }
        let _dump = parsed.dockerfile.to_sexp();
    }

    #[test]
    fn noise_never_panics(text in "(FROM|RUN|COPY|ADD|ENV|ARG|ONBUILD|HEALTHCHECK|[ -~\\\\\n\t\"'$é<]){0,30}") {
        let parsed = parse("Dockerfile", &text);
        let _dump = parsed.dockerfile.to_sexp();
        for instruction in &parsed.dockerfile.instructions {
            prop_assert!(instruction.span.end <= parsed.dockerfile.source.text().len());
            for argument in &instruction.arguments {
                prop_assert!(argument.span.start <= argument.span.end);
                prop_assert!(parsed.dockerfile.source.text().is_char_boundary(argument.span.start));
            }
        }
    }
}

//! No text makes the frontend panic: our own files cut at every place, spliced, with bytes changed, lowered and all.

use lap_frontend::{Facts, Options, check, ignore, lower, parse, stages, targets};
use lap_solver::pattern::Matcher;
use lap_solver::platform::Platform;
use proptest::prelude::*;

use crate::cases;

/// Everything that a text can be asked.
fn ask(text: &[u8]) {
    let parsed = parse("Dockerfile", text);
    for found in &parsed.diagnostics {
        assert!(found.span.end <= parsed.dockerfile.source.text().len(), "{found}");
        assert!(!found.to_string().is_empty());
    }
    let file = &parsed.dockerfile;
    let (_tree, _text, _targets) = (file.to_sexp(), file.to_text(), targets(file));
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let mut options = Options::new(platform);
    options.ignore = Some(vec!["a".into()]);
    let Ok(stages) = stages(file, &options) else { return };
    let mut facts = Facts::new();
    for _ in 0..4 {
        let Ok(missing) = stages.base_images(&facts, &options) else { return };
        for image in missing {
            facts.insert(image, Default::default());
        }
    }
    if let Ok(lowered) = lower(&stages, &facts, &options) {
        assert!(!lowered.graph.to_dot().is_empty());
    }
    drop(check(&stages, &facts, &options));
}

fn samples() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for folder in ["../testdata/dockerfiles", "../testdata/errors"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let is_file = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "Dockerfile");
        samples.extend(paths.into_iter().filter(is_file).map(|path| std::fs::read(path).unwrap()));
    }
    samples
}

#[test]
fn files_cut_at_every_byte_never_panic() {
    for sample in samples() {
        // Long files are cut at every seventh byte: lines have all lengths.
        let step = if sample.len() > 800 { 7 } else { 1 };
        for cut in (0..sample.len()).step_by(step) {
            ask(&sample[..cut]);
        }
    }
}

#[test]
fn files_in_other_dresses_never_panic() {
    for sample in samples() {
        let text = String::from_utf8_lossy(&sample).into_owned();
        for other in [
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
            text.replace(' ', "\t"),
            text.replace(' ', "\u{a0}"),
            text.replace(' ', "\u{2003}"),
            text.replace('\n', "\\\n"),
            text.replace('"', "'"),
            text.replace('\n', "\0\n"),
            text.to_uppercase(),
        ] {
            ask(other.as_bytes());
        }
        ask(&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn spliced_files_never_panic(one in any::<prop::sample::Index>(), two in any::<prop::sample::Index>(), at in any::<(prop::sample::Index, prop::sample::Index)>()) {
        let samples = samples();
        let (one, two) = (one.get(&samples), two.get(&samples));
        let mut text = one[..at.0.index(one.len() + 1)].to_vec();
        text.extend_from_slice(&two[at.1.index(two.len() + 1)..]);
        ask(&text);
    }

    #[test]
    fn files_with_other_bytes_never_panic(one in any::<prop::sample::Index>(), changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)) {
        let samples = samples();
        let mut text = one.get(&samples).clone();
        if text.is_empty() {
            return Ok(());
        }
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        ask(&text);
    }

    #[test]
    fn ignore_files_never_panic(text in "\\PC{0,40}", path in "\\PC{0,20}") {
        if let Ok(matcher) = Matcher::new(&ignore::parse(&text)) {
            let _ignored = matcher.matches(&path);
        }
    }
}

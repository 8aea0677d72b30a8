#![no_main]
//! Any bytes parse; what has no faults survives printing.

use lap_frontend::parse;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let parsed = parse("Dockerfile", data);
    for found in &parsed.diagnostics {
        assert!(found.span.end <= parsed.dockerfile.source.text().len());
        let _text = found.to_string();
    }
    let (tree, text) = (parsed.dockerfile.to_sexp(), parsed.dockerfile.to_text());
    if !parsed.has_errors() {
        let again = parse("Dockerfile", &text);
        assert!(!again.has_errors(), "{:?}", again.diagnostics);
        // Keywords are printed in capitals, and shown in lower case.
        assert_eq!(tree, again.dockerfile.to_sexp(), "{text:?}");
        assert_eq!(text, again.dockerfile.to_text());
    }
});

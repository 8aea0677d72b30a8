#![no_main]
//! Any word expands, or is refused; the first byte chooses how it is read.

use std::collections::BTreeMap;

use lap_frontend::word::{Lexer, Lookup};

struct Environment(BTreeMap<&'static str, &'static str>);

impl Lookup for Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).copied()
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((how, word)) = data.split_first() else { return };
    let word = String::from_utf8_lossy(word);
    let environment = Environment(BTreeMap::from([("a", "x/y.z*\\"), ("e", ""), ("long", "aaaaaaaaaaaaaaaaaaaaaaaab")]));
    let lexer = Lexer {
        escape: if how & 1 == 0 { '\\' } else { '`' },
        raw_quotes: how & 2 != 0,
        raw_escapes: how & 4 != 0,
        plain_quotes: how & 8 != 0,
        keep_unset: how & 16 != 0,
    };
    if let Ok(expanded) = lexer.expand(&word, &environment) {
        // Words are the text without its blanks.
        let length: usize = expanded.words.iter().map(String::len).sum();
        assert!(length <= expanded.text.len());
    }
});

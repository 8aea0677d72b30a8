#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub, unused_qualifications)]
//! Any bake file, in each of its forms: read, evaluated, its targets resolved. The first byte chooses the form.

// Bake is part of the binary, which is no library.
#[path = "../../../cli/src/bake/mod.rs"]
mod bake;

/// What bake asks of the rest of the binary.
mod settings {
    pub(crate) fn variable(_: &str) -> Option<String> {
        None
    }
}

mod args {
    /// Any limit will do.
    pub(crate) struct Resource;

    impl std::str::FromStr for Resource {
        type Err = String;

        fn from_str(_: &str) -> Result<Self, String> {
            Ok(Self)
        }
    }
}

use std::collections::BTreeMap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((form, text)) = data.split_first() else { return };
    let name = ["docker-bake.hcl", "docker-bake.json", "compose.yaml", "bake"][usize::from(*form) % 4];
    let source = bake::Source::new(name, &String::from_utf8_lossy(text));
    let environment = |name: &str| (name == "GIVEN").then(|| "value".to_owned());
    let outside = bake::Outside { environment: &environment, read: &|_| Ok(None) };
    match bake::load(&[source], &outside, BTreeMap::new()) {
        Ok(config) => {
            for pattern in ["*", "default"] {
                if let Ok(names) = config.matching(pattern) {
                    drop(config.resolve(&names, &[]));
                }
            }
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
});

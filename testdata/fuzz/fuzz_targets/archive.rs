#![no_main]
//! Any bytes are read as an archive, plain or compressed, within limits.

use std::io::Read;

use lap_cache::archive::{Limits, Reader};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = Limits { entries: 1000, bytes: 1 << 22, path: 4095, extended_header: 1 << 16, extents: 1000 };
    let mut read = |stream: &mut dyn Read| {
        let mut reader = Reader::new(stream, limits);
        while let Ok(Some(entry)) = reader.next_entry() {
            assert!(!format!("{entry:?}").is_empty());
            let mut bytes = Vec::new();
            if reader.by_ref().take(1 << 16).read_to_end(&mut bytes).is_err() {
                return;
            }
        }
    };
    read(&mut &data[..]);
    let _archive = lap_cache::tarball::is_archive(data);
    if let Ok(mut stream) = lap_cache::layer::decompress(data) {
        read(&mut stream);
    }
});

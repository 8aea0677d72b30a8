//! Runs tests in a program of their own and sums up as libtest does: for tests whose program is started again as the
//! init of a sandbox, which libtest's threads would be in the way of.

use std::path::Path;
use std::time::Instant;

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

/// Runs those whose name contains a word of the command line, or all; returns the exit code. What cannot run here is
/// skipped, saying why.
pub(crate) fn run(tests: &[Test]) -> i32 {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: {} tests of sandboxes need root", tests.len());
        return 0;
    }
    if !Path::new("/bin/busybox").exists() {
        println!("SKIPPED: {} tests of sandboxes need /bin/busybox (Debian package busybox-static)", tests.len());
        return 0;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let start = Instant::now();
        if std::panic::catch_unwind(test).is_ok() {
            passed += 1;
            println!("test {name} ... ok ({:?})", start.elapsed());
        } else {
            failed += 1;
            println!("test {name} ... FAILED");
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n");
    i32::from(failed > 0)
}

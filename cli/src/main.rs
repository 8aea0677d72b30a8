//! `lap`: builds and runs container images.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command::dockerfile::run(&arguments) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            use std::io::Write as _;
            let _shown = writeln!(std::io::stderr(), "lap: {error:#}");
            ExitCode::FAILURE
        }
    }
}

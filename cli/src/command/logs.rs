//! `lap logs`

use std::io::Write as _;

use anyhow::Context as _;
use lap_executor::container::{LogOptions, Stream};

use crate::args::Logs;
use crate::command::{App, containers};

pub(super) fn run(app: &App, args: &Logs) -> anyhow::Result<i32> {
    let all = containers::all(app)?;
    let container = all.find(&args.container)?;
    let tail = match args.tail.as_deref() {
        None | Some("all") => None,
        Some(text) => Some(text.parse().with_context(|| format!("--tail {text}: neither a number nor `all`"))?),
    };
    let options = LogOptions { follow: args.follow, tail, since: None };
    all.logs(&container, &options, &mut |entry| {
        let time = if args.timestamps { format!("{} ", entry.time) } else { String::new() };
        match entry.stream {
            Stream::Stdout => {
                let mut out = std::io::stdout().lock();
                write!(out, "{time}{}", entry.log)?;
                out.flush()
            }
            Stream::Stderr => write!(std::io::stderr(), "{time}{}", entry.log),
        }
    })?;
    Ok(0)
}

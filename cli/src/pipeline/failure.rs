//! What went wrong in a build, told with the instruction that it went wrong in.

use std::fmt;

use anyhow::Error;
use lap_executor::op::exec::ExecError;
use lap_executor::worker::WorkerError;
use lap_frontend::BaseImage;
use lap_solver::drive::SolveError;
use lap_solver::graph::{Graph, Location, Op};

use super::Request;
use crate::ui::error::{FULL, advise, excerpt};

/// What can be done about a command that failed.
const SHELL: &str = "lap debug --last opens a shell where the step failed";

/// A failed step: its output's end, its lines, and why.
pub(super) fn step(error: SolveError<WorkerError>, graph: &Graph, file: &str, text: &[u8]) -> Error {
    let SolveError::Step { vertex, error } = error else { return Error::new(error) };
    let metadata = &graph.vertex(vertex).metadata;
    let mut out = String::new();
    if let WorkerError::Exec(ExecError::Failed { tail, .. } | ExecError::TimedOut { tail, .. }) = &error
        && !tail.is_empty()
    {
        let tail = String::from_utf8_lossy(tail);
        let lines: Vec<String> = tail.lines().map(|line| crate::ui::printable(line.as_bytes())).collect();
        let lines = lines[lines.len().saturating_sub(20)..].join("\n");
        out = format!("------\n > {}:\n{lines}\n------\n", crate::ui::label(metadata));
    }
    let what = match &graph.vertex(vertex).op {
        Op::Exec(exec) => {
            format!("failed to solve: process {:?} did not complete successfully: {error}", exec.args.join(" "))
        }
        _ => format!("failed to solve: {}", metadata.name.lines().next().unwrap_or_default()),
    };
    let kept = matches!(
        error,
        WorkerError::Exec(ExecError::Failed { kept: true, .. } | ExecError::TimedOut { kept: true, .. })
    );
    let full = matches!(error, WorkerError::Exec(ExecError::Failed { store_full: true, .. }));
    let hint = if full { Some(FULL.to_owned()) } else { error.hint().map(str::to_owned) };
    let hint = hint.or_else(|| kept.then(|| SHELL.to_owned()));
    let error = match hint {
        Some(hint) => advise(error, hint),
        None => Error::new(error),
    };
    error.context(Located { before: out + &place(metadata.location.as_ref(), file, text), kept, what })
}

/// A base image that cannot be had, with the first line that names it.
pub(super) fn base(error: Error, image: &BaseImage, request: &Request) -> Error {
    let text = String::from_utf8_lossy(&request.text);
    let reference: Option<lap_cache::image::Reference> = image.reference.parse().ok();
    let familiar = reference.map_or_else(|| image.reference.clone(), |reference| reference.familiar());
    let bare = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    let line = (1..).zip(text.lines()).find(|(_, line)| line.contains(bare)).map(|(number, _)| number);
    let location = line.map(|line| Location { file: request.file_name.clone(), first: line, last: line });
    let before = place(location.as_ref(), &request.file_name, &request.text);
    error.context(Located { before, kept: false, what: format!("failed to solve: {familiar}: cannot be had") })
}

fn place(location: Option<&Location>, file: &str, text: &[u8]) -> String {
    let Some(location) = location else { return String::new() };
    excerpt(file, &String::from_utf8_lossy(text), location.first, location.last)
}

/// The headline of an error with what is shown before it.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) before: String,
    /// Whether what the step left is kept, so that one can go on there.
    pub(crate) kept: bool,
    what: String,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

//! Containers: a sandbox with a name, state on disk and a life longer than one command.

use std::ffi::OsString;

/// `argv[0]` of the process that watches a detached container.
pub(crate) const SUPERVISOR_NAME: &str = "lap-supervise";

/// The process that watches a detached container.
pub(crate) fn supervisor_main(_args: impl Iterator<Item = OsString>) -> i32 {
    125
}

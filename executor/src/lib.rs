//! Does the steps of a build and runs containers.
//!
//! What: the sandbox (namespaces, root file system, capabilities, system call filter, limits), containers with
//! their state on disk, and the user namespace that lets an unprivileged user do all of this.
//! Why a crate of its own: it is the only place that starts programs of images.
//! Invariants: nothing here prints, reads the environment or exits; unsafe code is in [`sys`] only; a program that
//! links this crate calls [`hidden_entry`] first thing in `main`, before any thread exists.

pub mod agent;
pub mod container;
pub mod emulation;
pub mod grant;
pub mod network;
pub mod op;
pub mod overlay;
pub mod sandbox;
pub mod source;
mod sys;
pub mod tree;
pub mod userns;
pub mod worker;

use std::ffi::OsString;

/// Runs the part of this program that is started by the program itself, told by `argv[0]`.
///
/// Returns the exit code when the arguments were such a call, nothing when they are a user's. To be called first in
/// `main`, before any thread exists: the init of a sandbox must be single-threaded.
pub fn hidden_entry(args: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let mut args = args.into_iter();
    let name = args.next()?;
    match name.to_str()? {
        sandbox::INIT_NAME => Some(sandbox::init::main(args.next())),
        emulation::HOLDER_NAME => Some(emulation::holder_main(args)),
        container::SUPERVISOR_NAME => Some(container::supervisor_main(args)),
        _ => None,
    }
}

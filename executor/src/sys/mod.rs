//! The system calls that need unsafe code, and nothing else.
//!
//! Each wrapper is safe to call with any arguments; each error names the call with its arguments. Everything above
//! this module forbids unsafe code.
#![allow(unsafe_code)]

mod process;
mod system;

use std::io;

pub(crate) use process::{fork, fork_until_exec, leave, reset_signals, spawn_self};
pub(crate) use system::{
    close_other_fds, join_session_keyring, load_filter, loopback_up, mount_set_attributes, take_fd,
};

/// A call that failed, with its arguments.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub(crate) struct CallError {
    /// The call with its arguments.
    pub(crate) call: String,
    /// The reason.
    pub(crate) source: io::Error,
}

impl CallError {
    fn last(call: impl Into<String>) -> Self {
        Self { call: call.into(), source: io::Error::last_os_error() }
    }
}

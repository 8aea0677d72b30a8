//! Failure on purpose, for tests: the N-th transition of what is on disk fails, or the process dies before it.
//!
//! Every rename, sync and removal that publishes or takes away something durable asks [`point`] first. In builds
//! without debug assertions that is nothing at all.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::io::Errno;

/// What happens at the transition.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The process is killed.
    Kill,
    /// The call fails with this error number.
    Fail(i32),
}

#[cfg(debug_assertions)]
static AT: AtomicU64 = AtomicU64::new(0);
#[cfg(debug_assertions)]
static SEEN: AtomicU64 = AtomicU64::new(0);
/// The error's number; 0 to be killed.
#[cfg(debug_assertions)]
static EFFECT: AtomicI32 = AtomicI32::new(0);

/// Makes the `at`-th transition from now on (from 1) fail.
#[cfg(debug_assertions)]
pub fn arm(at: u64, effect: Effect) {
    let number = match effect {
        Effect::Kill => 0,
        Effect::Fail(number) => number,
    };
    EFFECT.store(number, Ordering::Relaxed);
    SEEN.store(0, Ordering::Relaxed);
    AT.store(at, Ordering::Relaxed);
}

/// Whether the transition has come.
#[cfg(debug_assertions)]
#[must_use]
pub fn fired() -> bool {
    let at = AT.load(Ordering::Relaxed);
    at > 0 && SEEN.load(Ordering::Relaxed) >= at
}

/// To be asked before each transition.
///
/// # Errors
/// At the transition that was armed.
#[cfg(debug_assertions)]
pub fn point() -> Result<(), Errno> {
    let at = AT.load(Ordering::Relaxed);
    if at == 0 || SEEN.fetch_add(1, Ordering::Relaxed) + 1 != at {
        return Ok(());
    }
    match EFFECT.load(Ordering::Relaxed) {
        0 => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // Not reached: the signal comes before the call returns.
            std::process::abort();
        }
        number => Err(Errno::from_raw_os_error(number)),
    }
}

/// To be asked before each transition.
///
/// # Errors
/// Never.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn point() -> Result<(), Errno> {
    Ok(())
}

//! One build at a time executes a step, whatever number of them wants it.
//!
//! Each step has a byte of the store's `steps.lock`, found by its key. The kernel gives a lock back when its owner
//! dies, so nobody waits for the dead, and nothing is left to clean up. Nobody waits for a second step while holding a
//! first one, so no two builds wait for each other.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use lap_solver::digest::Key;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The longest pause between two looks at a lock.
const PAUSE: Duration = Duration::from_millis(50);

/// The right to execute a step; dropping it lets the next one have it.
#[derive(Debug)]
pub struct StepLock {
    /// Open file description locks (fcntl(2), F_OFD_SETLK) go when it is closed.
    _file: File,
}

impl StepLock {
    /// Takes the lock of the step of `key` in the store at `root`. Where another build has it, calls `waiting` and
    /// waits.
    pub(super) async fn take(root: &Path, key: &Key, waiting: impl FnOnce()) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(root.join("steps.lock"))?;
        let mut waiting = Some(waiting);
        let mut pause = Duration::from_millis(2);
        while !try_lock(&file, key)? {
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            // No blocking lock: it could not be given up when the build is.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE);
        }
        Ok(Self { _file: file })
    }
}

fn try_lock(file: &File, key: &Key) -> io::Result<bool> {
    let mut at = [0; 8];
    at.copy_from_slice(&key.as_bytes()[..8]);
    let lock = libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        // Steps that share these 63 bits would only wait for each other. The last byte of all cannot be locked.
        l_start: (i64::from_le_bytes(at) & i64::MAX).min(i64::MAX - 1),
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_step_is_for_one_and_other_steps_are_free() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let take = |name: &str| {
            let key = Key::of("t", name);
            async move { StepLock::take(root, &key, || panic!("nobody is there")).await.unwrap() }
        };
        let mine = take("a").await;
        let other = take("b").await;

        let told = AtomicBool::new(false);
        let key = Key::of("t", "a");
        let again = StepLock::take(root, &key, || told.store(true, Ordering::Relaxed));
        let mut again = std::pin::pin!(again);
        assert!(futures_now(again.as_mut()).await.is_none());
        assert!(told.load(Ordering::Relaxed));
        drop(mine);
        again.await.unwrap();
        drop(other);
    }

    /// What a future has to say at once.
    async fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}

//! Ctrl-C and its kin: the first cancels, the second kills, the third ends this process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::exit::INTERRUPTED;

/// The first signal that came.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// The exit code of who was ended by a signal: 128 and its number.
pub(crate) fn exit_code() -> i32 {
    match FIRST.load(Ordering::SeqCst) {
        0 => INTERRUPTED,
        number => 128 + number,
    }
}

/// Tells when the user has had enough.
#[derive(Clone)]
pub(crate) struct Interrupt {
    asked: Arc<Notify>,
    count: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP, the last only where it is not ignored, as under nohup(1). Must be called inside a runtime.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let interrupt = Self { asked: Arc::new(Notify::new()), count: Arc::new(AtomicUsize::new(0)) };
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            if kind == SignalKind::hangup() && is_ignored(kind) {
                continue;
            }
            let mut stream = signal(kind)?;
            let (asked, count) = (Arc::clone(&interrupt.asked), Arc::clone(&interrupt.count));
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    // Only the first one counts.
                    FIRST.compare_exchange(0, kind.as_raw_value(), Ordering::SeqCst, Ordering::SeqCst).ok();
                    if count.fetch_add(1, Ordering::SeqCst) >= 1 {
                        leave();
                    }
                    asked.notify_waiters();
                    asked.notify_one();
                }
            });
        }
        Ok(interrupt)
    }

    /// Resolves at the first signal.
    pub(crate) async fn asked(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            self.asked.notified().await;
        }
    }
}

/// Whether this process was told to ignore a signal when it was started (proc_pid_status(5), SigIgn).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (kind.as_raw_value() - 1)) != 0)
}

/// Sandboxes die with this process: their init notices.
#[expect(clippy::exit, reason = "the user asked twice")]
fn leave() {
    eprintln!("\nlap: killed");
    std::process::exit(exit_code());
}

//! Ctrl-C and its kin: the first cancels, the second kills, the third ends this process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::exit::INTERRUPTED;

/// Tells when the user has had enough.
#[derive(Clone)]
pub(crate) struct Interrupt {
    asked: Arc<Notify>,
    count: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP. Must be called inside a runtime.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let interrupt = Self { asked: Arc::new(Notify::new()), count: Arc::new(AtomicUsize::new(0)) };
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut stream = signal(kind)?;
            let (asked, count) = (Arc::clone(&interrupt.asked), Arc::clone(&interrupt.count));
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
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

/// Sandboxes die with this process: their init notices.
#[expect(clippy::exit, reason = "the user asked twice")]
fn leave() {
    eprintln!("\nlap: killed");
    std::process::exit(INTERRUPTED);
}

//! kill -9 at a write of choice, as everybody but the killed sees it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use airdock::runtime::client::{RequestHook, is_write};
use futures::future::BoxFuture;
use http::Method;
use tokio::sync::watch;

/// On which side of a write the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before it is sent.
    Before,
    /// When it was carried out, before its answer is seen.
    After,
}

/// Sees every request of a process, and from one write on lets none go on. Who then drops the process' runtime has
/// killed it.
pub struct FaultInjector {
    at: usize,
    moment: Moment,
    counts: fn(&str) -> bool,
    sent: AtomicUsize,
    answered: AtomicUsize,
    log: Mutex<Vec<String>>,
    happened: watch::Sender<bool>,
}

impl FaultInjector {
    /// Happens at the n-th write, counted from 1.
    pub fn at(n: usize, moment: Moment) -> Self {
        Self {
            at: n,
            moment,
            counts: |_| true,
            sent: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            log: Mutex::default(),
            happened: watch::Sender::new(false),
        }
    }

    /// Never happens; writes are still told.
    pub fn never() -> Self {
        Self::at(usize::MAX, Moment::Before)
    }

    /// Counts only the writes whose path is wanted.
    #[must_use]
    pub fn counting(self, counts: fn(&str) -> bool) -> Self {
        Self { counts, ..self }
    }

    /// All writes so far.
    pub fn writes(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Whether it was at the write.
    pub fn has_happened(&self) -> bool {
        *self.happened.borrow()
    }

    /// Waits until it was at the write.
    pub async fn happened(&self) {
        self.happened.subscribe().wait_for(|happened| *happened).await.unwrap();
    }

    fn count(&self, counter: &AtomicUsize, moment: Moment, method: &Method, path: &str) {
        if is_write(method) && (self.counts)(path) {
            let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
            if moment == self.moment && n == self.at {
                self.happened.send_replace(true);
            }
        }
    }

    /// For ever, once it happened: the dead neither send nor hear.
    fn pass(&self) -> BoxFuture<'static, ()> {
        if self.has_happened() { Box::pin(std::future::pending()) } else { Box::pin(std::future::ready(())) }
    }
}

impl RequestHook for FaultInjector {
    fn before(&self, method: &Method, host: &str, path: &str) -> BoxFuture<'static, ()> {
        if is_write(method) && !self.has_happened() {
            self.log.lock().unwrap().push(format!("{method} {host}{path}"));
            self.count(&self.sent, Moment::Before, method, path);
        }
        self.pass()
    }

    fn after(&self, method: &Method, _: &str, path: &str, _: u16, _: Duration) -> BoxFuture<'static, ()> {
        self.count(&self.answered, Moment::After, method, path);
        self.pass()
    }
}

//! A work queue by key: a key is queued once, worked on by one worker at a time, and comes back with exponential
//! backoff when its work failed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::runtime::backoff::delay;
use crate::runtime::metrics::Metrics;

/// How long one piece of work may take before it is given up and tried again.
const DEADLINE: Duration = Duration::from_secs(30);

/// What became of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkResult {
    /// It is done.
    Done,
    /// It is to be looked at again after a while, though it did not fail.
    RequeueAfter(Duration),
    /// It failed: again, each time later than the last.
    Failed,
    /// It failed for a reason that does not pass quickly: again, but not soon.
    Stuck,
}

/// The shortest wait after [`WorkResult::Stuck`].
const MIN_STUCK_BACKOFF: Duration = Duration::from_secs(15);

/// Keys that an empty queue has room for.
const RETAINED_CAPACITY: usize = 256;

/// A work queue by key.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    depth: Gauge,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashMap<K, Option<Instant>>,
    waiting: BTreeMap<(Instant, u64), K>,
    deadlines: HashMap<K, (Instant, u64)>,
    attempts: HashMap<K, u32>,
    sequence: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self::new(Gauge::default())
    }
}

impl<K> Queue<K> {
    /// A queue that counts its keys that wait for a worker. Several may share a gauge.
    #[must_use]
    pub fn new(depth: Gauge) -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashMap::new(),
            waiting: BTreeMap::new(),
            deadlines: HashMap::new(),
            attempts: HashMap::new(),
            sequence: 0,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), depth }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn push(&mut self, key: K, depth: &Gauge) {
        if let Some(deadline) = self.deadlines.remove(&key) {
            self.waiting.remove(&deadline);
        }
        if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
            depth.inc();
        }
    }

    /// Gives back what thousands of keys took, when they are done.
    fn shrink(&mut self) {
        if self.ready.is_empty() && self.ready.capacity() > RETAINED_CAPACITY {
            self.ready.shrink_to(RETAINED_CAPACITY);
            self.queued.shrink_to(RETAINED_CAPACITY);
        }
        if self.deadlines.is_empty() && self.deadlines.capacity() > RETAINED_CAPACITY {
            self.deadlines.shrink_to(RETAINED_CAPACITY);
        }
        if self.attempts.is_empty() && self.attempts.capacity() > RETAINED_CAPACITY {
            self.attempts.shrink_to(RETAINED_CAPACITY);
        }
    }

    fn push_at(&mut self, key: K, at: Instant) {
        if self.queued.contains(&key) {
            return;
        }
        if let Some(known) = self.deadlines.get(&key) {
            if known.0 <= at {
                return;
            }
            self.waiting.remove(known);
        }
        self.sequence += 1;
        let deadline = (at, self.sequence);
        self.deadlines.insert(key.clone(), deadline);
        self.waiting.insert(deadline, key);
    }
}

impl<K: Clone + Eq + Hash + Debug + Send + Sync + 'static> Queue<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock()
    }

    /// Queues a key for now.
    pub fn add(&self, key: K) {
        self.add_after(key, Duration::ZERO);
    }

    /// Queues a key for later; the earlier of two times counts.
    pub fn add_after(&self, key: K, after: Duration) {
        let mut state = self.lock();
        let at = Instant::now() + after;
        if let Some(again) = state.running.get_mut(&key) {
            *again = Some(again.map_or(at, |known| known.min(at)));
            return;
        }
        if after.is_zero() {
            state.push(key, &self.depth);
        } else {
            state.push_at(key, at);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Keys that wait for a worker, in all queues that count together.
    pub fn depth(&self) -> i64 {
        self.depth.get()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lock().ready.is_empty()
    }

    async fn take(&self) -> K {
        loop {
            let next = {
                let mut state = self.lock();
                let now = Instant::now();
                while let Some(entry) = state.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
                    let key = entry.remove();
                    state.push(key, &self.depth);
                }
                if let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    self.depth.dec();
                    state.running.insert(key.clone(), None);
                    if !state.ready.is_empty() {
                        // One wake-up may stand for several keys.
                        self.wake.notify_one();
                    }
                    return key;
                }
                state.waiting.first_key_value().map(|((at, _), _)| *at)
            };
            match next {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    fn finish(&self, key: K, result: WorkResult) {
        let mut state = self.lock();
        let again = state.running.remove(&key).flatten();
        let wait = match result {
            WorkResult::Done => {
                state.attempts.remove(&key);
                None
            }
            WorkResult::RequeueAfter(after) => {
                state.attempts.remove(&key);
                Some(after)
            }
            WorkResult::Failed | WorkResult::Stuck => {
                let attempts = state.attempts.entry(key.clone()).or_insert(0);
                let wait = delay(*attempts, rand::random());
                *attempts = attempts.saturating_add(1);
                Some(if result == WorkResult::Stuck { wait.max(MIN_STUCK_BACKOFF) } else { wait })
            }
        };
        let now = Instant::now();
        // What was added while it was worked on does not wait for the backoff.
        match (again, wait.map(|wait| now + wait)) {
            (Some(again), _) if again <= now => state.push(key, &self.depth),
            (Some(again), Some(at)) => state.push_at(key, again.min(at)),
            (Some(at), None) | (None, Some(at)) => state.push_at(key, at),
            (None, None) => {}
        }
        state.shrink();
        drop(state);
        self.wake.notify_one();
    }

    /// Works on keys until it is dropped. A piece of work that panics or takes too long has failed.
    pub async fn work<F, W>(self: Arc<Self>, name: &'static str, concurrency: usize, metrics: Metrics, work: F)
    where
        F: Fn(K) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = WorkResult> + Send + 'static,
    {
        let mut workers = JoinSet::new();
        for _ in 0..concurrency.max(1) {
            let (queue, work, metrics) = (self.clone(), work.clone(), metrics.clone());
            workers.spawn(async move {
                loop {
                    let key = queue.take().await;
                    let guard = Running { queue: &queue, key: Some(key.clone()) };
                    let started = std::time::Instant::now();
                    let task = AssertUnwindSafe(async { work(key.clone()).await }).catch_unwind();
                    let result = match tokio::time::timeout(DEADLINE, task).await {
                        Ok(Ok(result)) => result,
                        Ok(Err(_)) => {
                            metrics.panicked(name);
                            tracing::error!(?key, queue = name, "work panicked");
                            WorkResult::Failed
                        }
                        Err(_) => {
                            tracing::warn!(?key, queue = name, "work took too long");
                            WorkResult::Failed
                        }
                    };
                    let label = match result {
                        WorkResult::Done => "success",
                        WorkResult::RequeueAfter(_) => "requeue_after",
                        WorkResult::Failed | WorkResult::Stuck => "error",
                    };
                    metrics.reconciled(name, label, started.elapsed());
                    guard.finish(result);
                }
            });
        }
        while workers.join_next().await.is_some() {}
    }
}

impl<K> Drop for Queue<K> {
    fn drop(&mut self) {
        // What is still waiting waits for nobody any more.
        let state = self.state.get_mut();
        self.depth.dec_by(i64::try_from(state.ready.len()).unwrap_or(i64::MAX));
    }
}

/// Gives a key back when its worker is stopped in the middle of it.
struct Running<'a, K: Clone + Eq + Hash + Debug + Send + Sync + 'static> {
    queue: &'a Queue<K>,
    key: Option<K>,
}

impl<K: Clone + Eq + Hash + Debug + Send + Sync + 'static> Running<'_, K> {
    fn finish(mut self, result: WorkResult) {
        if let Some(key) = self.key.take() {
            self.queue.finish(key, result);
        }
    }
}

impl<K: Clone + Eq + Hash + Debug + Send + Sync + 'static> Drop for Running<'_, K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.queue.finish(key, WorkResult::RequeueAfter(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Arc<Queue<&'static str>> {
        Arc::default()
    }

    #[tokio::test]
    async fn a_key_is_queued_once() {
        let queue = queue();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!((queue.take().await, queue.take().await), ("a", "b"));
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_key_that_is_added_during_work_comes_back() {
        let queue = queue();
        queue.add("a");
        let key = queue.take().await;
        queue.add("a");
        assert!(queue.is_empty(), "not worked on twice at once");
        queue.finish(key, WorkResult::Done);
        assert_eq!(queue.take().await, "a");
    }

    #[tokio::test]
    async fn failures_are_counted_until_a_success() {
        let queue = queue();
        // How long each of them waits is the backoff's, and tested there.
        for failures in 1..=3 {
            queue.add("a");
            let key = queue.take().await;
            queue.finish(key, WorkResult::Failed);
            let waiting = std::mem::take(&mut queue.lock().waiting);
            assert_eq!((queue.lock().attempts.get("a"), waiting.len()), (Some(&failures), 1));
        }
        queue.add("a");
        let key = queue.take().await;
        queue.finish(key, WorkResult::Done);
        assert!(queue.lock().attempts.is_empty() && queue.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_crowd_leaves_no_room_behind() {
        let queue: Arc<Queue<usize>> = Arc::default();
        (0..10_000).for_each(|key| queue.add(key));
        (0..10_000).for_each(|key| queue.add_after(key + 10_000, Duration::from_nanos(1)));
        for _ in 0..20_000 {
            let key = queue.take().await;
            queue.finish(key, WorkResult::Done);
        }
        let state = queue.lock();
        for capacity in [state.ready.capacity(), state.queued.capacity(), state.deadlines.capacity()] {
            assert!(capacity <= 4 * RETAINED_CAPACITY, "{capacity}");
        }
    }

    #[tokio::test]
    async fn the_earlier_time_counts() {
        let queue = queue();
        let before = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_millis(50));
        queue.add_after("a", Duration::from_secs(30));
        queue.take().await;
        let waited = before.elapsed();
        assert!(waited >= Duration::from_millis(50) && waited < Duration::from_secs(20), "{waited:?}");
    }

    #[tokio::test]
    async fn panics_are_failures_and_stopped_work_comes_back() {
        let queue = queue();
        queue.add("a");
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let work = queue.clone().work("test", 1, Metrics::new(), move |key| {
            let sender = sender.clone();
            async move {
                sender.send(key).unwrap();
                panic!("on purpose")
            }
        });
        tokio::select! {
            () = work => {}
            () = async { receiver.recv().await.unwrap(); receiver.recv().await.unwrap(); } => {}
        }
        // Tried a second time after the panic. The worker was stopped in its midst; the key is not lost.
        assert_eq!(queue.take().await, "a");
    }
}

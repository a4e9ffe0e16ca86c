//! Watches by kind: each runs for as long as its kind is in use, and a while longer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::key::KindKey;
use crate::machinery::error::chain;

/// How long a kind is watched after its last use.
pub const UNUSED_WATCH_GRACE_PERIOD: Duration = Duration::from_secs(60);

/// Watches by kind. They end with this.
#[derive(Debug, Default)]
pub struct KindWatches {
    tasks: JoinSet<Arc<KindKey>>,
    running: HashMap<Arc<KindKey>, AbortHandle>,
    unused: HashMap<Arc<KindKey>, Instant>,
}

impl KindWatches {
    /// Whether a kind is watched.
    #[must_use]
    pub fn contains(&self, kind: &Arc<KindKey>) -> bool {
        self.running.contains_key(kind)
    }

    /// Starts the watch of a kind.
    pub fn start(&mut self, kind: &Arc<KindKey>, watch: impl Future<Output = ()> + Send + 'static) {
        let watched = kind.clone();
        let watch = async move {
            watch.await;
            watched
        };
        self.running.insert(kind.clone(), self.tasks.spawn(watch));
    }

    /// Ends the watches of kinds that have not been wanted for a while, and returns these.
    pub fn end_unused(&mut self, wanted: &BTreeSet<Arc<KindKey>>, now: Instant) -> Vec<Arc<KindKey>> {
        self.unused.retain(|kind, _| !wanted.contains(kind));
        for kind in self.running.keys().filter(|kind| !wanted.contains(*kind)) {
            self.unused.entry(kind.clone()).or_insert(now);
        }
        let ended: Vec<_> = self
            .unused
            .extract_if(|_, since| now - *since >= UNUSED_WATCH_GRACE_PERIOD)
            .map(|(kind, _)| kind)
            .collect();
        for watch in ended.iter().filter_map(|kind| self.running.remove(kind)) {
            watch.abort();
        }
        ended
    }

    /// Whether there are watches that will end unless their kind is wanted again.
    #[must_use]
    pub fn has_unused(&self) -> bool {
        !self.unused.is_empty()
    }

    /// How many kinds are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Waits for a watch that has ended. Returns its kind, if it ended by itself: then it may be started anew.
    pub async fn ended(&mut self) -> Option<Arc<KindKey>> {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let (id, kind) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // It panicked, unless it is one that was ended here.
                let panicked = self.running.iter().find(|(_, watch)| watch.id() == error.id());
                let kind = panicked.map(|(kind, _)| kind.clone())?;
                tracing::error!(%kind, error = chain(&error), "watch panicked; it is started anew");
                (error.id(), kind)
            }
        };
        // It may have been started anew since.
        let is_last = self.running.get(&kind).is_some_and(|watch| watch.id() == id);
        if is_last {
            self.running.remove(&kind);
            self.unused.remove(&kind);
        }
        is_last.then_some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_outlives_its_last_use_by_a_while() {
        let kind = |name: &str| KindKey::new("v1", name);
        let (used, unused) = (kind("Used"), kind("Unused"));
        let mut watches = KindWatches::default();
        for kind in [&used, &unused] {
            watches.start(kind, std::future::pending());
        }
        let start = Instant::now();
        let (both, one) = ([used.clone(), unused.clone()].into(), [used.clone()].into());
        assert!(watches.end_unused(&both, start).is_empty() && !watches.has_unused());
        assert!(watches.end_unused(&one, start).is_empty() && watches.has_unused());
        // Wanted again in between: the time counts anew.
        assert!(watches.end_unused(&both, start + UNUSED_WATCH_GRACE_PERIOD).is_empty() && !watches.has_unused());
        assert!(watches.end_unused(&one, start + UNUSED_WATCH_GRACE_PERIOD).is_empty());
        assert_eq!(watches.end_unused(&one, start + 2 * UNUSED_WATCH_GRACE_PERIOD), std::slice::from_ref(&unused));
        assert!(watches.contains(&used) && !watches.contains(&unused) && !watches.has_unused());
        assert_eq!(watches.ended().await, None, "nobody needs to be told");
    }

    #[tokio::test]
    async fn a_watch_that_ends_by_itself_may_be_started_anew() {
        let kind = KindKey::new("v1", "Gone");
        let mut watches = KindWatches::default();
        watches.start(&kind, std::future::ready(()));
        assert!(watches.contains(&kind));
        assert_eq!(watches.ended().await, Some(kind.clone()));
        assert!(!watches.contains(&kind));
        watches.start(&kind, std::future::pending());
        assert!(watches.contains(&kind));
    }

    #[tokio::test]
    async fn a_watch_that_panicked_may_be_started_anew() {
        let (kind, other) = (KindKey::new("v1", "Bad"), KindKey::new("v1", "Good"));
        let mut watches = KindWatches::default();
        watches.start(&other, std::future::pending());
        watches.start(&kind, async { panic!("as a mirror would") });
        assert_eq!(watches.ended().await, Some(kind.clone()));
        assert!(!watches.contains(&kind) && watches.contains(&other));
    }
}

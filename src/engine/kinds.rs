//! Watches by kind: each runs for as long as its kind is in use, and a while longer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::key::KindKey;

/// How long a kind is watched after its last use.
pub const LINGER: Duration = Duration::from_secs(60);

/// Watches by kind. They end with this.
#[derive(Debug, Default)]
pub struct KindWatches {
    tasks: JoinSet<()>,
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
        self.running.insert(kind.clone(), self.tasks.spawn(watch));
    }

    /// Ends the watches of kinds that have not been wanted for a while, and returns these.
    pub fn end_unused(&mut self, wanted: &BTreeSet<Arc<KindKey>>, now: Instant) -> Vec<Arc<KindKey>> {
        self.unused.retain(|kind, _| !wanted.contains(kind));
        for kind in self.running.keys().filter(|kind| !wanted.contains(*kind)) {
            self.unused.entry(kind.clone()).or_insert(now);
        }
        let ended: Vec<_> = self.unused.extract_if(|_, since| now - *since >= LINGER).map(|(kind, _)| kind).collect();
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

    /// Waits for a watch that has ended.
    pub async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
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
        assert!(watches.end_unused(&both, start + LINGER).is_empty() && !watches.has_unused());
        assert!(watches.end_unused(&one, start + LINGER).is_empty());
        assert_eq!(watches.end_unused(&one, start + 2 * LINGER), std::slice::from_ref(&unused));
        assert!(watches.contains(&used) && !watches.contains(&unused) && !watches.has_unused());
        watches.ended().await;
    }
}

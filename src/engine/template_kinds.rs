//! Which kinds of the plane are watched: those that a policy selects or a binding names, one watch a kind.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Engine;
use super::definitions::mark_undefined;
use super::discovery::discover;
use super::key::KindKey;
use super::kind_watches::{KindWatches, UNUSED_WATCH_GRACE_PERIOD};
use super::templates::Templates;
use super::watch::{WhenUnserved, mirror_json};
use crate::machinery::error::chain;

/// How soon a kind that is selected but not served is looked for again.
const MISSING_KINDS_RECHECK: Duration = Duration::from_secs(5);

/// How many kinds of a plane are watched at most. A plane with as many definitions is out of order.
const MAX_KINDS: usize = 1000;

/// Watches templates of the kinds that are in use, one watch a kind.
pub(super) async fn follow_templates(engine: Arc<Engine>) {
    let mut changes = engine.kinds.subscribe();
    let mut watches = KindWatches::default();
    let mut missing = Missing::default();
    loop {
        changes.borrow_and_update();
        let wanted = engine.index().plane_kinds();
        for kind in watches.end_unused(&wanted, Instant::now()) {
            engine.index().forget_kind(&kind);
        }
        start_watches(&engine, &mut watches, &mut missing, &wanted).await;
        let recheck_after = match (missing.is_empty(), watches.has_unused()) {
            (false, _) => MISSING_KINDS_RECHECK,
            (true, false) => Duration::from_secs(3600),
            (true, true) => UNUSED_WATCH_GRACE_PERIOD,
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep(recheck_after) => {}
            ended = watches.ended() => if let Some(kind) = ended {
                tracing::info!(%kind, "kind is not served by the plane any more");
                // As after a start: what was known of it counts no more, and nothing is known until it was looked for.
                engine.forget_plane_kind(&kind);
                engine.index().forget_kind(&kind);
                missing.put(kind, Instant::now());
            }
        }
        // A burst of bindings brings one kind.
        sleep(Duration::from_millis(5)).await;
    }
}

/// Kinds that are selected but not served, and when each was last looked for. Anybody may select kinds that nobody has
/// heard of.
#[derive(Default)]
struct Missing(HashMap<Arc<KindKey>, Instant>);

impl Missing {
    /// How often a kind is looked for at most, however often others come and go.
    const PAUSE: Duration = Duration::from_secs(1);

    fn put(&mut self, kind: Arc<KindKey>, now: Instant) {
        self.0.insert(kind, now);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a kind is to be looked for now.
    fn is_due(&self, kind: &Arc<KindKey>, now: Instant) -> bool {
        self.0.get(kind).is_none_or(|looked| now - *looked >= Self::PAUSE)
    }
}

/// What is done about kinds that are not watched.
#[derive(Debug, PartialEq, Eq)]
struct Starts<R> {
    /// They are watched from now on.
    start: Vec<(Arc<KindKey>, R)>,
    /// They are not served.
    missing: Vec<Arc<KindKey>>,
    /// They are served, and too many.
    left_out: Vec<Arc<KindKey>>,
}

/// Decides what is done about kinds that are not watched. Those that bindings name come before those that are no more than
/// selected. Pure.
fn starts<R>(
    mut new: Vec<Arc<KindKey>>,
    is_bound: impl Fn(&KindKey) -> bool,
    served: impl Fn(&Arc<KindKey>) -> Option<R>,
    room: usize,
) -> Starts<R> {
    new.sort_by_key(|kind| !is_bound(kind));
    let mut starts = Starts { start: Vec::new(), missing: Vec::new(), left_out: Vec::new() };
    for kind in new {
        match served(&kind) {
            None => starts.missing.push(kind),
            Some(resource) if starts.start.len() < room => starts.start.push((kind, resource)),
            Some(_) => starts.left_out.push(kind),
        }
    }
    starts
}

/// Starts the watches of kinds that have none and are served. What is not served delays none of them.
async fn start_watches(
    engine: &Arc<Engine>,
    watches: &mut KindWatches,
    missing: &mut Missing,
    wanted: &BTreeSet<Arc<KindKey>>,
) {
    let new: Vec<_> = wanted.iter().filter(|kind| !watches.contains(kind)).cloned().collect();
    let now = Instant::now();
    let unknown = |kind: &Arc<KindKey>| engine.plane_resource(kind).is_none();
    let mut lacking = Vec::new();
    if new.iter().any(|kind| unknown(kind) && missing.is_due(kind, now)) {
        match discover(engine.rest.client()).await {
            Ok(served) => {
                lacking = served.lacking(&new);
                engine.set_plane_served(served.kinds);
            }
            Err(error) => tracing::debug!(error = chain(&error), "kinds of the plane are not known"),
        }
        missing.0.clear();
    }
    let room = MAX_KINDS.saturating_sub(watches.len());
    let bound: HashSet<_> = {
        let index = engine.index();
        new.iter().filter(|kind| index.binds(kind)).cloned().collect()
    };
    let starts = starts(new, |kind| bound.contains(kind), |kind| engine.plane_resource(kind), room);
    for (kind, resource) in starts.start {
        let mirror = Templates { engine: engine.clone(), kind: kind.clone() };
        let rest = engine.rest.clone();
        watches.start(&kind, async move {
            mirror_json(&rest, resource, None, None, WhenUnserved::End, mirror).await;
        });
    }
    if let Some(kind) = starts.left_out.first() {
        let more = starts.left_out.len() - 1;
        tracing::warn!(%kind, more, "too many kinds are selected; no more than {MAX_KINDS} are watched");
    }
    let looked: Vec<_> = starts.missing.iter().filter(|kind| !missing.0.contains_key(*kind)).cloned().collect();
    for kind in &looked {
        missing.put(kind.clone(), now);
    }
    missing.0.retain(|kind, _| wanted.contains(kind));
    mark_undefined(engine, lacking).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_not_served_delay_none_that_are() {
        let kind = |name: &str| KindKey::new("g/v1", name);
        let invented: Vec<_> = (0..2000).map(|n| kind(&format!("A{n}"))).collect();
        let new: Vec<_> = invented.iter().cloned().chain(["Selected", "Bound", "Other"].map(kind)).collect();
        let served = |kind: &Arc<KindKey>| (!kind.kind.starts_with('A')).then_some(());
        let names =
            |starts: &Starts<()>| -> Vec<String> { starts.start.iter().map(|(kind, ())| kind.kind.clone()).collect() };
        let is_bound = |kind: &KindKey| kind.kind == "Bound";
        let all = starts(new.clone(), is_bound, served, 10);
        assert_eq!(names(&all), ["Bound", "Selected", "Other"]);
        assert_eq!((all.missing, all.left_out), (invented, vec![]));
        let some = starts(new, is_bound, served, 2);
        assert_eq!(
            (names(&some), some.left_out),
            (vec!["Bound".to_owned(), "Selected".to_owned()], vec![kind("Other")])
        );
    }

    #[test]
    fn a_missing_kind_is_looked_for_now_and_then() {
        let (kind, now) = (KindKey::new("g/v1", "K"), Instant::now());
        let mut missing = Missing::default();
        assert!(missing.is_empty() && missing.is_due(&kind, now));
        missing.put(kind.clone(), now);
        assert!(!missing.is_empty() && !missing.is_due(&kind, now));
        assert!(missing.is_due(&kind, now + Missing::PAUSE));
    }
}

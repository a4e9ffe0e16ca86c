//! Objects that somebody changes and the engine puts right.

use std::time::Duration;

use super::super::desired::repair_backoff;

/// Repairs with less than this between them count as a fight over the object, which is slowed down. The longest pause before
/// a repair does not end the fight.
fn repair_window() -> Duration {
    2 * repair_backoff(u32::MAX, Duration::ZERO, Duration::ZERO)
}

/// How often an object was found changed and put right in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The wanted state that was written again.
    pub wanted: u64,
    /// Times in a row.
    pub count: u32,
    /// The last time, counted from the engine's start.
    pub at: Duration,
}

impl Repair {
    /// The repair that follows on the last one of an object.
    pub(super) fn after(last: Option<&Self>, wanted: u64, now: Duration) -> Self {
        let in_a_row = last.filter(|last| last.wanted == wanted && now.saturating_sub(last.at) < repair_window());
        Self { wanted, count: in_a_row.map_or(1, |last| last.count.saturating_add(1)), at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_does_not_end_a_fight() {
        let (mut now, mut last, mut pauses) = (Duration::ZERO, None::<Repair>, Vec::new());
        for _ in 0..20 {
            // The other writer is there at once; the engine waits.
            let pause = last.map(|last| repair_backoff(last.count, last.at, now)).unwrap_or_default();
            now += pause;
            pauses.push(pause);
            last = Some(Repair::after(last.as_ref(), 1, now));
        }
        assert!(pauses.is_sorted() && pauses[19] > Duration::from_secs(60), "{pauses:?}");
        assert_eq!(last.map(|last| last.count), Some(20));
        assert_eq!(Repair::after(last.as_ref(), 1, now + repair_window()).count, 1);
        assert_eq!(Repair::after(last.as_ref(), 2, now).count, 1, "something else is wanted");
    }
}

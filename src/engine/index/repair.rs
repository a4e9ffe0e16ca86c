//! Objects that somebody changes and the engine puts right.

use std::time::Duration;

/// Repairs with less than this between them count as a fight over the object, which is slowed down.
const REPAIR_WINDOW: Duration = Duration::from_secs(60);

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
        let in_a_row = last.filter(|last| last.wanted == wanted && now.saturating_sub(last.at) < REPAIR_WINDOW);
        Self { wanted, count: in_a_row.map_or(1, |last| last.count + 1), at: now }
    }
}

//! Objects that are gone.

use std::collections::{HashMap, VecDeque};

use super::super::key::Uid;

/// Uid and version of an object that the watch reported as deleted.
pub type DeletedObject = Option<(Uid, u64)>;

/// Objects that are gone, by uid, with the version at which they went. The answer to a write may be read after the watch
/// reported that its object is gone; without this it would bring the object back.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    versions: HashMap<Uid, u64>,
    order: VecDeque<Uid>,
}

impl Tombstones {
    /// More than can be on their way at once.
    const CAPACITY: usize = 4096;

    fn insert(&mut self, uid: &Uid, version: u64) {
        if self.versions.insert(uid.clone(), version).is_none() {
            self.order.push_back(uid.clone());
        }
        if self.order.len() > Self::CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    /// Records that an object is gone, and returns whether another one of its name is known instead.
    pub(super) fn insert_for(&mut self, known: Option<&Uid>, deleted: DeletedObject) -> bool {
        let Some((uid, version)) = deleted else { return false };
        self.insert(&uid, version);
        known.is_some_and(|known| *known != uid)
    }

    /// Whether an object of this version is gone.
    pub(super) fn covers(&self, uid: &Uid, version: u64) -> bool {
        self.versions.get(uid).is_some_and(|gone| version <= *gone)
    }
}

//! What became of the attempts to bring objects into a member.

use std::collections::{HashMap, HashSet};

use super::super::key::{Key, ObjectKey};

/// What became of the last attempt to bring an object into a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is there, as wanted.
    Applied,
    /// It is not.
    Failed(String),
    /// It is not, because somebody else's object has its name.
    Conflict(String),
    /// It is still there, though it was to be removed.
    NotRemoved(String),
}

/// The last attempt for each object of a member. Most of them succeeded.
#[derive(Debug, Default)]
pub struct Attempts {
    applied: HashSet<Key>,
    others: HashMap<Key, Attempt>,
}

impl Attempts {
    /// The last attempt for an object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Attempt> {
        if self.applied.contains(key) { Some(&Attempt::Applied) } else { self.others.get(key) }
    }

    /// Remembers an attempt. Returns whether it came to something else than the last one.
    pub(super) fn insert(&mut self, key: &Key, attempt: Attempt) -> bool {
        let differs = self.get(key) != Some(&attempt);
        if attempt == Attempt::Applied {
            self.others.remove(key);
            self.applied.insert(key.clone());
        } else {
            self.applied.remove(key);
            self.others.insert(key.clone(), attempt);
        }
        differs
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, key: &ObjectKey) {
        self.applied.remove(key);
        self.others.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::key::KindKey;
    use super::*;

    #[test]
    fn the_last_attempt_counts() {
        let key: Key = ObjectKey { kind: KindKey::new("v1", "Secret"), namespace: None, name: "x".into() }.into();
        let mut attempts = Attempts::default();
        let failed = || Attempt::Failed("why".to_owned());
        for (attempt, differs) in [
            (Attempt::Applied, true),
            (Attempt::Applied, false),
            (failed(), true),
            (failed(), false),
            (Attempt::Conflict("why".to_owned()), true),
            (Attempt::Applied, true),
        ] {
            assert_eq!(attempts.insert(&key, attempt.clone()), differs, "{attempt:?}");
            assert_eq!(attempts.get(&key), Some(&attempt));
        }
        attempts.remove(&key);
        assert_eq!(attempts.get(&key), None);
    }
}

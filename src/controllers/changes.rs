//! Tells events that matter from those that do not. Memory alone: after a restart, everything is new once.

use std::collections::HashMap;

use kube::ResourceExt;
use parking_lot::Mutex;
use serde::Serialize;

use super::stamp;
use crate::api::KarmadaInstance;
use crate::api::common::condition::READY;
use crate::machinery::conditions::is_true;
use crate::runtime::controller::Guarded;
use crate::runtime::planes::InstanceKey;

/// How many keys are remembered.
const MAX_KNOWN: usize = 10_000;

/// What was last seen, by key.
#[derive(Debug, Default)]
pub struct Changes {
    known: Mutex<HashMap<String, String>>,
}

impl Changes {
    /// Whether this differs from what was last seen under the key.
    pub fn is_new<T: Serialize>(&self, key: &str, what: &T) -> bool {
        let now = stamp::digest(what);
        let mut known = self.known.lock();
        // Keys may go without a word. What is forgotten is new once more.
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key.to_owned(), now.clone()) != Some(now)
    }

    /// The instance of an event, when something changed that those who refer to it must know: its spec, its labels,
    /// whether it is ready, whether it is going. Its counts and figures change all the time.
    pub fn of_instance(&self, event: &Guarded<KarmadaInstance>) -> Option<InstanceKey> {
        let key = InstanceKey { namespace: event.namespace().unwrap_or_default(), name: event.name_any() };
        let ready = match &event.0 {
            Ok(instance) => instance.status.as_ref().is_some_and(|status| is_true(&status.conditions, READY)),
            Err(_) => false,
        };
        let meta = kube::Resource::meta(event);
        let what = (&meta.uid, meta.generation, &meta.labels, &meta.deletion_timestamp, ready);
        self.is_new(&key.to_string(), &what).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_again_is_not_new() {
        let changes = Changes::default();
        assert!(changes.is_new("a", &1));
        assert!(!changes.is_new("a", &1));
        for key in 0..=MAX_KNOWN {
            changes.is_new(&key.to_string(), &1);
        }
        assert!(changes.known.lock().len() <= MAX_KNOWN);
        assert!(changes.is_new("b", &1) && changes.is_new("a", &2) && changes.is_new("a", &1));
    }
}

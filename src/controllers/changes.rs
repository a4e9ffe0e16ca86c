//! Tells events that matter from those that do not. Memory alone: after a restart, everything is new once.

use std::collections::HashMap;

use kube::ResourceExt;
use parking_lot::Mutex;
use serde::Serialize;

use super::stamp;
use crate::api::KarmadaInstance;
use crate::api::common::condition::READY;
use crate::machinery::conditions::is_true;
use crate::runtime::host_cache::HostEvent;
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
    /// whether it is ready, whether it is going or gone. Its counts and figures change all the time.
    pub fn of_instance(&self, event: &HostEvent<'_, KarmadaInstance>) -> Option<InstanceKey> {
        let HostEvent { object, deleted } = event;
        let key = InstanceKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        let ready = match &object.0 {
            Ok(instance) => instance.status.as_ref().is_some_and(|status| is_true(&status.conditions, READY)),
            Err(_) => false,
        };
        let meta = kube::Resource::meta(*object);
        let what = (&meta.uid, meta.generation, &meta.labels, &meta.deletion_timestamp, ready, deleted);
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

    #[test]
    fn an_instance_matters_when_it_is_gone_and_not_when_its_figures_change() {
        let changes = Changes::default();
        let is_new = |phase: &str, deleted: bool| {
            let object = crate::runtime::guarded::Guarded::<KarmadaInstance>::of_json(
                &serde_json::json!({
                    "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
                    "metadata": {"name": "east", "namespace": "fleet", "uid": "u", "generation": 1},
                    "spec": {}, "status": {"phase": phase},
                })
                .to_string(),
            );
            changes.of_instance(&HostEvent { object: &object, deleted }).is_some()
        };
        assert!(is_new("Running", false) && !is_new("Updating", false));
        assert!(is_new("Updating", true) && !is_new("Updating", true));
    }
}

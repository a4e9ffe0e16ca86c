//! A connection to a member: requests, what is served there, and what its tasks tell each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::core::ApiResource;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::discovery::Served;
use super::key::{ClusterName, Key, KindKey};
use super::rest::Rest;

/// A connection to a member, for as long as its credentials stay the same.
pub struct Session {
    /// The member.
    pub cluster: ClusterName,
    /// Requests to it.
    pub rest: Rest,
    served: Mutex<Served>,
    pub(super) probe: Notify,
    pub(super) kind_missing: Notify,
    pub(super) definitions_changed: Notify,
    pub(super) discovered: Notify,
    in_use_since: Mutex<HashMap<Key, Instant>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(cluster: ClusterName, client: Client) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            rest: Rest::new(client),
            served: Mutex::default(),
            probe: Notify::new(),
            kind_missing: Notify::new(),
            definitions_changed: Notify::new(),
            discovered: Notify::new(),
            in_use_since: Mutex::default(),
        })
    }

    pub(super) fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock()
    }

    /// How the member serves a kind, and whether it is namespaced there.
    #[must_use]
    pub fn resource(&self, kind: &Arc<KindKey>) -> Option<(ApiResource, bool)> {
        self.served().kinds.get(kind).cloned()
    }

    /// For how long a namespace has been found in use that is to go.
    #[must_use]
    pub fn in_use_for(&self, namespace: &Key) -> Duration {
        let mut in_use_since = self.in_use_since.lock();
        in_use_since.entry(namespace.clone()).or_insert_with(Instant::now).elapsed()
    }

    /// Forgets that a namespace was found in use.
    pub fn forget_in_use(&self, namespace: &Key) {
        self.in_use_since.lock().remove(namespace);
    }

    /// Asks for a probe now: a request was not answered.
    pub fn probe(&self) {
        self.probe.notify_one();
    }

    /// Asks which kinds are served, less often each time: one was missing.
    pub fn kind_missing(&self) {
        self.kind_missing.notify_one();
    }

    /// Asks which kinds are served, in a moment: definitions changed.
    pub fn definitions_changed(&self) {
        self.definitions_changed.notify_one();
    }

    /// Waits until the member was asked again which kinds it serves.
    pub async fn discovered(&self) {
        self.discovered.notified().await;
    }

    /// Whether the member is certain to have no objects of a kind.
    #[must_use]
    pub fn lacks(&self, kind: &KindKey) -> bool {
        self.served().lacks(kind)
    }
}

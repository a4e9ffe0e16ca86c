//! Which bindings concern which cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::super::key::{ClusterName, Key, KindKey};
use super::super::model::Binding;

/// Objects by the clusters that their bindings name, and by kind.
#[derive(Debug, Default)]
pub(super) struct BoundObjects(HashMap<ClusterName, BTreeMap<Arc<KindKey>, HashSet<Key>>>);

impl BoundObjects {
    /// A binding names other clusters than before; without one it names none.
    pub(super) fn replace(&mut self, key: &Key, before: Option<&Binding>, after: Option<&Binding>) {
        let named = |binding: Option<&Binding>| -> HashSet<ClusterName> {
            binding.into_iter().flat_map(|binding| binding.inventory()).collect()
        };
        let (before, after) = (named(before), named(after));
        for cluster in before.difference(&after) {
            self.remove(cluster, key);
        }
        for cluster in after.difference(&before) {
            let kinds = self.0.entry(cluster.clone()).or_default();
            kinds.entry(key.kind.clone()).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, cluster: &ClusterName, key: &Key) {
        let Some(kinds) = self.0.get_mut(cluster) else { return };
        let Some(keys) = kinds.get_mut(&key.kind) else { return };
        keys.remove(key);
        if keys.is_empty() {
            kinds.remove(&key.kind);
        }
        if kinds.is_empty() {
            self.0.remove(cluster);
        }
    }

    /// Whether the binding of an object names a cluster.
    pub(super) fn contains(&self, cluster: &ClusterName, key: &Key) -> bool {
        let keys = self.0.get(cluster).and_then(|kinds| kinds.get(&key.kind));
        keys.is_some_and(|keys| keys.contains(key))
    }

    /// The kinds of a cluster's objects.
    pub(super) fn kinds(&self, cluster: &ClusterName) -> impl Iterator<Item = &Arc<KindKey>> {
        self.0.get(cluster).into_iter().flat_map(BTreeMap::keys)
    }

    /// A cluster's objects.
    pub(super) fn keys(&self, cluster: &ClusterName) -> impl Iterator<Item = &Key> {
        self.0.get(cluster).into_iter().flat_map(BTreeMap::values).flatten()
    }

    /// A cluster's objects of one kind.
    pub(super) fn keys_of(&self, cluster: &ClusterName, kind: &Arc<KindKey>) -> impl Iterator<Item = &Key> {
        self.0.get(cluster).and_then(|kinds| kinds.get(kind)).into_iter().flatten()
    }
}

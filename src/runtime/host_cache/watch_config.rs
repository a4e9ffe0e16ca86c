//! What is watched of a kind of the host cluster, and what is kept of its objects. Pure.

use kube::Resource;
use kube::runtime::watcher::Event;

use super::kind::HostObject;
use crate::api::GROUP;
use crate::runtime::guarded::Guarded;
use crate::runtime::planes::InstanceKey;
use crate::runtime::shard::Shard;

/// What `kubectl apply` leaves on an object: another copy of all of it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which objects of a kind are watched, and what is kept of them.
pub(super) struct HostWatchConfig<K> {
    shard: Shard,
    /// The instance that an object belongs to; nothing for one that means several, or none.
    instance: fn(&Guarded<K>) -> Option<InstanceKey>,
    pub(super) label: Option<&'static str>,
    keeps_others: bool,
    keeps_annotations: bool,
}

impl<K> Clone for HostWatchConfig<K> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<K> HostWatchConfig<K> {
    pub(super) fn all(shard: Shard, instance: fn(&Guarded<K>) -> Option<InstanceKey>) -> Self {
        Self { shard, instance, label: None, keeps_others: false, keeps_annotations: true }
    }

    /// Watches only what carries a label.
    pub(super) fn labelled(self, label: &'static str) -> Self {
        Self { label: Some(label), ..self }
    }

    /// Objects of instances that other replicas own are kept as well, for lookups.
    pub(super) fn known_to_all(self) -> Self {
        Self { keeps_others: true, ..self }
    }

    /// Keeps of annotations only Airdock's own: others may hold what the object itself was not to show.
    pub(super) fn by_labels_alone(self) -> Self {
        Self { keeps_annotations: false, ..self }
    }
}

impl<K: HostObject> HostWatchConfig<K> {
    /// Whether this replica is to act on an object.
    pub(super) fn is_owned(&self, object: &Guarded<K>) -> bool {
        (self.instance)(object).is_none_or(|instance| self.shard.owns(&instance))
    }

    fn keeps(&self, object: &Guarded<K>) -> bool {
        self.keeps_others || self.is_owned(object)
    }

    /// What is kept of what the watch tells; nothing of an object that is none of this replica's, which is taken out when
    /// it was before.
    pub(super) fn kept(&self, event: Event<Guarded<K>>) -> Option<Event<Guarded<K>>> {
        match event.modify(|object| self.trim(object)) {
            Event::InitApply(object) if !self.keeps(&object) => None,
            Event::Apply(object) if !self.keeps(&object) => Some(Event::Delete(object)),
            event => Some(event),
        }
    }

    fn trim(&self, object: &mut Guarded<K>) {
        let meta = object.meta_mut();
        meta.managed_fields = None;
        if let Some(annotations) = &mut meta.annotations {
            let is_own = |key: &str| key.split('/').next() == Some(GROUP);
            annotations.retain(|key, _| if self.keeps_annotations { key != LAST_APPLIED } else { is_own(key) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::host_cache::labelled_instance;
    use crate::runtime::shard::one_of_two;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;

    fn object(instance: &str) -> Guarded<ConfigMap> {
        let annotations = json!({LAST_APPLIED: "long", "airdock.dev/x": "kept", "note": "text"});
        let metadata = json!({
            "name": "a", "namespace": "team", "labels": {"airdock.dev/instance": instance},
            "annotations": annotations, "managedFields": [{"manager": "kubectl"}],
        });
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn what_nobody_needs_is_not_kept() {
        let annotations = |config: HostWatchConfig<ConfigMap>| {
            let Some(Event::Apply(kept)) = config.kept(Event::Apply(object("x"))) else { panic!("it is kept") };
            assert!(kept.managed_fields().is_empty());
            kept.annotations().keys().cloned().collect::<Vec<_>>()
        };
        let config = || HostWatchConfig::all(Shard::default(), |_| None);
        assert_eq!(annotations(config()), ["airdock.dev/x", "note"]);
        assert_eq!(annotations(config().by_labels_alone()), ["airdock.dev/x"]);
    }

    #[test]
    fn objects_of_other_replicas_are_kept_for_lookups_alone() {
        let (shard, mine, theirs) = one_of_two();
        let (mine, theirs) = (mine.as_str(), theirs.as_str());
        let config = || HostWatchConfig::all(shard, labelled_instance);
        assert!(matches!(config().kept(Event::InitApply(object(mine))), Some(Event::InitApply(_))));
        assert!(config().kept(Event::InitApply(object(theirs))).is_none());
        assert!(matches!(config().kept(Event::Apply(object(theirs))), Some(Event::Delete(_))), "it may have been ours");
        let all = config().known_to_all();
        assert!(matches!(all.kept(Event::Apply(object(theirs))), Some(Event::Apply(_))));
        assert!(all.is_owned(&object(mine)) && !all.is_owned(&object(theirs)));
    }
}

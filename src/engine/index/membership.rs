//! What a cluster may still contain, and when one that leaves is clean.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::key::{ClusterName, Key, KindKey};
use super::super::model::LiveObject;
use super::{Attempt, Index, Member};
use crate::karmada::{FORCE_UNJOIN_ANNOTATION, UNJOIN_POLICY_ANNOTATION};
use crate::placement::ClusterView;

impl Index {
    /// Whether a cluster may contain an object; nothing while that is not known.
    #[must_use]
    pub fn may_contain(&self, cluster: &ClusterName, key: &Key) -> Option<bool> {
        let Some(view) = self.views.get(cluster) else { return Some(false) };
        let Some(member) = self.members.get(cluster) else { return self.given_up(cluster, view) };
        if member.in_flight.contains(key) {
            return Some(true);
        }
        if member.reachable && member.unserved.contains(&key.kind) {
            return Some(false);
        }
        if !member.reachable || !member.synced.contains(&key.kind) {
            return self.given_up(cluster, view);
        }
        Some(member.live.get(key).is_some_and(|live| self.remains(cluster, member, key, live)))
    }

    /// Whether an object of a member still has to be removed before the member may leave. A forced unjoin asks for each
    /// removal once, and does not wait for finalizers there or for what the member refuses.
    fn remains(&self, cluster: &ClusterName, member: &Member, key: &Key, live: &LiveObject) -> bool {
        let is_tried = || live.deleting || matches!(member.attempts.get(key), Some(Attempt::NotRemoved(_)));
        self.is_ours(live, key) && !(self.is_given_up(cluster) && is_tried())
    }

    fn given_up(&self, cluster: &ClusterName, view: &ClusterView) -> Option<bool> {
        (view.leaving && self.is_forced(cluster)).then_some(false)
    }

    fn is_given_up(&self, cluster: &ClusterName) -> bool {
        self.views.get(cluster).is_some_and(|view| self.given_up(cluster, view).is_some())
    }

    /// Whether a cluster that leaves is not waited for: what cannot be removed there stays.
    #[must_use]
    pub fn is_forced(&self, cluster: &ClusterName) -> bool {
        self.cluster_annotation(cluster, FORCE_UNJOIN_ANNOTATION) == Some("true")
    }

    /// Whether applications stay in a cluster that leaves.
    #[must_use]
    pub fn is_orphaning(&self, cluster: &ClusterName) -> bool {
        self.cluster_annotation(cluster, UNJOIN_POLICY_ANNOTATION) == Some("Orphan")
    }

    fn cluster_annotation(&self, cluster: &ClusterName, name: &str) -> Option<&str> {
        let annotations = self.clusters.get(cluster)?.metadata.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// Whether the next step of a binding waits until a cluster is known not to contain the object.
    #[must_use]
    pub fn is_awaited(&self, cluster: &ClusterName, key: &Key) -> bool {
        self.bindings.get(key).is_some_and(|binding| {
            binding.removing.contains(cluster) || (binding.deleting && self.bound.contains(cluster, key))
        })
    }

    /// Bindings in a cluster that wait until it is known not to contain their objects.
    pub(super) fn awaited_keys(&self, cluster: &ClusterName) -> Vec<Key> {
        self.bound.keys(cluster).filter(|key| self.is_awaited(cluster, key)).cloned().collect()
    }

    /// What keeps a cluster that leaves from being clean, for people; nothing when that is not known, or is nothing.
    #[must_use]
    pub fn awaited_in(&self, cluster: &ClusterName) -> Option<String> {
        let live = self.members.get(cluster).into_iter().flat_map(|member| &member.live);
        let ours = live.filter(|(key, live)| self.is_ours(live, key)).map(|(key, _)| key);
        let all: BTreeSet<&Key> = self.bindings_in(cluster).chain(ours).collect();
        let shown: Vec<String> = all.iter().take(5).map(ToString::to_string).collect();
        let more = match all.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
    }

    /// Whether nothing of this plane is left in a cluster that leaves; nothing while that is not known.
    #[must_use]
    pub fn is_clean(&self, cluster: &ClusterName) -> Option<bool> {
        if self.bindings_in(cluster).next().is_some() {
            return Some(false);
        }
        let reachable = self.members.get(cluster).is_some_and(|member| member.reachable);
        if !reachable {
            // A member that was never reached contains nothing.
            let never = self
                .clusters
                .get(cluster)
                .is_some_and(|c| c.status.as_ref().is_none_or(|status| status.kubernetes_version.is_none()));
            return (never || self.is_forced(cluster)).then_some(true);
        }
        let member = self.members.get(cluster)?;
        let is_known = |kind: &Arc<KindKey>| member.synced.contains(kind) || member.unserved.contains(kind);
        if !self.is_forced(cluster) && !self.member_kinds(cluster).iter().all(is_known) {
            return None;
        }
        Some(!member.live.iter().any(|(key, live)| self.remains(cluster, member, key, live)))
    }
}

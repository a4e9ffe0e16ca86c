//! A member cluster as far as placement looks at it.

use std::collections::BTreeMap;

use crate::karmada::cluster::{ApiEnablement, Cluster, Taint};
use crate::machinery::conditions;

/// Whether a cluster takes work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It answers and is ready.
    #[default]
    Ready,
    /// It does not answer, or is not ready.
    NotReady,
    /// Nobody has looked for a while.
    Unknown,
}

/// A member cluster as far as placement looks at it. Two equal views lead to equal placements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Who runs it.
    pub provider: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its zones.
    pub zones: Vec<String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it takes work.
    pub health: Health,
    /// Whether it is on its way out.
    pub leaving: bool,
    /// The kinds that it serves; empty when that is not known.
    pub served: Vec<ApiEnablement>,
}

impl ClusterView {
    /// The view of a cluster of a plane.
    #[must_use]
    pub fn of_cluster(cluster: &Cluster) -> Self {
        let status = cluster.status.clone().unwrap_or_default();
        let health = match conditions::find(&status.conditions, "Ready").map(|ready| ready.status.as_str()) {
            Some("True") => Health::Ready,
            Some("Unknown") => Health::Unknown,
            // A cluster that nobody has reached yet takes no work either.
            _ => Health::NotReady,
        };
        Self {
            name: cluster.metadata.name.clone().unwrap_or_default(),
            labels: cluster.metadata.labels.clone().unwrap_or_default(),
            provider: cluster.spec.provider.clone().filter(|text| !text.is_empty()),
            region: cluster.spec.region.clone().filter(|text| !text.is_empty()),
            zones: cluster.spec.zones.clone(),
            taints: cluster.spec.taints.clone(),
            health,
            leaving: cluster.metadata.deletion_timestamp.is_some(),
            served: status.api_enablements,
        }
    }

    /// Whether the cluster serves a kind; nothing when that is not known.
    #[must_use]
    pub fn serves(&self, api_version: &str, kind: &str) -> Option<bool> {
        if self.served.is_empty() {
            return None;
        }
        let mut groups = self.served.iter().filter(|served| served.group_version == api_version);
        Some(groups.any(|served| served.resources.iter().any(|resource| resource.kind == kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn of_a_cluster() {
        let cluster: Cluster = from_value(json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "a", "labels": {"tier": "edge"}},
            "spec": {"syncMode": "Push", "region": "eu", "provider": ""},
            "status": {
                "apiEnablements": [{"groupVersion": "apps/v1", "resources": [{"name": "deployments", "kind": "Deployment"}]}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "ClusterReady", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]
            }
        }))
        .unwrap();
        let view = ClusterView::of_cluster(&cluster);
        assert_eq!((view.health, view.region.as_deref(), view.provider.clone()), (Health::Ready, Some("eu"), None));
        assert_eq!(view.serves("apps/v1", "Deployment"), Some(true));
        assert_eq!(view.serves("apps/v1", "StatefulSet"), Some(false));
        assert_eq!(view.serves("batch/v1", "Deployment"), Some(false));
    }

    #[test]
    fn unreached_is_not_ready_and_its_kinds_are_not_known() {
        let cluster: Cluster = from_value(json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "a"}, "spec": {"syncMode": "Push"}
        }))
        .unwrap();
        let view = ClusterView::of_cluster(&cluster);
        assert_eq!(view.health, Health::NotReady);
        assert_eq!(view.serves("v1", "Pod"), None);
    }
}

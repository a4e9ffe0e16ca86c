//! What a plane's cache watches of each kind, and what it keeps of an object. Pure.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::{Map, Value, json};

use crate::karmada::{
    Cluster, ClusterOverridePolicy, ClusterPropagationPolicy, ClusterResourceBinding, OverridePolicy,
    PropagationPolicy, ResourceBinding,
};
use crate::runtime::apply::labelled;
use crate::runtime::guarded::omitted;

/// How Airdock's own annotations begin; whose an object is may depend on them.
const OWN_PREFIX: &str = "airdock.dev/";

/// Which objects of a kind are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every object.
    All,
    /// Those that carry Airdock's label.
    Managed,
}

/// What is kept of an object beside its metadata.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Nothing, and nothing more is requested.
    Metadata,
    /// Everything.
    Full,
    /// Everything of an object that carries Airdock's label, and of any other what this function leaves.
    ManagedOr(fn(&Value) -> Value),
    /// What this function leaves.
    Trimmed(fn(&Value) -> Value),
}

/// How a kind is watched.
#[derive(Clone, Debug)]
pub struct PlaneWatchConfig {
    /// Where its objects are.
    pub resource: ApiResource,
    /// Which of them.
    pub selection: Selection,
    /// What is kept of each.
    pub body: Body,
}

/// The kinds that are watched in every plane from the moment it is connected. Others are watched while they are used.
pub fn permanent() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<Cluster>(&()),
        ApiResource::erase::<ResourceBinding>(&()),
        ApiResource::erase::<ClusterResourceBinding>(&()),
        ApiResource::erase::<PropagationPolicy>(&()),
        ApiResource::erase::<ClusterPropagationPolicy>(&()),
        ApiResource::erase::<OverridePolicy>(&()),
        ApiResource::erase::<ClusterOverridePolicy>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<DaemonSet>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<CronJob>(&()),
        ApiResource::erase::<Namespace>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<RoleBinding>(&()),
        ApiResource::erase::<ClusterRoleBinding>(&()),
        ApiResource::erase::<ClusterRole>(&()),
        ApiResource::erase::<CustomResourceDefinition>(&()),
    ]
}

/// Whether objects of a kind make the plane serve other kinds.
#[must_use]
pub fn defines_others(resource: &ApiResource) -> bool {
    matches!(resource.kind.as_str(), "CustomResourceDefinition" | "APIService")
}

impl PlaneWatchConfig {
    /// How objects of a kind are watched, wherever they are looked up from.
    #[must_use]
    pub fn of(resource: &ApiResource) -> Self {
        let (selection, body) = match (resource.group.as_str(), resource.kind.as_str()) {
            ("cluster.karmada.io", "Cluster") => (Selection::All, Body::Full),
            ("work.karmada.io", "ResourceBinding" | "ClusterResourceBinding") => {
                (Selection::All, Body::Trimmed(binding))
            }
            ("policy.karmada.io", "ClusterOverridePolicy") | ("", "Namespace") => (Selection::All, Body::Metadata),
            ("policy.karmada.io", _) => (Selection::All, Body::ManagedOr(nothing)),
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch", "Job" | "CronJob") => {
                (Selection::All, Body::ManagedOr(counts))
            }
            ("apiregistration.k8s.io", _) => (Selection::Managed, Body::Trimmed(status)),
            ("apiextensions.k8s.io" | "admissionregistration.k8s.io", _) => (Selection::Managed, Body::Metadata),
            _ => (Selection::Managed, Body::Full),
        };
        Self { resource: resource.clone(), selection, body }
    }

    /// Takes from an object what the cache does not keep.
    pub fn trim(&self, object: &mut DynamicObject) {
        object.metadata.managed_fields = None;
        object.types = None;
        let keep = match self.body {
            Body::Full => return,
            Body::Metadata => nothing,
            Body::ManagedOr(_) if labelled(object) => return,
            Body::ManagedOr(keep) => {
                object.annotations_mut().retain(|key, _| key.starts_with(OWN_PREFIX));
                keep
            }
            Body::Trimmed(keep) => keep,
        };
        // Why an object cannot be read is all there is of it.
        if omitted(&object.data).is_none() {
            object.data = keep(&object.data);
        }
    }
}

fn nothing(_: &Value) -> Value {
    Value::Null
}

/// What tells how many replicas of a workload are wanted and ready.
fn counts(data: &Value) -> Value {
    let at = |pointer: &str| data.pointer(pointer).cloned();
    let mut status = Map::new();
    for field in ["readyReplicas", "desiredNumberScheduled", "numberReady", "conditions"] {
        if let Some(value) = at(&format!("/status/{field}")) {
            status.insert(field.to_owned(), value);
        }
    }
    json!({"spec": {"replicas": at("/spec/replicas")}, "status": status})
}

/// What the plane says of the object.
fn status(data: &Value) -> Value {
    json!({"status": data.get("status")})
}

/// A binding without the placement that it was made with: what it binds, where it was placed, how it fares.
fn binding(data: &Value) -> Value {
    let mut kept = data.clone();
    if let Some(spec) = kept.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|field, _| matches!(field.as_str(), "resource" | "clusters" | "replicas"));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
    use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

    fn object(labels: Value, data: Value) -> DynamicObject {
        let mut object = json!({"metadata": {
            "name": "web", "labels": labels, "annotations": {"note": "long", "airdock.dev/applied": "x"},
            "managedFields": [{"manager": "kubectl"}],
        }});
        object.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_foreign_workload_is_kept_as_counts_and_ones_own_in_full() {
        let kind = PlaneWatchConfig::of(&ApiResource::erase::<Deployment>(&()));
        let data = json!({
            "spec": {"replicas": 2, "template": {"spec": {"containers": []}}},
            "status": {"readyReplicas": 1, "observedGeneration": 7},
        });
        let mut foreign = object(json!({}), data.clone());
        kind.trim(&mut foreign);
        assert_eq!(foreign.data, json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 1}}));
        assert_eq!(foreign.annotations().keys().collect::<Vec<_>>(), ["airdock.dev/applied"]);
        assert!(foreign.managed_fields().is_empty());
        let mut own = object(json!({MANAGED_BY_LABEL: MANAGED_BY}), data.clone());
        kind.trim(&mut own);
        assert_eq!((own.data, own.metadata.annotations.map(|a| a.len())), (data, Some(2)));
    }

    #[test]
    fn a_binding_keeps_what_is_reported_and_not_its_placement() {
        let mut found = object(
            json!({}),
            json!({
                "spec": {"resource": {"kind": "Deployment"}, "clusters": [{"name": "eu"}], "placement": {"x": 1}},
                "status": {"aggregatedStatus": [{"clusterName": "eu"}]},
            }),
        );
        PlaneWatchConfig::of(&ApiResource::erase::<ResourceBinding>(&())).trim(&mut found);
        assert_eq!(found.data["spec"], json!({"resource": {"kind": "Deployment"}, "clusters": [{"name": "eu"}]}));
        assert_eq!(found.data["status"]["aggregatedStatus"][0]["clusterName"], "eu");
    }

    #[test]
    fn of_an_api_service_it_is_kept_whether_it_is_available() {
        let conditions = json!({"conditions": [{"type": "Available", "status": "True"}]});
        let mut found = object(json!({}), json!({"spec": {"caBundle": "long"}, "status": conditions}));
        PlaneWatchConfig::of(&ApiResource::erase::<APIService>(&())).trim(&mut found);
        assert_eq!(found.data, json!({"status": conditions}));
    }

    #[test]
    fn why_an_object_cannot_be_read_is_kept() {
        let unreadable = json!({"airdock.dev/omitted": "is nested 200 levels deep"});
        for kind in [ApiResource::erase::<ResourceBinding>(&()), ApiResource::erase::<OverridePolicy>(&())] {
            let mut found = object(json!({}), unreadable.clone());
            PlaneWatchConfig::of(&kind).trim(&mut found);
            assert_eq!(omitted(&found.data), Some("is nested 200 levels deep"), "{}", kind.kind);
        }
    }

    #[test]
    fn no_kind_is_watched_twice() {
        let mut kinds: Vec<String> = permanent().iter().map(|r| format!("{}/{}", r.group, r.plural)).collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), permanent().len());
        assert!(kinds.len() <= 18, "two more are left for the kinds that applications add");
    }
}

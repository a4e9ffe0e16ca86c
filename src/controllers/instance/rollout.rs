//! Whether the components of an instance run as they are wanted. Pure.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};

use crate::api::KarmadaInstance;
use crate::chart::{Component, Names, enabled};

use super::caches::Host;

/// How far a component is rolled out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutStatus {
    /// Whether the workload is there.
    pub exists: bool,
    /// Pods that are wanted.
    pub desired: i32,
    /// Pods that are up to date and available.
    pub ready: i32,
    /// Image that the workload asks for.
    pub image: Option<String>,
    /// Whether all pods, and no others, run as the workload asks.
    pub rolled_out: bool,
    /// What the workload says of a failure to make pods.
    pub failure: Option<String>,
}

impl RolloutStatus {
    /// Whether the component is available as `image` in the number that is wanted.
    #[must_use]
    pub fn is_available(&self, image: &str) -> bool {
        self.exists && self.rolled_out && self.ready >= self.desired && self.image.as_deref() == Some(image)
    }
}

/// How far a component of an instance is rolled out.
#[must_use]
pub fn rollout_status(component: Component, instance: &KarmadaInstance, host: &Host) -> RolloutStatus {
    let name = Names::of(instance).component(component);
    let desired = component.replicas(instance);
    let mut rollout_status = if component.is_stateful() {
        host.stateful_sets.get(&name).map(|object| of_stateful_set(object))
    } else {
        host.deployments.get(&name).map(|object| of_deployment(object))
    }
    .unwrap_or_default();
    rollout_status.desired = desired;
    rollout_status
}

fn of_deployment(object: &Deployment) -> RolloutStatus {
    let spec = object.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let status = object.status.clone().unwrap_or_default();
    let current = status.observed_generation >= object.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let failure = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    RolloutStatus {
        exists: object.metadata.deletion_timestamp.is_none(),
        desired: wanted,
        ready: if current { updated.min(status.available_replicas.unwrap_or(0)) } else { 0 },
        image: spec.and_then(|spec| first_image(spec.template.spec.as_ref())),
        rolled_out: current && updated == wanted && status.replicas.unwrap_or(0) == wanted,
        failure: failure.and_then(|condition| condition.message.clone()),
    }
}

fn of_stateful_set(object: &StatefulSet) -> RolloutStatus {
    let spec = object.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let status = object.status.clone().unwrap_or_default();
    let current = status.observed_generation >= object.metadata.generation;
    // Once a roll-out is complete, no pod counts as updated apart from the current revision.
    let settled = status.update_revision.is_none() || status.update_revision == status.current_revision;
    let updated = if settled { status.replicas } else { status.updated_replicas.unwrap_or(0) };
    RolloutStatus {
        exists: object.metadata.deletion_timestamp.is_none(),
        desired: wanted,
        ready: if current { updated.min(status.ready_replicas.unwrap_or(0)) } else { 0 },
        image: spec.and_then(|spec| first_image(spec.template.spec.as_ref())),
        rolled_out: current && updated == wanted && status.replicas == wanted,
        failure: None,
    }
}

fn first_image(spec: Option<&k8s_openapi::api::core::v1::PodSpec>) -> Option<String> {
    spec?.containers.first()?.image.clone()
}

/// Whether every component is available with the wanted image.
#[must_use]
pub fn all_available(instance: &KarmadaInstance, host: &Host, engine_image: &str) -> bool {
    enabled(instance).all(|component| {
        rollout_status(component, instance, host).is_available(&component.image(instance, engine_image))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;
    use serde_json::json;
    use std::sync::Arc;

    fn deployment(status: serde_json::Value) -> RolloutStatus {
        let object: Deployment = serde_json::from_value(json!({
            "metadata": { "name": "east-engine", "generation": 4 },
            "spec": { "replicas": 2, "selector": {}, "template": { "spec": { "containers": [{ "name": "c", "image": "i:2" }] } } },
            "status": status,
        }))
        .unwrap();
        of_deployment(&object)
    }

    #[test]
    fn a_deployment_is_available_when_rolled_out_at_the_wanted_version() {
        let good = json!({ "observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 });
        assert!(deployment(good.clone()).is_available("i:2"));
        assert!(!deployment(good.clone()).is_available("i:3"), "another image is wanted");
        for (field, value) in
            [("observedGeneration", 3), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)]
        {
            let mut status = good.clone();
            status[field] = json!(value);
            assert!(!deployment(status).is_available("i:2"), "{field}");
        }
        assert!(!deployment(json!({})).is_available("i:2"));
    }

    #[test]
    fn a_stateful_set_likewise() {
        let object = |status: serde_json::Value| -> StatefulSet {
            serde_json::from_value(json!({
                "metadata": { "name": "east-etcd", "generation": 1 },
                "spec": { "replicas": 1, "selector": {}, "serviceName": "x",
                          "template": { "spec": { "containers": [{ "name": "c", "image": "e:1" }] } } },
                "status": status,
            }))
            .unwrap()
        };
        let settled = json!({ "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": "a" });
        assert!(of_stateful_set(&object(settled.clone())).is_available("e:1"));
        let mut rolling = settled.clone();
        rolling["updateRevision"] = json!("b");
        assert!(!of_stateful_set(&object(rolling.clone())).is_available("e:1"));
        rolling["updatedReplicas"] = json!(1);
        assert!(of_stateful_set(&object(rolling)).is_available("e:1"));
    }

    #[test]
    fn a_missing_workload_has_no_ready_pods() {
        let i = instance("Compact");
        let mut host = Host::default();
        let rollout_status = rollout_status(Component::Engine, &i, &host);
        assert_eq!((rollout_status.exists, rollout_status.desired, rollout_status.ready), (false, 1, 0));
        let object: Deployment = serde_json::from_value(json!({ "metadata": { "name": "east-engine" } })).unwrap();
        host.deployments.insert("east-engine".into(), Arc::new(object));
        assert!(!all_available(&i, &host, "x"));
    }
}

//! Health.

use serde_json::Value;

use super::kind::Kind;
use super::{int, list, text};

/// How an object fares in a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It does what it is for.
    Healthy,
    /// It does not, or not yet.
    Unhealthy,
    /// Nothing is known of it yet.
    #[default]
    Unknown,
}

impl Health {
    /// As it is written in bindings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Unhealthy => "Unhealthy",
            Self::Unknown => "Unknown",
        }
    }
}

/// Whether an object's kind has a rule that tells its health.
#[must_use]
pub fn has_health_rule(object: &Value) -> bool {
    Kind::of(object).is_some_and(|kind| {
        matches!(
            kind,
            Kind::Deployment
                | Kind::StatefulSet
                | Kind::ReplicaSet
                | Kind::DaemonSet
                | Kind::Service
                | Kind::Ingress
                | Kind::PersistentVolumeClaim
                | Kind::Pod
                | Kind::PodDisruptionBudget
        )
    })
}

/// How a live object fares. One without a rule counts as healthy once it is there, as with upstream: a Job, for one.
#[must_use]
pub fn health(object: &Value) -> Health {
    let Some(kind) = Kind::of(object).filter(|_| has_health_rule(object)) else { return Health::Healthy };
    let status = |field: &str| int(object, &format!("/status/{field}"));
    let current = int(object, "/status/observedGeneration") == int(object, "/metadata/generation");
    let enough = |have: i64| object.pointer("/spec/replicas").and_then(Value::as_i64).is_none_or(|want| have >= want);
    let healthy = match kind {
        Kind::Deployment | Kind::StatefulSet => {
            current && enough(status("updatedReplicas")) && status("availableReplicas") >= status("updatedReplicas")
        }
        Kind::ReplicaSet => current && enough(status("availableReplicas")),
        Kind::DaemonSet => {
            current
                && status("updatedNumberScheduled") >= status("desiredNumberScheduled")
                && status("numberAvailable") >= status("updatedNumberScheduled")
        }
        Kind::Service => text(object, "/spec/type") != "LoadBalancer" || has_address(object),
        Kind::Ingress => has_address(object),
        Kind::PersistentVolumeClaim => text(object, "/status/phase") == "Bound",
        Kind::Pod => match text(object, "/status/phase") {
            "Succeeded" => true,
            "Running" => list(object, "/status/conditions")
                .iter()
                .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True"),
            _ => false,
        },
        Kind::PodDisruptionBudget => status("currentHealthy") >= status("desiredHealthy"),
        _ => true,
    };
    if healthy { Health::Healthy } else { Health::Unhealthy }
}

fn has_address(object: &Value) -> bool {
    list(object, "/status/loadBalancer/ingress")
        .iter()
        .any(|ingress| !text(ingress, "/ip").is_empty() || !text(ingress, "/hostname").is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn table() {
        let all = json!({"observedGeneration": 2, "updatedReplicas": 3, "availableReplicas": 3});
        let address = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
        for (api_version, kind, spec, status, expected) in [
            ("apps/v1", "Deployment", json!({"replicas": 3}), all.clone(), Health::Healthy),
            ("apps/v1", "Deployment", json!({"replicas": 4}), all.clone(), Health::Unhealthy),
            (
                "apps/v1",
                "Deployment",
                json!({"replicas": 3}),
                json!({"observedGeneration": 1, "updatedReplicas": 3, "availableReplicas": 3}),
                Health::Unhealthy,
            ),
            (
                "apps/v1",
                "Deployment",
                json!({"replicas": 3}),
                json!({"observedGeneration": 2, "updatedReplicas": 3, "availableReplicas": 2}),
                Health::Unhealthy,
            ),
            ("apps/v1", "Deployment", json!({"replicas": 3}), Value::Null, Health::Unhealthy),
            ("apps/v1", "StatefulSet", json!({"replicas": 3}), all.clone(), Health::Healthy),
            ("apps/v1", "ReplicaSet", json!({"replicas": 3}), all, Health::Healthy),
            (
                "apps/v1",
                "DaemonSet",
                json!({}),
                json!({"observedGeneration": 2, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1}),
                Health::Healthy,
            ),
            (
                "apps/v1",
                "DaemonSet",
                json!({}),
                json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 1}),
                Health::Unhealthy,
            ),
            ("v1", "Service", json!({"type": "ClusterIP"}), json!({}), Health::Healthy),
            ("v1", "Service", json!({"type": "LoadBalancer"}), json!({}), Health::Unhealthy),
            ("v1", "Service", json!({"type": "LoadBalancer"}), address.clone(), Health::Healthy),
            ("networking.k8s.io/v1", "Ingress", json!({}), json!({}), Health::Unhealthy),
            ("networking.k8s.io/v1", "Ingress", json!({}), address, Health::Healthy),
            ("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Bound"}), Health::Healthy),
            ("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Pending"}), Health::Unhealthy),
            ("v1", "Pod", json!({}), json!({"phase": "Succeeded"}), Health::Healthy),
            (
                "v1",
                "Pod",
                json!({}),
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
                Health::Healthy,
            ),
            (
                "v1",
                "Pod",
                json!({}),
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}),
                Health::Unhealthy,
            ),
            (
                "policy/v1",
                "PodDisruptionBudget",
                json!({}),
                json!({"currentHealthy": 1, "desiredHealthy": 2}),
                Health::Unhealthy,
            ),
            // Without a rule, what is there is healthy.
            (
                "batch/v1",
                "Job",
                json!({}),
                json!({"conditions": [{"type": "Failed", "status": "True"}]}),
                Health::Healthy,
            ),
            ("v1", "ConfigMap", json!({}), json!({}), Health::Healthy),
            ("example.io/v1", "Thing", json!({}), json!({}), Health::Healthy),
        ] {
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"generation": 2}, "spec": spec, "status": status});
            assert_eq!(health(&object), expected, "{object}");
        }
    }
}

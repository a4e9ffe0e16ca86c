//! The kinds that are known.

use serde_json::Value;

use super::text;

/// A kind that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum Kind {
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    Pod,
    Service,
    Ingress,
    PersistentVolume,
    PersistentVolumeClaim,
    PodDisruptionBudget,
    HorizontalPodAutoscaler,
    ServiceAccount,
    Secret,
    Namespace,
}

impl Kind {
    /// The kind of an object, if it is known.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        Some(match (text(object, "/apiVersion"), text(object, "/kind")) {
            ("apps/v1", "Deployment") => Self::Deployment,
            ("apps/v1", "ReplicaSet") => Self::ReplicaSet,
            ("apps/v1", "StatefulSet") => Self::StatefulSet,
            ("apps/v1", "DaemonSet") => Self::DaemonSet,
            ("batch/v1", "Job") => Self::Job,
            ("batch/v1", "CronJob") => Self::CronJob,
            ("v1", "Pod") => Self::Pod,
            ("v1", "Service") => Self::Service,
            ("networking.k8s.io/v1", "Ingress") => Self::Ingress,
            ("v1", "PersistentVolume") => Self::PersistentVolume,
            ("v1", "PersistentVolumeClaim") => Self::PersistentVolumeClaim,
            ("policy/v1", "PodDisruptionBudget") => Self::PodDisruptionBudget,
            ("autoscaling/v1" | "autoscaling/v2", "HorizontalPodAutoscaler") => Self::HorizontalPodAutoscaler,
            ("v1", "ServiceAccount") => Self::ServiceAccount,
            ("v1", "Secret") => Self::Secret,
            ("v1", "Namespace") => Self::Namespace,
            _ => return None,
        })
    }

    /// The counters in the status of a kind of workload, which add up over clusters.
    pub(super) fn counters(self) -> &'static [&'static str] {
        match self {
            Self::Deployment => {
                &["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"]
            }
            Self::ReplicaSet => &["replicas", "readyReplicas", "availableReplicas"],
            Self::StatefulSet => {
                &["availableReplicas", "currentReplicas", "readyReplicas", "replicas", "updatedReplicas"]
            }
            Self::DaemonSet => &[
                "currentNumberScheduled",
                "desiredNumberScheduled",
                "numberAvailable",
                "numberMisscheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberUnavailable",
            ],
            Self::HorizontalPodAutoscaler => &["currentReplicas", "desiredReplicas"],
            _ => &[],
        }
    }
}

/// JSON pointer to the pod spec within an object, if its kind has one.
#[must_use]
pub fn pod_spec_pointer(object: &Value) -> Option<&'static str> {
    Some(match Kind::of(object)? {
        Kind::Pod => "/spec",
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::DaemonSet | Kind::Job => "/spec/template/spec",
        Kind::CronJob => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    })
}

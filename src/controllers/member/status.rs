//! What a membership says of itself. Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;

use super::error::Error;
use crate::api::common::{Capacity, ReadyCount};
use crate::api::member::{MemberClusterJoin, MemberClusterJoinStatus};
use crate::karmada::Cluster;
use crate::karmada::cluster::ResourceSummary;
use crate::machinery::conditions::{Verdict, find};

/// What was learned on the way, as far as it came.
#[derive(Clone, Debug, Default)]
pub struct StatusInputs {
    /// The member as the plane sees it.
    pub cluster: Option<Cluster>,
    /// Identity of the member.
    pub id: Option<String>,
    /// Version that the member's API server reports.
    pub version: Option<String>,
    /// Address at which the plane reaches the member.
    pub endpoint: Option<String>,
}

/// How far a membership is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything is written.
    Joined,
    /// The member's token controller has not filled in the tokens yet.
    AwaitingTokens,
    /// The member is still deleting the namespace of an earlier membership.
    AwaitingNamespace,
    /// Somebody deleted the Cluster in the plane; it is written again once it is gone.
    Rejoining,
    /// The member is leaving, and waits for something.
    Leaving {
        /// One word.
        reason: &'static str,
        /// What is awaited.
        message: String,
        /// Whether it waits for the normal course of things, rather than for somebody to act.
        normal: bool,
    },
}

/// The status after a round.
#[must_use]
pub fn status(
    join: &MemberClusterJoin,
    inputs: &StatusInputs,
    outcome: Result<&Progress, &Error>,
) -> MemberClusterJoinStatus {
    let mut status = join.status.clone().unwrap_or_default();
    let generation = join.metadata.generation;
    status.observed_generation = generation;
    let StatusInputs { cluster, id, version, endpoint } = inputs.clone();
    replace(&mut status.cluster_id, id);
    replace(&mut status.kubernetes_version, version);
    replace(&mut status.api_endpoint, endpoint);
    if let Some(cluster) = &cluster {
        mirror(&mut status, cluster);
    }
    let verdict = match outcome {
        Ok(progress) => verdict(progress, cluster.as_ref()),
        Err(error) => Verdict::of_error(error),
    };
    verdict.write(&mut status.conditions, generation, Timestamp::now());
    status
}

fn replace<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

fn mirror(status: &mut MemberClusterJoinStatus, cluster: &Cluster) {
    replace(&mut status.cluster_id, cluster.spec.id.clone());
    replace(&mut status.api_endpoint, cluster.spec.api_endpoint.clone());
    let Some(seen) = &cluster.status else { return };
    replace(&mut status.kubernetes_version, seen.kubernetes_version.clone());
    status.nodes = seen.node_summary.map(|nodes| ReadyCount { total: nodes.total_num, ready: nodes.ready_num });
    status.nodes_ready = status.nodes.map(|nodes| format!("{}/{}", nodes.ready, nodes.total));
    let summary = seen.resource_summary.as_ref();
    status.cpu = summary.and_then(|summary| capacity(summary, "cpu"));
    status.memory = summary.and_then(|summary| capacity(summary, "memory"));
    status.pods = summary.and_then(|summary| capacity(summary, "pods"));
}

fn capacity(summary: &ResourceSummary, resource: &str) -> Option<Capacity> {
    let text = |quantity: Option<&Quantity>| quantity.map_or_else(|| "0".to_owned(), |quantity| quantity.0.clone());
    let allocatable = summary.allocatable.get(resource)?;
    Some(Capacity { allocatable: text(Some(allocatable)), allocated: text(summary.allocated.get(resource)) })
}

fn verdict(progress: &Progress, cluster: Option<&Cluster>) -> Verdict {
    match progress {
        Progress::Joined => joined(cluster),
        Progress::AwaitingTokens => Verdict::Progressing {
            reason: "AwaitingTokens",
            message: "waiting for the member's token controller to issue tokens for Airdock's identity".to_owned(),
        },
        Progress::AwaitingNamespace => Verdict::Progressing {
            reason: "AwaitingNamespace",
            message: "waiting for the member to end its namespace karmada-cluster, which an earlier membership left"
                .to_owned(),
        },
        Progress::Rejoining => Verdict::Progressing {
            reason: "Rejoining",
            message: "the Cluster is being deleted in the plane; it will be joined again once it is gone".to_owned(),
        },
        Progress::Leaving { reason, message, normal: true } => {
            Verdict::Progressing { reason, message: message.clone() }
        }
        Progress::Leaving { reason, message, normal: false } => Verdict::NotReady { reason, message: message.clone() },
    }
}

fn joined(cluster: Option<&Cluster>) -> Verdict {
    let ready =
        cluster.and_then(|cluster| cluster.status.as_ref()).and_then(|status| find(&status.conditions, "Ready"));
    match ready {
        Some(condition) if condition.status == "True" => {
            Verdict::Ready { reason: "Joined", message: "the plane reaches the member".to_owned() }
        }
        Some(condition) => {
            let detail = if condition.message.is_empty() { &condition.reason } else { &condition.message };
            Verdict::NotReady {
                reason: "MemberNotReady",
                message: format!("the plane finds the member not ready: {detail}"),
            }
        }
        None => Verdict::Progressing {
            reason: "AwaitingPlane",
            message: "registered; waiting for the plane to report on the member".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::common::condition::{READY, RECONCILING, STALLED};
    use crate::application::model::FieldError;
    use crate::runtime::instance_ref::{INSTANCE_REF, InstanceRefError};
    use crate::runtime::planes::InstanceKey;
    use serde_json::{Value, json};

    fn join() -> MemberClusterJoin {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
            "metadata": {"namespace": "team", "name": "one", "generation": 3},
            "spec": {"instanceRef": {"name": "fleet"}, "clusterName": "one", "kubeconfigSecretRef": {"name": "s"}},
        }))
        .unwrap()
    }

    fn cluster(status: Value) -> Cluster {
        serde_json::from_value(json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "one"},
            "spec": {"id": "id-1", "syncMode": "Push", "apiEndpoint": "https://10.0.0.1"}, "status": status,
        }))
        .unwrap()
    }

    fn ready(status: &str, message: &str) -> Value {
        json!([{"type": "Ready", "status": status, "reason": "R", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    #[test]
    fn the_planes_view_is_mirrored() {
        let inputs = StatusInputs {
            cluster: Some(cluster(json!({
                "kubernetesVersion": "v1.33.1", "nodeSummary": {"totalNum": 3, "readyNum": 2},
                "resourceSummary": {"allocatable": {"cpu": "12", "memory": "48Gi", "pods": "330"}, "allocated": {"cpu": "500m"}},
                "conditions": ready("True", ""),
            }))),
            ..StatusInputs::default()
        };
        let status = status(&join(), &inputs, Ok(&Progress::Joined));
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(status.cluster_id.as_deref(), Some("id-1"));
        assert_eq!(status.kubernetes_version.as_deref(), Some("v1.33.1"));
        assert_eq!(status.nodes_ready.as_deref(), Some("2/3"));
        assert_eq!(status.cpu, Some(Capacity { allocatable: "12".into(), allocated: "500m".into() }));
        assert_eq!(status.pods, Some(Capacity { allocatable: "330".into(), allocated: "0".into() }));
        assert_eq!(find(&status.conditions, READY).unwrap().status, "True");
    }

    fn missing() -> Error {
        let instance = InstanceKey { namespace: "team".into(), name: "fleet".into() };
        Error::Instance(InstanceRefError::NotFound { field: INSTANCE_REF, instance })
    }

    #[test]
    fn conditions_tell_how_far_it_is() {
        let unreachable = missing();
        let invalid = Error::from(FieldError::of_value("spec.region", "a b", "is wrong"));
        let leaving = Progress::Leaving { reason: "MemberUnreachable", message: "m".into(), normal: false };
        let cases: [(&str, Option<Value>, Result<&Progress, &Error>, &str, &str, Option<&str>); 8] = [
            ("no report yet", Some(json!({})), Ok(&Progress::Joined), "Unknown", "AwaitingPlane", Some(RECONCILING)),
            ("ready", Some(json!({"conditions": ready("True", "")})), Ok(&Progress::Joined), "True", "Joined", None),
            (
                "not ready",
                Some(json!({"conditions": ready("False", "dial tcp")})),
                Ok(&Progress::Joined),
                "False",
                "MemberNotReady",
                None,
            ),
            ("tokens", None, Ok(&Progress::AwaitingTokens), "Unknown", "AwaitingTokens", Some(RECONCILING)),
            ("namespace", None, Ok(&Progress::AwaitingNamespace), "Unknown", "AwaitingNamespace", Some(RECONCILING)),
            ("leaving, stuck", None, Ok(&leaving), "False", "MemberUnreachable", None),
            ("blocked", None, Err(&unreachable), "False", "InstanceNotFound", None),
            ("invalid", None, Err(&invalid), "False", "InvalidSpec", Some(STALLED)),
        ];
        for (name, plane, outcome, ready, reason, also) in cases {
            let inputs = StatusInputs { cluster: plane.map(cluster), ..StatusInputs::default() };
            let status = status(&join(), &inputs, outcome);
            let condition = find(&status.conditions, READY).unwrap();
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), (ready, reason), "{name}");
            let others: Vec<_> = status.conditions.iter().map(|c| c.type_.as_str()).filter(|t| *t != READY).collect();
            assert_eq!(others, also.into_iter().collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn what_was_known_stays_known_on_failure() {
        let mut join = join();
        join.status = Some(MemberClusterJoinStatus { cluster_id: Some("id-1".into()), ..Default::default() });
        let error = missing();
        assert_eq!(status(&join, &StatusInputs::default(), Err(&error)).cluster_id.as_deref(), Some("id-1"));
    }
}

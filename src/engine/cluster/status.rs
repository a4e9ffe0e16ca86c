//! The status of a cluster: what is known of its member, and the fields that follow from it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::core::Status;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::super::summary::Capacity;
use crate::karmada::Cluster;
use crate::karmada::cluster::{ApiEnablement, ClusterStatus};
use crate::machinery::conditions;
use crate::machinery::error::failing_checks;

/// How long changes of nodes and pods are gathered before they are reported.
const CAPACITY_DEBOUNCE: Duration = Duration::from_secs(2);

/// Whether a member takes work, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it does.
    pub ready: bool,
    reached: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Readiness {
    /// It is well.
    #[must_use]
    pub fn ready() -> Self {
        let message = "cluster is healthy and ready to accept workloads".to_owned();
        Self { ready: true, reached: true, reason: "ClusterReady", message }
    }

    /// It answers, but says that it is not well.
    #[must_use]
    pub fn unhealthy(status: &Status) -> Self {
        // The API server lists its checks; those that fail say so.
        let detail = failing_checks(&status.message).unwrap_or_else(|| format!("code {}", status.code));
        let message = format!("cluster is reachable but its health endpoint answered without ok: {detail}");
        Self { ready: false, reached: true, reason: "ClusterNotReady", message }
    }

    /// It does not answer.
    #[must_use]
    pub fn unreachable(why: String) -> Self {
        let message = format!("cluster is not reachable: {why}");
        Self { ready: false, reached: false, reason: "ClusterNotReachable", message }
    }

    /// It cannot be used for another reason.
    #[must_use]
    pub fn unusable(reason: &'static str, message: String) -> Self {
        Self { ready: false, reached: false, reason, message }
    }

    /// Whether it answers with these credentials.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.reached
    }
}

/// What is reported of a member: gathered from its probe, its discovery, its nodes and pods.
#[derive(Debug)]
pub struct MemberStatus {
    inputs: Mutex<StatusInputs>,
    notify: Notify,
}

#[derive(Debug)]
struct StatusInputs {
    readiness: Readiness,
    version: Option<String>,
    served: Option<(Vec<ApiEnablement>, Condition)>,
    capacity: Capacity,
    counted: bool,
    urgent: bool,
}

impl MemberStatus {
    /// A member that was just reached.
    #[must_use]
    pub fn new(readiness: Readiness, version: String) -> Self {
        let member_status = Self::with_readiness(readiness);
        member_status.inputs().version = Some(version);
        member_status
    }

    /// A member of which only this is known; what was reported of it before stands.
    #[must_use]
    pub fn with_readiness(readiness: Readiness) -> Self {
        let inputs = StatusInputs {
            readiness,
            version: None,
            served: None,
            capacity: Capacity::default(),
            counted: false,
            urgent: true,
        };
        Self { inputs: Mutex::new(inputs), notify: Notify::new() }
    }

    fn inputs(&self) -> MutexGuard<'_, StatusInputs> {
        self.inputs.lock()
    }

    /// The member is well, or not.
    pub fn set_readiness(&self, readiness: Readiness) {
        let mut inputs = self.inputs();
        if inputs.readiness != readiness {
            inputs.readiness = readiness;
            inputs.urgent = true;
            self.notify.notify_one();
        }
    }

    /// The kinds that the member serves, and the groups that did not answer.
    pub fn set_served(&self, served: Vec<ApiEnablement>, stale: &[String]) {
        let (status, reason, message) = match (served.is_empty(), stale) {
            (true, _) => ("False", "Empty", "collected empty APIEnablements from the cluster".to_owned()),
            (false, []) => ("True", "Complete", "collected complete APIEnablements from the cluster".to_owned()),
            (false, stale) => ("False", "Partial", format!("these groups do not answer: {}", stale.join(", "))),
        };
        let mut conditions = Vec::new();
        set_condition(&mut conditions, "CompleteAPIEnablements", status, reason, &message);
        let Some(condition) = conditions.pop() else { return };
        let mut inputs = self.inputs();
        inputs.served = Some((served, condition));
        inputs.urgent = true;
        self.notify.notify_one();
    }

    /// Nodes or pods changed; the function tells whether that makes a difference.
    pub fn count(&self, change: impl FnOnce(&mut Capacity) -> bool) {
        let mut inputs = self.inputs();
        let differs = change(&mut inputs.capacity);
        if differs {
            inputs.counted = true;
            self.notify.notify_one();
        }
    }

    /// What is known of nodes or pods.
    pub fn known<T>(&self, get: impl FnOnce(&Capacity) -> T) -> T {
        get(&self.inputs().capacity)
    }

    /// Waits until there is something to report, and a little longer when it is not urgent.
    pub async fn changed(&self) {
        self.notify.notified().await;
        let deadline = tokio::time::Instant::now() + CAPACITY_DEBOUNCE;
        while !std::mem::take(&mut self.inputs().urgent) {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = self.notify.notified() => {}
            }
        }
    }

    /// The status that follows from what is known now and what was reported before. Pure but for the time of changes.
    #[must_use]
    pub fn status(&self, before: &ClusterStatus) -> ClusterStatus {
        let inputs = self.inputs();
        let mut status = before.clone();
        let readiness = &inputs.readiness;
        let ready = if readiness.ready { "True" } else { "False" };
        set_condition(&mut status.conditions, "Ready", ready, readiness.reason, &readiness.message);
        if let Some(version) = &inputs.version {
            status.kubernetes_version = Some(version.clone());
        }
        if let Some((served, condition)) = &inputs.served {
            status.api_enablements.clone_from(served);
            let Condition { type_, status: value, reason, message, .. } = condition;
            set_condition(&mut status.conditions, type_, value, reason, message);
        }
        if inputs.counted {
            status.node_summary = Some(inputs.capacity.nodes());
            status.resource_summary = Some(inputs.capacity.resources());
        }
        status
    }
}

/// Sets a condition. The API server keeps whole seconds; what comes back must equal what was sent.
pub fn set_condition(all: &mut Vec<Condition>, type_: &str, status: &str, reason: &str, message: &str) {
    conditions::set(all, type_, status, reason, message, None, Timestamp::now());
    if let Some(condition) = all.iter_mut().find(|condition| condition.type_ == type_) {
        condition.last_transition_time = Time(seconds(condition.last_transition_time.0));
    }
}

/// A time without its fraction.
#[must_use]
pub fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The fields of a status that changed, as a merge patch.
pub(super) fn changed_fields(before: &ClusterStatus, after: &ClusterStatus) -> Map<String, Value> {
    let (before, after) = (json!(before), json!(after));
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return Map::new() };
    let mut fields: Map<String, Value> = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        fields.insert(name.clone(), Value::Null);
    }
    fields
}

/// The patch that sets fields of a cluster's status, provided that the cluster still is what was read.
pub(super) fn status_patch(cluster: &Cluster, fields: Map<String, Value>) -> Value {
    let (uid, version) = (&cluster.metadata.uid, &cluster.metadata.resource_version);
    json!({"metadata": {"uid": uid, "resourceVersion": version}, "status": fields})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let member_status = MemberStatus::new(Readiness::ready(), "v1.36.3".to_owned());
        member_status.set_served(vec![ApiEnablement::default()], &[]);
        let first = member_status.status(&ClusterStatus::default());
        assert_eq!(changed_fields(&first, &member_status.status(&first)), Map::new());
        assert_eq!(first.node_summary, None, "nothing is said of nodes that were not counted");
        member_status.set_readiness(Readiness::unreachable("refused".to_owned()));
        let second = member_status.status(&first);
        let fields = changed_fields(&first, &second);
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["conditions"]);
        let ready = conditions::find(&second.conditions, "Ready").unwrap();
        assert_eq!(
            (ready.reason.as_str(), ready.message.as_str()),
            ("ClusterNotReachable", "cluster is not reachable: refused")
        );
    }

    #[test]
    fn a_status_is_written_on_what_was_read() {
        let cluster =
            json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}, "spec": {"syncMode": "Push"}});
        let patch = status_patch(&serde_json::from_value(cluster).unwrap(), Map::new());
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
    }

    #[test]
    fn says_which_check_fails() {
        let status = Status {
            code: 500,
            message: "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed".into(),
            ..Status::default()
        };
        assert!(Readiness::unhealthy(&status).message.ends_with(": its check etcd fails"));
    }
}

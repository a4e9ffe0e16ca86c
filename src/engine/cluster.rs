//! Clusters of the plane: their status, their finalizer, and the end of a membership.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::core::{ApiResource, Status};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::Engine;
use super::index::Requeues;
use super::key::ClusterName;
use super::model::{CLUSTER_FINALIZER, version};
use super::queue::Outcome;
use super::rest::Target;
use super::summary::Capacity;
use crate::karmada::cluster::{ApiEnablement, ClusterStatus, SyncMode};
use crate::karmada::{Cluster, DRAINED_CONDITION};
use crate::machinery::conditions;
use crate::machinery::error::{chain, failing_checks, is_conflict};

/// How long changes of nodes and pods are gathered before they are reported.
const GATHER: Duration = Duration::from_secs(2);

/// How often a cluster that leaves is reconciled, should an event be missed.
const LEAVING_RECHECK: Duration = Duration::from_secs(5);

/// How many times a status is written on what is there now, before it waits for its turn.
const STATUS_ATTEMPTS: u32 = 3;

/// How long a cluster may take to leave before its status names what it waits for.
const REPORT_LEAVING_AFTER: SignedDuration = SignedDuration::from_secs(3);

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
        let deadline = tokio::time::Instant::now() + GATHER;
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
fn changed_fields(before: &ClusterStatus, after: &ClusterStatus) -> Map<String, Value> {
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

/// Writes a cluster's status when it changed. IO.
pub(super) async fn write_status(
    engine: &Engine,
    name: &ClusterName,
    member_status: &MemberStatus,
) -> Result<(), kube::Error> {
    update_status(engine, name, |before| member_status.status(before)).await
}

/// Tells what keeps a cluster from going that has been leaving for a while. IO.
async fn report_awaited(engine: &Engine, name: &ClusterName) {
    let awaited = engine.index().awaited_in(name);
    let left = awaited.map_or_else(
        || "what the member contains is not known yet".to_owned(),
        |awaited| format!("still in the member, or recorded to be: {awaited}"),
    );
    let written = update_status(engine, name, |before| {
        let mut status = before.clone();
        set_condition(&mut status.conditions, DRAINED_CONDITION, "False", "ObjectsRemain", &left);
        status
    });
    if let Err(error) = written.await {
        tracing::debug!(cluster = %name, error = chain(&error), "cluster status was not written");
    }
}

async fn update_status(
    engine: &Engine,
    name: &ClusterName,
    status: impl Fn(&ClusterStatus) -> ClusterStatus,
) -> Result<(), kube::Error> {
    let resource = ApiResource::erase::<Cluster>(&());
    let target = Target { resource: &resource, namespace: None, name: name.as_str() };
    let mut attempts = 0;
    loop {
        let Some(cluster) = engine.index().clusters.get(name).cloned() else { return Ok(()) };
        let before = cluster.status.clone().unwrap_or_default();
        let fields = changed_fields(&before, &status(&before));
        if fields.is_empty() {
            return Ok(());
        }
        attempts += 1;
        match engine.rest.merge_status(&target, &status_patch(&cluster, fields)).await {
            Ok(object) => {
                ingest(engine, object);
                return Ok(());
            }
            // It is gone: nothing to report any more.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            // It changed since it was seen: perhaps its conditions, which are written as a whole.
            Err(error) if is_conflict(&error) && attempts < STATUS_ATTEMPTS => {
                let Some(object) = engine.rest.get(&target).await? else { return Ok(()) };
                // Another one of its name: the watch is about to tell.
                if object.pointer("/metadata/uid").and_then(Value::as_str) != cluster.metadata.uid.as_deref() {
                    return Ok(());
                }
                ingest(engine, object);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The patch that sets fields of a cluster's status, provided that the cluster still is what was read.
fn status_patch(cluster: &Cluster, fields: Map<String, Value>) -> Value {
    let (uid, version) = (&cluster.metadata.uid, &cluster.metadata.resource_version);
    json!({"metadata": {"uid": uid, "resourceVersion": version}, "status": fields})
}

fn ingest(engine: &Engine, object: Value) {
    match serde_json::from_value::<Cluster>(object) {
        Ok(cluster) => engine.change(|index| index.put_cluster(cluster, false)),
        Err(error) => tracing::warn!(error = chain(&error), "cluster is not understood"),
    }
}

/// What is to be done about a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing: it is about to go.
    Nothing,
    /// The finalizer is set; then the work begins.
    Hold,
    /// The work on its member goes on.
    Work,
    /// An agent in the member does the work there: the engine's ends, if it ever began, and with it the finalizer.
    HandOver,
    /// What is in its member is removed, then the finalizer.
    Leave,
}

/// What is to be done about a cluster that is being deleted or not, and has the finalizer or not. Pure.
fn step(sync_mode: SyncMode, leaving: bool, is_held: bool) -> Step {
    match (sync_mode, leaving, is_held) {
        (_, true, true) => Step::Leave,
        (SyncMode::Pull, ..) => Step::HandOver,
        (SyncMode::Push, false, true) => Step::Work,
        (SyncMode::Push, false, false) => Step::Hold,
        (SyncMode::Push, true, false) => Step::Nothing,
    }
}

/// Sets a cluster's finalizer, and starts and stops the work on its member. IO.
pub(super) async fn run(engine: Arc<Engine>, name: ClusterName) -> Outcome {
    let Some(cluster) = engine.index().clusters.get(&name).cloned() else {
        engine.stop_member(&name);
        return Outcome::Done;
    };
    let finalizers = cluster.metadata.finalizers.clone().unwrap_or_default();
    let is_held = finalizers.iter().any(|finalizer| finalizer == CLUSTER_FINALIZER);
    let leaving = cluster.metadata.deletion_timestamp.is_some();
    let without =
        || finalizers.iter().map(String::as_str).filter(|finalizer| *finalizer != CLUSTER_FINALIZER).collect();
    let wanted: Vec<&str> = match step(cluster.spec.sync_mode, leaving, is_held) {
        Step::Nothing => return Outcome::Done,
        Step::Work => {
            engine.start_member(&name);
            return Outcome::Done;
        }
        Step::Hold => finalizers.iter().map(String::as_str).chain([CLUSTER_FINALIZER]).collect(),
        Step::HandOver => {
            engine.stop_member(&name);
            engine.change(|index| index.set_reachable(&name, false));
            if !is_held {
                return Outcome::Done;
            }
            without()
        }
        Step::Leave => {
            engine.start_member(&name);
            if engine.index().is_clean(&name) != Some(true) {
                engine.change(|index| {
                    let schedule = index.bindings_in(&name).cloned().collect();
                    let mut requeues = Requeues { schedule, ..Requeues::default() };
                    requeues.merge(index.requeue_member(&name));
                    requeues
                });
                let since = cluster.metadata.deletion_timestamp.as_ref().map_or_else(Timestamp::now, |time| time.0);
                if Timestamp::now().duration_since(since) >= REPORT_LEAVING_AFTER {
                    report_awaited(&engine, &name).await;
                }
                return Outcome::Again(LEAVING_RECHECK);
            }
            tracing::info!(cluster = %name, "cluster is left");
            without()
        }
    };
    let resource = ApiResource::erase::<Cluster>(&());
    let target = Target { resource: &resource, namespace: None, name: name.as_str() };
    let operation = json!({"op": "add", "path": "/metadata/finalizers", "value": wanted});
    let known = cluster.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
    match engine.rest.patch(&target, known, vec![operation]).await {
        Ok(object) => {
            if !leaving && version(&object) > 0 {
                ingest(&engine, object);
            }
            Outcome::Done
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Outcome::Done,
        Err(error) => {
            tracing::debug!(cluster = %name, error = chain(&error), "finalizer was not written; trying again");
            Outcome::Failed
        }
    }
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
    fn a_cluster_that_is_pulled_is_let_go() {
        for (sync_mode, leaving, is_held, expected) in [
            (SyncMode::Push, false, false, Step::Hold),
            (SyncMode::Push, false, true, Step::Work),
            (SyncMode::Push, true, true, Step::Leave),
            (SyncMode::Push, true, false, Step::Nothing),
            (SyncMode::Pull, false, false, Step::HandOver),
            (SyncMode::Pull, false, true, Step::HandOver),
            (SyncMode::Pull, true, true, Step::Leave),
            (SyncMode::Pull, true, false, Step::HandOver),
        ] {
            assert_eq!(step(sync_mode, leaving, is_held), expected, "{sync_mode:?} {leaving} {is_held}");
        }
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

//! Clusters of the plane: their status, their finalizer, and the end of a membership.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::core::{ApiResource, Status};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::Engine;
use super::index::Requeues;
use super::key::ClusterName;
use super::model::{CLUSTER_FINALIZER, version};
use super::queue::Outcome;
use super::rest::{Target, message};
use super::summary::Capacity;
use crate::karmada::Cluster;
use crate::karmada::cluster::{ApiEnablement, ClusterStatus, SyncMode};
use crate::runtime::conditions;

/// How long changes of nodes and pods are gathered before they are reported.
const GATHER: Duration = Duration::from_secs(2);

/// How often a cluster that leaves is looked at, should a piece of news be missed.
const LEAVING_RECHECK: Duration = Duration::from_secs(5);

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
    pub fn unwell(status: &Status) -> Self {
        // The API server lists its checks; those that fail say so.
        let failed: Vec<&str> =
            status.message.lines().filter(|line| line.starts_with("[-]")).map(|line| &line[3..]).take(3).collect();
        let detail = if failed.is_empty() { format!("code {}", status.code) } else { failed.join("; ") };
        let message = format!("cluster is reachable but its health endpoint answered without ok: {detail}");
        Self { ready: false, reached: true, reason: "ClusterNotReady", message }
    }

    /// It does not answer.
    #[must_use]
    pub fn away(why: String) -> Self {
        let message = format!("cluster is not reachable: {why}");
        Self { ready: false, reached: false, reason: "ClusterNotReachable", message }
    }

    /// It cannot be used for another reason.
    #[must_use]
    pub fn not(reason: &'static str, message: String) -> Self {
        Self { ready: false, reached: false, reason, message }
    }

    /// Whether it answers with these credentials.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.reached
    }
}

/// What was observed of a member since it was reached.
#[derive(Debug)]
pub struct Observed {
    facts: Mutex<Facts>,
    news: Notify,
}

#[derive(Debug)]
struct Facts {
    readiness: Readiness,
    version: Option<String>,
    served: Option<(Vec<ApiEnablement>, Condition)>,
    capacity: Capacity,
    counted: bool,
    urgent: bool,
}

impl Observed {
    /// A member that was just reached.
    #[must_use]
    pub fn new(readiness: Readiness, version: String) -> Self {
        let observed = Self::only(readiness);
        observed.facts().version = Some(version);
        observed
    }

    /// A member of which only this is known; what was reported of it before stands.
    #[must_use]
    pub fn only(readiness: Readiness) -> Self {
        let facts = Facts {
            readiness,
            version: None,
            served: None,
            capacity: Capacity::default(),
            counted: false,
            urgent: true,
        };
        Self { facts: Mutex::new(facts), news: Notify::new() }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member is well, or not.
    pub fn set_readiness(&self, readiness: Readiness) {
        let mut facts = self.facts();
        if facts.readiness != readiness {
            facts.readiness = readiness;
            facts.urgent = true;
            self.news.notify_one();
        }
    }

    /// The kinds that the member serves, and the groups that did not tell.
    pub fn set_served(&self, served: Vec<ApiEnablement>, stale: &[String]) {
        let (status, reason, message) = match (served.is_empty(), stale) {
            (true, _) => ("False", "Empty", "collected empty APIEnablements from the cluster".to_owned()),
            (false, []) => ("True", "Complete", "collected complete APIEnablements from the cluster".to_owned()),
            (false, stale) => ("False", "Partial", format!("these groups do not answer: {}", stale.join(", "))),
        };
        let mut conditions = Vec::new();
        set_condition(&mut conditions, "CompleteAPIEnablements", status, reason, &message);
        let Some(condition) = conditions.pop() else { return };
        let mut facts = self.facts();
        facts.served = Some((served, condition));
        facts.urgent = true;
        self.news.notify_one();
    }

    /// Nodes or pods changed; the function tells whether that makes a difference.
    pub fn count(&self, change: impl FnOnce(&mut Capacity) -> bool) {
        let mut facts = self.facts();
        let differs = change(&mut facts.capacity);
        if differs {
            facts.counted = true;
            self.news.notify_one();
        }
    }

    /// Waits until there is something to report, and a little longer when it is not urgent.
    pub async fn changed(&self) {
        self.news.notified().await;
        let deadline = tokio::time::Instant::now() + GATHER;
        while !std::mem::take(&mut self.facts().urgent) {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = self.news.notified() => {}
            }
        }
    }

    /// The status that follows from what is known now and what was reported before. Pure but for the time of changes.
    #[must_use]
    pub fn status(&self, before: &ClusterStatus) -> ClusterStatus {
        let facts = self.facts();
        let mut status = before.clone();
        let readiness = &facts.readiness;
        let ready = if readiness.ready { "True" } else { "False" };
        set_condition(&mut status.conditions, "Ready", ready, readiness.reason, &readiness.message);
        if let Some(version) = &facts.version {
            status.kubernetes_version = Some(version.clone());
        }
        if let Some((served, condition)) = &facts.served {
            status.api_enablements.clone_from(served);
            let Condition { type_, status: value, reason, message, .. } = condition;
            set_condition(&mut status.conditions, type_, value, reason, message);
        }
        if facts.counted {
            status.node_summary = Some(facts.capacity.nodes());
            status.resource_summary = Some(facts.capacity.resources());
        }
        status
    }
}

/// Sets a condition. The API server keeps whole seconds; what comes back must equal what was sent.
pub fn set_condition(all: &mut Vec<Condition>, type_: &str, status: &str, reason: &str, message: &str) {
    conditions::set(all, type_, status, reason, message, None);
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
pub(super) async fn write_status(engine: &Engine, name: &ClusterName, observed: &Observed) -> Result<(), kube::Error> {
    let Some(cluster) = engine.index().clusters.get(name).cloned() else { return Ok(()) };
    let before = cluster.status.clone().unwrap_or_default();
    let fields = changed_fields(&before, &observed.status(&before));
    if fields.is_empty() {
        return Ok(());
    }
    let resource = ApiResource::erase::<Cluster>(&());
    let target = Target { resource: &resource, namespace: None, name };
    let patch = json!({"metadata": {"uid": cluster.metadata.uid}, "status": fields});
    match engine.rest.merge_status(&target, &patch).await {
        Ok(object) => ingest(engine, object),
        // It is gone, or another one of its name: nothing to report any more.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn ingest(engine: &Engine, object: Value) {
    match serde_json::from_value::<Cluster>(object) {
        Ok(cluster) => engine.change(|index| index.put_cluster(cluster, false)),
        Err(error) => tracing::warn!(error = message(&error), "cluster is not understood"),
    }
}

/// Looks after a cluster's finalizer, and starts and stops the work on its member. IO.
pub(super) async fn run(engine: Arc<Engine>, name: ClusterName) -> Outcome {
    let Some(cluster) = engine.index().clusters.get(&name).cloned() else {
        engine.stop_member(&name);
        return Outcome::Done;
    };
    let finalizers = cluster.metadata.finalizers.clone().unwrap_or_default();
    let is_held = finalizers.iter().any(|finalizer| finalizer == CLUSTER_FINALIZER);
    let leaving = cluster.metadata.deletion_timestamp.is_some();
    if cluster.spec.sync_mode == SyncMode::Pull {
        // An agent in the member does the work there.
        return Outcome::Done;
    }
    let wanted: Vec<&str> = match (leaving, is_held) {
        (false, true) => {
            engine.start_member(&name);
            return Outcome::Done;
        }
        (false, false) => finalizers.iter().map(String::as_str).chain([CLUSTER_FINALIZER]).collect(),
        (true, false) => return Outcome::Done,
        (true, true) => {
            engine.start_member(&name);
            if engine.index().is_clean(&name) != Some(true) {
                engine.change(|index| {
                    let schedule = index.bindings_in(&name).cloned().collect();
                    let mut requeues = Requeues { schedule, ..Requeues::default() };
                    requeues.merge(index.look_at_member(&name));
                    requeues
                });
                return Outcome::Again(LEAVING_RECHECK);
            }
            tracing::info!(cluster = %name, "cluster is left");
            finalizers.iter().map(String::as_str).filter(|finalizer| *finalizer != CLUSTER_FINALIZER).collect()
        }
    };
    let resource = ApiResource::erase::<Cluster>(&());
    let target = Target { resource: &resource, namespace: None, name: &name };
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
            tracing::debug!(cluster = %name, error = message(&error), "finalizer was not written; trying again");
            Outcome::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let observed = Observed::new(Readiness::ready(), "v1.36.3".to_owned());
        observed.set_served(vec![ApiEnablement::default()], &[]);
        let first = observed.status(&ClusterStatus::default());
        assert_eq!(changed_fields(&first, &observed.status(&first)), Map::new());
        assert_eq!(first.node_summary, None, "nothing is said of nodes that were not counted");
        observed.set_readiness(Readiness::away("refused".to_owned()));
        let second = observed.status(&first);
        let fields = changed_fields(&first, &second);
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["conditions"]);
        let ready = conditions::find(&second.conditions, "Ready").unwrap();
        assert_eq!(
            (ready.reason.as_str(), ready.message.as_str()),
            ("ClusterNotReachable", "cluster is not reachable: refused")
        );
    }

    #[test]
    fn says_which_check_fails() {
        let status = Status {
            code: 500,
            message: "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed".into(),
            ..Status::default()
        };
        assert!(Readiness::unwell(&status).message.ends_with("etcd failed: reason withheld"));
    }
}

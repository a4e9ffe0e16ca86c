//! Clusters of the plane: their status, their finalizer, and the end of a membership.

mod status;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::core::ApiResource;
use serde_json::{Value, json};

use self::status::{changed_fields, status_patch};
use super::Engine;
use super::index::Requeues;
use super::key::ClusterName;
use super::model::{CLUSTER_FINALIZER, version};
use super::queue::WorkResult;
use super::rest::Target;
use crate::karmada::cluster::{ClusterStatus, SyncMode};
use crate::karmada::{Cluster, DRAINED_CONDITION};
use crate::machinery::error::{chain, is_conflict};

pub use self::status::{MemberStatus, Readiness, seconds, set_condition};

/// How often a cluster that leaves is reconciled, should an event be missed.
const LEAVING_RECHECK: Duration = Duration::from_secs(5);

/// How many times a status is written on what is there now, before it waits for its turn.
const STATUS_ATTEMPTS: u32 = 3;

/// How long a cluster may take to leave before its status names what it waits for.
const REPORT_LEAVING_AFTER: SignedDuration = SignedDuration::from_secs(3);

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
    /// The finalizer is added; then the work on its member begins.
    AddFinalizer,
    /// The work on its member goes on.
    RunMember,
    /// An agent in the member does the work there: the engine's ends, if it ever began, and with it the finalizer.
    LeaveToAgent,
    /// What is in its member is removed, then the finalizer.
    Unjoin,
}

/// What is to be done about a cluster that is being deleted or not, and has the finalizer or not. Pure.
fn step(sync_mode: SyncMode, leaving: bool, has_finalizer: bool) -> Step {
    match (sync_mode, leaving, has_finalizer) {
        (_, true, true) => Step::Unjoin,
        (SyncMode::Pull, ..) => Step::LeaveToAgent,
        (SyncMode::Push, false, true) => Step::RunMember,
        (SyncMode::Push, false, false) => Step::AddFinalizer,
        (SyncMode::Push, true, false) => Step::Nothing,
    }
}

/// Sets a cluster's finalizer, and starts and stops the work on its member. IO.
pub(super) async fn run(engine: Arc<Engine>, name: ClusterName) -> WorkResult {
    let Some(cluster) = engine.index().clusters.get(&name).cloned() else {
        engine.stop_member(&name);
        return WorkResult::Done;
    };
    let finalizers = cluster.metadata.finalizers.clone().unwrap_or_default();
    let has_finalizer = finalizers.iter().any(|finalizer| finalizer == CLUSTER_FINALIZER);
    let leaving = cluster.metadata.deletion_timestamp.is_some();
    let without =
        || finalizers.iter().map(String::as_str).filter(|finalizer| *finalizer != CLUSTER_FINALIZER).collect();
    let wanted: Vec<&str> = match step(cluster.spec.sync_mode, leaving, has_finalizer) {
        Step::Nothing => return WorkResult::Done,
        Step::RunMember => {
            engine.start_member(&name);
            return WorkResult::Done;
        }
        Step::AddFinalizer => finalizers.iter().map(String::as_str).chain([CLUSTER_FINALIZER]).collect(),
        Step::LeaveToAgent => {
            engine.stop_member(&name);
            engine.change(|index| index.set_reachable(&name, false));
            if !has_finalizer {
                return WorkResult::Done;
            }
            without()
        }
        Step::Unjoin => {
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
                return WorkResult::RequeueAfter(LEAVING_RECHECK);
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
            WorkResult::Done
        }
        Err(kube::Error::Api(status)) if status.code == 404 => WorkResult::Done,
        Err(error) => {
            tracing::debug!(cluster = %name, error = chain(&error), "finalizer was not written; trying again");
            WorkResult::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_pulled_is_let_go() {
        for (sync_mode, leaving, has_finalizer, expected) in [
            (SyncMode::Push, false, false, Step::AddFinalizer),
            (SyncMode::Push, false, true, Step::RunMember),
            (SyncMode::Push, true, true, Step::Unjoin),
            (SyncMode::Push, true, false, Step::Nothing),
            (SyncMode::Pull, false, false, Step::LeaveToAgent),
            (SyncMode::Pull, false, true, Step::LeaveToAgent),
            (SyncMode::Pull, true, true, Step::Unjoin),
            (SyncMode::Pull, true, false, Step::LeaveToAgent),
        ] {
            assert_eq!(step(sync_mode, leaving, has_finalizer), expected, "{sync_mode:?} {leaving} {has_finalizer}");
        }
    }
}

//! From what happens in members to the status of bindings and templates.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::Engine;
use super::cluster::{seconds, set_condition};
use super::index::{Attempt, ReportInputs, TargetState};
use super::key::{ClusterName, Key, ObjectKey};
use super::model::{Binding, Template, parse};
use super::queue::WorkResult;
use super::rest::Target;
use super::schedule::binding_resource;
use crate::interpret::{self, Health, StatusItem};
use crate::karmada::binding::{AggregatedStatusItem, BindingStatus};
use crate::machinery::error::{chain, is_conflict};
use crate::machinery::plural::pluralize;

/// How long changes of a template's objects are gathered before they are reported.
pub const STATUS_DEBOUNCE: Duration = Duration::from_millis(250);

/// How long a first report waits for clusters that have not answered yet.
const FIRST_REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// How long a report gives way to objects that are on their way to members.
const MAX_REPORT_DELAY: Duration = Duration::from_secs(6);

/// What there is to report about a template.
#[derive(Debug)]
pub struct Report {
    /// The binding's status, when it is not as it should be.
    pub binding: Option<BindingStatus>,
    /// A merge patch of the template's status, when it is not as it should be.
    pub template: Option<Value>,
    /// Whether some cluster has not answered yet, and is about to.
    pub early: bool,
}

/// What there is to report about a template; nothing when its binding is on its way out. Pure but for the time of changes.
#[must_use]
pub fn report(inputs: &ReportInputs) -> Option<Report> {
    let ReportInputs { key, binding, decision, age, template, targets } = inputs;
    if binding.deleting {
        return None;
    }
    let mut early = false;
    let mut items = Vec::new();
    for target in targets {
        match item(key, &binding.status, target) {
            Item::Known(item) => items.push(item),
            Item::Awaited => early = *age < FIRST_REPORT_DEADLINE,
        }
    }
    let status = binding_status(binding, decision.not_scheduled.as_deref(), items);
    let template = template.as_ref().and_then(|template| template_patch(template, targets, &status));
    Some(Report { binding: (status != binding.status).then_some(status), template, early })
}

enum Item {
    Known(AggregatedStatusItem),
    Awaited,
}

fn item(key: &ObjectKey, before: &BindingStatus, target: &TargetState) -> Item {
    let cluster = &target.cluster;
    let failed = |why: String| AggregatedStatusItem {
        cluster_name: cluster.to_string(),
        applied: false,
        applied_message: Some(why),
        health: Some(Health::Unknown.as_str().to_owned()),
        status: None,
    };
    if target.unserved {
        return Item::Known(failed(format!("cluster {cluster} does not serve {}", key.kind)));
    }
    match (&target.attempt, &target.live) {
        (Some(Attempt::Failed(why) | Attempt::Conflict(why) | Attempt::NotRemoved(why)), _) => {
            Item::Known(failed(why.clone()))
        }
        (Some(Attempt::Applied), Some((health, status))) => Item::Known(AggregatedStatusItem {
            cluster_name: cluster.to_string(),
            applied: true,
            applied_message: None,
            health: Some(health.as_str().to_owned()),
            status: status.as_deref().map(parse),
        }),
        // Deleted there a moment ago, and about to be made anew.
        (Some(Attempt::Applied), None) if target.reachable && target.synced => Item::Awaited,
        _ => match before.aggregated_status.iter().find(|item| *cluster == *item.cluster_name) {
            Some(before) => Item::Known(before.clone()),
            None if target.reachable => Item::Awaited,
            None => Item::Known(failed(format!("waiting for cluster {cluster}, which cannot be reached"))),
        },
    }
}

fn binding_status(
    binding: &Binding,
    not_scheduled: Option<&(&'static str, String)>,
    items: Vec<AggregatedStatusItem>,
) -> BindingStatus {
    let before = &binding.status;
    let mut status = BindingStatus { aggregated_status: items.into(), ..before.clone() };
    let generation = Some(binding.generation);
    if before.scheduler_observed_generation != generation {
        status.scheduler_observed_generation = generation;
        status.last_scheduled_time = Some(Time(seconds(Timestamp::now())));
    }
    match not_scheduled {
        None => {
            let message = "Binding has been scheduled successfully.";
            set_condition(status.conditions.make_mut(), "Scheduled", "True", "Success", message);
        }
        Some((reason, message)) => set_condition(status.conditions.make_mut(), "Scheduled", "False", reason, message),
    }
    let targets = binding.spec.clusters.len();
    let applied = status.aggregated_status.iter().filter(|item| item.applied).count();
    if targets > 0 && applied == targets {
        let message = "All works have been successfully applied";
        set_condition(status.conditions.make_mut(), "FullyApplied", "True", "FullyAppliedSuccess", message);
    } else {
        let missing: Vec<&str> = status
            .aggregated_status
            .iter()
            .filter(|item| !item.applied)
            .map(|item| item.cluster_name.as_str())
            .take(5)
            .collect();
        let of_targets = format!("applied in {applied} of {}", pluralize(targets, "cluster", "clusters"));
        let message = if missing.is_empty() {
            of_targets
        } else {
            format!("{of_targets}; see status.aggregatedStatus for {}", missing.join(", "))
        };
        set_condition(status.conditions.make_mut(), "FullyApplied", "False", "FullyAppliedFailed", &message);
    }
    status
}

fn template_patch(template: &Template, targets: &[TargetState], status: &BindingStatus) -> Option<Value> {
    if template.deleting {
        return None;
    }
    let of = |cluster: &ClusterName| status.aggregated_status.iter().find(|item| *cluster == *item.cluster_name);
    let status_items: Vec<StatusItem<'_>> = targets
        .iter()
        .map(|TargetState { cluster, .. }| {
            let status = of(cluster).and_then(|item| item.status.as_ref());
            StatusItem { cluster: cluster.as_str(), status }
        })
        .collect();
    interpret::aggregate(&template.parsed(), template.generation, &parse(&template.status), &status_items)
}

/// Reports about a template. IO.
pub(super) async fn run(engine: Arc<Engine>, key: Key) -> WorkResult {
    if gives_way(&engine, &key) {
        return WorkResult::RequeueAfter(STATUS_DEBOUNCE);
    }
    let now = engine.now();
    let Some(inputs) = engine.index().report_inputs(&key, now) else { return WorkResult::Done };
    let Some(report) = report(&inputs) else { return WorkResult::Done };
    if report.early {
        return WorkResult::RequeueAfter(STATUS_DEBOUNCE);
    }
    if let Some(status) = report.binding
        && let Err(error) = write_binding(&engine, &key, &status).await
    {
        return failed(&key, &error);
    }
    if let Some(patch) = report.template
        && let Err(error) = write_template(&engine, &key, patch).await
    {
        return failed(&key, &error);
    }
    WorkResult::Done
}

/// Whether writes about a template to the plane wait for objects that are on their way to members.
pub(super) fn gives_way(engine: &Engine, key: &Key) -> bool {
    let now = engine.now();
    let decided_within =
        |time| engine.index().decision(key).is_some_and(|decision| now.saturating_sub(decision.at) < time);
    engine.is_delivering() && decided_within(MAX_REPORT_DELAY)
}

fn failed(key: &Key, error: &kube::Error) -> WorkResult {
    match error {
        // It is gone, or changed since; the watch is about to tell.
        kube::Error::Api(status) if status.code == 404 => WorkResult::Done,
        error if is_conflict(error) => WorkResult::Failed,
        error => {
            tracing::warn!(object = %key, error = chain(error), "status was not written; trying again");
            WorkResult::Failed
        }
    }
}

async fn write_binding(engine: &Engine, key: &Key, status: &BindingStatus) -> Result<(), kube::Error> {
    let Some(uid) = engine.index().binding(key).map(|binding| binding.uid.clone()) else { return Ok(()) };
    let (resource, name) = (binding_resource(key), key.binding_name());
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &name };
    let mut body = json!(status);
    // A merge patch takes away only what it names.
    if status.aggregated_status.is_empty() {
        body["aggregatedStatus"] = Value::Null;
    }
    let patch = json!({"metadata": {"uid": uid.as_str()}, "status": body});
    let object = engine.rest.merge_status(&target, &patch).await?;
    if let Ok(binding) = Binding::of(object) {
        engine.change(|index| index.put_binding(key.clone(), binding, false));
    }
    Ok(())
}

async fn write_template(engine: &Engine, key: &Key, patch: Value) -> Result<(), kube::Error> {
    let Some(resource) = engine.plane_resource(&key.kind) else { return Ok(()) };
    let Some(uid) = engine.index().template(key).map(|template| template.uid.clone()) else { return Ok(()) };
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &key.name };
    let patch = json!({"metadata": {"uid": uid.as_str()}, "status": patch});
    let object = engine.rest.merge_status(&target, &patch).await?;
    engine.put_template(key, object, false);
    Ok(())
}

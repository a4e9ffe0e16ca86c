//! From the plane's bindings to the status of an app: how it fares in each cluster, and what the conditions say.
//! Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::app::{AppClusterStatus, AppComponentStatus, Health, MultiCloudApp, MultiCloudAppStatus, ReplicaMode};
use crate::api::common::ReadyCount;
use crate::application::differences::in_cluster;
use crate::application::model::Template;
use crate::application::workload;
use crate::interpret;
use crate::karmada::binding::AggregatedStatusItem;
use crate::karmada::{Cluster, ResourceBinding};
use crate::machinery::conditions::{Verdict, find};
use crate::machinery::plural::pluralize;

/// How much is said of one cluster, since there may be a thousand of them.
const MESSAGE_LIMIT: usize = 256;

/// A template as it stands in the plane.
#[derive(Clone, Copy, Debug)]
pub struct RolloutStatus<'a> {
    /// The template.
    pub template: &'a Template,
    /// Generation of the object in the plane, when it is there.
    pub generation: Option<i64>,
    /// Where it was placed, when it was.
    pub binding: Option<&'a ResourceBinding>,
    /// Why its binding, which is there, tells nothing.
    pub unreadable: Option<&'a str>,
}

/// How one template fares in one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Healthy,
    Waiting(String),
    Unhealthy(String),
    Failed(String),
    Unreachable(String),
}

impl State {
    fn health(&self) -> Health {
        match self {
            Self::Healthy => Health::Healthy,
            Self::Waiting(_) | Self::Unreachable(_) | Self::Failed(_) => Health::Unknown,
            Self::Unhealthy(_) => Health::Unhealthy,
        }
    }

    fn message(&self) -> Option<&str> {
        match self {
            Self::Healthy => None,
            Self::Waiting(message) | Self::Unhealthy(message) | Self::Failed(message) | Self::Unreachable(message) => {
                Some(message)
            }
        }
    }
}

/// Fills in what the bindings tell, and says what follows from it.
#[must_use]
pub fn read(
    app: &MultiCloudApp,
    clusters: &[Cluster],
    rollouts: &[RolloutStatus<'_>],
    status: &mut MultiCloudAppStatus,
) -> Verdict {
    let by_name: BTreeMap<&str, &Cluster> =
        clusters.iter().filter_map(|cluster| Some((cluster.metadata.name.as_deref()?, cluster))).collect();
    let mut places: BTreeMap<&str, Vec<State>> = BTreeMap::new();
    let mut applied: BTreeMap<&str, bool> = BTreeMap::new();
    let mut replicas: BTreeMap<&str, ReadyCount> = BTreeMap::new();
    let mut components: BTreeMap<&str, (Health, ReadyCount)> = BTreeMap::new();

    for rollout in rollouts {
        let component =
            components.entry(&rollout.template.component).or_insert((Health::Healthy, ReadyCount::default()));
        let targets = rollout.binding.map(|binding| binding.spec.binding.clusters.as_slice()).unwrap_or_default();
        if targets.is_empty() {
            component.0 = component.0.max(Health::Unknown);
        }
        for target in targets {
            let cluster = by_name.get(target.name.as_str()).copied();
            let item = rollout.binding.and_then(|binding| item(binding, &target.name));
            let count = count(app, rollout.template, cluster, target.replicas, item);
            let state = state(rollout, cluster, item, count);
            let is_applied = item.is_some_and(|item| item.applied) && !is_outdated(rollout, item);
            *applied.entry(&target.name).or_insert(true) &= is_applied;
            component.0 = component.0.max(state.health());
            if let Some(count) = count {
                add(&mut component.1, count);
                add(replicas.entry(&target.name).or_default(), count);
            }
            places.entry(&target.name).or_default().push(state);
        }
    }

    status.clusters = places
        .iter()
        .map(|(name, states)| AppClusterStatus {
            name: (*name).to_owned(),
            applied: applied.get(name).copied().unwrap_or_default(),
            health: states.iter().map(State::health).max().unwrap_or_default(),
            replicas: replicas.get(name).copied().unwrap_or_default(),
            message: worst(states)
                .and_then(State::message)
                .map(|message| message.chars().take(MESSAGE_LIMIT).collect()),
        })
        .collect();
    status.components = app
        .spec
        .components
        .iter()
        .filter_map(|component| {
            let (health, replicas) = *components.get(component.name.as_str())?;
            Some(AppComponentStatus { name: component.name.clone(), health, replicas })
        })
        .collect();
    let ready = status.clusters.iter().filter(|cluster| cluster.applied && cluster.health == Health::Healthy).count();
    status.clusters_ready = Some(format!("{ready}/{}", status.clusters.len()));
    let mut total = ReadyCount::default();
    replicas.values().for_each(|count| add(&mut total, *count));
    status.replicas_ready = Some(format!("{}/{}", total.ready, total.total));
    verdict(rollouts, &places)
}

fn add(sum: &mut ReadyCount, more: ReadyCount) {
    sum.total = sum.total.saturating_add(more.total);
    sum.ready = sum.ready.saturating_add(more.ready);
}

fn item<'a>(binding: &'a ResourceBinding, cluster: &str) -> Option<&'a AggregatedStatusItem> {
    binding.status.as_ref()?.aggregated_status.iter().find(|item| item.cluster_name == cluster)
}

/// Replicas of a template in a cluster, wanted and ready; nothing for kinds without.
fn count(
    app: &MultiCloudApp,
    template: &Template,
    cluster: Option<&Cluster>,
    share: Option<i32>,
    item: Option<&AggregatedStatusItem>,
) -> Option<ReadyCount> {
    let reported = |field: &str| -> Option<i32> {
        let number = item?.status.as_ref()?.get(field)?.as_i64()?;
        Some(i32::try_from(number).unwrap_or(i32::MAX))
    };
    if template.api_version == "apps/v1" && template.kind == "DaemonSet" {
        let total = reported("desiredNumberScheduled").unwrap_or_default();
        return Some(ReadyCount { total, ready: reported("numberReady").unwrap_or_default() });
    }
    let base = workload::replicas(&template.object)?;
    let total = match app.spec.placement.replicas.mode {
        ReplicaMode::Weighted => share.unwrap_or_default(),
        ReplicaMode::Duplicated => cluster
            .and_then(|cluster| in_cluster(template, &app.spec.differences, cluster).ok())
            .and_then(|object| workload::replicas(&object))
            .unwrap_or(base),
    };
    // While a workload shrinks, more may be ready than are wanted.
    Some(ReadyCount { total, ready: reported("readyReplicas").unwrap_or_default().min(total) })
}

/// Karmada reports which generation of the template a member's status speaks of, for the kinds that have one.
fn is_outdated(rollout: &RolloutStatus<'_>, item: Option<&AggregatedStatusItem>) -> bool {
    let reported = || item?.status.as_ref()?.get("resourceTemplateGeneration").and_then(Value::as_i64);
    matches!((rollout.generation, reported()), (Some(now), Some(then)) if then < now)
}

fn state(
    rollout: &RolloutStatus<'_>,
    cluster: Option<&Cluster>,
    item: Option<&AggregatedStatusItem>,
    count: Option<ReadyCount>,
) -> State {
    let template = rollout.template;
    if let Some(problem) = cluster.and_then(unreachable) {
        return State::Unreachable(problem);
    }
    let Some(item) = item else { return State::Waiting(format!("{template} is not applied yet")) };
    if !item.applied {
        return match item.applied_message.as_deref().filter(|message| !message.is_empty()) {
            Some(message) => State::Failed(format!("{template}: {message}")),
            None => State::Waiting(format!("{template} is not applied yet")),
        };
    }
    if is_outdated(rollout, Some(item)) {
        return State::Waiting(format!("{template} is being updated"));
    }
    match item.health.as_deref() {
        Some("Healthy") => State::Healthy,
        Some("Unhealthy") => State::Unhealthy(match count {
            Some(ReadyCount { total, ready }) if ready < total => {
                let of_all = pluralize(total, "replica is ready", "replicas are ready");
                format!("{template}: {ready} of {of_all}")
            }
            _ => format!("{template} is not healthy"),
        }),
        // A ConfigMap is well once it is there; so is whatever no rule is known for, as upstream's bindings say too.
        _ if !interpret::has_health_rule(&template.object) => State::Healthy,
        _ => State::Waiting(format!("{template}: its health is not known yet")),
    }
}

fn unreachable(cluster: &Cluster) -> Option<String> {
    let conditions = &cluster.status.as_ref()?.conditions;
    let ready = find(conditions, "Ready").filter(|ready| ready.status != "True")?;
    Some(format!("the cluster is not ready: {}", if ready.message.is_empty() { &ready.reason } else { &ready.message }))
}

/// The state that people should hear of first.
fn worst(states: &[State]) -> Option<&State> {
    let rank = |state: &&State| match state {
        State::Unreachable(_) => 4,
        State::Failed(_) => 3,
        State::Unhealthy(_) => 2,
        State::Waiting(_) => 1,
        State::Healthy => 0,
    };
    // Of several that are equally bad, the first in the order of the spec.
    states.iter().rev().max_by_key(rank)
}

fn verdict(rollouts: &[RolloutStatus<'_>], places: &BTreeMap<&str, Vec<State>>) -> Verdict {
    for RolloutStatus { template, binding, unreadable, .. } in rollouts {
        if let Some(problem) = unreadable {
            return Verdict::NotReady { reason: "ObjectUnreadable", message: format!("{template}: {problem}") };
        }
        let Some(binding) = binding else {
            return progressing(format!("waiting for the plane to place {template}"));
        };
        let conditions = binding.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if let Some(refused) = find(conditions, "Scheduled").filter(|scheduled| scheduled.status == "False") {
            let message = format!("{template} is placed in no cluster: {}", refused.message);
            return Verdict::NotReady { reason: "NotPlaced", message };
        }
        if binding.spec.binding.clusters.is_empty() {
            return progressing(format!("waiting for the plane to place {template}"));
        }
    }
    let worst: Vec<(&str, &State)> = places.iter().filter_map(|(name, states)| Some((*name, worst(states)?))).collect();
    let first = |wanted: fn(&State) -> bool| {
        let mut those = worst.iter().filter(|(_, state)| wanted(state));
        let (name, state) = those.next()?;
        let more = match those.count() {
            0 => String::new(),
            more => format!(" (and {})", pluralize(more, "more cluster", "more clusters")),
        };
        Some(format!("{name}: {}{more}", state.message().unwrap_or_default()))
    };
    let not_ready = |reason, message| Verdict::NotReady { reason, message };
    if let Some(message) = first(|state| matches!(state, State::Failed(_))) {
        not_ready("ApplyFailed", message)
    } else if let Some(message) = first(|state| matches!(state, State::Unreachable(_))) {
        not_ready("ClusterNotReady", message)
    } else if let Some(message) = first(|state| matches!(state, State::Unhealthy(_))) {
        not_ready("Unhealthy", message)
    } else if let Some(message) = first(|state| matches!(state, State::Waiting(_))) {
        progressing(message)
    } else {
        let names: Vec<&str> = places.keys().copied().take(5).collect();
        let more = if places.len() > names.len() { ", …" } else { "" };
        let message = format!("runs in {}{more}", names.join(", "));
        Verdict::Ready { reason: "Running", message }
    }
}

fn progressing(message: String) -> Verdict {
    Verdict::Progressing { reason: "Distributing", message }
}

#[cfg(test)]
mod tests;

//! What an instance's plane holds, counted for its overview.
//!
//! The plane's cache has the objects. Changes that the overview would show wake the instance, at most every few seconds.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::Resource;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::reflector::ObjectRef;
use serde_json::Value;

use crate::api::common::ReadyCount;
use crate::api::instance::Overview;
use crate::karmada::{
    Cluster, ClusterOverridePolicy, ClusterPropagationPolicy, ClusterResourceBinding, OverridePolicy,
    PropagationPolicy, ResourceBinding,
};
use crate::runtime::apply::typed;
use crate::runtime::planes::cache::PlaneCache;
use crate::runtime::planes::{InstanceKey, PlaneEvent};

use super::caches::Wake;
use super::overview::{ClusterFacts, FleetFacts, overview};

/// How long changes are gathered before the instance is reconciled.
const BATCH_INTERVAL: Duration = Duration::from_secs(3);

/// How a kind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Cluster,
    Workload,
    Policy,
    Binding,
}

/// The kinds that count.
fn kinds() -> [(Role, ApiResource); 12] {
    fn of<K: Resource<DynamicType = ()>>(role: Role) -> (Role, ApiResource) {
        (role, ApiResource::erase::<K>(&()))
    }
    [
        of::<Cluster>(Role::Cluster),
        of::<Deployment>(Role::Workload),
        of::<StatefulSet>(Role::Workload),
        of::<DaemonSet>(Role::Workload),
        of::<Job>(Role::Workload),
        of::<CronJob>(Role::Workload),
        of::<PropagationPolicy>(Role::Policy),
        of::<ClusterPropagationPolicy>(Role::Policy),
        of::<OverridePolicy>(Role::Policy),
        of::<ClusterOverridePolicy>(Role::Policy),
        of::<ResourceBinding>(Role::Binding),
        of::<ClusterResourceBinding>(Role::Binding),
    ]
}

/// What counts of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    Cluster(Box<ClusterFacts>),
    Ready(bool),
}

/// What a plane's fleet looks like, once every kind was listed.
#[must_use]
pub fn overview_of(cache: &PlaneCache) -> Option<Overview> {
    let mut facts = FleetFacts::default();
    for (role, resource) in kinds() {
        let kind = cache.listed(&resource)?;
        let mut counted = Vec::new();
        kind.each(|object| counted.extend(fact(role, &resource.kind, object)));
        add(&mut facts, role, &resource.kind, counted);
    }
    facts.clusters.sort_by(|a, b| a.name().cmp(b.name()));
    Some(overview(&facts))
}

/// The instance whose overview an event changes.
#[must_use]
pub fn changed(event: &PlaneEvent<'_>) -> Option<InstanceKey> {
    let (role, _) = kinds().into_iter().find(|(_, resource)| resource == event.resource)?;
    event.changes(|object| fact(role, &event.resource.kind, object)).then(|| event.instance.clone())
}

/// Wakes the instances of a stream, but not for each change.
pub async fn wake_gathered(changed: impl Stream<Item = InstanceKey>, wake: Wake) {
    let mut changed = std::pin::pin!(changed);
    while let Some(first) = changed.next().await {
        let mut due = BTreeSet::from([first]);
        let _ = tokio::time::timeout(BATCH_INTERVAL, async {
            while let Some(next) = changed.next().await {
                due.insert(next);
            }
        })
        .await;
        for key in due {
            if wake.send(ObjectRef::new(&key.name).within(&key.namespace)).is_err() {
                return;
            }
        }
    }
}

/// What counts of an object. *Pure.*
fn fact(role: Role, kind: &str, object: &DynamicObject) -> Option<Fact> {
    match role {
        Role::Cluster => {
            let cluster: Cluster = typed(object.clone()).ok()?;
            Some(Fact::Cluster(Box::new(ClusterFacts::of(&cluster))))
        }
        Role::Workload => Some(Fact::Ready(workload_is_ready(kind, &object.data))),
        Role::Binding => Some(Fact::Ready(has_condition(&object.data, "FullyApplied"))),
        Role::Policy => Some(Fact::Ready(true)),
    }
}

fn workload_is_ready(kind: &str, object: &Value) -> bool {
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64);
    match kind {
        "Deployment" | "StatefulSet" => {
            number("/status/readyReplicas").unwrap_or(0) >= number("/spec/replicas").unwrap_or(1)
        }
        "DaemonSet" => {
            let wanted = number("/status/desiredNumberScheduled");
            wanted.is_some() && number("/status/numberReady") >= wanted
        }
        "Job" => has_condition(object, "Complete"),
        _ => true,
    }
}

fn has_condition(object: &Value, type_: &str) -> bool {
    object.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition["type"] == type_ && condition["status"] == "True")
    })
}

/// Adds the objects of one kind. *Pure.*
fn add(facts: &mut FleetFacts, role: Role, kind: &str, counted: Vec<Fact>) {
    let total = i32::try_from(counted.len()).unwrap_or(i32::MAX);
    let ready = counted.iter().filter(|fact| **fact == Fact::Ready(true)).count();
    let ready = i32::try_from(ready).unwrap_or(i32::MAX);
    match role {
        Role::Cluster => facts.clusters.extend(counted.into_iter().filter_map(|fact| match fact {
            Fact::Cluster(cluster) => Some(*cluster),
            Fact::Ready(_) => None,
        })),
        Role::Workload if total > 0 => {
            facts.workloads.insert(kind.to_owned(), ReadyCount { total, ready });
        }
        Role::Policy if total > 0 => {
            facts.policies.insert(kind.to_owned(), total);
        }
        Role::Workload | Role::Policy => {}
        Role::Binding => {
            facts.bindings.total += total;
            facts.bindings.ready += ready;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workloads_are_ready_when_their_replicas_are() {
        for (kind, object, ready) in [
            ("Deployment", json!({ "spec": { "replicas": 2 }, "status": { "readyReplicas": 2 } }), true),
            ("Deployment", json!({ "spec": { "replicas": 2 }, "status": { "readyReplicas": 1 } }), false),
            ("Deployment", json!({ "spec": {} }), false),
            ("Deployment", json!({ "spec": { "replicas": 0 } }), true),
            ("DaemonSet", json!({ "status": { "desiredNumberScheduled": 3, "numberReady": 3 } }), true),
            ("DaemonSet", json!({}), false),
            ("Job", json!({ "status": { "conditions": [{ "type": "Complete", "status": "True" }] } }), true),
            ("Job", json!({ "status": {} }), false),
            ("CronJob", json!({}), true),
        ] {
            assert_eq!(workload_is_ready(kind, &object), ready, "{kind} {object}");
        }
    }

    fn object(status: Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"replicas": 2}, "status": status})).unwrap()
    }

    #[test]
    fn only_what_the_overview_would_show_wakes_the_instance() {
        let instance = InstanceKey { namespace: "fleet".into(), name: "east".into() };
        let resource = ApiResource::erase::<Deployment>(&());
        let wakes = |before: Option<Value>, now: Value, deleted: bool| {
            let (before, now) = (before.map(object), object(now));
            let event =
                PlaneEvent { instance: &instance, resource: &resource, object: &now, before: before.as_ref(), deleted };
            changed(&event).is_some()
        };
        let (ready, other) = (json!({"readyReplicas": 2}), json!({"readyReplicas": 2, "observedGeneration": 4}));
        assert!(wakes(None, ready.clone(), false), "it is new");
        assert!(!wakes(Some(ready.clone()), other, false));
        assert!(wakes(Some(ready.clone()), json!({"readyReplicas": 1}), false));
        assert!(wakes(Some(ready.clone()), ready, true), "it is gone");
    }

    #[tokio::test]
    async fn many_changes_wake_an_instance_once() {
        let key = |name: &str| InstanceKey { namespace: "fleet".into(), name: name.into() };
        let changes: Vec<InstanceKey> = (0..50).map(|n| key(if n % 2 == 0 { "east" } else { "west" })).collect();
        let (wake, mut woken) = tokio::sync::mpsc::unbounded_channel();
        wake_gathered(futures::stream::iter(changes), wake).await;
        let mut names = Vec::new();
        while let Some(reference) = woken.recv().await {
            names.push(reference.name);
        }
        assert_eq!(names, ["east", "west"]);
    }

    #[test]
    fn kinds_are_counted_by_what_they_are() {
        let mut facts = FleetFacts::default();
        let ready = |ready: [bool; 3]| ready.map(Fact::Ready).to_vec();
        add(&mut facts, Role::Workload, "Job", ready([true, false, true]));
        add(&mut facts, Role::Workload, "CronJob", Vec::new());
        add(&mut facts, Role::Binding, "ResourceBinding", ready([true, true, false]));
        add(&mut facts, Role::Binding, "ClusterResourceBinding", ready([true, true, true]));
        add(&mut facts, Role::Policy, "OverridePolicy", ready([true; 3]));
        assert_eq!(facts.workloads, [("Job".to_owned(), ReadyCount { total: 3, ready: 2 })].into());
        assert_eq!(facts.bindings, ReadyCount { total: 6, ready: 5 });
        assert_eq!(facts.policies, [("OverridePolicy".to_owned(), 3)].into());
    }
}

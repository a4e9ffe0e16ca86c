//! Watches in the planes of instances that run, folded into what the overview needs. *IO.*
//!
//! Of each object only a few numbers are kept. Changes wake the instance at most every few seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::api::common::ReadyCount;
use crate::api::instance::Overview;
use crate::karmada::cluster::Cluster;
use crate::runtime::planes::{InstanceKey, Plane, PromptBackoff};

use super::caches::Wake;
use super::overview::{ClusterFacts, FleetFacts, overview};

/// How long changes are gathered before they are told.
const COALESCE: Duration = Duration::from_secs(3);

/// How a kind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Cluster,
    Workload,
    Policy,
    Binding,
}

/// The kinds that count: group, version, kind, plural.
const KINDS: [(Role, &str, &str, &str, &str); 12] = [
    (Role::Cluster, "cluster.karmada.io", "v1alpha1", "Cluster", "clusters"),
    (Role::Workload, "apps", "v1", "Deployment", "deployments"),
    (Role::Workload, "apps", "v1", "StatefulSet", "statefulsets"),
    (Role::Workload, "apps", "v1", "DaemonSet", "daemonsets"),
    (Role::Workload, "batch", "v1", "Job", "jobs"),
    (Role::Workload, "batch", "v1", "CronJob", "cronjobs"),
    (Role::Policy, "policy.karmada.io", "v1alpha1", "PropagationPolicy", "propagationpolicies"),
    (Role::Policy, "policy.karmada.io", "v1alpha1", "ClusterPropagationPolicy", "clusterpropagationpolicies"),
    (Role::Policy, "policy.karmada.io", "v1alpha1", "OverridePolicy", "overridepolicies"),
    (Role::Policy, "policy.karmada.io", "v1alpha1", "ClusterOverridePolicy", "clusteroverridepolicies"),
    (Role::Binding, "work.karmada.io", "v1alpha2", "ResourceBinding", "resourcebindings"),
    (Role::Binding, "work.karmada.io", "v1alpha2", "ClusterResourceBinding", "clusterresourcebindings"),
];

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    Cluster(Box<ClusterFacts>),
    Ready(bool),
}

type Table = HashMap<String, Fact>;

#[derive(Default)]
struct State {
    /// By kind, then by uid. A kind is there once it was listed.
    tables: Mutex<BTreeMap<&'static str, Table>>,
    changed: Notify,
}

struct Running {
    plane: Arc<Plane>,
    state: Arc<State>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The fleets of all instances that run.
#[derive(Clone)]
pub struct Fleet {
    running: Arc<Mutex<HashMap<InstanceKey, Running>>>,
    wake: Wake,
}

impl Fleet {
    /// Fleets that wake instances through `wake`.
    #[must_use]
    pub fn new(wake: Wake) -> Self {
        Self { running: Arc::default(), wake }
    }

    /// Watches a plane, unless that is done already.
    pub fn watch(&self, plane: &Arc<Plane>) {
        let mut running = self.running.lock();
        if running.get(&plane.key).is_some_and(|known| Arc::ptr_eq(&known.plane, plane)) {
            return;
        }
        let state = Arc::new(State::default());
        let mut tasks = vec![tokio::spawn(tell(state.clone(), plane.key.clone(), self.wake.clone())).abort_handle()];
        for (role, group, version, kind, plural) in KINDS {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let (client, state) = (plane.client.clone(), state.clone());
            let task = match role {
                Role::Policy => tokio::spawn(count(client, resource, kind, state)),
                _ => tokio::spawn(follow(client, resource, role, kind, state)),
            };
            tasks.push(task.abort_handle());
        }
        running.insert(plane.key.clone(), Running { plane: plane.clone(), state, tasks });
    }

    /// Stops watching a plane.
    pub fn stop(&self, key: &InstanceKey) {
        self.running.lock().remove(key);
    }

    /// What a fleet looks like, once every kind was listed.
    #[must_use]
    pub fn overview(&self, key: &InstanceKey) -> Option<Overview> {
        let running = self.running.lock();
        let tables = running.get(key)?.state.tables.lock();
        (tables.len() == KINDS.len()).then(|| overview(&facts(&tables)))
    }
}

/// Wakes the instance after changes, but not for each.
async fn tell(state: Arc<State>, key: InstanceKey, wake: Wake) {
    loop {
        state.changed.notified().await;
        tokio::time::sleep(COALESCE).await;
        let instance = kube::runtime::reflector::ObjectRef::new(&key.name).within(&key.namespace);
        if wake.send(instance).is_err() {
            return;
        }
    }
}

/// Follows a kind whose objects have to be read.
async fn follow(client: Client, resource: ApiResource, role: Role, kind: &'static str, state: Arc<State>) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let config = watcher::Config::default();
    let mut events = std::pin::pin!(StreamBackoff::new(watcher::watcher(api, config), PromptBackoff::default()));
    let mut listing = Table::new();
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        take(&state, kind, &mut listing, event, |object| (object.uid().unwrap_or_default(), fact(role, kind, object)));
    }
}

/// Counts a kind by metadata alone.
async fn count(client: Client, resource: ApiResource, kind: &'static str, state: Arc<State>) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let config = watcher::Config::default();
    let mut events = std::pin::pin!(StreamBackoff::new(watcher::watcher(api, config), PromptBackoff::default()));
    let mut listing = Table::new();
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        take(&state, kind, &mut listing, event, |object| (object.uid().unwrap_or_default(), Some(Fact::Ready(true))));
    }
}

/// Takes an event into the table of its kind; a listing replaces the table when it is complete.
fn take<K>(
    state: &State,
    kind: &'static str,
    listing: &mut Table,
    event: Event<K>,
    fact: impl Fn(&K) -> (String, Option<Fact>),
) {
    let mut tables = state.tables.lock();
    let changed = match event {
        Event::Init => {
            listing.clear();
            false
        }
        Event::InitApply(object) => {
            if let (uid, Some(fact)) = fact(&object) {
                listing.insert(uid, fact);
            }
            false
        }
        Event::InitDone => {
            let table = std::mem::take(listing);
            tables.insert(kind, table.clone()) != Some(table)
        }
        Event::Apply(object) => match fact(&object) {
            (uid, Some(fact)) => {
                let table = tables.entry(kind).or_default();
                table.insert(uid, fact.clone()) != Some(fact)
            }
            (_, None) => false,
        },
        Event::Delete(object) => tables.entry(kind).or_default().remove(&fact(&object).0).is_some(),
    };
    drop(tables);
    if changed {
        state.changed.notify_one();
    }
}

/// What is kept of an object. *Pure.*
fn fact(role: Role, kind: &str, object: &DynamicObject) -> Option<Fact> {
    match role {
        Role::Cluster => {
            let cluster: Cluster = serde_json::to_value(object).and_then(serde_json::from_value).ok()?;
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

fn facts(tables: &BTreeMap<&'static str, Table>) -> FleetFacts {
    let mut facts = FleetFacts::default();
    for (role, _, _, kind, _) in KINDS {
        let Some(table) = tables.get(kind) else { continue };
        let total = i32::try_from(table.len()).unwrap_or(i32::MAX);
        let ready = table.values().filter(|fact| **fact == Fact::Ready(true)).count();
        let ready = i32::try_from(ready).unwrap_or(i32::MAX);
        match role {
            Role::Cluster => facts.clusters.extend(table.values().filter_map(|fact| match fact {
                Fact::Cluster(cluster) => Some(cluster.as_ref().clone()),
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
    facts
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

    #[test]
    fn a_listing_replaces_what_was_known() {
        let state = State::default();
        let mut listing = Table::new();
        let fact = |name: &&'static str| ((*name).to_owned(), Some(Fact::Ready(true)));
        take(&state, "Job", &mut listing, Event::Apply("a"), fact);
        for event in [Event::Init, Event::InitApply("b"), Event::InitApply("c")] {
            take(&state, "Job", &mut listing, event, fact);
            assert_eq!(facts(&state.tables.lock()).workloads["Job"].total, 1, "not before it is complete");
        }
        take(&state, "Job", &mut listing, Event::InitDone, fact);
        assert_eq!(facts(&state.tables.lock()).workloads["Job"], ReadyCount { total: 2, ready: 2 });
        take(&state, "Job", &mut listing, Event::Delete("b"), fact);
        assert_eq!(facts(&state.tables.lock()).workloads["Job"].total, 1);
    }
}

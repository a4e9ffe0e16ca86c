//! Load: 200 Deployments over three members, and the floor for it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use airdock::karmada::{PropagationPolicy, policy};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::lab;
use crate::report::Report;

pub const COUNT: usize = 200;
const NAMESPACE: &str = "bench-load";
/// Between runs.
const REST: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(300);

/// How long it took.
pub struct Timings {
    /// Every member has every Deployment.
    pub present: Duration,
    /// Every Deployment is ready in every member, by its own status there.
    pub ready: Duration,
    /// Every template shows so.
    pub aggregated: Duration,
}

/// Waits until all of these objects have a condition with status True.
pub async fn until_condition<K>(client: &Client, namespace: &str, names: &[&str], condition: &str)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug
        + Send
        + 'static,
{
    let mut waiting: HashSet<String> = names.iter().map(ToString::to_string).collect();
    let events = watcher(Api::<K>::namespaced(client.clone(), namespace), watcher::Config::default());
    let mut objects = std::pin::pin!(events.default_backoff().applied_objects());
    let work = async {
        while !waiting.is_empty() {
            let Some(Ok(object)) = objects.next().await else { continue };
            let is_true = lab::condition(&object, condition).is_some_and(|(status, ..)| status == "True");
            if is_true {
                waiting.remove(&object.name_any());
            }
        }
    };
    assert!(tokio::time::timeout(LIMIT, work).await.is_ok(), "{names:?} are not {condition}");
}

fn deployment(index: usize) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": format!("d{index:03}"), "namespace": NAMESPACE, "labels": {"bench": "load"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": format!("d{index:03}")}},
            "template": {
                "metadata": {"labels": {"app": format!("d{index:03}")}},
                "spec": {"containers": [{"name": "c", "image": "lab.airdock.dev/hello:1"}]}
            }
        }
    }))
    .unwrap()
}

/// Creates the Deployments in a plane and waits until every member has them, and every template its members' status.
pub async fn deployments(plane: &Client, members: &[&str]) -> Timings {
    lab::namespace(plane, NAMESPACE).await;
    let policies: Api<PropagationPolicy> = Api::namespaced(plane.clone(), NAMESPACE);
    let _ = policies.create(&PostParams::default(), &everything(members)).await.unwrap();
    let mut clients = Vec::new();
    for member in members {
        clients.push(lab::member(member).await);
    }
    let started = Instant::now();
    let in_members = stream::iter(&clients)
        .map(async |client| {
            let is_ready = |d: &Deployment| d.status.as_ref().and_then(|s| s.ready_replicas) == Some(1);
            count(client, started, [&|_: &Deployment| true, &is_ready]).await
        })
        .buffer_unordered(clients.len())
        .fold([Duration::ZERO; 2], async |latest, one| [latest[0].max(one[0]), latest[1].max(one[1])]);
    let wanted = i32::try_from(members.len()).unwrap();
    let told = move |d: &Deployment| d.status.as_ref().and_then(|s| s.ready_replicas) == Some(wanted);
    let aggregated = count(plane, started, [&told]);
    let templates: Api<Deployment> = Api::namespaced(plane.clone(), NAMESPACE);
    let create = create_all(&templates);
    let all = futures::future::join3(create, in_members, aggregated);
    let (_, [present, ready], [aggregated]) =
        tokio::time::timeout(LIMIT, all).await.expect("the load was not done in time");
    let _ = templates.delete_collection(&DeleteParams::default(), &Default::default()).await.unwrap();
    for client in &clients {
        until_empty(client).await;
    }
    lab::delete(&policies, "everything", 120).await;
    // Servers have work to do after all is gone; users' load does not begin then, nor does the next run's.
    tokio::time::sleep(REST).await;
    Timings { present, ready, aggregated }
}

/// Waits until a member is rid of the load and of what its own controllers made for it: clearing that away takes them
/// longer than making it, and is not part of the next run's time.
async fn until_empty(member: &Client) {
    lab::eventually("the members are empty again", 240, async || {
        let one = ListParams::default().limit(1);
        let deployments = Api::<Deployment>::namespaced(member.clone(), NAMESPACE).list(&one).await.unwrap();
        let sets = Api::<ReplicaSet>::namespaced(member.clone(), NAMESPACE).list(&one).await.unwrap();
        let pods = Api::<Pod>::namespaced(member.clone(), NAMESPACE).list(&one).await.unwrap();
        (deployments.items.is_empty() && sets.items.is_empty() && pods.items.is_empty()).then_some(())
    })
    .await;
}

async fn create_all(api: &Api<Deployment>) {
    stream::iter(0..COUNT)
        .map(Ok::<_, kube::Error>)
        .try_for_each_concurrent(12, async |index| {
            api.create(&PostParams::default(), &deployment(index)).await.map(|_| ())
        })
        .await
        .unwrap();
}

/// Tells, by one watch, when all Deployments of the load were first as each of the tests asks.
async fn count<const N: usize>(
    client: &Client,
    started: Instant,
    tests: [&dyn Fn(&Deployment) -> bool; N],
) -> [Duration; N] {
    let config = watcher::Config::default();
    let events = watcher(Api::<Deployment>::namespaced(client.clone(), NAMESPACE), config);
    let mut objects = std::pin::pin!(events.default_backoff().applied_objects());
    let mut seen = std::array::from_fn::<HashSet<String>, N, _>(|_| HashSet::new());
    let mut when = [Duration::ZERO; N];
    while seen.iter().any(|names| names.len() < COUNT) {
        let Some(Ok(object)) = objects.next().await else { continue };
        for ((names, when), passes) in seen.iter_mut().zip(&mut when).zip(tests) {
            if passes(&object) && names.insert(object.name_any()) {
                *when = started.elapsed();
            }
        }
    }
    when
}

fn everything(members: &[&str]) -> PropagationPolicy {
    let propagation = policy::PropagationSpec {
        resource_selectors: vec![policy::ResourceSelector {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            ..Default::default()
        }],
        placement: policy::Placement {
            cluster_affinity: Some(policy::ClusterAffinity {
                cluster_names: members.iter().map(ToString::to_string).collect(),
                ..Default::default()
            }),
            replica_scheduling: Some(policy::ReplicaScheduling {
                replica_scheduling_type: policy::ReplicaSchedulingType::Duplicated,
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    PropagationPolicy::new("everything", policy::PropagationPolicySpec { propagation })
}

/// The floor: the same 600 objects, created bare over the three members with twelve connections.
pub async fn floor(report: &mut Report, members: &[&str]) {
    let mut clients = Vec::new();
    for member in members {
        let client = lab::member(member).await;
        let name = "bench-floor";
        let namespace =
            Namespace { metadata: ObjectMeta { name: Some(name.into()), ..Default::default() }, ..Default::default() };
        let _ = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await;
        clients.push(client);
    }
    let started = Instant::now();
    stream::iter((0..COUNT).flat_map(|index| clients.iter().map(move |client| (index, client))))
        .for_each_concurrent(12, async |(index, client)| {
            let mut object = deployment(index);
            object.metadata.namespace = Some("bench-floor".into());
            Api::<Deployment>::namespaced(client.clone(), "bench-floor")
                .create(&PostParams::default(), &object)
                .await
                .unwrap();
        })
        .await;
    report.add("Floor: 600 bare creates over 3 members", started.elapsed());
    for client in clients {
        Api::<Namespace>::all(client).delete("bench-floor", &DeleteParams::default()).await.unwrap();
    }
}

//! The steps of a removal, in order: what uses the plane, the plane, its data, its keys. Pure.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::{Timestamp, ToSpan as _};
use kube::ResourceExt as _;

use crate::api::instance::{DeletionPolicy, KarmadaInstance};
use crate::chart::{Component, claim_names, component_of};

use super::caches::Host;
use super::ownership::{Target, owned};

/// How long a pod may take beyond its grace period before its node is taken to be gone.
const LOST_NODE_SECONDS: i64 = 60;

/// How many names a message holds.
const MAX_NAMES: usize = 10;

/// What is done next to take an instance down.
#[derive(Clone, Debug, PartialEq)]
pub enum Removal {
    /// Others still refer to it; their clean-up needs the plane.
    InUse(Vec<String>),
    /// Delete these, which are one rank of the order.
    Delete(Vec<Target>),
    /// Wait for these to go.
    Await(Vec<String>),
    /// Nothing is left.
    Finished,
}

/// What is done next.
#[must_use]
pub fn next_removal(instance: &KarmadaInstance, host: &Host, users: &[String], now: Timestamp) -> Removal {
    if !users.is_empty() {
        return Removal::InUse(users.to_vec());
    }
    let targets = owned(instance, host);
    for rank in [Rank::Components, Rank::ApiServer, Rank::Etcd] {
        let workloads: Vec<Target> =
            targets.iter().filter(|target| rank_of_workload(target, host) == Some(rank)).cloned().collect();
        if !workloads.is_empty() {
            return Removal::Delete(workloads);
        }
        let pods: Vec<String> = host
            .pods
            .values()
            // Somebody's copy, made to look into something, is no part of it.
            .filter(|pod| pod.owner_references().iter().any(|owner| owner.controller == Some(true)))
            .filter(|pod| component_of(pod.as_ref()).map(rank_of) == Some(rank) && !is_lost(pod, now))
            .map(|pod| format!("Pod {}", pod.name_any()))
            .collect();
        if !pods.is_empty() {
            return Removal::Await(pods);
        }
    }
    if instance.spec.deletion_policy == DeletionPolicy::Delete {
        // By name, as its StatefulSet knows them: a backup may carry the same labels.
        let data = claim_names(instance);
        let claims = host.claims.values().filter(|claim| data.contains(&claim.name_any()));
        let (going, staying): (Vec<_>, Vec<_>) = claims.partition(|claim| claim.metadata.deletion_timestamp.is_some());
        if !staying.is_empty() {
            return Removal::Delete(staying.into_iter().map(|claim| Target::of(claim.as_ref())).collect());
        }
        if !going.is_empty() {
            let name =
                |claim: &std::sync::Arc<PersistentVolumeClaim>| format!("PersistentVolumeClaim {}", claim.name_any());
            return Removal::Await(going.into_iter().map(name).collect());
        }
    }
    if targets.is_empty() { Removal::Finished } else { Removal::Delete(targets) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    Components,
    ApiServer,
    Etcd,
}

fn rank_of(component: Component) -> Rank {
    match component {
        Component::Etcd => Rank::Etcd,
        Component::ApiServer => Rank::ApiServer,
        _ => Rank::Components,
    }
}

fn rank_of_workload(Target { resource, name, uid: _ }: &Target, host: &Host) -> Option<Rank> {
    match resource.kind.as_str() {
        "Deployment" => host.deployments.get(name).and_then(|object| component_of(object.as_ref())).map(rank_of),
        "StatefulSet" => Some(Rank::Etcd),
        _ => None,
    }
}

/// A pod on a node that is gone would stay for ever.
fn is_lost(pod: &Pod, now: Timestamp) -> bool {
    pod.metadata
        .deletion_timestamp
        .as_ref()
        .is_some_and(|deadline| deadline.0.saturating_add(LOST_NODE_SECONDS.seconds()).is_ok_and(|limit| now > limit))
}

/// A list of names that fits into a message.
#[must_use]
pub fn render_names(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;
    use crate::controllers::instance::ownership::owner;
    use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
    use k8s_openapi::api::core::v1::Secret;
    use kube::Resource;
    use serde::de::DeserializeOwned;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn object<K: DeserializeOwned>(i: &KarmadaInstance, name: &str, component: &str) -> Arc<K> {
        let value = json!({ "metadata": {
            "name": name, "uid": format!("uid-{name}"),
            "labels": { "app.kubernetes.io/component": component, "airdock.dev/instance": "east" },
            "ownerReferences": [owner(i)],
        }});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn complete_host(i: &KarmadaInstance) -> Host {
        let mut host = Host::default();
        for component in ["apiserver", "engine"] {
            let name = format!("east-{component}");
            host.deployments.insert(name.clone(), object::<Deployment>(i, &name, component));
            host.pods.insert(name.clone(), object::<Pod>(i, &name, component));
        }
        host.stateful_sets.insert("east-etcd".into(), object::<StatefulSet>(i, "east-etcd", "etcd"));
        host.pods.insert("east-etcd-0".into(), object::<Pod>(i, "east-etcd-0", "etcd"));
        for claim in ["data-east-etcd-0", "backup-of-east"] {
            host.claims.insert(claim.into(), object::<PersistentVolumeClaim>(i, claim, "etcd"));
        }
        let mut copy = object::<Pod>(i, "east-etcd-0-debug", "etcd").as_ref().clone();
        copy.metadata.owner_references = None;
        host.pods.insert("east-etcd-0-debug".into(), Arc::new(copy));
        host.secrets.insert("east-ca".into(), object::<Secret>(i, "east-ca", "ca"));
        host
    }

    fn names(removal: &Removal) -> Vec<String> {
        match removal {
            Removal::Delete(targets) => targets.iter().map(ToString::to_string).collect(),
            Removal::Await(names) | Removal::InUse(names) => names.clone(),
            Removal::Finished => vec!["finished".into()],
        }
    }

    fn gone<K: Resource>(objects: &mut BTreeMap<String, Arc<K>>, name: &str) {
        objects.remove(name).unwrap();
    }

    #[test]
    fn goes_in_order() {
        let i = instance("Compact");
        let mut host = complete_host(&i);
        let now = Timestamp::now();
        let next = |host: &Host| names(&next_removal(&i, host, &[], now));
        assert_eq!(next(&host), ["Deployment east-engine"]);
        gone(&mut host.deployments, "east-engine");
        assert_eq!(next(&host), ["Pod east-engine"]);
        gone(&mut host.pods, "east-engine");
        assert_eq!(next(&host), ["Deployment east-apiserver"]);
        gone(&mut host.deployments, "east-apiserver");
        gone(&mut host.pods, "east-apiserver");
        assert_eq!(next(&host), ["StatefulSet east-etcd"]);
        gone(&mut host.stateful_sets, "east-etcd");
        assert_eq!(next(&host), ["Pod east-etcd-0"]);
        gone(&mut host.pods, "east-etcd-0");
        assert_eq!(next(&host), ["PersistentVolumeClaim data-east-etcd-0"]);
        gone(&mut host.claims, "data-east-etcd-0");
        assert_eq!(next(&host), ["Secret east-ca"]);
        gone(&mut host.secrets, "east-ca");
        assert_eq!(next(&host), ["finished"]);
    }

    #[test]
    fn users_hold_it_up() {
        let i = instance("Compact");
        let users = vec!["MemberClusterJoin fleet/a".to_owned()];
        assert_eq!(names(&next_removal(&i, &complete_host(&i), &users, Timestamp::now())), users);
    }

    #[test]
    fn retained_volumes_stay() {
        let mut i = instance("Compact");
        i.spec.deletion_policy = DeletionPolicy::Retain;
        let mut host = complete_host(&i);
        host.deployments.clear();
        host.stateful_sets.clear();
        host.pods.clear();
        assert_eq!(names(&next_removal(&i, &host, &[], Timestamp::now())), ["Secret east-ca"]);
    }

    #[test]
    fn a_pod_on_a_lost_node_does_not_hold_it_up_for_ever() {
        let i = instance("Compact");
        let mut host = Host::default();
        let mut pod = object::<Pod>(&i, "east-etcd-0", "etcd").as_ref().clone();
        let now = Timestamp::now();
        let at = |seconds: i64| {
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now.saturating_sub(seconds.seconds()).unwrap())
        };
        pod.metadata.deletion_timestamp = Some(at(10));
        host.pods.insert("p".into(), Arc::new(pod.clone()));
        assert_eq!(names(&next_removal(&i, &host, &[], now)), ["Pod east-etcd-0"]);
        pod.metadata.deletion_timestamp = Some(at(100));
        host.pods.insert("p".into(), Arc::new(pod));
        assert_eq!(names(&next_removal(&i, &host, &[], now)), ["finished"]);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..13).map(|n| n.to_string()).collect();
        assert_eq!(render_names(&names), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more");
        assert_eq!(render_names(&names[..1]), "0");
    }
}

//! Takes an instance down, in order: what uses the plane, the plane, its data, its keys.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{Timestamp, ToSpan as _};
use kube::api::{Api, ListParams};
use kube::core::ApiResource;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::common::InstanceRef;
use crate::api::instance::{DeletionPolicy, KarmadaInstance};
use crate::api::{MemberClusterJoin, MultiCloudApp, PermissionBinding};
use crate::chart::{Component, claim_names, component_of};
use crate::controllers::{app, finalizer, member, permission};
use crate::runtime::apply::anybodys;
use crate::runtime::guarded::{self, Guarded};
use crate::runtime::planes::InstanceKey;

use super::InstanceController;
use super::caches::Host;
use super::error::InstanceError;
use super::host::owned;
use super::keys;
use super::observe::{Observed, RETAINED_ANNOTATION, key};

/// Keeps the object until everything of it is gone.
pub const FINALIZER: &str = "airdock.dev/instance";

/// How long a pod may take beyond its grace period before its node is taken to be gone.
const POD_PATIENCE_SECONDS: i64 = 60;

/// How many names a message holds.
const MAX_NAMES: usize = 10;

/// An object to delete: its kind, name and uid.
pub type Target = (ApiResource, String, String);

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

/// What is done next. *Pure.*
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
            let resource = ApiResource::erase::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(&());
            let target = |name, uid: Option<String>| (resource.clone(), name, uid.unwrap_or_default());
            return Removal::Delete(staying.into_iter().map(|c| target(c.name_any(), c.uid())).collect());
        }
        if !going.is_empty() {
            let name = |claim: &std::sync::Arc<k8s_openapi::api::core::v1::PersistentVolumeClaim>| {
                format!("PersistentVolumeClaim {}", claim.name_any())
            };
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

fn rank_of_workload((resource, name, _): &Target, host: &Host) -> Option<Rank> {
    match resource.kind.as_str() {
        "Deployment" => host.deployments.get(name).and_then(|object| component_of(object.as_ref())).map(rank_of),
        "StatefulSet" => Some(Rank::Etcd),
        _ => None,
    }
}

/// A pod on a node that is gone would stay for ever.
fn is_lost(pod: &Pod, now: Timestamp) -> bool {
    pod.metadata.deletion_timestamp.as_ref().is_some_and(|deadline| {
        deadline.0.saturating_add(POD_PATIENCE_SECONDS.seconds()).is_ok_and(|limit| now > limit)
    })
}

/// A list of names that fits into a message. *Pure.*
#[must_use]
pub fn render_names(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl InstanceController {
    /// Does what is next to take an instance down. *IO.*
    pub(super) async fn remove(&self, observed: &Observed) -> Result<Removal, InstanceError> {
        let instance = observed.instance.as_ref();
        if !instance.finalizers().iter().any(|f| f == FINALIZER) {
            return Ok(Removal::Finished);
        }
        let users = self.users(instance).await?;
        if users.is_empty() {
            // From here on nobody is to work with the plane.
            self.plane_objects.forget(&key(instance));
        }
        let removal = next_removal(instance, &observed.host, &users, Timestamp::now());
        match &removal {
            Removal::InUse(_) | Removal::Await(_) => {}
            Removal::Delete(targets) => {
                for (resource, name, uid) in targets {
                    if self.retain(observed, &resource.kind, name).await? {
                        continue;
                    }
                    let namespace = instance.namespace();
                    let deleted = self.applier.delete(resource, namespace.as_deref(), name, uid).await;
                    deleted.map_err(InstanceError::host)?;
                    tracing::info!(kind = resource.kind, object = name, "removed");
                }
            }
            Removal::Finished => {
                finalizer::remove(&self.context.host.0, instance, FINALIZER).await.map_err(|source| {
                    InstanceError::Read { what: "(and change the finalizers of) the instance", source }
                })?
            }
        }
        Ok(removal)
    }

    /// Lets a root outlive the instance, where its data does. Tells whether it did.
    async fn retain(&self, observed: &Observed, kind: &str, name: &str) -> Result<bool, InstanceError> {
        let instance = observed.instance.as_ref();
        if kind != "Secret" || instance.spec.deletion_policy != DeletionPolicy::Retain {
            return Ok(false);
        }
        let roots = keys::roots(instance);
        let Some(entry) = roots.iter().find(|entry| entry.name == name) else { return Ok(false) };
        let Some(live) = observed.host.secrets.get(name) else { return Ok(false) };
        let mut secret = keys::secret(instance, entry, &keys::data(live));
        secret.metadata.annotations = Some(BTreeMap::from([(RETAINED_ANNOTATION.to_owned(), "true".to_owned())]));
        // Applied without an owner, so that it is not collected with the instance.
        let manifest = crate::chart::Manifest::from(secret);
        let resource = manifest.resource();
        let namespace = instance.namespace();
        self.applier
            .apply_over(&resource, namespace.as_deref(), name, manifest.to_value()?, None, anybodys)
            .await
            .map_err(InstanceError::host)?;
        tracing::info!(object = name, "kept for an instance of the same name");
        Ok(true)
    }

    /// Everything that names the instance.
    async fn users(&self, instance: &KarmadaInstance) -> Result<Vec<String>, InstanceError> {
        let client = &self.context.host.0;
        let key = key(instance);
        let refers = |reference: &InstanceRef, namespace: Option<String>| {
            InstanceKey::of(reference, &namespace.unwrap_or_default()) == key
        };
        let (members, apps, bindings) = tokio::try_join!(
            users_of::<MemberClusterJoin>(client, instance, member::FINALIZER, |member| {
                refers(&member.spec.instance_ref, member.namespace())
            }),
            users_of::<MultiCloudApp>(client, instance, app::FINALIZER, |app| {
                refers(&app.spec.instance_ref, app.namespace())
            }),
            // One that selects instances by label, or all of them, loses one and goes on.
            users_of::<PermissionBinding>(client, instance, permission::FINALIZER, |binding| {
                let selection = &binding.spec.scope.instances;
                let namespace = selection.namespace.clone().or_else(|| binding.namespace());
                namespace.as_ref() == Some(&key.namespace) && selection.names.contains(&key.name)
            }),
        )?;
        Ok([members, apps, bindings].concat())
    }
}

/// The objects of a kind that may have written something into an instance's plane: those that refer to it and bear the
/// finalizer that precedes each first write. Whoever was never let in cannot hold up an instance. An object that does
/// not parse counts where it may mean this one.
async fn users_of<K>(
    client: &Client,
    instance: &KarmadaInstance,
    held_by: &str,
    refers: impl Fn(&K) -> bool,
) -> Result<Vec<String>, InstanceError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let kind = K::kind(&());
    let all = guarded::list_all(&Api::<Guarded<K>>::all(client.clone()), &ListParams::default()).await;
    let all = all.map_err(|source| InstanceError::Read { what: "who refers to the instance", source })?;
    let users = all.iter().filter(|guarded| guarded.finalizers().iter().any(|held| held == held_by));
    let users = users.filter(|guarded| match &guarded.0 {
        Ok(object) => refers(object),
        Err(_) => instance.admits(&guarded.namespace().unwrap_or_default()),
    });
    Ok(users.map(|user| format!("{kind} {}/{}", user.namespace().unwrap_or_default(), user.name_any())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;
    use crate::controllers::instance::observe::owner;
    use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
    use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
    use serde_json::json;
    use std::sync::Arc;

    fn object<K: DeserializeOwned>(i: &KarmadaInstance, name: &str, component: &str) -> Arc<K> {
        let value = json!({ "metadata": {
            "name": name, "uid": format!("uid-{name}"),
            "labels": { "app.kubernetes.io/component": component, "airdock.dev/instance": "east" },
            "ownerReferences": [owner(i)],
        }});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn full_house(i: &KarmadaInstance) -> Host {
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
            Removal::Delete(targets) => targets.iter().map(|(r, name, _)| format!("{} {name}", r.kind)).collect(),
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
        let mut host = full_house(&i);
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
        assert_eq!(names(&next_removal(&i, &full_house(&i), &users, Timestamp::now())), users);
    }

    #[test]
    fn retained_volumes_stay() {
        let mut i = instance("Compact");
        i.spec.deletion_policy = DeletionPolicy::Retain;
        let mut host = full_house(&i);
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

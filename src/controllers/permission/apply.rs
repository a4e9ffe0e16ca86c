//! Writing what a permission wants in one plane, and removing the rest. IO.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, ObjectMeta};
use kube::{Client, ResourceExt};

use super::error::InstanceError;
use super::observe;
use super::plan::{Plan, Wanted};
use crate::api::app::InventoryEntry;
use crate::api::permission::PermissionBinding;
use crate::machinery::error::is_conflict;
use crate::runtime::apply::{Applier, ApplyError, Change, anybodys};
use crate::runtime::planes::Plane;

/// Requests to one plane at once.
const CONCURRENT_WRITES: usize = 16;

/// What became of a plan.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// What is there now.
    pub inventory: Vec<InventoryEntry>,
    /// What was written over, or made.
    pub changed: Vec<(InventoryEntry, Change)>,
}

/// Carries a plan out: namespaces, then what must go before it is made again, then policies and roles, then bindings, then
/// what is left over goes. What fails in one namespace keeps nothing from being tried in the others, and nothing from
/// being pruned. A binding alone is held back when what it depends on failed: under its old policy, the new subjects would
/// have the role in members that are not meant for them.
pub async fn apply(plane: &Plane, plan: Plan) -> Result<Applied, InstanceError> {
    let applier = &applier(plane);
    let Plan { apply, replace, prune } = plan;
    let missing = apply.iter().filter(|(_, live)| live.is_none()).filter_map(|(wanted, _)| wanted.namespace.clone());
    let mut namespaces: Vec<String> = missing.collect();
    namespaces.dedup();
    let (_, mut failures) = each(namespaces.into_iter().map(|name| {
        // The objects in a namespace that is not there fail by themselves.
        ((None, String::new()), ensure_namespace(applier.client(), name))
    }))
    .await;
    failures.extend(remove_all(applier, replace).await);
    let (bindings, others): (Vec<_>, Vec<_>) = apply.into_iter().partition(|(wanted, _)| is_binding(wanted));
    let mut applied = Applied::default();
    for phase in [others, bindings] {
        let phase = phase.into_iter().filter(|(wanted, _)| !failures.hold_back(wanted)).collect::<Vec<_>>();
        let writes = phase.into_iter().map(|(wanted, live)| {
            ((wanted.namespace.clone(), wanted.name.clone()), write(plane, applier, wanted, live))
        });
        let (written, failed) = each(writes).await;
        failures.extend(failed);
        for (entry, change) in written {
            if change != Change::None {
                applied.changed.push((entry.clone(), change));
            }
            applied.inventory.push(entry);
        }
    }
    failures.extend(remove_all(applier, prune).await);
    applied.inventory.sort();
    failures.first.map_or(Ok(applied), Err)
}

fn is_binding(wanted: &Wanted) -> bool {
    matches!(wanted.resource.kind.as_str(), "RoleBinding" | "ClusterRoleBinding")
}

/// Namespace and name. A binding has those of the policy or the role that it depends on.
type Place = (Option<String>, String);

/// What failed.
#[derive(Debug, Default)]
struct Failures {
    first: Option<InstanceError>,
    places: BTreeSet<Place>,
}

impl Failures {
    fn extend(&mut self, later: Self) {
        self.first = self.first.take().or(later.first);
        self.places.extend(later.places);
    }

    /// Whether an object is a binding, and what it depends on failed.
    fn hold_back(&self, wanted: &Wanted) -> bool {
        is_binding(wanted) && self.places.contains(&(wanted.namespace.clone(), wanted.name.clone()))
    }
}

/// Works on several objects at a time. One that fails keeps none of the others from being tried, since what is in one
/// namespace may be in the hands of others there; told is the first failure.
async fn each<T, F>(work: impl Iterator<Item = (Place, F)>) -> (Vec<T>, Failures)
where
    F: Future<Output = Result<T, InstanceError>>,
{
    let (mut done, mut failures) = (Vec::new(), Failures::default());
    let (places, work): (Vec<Place>, Vec<F>) = work.unzip();
    let results: Vec<_> = stream::iter(work).buffered(CONCURRENT_WRITES).collect().await;
    for (place, result) in places.into_iter().zip(results) {
        match result {
            Ok(one) => done.push(one),
            Err(error) => failures.extend(Failures { first: Some(error), places: BTreeSet::from([place]) }),
        }
    }
    (done, failures)
}

/// Removes everything that was made for a binding.
pub async fn remove(plane: &Plane, binding: &PermissionBinding) -> Result<(), InstanceError> {
    let live = observe::live(&plane.client, binding).await?;
    remove_all(&applier(plane), super::plan::plan(Vec::new(), live).prune).await.first.map_or(Ok(()), Err)
}

fn applier(plane: &Plane) -> Applier {
    Applier::new(plane.client.clone(), "airdock.dev/permission")
}

async fn write(
    plane: &Plane,
    applier: &Applier,
    wanted: Wanted,
    live: Option<DynamicObject>,
) -> Result<(InventoryEntry, Change), InstanceError> {
    let Wanted { resource, namespace, name, value } = wanted;
    let place = (namespace.as_deref(), name.as_str());
    let applied =
        plane.apply_over(applier, &resource, place, value, live, anybodys).await.map_err(InstanceError::Write)?;
    let uid = applied.object.uid().unwrap_or_default();
    Ok((
        InventoryEntry { api_version: resource.api_version, kind: resource.kind, namespace, name, uid },
        applied.change,
    ))
}

async fn remove_all(applier: &Applier, mut objects: Vec<(ApiResource, DynamicObject)>) -> Failures {
    objects.retain(|(_, object)| object.metadata.deletion_timestamp.is_none());
    let removals = objects.into_iter().map(|(resource, object)| {
        ((object.metadata.namespace.clone(), object.name_any()), remove_one(applier, resource, object))
    });
    each(removals).await.1
}

async fn remove_one(applier: &Applier, resource: ApiResource, object: DynamicObject) -> Result<(), InstanceError> {
    let (namespace, uid) = (object.metadata.namespace.as_deref(), object.uid().unwrap_or_default());
    applier.delete(&resource, namespace, &object.name_any(), &uid).await.map_err(InstanceError::Write)?;
    Ok(())
}

/// Makes a namespace that is missing. It is never removed: others may have filled it since.
async fn ensure_namespace(client: &Client, name: String) -> Result<(), InstanceError> {
    let api = Api::<Namespace>::all(client.clone());
    let read = |source| InstanceError::Read { what: "a Namespace", source };
    if api.get_metadata_opt(&name).await.map_err(read)?.is_some() {
        return Ok(());
    }
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    match api.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => Ok(()),
        Err(source) => {
            Err(InstanceError::Write(ApplyError::Api { verb: "create", kind: "Namespace".to_owned(), name, source }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_object_that_cannot_be_removed_keeps_no_other() {
        let work = (0..3 * CONCURRENT_WRITES)
            .map(|n| async move { if n % 7 == 3 { Err(InstanceError::Silent(n as u64)) } else { Ok(n) } })
            .map(|work| ((None, "one".to_owned()), work));
        let (done, failures) = each(work).await;
        assert_eq!(done.len(), (0..3 * CONCURRENT_WRITES).filter(|n| n % 7 != 3).count());
        assert!(matches!(failures.first, Some(InstanceError::Silent(3))), "{failures:?}");
    }

    #[tokio::test]
    async fn a_binding_is_held_back_when_its_policy_failed() {
        let place = |namespace: &str| (Some(namespace.to_owned()), "devs".to_owned());
        let work = ["a", "b"].map(|namespace| {
            let result = if namespace == "a" { Err(InstanceError::Silent(1)) } else { Ok(()) };
            (place(namespace), std::future::ready(result))
        });
        let (_, failures) = each(work.into_iter()).await;
        let wanted = |resource: ApiResource, namespace: &str| {
            let (namespace, name) = place(namespace);
            Wanted { resource, namespace, name, value: serde_json::Value::Null }
        };
        for resource in super::super::plan::kinds() {
            let is_binding = resource.kind.ends_with("RoleBinding");
            assert_eq!(failures.hold_back(&wanted(resource.clone(), "a")), is_binding, "{}", resource.kind);
            assert!(!failures.hold_back(&wanted(resource.clone(), "b")), "{}", resource.kind);
        }
    }
}

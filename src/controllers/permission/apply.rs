//! Writing what a permission wants in one plane, and removing the rest. IO.

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
const PARALLEL: usize = 16;

/// What became of a plan.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// What is there now.
    pub inventory: Vec<InventoryEntry>,
    /// What was written over, or made.
    pub changed: Vec<(InventoryEntry, Change)>,
}

/// Carries a plan out: namespaces, then policies, then bindings, then what is left over goes.
pub async fn apply(plane: &Plane, plan: Plan) -> Result<Applied, InstanceError> {
    let applier = &applier(plane);
    let Plan { apply, replace, prune } = plan;
    let missing = apply.iter().filter(|(_, live)| live.is_none()).filter_map(|(wanted, _)| wanted.namespace.clone());
    let mut namespaces: Vec<String> = missing.collect();
    namespaces.dedup();
    let (_, mut failure) = each(namespaces.into_iter().map(|name| ensure_namespace(applier.client(), name))).await;
    failure = failure.or(remove_all(applier, replace).await.err());
    let (policies, bindings): (Vec<_>, Vec<_>) =
        apply.into_iter().partition(|(wanted, _)| wanted.resource.group == "policy.karmada.io");
    let mut applied = Applied::default();
    for phase in [policies, bindings] {
        let (written, failed) = each(phase.into_iter().map(|(wanted, live)| write(plane, applier, wanted, live))).await;
        failure = failure.or(failed);
        for (entry, change) in written {
            if change != Change::None {
                applied.changed.push((entry.clone(), change));
            }
            applied.inventory.push(entry);
        }
    }
    failure = failure.or(remove_all(applier, prune).await.err());
    applied.inventory.sort();
    failure.map_or(Ok(applied), Err)
}

/// Works on several objects at a time. One that fails keeps none of the others from being tried, since what is in one
/// namespace may be in the hands of others there; told is the first failure.
async fn each<T, F>(work: impl Iterator<Item = F>) -> (Vec<T>, Option<InstanceError>)
where
    F: Future<Output = Result<T, InstanceError>>,
{
    let (mut done, mut failure) = (Vec::new(), None);
    for result in stream::iter(work).buffered(PARALLEL).collect::<Vec<_>>().await {
        match result {
            Ok(one) => done.push(one),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    (done, failure)
}

/// Removes everything that was made for a binding.
pub async fn remove(plane: &Plane, binding: &PermissionBinding) -> Result<(), InstanceError> {
    let live = observe::live(&plane.client, binding).await?;
    remove_all(&applier(plane), super::plan::plan(Vec::new(), live).prune).await
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

async fn remove_all(applier: &Applier, mut objects: Vec<(ApiResource, DynamicObject)>) -> Result<(), InstanceError> {
    objects.retain(|(_, object)| object.metadata.deletion_timestamp.is_none());
    let removals = objects.into_iter().map(|(resource, object)| remove_one(applier, resource, object));
    each(removals).await.1.map_or(Ok(()), Err)
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
        let work = (0..3 * PARALLEL)
            .map(|n| async move { if n % 7 == 3 { Err(InstanceError::Silent(n as u64)) } else { Ok(n) } });
        let (done, failure) = each(work).await;
        assert_eq!(done.len(), (0..3 * PARALLEL).filter(|n| n % 7 != 3).count());
        assert!(matches!(failure, Some(InstanceError::Silent(3))), "{failure:?}");
    }
}

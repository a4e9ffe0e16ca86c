//! Writing what a permission wants in one plane, and removing the rest. IO.

use futures::{StreamExt, TryStreamExt, stream};
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
    stream::iter(namespaces)
        .map(|name| ensure_namespace(applier.client(), name))
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>()
        .await?;
    remove_all(applier, replace).await?;
    let (policies, bindings): (Vec<_>, Vec<_>) =
        apply.into_iter().partition(|(wanted, _)| wanted.resource.group == "policy.karmada.io");
    let mut applied = Applied::default();
    for phase in [policies, bindings] {
        let written: Vec<(InventoryEntry, Change)> = stream::iter(phase)
            .map(|(wanted, live)| write(plane, applier, wanted, live))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        for (entry, change) in written {
            if change != Change::None {
                applied.changed.push((entry.clone(), change));
            }
            applied.inventory.push(entry);
        }
    }
    remove_all(applier, prune).await?;
    applied.inventory.sort();
    Ok(applied)
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

async fn remove_all(applier: &Applier, objects: Vec<(ApiResource, DynamicObject)>) -> Result<(), InstanceError> {
    for (resource, object) in objects {
        if object.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let uid = object.uid().unwrap_or_default();
        applier
            .delete(&resource, object.metadata.namespace.as_deref(), &object.name_any(), &uid)
            .await
            .map_err(InstanceError::Write)?;
    }
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

//! Writes into a plane what belongs to its installation. *IO.*

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::json;

use crate::chart::Manifest;
use crate::runtime::apply::{Applier, Change, anybodys};

use super::error::InstanceError;
use super::plane_plan::ESTABLISH_ANNOTATION;
use super::plane_record::Verification;

/// Writes at once into one plane.
const CONCURRENCY: usize = 8;

/// Applies manifests and records each as verified. Returns what it changed.
pub async fn apply_all(verification: &Verification, manifests: Vec<&Manifest>) -> Result<Vec<String>, InstanceError> {
    let pending: Vec<_> = manifests.into_iter().map(|manifest| apply(verification, manifest)).collect();
    let applied: Vec<Option<String>> =
        futures::stream::iter(pending).buffer_unordered(CONCURRENCY).try_collect().await?;
    Ok(applied.into_iter().flatten().collect())
}

async fn apply(verification: &Verification, manifest: &Manifest) -> Result<Option<String>, InstanceError> {
    let resource = manifest.resource();
    let namespace = manifest.metadata().namespace.as_deref();
    let applied = verification
        .applier
        .apply_value(&resource, namespace, manifest.name(), manifest.to_value()?, anybodys)
        .await
        .map_err(|error| InstanceError::Plane { what: format!("apply {}", manifest.id()), source: Box::new(error) })?;
    verification.plane.cache.record(&resource, &applied.object);
    verification.record(manifest, &applied.object);
    Ok(match applied.change {
        Change::Created => Some(format!("created {}", manifest.id())),
        Change::Updated => Some(format!("updated {}", manifest.id())),
        Change::None => None,
    })
}

/// Deletes objects. Returns what it changed.
pub async fn delete_all(
    applier: &Applier,
    superfluous: Vec<&(ApiResource, DynamicObject)>,
) -> Result<Vec<String>, InstanceError> {
    let mut changes = Vec::new();
    for (resource, object) in superfluous {
        let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
        let what = format!("{} {name}", resource.kind);
        applier
            .delete(resource, object.namespace().as_deref(), &name, &uid)
            .await
            .map_err(|error| InstanceError::Plane { what: format!("delete {what}"), source: Box::new(error) })?;
        changes.push(format!("removed {what}"));
    }
    Ok(changes)
}

/// Changes an annotation of definitions, so that the plane takes up establishing them again.
pub async fn request_establishing(
    applier: &Applier,
    definitions: Vec<&Manifest>,
    now: Timestamp,
) -> Result<(), InstanceError> {
    for definition in definitions {
        tracing::warn!(
            definition = definition.name(),
            "the plane does not serve it yet: asking it to establish it again"
        );
        let patch = json!({ "metadata": { "annotations": { ESTABLISH_ANNOTATION: now.to_string() } } });
        let api = applier.api(&definition.resource(), None);
        api.patch(definition.name(), &PatchParams::default(), &Patch::Merge(&patch)).await.map_err(|error| {
            InstanceError::Plane { what: format!("annotate {}", definition.id()), source: Box::new(error) }
        })?;
    }
    Ok(())
}

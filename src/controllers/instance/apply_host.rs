//! Writes into the host cluster. Each object is owned by its instance, and nobody else's is touched. *IO.*

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde::Serialize;

use crate::api::instance::{DeletionPolicy, KarmadaInstance};
use crate::chart::Manifest;
use crate::instance::keys;
use crate::runtime::apply::{Applied, Change, anybodys};

use super::InstanceController;
use super::caches::{Host, Named};
use super::error::InstanceError;
use super::observe::ObservedInstance;
use super::ownership::{Ownership, RETAINED_ANNOTATION, Target, owner, ownership};

/// Writes at once into the host cluster for one instance.
const CONCURRENCY: usize = 8;

impl InstanceController {
    /// Applies objects to the host cluster, each owned by the instance. Returns them as they are then.
    pub(super) async fn apply_all(
        &self,
        observed: &ObservedInstance,
        manifests: &[Manifest],
        changes: &mut Vec<String>,
    ) -> Result<Vec<DynamicObject>, InstanceError> {
        let pending: Vec<_> = manifests.iter().map(|manifest| self.apply_one(observed, manifest)).collect();
        let applied: Vec<Applied> = futures::stream::iter(pending).buffer_unordered(CONCURRENCY).try_collect().await?;
        let mut objects = Vec::with_capacity(applied.len());
        for Applied { object, change } in applied {
            let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
            let id = format!("{kind} {}", object.name_any());
            match change {
                Change::Created => changes.push(format!("created {id}")),
                Change::Updated => changes.push(format!("updated {id}")),
                Change::None => {}
            }
            objects.push(object);
        }
        Ok(objects)
    }

    async fn apply_one(&self, observed: &ObservedInstance, manifest: &Manifest) -> Result<Applied, InstanceError> {
        let instance = observed.instance.as_ref();
        let resource = manifest.resource();
        let namespace = instance.namespace();
        let live = match cached(&observed.host, manifest) {
            Some(live) => Some(live),
            None => {
                let api = self.applier.api(&resource, namespace.as_deref());
                let read = api.get_opt(manifest.name()).await;
                read.map_err(|source| InstanceError::Read { what: "an object", source })?
            }
        };
        if let Some(live) = &live
            && ownership(&live.metadata, instance) == Ownership::Foreign
        {
            return Err(InstanceError::Taken { kind: resource.kind, name: manifest.name().to_owned() });
        }
        let mut manifest = manifest.clone();
        manifest.metadata_mut().owner_references = Some(vec![owner(instance)]);
        self.applier
            .apply_over(&resource, namespace.as_deref(), manifest.name(), manifest.to_value()?, live, anybodys)
            .await
            .map_err(InstanceError::host)
    }

    /// Deletes objects, and notes `done` of each.
    pub(super) async fn delete_all(
        &self,
        instance: &KarmadaInstance,
        targets: Vec<Target>,
        done: &str,
        changes: &mut Vec<String>,
    ) -> Result<(), InstanceError> {
        for target in targets {
            self.delete(instance, &target).await?;
            changes.push(format!("{done} {target}"));
        }
        Ok(())
    }

    /// Deletes this very object.
    pub(super) async fn delete(
        &self,
        instance: &KarmadaInstance,
        Target { resource, name, uid }: &Target,
    ) -> Result<(), InstanceError> {
        let namespace = instance.namespace();
        let deleted = self.applier.delete(resource, namespace.as_deref(), name, uid).await;
        deleted.map(|_| ()).map_err(InstanceError::host)
    }

    /// Lets a root outlive the instance, where its data does. Returns whether it did.
    pub(super) async fn retain(
        &self,
        observed: &ObservedInstance,
        Target { resource, name, uid: _ }: &Target,
    ) -> Result<bool, InstanceError> {
        let instance = observed.instance.as_ref();
        if resource.kind != "Secret" || instance.spec.deletion_policy != DeletionPolicy::Retain {
            return Ok(false);
        }
        let roots = keys::roots(instance);
        let Some(entry) = roots.iter().find(|entry| entry.name == *name) else { return Ok(false) };
        let Some(live) = observed.host.secrets.get(name) else { return Ok(false) };
        let mut secret = keys::secret(instance, entry, &keys::data(live));
        secret.metadata.annotations = Some(BTreeMap::from([(RETAINED_ANNOTATION.to_owned(), "true".to_owned())]));
        // Applied without an owner, so that it is not collected with the instance.
        let manifest = Manifest::from(secret);
        let namespace = instance.namespace();
        self.applier
            .apply_over(resource, namespace.as_deref(), name, manifest.to_value()?, None, anybodys)
            .await
            .map_err(InstanceError::host)?;
        tracing::info!(object = name, "kept for an instance of the same name");
        Ok(true)
    }
}

fn cached(host: &Host, manifest: &Manifest) -> Option<DynamicObject> {
    fn find<K: Serialize>(objects: &Named<K>, name: &str) -> Option<DynamicObject> {
        serde_json::to_value(objects.get(name)?.as_ref()).and_then(serde_json::from_value).ok()
    }
    let name = manifest.name();
    match manifest {
        Manifest::Deployment(_) => find(&host.deployments, name),
        Manifest::StatefulSet(_) => find(&host.stateful_sets, name),
        Manifest::Service(_) => find(&host.services, name),
        Manifest::Secret(_) => find(&host.secrets, name),
        Manifest::PodDisruptionBudget(_) => find(&host.disruption_budgets, name),
        _ => None,
    }
}

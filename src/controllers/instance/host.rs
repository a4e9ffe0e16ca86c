//! Writes into the host cluster. Each object is owned by its instance, and nobody else's is touched. *IO.*

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;

use crate::api::KarmadaInstance;
use crate::chart::Manifest;
use crate::runtime::apply::{Applied, Change, anybodys};

use super::InstanceController;
use super::caches::{Host, Named};
use super::error::InstanceError;
use super::observe::{Observed, Ownership, owner, ownership};

/// Writes at once into the host cluster for one instance.
const CONCURRENCY: usize = 8;

impl InstanceController {
    /// Applies objects to the host cluster, each owned by the instance. Returns them as they are then.
    pub(super) async fn apply_all(
        &self,
        observed: &Observed,
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

    async fn apply_one(&self, observed: &Observed, manifest: &Manifest) -> Result<Applied, InstanceError> {
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

/// What the instance owns in the host cluster: kind, name and uid of each.
pub fn owned(instance: &KarmadaInstance, host: &Host) -> Vec<(ApiResource, String, String)> {
    fn add<K: Resource<DynamicType = ()>>(
        into: &mut Vec<(ApiResource, String, String)>,
        instance: &KarmadaInstance,
        objects: &Named<K>,
    ) {
        let own = objects.values().filter(|object| {
            object.meta().deletion_timestamp.is_none() && ownership(object.meta(), instance) == Ownership::Ours
        });
        into.extend(
            own.map(|object| (ApiResource::erase::<K>(&()), object.name_any(), object.uid().unwrap_or_default())),
        );
    }
    let Host { deployments, stateful_sets, services, secrets, disruption_budgets, claims: _, pods: _ } = host;
    let mut all = Vec::new();
    add(&mut all, instance, deployments);
    add(&mut all, instance, stateful_sets);
    add(&mut all, instance, services);
    add(&mut all, instance, secrets);
    add(&mut all, instance, disruption_budgets);
    all
}

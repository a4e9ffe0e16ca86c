//! What one plane holds for a permission. IO, no writes.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, TypeMeta};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::InstanceError;
use super::plan::{self, kinds};
use crate::api::KarmadaInstance;
use crate::api::permission::PermissionBinding;
use crate::karmada::binding::AggregatedStatusItem;
use crate::karmada::{Cluster, ClusterResourceBinding, ResourceBinding};
use crate::machinery::error::{chain, is_not_found};
use crate::runtime::guarded::{self, Guarded};
use crate::runtime::instance_ref::no_plane;
use crate::runtime::planes::cache::{KindView, PlaneCache};
use crate::runtime::planes::{InstanceKey, Plane, Planes};

/// Everything that a plan needs to know of a plane.
#[derive(Clone, Debug)]
pub struct ObservedPlane {
    /// What was made for the binding, whatever the binding says now.
    pub live: Vec<(ApiResource, DynamicObject)>,
    /// The plane's members.
    pub clusters: Vec<Cluster>,
    /// How the copies fare.
    pub copies: Vec<Copies>,
}

/// How the copies of one object fare in the members.
#[derive(Clone, Debug)]
pub struct Copies {
    /// Namespace of the object; absent for a cluster-wide one.
    pub namespace: Option<String>,
    /// By cluster.
    pub clusters: Vec<AggregatedStatusItem>,
}

/// The plane of an instance.
pub fn plane(
    planes: &Planes,
    instance: &KarmadaInstance,
    key: &InstanceKey,
) -> Result<std::sync::Arc<Plane>, InstanceError> {
    planes.get(key).map_err(|error| no_plane(instance, &error).into())
}

/// Looks it all up in the plane's cache.
pub async fn observe(plane: &Plane, binding: &PermissionBinding) -> Result<ObservedPlane, InstanceError> {
    let cache = &plane.cache;
    cache.check().await?;
    let clusters = cache.kind(&ApiResource::erase::<Cluster>(&())).await?.list_typed(|_| true);
    let labels = plan::labels(binding);
    let made_for = |object: &DynamicObject| labels.iter().all(|(key, value)| object.labels().get(key) == Some(value));
    let mut live = Vec::new();
    for resource in kinds() {
        let objects = cache.kind(&resource).await?.list(made_for).into_iter();
        live.extend(objects.map(|object| (resource.clone(), object)));
    }
    Ok(ObservedPlane { live, clusters, copies: copies(cache, binding).await? })
}

/// What was made for the binding, as the plane itself has it: nothing that is to be removed may be missed, and so of
/// objects that cannot be read there is the metadata.
pub async fn live(
    client: &Client,
    binding: &PermissionBinding,
) -> Result<Vec<(ApiResource, DynamicObject)>, InstanceError> {
    let selector = ListParams::default().labels(&plan::selector(binding));
    let lists = kinds().map(|resource| {
        let api = Api::<Guarded<DynamicObject>>::all_with(client.clone(), &resource);
        let selector = &selector;
        async move {
            let list = match guarded::list_known(&api, selector).await {
                Ok(list) => list,
                // A kind that the plane does not serve has no objects there.
                Err(error) if is_not_found(&error) => Vec::new(),
                Err(source) => return Err(InstanceError::Read { what: "the binding's objects", source }),
            };
            // Items of a list do not say what they are.
            let types = TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
            let named = |mut object: DynamicObject| {
                object.types = Some(types.clone());
                (resource.clone(), object)
            };
            Ok(list.into_iter().map(named).collect::<Vec<_>>())
        }
    });
    Ok(futures::future::try_join_all(lists).await?.into_iter().flatten().collect())
}

/// A binding, if it is there and can be read: one that somebody has spoilt tells nothing of its copies, and must not keep
/// the role from being given and taken elsewhere.
fn readable<K>(kind: &KindView, namespace: Option<&str>, name: &str) -> Option<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let found = kind.get_typed::<K>(namespace, name);
    found
        .inspect_err(|error| tracing::warn!(error = chain(error), namespace, name, "binding is left out"))
        .ok()
        .flatten()
}

async fn copies(cache: &PlaneCache, binding: &PermissionBinding) -> Result<Vec<Copies>, InstanceError> {
    if binding.spec.scope.clusters.none {
        return Ok(Vec::new());
    }
    if plan::everywhere(binding) {
        let name = plan::resource_binding_name::<ClusterRoleBinding>(binding);
        let kind = cache.kind(&ApiResource::erase::<ClusterResourceBinding>(&())).await?;
        let clusters = readable::<ClusterResourceBinding>(&kind, None, &name).and_then(|found| found.status);
        let clusters = clusters.map(|status| status.aggregated_status);
        return Ok(clusters
            .into_iter()
            .map(|clusters| Copies { namespace: None, clusters: clusters.to_vec() })
            .collect());
    }
    let name = plan::resource_binding_name::<RoleBinding>(binding);
    let kind = cache.kind(&ApiResource::erase::<ResourceBinding>(&())).await?;
    let mut copies = Vec::new();
    for namespace in plan::namespaces(binding) {
        let Some(found) = readable::<ResourceBinding>(&kind, Some(&namespace), &name) else { continue };
        let clusters = found.status.map(|status| status.aggregated_status).unwrap_or_default();
        copies.push(Copies { namespace: Some(namespace), clusters: clusters.to_vec() });
    }
    Ok(copies)
}

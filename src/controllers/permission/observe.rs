//! Reading what one plane holds for a permission. IO, no writes.

use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, TypeMeta};
use kube::{Client, ResourceExt};

use super::error::InstanceError;
use super::plan::{self, kinds};
use crate::api::KarmadaInstance;
use crate::api::permission::PermissionBinding;
use crate::karmada::binding::AggregatedStatusItem;
use crate::karmada::{Cluster, ClusterResourceBinding, ResourceBinding};
use crate::runtime::error::is_not_found;
use crate::runtime::guarded::{self, Guarded};
use crate::runtime::instance_ref::no_plane;
use crate::runtime::planes::{InstanceKey, Plane, Planes};

/// Everything that a plan needs to know of a plane.
#[derive(Clone, Debug)]
pub struct Observed {
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

/// Reads it all at once.
pub async fn observe(client: &Client, binding: &PermissionBinding) -> Result<Observed, InstanceError> {
    let (live, clusters, copies) = tokio::try_join!(live(client, binding), clusters(client), copies(client, binding))?;
    Ok(Observed { live, clusters, copies })
}

/// What was made for the binding.
pub async fn live(
    client: &Client,
    binding: &PermissionBinding,
) -> Result<Vec<(ApiResource, DynamicObject)>, InstanceError> {
    let selector = ListParams::default().labels(&plan::selector(binding));
    let lists = kinds().map(|resource| {
        let api = Api::<Guarded<DynamicObject>>::all_with(client.clone(), &resource);
        let selector = &selector;
        async move {
            let list = match guarded::list(&api, selector).await {
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

async fn clusters(client: &Client) -> Result<Vec<Cluster>, InstanceError> {
    let list = guarded::list(&Api::<Guarded<Cluster>>::all(client.clone()), &ListParams::default()).await;
    list.map_err(|source| InstanceError::Read { what: "Clusters", source })
}

async fn copies(client: &Client, binding: &PermissionBinding) -> Result<Vec<Copies>, InstanceError> {
    if binding.spec.scope.clusters.none {
        return Ok(Vec::new());
    }
    if plan::everywhere(binding) {
        let name = format!("{}-clusterrolebinding", plan::object_name(binding));
        let found = Api::<ClusterResourceBinding>::all(client.clone())
            .get_opt(&name)
            .await
            .map_err(|source| InstanceError::Read { what: "ClusterResourceBindings", source })?;
        let clusters = found.and_then(|found| found.status).map(|status| status.aggregated_status);
        return Ok(clusters.into_iter().map(|clusters| Copies { namespace: None, clusters }).collect());
    }
    let name = format!("metadata.name={}-rolebinding", plan::object_name(binding));
    let bindings = Api::<Guarded<ResourceBinding>>::all(client.clone());
    let found = guarded::list(&bindings, &ListParams::default().fields(&name))
        .await
        .map_err(|source| InstanceError::Read { what: "ResourceBindings", source })?;
    Ok(found
        .into_iter()
        .map(|found| Copies {
            namespace: found.namespace(),
            clusters: found.status.map(|status| status.aggregated_status).unwrap_or_default(),
        })
        .collect())
}

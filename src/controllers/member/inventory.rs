//! What a member that leaves still holds: as its plane knows it, and as the member itself shows it. *IO.*

use std::fmt;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::apply::{Works, foreign_finalizers};
use super::error::Error;
use super::observe::MemberClient;
use super::owned_objects::owned_by;
use super::plan::PlaneMark;
use super::remaining::{Remaining, render_object};
use crate::api::instance::Profile;
use crate::engine::REMOVING_ANNOTATION;
use crate::karmada::binding::BindingSpec;
use crate::karmada::{Cluster, ClusterResourceBinding, ResourceBinding};
use crate::runtime::controller::Guarded;
use crate::runtime::planes::Plane;

/// How many bindings are read at once.
const PAGE: u32 = 500;

/// Identity of a plane, which its engine marks objects in members with.
pub async fn plane_id(plane: &Plane) -> Result<String, Error> {
    let system = Api::<Namespace>::all(plane.client.clone()).get_metadata("kube-system").await;
    let system = system.map_err(|source| Error::Plane { instance: plane.key.to_string(), source })?;
    Ok(system.uid().unwrap_or_default())
}

/// What the plane still has in a cluster: by its bindings and Works, else by what the member itself shows.
pub async fn remaining(
    plane: &Plane,
    profile: Profile,
    cluster: &Cluster,
    member_client: Option<&MemberClient>,
) -> Result<Remaining, Error> {
    let name = &cluster.name_any();
    let unreachable = |source| Error::Plane { instance: plane.key.to_string(), source };
    if profile == Profile::Full {
        let works = Works::of(plane, name).remaining().await.map_err(unreachable)?;
        if !works.is_empty() {
            return Ok(works);
        }
    }
    let bound = bound_to(plane, name).await.map_err(unreachable)?;
    if !bound.is_empty() {
        return Ok(bound);
    }
    let mut shown = Remaining::default();
    if let Some(member_client) = member_client {
        let mark = PlaneMark::Plane(plane_id(plane).await?);
        let objects = owned_by(&member_client.client(), &mark).await.map_err(|e| member_client.failure(e))?;
        shown.extend(objects.iter().map(ToString::to_string));
    }
    shown.extend(foreign_finalizers(cluster.finalizers()).map(|held_by| format!("Cluster {name} (held by {held_by})")));
    Ok(shown)
}

/// Objects that bindings of the plane still have in a cluster.
async fn bound_to(plane: &Plane, cluster: &str) -> Result<Remaining, kube::Error> {
    let mut remaining = Remaining::default();
    let namespaced = Api::<Guarded<ResourceBinding>>::all(plane.client.clone());
    collect_bound(&namespaced, cluster, |binding| &binding.spec.binding, &mut remaining).await?;
    let cluster_wide = Api::<Guarded<ClusterResourceBinding>>::all(plane.client.clone());
    collect_bound(&cluster_wide, cluster, |binding| &binding.spec.binding, &mut remaining).await?;
    Ok(remaining)
}

/// Reads page by page, until a message is full.
async fn collect_bound<K>(
    api: &Api<Guarded<K>>,
    cluster: &str,
    spec: impl Fn(&K) -> &BindingSpec,
    remaining: &mut Remaining,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        for binding in page.items.iter().filter_map(|guarded| guarded.0.as_ref().ok()) {
            let removing = binding.annotations().get(REMOVING_ANNOTATION).map(String::as_str);
            if let Some(name) = bound_object(spec(binding), removing, cluster) {
                remaining.push(name);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if !remaining.is_full() => params = params.continue_token(&token),
            _ => return Ok(()),
        }
    }
}

/// The object of a binding, if it may be in a cluster. *Pure.*
fn bound_object(spec: &BindingSpec, removing: Option<&str>, cluster: &str) -> Option<String> {
    let is_target = spec.clusters.iter().any(|target| target.name == cluster);
    let is_removing = removing.unwrap_or_default().split(',').any(|name| name == cluster);
    let object = &spec.resource;
    (is_target || is_removing).then(|| render_object(&object.kind, object.namespace.as_deref(), &object.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_binding_counts_where_its_object_may_be() {
        let spec: BindingSpec = serde_json::from_value(json!({
            "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"},
            "clusters": [{"name": "eu"}],
        }))
        .unwrap();
        assert_eq!(bound_object(&spec, None, "eu").as_deref(), Some("Deployment shop/web"));
        assert_eq!(bound_object(&spec, Some("us,asia"), "us").as_deref(), Some("Deployment shop/web"));
        assert_eq!(bound_object(&spec, Some("us,asia"), "a"), None);
    }
}

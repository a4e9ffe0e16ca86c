//! What a member that leaves still holds: as its plane knows it, and as the member itself shows it. *IO.*
//!
//! The plane takes its applications out of a member. When it is gone, with its namespace for example, nobody would:
//! the objects of a Compact plane carry its mark, and are found and removed by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::discovery::{Discovery, verbs};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::apply::{Works, foreign_finalizers};
use super::error::Error;
use super::observe::MemberClient;
use super::plan;
use super::remaining::Remaining;
use super::write::MemberWrite;
use crate::api::instance::Profile;
use crate::api::member::MemberClusterJoin;
use crate::engine::{ADOPTED_ANNOTATION, PLANE_ANNOTATION, REMOVING_ANNOTATION};
use crate::karmada::binding::BindingSpec;
use crate::karmada::{CLUSTER_NAMESPACE, Cluster, ClusterResourceBinding, MANAGED_LABEL, ResourceBinding};
use crate::runtime::controller::Guarded;
use crate::runtime::planes::Plane;

/// How many bindings are read at once.
const PAGE: u32 = 500;

/// How many kinds are listed at once.
const CONCURRENT_LISTS: usize = 8;

/// How many objects are deleted at once.
const CONCURRENT_DELETES: usize = 16;

/// How many objects are deleted in one round, which has a deadline; the rest follows in the next.
const MAX_DELETES: usize = 1000;

/// How often one round looks at what remains: objects first, then namespaces, then whether all is gone.
const MAX_PASSES: usize = 3;

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
    access: Option<&MemberClient>,
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
    if let Some(access) = access {
        let mark = plane_id(plane).await?;
        let objects = owned_by(&access.client(), &mark).await.map_err(|e| access.failure(e))?;
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

pub(super) fn render_object(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// An object in a member that carries a plane's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedObject {
    /// How it is requested.
    pub resource: ApiResource,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl fmt::Display for OwnedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render_object(&self.resource.kind, self.namespace.as_deref(), &self.name))
    }
}

/// Everything in a member that carries a plane's mark.
pub async fn owned_by(client: &Client, plane: &str) -> Result<Vec<OwnedObject>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = discovery.groups().flat_map(|group| group.resources_by_stability()).filter(|(_, capabilities)| {
        capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE)
    });
    let kinds: Vec<ApiResource> = kinds.map(|(resource, _)| resource).collect();
    let lists = kinds.into_iter().map(|resource| list_owned(client, resource, plane));
    let lists: Vec<Vec<OwnedObject>> =
        futures::stream::iter(lists).buffer_unordered(CONCURRENT_LISTS).try_collect().await?;
    // Some kinds are served by two groups: the same object is counted once.
    let mut seen = BTreeSet::new();
    Ok(lists.into_iter().flatten().filter(|object| seen.insert(object.uid.clone())).collect())
}

async fn list_owned(client: &Client, resource: ApiResource, plane: &str) -> Result<Vec<OwnedObject>, kube::Error> {
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let managed = ListParams::default().labels(&format!("{MANAGED_LABEL}=true"));
    let list = match api.list_metadata(&managed).await {
        Ok(list) => list,
        // Its definition went meanwhile, or the server behind it does not list.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405 | 503) => {
            tracing::debug!(kind = resource.kind, message = status.message, "kind cannot be listed in the member");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    Ok(list
        .items
        .into_iter()
        .filter(|object| is_owned(object.annotations(), plane))
        .map(|object| OwnedObject {
            resource: resource.clone(),
            namespace: object.namespace(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            deleting: object.metadata.deletion_timestamp.is_some(),
        })
        .collect())
}

/// Whether a plane made an object. What it adopted, a namespace with other people's objects in it, was there before. *Pure.*
fn is_owned(annotations: &BTreeMap<String, String>, plane: &str) -> bool {
    annotations.get(PLANE_ANNOTATION).is_some_and(|mark| mark == plane) && !annotations.contains_key(ADOPTED_ANNOTATION)
}

/// What is deleted next. Namespaces and definitions take along what is in them, so they come last. *Pure.*
#[must_use]
pub fn next_deletions(objects: &[OwnedObject]) -> Vec<OwnedObject> {
    let is_container = |object: &OwnedObject| {
        matches!(
            (object.resource.group.as_str(), object.resource.kind.as_str()),
            ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition")
        )
    };
    let containers_too = objects.iter().all(is_container);
    let due = objects.iter().filter(|object| !object.deleting && (containers_too || !is_container(object)));
    due.take(MAX_DELETES).cloned().collect()
}

/// Takes out of a member what a plane that is gone made there. Returns what remains; nothing at all when the objects
/// of that plane bear no mark.
pub async fn remove_applications(access: &MemberClient, join: &MemberClusterJoin) -> Result<Option<Remaining>, Error> {
    let accounts = Api::<ServiceAccount>::namespaced(access.client(), CLUSTER_NAMESPACE);
    let account = accounts.get_metadata_opt(&plan::identity_name(join)).await.map_err(|e| access.failure(e))?;
    let Some(plane) = account.and_then(|account| account.annotations().get(PLANE_ANNOTATION).cloned()) else {
        return Ok(None);
    };
    // A component that has not ended yet would make them again.
    MemberWrite { access, join }.withhold_everything().await?;
    let client = access.client();
    for _ in 0..MAX_PASSES {
        let objects = owned_by(&client, &plane).await.map_err(|e| access.failure(e))?;
        let deletions = next_deletions(&objects);
        if deletions.is_empty() {
            return Ok(Some(objects.iter().map(ToString::to_string).collect()));
        }
        delete(access, deletions).await?;
    }
    let objects = owned_by(&client, &plane).await.map_err(|e| access.failure(e))?;
    Ok(Some(objects.iter().map(ToString::to_string).collect()))
}

/// Deletes objects. One that is refused keeps none of the others.
async fn delete(access: &MemberClient, objects: Vec<OwnedObject>) -> Result<(), Error> {
    let deletions = objects.into_iter().map(|object| async move {
        let namespace = object.namespace.as_deref();
        access.applier.delete(&object.resource, namespace, &object.name, &object.uid).await
    });
    let results: Vec<_> = futures::stream::iter(deletions).buffer_unordered(CONCURRENT_DELETES).collect().await;
    results.into_iter().try_for_each(|deleted| deleted.map(|_| ())).map_err(|e| access.write_failure(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::gvk::GroupVersionKind;
    use serde_json::json;

    fn object(group: &str, kind: &str, name: &str, deleting: bool) -> OwnedObject {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        OwnedObject { resource, namespace: None, name: name.into(), uid: name.into(), deleting }
    }

    #[test]
    fn what_holds_others_is_deleted_last() {
        let names = |objects: &[OwnedObject]| -> Vec<String> {
            next_deletions(objects).into_iter().map(|object| object.name).collect()
        };
        let namespace = object("", "Namespace", "shop", false);
        let definition = object("apiextensions.k8s.io", "CustomResourceDefinition", "x.example.com", false);
        let web = object("apps", "Deployment", "web", false);
        let ending = object("apps", "Deployment", "held", true);
        assert_eq!(names(&[namespace.clone(), web, definition.clone()]), ["web"]);
        assert!(names(&[namespace.clone(), ending]).is_empty(), "one that ends is waited for");
        assert_eq!(names(&[namespace, definition]), ["shop", "x.example.com"]);
    }

    #[test]
    fn what_was_there_before_the_plane_is_not_its_own() {
        let marked = |mark: &str, adopted: bool| {
            let adopted = adopted.then(|| (ADOPTED_ANNOTATION.to_owned(), "true".to_owned()));
            is_owned(&std::iter::once((PLANE_ANNOTATION.to_owned(), mark.to_owned())).chain(adopted).collect(), "plane")
        };
        assert!(marked("plane", false));
        assert!(!marked("another", false) && !marked("plane", true));
    }

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

//! What a member that leaves still holds: as its plane knows it, and as the member itself shows it. *IO.*
//!
//! The plane takes its applications out of a member. When it is gone, with its namespace for example, nobody would:
//! the objects of a Compact plane carry its mark, those that upstream's components made (profile Full) name the namespace of
//! their `Work`, and are found and removed by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::core::ApiResource;
use kube::discovery::{Discovery, verbs};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::apply::{Works, foreign_finalizers};
use super::error::Error;
use super::observe::MemberClient;
use super::plan::{self, PlaneMark, WORK_NAMESPACE_ANNOTATION};
use super::remaining::Remaining;
use super::write::MemberWrite;
use crate::api::instance::Profile;
use crate::api::member::MemberClusterJoin;
use crate::engine::{ADOPTED_ANNOTATION, Marks, REMOVING_ANNOTATION, unmark};
use crate::karmada::binding::BindingSpec;
use crate::karmada::{CLUSTER_NAMESPACE, Cluster, ClusterResourceBinding, MANAGED_LABEL, ResourceBinding};
use crate::machinery::error::{is_conflict, is_not_found};
use crate::runtime::contents::{Contents, contents};
use crate::runtime::controller::Guarded;
use crate::runtime::guarded;
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

/// How long a namespace may be in use after a membership was deleted before it is taken to be needed: controllers need a
/// moment to remove what they made for the plane's objects.
const VACATE_SECONDS: i64 = 30;

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
        let mark = PlaneMark::Plane(plane_id(plane).await?);
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
    /// Version in which it was seen.
    pub resource_version: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl fmt::Display for OwnedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render_object(&self.resource.kind, self.namespace.as_deref(), &self.name))
    }
}

/// Everything in a member that carries a plane's mark.
pub async fn owned_by(client: &Client, mark: &PlaneMark) -> Result<Vec<OwnedObject>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = discovery.groups().flat_map(|group| group.resources_by_stability()).filter(|(_, capabilities)| {
        capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE)
    });
    let kinds: Vec<ApiResource> = kinds.map(|(resource, _)| resource).collect();
    let lists = kinds.into_iter().map(|resource| list_owned(client, resource, mark));
    let lists: Vec<Vec<OwnedObject>> =
        futures::stream::iter(lists).buffer_unordered(CONCURRENT_LISTS).try_collect().await?;
    // Some kinds are served by two groups: the same object is counted once.
    let mut seen = BTreeSet::new();
    Ok(lists.into_iter().flatten().filter(|object| seen.insert(object.uid.clone())).collect())
}

async fn list_owned(client: &Client, resource: ApiResource, mark: &PlaneMark) -> Result<Vec<OwnedObject>, kube::Error> {
    let api = Api::<Guarded<PartialObjectMeta<DynamicObject>>>::all_with(client.clone(), &resource);
    let managed = ListParams::default().labels(&format!("{MANAGED_LABEL}=true"));
    let list = match guarded::list_all(&api, &managed).await {
        Ok(list) => list,
        // Its definition went meanwhile, or the server behind it does not list.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405 | 503) => {
            tracing::debug!(kind = resource.kind, message = status.message, "kind cannot be listed in the member");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    Ok(list
        .into_iter()
        .filter(|object| is_owned(&resource.kind, object.meta(), mark))
        .map(|object| OwnedObject {
            resource: resource.clone(),
            namespace: object.namespace(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version(),
            deleting: object.meta().deletion_timestamp.is_some(),
        })
        .collect())
}

/// Whether a plane made an object. What it adopted, a namespace with other people's objects in it, was there before; and
/// what carries marks that speak of another object is a copy. *Pure.*
fn is_owned(kind: &str, metadata: &ObjectMeta, mark: &PlaneMark) -> bool {
    let speaks_of_it = match Marks::of(kind, metadata) {
        Marks::Own => true,
        Marks::Copied => false,
        // Upstream's components name the binding only where there is one.
        Marks::Unnamed => matches!(mark, PlaneMark::Works(_)),
    };
    let annotations = metadata.annotations.as_ref();
    speaks_of_it && annotations.is_some_and(|all| mark.is_on(all) && !all.contains_key(ADOPTED_ANNOTATION))
}

fn is_namespace(resource: &ApiResource) -> bool {
    resource.group.is_empty() && resource.kind == "Namespace"
}

/// What is deleted next. Namespaces and definitions take along what is in them, so they come last. *Pure.*
#[must_use]
pub fn next_deletions(objects: &[OwnedObject]) -> Vec<OwnedObject> {
    let is_container = |object: &OwnedObject| {
        let resource = &object.resource;
        is_namespace(resource)
            || (resource.group == "apiextensions.k8s.io" && resource.kind == "CustomResourceDefinition")
    };
    let containers_too = objects.iter().all(is_container);
    let due = objects.iter().filter(|object| !object.deleting && (containers_too || !is_container(object)));
    due.take(MAX_DELETES).cloned().collect()
}

/// Takes out of a member what a plane that is gone made there. Returns what remains; nothing at all when the objects
/// of that plane cannot be told from others.
pub async fn remove_applications(access: &MemberClient, join: &MemberClusterJoin) -> Result<Option<Remaining>, Error> {
    let Some(mark) = mark_in_member(access, join).await? else { return Ok(None) };
    // A component that has not ended yet would make them again.
    MemberWrite { access, join }.withhold_everything().await?;
    let client = access.client();
    for _ in 0..MAX_PASSES {
        let objects = owned_by(&client, &mark).await.map_err(|e| access.failure(e))?;
        let deletions = next_deletions(&objects);
        if deletions.is_empty() {
            return Ok(Some(objects.iter().map(ToString::to_string).collect()));
        }
        delete(access, &mark, deletions, has_had_its_time(join, Timestamp::now())).await?;
    }
    let objects = owned_by(&client, &mark).await.map_err(|e| access.failure(e))?;
    Ok(Some(objects.iter().map(ToString::to_string).collect()))
}

/// By what the objects of a membership's plane are told in the member; nothing when that is not certain.
async fn mark_in_member(access: &MemberClient, join: &MemberClusterJoin) -> Result<Option<PlaneMark>, Error> {
    let accounts = Api::<ServiceAccount>::namespaced(access.client(), CLUSTER_NAMESPACE);
    let name = plan::identity_name(join);
    let account = accounts.get_metadata_opt(&name).await.map_err(|e| access.failure(e))?;
    let mark = account.and_then(|account| PlaneMark::of_account(account.annotations()));
    if !matches!(mark, Some(PlaneMark::Works(_))) {
        return Ok(mark);
    }
    let all = accounts.list_metadata(&ListParams::default()).await.map_err(|e| access.failure(e))?;
    let others = all.items.iter().filter(|account| account.name_any() != name);
    let others: Vec<(String, &BTreeMap<String, String>)> =
        others.map(|account| (account.name_any(), account.annotations())).collect();
    Ok(mark.filter(|mark| !is_name_shared(mark, &join.spec.cluster_name, &others)))
}

/// Whether another plane of upstream's components has the member under the same name, so that its objects cannot be told
/// from those of the plane that is gone: by the other accounts for planes in the member. *Pure.*
fn is_name_shared(mark: &PlaneMark, cluster: &str, others: &[(String, &BTreeMap<String, String>)]) -> bool {
    let upstreams = format!("karmada-{cluster}");
    let is_same = |annotations| PlaneMark::of_account(annotations).as_ref() == Some(mark);
    others.iter().any(|(name, annotations)| *name == upstreams || is_same(annotations))
}

/// Deletes objects. One that is refused keeps none of the others.
async fn delete(
    access: &MemberClient,
    mark: &PlaneMark,
    objects: Vec<OwnedObject>,
    is_final: bool,
) -> Result<(), Error> {
    let deletions = objects.into_iter().map(|object| async move {
        if is_namespace(&object.resource) {
            return delete_namespace(access, mark, &object, is_final).await;
        }
        let namespace = object.namespace.as_deref();
        let deleted = access.applier.delete(&object.resource, namespace, &object.name, &object.uid).await;
        deleted.map(|_| ()).map_err(|e| access.write_failure(e))
    });
    let results: Vec<_> = futures::stream::iter(deletions).buffer_unordered(CONCURRENT_DELETES).collect().await;
    results.into_iter().collect()
}

/// Deletes a namespace as it was seen, unless others have put something into it: that is not the plane's to remove. It is
/// looked at again until what is in it is taken to stay.
async fn delete_namespace(
    access: &MemberClient,
    mark: &PlaneMark,
    namespace: &OwnedObject,
    is_final: bool,
) -> Result<(), Error> {
    match (is_vacant(access, mark, &namespace.name).await?, is_final) {
        (true, _) => {
            let mut seen = DynamicObject::new(&namespace.name, &namespace.resource);
            seen.metadata.uid = Some(namespace.uid.clone());
            seen.metadata.resource_version.clone_from(&namespace.resource_version);
            let deleted = access.applier.delete_seen(&namespace.resource, &seen).await;
            deleted.map_err(|e| access.write_failure(e))
        }
        (false, true) => let_go(access, namespace).await,
        (false, false) => Ok(()),
    }
}

/// Whether what is still in the namespaces of a member that leaves is there to stay. *Pure.*
fn has_had_its_time(join: &MemberClusterJoin, now: Timestamp) -> bool {
    let deleted = join.metadata.deletion_timestamp.as_ref();
    deleted.is_some_and(|deleted| now.as_second().saturating_sub(deleted.0.as_second()) >= VACATE_SECONDS)
}

/// Whether nothing of anybody else is in a namespace.
async fn is_vacant(access: &MemberClient, mark: &PlaneMark, namespace: &str) -> Result<bool, Error> {
    let is_own = |resource: &ApiResource, object: &ObjectMeta| is_owned(&resource.kind, object, mark);
    let found = contents(&access.client(), namespace, is_own).await.map_err(|e| access.failure(e))?;
    Ok(matches!(found, Contents::Empty | Contents::Own(_)))
}

/// Takes the plane's marks off a namespace, which stays with what others have put into it.
async fn let_go(access: &MemberClient, namespace: &OwnedObject) -> Result<(), Error> {
    let mut patch = unmark(&namespace.uid);
    for annotation in [WORK_NAMESPACE_ANNOTATION, "work.karmada.io/name"] {
        patch["metadata"]["annotations"][annotation] = Value::Null;
    }
    let api = access.applier.api(&namespace.resource, None);
    match api.patch_metadata(&namespace.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(access.failure(error)),
        _ => {
            tracing::info!(namespace = namespace.name, "namespace stays in the member: others have something in it");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PLANE_ANNOTATION;
    use kube::core::gvk::GroupVersionKind;
    use serde_json::json;

    fn object(group: &str, kind: &str, name: &str, deleting: bool) -> OwnedObject {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        OwnedObject { resource, namespace: None, name: name.into(), uid: name.into(), resource_version: None, deleting }
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

    fn annotations(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_was_there_before_the_plane_is_not_its_own() {
        let (plane, works) = (PlaneMark::Plane("plane".into()), PlaneMark::Works("karmada-es-eu".into()));
        let adopted = (ADOPTED_ANNOTATION, "true");
        let of = |name| [("resourcebinding.karmada.io/namespace", "shop"), ("resourcebinding.karmada.io/name", name)];
        let (own, other) = (of("web-configmap"), of("other-configmap"));
        for (case, mark, on, owned) in [
            ("the plane's", &plane, vec![(PLANE_ANNOTATION, "plane"), own[0], own[1]], true),
            ("a copy of the plane's", &plane, vec![(PLANE_ANNOTATION, "plane"), other[0], other[1]], false),
            ("of nobody knows what", &plane, vec![(PLANE_ANNOTATION, "plane")], false),
            ("another plane's", &plane, vec![(PLANE_ANNOTATION, "another"), own[0], own[1]], false),
            ("adopted", &plane, vec![(PLANE_ANNOTATION, "plane"), own[0], own[1], adopted], false),
            ("of a Work", &works, vec![(WORK_NAMESPACE_ANNOTATION, "karmada-es-eu")], true),
            ("of a Work of another member", &works, vec![(WORK_NAMESPACE_ANNOTATION, "karmada-es-us")], false),
            ("a copy of it", &works, vec![(WORK_NAMESPACE_ANNOTATION, "karmada-es-eu"), other[0], other[1]], false),
            ("of a Compact plane", &works, vec![(PLANE_ANNOTATION, "plane"), own[0], own[1]], false),
        ] {
            let metadata = ObjectMeta {
                name: Some("web".to_owned()),
                namespace: Some("shop".to_owned()),
                annotations: Some(annotations(&on)),
                ..ObjectMeta::default()
            };
            assert_eq!(is_owned("ConfigMap", &metadata, mark), owned, "{case}");
        }
    }

    #[test]
    fn a_name_that_two_planes_use_tells_nothing() {
        let works = PlaneMark::Works("karmada-es-eu".into());
        let (none, same) = (annotations(&[]), annotations(&[(plan::WORKS_ANNOTATION, "karmada-es-eu")]));
        let other = annotations(&[(plan::WORKS_ANNOTATION, "karmada-es-us")]);
        for (case, name, on, shared) in [
            ("the impersonator", "karmada-impersonator", &none, false),
            ("upstream's, under the same name", "karmada-eu", &none, true),
            ("upstream's, under another name", "karmada-us", &none, false),
            ("of another membership of the same name", "airdock-eu-1", &same, true),
            ("of another name", "airdock-us-1", &other, false),
        ] {
            assert_eq!(is_name_shared(&works, "eu", &[(name.to_owned(), on)]), shared, "{case}");
        }
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

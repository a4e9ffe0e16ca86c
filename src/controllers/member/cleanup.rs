//! Takes out of a member what a plane that is gone made there. *IO.*
//!
//! The plane takes its applications out of a member. When it is gone, with its namespace for example, nobody would: its
//! objects are found by their marks, and removed.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::Value;

use super::error::Error;
use super::observe::MemberClient;
use super::owned_objects::{OwnedObject, is_owned, owned_by};
use super::plan::{self, PlaneMark, WORK_NAMESPACE_ANNOTATION};
use super::remaining::Remaining;
use super::write::MemberWrite;
use crate::api::member::MemberClusterJoin;
use crate::engine::unmark;
use crate::karmada::CLUSTER_NAMESPACE;
use crate::machinery::error::{is_conflict, is_not_found};
use crate::runtime::contents::{Contents, contents};

/// How many objects are deleted at once.
const CONCURRENT_DELETES: usize = 16;

/// How many objects are deleted in one round, which has a deadline; the rest follows in the next.
const MAX_DELETES: usize = 1000;

/// How often one round looks at what remains: objects first, then namespaces, then whether all is gone.
const MAX_PASSES: usize = 3;

/// How long a namespace may be in use after a membership was deleted before it is taken to be needed: controllers need a
/// moment to remove what they made for the plane's objects.
const VACATE_GRACE_PERIOD_SECONDS: i64 = 30;

/// Takes out of a member what a plane that is gone made there. Returns what remains; nothing at all when the objects
/// of that plane cannot be told from others.
pub async fn remove_applications(
    member_client: &MemberClient,
    join: &MemberClusterJoin,
) -> Result<Option<Remaining>, Error> {
    let Some(mark) = mark_in_member(member_client, join).await? else { return Ok(None) };
    // A component that has not ended yet would make them again.
    MemberWrite { member_client, join }.withhold_everything().await?;
    let client = member_client.client();
    for _ in 0..MAX_PASSES {
        let objects = owned_by(&client, &mark).await.map_err(|e| member_client.failure(e))?;
        let deletions = next_deletions(&objects);
        if deletions.is_empty() {
            return Ok(Some(objects.iter().map(ToString::to_string).collect()));
        }
        delete(member_client, &mark, deletions, has_had_its_time(join, Timestamp::now())).await?;
    }
    let objects = owned_by(&client, &mark).await.map_err(|e| member_client.failure(e))?;
    Ok(Some(objects.iter().map(ToString::to_string).collect()))
}

/// What is deleted next. Namespaces and definitions take along what is in them, so they come last. *Pure.*
fn next_deletions(objects: &[OwnedObject]) -> Vec<OwnedObject> {
    let is_container = |object: &OwnedObject| {
        let resource = &object.resource;
        is_namespace(resource)
            || (resource.group == "apiextensions.k8s.io" && resource.kind == "CustomResourceDefinition")
    };
    let containers_too = objects.iter().all(is_container);
    let due = objects.iter().filter(|object| !object.deleting && (containers_too || !is_container(object)));
    due.take(MAX_DELETES).cloned().collect()
}

fn is_namespace(resource: &ApiResource) -> bool {
    resource.group.is_empty() && resource.kind == "Namespace"
}

/// By what the objects of a membership's plane are told in the member; nothing when that is not certain.
async fn mark_in_member(member_client: &MemberClient, join: &MemberClusterJoin) -> Result<Option<PlaneMark>, Error> {
    let accounts = Api::<ServiceAccount>::namespaced(member_client.client(), CLUSTER_NAMESPACE);
    let name = plan::identity_name(join);
    let account = accounts.get_metadata_opt(&name).await.map_err(|e| member_client.failure(e))?;
    let mark = account.and_then(|account| PlaneMark::of_account(account.annotations()));
    if !matches!(mark, Some(PlaneMark::Works(_))) {
        return Ok(mark);
    }
    let all = accounts.list_metadata(&ListParams::default()).await.map_err(|e| member_client.failure(e))?;
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
    member_client: &MemberClient,
    mark: &PlaneMark,
    objects: Vec<OwnedObject>,
    is_final: bool,
) -> Result<(), Error> {
    let deletions = objects.into_iter().map(|object| async move {
        if is_namespace(&object.resource) {
            return delete_namespace(member_client, mark, &object, is_final).await;
        }
        let namespace = object.namespace.as_deref();
        let deleted = member_client.applier.delete(&object.resource, namespace, &object.name, &object.uid).await;
        deleted.map(|_| ()).map_err(|e| member_client.write_failure(e))
    });
    let results: Vec<_> = futures::stream::iter(deletions).buffer_unordered(CONCURRENT_DELETES).collect().await;
    results.into_iter().collect()
}

/// Deletes a namespace as it was seen, unless others have put something into it: that is not the plane's to remove. It is
/// looked at again until what is in it is taken to stay.
async fn delete_namespace(
    member_client: &MemberClient,
    mark: &PlaneMark,
    namespace: &OwnedObject,
    is_final: bool,
) -> Result<(), Error> {
    match (is_vacant(member_client, mark, &namespace.name).await?, is_final) {
        (true, _) => {
            let mut seen = DynamicObject::new(&namespace.name, &namespace.resource);
            seen.metadata.uid = Some(namespace.uid.clone());
            seen.metadata.resource_version.clone_from(&namespace.resource_version);
            let deleted = member_client.applier.delete_seen(&namespace.resource, &seen).await;
            deleted.map_err(|e| member_client.write_failure(e))
        }
        (false, true) => unmark_namespace(member_client, namespace).await,
        (false, false) => Ok(()),
    }
}

/// Whether what is still in the namespaces of a member that leaves is there to stay. *Pure.*
fn has_had_its_time(join: &MemberClusterJoin, now: Timestamp) -> bool {
    let deleted = join.metadata.deletion_timestamp.as_ref();
    deleted.is_some_and(|deleted| now.as_second().saturating_sub(deleted.0.as_second()) >= VACATE_GRACE_PERIOD_SECONDS)
}

/// Whether nothing of anybody else is in a namespace.
async fn is_vacant(member_client: &MemberClient, mark: &PlaneMark, namespace: &str) -> Result<bool, Error> {
    let is_own = |resource: &ApiResource, object: &ObjectMeta| is_owned(&resource.kind, object, mark);
    let found = contents(&member_client.client(), namespace, is_own).await.map_err(|e| member_client.failure(e))?;
    Ok(matches!(found, Contents::Empty | Contents::Own(_)))
}

/// Takes the plane's marks off a namespace, which stays with what others have put into it.
async fn unmark_namespace(member_client: &MemberClient, namespace: &OwnedObject) -> Result<(), Error> {
    let mut patch = unmark(&namespace.uid);
    for annotation in [WORK_NAMESPACE_ANNOTATION, "work.karmada.io/name"] {
        patch["metadata"]["annotations"][annotation] = Value::Null;
    }
    let api = member_client.applier.api(&namespace.resource, None);
    match api.patch_metadata(&namespace.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(member_client.failure(error)),
        _ => {
            tracing::info!(namespace = namespace.name, "namespace stays in the member: others have something in it");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::gvk::GroupVersionKind;

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
}

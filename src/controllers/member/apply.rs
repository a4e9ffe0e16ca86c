//! Writing in the plane what a membership wants there, and taking it away. *IO.*

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::error::Error;
use super::observe::LiveCluster;
use super::plan::{self, Tokens};
use super::remaining::{Remaining, render_object};
use super::write::remove_own;
use crate::api::member::MemberClusterJoin;
use crate::karmada::names::execution_namespace;
use crate::karmada::{CLUSTER_NAMESPACE, Cluster, SYSTEM_LABEL};
use crate::machinery::error::{is_conflict, is_not_found};
use crate::runtime::apply::{Applier, anybodys, labelled, typed};
use crate::runtime::guarded::{self, Guarded, omitted};
use crate::runtime::planes::Plane;

/// What the finalizers of upstream's own controllers begin with.
const UPSTREAM_FINALIZERS: &str = "karmada.io/";

/// Registers the member in the plane: namespace, credentials, Cluster.
pub async fn register(
    plane: &Plane,
    join: &MemberClusterJoin,
    tokens: &Tokens,
    wanted: Value,
    live: Option<&LiveCluster>,
) -> Result<Cluster, Error> {
    let applier = Applier::new(plane.client.clone(), "airdock.dev/member");
    let namespace: Namespace = Namespace {
        metadata: kube::core::ObjectMeta {
            name: Some(CLUSTER_NAMESPACE.to_owned()),
            labels: Some([(SYSTEM_LABEL.to_owned(), "true".to_owned())].into()),
            ..kube::core::ObjectMeta::default()
        },
        ..Namespace::default()
    };
    plane.apply(&applier, &namespace, anybodys).await.map_err(Error::PlaneWrite)?;
    let [credentials, impersonator] = plan::plane_secrets(join, tokens);
    tokio::try_join!(plane.apply(&applier, &credentials, labelled), plane.apply(&applier, &impersonator, labelled))
        .map_err(Error::PlaneWrite)?;
    let resource = ApiResource::erase::<Cluster>(&());
    let live = live.map(|live| live.object.clone());
    let place = (None, join.spec.cluster_name.as_str());
    let applied =
        plane.apply_over(&applier, &resource, place, wanted, live, anybodys).await.map_err(Error::PlaneWrite)?;
    typed(applied.object)
        .map_err(|e| Error::Plane { instance: plane.key.to_string(), source: kube::Error::SerdeError(e) })
}

/// Writes the annotations by which the plane knows how to let a member go.
pub async fn annotate(plane: &Plane, join: &MemberClusterJoin, live: &LiveCluster, force: bool) -> Result<(), Error> {
    let mut annotations = json!({ plan::UNJOIN_POLICY_ANNOTATION: plan::unjoin_policy(join) });
    if force {
        annotations[plan::FORCE_UNJOIN_ANNOTATION] = json!("true");
    }
    let body = json!({"metadata": {"uid": live.typed.uid(), "annotations": annotations}});
    patch_cluster(plane, live, &body).await
}

async fn patch_cluster(plane: &Plane, live: &LiveCluster, body: &Value) -> Result<(), Error> {
    let api = Api::<Cluster>::all(plane.client.clone());
    match api.patch_metadata(&live.typed.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(_) => Ok(()),
        // Gone, or changed meanwhile: it is looked at again.
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
        Err(source) => Err(Error::Plane { instance: plane.key.to_string(), source }),
    }
}

/// Deletes the Cluster, if it still is the same.
pub async fn delete_cluster(plane: &Plane, live: &LiveCluster) -> Result<(), Error> {
    let applier = Applier::new(plane.client.clone(), "airdock.dev/member");
    let resource = ApiResource::erase::<Cluster>(&());
    let uid = live.typed.uid().unwrap_or_default();
    applier.delete(&resource, None, &live.typed.name_any(), &uid).await.map(|_| ()).map_err(Error::PlaneWrite)
}

/// Upstream's Works for a member (profile Full).
pub struct Works(Api<Guarded<DynamicObject>>);

impl Works {
    /// Those of a cluster.
    #[must_use]
    pub fn of(plane: &Plane, cluster: &str) -> Self {
        let resource = ApiResource {
            group: "work.karmada.io".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "work.karmada.io/v1alpha1".to_owned(),
            kind: "Work".to_owned(),
            plural: "works".to_owned(),
        };
        Self(Api::namespaced_with(plane.client.clone(), &execution_namespace(cluster), &resource))
    }

    /// Of one that cannot be read, its metadata.
    async fn list(&self) -> Result<Vec<DynamicObject>, kube::Error> {
        match guarded::list_known(&self.0, &ListParams::default()).await {
            Ok(list) => Ok(list),
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Names of those that take their objects with them when they go.
    pub async fn unpreserved(&self) -> Result<Vec<String>, kube::Error> {
        let mut names = Vec::new();
        for work in self.list().await? {
            let is_preserved = match omitted(&work.data) {
                None => work.data.pointer("/spec/preserveResourcesOnDeletion").and_then(Value::as_bool) == Some(true),
                Some(_) => self.is_preserved_unread(&work).await?,
            };
            if !is_preserved {
                names.push(work.name_any());
            }
        }
        Ok(names)
    }

    /// Whether a Work that cannot be read leaves its objects: then telling it to would not make another generation of it.
    async fn is_preserved_unread(&self, work: &DynamicObject) -> Result<bool, kube::Error> {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        match self.0.patch(&work.name_any(), &params, &Patch::Merge(&preserving())).await {
            Ok(patched) => Ok(patched.meta().generation == work.metadata.generation),
            Err(error) if is_not_found(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Makes them leave their objects.
    pub async fn preserve(&self) -> Result<(), kube::Error> {
        for name in self.unpreserved().await? {
            self.patch(&name, preserving()).await?;
        }
        Ok(())
    }

    /// Names of those that are there, with what each carries and who holds it.
    pub async fn remaining(&self) -> Result<Remaining, kube::Error> {
        Ok(self.list().await?.iter().map(render_work).collect())
    }

    /// Strips upstream's finalizers from them, as its `unjoin --force` does. Those of others stay.
    pub async fn release(&self) -> Result<(), kube::Error> {
        for work in self.list().await? {
            let Some(finalizers) = without_upstreams(work.finalizers()) else { continue };
            // The version keeps finalizers that others set meanwhile.
            let metadata = json!({"resourceVersion": work.resource_version(), "finalizers": finalizers});
            self.patch(&work.name_any(), json!({ "metadata": metadata })).await?;
        }
        Ok(())
    }

    async fn patch(&self, name: &str, body: Value) -> Result<(), kube::Error> {
        match self.0.patch(name, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => Ok(()),
            // Gone, or changed meanwhile: it is looked at again.
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What makes a Work leave its objects. *Pure.*
fn preserving() -> Value {
    json!({"spec": {"preserveResourcesOnDeletion": true}})
}

/// A Work, the objects that it carries and who holds it. *Pure.*
fn render_work(work: &DynamicObject) -> String {
    let manifests = work.data.pointer("/spec/workload/manifests").and_then(Value::as_array);
    let objects: Vec<String> = manifests
        .into_iter()
        .flatten()
        .map(|manifest| {
            let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
            let (kind, name) = (text("/kind").unwrap_or_default(), text("/metadata/name").unwrap_or_default());
            render_object(kind, text("/metadata/namespace"), name)
        })
        .collect();
    let carried = if objects.is_empty() { String::new() } else { format!(" of {}", objects.join(", ")) };
    let held = match work.finalizers() {
        [] => String::new(),
        finalizers => format!(" (held by {})", finalizers.join(", ")),
    };
    format!("Work {}{carried}{held}", work.name_any())
}

/// The finalizers that are not upstream's. *Pure.*
pub(super) fn foreign_finalizers(finalizers: &[String]) -> impl Iterator<Item = &String> {
    finalizers.iter().filter(|finalizer| !finalizer.starts_with(UPSTREAM_FINALIZERS))
}

/// The finalizers without upstream's, if there are any of those. *Pure.*
fn without_upstreams(finalizers: &[String]) -> Option<Vec<String>> {
    let others: Vec<String> = foreign_finalizers(finalizers).cloned().collect();
    (others.len() < finalizers.len()).then_some(others)
}

/// Strips upstream's finalizers from the Cluster and from its Works.
pub async fn release_cluster(plane: &Plane, live: &LiveCluster) -> Result<(), Error> {
    Works::of(plane, &live.typed.name_any())
        .release()
        .await
        .map_err(|source| Error::Plane { instance: plane.key.to_string(), source })?;
    let Some(finalizers) = without_upstreams(live.typed.finalizers()) else { return Ok(()) };
    let (uid, resource_version) = (live.typed.uid(), live.typed.resource_version());
    let metadata = json!({"uid": uid, "resourceVersion": resource_version, "finalizers": finalizers});
    patch_cluster(plane, live, &json!({ "metadata": metadata })).await
}

/// Removes the member's credentials from the plane.
pub async fn remove_secrets(plane: &Plane, join: &MemberClusterJoin) -> Result<(), Error> {
    let applier = Applier::new(plane.client.clone(), "airdock.dev/member");
    for name in plan::plane_secret_names(join) {
        remove_own::<Secret>(&applier, join, Some(CLUSTER_NAMESPACE), &name).await.map_err(Error::PlaneWrite)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_upstreams_finalizers_are_stripped() {
        let of =
            |finalizers: &[&str]| without_upstreams(&finalizers.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["karmada.io/execution-controller"]), Some(vec![]));
        assert_eq!(of(&["example.com/a", "karmada.io/cluster-controller"]), Some(vec!["example.com/a".to_owned()]));
        assert_eq!(of(&["example.com/a"]), None, "nothing to write");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_work_is_named_with_what_it_carries_and_who_holds_it() {
        let work = |finalizers: Value, manifests: Value| -> String {
            let work = json!({
                "apiVersion": "work.karmada.io/v1alpha1", "kind": "Work",
                "metadata": {"name": "web-1", "finalizers": finalizers},
                "spec": {"workload": {"manifests": manifests}},
            });
            render_work(&serde_json::from_value(work).unwrap())
        };
        let web = json!([{"kind": "Deployment", "metadata": {"namespace": "shop", "name": "web"}}]);
        assert_eq!(
            work(json!(["karmada.io/execution-controller"]), web),
            "Work web-1 of Deployment shop/web (held by karmada.io/execution-controller)"
        );
        assert_eq!(work(json!(null), json!([])), "Work web-1");
    }
}

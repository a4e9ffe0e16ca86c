//! Holding on to an object until what was made for it is gone.

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::KarmadaInstance;
use crate::machinery::error::{is_conflict, is_not_found};

/// How long the plane of an instance that is being deleted is tried. The instance waits for those who have something in
/// it, so that they can take it out; a plane that is broken for good must not hold all of them for ever.
const PATIENCE_SECONDS: i64 = 300;

/// Whether a plane that cannot be had is taken for gone, with all that is in it. *Pure.*
#[must_use]
pub fn is_given_up(instance: &KarmadaInstance, now: Timestamp) -> bool {
    let deleted = instance.metadata.deletion_timestamp.as_ref();
    deleted.is_some_and(|since| now.as_second() - since.0.as_second() >= PATIENCE_SECONDS)
}

/// Sets a finalizer, unless it is there. Must come before anything is made elsewhere.
pub async fn add<K>(client: &Client, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    if object.finalizers().iter().any(|held| held == finalizer) {
        return Ok(());
    }
    let mut wanted = object.finalizers().to_vec();
    wanted.push(finalizer.to_owned());
    patch(client, object, &wanted).await
}

/// Removes a finalizer. An object that is gone is no error.
pub async fn remove<K>(client: &Client, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    match remove_from(client, object, finalizer).await {
        // A status was written meanwhile, more often than not by this very round.
        Err(error) if is_conflict(&error) => {
            let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
            match api.get_opt(&object.name_any()).await? {
                Some(latest) if latest.uid() == object.uid() => remove_from(client, &latest, finalizer).await,
                _ => Ok(()),
            }
        }
        result => result,
    }
}

async fn remove_from<K>(client: &Client, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    if !object.finalizers().iter().any(|held| held == finalizer) {
        return Ok(());
    }
    let wanted: Vec<String> = object.finalizers().iter().filter(|held| *held != finalizer).cloned().collect();
    match patch(client, object, &wanted).await {
        Err(error) if is_not_found(&error) => Ok(()),
        result => result,
    }
}

async fn patch<K>(client: &Client, object: &K, finalizers: &[String]) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    // The version keeps finalizers that others set meanwhile.
    let body = json!({"metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": finalizers,
    }});
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&body)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_that_is_only_away_is_not_gone() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let given_up = |deleted: Option<&str>| {
            let metadata = json!({"name": "east", "namespace": "fleet", "deletionTimestamp": deleted});
            let instance = json!({"apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
                "metadata": metadata, "spec": {}});
            is_given_up(&serde_json::from_value(instance).unwrap(), now)
        };
        assert!(!given_up(None));
        assert!(!given_up(Some("2026-01-01T00:09:59Z")), "one failed request is no end");
        assert!(given_up(Some("2026-01-01T00:05:00Z")));
    }
}

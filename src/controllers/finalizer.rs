//! Holding on to an object until what was made for it is gone.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::runtime::error::{is_conflict, is_not_found};

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

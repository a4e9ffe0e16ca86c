//! Holding on to an object until what was made for it elsewhere is gone, also when the object cannot be read any more. *IO.*

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::guarded::{Guarded, InvalidObject};
use crate::machinery::error::{is_conflict, is_not_found};

/// A kind for whose objects something is made elsewhere, which has to be removed with them.
pub trait Held: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned {
    /// The finalizer that precedes the first write elsewhere.
    const FINALIZER: &'static str;

    /// As much of an object that cannot be read as it takes to remove what was made for it: metadata, status, and those
    /// fields of the spec that cannot be changed, or that say how to remove it. Nothing when these cannot be read either.
    fn stand_in(invalid: &InvalidObject) -> Option<Self>;

    /// Whether the status tells that something was made for the object.
    fn has_made(&self) -> bool;
}

/// An object as far as it is known. *Pure.*
#[must_use]
pub fn known<K: Held>(object: &Guarded<K>) -> Option<Cow<'_, K>> {
    match &object.0 {
        Ok(object) => Some(Cow::Borrowed(object)),
        Err(invalid) => K::stand_in(invalid).map(Cow::Owned),
    }
}

/// Whether an object has lost its finalizer, by somebody who replaced it: deleted now, it would leave everything behind.
/// *Pure.*
#[must_use]
pub fn is_lost<K: Held>(object: &Guarded<K>) -> bool {
    object.meta().deletion_timestamp.is_none()
        && !object.finalizers().iter().any(|held| held == K::FINALIZER)
        && known(object).is_some_and(|object| object.has_made())
}

/// Sets an object's finalizer again, whether or not the object can be read.
pub async fn put_back<K: Held>(client: &Client, object: &Guarded<K>) -> Result<(), kube::Error> {
    add_to::<K>(client, object.meta(), K::FINALIZER).await
}

/// Sets a finalizer, unless it is there. Must come before anything is made elsewhere.
pub async fn add<K>(client: &Client, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    if object.finalizers().iter().any(|held| held == finalizer) {
        return Ok(());
    }
    add_to::<K>(client, object.meta(), finalizer).await
}

async fn add_to<K>(client: &Client, object: &ObjectMeta, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let mut wanted = object.finalizers.clone().unwrap_or_default();
    wanted.push(finalizer.to_owned());
    patch::<K>(client, object, &wanted).await
}

/// Removes a finalizer. An object that is gone is no error.
pub async fn remove<K>(client: &Client, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    match remove_from::<K>(client, object.meta(), finalizer).await {
        // A status was written meanwhile, more often than not by this very round.
        Err(error) if is_conflict(&error) => {
            let api: Api<Guarded<K>> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
            match api.get_opt(&object.name_any()).await? {
                Some(latest) if latest.meta().uid == object.meta().uid => {
                    remove_from::<K>(client, latest.meta(), finalizer).await
                }
                _ => Ok(()),
            }
        }
        result => result,
    }
}

async fn remove_from<K>(client: &Client, object: &ObjectMeta, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let held = object.finalizers.as_deref().unwrap_or_default();
    if !held.iter().any(|held| held == finalizer) {
        return Ok(());
    }
    let wanted: Vec<String> = held.iter().filter(|held| *held != finalizer).cloned().collect();
    match patch::<K>(client, object, &wanted).await {
        Err(error) if is_not_found(&error) => Ok(()),
        result => result,
    }
}

async fn patch<K>(client: &Client, object: &ObjectMeta, finalizers: &[String]) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let (namespace, name) = (object.namespace.as_deref().unwrap_or_default(), object.name.as_deref());
    // The answer is an object that may not be readable.
    let api: Api<Guarded<K>> = Api::namespaced(client.clone(), namespace);
    // The version keeps finalizers that others set meanwhile.
    let body = json!({"metadata": {
        "uid": object.uid, "resourceVersion": object.resource_version, "finalizers": finalizers,
    }});
    api.patch(name.unwrap_or_default(), &PatchParams::default(), &Patch::Merge(&body)).await.map(|_| ())
}

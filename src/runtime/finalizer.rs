//! Finalizers, which keep an object until what was made for it elsewhere is gone, also when the object cannot be read any more. *IO.*

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
pub trait HasFinalizer:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
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
pub fn known<K: HasFinalizer>(object: &Guarded<K>) -> Option<Cow<'_, K>> {
    match &object.0 {
        Ok(object) => Some(Cow::Borrowed(object)),
        Err(invalid) => K::stand_in(invalid).map(Cow::Owned),
    }
}

/// Whether an object has lost its finalizer, by somebody who replaced it: deleted now, it would leave everything behind.
/// *Pure.*
#[must_use]
pub fn is_lost<K: HasFinalizer>(object: &Guarded<K>) -> bool {
    object.meta().deletion_timestamp.is_none()
        && !object.finalizers().iter().any(|held| held == K::FINALIZER)
        && known(object).is_some_and(|object| object.has_made())
}

/// Sets an object's finalizer again, whether or not the object can be read.
pub async fn restore<K: HasFinalizer>(client: &Client, object: &Guarded<K>) -> Result<(), kube::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};
    use serde_json::Value;

    /// An object that is too deep to be read, by a field of its spec that nobody knows.
    fn deep<K: HasFinalizer>(finalizers: Value, spec: &Value, status: &Value) -> Guarded<K> {
        let nested = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
        let metadata = json!({"name": "x", "namespace": "team", "uid": "u", "finalizers": finalizers});
        let spec = spec.to_string().replacen('{', &format!(r#"{{"deep":{nested},"#), 1);
        Guarded::of_json(&format!(r#"{{"metadata":{metadata},"spec":{spec},"status":{status}}}"#))
    }

    /// What is made of it, with one status that tells of something made elsewhere and one that does not.
    fn check<K: HasFinalizer>(spec: &Value, made: &Value, nothing: &Value) {
        let kind = K::kind(&());
        let of = |finalizers: Value, status: &Value| deep::<K>(finalizers, spec, status);
        let unreadable = of(json!([K::FINALIZER]), made);
        assert!(unreadable.0.is_err(), "{kind}");
        let stand_in = known(&unreadable).expect("it is known");
        assert_eq!(stand_in.meta().uid.as_deref(), Some("u"), "{kind}");
        assert!(stand_in.has_made() && !is_lost(&unreadable), "{kind}");
        assert!(is_lost(&of(json!(["others/finalizer"]), made)), "{kind}: it was replaced");
        assert!(!is_lost(&of(json!([]), nothing)), "{kind}: nothing was made for it");
        assert!(
            known(&deep::<K>(json!([]), spec, &json!({"conditions": 7}))).is_none(),
            "{kind}: what is there is unknown"
        );
    }

    #[test]
    fn what_was_made_for_an_object_can_be_removed_though_it_cannot_be_read() {
        let reference = json!({"name": "east", "namespace": "fleet"});
        let entry = |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": uid});
        check::<MultiCloudApp>(
            &json!({"instanceRef": reference, "namespace": "shop"}),
            &json!({"inventory": [entry("1")]}),
            &json!({"inventory": [entry("")]}),
        );
        check::<MemberClusterJoin>(
            &json!({"instanceRef": reference, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"}}),
            &json!({"clusterID": "id"}),
            &json!({}),
        );
        check::<PermissionBinding>(
            &json!({"scope": {"namespaces": ["shop"]}}),
            &json!({"inventory": [{"namespace": "fleet", "name": "east", "objects": []}]}),
            &json!(null),
        );
        check::<KarmadaInstance>(&json!({"profile": "Full"}), &json!({"endpoint": "https://east"}), &json!({}));

        let app =
            deep::<MultiCloudApp>(json!([]), &json!({"instanceRef": reference, "namespace": "shop"}), &json!(null));
        let app = known(&app).unwrap();
        assert_eq!((app.spec.instance_ref.name.as_str(), app.spec.namespace.as_deref()), ("east", Some("shop")));
        // How it is to be removed is not guessed.
        let retained = deep::<KarmadaInstance>(json!([]), &json!({"deletionPolicy": "Retain"}), &json!(null));
        assert_eq!(known(&retained).unwrap().spec.deletion_policy, crate::api::instance::DeletionPolicy::Retain);
        let unknown = deep::<KarmadaInstance>(json!([]), &json!({"deletionPolicy": "Newer"}), &json!(null));
        assert!(known(&unknown).is_none());
    }
}

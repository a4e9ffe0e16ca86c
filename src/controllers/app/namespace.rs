//! The namespace of an application in its plane: made when it is missing, and deleted with the last application, if it was
//! made for applications and nothing of anybody else is in it. IO.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use serde_json::Value;

use super::error::Error;
use super::observe::resource;
use super::ownership::Claims;
use super::plane_client::PlaneClient;
use crate::api::CREATED_FOR_ANNOTATION;
use crate::api::instance::Profile;
use crate::runtime::contents::{Contents, contents};

/// Makes the namespace. One that somebody else has made meanwhile is used as it is.
pub async fn create(plane_client: &PlaneClient, namespace: &Value) -> Result<(), Error> {
    let resource = resource::<Namespace>();
    let name = namespace.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match plane_client.applier.apply_seen(&resource, None, name, namespace.clone(), None).await {
        Ok(applied) => plane_client.record(&resource, &applied.object),
        Err(error) if error.is_conflict() => {
            let found = plane_client.get(&resource, None, name).await?;
            if found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()) {
                return Err(Error::NamespaceEnding(name.to_owned()));
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Deletes the namespace that an application has left, if it was made for applications and no other one is there. Tells
/// why it stays, where something of somebody else keeps it.
///
/// Under profile Full it stays: upstream's components would delete members' namespaces with all that is in them.
pub async fn release(plane_client: &PlaneClient, claims: &Claims<'_>, name: &str) -> Result<Option<String>, Error> {
    let is_compact = claims.instance.is_some_and(|instance| instance.spec.profile == Profile::Compact);
    if !is_compact || claims.is_namespace_shared() {
        return Ok(None);
    }
    let resource = resource::<Namespace>();
    let Some(namespace) = plane_client.get(&resource, None, name).await? else { return Ok(None) };
    let is_ending = namespace.metadata.deletion_timestamp.is_some();
    if is_ending || !namespace.annotations().contains_key(CREATED_FOR_ANNOTATION) {
        return Ok(None);
    }
    let found = contents(&plane_client.client(), name, |_, _| false).await;
    let found = found.map_err(|source| Error::Read { what: format!("the contents of namespace {name}"), source })?;
    match found {
        Contents::Empty => {
            plane_client.applier.delete_seen(&resource, &namespace).await?;
            Ok(None)
        }
        Contents::Own(object) | Contents::Holds(object) => Ok(Some(format!("it holds {object}"))),
        Contents::Unknown(why) => Ok(Some(why)),
    }
}

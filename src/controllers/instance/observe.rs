//! What is known of an instance before anything is done about it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Client, Resource as _, ResourceExt as _};

use crate::api::KarmadaInstance;
use crate::runtime::planes::InstanceKey;

use super::caches::Host;

/// Annotation on what outlives its instance, for the next one of the same name to take up.
pub const RETAINED_ANNOTATION: &str = "airdock.dev/retained";

/// How long the plane's API server may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// An instance and what there is of it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The instance.
    pub instance: Arc<KarmadaInstance>,
    /// Its objects in the host cluster.
    pub host: Host,
}

/// Whose an object of the host cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This very instance's.
    Ours,
    /// Left by an earlier instance of this name, to be taken up.
    Retained,
    /// Somebody else's.
    Foreign,
}

/// Whose an object is. *Pure.*
#[must_use]
pub fn ownership(object: &ObjectMeta, instance: &KarmadaInstance) -> Ownership {
    let controller = object.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let label = object.labels.as_ref().and_then(|labels| labels.get(crate::api::INSTANCE_LABEL));
    let retained = object.annotations.as_ref().is_some_and(|a| a.contains_key(RETAINED_ANNOTATION));
    match controller {
        Some(owner) if Some(&owner.uid) == instance.metadata.uid.as_ref() => Ownership::Ours,
        None if retained && label == instance.metadata.name.as_ref() => Ownership::Retained,
        _ => Ownership::Foreign,
    }
}

/// The reference that makes the instance the owner of an object. *Pure.*
#[must_use]
pub fn owner(instance: &KarmadaInstance) -> OwnerReference {
    OwnerReference {
        api_version: KarmadaInstance::api_version(&()).into_owned(),
        kind: KarmadaInstance::kind(&()).into_owned(),
        name: instance.name_any(),
        uid: instance.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The key under which the instance's plane is known.
#[must_use]
pub fn key(instance: &KarmadaInstance) -> InstanceKey {
    InstanceKey { namespace: instance.namespace().unwrap_or_default(), name: instance.name_any() }
}

/// State of the plane's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// Nothing runs yet that could answer.
    Starting,
    /// It does not answer as it should, and how.
    Unreachable(String),
    /// It answers that it is ready, through its Service.
    Ready,
}

/// Asks the plane whether it is ready. *IO.*
pub async fn probe(client: &Client) -> Api {
    match tokio::time::timeout(PROBE_TIMEOUT, get(client, "/readyz")).await {
        Ok(Ok(_)) => Api::Ready,
        Ok(Err(kube::Error::Api(status))) => {
            Api::Unreachable(format!("/readyz answers {}: {}", status.code, first_line(&status.message)))
        }
        Ok(Err(error)) => Api::Unreachable(first_line(&crate::runtime::error::chain(&error))),
        Err(_) => Api::Unreachable(format!("/readyz does not answer within {} s", PROBE_TIMEOUT.as_secs())),
    }
}

/// The version that the plane reports of itself. *IO.*
pub async fn version(client: &Client) -> Option<String> {
    let info = tokio::time::timeout(PROBE_TIMEOUT, client.apiserver_version()).await.ok()?.ok()?;
    Some(info.git_version)
}

async fn get(client: &Client, path: &str) -> Result<String, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;

    #[test]
    fn only_this_instances_objects_are_its_own() {
        let i = instance("Compact");
        let mut meta = ObjectMeta { owner_references: Some(vec![owner(&i)]), ..ObjectMeta::default() };
        assert_eq!(ownership(&meta, &i), Ownership::Ours);
        let mut namesake = i.clone();
        namesake.metadata.uid = Some("another".into());
        assert_eq!(ownership(&meta, &namesake), Ownership::Foreign);
        meta.owner_references = None;
        assert_eq!(ownership(&meta, &i), Ownership::Foreign);
        meta.labels = Some([(crate::api::INSTANCE_LABEL.to_owned(), "east".to_owned())].into());
        assert_eq!(ownership(&meta, &i), Ownership::Foreign);
        meta.annotations = Some([(RETAINED_ANNOTATION.to_owned(), "true".to_owned())].into());
        assert_eq!(ownership(&meta, &i), Ownership::Retained);
        meta.labels = Some([(crate::api::INSTANCE_LABEL.to_owned(), "west".to_owned())].into());
        assert_eq!(ownership(&meta, &i), Ownership::Foreign);
    }
}

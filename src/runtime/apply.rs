//! Writing objects: server-side apply that is skipped when nothing would change, and deletes that can only hit
//! the object that was meant.

mod preconditions;

use std::collections::HashMap;
use std::sync::Arc;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, TypeMeta};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::guarded::Guarded;
use crate::machinery::contains::contains;
use crate::machinery::error::{is_conflict, is_not_found};

/// Why an object was not written.
#[derive(thiserror::Error, Debug)]
pub enum ApplyError {
    /// The object is there, and is not ours.
    #[error("{kind} {name} exists already and is not managed by Airdock: delete it, or choose another name")]
    NotOurs {
        /// Kind of the object.
        kind: String,
        /// Namespace and name of the object.
        name: String,
    },
    /// The object could not be put into JSON.
    #[error("serialize {kind} {name}")]
    Serialize {
        /// Kind of the object.
        kind: String,
        /// Namespace and name of the object.
        name: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// It was written, and the answer is an object that cannot be read.
    #[error("{kind} {name} cannot be read: {problem}; delete it, or take out of it what others have added")]
    Unreadable {
        /// Kind of the object.
        kind: String,
        /// Namespace and name of the object.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The API server refused, or did not answer.
    #[error("{verb} {kind} {name}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Namespace and name of the object.
        name: String,
        /// The answer.
        #[source]
        source: kube::Error,
    },
}

impl ApplyError {
    /// Whether somebody else made, changed or deleted the object since it was seen (409).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_conflict(source))
    }

    /// Whether the API server finds the object itself invalid (422), so that trying again is no use.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.code == 422)
    }
}

/// What became of an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Created,
    /// It differed.
    Updated,
    /// Nothing was written.
    None,
}

/// An object as it stands after an apply.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The live object.
    pub object: DynamicObject,
    /// What was done.
    pub change: Change,
}

/// How many settled objects are remembered.
const MAX_SETTLED: usize = 10_000;

/// Decides whether an existing object may be written.
pub type OwnershipCheck = fn(&DynamicObject) -> bool;

/// Writes objects of one cluster as one field manager.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    manager: String,
    settled: Arc<Mutex<HashMap<String, Settled>>>,
}

/// An apply that changed nothing although the live object does not literally hold what is wanted, because the API
/// server normalises it. While both stay as they are, there is nothing to write.
#[derive(Clone, PartialEq, Eq)]
struct Settled {
    wanted: [u8; 32],
    uid: String,
    resource_version: String,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier").field("manager", &self.manager).finish_non_exhaustive()
    }
}

impl Applier {
    /// An applier with a field manager of the form `airdock.dev/<controller>`.
    #[must_use]
    pub fn new(client: Client, manager: &str) -> Self {
        Self { client, manager: manager.to_owned(), settled: Arc::default() }
    }

    /// The client that it writes with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Applies a typed object. Its `apiVersion` and `kind` are filled in from the type.
    ///
    /// An existing object is written only when `ours` says so.
    pub async fn apply<K>(&self, object: &K, ours: OwnershipCheck) -> Result<Applied, ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let resource = ApiResource::erase::<K>(&());
        let wanted = serde_json::to_value(object).map_err(|source| ApplyError::Serialize {
            kind: resource.kind.clone(),
            name: object.name_any(),
            source,
        })?;
        self.apply_value(&resource, object.meta().namespace.as_deref(), &object.name_any(), wanted, ours).await
    }

    /// Applies an object of any kind.
    pub async fn apply_value(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
        wanted: Value,
        ours: OwnershipCheck,
    ) -> Result<Applied, ApplyError> {
        let live = self.get(resource, namespace, name).await;
        let live = live.map_err(|source| api_error("get", resource, namespace, name, source))?;
        self.apply_over(resource, namespace, name, wanted, live, ours).await
    }

    /// Applies an object whose live state is known already (`None`: it is not there), for example from a watch.
    pub async fn apply_over(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
        wanted: Value,
        live: Option<DynamicObject>,
        ours: OwnershipCheck,
    ) -> Result<Applied, ApplyError> {
        let wanted = typed_value(resource, wanted);
        if let Some(live) = &live {
            if !ours(live) {
                return Err(ApplyError::NotOurs { kind: resource.kind.clone(), name: full_name(namespace, name) });
            }
            if self.is_applied(resource, &wanted, live) {
                return Ok(Applied { object: live.clone(), change: Change::None });
            }
        }
        let params = PatchParams::apply(&self.manager).force();
        let applied = self
            .guarded_api(resource, namespace)
            .patch(name, &params, &Patch::Apply(&wanted))
            .await
            .map_err(|source| api_error("apply", resource, namespace, name, source))?;
        // What others have added to it is still there.
        let applied = applied.0.map_err(|invalid| ApplyError::Unreadable {
            kind: resource.kind.clone(),
            name: full_name(namespace, name),
            problem: invalid.problem,
        })?;
        let change = match &live {
            None => Change::Created,
            Some(before) if before.resource_version() == applied.resource_version() => Change::None,
            Some(_) => Change::Updated,
        };
        self.settle(resource, namespace, name, &wanted, &applied);
        Ok(Applied { object: applied, change })
    }

    /// Whether a live object is what is wanted, so that applying would change nothing.
    #[must_use]
    pub fn is_applied(&self, resource: &ApiResource, wanted: &Value, live: &DynamicObject) -> bool {
        let wanted = typed_value(resource, wanted.clone());
        let key = settled_key(resource, live.metadata.namespace.as_deref(), &live.name_any());
        self.is_settled(&key, digest(&wanted), live) || holds(live, &wanted)
    }

    fn is_settled(&self, key: &str, wanted: [u8; 32], live: &DynamicObject) -> bool {
        let settled = self.settled.lock();
        settled.get(key).is_some_and(|known| {
            known.wanted == wanted
                && Some(&known.uid) == live.metadata.uid.as_ref()
                && Some(&known.resource_version) == live.metadata.resource_version.as_ref()
        })
    }

    /// Remembers an object as it was written, unless it can be compared with what is wanted anyway.
    fn settle(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
        wanted: &Value,
        live: &DynamicObject,
    ) {
        if holds(live, wanted) {
            return;
        }
        let (key, wanted) = (settled_key(resource, namespace, name), digest(wanted));
        let (Some(uid), Some(resource_version)) = (live.uid(), live.resource_version()) else { return };
        let mut settled = self.settled.lock();
        // Objects may go without being deleted here. What is forgotten is applied once more.
        if settled.len() >= MAX_SETTLED {
            settled.clear();
        }
        settled.insert(key, Settled { wanted, uid, resource_version });
    }

    /// Deletes an object if it still is the one with this uid. Tells whether it is (or already was) gone.
    pub async fn delete(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
        uid: &str,
    ) -> Result<bool, ApplyError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::background()
        };
        match self.api(resource, namespace).delete(name, &params).await {
            // Left: the object, which now has a deletionTimestamp. Right: it is gone.
            Ok(answer) => {
                self.settled.lock().remove(&settled_key(resource, namespace, name));
                Ok(answer.is_right())
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(true),
            // The object itself, which cannot be read.
            Err(kube::Error::SerdeError(_)) => Ok(false),
            Err(source) => Err(api_error("delete", resource, namespace, name, source)),
        }
    }

    /// An object as far as it is [known](Guarded::known), if it is there. It says of what type it is.
    ///
    /// # Errors
    /// The API server refused, or did not answer.
    pub async fn get(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        let found = self.guarded_api(resource, namespace).get_opt(name).await?;
        let types = || TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
        Ok(found.map(|found| DynamicObject { types: Some(types()), ..found.known() }))
    }

    fn guarded_api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<Guarded<DynamicObject>> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// An API for objects of any kind.
    #[must_use]
    pub fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }
}

/// Everybody's: for objects whose names are Airdock's alone, such as those in a plane's own namespaces.
#[must_use]
pub fn anybodys(_: &DynamicObject) -> bool {
    true
}

/// Labelled as managed by Airdock.
#[must_use]
pub fn labelled(object: &DynamicObject) -> bool {
    object.labels().get(crate::api::MANAGED_BY_LABEL).is_some_and(|value| value == crate::api::MANAGED_BY)
}

/// Reads a typed object out of an applied one.
pub fn typed<K: DeserializeOwned>(object: DynamicObject) -> Result<K, serde_json::Error> {
    serde_json::to_value(object).and_then(serde_json::from_value)
}

fn holds(live: &DynamicObject, wanted: &Value) -> bool {
    let Ok(live) = serde_json::to_value(live) else { return false };
    contains(&live, wanted)
}

/// The object with the type that its resource has.
fn typed_value(resource: &ApiResource, mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), Value::String(resource.api_version.clone()));
        map.insert("kind".to_owned(), Value::String(resource.kind.clone()));
    }
    object
}

fn digest(value: &Value) -> [u8; 32] {
    Sha256::digest(value.to_string().as_bytes()).into()
}

fn settled_key(resource: &ApiResource, namespace: Option<&str>, name: &str) -> String {
    format!("{}/{}/{}/{name}", resource.api_version, resource.kind, namespace.unwrap_or_default())
}

fn full_name(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn api_error(
    verb: &'static str,
    resource: &ApiResource,
    namespace: Option<&str>,
    name: &str,
    source: kube::Error,
) -> ApplyError {
    ApplyError::Api { verb, kind: resource.kind.clone(), name: full_name(namespace, name), source }
}

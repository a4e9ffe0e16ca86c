//! A plane, with what was learnt of the kinds that it serves, and what writes there. IO.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::discovery::{self, Scope};
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::machinery::error::is_not_found;
use crate::runtime::apply::Applier;
use crate::runtime::guarded::{self, Guarded, InvalidObject};
use crate::runtime::planes::cache::CacheError;
use crate::runtime::planes::{InstanceKey, Plane};

use super::error::Error;

/// How many requests one app has under way in its plane.
pub const CONCURRENT_REQUESTS: usize = 8;

/// Field manager of what apps have in planes.
const MANAGER: &str = "airdock.dev/app";

/// A kind as a plane serves it.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Where its objects are.
    pub resource: ApiResource,
    /// Whether its objects have a namespace.
    pub namespaced: bool,
}

/// A plane, with what was learnt of it.
pub struct PlaneClient {
    plane: Arc<Plane>,
    /// Writes there.
    pub applier: Applier,
    /// Kinds that were looked up. A kind that is not served is asked for again each time.
    kinds: Mutex<HashMap<(String, String), Kind>>,
}

impl PlaneClient {
    /// The plane's client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.plane.client.clone()
    }

    /// How the plane serves a kind; nothing when it does not.
    pub async fn kind(&self, api_version: &str, kind: &str) -> Result<Option<Kind>, Error> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(known) = self.kinds.lock().get(&key) {
            return Ok(Some(known.clone()));
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = match discovery::pinned_kind(&self.client(), &gvk).await {
            Ok(found) => found,
            Err(kube::Error::Discovery(_)) => return Ok(None),
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(source) => return Err(Error::Read { what: format!("the kinds of {api_version}"), source }),
        };
        let found = Kind { resource, namespaced: capabilities.scope == Scope::Namespaced };
        self.kinds.lock().insert(key, found.clone());
        Ok(Some(found))
    }

    /// How the plane serves a kind in another version than this one; nothing when it serves none. Its objects are the same.
    pub async fn kind_otherwise(&self, api_version: &str, kind: &str) -> Result<Option<Kind>, Error> {
        let Some((group, _)) = api_version.split_once('/') else { return Ok(None) };
        let found = match discovery::group(&self.client(), group).await {
            Ok(found) => found,
            Err(kube::Error::Discovery(_)) => return Ok(None),
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(source) => return Err(Error::Read { what: format!("the kinds of {group}"), source }),
        };
        let mut kinds = found.resources_by_stability().into_iter();
        let kind = kinds.find(|(resource, _)| resource.kind == kind);
        Ok(kind.map(|(resource, capabilities)| Kind { resource, namespaced: capabilities.scope == Scope::Namespaced }))
    }

    /// Forgets how kinds are served, so that the next look finds a definition that was changed.
    pub fn forget_kinds(&self) {
        self.kinds.lock().clear();
    }

    /// An object, if it is there; one that cannot be read by its metadata alone.
    pub async fn get(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>, Error> {
        let what = || format!("{} {name}", resource.kind);
        self.applier.get(resource, namespace, name).await.map_err(|source| Error::Read { what: what(), source })
    }

    /// A typed object, if it is there.
    pub async fn get_typed<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let kind = K::kind(&());
        let found = Api::<Guarded<K>>::namespaced(self.client(), namespace).get_opt(name).await;
        let found = found.map_err(|source| Error::Read { what: format!("{kind} {name}"), source })?;
        let unreadable = |InvalidObject { problem, .. }| CacheError::Unreadable {
            kind: kind.to_string(),
            name: name.to_owned(),
            problem,
        };
        Ok(found.map(|object| object.0.map_err(unreadable)).transpose()?)
    }

    /// All objects of a kind that carry these labels; those that cannot be read by their metadata alone.
    pub async fn list(
        &self,
        resource: &ApiResource,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<DynamicObject>, Error> {
        let api: Api<Guarded<DynamicObject>> = Api::namespaced_with(self.client(), namespace, resource);
        let list = guarded::list_known(&api, &ListParams::default().labels(labels)).await;
        let mut items = list.map_err(|source| Error::Read { what: resource.plural.clone(), source })?;
        // The API server names the type of a list's items on the list alone.
        let types = TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
        items.iter_mut().for_each(|item| item.types = Some(types.clone()));
        Ok(items)
    }

    /// Makes sure that the plane answers: its cache goes on to do so while it is away.
    pub async fn check(&self) -> Result<(), Error> {
        Ok(self.plane.cache.check().await?)
    }

    /// An object from the cache; one that cannot be read by its metadata alone. One that is missing there is looked for
    /// in the plane.
    pub async fn find(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>, Error> {
        let cached = match self.plane.cache.kind(resource).await {
            Ok(kind) => kind.get(namespace, name),
            // Its definition was taken away since it was looked up.
            Err(CacheError::NotServed { .. }) => {
                self.forget_kinds();
                None
            }
            Err(error) => return Err(error.into()),
        };
        match cached {
            Some(object) => Ok(Some(object)),
            None => self.get(resource, namespace, name).await,
        }
    }

    /// A typed object, if the cache has it.
    pub async fn find_cached<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let kind = self.plane.cache.kind(&ApiResource::erase::<K>(&())).await?;
        Ok(kind.get_typed(Some(namespace), name)?)
    }

    /// The objects of a kind that are meant, from the cache.
    pub async fn find_all(
        &self,
        resource: &ApiResource,
        is_meant: impl Fn(&DynamicObject) -> bool,
    ) -> Result<Vec<DynamicObject>, Error> {
        Ok(self.plane.cache.kind(resource).await?.list(is_meant))
    }

    /// All objects of a cluster-scoped type, from the cache.
    pub async fn find_typed<K>(&self) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        Ok(self.plane.cache.kind(&ApiResource::erase::<K>(&())).await?.list_typed(|_| true))
    }

    /// Tells the cache of an object that was written, before its watch does.
    pub fn record(&self, resource: &ApiResource, object: &DynamicObject) {
        self.plane.cache.record(resource, object);
    }
}

/// The clients of the planes, each made when it is first needed and kept while the plane's client stays the same.
#[derive(Default)]
pub struct PlaneClients(Mutex<HashMap<InstanceKey, Arc<PlaneClient>>>);

impl PlaneClients {
    /// The client of a plane.
    pub fn of(&self, plane: Arc<Plane>) -> Arc<PlaneClient> {
        let mut known = self.0.lock();
        if let Some(plane_client) =
            known.get(&plane.key).filter(|plane_client| Arc::ptr_eq(&plane_client.plane, &plane))
        {
            return plane_client.clone();
        }
        let applier = Applier::new(plane.client.clone(), MANAGER);
        let plane_client = Arc::new(PlaneClient { plane: plane.clone(), applier, kinds: Mutex::default() });
        known.insert(plane.key.clone(), plane_client.clone());
        plane_client
    }

    /// Forgets an instance that is gone.
    pub fn forget(&self, key: &InstanceKey) {
        self.0.lock().remove(key);
    }
}

/// Runs futures, several at a time, and keeps their order.
pub async fn each<R, F>(futures: Vec<F>) -> Result<Vec<R>, Error>
where
    F: Future<Output = Result<R, Error>>,
{
    futures::stream::iter(futures).buffered(CONCURRENT_REQUESTS).try_collect().await
}

//! Looking up the objects of one kind of one plane.

use std::fmt;
use std::sync::Arc;

use kube::Resource;
use kube::api::DynamicObject;
use kube::core::{ApiResource, TypeMeta};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::CacheError;
use super::kind::KindCache;
use crate::machinery::error::chain;
use crate::runtime::apply::typed;
use crate::runtime::guarded::omitted;

/// The objects of one kind of one plane.
#[derive(Clone)]
pub struct KindView(pub(super) Arc<KindCache>);

impl fmt::Debug for KindView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KindView").field(&self.0.config.resource.kind).finish()
    }
}

impl KindView {
    /// Where the objects are.
    #[must_use]
    pub fn resource(&self) -> &ApiResource {
        &self.0.config.resource
    }

    /// An object, as far as it is [known](Guarded::known).
    #[must_use]
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<DynamicObject> {
        let objects = self.0.objects.read();
        objects.get(namespace, name, Instant::now()).map(|object| self.named(&object))
    }

    /// The objects that are meant, as far as they are [known](Guarded::known).
    #[must_use]
    pub fn list(&self, is_meant: impl Fn(&DynamicObject) -> bool) -> Vec<DynamicObject> {
        let objects = self.0.objects.read();
        objects.all(Instant::now()).filter(|object| is_meant(object)).map(|object| self.named(object)).collect()
    }

    /// Calls a function with each object.
    pub fn each(&self, mut visit: impl FnMut(&DynamicObject)) {
        let objects = self.0.objects.read();
        objects.all(Instant::now()).for_each(|object| visit(object));
    }

    /// A typed object.
    ///
    /// # Errors
    /// It cannot be read, or is not of that type.
    pub fn get_typed<K>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, CacheError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        self.get(namespace, name).map(|object| self.typed(object)).transpose()
    }

    /// The typed objects that are meant. One that is not of the type is left out, and costs the others nothing.
    #[must_use]
    pub fn list_typed<K>(&self, is_meant: impl Fn(&DynamicObject) -> bool) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let objects = self.list(is_meant).into_iter();
        objects
            .filter_map(|object| {
                self.typed(object).inspect_err(|error| tracing::warn!(error = chain(error), "object is left out")).ok()
            })
            .collect()
    }

    fn typed<K: DeserializeOwned>(&self, object: DynamicObject) -> Result<K, CacheError> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let unreadable = |problem: &str| CacheError::Unreadable {
            kind: self.resource().kind.clone(),
            name,
            problem: problem.to_owned(),
        };
        match omitted(&object.data) {
            Some(problem) => Err(unreadable(problem)),
            None => typed(object).map_err(|error| unreadable(&error.to_string())),
        }
    }

    /// The cache keeps no types: they are those of the kind.
    fn named(&self, object: &DynamicObject) -> DynamicObject {
        let ApiResource { api_version, kind, .. } = self.resource();
        let types = TypeMeta { api_version: api_version.clone(), kind: kind.clone() };
        DynamicObject { types: Some(types), ..object.clone() }
    }
}

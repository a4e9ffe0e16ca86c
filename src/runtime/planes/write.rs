//! Writing in a plane over what its cache has, so that what is right already costs no request. IO.

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use super::Plane;
use crate::runtime::apply::{Applied, Applier, ApplyError, Change, OwnershipCheck};

impl Plane {
    /// Applies a typed object over what the cache has.
    ///
    /// # Errors
    /// It is somebody else's, or the plane refuses it.
    pub async fn apply<K>(&self, applier: &Applier, object: &K, ours: OwnershipCheck) -> Result<Applied, ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let resource = ApiResource::erase::<K>(&());
        let (namespace, name) = (object.namespace(), object.name_any());
        let wanted = serde_json::to_value(object).map_err(|source| ApplyError::Serialize {
            kind: resource.kind.clone(),
            name: name.clone(),
            source,
        })?;
        // A kind that cannot be looked up is read from the plane as well.
        let cached = self.cache.kind(&resource).await.ok().and_then(|kind| kind.get(namespace.as_deref(), &name));
        self.apply_over(applier, &resource, (namespace.as_deref(), &name), wanted, cached, ours).await
    }

    /// Applies an object, of which the cache has this. Unless that is what is wanted, the plane itself is asked what it
    /// has: nothing is made or written over by what may be outdated.
    ///
    /// # Errors
    /// It is somebody else's, or the plane refuses it.
    pub async fn apply_over(
        &self,
        applier: &Applier,
        resource: &ApiResource,
        (namespace, name): (Option<&str>, &str),
        wanted: Value,
        cached: Option<DynamicObject>,
        ours: OwnershipCheck,
    ) -> Result<Applied, ApplyError> {
        if let Some(cached) = cached.filter(|cached| ours(cached) && applier.is_applied(resource, &wanted, cached)) {
            return Ok(Applied { object: cached, change: Change::None });
        }
        let applied = applier.apply_value(resource, namespace, name, wanted, ours).await?;
        // Also when nothing was written: the cache did not have it.
        self.cache.record(resource, &applied.object);
        Ok(applied)
    }
}

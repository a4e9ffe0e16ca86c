//! The objects in a member that a plane made: those of a Compact plane carry its mark, those of upstream's components
//! (profile Full) name the namespace of their `Work`. *IO.*

use std::collections::BTreeSet;
use std::fmt;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::ApiResource;
use kube::discovery::{Discovery, verbs};
use kube::{Client, Resource, ResourceExt as _};

use super::plan::PlaneMark;
use super::remaining::render_object;
use crate::engine::{ADOPTED_ANNOTATION, Marks};
use crate::karmada::MANAGED_LABEL;
use crate::runtime::controller::Guarded;
use crate::runtime::guarded;

/// How many kinds are listed at once.
const CONCURRENT_LISTS: usize = 8;

/// An object in a member that carries a plane's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedObject {
    /// How it is requested.
    pub resource: ApiResource,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Version in which it was seen.
    pub resource_version: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl fmt::Display for OwnedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render_object(&self.resource.kind, self.namespace.as_deref(), &self.name))
    }
}

/// Everything in a member that carries a plane's mark.
pub async fn owned_by(client: &Client, mark: &PlaneMark) -> Result<Vec<OwnedObject>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = discovery.groups().flat_map(|group| group.resources_by_stability()).filter(|(_, capabilities)| {
        capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE)
    });
    let kinds: Vec<ApiResource> = kinds.map(|(resource, _)| resource).collect();
    let lists = kinds.into_iter().map(|resource| list_owned(client, resource, mark));
    let lists: Vec<Vec<OwnedObject>> =
        futures::stream::iter(lists).buffer_unordered(CONCURRENT_LISTS).try_collect().await?;
    // Some kinds are served by two groups: the same object is counted once.
    let mut seen = BTreeSet::new();
    Ok(lists.into_iter().flatten().filter(|object| seen.insert(object.uid.clone())).collect())
}

async fn list_owned(client: &Client, resource: ApiResource, mark: &PlaneMark) -> Result<Vec<OwnedObject>, kube::Error> {
    let api = Api::<Guarded<PartialObjectMeta<DynamicObject>>>::all_with(client.clone(), &resource);
    let managed = ListParams::default().labels(&format!("{MANAGED_LABEL}=true"));
    let list = match guarded::list_all(&api, &managed).await {
        Ok(list) => list,
        // Its definition went meanwhile, or the server behind it does not list.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405 | 503) => {
            tracing::debug!(kind = resource.kind, message = status.message, "kind cannot be listed in the member");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    Ok(list
        .into_iter()
        .filter(|object| is_owned(&resource.kind, object.meta(), mark))
        .map(|object| OwnedObject {
            resource: resource.clone(),
            namespace: object.namespace(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version(),
            deleting: object.meta().deletion_timestamp.is_some(),
        })
        .collect())
}

/// Whether a plane made an object. What it adopted, a namespace with other people's objects in it, was there before; and
/// what carries marks that speak of another object is a copy. *Pure.*
pub(super) fn is_owned(kind: &str, metadata: &ObjectMeta, mark: &PlaneMark) -> bool {
    let speaks_of_it = match Marks::of(kind, metadata) {
        Marks::Own => true,
        Marks::Copied => false,
        // Upstream's components name the binding only where there is one.
        Marks::Unnamed => matches!(mark, PlaneMark::Works(_)),
    };
    let annotations = metadata.annotations.as_ref();
    speaks_of_it && annotations.is_some_and(|all| mark.is_on(all) && !all.contains_key(ADOPTED_ANNOTATION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::member::plan::WORK_NAMESPACE_ANNOTATION;
    use crate::engine::PLANE_ANNOTATION;

    #[test]
    fn what_was_there_before_the_plane_is_not_its_own() {
        let (plane, works) = (PlaneMark::Plane("plane".into()), PlaneMark::Works("karmada-es-eu".into()));
        let adopted = (ADOPTED_ANNOTATION, "true");
        let of = |name| [("resourcebinding.karmada.io/namespace", "shop"), ("resourcebinding.karmada.io/name", name)];
        let (own, other) = (of("web-configmap"), of("other-configmap"));
        for (case, mark, on, owned) in [
            ("the plane's", &plane, vec![(PLANE_ANNOTATION, "plane"), own[0], own[1]], true),
            ("a copy of the plane's", &plane, vec![(PLANE_ANNOTATION, "plane"), other[0], other[1]], false),
            ("of nobody knows what", &plane, vec![(PLANE_ANNOTATION, "plane")], false),
            ("another plane's", &plane, vec![(PLANE_ANNOTATION, "another"), own[0], own[1]], false),
            ("adopted", &plane, vec![(PLANE_ANNOTATION, "plane"), own[0], own[1], adopted], false),
            ("of a Work", &works, vec![(WORK_NAMESPACE_ANNOTATION, "karmada-es-eu")], true),
            ("of a Work of another member", &works, vec![(WORK_NAMESPACE_ANNOTATION, "karmada-es-us")], false),
            ("a copy of it", &works, vec![(WORK_NAMESPACE_ANNOTATION, "karmada-es-eu"), other[0], other[1]], false),
            ("of a Compact plane", &works, vec![(PLANE_ANNOTATION, "plane"), own[0], own[1]], false),
        ] {
            let metadata = ObjectMeta {
                name: Some("web".to_owned()),
                namespace: Some("shop".to_owned()),
                annotations: Some(
                    on.into_iter().map(|(key, value): (&str, &str)| (key.to_owned(), value.to_owned())).collect(),
                ),
                ..ObjectMeta::default()
            };
            assert_eq!(is_owned("ConfigMap", &metadata, mark), owned, "{case}");
        }
    }
}

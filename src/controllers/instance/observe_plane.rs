//! All reads of what a plane holds of its installation, and of where its definitions come from. *IO*, no writes.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use crate::api::KarmadaInstance;
use crate::chart::{Component, Manifest};
use crate::instance::plane::{BUNDLE_ANNOTATION, Definitions, INSTALLATION_LABEL};
use crate::machinery::error::chain;
use crate::machinery::names;
use crate::runtime::planes::Plane;
use crate::runtime::planes::cache::PlaneCache;

use super::InstanceController;
use super::error::InstanceError;
use super::plane_plan::{LiveObjects, definitions_of, id};

/// The API that a plane of profile Full forwards to a component, and its resource.
const FORWARDED_API: (&str, &str) = ("cluster.karmada.io/v1alpha1", "clusters");

/// The APIService that forwards it.
const FORWARDING_SERVICE: &str = "v1alpha1.cluster.karmada.io";

impl InstanceController {
    /// Where Karmada's definitions come from: built in for Compact, the bundle for Full.
    pub(super) async fn observe_definitions(
        &self,
        instance: &KarmadaInstance,
        plane: &Plane,
    ) -> Result<Definitions, InstanceError> {
        if Component::Engine.is_enabled(instance) {
            return Ok(Definitions::BuiltIn);
        }
        match self.bundles.get(&self.context.host.0, instance).await {
            Ok(sourced) => Ok(Definitions::Bundle(sourced)),
            // A source that is away for a while does not make a working plane a broken one.
            Err(error) => {
                let version = instance.spec.crds.as_ref().and_then(|crds| crds.source.sha256.clone());
                let version: String = version.unwrap_or_default().chars().take(20).collect();
                if !version.is_empty() && holds_bundle(&plane.client, &version).await {
                    tracing::warn!(error = chain(&error), "the plane goes on with the definitions that it has");
                    return Ok(Definitions::Kept);
                }
                Err(error.into())
            }
        }
    }
}

/// What there is of the desired kinds that belongs to the installation.
pub async fn objects(cache: &PlaneCache, desired: &[Manifest]) -> Result<LiveObjects, InstanceError> {
    let mut resources: Vec<ApiResource> = Vec::new();
    for manifest in desired {
        let resource = manifest.resource();
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    let views = futures::future::try_join_all(resources.iter().map(|resource| cache.kind(resource))).await;
    let views = views.map_err(|error| InstanceError::Plane {
        what: "look up the plane's objects".to_owned(),
        source: Box::new(error),
    })?;
    let is_installed = |object: &DynamicObject| object.labels().get(INSTALLATION_LABEL).is_some_and(|v| v == "true");
    let mut live = LiveObjects::new();
    for kind in views {
        let objects = kind.list(is_installed).into_iter();
        live.extend(objects.map(|object| (id(kind.resource(), &object), (kind.resource().clone(), object))));
    }
    Ok(live)
}

/// Names of the desired definitions that the plane does not serve.
pub async fn unserved(client: &Client, desired: &[Manifest]) -> Vec<String> {
    let mut served: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for definition in definitions_of(desired) {
        for version in definition.spec.versions.iter().filter(|version| version.served) {
            let group_version = format!("{}/{}", definition.spec.group, version.name);
            if !served.contains_key(&group_version) {
                served.insert(group_version.clone(), resources_of(client, &group_version).await);
            }
            if !served[&group_version].contains(&definition.spec.names.plural) {
                missing.push(definition.name_any());
                break;
            }
        }
    }
    missing
}

/// Names of the definitions that the plane forwards to a component, and that it does not serve. They count as served
/// only when the component answers. Where the APIService does not say so yet, the plane itself is asked: it looks at its
/// APIServices every half a minute only.
pub async fn unserved_forwarded(plane: &Plane, instance: &KarmadaInstance) -> Vec<String> {
    let (group_version, plural) = FORWARDED_API;
    if !Component::AggregatedApiServer.is_enabled(instance)
        || is_forwarded(&plane.cache).await
        || resources_of(&plane.client, group_version).await.contains(plural)
    {
        return Vec::new();
    }
    let group = names::group(group_version);
    vec![format!("{plural}.{group}")]
}

async fn is_forwarded(cache: &PlaneCache) -> bool {
    let services = cache.kind(&ApiResource::erase::<APIService>(&())).await;
    services.ok().and_then(|kind| kind.get(None, FORWARDING_SERVICE)).is_some_and(|service| is_available(&service))
}

/// Whether an APIService says that what is behind it answers. *Pure.*
fn is_available(service: &DynamicObject) -> bool {
    let conditions = service.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Available" && one["status"] == "True")
}

/// The resources that a plane serves in a version of a group; none when it does not say.
async fn resources_of(client: &Client, group_version: &str) -> HashSet<String> {
    let list = client.list_api_group_resources(group_version).await;
    list.map(|list| list.resources.into_iter().map(|resource| resource.name).collect()).unwrap_or_default()
}

/// Whether a plane holds definitions of a bundle of this version.
async fn holds_bundle(client: &Client, version: &str) -> bool {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let params = ListParams::default().labels(&format!("{INSTALLATION_LABEL}=true"));
    api.list_metadata(&params).await.is_ok_and(|list| {
        list.items.iter().any(|object| object.annotations().get(BUNDLE_ANNOTATION).is_some_and(|v| v == version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_api_service_tells_whether_it_is_available() {
        let service = |conditions: Value| -> bool {
            let object = json!({"metadata": {"name": FORWARDING_SERVICE}, "status": {"conditions": conditions}});
            is_available(&serde_json::from_value(object).unwrap())
        };
        assert!(service(json!([{"type": "Available", "status": "True"}])));
        assert!(!service(json!([{"type": "Available", "status": "False"}])) && !service(json!(null)));
    }
}

//! Which of the objects inside a plane are to be verified, written or removed: from what was observed. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::core::ApiResource;

use crate::chart::{self, Manifest};
use crate::instance::plane::INSTALLATION_LABEL;
use crate::machinery::object_version::object_version;
use crate::runtime::planes::PlaneEvent;

/// Annotation with the time at which the plane was last asked to establish a definition.
pub const ESTABLISH_ANNOTATION: &str = "airdock.dev/establish-requested-at";

/// How long a definition may take to be served before the plane is asked to establish it once more.
const ESTABLISH_WITHIN_SECONDS: i64 = 5;

/// Objects of the installation, each with its kind, by [`id`].
pub type LiveObjects = BTreeMap<String, (ApiResource, DynamicObject)>;

/// Version at which each object was last verified, by [`id`].
pub type Verified = HashMap<String, String>;

/// What is missing, or has changed since it was verified: namespaces first, since others live in them; the order within
/// each of the two groups does not matter.
#[must_use]
pub fn unverified<'a>(desired: &'a [Manifest], live: &LiveObjects, verified: &Verified) -> [Vec<&'a Manifest>; 2] {
    let is_unverified = |manifest: &&Manifest| {
        let found = live.get(&id_of(manifest)).map(|(_, object)| object_version(object));
        found.is_none() || found.as_ref() != verified.get(&id_of(manifest))
    };
    let (namespaces, others) =
        desired.iter().filter(is_unverified).partition(|manifest| matches!(manifest, Manifest::Namespace(_)));
    [namespaces, others]
}

/// What is no longer wanted; never definitions and namespaces, which would take users' objects with them.
#[must_use]
pub fn superfluous<'a>(desired: &[Manifest], live: &'a LiveObjects) -> Vec<&'a (ApiResource, DynamicObject)> {
    let desired: HashSet<String> = desired.iter().map(id_of).collect();
    let keeps = |resource: &ApiResource| matches!(resource.kind.as_str(), "Namespace" | "CustomResourceDefinition");
    live.iter()
        .filter(|(id, (resource, _))| !keeps(resource) && !desired.contains(*id))
        .map(|(_, found)| found)
        .collect()
}

/// Definitions that are not served long after they were made or last asked for. An API server that ends between
/// accepting the names of a definition and establishing it takes that up again only when the definition changes.
#[must_use]
pub fn not_established<'a>(
    desired: &'a [Manifest],
    live: &LiveObjects,
    unserved: &[String],
    now: Timestamp,
) -> Vec<&'a Manifest> {
    let is_overdue = |manifest: &&Manifest| {
        let Some((_, object)) = live.get(&id_of(manifest)) else { return false };
        let last = object.annotations().get(ESTABLISH_ANNOTATION).and_then(|at| at.parse::<Timestamp>().ok());
        let last = last.or_else(|| object.creation_timestamp().map(|time| time.0));
        last.is_none_or(|last| now.as_second() - last.as_second() >= ESTABLISH_WITHIN_SECONDS)
    };
    desired.iter().filter(|manifest| unserved.iter().any(|name| name == manifest.name())).filter(is_overdue).collect()
}

/// Whether something has happened to an object of the installation after it was verified.
#[must_use]
pub fn is_drift(event: &PlaneEvent<'_>, verified: &Verified) -> bool {
    let is_installed = |object: &DynamicObject| object.labels().contains_key(INSTALLATION_LABEL);
    let is_verified = verified.get(&id(event.resource, event.object)) == Some(&object_version(event.object));
    event.before.into_iter().chain([event.object]).any(is_installed) && (event.deleted || !is_verified)
}

/// The definitions among manifests.
pub fn definitions_of(manifests: &[Manifest]) -> impl Iterator<Item = &CustomResourceDefinition> {
    manifests.iter().filter_map(|manifest| match manifest {
        Manifest::CustomResourceDefinition(definition) => Some(definition.as_ref()),
        _ => None,
    })
}

/// Names an object of any kind.
pub fn id<K: kube::Resource>(resource: &ApiResource, object: &K) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{}/{}/{namespace}/{}", resource.group, resource.kind, object.name_any())
}

/// Names a manifest as [`id`] names the object that it becomes.
#[must_use]
pub fn id_of(manifest: &Manifest) -> String {
    let namespace = manifest.metadata().namespace.as_deref().unwrap_or_default();
    let resource = manifest.resource();
    format!("{}/{}/{namespace}/{}", resource.group, resource.kind, manifest.name())
}

/// Changes whenever the manifests do.
#[must_use]
pub fn digest(manifests: &[Manifest]) -> String {
    let marks: Vec<String> = manifests
        .iter()
        .map(|manifest| {
            let annotations = manifest.metadata().annotations.as_ref();
            let rendered = annotations.and_then(|a| a.get(chart::RENDERED_ANNOTATION)).map_or("", String::as_str);
            format!("{}={rendered}", id_of(manifest))
        })
        .collect();
    chart::digest(marks.iter().map(String::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::planes::InstanceKey;
    use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
    use k8s_openapi::api::core::v1::{Namespace, Service};
    use serde_json::json;

    fn object(labels: serde_json::Value, version: &str) -> DynamicObject {
        let metadata = json!({"name": "karmada", "uid": "u", "resourceVersion": version, "labels": labels});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn whatever_happens_to_an_object_of_the_installation_is_drift_but_for_what_was_verified() {
        let instance = InstanceKey { namespace: "fleet".into(), name: "east".into() };
        let resource = ApiResource::erase::<ValidatingWebhookConfiguration>(&());
        let ours = || json!({INSTALLATION_LABEL: "true"});
        let verified = [(id(&resource, &object(ours(), "7")), "u@7".to_owned())].into();
        let drifts = |before: Option<DynamicObject>, now: DynamicObject, deleted: bool| {
            let before = before.as_ref();
            is_drift(&PlaneEvent { instance: &instance, resource: &resource, object: &now, before, deleted }, &verified)
        };
        assert!(!drifts(None, object(ours(), "7"), false), "its own write");
        assert!(drifts(None, object(ours(), "8"), false));
        assert!(drifts(Some(object(ours(), "7")), object(json!({}), "9"), false), "its label was taken off");
        assert!(drifts(Some(object(ours(), "7")), object(ours(), "7"), true), "deleted");
        assert!(!drifts(None, object(json!({}), "9"), false), "somebody else's");
    }

    fn namespace(name: &str) -> Manifest {
        Manifest::from(serde_json::from_value::<Namespace>(json!({"metadata": {"name": name}})).unwrap())
    }

    fn service(name: &str) -> Manifest {
        let metadata = json!({"name": name, "namespace": "karmada-system"});
        Manifest::from(serde_json::from_value::<Service>(json!({"metadata": metadata})).unwrap())
    }

    fn live(manifests: &[(&Manifest, &str)]) -> LiveObjects {
        let of = |(manifest, version): &(&Manifest, &str)| {
            let mut object: DynamicObject = serde_json::from_value(manifest.to_value().unwrap()).unwrap();
            object.metadata.uid = Some("u".into());
            object.metadata.resource_version = Some((*version).to_owned());
            (id_of(manifest), (manifest.resource(), object))
        };
        manifests.iter().map(of).collect()
    }

    #[test]
    fn only_what_is_missing_or_has_changed_is_looked_at_and_namespaces_come_first() {
        let desired = [service("missing"), service("verified"), service("changed"), namespace("missing")];
        let live = live(&[(&desired[1], "7"), (&desired[2], "8")]);
        let verified = desired[1..3].iter().map(|manifest| (id_of(manifest), "u@7".to_owned())).collect();
        let names =
            unverified(&desired, &live, &verified).map(|group| group.iter().map(|m| m.id()).collect::<Vec<_>>());
        assert_eq!(names, [vec!["Namespace missing"], vec!["Service missing", "Service changed"]]);
    }

    #[test]
    fn namespaces_are_never_removed() {
        let gone = [namespace("users"), service("old")];
        let live = live(&[(&gone[0], "1"), (&gone[1], "1")]);
        let names: Vec<String> = superfluous(&[], &live).iter().map(|(_, object)| object.name_any()).collect();
        assert_eq!(names, ["old"]);
        assert!(superfluous(&gone, &live).is_empty());
    }

    #[test]
    fn a_definition_that_stays_unserved_is_asked_for_every_few_seconds() {
        let definition = Manifest::from(crate::karmada::definitions().remove(0));
        let desired = [definition];
        let name = desired[0].name().to_owned();
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let overdue = |created: &str, requested: Option<&str>| {
            let mut live = live(&[(&desired[0], "1")]);
            for (_, object) in live.values_mut() {
                object.metadata.creation_timestamp = Some(serde_json::from_value(json!(created)).unwrap());
                let annotations = requested.map(|at| [(ESTABLISH_ANNOTATION.to_owned(), at.to_owned())].into());
                object.metadata.annotations = annotations;
            }
            not_established(&desired, &live, std::slice::from_ref(&name), now).len()
        };
        assert_eq!(overdue("2026-01-01T00:00:06Z", None), 0, "it is new");
        assert_eq!(overdue("2026-01-01T00:00:00Z", None), 1);
        assert_eq!(overdue("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:08Z")), 0, "just asked for");
        assert_eq!(overdue("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:05Z")), 1);
        assert!(not_established(&desired, &live(&[(&desired[0], "1")]), &[], now).is_empty(), "it is served");
    }
}

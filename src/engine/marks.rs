//! The marks on objects in members: that they are managed, where they came from, and what they were made of. Pure.
//!
//! Marks are labels and annotations, and these are copied: into a ReplicaSet from its Deployment, into Pods from their
//! template, into an object that somebody restores under another name. A copy is not the plane's to delete.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::key::{ObjectKey, PlaneId};
use super::model::Template;
use crate::api::CREATED_FOR_ANNOTATION;
use crate::interpret::TEMPLATE_GENERATION_ANNOTATION;
use crate::karmada::MANAGED_LABEL;
use crate::karmada::names::binding_name;
use crate::machinery::hash::sha256_hex;

/// Annotation on objects in members: the plane that they came from, by the uid of its namespace kube-system. A member
/// may belong to several planes; none touches what another one made.
pub const PLANE_ANNOTATION: &str = "airdock.dev/plane";

/// Annotation on objects in members: fingerprint of the manifest that was last applied. Fields that the next one no longer
/// has are seen by it alone: what a member's object has beyond its manifest may be anybody's.
pub const MANIFEST_ANNOTATION: &str = "airdock.dev/manifest";

/// Annotation on objects in members: uid of the template. Karmada's own controllers set it too.
pub const TEMPLATE_UID_ANNOTATION: &str = "resourcetemplate.karmada.io/uid";

/// Annotation on namespaces in members that were there before the engine managed them: it never deletes those.
pub const ADOPTED_ANNOTATION: &str = "airdock.dev/adopted";

/// Annotations on objects in members that lead back to the binding.
pub const BINDING_NAMESPACE_ANNOTATION: &str = "resourcebinding.karmada.io/namespace";
/// See [`BINDING_NAMESPACE_ANNOTATION`].
pub const BINDING_NAME_ANNOTATION: &str = "resourcebinding.karmada.io/name";
/// See [`BINDING_NAMESPACE_ANNOTATION`].
pub const CLUSTER_BINDING_NAME_ANNOTATION: &str = "clusterresourcebinding.karmada.io/name";

/// Annotation on namespaces in members: their own name. Those that go to every member have no binding to name.
pub const NAME_ANNOTATION: &str = "airdock.dev/name";

/// Marks a manifest as managed, and says where it came from and what it is.
pub fn mark(manifest: &mut Value, key: &ObjectKey, plane: &PlaneId, template: Option<&Template>) {
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let mut put = |map: &str, name: &str, value: &str| {
        let map = metadata.entry(map).or_insert_with(|| json!({}));
        if let Some(map) = map.as_object_mut() {
            map.insert(name.to_owned(), json!(value));
        }
    };
    put("labels", MANAGED_LABEL, "true");
    put("annotations", PLANE_ANNOTATION, plane.as_str());
    if key.kind.is_namespace() {
        put("annotations", NAME_ANNOTATION, &key.name);
    }
    if let Some(template) = template {
        put("annotations", TEMPLATE_UID_ANNOTATION, template.uid.as_str());
        if template.generation > 0 {
            put("annotations", TEMPLATE_GENERATION_ANNOTATION, &template.generation.to_string());
        }
        match &key.namespace {
            Some(namespace) => {
                put("annotations", BINDING_NAMESPACE_ANNOTATION, namespace);
                put("annotations", BINDING_NAME_ANNOTATION, &key.binding_name());
            }
            None => put("annotations", CLUSTER_BINDING_NAME_ANNOTATION, &key.binding_name()),
        }
    }
    // Not for a template to say.
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(ADOPTED_ANNOTATION);
    }
    let fingerprint = fingerprint(&manifest.to_string());
    if let Some(annotations) = manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(MANIFEST_ANNOTATION.to_owned(), Value::String(fingerprint));
    }
}

/// The fingerprint that [`mark`] put on an object.
#[must_use]
pub fn manifest_fingerprint(object: &Value) -> Option<u128> {
    let fingerprint = object.pointer("/metadata/annotations")?.get(MANIFEST_ANNOTATION)?.as_str()?;
    u128::from_str_radix(fingerprint, 16).ok()
}

/// The generation of the template that [`mark`] put on an object; nothing for kinds without generations.
#[must_use]
pub fn template_generation(object: &Value) -> Option<i64> {
    object.pointer("/metadata/annotations")?.get(TEMPLATE_GENERATION_ANNOTATION)?.as_str()?.parse().ok()
}

/// Fingerprint of a text, the same in every process.
fn fingerprint(text: &str) -> String {
    sha256_hex([text], 32)
}

/// A merge patch that takes back what [`mark`] put on an object.
#[must_use]
pub fn unmark(uid: &str) -> Value {
    let annotations = [
        PLANE_ANNOTATION,
        MANIFEST_ANNOTATION,
        ADOPTED_ANNOTATION,
        CREATED_FOR_ANNOTATION,
        TEMPLATE_UID_ANNOTATION,
        TEMPLATE_GENERATION_ANNOTATION,
        BINDING_NAMESPACE_ANNOTATION,
        BINDING_NAME_ANNOTATION,
        CLUSTER_BINDING_NAME_ANNOTATION,
        NAME_ANNOTATION,
    ];
    let annotations: serde_json::Map<String, Value> =
        annotations.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    // The uid keeps the patch from hitting a namesake.
    json!({"metadata": {"uid": uid, "labels": {MANAGED_LABEL: null}, "annotations": annotations}})
}

/// Whom the marks of an object speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// The object itself.
    Own,
    /// Another object, or one that another object's controller made: they were copied.
    Copied,
    /// They name no object.
    Unnamed,
}

impl Marks {
    /// Whom the marks of an object speak of that is known by its metadata.
    #[must_use]
    pub fn of(kind: &str, metadata: &ObjectMeta) -> Self {
        let owners = metadata.owner_references.iter().flatten();
        Marked {
            kind,
            namespace: metadata.namespace.as_deref(),
            name: metadata.name.as_deref().unwrap_or_default(),
            is_controlled: owners.into_iter().any(|owner| owner.controller == Some(true)),
        }
        .marks(|name| metadata.annotations.as_ref()?.get(name).map(String::as_str))
    }

    /// Whom the marks of an object speak of.
    #[must_use]
    pub fn of_object(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let is_controller = |owner: &Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
        let annotations = object.pointer("/metadata/annotations");
        Marked {
            kind: text("/kind").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").unwrap_or_default(),
            is_controlled: owners.is_some_and(|owners| owners.iter().any(is_controller)),
        }
        .marks(|name| annotations?.get(name)?.as_str())
    }
}

/// What an object is.
struct Marked<'a> {
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    is_controlled: bool,
}

impl Marked<'_> {
    fn marks<'v>(&self, annotation: impl Fn(&str) -> Option<&'v str>) -> Marks {
        let bound_as = binding_name(self.kind, self.name);
        let names_this = match self.namespace {
            Some(namespace) => match (annotation(BINDING_NAMESPACE_ANNOTATION), annotation(BINDING_NAME_ANNOTATION)) {
                (None, None) => None,
                (in_namespace, name) => Some(in_namespace == Some(namespace) && name == Some(&*bound_as)),
            },
            None => match (annotation(NAME_ANNOTATION), annotation(CLUSTER_BINDING_NAME_ANNOTATION)) {
                (None, None) => None,
                (own, name) => Some(own.is_none_or(|own| own == self.name) && name.is_none_or(|name| name == bound_as)),
            },
        };
        match names_this {
            // Whoever controls it since: a copy would have another kind or another name than its marks say.
            Some(true) => Marks::Own,
            Some(false) => Marks::Copied,
            None if self.is_controlled => Marks::Copied,
            None => Marks::Unnamed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::KindKey;
    use super::super::model::{LiveObject, text};
    use serde_json::from_value;

    use super::*;

    #[test]
    fn marks_lead_back() {
        let key = ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some("shop".into()), name: "x".into() };
        let template =
            Template::of(json!({"metadata": {"name": "x", "uid": "t", "generation": 4, "resourceVersion": "9"}}));
        let mut manifest = json!({"metadata": {"name": "x"}});
        mark(&mut manifest, &key, &"plane-1".into(), Some(&template));
        let live = LiveObject::of(manifest.clone());
        assert_eq!(live.plane, Some("plane-1".into()));
        assert_eq!(live.template, Some("t".into()));
        let annotations = &manifest["metadata"]["annotations"];
        assert_eq!(
            (&annotations[BINDING_NAMESPACE_ANNOTATION], &annotations[BINDING_NAME_ANNOTATION]),
            (&json!("shop"), &json!("x-configmap"))
        );
        assert_eq!(manifest["metadata"]["labels"][MANAGED_LABEL], "true");
        let patch = unmark("u");
        for (name, _) in manifest["metadata"]["annotations"].as_object().unwrap() {
            assert_eq!(patch["metadata"]["annotations"].get(name), Some(&Value::Null), "{name} is left behind");
        }
    }

    #[test]
    fn the_fingerprint_tells_manifests_apart() {
        let key = ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some("shop".into()), name: "x".into() };
        let marked = |mut manifest: Value| {
            mark(&mut manifest, &key, &"plane-1".into(), None);
            text(&manifest, "/metadata/annotations/airdock.dev~1manifest")
        };
        let first = marked(json!({"metadata": {"name": "x"}, "data": {"a": "1", "b": "2"}}));
        // Other processes, and later ones, come to the same.
        assert_eq!(first, "80ba6987f6ecdc5236a5b7c2246c122f");
        assert_ne!(first, marked(json!({"metadata": {"name": "x"}, "data": {"a": "1"}})));
    }

    #[test]
    fn marks_speak_of_one_object() {
        let bound = json!({BINDING_NAMESPACE_ANNOTATION: "shop", BINDING_NAME_ANNOTATION: "web-deployment"});
        let named = json!({NAME_ANNOTATION: "shop"});
        let cluster_bound = json!({CLUSTER_BINDING_NAME_ANNOTATION: "system.view-clusterrole"});
        let owner = |controller: bool| json!([{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "o", "controller": controller}]);
        let none = json!([]);
        for (case, kind, place, annotations, owners, marks) in [
            ("itself", "Deployment", (Some("shop"), "web"), &bound, &none, Marks::Own),
            ("owned, but by no controller", "Deployment", (Some("shop"), "web"), &bound, &owner(false), Marks::Own),
            ("restored under another name", "Deployment", (Some("shop"), "web-2"), &bound, &none, Marks::Copied),
            ("restored elsewhere", "Deployment", (Some("shop-2"), "web"), &bound, &none, Marks::Copied),
            ("its ReplicaSet", "ReplicaSet", (Some("shop"), "web-1"), &bound, &owner(true), Marks::Copied),
            ("adopted by a controller", "Deployment", (Some("shop"), "web"), &bound, &owner(true), Marks::Own),
            (
                "half of the marks",
                "Deployment",
                (Some("shop"), "web"),
                &json!({BINDING_NAME_ANNOTATION: "web-deployment"}),
                &none,
                Marks::Copied,
            ),
            ("without", "Deployment", (Some("shop"), "web"), &json!({}), &none, Marks::Unnamed),
            ("made by a controller", "Pod", (Some("shop"), "web-1"), &json!({}), &owner(true), Marks::Copied),
            ("a namespace", "Namespace", (None, "shop"), &named, &none, Marks::Own),
            ("a copy of a namespace", "Namespace", (None, "shop-2"), &named, &none, Marks::Copied),
            ("a namespace of earlier days", "Namespace", (None, "shop"), &json!({}), &none, Marks::Unnamed),
            ("by its binding", "ClusterRole", (None, "system:view"), &cluster_bound, &none, Marks::Own),
            ("a copy of it", "ClusterRole", (None, "view"), &cluster_bound, &none, Marks::Copied),
        ] {
            let (namespace, name) = place;
            let metadata =
                json!({"namespace": namespace, "name": name, "annotations": annotations, "ownerReferences": owners});
            assert_eq!(Marks::of_object(&json!({"kind": kind, "metadata": metadata})), marks, "{case}");
            assert_eq!(Marks::of(kind, &from_value(metadata).unwrap()), marks, "{case}, by its metadata");
        }
    }
}

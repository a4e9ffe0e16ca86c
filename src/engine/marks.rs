//! Whether an object in a member is the one that its marks speak of. Pure.
//!
//! Marks are labels and annotations, and these are copied: into a ReplicaSet from its Deployment, into Pods from their
//! template, into an object that somebody restores under another name. A copy is not the plane's to delete.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::stamp::{BINDING_NAME_ANNOTATION, BINDING_NAMESPACE_ANNOTATION, CLUSTER_BINDING_NAME_ANNOTATION};
use crate::karmada::names::binding_name;

/// Annotation on namespaces in members: their own name. Those that go to every member have no binding to name.
pub const NAME_ANNOTATION: &str = "airdock.dev/name";

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
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn table() {
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

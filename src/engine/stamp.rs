//! The marks on objects in members: that they are managed, where they came from, and what they were made of.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::key::{ObjectKey, PlaneId};
use super::marks::NAME_ANNOTATION;
use super::model::Template;
use crate::api::CREATED_FOR_ANNOTATION;
use crate::interpret::TEMPLATE_GENERATION_ANNOTATION;
use crate::karmada::MANAGED_LABEL;

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

/// Marks a manifest as managed, and says where it came from and what it is.
pub fn stamp(manifest: &mut Value, key: &ObjectKey, plane: &PlaneId, template: Option<&Template>) {
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

/// The fingerprint that [`stamp`] put on an object.
#[must_use]
pub fn manifest_fingerprint(object: &Value) -> Option<u128> {
    let fingerprint = object.pointer("/metadata/annotations")?.get(MANIFEST_ANNOTATION)?.as_str()?;
    u128::from_str_radix(fingerprint, 16).ok()
}

/// The generation of the template that [`stamp`] put on an object; nothing for kinds without generations.
#[must_use]
pub fn template_generation(object: &Value) -> Option<i64> {
    object.pointer("/metadata/annotations")?.get(TEMPLATE_GENERATION_ANNOTATION)?.as_str()?.parse().ok()
}

/// Fingerprint of a text, the same in every process.
fn fingerprint(text: &str) -> String {
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A merge patch that takes back what [`stamp`] put on an object.
#[must_use]
pub fn unstamp(uid: &str) -> Value {
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

#[cfg(test)]
mod tests {
    use super::super::key::KindKey;
    use super::super::model::{Live, text};
    use super::*;

    #[test]
    fn stamps_lead_back() {
        let key = ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some("shop".into()), name: "x".into() };
        let template =
            Template::of(json!({"metadata": {"name": "x", "uid": "t", "generation": 4, "resourceVersion": "9"}}));
        let mut manifest = json!({"metadata": {"name": "x"}});
        stamp(&mut manifest, &key, &"plane-1".into(), Some(&template));
        let live = Live::of(manifest.clone());
        assert_eq!(live.plane, Some("plane-1".into()));
        assert_eq!(live.template, Some("t".into()));
        let annotations = &manifest["metadata"]["annotations"];
        assert_eq!(
            (&annotations[BINDING_NAMESPACE_ANNOTATION], &annotations[BINDING_NAME_ANNOTATION]),
            (&json!("shop"), &json!("x-configmap"))
        );
        assert_eq!(manifest["metadata"]["labels"][MANAGED_LABEL], "true");
        let patch = unstamp("u");
        for (name, _) in manifest["metadata"]["annotations"].as_object().unwrap() {
            assert_eq!(patch["metadata"]["annotations"].get(name), Some(&Value::Null), "{name} is left behind");
        }
    }

    #[test]
    fn a_stamp_tells_manifests_apart() {
        let key = ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some("shop".into()), name: "x".into() };
        let stamped = |mut manifest: Value| {
            stamp(&mut manifest, &key, &"plane-1".into(), None);
            text(&manifest, "/metadata/annotations/airdock.dev~1manifest")
        };
        let first = stamped(json!({"metadata": {"name": "x"}, "data": {"a": "1", "b": "2"}}));
        // Other processes, and later ones, come to the same.
        assert_eq!(first, "80ba6987f6ecdc5236a5b7c2246c122f");
        assert_ne!(first, stamped(json!({"metadata": {"name": "x"}, "data": {"a": "1"}})));
    }
}

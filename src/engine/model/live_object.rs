//! Live objects: those in members that are managed.

use std::sync::Arc;

use serde_json::Value;

use super::super::key::{PlaneId, Uid};
use super::super::marks::{
    ADOPTED_ANNOTATION, Marks, PLANE_ANNOTATION, TEMPLATE_UID_ANNOTATION, manifest_fingerprint, template_generation,
};
use super::super::update::has_foreign_fields;
use super::{hash, identity, is_deleting, text};
use crate::api::CREATED_FOR_ANNOTATION;
use crate::interpret::{self, Health};

/// An object in a member that carries the label of managed objects.
#[derive(Clone, Debug)]
pub struct LiveObject {
    /// Identity.
    pub uid: Uid,
    /// Version of the object.
    pub version: u64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Which plane it came from.
    pub plane: Option<PlaneId>,
    /// Uid of the template that it came from.
    pub template: Option<Uid>,
    /// Whether these speak of itself.
    pub marks: Marks,
    /// Fingerprint of the manifest that was last applied.
    pub manifest: Option<u128>,
    /// Generation of the template that it was last made from.
    pub template_generation: Option<i64>,
    /// Hash of the object without its status and what the server counts.
    pub hash: u64,
    /// The wanted state that it was last known to hold.
    pub held: Option<u64>,
    /// The object, as long as it is not known whether it is as wanted.
    pub body: Option<Box<str>>,
    /// The part of its status that matters.
    pub status: Option<Arc<str>>,
    /// How it fares.
    pub health: Health,
    /// Whether others set fields of it besides labels, annotations and status.
    pub has_foreign_fields: bool,
    /// Whether it was there before the engine managed it.
    pub adopted: bool,
    /// Whether it is a namespace that Airdock made for applications: it goes only when nobody else needs it.
    pub created_for_applications: bool,
}

impl LiveObject {
    /// What is remembered of an object.
    #[must_use]
    pub fn of(mut object: Value) -> Self {
        let annotation = |name: &str| {
            let annotations = object.pointer("/metadata/annotations");
            annotations.and_then(|all| all.get(name)).and_then(Value::as_str)
        };
        let plane = annotation(PLANE_ANNOTATION).map(PlaneId::from);
        let template = annotation(TEMPLATE_UID_ANNOTATION).map(Uid::from);
        let (manifest, template_generation) = (manifest_fingerprint(&object), template_generation(&object));
        let ((uid, version), deleting) = (identity(&object), is_deleting(&object));
        let adopted = annotation(ADOPTED_ANNOTATION).is_some();
        let marks = Marks::of_object(&object);
        let is_namespace = text(&object, "/kind") == "Namespace" && text(&object, "/apiVersion") == "v1";
        let created_for_applications = is_namespace && annotation(CREATED_FOR_ANNOTATION).is_some();
        let has_foreign_fields = has_foreign_fields(&object);
        let (status, health) = (interpret::reflect(&object), interpret::health(&object));
        strip(&mut object);
        let body = object.to_string();
        Self {
            uid,
            version,
            deleting,
            plane,
            template,
            marks,
            manifest,
            template_generation,
            hash: hash(&body),
            held: None,
            body: Some(body.into()),
            status: status.map(|status| status.to_string().into()),
            health,
            has_foreign_fields,
            adopted,
            created_for_applications,
        }
    }

    /// The wanted state that it is known to hold now.
    #[must_use]
    pub fn settled(&self) -> Option<u64> {
        self.held.filter(|_| self.body.is_none())
    }

    /// It is known to hold a wanted state: what it looks like is of no interest any more.
    pub fn settle(&mut self, wanted: u64) {
        self.held = Some(wanted);
        self.body = None;
    }
}

/// Takes away what changes without anybody changing the object.
fn strip(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation", "creationTimestamp", "selfLink"] {
            metadata.remove(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn heartbeats_do_not_change_the_hash_but_edits_do() {
        let object = |version: &str, status: i64, data: &str| {
            LiveObject::of(
                json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": version, "managedFields": [{"time": version}]},
                "data": {"k": data}, "status": {"n": status}}),
            )
        };
        let first = object("1", 1, "v");
        assert_eq!(first.hash, object("2", 2, "v").hash);
        assert_ne!(first.hash, object("1", 1, "w").hash);
        assert_eq!(first.status.as_deref(), Some("{\"n\":1}"));
    }
}

//! What the engine remembers of objects. Bodies are kept as JSON text, and only where they are needed: parsed JSON takes
//! about ten times as much memory.

pub mod binding;
mod live_object;
mod template;

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::key::Uid;

pub use self::binding::{BINDING_FINALIZER, Binding, REMOVING_ANNOTATION, SELECTORS_ANNOTATION, owner_reference};
pub use self::live_object::LiveObject;
pub use self::template::{Cascade, Template};

/// Finalizer on clusters: a member is cleaned before its cluster goes.
pub const CLUSTER_FINALIZER: &str = "karmada.io/cluster-controller";

/// Hash of a text, stable within a process.
#[must_use]
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Parses JSON that the engine itself wrote.
#[must_use]
pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// A text within an object; empty when it is not there.
#[must_use]
pub fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Version of an object. Versions of one kind in one cluster are numbers that grow.
#[must_use]
pub fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

/// Uid and version of an object.
#[must_use]
pub fn identity(object: &Value) -> (Uid, u64) {
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    (uid.into(), version(object))
}

fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}

fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

//! Marks an object with a digest of what is wanted of it. Pure.
//!
//! Whether a live object holds everything that is wanted says nothing of what it holds beyond: defaults and other
//! owners' fields may stay, a label that was taken out of the spec may not. With the digest on the object, every
//! change of what is wanted is a difference, and server-side apply then removes the fields that were ours.

use std::collections::BTreeMap;

use kube::Resource;
use serde::Serialize;

use crate::machinery::hash::sha256_hex;

/// Annotation with the digest.
pub const APPLIED_ANNOTATION: &str = "airdock.dev/applied";

/// Sets the annotation on an object that is complete but for it.
#[must_use]
pub fn stamped<K: Resource + Serialize>(mut object: K) -> K {
    let digest = digest(&object);
    object.meta_mut().annotations.get_or_insert_with(BTreeMap::new).insert(APPLIED_ANNOTATION.to_owned(), digest);
    object
}

/// Sixteen hexadecimal digits that stand for the value.
#[must_use]
pub fn digest<T: Serialize>(value: &T) -> String {
    // A value of these types always serializes; were it not so, the object would merely lack protection against
    // stale fields.
    let json = serde_json::to_vec(value).unwrap_or_default();
    sha256_hex([json], 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;
    use serde_json::json;

    fn namespace(labels: serde_json::Value) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels}})).unwrap()
    }

    #[test]
    fn any_change_of_what_is_wanted_changes_the_stamp() {
        let stamp = |labels| stamped(namespace(labels)).metadata.annotations.unwrap()[APPLIED_ANNOTATION].clone();
        assert_eq!(stamp(json!({"a": "b"})), stamp(json!({"a": "b"})));
        assert_ne!(stamp(json!({"a": "b"})), stamp(json!({})));
        assert_eq!(stamp(json!({})).len(), 16);
    }
}

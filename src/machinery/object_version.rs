//! Which version of which object was seen. Pure.

use kube::{Resource, ResourceExt};

/// `uid@resourceVersion`: another text whenever an object was written, or deleted and made anew.
#[must_use]
pub fn object_version<K: Resource>(object: &K) -> String {
    format!("{}@{}", object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default())
}

/// Whether two objects are the same one in the same version.
#[must_use]
pub fn is_same_version<K: Resource>(one: &K, other: &K) -> bool {
    let (one, other) = (one.meta(), other.meta());
    one.uid == other.uid && one.resource_version == other.resource_version
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    #[test]
    fn a_version_changes_with_every_write_and_with_every_new_object() {
        let object = |uid: &str, version: &str| -> ConfigMap {
            serde_json::from_value(json!({"metadata": {"name": "c", "uid": uid, "resourceVersion": version}})).unwrap()
        };
        let seen = object("a", "1");
        assert_eq!(object_version(&seen), "a@1");
        for (other, is_same) in [(object("a", "1"), true), (object("a", "2"), false), (object("b", "1"), false)] {
            assert_eq!(is_same_version(&seen, &other), is_same);
            assert_eq!(object_version(&seen) == object_version(&other), is_same);
        }
    }
}

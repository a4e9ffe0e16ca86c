//! Holding on to an object until what was made for it is gone.

use k8s_openapi::jiff::Timestamp;

use crate::api::KarmadaInstance;
pub use crate::runtime::finalizer::{Held, add, is_lost, known, remove};

/// How long the plane of an instance that is being deleted is tried. The instance waits for those who have something in
/// it, so that they can take it out; a plane that is broken for good must not hold all of them for ever.
const PATIENCE_SECONDS: i64 = 300;

/// Whether a plane that cannot be had is taken for gone, with all that is in it. *Pure.*
#[must_use]
pub fn is_given_up(instance: &KarmadaInstance, now: Timestamp) -> bool {
    let deleted = instance.metadata.deletion_timestamp.as_ref();
    deleted.is_some_and(|since| now.as_second() - since.0.as_second() >= PATIENCE_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MemberClusterJoin, MultiCloudApp, PermissionBinding};
    use crate::runtime::guarded::Guarded;
    use serde_json::{Value, json};

    /// An object that is too deep to be read, by a field of its spec that nobody knows.
    fn deep<K: Held>(finalizers: Value, spec: &Value, status: &Value) -> Guarded<K> {
        let nested = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
        let metadata = json!({"name": "x", "namespace": "team", "uid": "u", "finalizers": finalizers});
        let spec = spec.to_string().replacen('{', &format!(r#"{{"deep":{nested},"#), 1);
        Guarded::of_json(&format!(r#"{{"metadata":{metadata},"spec":{spec},"status":{status}}}"#))
    }

    /// What is made of it, with one status that tells of something made elsewhere and one that does not.
    fn check<K: Held>(spec: &Value, made: &Value, nothing: &Value) {
        let kind = K::kind(&());
        let of = |finalizers: Value, status: &Value| deep::<K>(finalizers, spec, status);
        let unreadable = of(json!([K::FINALIZER]), made);
        assert!(unreadable.0.is_err(), "{kind}");
        let stand_in = known(&unreadable).expect("it is known");
        assert_eq!(stand_in.meta().uid.as_deref(), Some("u"), "{kind}");
        assert!(stand_in.has_made() && !is_lost(&unreadable), "{kind}");
        assert!(is_lost(&of(json!(["others/finalizer"]), made)), "{kind}: it was replaced");
        assert!(!is_lost(&of(json!([]), nothing)), "{kind}: nothing was made for it");
        assert!(
            known(&deep::<K>(json!([]), spec, &json!({"conditions": 7}))).is_none(),
            "{kind}: what is there is unknown"
        );
    }

    #[test]
    fn what_was_made_for_an_object_can_be_removed_though_it_cannot_be_read() {
        let reference = json!({"name": "east", "namespace": "fleet"});
        let entry = |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": uid});
        check::<MultiCloudApp>(
            &json!({"instanceRef": reference, "namespace": "shop"}),
            &json!({"inventory": [entry("1")]}),
            &json!({"inventory": [entry("")]}),
        );
        check::<MemberClusterJoin>(
            &json!({"instanceRef": reference, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"}}),
            &json!({"clusterID": "id"}),
            &json!({}),
        );
        check::<PermissionBinding>(
            &json!({"scope": {"namespaces": ["shop"]}}),
            &json!({"inventory": [{"namespace": "fleet", "name": "east", "objects": []}]}),
            &json!(null),
        );
        check::<KarmadaInstance>(&json!({"profile": "Full"}), &json!({"endpoint": "https://east"}), &json!({}));

        let app =
            deep::<MultiCloudApp>(json!([]), &json!({"instanceRef": reference, "namespace": "shop"}), &json!(null));
        let app = known(&app).unwrap();
        assert_eq!((app.spec.instance_ref.name.as_str(), app.spec.namespace.as_deref()), ("east", Some("shop")));
        // How it is to be removed is not guessed.
        let retained = deep::<KarmadaInstance>(json!([]), &json!({"deletionPolicy": "Retain"}), &json!(null));
        assert_eq!(known(&retained).unwrap().spec.deletion_policy, crate::api::instance::DeletionPolicy::Retain);
        let unknown = deep::<KarmadaInstance>(json!([]), &json!({"deletionPolicy": "Newer"}), &json!(null));
        assert!(known(&unknown).is_none());
    }

    #[test]
    fn a_plane_that_is_only_away_is_not_gone() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let given_up = |deleted: Option<&str>| {
            let metadata = json!({"name": "east", "namespace": "fleet", "deletionTimestamp": deleted});
            let instance = json!({"apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
                "metadata": metadata, "spec": {}});
            is_given_up(&serde_json::from_value(instance).unwrap(), now)
        };
        assert!(!given_up(None));
        assert!(!given_up(Some("2026-01-01T00:09:59Z")), "one failed request is no end");
        assert!(given_up(Some("2026-01-01T00:05:00Z")));
    }
}

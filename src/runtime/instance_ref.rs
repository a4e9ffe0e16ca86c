//! Which instance an object refers to, whether it may use it, and why its plane cannot be had. Pure.
//!
//! Every kind that refers to an instance asks here, so that the same trouble has the same reason everywhere.

use std::borrow::Borrow;

use k8s_openapi::jiff::Timestamp;

use super::planes::{InstanceKey, PlaneError};
use crate::api::KarmadaInstance;
use crate::api::common::condition::READY;
use crate::machinery::conditions::find;
use crate::machinery::error::{Class, Classified};

/// The field by which most kinds refer to their instance.
pub const INSTANCE_REF: &str = "spec.instanceRef";

/// How long the plane of an instance that is being deleted is tried. The instance waits for those who have something in
/// it, so that they can take it out; a plane that is broken for good must not hold all of them for ever.
const DELETION_GRACE_PERIOD_SECONDS: i64 = 300;

/// Why an instance, or its plane, cannot be used.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum InstanceRefError {
    /// There is no such instance in the object's own namespace.
    #[error("{field}: there is no KarmadaInstance {instance}: create it, or name another")]
    NotFound {
        /// The field that refers to it.
        field: &'static str,
        /// The instance.
        instance: InstanceKey,
    },
    /// There is no such instance in another namespace, or it does not consent. A tenant is not told which of the two.
    #[error(
        "{field}: there is no KarmadaInstance {instance} that lists namespace {namespace} in \
         spec.tenancy.allowedNamespaces: its owner must add it"
    )]
    NotShared {
        /// The field that refers to it.
        field: &'static str,
        /// The instance.
        instance: InstanceKey,
        /// Namespace of the object.
        namespace: String,
    },
    /// The instance is there, and says what this version does not know.
    #[error(
        "KarmadaInstance {0} cannot be read by this version of Airdock: upgrade the operator, or correct the instance"
    )]
    Unreadable(InstanceKey),
    /// The instance is not installed, or not ready.
    #[error("KarmadaInstance {instance} is not ready: {message}")]
    NotReady {
        /// The instance.
        instance: InstanceKey,
        /// What it says of itself.
        message: String,
    },
    /// The instance is ready, and its plane is about to be connected.
    #[error("connecting to the plane of KarmadaInstance {0}")]
    Connecting(InstanceKey),
}

impl Classified for InstanceRefError {
    fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } | Self::NotShared { .. } | Self::Unreadable(_) | Self::NotReady { .. } => {
                Class::Blocked
            }
            Self::Connecting(_) => Class::Retry,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "InstanceNotFound",
            Self::NotShared { .. } => "InstanceNotShared",
            Self::Unreadable(_) => "InstanceUnreadable",
            Self::NotReady { .. } | Self::Connecting(_) => "InstanceNotReady",
        }
    }
}

/// Decides whether an object of `namespace` may use the instance `key`, given what was found under that key. `field`
/// is the field that refers to it, as people write it.
///
/// # Errors
/// The instance is not there, or does not consent.
pub fn resolve<I: Borrow<KarmadaInstance>>(
    found: Option<I>,
    key: &InstanceKey,
    namespace: &str,
    field: &'static str,
) -> Result<I, InstanceRefError> {
    match found {
        Some(instance) if key.namespace == namespace || instance.borrow().admits(namespace) => Ok(instance),
        None if key.namespace == namespace => Err(InstanceRefError::NotFound { field, instance: key.clone() }),
        _ => Err(InstanceRefError::NotShared { field, instance: key.clone(), namespace: namespace.to_owned() }),
    }
}

/// What keeps an instance from being used, in its own words; nothing when it is ready.
#[must_use]
pub fn not_ready(instance: &KarmadaInstance) -> Option<String> {
    let conditions = instance.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match find(conditions, READY) {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(condition.message.clone()),
        None => Some("it has not been installed yet".to_owned()),
    }
}

/// Why there is no plane of an instance: one that is ready is only a moment away.
#[must_use]
pub fn no_plane(instance: &KarmadaInstance, error: &PlaneError) -> InstanceRefError {
    let (PlaneError::Unavailable(key) | PlaneError::Connecting(key)) = error;
    match not_ready(instance) {
        Some(message) => InstanceRefError::NotReady { instance: key.clone(), message },
        None => InstanceRefError::Connecting(key.clone()),
    }
}

/// Whether the plane of an instance that is being deleted, and cannot be had, is taken for gone with all that is in it.
#[must_use]
pub fn is_plane_given_up(instance: &KarmadaInstance, now: Timestamp) -> bool {
    let deleted = instance.metadata.deletion_timestamp.as_ref();
    deleted.is_some_and(|since| now.as_second() - since.0.as_second() >= DELETION_GRACE_PERIOD_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn instance(allowed: Value, conditions: Value) -> KarmadaInstance {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
            "metadata": {"name": "fleet", "namespace": "platform"},
            "spec": {"tenancy": {"allowedNamespaces": allowed}},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn key() -> InstanceKey {
        InstanceKey { namespace: "platform".into(), name: "fleet".into() }
    }

    #[test]
    fn an_instance_is_used_by_its_own_namespace_and_by_those_that_it_allows() {
        let shared = || Some(instance(json!(["team"]), json!([])));
        let cases = [
            ("its own namespace", shared(), "platform", None),
            ("a namespace that it allows", shared(), "team", None),
            ("a namespace that it does not allow", shared(), "other", Some("InstanceNotShared")),
            ("not there, in its own namespace", None, "platform", Some("InstanceNotFound")),
            ("not there, from elsewhere", None, "team", Some("InstanceNotShared")),
        ];
        for (name, found, namespace, want) in cases {
            let got = resolve(found, &key(), namespace, "spec.instanceRef");
            assert_eq!(got.as_ref().err().map(Classified::reason), want, "{name}");
            if let Err(error) = got {
                assert!(error.to_string().starts_with("spec.instanceRef: "), "{name}: {error}");
            }
        }
        let missing = resolve(None::<KarmadaInstance>, &key(), "team", "f").unwrap_err();
        let refused = resolve(Some(instance(json!([]), json!([]))), &key(), "team", "f").unwrap_err();
        assert_eq!(missing, refused, "a tenant cannot tell whether an instance of somebody else exists");
    }

    #[test]
    fn a_plane_that_is_not_there_is_explained_by_its_instance() {
        let ready = |status: &str| {
            json!([{"type": "Ready", "status": status, "reason": "R", "message": "etcd is down",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}])
        };
        for (conditions, want) in [
            (json!([]), "KarmadaInstance platform/fleet is not ready: it has not been installed yet"),
            (ready("False"), "KarmadaInstance platform/fleet is not ready: etcd is down"),
            (ready("True"), "connecting to the plane of KarmadaInstance platform/fleet"),
        ] {
            for error in [PlaneError::Unavailable(key()), PlaneError::Connecting(key())] {
                let error = no_plane(&instance(json!([]), conditions.clone()), &error);
                assert_eq!((error.to_string().as_str(), error.reason()), (want, "InstanceNotReady"));
            }
        }
    }

    #[test]
    fn a_plane_that_is_only_away_is_not_gone() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let given_up = |deleted: Option<&str>| {
            let metadata = json!({"name": "east", "namespace": "fleet", "deletionTimestamp": deleted});
            let instance = json!({"apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
                "metadata": metadata, "spec": {}});
            is_plane_given_up(&serde_json::from_value(instance).unwrap(), now)
        };
        assert!(!given_up(None));
        assert!(!given_up(Some("2026-01-01T00:09:59Z")), "one failed request is no end");
        assert!(given_up(Some("2026-01-01T00:05:00Z")));
    }
}

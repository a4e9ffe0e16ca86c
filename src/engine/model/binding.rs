//! Bindings of the plane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use super::super::key::{ClusterName, Uid};
use super::{generation, version};
use crate::karmada::binding::{BindingSpec, BindingStatus, ObjectReference};
use crate::karmada::shared::Shared;
use crate::karmada::{CLUSTER_POLICY_NAME_ANNOTATION, POLICY_NAME_ANNOTATION, POLICY_NAMESPACE_ANNOTATION};

/// Finalizer on bindings: members are cleaned before the binding goes.
pub const BINDING_FINALIZER: &str = "karmada.io/binding-controller";

/// Annotation on bindings: clusters that the object is no longer meant for but may still be in.
pub const REMOVING_ANNOTATION: &str = "airdock.dev/removing-from";

/// Annotation on bindings: what the policy selected that claimed the object, as a fingerprint.
pub const SELECTORS_ANNOTATION: &str = "airdock.dev/policy-selectors";

/// A binding of the plane.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Identity.
    pub uid: Uid,
    /// Version of the object.
    pub version: u64,
    /// Generation of its spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its finalizers.
    pub finalizers: Shared<Vec<String>>,
    /// Its owners.
    pub owners: Owners,
    /// Its annotations.
    pub annotations: Shared<BTreeMap<String, String>>,
    /// Its labels.
    pub labels: Shared<BTreeMap<String, String>>,
    /// Where the object goes.
    pub spec: Arc<BindingSpec>,
    /// Clusters that the object is no longer meant for but may still be in.
    pub removing: BTreeSet<ClusterName>,
    /// What was last reported.
    pub status: BindingStatus,
}

/// The owners of a binding.
#[derive(Clone, Debug, PartialEq)]
pub enum Owners {
    /// Its object alone, by uid, as [`owner_reference`] has it; as good as always.
    Object(Uid),
    /// These.
    Listed(Vec<OwnerReference>),
}

impl Owners {
    fn of(object: &ObjectReference, owners: Vec<OwnerReference>) -> Self {
        match &owners[..] {
            [owner] if *owner == owner_reference(object, &owner.uid) => Self::Object(owner.uid.as_str().into()),
            _ => Self::Listed(owners),
        }
    }
}

/// The owner that a binding has: the object that it is for.
#[must_use]
pub fn owner_reference(object: &ObjectReference, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
        name: object.name.clone(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

impl Binding {
    /// What is remembered of a binding; nothing when it is not understood.
    pub fn of(object: Value) -> Result<Self, serde_json::Error> {
        #[derive(serde::Deserialize)]
        struct Wire {
            metadata: ObjectMeta,
            spec: BindingSpec,
            #[serde(default)]
            status: BindingStatus,
        }
        let (version, generation) = (version(&object), generation(&object));
        let wire: Wire = serde_json::from_value(object)?;
        let annotations = wire.metadata.annotations.unwrap_or_default();
        let removing = annotations.get(REMOVING_ANNOTATION).map(String::as_str).unwrap_or_default();
        let removing = removing.split(',').filter(|name| !name.is_empty()).map(ClusterName::from).collect();
        Ok(Self {
            uid: wire.metadata.uid.unwrap_or_default().into(),
            version,
            generation,
            deleting: wire.metadata.deletion_timestamp.is_some(),
            finalizers: wire.metadata.finalizers.unwrap_or_default().into(),
            owners: Owners::of(&wire.spec.resource, wire.metadata.owner_references.unwrap_or_default()),
            annotations: annotations.into(),
            labels: wire.metadata.labels.unwrap_or_default().into(),
            spec: Arc::new(wire.spec),
            removing,
            status: wire.status,
        })
    }

    /// Whether the object is meant for a cluster.
    #[must_use]
    pub fn targets(&self, cluster: &ClusterName) -> bool {
        self.spec.clusters.iter().any(|target| *cluster == *target.name)
    }

    /// Every cluster that the object may be in.
    pub fn inventory(&self) -> impl Iterator<Item = ClusterName> + '_ {
        let targets = self.spec.clusters.iter().map(|target| ClusterName::from(target.name.as_str()));
        targets.chain(self.removing.iter().cloned())
    }

    /// The policy that claimed the object, by namespace (nothing for a ClusterPropagationPolicy) and name.
    #[must_use]
    pub fn policy(&self) -> Option<(Option<&str>, &str)> {
        let get = |name: &str| self.annotations.get(name).map(String::as_str);
        match (get(POLICY_NAMESPACE_ANNOTATION), get(POLICY_NAME_ANNOTATION)) {
            (Some(namespace), Some(name)) => Some((Some(namespace), name)),
            _ => get(CLUSTER_POLICY_NAME_ANNOTATION).map(|name| (None, name)),
        }
    }

    /// Uid of the object that it belongs to; nothing when that was deleted without it.
    #[must_use]
    pub fn controller_uid(&self) -> Option<&str> {
        match &self.owners {
            Owners::Object(uid) => Some(uid.as_str()),
            Owners::Listed(all) => {
                all.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
            }
        }
    }

    /// Its owners, as its metadata has them.
    #[must_use]
    pub fn owner_references(&self) -> Vec<OwnerReference> {
        match &self.owners {
            Owners::Object(uid) => vec![owner_reference(&self.spec.resource, uid.as_str())],
            Owners::Listed(all) => all.clone(),
        }
    }

    /// Whether the binding keeps members' objects when it goes.
    #[must_use]
    pub fn preserves(&self) -> bool {
        self.spec.preserve_resources_on_deletion.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn owners_come_back_as_they_were() {
        let owner = |uid: &str, name: &str, controller: bool| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid,
            "controller": controller, "blockOwnerDeletion": true})
        };
        for (owners, controller, is_short) in [
            (json!([owner("t", "x", true)]), Some("t"), true),
            (json!([owner("t", "x", false)]), None, false),
            (json!([owner("t", "y", true)]), Some("t"), false),
            (json!([owner("s", "x", false), owner("t", "x", true)]), Some("t"), false),
            (json!([]), None, false),
        ] {
            let resource =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "x", "uid": "t"});
            let object = json!({"metadata": {"ownerReferences": owners}, "spec": {"resource": resource}});
            let binding = Binding::of(object).unwrap();
            assert_eq!(binding.controller_uid(), controller, "{owners}");
            assert_eq!(matches!(binding.owners, Owners::Object(_)), is_short, "{owners}");
            assert_eq!(json!(binding.owner_references()), owners);
        }
    }
}

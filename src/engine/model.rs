//! What the engine remembers of objects. Bodies are kept as JSON text, and only where they are needed: parsed JSON takes
//! about ten times as much memory.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::key::{ClusterName, PlaneId, Uid};
use super::marks::Marks;
use super::stamp::{
    ADOPTED_ANNOTATION, PLANE_ANNOTATION, TEMPLATE_UID_ANNOTATION, manifest_fingerprint, template_generation,
};
use super::update::has_foreign_fields;
use crate::api::CREATED_FOR_ANNOTATION;
use crate::interpret::{self, Health};
use crate::karmada::binding::{BindingSpec, BindingStatus, ObjectReference};
use crate::karmada::shared::Shared;

/// Finalizer on bindings: members are cleaned before the binding goes.
pub const BINDING_FINALIZER: &str = "karmada.io/binding-controller";

/// Finalizer on clusters: a member is cleaned before its cluster goes.
pub const CLUSTER_FINALIZER: &str = "karmada.io/cluster-controller";

/// Annotation on bindings: clusters that the object is no longer meant for but may still be in.
pub const REMOVING_ANNOTATION: &str = "airdock.dev/removing-from";

/// Annotations on bindings: the policy that claimed the object.
pub const POLICY_NAMESPACE_ANNOTATION: &str = "propagationpolicy.karmada.io/namespace";
/// Annotation on bindings: what the policy selected that claimed the object, as a fingerprint.
pub const SELECTORS_ANNOTATION: &str = "airdock.dev/policy-selectors";
/// See [`POLICY_NAMESPACE_ANNOTATION`].
pub const POLICY_NAME_ANNOTATION: &str = "propagationpolicy.karmada.io/name";
/// See [`POLICY_NAMESPACE_ANNOTATION`].
pub const CLUSTER_POLICY_NAME_ANNOTATION: &str = "clusterpropagationpolicy.karmada.io/name";

/// An object of the plane that policies may claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Identity.
    pub uid: Uid,
    /// Version of the object.
    pub version: u64,
    /// Generation of its spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What becomes of its binding when it is deleted.
    pub cascade: Cascade,
    /// The object as overrides see it: without its status and version.
    pub body: Arc<str>,
    /// Its status.
    pub status: Arc<str>,
}

impl Template {
    /// What is remembered of an object.
    #[must_use]
    pub fn of(mut object: Value) -> Self {
        let status = object.get_mut("status").map(Value::take).filter(Value::is_object).unwrap_or_else(|| json!({}));
        let ((uid, version), generation) = (identity(&object), generation(&object));
        let (deleting, cascade) = (is_deleting(&object), Cascade::of(&object));
        let body = interpret::without_state(object);
        let (body, status) = (body.to_string().into(), status.to_string().into());
        Self { uid, version, generation, deleting, cascade, body, status }
    }

    /// Hash of everything that members' objects are made from.
    #[must_use]
    pub fn content(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.uid, self.generation, self.deleting, &self.body).hash(&mut hasher);
        hasher.finish()
    }

    /// The object, parsed.
    #[must_use]
    pub fn parsed(&self) -> Value {
        parse(&self.body)
    }
}

/// What the deletion of an object means for those that it owns. Kubernetes keeps this in finalizers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cascade {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay without an owner.
    Orphan,
}

impl Cascade {
    fn of(object: &Value) -> Self {
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        let has = |name: &str| finalizers.is_some_and(|all| all.iter().any(|finalizer| finalizer == name));
        if has("orphan") {
            Self::Orphan
        } else if has("foregroundDeletion") {
            Self::Foreground
        } else {
            Self::Background
        }
    }
}

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
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
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

/// An object in a member that carries the label of managed objects.
#[derive(Clone, Debug)]
pub struct Live {
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

impl Live {
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn heartbeats_do_not_change_the_hash_but_edits_do() {
        let object = |version: &str, status: i64, data: &str| {
            Live::of(
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

//! What the engine remembers of objects. Bodies are kept as JSON text, and only where they are needed: parsed JSON takes
//! about ten times as much memory.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::key::{ClusterName, ObjectKey};
use super::marks::{Marks, NAME_ANNOTATION};
use super::update::has_foreign_fields;
use crate::api::CREATED_FOR_ANNOTATION;
use crate::interpret::{self, Health, TEMPLATE_GENERATION_ANNOTATION};
use crate::karmada::MANAGED_LABEL;
use crate::karmada::binding::{BindingSpec, BindingStatus};
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

/// An object of the plane that policies may claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Identity.
    pub uid: Arc<str>,
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
        let (uid, version, generation) = (text(&object, "/metadata/uid"), version(&object), generation(&object));
        let (deleting, cascade) = (is_deleting(&object), Cascade::of(&object));
        let body = interpret::without_state(object);
        let (body, status) = (body.to_string().into(), status.to_string().into());
        Self { uid: uid.into(), version, generation, deleting, cascade, body, status }
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
    pub uid: String,
    /// Version of the object.
    pub version: u64,
    /// Generation of its spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its finalizers.
    pub finalizers: Shared<Vec<String>>,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
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
            uid: wire.metadata.uid.unwrap_or_default(),
            version,
            generation,
            deleting: wire.metadata.deletion_timestamp.is_some(),
            finalizers: wire.metadata.finalizers.unwrap_or_default().into(),
            owners: wire.metadata.owner_references.unwrap_or_default(),
            annotations: annotations.into(),
            labels: wire.metadata.labels.unwrap_or_default().into(),
            spec: Arc::new(wire.spec),
            removing,
            status: wire.status,
        })
    }

    /// Whether the object is meant for a cluster.
    #[must_use]
    pub fn targets(&self, cluster: &str) -> bool {
        self.spec.clusters.iter().any(|target| target.name == cluster)
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
        self.owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
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
    pub uid: Box<str>,
    /// Version of the object.
    pub version: u64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Which plane it came from.
    pub plane: Option<Arc<str>>,
    /// Uid of the template that it came from.
    pub template: Option<Arc<str>>,
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
            annotations.and_then(|all| all.get(name)).and_then(Value::as_str).map(Arc::<str>::from)
        };
        let (plane, template) = (annotation(PLANE_ANNOTATION), annotation(TEMPLATE_UID_ANNOTATION));
        let (manifest, template_generation) = (manifest_fingerprint(&object), template_generation(&object));
        let (uid, version, deleting) = (text(&object, "/metadata/uid"), version(&object), is_deleting(&object));
        let adopted = annotation(ADOPTED_ANNOTATION).is_some();
        let marks = Marks::of_object(&object);
        let is_namespace = text(&object, "/kind") == "Namespace" && text(&object, "/apiVersion") == "v1";
        let created_for_applications = is_namespace && annotation(CREATED_FOR_ANNOTATION).is_some();
        let has_foreign_fields = has_foreign_fields(&object);
        let (status, health) = (interpret::reflect(&object), interpret::health(&object));
        strip(&mut object);
        let body = object.to_string();
        Self {
            uid: uid.into(),
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

/// Marks a manifest as managed, and says where it came from and what it is.
pub fn stamp(manifest: &mut Value, key: &ObjectKey, plane: &str, template: Option<&Template>) {
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let mut put = |map: &str, name: &str, value: &str| {
        let map = metadata.entry(map).or_insert_with(|| json!({}));
        if let Some(map) = map.as_object_mut() {
            map.insert(name.to_owned(), json!(value));
        }
    };
    put("labels", MANAGED_LABEL, "true");
    put("annotations", PLANE_ANNOTATION, plane);
    if key.kind.is_namespace() {
        put("annotations", NAME_ANNOTATION, &key.name);
    }
    if let Some(template) = template {
        put("annotations", TEMPLATE_UID_ANNOTATION, &template.uid);
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
pub fn identity(object: &Value) -> (&str, u64) {
    (object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default(), version(object))
}

fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}

fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

#[cfg(test)]
mod tests {
    use super::super::key::KindKey;
    use super::*;

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

    #[test]
    fn stamps_lead_back() {
        let key = ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some("shop".into()), name: "x".into() };
        let template =
            Template::of(json!({"metadata": {"name": "x", "uid": "t", "generation": 4, "resourceVersion": "9"}}));
        let mut manifest = json!({"metadata": {"name": "x"}});
        stamp(&mut manifest, &key, "plane-1", Some(&template));
        let live = Live::of(manifest.clone());
        assert_eq!(live.plane.as_deref(), Some("plane-1"));
        assert_eq!(live.template.as_deref(), Some("t"));
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
            stamp(&mut manifest, &key, "plane-1", None);
            text(&manifest, "/metadata/annotations/airdock.dev~1manifest")
        };
        let first = stamped(json!({"metadata": {"name": "x"}, "data": {"a": "1", "b": "2"}}));
        // Other processes, and later ones, come to the same.
        assert_eq!(first, "80ba6987f6ecdc5236a5b7c2246c122f");
        assert_ne!(first, stamped(json!({"metadata": {"name": "x"}, "data": {"a": "1"}})));
    }
}

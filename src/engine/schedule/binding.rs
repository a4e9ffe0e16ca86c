//! What a binding holds: its metadata, and what of it changes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::super::claim_metadata::ClaimMetadata;
use super::super::index::ScheduleInputs;
use super::super::key::{ClusterName, Key, KindKey, NamespaceName, ObjectKey};
use super::super::model::{BINDING_FINALIZER, Binding, REMOVING_ANNOTATION, SELECTORS_ANNOTATION};
use super::plan::Step;
use crate::karmada::binding::BindingSpec;
use crate::karmada::{ClusterResourceBinding, ResourceBinding};

/// A binding that is to be made.
pub(super) fn create(key: &Key, spec: &BindingSpec, claimant: &Claimant<'_>, owner: &OwnerReference) -> Step {
    let resource = binding_resource(key);
    let annotations = annotations(&BTreeMap::new(), Some(claimant), &BTreeSet::new());
    let labels = labels(&BTreeMap::new(), claimant);
    let mut metadata = json!({"name": key.binding_name(), "annotations": annotations, "labels": labels,
        "finalizers": [BINDING_FINALIZER], "ownerReferences": [owner]});
    if let Some(namespace) = &key.namespace {
        metadata["namespace"] = json!(namespace.as_str());
    }
    Step::Create(json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}))
}

/// What changes of a binding. Without a claimant its labels and annotations about policies stay, without an owner its owners.
pub(super) fn change(
    inputs: &ScheduleInputs,
    binding: &Binding,
    spec: &BindingSpec,
    claimant: Option<&Claimant<'_>>,
    owner: Option<&OwnerReference>,
) -> Step {
    let annotations = annotations(&binding.annotations, claimant, &removing(inputs, spec));
    let mut operations = Vec::new();
    let mut put = |path: &str, value: Value| operations.push(json!({"op": "add", "path": path, "value": value}));
    if *binding.spec != *spec {
        put("/spec", json!(spec));
    }
    if *binding.annotations != annotations {
        put("/metadata/annotations", json!(annotations));
    }
    if let Some(labels) = claimant.map(|claimant| labels(&binding.labels, claimant))
        && *binding.labels != labels
    {
        put("/metadata/labels", json!(labels));
    }
    if !binding.finalizers.iter().any(|name| name == BINDING_FINALIZER) {
        let all: Vec<&str> = binding.finalizers.iter().map(String::as_str).chain([BINDING_FINALIZER]).collect();
        put("/metadata/finalizers", json!(all));
    }
    let owners = binding.owner_references();
    let owner = owner.filter(|owner| !owners.contains(owner));
    if let Some(owner) = owner {
        let others = owners.iter().filter(|other| other.controller != Some(true));
        put("/metadata/ownerReferences", json!(others.chain([owner]).collect::<Vec<_>>()));
    }
    if operations.is_empty() {
        return Step::Nothing;
    }
    Step::Change { version: binding.version, operations, adopts: owner.map(|owner| owner.uid.as_str().into()) }
}

/// Clusters that the object is no longer meant for and may still be in.
fn removing(inputs: &ScheduleInputs, after: &BindingSpec) -> BTreeSet<ClusterName> {
    let meant = |cluster: &ClusterName| after.clusters.iter().any(|target| *cluster == *target.name);
    inputs.may_be_in.iter().filter(|cluster| !meant(cluster)).cloned().collect()
}

/// Who claims a template.
pub(super) enum Claimant<'a> {
    /// Nobody.
    None,
    /// A policy.
    Policy {
        /// Its namespace; nothing for a ClusterPropagationPolicy.
        namespace: Option<&'a str>,
        /// Its name.
        name: &'a str,
        /// Its permanent id, where it has one.
        id: Option<&'a str>,
        /// What it selects, as a fingerprint.
        selectors: String,
    },
}

impl Claimant<'_> {
    /// What tells on a binding and on its template who claims the template.
    pub(super) fn metadata(&self) -> ClaimMetadata {
        match self {
            Self::None => ClaimMetadata::default(),
            Self::Policy { namespace, name, id, .. } => ClaimMetadata::of_policy(*namespace, name, *id),
        }
    }
}

/// The labels of a binding: Karmada's clients find by them what a policy claims.
fn labels(before: &BTreeMap<String, String>, claimant: &Claimant<'_>) -> BTreeMap<String, String> {
    let mut all = before.clone();
    for (name, value) in claimant.metadata().labels() {
        put(&mut all, name, value);
    }
    all
}

fn annotations(
    before: &BTreeMap<String, String>,
    claimant: Option<&Claimant<'_>>,
    removing: &BTreeSet<ClusterName>,
) -> BTreeMap<String, String> {
    let mut all = before.clone();
    if let Some(claimant) = claimant {
        let selectors = match claimant {
            Claimant::None => None,
            Claimant::Policy { selectors, .. } => Some(selectors.as_str()),
        };
        put(&mut all, SELECTORS_ANNOTATION, selectors);
        for (name, value) in claimant.metadata().annotations() {
            put(&mut all, name, value);
        }
    }
    let names: Vec<&str> = removing.iter().map(ClusterName::as_str).collect();
    put(&mut all, REMOVING_ANNOTATION, (!names.is_empty()).then(|| names.join(",")).as_deref());
    all
}

/// Sets a label or an annotation, or removes it.
fn put(all: &mut BTreeMap<String, String>, name: &str, value: Option<&str>) {
    match value {
        Some(value) => all.insert(name.to_owned(), value.to_owned()),
        None => all.remove(name),
    };
}

/// The kind of an object's binding.
#[must_use]
pub fn binding_resource(key: &ObjectKey) -> ApiResource {
    match key.namespace {
        Some(_) => ApiResource::erase::<ResourceBinding>(&()),
        None => ApiResource::erase::<ClusterResourceBinding>(&()),
    }
}

/// The object that a binding is for.
#[must_use]
pub fn binding_key(binding: &Value) -> Option<Key> {
    let resource = binding.pointer("/spec/resource")?;
    let given = |field: &str| resource.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let key = Key::new(ObjectKey {
        kind: KindKey::new(given("apiVersion")?, given("kind")?),
        namespace: given("namespace").map(NamespaceName::from),
        name: given("name")?.to_owned(),
    });
    // A binding by another name or in another namespace is somebody's own invention, and none of ours. Who may write
    // bindings in one namespace is not to speak for objects of another.
    let of = |field: &str| binding.pointer(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let placed = of("/metadata/namespace") == key.namespace.as_deref();
    (placed && of("/metadata/name") == Some(&key.binding_name())).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_speaks_for_objects_of_its_own_namespace() {
        let binding = |name: &str, namespace: Option<&str>, of: Option<&str>| {
            binding_key(&json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"resource": {"apiVersion": "v1", "kind": "ConfigMap", "namespace": of, "name": "x"}}}))
        };
        let key = binding("x-configmap", Some("shop"), Some("shop")).unwrap();
        assert_eq!((key.namespace.as_deref(), key.name.as_str()), (Some("shop"), "x"));
        assert!(binding("x-configmap", None, None).is_some());
        for (name, namespace, of) in [
            ("x-configmap", Some("evil"), Some("shop")),
            ("x-configmap", Some("evil"), None),
            ("x-configmap", None, Some("shop")),
            ("y-configmap", Some("shop"), Some("shop")),
        ] {
            assert_eq!(binding(name, namespace, of), None, "{name} {namespace:?} {of:?}");
        }
    }
}

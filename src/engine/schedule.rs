//! From a template to its binding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{ApiResource, Resource};
use serde_json::{Value, json};

use super::Engine;
use super::index::{Index, PolicyKey};
use super::key::{ClusterName, Key, ObjectKey};
use super::model::{
    BINDING_FINALIZER, Binding, CLUSTER_POLICY_NAME_ANNOTATION, POLICY_NAME_ANNOTATION, POLICY_NAMESPACE_ANNOTATION,
    REMOVING_ANNOTATION, Template,
};
use super::queue::Outcome;
use super::rest::{Target, message};
use crate::distribute;
use crate::karmada::binding::BindingSpec;
use crate::karmada::policy::PropagationSpec;
use crate::karmada::{ClusterResourceBinding, ResourceBinding};
use crate::placement::{ClusterView, Policy};
use crate::runtime::error::is_conflict;

/// What is to be done about a binding.
#[derive(Debug)]
pub enum Step {
    /// Nothing, or not yet.
    Nothing,
    /// It is to be made.
    Create(Value),
    /// It is to be changed.
    Change {
        /// The version that the change is meant for.
        version: u64,
        /// JSON patch.
        operations: Vec<Value>,
    },
    /// It is to be deleted.
    Delete {
        /// Identity.
        uid: String,
    },
}

/// A step, and what was decided on the way.
#[derive(Debug)]
pub struct Plan {
    /// What is to be done.
    pub step: Step,
    /// Why the template goes nowhere.
    pub refusal: Option<(&'static str, String)>,
    /// Whether the template is claimed; nothing when that cannot be told.
    pub wanted: Option<bool>,
}

/// Decides about a template. Pure.
#[must_use]
pub fn plan(index: &Index, key: &Key) -> Plan {
    let idle = |step| Plan { step, refusal: None, wanted: Some(false) };
    let binding = index.binding(key);
    if index.is_template_unreadable(key) {
        return Plan { step: Step::Nothing, refusal: None, wanted: None };
    }
    let Some(template) = index.template(key) else {
        let gone = index.is_synced(&key.kind);
        return idle(binding.filter(|_| gone).map_or(Step::Nothing, |binding| ending(index, key, binding)));
    };
    if !template.deleting && binding.is_some_and(|binding| index.is_policy_unreadable(binding)) {
        return Plan { step: Step::Nothing, refusal: None, wanted: None };
    }
    let claim = if template.deleting { None } else { index.claim(key, &template.parsed()) };
    let Some((policy, spec)) = claim else {
        return idle(binding.map_or(Step::Nothing, |binding| ending(index, key, binding)));
    };
    match binding {
        // Somebody deleted the binding of a template that is still wanted: it is let go and made anew, and the members
        // notice nothing.
        Some(binding) if binding.deleting => Plan { step: release(binding), refusal: None, wanted: Some(true) },
        binding => {
            let (step, refusal) = place(index, key, template, &policy, &spec, binding);
            Plan { step, refusal, wanted: Some(true) }
        }
    }
}

/// The next step towards the end of a binding: delete it, wait until no member holds the object, let it go.
fn ending(index: &Index, key: &Key, binding: &Binding) -> Step {
    if !binding.deleting {
        return Step::Delete { uid: binding.uid.clone() };
    }
    if binding.inventory().all(|cluster| index.holds(&cluster, key) == Some(false)) {
        release(binding)
    } else {
        Step::Nothing
    }
}

fn release(binding: &Binding) -> Step {
    let others: Vec<_> = binding.finalizers.iter().filter(|name| *name != BINDING_FINALIZER).collect();
    if others.len() == binding.finalizers.len() {
        return Step::Nothing;
    }
    Step::Change {
        version: binding.version,
        operations: vec![json!({"op": "replace", "path": "/metadata/finalizers", "value": others})],
    }
}

fn place(
    index: &Index,
    key: &Key,
    template: &Template,
    (namespace, name): &PolicyKey,
    policy: &PropagationSpec,
    binding: Option<&Binding>,
) -> (Step, Option<(&'static str, String)>) {
    let claim = Policy { namespace: namespace.as_deref(), name, spec: policy };
    let views: Vec<ClusterView> = index.views.values().map(|view| (**view).clone()).collect();
    let previous = binding.map_or(&[][..], |binding| &binding.spec.clusters);
    let bound = distribute::bind(&template.parsed(), &claim, &views, previous);
    let refusal = bound.refusal.map(|refusal| (refusal.reason(), refusal.to_string()));

    let owner = OwnerReference {
        api_version: key.kind.api_version.clone(),
        kind: key.kind.kind.clone(),
        name: key.name.clone(),
        uid: template.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let removing = binding.map(|binding| removing(index, key, binding, &bound.spec)).unwrap_or_default();
    let annotations = annotations(binding.map(|binding| &binding.annotations), namespace.as_deref(), name, &removing);
    let Some(binding) = binding else {
        let (api_version, kind) = match key.namespace {
            Some(_) => (ResourceBinding::api_version(&()), ResourceBinding::kind(&())),
            None => (ClusterResourceBinding::api_version(&()), ClusterResourceBinding::kind(&())),
        };
        let mut metadata = json!({"name": key.binding_name(), "annotations": annotations,
            "finalizers": [BINDING_FINALIZER], "ownerReferences": [owner]});
        if let Some(namespace) = &key.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let body = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": bound.spec});
        return (Step::Create(body), refusal);
    };
    let mut operations = Vec::new();
    let mut put = |path: &str, value: Value| operations.push(json!({"op": "add", "path": path, "value": value}));
    if *binding.spec != bound.spec {
        put("/spec", json!(bound.spec));
    }
    if binding.annotations != annotations {
        put("/metadata/annotations", json!(annotations));
    }
    if !binding.finalizers.iter().any(|name| name == BINDING_FINALIZER) {
        let all: Vec<&str> = binding.finalizers.iter().map(String::as_str).chain([BINDING_FINALIZER]).collect();
        put("/metadata/finalizers", json!(all));
    }
    if !binding.owners.contains(&owner) {
        let others = binding.owners.iter().filter(|other| other.controller != Some(true)).cloned();
        put("/metadata/ownerReferences", json!(others.chain([owner]).collect::<Vec<_>>()));
    }
    let step =
        if operations.is_empty() { Step::Nothing } else { Step::Change { version: binding.version, operations } };
    (step, refusal)
}

/// Clusters that the object is no longer meant for and may still be in.
fn removing(index: &Index, key: &Key, before: &Binding, after: &BindingSpec) -> BTreeSet<ClusterName> {
    let meant = |cluster: &ClusterName| after.clusters.iter().any(|target| *target.name == **cluster);
    before.inventory().filter(|cluster| !meant(cluster) && index.holds(cluster, key) != Some(false)).collect()
}

fn annotations(
    before: Option<&BTreeMap<String, String>>,
    namespace: Option<&str>,
    name: &str,
    removing: &BTreeSet<ClusterName>,
) -> BTreeMap<String, String> {
    let mut all = before.cloned().unwrap_or_default();
    for ours in
        [POLICY_NAMESPACE_ANNOTATION, POLICY_NAME_ANNOTATION, CLUSTER_POLICY_NAME_ANNOTATION, REMOVING_ANNOTATION]
    {
        all.remove(ours);
    }
    match namespace {
        Some(namespace) => {
            all.insert(POLICY_NAMESPACE_ANNOTATION.to_owned(), namespace.to_owned());
            all.insert(POLICY_NAME_ANNOTATION.to_owned(), name.to_owned());
        }
        None => {
            all.insert(CLUSTER_POLICY_NAME_ANNOTATION.to_owned(), name.to_owned());
        }
    }
    if !removing.is_empty() {
        let names: Vec<&str> = removing.iter().map(|name| &**name).collect();
        all.insert(REMOVING_ANNOTATION.to_owned(), names.join(","));
    }
    all
}

/// The kind of an object's binding.
#[must_use]
pub fn binding_resource(key: &ObjectKey) -> ApiResource {
    match key.namespace {
        Some(_) => ApiResource::erase::<ResourceBinding>(&()),
        None => ApiResource::erase::<ClusterResourceBinding>(&()),
    }
}

/// Brings a template's binding to what it should be. IO.
pub(super) async fn run(engine: Arc<Engine>, key: Key) -> Outcome {
    let plan = plan(&engine.index(), &key);
    if let Some(wanted) = plan.wanted {
        engine.change(|index| index.decided(&key, wanted, plan.refusal.clone()));
    }
    let resource = binding_resource(&key);
    let name = key.binding_name();
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &name };
    let written = match &plan.step {
        Step::Nothing => Ok(None),
        Step::Create(body) => engine.rest.create(&target, body.to_string().into_bytes()).await.map(Some),
        Step::Change { version, operations } => {
            engine.rest.patch(&target, *version, operations.clone()).await.map(Some)
        }
        Step::Delete { uid } => match engine.rest.delete(&target, uid).await {
            Ok(None) => {
                engine.change(|index| index.remove_binding(&key, Some((uid, u64::MAX))));
                return Outcome::Done;
            }
            other => other,
        },
    };
    match written {
        Ok(None) => Outcome::Done,
        Ok(Some(object)) => {
            ingest(&engine, &key, object, false);
            Outcome::Done
        }
        Err(error) if is_conflict(&error) || matches!(&error, kube::Error::Api(status) if status.code == 404) => {
            look_again(&engine, &key, &target).await
        }
        Err(error) => {
            tracing::warn!(object = %key, error = message(&error), "binding was not written; trying again");
            Outcome::Failed
        }
    }
}

/// The binding is not as it was known: what is there now decides.
async fn look_again(engine: &Engine, key: &Key, target: &Target<'_>) -> Outcome {
    match engine.rest.get(target).await {
        Ok(Some(object)) => {
            let ours = binding_key(&object).is_some_and(|found| found == *key);
            if !ours {
                let name = target.name;
                tracing::error!(object = %key, binding = name, "the name of the binding is taken by another object's");
                return Outcome::Stuck;
            }
            ingest(engine, key, object, true);
        }
        Ok(None) => {
            engine.change(|index| index.remove_binding(key, None));
        }
        Err(error) => tracing::debug!(object = %key, error = message(&error), "binding was not read"),
    }
    Outcome::Failed
}

/// The object that a binding is for.
#[must_use]
pub fn binding_key(binding: &Value) -> Option<Key> {
    let resource = binding.pointer("/spec/resource")?;
    let text = |field: &str| resource.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let key = Key::new(ObjectKey {
        kind: super::key::KindKey::new(text("apiVersion")?, text("kind")?),
        namespace: text("namespace").map(str::to_owned),
        name: text("name")?.to_owned(),
    });
    // A binding by another name or in another namespace is somebody's own invention, and none of ours. Who may write
    // bindings in one namespace is not to speak for objects of another.
    let of = |field: &str| binding.pointer(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let placed = of("/metadata/namespace") == key.namespace.as_deref();
    (placed && of("/metadata/name") == Some(&key.binding_name())).then_some(key)
}

fn ingest(engine: &Engine, key: &Key, object: Value, relist: bool) {
    match Binding::of(object) {
        Ok(binding) => {
            // Without finalizers a deleted binding is gone with this very answer.
            if binding.deleting && binding.finalizers.is_empty() {
                engine.change(|index| index.remove_binding(key, Some((&binding.uid, binding.version))));
            } else {
                engine.change(|index| index.put_binding(key.clone(), binding, relist));
            }
        }
        Err(error) => tracing::warn!(object = %key, error = message(&error), "binding is not understood"),
    }
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

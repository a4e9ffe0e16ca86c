//! From a template to its binding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ApiResource;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Engine;
use super::events::Reason;
use super::index::{BoundOtherwise, ScheduleInputs, as_policy};
use super::key::{ClusterName, Key, ObjectKey, Uid};
use super::model::{
    BINDING_FINALIZER, Binding, CLUSTER_POLICY_NAME_ANNOTATION, Cascade, POLICY_NAME_ANNOTATION,
    POLICY_NAMESPACE_ANNOTATION, REMOVING_ANNOTATION, SELECTORS_ANNOTATION, Template, identity, owner_reference,
};
use super::policy::UNREADABLE;
use super::queue::Outcome;
use super::rest::Target;
use crate::distribute;
use crate::karmada::binding::BindingSpec;
use crate::karmada::policy::ResourceSelector;
use crate::karmada::{
    CLUSTER_POLICY_PERMANENT_ID_LABEL, ClusterResourceBinding, POLICY_PERMANENT_ID_LABEL, ResourceBinding,
};
use crate::machinery::error::{chain, is_conflict};
use crate::placement::{self, Claim, ClusterView, Previous};

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
        /// Uid of the template that becomes the binding's owner.
        adopts: Option<Uid>,
    },
    /// It is to be deleted.
    Delete {
        /// Identity.
        uid: Uid,
    },
}

/// A step, and what was decided on the way.
#[derive(Debug)]
pub struct Plan {
    /// What is to be done.
    pub step: Step,
    /// Why the template goes nowhere.
    pub refusal: Option<(&'static str, String)>,
    /// Whether the template stands for what members have; nothing while that is not known.
    pub wanted: Option<bool>,
}

/// Decides about a template. Pure.
///
/// A binding outlives the policy that it was made for, and goes with its template.
#[must_use]
pub fn plan(inputs: &ScheduleInputs) -> Plan {
    let binding = inputs.binding.as_deref();
    if inputs.is_template_unreadable {
        return Plan { step: Step::Nothing, refusal: None, wanted: None };
    }
    let Some(template) = &inputs.template else { return plan_without_template(inputs) };
    let keep = |step| Plan { step, refusal: None, wanted: Some(true) };
    match (template.deleting, template.cascade) {
        // The garbage collector takes the owner off the binding, which a write would only disturb.
        (true, Cascade::Orphan) => return keep(Step::Nothing),
        (true, Cascade::Foreground) => return end(inputs),
        // Somebody's finalizer holds the template. Until it is gone, members keep what they have.
        (true, Cascade::Background) if binding.is_none_or(|binding| binding.deleting) => return keep(Step::Nothing),
        _ => {}
    }
    let unreadable = || inputs.unreadable_policy.as_ref().map(|policy| (UNREADABLE, policy.message.clone()));
    if inputs.unreadable_policy.as_ref().is_some_and(|policy| !policy.was_understood) {
        return Plan { step: Step::Nothing, refusal: unreadable(), wanted: None };
    }
    let object = template.parsed();
    let current = binding.and_then(Binding::policy);
    if let Some(binding) = binding.filter(|binding| !binding.deleting && !is_of_another(binding, template))
        && is_held(inputs, &object, binding)
    {
        return stay(inputs, binding, None);
    }
    match (placement::claim(&object, inputs.policies.iter().map(as_policy), current), binding) {
        // Somebody deleted the binding of a template that is still claimed: it is let go and made anew, and the members
        // notice nothing.
        (Some(_), Some(binding)) if binding.deleting => keep(release(binding)),
        (Some(_), None) if inputs.bound_otherwise.as_ref().is_some_and(|other| is_held_by(other, &object)) => {
            keep(Step::Nothing)
        }
        (Some(claim), binding) => {
            // Claimed by this version alone now, the object takes its binding along.
            let binding = binding.or_else(|| inputs.bound_otherwise.as_ref().map(|other| &*other.binding));
            let (step, refusal) = place(inputs, &object, template, &claim, binding);
            Plan { step, refusal: refusal.or_else(unreadable), wanted: Some(true) }
        }
        (None, Some(binding)) if !binding.deleting && !is_of_another(binding, template) => {
            stay(inputs, binding, Some(&Claimant::None))
        }
        (None, _) => end(inputs),
    }
}

/// Whether a policy holds a template that it no longer selects: the template was relabelled, while the policy selects what
/// it did when it claimed the template. Such a template stays where it is, whoever else selects it, until that policy
/// changes its selectors or goes.
fn is_held(inputs: &ScheduleInputs, object: &Value, binding: &Binding) -> bool {
    let current = binding.policy();
    let policy = inputs.policies.iter().map(as_policy).find(|policy| current == Some((policy.namespace, policy.name)));
    policy.is_some_and(|policy| {
        binding.annotations.get(SELECTORS_ANNOTATION) == Some(&fingerprint(&policy.spec.resource_selectors))
            && placement::claim(object, [policy], None).is_none()
    })
}

/// Identifies selectors.
fn fingerprint(selectors: &[ResourceSelector]) -> String {
    Sha256::digest(json!(selectors).to_string()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The object stays where it is, as far as the clusters do.
fn stay(inputs: &ScheduleInputs, binding: &Binding, claimant: Option<&Claimant<'_>>) -> Plan {
    let bound = distribute::rebind(&binding.spec, views(inputs));
    let refusal = bound.refusal.map(|refusal| (refusal.reason(), refusal.to_string()));
    let step = rewrite(inputs, binding, &bound.spec, claimant, None);
    Plan { step, refusal, wanted: Some(true) }
}

/// Whether an object's binding by another version of its kind stays that version's: it is claimed by it, or was by a policy
/// that is not understood, or is on its way out.
fn is_held_by(other: &BoundOtherwise, object: &Value) -> bool {
    let mut object = object.clone();
    object["apiVersion"] = json!(other.api_version);
    let claim = placement::claim(&object, other.policies.iter().map(as_policy), other.binding.policy());
    other.binding.deleting || other.is_policy_unreadable || claim.is_some()
}

/// Whether a binding belongs to an object that had the template's name before it.
fn is_of_another(binding: &Binding, template: &Template) -> bool {
    binding.controller_uid().is_some_and(|uid| template.uid != *uid)
}

/// Decides about a binding whose template is gone, or not known.
fn plan_without_template(inputs: &ScheduleInputs) -> Plan {
    let Some(binding) = &inputs.binding else { return end(inputs) };
    // Without an owner it was left behind on purpose (`--cascade=orphan`), with what members have.
    let ends = binding.deleting || binding.controller_uid().is_some();
    if ends && inputs.is_kind_synced {
        return end(inputs);
    }
    // There is nothing that could be sent anywhere, but clusters may leave.
    let mut spec = (*binding.spec).clone();
    spec.clusters.make_mut().retain(|target| inputs.views.get(target.name.as_str()).is_some_and(|view| !view.leaving));
    let step = if binding.deleting { Step::Nothing } else { rewrite(inputs, binding, &spec, None, None) };
    Plan { step, refusal: None, wanted: None }
}

/// The next step towards the end of a binding: delete it, wait until no member has the object, let it go.
fn end(inputs: &ScheduleInputs) -> Plan {
    let step = match &inputs.binding {
        None => Step::Nothing,
        Some(binding) if !binding.deleting => Step::Delete { uid: binding.uid.clone() },
        Some(binding) if inputs.may_be_in.is_empty() => release(binding),
        Some(_) => Step::Nothing,
    };
    Plan { step, refusal: None, wanted: Some(false) }
}

fn release(binding: &Binding) -> Step {
    let others: Vec<_> = binding.finalizers.iter().filter(|name| *name != BINDING_FINALIZER).collect();
    if others.len() == binding.finalizers.len() {
        return Step::Nothing;
    }
    Step::Change {
        version: binding.version,
        operations: vec![json!({"op": "replace", "path": "/metadata/finalizers", "value": others})],
        adopts: None,
    }
}

fn views(inputs: &ScheduleInputs) -> impl Iterator<Item = &ClusterView> {
    inputs.views.values().map(|view| &**view)
}

fn place(
    inputs: &ScheduleInputs,
    object: &Value,
    template: &Template,
    claim: &Claim<'_>,
    binding: Option<&Binding>,
) -> (Step, Option<(&'static str, String)>) {
    let key = &inputs.key;
    let previous = binding.map(|binding| Previous::from(&*binding.spec)).unwrap_or_default();
    let bound = distribute::bind(object, claim, views(inputs), previous);
    let refusal = bound.refusal.map(|refusal| (refusal.reason(), refusal.to_string()));
    let id = inputs.permanent_ids.get(&(claim.namespace.map(str::to_owned), claim.name.to_owned()));
    let claimant = Claimant::Policy {
        namespace: claim.namespace,
        name: claim.name,
        id: id.map(|id| &**id),
        selectors: fingerprint(&claim.spec.resource_selectors),
    };
    let owner = owner_reference(&bound.spec.resource, template.uid.as_str());
    let step = match binding {
        Some(binding) => rewrite(inputs, binding, &bound.spec, Some(&claimant), Some(&owner)),
        None => create(key, &bound.spec, &claimant, &owner),
    };
    (step, refusal)
}

fn create(key: &Key, spec: &BindingSpec, claimant: &Claimant<'_>, owner: &OwnerReference) -> Step {
    let resource = binding_resource(key);
    let annotations = annotations(&BTreeMap::new(), Some(claimant), &BTreeSet::new());
    let labels = labels(&BTreeMap::new(), claimant);
    let mut metadata = json!({"name": key.binding_name(), "annotations": annotations, "labels": labels,
        "finalizers": [BINDING_FINALIZER], "ownerReferences": [owner]});
    if let Some(namespace) = &key.namespace {
        metadata["namespace"] = json!(namespace);
    }
    Step::Create(json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}))
}

/// What changes of a binding. Without a claimant its labels and annotations about policies stay, without an owner its owners.
fn rewrite(
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
enum Claimant<'a> {
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

/// The labels of a binding: Karmada's clients find by them what a policy claims.
fn labels(before: &BTreeMap<String, String>, claimant: &Claimant<'_>) -> BTreeMap<String, String> {
    let (policy, cluster_policy) = match claimant {
        Claimant::None => (None, None),
        Claimant::Policy { namespace: Some(_), id, .. } => (*id, None),
        Claimant::Policy { namespace: None, id, .. } => (None, *id),
    };
    let mut all = before.clone();
    for (name, value) in [(POLICY_PERMANENT_ID_LABEL, policy), (CLUSTER_POLICY_PERMANENT_ID_LABEL, cluster_policy)] {
        match value {
            Some(value) => all.insert(name.to_owned(), value.to_owned()),
            None => all.remove(name),
        };
    }
    all
}

fn annotations(
    before: &BTreeMap<String, String>,
    claimant: Option<&Claimant<'_>>,
    removing: &BTreeSet<ClusterName>,
) -> BTreeMap<String, String> {
    let mut all = before.clone();
    let mut put = |name: &str, value: Option<&str>| match value {
        Some(value) => all.insert(name.to_owned(), value.to_owned()),
        None => all.remove(name),
    };
    if let Some(claimant) = claimant {
        let (namespace, name, cluster_policy) = match claimant {
            Claimant::None => (None, None, None),
            Claimant::Policy { namespace: Some(namespace), name, .. } => (Some(*namespace), Some(*name), None),
            Claimant::Policy { namespace: None, name, .. } => (None, None, Some(*name)),
        };
        let selectors = match claimant {
            Claimant::None => None,
            Claimant::Policy { selectors, .. } => Some(selectors.as_str()),
        };
        put(SELECTORS_ANNOTATION, selectors);
        put(POLICY_NAMESPACE_ANNOTATION, namespace);
        put(POLICY_NAME_ANNOTATION, name);
        put(CLUSTER_POLICY_NAME_ANNOTATION, cluster_policy);
    }
    let names: Vec<&str> = removing.iter().map(ClusterName::as_str).collect();
    put(REMOVING_ANNOTATION, (!names.is_empty()).then(|| names.join(",")).as_deref());
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
    // The lock is held for the look-ups alone: eight workers decide at the same time.
    let inputs = engine.index().schedule_inputs(&key);
    let plan = plan(&inputs);
    if plan.wanted.is_some() || plan.refusal.is_some() {
        let content = inputs.template.as_deref().map(Template::content);
        let now = engine.now();
        engine.change(|index| index.decided(&key, content, plan.wanted, plan.refusal.clone(), now));
    }
    if let (Some(template), Some((_, why))) = (&inputs.template, &plan.refusal) {
        engine.events.send(&key, &template.uid, Reason::ScheduleBindingFailed, why.clone());
    }
    let resource = binding_resource(&key);
    let name = key.binding_name();
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &name };
    let written = match &plan.step {
        Step::Nothing => Ok(None),
        Step::Create(body) => engine.rest.create(&target, body.to_string().into_bytes()).await.map(Some),
        Step::Change { adopts: Some(uid), .. } if !is_there(&engine, &key, uid).await => return Outcome::Failed,
        Step::Change { version, operations, .. } => {
            engine.rest.patch(&target, *version, operations.clone()).await.map(Some)
        }
        Step::Delete { uid } => match engine.rest.delete(&target, uid, None).await {
            Ok(None) => {
                engine.change(|index| index.remove_binding(&key, Some((uid.clone(), u64::MAX))));
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
            tracing::warn!(object = %key, error = chain(&error), "binding was not written; trying again");
            Outcome::Failed
        }
    }
}

/// Whether a template is there for certain. The garbage collector takes the owner off the binding of a template that is
/// deleted with `--cascade=orphan`; putting it back because of an old event would have the binding deleted, too.
async fn is_there(engine: &Engine, key: &Key, uid: &Uid) -> bool {
    let Some(resource) = engine.plane_resource(&key.kind) else { return false };
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &key.name };
    match engine.rest.get(&target).await {
        Ok(Some(object)) => identity(&object).0 == *uid && object.pointer("/metadata/deletionTimestamp").is_none(),
        Ok(None) => false,
        Err(error) => {
            tracing::debug!(object = %key, error = chain(&error), "template was not read");
            false
        }
    }
}

/// The binding is not as it was known: what is there now decides.
async fn look_again(engine: &Engine, key: &Key, target: &Target<'_>) -> Outcome {
    match engine.rest.get(target).await {
        Ok(Some(object)) => {
            let is_same = |found: &Key| {
                found == key
                    || (found.kind.is_other_version_of(&key.kind)
                        && (&found.namespace, &found.name) == (&key.namespace, &key.name))
            };
            let Some(found) = binding_key(&object).filter(is_same) else {
                let name = target.name;
                tracing::error!(object = %key, binding = name, "the name of the binding is taken by another object's");
                return Outcome::Stuck;
            };
            ingest(engine, &found, object, true);
        }
        Ok(None) => {
            engine.change(|index| index.remove_binding(key, None));
        }
        Err(error) => tracing::debug!(object = %key, error = chain(&error), "binding was not read"),
    }
    Outcome::Failed
}

/// The object that a binding is for.
#[must_use]
pub fn binding_key(binding: &Value) -> Option<Key> {
    let resource = binding.pointer("/spec/resource")?;
    let given = |field: &str| resource.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let key = Key::new(ObjectKey {
        kind: super::key::KindKey::new(given("apiVersion")?, given("kind")?),
        namespace: given("namespace").map(str::to_owned),
        name: given("name")?.to_owned(),
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
                engine.change(|index| index.remove_binding(key, Some((binding.uid, binding.version))));
            } else {
                engine.change(|index| index.put_binding(key.clone(), binding, relist));
            }
        }
        Err(error) => tracing::warn!(object = %key, error = chain(&error), "binding is not understood"),
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

//! Where a template goes, and the next step of its binding. Pure.

use serde_json::{Value, json};

use super::super::claim_metadata::ClaimMetadata;
use super::super::index::{BoundOtherwise, ScheduleInputs, policy_ref};
use super::super::key::{NamespaceName, Uid};
use super::super::model::{BINDING_FINALIZER, Binding, Cascade, SELECTORS_ANNOTATION, Template, owner_reference};
use super::super::policy::POLICY_UNSUPPORTED;
use super::binding::{Claimant, change, create};
use crate::distribute;
use crate::karmada::policy::ResourceSelector;
use crate::machinery::hash::sha256_hex;
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
    pub not_scheduled: Option<(&'static str, String)>,
    /// Whether the template stands for what members have; nothing while that is not known.
    pub wanted: Option<bool>,
    /// What is to tell on the template which policy claims it; nothing while that is not known, or not to be written. What
    /// is there of it has no say in any decision: anybody may have written it.
    pub claim: Option<ClaimMetadata>,
}

/// Decides about a template. Pure.
///
/// A binding outlives the policy that it was made for, and goes with its template.
#[must_use]
pub fn plan(inputs: &ScheduleInputs) -> Plan {
    let plan = plan_binding(inputs);
    // Who may write bindings may name anything in one. What policies may not claim is nevertheless not written.
    Plan { claim: plan.claim.filter(|_| inputs.is_claimable), ..plan }
}

fn plan_binding(inputs: &ScheduleInputs) -> Plan {
    let binding = inputs.binding.as_deref();
    if inputs.is_template_unreadable {
        return Plan { step: Step::Nothing, not_scheduled: None, wanted: None, claim: None };
    }
    let Some(template) = &inputs.template else { return plan_without_template(inputs) };
    let keep = |step| Plan { step, not_scheduled: None, wanted: Some(true), claim: None };
    match (template.deleting, template.cascade) {
        // The garbage collector takes the owner off the binding, which a write would only disturb.
        (true, Cascade::Orphan) => return keep(Step::Nothing),
        (true, Cascade::Foreground) => return remove(inputs),
        // Somebody's finalizer holds the template. Until it is gone, members keep what they have.
        (true, Cascade::Background) if binding.is_none_or(|binding| binding.deleting) => return keep(Step::Nothing),
        _ => {}
    }
    let unreadable = || inputs.unreadable_policy.as_ref().map(|policy| (POLICY_UNSUPPORTED, policy.message.clone()));
    if inputs.unreadable_policy.as_ref().is_some_and(|policy| !policy.was_understood) {
        return Plan { step: Step::Nothing, not_scheduled: unreadable(), wanted: None, claim: None };
    }
    let object = template.parsed();
    let current = binding.and_then(Binding::policy);
    if let Some(binding) = binding.filter(|binding| !binding.deleting && !is_of_another(binding, template))
        && let Some(policy) = keeping_policy(inputs, &object, binding)
    {
        return keep_placement(inputs, binding, &claimant(inputs, &policy));
    }
    match (placement::claim(&object, inputs.policies.iter().map(policy_ref), current), binding) {
        // Somebody deleted the binding of a template that is still claimed: it is let go and made anew, and the members
        // notice nothing.
        (Some(_), Some(binding)) if binding.deleting => keep(remove_finalizer(binding)),
        (Some(_), None)
            if inputs.bound_otherwise.as_ref().is_some_and(|other| is_kept_by_other_version(other, &object)) =>
        {
            keep(Step::Nothing)
        }
        (Some(claim), binding) => {
            // Claimed by this version alone now, the object takes its binding along.
            let binding = binding.or_else(|| inputs.bound_otherwise.as_ref().map(|other| &*other.binding));
            let claimant = claimant(inputs, &claim);
            let (step, not_scheduled) = bind(inputs, &object, template, (&claim, &claimant), binding);
            // Until the binding is there, an object that is watched by two versions looks unclaimed by the other one.
            let claim = inputs.binding.as_ref().map(|_| claimant.metadata());
            Plan { step, not_scheduled: not_scheduled.or_else(unreadable), wanted: Some(true), claim }
        }
        (None, Some(binding)) if !binding.deleting && !is_of_another(binding, template) => {
            keep_placement(inputs, binding, &Claimant::None)
        }
        (None, _) => {
            let is_unclaimed = inputs.bound_otherwise.is_none();
            Plan { claim: is_unclaimed.then(ClaimMetadata::default), ..remove(inputs) }
        }
    }
}

/// The policy that holds a template that it no longer selects: the template was relabelled, while the policy selects what
/// it did when it claimed the template. Such a template stays where it is, whoever else selects it, until that policy
/// changes its selectors or goes.
fn keeping_policy<'a>(inputs: &'a ScheduleInputs, object: &Value, binding: &Binding) -> Option<Claim<'a>> {
    let current = binding.policy();
    let policy = inputs.policies.iter().map(policy_ref).find(|policy| current == Some((policy.namespace, policy.name)));
    policy.filter(|policy| {
        binding.annotations.get(SELECTORS_ANNOTATION) == Some(&fingerprint(&policy.spec.resource_selectors))
            && placement::claim(object, [*policy], None).is_none()
    })
}

/// Identifies selectors.
fn fingerprint(selectors: &[ResourceSelector]) -> String {
    sha256_hex([json!(selectors).to_string()], 16)
}

/// The object stays where it is, as far as the clusters do.
fn keep_placement(inputs: &ScheduleInputs, binding: &Binding, claimant: &Claimant<'_>) -> Plan {
    let bound = distribute::rebind(&binding.spec, views(inputs));
    let not_scheduled = bound.fit_error.map(|error| (error.reason(), error.to_string()));
    let step = change(inputs, binding, &bound.spec, Some(claimant), None);
    Plan { step, not_scheduled, wanted: Some(true), claim: Some(claimant.metadata()) }
}

/// Whether an object's binding by another version of its kind stays that version's: it is claimed by it, or was by a policy
/// that is not understood, or is on its way out.
fn is_kept_by_other_version(other: &BoundOtherwise, object: &Value) -> bool {
    let mut object = object.clone();
    object["apiVersion"] = json!(other.api_version);
    let claim = placement::claim(&object, other.policies.iter().map(policy_ref), other.binding.policy());
    other.binding.deleting || other.is_policy_unreadable || claim.is_some()
}

/// Whether a binding belongs to an object that had the template's name before it.
fn is_of_another(binding: &Binding, template: &Template) -> bool {
    binding.controller_uid().is_some_and(|uid| template.uid != *uid)
}

/// Decides about a binding whose template is gone, or not known.
fn plan_without_template(inputs: &ScheduleInputs) -> Plan {
    let Some(binding) = &inputs.binding else { return remove(inputs) };
    // Without an owner it was left behind on purpose (`--cascade=orphan`), with what members have.
    let ends = binding.deleting || binding.controller_uid().is_some();
    if ends && inputs.is_kind_synced {
        return remove(inputs);
    }
    // There is nothing that could be sent anywhere, but clusters may leave.
    let mut spec = (*binding.spec).clone();
    spec.clusters.make_mut().retain(|target| inputs.views.get(target.name.as_str()).is_some_and(|view| !view.leaving));
    let step = if binding.deleting { Step::Nothing } else { change(inputs, binding, &spec, None, None) };
    Plan { step, not_scheduled: None, wanted: None, claim: None }
}

/// The next step towards the end of a binding: delete it, wait until no member has the object, let it go.
fn remove(inputs: &ScheduleInputs) -> Plan {
    let step = match &inputs.binding {
        None => Step::Nothing,
        Some(binding) if !binding.deleting => Step::Delete { uid: binding.uid.clone() },
        Some(binding) if inputs.may_be_in.is_empty() => remove_finalizer(binding),
        Some(_) => Step::Nothing,
    };
    Plan { step, not_scheduled: None, wanted: Some(false), claim: None }
}

fn remove_finalizer(binding: &Binding) -> Step {
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

/// A policy as the claimant of a template.
fn claimant<'a>(inputs: &'a ScheduleInputs, claim: &Claim<'a>) -> Claimant<'a> {
    let id = inputs.permanent_ids.get(&(claim.namespace.map(NamespaceName::from), claim.name.to_owned()));
    Claimant::Policy {
        namespace: claim.namespace,
        name: claim.name,
        id: id.map(|id| &**id),
        selectors: fingerprint(&claim.spec.resource_selectors),
    }
}

fn bind(
    inputs: &ScheduleInputs,
    object: &Value,
    template: &Template,
    (claim, claimant): (&Claim<'_>, &Claimant<'_>),
    binding: Option<&Binding>,
) -> (Step, Option<(&'static str, String)>) {
    let key = &inputs.key;
    let previous = binding.map(|binding| Previous::from(&*binding.spec)).unwrap_or_default();
    let bound = distribute::bind(object, claim, views(inputs), previous);
    let not_scheduled = bound.fit_error.map(|error| (error.reason(), error.to_string()));
    let owner = owner_reference(&bound.spec.resource, template.uid.as_str());
    let step = match binding {
        Some(binding) => change(inputs, binding, &bound.spec, Some(claimant), Some(&owner)),
        None => create(key, &bound.spec, claimant, &owner),
    };
    (step, not_scheduled)
}

//! What is wanted of one object in one member. Pure.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::index::{Index, PolicyKey, policy_ref};
use super::key::{ClusterName, Key, ObjectKey, PlaneId, Uid};
use super::marks::{ADOPTED_ANNOTATION, Marks, manifest_fingerprint, mark, template_generation};
use super::model::{LiveObject, Template, hash, parse, text};
use super::update::{Update, update};
use crate::distribute;
use crate::interpret;
use crate::karmada::CONFLICT_RESOLUTION_ANNOTATION;
use crate::karmada::binding::BindingSpec;
use crate::karmada::policy::{ConflictResolution, OverrideSpec};
use crate::machinery::contains::contains;
use crate::overrides::{self, OverrideError};
use crate::placement::ClusterView;

/// What is wanted of one object in one member.
#[derive(Debug)]
pub enum DesiredState {
    /// Nothing is known yet, or nothing is to be done.
    Keep,
    /// It is to be there.
    Apply(Box<ManifestInputs>),
    /// It is not to be there.
    Remove {
        /// Whether it stays all the same, without the engine's marks.
        preserve: bool,
    },
}

/// Everything that makes an object's manifest for a member.
#[derive(Debug)]
pub struct ManifestInputs {
    template: Arc<Template>,
    binding: Option<Arc<BindingSpec>>,
    overrides: Vec<(PolicyKey, Arc<OverrideSpec>)>,
    view: Arc<ClusterView>,
    plane: PlaneId,
    claimed: bool,
}

/// A manifest for a member.
#[derive(Debug)]
pub struct Manifest {
    /// The object.
    pub value: Value,
    /// The object as JSON text.
    pub json: String,
    /// Hash of the text.
    pub hash: u64,
    /// Whether an object that is not managed is adopted.
    pub overwrite: bool,
    /// Uid of the template.
    pub template: Uid,
    /// Whether a policy claims the template. Without one, an object keeps what it was last given.
    pub claimed: bool,
    /// Kinds and names of the override policies that made it differ from the template.
    pub overridden_by: Vec<String>,
}

/// What is wanted of one object in one member.
#[must_use]
pub fn desired_state(index: &Index, cluster: &ClusterName, key: &Key) -> DesiredState {
    let Some(view) = index.views.get(cluster) else { return DesiredState::Keep };
    let orphan = index.is_orphaning(cluster);
    let inputs = |template: &Arc<Template>, binding: Option<Arc<BindingSpec>>| {
        DesiredState::Apply(Box::new(ManifestInputs {
            template: template.clone(),
            binding,
            overrides: index.overrides_of(key),
            view: view.clone(),
            plane: index.plane.clone(),
            claimed: index.binding(key).is_none_or(|binding| binding.policy().is_some()),
        }))
    };
    if let Some(binding) = index.binding(key) {
        if view.leaving {
            return DesiredState::Remove { preserve: orphan || binding.preserves() };
        }
        if !binding.targets(cluster) {
            // What the binding never brought there is not its to preserve.
            let preserve = binding.preserves() && binding.inventory().any(|known| known == *cluster);
            return of_namespace(index, cluster, key, &inputs).unwrap_or(DesiredState::Remove { preserve });
        }
        return match (index.is_wanted(key), index.template(key)) {
            (Some(true), Some(template))
                if binding.policy().is_some() || binding.controller_uid() == Some(template.uid.as_str()) =>
            {
                inputs(template, Some(binding.spec.clone()))
            }
            // The members' objects go when the binding does, and not before: it is the inventory.
            (Some(false), _) if binding.deleting => DesiredState::Remove { preserve: binding.preserves() },
            _ => DesiredState::Keep,
        };
    }
    of_namespace(index, cluster, key, &inputs).unwrap_or_else(|| match (view.leaving, is_unwanted(index, key)) {
        (true, _) => DesiredState::Remove { preserve: orphan },
        (false, true) => DesiredState::Remove { preserve: false },
        // Its binding is on its way (somebody deleted the last one), or nothing was decided yet.
        (false, false) => DesiredState::Keep,
    })
}

/// Whether nothing of the plane stands for an object that has no binding.
fn is_unwanted(index: &Index, key: &ObjectKey) -> bool {
    // All namespaces are known before members are; those that are there do not come this far.
    key.kind.is_namespace() || (index.is_wanted(key) == Some(false) && !index.is_bound_otherwise(key))
}

/// Namespaces of the plane go to every member by themselves.
fn of_namespace(
    index: &Index,
    cluster: &ClusterName,
    key: &ObjectKey,
    inputs: &dyn Fn(&Arc<Template>, Option<Arc<BindingSpec>>) -> DesiredState,
) -> Option<DesiredState> {
    if !key.kind.is_namespace() {
        return None;
    }
    let namespace = index.namespace(&key.name)?;
    let leaving = index.views.get(cluster).is_some_and(|view| view.leaving);
    if leaving {
        return None;
    }
    // One that no longer propagates stays as it is, and one that ends takes those in members along when it is gone.
    let propagates = namespace.propagates && !namespace.template.deleting;
    Some(if propagates { inputs(&namespace.template, None) } else { DesiredState::Keep })
}

impl ManifestInputs {
    /// Uid of the template.
    #[must_use]
    pub fn template_uid(&self) -> &Uid {
        &self.template.uid
    }

    /// Makes the manifest.
    pub fn render(&self, key: &ObjectKey) -> Result<Manifest, OverrideError> {
        let template = self.template.parsed();
        let policies = overrides::applicable(&template, self.overrides.iter().map(policy_ref));
        let default = BindingSpec::default();
        let binding = self.binding.as_deref().unwrap_or(&default);
        let mut value = distribute::manifest(&template, binding, &policies, &self.view)?;
        mark(&mut value, key, &self.plane, self.binding.as_ref().map(|_| &*self.template));
        let by_template = value
            .pointer("/metadata/annotations")
            .and_then(|annotations| annotations.get(CONFLICT_RESOLUTION_ANNOTATION))
            .and_then(Value::as_str);
        let overwrite = match by_template {
            Some("overwrite") => true,
            Some("abort") => false,
            _ => binding.conflict_resolution == Some(ConflictResolution::Overwrite),
        };
        let json = value.to_string();
        let template = self.template.uid.clone();
        let concerned = policies.iter().filter(|policy| policy.concerns(&self.view));
        let overridden_by = concerned.map(ToString::to_string).collect();
        Ok(Manifest { hash: hash(&json), value, json, overwrite, template, claimed: self.claimed, overridden_by })
    }
}

/// Whether a live object keeps a manifest that is no longer the template's: no policy claims the template, and what it
/// has become since then is sent nowhere. Of one generation of a template, other replicas and overrides are.
#[must_use]
pub fn keeps_last_manifest(live: &LiveObject, manifest: &Manifest) -> bool {
    let generation = live.template_generation;
    let same_template = generation.is_some() && generation == template_generation(&manifest.value);
    !manifest.claimed && !same_template && live.manifest != manifest_fingerprint(&manifest.value)
}

/// Why an existing object may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It came from this plane.
    Own,
    /// It did not, but the conflict resolution says `Overwrite`.
    Overwrite,
}

/// Whether an existing object may be written; if not, why. The label alone says only that some Karmada manages it.
pub fn check_adoption(
    live: &LiveObject,
    labelled: bool,
    plane: &PlaneId,
    manifest: &Manifest,
    cluster: &ClusterName,
) -> Result<Adoption, String> {
    let remedy = "delete it there, or set conflictResolution: Overwrite in the policy or the annotation \
                  work.karmada.io/conflict-resolution: overwrite on the template";
    let same_template = manifest.template != Uid::default() && live.template.as_ref() == Some(&manifest.template);
    let comes_from_here = match &live.plane {
        // The marks of a copy speak of another template.
        Some(mark) => mark == plane && (live.marks != Marks::Copied || same_template),
        None => same_template,
    };
    if comes_from_here {
        return Ok(Adoption::Own);
    }
    if manifest.overwrite {
        return Ok(Adoption::Overwrite);
    }
    let state = if labelled || live.plane.is_some() { "managed by another control plane" } else { "not managed" };
    Err(format!("exists in cluster {cluster} already and is {state}: {remedy}"))
}

/// Whether an object that is not wanted any more stays in its member, without the engine's marks. A namespace that was
/// there before the engine managed it does: what is in it is not the engine's.
#[must_use]
pub fn is_preserved(live: &LiveObject, key: &ObjectKey, preserve: bool) -> bool {
    preserve || (live.adopted && key.kind.is_namespace())
}

/// What is sent to bring a live object to its manifest.
#[must_use]
pub fn update_of(object: &Value, manifest: &Manifest, is_namespace: bool, adoption: Adoption) -> Update {
    let mut wanted = manifest.value.clone();
    interpret::retain(&mut wanted, object);
    if is_namespace
        && adoption == Adoption::Overwrite
        && let Some(annotations) = wanted.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
    {
        annotations.insert(ADOPTED_ANNOTATION.to_owned(), Value::String("true".to_owned()));
    }
    update(object, &wanted)
}

/// Whether a live object is known to hold a manifest, and nothing of an earlier one: the fingerprint is among what it has
/// to hold. When others set fields of it, only [`update_of`] tells.
#[must_use]
pub fn holds(live: &LiveObject, manifest: &Manifest) -> bool {
    let Some(body) = live.body.as_ref().filter(|_| !live.has_foreign_fields) else { return false };
    let body = parse(body);
    let mut wanted = manifest.value.clone();
    interpret::retain(&mut wanted, &body);
    contains(&body, &wanted)
}

/// How long to wait before an object that was found changed is repaired once more: at once, unless somebody else keeps
/// writing the same fields. Then the two of them must not wear out the API server. Times count from the engine's start.
#[must_use]
pub fn repair_backoff(count: u32, last: Duration, now: Duration) -> Duration {
    let pause = match count {
        0..=2 => Duration::ZERO,
        count => Duration::from_millis(250).saturating_mul(1 << (count - 3).min(8)),
    };
    (last + pause).saturating_sub(now)
}

/// An object's own kind, namespace and name, to be sure that an answer is about what was asked.
#[must_use]
pub fn is_named(object: &Value, key: &ObjectKey) -> bool {
    text(object, "/metadata/name") == key.name
        && text(object, "/metadata/namespace") == key.namespace.as_deref().unwrap_or_default()
}

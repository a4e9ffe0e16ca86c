//! Policies: which object each of them claims or changes, and what follows from news of them.

use std::sync::Arc;

use serde_json::Value;

use super::super::key::{Key, KindKey, ObjectKey};
use super::super::model::Binding;
use super::{Index, PolicyKey, Requeues, is_reserved};
use crate::karmada::policy::{OverrideSpec, PropagationSpec, ResourceSelector};
use crate::overrides::Override;
use crate::placement::{self, Policy};

/// Whether objects of a namespace (or cluster-scoped ones) may be claimed at all.
fn is_claimable(key: &ObjectKey) -> bool {
    if key.namespace.as_deref().is_some_and(is_reserved) || key.kind.api_version.contains(".karmada.io/") {
        return false;
    }
    // What every cluster makes for itself in each namespace.
    !matches!(
        (key.kind.api_version.as_str(), key.kind.kind.as_str(), key.name.as_str()),
        ("v1", "ConfigMap", "kube-root-ca.crt") | ("v1", "ServiceAccount", "default")
    )
}

fn selects_kind(selectors: &[ResourceSelector], kind: &KindKey) -> bool {
    selectors.iter().any(|selector| selector.api_version == kind.api_version && selector.kind == kind.kind)
}

/// Whether a binding was made for a policy.
fn is_bound_by(binding: &Binding, (namespace, name): &PolicyKey) -> bool {
    binding.policy() == Some((namespace.as_deref(), name))
}

impl Index {
    /// The policy that claims an object.
    #[must_use]
    pub fn claim(&self, key: &Key, object: &Value) -> Option<(PolicyKey, Arc<PropagationSpec>)> {
        if !is_claimable(key) {
            return None;
        }
        let policies = self.policies.iter().filter(|((namespace, _), spec)| {
            (namespace.is_none() || *namespace == key.namespace) && selects_kind(&spec.resource_selectors, &key.kind)
        });
        let policies = policies.map(|((namespace, name), spec)| Policy {
            namespace: namespace.as_deref(),
            name: name.as_str(),
            spec,
        });
        let current = self.bindings.get(key).and_then(Binding::policy);
        let claim = placement::claim(object, policies, current)?;
        let policy = (claim.namespace.map(str::to_owned), claim.name.to_owned());
        let spec = self.policies.get(&policy)?.clone();
        Some((policy, spec))
    }

    /// The override policies that may have a say about an object.
    #[must_use]
    pub fn overrides_of(&self, key: &ObjectKey) -> Vec<(PolicyKey, Arc<OverrideSpec>)> {
        let may = self.overrides.iter().filter(|((namespace, _), spec)| {
            (namespace.is_none() || *namespace == key.namespace)
                && (spec.resource_selectors.is_empty() || selects_kind(&spec.resource_selectors, &key.kind))
        });
        may.map(|(key, spec)| (key.clone(), spec.clone())).collect()
    }

    /// A propagation policy is there, changed, or gone.
    pub fn set_policy(&mut self, key: PolicyKey, spec: Option<PropagationSpec>) -> Requeues {
        let was_unreadable = self.unreadable_policies.remove(&key);
        let after = spec.map(Arc::new);
        let before = match after.clone() {
            Some(spec) => self.policies.insert(key.clone(), spec),
            None => self.policies.remove(&key),
        };
        // What it bound was left as it is; now that can be decided.
        let waiting = self.bindings.iter().filter(|(_, binding)| was_unreadable && is_bound_by(binding, &key));
        let mut schedule: Vec<Key> = waiting.map(|(key, _)| key.clone()).collect();
        if before == after {
            return Requeues { schedule, ..Requeues::default() };
        }
        let namespace = key.0;
        let touched = |object: &Key| {
            (namespace.is_none() || namespace == object.namespace)
                && [&before, &after]
                    .into_iter()
                    .flatten()
                    .any(|spec| selects_kind(&spec.resource_selectors, &object.kind))
        };
        schedule.extend(self.templates.keys().filter(|key| touched(key)).cloned());
        Requeues { schedule, kinds: true, ..Requeues::default() }
    }

    /// A propagation policy is there, but not understood. One that was understood before stays what it was; of others
    /// nobody knows what they want, and what they bound is left as it is.
    pub fn mark_policy_unreadable(&mut self, key: PolicyKey) {
        if !self.policies.contains_key(&key) {
            self.unreadable_policies.insert(key);
        }
    }

    /// Whether a binding was made for a policy that is there and not understood.
    #[must_use]
    pub fn is_policy_unreadable(&self, binding: &Binding) -> bool {
        self.unreadable_policies.iter().any(|policy| is_bound_by(binding, policy))
    }

    /// Names of the policies of one kind that are known.
    #[must_use]
    pub fn policy_keys(&self, namespaced: bool) -> Vec<PolicyKey> {
        let all = self.policies.keys().chain(&self.unreadable_policies);
        all.filter(|(namespace, _)| namespace.is_some() == namespaced).cloned().collect()
    }

    /// An override policy is there, changed, or gone.
    pub fn set_override(&mut self, key: PolicyKey, spec: Option<OverrideSpec>) -> Requeues {
        let was_unreadable = self.unreadable_overrides.remove(&key);
        let after = spec.map(Arc::new);
        let before = match after.clone() {
            Some(spec) => self.overrides.insert(key.clone(), spec),
            None => self.overrides.remove(&key),
        };
        if before == after && !was_unreadable {
            return Requeues::default();
        }
        let namespace = key.0;
        let touched = |object: &ObjectKey| {
            (namespace.is_none() || namespace == object.namespace)
                && (was_unreadable
                    || [&before, &after].into_iter().flatten().any(|spec| {
                        spec.resource_selectors.is_empty() || selects_kind(&spec.resource_selectors, &object.kind)
                    }))
        };
        let bound = self.bindings.iter().filter(|(key, _)| touched(key));
        let mut dispatch: Vec<_> =
            bound.flat_map(|(key, binding)| binding.inventory().map(|cluster| (cluster, key.clone()))).collect();
        for name in self.namespaces.keys() {
            let key = ObjectKey::of_namespace(name);
            if touched(&key) {
                dispatch.extend(self.views.keys().map(|cluster| (cluster.clone(), key.clone())));
            }
        }
        Requeues { dispatch, ..Requeues::default() }
    }

    /// An override policy is there, but not understood. One that was understood before stays what it was. Of others nobody
    /// knows what they change: no object that they may select is written, since it would land without its differences.
    pub fn mark_override_unreadable(&mut self, key: PolicyKey) -> Requeues {
        if !self.overrides.contains_key(&key) {
            self.unreadable_overrides.insert(key);
        }
        Requeues::default()
    }

    /// An override policy that may change an object, and is not understood.
    #[must_use]
    pub fn unreadable_override(&self, object: &ObjectKey) -> Option<&PolicyKey> {
        let mut all = self.unreadable_overrides.iter();
        all.find(|(namespace, _)| namespace.is_none() || *namespace == object.namespace)
    }

    /// Names of the override policies of one kind that are known.
    #[must_use]
    pub fn override_keys(&self, namespaced: bool) -> Vec<PolicyKey> {
        let all = self.overrides.keys().chain(&self.unreadable_overrides);
        all.filter(|(namespace, _)| namespace.is_some() == namespaced).cloned().collect()
    }
}

/// An override policy as the pure functions take it.
#[must_use]
pub fn as_override((key, spec): &(PolicyKey, Arc<OverrideSpec>)) -> Override<'_> {
    Override { namespace: key.0.as_deref(), name: &key.1, spec }
}

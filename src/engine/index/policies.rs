//! Policies: which object each of them claims or changes, and what follows from events of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::key::{Key, KindKey, NamespaceName, ObjectKey};
use super::super::model::Binding;
use super::{Index, PolicyKey, Requeues};
use crate::karmada::names::{is_reserved_namespace, is_skipped_kind};
use crate::karmada::policy::{OverrideSpec, PolicyRef, PropagationSpec, ResourceSelector};

/// Whether a policy may claim an object at all.
pub(super) fn is_claimable(key: &ObjectKey) -> bool {
    if key.namespace.as_deref().is_some_and(is_reserved_namespace)
        || is_skipped_kind(&key.kind.api_version, &key.kind.kind)
    {
        return false;
    }
    // What every cluster makes for itself in each namespace.
    !matches!(
        (key.kind.api_version.as_str(), key.kind.kind.as_str(), key.name.as_str()),
        ("v1", "ConfigMap", "kube-root-ca.crt") | ("v1", "ServiceAccount", "default")
    )
}

/// Whether a binding was made for a policy.
fn is_bound_by(binding: &Binding, (namespace, name): &PolicyKey) -> bool {
    binding.policy() == Some((namespace.as_deref(), name))
}

/// A policy that is there and not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadablePolicy {
    /// Which one, and why, for people.
    pub message: String,
    /// Whether it was understood before: that holds.
    pub was_understood: bool,
}

/// What selects objects by kind, and maybe more.
pub(super) trait SelectsKinds {
    /// Whether all kinds are selected where none is named.
    const EMPTY_SELECTS_ALL: bool;

    /// The selectors.
    fn selectors(&self) -> &[ResourceSelector];

    /// Whether objects of a kind may be selected.
    fn selects(&self, kind: &KindKey) -> bool {
        let selectors = self.selectors();
        (Self::EMPTY_SELECTS_ALL && selectors.is_empty())
            || selectors.iter().any(|selector| selector.api_version == kind.api_version && selector.kind == kind.kind)
    }
}

impl SelectsKinds for PropagationSpec {
    const EMPTY_SELECTS_ALL: bool = false;

    fn selectors(&self) -> &[ResourceSelector] {
        &self.resource_selectors
    }
}

impl SelectsKinds for OverrideSpec {
    const EMPTY_SELECTS_ALL: bool = true;

    fn selectors(&self) -> &[ResourceSelector] {
        &self.resource_selectors
    }
}

/// Policies of one sort, by the kinds that they select: thousands of them may be there, and few concern an object.
#[derive(Debug)]
pub(super) struct PolicySet<S> {
    specs: BTreeMap<PolicyKey, Arc<S>>,
    by_kind: BTreeMap<Arc<KindKey>, BTreeSet<PolicyKey>>,
    of_all_kinds: BTreeSet<PolicyKey>,
}

impl<S> Default for PolicySet<S> {
    fn default() -> Self {
        Self { specs: BTreeMap::new(), by_kind: BTreeMap::new(), of_all_kinds: BTreeSet::new() }
    }
}

impl<S: SelectsKinds> PolicySet<S> {
    /// Sets or removes a policy; returns what it was before.
    fn set(&mut self, key: &PolicyKey, spec: Option<Arc<S>>) -> Option<Arc<S>> {
        let before = self.specs.remove(key);
        for selector in before.iter().flat_map(|spec| spec.selectors()) {
            let kind = KindKey::new(&selector.api_version, &selector.kind);
            if let Some(keys) = self.by_kind.get_mut(&kind) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_kind.remove(&kind);
                }
            }
        }
        self.of_all_kinds.remove(key);
        if let Some(spec) = spec {
            for selector in spec.selectors() {
                let kind = KindKey::new(&selector.api_version, &selector.kind);
                self.by_kind.entry(kind).or_default().insert(key.clone());
            }
            if S::EMPTY_SELECTS_ALL && spec.selectors().is_empty() {
                self.of_all_kinds.insert(key.clone());
            }
            self.specs.insert(key.clone(), spec);
        }
        before
    }

    /// The policies of an object's namespace and of the cluster scope that may select the object.
    fn of<'a>(&'a self, key: &'a ObjectKey) -> impl Iterator<Item = (&'a PolicyKey, &'a Arc<S>)> {
        let sets = self.by_kind.get(&key.kind).into_iter().chain([&self.of_all_kinds]);
        let keys = sets.flat_map(|keys| {
            let namespaced = key.namespace.as_ref().map(|namespace| in_namespace(keys, Some(namespace.clone())));
            in_namespace(keys, None).chain(namespaced.into_iter().flatten())
        });
        keys.filter_map(|key| self.specs.get_key_value(key))
    }

    /// Whether any policy may select an object.
    pub(super) fn may_concern(&self, key: &ObjectKey) -> bool {
        self.of(key).next().is_some()
    }

    fn keys(&self) -> impl Iterator<Item = &PolicyKey> {
        self.specs.keys()
    }

    /// The kinds that are selected by name.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Arc<KindKey>> {
        self.by_kind.keys()
    }
}

/// The policies of one namespace, or of none.
fn in_namespace(keys: &BTreeSet<PolicyKey>, namespace: Option<NamespaceName>) -> impl Iterator<Item = &PolicyKey> {
    let first = (namespace.clone(), String::new());
    keys.range(first..).take_while(move |key| key.0 == namespace)
}

impl Index {
    /// The policies that may claim an object, by its kind and namespace.
    #[must_use]
    pub fn policies_of(&self, key: &ObjectKey) -> Vec<(PolicyKey, Arc<PropagationSpec>)> {
        if !is_claimable(key) {
            return Vec::new();
        }
        self.policies.of(key).map(|(key, spec)| (key.clone(), spec.clone())).collect()
    }

    /// The override policies that may have a say about an object.
    #[must_use]
    pub fn overrides_of(&self, key: &ObjectKey) -> Vec<(PolicyKey, Arc<OverrideSpec>)> {
        self.overrides.of(key).map(|(key, spec)| (key.clone(), spec.clone())).collect()
    }

    /// A propagation policy is there, changed, or gone.
    pub fn set_policy(&mut self, key: PolicyKey, spec: Option<PropagationSpec>) -> Requeues {
        let was_unreadable = self.unreadable_policies.remove(&key).is_some();
        let after = spec.map(Arc::new);
        let before = self.policies.set(&key, after.clone());
        // What it bound was left as it is; now that can be decided.
        let waiting = self.bindings.iter().filter(|(_, binding)| was_unreadable && is_bound_by(binding, &key));
        let mut schedule: Vec<Key> = waiting.map(|(key, _)| key.clone()).collect();
        if before == after {
            return Requeues { schedule, ..Requeues::default() };
        }
        let namespace = key.0;
        // An object whose binding is by another version of its kind waits for the policy that claims it so.
        let selects = |kind: &KindKey| [&before, &after].into_iter().flatten().any(|spec| spec.selects(kind));
        let bound: Vec<&Arc<KindKey>> = self.bound_kinds.keys().filter(|kind| selects(kind)).collect();
        let touched = |object: &Key| {
            (namespace.is_none() || namespace == object.namespace)
                && (selects(&object.kind) || bound.iter().any(|kind| kind.is_other_version_of(&object.kind)))
        };
        schedule.extend(self.templates.keys().filter(|key| touched(key)).cloned());
        Requeues { schedule, kinds: true, ..Requeues::default() }
    }

    /// A propagation policy has this permanent id; nothing when the policy is gone.
    pub fn set_permanent_id(&mut self, key: PolicyKey, id: Option<&str>) -> Requeues {
        let before = match id {
            Some(id) => self.permanent_ids.insert(key.clone(), id.into()),
            None => self.permanent_ids.remove(&key),
        };
        if id.is_none() || before.as_deref() == id {
            return Requeues::default();
        }
        let bound = self.bindings.iter().filter(|(_, binding)| is_bound_by(binding, &key));
        Requeues { schedule: bound.map(|(key, _)| key.clone()).collect(), ..Requeues::default() }
    }

    /// A propagation policy is there, but not understood. One that was understood before stays what it was; of others
    /// nobody knows what they want, and what they bound is left as it is. Its bindings tell.
    pub fn mark_policy_unreadable(&mut self, key: PolicyKey, why: String) -> Requeues {
        let bound = self.bindings.iter().filter(|(_, binding)| is_bound_by(binding, &key));
        let schedule = bound.map(|(key, _)| key.clone()).collect();
        self.unreadable_policies.insert(key, why);
        Requeues { schedule, ..Requeues::default() }
    }

    /// The policy that a binding was made for, when it is there and not understood.
    #[must_use]
    pub fn unreadable_policy(&self, binding: &Binding) -> Option<UnreadablePolicy> {
        let (namespace, name) = binding.policy()?;
        let key = (namespace.map(NamespaceName::from), name.to_owned());
        let why = self.unreadable_policies.get(&key)?;
        let named = match namespace {
            Some(namespace) => format!("PropagationPolicy {namespace}/{name}"),
            None => format!("ClusterPropagationPolicy {name}"),
        };
        let message = format!("{named} cannot be acted on ({why}); what is placed stays as it is");
        Some(UnreadablePolicy { message, was_understood: self.policies.specs.contains_key(&key) })
    }

    /// Names of the policies of one kind that are known.
    #[must_use]
    pub fn policy_keys(&self, namespaced: bool) -> Vec<PolicyKey> {
        let all: BTreeSet<&PolicyKey> = self.policies.keys().chain(self.unreadable_policies.keys()).collect();
        all.into_iter().filter(|(namespace, _)| namespace.is_some() == namespaced).cloned().collect()
    }

    /// An override policy is there, changed, or gone.
    pub fn set_override(&mut self, key: PolicyKey, spec: Option<OverrideSpec>) -> Requeues {
        let after = spec.map(Arc::new);
        let before = self.overrides.set(&key, after.clone());
        if before == after {
            return Requeues::default();
        }
        let namespace = key.0;
        let touched = |object: &ObjectKey| {
            (namespace.is_none() || namespace == object.namespace)
                && [&before, &after].into_iter().flatten().any(|spec| spec.selects(&object.kind))
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

    /// Names of the override policies of one kind that are known.
    #[must_use]
    pub fn override_keys(&self, namespaced: bool) -> Vec<PolicyKey> {
        self.overrides.keys().filter(|(namespace, _)| namespace.is_some() == namespaced).cloned().collect()
    }
}

/// A policy as the pure functions take it.
#[must_use]
pub fn policy_ref<S>((key, spec): &(PolicyKey, Arc<S>)) -> PolicyRef<'_, S> {
    PolicyRef { namespace: key.0.as_deref(), name: &key.1, spec }
}

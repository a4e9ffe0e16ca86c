//! One copy in memory of values that many objects hold alike.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::super::model::{Binding, hash};
use crate::karmada::binding::{AggregatedStatusItem, TargetCluster};
use crate::karmada::policy::Placement;
use crate::karmada::shared::Shared;

/// What many bindings and objects hold alike.
#[derive(Debug, Default)]
pub(super) struct Copies {
    annotations: Interner<BTreeMap<String, String>>,
    finalizers: Interner<Vec<String>>,
    placements: Interner<Placement>,
    targets: Interner<Vec<TargetCluster>>,
    conditions: Interner<Vec<Condition>>,
    items: Interner<Vec<AggregatedStatusItem>>,
    /// Statuses as texts.
    pub(super) statuses: Texts,
}

impl Copies {
    /// Keeps once what other bindings hold, too.
    pub(super) fn intern_binding(&mut self, binding: &mut Binding) {
        self.annotations.intern(&mut binding.annotations);
        self.annotations.intern(&mut binding.labels);
        self.finalizers.intern(&mut binding.finalizers);
        self.conditions.intern(&mut binding.status.conditions);
        self.items.intern(&mut binding.status.aggregated_status);
        if let Some(spec) = Arc::get_mut(&mut binding.spec) {
            self.targets.intern(&mut spec.clusters);
            if let Some(placement) = &mut spec.placement {
                self.placements.intern(placement);
            }
        }
    }
}

/// Values that are held by nobody else are dropped when there are twice as many as after the last time, and this many.
const MIN_SWEEP_SIZE: usize = 64;

/// One copy of each value that was given, for as long as somebody holds it.
#[derive(Debug)]
pub(super) struct Interner<T> {
    by_hash: HashMap<u64, Shared<T>>,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { by_hash: HashMap::new(), sweep_at: MIN_SWEEP_SIZE }
    }
}

impl<T: Serialize + PartialEq> Interner<T> {
    /// Puts the copy that is known in place of an equal one; or remembers this one.
    pub(super) fn intern(&mut self, value: &mut Shared<T>) {
        let Ok(json) = serde_json::to_string(&**value) else { return };
        let known = self.by_hash.entry(hash(&json)).or_insert_with(|| value.clone());
        // Of two values with one hash the second keeps its own copy.
        if known == value {
            *value = known.clone();
        }
        if self.by_hash.len() >= self.sweep_at {
            self.by_hash.retain(|_, value| value.holders() > 1);
            self.by_hash.shrink_to_fit();
            self.sweep_at = MIN_SWEEP_SIZE.max(2 * self.by_hash.len());
        }
    }
}

/// The same for texts.
#[derive(Debug, Default)]
pub(super) struct Texts {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Texts {
    /// Puts the copy that is known in place of an equal text; or remembers this one.
    pub(super) fn intern(&mut self, text: &mut Arc<str>) {
        match self.known.get(text) {
            Some(known) => *text = known.clone(),
            None => {
                self.known.insert(text.clone());
            }
        }
        if self.known.len() >= self.sweep_at.max(MIN_SWEEP_SIZE) {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.known.shrink_to_fit();
            self.sweep_at = 2 * self.known.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one_and_go_with_their_last_holder() {
        let mut interner = Interner::default();
        let shared = |n: usize| Shared::from(vec![n]);
        let (mut first, mut second) = (shared(1), shared(1));
        interner.intern(&mut first);
        interner.intern(&mut second);
        assert!(first.is_same(&second));
        for n in 2..1000 {
            interner.intern(&mut shared(n));
        }
        assert!(interner.by_hash.len() <= MIN_SWEEP_SIZE, "{} are kept for nobody", interner.by_hash.len());
        let mut third = shared(1);
        interner.intern(&mut third);
        assert!(third.is_same(&first));
    }

    #[test]
    fn equal_texts_become_one_and_go_with_their_last_holder() {
        let mut texts = Texts::default();
        let (mut first, mut second): (Arc<str>, Arc<str>) = ("a".into(), "a".into());
        texts.intern(&mut first);
        texts.intern(&mut second);
        assert!(Arc::ptr_eq(&first, &second));
        for n in 0..1000 {
            texts.intern(&mut n.to_string().into());
        }
        assert!(texts.known.len() <= MIN_SWEEP_SIZE, "{} are kept for nobody", texts.known.len());
        assert!(texts.known.contains("a"));
    }
}

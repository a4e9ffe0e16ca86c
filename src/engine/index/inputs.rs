//! What decisions take from the index: shared values that are cheap to clone. The lock is held while they are looked up,
//! and not while anything is parsed or computed from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::key::{ClusterName, Key, ObjectKey};
use super::super::model::{Binding, Template};
use super::policies::is_claimable;
use super::{Attempt, Decision, Index, PolicyKey, UnreadablePolicy};
use crate::interpret::Health;
use crate::karmada::policy::PropagationSpec;
use crate::placement::ClusterView;

/// The clusters of a plane as placement sees them, at one moment.
pub type Views = Arc<BTreeMap<ClusterName, Arc<ClusterView>>>;

/// What is known when the place of a template is decided.
#[derive(Clone, Debug)]
pub struct ScheduleInputs {
    /// The object.
    pub key: Key,
    /// Its template.
    pub template: Option<Arc<Template>>,
    /// Whether the template is there, but cannot be read.
    pub is_template_unreadable: bool,
    /// Whether all templates of the kind are known.
    pub is_kind_synced: bool,
    /// Its binding.
    pub binding: Option<Arc<Binding>>,
    /// The policy that the binding was made for, when it is there and not understood.
    pub unreadable_policy: Option<UnreadablePolicy>,
    /// Its binding by another version of its kind: there is one name for both.
    pub bound_otherwise: Option<BoundOtherwise>,
    /// Whether policies may claim it at all. What they may not is not written.
    pub is_claimable: bool,
    /// Policies that may claim it.
    pub policies: Vec<(PolicyKey, Arc<PropagationSpec>)>,
    /// Permanent ids of these policies.
    pub permanent_ids: BTreeMap<PolicyKey, Arc<str>>,
    /// The clusters.
    pub views: Views,
    /// Clusters of the binding that may contain the object, or of which that is not known.
    pub may_be_in: Vec<ClusterName>,
}

/// An object's binding by another version of its kind.
#[derive(Clone, Debug)]
pub struct BoundOtherwise {
    /// The other version.
    pub api_version: String,
    /// The binding.
    pub binding: Arc<Binding>,
    /// Policies that may claim the object in that version.
    pub policies: Vec<(PolicyKey, Arc<PropagationSpec>)>,
    /// Whether the binding was made for a policy that is there and not understood.
    pub is_policy_unreadable: bool,
}

/// What is known when the status of a binding and its template is computed.
#[derive(Clone, Debug)]
pub struct ReportInputs {
    /// The object.
    pub key: Key,
    /// Its binding.
    pub binding: Arc<Binding>,
    /// What was decided about it.
    pub decision: Decision,
    /// How long ago that was decided first.
    pub age: Duration,
    /// Its template.
    pub template: Option<Arc<Template>>,
    /// The clusters that it is meant for, sorted by name.
    pub targets: Vec<TargetState>,
}

/// What is known of an object in one cluster that it is meant for.
#[derive(Clone, Debug)]
pub struct TargetState {
    /// The cluster.
    pub cluster: ClusterName,
    /// Whether the cluster can be reached.
    pub reachable: bool,
    /// Whether all its objects of the kind are known.
    pub synced: bool,
    /// Whether it is certain not to serve the kind.
    pub unserved: bool,
    /// The last attempt to bring the object there.
    pub attempt: Option<Attempt>,
    /// Health and status of the object there.
    pub live: Option<(Health, Option<Arc<str>>)>,
}

impl Index {
    /// What is known when the place of a template is decided.
    #[must_use]
    pub fn schedule_inputs(&self, key: &Key) -> ScheduleInputs {
        let binding = self.bindings.get(key);
        let bound_otherwise = self.bound_otherwise(key).next();
        let inventory = binding.or(bound_otherwise.map(|(_, binding)| binding));
        let may_be_in = inventory.into_iter().flat_map(|binding| binding.inventory());
        let policies = self.policies_of(key);
        let id =
            |(key, _): &(PolicyKey, _)| self.permanent_ids.get_key_value(key).map(|(k, id)| (k.clone(), id.clone()));
        ScheduleInputs {
            key: key.clone(),
            template: self.templates.get(key).cloned(),
            is_template_unreadable: self.is_template_unreadable(key),
            is_kind_synced: self.is_synced(&key.kind),
            unreadable_policy: binding.and_then(|binding| self.unreadable_policy(binding)),
            bound_otherwise: bound_otherwise.map(|(other, binding)| BoundOtherwise {
                api_version: other.kind.api_version.clone(),
                binding: binding.clone(),
                policies: self.policies_of(other),
                is_policy_unreadable: self.unreadable_policy(binding).is_some(),
            }),
            is_claimable: is_claimable(key),
            permanent_ids: policies.iter().filter_map(id).collect(),
            policies,
            views: self.views.clone(),
            may_be_in: may_be_in.filter(|cluster| self.may_contain(cluster, key) != Some(false)).collect(),
            binding: binding.cloned(),
        }
    }

    /// What is known when the status of a binding and its template is computed; nothing without a binding, and until it
    /// was decided in this process' life where the template goes: until then what the last one reported stands. `now` counts
    /// from the engine's start.
    #[must_use]
    pub fn report_inputs(&self, key: &Key, now: Duration) -> Option<ReportInputs> {
        let binding = self.bindings.get(key)?;
        let decision = self.decisions.get(key)?;
        let mut targets: Vec<TargetState> =
            binding.spec.clusters.iter().map(|target| self.target_state(target.name.as_str().into(), key)).collect();
        targets.sort_unstable_by(|a, b| a.cluster.cmp(&b.cluster));
        Some(ReportInputs {
            key: key.clone(),
            binding: binding.clone(),
            decision: decision.clone(),
            age: now.saturating_sub(decision.at),
            template: self.templates.get(key).cloned(),
            targets,
        })
    }

    fn target_state(&self, cluster: ClusterName, key: &ObjectKey) -> TargetState {
        let member = self.members.get(&cluster);
        TargetState {
            cluster,
            reachable: member.is_some_and(|member| member.reachable),
            synced: member.is_some_and(|member| member.synced.contains(&key.kind)),
            unserved: member.is_some_and(|member| member.unserved.contains(&key.kind)),
            attempt: member.and_then(|member| member.attempts.get(key)).cloned(),
            live: member.and_then(|member| member.live.get(key)).map(|live| (live.health, live.status.clone())),
        }
    }
}

//! Everything that the engine has seen, and what follows from each event. No clients, no waiting: the watches put events
//! in, and get back which keys are to be queued; the workers ask what to do about a key.

mod attempts;
mod bound;
mod claims;
mod inputs;
mod intern;
mod members;
mod membership;
mod plane;
mod policies;
mod repair;
#[cfg(test)]
mod tests;
mod tombstones;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::key::{ClusterName, Key, KindKey, NamespaceName, ObjectKey, PlaneId};
use super::marks::Marks;
use super::model::{Binding, LiveObject, Template};
use crate::karmada::cluster::Cluster;
use crate::karmada::names::is_skipped_kind;
use crate::karmada::policy::{OverrideSpec, PropagationSpec};

/// Namespace (nothing for the cluster-scoped kinds) and name of a policy.
pub type PolicyKey = (Option<NamespaceName>, String);

pub use self::attempts::{Attempt, Attempts};
use self::bound::BoundObjects;
pub use self::inputs::{BoundOtherwise, ReportInputs, ScheduleInputs, TargetState, Views};
use self::intern::Copies;
use self::policies::PolicySet;
pub use self::policies::{UnreadablePolicy, policy_ref};
pub use self::repair::Repair;
pub use self::tombstones::DeletedObject;
use self::tombstones::Tombstones;
pub use crate::karmada::{FORCE_UNJOIN_ANNOTATION, UNJOIN_POLICY_ANNOTATION};

/// Keys that must be looked at.
#[derive(Debug, Default, PartialEq)]
pub struct Requeues {
    /// Templates: where do they go?
    pub schedule: Vec<Key>,
    /// Objects in members: are they as wanted?
    pub dispatch: Vec<(ClusterName, Key)>,
    /// Templates: what is there to report?
    pub report: Vec<Key>,
    /// Templates: do they tell which policy claims them?
    pub claims: Vec<Key>,
    /// Clusters: finalizers and the end of memberships.
    pub clusters: Vec<ClusterName>,
    /// Whether the kinds to watch may have changed.
    pub kinds: bool,
}

/// What was decided about a template.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether it is claimed, and not on its way out; nothing while that is not known.
    pub wanted: Option<bool>,
    /// Why it goes nowhere.
    pub not_scheduled: Option<Box<(&'static str, String)>>,
    /// When that was first decided, counted from the engine's start.
    pub at: Duration,
    /// Hash of the template that it was decided about.
    pub content: Option<u64>,
    /// Fingerprint of what is to tell on the template which policy claims it; nothing while that is not known.
    pub claim: Option<u64>,
    /// Whether the template was seen to tell so.
    pub holds_claim: bool,
    /// Whether the engine was forbidden to write it there.
    pub is_claim_forbidden: bool,
}

/// A namespace of the plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// The namespace as a template.
    pub template: Arc<Template>,
    /// Whether it goes to all members.
    pub propagates: bool,
}

/// A member as far as the index knows it.
#[derive(Debug, Default)]
pub struct Member {
    /// Managed objects there.
    pub live: HashMap<Key, Arc<LiveObject>>,
    /// Kinds whose objects are all known.
    pub synced: HashSet<Arc<KindKey>>,
    /// Kinds that it is certain not to serve: it has no objects of theirs.
    pub unserved: HashSet<Arc<KindKey>>,
    /// Last attempts.
    pub attempts: Attempts,
    /// Objects that were found changed and put right.
    pub repairs: HashMap<Key, Repair>,
    /// Objects that a request is under way for.
    pub in_flight: HashSet<Key>,
    /// Objects that came up before all of their kind were known; their turn is when these are.
    pub postponed: HashSet<Key>,
    /// Whether it can be reached now.
    pub reachable: bool,
}

impl Member {
    /// Forgets what was done, and what is still to be done, about an object that is gone.
    fn forget_work(&mut self, key: &Key) {
        self.attempts.remove(key);
        self.repairs.remove(key);
        self.postponed.remove(key);
    }
}

/// Everything that the engine has seen.
#[derive(Debug, Default)]
pub struct Index {
    /// Identity of the plane.
    pub plane: PlaneId,
    /// Clusters of the plane.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// The same as placement sees them; copied when a cluster changes, as decisions under way look at it.
    pub views: Views,
    policies: PolicySet<PropagationSpec>,
    // Why they are not understood.
    unreadable_policies: BTreeMap<PolicyKey, String>,
    permanent_ids: BTreeMap<PolicyKey, Arc<str>>,
    overrides: PolicySet<OverrideSpec>,
    namespaces: BTreeMap<String, Namespace>,
    templates: HashMap<Key, Arc<Template>>,
    unreadable_templates: HashSet<Key>,
    synced: HashSet<Arc<KindKey>>,
    bindings: HashMap<Key, Arc<Binding>>,
    // The same by cluster.
    bound: BoundObjects,
    // How many bindings each kind has.
    bound_kinds: BTreeMap<Arc<KindKey>, usize>,
    decisions: HashMap<Key, Decision>,
    // Templates whose metadata about the claim was found changed and put right.
    claim_repairs: HashMap<Key, Repair>,
    members: HashMap<ClusterName, Member>,
    tombstones: Tombstones,
    copies: Copies,
}

impl Index {
    /// An index of a plane that nothing is known of yet.
    #[must_use]
    pub fn of(plane: PlaneId) -> Self {
        Self { plane, ..Self::default() }
    }

    /// The copy of an object's key that its template or its binding has, and of its kind that others have.
    fn shared_key(&self, key: Key) -> Key {
        if let Some((known, _)) = self.templates.get_key_value(&key) {
            return known.clone();
        }
        if let Some((known, _)) = self.bindings.get_key_value(&key) {
            return known.clone();
        }
        match self.bound_kinds.get_key_value(&key.kind) {
            Some((kind, _)) if !Arc::ptr_eq(kind, &key.kind) => {
                Arc::new(ObjectKey { kind: kind.clone(), ..(*key).clone() })
            }
            _ => key,
        }
    }

    /// A template.
    #[must_use]
    pub fn template(&self, key: &Key) -> Option<&Arc<Template>> {
        self.templates.get(key)
    }

    /// A binding.
    #[must_use]
    pub fn binding(&self, key: &Key) -> Option<&Binding> {
        self.bindings.get(key).map(|binding| &**binding)
    }

    /// A namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// A member.
    #[must_use]
    pub fn member(&self, cluster: &ClusterName) -> Option<&Member> {
        self.members.get(cluster)
    }

    /// A member, to change.
    pub fn member_mut(&mut self, cluster: &ClusterName) -> &mut Member {
        self.members.entry(cluster.clone()).or_default()
    }

    /// Whether all templates of a kind of the plane are known. A kind that is never propagated has none.
    #[must_use]
    pub fn is_synced(&self, kind: &Arc<KindKey>) -> bool {
        self.synced.contains(kind) || is_skipped_kind(&kind.api_version, &kind.kind)
    }

    /// What was decided about a template.
    #[must_use]
    pub fn decision(&self, key: &Key) -> Option<&Decision> {
        self.decisions.get(key)
    }

    /// Whether a template is there, claimed and not on its way out; nothing while that is not known or decided.
    #[must_use]
    pub fn is_wanted(&self, key: &ObjectKey) -> Option<bool> {
        if self.templates.contains_key(key) {
            self.decisions.get(key).and_then(|decision| decision.wanted)
        } else if self.unreadable_templates.contains(key) {
            None
        } else {
            self.is_synced(&key.kind).then_some(false)
        }
    }

    /// Whether an object is bound by another version of its kind. Who watches both versions sees it twice.
    #[must_use]
    pub fn is_bound_otherwise(&self, key: &ObjectKey) -> bool {
        self.bound_otherwise(key).next().is_some()
    }

    /// The bindings of an object by other versions of its kind.
    fn bound_otherwise<'a>(&'a self, key: &'a ObjectKey) -> impl Iterator<Item = (&'a Key, &'a Arc<Binding>)> {
        let versions = self.bound_kinds.keys().filter(|kind| kind.is_other_version_of(&key.kind));
        let keys = versions.map(|kind| ObjectKey { kind: kind.clone(), ..key.clone() });
        keys.filter_map(|key| self.bindings.get_key_value(&key))
    }

    /// Clusters that are known to contain a managed object of this key.
    fn clusters_with(&self, key: &Key) -> impl Iterator<Item = ClusterName> + '_ {
        let key = key.clone();
        let members = self.members.iter().filter(move |(_, member)| member.live.contains_key(&key));
        members.map(|(cluster, _)| cluster.clone())
    }

    /// Whether the engine may delete an object: it carries this plane's mark, which speaks of it and was not copied from
    /// another; or no plane's, and the uid of the binding's template. The binding's name alone proves nothing: another
    /// Karmada that the member belongs to may have one of the same name.
    #[must_use]
    pub fn is_ours(&self, live: &LiveObject, key: &ObjectKey) -> bool {
        match &live.plane {
            Some(plane) if *plane != self.plane => false,
            Some(_) => match live.marks {
                Marks::Own => true,
                Marks::Copied => false,
                // Marked by an earlier version, which did not name namespaces.
                Marks::Unnamed => key.kind.is_namespace() && self.namespaces.contains_key(&key.name),
            },
            None => {
                let bound = self.bindings.get(key).and_then(|binding| binding.spec.resource.uid.as_deref());
                bound.is_some_and(|uid| {
                    !uid.is_empty() && live.template.as_ref().is_some_and(|template| *template == *uid)
                })
            }
        }
    }

    /// Kinds of the plane to watch: those that policies select and those that bindings name, without those that are never
    /// propagated.
    #[must_use]
    pub fn plane_kinds(&self) -> BTreeSet<Arc<KindKey>> {
        let named = self.policies.kinds().chain(self.bound_kinds.keys());
        named.filter(|kind| !is_skipped_kind(&kind.api_version, &kind.kind)).cloned().collect()
    }

    /// Whether bindings name a kind.
    #[must_use]
    pub fn binds(&self, kind: &Arc<KindKey>) -> bool {
        self.bound_kinds.contains_key(kind)
    }

    /// Kinds to watch in a member: those of its bindings, and namespaces.
    #[must_use]
    pub fn member_kinds(&self, cluster: &ClusterName) -> BTreeSet<Arc<KindKey>> {
        let mut kinds: BTreeSet<_> = self.bound.kinds(cluster).cloned().collect();
        kinds.insert(KindKey::new("v1", "Namespace"));
        kinds
    }

    /// Bindings whose objects may be in a cluster.
    pub fn bindings_in<'a>(&'a self, cluster: &'a ClusterName) -> impl Iterator<Item = &'a Key> {
        self.bound.keys(cluster)
    }
}

impl Requeues {
    /// Adds others.
    pub fn merge(&mut self, other: Self) {
        self.schedule.extend(other.schedule);
        self.dispatch.extend(other.dispatch);
        self.report.extend(other.report);
        self.claims.extend(other.claims);
        self.clusters.extend(other.clusters);
        self.kinds |= other.kinds;
    }
}

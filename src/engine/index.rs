//! Everything that the engine has seen, and what follows from each piece of news. No clients, no waiting: the watches
//! put news in, and get back which keys must be looked at; the workers ask what to do about a key.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::key::{ClusterName, Key, KindKey, ObjectKey};
use super::model::{Binding, Live, Template};
use crate::karmada::cluster::Cluster;
use crate::karmada::policy::{OverrideSpec, PropagationSpec, ResourceSelector};
use crate::karmada::{SKIP_AUTO_PROPAGATION_LABEL, policy};
use crate::overrides::Override;
use crate::placement::{self, ClusterView, Policy};

/// Namespace (nothing for the cluster-scoped kinds) and name of a policy.
pub type PolicyKey = (Option<String>, String);

/// Annotation on a Cluster: `Orphan` leaves applications in a member that leaves.
pub const UNJOIN_POLICY_ANNOTATION: &str = "airdock.dev/unjoin-policy";

/// Annotation on a Cluster: `true` gives up a member that leaves and cannot be reached.
pub const FORCE_UNJOIN_ANNOTATION: &str = "airdock.dev/force-unjoin";

/// Keys that must be looked at.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// Templates: where do they go?
    pub schedule: Vec<Key>,
    /// Objects in members: are they as wanted?
    pub dispatch: Vec<(ClusterName, Key)>,
    /// Templates: what is there to report?
    pub report: Vec<Key>,
    /// Clusters: finalizers and the end of memberships.
    pub clusters: Vec<ClusterName>,
    /// Whether the kinds to watch may have changed.
    pub kinds: bool,
}

/// What became of the last attempt to bring an object into a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is there, as wanted.
    Applied,
    /// It is not.
    Failed(String),
    /// It is not, because somebody else's object has its name.
    Taken(String),
}

/// How often an object was found changed and put right in a row.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// The wanted state that was last written.
    pub wanted: u64,
    /// Times in a row.
    pub count: u32,
    /// The last time.
    pub at: Instant,
}

/// What was decided about a template.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Why it goes nowhere.
    pub refusal: Option<(&'static str, String)>,
    /// When that was decided.
    pub at: Instant,
}

/// A namespace of the plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// The namespace as a template.
    pub template: Template,
    /// Whether it goes to all members.
    pub propagates: bool,
}

/// A member as far as the index knows it.
#[derive(Debug, Default)]
pub struct Member {
    /// Managed objects there.
    pub live: HashMap<Key, Live>,
    /// Kinds whose objects are all known.
    pub synced: HashSet<Arc<KindKey>>,
    /// Last attempts.
    pub attempts: HashMap<Key, Attempt>,
    /// Objects that were found changed and put right.
    pub repairs: HashMap<Key, Repair>,
    /// Objects that a request is under way for.
    pub in_flight: HashSet<Key>,
    /// Whether it can be reached now.
    pub reachable: bool,
}

/// Everything that the engine has seen.
#[derive(Debug, Default)]
pub struct Index {
    /// Identity of the plane.
    pub plane: String,
    /// Clusters of the plane.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// The same as placement sees them.
    pub views: BTreeMap<ClusterName, Arc<ClusterView>>,
    policies: BTreeMap<PolicyKey, Arc<PropagationSpec>>,
    overrides: BTreeMap<PolicyKey, Arc<OverrideSpec>>,
    namespaces: BTreeMap<String, Namespace>,
    templates: HashMap<Key, Template>,
    synced: HashSet<Arc<KindKey>>,
    bindings: HashMap<Key, Binding>,
    decisions: HashMap<Key, Decision>,
    members: HashMap<ClusterName, Member>,
}

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

fn is_reserved(namespace: &str) -> bool {
    namespace.starts_with("kube-") || namespace.starts_with("karmada-")
}

fn selects_kind(selectors: &[ResourceSelector], kind: &KindKey) -> bool {
    selectors.iter().any(|selector| selector.api_version == kind.api_version && selector.kind == kind.kind)
}

impl Index {
    /// An index of a plane that nothing is known of yet.
    #[must_use]
    pub fn of(plane: String) -> Self {
        Self { plane, ..Self::default() }
    }

    // ----- questions -------------------------------------------------------------------------------------------

    /// A template.
    #[must_use]
    pub fn template(&self, key: &Key) -> Option<&Template> {
        self.templates.get(key)
    }

    /// A binding.
    #[must_use]
    pub fn binding(&self, key: &Key) -> Option<&Binding> {
        self.bindings.get(key)
    }

    /// A namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// A member.
    #[must_use]
    pub fn member(&self, cluster: &str) -> Option<&Member> {
        self.members.get(cluster)
    }

    /// A member, to change.
    pub fn member_mut(&mut self, cluster: &ClusterName) -> &mut Member {
        self.members.entry(cluster.clone()).or_default()
    }

    /// Whether all objects of a kind of the plane are known.
    #[must_use]
    pub fn is_synced(&self, kind: &Arc<KindKey>) -> bool {
        self.synced.contains(kind)
    }

    /// What was decided about a template.
    #[must_use]
    pub fn decision(&self, key: &Key) -> Option<&Decision> {
        self.decisions.get(key)
    }

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
        let claim = placement::claim(object, policies)?;
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

    /// Whether a template is there, claimed and not on its way out; nothing while that is not known.
    #[must_use]
    pub fn is_wanted(&self, key: &Key) -> Option<bool> {
        match self.templates.get(key) {
            Some(template) if template.deleting => Some(false),
            Some(template) => Some(self.claim(key, &template.parsed()).is_some()),
            None => self.synced.contains(&key.kind).then_some(false),
        }
    }

    /// Whether a cluster may hold an object; nothing while that is not known.
    #[must_use]
    pub fn holds(&self, cluster: &ClusterName, key: &Key) -> Option<bool> {
        let Some(view) = self.views.get(cluster) else { return Some(false) };
        let Some(member) = self.members.get(cluster) else { return self.given_up(cluster, view, false) };
        if member.in_flight.contains(key) {
            return Some(true);
        }
        if !member.reachable || !member.synced.contains(&key.kind) {
            return self.given_up(cluster, view, member.reachable);
        }
        Some(member.live.get(key).is_some_and(|live| self.is_ours(live, key)))
    }

    fn given_up(&self, cluster: &ClusterName, view: &ClusterView, reachable: bool) -> Option<bool> {
        (view.leaving && !reachable && self.is_forced(cluster)).then_some(false)
    }

    /// Whether a cluster that leaves is given up when it cannot be reached.
    #[must_use]
    pub fn is_forced(&self, cluster: &str) -> bool {
        self.cluster_annotation(cluster, FORCE_UNJOIN_ANNOTATION) == Some("true")
    }

    /// Whether applications stay in a cluster that leaves.
    #[must_use]
    pub fn is_orphaning(&self, cluster: &str) -> bool {
        self.cluster_annotation(cluster, UNJOIN_POLICY_ANNOTATION) == Some("Orphan")
    }

    fn cluster_annotation(&self, cluster: &str, name: &str) -> Option<&str> {
        let annotations = self.clusters.get(cluster)?.metadata.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// Whether the engine may delete an object: it carries this plane's mark, or that of the binding and no plane's (it
    /// came here under the Full profile).
    #[must_use]
    pub fn is_ours(&self, live: &Live, key: &ObjectKey) -> bool {
        match &live.plane {
            Some(plane) => *plane == self.plane,
            None => live
                .binding
                .as_ref()
                .is_some_and(|(namespace, name)| *namespace == key.namespace && *name == key.binding_name()),
        }
    }

    /// Kinds of the plane to watch: those that policies select and those that bindings name.
    #[must_use]
    pub fn plane_kinds(&self) -> BTreeSet<Arc<KindKey>> {
        let selected = self.policies.values().flat_map(|spec| &spec.resource_selectors);
        let selected = selected.map(|selector| KindKey::new(&selector.api_version, &selector.kind));
        selected.chain(self.bindings.keys().map(|key| key.kind.clone())).collect()
    }

    /// Kinds to watch in a member: those of its bindings, and namespaces.
    #[must_use]
    pub fn member_kinds(&self, cluster: &ClusterName) -> BTreeSet<Arc<KindKey>> {
        let bound =
            self.bindings.iter().filter(|(_, binding)| binding.targets(cluster) || binding.removing.contains(cluster));
        let mut kinds: BTreeSet<_> = bound.map(|(key, _)| key.kind.clone()).collect();
        kinds.insert(KindKey::new("v1", "Namespace"));
        kinds
    }

    /// Bindings whose objects may be in a cluster.
    pub fn bindings_in<'a>(&'a self, cluster: &'a ClusterName) -> impl Iterator<Item = &'a Key> {
        let bound = self.bindings.iter();
        bound.filter(|(_, b)| b.targets(cluster) || b.removing.contains(cluster)).map(|(key, _)| key)
    }

    /// Whether nothing of this plane is left in a cluster that leaves; nothing while that is not known.
    #[must_use]
    pub fn is_clean(&self, cluster: &ClusterName) -> Option<bool> {
        if self.bindings_in(cluster).next().is_some() {
            return Some(false);
        }
        let reachable = self.members.get(cluster).is_some_and(|member| member.reachable);
        if !reachable {
            // A member that was never reached holds nothing.
            let never = self
                .clusters
                .get(cluster)
                .is_some_and(|c| c.status.as_ref().is_none_or(|status| status.kubernetes_version.is_none()));
            return (never || self.is_forced(cluster)).then_some(true);
        }
        let member = self.members.get(cluster)?;
        if !self.member_kinds(cluster).iter().all(|kind| member.synced.contains(kind)) {
            return None;
        }
        Some(!member.live.iter().any(|(key, live)| self.is_ours(live, key)))
    }

    // ----- news of the plane -----------------------------------------------------------------------------------

    /// A cluster is there, or changed.
    pub fn put_cluster(&mut self, cluster: Cluster) -> Effects {
        let name = ClusterName::from(cluster.metadata.name.clone().unwrap_or_default());
        let view = Arc::new(ClusterView::of_cluster(&cluster));
        self.clusters.insert(name.clone(), Arc::new(cluster));
        let mut effects = Effects { clusters: vec![name.clone()], ..Effects::default() };
        let before = self.views.insert(name.clone(), view.clone());
        if before.as_ref() == Some(&view) {
            return effects;
        }
        effects.schedule = self.templates.keys().chain(self.bindings.keys()).cloned().collect();
        // Labels and places decide about overrides.
        let differs = before.is_none_or(|before| {
            (&before.labels, &before.provider, &before.region, &before.zones, before.leaving)
                != (&view.labels, &view.provider, &view.region, &view.zones, view.leaving)
        });
        if differs {
            effects.merge(self.look_at_member(&name));
        }
        effects
    }

    /// A cluster is gone.
    pub fn remove_cluster(&mut self, name: &str) -> Effects {
        self.clusters.remove(name);
        self.views.remove(name);
        self.members.remove(name);
        let schedule = self.templates.keys().chain(self.bindings.keys()).cloned().collect();
        Effects { schedule, clusters: vec![name.into()], ..Effects::default() }
    }

    /// Everything in a member is to be looked at.
    #[must_use]
    pub fn look_at_member(&self, cluster: &ClusterName) -> Effects {
        let bound = self.bindings_in(cluster).cloned();
        let live = self.members.get(cluster).into_iter().flat_map(|member| member.live.keys().cloned());
        let namespaces = self.namespaces.keys().map(|name| ObjectKey::of_namespace(name));
        let dispatch = bound.chain(live).chain(namespaces).map(|key| (cluster.clone(), key)).collect();
        Effects { dispatch, ..Effects::default() }
    }

    /// Everything of a kind in a member is to be looked at.
    #[must_use]
    pub fn look_at_kind(&self, cluster: &ClusterName, kind: &KindKey) -> Effects {
        let mut effects = self.look_at_member(cluster);
        effects.dispatch.retain(|(_, key)| *key.kind == *kind);
        // Those that are in members no longer meant for them wait for their being gone.
        effects.schedule = self.bindings_in(cluster).filter(|key| *key.kind == *kind).cloned().collect();
        effects.report = effects.schedule.clone();
        effects.clusters = vec![cluster.clone()];
        effects
    }

    /// A propagation policy is there, changed, or gone.
    pub fn set_policy(&mut self, key: PolicyKey, spec: Option<PropagationSpec>) -> Effects {
        let after = spec.map(Arc::new);
        let before = match after.clone() {
            Some(spec) => self.policies.insert(key.clone(), spec),
            None => self.policies.remove(&key),
        };
        if before == after {
            return Effects::default();
        }
        let namespace = key.0;
        let touched = |object: &Key| {
            (namespace.is_none() || namespace == object.namespace)
                && [&before, &after]
                    .into_iter()
                    .flatten()
                    .any(|spec| selects_kind(&spec.resource_selectors, &object.kind))
        };
        let schedule = self.templates.keys().filter(|key| touched(key)).cloned().collect();
        Effects { schedule, kinds: true, ..Effects::default() }
    }

    /// Names of the policies of one kind that are known.
    #[must_use]
    pub fn policy_keys(&self, namespaced: bool) -> Vec<PolicyKey> {
        self.policies.keys().filter(|(namespace, _)| namespace.is_some() == namespaced).cloned().collect()
    }

    /// An override policy is there, changed, or gone.
    pub fn set_override(&mut self, key: PolicyKey, spec: Option<OverrideSpec>) -> Effects {
        let after = spec.map(Arc::new);
        let before = match after.clone() {
            Some(spec) => self.overrides.insert(key.clone(), spec),
            None => self.overrides.remove(&key),
        };
        if before == after {
            return Effects::default();
        }
        let namespace = key.0;
        let touched = |object: &ObjectKey| {
            (namespace.is_none() || namespace == object.namespace)
                && [&before, &after].into_iter().flatten().any(|spec| {
                    spec.resource_selectors.is_empty() || selects_kind(&spec.resource_selectors, &object.kind)
                })
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
        Effects { dispatch, ..Effects::default() }
    }

    /// Names of the override policies of one kind that are known.
    #[must_use]
    pub fn override_keys(&self, namespaced: bool) -> Vec<PolicyKey> {
        self.overrides.keys().filter(|(namespace, _)| namespace.is_some() == namespaced).cloned().collect()
    }

    /// A namespace is there, or changed.
    pub fn put_namespace(&mut self, object: Value) -> Effects {
        let name = super::model::text(&object, "/metadata/name");
        let labels = object.pointer("/metadata/labels");
        let skips = labels
            .and_then(|labels| labels.get(SKIP_AUTO_PROPAGATION_LABEL))
            .and_then(Value::as_str)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let propagates = !skips && name != "default" && !is_reserved(&name);
        let template = Template::of(object);
        if let Some(known) = self.namespaces.get(&name)
            && (&known.template.body, known.template.deleting, known.propagates)
                == (&template.body, template.deleting, propagates)
        {
            return Effects::default();
        }
        self.namespaces.insert(name.clone(), Namespace { template, propagates });
        self.look_at_namespace(&name)
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) -> Effects {
        self.namespaces.remove(name);
        self.look_at_namespace(name)
    }

    /// Names of the namespaces that are known.
    #[must_use]
    pub fn namespace_names(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    fn look_at_namespace(&self, name: &str) -> Effects {
        let key = ObjectKey::of_namespace(name);
        let dispatch = self.views.keys().map(|cluster| (cluster.clone(), key.clone())).collect();
        Effects { dispatch, ..Effects::default() }
    }

    /// A template is there, or changed. `relist` accepts an older version: the plane may have been restored.
    pub fn put_template(&mut self, key: Key, template: Template, relist: bool) -> Effects {
        let mut effects = Effects::default();
        if let Some(known) = self.templates.get(&key) {
            if !relist && known.uid == template.uid && template.version <= known.version {
                return effects;
            }
            if (&known.uid, &known.body, known.deleting, known.generation)
                != (&template.uid, &template.body, template.deleting, template.generation)
            {
                effects.schedule.push(key.clone());
            } else if known.status != template.status {
                effects.report.push(key.clone());
            }
        } else {
            effects.schedule.push(key.clone());
        }
        self.templates.insert(key, template);
        effects
    }

    /// A template is gone.
    pub fn remove_template(&mut self, key: &Key) -> Effects {
        self.templates.remove(key);
        Effects { schedule: vec![key.clone()], ..Effects::default() }
    }

    /// The templates of a kind that are known.
    #[must_use]
    pub fn template_keys(&self, kind: &KindKey) -> Vec<Key> {
        self.templates.keys().filter(|key| *key.kind == *kind).cloned().collect()
    }

    /// All objects of a kind of the plane are known.
    pub fn kind_synced(&mut self, kind: &Arc<KindKey>) -> Effects {
        self.synced.insert(kind.clone());
        let bound = self.bindings.keys().filter(|key| key.kind == *kind);
        Effects { schedule: bound.cloned().collect(), ..Effects::default() }
    }

    /// A kind of the plane is no longer watched.
    pub fn forget_kind(&mut self, kind: &Arc<KindKey>) {
        self.synced.remove(kind);
        self.templates.retain(|key, _| key.kind != *kind);
    }

    /// A binding is there, or changed.
    pub fn put_binding(&mut self, key: Key, binding: Binding, relist: bool) -> Effects {
        let mut effects = Effects::default();
        let before = self.bindings.get(&key);
        if let Some(known) = before {
            if !relist && known.uid == binding.uid && binding.version <= known.version {
                return effects;
            }
            if known.spec != binding.spec
                || known.removing != binding.removing
                || known.deleting != binding.deleting
                || known.finalizers != binding.finalizers
                || known.annotations != binding.annotations
            {
                effects.schedule.push(key.clone());
                let touched: BTreeSet<_> = known.inventory().chain(binding.inventory()).collect();
                effects
                    .clusters
                    .extend(touched.iter().filter(|c| self.views.get(*c).is_some_and(|v| v.leaving)).cloned());
                effects.dispatch.extend(touched.into_iter().map(|cluster| (cluster, key.clone())));
                effects.report.push(key.clone());
                effects.kinds = known.inventory().collect::<BTreeSet<_>>() != binding.inventory().collect();
            } else if known.status != binding.status || known.generation != binding.generation {
                effects.report.push(key.clone());
            }
        } else {
            effects.schedule.push(key.clone());
            effects.dispatch.extend(binding.inventory().map(|cluster| (cluster, key.clone())));
            effects.report.push(key.clone());
            effects.kinds = true;
        }
        self.bindings.insert(key, binding);
        effects
    }

    /// A binding is gone.
    pub fn remove_binding(&mut self, key: &Key) -> Effects {
        let mut effects = Effects { schedule: vec![key.clone()], kinds: true, ..Effects::default() };
        if let Some(binding) = self.bindings.remove(key) {
            effects.clusters = binding.inventory().filter(|c| self.views.get(c).is_some_and(|v| v.leaving)).collect();
            effects.dispatch = binding.inventory().map(|cluster| (cluster, key.clone())).collect();
        }
        self.decisions.remove(key);
        for member in self.members.values_mut() {
            member.attempts.remove(key);
            member.repairs.remove(key);
        }
        effects
    }

    /// The bindings of one scope that are known.
    #[must_use]
    pub fn binding_keys(&self, namespaced: bool) -> Vec<Key> {
        self.bindings.keys().filter(|key| key.namespace.is_some() == namespaced).cloned().collect()
    }

    /// Something was decided about a template.
    pub fn decided(&mut self, key: &Key, refusal: Option<(&'static str, String)>) -> Effects {
        let at = self.decisions.get(key).map_or_else(Instant::now, |known| known.at);
        let changed = self.decisions.get(key).is_none_or(|known| known.refusal != refusal);
        self.decisions.insert(key.clone(), Decision { refusal, at });
        Effects { report: changed.then(|| key.clone()).into_iter().collect(), ..Effects::default() }
    }

    // ----- news of members -------------------------------------------------------------------------------------

    /// A managed object of a member is there, or changed.
    pub fn put_live(&mut self, cluster: &ClusterName, key: &Key, mut live: Live, relist: bool) -> Effects {
        let mut effects = Effects::default();
        let leaving = self.views.get(cluster).is_some_and(|view| view.leaving);
        let member = self.member_mut(cluster);
        let mut look = true;
        if let Some(known) = member.live.get(key).filter(|known| known.uid == live.uid) {
            if !relist && live.version <= known.version {
                return effects;
            }
            if known.hash == live.hash && known.deleting == live.deleting {
                live.settled = known.settled;
                if live.settled.is_some() {
                    live.body = None;
                    look = leaving;
                }
            }
            if known.status != live.status || known.health != live.health {
                effects.report.push(key.clone());
            }
        } else {
            effects.report.push(key.clone());
        }
        member.live.insert(key.clone(), live);
        if look {
            effects.dispatch.push((cluster.clone(), key.clone()));
        }
        effects
    }

    /// A live object is known to hold what is wanted.
    pub fn settle(&mut self, cluster: &ClusterName, key: &Key, hash: u64, wanted: u64) -> Effects {
        if let Some(live) = self.member_mut(cluster).live.get_mut(key).filter(|live| live.hash == hash) {
            live.settled = Some(wanted);
            live.body = None;
        }
        self.attempted(cluster, key, Attempt::Applied)
    }

    /// An object was written, and this is what came back.
    pub fn applied(&mut self, cluster: &ClusterName, key: &Key, mut live: Live, wanted: u64) -> Effects {
        let hash = live.hash;
        live.settled = Some(wanted);
        live.body = None;
        let member = self.member_mut(cluster);
        let newer = member.live.get(key).is_some_and(|known| known.uid == live.uid && known.version > live.version);
        if !newer {
            member.live.insert(key.clone(), live);
        }
        // When the watch was faster than the answer, what it told may be the same object with a status.
        self.settle(cluster, key, hash, wanted)
    }

    /// A managed object of a member is gone (or lost its label).
    pub fn remove_live(&mut self, cluster: &ClusterName, key: &Key, uid: Option<&str>) -> Effects {
        let member = self.member_mut(cluster);
        if let Some(known) = member.live.get(key)
            && uid.is_some_and(|uid| uid != known.uid)
        {
            // News of a namesake that the known one replaced.
            return Effects::default();
        }
        member.live.remove(key);
        Effects {
            schedule: vec![key.clone()],
            dispatch: vec![(cluster.clone(), key.clone())],
            report: vec![key.clone()],
            clusters: self
                .views
                .get(cluster)
                .filter(|view| view.leaving)
                .map(|_| cluster.clone())
                .into_iter()
                .collect(),
            kinds: false,
        }
    }

    /// All managed objects of a kind in a member are known; those that were not listed are not there.
    pub fn member_synced(&mut self, cluster: &ClusterName, kind: &Arc<KindKey>, listed: &HashSet<Key>) -> Effects {
        let member = self.member_mut(cluster);
        member.synced.insert(kind.clone());
        let gone: Vec<Key> =
            member.live.keys().filter(|key| key.kind == *kind && !listed.contains(*key)).cloned().collect();
        let mut effects = Effects::default();
        for key in gone {
            effects.merge(self.remove_live(cluster, &key, None));
        }
        effects.merge(self.look_at_kind(cluster, kind));
        effects
    }

    /// A kind of a member is no longer watched.
    pub fn forget_member_kind(&mut self, cluster: &ClusterName, kind: &Arc<KindKey>) {
        let member = self.member_mut(cluster);
        member.synced.remove(kind);
        member.live.retain(|key, _| key.kind != *kind);
    }

    /// A member can be reached, or cannot. What was known of it when it went away is kept for reports.
    pub fn set_reachable(&mut self, cluster: &ClusterName, reachable: bool) -> Effects {
        let member = self.member_mut(cluster);
        member.reachable = reachable;
        if !reachable {
            member.synced.clear();
        }
        let bound: Vec<Key> = self.bindings_in(cluster).cloned().collect();
        Effects { report: bound.clone(), schedule: bound, clusters: vec![cluster.clone()], ..Effects::default() }
    }

    /// An attempt to bring an object into a member came to its end.
    pub fn attempted(&mut self, cluster: &ClusterName, key: &Key, attempt: Attempt) -> Effects {
        let before = self.member_mut(cluster).attempts.insert(key.clone(), attempt.clone());
        let changed = before.as_ref() != Some(&attempt);
        Effects { report: changed.then(|| key.clone()).into_iter().collect(), ..Effects::default() }
    }
}

impl Effects {
    /// Adds others.
    pub fn merge(&mut self, other: Self) {
        self.schedule.extend(other.schedule);
        self.dispatch.extend(other.dispatch);
        self.report.extend(other.report);
        self.clusters.extend(other.clusters);
        self.kinds |= other.kinds;
    }
}

/// An override policy as the pure functions take it.
#[must_use]
pub fn as_override((key, spec): &(PolicyKey, Arc<policy::OverrideSpec>)) -> Override<'_> {
    Override { namespace: key.0.as_deref(), name: &key.1, spec }
}

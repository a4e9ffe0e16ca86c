//! Events of the plane, and what follows from them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::super::key::{ClusterName, Key, KindKey, ObjectKey, Uid};
use super::super::model::{Binding, Template, text};
use super::{Decision, DeletedObject, Index, Namespace, Requeues};
use crate::karmada::SKIP_AUTO_PROPAGATION_LABEL;
use crate::karmada::cluster::Cluster;
use crate::karmada::names::is_reserved_namespace;
use crate::placement::{self, ClusterView};

/// Uid and version of a cluster.
fn identity(cluster: &Cluster) -> (Uid, u64) {
    let version = cluster.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    (Uid::of(&cluster.metadata), version.unwrap_or(0))
}

impl Index {
    /// A cluster is there, or changed. `relist` accepts an older version: the plane may have been restored.
    pub fn put_cluster(&mut self, cluster: Cluster, relist: bool) -> Requeues {
        let name = ClusterName::of(&cluster);
        // The answer to a status may be read after the watch reported a taint, or of the cluster's end.
        if !relist {
            let (uid, version) = identity(&cluster);
            let known = self.clusters.get(&name).map(|known| identity(known));
            if known.is_some_and(|known| known.0 == uid && version <= known.1) || self.tombstones.covers(&uid, version)
            {
                return Requeues::default();
            }
        }
        let view = Arc::new(ClusterView::of_cluster(&cluster));
        self.clusters.insert(name.clone(), Arc::new(cluster));
        let mut requeues = Requeues { clusters: vec![name.clone()], ..Requeues::default() };
        if self.views.get(&name) == Some(&view) {
            return requeues;
        }
        let before = Arc::make_mut(&mut self.views).insert(name.clone(), view.clone());
        requeues.schedule = self.reached_by(&name, before.as_deref(), Some(&view));
        match before {
            Some(before) if before.leaving == view.leaving => {
                // Labels and places decide about overrides.
                let differs = (&before.labels, &before.provider, &before.region, &before.zones)
                    != (&view.labels, &view.provider, &view.region, &view.zones);
                if differs {
                    let mut member = self.requeue_member(&name);
                    member.dispatch.retain(|(_, key)| self.overrides.may_concern(key));
                    requeues.merge(member);
                }
            }
            _ => requeues.merge(self.requeue_member(&name)),
        }
        requeues
    }

    /// Bindings that may be other ones because one cluster changed; without a view it is not there. A template that has no
    /// binding yet is looked at once more when its binding is there.
    fn reached_by(&self, name: &ClusterName, before: Option<&ClusterView>, after: Option<&ClusterView>) -> Vec<Key> {
        let leaves = after.is_none_or(|after| before.is_none_or(|before| before.leaving != after.leaving));
        let is_reached = |key: &Key, binding: &Binding| {
            let Some(decision) = self.decisions.get(key) else { return true };
            (leaves && self.bound.contains(name, key))
                || placement::is_reached(&binding.spec, before, after, decision.not_scheduled.is_some())
        };
        let bindings = self.bindings.iter();
        bindings.filter(|(key, binding)| is_reached(key, binding)).map(|(key, _)| key.clone()).collect()
    }

    /// A cluster is gone; with its uid and version if the watch reported it.
    pub fn remove_cluster(&mut self, name: &ClusterName, deleted: DeletedObject) -> Requeues {
        let known = self.clusters.get(name).map(|known| identity(known).0);
        if self.tombstones.insert_for(known.as_ref(), deleted) {
            return Requeues::default();
        }
        self.clusters.remove(name);
        let before = Arc::make_mut(&mut self.views).remove(name);
        self.members.remove(name);
        let schedule = self.reached_by(name, before.as_deref(), None);
        Requeues { schedule, clusters: vec![name.clone()], ..Requeues::default() }
    }

    /// Everything in a member is to be looked at.
    #[must_use]
    pub fn requeue_member(&self, cluster: &ClusterName) -> Requeues {
        let bound = self.bindings_in(cluster).cloned();
        let live = self.members.get(cluster).into_iter().flat_map(|member| member.live.keys().cloned());
        let namespaces = self.namespaces.keys().map(|name| ObjectKey::of_namespace(name));
        let dispatch = bound.chain(live).chain(namespaces).map(|key| (cluster.clone(), key)).collect();
        Requeues { dispatch, ..Requeues::default() }
    }

    /// A namespace is there, or changed.
    pub fn put_namespace(&mut self, object: Value) -> Requeues {
        let name = text(&object, "/metadata/name");
        let labels = object.pointer("/metadata/labels");
        let skips = labels
            .and_then(|labels| labels.get(SKIP_AUTO_PROPAGATION_LABEL))
            .and_then(Value::as_str)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let propagates = !skips && name != "default" && !is_reserved_namespace(&name);
        let template = Template::of(object);
        if let Some(known) = self.namespaces.get(&name)
            && (&known.template.body, known.template.deleting, known.propagates)
                == (&template.body, template.deleting, propagates)
        {
            return Requeues::default();
        }
        let template = Arc::new(template);
        self.namespaces.insert(name.clone(), Namespace { template, propagates });
        self.requeue_namespace(&name)
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) -> Requeues {
        self.namespaces.remove(name);
        self.forget_namespace(&ObjectKey::of_namespace(name));
        self.requeue_namespace(name)
    }

    /// Names of the namespaces that are known.
    #[must_use]
    pub fn namespace_names(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    fn requeue_namespace(&self, name: &str) -> Requeues {
        let key = ObjectKey::of_namespace(name);
        let dispatch = self.views.keys().map(|cluster| (cluster.clone(), key.clone())).collect();
        Requeues { dispatch, ..Requeues::default() }
    }

    /// A template is there, or changed. `relist` accepts an older version: the plane may have been restored.
    pub fn put_template(&mut self, key: Key, mut template: Template, relist: bool) -> Requeues {
        let key = self.shared_key(key);
        self.copies.statuses.intern(&mut template.status);
        let mut requeues = Requeues::default();
        if !relist && self.tombstones.covers(&template.uid, template.version) {
            return requeues;
        }
        self.unreadable_templates.remove(&key);
        let (mut is_claim_as_known, mut is_namesake) = (false, false);
        if let Some(known) = self.templates.get(&key) {
            if !relist && known.uid == template.uid && template.version <= known.version {
                return requeues;
            }
            if (&known.uid, &known.body, known.deleting, known.cascade, known.generation)
                != (&template.uid, &template.body, template.deleting, template.cascade, template.generation)
            {
                requeues.schedule.push(key.clone());
            } else if known.status != template.status {
                requeues.report.push(key.clone());
            }
            is_claim_as_known =
                (&known.uid, &known.body, known.claim) == (&template.uid, &template.body, template.claim);
            is_namesake = known.uid != template.uid;
        } else {
            requeues.schedule.push(key.clone());
        }
        self.templates.insert(key.clone(), Arc::new(template));
        if is_namesake {
            self.forget_claim(&key);
        }
        if !is_claim_as_known {
            requeues.merge(self.check_claim(&key));
        }
        requeues
    }

    /// A template is gone; with its uid and version if the watch reported it.
    pub fn remove_template(&mut self, key: &Key, deleted: DeletedObject) -> Requeues {
        if self.tombstones.insert_for(self.templates.get(key).map(|known| &known.uid), deleted) {
            return Requeues::default();
        }
        self.templates.remove(key);
        self.unreadable_templates.remove(key);
        self.forget_claim(key);
        Requeues { schedule: vec![key.clone()], ..Requeues::default() }
    }

    /// A template is there, but cannot be read. One that was read before stays what it was; of others nobody knows what they
    /// are, and what members have of them is left as it is.
    pub fn mark_template_unreadable(&mut self, key: Key) {
        if !self.templates.contains_key(&key) {
            self.unreadable_templates.insert(key);
        }
    }

    /// Whether a template is there that cannot be read.
    #[must_use]
    pub fn is_template_unreadable(&self, key: &Key) -> bool {
        self.unreadable_templates.contains(key)
    }

    /// The templates of a kind that are known.
    #[must_use]
    pub fn template_keys(&self, kind: &KindKey) -> Vec<Key> {
        let all = self.templates.keys().chain(&self.unreadable_templates);
        all.filter(|key| *key.kind == *kind).cloned().collect()
    }

    /// All objects of a kind of the plane are known.
    pub fn kind_synced(&mut self, kind: &Arc<KindKey>) -> Requeues {
        self.kinds_synced(&[kind.clone()].into())
    }

    /// The same of several kinds.
    pub fn kinds_synced(&mut self, kinds: &HashSet<Arc<KindKey>>) -> Requeues {
        self.synced.extend(kinds.iter().cloned());
        // Those with a template are looked at for its sake.
        let bound = self.bindings.keys().filter(|key| kinds.contains(&key.kind) && !self.templates.contains_key(*key));
        // Only now is it known of objects without a binding whether they have a template.
        let live = self.members.iter().flat_map(|(cluster, member)| member.live.keys().map(move |key| (cluster, key)));
        let orphans = live.filter(|(_, key)| kinds.contains(&key.kind) && !self.bindings.contains_key(*key));
        let dispatch = orphans.map(|(cluster, key)| (cluster.clone(), key.clone())).collect();
        Requeues { schedule: bound.cloned().collect(), dispatch, ..Requeues::default() }
    }

    /// A kind of the plane is no longer watched.
    pub fn forget_kind(&mut self, kind: &Arc<KindKey>) {
        self.synced.remove(kind);
        self.templates.retain(|key, _| key.kind != *kind);
        self.unreadable_templates.retain(|key| key.kind != *kind);
        self.decisions.retain(|key, _| key.kind != *kind);
        self.claim_repairs.retain(|key, _| key.kind != *kind);
    }

    /// A binding is there, or changed.
    pub fn put_binding(&mut self, key: Key, mut binding: Binding, relist: bool) -> Requeues {
        let key = self.shared_key(key);
        self.copies.intern_binding(&mut binding);
        let mut requeues = Requeues::default();
        if !relist && self.tombstones.covers(&binding.uid, binding.version) {
            return requeues;
        }
        // It was the object's by another version of its kind: there is one binding for all of them.
        let otherwise: Vec<Key> = self
            .bound_otherwise(&key)
            .filter(|(_, other)| other.uid == binding.uid)
            .map(|(key, _)| key.clone())
            .collect();
        if otherwise.iter().any(|other| self.bindings[other].version > binding.version) {
            return requeues;
        }
        for other in &otherwise {
            requeues.merge(self.remove_binding(other, None));
        }
        let before = self.bindings.get(&key);
        if let Some(known) = before {
            if !relist && known.uid == binding.uid && binding.version <= known.version {
                return requeues;
            }
            if known.spec != binding.spec
                || known.removing != binding.removing
                || known.deleting != binding.deleting
                || known.finalizers != binding.finalizers
                || known.annotations != binding.annotations
            {
                requeues.schedule.push(key.clone());
                let touched: BTreeSet<_> = known.inventory().chain(binding.inventory()).collect();
                requeues
                    .clusters
                    .extend(touched.iter().filter(|c| self.views.get(*c).is_some_and(|v| v.leaving)).cloned());
                requeues.dispatch.extend(touched.into_iter().map(|cluster| (cluster, key.clone())));
                requeues.report.push(key.clone());
                requeues.kinds = known.inventory().collect::<BTreeSet<_>>() != binding.inventory().collect();
            } else if known.status != binding.status || known.generation != binding.generation {
                requeues.report.push(key.clone());
            }
        } else {
            requeues.schedule.push(key.clone());
            // Those that contain it and are not meant by it were left alone while there was no binding.
            let concerned: BTreeSet<_> = binding.inventory().chain(self.clusters_with(&key)).collect();
            requeues.dispatch.extend(concerned.into_iter().map(|cluster| (cluster, key.clone())));
            requeues.report.push(key.clone());
            requeues.kinds = true;
        }
        let kind = key.kind.clone();
        self.bound.replace(&key, self.bindings.get(&key).map(|known| &**known), Some(&binding));
        if self.bindings.insert(key, Arc::new(binding)).is_none() {
            *self.bound_kinds.entry(kind).or_default() += 1;
        }
        requeues
    }

    /// A binding is gone; with its uid and version if the watch reported it.
    pub fn remove_binding(&mut self, key: &Key, deleted: DeletedObject) -> Requeues {
        if self.tombstones.insert_for(self.bindings.get(key).map(|known| &known.uid), deleted) {
            return Requeues::default();
        }
        // By another version of its kind, the object may have waited for the name.
        let versions = self.synced.iter().filter(|kind| kind.is_other_version_of(&key.kind));
        let versions = versions.map(|kind| Key::new(ObjectKey { kind: kind.clone(), ..(**key).clone() }));
        let schedule = versions.filter(|other| self.templates.contains_key(other)).chain([key.clone()]).collect();
        let mut requeues = Requeues { schedule, kinds: true, ..Requeues::default() };
        if let Some(binding) = self.bindings.remove(key) {
            self.bound.replace(key, Some(&binding), None);
            if let Some(count) = self.bound_kinds.get_mut(&key.kind) {
                *count -= 1;
            }
            self.bound_kinds.retain(|_, count| *count > 0);
            requeues.clusters = binding.inventory().filter(|c| self.views.get(c).is_some_and(|v| v.leaving)).collect();
            requeues.dispatch = binding.inventory().map(|cluster| (cluster, key.clone())).collect();
        }
        if !self.templates.contains_key(key) {
            self.decisions.remove(key);
        }
        for member in self.members.values_mut() {
            member.forget_work(key);
        }
        requeues
    }

    /// The bindings of one scope that are known.
    #[must_use]
    pub fn binding_keys(&self, namespaced: bool) -> Vec<Key> {
        self.bindings.keys().filter(|key| key.namespace.is_some() == namespaced).cloned().collect()
    }

    /// Something was decided about an object; with the hash of the template that it was decided about. Members are looked
    /// at when the template or the decision is another one than before; what else they depend on requeues them itself.
    /// `now` counts from the engine's start.
    pub fn decided(
        &mut self,
        key: &Key,
        content: Option<u64>,
        wanted: Option<bool>,
        not_scheduled: Option<(&'static str, String)>,
        now: Duration,
    ) -> Requeues {
        let before = self.decisions.get(key);
        let at = before.map_or(now, |known| known.at);
        let changed = before.is_none_or(|known| known.not_scheduled.as_deref() != not_scheduled.as_ref());
        let report = if changed { vec![key.clone()] } else { Vec::new() };
        let is_same = before.is_some_and(|known| known.wanted == wanted && known.content == content);
        let (claim, holds_claim, is_claim_forbidden) =
            before.map_or((None, false, false), |known| (known.claim, known.holds_claim, known.is_claim_forbidden));
        let binding = self.bindings.get(key);
        let concerned: Vec<_> = match binding {
            _ if is_same => Vec::new(),
            Some(binding) => binding.inventory().collect(),
            None => self.clusters_with(key).collect(),
        };
        // Of what is gone altogether nothing is to be remembered.
        if binding.is_some() || self.templates.contains_key(key) {
            let not_scheduled = not_scheduled.map(Box::new);
            let decision = Decision { wanted, not_scheduled, at, content, claim, holds_claim, is_claim_forbidden };
            self.decisions.insert(key.clone(), decision);
        } else {
            self.decisions.remove(key);
        }
        let dispatch = concerned.into_iter().map(|cluster| (cluster, key.clone())).collect();
        Requeues { report, dispatch, ..Requeues::default() }
    }
}

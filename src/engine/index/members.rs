//! Events of members, and what follows from them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::key::{ClusterName, Key, KindKey, ObjectKey};
use super::super::model::LiveObject;
use super::{Attempt, DeletedObject, Index, Repair, Requeues};

impl Index {
    /// A managed object of a member is there, or changed.
    pub fn put_live(&mut self, cluster: &ClusterName, key: &Key, mut live: LiveObject, relist: bool) -> Requeues {
        let key = &self.shared_key(key.clone());
        let mut requeues = Requeues::default();
        if !relist && self.tombstones.covers(&live.uid, live.version) {
            return requeues;
        }
        let leaving = self.views.get(cluster).is_some_and(|view| view.leaving);
        self.share(key, &mut live);
        let member = self.member_mut(cluster);
        let mut look = true;
        if let Some(known) = member.live.get(key).filter(|known| known.uid == live.uid) {
            if !relist && live.version <= known.version {
                return requeues;
            }
            live.held = known.held;
            if known.hash == live.hash
                && known.deleting == live.deleting
                && let Some(wanted) = known.settled()
            {
                live.settle(wanted);
                look = leaving;
            }
            if known.status != live.status || known.health != live.health {
                requeues.report.push(key.clone());
            }
        } else {
            requeues.report.push(key.clone());
        }
        member.live.insert(key.clone(), Arc::new(live));
        if look {
            requeues.dispatch.push((cluster.clone(), key.clone()));
        }
        requeues
    }

    /// Texts that are the plane's or its template's are not kept once more.
    fn share(&mut self, key: &Key, live: &mut LiveObject) {
        if let Some(plane) = live.plane.as_mut().filter(|plane| **plane == self.plane) {
            *plane = self.plane.clone();
        }
        if let (Some(uid), Some(template)) = (&mut live.template, self.templates.get(key))
            && *uid == template.uid
        {
            *uid = template.uid.clone();
        }
        if let Some(status) = &mut live.status {
            self.copies.statuses.intern(status);
        }
    }

    /// A live object is known to be as wanted.
    pub fn settle(&mut self, cluster: &ClusterName, key: &Key, hash: u64, wanted: u64) -> Requeues {
        let template = self.templates.get(key).map(|template| template.uid.clone());
        if let Some(live) = self.member_mut(cluster).live.get_mut(key).filter(|live| live.hash == hash) {
            let live = Arc::make_mut(live);
            live.settle(wanted);
            // Its template may not have been known when it was listed.
            live.template = template.filter(|uid| live.template.as_ref() == Some(uid)).or(live.template.take());
        }
        self.attempted(cluster, key, Attempt::Applied)
    }

    /// An object was written, and this is what came back.
    pub fn applied(&mut self, cluster: &ClusterName, key: &Key, mut live: LiveObject, wanted: u64) -> Requeues {
        if self.tombstones.covers(&live.uid, live.version) {
            return Requeues { dispatch: vec![(cluster.clone(), key.clone())], ..Requeues::default() };
        }
        let hash = live.hash;
        live.settle(wanted);
        let key = &self.shared_key(key.clone());
        self.share(key, &mut live);
        let member = self.member_mut(cluster);
        let known = member.live.get(key).filter(|known| known.uid == live.uid);
        // The attempt may be the same as before, and still the object is there only now.
        let report = known.is_none().then(|| key.clone()).into_iter().collect();
        let newer = known.is_some_and(|known| known.version > live.version);
        if !newer {
            member.live.insert(key.clone(), Arc::new(live));
        }
        // When the watch was faster than the answer, what it reported may be the same object with a status.
        let mut requeues = self.settle(cluster, key, hash, wanted);
        requeues.merge(Requeues { report, ..Requeues::default() });
        requeues
    }

    /// A managed object of a member is gone (or lost its label); with its uid and version if the watch reported it.
    pub fn remove_live(&mut self, cluster: &ClusterName, key: &Key, deleted: DeletedObject) -> Requeues {
        let known = self.members.get(cluster).and_then(|member| member.live.get(key));
        if self.tombstones.insert_for(known.map(|live| &live.uid), deleted) {
            return Requeues::default();
        }
        let member = self.member_mut(cluster);
        member.live.remove(key);
        if key.kind.is_namespace() {
            self.forget_namespace(key);
        }
        Requeues {
            schedule: self.is_awaited(cluster, key).then(|| key.clone()).into_iter().collect(),
            dispatch: vec![(cluster.clone(), key.clone())],
            report: vec![key.clone()],
            claims: Vec::new(),
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

    /// Forgets what was done about a namespace that is gone from the plane, where it is gone from the member too: what is
    /// remembered of other objects goes with their binding, and a namespace has none.
    pub(super) fn forget_namespace(&mut self, key: &Key) {
        if self.namespaces.contains_key(&key.name) {
            return;
        }
        for member in self.members.values_mut().filter(|member| !member.live.contains_key(key)) {
            member.forget_work(key);
        }
    }

    /// The managed objects of a kind in a member that are known.
    #[must_use]
    pub fn live_keys(&self, cluster: &ClusterName, kind: &KindKey) -> Vec<Key> {
        let live = self.members.get(cluster).into_iter().flat_map(|member| member.live.keys());
        live.filter(|key| *key.kind == *kind).cloned().collect()
    }

    /// An object is not looked at before all of its kind in the member are known.
    pub fn postpone(&mut self, cluster: &ClusterName, key: &Key) {
        self.member_mut(cluster).postponed.insert(key.clone());
    }

    /// All managed objects of a kind in a member are known. Looked at are those that are not there, those that are not known
    /// to be as wanted, and those that something happened to meanwhile: a list that says what was known before costs nothing.
    pub fn member_synced(&mut self, cluster: &ClusterName, kind: &Arc<KindKey>) -> Requeues {
        let leaving = self.views.get(cluster).is_some_and(|view| view.leaving);
        let member = self.members.entry(cluster.clone()).or_default();
        member.synced.insert(kind.clone());
        member.unserved.remove(kind);
        let mut keys: HashSet<Key> = member.postponed.extract_if(|key| key.kind == *kind).collect();
        member.postponed.shrink_to_fit();
        let live = member.live.iter().filter(|(key, _)| key.kind == *kind);
        keys.extend(live.filter(|(_, live)| leaving || live.settled().is_none()).map(|(key, _)| key.clone()));
        keys.extend(self.bound.keys_of(cluster, kind).filter(|key| !member.live.contains_key(*key)).cloned());
        if kind.is_namespace() {
            let namespaces = self.namespaces.keys().map(|name| ObjectKey::of_namespace(name));
            keys.extend(namespaces.filter(|key| !member.live.contains_key(key)));
        }
        Requeues {
            schedule: self.bound.keys_of(cluster, kind).filter(|key| self.is_awaited(cluster, key)).cloned().collect(),
            dispatch: keys.into_iter().map(|key| (cluster.clone(), key)).collect(),
            clusters: vec![cluster.clone()],
            ..Requeues::default()
        }
    }

    /// A member is certain not to serve a kind: what it had of it is gone.
    pub fn kind_unserved(&mut self, cluster: &ClusterName, kind: &Arc<KindKey>) -> Requeues {
        let member = self.member_mut(cluster);
        member.synced.remove(kind);
        if !member.unserved.insert(kind.clone()) {
            return Requeues::default();
        }
        member.live.retain(|key, _| key.kind != *kind);
        let bound: Vec<Key> = self.bound.keys_of(cluster, kind).cloned().collect();
        let schedule = bound.iter().filter(|key| self.is_awaited(cluster, key)).cloned().collect();
        Requeues { schedule, report: bound, clusters: vec![cluster.clone()], ..Requeues::default() }
    }

    /// A kind of a member is no longer watched.
    pub fn forget_member_kind(&mut self, cluster: &ClusterName, kind: &Arc<KindKey>) {
        let member = self.member_mut(cluster);
        member.synced.remove(kind);
        member.live.retain(|key, _| key.kind != *kind);
    }

    /// A member can be reached, or cannot. What was known of it when it went away is kept for reports, and compared with
    /// what is there when it is back. Only those wait for it meanwhile that are to be gone from it, and those of which
    /// nothing was ever reported have something to say about that.
    pub fn set_reachable(&mut self, cluster: &ClusterName, reachable: bool) -> Requeues {
        let member = self.member_mut(cluster);
        // Probes say every second that a member is still away.
        if !reachable && !member.reachable {
            return Requeues::default();
        }
        member.reachable = reachable;
        if !reachable {
            member.synced.clear();
            member.unserved.clear();
        }
        let report = self.bound.keys(cluster).filter(|key| !reachable && !self.is_reported(cluster, key));
        Requeues {
            schedule: self.awaited_keys(cluster),
            report: report.cloned().collect(),
            clusters: vec![cluster.clone()],
            ..Requeues::default()
        }
    }

    /// Whether a binding's status says how its object fares in a cluster.
    fn is_reported(&self, cluster: &ClusterName, key: &Key) -> bool {
        let status = self.bindings.get(key).map(|binding| &binding.status);
        status.is_some_and(|status| status.aggregated_status.iter().any(|item| *cluster == *item.cluster_name))
    }

    /// An object of a member was updated. Returns whether that was a repair: the wanted state is the one that it held
    /// before somebody changed it. `now` counts from the engine's start.
    pub fn count_repair(&mut self, cluster: &ClusterName, key: &Key, wanted: u64, now: Duration) -> bool {
        let member = self.member_mut(cluster);
        let Some((key, live)) = member.live.get_key_value(key) else { return false };
        if live.held != Some(wanted) {
            return false;
        }
        let repair = Repair::after(member.repairs.get(key), wanted, now);
        member.repairs.insert(key.clone(), repair);
        true
    }

    /// An attempt to bring an object into a member came to its end.
    pub fn attempted(&mut self, cluster: &ClusterName, key: &Key, attempt: Attempt) -> Requeues {
        let key = &self.shared_key(key.clone());
        let changed = self.member_mut(cluster).attempts.insert(key, attempt);
        Requeues { report: changed.then(|| key.clone()).into_iter().collect(), ..Requeues::default() }
    }
}

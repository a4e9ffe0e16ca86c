//! News of members, and what follows from them.

use std::sync::Arc;

use super::super::key::{ClusterName, Key, KindKey};
use super::super::model::Live;
use super::{Attempt, Effects, Index, Told};

impl Index {
    /// A managed object of a member is there, or changed.
    pub fn put_live(&mut self, cluster: &ClusterName, key: &Key, mut live: Live, relist: bool) -> Effects {
        let mut effects = Effects::default();
        if !relist && self.graves.hold(&live.uid, live.version) {
            return effects;
        }
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
        if self.graves.hold(&live.uid, live.version) {
            return Effects { dispatch: vec![(cluster.clone(), key.clone())], ..Effects::default() };
        }
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

    /// A managed object of a member is gone (or lost its label); with its uid and version if the watch told.
    pub fn remove_live(&mut self, cluster: &ClusterName, key: &Key, told: Told<'_>) -> Effects {
        let known = self.members.get(cluster).and_then(|member| member.live.get(key));
        if self.graves.dig_for(known.map(|live| live.uid.as_str()), told) {
            return Effects::default();
        }
        let member = self.member_mut(cluster);
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

    /// The managed objects of a kind in a member that are known.
    #[must_use]
    pub fn live_keys(&self, cluster: &str, kind: &KindKey) -> Vec<Key> {
        let live = self.members.get(cluster).into_iter().flat_map(|member| member.live.keys());
        live.filter(|key| *key.kind == *kind).cloned().collect()
    }

    /// All managed objects of a kind in a member are known; these are no longer there.
    pub fn member_synced(&mut self, cluster: &ClusterName, kind: &Arc<KindKey>, gone: &[Key]) -> Effects {
        let mut effects = Effects::default();
        for key in gone {
            effects.merge(self.remove_live(cluster, key, None));
        }
        self.member_mut(cluster).synced.insert(kind.clone());
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
        // Probes say every second that a member is still away.
        if !reachable && !member.reachable {
            return Effects::default();
        }
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

//! What is watched in a member: its nodes and pods, its definitions, and the managed objects of the kinds that are in use.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Engine;
use super::cluster::MemberStatus;
use super::index::Requeues;
use super::key::{Key, KindKey, ObjectKey};
use super::kind_watches::{KindWatches, UNUSED_WATCH_GRACE_PERIOD};
use super::mirror::{Mirror, Source};
use super::model::{LiveObject, identity};
use super::session::Session;
use super::summary::Counted;
use super::watch::{WhenUnserved, follow, mirror_json};
use crate::karmada::MANAGED_LABEL;

/// A definition that comes or goes changes which kinds are served. Metadata is enough to notice.
pub(super) async fn follow_definitions(session: Arc<Session>) {
    type Definition = PartialObjectMeta<CustomResourceDefinition>;
    let api: Api<Definition> = Api::all(session.rest.client().clone());
    follow(&session.rest, api, None, "CustomResourceDefinition", |event| {
        // Its kind is served a moment after a definition came, which is told by a change of its status.
        if let Event::Apply(_) | Event::Delete(_) = event {
            session.definitions_changed();
        }
        Ok::<(), std::convert::Infallible>(())
    })
    .await;
}

/// The nodes or the pods of a member.
pub(super) struct CapacityMirror<K> {
    status: Arc<MemberStatus>,
    objects: PhantomData<fn() -> K>,
}

impl<K> CapacityMirror<K> {
    /// Keeps a member's status in step with these objects.
    pub(super) fn new(status: Arc<MemberStatus>) -> Self {
        Self { status, objects: PhantomData }
    }
}

impl<K: Counted> Mirror for CapacityMirror<K> {
    type Object = K;
    type Key = K::Key;

    fn key(&self, object: &K) -> Option<K::Key> {
        Some(object.key())
    }

    fn known(&self) -> Vec<K::Key> {
        self.status.known(K::known)
    }

    fn apply(&mut self, _: K::Key, object: K, _: Source) {
        self.status.count(|capacity| object.put(capacity));
    }

    fn delete(&mut self, key: &K::Key, _: Option<&K>) {
        self.status.count(|capacity| K::remove(capacity, key));
    }

    fn synced(&mut self) {
        self.status.count(|_| true);
    }
}

/// Watches the managed objects of those kinds that are in use, one watch a kind.
pub(super) async fn follow_kinds(engine: Arc<Engine>, session: Arc<Session>) {
    let mut changes = engine.kinds.subscribe();
    let mut watches = KindWatches::default();
    loop {
        changes.borrow_and_update();
        let wanted = engine.index().member_kinds(&session.cluster);
        for kind in wanted.iter().filter(|kind| !watches.contains(kind)).cloned().collect::<Vec<_>>() {
            start_watch(&engine, &session, &mut watches, &kind);
        }
        for kind in watches.end_unused(&wanted, Instant::now()) {
            engine.change(|index| {
                index.forget_member_kind(&session.cluster, &kind);
                Requeues::default()
            });
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = session.discovered() => {}
            () = sleep(UNUSED_WATCH_GRACE_PERIOD), if watches.has_unused() => {}
            _ = watches.ended() => {}
        }
        // A burst of bindings brings one kind.
        sleep(Duration::from_millis(5)).await;
    }
}

fn start_watch(engine: &Arc<Engine>, session: &Arc<Session>, watches: &mut KindWatches, kind: &Arc<KindKey>) {
    let Some((resource, _)) = session.resource(kind) else {
        if session.lacks(kind) {
            engine.change(|index| index.kind_unserved(&session.cluster, kind));
        }
        session.kind_missing();
        return;
    };
    engine.index().member_mut(&session.cluster).unserved.remove(kind);
    let mirror = ManagedObjects { engine: engine.clone(), session: session.clone(), kind: kind.clone() };
    let rest = session.rest.clone();
    watches.start(kind, async move {
        let label = format!("{MANAGED_LABEL}=true");
        mirror_json(&rest, resource, None, Some(&label), WhenUnserved::TryAgain, mirror).await;
    });
}

/// Managed objects of one kind of a member.
struct ManagedObjects {
    engine: Arc<Engine>,
    session: Arc<Session>,
    kind: Arc<KindKey>,
}

impl Mirror for ManagedObjects {
    type Object = Value;
    type Key = Key;

    fn key(&self, object: &Value) -> Option<Key> {
        Some(ObjectKey::of(&self.kind, object))
    }

    fn known(&self) -> Vec<Key> {
        self.engine.index().live_keys(&self.session.cluster, &self.kind)
    }

    fn apply(&mut self, key: Key, object: Value, source: Source) {
        let live = LiveObject::of(object);
        self.engine.change(|index| index.put_live(&self.session.cluster, &key, live, source.is_list()));
    }

    fn delete(&mut self, key: &Key, last: Option<&Value>) {
        self.engine.change(|index| index.remove_live(&self.session.cluster, key, last.map(identity)));
    }

    fn synced(&mut self) {
        self.engine.change(|index| index.member_synced(&self.session.cluster, &self.kind));
    }
}

//! One kind of the host cluster: a watch that fills a store, and those who are told of what happens. *IO.*

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::api::Api;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, watcher};
use kube::{Client, Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::version;
use crate::api::GROUP;
use crate::machinery::error::chain;
use crate::runtime::guarded::{Guarded, PAGE};
use crate::runtime::ownership::Shard;
use crate::runtime::planes::{InstanceKey, PromptBackoff};

/// What `kubectl apply` leaves on an object: another copy of all of it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object of the host cluster.
pub trait HostObject:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> HostObject for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Which objects of a kind are watched, and what is kept of them.
pub(super) struct WatchedKind<K> {
    shard: Shard,
    /// The instance that an object belongs to; nothing for one that means several, or none.
    instance: fn(&Guarded<K>) -> Option<InstanceKey>,
    label: Option<&'static str>,
    keeps_others: bool,
    keeps_annotations: bool,
}

impl<K> Clone for WatchedKind<K> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<K> WatchedKind<K> {
    pub(super) fn all(shard: Shard, instance: fn(&Guarded<K>) -> Option<InstanceKey>) -> Self {
        Self { shard, instance, label: None, keeps_others: false, keeps_annotations: true }
    }

    /// Watches only what carries a label.
    pub(super) fn labelled(self, label: &'static str) -> Self {
        Self { label: Some(label), ..self }
    }

    /// Objects of instances that other replicas own are kept as well, for lookups.
    pub(super) fn known_to_all(self) -> Self {
        Self { keeps_others: true, ..self }
    }

    /// Keeps of annotations only Airdock's own: others may hold what the object itself was not to show.
    pub(super) fn by_labels_alone(self) -> Self {
        Self { keeps_annotations: false, ..self }
    }
}

impl<K: HostObject> WatchedKind<K> {
    /// Whether this replica is to act on an object.
    fn is_owned(&self, object: &Guarded<K>) -> bool {
        (self.instance)(object).is_none_or(|instance| self.shard.owns(&instance))
    }

    fn keeps(&self, object: &Guarded<K>) -> bool {
        self.keeps_others || self.is_owned(object)
    }

    /// What is kept of what the watch tells; nothing of an object that is none of this replica's, which is taken out when
    /// it was before.
    fn kept(&self, event: Event<Guarded<K>>) -> Option<Event<Guarded<K>>> {
        match event.modify(|object| self.trim(object)) {
            Event::InitApply(object) if !self.keeps(&object) => None,
            Event::Apply(object) if !self.keeps(&object) => Some(Event::Delete(object)),
            event => Some(event),
        }
    }

    fn trim(&self, object: &mut Guarded<K>) {
        let meta = object.meta_mut();
        meta.managed_fields = None;
        if let Some(annotations) = &mut meta.annotations {
            let is_own = |key: &str| key.split('/').next() == Some(GROUP);
            annotations.retain(|key, _| if self.keeps_annotations { key != LAST_APPLIED } else { is_own(key) });
        }
    }
}

/// What happened to an object of the host cluster.
#[derive(Clone, Copy, Debug)]
pub struct HostEvent<'a, K> {
    /// The object as it is now, or was last.
    pub object: &'a Guarded<K>,
    /// Whether it is gone.
    pub deleted: bool,
}

type Listener<K> = Box<dyn Fn(&HostEvent<'_, K>) + Send + Sync>;

/// One kind of the host cluster.
///
/// kube-runtime's own shared streams tell nothing of what is deleted, and drift repair waits for that; so its watcher and
/// store are used, and what happens is told here, after the store has it.
pub struct HostKind<K: HostObject> {
    watched: WatchedKind<K>,
    store: Store<Guarded<K>>,
    listed: watch::Receiver<bool>,
    listeners: Arc<RwLock<Vec<Listener<K>>>>,
}

/// What fills a store, and tells when it holds all that there is.
struct Filling<K: HostObject> {
    writer: Writer<Guarded<K>>,
    listed: watch::Sender<bool>,
}

impl<K: HostObject> Clone for HostKind<K> {
    fn clone(&self) -> Self {
        Self {
            watched: self.watched.clone(),
            store: self.store.clone(),
            listed: self.listed.clone(),
            listeners: self.listeners.clone(),
        }
    }
}

impl<K: HostObject> fmt::Debug for HostKind<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostKind").field(&K::kind(&())).finish()
    }
}

impl<K: HostObject> HostKind<K> {
    pub(super) fn start(client: &Client, watched: WatchedKind<K>, ended: &CancellationToken) -> Self {
        let mut config = watcher::Config::default().page_size(PAGE);
        if let Some(label) = watched.label {
            config = config.labels(label);
        }
        let events = watcher(Api::<Guarded<K>>::all(client.clone()), config);
        let events = StreamBackoff::new(events, PromptBackoff::default());
        let (kind, mut filling) = Self::new(watched);
        let following = kind.clone();
        tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => following.take(&mut filling, event),
                    Err(error) => {
                        let kind = K::kind(&());
                        tracing::debug!(%kind, error = chain(&error), "watch is interrupted and will resume");
                    }
                }
            }
        }));
        kind
    }

    fn new(watched: WatchedKind<K>) -> (Self, Filling<K>) {
        let (store, writer) = reflector::store();
        let (sender, listed) = watch::channel(false);
        (Self { watched, store, listed, listeners: Arc::default() }, Filling { writer, listed: sender })
    }

    /// All objects that are kept.
    #[must_use]
    pub fn store(&self) -> Store<Guarded<K>> {
        self.store.clone()
    }

    /// An object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Guarded<K>>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Waits until all objects were listed once. False when the process is ending.
    ///
    /// [`Store::wait_until_ready`] is left to the kind's [`Controller`]: of several that wait by it, kube-runtime (up to
    /// 5.0, `DelayedInit` on one oneshot channel) wakes only the one that asked last.
    pub async fn listed(&self) -> bool {
        self.listed.clone().wait_for(|listed| *listed).await.is_ok()
    }

    /// Tells a function of every object that there is, and of whatever happens from here on.
    pub fn listen(&self, listener: impl Fn(&HostEvent<'_, K>) + Send + Sync + 'static) {
        // Nothing is told meanwhile, so nothing comes between what there is and what happens next.
        let mut listeners = self.listeners.write();
        for object in self.store.state() {
            listener(&HostEvent { object: &object, deleted: false });
        }
        listeners.push(Box::new(listener));
    }

    /// Maps what there is, and what happens, to what is to be done about it.
    pub fn subscribe<T, M>(&self, map: M) -> impl Stream<Item = T> + Send + 'static + use<T, M, K>
    where
        M: Fn(&HostEvent<'_, K>) -> Vec<T> + Send + Sync + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        self.listen(move |event| {
            for item in map(event) {
                // A subscriber that is gone wants nothing any more.
                let _ = sender.unbounded_send(item);
            }
        });
        receiver
    }

    /// A controller of the objects that this replica is to act on.
    #[must_use]
    pub fn controller(&self) -> Controller<Guarded<K>> {
        let watched = self.watched.clone();
        let changed = self.subscribe(move |event| {
            watched.is_owned(event.object).then(|| ObjectRef::from_obj(event.object)).into_iter().collect()
        });
        Controller::for_stream(futures::stream::pending(), self.store()).reconcile_on(changed)
    }

    fn take(&self, filling: &mut Filling<K>, event: Event<Guarded<K>>) {
        let Some(event) = self.watched.kept(event) else { return };
        let mut before: HashMap<_, _> = match &event {
            Event::InitDone => self.store.state().into_iter().map(|object| (place(object.as_ref()), object)).collect(),
            // Nobody was told of it.
            Event::Delete(object) if self.store.get(&ObjectRef::from_obj(object)).is_none() => return,
            _ => HashMap::new(),
        };
        filling.writer.apply_watcher_event(&event);
        match event {
            Event::Init | Event::InitApply(_) => {}
            Event::Apply(object) => self.tell(&object, false),
            Event::Delete(object) => self.tell(&object, true),
            Event::InitDone => {
                for object in self.store.state() {
                    let known = before.remove(&place(object.as_ref()));
                    if known.is_none_or(|known| version(known.as_ref()) != version(object.as_ref())) {
                        self.tell(&object, false);
                    }
                }
                before.values().for_each(|gone| self.tell(gone, true));
                filling.listed.send_replace(true);
            }
        }
    }

    fn tell(&self, object: &Guarded<K>, deleted: bool) {
        let event = HostEvent { object, deleted };
        self.listeners.read().iter().for_each(|listener| listener(&event));
    }
}

fn place<K: Resource>(object: &K) -> (Option<String>, String) {
    (object.namespace(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::host_cache::labelled_instance;
    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;
    use serde_json::json;

    type Kind = HostKind<ConfigMap>;

    fn object(name: &str, version: &str, instance: &str) -> Guarded<ConfigMap> {
        let labels = json!({"airdock.dev/instance": instance});
        let annotations = json!({LAST_APPLIED: "long", "airdock.dev/x": "kept", "note": "text"});
        let metadata = json!({
            "name": name, "namespace": "team", "uid": name, "resourceVersion": version, "labels": labels,
            "annotations": annotations, "managedFields": [{"manager": "kubectl"}],
        });
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn told(kind: &Kind) -> Arc<Mutex<Vec<String>>> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = told.clone();
        kind.listen(move |event| {
            let sign = if event.deleted { '-' } else { '+' };
            log.lock().push(format!("{sign}{}", event.object.name_any()));
        });
        told
    }

    fn taken(told: &Mutex<Vec<String>>) -> Vec<String> {
        let mut taken = std::mem::take(&mut *told.lock());
        taken.sort();
        taken
    }

    fn list(kind: &Kind, filling: &mut Filling<ConfigMap>, objects: Vec<Guarded<ConfigMap>>) {
        kind.take(filling, Event::Init);
        objects.into_iter().for_each(|object| kind.take(filling, Event::InitApply(object)));
        kind.take(filling, Event::InitDone);
    }

    #[test]
    fn listeners_are_told_of_what_there_is_what_changes_and_what_is_gone() {
        let (kind, mut filling) = Kind::new(WatchedKind::all(Shard::default(), |_| None));
        let early = told(&kind);
        list(&kind, &mut filling, vec![object("a", "1", "x"), object("b", "2", "x")]);
        assert_eq!(taken(&early), ["+a", "+b"]);
        let late = told(&kind);
        assert_eq!(taken(&late), ["+a", "+b"], "who comes later misses nothing");
        list(&kind, &mut filling, vec![object("a", "1", "x"), object("c", "3", "x")]);
        assert_eq!(taken(&early), ["+c", "-b"], "what a list after an interruption shows");
        kind.take(&mut filling, Event::Apply(object("a", "4", "x")));
        kind.take(&mut filling, Event::Delete(object("c", "5", "x")));
        assert_eq!(taken(&late), ["+a", "+c", "-b", "-c"]);
    }

    #[tokio::test]
    async fn all_that_wait_for_a_list_are_woken_by_it() {
        let (kind, mut filling) = Kind::new(WatchedKind::all(Shard::default(), |_| None));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let kind = kind.clone();
                tokio::spawn(async move { kind.listed().await })
            })
            .collect();
        // Each has asked, and sleeps.
        tokio::task::yield_now().await;
        list(&kind, &mut filling, vec![object("a", "1", "x")]);
        for task in waiting {
            let woken = tokio::time::timeout(std::time::Duration::from_secs(5), task).await;
            assert!(woken.expect("woken").unwrap());
        }
        assert!(kind.listed().await, "who comes later does not wait");
        drop(filling);
        assert!(kind.listed().await, "the list is known, whatever becomes of the watch");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_list_when_the_process_ends() {
        let (kind, filling) = Kind::new(WatchedKind::all(Shard::default(), |_| None));
        drop(filling);
        assert!(!kind.listed().await);
    }

    #[test]
    fn objects_of_other_replicas_are_neither_kept_nor_told_of() {
        let shard = Shard::new(0, 2).unwrap();
        let owned = |name: &str| shard.owns(&InstanceKey { namespace: "team".into(), name: name.into() });
        let names: Vec<String> = (0..20).map(|n| format!("fleet-{n}")).collect();
        let (mine, theirs) = (names.iter().find(|n| owned(n)).unwrap(), names.iter().find(|n| !owned(n)).unwrap());
        let watched = || WatchedKind::all(shard, labelled_instance);
        let (kind, mut filling) = Kind::new(watched());
        let log = told(&kind);
        list(&kind, &mut filling, vec![object("a", "1", mine), object("b", "2", theirs)]);
        assert_eq!((taken(&log), kind.store().len()), (vec!["+a".to_owned()], 1));
        kind.take(&mut filling, Event::Apply(object("a", "3", theirs)));
        assert_eq!((taken(&log), kind.store().len()), (vec!["-a".to_owned()], 0), "it went to another replica");

        let (kind, mut filling) = Kind::new(watched().known_to_all());
        list(&kind, &mut filling, vec![object("a", "1", mine), object("b", "2", theirs)]);
        assert_eq!(kind.store().len(), 2, "for lookups");
    }

    #[test]
    fn what_nobody_needs_is_not_kept() {
        let annotations = |watched: WatchedKind<ConfigMap>| {
            let (kind, mut filling) = Kind::new(watched);
            list(&kind, &mut filling, vec![object("a", "1", "x")]);
            let kept = kind.get("team", "a").unwrap();
            assert!(kept.managed_fields().is_empty());
            kept.annotations().keys().cloned().collect::<Vec<_>>()
        };
        let watched = || WatchedKind::all(Shard::default(), |_| None);
        assert_eq!(annotations(watched()), ["airdock.dev/x", "note"]);
        assert_eq!(annotations(watched().by_labels_alone()), ["airdock.dev/x"]);
    }
}

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

use super::watch_config::HostWatchConfig;
use crate::machinery::error::chain;
use crate::machinery::object_version::is_same_version;
use crate::runtime::guarded::{Guarded, PAGE};
use crate::runtime::planes::PromptBackoff;

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

/// What happened to an object of the host cluster.
#[derive(Clone, Copy, Debug)]
pub struct HostEvent<'a, K> {
    /// The object as it is now, or was last.
    pub object: &'a Guarded<K>,
    /// As it was known before.
    pub before: Option<&'a Guarded<K>>,
    /// Whether it is gone.
    pub deleted: bool,
}

impl<K> HostEvent<'_, K> {
    /// Whether what `facts` tells of the object has changed, or the object has come or gone.
    pub fn changes<T: PartialEq>(&self, facts: impl Fn(&Guarded<K>) -> T) -> bool {
        self.deleted || self.before.is_none_or(|before| facts(before) != facts(self.object))
    }
}

type Listener<K> = Box<dyn Fn(&HostEvent<'_, K>) + Send + Sync>;

/// One kind of the host cluster.
///
/// kube-runtime's own shared streams tell nothing of what is deleted, and drift repair waits for that; so its watcher and
/// store are used, and what happens is told here, after the store has it.
pub struct HostKind<K: HostObject> {
    config: HostWatchConfig<K>,
    store: Store<Guarded<K>>,
    listed: watch::Receiver<bool>,
    listeners: Arc<RwLock<Vec<Listener<K>>>>,
}

/// Writes the store, and tells when it holds all that there is.
struct StoreWriter<K: HostObject> {
    store: Writer<Guarded<K>>,
    listed: watch::Sender<bool>,
}

impl<K: HostObject> Clone for HostKind<K> {
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
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
    pub(super) fn start(client: &Client, config: HostWatchConfig<K>, ended: &CancellationToken) -> Self {
        let mut watching = watcher::Config::default().page_size(PAGE);
        if let Some(label) = config.label {
            watching = watching.labels(label);
        }
        let events = watcher(Api::<Guarded<K>>::all(client.clone()), watching);
        let events = StreamBackoff::new(events, PromptBackoff::default());
        let (kind, mut writer) = Self::new(config);
        let following = kind.clone();
        tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => following.apply_event(&mut writer, event),
                    Err(error) => {
                        let kind = K::kind(&());
                        tracing::debug!(%kind, error = chain(&error), "watch is interrupted and will resume");
                    }
                }
            }
        }));
        kind
    }

    fn new(config: HostWatchConfig<K>) -> (Self, StoreWriter<K>) {
        let (store, writer) = reflector::store();
        let (sender, listed) = watch::channel(false);
        (Self { config, store, listed, listeners: Arc::default() }, StoreWriter { store: writer, listed: sender })
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
            listener(&HostEvent { object: &object, before: None, deleted: false });
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
        let config = self.config.clone();
        let changed = self.subscribe(move |event| {
            config.is_owned(event.object).then(|| ObjectRef::from_obj(event.object)).into_iter().collect()
        });
        Controller::for_stream(futures::stream::pending(), self.store()).reconcile_on(changed)
    }

    fn apply_event(&self, writer: &mut StoreWriter<K>, event: Event<Guarded<K>>) {
        let Some(event) = self.config.kept(event) else { return };
        let known = match &event {
            Event::Apply(object) | Event::Delete(object) => self.store.get(&ObjectRef::from_obj(object)),
            _ => None,
        };
        let mut before: HashMap<_, _> = match &event {
            Event::InitDone => self.store.state().into_iter().map(|object| (place(object.as_ref()), object)).collect(),
            // Nobody was told of it.
            Event::Delete(_) if known.is_none() => return,
            _ => HashMap::new(),
        };
        writer.store.apply_watcher_event(&event);
        match event {
            Event::Init | Event::InitApply(_) => {}
            Event::Apply(object) => self.notify(&object, known.as_deref(), false),
            Event::Delete(object) => self.notify(&object, known.as_deref(), true),
            Event::InitDone => {
                for object in self.store.state() {
                    let known = before.remove(&place(object.as_ref()));
                    if known.as_ref().is_none_or(|known| !is_same_version(known.as_ref(), object.as_ref())) {
                        self.notify(&object, known.as_deref(), false);
                    }
                }
                before.values().for_each(|gone| self.notify(gone, Some(gone.as_ref()), true));
                writer.listed.send_replace(true);
            }
        }
    }

    fn notify(&self, object: &Guarded<K>, before: Option<&Guarded<K>>, deleted: bool) {
        let event = HostEvent { object, before, deleted };
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
    use crate::runtime::shard::{Shard, one_of_two};
    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;
    use serde_json::json;

    type Kind = HostKind<ConfigMap>;

    fn object(name: &str, version: &str, instance: &str) -> Guarded<ConfigMap> {
        let labels = json!({"airdock.dev/instance": instance});
        let metadata =
            json!({"name": name, "namespace": "team", "uid": name, "resourceVersion": version, "labels": labels});
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

    fn list(kind: &Kind, writer: &mut StoreWriter<ConfigMap>, objects: Vec<Guarded<ConfigMap>>) {
        kind.apply_event(writer, Event::Init);
        objects.into_iter().for_each(|object| kind.apply_event(writer, Event::InitApply(object)));
        kind.apply_event(writer, Event::InitDone);
    }

    #[test]
    fn listeners_are_told_of_what_there_is_what_changes_and_what_is_gone() {
        let (kind, mut writer) = Kind::new(HostWatchConfig::all(Shard::default(), |_| None));
        let early = told(&kind);
        list(&kind, &mut writer, vec![object("a", "1", "x"), object("b", "2", "x")]);
        assert_eq!(taken(&early), ["+a", "+b"]);
        let late = told(&kind);
        assert_eq!(taken(&late), ["+a", "+b"], "who comes later misses nothing");
        list(&kind, &mut writer, vec![object("a", "1", "x"), object("c", "3", "x")]);
        assert_eq!(taken(&early), ["+c", "-b"], "what a list after an interruption shows");
        kind.apply_event(&mut writer, Event::Apply(object("a", "4", "x")));
        kind.apply_event(&mut writer, Event::Delete(object("c", "5", "x")));
        assert_eq!(taken(&late), ["+a", "+c", "-b", "-c"]);
    }

    #[test]
    fn listeners_are_told_how_an_object_was_before() {
        let (kind, mut writer) = Kind::new(HostWatchConfig::all(Shard::default(), |_| None));
        list(&kind, &mut writer, vec![object("a", "1", "x"), object("b", "2", "x")]);
        let changed = Arc::new(Mutex::new(Vec::new()));
        let log = changed.clone();
        kind.listen(move |event| {
            let changes = event.changes(|object| object.labels().get("airdock.dev/instance").cloned());
            log.lock().push((event.object.name_any(), event.before.and_then(ResourceExt::resource_version), changes));
        });
        let told = |before: Option<&str>, changes: bool| ("a".to_owned(), before.map(str::to_owned), changes);
        changed.lock().clear();
        kind.apply_event(&mut writer, Event::Apply(object("a", "3", "x")));
        kind.apply_event(&mut writer, Event::Apply(object("a", "4", "y")));
        list(&kind, &mut writer, vec![object("a", "5", "y"), object("b", "2", "x")]);
        kind.apply_event(&mut writer, Event::Delete(object("a", "6", "y")));
        kind.apply_event(&mut writer, Event::Apply(object("a", "7", "y")));
        assert_eq!(
            *changed.lock(),
            [
                told(Some("1"), false),
                told(Some("3"), true),
                told(Some("4"), false),
                told(Some("5"), true),
                told(None, true)
            ]
        );
    }

    #[tokio::test]
    async fn all_that_wait_for_a_list_are_woken_by_it() {
        let (kind, mut writer) = Kind::new(HostWatchConfig::all(Shard::default(), |_| None));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let kind = kind.clone();
                tokio::spawn(async move { kind.listed().await })
            })
            .collect();
        // Each has asked, and sleeps.
        tokio::task::yield_now().await;
        list(&kind, &mut writer, vec![object("a", "1", "x")]);
        for task in waiting {
            let woken = tokio::time::timeout(std::time::Duration::from_secs(5), task).await;
            assert!(woken.expect("woken").unwrap());
        }
        assert!(kind.listed().await, "who comes later does not wait");
        drop(writer);
        assert!(kind.listed().await, "the list is known, whatever becomes of the watch");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_list_when_the_process_ends() {
        let (kind, writer) = Kind::new(HostWatchConfig::all(Shard::default(), |_| None));
        drop(writer);
        assert!(!kind.listed().await);
    }

    #[test]
    fn objects_of_other_replicas_are_neither_kept_nor_told_of() {
        let (shard, mine, theirs) = one_of_two();
        let (mine, theirs) = (mine.as_str(), theirs.as_str());
        let config = || HostWatchConfig::all(shard, labelled_instance);
        let (kind, mut writer) = Kind::new(config());
        let log = told(&kind);
        list(&kind, &mut writer, vec![object("a", "1", mine), object("b", "2", theirs)]);
        assert_eq!((taken(&log), kind.store().len()), (vec!["+a".to_owned()], 1));
        kind.apply_event(&mut writer, Event::Apply(object("a", "3", theirs)));
        assert_eq!((taken(&log), kind.store().len()), (vec!["-a".to_owned()], 0), "it went to another replica");

        let (kind, mut writer) = Kind::new(config().known_to_all());
        list(&kind, &mut writer, vec![object("a", "1", mine), object("b", "2", theirs)]);
        assert_eq!(kind.store().len(), 2, "for lookups");
    }
}

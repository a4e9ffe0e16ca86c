//! The engine: serves Karmada's API in a plane of profile Compact, in place of all Karmada components.
//!
//! Watches put what they see into an [`index::Index`], which knows no clients and tells which keys are to be looked at.
//! Queues by key hold these, each key once, and bounded workers take them: templates get a binding ([`schedule`]), objects
//! of members are brought to what is wanted of them ([`dispatch`], one queue a member, so that a slow one delays nobody),
//! and what happens there becomes the status of bindings and templates ([`report`]). Which policy claims a template is
//! written to it, too ([`claim_writer`]).
//!
//! Everything is level-based: a worker looks at what is there now and takes the next step. The binding is the durable
//! inventory of what may be where; it is written before a member is, and goes after it. What is in memory can be lost at
//! any moment.

mod claim_metadata;
mod claim_writer;
mod cluster;
mod connection;
mod definitions;
mod desired;
mod discovery;
mod dispatch;
mod events;
mod index;
mod key;
mod kind_watches;
mod marks;
mod member;
mod member_kinds;
mod mirror;
mod model;
mod namespace_removal;
mod plane;
mod policy;
mod queue;
mod report;
mod rest;
mod schedule;
mod session;
mod summary;
mod template_kinds;
mod templates;
mod update;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch as channel};
use tokio::task::{JoinError, JoinSet};

use self::connection::Credential;
use self::events::Events;
use self::index::{Index, Requeues};
use self::key::{ClusterName, Key, KindKey, PlaneId};
use self::queue::Queue;
use self::rest::Rest;
use crate::machinery::error::chain;
use crate::runtime::client::ClientFactory;
use crate::runtime::metrics::{KindLabel, Metrics};
use crate::runtime::status::StatusWriter;

pub use self::index::{FORCE_UNJOIN_ANNOTATION, UNJOIN_POLICY_ANNOTATION};
pub use self::marks::{ADOPTED_ANNOTATION, Marks, PLANE_ANNOTATION, unmark};
pub use self::model::{BINDING_FINALIZER, CLUSTER_FINALIZER, REMOVING_ANNOTATION};

/// How many keys may wait while the engine counts as idle.
const IDLE_QUEUE_DEPTH: i64 = 16;

/// How many things are done at once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bindings.
    pub plane_concurrency: usize,
    /// Statuses, and as many templates that are told which policy claims them.
    pub report_concurrency: usize,
    /// Objects in each member.
    pub member_concurrency: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { plane_concurrency: 8, report_concurrency: 4, member_concurrency: 6 }
    }
}

/// What the engine runs with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients for members come from.
    pub factory: ClientFactory,
    /// Where work is counted.
    pub metrics: Metrics,
    /// How many things are done at once.
    pub settings: Settings,
    /// Set when everything of the plane is known.
    pub ready: Arc<AtomicBool>,
}

/// The engine: clients and queues around the index.
struct Engine {
    plane: PlaneId,
    started: Instant,
    rest: Rest,
    factory: ClientFactory,
    metrics: Metrics,
    settings: Settings,
    index: Mutex<Index>,
    schedule: Arc<Queue<Key>>,
    report: Arc<Queue<Key>>,
    claims: Arc<Queue<Key>>,
    clusters: Arc<Queue<ClusterName>>,
    dispatch: Mutex<HashMap<ClusterName, Arc<Queue<Key>>>>,
    dispatch_depth: Gauge,
    members: Mutex<HashMap<ClusterName, MemberHandle>>,
    credentials: Mutex<HashMap<String, Credential>>,
    // Clusters whose members must not be connected to, and why.
    refused: Mutex<HashMap<ClusterName, String>>,
    plane_served: Mutex<HashMap<Arc<KindKey>, (ApiResource, bool)>>,
    kinds: channel::Sender<()>,
    unsynced_watches: AtomicUsize,
    watch_synced: Notify,
    unreadable: Family<KindLabel, Counter>,
    events: Events,
    statuses: StatusWriter,
    this: Weak<Engine>,
}

/// Label of a queue.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabel {
    name: &'static str,
}

/// The task that looks after a member; it ends with this.
struct MemberHandle {
    changed: Arc<Notify>,
    task: tokio::task::AbortHandle,
}

impl Drop for MemberHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the engine for a plane until it is dropped. It ends by itself only when a task of it panicked: nothing else would
/// do that task's work again.
pub async fn run(plane: Client, options: Options) {
    let id = plane_id(&plane).await;
    let Options { factory, metrics, settings, ready } = options;
    let depths = Family::<QueueLabel, Gauge>::default();
    let shared = depths.clone();
    metrics.register(|registry| registry.register("workqueue_depth", "Keys that wait for a worker", shared));
    let unreadable = Family::<KindLabel, Counter>::default();
    let shared = unreadable.clone();
    metrics.register(|registry| {
        let help = "Objects of the plane, as often as they were seen, that cannot be read";
        registry.register("airdock_engine_unreadable_objects", help, shared);
    });
    let depth = |name: &'static str| depths.get_or_create(&QueueLabel { name }).clone();
    let (events, publish) = Events::new(plane.clone());
    let engine = Arc::new_cyclic(|this| Engine {
        plane: id.clone(),
        started: Instant::now(),
        statuses: StatusWriter::new(plane.clone(), "engine"),
        rest: Rest::new(plane),
        factory,
        metrics: metrics.clone(),
        settings,
        index: Mutex::new(Index::of(id)),
        schedule: Arc::new(Queue::new(depth("engine-schedule"))),
        report: Arc::new(Queue::new(depth("engine-report"))),
        claims: Arc::new(Queue::new(depth("engine-claim"))),
        clusters: Arc::new(Queue::new(depth("engine-cluster"))),
        dispatch: Mutex::default(),
        dispatch_depth: depth("engine-dispatch"),
        members: Mutex::default(),
        credentials: Mutex::default(),
        refused: Mutex::default(),
        plane_served: Mutex::default(),
        kinds: channel::Sender::new(()),
        unsynced_watches: AtomicUsize::new(plane::INITIAL_WATCHES),
        watch_synced: Notify::new(),
        unreadable,
        events,
        this: this.clone(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(publish);
    plane::start(&engine, &mut tasks);
    while engine.unsynced_watches.load(Ordering::Acquire) > 0 {
        tokio::select! {
            () = engine.watch_synced.notified() => {}
            error = panicked(&mut tasks) => {
                tracing::error!(error = chain(&error), "a task of the engine panicked; the engine ends");
                return;
            }
        }
    }
    tracing::info!(plane = %engine.plane, "everything of the plane is known");
    ready.store(true, Ordering::Release);

    tasks.spawn(template_kinds::follow_templates(engine.clone()));
    let e = engine.clone();
    let work = move |key| schedule::run(e.clone(), key);
    tasks.spawn(engine.schedule.clone().work("engine-schedule", settings.plane_concurrency, metrics.clone(), work));
    let e = engine.clone();
    let work = move |key| report::run(e.clone(), key);
    tasks.spawn(engine.report.clone().work("engine-report", settings.report_concurrency, metrics.clone(), work));
    let e = engine.clone();
    let work = move |key| claim_writer::run(e.clone(), key);
    tasks.spawn(engine.claims.clone().work("engine-claim", settings.report_concurrency, metrics.clone(), work));
    let e = engine.clone();
    let work = move |name| cluster::run(e.clone(), name);
    tasks.spawn(engine.clusters.clone().work("engine-cluster", 4, metrics, work));
    let _members = StopMembers(engine);
    let error = panicked(&mut tasks).await;
    tracing::error!(error = chain(&error), "a task of the engine panicked; the engine ends");
}

/// Waits until one of several tasks panics. Those that come to their end have done their work.
async fn panicked(tasks: &mut JoinSet<()>) -> JoinError {
    loop {
        match tasks.join_next().await {
            Some(Err(error)) => return error,
            Some(Ok(())) => {}
            None => return std::future::pending().await,
        }
    }
}

/// Members are looked after by tasks of their own; they end with the engine.
struct StopMembers(Arc<Engine>);

impl Drop for StopMembers {
    fn drop(&mut self) {
        self.0.members().clear();
    }
}

/// Identity of the plane: the uid of its namespace kube-system. Waits until the plane answers.
async fn plane_id(plane: &Client) -> PlaneId {
    let namespaces: Api<Namespace> = Api::all(plane.clone());
    loop {
        match namespaces.get("kube-system").await {
            Ok(namespace) => return namespace.uid().unwrap_or_default().into(),
            Err(error) => tracing::info!(error = chain(&error), "the plane does not answer yet"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Engine {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock()
    }

    fn members(&self) -> MutexGuard<'_, HashMap<ClusterName, MemberHandle>> {
        self.members.lock()
    }

    /// The time, counted from the engine's start.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Changes the index and queues what follows from it.
    fn change(&self, change: impl FnOnce(&mut Index) -> Requeues) {
        let requeues = {
            let mut index = self.index();
            let mut requeues = change(&mut index);
            requeues.dispatch.retain(|(cluster, _)| index.views.contains_key(cluster));
            requeues
        };
        for key in requeues.schedule {
            self.schedule.add(key);
        }
        for (cluster, key) in requeues.dispatch {
            self.queue_of(&cluster).add(key);
        }
        for key in requeues.report {
            self.report.add_after(key, report::STATUS_DEBOUNCE);
        }
        for key in requeues.claims {
            self.claims.add_after(key, report::STATUS_DEBOUNCE);
        }
        for cluster in requeues.clusters {
            self.clusters.add(cluster);
        }
        if requeues.kinds {
            self.kinds.send_replace(());
        }
    }

    fn queue_of(&self, cluster: &ClusterName) -> Arc<Queue<Key>> {
        let new = || Arc::new(Queue::new(self.dispatch_depth.clone()));
        self.dispatch.lock().entry(cluster.clone()).or_insert_with(new).clone()
    }

    /// Whether many objects wait to be sent to members. Users wait for these, rather than for statuses.
    fn is_delivering(&self) -> bool {
        self.schedule.depth() + self.dispatch_depth.get() > IDLE_QUEUE_DEPTH
    }

    /// An object of the plane was seen that cannot be read.
    fn count_unreadable(&self, kind: &str) {
        self.unreadable.get_or_create(&KindLabel { kind: kind.to_owned() }).inc();
    }

    /// The first list of a watch that the engine waits for is complete.
    fn initial_watch_synced(&self) {
        self.unsynced_watches.fetch_sub(1, Ordering::AcqRel);
        self.watch_synced.notify_one();
    }

    fn start_member(&self, name: &ClusterName) {
        let Some(engine) = self.this.upgrade() else { return };
        self.members().entry(name.clone()).or_insert_with(|| {
            let changed = Arc::new(Notify::new());
            let task = tokio::spawn(member::run_member(engine, name.clone(), changed.clone())).abort_handle();
            MemberHandle { changed, task }
        });
    }

    fn stop_member(&self, name: &ClusterName) {
        self.members().remove(name);
        self.dispatch.lock().remove(name);
    }

    /// The address or the credentials of a member may have changed.
    fn connection_changed(&self, name: &ClusterName) {
        if let Some(handle) = self.members().get(name) {
            handle.changed.notify_one();
        }
    }

    /// How the plane serves a kind.
    fn plane_resource(&self, kind: &Arc<KindKey>) -> Option<ApiResource> {
        self.plane_served.lock().get(kind).map(|(resource, _)| resource.clone())
    }

    /// A kind is not served as it was: how it is, is asked anew.
    fn forget_plane_kind(&self, kind: &Arc<KindKey>) {
        self.plane_served.lock().remove(kind);
    }

    fn set_plane_served(&self, served: HashMap<Arc<KindKey>, (ApiResource, bool)>) {
        *self.plane_served.lock() = served;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panicked_is_noticed_among_others() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(std::future::ready(()));
        tasks.spawn(async { panic!("as a mirror would") });
        assert!(panicked(&mut tasks).await.is_panic());
    }
}

//! One cache for each plane: every controller looks up here, and none lists or watches a plane by itself.
//!
//! **What is watched.** One watch for each kind, of all objects or of those with Airdock's label, with the body or
//! without, as [`watch_config`] says. The kinds that every controller needs are watched from the moment a plane is
//! connected, on standbys as well. The kinds of applications' templates are watched from their first lookup on, until
//! nobody has looked them up for a quarter of an hour. A cache belongs to one connection: with other credentials a plane
//! gets another one, and the watches of the first end.
//!
//! **Events.** What happens to a cached object is told to every subscriber ([`super::Planes::subscribe`]) after the
//! cache has it. A list that follows an interruption tells what has changed meanwhile, and what is gone. kube-runtime's
//! own shared streams tell of neither deletion, and deletions are what drift repair waits for; so its watcher is used,
//! and not its shared store.
//!
//! **Consistency.** A lookup waits until its kind was listed once; a kind that the plane does not serve, or that could
//! not be listed in time, is an error and never an empty answer. What was just written is recorded
//! ([`PlaneCache::record`]) and read back until the watch has caught up, so that nothing is written twice. A cache may
//! still be behind of what others do: whoever is about to make, take over or let go of an object because it is
//! missing here reads it from the plane first, and deletions carry the uid. And a cache goes on to answer while its
//! plane is away: a round begins with [`PlaneCache::check`], whose one request is shared by all rounds of a few
//! seconds.
//!
//! **Objects that cannot be read**, because they are nested too deep, concern who asks for them and nobody else. The
//! cache knows them by their metadata ([`Guarded::known`]): they are there, are somebody's, and can be deleted. Reading
//! one as a type is an error.

mod error;
mod kind;
mod objects;
mod readiness;
mod view;
mod watch_config;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use kube::api::DynamicObject;
use kube::core::{ApiResource, ObjectMeta};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::CacheError;
use self::kind::{KindCache, ListState, watch_kind};
use self::objects::ObjectChange;
use self::readiness::{Readiness, UNREADY_TTL};
pub use self::view::KindView;
use super::events::{PlaneEvent, Subscribers};
use super::{InstanceKey, PromptBackoff};
use crate::chart::MIN_STREAMS_PER_CONNECTION;
use crate::machinery::error::{chain, is_not_found};
use crate::runtime::guarded::omitted;
use crate::runtime::metrics::{KindLabel, Metrics};

/// How long a lookup waits for a kind to be listed.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The cache of one plane.
#[derive(Clone)]
pub struct PlaneCache(Arc<Inner>);

/// Watches that share a connection with requests: all that run in every plane, and the first of those that applications
/// add. A connection has a limited number of streams, which watches keep.
const MAX_SHARED_WATCHES: usize = MIN_STREAMS_PER_CONNECTION / 2;

/// Clients of one plane.
pub struct PlaneClients {
    /// For requests and [`MAX_SHARED_WATCHES`], which share a connection.
    pub client: Client,
    /// For further watches, each of which has a connection.
    pub unshared: Client,
}

struct Inner {
    instance: InstanceKey,
    clients: PlaneClients,
    subscribers: Subscribers,
    metrics: Metrics,
    kinds: Mutex<HashMap<ApiResource, Arc<KindCache>>>,
    readiness: Readiness,
    /// Whether the plane has ever answered.
    up: watch::Sender<bool>,
    ended: CancellationToken,
}

impl fmt::Debug for PlaneCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaneCache").field("instance", &self.0.instance).finish_non_exhaustive()
    }
}

impl PlaneCache {
    /// Starts to watch what is watched in every plane. The watches run until `ended`.
    #[must_use]
    pub fn start(
        instance: InstanceKey,
        clients: PlaneClients,
        subscribers: Subscribers,
        metrics: Metrics,
        ended: CancellationToken,
    ) -> Self {
        let cache = Self(Arc::new(Inner {
            instance,
            readiness: Readiness::new(clients.client.clone()),
            clients,
            subscribers,
            metrics,
            kinds: Mutex::default(),
            up: watch::Sender::new(false),
            ended: ended.clone(),
        }));
        let first = cache.clone();
        tokio::spawn(ended.run_until_cancelled_owned(async move { first.wait_for_first_answer().await }));
        for resource in watch_config::permanent() {
            cache.watched(&resource, true);
        }
        cache
    }

    /// Watches of a plane that is about to start would fail, and then wait: they begin when it has answered.
    async fn wait_for_first_answer(&self) {
        while self.check().await.is_err() {
            tokio::time::sleep(UNREADY_TTL).await;
        }
        self.0.up.send_replace(true);
    }

    /// Ends all watches.
    pub fn stop(&self) {
        self.0.ended.cancel();
    }

    /// Makes sure that the plane answers. Asks at most once in a few seconds, and at once after a watch has failed.
    ///
    /// # Errors
    /// It does not answer, or says that it is not ready.
    pub async fn check(&self) -> Result<(), CacheError> {
        self.0.readiness.check().await
    }

    /// The objects of a kind, once they were listed. Those that are not watched yet are watched from here on.
    ///
    /// # Errors
    /// The plane does not serve the kind, or it could not be listed in time.
    pub async fn kind(&self, resource: &ApiResource) -> Result<KindView, CacheError> {
        let kind = self.watched(resource, false);
        let mut list_state = kind.list_state.subscribe();
        let decided = list_state.wait_for(|state| *state != ListState::Listing);
        let state = match tokio::time::timeout(LIST_TIMEOUT, decided).await {
            Ok(Ok(state)) => *state,
            Ok(Err(_)) | Err(_) => ListState::Listing,
        };
        match state {
            ListState::Listed => Ok(KindView(kind)),
            ListState::NotServed => {
                Err(CacheError::NotServed { api_version: resource.api_version.clone(), kind: resource.kind.clone() })
            }
            ListState::Listing => Err(CacheError::NotListed { kind: resource.kind.clone() }),
        }
    }

    /// The objects of a kind, if they are listed by now.
    #[must_use]
    pub fn listed(&self, resource: &ApiResource) -> Option<KindView> {
        let kind = self.watched(resource, false);
        let listed = *kind.list_state.borrow() == ListState::Listed;
        listed.then_some(KindView(kind))
    }

    /// Records an object as the plane answered that it was written. A kind that is not watched is not recorded.
    pub fn record(&self, resource: &ApiResource, object: &DynamicObject) {
        let kind = self.0.kinds.lock().get(resource).cloned();
        if let Some(kind) = kind {
            let mut object = object.clone();
            kind.config.trim(&mut object);
            kind.objects.write().record(object, Instant::now());
        }
    }

    /// How many watches run.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.0.kinds.lock().len()
    }

    /// The kind, which is watched from here on; ends the watches of those that are not used any more.
    fn watched(&self, resource: &ApiResource, permanent: bool) -> Arc<KindCache> {
        let now = Instant::now();
        let mut kinds = self.0.kinds.lock();
        kinds.retain(|known, kind| known == resource || kind.is_used(now));
        let is_shared = kinds.values().filter(|kind| kind.is_shared).count() < MAX_SHARED_WATCHES;
        let kind = kinds.entry(resource.clone()).or_insert_with(|| {
            let kind = Arc::new(KindCache::new(resource, permanent, is_shared, self.0.ended.child_token()));
            let (cache, following) = (self.clone(), kind.clone());
            let follow = async move { cache.follow(&following).await };
            tokio::spawn(kind.ended.clone().run_until_cancelled_owned(follow));
            kind
        });
        kind.touch(now);
        kind.clone()
    }

    /// Keeps a kind up to date, and tells what happens to its objects.
    async fn follow(&self, cache: &KindCache) {
        // An error means that the cache is gone.
        let _ = self.0.up.subscribe().wait_for(|up| *up).await;
        let PlaneClients { client, unshared } = &self.0.clients;
        let client = if cache.is_shared { client } else { unshared };
        loop {
            let events = StreamBackoff::new(watch_kind(client.clone(), &cache.config), PromptBackoff::default());
            let mut events = std::pin::pin!(events);
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => self.apply_event(cache, event),
                        None => return,
                    },
                    // Begins anew, without waiting for the backoff.
                    () = cache.defined.notified() => break,
                }
            }
        }
    }

    fn apply_event(&self, cache: &KindCache, event: watcher::Result<Event<DynamicObject>>) {
        let Inner { instance, subscribers, .. } = self.0.as_ref();
        let resource = &cache.config.resource;
        let event = match event {
            Ok(event) => event.modify(|object| cache.config.trim(object)),
            Err(watcher::Error::InitialListFailed(error)) if is_not_found(&error) => {
                cache.set_list_state(ListState::NotServed);
                return;
            }
            Err(error) => {
                tracing::debug!(%instance, kind = resource.kind, error = chain(&error), "watch is interrupted and will resume");
                self.0.readiness.invalidate();
                return;
            }
        };
        if let Event::InitApply(object) | Event::Apply(object) = &event {
            self.count_unreadable(resource, object);
        }
        let is_listed = matches!(event, Event::InitDone);
        let changes = cache.objects.write().apply_event(event);
        if is_listed {
            cache.set_list_state(ListState::Listed);
        }
        if !changes.is_empty() && watch_config::defines_others(resource) {
            self.retry_unserved();
        }
        for ObjectChange { object, before, deleted } in &changes {
            let before = before.as_deref();
            subscribers.notify(&PlaneEvent { instance, resource, object, before, deleted: *deleted });
        }
    }

    fn count_unreadable(&self, resource: &ApiResource, object: &DynamicObject) {
        let Some(problem) = omitted(&object.data) else { return };
        let Inner { instance, metrics, .. } = self.0.as_ref();
        let (kind, ObjectMeta { namespace, name, .. }) = (&resource.kind, &object.metadata);
        tracing::warn!(%instance, kind, namespace, name, problem, "object cannot be read");
        metrics.unreadable.get_or_create(&KindLabel { kind: kind.clone() }).inc();
    }

    /// A definition has changed: kinds that were not served may be by now.
    fn retry_unserved(&self) {
        let kinds = self.0.kinds.lock();
        let unserved = kinds.values().filter(|kind| *kind.list_state.borrow() == ListState::NotServed);
        unserved.for_each(|kind| kind.defined.notify_one());
    }
}

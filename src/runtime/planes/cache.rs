//! One cache for each plane: every controller looks up here, and none lists or watches a plane by itself.
//!
//! **What is watched.** One watch for each kind, of all objects or of those with Airdock's label, with the body or
//! without, as [`kinds`] says. The kinds that every controller needs are watched from the moment a plane is
//! connected, on standbys as well. The kinds of applications' templates are watched from their first lookup on, until
//! nobody has looked them up for [`UNUSED_AFTER`]. A cache belongs to one connection: with other credentials a plane
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

pub mod kinds;
mod objects;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::{ApiResource, ObjectMeta, TypeMeta};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::kinds::{Body, Selection, WatchedKind};
use self::objects::{Change, Objects};
use super::events::{PlaneEvent, Subscribers};
use super::{InstanceKey, PromptBackoff};
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::machinery::error::{Class, Classified, chain, is_not_found};
use crate::runtime::apply::typed;
use crate::runtime::guarded::{Guarded, PAGE, omitted};
use crate::runtime::metrics::{KindLabel, Metrics};

/// How long a lookup waits for a kind to be listed.
const FILL_WITHIN: Duration = Duration::from_secs(10);

/// How long a kind stays watched that nobody looks up. Every object is reconciled more often than this.
const UNUSED_AFTER: Duration = Duration::from_secs(15 * 60);

/// How long a plane that has answered need not be asked again.
const ANSWER_HOLDS: Duration = Duration::from_secs(5);

/// How long one that has not is taken for away without being asked again.
const SILENCE_HOLDS: Duration = Duration::from_millis(300);

/// How long a plane may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why a lookup has no answer.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// The plane has no such kind, or none yet.
    #[error("the plane does not serve {kind} of {api_version}")]
    NotServed {
        /// API version.
        api_version: String,
        /// Kind.
        kind: String,
    },
    /// The kind was not listed in time.
    #[error("{kind} of the plane could not be listed within {} s", FILL_WITHIN.as_secs())]
    NotListed {
        /// Kind.
        kind: String,
    },
    /// The plane does not answer.
    #[error("the plane does not answer: {0}")]
    Away(String),
    /// An object is not what its kind should be.
    #[error("{kind} {name} of the plane cannot be read: {problem}; correct or delete it")]
    Unreadable {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Classified for CacheError {
    fn class(&self) -> Class {
        Class::Retry
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotServed { .. } => "KindNotServed",
            Self::NotListed { .. } | Self::Away(_) => "PlaneUnreachable",
            Self::Unreadable { .. } => "ObjectUnreadable",
        }
    }
}

/// Whether a kind was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    Listing,
    Listed,
    NotServed,
}

/// One kind of one plane.
struct KindCache {
    kind: WatchedKind,
    objects: RwLock<Objects>,
    fill: watch::Sender<Fill>,
    used: Mutex<Instant>,
    permanent: bool,
    /// Told when a kind that was not served may be by now.
    defined: Notify,
    ended: CancellationToken,
}

/// The cache of one plane.
#[derive(Clone)]
pub struct PlaneCache(Arc<Inner>);

struct Inner {
    instance: InstanceKey,
    client: Client,
    subscribers: Subscribers,
    metrics: Metrics,
    kinds: Mutex<HashMap<ApiResource, Arc<KindCache>>>,
    asking: tokio::sync::Mutex<()>,
    answer: Mutex<Option<(Instant, Result<(), String>)>>,
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
        client: Client,
        subscribers: Subscribers,
        metrics: Metrics,
        ended: CancellationToken,
    ) -> Self {
        let cache = Self(Arc::new(Inner {
            instance,
            client,
            subscribers,
            metrics,
            kinds: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            answer: Mutex::default(),
            up: watch::Sender::new(false),
            ended: ended.clone(),
        }));
        let first = cache.clone();
        tokio::spawn(ended.run_until_cancelled_owned(async move { first.wait_for_first_answer().await }));
        for resource in kinds::permanent() {
            cache.watched(&resource, true);
        }
        cache
    }

    /// Watches of a plane that is about to start would fail, and then wait: they begin when it has answered.
    async fn wait_for_first_answer(&self) {
        while self.check().await.is_err() {
            tokio::time::sleep(SILENCE_HOLDS).await;
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
        let Inner { client, asking, answer, .. } = self.0.as_ref();
        let known = || {
            let answer = answer.lock();
            let (at, result) = answer.as_ref()?;
            let holds = if result.is_ok() { ANSWER_HOLDS } else { SILENCE_HOLDS };
            (at.elapsed() < holds).then(|| result.clone().map_err(CacheError::Away))
        };
        if let Some(known) = known() {
            return known;
        }
        let _asking = asking.lock().await;
        // Somebody else may have asked while this one waited.
        if let Some(known) = known() {
            return known;
        }
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(|e| CacheError::Away(e.to_string()))?;
        let result = match tokio::time::timeout(ANSWER_WITHIN, client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
        };
        *answer.lock() = Some((Instant::now(), result.clone()));
        result.map_err(CacheError::Away)
    }

    /// The objects of a kind, once they were listed. Those that are not watched yet are watched from here on.
    ///
    /// # Errors
    /// The plane does not serve the kind, or it could not be listed in time.
    pub async fn kind(&self, resource: &ApiResource) -> Result<KindView, CacheError> {
        let kind = self.watched(resource, false);
        let mut fill = kind.fill.subscribe();
        let filled = tokio::time::timeout(FILL_WITHIN, fill.wait_for(|fill| *fill != Fill::Listing)).await;
        let filled = match filled {
            Ok(Ok(fill)) => *fill,
            Ok(Err(_)) | Err(_) => Fill::Listing,
        };
        match filled {
            Fill::Listed => Ok(KindView(kind)),
            Fill::NotServed => {
                Err(CacheError::NotServed { api_version: resource.api_version.clone(), kind: resource.kind.clone() })
            }
            Fill::Listing => Err(CacheError::NotListed { kind: resource.kind.clone() }),
        }
    }

    /// The objects of a kind, if they are listed by now.
    #[must_use]
    pub fn listed(&self, resource: &ApiResource) -> Option<KindView> {
        let kind = self.watched(resource, false);
        let listed = *kind.fill.borrow() == Fill::Listed;
        listed.then_some(KindView(kind))
    }

    /// Records an object as the plane answered that it was written. A kind that is not watched is not recorded.
    pub fn record(&self, resource: &ApiResource, object: &DynamicObject) {
        let kind = self.0.kinds.lock().get(resource).cloned();
        if let Some(kind) = kind {
            let mut object = object.clone();
            kind.kind.trim(&mut object);
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
        let kind = kinds.entry(resource.clone()).or_insert_with(|| {
            let kind = Arc::new(KindCache {
                kind: WatchedKind::of(resource),
                objects: RwLock::default(),
                fill: watch::Sender::new(Fill::Listing),
                used: Mutex::new(now),
                permanent,
                defined: Notify::new(),
                ended: self.0.ended.child_token(),
            });
            let (cache, following) = (self.clone(), kind.clone());
            let follow = async move { cache.follow(&following).await };
            tokio::spawn(kind.ended.clone().run_until_cancelled_owned(follow));
            kind
        });
        *kind.used.lock() = now;
        kind.clone()
    }

    /// Keeps a kind up to date, and tells what happens to its objects.
    async fn follow(&self, cache: &KindCache) {
        // An error means that the cache is gone.
        let _ = self.0.up.subscribe().wait_for(|up| *up).await;
        loop {
            let events = StreamBackoff::new(events(self.0.client.clone(), &cache.kind), PromptBackoff::default());
            let mut events = std::pin::pin!(events);
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => self.take(cache, event),
                        None => return,
                    },
                    // Begins anew, without waiting for the backoff.
                    () = cache.defined.notified() => break,
                }
            }
        }
    }

    fn take(&self, cache: &KindCache, event: watcher::Result<Event<DynamicObject>>) {
        let Inner { instance, subscribers, .. } = self.0.as_ref();
        let resource = &cache.kind.resource;
        let event = match event {
            Ok(event) => event.modify(|object| cache.kind.trim(object)),
            Err(watcher::Error::InitialListFailed(error)) if is_not_found(&error) => {
                cache.filled(Fill::NotServed);
                return;
            }
            Err(error) => {
                tracing::debug!(%instance, kind = resource.kind, error = chain(&error), "watch is interrupted and will resume");
                *self.0.answer.lock() = None;
                return;
            }
        };
        if let Event::InitApply(object) | Event::Apply(object) = &event {
            self.count_unreadable(resource, object);
        }
        let is_listed = matches!(event, Event::InitDone);
        let changes = cache.objects.write().take(event);
        if is_listed {
            cache.filled(Fill::Listed);
        }
        if !changes.is_empty() && kinds::defines_others(resource) {
            self.retry_unserved();
        }
        for Change { object, before, deleted } in &changes {
            let before = before.as_deref();
            subscribers.tell(&PlaneEvent { instance, resource, object, before, deleted: *deleted });
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
        let unserved = kinds.values().filter(|kind| *kind.fill.borrow() == Fill::NotServed);
        unserved.for_each(|kind| kind.defined.notify_one());
    }
}

impl KindCache {
    fn filled(&self, fill: Fill) {
        self.fill.send_if_modified(|known| std::mem::replace(known, fill) != fill);
    }

    /// Whether the kind is to be watched any longer; ends its watch when not.
    fn is_used(&self, now: Instant) -> bool {
        let used = *self.used.lock();
        let keeps = self.permanent || now.duration_since(used) < UNUSED_AFTER;
        if !keeps {
            self.ended.cancel();
        }
        keeps
    }
}

/// The watch of a kind, by metadata alone where nothing more is kept.
fn events(client: Client, kind: &WatchedKind) -> BoxStream<'static, watcher::Result<Event<DynamicObject>>> {
    let resource = &kind.resource;
    let config = watcher::Config::default().page_size(PAGE);
    let config = match kind.selection {
        Selection::All => config,
        Selection::Managed => config.labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}")),
    };
    match kind.body {
        Body::Metadata => {
            let api = Api::<Guarded<PartialObjectMeta<DynamicObject>>>::all_with(client, resource);
            watcher::watcher(api, config).map_ok(|event| each(event, without_body)).boxed()
        }
        Body::Full | Body::ManagedOr(_) | Body::Trimmed(_) => {
            let api = Api::<Guarded<DynamicObject>>::all_with(client, resource);
            watcher::watcher(api, config).map_ok(|event| each(event, Guarded::known)).boxed()
        }
    }
}

/// The metadata is all that is kept, and it is known of every object.
fn without_body(found: Guarded<PartialObjectMeta<DynamicObject>>) -> DynamicObject {
    let metadata = found.0.map_or_else(|invalid| invalid.metadata, |found| found.metadata);
    DynamicObject { types: None, metadata, data: serde_json::Value::Null }
}

fn each<A, B>(event: Event<A>, object: impl Fn(A) -> B) -> Event<B> {
    match event {
        Event::Apply(found) => Event::Apply(object(found)),
        Event::Delete(found) => Event::Delete(object(found)),
        Event::Init => Event::Init,
        Event::InitApply(found) => Event::InitApply(object(found)),
        Event::InitDone => Event::InitDone,
    }
}

/// The objects of one kind of one plane.
#[derive(Clone)]
pub struct KindView(Arc<KindCache>);

impl fmt::Debug for KindView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KindView").field(&self.0.kind.resource.kind).finish()
    }
}

impl KindView {
    /// Where the objects are.
    #[must_use]
    pub fn resource(&self) -> &ApiResource {
        &self.0.kind.resource
    }

    /// An object, as far as it is [known](Guarded::known).
    #[must_use]
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<DynamicObject> {
        let objects = self.0.objects.read();
        objects.get(namespace, name, Instant::now()).map(|object| self.named(&object))
    }

    /// The objects that are meant, as far as they are [known](Guarded::known).
    #[must_use]
    pub fn list(&self, is_meant: impl Fn(&DynamicObject) -> bool) -> Vec<DynamicObject> {
        let objects = self.0.objects.read();
        objects.all(Instant::now()).filter(|object| is_meant(object)).map(|object| self.named(object)).collect()
    }

    /// Calls a function with each object.
    pub fn each(&self, mut visit: impl FnMut(&DynamicObject)) {
        let objects = self.0.objects.read();
        objects.all(Instant::now()).for_each(|object| visit(object));
    }

    /// A typed object.
    ///
    /// # Errors
    /// It cannot be read, or is not of that type.
    pub fn get_typed<K>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, CacheError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        self.get(namespace, name).map(|object| self.typed(object)).transpose()
    }

    /// The typed objects that are meant. One that is not of the type is left out, and costs the others nothing.
    #[must_use]
    pub fn list_typed<K>(&self, is_meant: impl Fn(&DynamicObject) -> bool) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let objects = self.list(is_meant).into_iter();
        objects
            .filter_map(|object| {
                self.typed(object).inspect_err(|error| tracing::warn!(error = chain(error), "object is left out")).ok()
            })
            .collect()
    }

    fn typed<K: DeserializeOwned>(&self, object: DynamicObject) -> Result<K, CacheError> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let unreadable = |problem: &str| CacheError::Unreadable {
            kind: self.resource().kind.clone(),
            name,
            problem: problem.to_owned(),
        };
        match omitted(&object.data) {
            Some(problem) => Err(unreadable(problem)),
            None => typed(object).map_err(|error| unreadable(&error.to_string())),
        }
    }

    /// The cache keeps no types: they are those of the kind.
    fn named(&self, object: &DynamicObject) -> DynamicObject {
        let ApiResource { api_version, kind, .. } = self.resource();
        let types = TypeMeta { api_version: api_version.clone(), kind: kind.clone() };
        DynamicObject { types: Some(types), ..object.clone() }
    }
}

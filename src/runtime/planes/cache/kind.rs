//! One kind of one plane: its objects, and the watch that tells of them. *IO.*

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::objects::Objects;
use super::watch_config::{Body, PlaneWatchConfig, Selection};
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::runtime::guarded::{Guarded, PAGE};

/// How long a kind stays watched that nobody looks up. Every object is reconciled more often than this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Whether a kind was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListState {
    Listing,
    Listed,
    NotServed,
}

/// One kind of one plane.
pub(super) struct KindCache {
    pub(super) config: PlaneWatchConfig,
    pub(super) objects: RwLock<Objects>,
    pub(super) list_state: watch::Sender<ListState>,
    /// When it was last looked up.
    used: Mutex<Instant>,
    permanent: bool,
    /// Whether its watch shares a connection.
    pub(super) is_shared: bool,
    /// Told when a kind that was not served may be by now.
    pub(super) defined: Notify,
    pub(super) ended: CancellationToken,
}

impl KindCache {
    pub(super) fn new(resource: &ApiResource, permanent: bool, is_shared: bool, ended: CancellationToken) -> Self {
        Self {
            config: PlaneWatchConfig::of(resource),
            objects: RwLock::default(),
            list_state: watch::Sender::new(ListState::Listing),
            used: Mutex::new(Instant::now()),
            permanent,
            is_shared,
            defined: Notify::new(),
            ended,
        }
    }

    /// Keeps it watched for a while.
    pub(super) fn touch(&self, now: Instant) {
        *self.used.lock() = now;
    }

    pub(super) fn set_list_state(&self, list_state: ListState) {
        self.list_state.send_if_modified(|known| std::mem::replace(known, list_state) != list_state);
    }

    /// Whether the kind is to be watched any longer; ends its watch when not.
    pub(super) fn is_used(&self, now: Instant) -> bool {
        let used = *self.used.lock();
        let keeps = self.permanent || now.duration_since(used) < IDLE_TIMEOUT;
        if !keeps {
            self.ended.cancel();
        }
        keeps
    }
}

/// The watch of a kind, by metadata alone where nothing more is kept.
pub(super) fn watch_kind(
    client: Client,
    config: &PlaneWatchConfig,
) -> BoxStream<'static, watcher::Result<Event<DynamicObject>>> {
    let resource = &config.resource;
    let all = watcher::Config::default().page_size(PAGE);
    let selected = match config.selection {
        Selection::All => all,
        Selection::Managed => all.labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}")),
    };
    match config.body {
        Body::Metadata => {
            let api = Api::<Guarded<PartialObjectMeta<DynamicObject>>>::all_with(client, resource);
            watcher::watcher(api, selected).map_ok(|event| map_object(event, without_body)).boxed()
        }
        Body::Full | Body::ManagedOr(_) | Body::Trimmed(_) => {
            let api = Api::<Guarded<DynamicObject>>::all_with(client, resource);
            watcher::watcher(api, selected).map_ok(|event| map_object(event, Guarded::known)).boxed()
        }
    }
}

/// The metadata is all that is kept, and it is known of every object.
fn without_body(found: Guarded<PartialObjectMeta<DynamicObject>>) -> DynamicObject {
    let metadata = found.0.map_or_else(|invalid| invalid.metadata, |found| found.metadata);
    DynamicObject { types: None, metadata, data: serde_json::Value::Null }
}

fn map_object<A, B>(event: Event<A>, object: impl Fn(A) -> B) -> Event<B> {
    match event {
        Event::Apply(found) => Event::Apply(object(found)),
        Event::Delete(found) => Event::Delete(object(found)),
        Event::Init => Event::Init,
        Event::InitApply(found) => Event::InitApply(object(found)),
        Event::InitDone => Event::InitDone,
    }
}

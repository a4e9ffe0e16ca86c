//! Clients for the planes of all instances, and caches of what they hold.
//!
//! An instance's controller writes a Secret with the operator's own kubeconfig for the plane, labelled
//! `airdock.dev/purpose=operator-kubeconfig`. From these Secrets come one client and one [`cache`] for each plane; the
//! other controllers ask here by instance, and subscribe to what happens in planes.

pub mod cache;
mod client_cache;
mod events;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::cache::PlaneCache;
use self::client_cache::{CacheStarter, Connector, PlaneClientCache};
pub use self::events::{PlaneEvent, PromptBackoff, Subscribers};
use super::client::ClientFactory;
use super::host_cache::HostCache;
use super::metrics::Metrics;
use crate::api::OPERATOR_KUBECONFIG;
use crate::api::common::InstanceRef;
use crate::machinery::error::{Class, Classified};

/// Key of kubeconfigs in Secrets.
pub const KUBECONFIG_KEY: &str = "kubeconfig";

/// An instance by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// Namespace in the host cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl InstanceKey {
    /// The instance that a reference in an object of `namespace` means.
    #[must_use]
    pub fn of(reference: &InstanceRef, namespace: &str) -> Self {
        Self {
            namespace: reference.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            name: reference.name.clone(),
        }
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How Services of the host cluster are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ServiceAccess {
    /// By DNS name: inside the host cluster.
    #[default]
    Dns,
    /// By the Service's cluster IP: from a machine that routes to the Service network but has no cluster DNS.
    ClusterIp,
}

/// Why there is no client for a plane.
#[derive(thiserror::Error, Debug)]
pub enum PlaneError {
    /// The instance is not there, or not that far yet.
    #[error("the plane of instance {0} is not available yet: it waits for the instance to be installed")]
    Unavailable(InstanceKey),
    /// There is a kubeconfig for it, which could not be used yet.
    #[error("connecting to the plane of instance {0}")]
    Connecting(InstanceKey),
}

impl Classified for PlaneError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) => Class::Blocked,
            Self::Connecting(_) => Class::Retry,
        }
    }
    fn reason(&self) -> &'static str {
        "InstanceNotReady"
    }
}

/// A plane that can be talked to.
#[derive(Clone)]
pub struct Plane {
    /// The instance.
    pub key: InstanceKey,
    /// A client with the operator's own identity in the plane.
    pub client: Client,
    /// What the plane holds.
    pub cache: PlaneCache,
    digest: [u8; 32],
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plane").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What is known of all planes.
#[derive(Clone, Debug, Default)]
struct State {
    planes: BTreeMap<InstanceKey, Arc<Plane>>,
    /// Those whose kubeconfig could not be used yet.
    connecting: BTreeSet<InstanceKey>,
    /// Whether every kubeconfig was looked at once.
    listed: bool,
}

/// The planes of all instances.
#[derive(Clone, Debug)]
pub struct Planes {
    state: watch::Receiver<State>,
    subscribers: Subscribers,
}

impl Planes {
    /// Starts to follow the kubeconfigs that the host cluster holds; the future runs until shutdown.
    pub fn start(
        host: HostCache,
        factory: ClientFactory,
        service_access: ServiceAccess,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, state) = watch::channel(State::default());
        let subscribers = Subscribers::default();
        let connector = Connector { host: host.client().clone(), factory, service_access };
        let caches = CacheStarter { subscribers: subscribers.clone(), metrics, shutdown: shutdown.clone() };
        let client_cache = PlaneClientCache::new(host, connector, caches, sender);
        let task = async move {
            tokio::select! {
                () = client_cache.run() => {}
                () = shutdown.cancelled() => {}
            }
        };
        (Self { state, subscribers }, task)
    }

    /// Waits until every kubeconfig was looked at once: before, each plane would look unavailable.
    pub async fn listed(&self) {
        // An error means that the process is ending.
        let _ = self.state.clone().wait_for(|state| state.listed).await;
    }

    /// The plane of an instance.
    pub fn get(&self, key: &InstanceKey) -> Result<Arc<Plane>, PlaneError> {
        let state = self.state.borrow();
        match state.planes.get(key) {
            Some(plane) => Ok(plane.clone()),
            None if state.connecting.contains(key) || !state.listed => Err(PlaneError::Connecting(key.clone())),
            None => Err(PlaneError::Unavailable(key.clone())),
        }
    }

    /// All planes there are now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Plane>> {
        self.state.borrow().planes.values().cloned().collect()
    }
}

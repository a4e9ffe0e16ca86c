//! Clients for the planes of all instances, and watches in them.
//!
//! An instance's controller writes a Secret with the operator's own kubeconfig for the plane, labelled
//! `airdock.dev/purpose=operator-kubeconfig`. A watch on these Secrets keeps one client per plane; the other
//! controllers ask here by instance, and get triggers from watches that start and stop with the planes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::utils::{Backoff, StreamBackoff};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_kind};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{ClientError, ClientFactory};
use super::error::{Class, Classified};
use super::kubeconfig::{self, KubeconfigError};
use crate::api::common::InstanceRef;
use crate::api::{INSTANCE_LABEL, PURPOSE_LABEL};

/// Value of the purpose label on Secrets with the operator's kubeconfig for a plane.
pub const OPERATOR_KUBECONFIG: &str = "operator-kubeconfig";

/// Value of the purpose label on Secrets with the administrator's kubeconfig for a plane.
pub const ADMIN_KUBECONFIG: &str = "admin-kubeconfig";

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
}

impl Classified for PlaneError {
    fn class(&self) -> Class {
        Class::Blocked
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
    digest: [u8; 32],
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plane").field("key", &self.key).finish_non_exhaustive()
    }
}

type PlaneMap = BTreeMap<InstanceKey, Arc<Plane>>;

/// The planes of all instances.
#[derive(Clone, Debug)]
pub struct Planes {
    planes: watch::Receiver<PlaneMap>,
}

#[derive(thiserror::Error, Debug)]
enum ConnectError {
    #[error("Secret has no key {KUBECONFIG_KEY}")]
    NoKubeconfig,
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("look up Service {0}")]
    Service(String, #[source] kube::Error),
    #[error("Service {0} has no cluster IP yet")]
    NoClusterIp(String),
}

impl Planes {
    /// Starts watching; the future runs until shutdown.
    pub fn start(
        host: Client,
        factory: ClientFactory,
        access: ServiceAccess,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, planes) = watch::channel(PlaneMap::new());
        let keeper = Keeper { host, factory, access, sender, waiting: BTreeMap::new() };
        let task = async move {
            tokio::select! {
                () = keeper.run() => {}
                () = shutdown.cancelled() => {}
            }
        };
        (Self { planes }, task)
    }

    /// The plane of an instance.
    pub fn get(&self, key: &InstanceKey) -> Result<Arc<Plane>, PlaneError> {
        self.planes.borrow().get(key).cloned().ok_or_else(|| PlaneError::Unavailable(key.clone()))
    }

    /// All planes there are now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Plane>> {
        self.planes.borrow().values().cloned().collect()
    }

    /// Watches one kind in every plane and maps what happens to objects of the host cluster.
    ///
    /// `config` should carry a label selector, and `W` be a `PartialObjectMeta`, where the body is not needed.
    /// A kind that a plane does not serve (yet) is tried again every few seconds.
    pub fn triggers<K, W, M>(
        &self,
        dyntype: W::DynamicType,
        config: watcher::Config,
        map: M,
    ) -> impl Stream<Item = ObjectRef<K>> + Send + 'static + use<K, W, M>
    where
        M: Fn(&InstanceKey, &W) -> Vec<ObjectRef<K>> + Send + Sync + 'static,
        K: Resource<DynamicType = ()> + 'static,
        W: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
        W::DynamicType: Clone + Send + Sync + 'static,
        ObjectRef<K>: Send,
    {
        let (sender, receiver) = mpsc::channel(1024);
        let mut planes = self.planes.clone();
        let map = Arc::new(map);
        tokio::spawn(async move {
            let mut running: HashMap<InstanceKey, ([u8; 32], tokio::task::AbortHandle)> = HashMap::new();
            let mut tasks = JoinSet::new();
            loop {
                let now = planes.borrow_and_update().clone();
                running.retain(|key, (digest, task)| {
                    let same = now.get(key).is_some_and(|plane| plane.digest == *digest);
                    if !same {
                        task.abort();
                    }
                    same
                });
                for (key, plane) in now {
                    running.entry(key.clone()).or_insert_with(|| {
                        let api = Api::<W>::all_with(plane.client.clone(), &dyntype);
                        let watching = forward(api, config.clone(), key, map.clone(), sender.clone());
                        (plane.digest, tasks.spawn(watching))
                    });
                }
                while tasks.try_join_next().is_some() {}
                tokio::select! {
                    changed = planes.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        futures::stream::unfold(
            receiver,
            |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) },
        )
    }
}

/// Sends a trigger for everything that happens to one kind in one plane.
async fn forward<K, W>(
    api: Api<W>,
    config: watcher::Config,
    key: InstanceKey,
    map: Arc<impl Fn(&InstanceKey, &W) -> Vec<ObjectRef<K>>>,
    sender: mpsc::Sender<ObjectRef<K>>,
) where
    K: Resource<DynamicType = ()>,
    W: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
    W::DynamicType: Clone + Send + Sync + 'static,
{
    let events = StreamBackoff::new(watch_kind(api, config), PromptBackoff::default()).touched_objects();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let Ok(object) = event else { continue };
        for reference in map(&key, &object) {
            if sender.send(reference).await.is_err() {
                return;
            }
        }
    }
}

/// Between attempts of a watch: a plane that restarts, or gets its definitions a moment later, must be seen soon.
#[derive(Debug, Default)]
pub struct PromptBackoff {
    attempts: u32,
}

impl Iterator for PromptBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = super::backoff::delay(self.attempts, rand::random());
        self.attempts += 1;
        Some(delay.min(Duration::from_secs(3)))
    }
}

impl Backoff for PromptBackoff {
    fn reset(&mut self) {
        self.attempts = 0;
    }
}

struct Keeper {
    host: Client,
    factory: ClientFactory,
    access: ServiceAccess,
    sender: watch::Sender<PlaneMap>,
    /// Secrets that no client could be made from yet.
    waiting: BTreeMap<InstanceKey, Secret>,
}

impl Keeper {
    async fn run(mut self) {
        let config = watcher::Config::default().labels(&format!("{PURPOSE_LABEL}={OPERATOR_KUBECONFIG}"));
        let secrets = Api::<Secret>::all(self.host.clone());
        let mut events = std::pin::pin!(StreamBackoff::new(watch_kind(secrets, config), PromptBackoff::default()));
        let mut listed: Vec<InstanceKey> = Vec::new();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = tokio::time::sleep(Duration::from_secs(1)), if !self.waiting.is_empty() => {
                    for secret in std::mem::take(&mut self.waiting).into_values() {
                        self.connect(secret).await;
                    }
                    continue;
                }
            };
            match event {
                None => return,
                Some(Err(error)) => tracing::debug!(%error, "watch on kubeconfig Secrets is interrupted"),
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(secret))) => {
                    listed.extend(instance_of(&secret));
                    self.connect(secret).await;
                }
                Some(Ok(Event::Apply(secret))) => self.connect(secret).await,
                Some(Ok(Event::Delete(secret))) => self.forget(|key| instance_of(&secret).as_ref() == Some(key)),
                Some(Ok(Event::InitDone)) => self.forget(|key| !listed.contains(key)),
            }
        }
    }

    fn forget(&mut self, gone: impl Fn(&InstanceKey) -> bool) {
        self.waiting.retain(|key, _| !gone(key));
        self.sender.send_if_modified(|planes| {
            let before = planes.len();
            planes.retain(|key, _| !gone(key));
            planes.len() != before
        });
    }

    async fn connect(&mut self, secret: Secret) {
        let Some(key) = instance_of(&secret) else { return };
        let digest = digest(&secret);
        if self.sender.borrow().get(&key).is_some_and(|plane| plane.digest == digest) {
            return;
        }
        match self.client(&secret).await {
            Ok(client) => {
                self.waiting.remove(&key);
                let plane = Arc::new(Plane { key: key.clone(), client, digest });
                self.sender.send_modify(|planes| {
                    planes.insert(key, plane);
                });
            }
            Err(error) => {
                tracing::debug!(%error, instance = %key, "plane cannot be connected yet");
                self.waiting.insert(key, secret);
            }
        }
    }

    async fn client(&self, secret: &Secret) -> Result<Client, ConnectError> {
        let data = secret.data.as_ref().and_then(|data| data.get(KUBECONFIG_KEY)).ok_or(ConnectError::NoKubeconfig)?;
        let mut connection = kubeconfig::parse(&data.0)?;
        if self.access == ServiceAccess::ClusterIp {
            self.by_cluster_ip(&mut connection).await?;
        }
        Ok(self.factory.connect(&connection)?)
    }

    /// Replaces the host `<service>.<namespace>.svc…` by the Service's address; the certificate must still carry the
    /// name.
    async fn by_cluster_ip(&self, connection: &mut kubeconfig::Connection) -> Result<(), ConnectError> {
        let Some(host) = connection.server.host().map(str::to_owned) else { return Ok(()) };
        let mut labels = host.split('.');
        let (Some(name), Some(namespace), Some("svc")) = (labels.next(), labels.next(), labels.next()) else {
            return Ok(());
        };
        let services = Api::<Service>::namespaced(self.host.clone(), namespace);
        let service = services.get(name).await.map_err(|e| ConnectError::Service(host.clone(), e))?;
        let address = service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .filter(|address| !address.is_empty() && address != "None")
            .ok_or_else(|| ConnectError::NoClusterIp(host.clone()))?;
        let address = if address.contains(':') { format!("[{address}]") } else { address };
        let server = connection.server.to_string().replacen(&host, &address, 1);
        connection.server = server.parse().map_err(|_| ConnectError::NoClusterIp(host.clone()))?;
        connection.tls_server_name = Some(host);
        Ok(())
    }
}

fn instance_of(secret: &Secret) -> Option<InstanceKey> {
    Some(InstanceKey { namespace: secret.namespace()?, name: secret.labels().get(INSTANCE_LABEL)?.clone() })
}

fn digest(secret: &Secret) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (key, value) in secret.data.iter().flatten() {
        hash.update(key.as_bytes());
        hash.update(&value.0);
    }
    hash.finalize().into()
}

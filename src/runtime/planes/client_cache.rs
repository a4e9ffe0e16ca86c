//! A client and a cache for each plane, made from the Secrets with the operator's kubeconfigs. *IO.*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::Api;
use kube::{Client, Resource, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::{PlaneCache, PlaneClients};
use super::{InstanceKey, KUBECONFIG_KEY, OPERATOR_KUBECONFIG, Plane, ServiceAccess, State, Subscribers};
use crate::api::PURPOSE_LABEL;
use crate::machinery::error::chain;
use crate::machinery::object_version::object_version;
use crate::runtime::client::{ClientError, ClientFactory};
use crate::runtime::guarded::{Guarded, InvalidObject};
use crate::runtime::host_cache::{HostCache, labelled_instance};
use crate::runtime::kubeconfig::{self, KubeconfigError};
use crate::runtime::metrics::Metrics;

/// How soon it is tried again to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// Planes that are connected at once.
const CONCURRENT_CONNECTS: usize = 8;

#[derive(thiserror::Error, Debug)]
enum ConnectError {
    #[error("read the Secret")]
    Secret(#[source] kube::Error),
    #[error("Secret cannot be read")]
    Unreadable(#[from] InvalidObject),
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

/// What it takes to connect to a plane.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) host: Client,
    pub(super) factory: ClientFactory,
    pub(super) service_access: ServiceAccess,
}

/// What it takes to cache a plane.
#[derive(Clone)]
pub(super) struct CacheStarter {
    pub(super) subscribers: Subscribers,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
}

/// Follows the kubeconfigs and keeps a client and a cache for each.
pub(super) struct PlaneClientCache {
    host: HostCache,
    connector: Connector,
    caches: CacheStarter,
    sender: watch::Sender<State>,
    /// Version of each Secret that was read.
    versions: BTreeMap<InstanceKey, String>,
    /// Those that no client could be made from yet, and why.
    pending: BTreeMap<InstanceKey, String>,
}

/// What a Secret leads to.
struct Connection {
    version: String,
    digest: [u8; 32],
    clients: PlaneClients,
}

impl PlaneClientCache {
    pub(super) fn new(
        host: HostCache,
        connector: Connector,
        caches: CacheStarter,
        sender: watch::Sender<State>,
    ) -> Self {
        Self { host, connector, caches, sender, versions: BTreeMap::new(), pending: BTreeMap::new() }
    }

    pub(super) async fn run(mut self) {
        let secrets = self.host.secrets.clone();
        let mut changed = secrets.subscribe(|event| instance_named_by(event.object).into_iter().collect());
        if !secrets.listed().await {
            return;
        }
        let there = secrets.store().state();
        self.connect_all(there.iter().filter_map(|secret| instance_of(secret.as_ref())).collect()).await;
        self.publish(true);
        loop {
            tokio::select! {
                key = changed.next() => match key {
                    Some(key) => self.refresh(key).await,
                    None => return,
                },
                () = tokio::time::sleep(RECONNECT_INTERVAL), if !self.pending.is_empty() => {
                    self.connect_all(self.pending.keys().cloned().collect()).await;
                }
            }
            self.publish(false);
        }
    }

    /// The Secret of an instance has changed, or is gone.
    async fn refresh(&mut self, key: InstanceKey) {
        let secret = self.host.secrets.get(&key.namespace, &secret_name(&key));
        match secret.filter(|secret| instance_of(secret.as_ref()).as_ref() == Some(&key)) {
            None => self.remove(&key),
            Some(secret) if self.versions.get(&key) == Some(&object_version(secret.as_ref())) => {}
            Some(_) => self.connect_all(BTreeSet::from([key])).await,
        }
    }

    /// Connects to the planes of those instances that this replica owns.
    async fn connect_all(&mut self, keys: BTreeSet<InstanceKey>) {
        let owned: Vec<InstanceKey> = keys.into_iter().filter(|key| self.host.owns(key)).collect();
        let connecting = owned.into_iter().map(|key| {
            let connector = self.connector.clone();
            async move {
                let connected = connector.connect(&key).await;
                (key, connected)
            }
        });
        let connected: Vec<_> = futures::stream::iter(connecting).buffer_unordered(CONCURRENT_CONNECTS).collect().await;
        for (key, connected) in connected {
            match connected {
                Ok(connection) => self.insert(key, connection),
                Err(error) => self.retry_later(key, chain(&error)),
            }
        }
    }

    /// It is tried again soon; the log tells each cause once.
    fn retry_later(&mut self, key: InstanceKey, error: String) {
        if self.pending.get(&key) != Some(&error) {
            tracing::info!(error, instance = %key, "plane cannot be connected yet");
        }
        self.pending.insert(key, error);
    }

    fn insert(&mut self, key: InstanceKey, Connection { version, digest, clients }: Connection) {
        self.pending.remove(&key);
        self.versions.insert(key.clone(), version);
        if self.sender.borrow().planes.get(&key).is_some_and(|plane| plane.digest == digest) {
            return;
        }
        let CacheStarter { subscribers, metrics, shutdown } = self.caches.clone();
        let client = clients.client.clone();
        let cache = PlaneCache::start(key.clone(), clients, subscribers, metrics, shutdown.child_token());
        let plane = Arc::new(Plane { key: key.clone(), client, cache, digest });
        self.sender.send_modify(|state| {
            if let Some(before) = state.planes.insert(key, plane) {
                before.cache.stop();
            }
        });
    }

    fn remove(&mut self, key: &InstanceKey) {
        self.pending.remove(key);
        self.versions.remove(key);
        self.sender.send_if_modified(|state| {
            let gone = state.planes.remove(key);
            gone.iter().for_each(|plane| plane.cache.stop());
            gone.is_some()
        });
    }

    /// Publishes which are not connected yet, and whether all were looked at.
    fn publish(&self, listed: bool) {
        self.sender.send_if_modified(|state| {
            let connecting: BTreeSet<InstanceKey> = self.pending.keys().cloned().collect();
            let news = state.connecting != connecting || (listed && !state.listed);
            state.connecting = connecting;
            state.listed |= listed;
            news
        });
    }
}

impl Connector {
    /// Reads the kubeconfig of an instance, as it is now, and makes a client of it.
    async fn connect(&self, key: &InstanceKey) -> Result<Connection, ConnectError> {
        let secrets = Api::<Guarded<Secret>>::namespaced(self.host.clone(), &key.namespace);
        let secret = secrets.get(&secret_name(key)).await.map_err(ConnectError::Secret)?;
        let (version, digest) = (object_version(&secret), digest(&secret));
        let data = secret.0?.data.and_then(|mut data| data.remove(KUBECONFIG_KEY));
        let mut connection = kubeconfig::parse(&data.ok_or(ConnectError::NoKubeconfig)?.0)?;
        if self.service_access == ServiceAccess::ClusterIp {
            self.by_cluster_ip(&mut connection).await?;
        }
        let clients = PlaneClients {
            client: self.factory.connect_multiplexed(&connection)?,
            unshared: self.factory.connect(&connection)?,
        };
        Ok(Connection { version, digest, clients })
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

fn secret_name(key: &InstanceKey) -> String {
    format!("{}-{OPERATOR_KUBECONFIG}", key.name)
}

/// The instance that would give a Secret this name.
fn instance_named_by<K: Resource>(secret: &K) -> Option<InstanceKey> {
    let name = secret.name_any().strip_suffix(OPERATOR_KUBECONFIG)?.strip_suffix('-')?.to_owned();
    Some(InstanceKey { namespace: secret.namespace()?, name })
}

/// The instance of a Secret with its kubeconfig. Copies have its labels, too, but not the name.
fn instance_of<K: Resource>(secret: &K) -> Option<InstanceKey> {
    let is_kubeconfig = secret.labels().get(PURPOSE_LABEL).is_some_and(|purpose| purpose == OPERATOR_KUBECONFIG);
    instance_named_by(secret).filter(|key| is_kubeconfig && labelled_instance(secret).as_ref() == Some(key))
}

fn digest(secret: &Guarded<Secret>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (key, value) in secret.0.iter().filter_map(|secret| secret.data.as_ref()).flatten() {
        hash.update(key.as_bytes());
        hash.update(&value.0);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::INSTANCE_LABEL;

    #[test]
    fn a_copy_of_a_kubeconfig_is_nobodys() {
        let named = |name: &str| {
            let mut secret = Secret::default();
            secret.metadata.namespace = Some("fleet".into());
            secret.metadata.name = Some(name.into());
            let labels = [(INSTANCE_LABEL, "east"), (PURPOSE_LABEL, OPERATOR_KUBECONFIG)];
            secret.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
            instance_of(&secret).map(|key| key.to_string())
        };
        assert_eq!(named("east-operator-kubeconfig").as_deref(), Some("fleet/east"));
        assert_eq!(named("east-operator-kubeconfig-backup"), None);
        assert_eq!(named("west-operator-kubeconfig"), None);
    }
}

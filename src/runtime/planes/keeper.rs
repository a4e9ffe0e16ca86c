//! From the Secrets with the operator's kubeconfigs to clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::Api;
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::PlaneCache;
use super::{
    InstanceKey, KUBECONFIG_KEY, OPERATOR_KUBECONFIG, Plane, PromptBackoff, ServiceAccess, State, Subscribers,
};
use crate::api::{INSTANCE_LABEL, PURPOSE_LABEL};
use crate::machinery::error::chain;
use crate::runtime::client::{ClientError, ClientFactory};
use crate::runtime::guarded::{Guarded, InvalidObject, PAGE};
use crate::runtime::kubeconfig::{self, KubeconfigError};
use crate::runtime::metrics::Metrics;
use crate::runtime::ownership::Shard;

#[derive(thiserror::Error, Debug)]
enum ConnectError {
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
pub(super) struct Connector {
    pub(super) host: Client,
    pub(super) factory: ClientFactory,
    pub(super) access: ServiceAccess,
}

/// What it takes to cache a plane.
#[derive(Clone)]
pub(super) struct CacheStarter {
    pub(super) subscribers: Subscribers,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
}

/// Watches the kubeconfigs and keeps a client and a cache for each.
pub(super) struct PlaneClientCache {
    connector: Connector,
    shard: Shard,
    caches: CacheStarter,
    sender: watch::Sender<State>,
    /// Secrets that no client could be made from yet.
    waiting: BTreeMap<InstanceKey, Guarded<Secret>>,
}

impl PlaneClientCache {
    pub(super) fn new(connector: Connector, shard: Shard, caches: CacheStarter, sender: watch::Sender<State>) -> Self {
        Self { connector, shard, caches, sender, waiting: BTreeMap::new() }
    }

    pub(super) async fn run(mut self) {
        let config =
            watcher::Config::default().page_size(PAGE).labels(&format!("{PURPOSE_LABEL}={OPERATOR_KUBECONFIG}"));
        let secrets = Api::<Guarded<Secret>>::all(self.connector.host.clone());
        let mut events = std::pin::pin!(StreamBackoff::new(watcher(secrets, config), PromptBackoff::default()));
        let mut listed: Vec<InstanceKey> = Vec::new();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = tokio::time::sleep(Duration::from_secs(1)), if !self.waiting.is_empty() => {
                    for secret in std::mem::take(&mut self.waiting).into_values() {
                        self.connect(secret).await;
                    }
                    self.tell(false);
                    continue;
                }
            };
            match event {
                None => return,
                Some(Err(error)) => {
                    tracing::debug!(error = chain(&error), "watch on kubeconfig Secrets is interrupted")
                }
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(secret))) => {
                    listed.extend(instance_of(&secret));
                    self.connect(secret).await;
                }
                Some(Ok(Event::Apply(secret))) => self.connect(secret).await,
                Some(Ok(Event::Delete(secret))) => self.forget(|key| instance_of(&secret).as_ref() == Some(key)),
                Some(Ok(Event::InitDone)) => {
                    self.forget(|key| !listed.contains(key));
                    self.tell(true);
                }
            }
            self.tell(false);
        }
    }

    fn forget(&mut self, gone: impl Fn(&InstanceKey) -> bool) {
        self.waiting.retain(|key, _| !gone(key));
        self.sender.send_if_modified(|state| {
            let before = state.planes.len();
            state.planes.retain(|key, plane| {
                let gone = gone(key);
                if gone {
                    plane.cache.stop();
                }
                !gone
            });
            state.planes.len() != before
        });
    }

    /// Tells which are waiting, and whether all were looked at.
    fn tell(&self, listed: bool) {
        self.sender.send_if_modified(|state| {
            let connecting: BTreeSet<InstanceKey> = self.waiting.keys().cloned().collect();
            let news = state.connecting != connecting || (listed && !state.listed);
            state.connecting = connecting;
            state.listed |= listed;
            news
        });
    }

    async fn connect(&mut self, secret: Guarded<Secret>) {
        let Some(key) = instance_of(&secret).filter(|key| self.shard.owns(key)) else { return };
        let digest = digest(&secret);
        if self.sender.borrow().planes.get(&key).is_some_and(|plane| plane.digest == digest) {
            self.waiting.remove(&key);
            return;
        }
        match self.connector.client(&secret).await {
            Ok(client) => {
                self.waiting.remove(&key);
                let CacheStarter { subscribers, metrics, shutdown } = self.caches.clone();
                let ended = shutdown.child_token();
                let cache = PlaneCache::start(key.clone(), client.clone(), subscribers, metrics, ended);
                let plane = Arc::new(Plane { key: key.clone(), client, cache, digest });
                self.sender.send_modify(|state| {
                    if let Some(before) = state.planes.insert(key, plane) {
                        before.cache.stop();
                    }
                });
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), instance = %key, "plane cannot be connected yet");
                self.waiting.insert(key, secret);
            }
        }
    }
}

impl Connector {
    async fn client(&self, secret: &Guarded<Secret>) -> Result<Client, ConnectError> {
        let secret = secret.0.as_ref().map_err(InvalidObject::clone)?;
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

/// The instance of a Secret that bears the name which its instance gives it. Copies have its labels, too.
fn instance_of(secret: &Guarded<Secret>) -> Option<InstanceKey> {
    let name = secret.labels().get(INSTANCE_LABEL)?;
    let is_its_own = secret.name_any() == format!("{name}-{OPERATOR_KUBECONFIG}");
    is_its_own.then_some(InstanceKey { namespace: secret.namespace()?, name: name.clone() })
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

    #[test]
    fn a_copy_of_a_kubeconfig_is_nobodys() {
        let named = |name: &str| {
            let mut secret = Secret::default();
            secret.metadata.namespace = Some("fleet".into());
            secret.metadata.name = Some(name.into());
            secret.metadata.labels = Some([(INSTANCE_LABEL.to_owned(), "east".to_owned())].into());
            instance_of(&Guarded(Ok(secret))).map(|key| key.to_string())
        };
        assert_eq!(named("east-operator-kubeconfig").as_deref(), Some("fleet/east"));
        assert_eq!(named("east-operator-kubeconfig-backup"), None);
        assert_eq!(named("west-operator-kubeconfig"), None);
    }
}

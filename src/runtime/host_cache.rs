//! What the host cluster holds: one watch for each kind, shared by all controllers for their triggers and lookups. *IO.*
//!
//! Nobody else watches the host cluster. Secrets are watched by their metadata alone: most of them are none of Airdock's
//! business, and whoever needs the content of one reads it when its version has changed. Which instances this replica owns
//! ([`Shard`]) is applied here, to everything at once: objects of other replicas' instances are not kept, and nobody is told
//! of them. Only the instances themselves are known to all.

mod kind;
mod watch_config;

use std::fmt;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

pub use self::kind::{HostEvent, HostKind, HostObject};
use self::watch_config::HostWatchConfig;
use super::guarded::Guarded;
use super::planes::InstanceKey;
use super::shard::Shard;
use crate::api::common::InstanceRef;
use crate::api::member::MemberClusterJoin;
use crate::api::permission::PermissionBinding;
use crate::api::{INSTANCE_LABEL, KarmadaInstance, MultiCloudApp};

/// A Secret without its content.
pub type SecretMeta = PartialObjectMeta<Secret>;

/// The kinds of the host cluster that Airdock watches.
#[derive(Clone)]
pub struct HostCache {
    client: Client,
    shard: Shard,
    /// All instances, those of other replicas as well: whoever may mean several looks them up.
    pub instances: HostKind<KarmadaInstance>,
    /// Memberships.
    pub joins: HostKind<MemberClusterJoin>,
    /// Applications.
    pub apps: HostKind<MultiCloudApp>,
    /// Permissions.
    pub permissions: HostKind<PermissionBinding>,
    /// All Secrets: kubeconfigs of members carry no label.
    pub secrets: HostKind<SecretMeta>,
    /// Deployments of instances.
    pub deployments: HostKind<Deployment>,
    /// StatefulSets of instances.
    pub stateful_sets: HostKind<StatefulSet>,
    /// Services of instances.
    pub services: HostKind<Service>,
    /// PodDisruptionBudgets of instances.
    pub disruption_budgets: HostKind<PodDisruptionBudget>,
    /// PersistentVolumeClaims of instances.
    pub claims: HostKind<PersistentVolumeClaim>,
    /// Pods of instances.
    pub pods: HostKind<Pod>,
}

impl fmt::Debug for HostCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCache").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl HostCache {
    /// Starts the watches. They run until `ended`.
    #[must_use]
    pub fn start(client: &Client, shard: Shard, ended: &CancellationToken) -> Self {
        Self {
            client: client.clone(),
            shard,
            instances: HostKind::start(client, HostWatchConfig::all(shard, itself).known_to_all(), ended),
            joins: HostKind::start(
                client,
                HostWatchConfig::all(shard, |join| of(join, |j| &j.spec.instance_ref)),
                ended,
            ),
            apps: HostKind::start(client, HostWatchConfig::all(shard, |app| of(app, |a| &a.spec.instance_ref)), ended),
            permissions: HostKind::start(client, HostWatchConfig::all(shard, |_| None), ended),
            secrets: HostKind::start(client, HostWatchConfig::all(shard, |_| None).by_labels_alone(), ended),
            deployments: labelled(client, shard, ended),
            stateful_sets: labelled(client, shard, ended),
            services: labelled(client, shard, ended),
            disruption_budgets: labelled(client, shard, ended),
            claims: labelled(client, shard, ended),
            pods: labelled(client, shard, ended),
        }
    }

    /// The host cluster.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether this replica owns an instance.
    #[must_use]
    pub fn owns(&self, instance: &InstanceKey) -> bool {
        self.shard.owns(instance)
    }
}

/// The instance that an object carries the label of.
#[must_use]
pub fn labelled_instance<K: Resource>(object: &K) -> Option<InstanceKey> {
    Some(InstanceKey { namespace: object.namespace()?, name: object.labels().get(INSTANCE_LABEL)?.clone() })
}

fn labelled<K: HostObject>(client: &Client, shard: Shard, ended: &CancellationToken) -> HostKind<K> {
    HostKind::start(client, HostWatchConfig::all(shard, labelled_instance).labelled(INSTANCE_LABEL), ended)
}

fn itself(instance: &Guarded<KarmadaInstance>) -> Option<InstanceKey> {
    Some(InstanceKey { namespace: instance.namespace()?, name: instance.name_any() })
}

/// The instance that an object refers to. What cannot be read is everybody's: somebody has to tell so.
fn of<K: Resource>(object: &Guarded<K>, reference: impl Fn(&K) -> &InstanceRef) -> Option<InstanceKey> {
    let object = object.0.as_ref().ok()?;
    Some(InstanceKey::of(reference(object), &object.namespace()?))
}

//! What the host cluster holds for an instance: lookups in the one cache of the host, and the content of the Secrets,
//! which is read when their versions change. *IO.*
//!
//! Whatever happens to an object that carries an instance's label wakes the instance.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use crate::api::{INSTANCE_LABEL, KarmadaInstance};
use crate::machinery::object_version::object_version;
use crate::runtime::guarded::{self, Guarded};
use crate::runtime::host_cache::{HostCache, HostKind, HostObject, labelled_instance};
use crate::runtime::planes::InstanceKey;

use super::error::InstanceError;
use super::ownership::key;

/// Wakes instances.
pub type Wake = UnboundedSender<ObjectRef<Guarded<KarmadaInstance>>>;

/// The Secrets of an instance as they were last read, and the versions that they had then.
#[derive(Clone, Debug, Default)]
struct SecretContents {
    versions: BTreeMap<String, String>,
    secrets: Named<Secret>,
}

/// What is known of the host cluster for all instances.
#[derive(Clone)]
pub struct Caches {
    cache: HostCache,
    secrets: Arc<Mutex<HashMap<InstanceKey, SecretContents>>>,
}

/// Objects of one kind that belong to one instance, by name.
pub type Named<K> = BTreeMap<String, Arc<K>>;

/// What the host cluster holds for one instance, by label.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Deployments.
    pub deployments: Named<Deployment>,
    /// StatefulSets.
    pub stateful_sets: Named<StatefulSet>,
    /// Services.
    pub services: Named<Service>,
    /// Secrets.
    pub secrets: Named<Secret>,
    /// PodDisruptionBudgets.
    pub disruption_budgets: Named<PodDisruptionBudget>,
    /// PersistentVolumeClaims.
    pub claims: Named<PersistentVolumeClaim>,
    /// Pods.
    pub pods: Named<Pod>,
}

impl Caches {
    /// Has the instances of labelled objects woken when something happens to these.
    pub fn start(cache: &HostCache, wake: &Wake) -> Self {
        wake_owner(&cache.deployments, wake);
        wake_owner(&cache.stateful_sets, wake);
        wake_owner(&cache.services, wake);
        wake_owner(&cache.secrets, wake);
        wake_owner(&cache.disruption_budgets, wake);
        wake_owner(&cache.claims, wake);
        wake_owner(&cache.pods, wake);
        Self { cache: cache.clone(), secrets: Arc::default() }
    }

    /// Waits until every kind was listed once, and the content of the instance's Secrets is known as it is now. False when
    /// the process is ending.
    ///
    /// # Errors
    /// The Secrets cannot be read.
    pub async fn ready(&self, instance: &KarmadaInstance) -> Result<bool, InstanceError> {
        let HostCache { deployments, stateful_sets, services, secrets, disruption_budgets, claims, pods, .. } =
            &self.cache;
        let listed = tokio::join!(
            deployments.listed(),
            stateful_sets.listed(),
            services.listed(),
            secrets.listed(),
            disruption_budgets.listed(),
            claims.listed(),
            pods.listed(),
        );
        if listed != (true, true, true, true, true, true, true) {
            return Ok(false);
        }
        self.read_secrets(instance).await?;
        Ok(true)
    }

    /// Reads the instance's Secrets, all at once, unless they have the versions at which they were last read.
    async fn read_secrets(&self, instance: &KarmadaInstance) -> Result<(), InstanceError> {
        let key = key(instance);
        let now = self.cache.secrets.store().state();
        let now = now.iter().filter(|secret| labelled_instance(secret.as_ref()).as_ref() == Some(&key));
        let now: BTreeMap<String, String> =
            now.map(|secret| (secret.name_any(), object_version(secret.as_ref()))).collect();
        if self.secrets.lock().get(&key).is_some_and(|known| known.versions == now) {
            return Ok(());
        }
        let api = Api::<Guarded<Secret>>::namespaced(self.cache.client().clone(), &key.namespace);
        let params = ListParams::default().labels(&format!("{INSTANCE_LABEL}={}", key.name));
        let found = guarded::list_all(&api, &params).await;
        let found = found.map_err(|source| InstanceError::Read { what: "the Secrets", source })?;
        let mut contents = SecretContents::default();
        for mut secret in found {
            secret.managed_fields_mut().clear();
            contents.versions.insert(secret.name_any(), object_version(&secret));
            contents.secrets.insert(secret.name_any(), Arc::new(readable(&secret)?));
        }
        let mut all = self.secrets.lock();
        // Keys of instances that are gone are not kept.
        all.retain(|key, _| self.cache.instances.get(&key.namespace, &key.name).is_some());
        all.insert(key, contents);
        Ok(())
    }

    /// What is known of one instance.
    ///
    /// # Errors
    /// One of its objects cannot be read: it is there, and must not be made anew.
    pub fn host(&self, instance: &KarmadaInstance) -> Result<Host, InstanceError> {
        let HostCache { deployments, stateful_sets, services, disruption_budgets, claims, pods, .. } = &self.cache;
        let secrets = self.secrets.lock().get(&key(instance)).cloned().unwrap_or_default().secrets;
        Ok(Host {
            deployments: of(deployments, instance)?,
            stateful_sets: of(stateful_sets, instance)?,
            services: of(services, instance)?,
            secrets,
            disruption_budgets: of(disruption_budgets, instance)?,
            claims: of(claims, instance)?,
            pods: of(pods, instance)?,
        })
    }
}

fn wake_owner<K: HostObject>(kind: &HostKind<K>, wake: &Wake) {
    let wake = wake.clone();
    kind.listen(move |event| {
        if let Some(InstanceKey { namespace, name }) = labelled_instance(event.object) {
            // Nobody is to be woken any more when the process is ending.
            let _ = wake.send(ObjectRef::new(&name).within(&namespace));
        }
    });
}

fn of<K: HostObject>(kind: &HostKind<K>, instance: &KarmadaInstance) -> Result<Named<K>, InstanceError> {
    let key = key(instance);
    let belongs = |object: &Arc<Guarded<K>>| labelled_instance(object.as_ref()).as_ref() == Some(&key);
    let named = |object: Arc<Guarded<K>>| Ok((object.name_any(), Arc::new(readable(&object)?)));
    kind.store().state().into_iter().filter(belongs).map(named).collect()
}

fn readable<K: Resource<DynamicType = ()> + Clone>(object: &Guarded<K>) -> Result<K, InstanceError> {
    object.0.clone().map_err(|invalid| InstanceError::Unreadable {
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        problem: invalid.problem,
    })
}

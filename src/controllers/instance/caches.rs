//! What the host cluster holds for all instances, kept up to date by one watch per kind. *IO.*
//!
//! Only objects that carry the instance label are watched. Whatever happens to one of them wakes its instance.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::api::{INSTANCE_LABEL, KarmadaInstance};
use crate::machinery::error::chain;
use crate::runtime::guarded::{Guarded, PAGE};
use crate::runtime::planes::PromptBackoff;

use super::error::InstanceError;

/// Wakes instances.
pub type Wake = UnboundedSender<ObjectRef<Guarded<KarmadaInstance>>>;

/// The watched kinds.
#[derive(Clone)]
pub struct Caches {
    deployments: Store<Guarded<Deployment>>,
    stateful_sets: Store<Guarded<StatefulSet>>,
    services: Store<Guarded<Service>>,
    secrets: Store<Guarded<Secret>>,
    disruption_budgets: Store<Guarded<PodDisruptionBudget>>,
    claims: Store<Guarded<PersistentVolumeClaim>>,
    pods: Store<Guarded<Pod>>,
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
    /// Starts the watches; they run with the tasks.
    pub fn start(client: &Client, wake: &Wake, tasks: &mut JoinSet<()>) -> Self {
        Self {
            deployments: cache(client, wake, tasks),
            stateful_sets: cache(client, wake, tasks),
            services: cache(client, wake, tasks),
            secrets: cache(client, wake, tasks),
            disruption_budgets: cache(client, wake, tasks),
            claims: cache(client, wake, tasks),
            pods: cache(client, wake, tasks),
        }
    }

    /// Waits until every watch has listed its kind once. False when a watch has ended.
    pub async fn ready(&self) -> bool {
        let Self { deployments, stateful_sets, services, secrets, disruption_budgets, claims, pods } = self;
        let results = tokio::join!(
            deployments.wait_until_ready(),
            stateful_sets.wait_until_ready(),
            services.wait_until_ready(),
            secrets.wait_until_ready(),
            disruption_budgets.wait_until_ready(),
            claims.wait_until_ready(),
            pods.wait_until_ready(),
        );
        results.0.is_ok()
            && results.1.is_ok()
            && results.2.is_ok()
            && results.3.is_ok()
            && results.4.is_ok()
            && results.5.is_ok()
            && results.6.is_ok()
    }

    /// What is known of one instance.
    ///
    /// # Errors
    /// One of its objects cannot be read: it is there, and must not be made anew.
    pub fn host(&self, instance: &KarmadaInstance) -> Result<Host, InstanceError> {
        let Self { deployments, stateful_sets, services, secrets, disruption_budgets, claims, pods } = self;
        Ok(Host {
            deployments: of(deployments, instance)?,
            stateful_sets: of(stateful_sets, instance)?,
            services: of(services, instance)?,
            secrets: of(secrets, instance)?,
            disruption_budgets: of(disruption_budgets, instance)?,
            claims: of(claims, instance)?,
            pods: of(pods, instance)?,
        })
    }
}

fn cache<K>(client: &Client, wake: &Wake, tasks: &mut JoinSet<()>) -> Store<Guarded<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().page_size(PAGE).labels(INSTANCE_LABEL);
    let events = watcher(Api::<Guarded<K>>::all(client.clone()), config);
    let events = StreamBackoff::new(events, PromptBackoff::default());
    let wake = wake.clone();
    tasks.spawn(async move {
        let objects = events.modify(|object| object.managed_fields_mut().clear()).reflect(writer).touched_objects();
        let mut objects = std::pin::pin!(objects);
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) => {
                    let (Some(name), Some(namespace)) = (object.labels().get(INSTANCE_LABEL), object.namespace())
                    else {
                        continue;
                    };
                    if wake.send(ObjectRef::new(name).within(&namespace)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), error = chain(&error), "watch is interrupted and will resume")
                }
            }
        }
    });
    store
}

fn of<K>(store: &Store<Guarded<K>>, instance: &KarmadaInstance) -> Result<Named<K>, InstanceError>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (name, namespace) = (&instance.metadata.name, &instance.metadata.namespace);
    let belongs = |object: &Arc<Guarded<K>>| {
        object.meta().namespace == *namespace && object.labels().get(INSTANCE_LABEL) == name.as_ref()
    };
    let named = |object: Arc<Guarded<K>>| match &object.0 {
        Ok(read) => Ok((object.name_any(), Arc::new(read.clone()))),
        Err(invalid) => Err(InstanceError::Unreadable {
            kind: K::kind(&()).into_owned(),
            name: object.name_any(),
            problem: invalid.problem.clone(),
        }),
    };
    store.state().into_iter().filter(belongs).map(named).collect()
}

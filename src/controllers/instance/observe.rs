//! All reads that an instance needs of its host cluster and of the API of its plane. *IO*, no writes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::{Api as KubeApi, ListParams, PartialObjectMeta};
use kube::core::Status;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::{INSTANCE_LABEL, KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};
use crate::chart::{self, Component, Names, claim_names};
use crate::machinery::error::{chain, failing_checks};
use crate::runtime::guarded::{self, Guarded};
use crate::runtime::host_cache::HostCache;
use crate::runtime::planes::Plane;

use super::InstanceController;
use super::caches::Host;
use super::error::InstanceError;
use super::ownership::key;
use super::rollout::rollout_status;
use super::users::{self, InstanceUser};

/// How long the plane's API server may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// An instance and what there is of it.
#[derive(Clone, Debug)]
pub struct ObservedInstance {
    /// The instance.
    pub instance: Arc<KarmadaInstance>,
    /// Its objects in the host cluster.
    pub host: Host,
}

/// State of the plane's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// Nothing runs yet that could answer.
    Starting,
    /// It does not answer as it should, and how.
    Unreachable(String),
    /// It answers that it is ready, through its Service.
    Ready,
}

/// What is known of the plane's API.
#[derive(Clone, Debug)]
pub struct ObservedApi {
    /// Its state.
    pub api: Api,
    /// Version that the plane reports.
    pub kubernetes_version: Option<String>,
    /// The plane, once there is a client for it.
    pub plane: Option<Arc<Plane>>,
}

impl InstanceController {
    /// The instance with its objects in the host cluster, from the caches.
    pub(super) fn observe(&self, instance: Arc<KarmadaInstance>) -> Result<ObservedInstance, InstanceError> {
        let host = self.caches.host(&instance)?;
        Ok(ObservedInstance { instance, host })
    }

    /// Asks the API whether it is ready, once something runs that could answer.
    pub(super) async fn observe_api(
        &self,
        instance: &KarmadaInstance,
        started: bool,
    ) -> Result<ObservedApi, InstanceError> {
        let nothing = ObservedApi { api: Api::Starting, kubernetes_version: None, plane: None };
        let host = self.caches.host(instance)?;
        if rollout_status(Component::ApiServer, instance, &host).ready == 0 && !started {
            return Ok(nothing);
        }
        let Ok(plane) = self.context.planes.get(&key(instance)) else { return Ok(nothing) };
        let api = probe(&plane.client).await;
        let kubernetes_version = match api {
            Api::Ready => self.observe_version(instance, &plane).await,
            Api::Starting | Api::Unreachable(_) => None,
        };
        Ok(ObservedApi { api, kubernetes_version, plane: Some(plane) })
    }

    /// The version is asked for only when it may have changed.
    async fn observe_version(&self, instance: &KarmadaInstance, plane: &Plane) -> Option<String> {
        let known = instance.status.as_ref().and_then(|status| status.kubernetes_version.clone());
        let image = Component::ApiServer.image(instance, &self.context.image);
        if known.is_some() && known.as_deref() == chart::image_version(&image) {
            return known;
        }
        api_server_version(&plane.client).await.or(known)
    }

    /// The Secrets as the cluster itself has them, since a watch may lag behind.
    pub(super) async fn observe_secrets(&self, instance: &KarmadaInstance) -> Result<Vec<Secret>, InstanceError> {
        let secrets: KubeApi<Secret> = self.namespaced(instance);
        let params = ListParams::default().labels(&format!("{INSTANCE_LABEL}={}", instance.name_any()));
        let list = secrets.list(&params).await;
        Ok(list.map_err(|source| InstanceError::Read { what: "the Secrets", source })?.items)
    }

    /// The claims whose names etcd's StatefulSet will use, until it is there.
    pub(super) async fn observe_claims(
        &self,
        observed: &ObservedInstance,
    ) -> Result<Vec<PartialObjectMeta<PersistentVolumeClaim>>, InstanceError> {
        let instance = observed.instance.as_ref();
        if observed.host.stateful_sets.contains_key(&Names::of(instance).component(Component::Etcd)) {
            return Ok(Vec::new());
        }
        let claims: KubeApi<PersistentVolumeClaim> = self.namespaced(instance);
        let mut found = Vec::new();
        for name in claim_names(instance) {
            let claim = claims.get_metadata_opt(&name).await;
            found.extend(claim.map_err(|source| InstanceError::Read { what: "the volume claims", source })?);
        }
        Ok(found)
    }

    /// Everything that may have something in the instance's plane.
    pub(super) async fn observe_users(&self, instance: &KarmadaInstance) -> Result<Vec<String>, InstanceError> {
        let client = &self.context.host.0;
        let (members, apps, bindings) = tokio::try_join!(
            users_of::<MemberClusterJoin>(client, instance),
            users_of::<MultiCloudApp>(client, instance),
            users_of::<PermissionBinding>(client, instance),
        )?;
        Ok([members, apps, bindings].concat())
    }

    /// The other namespaces that are let in, or were and still hold something, from the caches.
    pub(super) async fn observe_tenants(&self, instance: &KarmadaInstance) -> Vec<String> {
        let HostCache { joins, apps, permissions, .. } = &self.context.cache;
        // It fails only when the process ends.
        let _ = tokio::join!(joins.listed(), apps.listed(), permissions.listed());
        let mut holding = BTreeSet::new();
        users::add_namespaces(&mut holding, instance, joins.store().state().iter().map(AsRef::as_ref));
        users::add_namespaces(&mut holding, instance, apps.store().state().iter().map(AsRef::as_ref));
        users::add_namespaces(&mut holding, instance, permissions.store().state().iter().map(AsRef::as_ref));
        users::tenants(instance, &holding)
    }

    fn namespaced<K>(&self, instance: &KarmadaInstance) -> KubeApi<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        KubeApi::namespaced(self.context.host.0.clone(), &instance.namespace().unwrap_or_default())
    }
}

/// The objects of a kind that the instance has to outlive.
async fn users_of<K>(client: &Client, instance: &KarmadaInstance) -> Result<Vec<String>, InstanceError>
where
    K: InstanceUser + Clone + DeserializeOwned + Debug,
{
    let all = guarded::list_all(&KubeApi::<Guarded<K>>::all(client.clone()), &ListParams::default()).await;
    let all = all.map_err(|source| InstanceError::Read { what: "who refers to the instance", source })?;
    Ok(users::users(instance, &all))
}

/// Asks the plane whether it is ready.
async fn probe(client: &Client) -> Api {
    match tokio::time::timeout(PROBE_TIMEOUT, get(client, "/readyz")).await {
        Ok(Ok(_)) => Api::Ready,
        Ok(Err(kube::Error::Api(status))) => Api::Unreachable(unready(&status)),
        Ok(Err(error)) => Api::Unreachable(first_line(&chain(&error))),
        Err(_) => Api::Unreachable(format!("/readyz does not answer within {} s", PROBE_TIMEOUT.as_secs())),
    }
}

/// The version that the plane reports of itself.
async fn api_server_version(client: &Client) -> Option<String> {
    let info = tokio::time::timeout(PROBE_TIMEOUT, client.apiserver_version()).await.ok()?.ok()?;
    Some(info.git_version)
}

async fn get(client: &Client, path: &str) -> Result<String, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

/// What an answer of `/readyz` that is not good says. Pure.
fn unready(status: &Status) -> String {
    match failing_checks(&status.message) {
        Some(checks) => format!("the plane is not ready: {checks}"),
        None => format!("/readyz answers {}: {}", status.code, first_line(&status.message)),
    }
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_that_is_not_ready_names_the_checks_that_fail() {
        let answer = |message: &str| Status { code: 500, message: message.to_owned(), ..Status::default() };
        for (message, want) in [
            (
                "[+]ping ok\n[-]etcd failed: reason withheld\n[-]etcd-readiness failed: reason withheld\nreadyz check failed",
                "the plane is not ready: its checks etcd, etcd-readiness fail",
            ),
            ("[+]ping ok\n[-]etcd failed: reason withheld", "the plane is not ready: its check etcd fails"),
            ("no upstream\nat all", "/readyz answers 500: no upstream"),
        ] {
            assert_eq!(unready(&answer(message)), want);
        }
    }
}

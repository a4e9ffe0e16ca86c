//! Reading what a membership depends on: its instance, the plane, the kubeconfig, the member. IO, no writes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::ApiResource;
use kube::{Client, Resource, ResourceExt};
use sha2::{Digest, Sha256};

use super::error::Error;
use super::plan::{MEMBER_LABEL, MEMBER_NAMESPACE_LABEL, Tokens, label_of};
use super::validate::{self, LocalEndpoints};
use crate::api::KarmadaInstance;
use crate::api::member::MemberClusterJoin;
use crate::application::model::FieldError;
use crate::controllers::host_error::HostError;
use crate::controllers::watch;
use crate::karmada::Cluster;
use crate::machinery::error::is_namespace_ending;
use crate::machinery::object_version::object_version;
use crate::runtime::apply::{Applier, ApplyError, typed};
use crate::runtime::client::ClientFactory;
use crate::runtime::guarded::{self, Guarded};
use crate::runtime::host_cache::{HostCache, HostKind};
use crate::runtime::instance_ref::{INSTANCE_REF, InstanceRefError, no_plane, resolve};
use crate::runtime::kubeconfig;
use crate::runtime::planes::{InstanceKey, Plane, Planes};

/// The instance, if it is there and this membership may refer to it.
pub fn instance(
    instances: &HostKind<KarmadaInstance>,
    key: &InstanceKey,
    namespace: &str,
) -> Result<KarmadaInstance, InstanceRefError> {
    resolve(watch::instance(instances, key)?, key, namespace, INSTANCE_REF)
}

/// The plane of an instance. One that is ready, but not connected yet, is only a moment away.
pub fn plane(planes: &Planes, instance: &KarmadaInstance, key: &InstanceKey) -> Result<Arc<Plane>, InstanceRefError> {
    planes.get(key).map_err(|error| no_plane(instance, &error))
}

/// A membership's Cluster as the plane has it.
#[derive(Clone, Debug)]
pub struct LiveCluster {
    /// As it is.
    pub object: DynamicObject,
    /// As Airdock understands it.
    pub typed: Cluster,
}

/// The Cluster by name, from the plane's cache. One that is missing there is looked for in the plane.
pub async fn known_cluster(plane: &Plane, name: &str) -> Result<Option<LiveCluster>, Error> {
    let unknown = |source| Error::PlaneCache { instance: plane.key.to_string(), source };
    plane.cache.check().await.map_err(unknown)?;
    let kind = plane.cache.kind(&ApiResource::erase::<Cluster>(&())).await.map_err(unknown)?;
    let Some(object) = kind.get(None, name) else { return cluster(plane, name).await };
    let Some(typed) = kind.get_typed(None, name).map_err(unknown)? else { return Ok(None) };
    Ok(Some(LiveCluster { object, typed }))
}

/// The Cluster by name, as the plane has it now.
pub async fn cluster(plane: &Plane, name: &str) -> Result<Option<LiveCluster>, Error> {
    let resource = ApiResource::erase::<Cluster>(&());
    let api = Api::<DynamicObject>::all_with(plane.client.clone(), &resource);
    let unreachable = |source| Error::Plane { instance: plane.key.to_string(), source };
    let Some(object) = api.get_opt(name).await.map_err(unreachable)? else { return Ok(None) };
    let typed = typed(object.clone()).map_err(|e| unreachable(kube::Error::SerdeError(e)))?;
    Ok(Some(LiveCluster { object, typed }))
}

/// Who holds a Cluster. Pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This membership.
    Us,
    /// Somebody else, who is named.
    Other(String),
}

/// Tells whose a Cluster is. One that lost its labels is still recognised by its identity. Pure.
#[must_use]
pub fn holder(join: &MemberClusterJoin, cluster: &Cluster) -> Holder {
    let label = |key: &str| cluster.labels().get(key).cloned();
    match (label(MEMBER_NAMESPACE_LABEL), label(MEMBER_LABEL)) {
        (Some(namespace), Some(name)) => {
            if Some(&namespace) == join.namespace().as_ref() && name == label_of(&join.name_any()) {
                Holder::Us
            } else {
                Holder::Other(format!("MemberClusterJoin {namespace}/{name}"))
            }
        }
        _ => {
            let joined = join.status.as_ref().and_then(|status| status.cluster_id.as_ref());
            if joined.is_some() && joined == cluster.spec.id.as_ref() {
                Holder::Us
            } else {
                Holder::Other("a Cluster that Airdock did not make".to_owned())
            }
        }
    }
}

/// Name of another Cluster of the plane with this identity.
pub async fn same_cluster(plane: &Plane, id: &str, name: &str) -> Result<Option<String>, Error> {
    let clusters = guarded::list(&Api::<Guarded<Cluster>>::all(plane.client.clone()), &ListParams::default())
        .await
        .map_err(|source| Error::Plane { instance: plane.key.to_string(), source })?;
    let other = clusters.into_iter().find(|c| c.spec.id.as_deref() == Some(id) && c.name_any() != name);
    Ok(other.map(|cluster| cluster.name_any()))
}

/// A client of a member, with administrator's rights, and what it was made from.
#[derive(Clone, Debug)]
pub struct MemberClient {
    /// Writes in the member.
    pub applier: Applier,
    /// Address by which it is reached from here.
    pub server: String,
    /// Address by which the plane reaches it.
    pub endpoint: String,
    /// CA that the kubeconfig names, PEM.
    pub ca: Option<Vec<u8>>,
    /// Name of the Secret behind it.
    pub secret: String,
    /// Whether that Secret is being deleted.
    pub secret_ending: bool,
    /// Stands for the kubeconfig.
    pub digest: [u8; 32],
    /// What it was made from.
    pub source: MemberClientSource,
}

/// What a member's client is made from: it is as good as new while this is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberClientSource {
    /// Uid and version of the Secret.
    secret: String,
    /// Generation of the membership's spec, which names the Secret, its key and the endpoint.
    generation: Option<i64>,
}

impl MemberClientSource {
    fn of<K: Resource>(secret: &K, join: &MemberClusterJoin) -> Self {
        Self { secret: object_version(secret), generation: join.metadata.generation }
    }
}

impl MemberClient {
    /// The client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.applier.client().clone()
    }

    /// What a failed request to the member means.
    #[must_use]
    pub fn failure(&self, source: kube::Error) -> Error {
        match &source {
            source if is_namespace_ending(source) => Error::MemberNamespaceEnding,
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                Error::CredentialsRefused { endpoint: self.server.clone(), secret: self.secret.clone(), source }
            }
            _ => Error::MemberUnreachable { endpoint: self.server.clone(), source },
        }
    }

    /// What a failed write in the member means.
    #[must_use]
    pub fn write_failure(&self, error: ApplyError) -> Error {
        match error {
            ApplyError::Api { source: kube::Error::Api(status), .. } if matches!(status.code, 401 | 403) => {
                self.failure(kube::Error::Api(status))
            }
            ApplyError::Api { source, .. } if !matches!(source, kube::Error::Api(_)) => self.failure(source),
            error => Error::MemberWrite(error),
        }
    }
}

/// Reads the kubeconfig, if that or the spec has changed since `known` was made, and makes a client of it; the client of
/// `known` is used again while the kubeconfig is the same.
pub async fn member_client(
    host: &HostCache,
    factory: &ClientFactory,
    join: &MemberClusterJoin,
    local: LocalEndpoints,
    known: Option<&MemberClient>,
) -> Result<MemberClient, Error> {
    let namespace = join.namespace().unwrap_or_default();
    let reference = &join.spec.kubeconfig_secret_ref;
    // An error means that the process is ending.
    let _ = host.secrets.listed().await;
    let source =
        host.secrets.get(&namespace, &reference.name).map(|secret| MemberClientSource::of(secret.as_ref(), join));
    if let Some(known) = known.filter(|known| Some(&known.source) == source.as_ref()) {
        return Ok(known.clone());
    }
    let secret = Api::<Secret>::namespaced(host.client().clone(), &namespace)
        .get_opt(&reference.name)
        .await
        .map_err(|source| HostError { action: "read the kubeconfig Secret", source })?
        .ok_or_else(|| Error::SecretMissing {
            namespace: namespace.clone(),
            name: reference.name.clone(),
            key: reference.key.clone(),
        })?;
    let bytes = secret
        .data
        .as_ref()
        .and_then(|data| data.get(&reference.key))
        .ok_or_else(|| Error::KeyMissing { name: reference.name.clone(), key: reference.key.clone() })?;
    let invalid = |source| Error::Kubeconfig { secret: reference.name.clone(), source };
    let connection = kubeconfig::parse(&bytes.0).map_err(invalid)?;
    validate::endpoint("clusters[].cluster.server of the kubeconfig", &connection.server, local)?;
    if connection.tls_server_name.is_some() && join.spec.api_endpoint.is_none() {
        return Err(FieldError::of_value(
            "clusters[].cluster.tls-server-name of the kubeconfig",
            &connection.tls_server_name.unwrap_or_default(),
            "cannot be handed on to the plane: give an address that the certificate names as spec.apiEndpoint",
        )
        .into());
    }
    let server = connection.server.to_string().trim_end_matches('/').to_owned();
    let endpoint =
        join.spec.api_endpoint.as_ref().map_or_else(|| server.clone(), |e| e.trim_end_matches('/').to_owned());
    let digest: [u8; 32] = Sha256::digest(&bytes.0).into();
    let applier = match known {
        Some(known) if known.digest == digest => known.applier.clone(),
        _ => {
            let client = factory
                .connect(&connection)
                .map_err(|source| Error::Client { secret: reference.name.clone(), source })?;
            Applier::new(client, "airdock.dev/member")
        }
    };
    Ok(MemberClient {
        applier,
        server,
        endpoint,
        ca: connection.certificate_authority,
        secret: reference.name.clone(),
        secret_ending: secret.metadata.deletion_timestamp.is_some(),
        digest,
        source: MemberClientSource::of(&secret, join),
    })
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The uid of its namespace kube-system.
    pub id: String,
    /// Version of its API server.
    pub version: String,
}

/// Asks the member who it is.
pub async fn identity(member_client: &MemberClient) -> Result<Identity, Error> {
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(member_client.client());
    let client = member_client.client();
    let (system, version) = tokio::join!(namespaces.get_metadata("kube-system"), client.apiserver_version());
    let system = system.map_err(|e| member_client.failure(e))?;
    let version = version.map_err(|e| member_client.failure(e))?;
    Ok(Identity { id: system.meta().uid.clone().unwrap_or_default(), version: version.git_version })
}

/// What was found in a member and need not be read again for a while. Memory alone.
#[derive(Clone, Debug)]
pub struct Verified {
    /// When.
    pub at: tokio::time::Instant,
    /// For which generation of the spec.
    pub generation: Option<i64>,
    /// With which kubeconfig.
    pub digest: [u8; 32],
    /// Who it is.
    pub identity: Identity,
    /// The credentials made there.
    pub tokens: Tokens,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_cluster_is_known_by_its_labels() {
        let mut join: MemberClusterJoin = serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
            "metadata": {"namespace": "team", "name": "one"},
            "spec": {"instanceRef": {"name": "fleet"}, "clusterName": "c", "kubeconfigSecretRef": {"name": "s"}},
        }))
        .unwrap();
        let cluster = |labels: Value| -> Cluster {
            serde_json::from_value(json!({
                "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster",
                "metadata": {"name": "c", "labels": labels}, "spec": {"id": "id-1", "syncMode": "Push"},
            }))
            .unwrap()
        };
        let ours = json!({MEMBER_LABEL: "one", MEMBER_NAMESPACE_LABEL: "team"});
        let theirs = json!({MEMBER_LABEL: "two", MEMBER_NAMESPACE_LABEL: "team"});
        assert_eq!(holder(&join, &cluster(ours)), Holder::Us);
        assert_eq!(holder(&join, &cluster(theirs.clone())), Holder::Other("MemberClusterJoin team/two".into()));
        assert!(matches!(holder(&join, &cluster(json!({}))), Holder::Other(_)));
        join.status = serde_json::from_value(json!({"clusterID": "id-1"})).unwrap();
        assert_eq!(holder(&join, &cluster(json!({}))), Holder::Us, "its labels were taken off");
        assert!(matches!(holder(&join, &cluster(theirs)), Holder::Other(_)));
    }
}

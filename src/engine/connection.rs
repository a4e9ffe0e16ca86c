//! How to reach and enter a member: the address that its Cluster names, and what the Secret holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::Value;

use super::Engine;
use super::cluster::Readiness;
use super::key::ClusterName;
use crate::karmada::{CLUSTER_NAMESPACE, Cluster};
use crate::runtime::kubeconfig::{Connection, Credentials};

/// Token and CA of a member.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credential {
    token: Option<String>,
    ca: Option<Vec<u8>>,
}

/// What a Secret holds that `karmadactl join` or a MemberClusterJoin wrote.
pub(super) fn credential(secret: &Value) -> Credential {
    let get = |key: &str| {
        let encoded = secret.pointer("/data")?.get(key)?.as_str()?;
        STANDARD.decode(encoded).ok().filter(|bytes| !bytes.is_empty())
    };
    Credential { token: get("token").and_then(|bytes| String::from_utf8(bytes).ok()), ca: get("caBundle") }
}

impl Engine {
    pub(super) fn set_credential(&self, secret: &str, credential: Option<Credential>) {
        match credential {
            Some(credential) => self.credentials.lock().insert(secret.to_owned(), credential),
            None => self.credentials.lock().remove(secret),
        };
        let concerned: Vec<ClusterName> = {
            let index = self.index();
            let uses =
                |cluster: &Cluster| cluster.spec.secret_ref.as_ref().is_some_and(|reference| reference.name == secret);
            index.clusters.iter().filter(|(_, cluster)| uses(cluster)).map(|(name, _)| name.clone()).collect()
        };
        for name in concerned {
            self.connection_changed(&name);
        }
    }

    pub(super) fn set_refused(&self, cluster: &ClusterName, why: Option<String>) {
        match why {
            Some(why) => self.refused.lock().insert(cluster.clone(), why),
            None => self.refused.lock().remove(cluster),
        };
    }

    pub(super) fn credential_names(&self) -> Vec<String> {
        self.credentials.lock().keys().cloned().collect()
    }

    /// How to reach and enter a member, as its Cluster and the Secret that it names say now; an error when the Secret could
    /// not be read, of which nothing follows.
    pub(super) async fn connection(&self, name: &ClusterName) -> Result<Result<Connection, Readiness>, kube::Error> {
        let reference = self.index().clusters.get(name).and_then(|cluster| cluster.spec.secret_ref.clone());
        let found = match &reference {
            Some(reference) if reference.namespace != CLUSTER_NAMESPACE => {
                let secrets: Api<Secret> = Api::namespaced(self.rest.client().clone(), &reference.namespace);
                let found = secrets.get_opt(&reference.name).await?;
                found.and_then(|secret| serde_json::to_value(secret).ok()).map(|secret| credential(&secret))
            }
            Some(reference) => self.credentials.lock().get(&reference.name).cloned(),
            None => None,
        };
        Ok(self.connection_with(name, found))
    }

    /// The same, with what the Secret holds.
    fn connection_with(&self, name: &ClusterName, found: Option<Credential>) -> Result<Connection, Readiness> {
        let cluster = self.index().clusters.get(name).cloned();
        let Some(spec) = cluster.map(|cluster| cluster.spec.clone()) else {
            return Err(Readiness::unusable("ClusterNotFound", format!("there is no cluster {name}")));
        };
        if let Some(why) = self.refused.lock().get(name) {
            return Err(Readiness::unusable("FieldUnsupported", why.clone()));
        }
        let endpoint = spec.api_endpoint.unwrap_or_default();
        let server: http::Uri = endpoint.parse().map_err(|_| {
            Readiness::unusable("EndpointInvalid", format!("spec.apiEndpoint {endpoint:?} is not an address"))
        })?;
        if server.scheme_str() != Some("https") {
            let message = format!("spec.apiEndpoint {endpoint:?} must start with https://");
            return Err(Readiness::unusable("EndpointInvalid", message));
        }
        let missing = |message: String| Readiness::unusable("CredentialsMissing", message);
        let reference = spec.secret_ref.ok_or_else(|| missing("spec.secretRef is not set".to_owned()))?;
        let (namespace, secret) = (&reference.namespace, &reference.name);
        let found = found.ok_or_else(|| missing(format!("Secret {namespace}/{secret} does not exist")))?;
        let token = found.token.ok_or_else(|| missing(format!("Secret {namespace}/{secret} has no key token")))?;
        Ok(Connection {
            server,
            tls_server_name: None,
            certificate_authority: found.ca,
            credentials: Credentials::Token(token),
        })
    }
}

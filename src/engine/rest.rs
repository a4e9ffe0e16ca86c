//! Requests about objects of any kind, as JSON.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::core::{ApiResource, Status};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::key::Uid;
use crate::runtime::guarded::read_any;

/// Field manager of everything that the engine writes.
pub const FIELD_MANAGER: &str = "airdock-engine";

/// First lists of watches of one cluster that are under way at once. Each takes memory, and a connection that stays open for a while.
const MAX_CONCURRENT_LISTS: usize = 4;

/// Requests about the objects of one cluster.
#[derive(Clone)]
pub struct Rest {
    client: Client,
    lists: Arc<Semaphore>,
    timeout: Option<Duration>,
}

/// One object.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its kind.
    pub resource: &'a ApiResource,
    /// Its namespace.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

impl Target<'_> {
    fn collection(&self) -> String {
        let root = if self.resource.group.is_empty() { "/api" } else { "/apis" };
        let (api_version, plural) = (&self.resource.api_version, &self.resource.plural);
        match self.namespace {
            Some(namespace) => format!("{root}/{api_version}/namespaces/{}/{plural}", escaped(namespace)),
            None => format!("{root}/{api_version}/{plural}"),
        }
    }

    fn object(&self) -> String {
        format!("{}/{}", self.collection(), escaped(self.name))
    }
}

/// Escapes a name for a path: names of RBAC objects may hold almost anything, and what a binding names is anybody's word.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'~');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rest")
    }
}

impl Rest {
    /// Requests through a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, lists: Arc::new(Semaphore::new(MAX_CONCURRENT_LISTS)), timeout: None }
    }

    /// The same, where the API server gives up what creates or changes an object after a time: an admission webhook may
    /// take long to answer.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// Waits for the turn of a list; it is over when what this returns is dropped.
    pub async fn list_permit(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.lists.clone().acquire_owned().await.ok()
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads an object; nothing when it is not there.
    pub async fn get(&self, target: &Target<'_>) -> Result<Option<Value>, kube::Error> {
        match self.send(Method::GET, &target.object(), None, Vec::new()).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if is_object_missing(&status) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object; an existing one is left alone and makes this fail.
    pub async fn create(&self, target: &Target<'_>, object: Vec<u8>) -> Result<Value, kube::Error> {
        let path = format!("{}?{}", target.collection(), write_options(self.timeout));
        self.send(Method::POST, &path, Some("application/json"), object).await
    }

    /// Replaces an object, provided that it still has the version that is sent.
    pub async fn replace(&self, target: &Target<'_>, object: Vec<u8>) -> Result<Value, kube::Error> {
        let path = format!("{}?{}", target.object(), write_options(self.timeout));
        self.send(Method::PUT, &path, Some("application/json"), object).await
    }

    /// Changes an object by a merge patch.
    pub async fn merge(&self, target: &Target<'_>, patch: &Value) -> Result<Value, kube::Error> {
        let path = format!("{}?{}", target.object(), write_options(self.timeout));
        self.send(Method::PATCH, &path, Some("application/merge-patch+json"), patch.to_string().into_bytes()).await
    }

    /// Changes the status of an object by a merge patch.
    pub async fn merge_status(&self, target: &Target<'_>, patch: &Value) -> Result<Value, kube::Error> {
        let path = format!("{}/status?{}", target.object(), write_options(self.timeout));
        self.send(Method::PATCH, &path, Some("application/merge-patch+json"), patch.to_string().into_bytes()).await
    }

    /// Changes an object by a JSON patch, provided that it still has this version.
    pub async fn patch(
        &self,
        target: &Target<'_>,
        resource_version: u64,
        mut operations: Vec<Value>,
    ) -> Result<Value, kube::Error> {
        // Not a `test`: a version that does not match is then a conflict, not an invalid request.
        let version = resource_version.to_string();
        operations.insert(0, json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
        let path = format!("{}?{}", target.object(), write_options(self.timeout));
        let body = Value::Array(operations).to_string().into_bytes();
        self.send(Method::PATCH, &path, Some("application/json-patch+json"), body).await
    }

    /// Deletes an object if it still is the one with this uid, and in this version if one is given. Answers with what is
    /// left of it, if anything.
    pub async fn delete(
        &self,
        target: &Target<'_>,
        uid: &Uid,
        version: Option<u64>,
    ) -> Result<Option<Value>, kube::Error> {
        let mut preconditions = json!({ "uid": uid.as_str() });
        if let Some(version) = version {
            preconditions["resourceVersion"] = json!(version.to_string());
        }
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            // Jobs would otherwise leave their pods behind.
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        });
        let body = options.to_string().into_bytes();
        match self.send(Method::DELETE, &target.object(), Some("application/json"), body).await {
            Ok(object) if object.get("kind").and_then(Value::as_str) == Some("Status") => Ok(None),
            Ok(object) => Ok(object.pointer("/metadata/deletionTimestamp").is_some().then_some(object)),
            Err(kube::Error::Api(status)) if is_object_missing(&status) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Value, kube::Error> {
        let mut request = Request::builder().method(method).uri(path).header(http::header::ACCEPT, "application/json");
        if let Some(content_type) = content_type {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(kube::Error::HttpError)?;
        let text = self.client.request_text(request).await?;
        read_any(&text).map_err(kube::Error::SerdeError)
    }
}

/// The query of a request that creates or changes an object.
fn write_options(timeout: Option<Duration>) -> String {
    let timeout = timeout.map(|timeout| format!("&timeout={}ms", timeout.as_millis())).unwrap_or_default();
    format!("fieldManager={FIELD_MANAGER}{timeout}")
}

/// Whether an answer says that the object is not there, rather than its kind.
#[must_use]
pub fn is_object_missing(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// Whether a create was refused because the namespace is not there.
#[must_use]
pub fn is_namespace_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404
        && status.details.as_ref().is_some_and(|details| details.kind == "namespaces"))
}

/// Whether an answer says that the kind is not served.
#[must_use]
pub fn is_kind_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && !is_object_missing(status))
}

/// Whether the object itself is refused, so that trying again soon is no use.
#[must_use]
pub fn is_refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 405 | 413 | 422))
}

/// Whether no answer came: the cluster may be away.
#[must_use]
pub fn is_unanswered(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let resource = |group: &str, api_version: &str, plural: &str| ApiResource {
            group: group.into(),
            version: "v1".into(),
            api_version: api_version.into(),
            kind: "K".into(),
            plural: plural.into(),
        };
        let pods = resource("", "v1", "pods");
        let roles = resource("rbac.authorization.k8s.io", "rbac.authorization.k8s.io/v1", "clusterroles");
        let pod = Target { resource: &pods, namespace: Some("n"), name: "p" };
        assert_eq!(pod.object(), "/api/v1/namespaces/n/pods/p");
        let stray = Target { resource: &pods, namespace: Some("n/secrets?"), name: "p" };
        assert_eq!(stray.object(), "/api/v1/namespaces/n%2Fsecrets%3F/pods/p");
        let role = Target { resource: &roles, namespace: None, name: "system:a b/c" };
        assert_eq!(role.object(), "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:a%20b%2Fc");
    }

    #[test]
    fn a_write_names_its_manager_and_how_long_it_may_take() {
        assert_eq!(write_options(None), "fieldManager=airdock-engine");
        assert_eq!(write_options(Some(Duration::from_secs(3))), "fieldManager=airdock-engine&timeout=3000ms");
    }
}

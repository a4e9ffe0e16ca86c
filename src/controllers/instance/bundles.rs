//! Gets CRD bundles and keeps them unpacked, so that none is fetched twice. *IO.*

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::Uri;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PartialObjectMeta};
use kube::{Client, Config, ResourceExt as _};
use parking_lot::Mutex;

use crate::api::KarmadaInstance;
use crate::api::instance::CrdSource;
use crate::machinery::error::chain;
use crate::runtime::hosts::{LocalEndpoints, refused_host};

use crate::instance::bundle::{Bundle, BundleError, CONFIG_MAP_KEY, MAX_PACKED, Sourced, checksum};

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a fetch is sent elsewhere; releases on GitHub are, once.
const MAX_REDIRECTS: usize = 5;

/// Unpacked bundles by where they came from.
#[derive(Clone, Debug, Default)]
pub struct Bundles {
    known: Arc<Mutex<HashMap<String, Arc<Bundle>>>>,
    local: LocalEndpoints,
}

impl Bundles {
    /// The bundle that an instance asks for.
    pub async fn get(&self, host: &Client, instance: &KarmadaInstance) -> Result<Sourced, BundleError> {
        let source = instance.spec.crds.as_ref().map(|crds| &crds.source);
        match source {
            Some(CrdSource { url: Some(url), sha256: Some(sha256), .. }) => self.fetched(url, sha256).await,
            Some(CrdSource { config_map_ref: Some(reference), .. }) => {
                let namespace = instance.namespace().unwrap_or_default();
                self.read(host, &namespace, &reference.name).await
            }
            _ => Err(BundleError::Archive { problem: "spec.crds.source names none".into() }),
        }
    }

    async fn fetched(&self, url: &str, sha256: &str) -> Result<Sourced, BundleError> {
        let version = sha256.chars().take(20).collect();
        if let Some(bundle) = self.known(sha256) {
            return Ok(Sourced { version, bundle });
        }
        let failed = |problem: String| BundleError::Fetch { from: url.to_owned(), problem };
        let packed = tokio::time::timeout(FETCH_TIMEOUT, fetch(url, self.local))
            .await
            .map_err(|_| failed(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())))?
            .map_err(failed)?;
        let found = checksum(&packed);
        if found != sha256 {
            return Err(BundleError::Checksum { from: url.to_owned(), wanted: sha256.to_owned(), found });
        }
        let bundle = Arc::new(Bundle::unpack(&packed)?);
        self.remember(sha256, &bundle);
        Ok(Sourced { version, bundle })
    }

    async fn read(&self, host: &Client, namespace: &str, name: &str) -> Result<Sourced, BundleError> {
        let missing = |problem: String| BundleError::ConfigMap { problem };
        let unread = |error: kube::Error| BundleError::Fetch {
            from: format!("ConfigMap {namespace}/{name}"),
            problem: chain(&error),
        };
        // The body is read only when it changed: it is large.
        let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(host.clone(), namespace);
        let found = metadata.get_opt(name).await.map_err(unread)?;
        let absent =
            || missing(format!("ConfigMap {namespace}/{name} is not there; create it with the key {CONFIG_MAP_KEY}"));
        let found = found.ok_or_else(absent)?;
        let key = format!("{}@{}", found.uid().unwrap_or_default(), found.resource_version().unwrap_or_default());
        if let Some(bundle) = self.known(&key) {
            return Ok(Sourced { version: crate::chart::digest([key.as_bytes()]), bundle });
        }
        let config_maps: Api<ConfigMap> = Api::namespaced(host.clone(), namespace);
        let config_map = config_maps.get_opt(name).await.map_err(unread)?.ok_or_else(absent)?;
        let packed = config_map.binary_data.as_ref().and_then(|data| data.get(CONFIG_MAP_KEY)).ok_or_else(|| {
            missing(format!("ConfigMap {namespace}/{name} has no binaryData under the key {CONFIG_MAP_KEY}"))
        })?;
        // As the ConfigMap's fault: a corrected one does not touch the instance, so it is looked at again soon.
        let faulty = |error: BundleError| BundleError::InConfigMap { name: name.to_owned(), source: Box::new(error) };
        let bundle = Arc::new(Bundle::unpack(&packed.0).map_err(faulty)?);
        self.remember(&key, &bundle);
        Ok(Sourced { version: crate::chart::digest([key.as_bytes()]), bundle })
    }

    fn known(&self, key: &str) -> Option<Arc<Bundle>> {
        self.known.lock().get(key).cloned()
    }

    fn remember(&self, key: &str, bundle: &Arc<Bundle>) {
        let mut known = self.known.lock();
        // A handful of versions is in use at any time; whoever needs another fetches it again.
        if known.len() >= 8 {
            known.clear();
        }
        known.insert(key.to_owned(), bundle.clone());
    }
}

/// Fetches a file, with a limit on its size. What comes back is believed only by its checksum.
async fn fetch(url: &str, local: LocalEndpoints) -> Result<Vec<u8>, String> {
    let mut address: Uri = url.parse().map_err(|_| "it is no address".to_owned())?;
    for _ in 0..=MAX_REDIRECTS {
        let host = address.host().unwrap_or_default();
        if let Some(problem) = refused_host(host, local) {
            return Err(format!("{host} {problem}"));
        }
        let mut config = Config::new(origin(&address)?);
        config.connect_timeout = Some(Duration::from_secs(10));
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| chain(&error))?;
        let path = address.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = http::Request::get(path).body(kube::client::Body::empty()).map_err(|error| error.to_string())?;
        let response = client.send(request).await.map_err(|error| chain(&error))?;
        let status = response.status();
        if status.is_redirection() {
            let location = response.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
            address = redirected(&address, location.unwrap_or_default())?;
            continue;
        }
        if !status.is_success() {
            return Err(format!("the server answers {status}"));
        }
        let mut body = response.into_body().into_data_stream();
        let mut packed = Vec::new();
        while let Some(chunk) = body.next().await {
            packed.extend_from_slice(&chunk.map_err(|error| chain(&error))?);
            if packed.len() > MAX_PACKED {
                return Err(format!("it is larger than {} MiB", MAX_PACKED >> 20));
            }
        }
        return Ok(packed);
    }
    Err(format!("it was sent elsewhere more than {MAX_REDIRECTS} times"))
}

/// An address without its path, since the client prefixes every request's path with its base's.
fn origin(address: &Uri) -> Result<Uri, String> {
    let mut parts = address.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

/// Where a redirect leads; never from https to http.
fn redirected(from: &Uri, location: &str) -> Result<Uri, String> {
    let to: Uri = location.parse().map_err(|_| "it was sent to no address".to_owned())?;
    let (Some(scheme), Some(_)) = (to.scheme_str(), to.authority()) else {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = to.path_and_query().cloned();
        return Uri::from_parts(parts).map_err(|error| error.to_string());
    };
    match (from.scheme_str(), scheme) {
        (_, "https") | (Some("http"), "http") => Ok(to),
        _ => Err(format!("it was sent to {scheme}, which is not accepted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_lose_encryption() {
        let https: Uri = "https://a.example/x".parse().unwrap();
        let http: Uri = "http://a.example/x".parse().unwrap();
        assert_eq!(redirected(&https, "https://b.example/y?z").unwrap(), "https://b.example/y?z");
        assert_eq!(redirected(&https, "/y").unwrap(), "https://a.example/y");
        assert_eq!(redirected(&http, "http://b.example/").unwrap(), "http://b.example/");
        assert!(redirected(&https, "http://b.example/").is_err());
        assert!(redirected(&http, "file:///etc/passwd").is_err());
        assert!(redirected(&https, "").is_err());
    }

    #[tokio::test]
    async fn what_only_the_platform_reaches_is_not_fetched() {
        for url in
            ["http://169.254.169.254/latest", "http://127.0.0.1:8080/metrics", "https://metadata.google.internal/"]
        {
            let error = Bundles::default().fetched(url, &"0".repeat(64)).await.unwrap_err().to_string();
            assert!(error.contains("address"), "{error}");
        }
    }

    /// Serves one answer on loopback, at the address that is returned and at no other.
    async fn serve(status: u16, body: &'static [u8]) -> String {
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        let answer = axum::routing::get(move || async move { (status, body) });
        let app = axum::Router::new().route("/releases/crds.tar.gz", answer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/releases/crds.tar.gz?a=b")
    }

    #[tokio::test]
    async fn a_wrong_checksum_names_both() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = serve(200, b"something else").await;
        let error = Bundles { local: LocalEndpoints::Loopback, ..Bundles::default() }
            .fetched(&url, &"0".repeat(64))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(&"0".repeat(64)) && error.contains(&checksum(b"something else")), "{error}");
        let error = Bundles { local: LocalEndpoints::Loopback, ..Bundles::default() }
            .fetched(&url, &checksum(b"something else"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn what_cannot_be_fetched_says_why() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = serve(404, b"").await;
        let error = Bundles { local: LocalEndpoints::Loopback, ..Bundles::default() }
            .fetched(&url, "x")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("404"), "{error}");
        let error = Bundles { local: LocalEndpoints::Loopback, ..Bundles::default() }
            .fetched("http://127.0.0.1:1/x", "x")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("127.0.0.1:1"), "{error}");
    }
}

//! Gets CRD bundles and keeps them unpacked, so that none is fetched twice. *IO.*

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PartialObjectMeta};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;

use crate::api::KarmadaInstance;
use crate::api::instance::CrdSource;
use crate::instance::bundle::{Bundle, BundleError, CONFIG_MAP_KEY, MAX_PACKED, Sourced, checksum};
use crate::machinery::error::chain;
use crate::runtime::download::{DownloadError, download};
use crate::runtime::hosts::LocalEndpoints;

/// How long a bundle that nobody asks for is kept: longer than a plane goes unverified.
const BUNDLE_TTL: Duration = Duration::from_secs(900);

/// Unpacked bundles by where they came from.
#[derive(Clone, Debug, Default)]
pub struct Bundles {
    unpacked: Arc<Mutex<Unpacked>>,
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
        let failed = |error: DownloadError| BundleError::Fetch { from: url.to_owned(), problem: chain(&error) };
        let packed = download(url, self.local, MAX_PACKED).await.map_err(failed)?;
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
        self.unpacked.lock().get(key, Instant::now())
    }

    fn remember(&self, key: &str, bundle: &Arc<Bundle>) {
        self.unpacked.lock().insert(key, bundle, Instant::now());
    }
}

/// Unpacked bundles with the time at which each was last asked for.
#[derive(Debug, Default)]
struct Unpacked(HashMap<String, (Arc<Bundle>, Instant)>);

impl Unpacked {
    fn get(&mut self, key: &str, now: Instant) -> Option<Arc<Bundle>> {
        self.0.retain(|_, (_, used)| now.saturating_duration_since(*used) < BUNDLE_TTL);
        let (bundle, used) = self.0.get_mut(key)?;
        *used = now;
        Some(bundle.clone())
    }

    fn insert(&mut self, key: &str, bundle: &Arc<Bundle>, now: Instant) {
        self.0.insert(key.to_owned(), (bundle.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_only_the_platform_reaches_is_not_fetched() {
        for url in
            ["http://169.254.169.254/latest", "http://127.0.0.1:8080/metrics", "https://metadata.google.internal/"]
        {
            let error = Bundles::default().fetched(url, &"0".repeat(64)).await.unwrap_err().to_string();
            assert!(error.contains("address"), "{error}");
        }
    }

    #[test]
    fn bundles_that_nobody_asks_for_are_dropped() {
        let (start, bundle) = (Instant::now(), Arc::new(Bundle::default()));
        let mut unpacked = Unpacked::default();
        unpacked.insert("used", &bundle, start);
        unpacked.insert("unused", &bundle, start);
        assert!(unpacked.get("used", start + BUNDLE_TTL / 2).is_some());
        assert!(unpacked.get("used", start + BUNDLE_TTL).is_some(), "it was asked for meanwhile");
        assert_eq!(unpacked.0.len(), 1);
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

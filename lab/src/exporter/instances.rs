//! Keeps `.lab/instances` equal to the instances' administrator kubeconfigs,
//! with their servers made reachable from the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};

use crate::failure::report;
use crate::kubeconfig::{Kubeconfig, ServiceUrl, service_url};
use crate::layout;
use crate::member::node_address;

const SELECTOR: &str = "airdock.dev/purpose=admin-kubeconfig";
const INSTANCE_LABEL: &str = "airdock.dev/instance";

/// Follows the Secrets and the Services that they name.
pub async fn run(client: Client, folder: PathBuf, own: bool) -> Result<()> {
    let secrets = Api::<Secret>::all(client.clone());
    let services = Api::<Service>::all(client.clone());
    let secret_events =
        watcher(secrets, watcher::Config::default().labels(SELECTOR)).default_backoff().map(|e| e.is_ok()).boxed();
    let service_events = watcher(services, watcher::Config::default()).default_backoff().map(|e| e.is_ok()).boxed();
    let mut events = stream::select(secret_events, service_events);
    let mut tick = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            event = events.next() => {
                if event.is_none() {
                    return Ok(());
                }
                // A burst of events is one change.
                let calm = tokio::time::sleep(Duration::from_millis(50));
                tokio::pin!(calm);
                loop {
                    tokio::select! {
                        more = events.next() => if more.is_none() { return Ok(()) },
                        () = &mut calm => break,
                    }
                }
            }
            _ = tick.tick() => {}
        }
        if let Err(error) = publish(&client, &folder, own).await {
            tracing::warn!("{}", report(&error));
        }
    }
}

/// Writes what there is and removes what is no more.
async fn publish(client: &Client, folder: &Path, own: bool) -> Result<()> {
    let secrets = Api::<Secret>::all(client.clone())
        .list(&ListParams::default().labels(SELECTOR))
        .await
        .context("listing the instances' kubeconfigs")?;
    let mut files = BTreeMap::new();
    for secret in secrets.items.iter().filter(|s| s.metadata.deletion_timestamp.is_none()) {
        let Some((file, text)) = content(secret) else { continue };
        let reachable = reachable(client, &text, own).await;
        match reachable {
            Ok(Some(text)) => {
                files.insert(file, text);
            }
            Ok(None) => tracing::info!(file, "its Service has no address yet"),
            Err(error) => tracing::warn!(file, "{}", report(&error)),
        }
    }
    for (file, text) in &files {
        layout::write(&folder.join(file), text.as_bytes(), true)?;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".kubeconfig") && !files.contains_key(&name) {
            layout::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// The file for a Secret and the kubeconfig in it.
fn content(secret: &Secret) -> Option<(String, String)> {
    let instance = secret.labels().get(INSTANCE_LABEL)?;
    let namespace = secret.namespace()?;
    let bytes = &secret.data.as_ref()?.get("kubeconfig")?.0;
    let text = String::from_utf8(bytes.clone()).ok()?;
    Some((format!("{namespace}.{instance}.kubeconfig"), text))
}

/// Replaces Service names by addresses; `None` while a Service has none.
async fn reachable(client: &Client, text: &str, own: bool) -> Result<Option<String>> {
    let mut config = Kubeconfig::parse(text)?;
    for server in config.servers() {
        let Some(url) = service_url(&server) else { continue };
        let services: Api<Service> = Api::namespaced(client.clone(), &url.namespace);
        let found = services.get_opt(&url.service).await.with_context(|| format!("reading Service {}", url.service))?;
        let Some(service) = found else { return Ok(None) };
        let node = if own { None } else { Some(node_address(client).await?.to_string()) };
        let Some(address) = address(&service, &url, node.as_deref()) else { return Ok(None) };
        config.redirect(&server, &url, &address);
    }
    config.to_yaml().map(Some)
}

/// `host:port` of a Service: its cluster address, or a node's where only nodes
/// can be reached and the Service has a port there.
fn address(service: &Service, url: &ServiceUrl, node: Option<&str>) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = spec.ports.iter().flatten().find(|p| p.port == i32::from(url.port));
    if let (Some(node), Some(node_port)) = (node, port.and_then(|p| p.node_port)) {
        return Some(format!("{}:{node_port}", bracketed(node)));
    }
    let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")?;
    Some(format!("{}:{}", bracketed(ip), url.port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn addresses_of_services() {
        let url = service_url("https://a.b.svc:5443").unwrap();
        let ports = json!([{"port": 5443, "nodePort": 30000}]);
        for (spec, node, expected) in [
            (json!({"clusterIP": "198.19.1.1", "ports": ports}), None, Some("198.19.1.1:5443")),
            (json!({"clusterIP": "198.19.1.1", "ports": ports}), Some("172.18.0.2"), Some("172.18.0.2:30000")),
            (json!({"clusterIP": "198.19.1.1"}), Some("172.18.0.2"), Some("198.19.1.1:5443")),
            (json!({"clusterIP": "fd00::1"}), None, Some("[fd00::1]:5443")),
            (json!({"clusterIP": "None"}), None, None),
            (json!({}), None, None),
        ] {
            assert_eq!(address(&service(spec.clone()), &url, node).as_deref(), expected, "{spec}");
        }
    }

    #[test]
    fn a_secret_needs_namespace_label_and_key() {
        let whole = json!({
            "metadata": {"name": "x", "namespace": "fleet", "labels": {INSTANCE_LABEL: "demo"}},
            "data": {"kubeconfig": "YQ=="},
        });
        let secret: Secret = serde_json::from_value(whole.clone()).unwrap();
        assert_eq!(content(&secret), Some(("fleet.demo.kubeconfig".into(), "a".into())));
        for missing in ["/metadata/namespace", "/metadata/labels", "/data"] {
            let mut part = whole.clone();
            *part.pointer_mut(missing).unwrap() = serde_json::Value::Null;
            assert_eq!(content(&serde_json::from_value(part).unwrap()), None, "{missing}");
        }
    }
}

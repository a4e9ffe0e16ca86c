//! What every host cluster of the lab runs: name service and a storage class.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::Api;
use minijinja::context;

use crate::addresses::DNS_SERVICE;
use crate::cluster::api;
use crate::exporter::volumes::PROVISIONER;
use crate::image::catalogue;
use crate::layout::Layout;
use crate::process;

/// Applies the base manifests.
pub async fn apply(client: &Client) -> Result<()> {
    let values = context! {
        coredns => catalogue::coredns_image(),
        dns => DNS_SERVICE.to_string(),
        provisioner => PROVISIONER,
    };
    api::apply(client, &api::render(include_str!("../../manifests/base.yaml"), values)?).await
}

/// Waits until all nodes are Ready and names resolve.
pub async fn settled(layout: &Layout, client: &Client, nodes: u8) -> Result<()> {
    process::wait_for(
        layout,
        "all nodes to be Ready",
        &["kube-apiserver", "kubelet-lab-1"],
        Duration::from_secs(90),
        || async { matches!(api::nodes_ready(client).await, Ok((ready, _)) if ready >= usize::from(nodes)) },
    )
    .await?;
    let deployments = Api::<Deployment>::namespaced(client.clone(), "kube-system");
    process::wait_for(
        layout,
        "CoreDNS",
        &["kube-controller-manager", "kubelet-lab-1"],
        Duration::from_secs(90),
        || async {
            let coredns = deployments.get("coredns").await.ok();
            let status = coredns.and_then(|d| d.status);
            status.is_some_and(|s| s.available_replicas.unwrap_or(0) > 0)
        },
    )
    .await
}

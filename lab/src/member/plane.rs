//! A member's control plane: a Service with a lasting address, a Secret with
//! its own CA's certificates, and the Deployment of its parts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use minijinja::context;
use serde_json::json;

use super::{MEMBER_LABEL, NAMESPACE, Place};
use crate::cluster::api::{self, FIELD_MANAGER};
use crate::cluster::state::{Host, State};
use crate::image::catalogue;
use crate::kubeconfig;
use crate::layout::{self, Layout};
use crate::pki::{self, Subject};
use crate::setup::binaries::Binaries;

/// Where a member's API server answers, for the machine and for pods.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    ip: IpAddr,
    port: u16,
}

/// Applies all of a member's objects and writes its kubeconfig.
pub async fn ensure(
    layout: &Layout,
    state: &State,
    host: &Client,
    binaries: &Binaries,
    name: &str,
    place: &Place,
) -> Result<()> {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).context("describing a namespace")?;
    let apply = PatchParams::apply(FIELD_MANAGER).force();
    Api::<Namespace>::all(host.clone())
        .patch(NAMESPACE, &apply, &Patch::Apply(typed("v1", "Namespace", &namespace)?))
        .await
        .with_context(|| format!("making the namespace {NAMESPACE}"))?;
    let (service, address) = ensure_service(state, host, name).await?;
    let shown = format!("{}:{}", address.ip, address.port);

    let (kubeconfig, files) = match kept_files(host, name, &shown).await? {
        Some(files) => files,
        None => make_files(binaries, name, &service, &address)?,
    };
    let values = context! {
        name, files,
        namespace => NAMESPACE,
        address => shown,
        region => &place.region,
        zones => place.zones.join(","),
        provider => &place.provider,
        etcd_image => catalogue::etcd_image(),
        apiserver_image => catalogue::kubernetes_image("kube-apiserver"),
        controller_manager_image => catalogue::kubernetes_image("kube-controller-manager"),
        scheduler_image => catalogue::kubernetes_image("kube-scheduler"),
        kwok_image => catalogue::kwok_image(),
    };
    api::apply(host, &api::render(include_str!("../../manifests/member.yaml"), values)?).await?;
    layout::write(&layout.member_kubeconfig(name), kubeconfig.as_bytes(), true)
}

/// k8s-openapi's types leave out what server-side apply insists on.
fn typed(version: &str, kind: &str, object: &impl serde::Serialize) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(object).context("describing an object")?;
    value["apiVersion"] = version.into();
    value["kind"] = kind.into();
    Ok(value)
}

async fn ensure_service(state: &State, host: &Client, name: &str) -> Result<(Service, Address)> {
    let own = matches!(state.host, Host::Own { .. });
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {MEMBER_LABEL: name}},
        "spec": {
            // From outside of somebody's cluster only its nodes can be reached.
            "type": if own { "ClusterIP" } else { "NodePort" },
            "selector": {MEMBER_LABEL: name},
            "ports": [{"name": "https", "port": 6443, "targetPort": 6443}],
            // Whoever waits for readiness asks the server itself.
            "publishNotReadyAddresses": true,
        },
    });
    let services: Api<Service> = Api::namespaced(host.clone(), NAMESPACE);
    let service = services
        .patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&wanted))
        .await
        .with_context(|| format!("applying Service {name}"))?;
    let spec = service.spec.clone().unwrap_or_default();
    let missing = || anyhow!("Service {name} got no address");
    let address = if own {
        let ip = spec.cluster_ip.and_then(|ip| ip.parse().ok()).ok_or_else(missing)?;
        Address { ip, port: 6443 }
    } else {
        let port = spec.ports.iter().flatten().find_map(|p| p.node_port).ok_or_else(missing)?;
        let ip = node_address(host).await?;
        Address { ip, port: u16::try_from(port).context("reading a node port")? }
    };
    Ok((service, address))
}

/// An address of a node of an existing cluster.
pub async fn node_address(host: &Client) -> Result<IpAddr> {
    let nodes = Api::<Node>::all(host.clone()).list(&ListParams::default()).await.context("listing the nodes")?;
    let addresses = nodes.items.iter().filter_map(|n| n.status.as_ref()?.addresses.as_ref()).flatten();
    addresses
        .filter(|address| address.type_ == "InternalIP")
        .find_map(|address| address.address.parse().ok())
        .context("no node of the cluster has an address")
}

type Files = BTreeMap<String, String>;

/// What the member's Secret has, if it was made for the same address: another
/// address needs another certificate.
async fn kept_files(host: &Client, name: &str, address: &str) -> Result<Option<(String, Files)>> {
    let secrets: Api<Secret> = Api::namespaced(host.clone(), NAMESPACE);
    let Some(secret) = secrets.get_opt(name).await.with_context(|| format!("reading Secret {name}"))? else {
        return Ok(None);
    };
    let made_for = secret.metadata.annotations.and_then(|a| a.get("lab.airdock.dev/address").cloned());
    let files: Option<Files> = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)))
        .collect();
    Ok(files.filter(|_| made_for.as_deref() == Some(address)).and_then(|f| Some((f.get("kubeconfig")?.clone(), f))))
}

fn make_files(binaries: &Binaries, name: &str, service: &Service, address: &Address) -> Result<(String, Files)> {
    let ca = pki::ca(&format!("{name}-ca"))?;
    let cluster_ip: Option<IpAddr> =
        service.spec.as_ref().and_then(|s| s.cluster_ip.as_ref()).and_then(|ip| ip.parse().ok());
    let mut addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), address.ip, [10, 96, 0, 1].into()];
    addresses.extend(cluster_ip.filter(|ip| *ip != address.ip));
    let names = [
        "localhost".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("{name}.{NAMESPACE}"),
        format!("{name}.{NAMESPACE}.svc"),
        format!("{name}.{NAMESPACE}.svc.cluster.local"),
    ];
    let serving =
        pki::leaf(&ca, &Subject { name: "kube-apiserver", group: None, names: &names, addresses: &addresses })?;
    let admin = Subject { name: "lab-admin", group: Some("system:masters"), names: &[], addresses: &[] };
    let admin = pki::leaf(&ca, &admin)?;
    let tokens = pki::token_keys()?;
    let outside = match address.ip {
        IpAddr::V4(ip) => format!("https://{ip}:{}", address.port),
        IpAddr::V6(ip) => format!("https://[{ip}]:{}", address.port),
    };
    let kubeconfig = kubeconfig::inline(name, &outside, &ca.cert, &admin)?;
    let stages = std::fs::read_to_string(binaries.stages()).context("reading kwok's stages")?;
    let files = [
        ("local.kubeconfig", kubeconfig::inline(name, "https://127.0.0.1:6443", &ca.cert, &admin)?),
        ("ca.crt", ca.cert),
        ("ca.key", ca.key),
        ("apiserver.crt", serving.cert),
        ("apiserver.key", serving.key),
        ("sa.crt", tokens.cert),
        ("sa.key", tokens.key),
        ("stages.yaml", stages),
        ("kubeconfig", kubeconfig.clone()),
    ];
    Ok((kubeconfig, files.into_iter().map(|(key, text)| (key.to_owned(), text)).collect()))
}

//! Member clusters: control planes that run as pods of the host cluster, with
//! kwok's simulated nodes spread over the zones of one region.

mod nodes;
mod plane;

pub use plane::node_address;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;

use crate::cluster::api;
use crate::cluster::state::State;
use crate::failure::Advice;
use crate::layout::{self, Layout};
use crate::progress::Progress;
use crate::setup::binaries::Binaries;

/// Where the members' pods run.
pub const NAMESPACE: &str = "lab-members";
/// Marks everything that belongs to a member.
const MEMBER_LABEL: &str = "lab.airdock.dev/member";
/// How long a member may take before the lab gives up.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a member looks like to those who schedule onto it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// `topology.kubernetes.io/region` of its nodes.
    pub region: String,
    /// `topology.kubernetes.io/zone` of its nodes, in turn.
    pub zones: Vec<String>,
    /// Who runs it, as its nodes' provider IDs tell.
    pub provider: String,
}

/// The size of a member.
#[derive(Debug, Clone)]
pub struct Size {
    /// How many nodes.
    pub nodes: u16,
    /// CPUs of each.
    pub cpu: String,
    /// Memory of each.
    pub memory: String,
}

/// One member as `status` shows it.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Where it claims to be.
    #[serde(flatten)]
    pub place: Place,
    /// Whether its API server says so.
    pub ready: bool,
    /// Ready nodes and all nodes.
    pub nodes: (usize, usize),
    /// The kubeconfig of its administrator.
    pub kubeconfig: std::path::PathBuf,
}

/// Adds a member, or completes one that is half there, and waits until its
/// nodes are Ready.
pub async fn add(
    layout: &Layout,
    binaries: &Binaries,
    name: &str,
    place: &Place,
    size: &Size,
    progress: &Progress,
) -> Result<()> {
    check_name(name)?;
    let state = State::require(layout)?;
    let _shared = layout.lock(false)?;
    let host = api::client(&layout.host_kubeconfig()).await?;
    let step = progress.step(format!("adding member {name}"));
    plane::ensure(layout, &state, &host, binaries, name, place).await?;
    step.now("waiting for its API server");
    let member = api::client(&layout.member_kubeconfig(name)).await?;
    wait(&host, layout, name, "its API server", || api::ready(&member)).await?;
    step.now("waiting for its nodes");
    nodes::ensure(&member, name, place, size).await?;
    let wanted = usize::from(size.nodes);
    wait(&host, layout, name, "its nodes", || async {
        matches!(api::nodes_ready(&member).await, Ok((ready, _)) if ready >= wanted)
    })
    .await?;
    step.done();
    Ok(())
}

/// Removes a member and all that belongs to it.
pub async fn remove(layout: &Layout, name: &str) -> Result<()> {
    check_name(name)?;
    State::require(layout)?;
    let _shared = layout.lock(false)?;
    let host = api::client(&layout.host_kubeconfig()).await?;
    let gone = delete::<Deployment>(&host, name).await?;
    delete::<Service>(&host, name).await?;
    delete::<Secret>(&host, name).await?;
    layout::remove(&layout.member_kubeconfig(name))?;
    if !gone {
        return Err(anyhow!("there is no member {name}").remedy("`airdock-lab status` lists the members"));
    }
    Ok(())
}

/// Removes all members from an existing cluster.
pub async fn remove_all(layout: &Layout) -> Result<()> {
    let host = api::client(&layout.host_kubeconfig()).await?;
    let namespaces: Api<Namespace> = Api::all(host);
    match namespaces.delete(NAMESPACE, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        outcome => outcome.map(|_| ()).with_context(|| format!("deleting the namespace {NAMESPACE}"))?,
    }
    let begun = Instant::now();
    while namespaces.get_opt(NAMESPACE).await.context("waiting for the members to go")?.is_some() {
        if begun.elapsed() > PATIENCE {
            return Err(anyhow!("the namespace {NAMESPACE} does not go away")
                .remedy(format!("kubectl describe namespace {NAMESPACE} says what holds it")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// All members, with their health.
pub async fn list(layout: &Layout, host: &Client) -> Result<Vec<Summary>> {
    let deployments: Api<Deployment> = Api::namespaced(host.clone(), NAMESPACE);
    let found = deployments.list(&ListParams::default().labels(MEMBER_LABEL)).await.context("listing the members")?;
    let summaries = found.items.into_iter().map(|deployment| async move {
        let name = deployment.name_any();
        let kubeconfig = layout.member_kubeconfig(&name);
        let noted = |key: &str| deployment.annotations().get(&format!("lab.airdock.dev/{key}")).cloned();
        let place = Place {
            region: noted("region").unwrap_or_default(),
            zones: noted("zones").unwrap_or_default().split(',').map(str::to_owned).collect(),
            provider: noted("provider").unwrap_or_default(),
        };
        let (ready, nodes) = match api::client(&kubeconfig).await {
            Ok(client) if api::ready(&client).await => (true, api::nodes_ready(&client).await.unwrap_or((0, 0))),
            _ => (false, (0, 0)),
        };
        Summary { name, place, ready, nodes, kubeconfig }
    });
    Ok(futures::future::join_all(summaries).await)
}

/// The member's pod, for its logs.
pub async fn pod(host: &Client, name: &str) -> Result<Option<Pod>> {
    let pods: Api<Pod> = Api::namespaced(host.clone(), NAMESPACE);
    let list = pods.list(&ListParams::default().labels(&format!("{MEMBER_LABEL}={name}"))).await;
    Ok(list.context("looking for the member's pod")?.items.into_iter().next())
}

async fn delete<K>(host: &Client, name: &str) -> Result<bool>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(host.clone(), NAMESPACE);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error).with_context(|| format!("deleting {} {name}", K::kind(&()))),
    }
}

async fn wait<F, Fut>(host: &Client, layout: &Layout, name: &str, what: &str, mut probe: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let begun = Instant::now();
    while !probe().await {
        if begun.elapsed() > PATIENCE {
            let seen = pod(host, name).await?.map_or_else(|| "it has no pod".into(), |pod| describe(&pod));
            return Err(anyhow!("member {name}: {what} did not come within {} s: {seen}", PATIENCE.as_secs()).remedy(
                format!(
                    "airdock-lab logs member/{name}, or kubectl --kubeconfig {} -n {NAMESPACE} describe pod",
                    layout.host_kubeconfig().display()
                ),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Why a pod's containers do not run, in a line.
fn describe(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return "its pod has no status".into() };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let waiting: Vec<String> = containers
        .filter_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            Some(format!("{} is in {reason}", container.name))
        })
        .collect();
    if waiting.is_empty() {
        format!("its pod is {}", status.phase.as_deref().unwrap_or("unknown"))
    } else {
        waiting.join(", ")
    }
}

/// Names become names of Services and hosts.
fn check_name(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 48
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-');
    if fits {
        return Ok(());
    }
    Err(anyhow!("{name:?} cannot name a member")
        .remedy("use up to 48 lower-case letters, digits and dashes, beginning with a letter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, fits) in [
            ("eu-1", true),
            ("a", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a.b", false),
            ("1a", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn a_stuck_pod_says_why() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"status": {
            "phase": "Pending",
            "initContainerStatuses": [{"name": "etcd", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
        }}))
        .unwrap();
        assert_eq!(describe(&pod), "etcd is in ImagePullBackOff");
        assert_eq!(describe(&Pod::default()), "its pod has no status");
    }
}

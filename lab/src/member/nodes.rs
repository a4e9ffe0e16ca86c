//! The simulated nodes of a member.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{Place, Size};
use crate::setup::binaries::kubernetes_version;

/// Node `number` (from 1) of a member.
fn describe(member: &str, number: u16, place: &Place, size: &Size) -> serde_json::Value {
    let name = format!("{member}-{number}");
    let zone = &place.zones[usize::from(number - 1) % place.zones.len()];
    let resources = json!({"cpu": size.cpu, "memory": size.memory, "pods": "1000"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": place.region,
                "topology.kubernetes.io/zone": zone,
                "lab.airdock.dev/provider": place.provider,
            },
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"providerID": format!("{}://{zone}/{name}", place.provider)},
        "status": {
            "allocatable": resources,
            "capacity": resources,
            // Left alone by kwok, which else calls it by its own version.
            "nodeInfo": {"kubeletVersion": kubernetes_version()},
        },
    })
}

/// Creates the nodes that are not there. A node's resources are in its status,
/// which only a plain create keeps.
pub async fn ensure(member: &Client, name: &str, place: &Place, size: &Size) -> Result<()> {
    let nodes: Api<Node> = Api::all(member.clone());
    for number in 1..=size.nodes {
        let node: Node =
            serde_json::from_value(describe(name, number, place, size)).context("describing a simulated node")?;
        match nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error).with_context(|| format!("making node {name}-{number}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_the_zones_in_turn() {
        let place = Place { region: "eu".into(), zones: vec!["eu-a".into(), "eu-b".into()], provider: "acme".into() };
        let size = Size { nodes: 3, cpu: "32".into(), memory: "256Gi".into() };
        let zones: Vec<_> = (1..=3)
            .map(|n| describe("m", n, &place, &size)["metadata"]["labels"]["topology.kubernetes.io/zone"].clone())
            .collect();
        assert_eq!(zones, ["eu-a", "eu-b", "eu-a"]);
        let first = describe("m", 1, &place, &size);
        assert_eq!(first["spec"]["providerID"], "acme://eu-a/m-1");
        assert_eq!(first["status"]["capacity"]["cpu"], "32");
    }
}

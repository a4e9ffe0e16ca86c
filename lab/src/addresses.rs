//! Where everything lives on the network.
//!
//! All of it is inside 198.18.0.0/15, the range that RFC 2544 sets aside for
//! benchmarks, so that it meets nobody's real network. Pure arithmetic.

use std::net::Ipv4Addr;

/// What the machine routes into the lab.
pub const LAB_RANGE: &str = "198.18.0.0/15";
/// All pods of all nodes.
pub const POD_RANGE: &str = "198.18.0.0/17";
/// Services of the host cluster.
pub const SERVICE_RANGE: &str = "198.19.0.0/16";
/// The `kubernetes` Service.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// The cluster's name server.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 10);
/// The machine's end of the link to the lab.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
/// The lab's end: the host cluster's API server and its first node.
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 2);
/// The host cluster's API server.
pub const API_PORT: u16 = 6443;
/// Where the exporter serves Karmada's CRD bundle.
pub const BUNDLE_PORT: u16 = 8099;
/// The links between nodes share one /24 with the link to the machine.
pub const MAX_NODES: u8 = 62;

/// One node's place in the network. Nodes count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNetwork {
    /// Its name in the cluster.
    pub name: String,
    /// The network namespace it lives in.
    pub netns: String,
    /// The address its kubelet announces.
    pub address: Ipv4Addr,
    /// Its pods' range.
    pub pods: String,
    /// For all but the first: the first node's end of the link between them.
    pub uplink: Option<Uplink>,
}

/// The link from the first node's namespace to another node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// The device in the first node's namespace.
    pub device: String,
    /// The address of that end.
    pub gateway: Ipv4Addr,
}

/// The namespace of the control plane and the first node.
pub const NETNS: &str = "airdock-lab";

/// The place of node `number` (from 1 to [`MAX_NODES`]).
pub fn node(number: u8) -> NodeNetwork {
    let name = format!("lab-{number}");
    let pods = format!("198.18.{}.0/24", number.saturating_sub(1));
    if number <= 1 {
        return NodeNetwork { name, netns: NETNS.into(), address: INSIDE, pods, uplink: None };
    }
    let base = 4 * number;
    NodeNetwork {
        name,
        netns: format!("{NETNS}-{number}"),
        address: Ipv4Addr::new(198, 18, 255, base + 2),
        pods,
        uplink: Some(Uplink { device: format!("node{number}"), gateway: Ipv4Addr::new(198, 18, 255, base + 1) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_first_node_shares_the_control_planes_namespace() {
        let first = node(1);
        assert_eq!(first.netns, NETNS);
        assert_eq!(first.address, INSIDE);
        assert_eq!(first.pods, "198.18.0.0/24");
        assert!(first.uplink.is_none());
    }

    #[test]
    fn no_two_nodes_share_anything() {
        let nodes: Vec<_> = (1..=MAX_NODES).map(node).collect();
        let mut seen = BTreeSet::new();
        for n in &nodes {
            assert!(seen.insert(n.name.clone()), "{n:?}");
            assert!(n.netns == NETNS || seen.insert(n.netns.clone()), "{n:?}");
            assert!(seen.insert(n.address.to_string()), "{n:?}");
            assert!(seen.insert(n.pods.clone()), "{n:?}");
            if let Some(up) = &n.uplink {
                assert!(seen.insert(up.gateway.to_string()), "{n:?}");
                assert!(seen.insert(up.device.clone()), "{n:?}");
                assert_eq!(u32::from(up.gateway) + 1, u32::from(n.address));
                assert_eq!(u32::from(up.gateway) % 4, 1, "first host of its own /30");
            }
        }
        assert!(!seen.contains(&OUTSIDE.to_string()));
    }

    #[test]
    fn pods_stay_inside_the_pod_range() {
        let last = node(MAX_NODES).pods;
        let third: u8 = last.split('.').nth(2).unwrap().parse().unwrap();
        assert!(third < 128, "{last} is outside {POD_RANGE}");
    }
}

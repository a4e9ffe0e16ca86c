//! What an instance's fleet looks like, summed up. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::common::{Capacity, ReadyCount};
use crate::api::instance::{ClusterAttention, Overview};
use crate::karmada::cluster::Cluster;
use crate::machinery::plural::pluralize;
use crate::machinery::quantity::milli;

use super::status::short;

/// How many clusters are named.
const MAX_ATTENTION: usize = 10;

/// From which share of a resource on a cluster needs attention.
const FULL_PERCENT: i128 = 90;

/// What matters of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    name: String,
    ready: bool,
    problem: Option<String>,
    nodes: ReadyCount,
    /// Allocatable and allocated, in thousandths, by resource.
    resources: BTreeMap<String, (i128, i128)>,
}

/// What matters of everything in a plane. Workloads, policies and bindings are counted by kind, as (all, ready).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetFacts {
    /// Members.
    pub clusters: Vec<ClusterFacts>,
    /// Workload templates.
    pub workloads: BTreeMap<String, ReadyCount>,
    /// Policies.
    pub policies: BTreeMap<String, i32>,
    /// Bindings.
    pub bindings: ReadyCount,
}

impl ClusterFacts {
    /// Name of the member.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes what matters from a member.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let status = cluster.status.as_ref();
        let condition = status.and_then(|status| status.conditions.iter().find(|c| c.type_ == "Ready"));
        let ready = condition.is_some_and(|condition| condition.status == "True");
        let nodes = status.and_then(|status| status.node_summary).unwrap_or_default();
        let nodes = ReadyCount { total: nodes.total_num, ready: nodes.ready_num };
        let summary = status.and_then(|status| status.resource_summary.as_ref());
        let mut resources = BTreeMap::new();
        for resource in ["cpu", "memory", "pods"] {
            let amount = |map: &BTreeMap<String, Quantity>| map.get(resource).and_then(milli).unwrap_or(0);
            let pair = summary.map_or((0, 0), |s| (amount(&s.allocatable), amount(&s.allocated)));
            resources.insert(resource.to_owned(), pair);
        }
        let problem = if cluster.metadata.deletion_timestamp.is_some() {
            Some("is being removed".to_owned())
        } else if !ready {
            Some(condition.map_or_else(
                || "has not reported yet".to_owned(),
                |condition| format!("{}: {}", condition.reason, short(&condition.message, 160)),
            ))
        } else if nodes.ready < nodes.total {
            let of_all = pluralize(nodes.total, "node is not ready", "nodes are not ready");
            Some(format!("{} of {of_all}", nodes.total - nodes.ready))
        } else {
            fullest(&resources)
        };
        Self { name, ready, problem, nodes, resources }
    }
}

fn fullest(resources: &BTreeMap<String, (i128, i128)>) -> Option<String> {
    resources
        .iter()
        .filter(|(_, (allocatable, _))| *allocatable > 0)
        .map(|(resource, (allocatable, allocated))| (allocated * 100 / allocatable, resource))
        .max()
        .filter(|(percent, _)| *percent >= FULL_PERCENT)
        // Steps of five, so that the status is not written for every pod.
        .map(|(percent, resource)| format!("{resource} is allocated to {} %", percent / 5 * 5))
}

/// Sums up a fleet.
#[must_use]
pub fn overview(facts: &FleetFacts) -> Overview {
    let FleetFacts { clusters, workloads, policies, bindings } = facts;
    let count = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let ready = clusters.iter().filter(|cluster| cluster.ready).count();
    let nodes = clusters.iter().fold(ReadyCount::default(), |sum, cluster| ReadyCount {
        total: sum.total + cluster.nodes.total,
        ready: sum.ready + cluster.nodes.ready,
    });
    let capacity = |resource: &str, show: fn(i128) -> String| {
        let sum = clusters.iter().filter_map(|cluster| cluster.resources.get(resource));
        let (allocatable, allocated) = sum.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        Capacity { allocatable: show(allocatable), allocated: show(allocated) }
    };
    let mut troubled: Vec<&ClusterFacts> = clusters.iter().filter(|cluster| cluster.problem.is_some()).collect();
    troubled.sort_by_key(|cluster| (cluster.ready, cluster.name.clone()));
    let attention = troubled
        .into_iter()
        .take(MAX_ATTENTION)
        .map(|cluster| ClusterAttention {
            name: cluster.name.clone(),
            message: cluster.problem.clone().unwrap_or_default(),
        })
        .collect();
    Overview {
        clusters_ready: format!("{ready}/{}", clusters.len()),
        clusters: ReadyCount { total: count(clusters.len()), ready: count(ready) },
        nodes,
        cpu: capacity("cpu", cores),
        memory: capacity("memory", mebibytes),
        pods: capacity("pods", whole),
        workloads: workloads.clone(),
        policies: policies.clone(),
        bindings: *bindings,
        attention,
    }
}

fn cores(milli: i128) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") }
}

fn mebibytes(milli: i128) -> String {
    format!("{}Mi", milli / 1000 / (1 << 20))
}

fn whole(milli: i128) -> String {
    (milli / 1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cluster(name: &str, ready: &str, nodes: (i32, i32), cpu: (&str, &str)) -> ClusterFacts {
        let cluster: Cluster = serde_json::from_value(json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster",
            "metadata": { "name": name },
            "spec": { "syncMode": "Push" },
            "status": {
                "conditions": [{ "type": "Ready", "status": ready, "reason": "ClusterNotReachable",
                                 "message": "cluster is not reachable\nmore", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                "nodeSummary": { "totalNum": nodes.0, "readyNum": nodes.1 },
                "resourceSummary": {
                    "allocatable": { "cpu": cpu.0, "memory": "2Gi", "pods": "110" },
                    "allocated": { "cpu": cpu.1, "memory": "1024Mi", "pods": "7" },
                },
            },
        }))
        .unwrap();
        ClusterFacts::of(&cluster)
    }

    #[test]
    fn sums_up() {
        let facts = FleetFacts {
            clusters: vec![
                cluster("c", "True", (2, 2), ("4", "1500m")),
                cluster("a", "False", (1, 0), ("500m", "0")),
                cluster("b", "True", (3, 2), ("2", "0")),
                cluster("d", "True", (1, 1), ("1", "999m")),
            ],
            bindings: ReadyCount { total: 3, ready: 2 },
            ..FleetFacts::default()
        };
        let overview = overview(&facts);
        assert_eq!(overview.clusters_ready, "3/4");
        assert_eq!(overview.nodes, ReadyCount { total: 7, ready: 5 });
        assert_eq!(overview.cpu, Capacity { allocatable: "7500m".into(), allocated: "2499m".into() });
        assert_eq!(overview.memory, Capacity { allocatable: "8192Mi".into(), allocated: "4096Mi".into() });
        assert_eq!(overview.pods, Capacity { allocatable: "440".into(), allocated: "28".into() });
        let attention: Vec<_> = overview.attention.iter().map(|a| (a.name.as_str(), a.message.as_str())).collect();
        assert_eq!(
            attention,
            [
                ("a", "ClusterNotReachable: cluster is not reachable"),
                ("b", "1 of 3 nodes are not ready"),
                ("d", "cpu is allocated to 95 %"),
            ]
        );
    }

    #[test]
    fn its_size_is_bounded() {
        let clusters = (0..500).map(|n| cluster(&format!("c{n:03}"), "False", (1, 0), ("1", "0"))).collect();
        let overview = overview(&FleetFacts { clusters, ..FleetFacts::default() });
        assert_eq!(overview.attention.len(), MAX_ATTENTION);
        assert_eq!(overview.attention[0].name, "c000");
    }

    #[test]
    fn an_empty_fleet_is_an_overview_too() {
        let overview = overview(&FleetFacts::default());
        assert_eq!((overview.clusters_ready.as_str(), overview.cpu.allocatable.as_str()), ("0/0", "0"));
    }
}

//! What a member offers, and what of it is taken. Nodes and pods are remembered by what counts alone.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::key::Uid;
use crate::karmada::cluster::{NodeSummary, ResourceSummary};
use crate::machinery::quantity::milli;

/// A node, as far as it counts.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
pub struct Node {
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    allocatable: BTreeMap<String, Quantity>,
    #[serde(default)]
    conditions: Vec<NodeCondition>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// A pod, as far as it counts.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
pub struct Pod {
    metadata: ObjectMeta,
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    overhead: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    resources: Requirements,
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    requests: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PodStatus {
    phase: Option<String>,
}

/// CPU and memory in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    cpu: i128,
    memory: i128,
    pods: i128,
}

impl Amount {
    fn of(list: &BTreeMap<String, Quantity>) -> Self {
        let get = |key: &str| list.get(key).and_then(milli).unwrap_or(0);
        Self { cpu: get("cpu"), memory: get("memory"), pods: get("pods") }
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory, pods: self.pods + other.pods }
    }

    fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory), pods: self.pods.max(other.pods) }
    }

    fn quantities(self) -> BTreeMap<String, Quantity> {
        let thousandths = |value: i128| {
            if value % 1000 == 0 { (value / 1000).to_string() } else { format!("{value}m") }
        };
        [("cpu", self.cpu), ("memory", self.memory), ("pods", self.pods)]
            .map(|(key, value)| (key.to_owned(), Quantity(thousandths(value))))
            .into()
    }
}

/// What a pod takes, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    amount: Amount,
    on_a_node: bool,
}

/// Nodes and pods of a member.
#[derive(Debug, Default)]
pub struct Capacity {
    nodes: HashMap<String, (bool, Amount)>,
    pods: HashMap<Uid, Taken>,
}

impl Capacity {
    /// A node is there, or changed. Tells whether that makes a difference.
    pub fn put_node(&mut self, node: &Node) -> bool {
        let ready = node.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let value = (ready, Amount::of(&node.status.allocatable));
        self.nodes.insert(node_name(node), value) != Some(value)
    }

    /// A node is gone. Tells whether that makes a difference.
    pub fn remove_node(&mut self, name: &str) -> bool {
        self.nodes.remove(name).is_some()
    }

    /// Names of the nodes.
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// A pod is there, or changed. Tells whether that makes a difference.
    pub fn put_pod(&mut self, pod: &Pod) -> bool {
        let uid = pod_uid(pod);
        // A pod that is done takes nothing.
        if matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return self.pods.remove(&uid).is_some();
        }
        let on_a_node = pod.spec.node_name.as_deref().is_some_and(|name| !name.is_empty());
        let taken = Taken { amount: requests(&pod.spec), on_a_node };
        self.pods.insert(uid, taken) != Some(taken)
    }

    /// A pod is gone. Tells whether that makes a difference.
    pub fn remove_pod(&mut self, uid: &Uid) -> bool {
        self.pods.remove(uid).is_some()
    }

    /// Identities of the pods that take something.
    #[must_use]
    pub fn pod_uids(&self) -> Vec<Uid> {
        self.pods.keys().cloned().collect()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> NodeSummary {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        NodeSummary {
            total_num: count(self.nodes.len()),
            ready_num: count(self.nodes.values().filter(|(ready, _)| *ready).count()),
        }
    }

    /// What is offered and taken.
    #[must_use]
    pub fn resources(&self) -> ResourceSummary {
        let one = Amount { pods: 1000, ..Amount::default() };
        let sum = |on_a_node: bool| {
            let pods = self.pods.values().filter(|taken| taken.on_a_node == on_a_node);
            pods.fold(Amount::default(), |sum, taken| sum.plus(taken.amount).plus(one))
        };
        ResourceSummary {
            allocatable: self.nodes.values().fold(Amount::default(), |sum, (_, amount)| sum.plus(*amount)).quantities(),
            allocating: sum(false).quantities(),
            allocated: sum(true).quantities(),
        }
    }
}

/// Name of a node.
#[must_use]
pub fn node_name(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

/// Identity of a pod.
#[must_use]
pub fn pod_uid(pod: &Pod) -> Uid {
    Uid::of(&pod.metadata)
}

/// What the scheduler reserves for a pod: all containers with the sidecars, or the greediest init container with the
/// sidecars before it, whichever is more; and the overhead.
fn requests(spec: &PodSpec) -> Amount {
    let none = Amount { pods: 0, ..Amount::default() };
    let of = |container: &Container| Amount { pods: 0, ..Amount::of(&container.resources.requests) };
    let mut sidecars = none;
    let mut greediest = none;
    for container in &spec.init_containers {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.plus(of(container));
            greediest = greediest.max(sidecars);
        } else {
            greediest = greediest.max(sidecars.plus(of(container)));
        }
    }
    let containers = spec.containers.iter().map(of).fold(sidecars, Amount::plus);
    containers.max(greediest).plus(Amount { pods: 0, ..Amount::of(&spec.overhead) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn pod(uid: &str, node: Option<&str>, phase: &str, cpu: &str) -> Pod {
        from_value(
            json!({"metadata": {"uid": uid}, "status": {"phase": phase}, "spec": {"nodeName": node, "containers": [
            {"resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}, {"resources": {}}]}}),
        )
        .unwrap()
    }

    #[test]
    fn sums() {
        let mut capacity = Capacity::default();
        let node: Node = from_value(json!({"metadata": {"name": "n"}, "status": {
            "allocatable": {"cpu": "3920m", "memory": "8Gi", "pods": "110", "ephemeral-storage": "1"},
            "conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap();
        assert!(capacity.put_node(&node));
        assert!(!capacity.put_node(&node), "a heartbeat makes no difference");
        assert!(capacity.put_pod(&pod("a", Some("n"), "Running", "250m")));
        assert!(!capacity.put_pod(&pod("a", Some("n"), "Running", "250m")));
        capacity.put_pod(&pod("b", Some("n"), "Pending", "750m"));
        capacity.put_pod(&pod("c", None, "Pending", "1"));
        capacity.put_pod(&pod("d", Some("n"), "Succeeded", "9"));
        let resources = capacity.resources();
        let get = |list: &BTreeMap<String, Quantity>, key: &str| list[key].0.clone();
        assert_eq!(get(&resources.allocatable, "cpu"), "3920m");
        assert_eq!(get(&resources.allocatable, "memory"), "8589934592");
        assert_eq!((get(&resources.allocated, "cpu"), get(&resources.allocated, "pods")), ("1".into(), "2".into()));
        assert_eq!((get(&resources.allocating, "cpu"), get(&resources.allocating, "pods")), ("1".into(), "1".into()));
        assert_eq!(capacity.nodes(), NodeSummary { total_num: 1, ready_num: 1 });
        assert!(capacity.put_pod(&pod("b", Some("n"), "Failed", "750m")), "what is done gives back what it took");
        assert_eq!(get(&capacity.resources().allocated, "cpu"), "250m");
    }

    #[test]
    fn init_containers_and_sidecars() {
        let spec: PodSpec = from_value(json!({
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "5"}}}],
            "containers": [{"resources": {"requests": {"cpu": "2"}}}], "overhead": {"cpu": "100m"}
        }))
        .unwrap();
        assert_eq!(requests(&spec).cpu, 6100);
    }
}

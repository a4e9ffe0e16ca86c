//! What a member offers, and what of it is taken. Nodes and pods are remembered by what counts alone.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

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

/// What counts in a member's capacity.
pub trait Counted: Sized {
    /// What it is known by.
    type Key: Eq + Hash + Send;

    /// What it is known by.
    fn key(&self) -> Self::Key;

    /// Those that count.
    fn known(capacity: &Capacity) -> Vec<Self::Key>;

    /// It is there, or changed. Tells whether that makes a difference.
    fn put(&self, capacity: &mut Capacity) -> bool;

    /// It is gone. Tells whether that makes a difference.
    fn remove(capacity: &mut Capacity, key: &Self::Key) -> bool;
}

impl Counted for Node {
    type Key = String;

    fn key(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    fn known(capacity: &Capacity) -> Vec<String> {
        capacity.nodes.keys().cloned().collect()
    }

    fn put(&self, capacity: &mut Capacity) -> bool {
        let ready = self.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let value = (ready, Amount::of(&self.status.allocatable));
        capacity.nodes.insert(self.key(), value) != Some(value)
    }

    fn remove(capacity: &mut Capacity, name: &String) -> bool {
        capacity.nodes.remove(name).is_some()
    }
}

impl Counted for Pod {
    type Key = Uid;

    fn key(&self) -> Uid {
        Uid::of(&self.metadata)
    }

    fn known(capacity: &Capacity) -> Vec<Uid> {
        capacity.pods.keys().cloned().collect()
    }

    fn put(&self, capacity: &mut Capacity) -> bool {
        // A pod that is done takes nothing.
        if matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Self::remove(capacity, &self.key());
        }
        let on_a_node = self.spec.node_name.as_deref().is_some_and(|name| !name.is_empty());
        let taken = Taken { amount: requests(&self.spec), on_a_node };
        capacity.pods.insert(self.key(), taken) != Some(taken)
    }

    fn remove(capacity: &mut Capacity, uid: &Uid) -> bool {
        capacity.pods.remove(uid).is_some()
    }
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
        assert!(node.put(&mut capacity));
        assert!(!node.put(&mut capacity), "a heartbeat makes no difference");
        assert!(pod("a", Some("n"), "Running", "250m").put(&mut capacity));
        assert!(!pod("a", Some("n"), "Running", "250m").put(&mut capacity));
        pod("b", Some("n"), "Pending", "750m").put(&mut capacity);
        pod("c", None, "Pending", "1").put(&mut capacity);
        pod("d", Some("n"), "Succeeded", "9").put(&mut capacity);
        let resources = capacity.resources();
        let get = |list: &BTreeMap<String, Quantity>, key: &str| list[key].0.clone();
        assert_eq!(get(&resources.allocatable, "cpu"), "3920m");
        assert_eq!(get(&resources.allocatable, "memory"), "8589934592");
        assert_eq!((get(&resources.allocated, "cpu"), get(&resources.allocated, "pods")), ("1".into(), "2".into()));
        assert_eq!((get(&resources.allocating, "cpu"), get(&resources.allocating, "pods")), ("1".into(), "1".into()));
        assert_eq!(capacity.nodes(), NodeSummary { total_num: 1, ready_num: 1 });
        assert!(pod("b", Some("n"), "Failed", "750m").put(&mut capacity), "what is done gives back what it took");
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

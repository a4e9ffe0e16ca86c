//! `MemberClusterJoin`: one cluster joined to an instance.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Capacity, InstanceRef, ReadyCount, SecretKeyRef};

/// A cluster that is a member of a KarmadaInstance for as long as this object exists.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "airdock.dev",
    version = "v1alpha1",
    kind = "MemberClusterJoin",
    doc = "A cluster that is joined to an instance.",
    plural = "memberclusterjoins",
    shortname = "mcj",
    category = "airdock",
    namespaced,
    status = "MemberClusterJoinStatus",
    derive = "PartialEq",
    selectable = ".spec.instanceRef.name",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceRef.name"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterName"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.kubernetesVersion"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodesReady"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.apiEndpoint", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.instanceRef == oldSelf.instanceRef", "spec.instanceRef: cannot be changed; delete this object and create another"))]
pub struct MemberClusterJoinSpec {
    /// The instance to join. Cannot be changed later.
    pub instance_ref: InstanceRef,
    /// Name of the cluster in the plane. Cannot be changed later.
    #[schemars(length(min = 1, max = 48), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "spec.clusterName: cannot be changed; delete this object and create another"))]
    pub cluster_name: String,
    /// How the plane and the member reach each other. `Push`: the plane calls the member's API.
    #[serde(default)]
    #[x_kube(validation = ("self == oldSelf", "spec.mode: cannot be changed; delete this object and create another"))]
    pub mode: Mode,
    /// A kubeconfig with administrator's rights in the member, used to make and to repair Airdock's own identity there, and
    /// to remove it at the end: the Secret has to stay for as long as this object. Only inline certificates, tokens and
    /// keys are read: no exec, no auth-provider, no file paths.
    pub kubeconfig_secret_ref: SecretKeyRef,
    /// Address at which the plane's pods in the host cluster reach the member's API, for example
    /// `https://eu.example.com:6443`; the kubeconfig's server when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https://[^@\s]+$"), length(max = 2048))]
    pub api_endpoint: Option<String>,
    /// Who runs the cluster, for example `aws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub provider: Option<String>,
    /// Region, for example `eu-west`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// Zones that the cluster spans, for example `eu-west-a`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub zones: Vec<String>,
    /// Labels of the cluster, for placement and differences.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of the cluster: applications that do not tolerate them are not placed there; what runs there stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub taints: Vec<ClusterTaint>,
    /// What happens when this object is deleted.
    #[serde(default)]
    pub deletion: Deletion,
}

/// How the plane and the member reach each other.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Mode {
    /// The plane calls the member's API.
    #[default]
    Push,
}

/// A taint of a cluster.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTaint {
    /// Key of the taint.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// What it does to workloads that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum TaintEffect {
    /// Nothing new is placed there; what runs there stays.
    NoSchedule,
}

/// What happens at the end of a membership.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// `Unjoin`: what the plane distributed is removed from the member. `Orphan`: it stays and goes on running. Airdock's
    /// identity (its ServiceAccount and roles) is removed from the member in both cases.
    #[serde(default)]
    pub policy: UnjoinPolicy,
    /// After this many seconds, a member that cannot be reached is given up: the plane forgets it, and what was
    /// in it stays. One that is reached but keeps an object is given up too; the plane is given at least a minute to
    /// remove it. Never, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604800))]
    pub force_after_seconds: Option<i64>,
}

/// What happens to the applications in a member that leaves.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum UnjoinPolicy {
    /// They are removed.
    #[default]
    Unjoin,
    /// They stay, without Airdock's labels.
    Orphan,
}

/// What is known of the member.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberClusterJoinStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Identity of the cluster: the uid of its namespace kube-system.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Version that the member's API server reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Address at which the plane reaches the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_endpoint: Option<String>,
    /// Ready and all nodes, as `ready/total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_ready: Option<String>,
    /// Nodes of the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<ReadyCount>,
    /// CPU of the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Capacity>,
    /// Memory of the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Capacity>,
    /// Pods of the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Capacity>,
    /// Ready, and Reconciling or Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

crate::conditioned_status!(MemberClusterJoinStatus);

//! What is known of a Karmada control plane.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::{Capacity, LocalRef, ReadyCount};

/// What is known of the instance.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KarmadaInstanceStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the instance is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Version that all components run: Karmada's (Full) or Airdock's (Compact).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version that the plane's API server reports of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Address of the plane's API within the host cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Secret with the administrator's kubeconfig, under the key `kubeconfig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_kubeconfig_secret_ref: Option<LocalRef>,
    /// State of each component.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentStatus>,
    /// Certificates and when they end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// What the instance's fleet looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overview: Option<Overview>,
    /// Other namespaces that `spec.tenancy.allowedNamespaces` lets in, and those that it did, for as long as something of
    /// theirs refers to the instance. A deletion waits for theirs, and for nobody else's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// Ready, and Reconciling or Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

crate::conditioned_status!(KarmadaInstanceStatus);

/// Where an instance is in its life.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// First installation is under way.
    Installing,
    /// Everything is as the spec asks.
    Running,
    /// It was Ready before, and something is being changed or repaired.
    Updating,
    /// It was Ready before, and something is missing or broken.
    Degraded,
    /// The spec cannot be carried out; see the conditions.
    Failed,
    /// Nothing is changed, by `spec.suspend`.
    Suspended,
    /// It is being taken down.
    Deleting,
}

/// State of one component.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Name of the component.
    pub name: String,
    /// Pods that are up to date and ready.
    pub ready: i32,
    /// Pods that are wanted.
    pub desired: i32,
    /// Version (image tag) that is wanted and, once ready equals desired, running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A certificate and when it ends.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// What it is for.
    pub name: String,
    /// Secret that holds it.
    pub secret_name: String,
    /// End of its validity, RFC 3339.
    pub not_after: String,
}

/// What the instance's fleet looks like. Its size is bounded whatever the fleet's size.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Ready and all member clusters, as `ready/total`.
    pub clusters_ready: String,
    /// Member clusters.
    pub clusters: ReadyCount,
    /// Nodes of all members.
    pub nodes: ReadyCount,
    /// CPU of all members.
    pub cpu: Capacity,
    /// Memory of all members.
    pub memory: Capacity,
    /// Pods of all members.
    pub pods: Capacity,
    /// Workload templates in the plane by kind; ready when as many replicas are ready as wanted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workloads: BTreeMap<String, ReadyCount>,
    /// Policies in the plane by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, i32>,
    /// Resource bindings; ready when fully applied.
    pub bindings: ReadyCount,
    /// Clusters that need attention, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<ClusterAttention>,
}

/// A cluster that needs attention, and why.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAttention {
    /// Name of the cluster.
    pub name: String,
    /// What is wrong with it.
    pub message: String,
}

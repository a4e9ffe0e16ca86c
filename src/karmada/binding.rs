//! `work.karmada.io/v1alpha2`: where an object was placed, and how it fares there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::policy::{ConflictResolution, Placement};
use super::shared::Shared;

/// Where a namespaced object was placed. Named `<name>-<kind in lower case>`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "work.karmada.io",
    version = "v1alpha2",
    kind = "ResourceBinding",
    doc = "Where a namespaced object was placed.",
    plural = "resourcebindings",
    shortname = "rb",
    category = "karmada-io",
    namespaced,
    status = "BindingStatus",
    derive = "PartialEq",
    printcolumn(name = "Scheduled", type_ = "string", json_path = ".status.conditions[?(@.type=='Scheduled')].status"),
    printcolumn(
        name = "FullyApplied",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='FullyApplied')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ResourceBindingSpec {
    /// The placement.
    #[serde(flatten)]
    pub binding: BindingSpec,
}

/// Where a cluster-scoped object was placed. Named `<name>-<kind in lower case>`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "work.karmada.io",
    version = "v1alpha2",
    kind = "ClusterResourceBinding",
    doc = "Where a cluster-scoped object was placed.",
    plural = "clusterresourcebindings",
    shortname = "crb",
    category = "karmada-io",
    status = "BindingStatus",
    derive = "PartialEq",
    printcolumn(name = "Scheduled", type_ = "string", json_path = ".status.conditions[?(@.type=='Scheduled')].status"),
    printcolumn(
        name = "FullyApplied",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='FullyApplied')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ClusterResourceBindingSpec {
    /// The placement.
    #[serde(flatten)]
    pub binding: BindingSpec,
}

/// A placement.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingSpec {
    /// The object.
    pub resource: ObjectReference,
    /// Replicas of the object, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The clusters, each with its replicas.
    #[serde(default, skip_serializing_if = "Shared::is_empty_list")]
    pub clusters: Shared<Vec<TargetCluster>>,
    /// The rules that led to the clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Shared<Placement>>,
    /// What happens where a member already has such an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_resolution: Option<ConflictResolution>,
    /// Whether the objects in members stay when the template is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_resources_on_deletion: Option<bool>,
}

/// An object of the plane.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The version of the object that was placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// A cluster and its share of the replicas.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct TargetCluster {
    /// Name of the cluster.
    pub name: String,
    /// Replicas there; absent for objects without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

/// How an object fares.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingStatus {
    /// The generation of the binding that was scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_observed_generation: Option<i64>,
    /// When it was last scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scheduled_time: Option<Time>,
    /// Scheduled and FullyApplied.
    #[serde(default, skip_serializing_if = "Shared::is_empty_list")]
    pub conditions: Shared<Vec<Condition>>,
    /// How it fares in each cluster.
    #[serde(default, skip_serializing_if = "Shared::is_empty_list")]
    pub aggregated_status: Shared<Vec<AggregatedStatusItem>>,
}

/// How an object fares in a cluster.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AggregatedStatusItem {
    /// Name of the cluster.
    pub cluster_name: String,
    /// Status of the object there, as far as its kind has one that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub status: Option<Value>,
    /// Whether it was applied there.
    #[serde(default)]
    pub applied: bool,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_message: Option<String>,
    /// Healthy, Unhealthy or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

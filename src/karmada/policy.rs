//! `policy.karmada.io/v1alpha1`: which objects go to which members, and what differs there.

mod overriding;
mod reference;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use overriding::{
    ClusterOverridePolicy, ClusterOverridePolicySpec, CommandArgsOperator, CommandArgsOverrider, FieldOverrider,
    FieldPatchOperation, ImageComponent, ImageOverrider, ImagePredicate, LabelAnnotationOverrider, OverridePolicy,
    OverridePolicySpec, OverrideRule, OverrideSpec, OverriderOperator, Overriders, PlaintextOverrider,
};
pub use reference::{PolicyRef, PolicySpec};

/// Propagates objects of its own namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "policy.karmada.io",
    version = "v1alpha1",
    kind = "PropagationPolicy",
    doc = "Propagates objects of its own namespace.",
    plural = "propagationpolicies",
    shortname = "pp",
    category = "karmada-io",
    namespaced,
    derive = "PartialEq",
    printcolumn(name = "Conflict-Resolution", type_ = "string", json_path = ".spec.conflictResolution"),
    printcolumn(name = "Priority", type_ = "string", json_path = ".spec.priority"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct PropagationPolicySpec {
    /// What goes where.
    #[serde(flatten)]
    pub propagation: PropagationSpec,
}

/// Propagates objects of any namespace, and cluster-scoped ones.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "policy.karmada.io",
    version = "v1alpha1",
    kind = "ClusterPropagationPolicy",
    doc = "Propagates objects of any namespace, and cluster-scoped ones.",
    plural = "clusterpropagationpolicies",
    shortname = "cpp",
    category = "karmada-io",
    derive = "PartialEq",
    printcolumn(name = "Conflict-Resolution", type_ = "string", json_path = ".spec.conflictResolution"),
    printcolumn(name = "Priority", type_ = "string", json_path = ".spec.priority"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ClusterPropagationPolicySpec {
    /// What goes where.
    #[serde(flatten)]
    pub propagation: PropagationSpec,
}

/// What goes where.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PropagationSpec {
    /// The objects; any selector may match.
    #[schemars(length(min = 1))]
    pub resource_selectors: Vec<ResourceSelector>,
    /// Where they go.
    #[serde(default)]
    pub placement: Placement,
    /// Of several policies that match, the highest priority wins.
    #[serde(default)]
    pub priority: i32,
    /// What happens where a member already has such an object.
    #[serde(default)]
    pub conflict_resolution: ConflictResolution,
    /// Whether the objects in members stay when the template is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_resources_on_deletion: Option<bool>,
}

/// What happens where a member already has an object that is not managed.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ConflictResolution {
    /// It is left alone, and the conflict is reported.
    #[default]
    Abort,
    /// It is taken over.
    Overwrite,
}

/// Selects objects. What is absent matches everything.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSelector {
    /// API version, for example `apps/v1`.
    pub api_version: String,
    /// Kind, for example `Deployment`.
    pub kind: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels; not looked at when a name is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}

/// Where objects go.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The clusters; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_affinity: Option<ClusterAffinity>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_tolerations: Vec<Toleration>,
    /// How replicas spread; every cluster gets all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_scheduling: Option<ReplicaScheduling>,
}

/// Selects clusters. Everything given must match.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAffinity {
    /// Labels of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Provider, region and zone of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<FieldSelector>,
    /// Names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_names: Vec<String>,
    /// Names to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// Requirements on fields of a cluster; all must hold.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldSelector {
    /// The requirements.
    #[serde(default)]
    pub match_expressions: Vec<FieldRequirement>,
}

/// A requirement on a field.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct FieldRequirement {
    /// The field.
    pub key: ClusterField,
    /// How it is compared.
    pub operator: FieldOperator,
    /// Values to compare with.
    pub values: Vec<String>,
}

/// A field of a cluster.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterField {
    /// Who runs it.
    Provider,
    /// Its region.
    Region,
    /// Its zones: `In` needs one of them listed, `NotIn` none.
    Zone,
}

/// How a field is compared.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum FieldOperator {
    /// One of the values.
    In,
    /// None of the values.
    NotIn,
}

/// A taint that is tolerated.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key; absent with operator Exists tolerates every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` (when absent) or `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Effect; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// How replicas spread over clusters.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaScheduling {
    /// Whether every cluster gets all of them.
    #[serde(default)]
    pub replica_scheduling_type: ReplicaSchedulingType,
    /// How they are divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_division_preference: Option<ReplicaDivisionPreference>,
    /// Weights to divide by; equal when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_preference: Option<WeightPreference>,
}

/// Whether every cluster gets all replicas.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ReplicaSchedulingType {
    /// Every cluster gets all. (Upstream's CRD defaults to Divided; so does this one.)
    Duplicated,
    /// They are divided.
    #[default]
    Divided,
}

/// How replicas are divided.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ReplicaDivisionPreference {
    /// In proportion to weights.
    Weighted,
}

/// Weights of clusters.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightPreference {
    /// Fixed weights; a cluster takes the highest weight of those that match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub static_weight_list: Vec<StaticClusterWeight>,
}

/// A weight of some clusters.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticClusterWeight {
    /// The clusters.
    pub target_cluster: ClusterAffinity,
    /// Their weight.
    #[schemars(range(min = 1))]
    pub weight: i64,
}

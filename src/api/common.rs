//! Types that several kinds share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition types, after kstatus: `Ready` is always present, the other two only while they are true.
pub mod condition {
    /// The object is in the state that its spec asks for.
    pub const READY: &str = "Ready";
    /// Work towards the spec is under way; present only while True.
    pub const RECONCILING: &str = "Reconciling";
    /// No progress is possible until somebody changes something; present only while True.
    pub const STALLED: &str = "Stalled";
    /// Every entry of a selector of clusters selects one; present only while False.
    pub const SELECTORS_MATCHED: &str = "SelectorsMatched";
}

/// A `KarmadaInstance` by name.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRef {
    /// Name of the KarmadaInstance.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Namespace of the KarmadaInstance; defaults to the namespace of this object. An instance of another
    /// namespace must list this one in its `spec.tenancy.allowedNamespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// One key of a Secret in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in the namespace of this object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within the Secret's data.
    #[serde(default = "default_kubeconfig_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_kubeconfig_key() -> String {
    "kubeconfig".to_owned()
}

/// A name, of an object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Which member clusters are meant. Every list that is given must match (AND); within a list any value
/// matches (OR). Nothing given means every cluster of the instance.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterMatch {
    /// Names of clusters, as given in `MemberClusterJoin.spec.clusterName`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub clusters: Vec<String>,
    /// Labels that the cluster must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Regions, as given in `MemberClusterJoin.spec.region`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub regions: Vec<String>,
    /// Zones; a cluster in several zones matches when one of them is listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub zones: Vec<String>,
    /// Providers, as given in `MemberClusterJoin.spec.provider`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub providers: Vec<String>,
}

/// How much of something there is, and how much of it is taken, as Kubernetes quantities.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// What the nodes offer to pods.
    pub allocatable: String,
    /// What the pods there have requested.
    pub allocated: String,
}

/// How many there are, and how many of them are ready.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadyCount {
    /// All of them.
    pub total: i32,
    /// Those that are ready.
    pub ready: i32,
}

/// The status fields that every Airdock kind has, so that the runtime can treat them alike.
pub trait ConditionedStatus {
    /// Conditions of the object.
    fn conditions(&self) -> &[Condition];
    /// Conditions of the object, to change.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// The generation of the spec that this status speaks of.
    fn observed_generation(&self) -> Option<i64>;
    /// Records the generation of the spec that was processed.
    fn set_observed_generation(&mut self, generation: Option<i64>);
}

/// Implements [`ConditionedStatus`] for a status with the usual two fields.
#[macro_export]
macro_rules! conditioned_status {
    ($status:ty) => {
        impl $crate::api::common::ConditionedStatus for $status {
            fn conditions(&self) -> &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition] {
                &self.conditions
            }
            fn conditions_mut(&mut self) -> &mut Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
                &mut self.conditions
            }
            fn observed_generation(&self) -> Option<i64> {
                self.observed_generation
            }
            fn set_observed_generation(&mut self, generation: Option<i64>) {
                self.observed_generation = generation;
            }
        }
    };
}

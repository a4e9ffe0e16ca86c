//! `MultiCloudApp`: one application, in many clusters, with differences from place to place.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::common::{ClusterMatch, InstanceRef, ReadyCount};

/// An application that runs in some of an instance's clusters.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "airdock.dev",
    version = "v1alpha1",
    kind = "MultiCloudApp",
    doc = "An application for many clusters: its components, where they go, and what differs where.",
    plural = "multicloudapps",
    shortname = "mca",
    category = "airdock",
    namespaced,
    status = "MultiCloudAppStatus",
    derive = "PartialEq",
    selectable = ".spec.instanceRef.name",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Clusters", type_ = "string", json_path = ".status.clustersReady"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicasReady"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("size(self.metadata.name) <= 52", "metadata.name: at most 52 characters, since policies are named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.instanceRef == oldSelf.instanceRef", "spec.instanceRef: cannot be changed; delete this object and create another"),
    // Here and not at the field: a rule there sees neither the first value nor its removal. A field that is named as a
    // word of CEL is escaped, since API servers before 1.32 do not find it otherwise.
    validation = ("has(self.__namespace__) == has(oldSelf.__namespace__) && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)", "spec.namespace: cannot be changed; delete this object and create another"),
    validation = ("!has(self.differences) || self.differences.all(d, !has(d.components) || d.components.all(c, self.components.exists(x, x.name == c)))", "spec.differences[].components: names a component that spec.components does not have")
)]
pub struct MultiCloudAppSpec {
    /// The instance that distributes the application. Cannot be changed later.
    pub instance_ref: InstanceRef,
    /// Namespace of the application in the plane and in the members; the name of this object's namespace when
    /// absent. It is created where it is missing. In another namespace than the instance's, only this object's own
    /// name is allowed. Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// The parts of the application.
    #[schemars(length(min = 1, max = 50))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub components: Vec<AppComponent>,
    /// In which clusters it runs: in those that match every list that is given, by one entry of each. Every cluster of
    /// the instance, each with all replicas, when absent.
    #[serde(default)]
    pub placement: Placement,
    /// What differs from place to place. An entry without a `match` holds in every cluster; later entries win over earlier
    /// ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub differences: Vec<Difference>,
    /// While true, Airdock changes nothing of this application; what runs goes on running.
    #[serde(default)]
    pub suspend: bool,
}

/// A part of an application.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppComponent {
    /// Name of the part, unique in the application.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Kubernetes objects of the part, as they would be given to `kubectl apply`. Namespaced kinds only, without a
    /// namespace or with the application's. They arrive in members in any order.
    #[schemars(length(min = 1, max = 100))]
    pub manifests: Vec<Manifest>,
}

/// A Kubernetes object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(transparent)]
pub struct Manifest(pub serde_json::Map<String, Value>);

impl JsonSchema for Manifest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Manifest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // An embedded resource: the API server checks apiVersion, kind and metadata, and keeps the rest as it is.
        schemars::json_schema!({
            "type": "object",
            "description": "A Kubernetes object, with apiVersion, kind and metadata.name.",
            "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}

/// In which clusters an application runs, and with how many replicas each.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The clusters to choose from.
    #[serde(flatten)]
    pub matches: ClusterMatch,
    /// Clusters to leave out, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub exclude: Vec<String>,
    /// Taints of clusters that the application tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub tolerations: Vec<ClusterToleration>,
    /// How the replicas of its workloads spread over the clusters.
    #[serde(default)]
    pub replicas: ReplicaSpread,
}

/// A taint that is tolerated.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.operator != 'Exists' || !has(self.value)", "value: must be absent with operator Exists"))]
pub struct ClusterToleration {
    /// Key of the taint.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// `Equal`: the value must be the same. `Exists`: any value.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
}

/// How a toleration compares with a taint.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum TolerationOperator {
    /// Same key and value.
    #[default]
    Equal,
    /// Same key.
    Exists,
}

/// How replicas spread.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.mode == 'Weighted' || !has(self.weights) || size(self.weights) == 0", "spec.placement.replicas.weights: only with mode Weighted"))]
pub struct ReplicaSpread {
    /// `Duplicated`: every cluster gets all replicas. `Weighted`: the replicas are divided in proportion to the
    /// weights, equally when none are given.
    #[serde(default)]
    pub mode: ReplicaMode,
    /// Weights of clusters. A cluster has the weight of the first entry that matches it, and gets no replicas when none
    /// does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub weights: Vec<Weight>,
}

/// How replicas spread.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ReplicaMode {
    /// Every cluster gets all replicas.
    #[default]
    Duplicated,
    /// The replicas are divided in proportion to weights.
    Weighted,
}

/// A weight of some clusters.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weight {
    /// The clusters.
    #[serde(flatten)]
    pub matches: ClusterMatch,
    /// Weight of each cluster that matches.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: i64,
}

/// What differs in some clusters.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.imageRegistry) || has(self.replicas) || has(self.env) || has(self.patches)", "spec.differences[]: give at least one of imageRegistry, replicas, env, patches"))]
pub struct Difference {
    /// The clusters in which it differs: those that match every list that is given, by one entry of each. Every cluster,
    /// when absent.
    #[serde(rename = "match", default)]
    pub matches: ClusterMatch,
    /// The components that differ; all when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 40)))]
    pub components: Vec<String>,
    /// Registry that the images of workloads are taken from there, in place of the one in the manifest, for example
    /// `registry.eu.example` or `registry.example.com/mirror`. The rest of each image's name stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:\d{1,5})?(/[a-z0-9._/-]+)?$"),
        length(max = 255)
    )]
    pub image_registry: Option<String>,
    /// Replicas of each workload there. Only with `placement.replicas.mode: Duplicated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100000))]
    pub replicas: Option<i32>,
    /// Environment variables that every container of workloads gets there, added to those of the manifest and
    /// winning over them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Further changes there, as JSON patches of single objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub patches: Vec<ObjectPatch>,
}

/// A JSON patch of one object of the application.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPatch {
    /// Kind of the object, which is one of the manifests.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Operations, in order.
    #[schemars(length(min = 1, max = 100))]
    pub operations: Vec<PatchOperation>,
}

/// One operation of a JSON patch (RFC 6902).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchOperation {
    /// What to do.
    pub op: PatchOp,
    /// JSON pointer (RFC 6901) to what changes, for example `/spec/template/spec/hostNetwork`.
    #[schemars(regex(pattern = r"^(/([^~]|~[01])*)+$"), length(max = 1024))]
    pub path: String,
    /// The new value, any JSON; required for add and replace, and absent for remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_json")]
    pub value: Option<Value>,
}

fn any_json(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true, "description": "The new value, any JSON." })
}

/// What a patch operation does.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PatchOp {
    /// Adds a field, or an element to a list.
    Add,
    /// Removes what is there.
    Remove,
    /// Replaces what is there.
    Replace,
}

/// What is known of the application.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultiCloudAppStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In how many clusters it is healthy, of those that it was placed in, as `healthy/placed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters_ready: Option<String>,
    /// How many replicas are ready, of those that are wanted in all clusters, as `ready/wanted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_ready: Option<String>,
    /// State in each cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<AppClusterStatus>,
    /// State of each component over all clusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<AppComponentStatus>,
    /// What Airdock wrote into the plane for this application.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<InventoryEntry>,
    /// Ready; Reconciling or Stalled while true; SelectorsMatched while False, when an entry of the placement, a weight or
    /// a difference selects no cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

crate::conditioned_status!(MultiCloudAppStatus);

/// State of an application in one cluster.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppClusterStatus {
    /// Name of the cluster.
    pub name: String,
    /// Whether everything that is meant for this cluster was applied there.
    pub applied: bool,
    /// Whether what was applied is healthy.
    pub health: Health,
    /// Replicas there.
    pub replicas: ReadyCount,
    /// What is wrong, or not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// State of one component over all clusters.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppComponentStatus {
    /// Name of the component.
    pub name: String,
    /// The worst health of its objects.
    pub health: Health,
    /// Replicas of its workloads.
    pub replicas: ReadyCount,
}

/// Whether something is healthy; the same words as in Karmada's bindings.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum Health {
    /// It works as wanted.
    Healthy,
    /// Not known yet.
    #[default]
    Unknown,
    /// It does not.
    Unhealthy,
}

/// An object that Airdock wrote.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryEntry {
    /// API version of the object.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
    /// The object's `metadata.uid`; only the very same object is ever deleted. Empty for an object that belongs to another
    /// application: this one gets it when that one no longer has it.
    pub uid: String,
}

//! `PermissionBinding`: who may do what, in planes and members alike.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::app::InventoryEntry;
use super::common::ClusterMatch;

/// A role for some subjects, in the planes and the member clusters of instances.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "airdock.dev",
    version = "v1alpha1",
    kind = "PermissionBinding",
    doc = "A role for users and groups, in planes and members.",
    plural = "permissionbindings",
    shortname = "pb",
    category = "airdock",
    namespaced,
    status = "PermissionBindingStatus",
    derive = "PartialEq",
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Subjects", type_ = "string", json_path = ".status.subjects"),
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".status.namespaces"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Synced", type_ = "string", json_path = ".status.targetsSynced"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("size(self.metadata.name) <= 52", "metadata.name: at most 52 characters, since bindings are named after it")
)]
#[serde(rename_all = "camelCase")]
pub struct PermissionBindingSpec {
    /// Who gets the role.
    #[schemars(length(min = 1, max = 100))]
    pub subjects: Vec<Subject>,
    /// What they may do: `Viewer` reads everything but Secrets; `Editor` also changes what is in the namespaces, Secrets
    /// included, may enter its pods, and in the plane changes the namespaces' policies; `Admin` also manages roles within the
    /// namespaces. They are Kubernetes' own roles view, edit and admin.
    pub role: Role,
    /// Where they may do it.
    pub scope: Scope,
    /// When the role ends, RFC 3339. Never, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub expires_at: Option<String>,
}

/// Who gets a role.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(self.kind == 'ServiceAccount') == has(self.__namespace__)", "spec.subjects[].namespace: required for a ServiceAccount, and only for one"),
    validation = ("self.kind == 'ServiceAccount' || !self.name.startsWith('system:')", "spec.subjects[].name: names that start with 'system:' belong to Kubernetes and cannot be bound")
)]
pub struct Subject {
    /// What the name stands for.
    pub kind: SubjectKind,
    /// Name of the user, group or service account.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// What a subject is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum SubjectKind {
    /// A person or a machine, as authenticated.
    User,
    /// A group of users, as authenticated.
    Group,
    /// A service account.
    ServiceAccount,
}

/// What one may do.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Role {
    /// Reads everything but secrets.
    Viewer,
    /// Also changes workloads and their configuration.
    Editor,
    /// Also manages roles within the namespaces.
    Admin,
}

/// Where a role holds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// The instances: those of this object's namespace, and those that allow it in `spec.tenancy`. All of them
    /// when absent.
    #[serde(default)]
    pub instances: InstanceSelection,
    /// Namespaces in the planes and members. The single entry `*` means every namespace, by a cluster-wide
    /// binding; only for instances of this object's own namespace.
    #[schemars(
        length(min = 1, max = 200),
        inner(length(max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))
    )]
    #[x_kube(validation = ("!('*' in self) || size(self) == 1", "spec.scope.namespaces: '*' must be the only entry"))]
    pub namespaces: Vec<String>,
    /// The member clusters of the instances; all of them when absent. `none: true` keeps the role to the planes.
    #[serde(default)]
    pub clusters: ClusterScope,
}

/// Which instances are meant.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSelection {
    /// Names of instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub names: Vec<String>,
    /// Namespace of the instances; the namespace of this object when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels that the instances must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Which member clusters are meant.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!self.none || !(has(self.clusters) || has(self.labels) || has(self.regions) || has(self.zones) || has(self.providers))", "spec.scope.clusters.none: means no member at all; remove it, or remove clusters, labels, regions, zones and providers"))]
pub struct ClusterScope {
    /// Which of the clusters.
    #[serde(flatten)]
    pub matches: ClusterMatch,
    /// The role holds in the planes alone. Not together with any of the others.
    #[serde(default)]
    pub none: bool,
}

/// What is known of the binding.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermissionBindingStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Synced and all targets, as `synced/all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_synced: Option<String>,
    /// Who has the role, in few words: kind and name of the first subjects, and how many more there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<String>,
    /// The namespaces in which they have it, in few words; `all` for every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<String>,
    /// State in each plane and member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<PermissionTarget>,
    /// What Airdock wrote into the planes for this binding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<PlaneInventory>,
    /// Ready; Reconciling or Stalled while true; SelectorsMatched while False, when an entry of `scope.clusters` selects no
    /// cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

crate::conditioned_status!(PermissionBindingStatus);

/// State of a binding in a plane or a member.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermissionTarget {
    /// The instance, as `namespace/name`.
    pub instance: String,
    /// The member cluster; absent for the plane itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Whether the role holds there.
    pub synced: bool,
    /// When a difference was last repaired there, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_at: Option<String>,
    /// What is wrong, or not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What Airdock wrote into one plane.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaneInventory {
    /// Namespace of the instance.
    pub namespace: String,
    /// Name of the instance.
    pub name: String,
    /// The objects.
    pub objects: Vec<InventoryEntry>,
}

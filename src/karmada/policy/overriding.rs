//! Override policies: what differs in which member.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ClusterAffinity, ResourceSelector};

/// Changes objects of its own namespace on their way to members.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "policy.karmada.io",
    version = "v1alpha1",
    kind = "OverridePolicy",
    doc = "Changes objects of its own namespace on their way to members.",
    plural = "overridepolicies",
    shortname = "op",
    category = "karmada-io",
    namespaced,
    derive = "PartialEq"
)]
pub struct OverridePolicySpec {
    /// What changes where.
    #[serde(flatten)]
    pub overriding: OverrideSpec,
}

/// Changes objects of any namespace, and cluster-scoped ones, on their way to members.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "policy.karmada.io",
    version = "v1alpha1",
    kind = "ClusterOverridePolicy",
    doc = "Changes objects of any namespace, and cluster-scoped ones, on their way to members.",
    plural = "clusteroverridepolicies",
    shortname = "cop",
    category = "karmada-io",
    derive = "PartialEq"
)]
pub struct ClusterOverridePolicySpec {
    /// What changes where.
    #[serde(flatten)]
    pub overriding: OverrideSpec,
}

/// What changes where.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverrideSpec {
    /// The objects; any selector may match. All when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_selectors: Vec<ResourceSelector>,
    /// The changes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub override_rules: Vec<OverrideRule>,
    /// The clusters that `overriders` is for; all when absent. Deprecated: use `overrideRules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_cluster: Option<ClusterAffinity>,
    /// The changes of a policy without `overrideRules`. Deprecated: use `overrideRules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overriders: Option<Overriders>,
    /// Why the changes are not known: then no object that the policy selects may be written.
    #[serde(skip)]
    #[schemars(skip)]
    pub unreadable: Option<String>,
}

impl OverrideSpec {
    /// The rules, each with its path in the spec; the deprecated single rule counts where there are no others.
    pub fn rules(&self) -> impl Iterator<Item = (String, Option<&ClusterAffinity>, &Overriders)> {
        let rules = self.override_rules.iter().enumerate();
        let rules =
            rules.map(|(n, rule)| (format!("overrideRules[{n}]."), rule.target_cluster.as_ref(), &rule.overriders));
        let single = self.overriders.iter().filter(|_| self.override_rules.is_empty());
        rules.chain(single.map(|overriders| (String::new(), self.target_cluster.as_ref(), overriders)))
    }
}

/// Changes for some clusters.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverrideRule {
    /// The clusters; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_cluster: Option<ClusterAffinity>,
    /// The changes.
    pub overriders: Overriders,
}

/// Changes of an object, carried out in this order: images, commands, arguments, labels, annotations, fields that hold
/// documents, plaintext.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overriders {
    /// Changes of images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_overrider: Vec<ImageOverrider>,
    /// Changes of containers' commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_overrider: Vec<CommandArgsOverrider>,
    /// Changes of containers' arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args_overrider: Vec<CommandArgsOverrider>,
    /// Changes of the object's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels_overrider: Vec<LabelAnnotationOverrider>,
    /// Changes of the object's annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations_overrider: Vec<LabelAnnotationOverrider>,
    /// Changes inside texts that hold a JSON or YAML document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub field_overrider: Vec<FieldOverrider>,
    /// Changes at JSON pointers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plaintext: Vec<PlaintextOverrider>,
}

/// A change at a JSON pointer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct PlaintextOverrider {
    /// JSON pointer (RFC 6901).
    pub path: String,
    /// What is done there.
    pub operator: OverriderOperator,
    /// The value to add or to put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_json")]
    pub value: Option<Value>,
}

fn any_json(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

/// A change of the command or the arguments of containers.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandArgsOverrider {
    /// Name of the container. Init containers are not changed.
    pub container_name: String,
    /// What is done.
    pub operator: CommandArgsOperator,
    /// The words to append, or to take out wherever they occur.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub value: Vec<String>,
}

/// What is done to a command or to arguments.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CommandArgsOperator {
    /// Appends words.
    Add,
    /// Takes words out.
    Remove,
}

/// A change of labels or annotations.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct LabelAnnotationOverrider {
    /// `add` sets them, `replace` sets those that are there, `remove` takes them away.
    pub operator: OverriderOperator,
    /// Keys with their values; with `remove` the values do not matter.
    pub value: BTreeMap<String, String>,
}

/// Changes inside a text that holds a JSON or YAML document. Give one of `json` and `yaml`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldOverrider {
    /// JSON pointer to the text, for example `/data/config.yaml`.
    pub field_path: String,
    /// Changes of a JSON document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<FieldPatchOperation>,
    /// Changes of a YAML document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yaml: Vec<FieldPatchOperation>,
}

/// A change at a JSON pointer inside a document.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldPatchOperation {
    /// JSON pointer inside the document.
    pub sub_path: String,
    /// What is done there.
    pub operator: OverriderOperator,
    /// The value to add or to put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_json")]
    pub value: Option<Value>,
}

/// A change of images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct ImageOverrider {
    /// Which images; those of all containers of Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job and
    /// CronJob when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<ImagePredicate>,
    /// Which part of the image reference.
    pub component: ImageComponent,
    /// What is done to it.
    pub operator: OverriderOperator,
    /// The value to add (append) or to put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Which images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct ImagePredicate {
    /// JSON pointer to one image.
    pub path: String,
}

/// A part of an image reference.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ImageComponent {
    /// Host and port, and nothing when the image has none.
    Registry,
    /// Path between registry and tag.
    Repository,
    /// Tag or digest.
    Tag,
}

/// What an overrider does.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverriderOperator {
    /// Adds it.
    Add,
    /// Removes what is there.
    Remove,
    /// Replaces what is there.
    Replace,
}

//! Karmada's API as Airdock speaks it: own types under Karmada's group, kind and field names.
//!
//! The Compact profile serves these kinds itself, as CRDs made from these types; under profile Full upstream's
//! components do, and Airdock reads and writes the subset below. The types have the fields that the engine carries
//! out; what becomes of the others is in [`compatibility`].

pub mod binding;
pub mod cluster;
pub mod compatibility;
pub mod names;
pub mod policy;
pub mod shared;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use compatibility::Kind;

pub use binding::{ClusterResourceBinding, ResourceBinding};
pub use cluster::Cluster;
pub use policy::{ClusterOverridePolicy, ClusterPropagationPolicy, OverridePolicy, PropagationPolicy};

/// Label on every object in a member that is managed through Karmada; value `true`. The same under both
/// profiles, so that an object can move from one to the other.
pub const MANAGED_LABEL: &str = "karmada.io/managed";

/// Label on namespaces that belong to Karmada itself; value `true`.
pub const SYSTEM_LABEL: &str = "karmada.io/system";

/// Namespace, in a plane, of Karmada's own objects.
pub const SYSTEM_NAMESPACE: &str = "karmada-system";

/// Namespace, in planes and members, of the credentials of members.
pub const CLUSTER_NAMESPACE: &str = "karmada-cluster";

/// Label on a namespace that keeps it out of automatic propagation; value `true`.
pub const SKIP_AUTO_PROPAGATION_LABEL: &str = "namespace.karmada.io/skip-auto-propagation";

/// Annotation on a template: `overwrite` takes over an existing object of a member, `abort` (the default) does not.
pub const CONFLICT_RESOLUTION_ANNOTATION: &str = "work.karmada.io/conflict-resolution";

/// Finalizers that Karmada's webhooks put on policies. On Compact nothing is left to do when a policy goes: the engine
/// takes them off.
pub const POLICY_FINALIZERS: [&str; 2] =
    ["karmada.io/propagation-policy-controller", "karmada.io/cluster-propagation-policy-controller"];

/// Label on a PropagationPolicy, on what it claims and on the bindings of that: the policy's permanent id. Karmada's
/// webhook sets it on policies; on Compact the engine does.
pub const POLICY_PERMANENT_ID_LABEL: &str = "propagationpolicy.karmada.io/permanent-id";

/// The same of a ClusterPropagationPolicy.
pub const CLUSTER_POLICY_PERMANENT_ID_LABEL: &str = "clusterpropagationpolicy.karmada.io/permanent-id";

/// Annotation on templates and bindings: namespace of the PropagationPolicy that claims the template.
pub const POLICY_NAMESPACE_ANNOTATION: &str = "propagationpolicy.karmada.io/namespace";

/// Annotation on templates and bindings: name of the PropagationPolicy that claims the template.
pub const POLICY_NAME_ANNOTATION: &str = "propagationpolicy.karmada.io/name";

/// Annotation on templates and bindings: name of the ClusterPropagationPolicy that claims the template.
pub const CLUSTER_POLICY_NAME_ANNOTATION: &str = "clusterpropagationpolicy.karmada.io/name";

/// Labels on templates and bindings that tell which policy claims the template.
pub const CLAIM_LABELS: [&str; 2] = [POLICY_PERMANENT_ID_LABEL, CLUSTER_POLICY_PERMANENT_ID_LABEL];

/// Annotations on templates and bindings that tell which policy claims the template.
pub const CLAIM_ANNOTATIONS: [&str; 3] =
    [POLICY_NAMESPACE_ANNOTATION, POLICY_NAME_ANNOTATION, CLUSTER_POLICY_NAME_ANNOTATION];

/// Annotation on a Cluster: what happens to applications in the member when the Cluster is deleted; `Orphan` leaves
/// them there.
pub const UNJOIN_POLICY_ANNOTATION: &str = "airdock.dev/unjoin-policy";

/// Annotation on a Cluster: `true` gives up a member that leaves and cannot be reached.
pub const FORCE_UNJOIN_ANNOTATION: &str = "airdock.dev/force-unjoin";

/// Condition on a Cluster of a Compact plane that is being deleted: whether the member is rid of what the plane made there.
/// While it is not, the message names what is left.
pub const DRAINED_CONDITION: &str = "Drained";

/// Definitions that a Compact plane serves, each with the kind whose fields it has.
#[must_use]
pub fn kinds() -> Vec<(Kind, CustomResourceDefinition)> {
    let derived = [
        (Kind::Cluster, Cluster::crd()),
        (Kind::PropagationPolicy, PropagationPolicy::crd()),
        (Kind::PropagationPolicy, ClusterPropagationPolicy::crd()),
        (Kind::OverridePolicy, OverridePolicy::crd()),
        (Kind::OverridePolicy, ClusterOverridePolicy::crd()),
        (Kind::ResourceBinding, ResourceBinding::crd()),
        (Kind::ResourceBinding, ClusterResourceBinding::crd()),
    ];
    derived.map(|(kind, definition)| (kind, compatibility::completed(kind, definition))).into()
}

/// The definitions that a Compact plane serves.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    kinds().into_iter().map(|(_, definition)| definition).collect()
}

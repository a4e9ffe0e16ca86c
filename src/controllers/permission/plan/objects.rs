//! The objects of a permission: their kinds, names and contents. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::Subject as RbacSubject;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef};
use kube::ResourceExt;
use kube::core::{ApiResource, ObjectMeta};

use crate::api::permission::{PermissionBinding, Role, SubjectKind};
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL, PERMISSION_LABEL, PERMISSION_NAMESPACE_LABEL};
use crate::application::affinity::affinity;
use crate::karmada::policy::{ClusterPropagationPolicySpec, PropagationPolicySpec};
use crate::karmada::policy::{ConflictResolution, Placement, PropagationSpec, ResourceSelector, Toleration};
use crate::karmada::{ClusterPropagationPolicy, PropagationPolicy};
use crate::machinery::hash::sha256_hex;

/// Permissions reach their clusters whatever broader policies a plane has.
const PRIORITY: i32 = 1_000_000;

pub(super) const RBAC: &str = "rbac.authorization.k8s.io";

/// The kinds that permissions write, in the order in which they are removed: bindings before the policies that carry
/// them, since a template that goes takes its copies along.
#[must_use]
pub fn kinds() -> [ApiResource; 5] {
    [
        ApiResource::erase::<RoleBinding>(&()),
        ApiResource::erase::<ClusterRoleBinding>(&()),
        ApiResource::erase::<ClusterRole>(&()),
        ApiResource::erase::<PropagationPolicy>(&()),
        ApiResource::erase::<ClusterPropagationPolicy>(&()),
    ]
}

/// Kubernetes' own role behind a role.
#[must_use]
pub fn cluster_role(role: Role) -> &'static str {
    match role {
        Role::Viewer => "view",
        Role::Editor => "edit",
        Role::Admin => "admin",
    }
}

/// Name of a binding's objects in planes and members. Short enough for upstream's labels (63); the hash tells apart
/// namesakes from different namespaces of the host cluster.
#[must_use]
pub fn object_name(binding: &PermissionBinding) -> String {
    name_with(binding, cluster_role(binding.spec.role))
}

fn name_with(binding: &PermissionBinding, suffix: &str) -> String {
    let full = format!("{}/{}", binding.namespace().unwrap_or_default(), binding.name_any());
    let head: String = binding.name_any().chars().take(40).collect();
    format!("{}-{suffix}-{}", head.trim_end_matches(['-', '.']), sha256_hex([&full], 8))
}

/// Labels of a binding's objects.
#[must_use]
pub fn labels(binding: &PermissionBinding) -> BTreeMap<String, String> {
    [
        (MANAGED_BY_LABEL, MANAGED_BY.to_owned()),
        (PERMISSION_LABEL, binding.name_any()),
        (PERMISSION_NAMESPACE_LABEL, binding.namespace().unwrap_or_default()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Selects a binding's objects.
#[must_use]
pub fn selector(binding: &PermissionBinding) -> String {
    labels(binding).into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn metadata(binding: &PermissionBinding, name: String, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels(binding)),
        ..ObjectMeta::default()
    }
}

fn role_ref(name: &str) -> RoleRef {
    RoleRef { api_group: RBAC.to_owned(), kind: "ClusterRole".to_owned(), name: name.to_owned() }
}

fn subjects(binding: &PermissionBinding) -> Vec<RbacSubject> {
    let rbac = |kind: &str, group: bool, name: &str, namespace: Option<String>| RbacSubject {
        api_group: group.then(|| RBAC.to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace,
    };
    binding
        .spec
        .subjects
        .iter()
        .map(|subject| match subject.kind {
            SubjectKind::User => rbac("User", true, &subject.name, None),
            SubjectKind::Group => rbac("Group", true, &subject.name, None),
            SubjectKind::ServiceAccount => rbac("ServiceAccount", false, &subject.name, subject.namespace.clone()),
        })
        .collect()
}

pub(super) fn role_binding(binding: &PermissionBinding, namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata: metadata(binding, object_name(binding), Some(namespace)),
        role_ref: role_ref(cluster_role(binding.spec.role)),
        subjects: Some(subjects(binding)),
    }
}

pub(super) fn cluster_binding(binding: &PermissionBinding, name: String, role: &str) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: metadata(binding, name, None),
        role_ref: role_ref(role),
        subjects: Some(subjects(binding)),
    }
}

/// Lets the subjects through upstream's cluster proxy (profile Full); what they may do behind it, the members decide.
pub(super) fn proxy_role(binding: &PermissionBinding, clusters: Vec<String>) -> ClusterRole {
    let verbs: &[&str] = match binding.spec.role {
        Role::Viewer => &["get"],
        Role::Editor | Role::Admin => &["get", "create", "update", "patch", "delete"],
    };
    ClusterRole {
        metadata: metadata(binding, name_with(binding, "proxy"), None),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec!["cluster.karmada.io".to_owned()]),
            resources: Some(vec!["clusters/proxy".to_owned()]),
            resource_names: Some(clusters),
            verbs: verbs.iter().map(ToString::to_string).collect(),
            ..PolicyRule::default()
        }]),
        ..ClusterRole::default()
    }
}

pub(super) fn policy(binding: &PermissionBinding, namespace: &str) -> PropagationPolicy {
    PropagationPolicy {
        metadata: metadata(binding, object_name(binding), Some(namespace)),
        spec: PropagationPolicySpec { propagation: propagation(binding, "RoleBinding", Some(namespace)) },
    }
}

pub(super) fn cluster_policy(binding: &PermissionBinding) -> ClusterPropagationPolicy {
    ClusterPropagationPolicy {
        metadata: metadata(binding, object_name(binding), None),
        spec: ClusterPropagationPolicySpec { propagation: propagation(binding, "ClusterRoleBinding", None) },
    }
}

fn propagation(binding: &PermissionBinding, kind: &str, namespace: Option<&str>) -> PropagationSpec {
    PropagationSpec {
        resource_selectors: vec![ResourceSelector {
            api_version: format!("{RBAC}/v1"),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: Some(object_name(binding)),
            label_selector: None,
        }],
        placement: Placement {
            cluster_affinity: affinity(&binding.spec.scope.clusters.matches, &[]),
            // A taint keeps workloads away, not people.
            cluster_tolerations: vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }],
            replica_scheduling: None,
        },
        priority: PRIORITY,
        // The names are this binding's alone; what a member has under one of them is a leftover.
        conflict_resolution: ConflictResolution::Overwrite,
        preserve_resources_on_deletion: None,
    }
}

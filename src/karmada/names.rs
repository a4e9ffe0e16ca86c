//! Names that Karmada derives, and what it never propagates.

/// Prefix of the namespaces, in a plane, of the `Work` objects of a member.
const EXECUTION_NAMESPACE_PREFIX: &str = "karmada-es-";

/// Karmada's own groups that hold nothing to propagate.
const KARMADA_GROUPS: [&str; 8] = [
    "apps.karmada.io",
    "autoscaling.karmada.io",
    "cluster.karmada.io",
    "config.karmada.io",
    "networking.karmada.io",
    "policy.karmada.io",
    "remedy.karmada.io",
    "work.karmada.io",
];

/// Name of an object's ResourceBinding or ClusterResourceBinding. Names of RBAC objects may hold colons, those of
/// bindings may not.
#[must_use]
pub fn binding_name(kind: &str, name: &str) -> String {
    format!("{}-{kind}", name.replace(':', ".")).to_lowercase()
}

/// Namespace, in a plane, of the `Work` objects of a member.
#[must_use]
pub fn execution_namespace(cluster: &str) -> String {
    format!("{EXECUTION_NAMESPACE_PREFIX}{cluster}")
}

/// Whether nothing in a namespace of a plane is propagated: it belongs to Kubernetes or to Karmada itself.
#[must_use]
pub fn is_reserved_namespace(namespace: &str) -> bool {
    namespace == super::SYSTEM_NAMESPACE
        || namespace == super::CLUSTER_NAMESPACE
        || namespace.starts_with(EXECUTION_NAMESPACE_PREFIX)
        || namespace.starts_with("kube-")
}

/// Whether objects of a kind are never propagated: Karmada's own, and those that tell of one cluster alone (events and
/// leases).
#[must_use]
pub fn is_skipped_kind(api_version: &str, kind: &str) -> bool {
    match api_version.split_once('/') {
        None => kind == "Event",
        Some((group, _)) => matches!(group, "events.k8s.io" | "coordination.k8s.io") || KARMADA_GROUPS.contains(&group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_names() {
        assert_eq!(binding_name("Deployment", "web"), "web-deployment");
        assert_eq!(binding_name("ClusterRole", "system:Aggregate"), "system.aggregate-clusterrole");
    }

    #[test]
    fn reserved_namespaces() {
        for (namespace, reserved) in [
            ("karmada-system", true),
            ("karmada-cluster", true),
            ("karmada-es-paris", true),
            ("kube-system", true),
            ("kube-public", true),
            ("karmada-team", false),
            ("karmada", false),
            ("kubeflow", false),
            ("default", false),
            ("", false),
        ] {
            assert_eq!(is_reserved_namespace(namespace), reserved, "{namespace}");
        }
    }

    #[test]
    fn skipped_kinds() {
        for (api_version, kind, skipped) in [
            ("v1", "Event", true),
            ("events.k8s.io/v1", "Event", true),
            ("coordination.k8s.io/v1", "Lease", true),
            ("work.karmada.io/v1alpha2", "ResourceBinding", true),
            ("policy.karmada.io/v1alpha1", "PropagationPolicy", true),
            ("apps.karmada.io/v1alpha1", "WorkloadRebalancer", true),
            ("example.karmada.io/v1", "Thing", false),
            ("karmada.io/v1", "Thing", false),
            ("example.io/v1", "Event", false),
            ("v1", "ConfigMap", false),
            ("apps/v1", "Deployment", false),
        ] {
            assert_eq!(is_skipped_kind(api_version, kind), skipped, "{api_version} {kind}");
        }
    }
}

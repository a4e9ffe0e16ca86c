//! A policy of either scope, as decisions take it.

use std::fmt;

use kube::core::ObjectMeta;

use super::{
    ClusterOverridePolicy, ClusterPropagationPolicy, OverridePolicy, OverrideSpec, PropagationPolicy, PropagationSpec,
};

/// A policy by namespace and name, and what it says.
#[derive(Debug)]
pub struct PolicyRef<'a, S> {
    /// Its namespace; nothing for a policy of the cluster scope.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// What it says.
    pub spec: &'a S,
}

// Derived, these would ask the same of the spec.
impl<S> Clone for PolicyRef<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for PolicyRef<'_, S> {}

impl<'a, S> PolicyRef<'a, S> {
    fn namespaced(metadata: &'a ObjectMeta, spec: &'a S) -> Self {
        let namespace = Some(metadata.namespace.as_deref().unwrap_or_default());
        Self { namespace, name: metadata.name.as_deref().unwrap_or_default(), spec }
    }

    fn cluster_scoped(metadata: &'a ObjectMeta, spec: &'a S) -> Self {
        Self { namespace: None, name: metadata.name.as_deref().unwrap_or_default(), spec }
    }
}

impl<'a> From<&'a PropagationPolicy> for PolicyRef<'a, PropagationSpec> {
    fn from(policy: &'a PropagationPolicy) -> Self {
        Self::namespaced(&policy.metadata, &policy.spec.propagation)
    }
}

impl<'a> From<&'a ClusterPropagationPolicy> for PolicyRef<'a, PropagationSpec> {
    fn from(policy: &'a ClusterPropagationPolicy) -> Self {
        Self::cluster_scoped(&policy.metadata, &policy.spec.propagation)
    }
}

impl<'a> From<&'a OverridePolicy> for PolicyRef<'a, OverrideSpec> {
    fn from(policy: &'a OverridePolicy) -> Self {
        Self::namespaced(&policy.metadata, &policy.spec.overriding)
    }
}

impl<'a> From<&'a ClusterOverridePolicy> for PolicyRef<'a, OverrideSpec> {
    fn from(policy: &'a ClusterOverridePolicy) -> Self {
        Self::cluster_scoped(&policy.metadata, &policy.spec.overriding)
    }
}

/// The kind of a namespaced policy with a spec; that of the cluster scope has `Cluster` before it.
pub trait PolicySpec {
    /// The kind.
    const KIND: &'static str;
}

impl PolicySpec for PropagationSpec {
    const KIND: &'static str = "PropagationPolicy";
}

impl PolicySpec for OverrideSpec {
    const KIND: &'static str = "OverridePolicy";
}

/// Kind and name.
impl<S: PolicySpec> fmt::Display for PolicyRef<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", S::KIND, self.name),
            None => write!(f, "Cluster{} {}", S::KIND, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_name() {
        let spec = PropagationSpec::default();
        let metadata =
            ObjectMeta { namespace: Some("shop".to_owned()), name: Some("web".to_owned()), ..ObjectMeta::default() };
        assert_eq!(PolicyRef::namespaced(&metadata, &spec).to_string(), "PropagationPolicy shop/web");
        let spec = OverrideSpec::default();
        assert_eq!(PolicyRef::cluster_scoped(&metadata, &spec).to_string(), "ClusterOverridePolicy web");
    }
}

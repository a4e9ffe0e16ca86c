//! What differs where: override policies turn an object into the one that a certain cluster gets. Pure.
//!
//! ClusterOverridePolicies go first, then the OverridePolicies of the object's namespace; within each, the wider
//! selector before the closer one, then by name, so that what is most specific has the last word. In a rule images go
//! before plaintext. Either all of it works, or the object is not changed and the error names policy and path.

mod image;
mod patch;

use serde_json::Value;

pub use image::{ImageReference, ImageReferenceError};

use crate::karmada::policy::{ClusterOverridePolicy, OverridePolicy, OverrideSpec};
use crate::placement::{ClusterView, affinity_matches, selected_by};

/// An override policy of either kind.
#[derive(Clone, Copy, Debug)]
pub struct Override<'a> {
    /// Its namespace; nothing for a ClusterOverridePolicy.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// What it says.
    pub spec: &'a OverrideSpec,
}

impl<'a> From<&'a OverridePolicy> for Override<'a> {
    fn from(policy: &'a OverridePolicy) -> Self {
        Self {
            namespace: Some(policy.metadata.namespace.as_deref().unwrap_or_default()),
            name: policy.metadata.name.as_deref().unwrap_or_default(),
            spec: &policy.spec.overriding,
        }
    }
}

impl<'a> From<&'a ClusterOverridePolicy> for Override<'a> {
    fn from(policy: &'a ClusterOverridePolicy) -> Self {
        Self {
            namespace: None,
            name: policy.metadata.name.as_deref().unwrap_or_default(),
            spec: &policy.spec.overriding,
        }
    }
}

/// Why an override could not be carried out.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{policy}: overrideRules[{rule}].overriders.{field}: {problem}")]
pub struct OverrideError {
    /// Kind and name of the policy.
    pub policy: String,
    /// Which of its rules.
    pub rule: usize,
    /// Which overrider of the rule.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The policies that have a say about an object, in the order in which they are carried out.
#[must_use]
pub fn applicable<'a>(object: &Value, policies: impl IntoIterator<Item = Override<'a>>) -> Vec<Override<'a>> {
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let mut ranked: Vec<_> = policies
        .into_iter()
        .filter(|policy| policy.namespace.is_none() || policy.namespace == namespace)
        .filter_map(|policy| Some((selected_by(object, &policy.spec.resource_selectors)?, policy)))
        .collect();
    ranked.sort_by(|(rank_a, a), (rank_b, b)| {
        (a.namespace.is_some().cmp(&b.namespace.is_some()))
            .then_with(|| rank_a.cmp(rank_b))
            .then_with(|| a.name.cmp(b.name))
    });
    ranked.into_iter().map(|(_, policy)| policy).collect()
}

/// Turns an object into the one that a cluster gets. `policies` are those that [`applicable`] found.
pub fn apply(mut object: Value, policies: &[Override<'_>], cluster: &ClusterView) -> Result<Value, OverrideError> {
    for policy in policies {
        for (index, rule) in policy.spec.override_rules.iter().enumerate() {
            if rule.target_cluster.as_ref().is_some_and(|affinity| !affinity_matches(affinity, cluster)) {
                continue;
            }
            let error = |field: String, problem: String| OverrideError {
                policy: match policy.namespace {
                    Some(namespace) => format!("OverridePolicy {namespace}/{}", policy.name),
                    None => format!("ClusterOverridePolicy {}", policy.name),
                },
                rule: index,
                field,
                problem,
            };
            for (n, overrider) in rule.overriders.image_overrider.iter().enumerate() {
                image::apply(&mut object, overrider).map_err(|e| error(format!("imageOverrider[{n}]"), e))?;
            }
            for (n, overrider) in rule.overriders.plaintext.iter().enumerate() {
                patch::apply(&mut object, overrider).map_err(|e| error(format!("plaintext[{n}]"), e))?;
            }
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn spec(selectors: Value, target: Value, value: &str) -> OverrideSpec {
        let mut rule = json!({"overriders": {"plaintext": [{"path": "/data/x", "operator": "add", "value": value}]}});
        if !target.is_null() {
            rule["targetCluster"] = target;
        }
        from_value(json!({"resourceSelectors": selectors, "overrideRules": [rule]})).unwrap()
    }

    fn object() -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {},
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}})
    }

    #[test]
    fn order() {
        let everything = spec(json!([]), Value::Null, "everything");
        let by_kind = spec(json!([{"apiVersion": "v1", "kind": "ConfigMap"}]), Value::Null, "kind");
        let by_label = spec(
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"app": "web"}}}]),
            Value::Null,
            "label",
        );
        let by_name = spec(json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "web"}]), Value::Null, "name");
        let other = spec(json!([{"apiVersion": "v1", "kind": "Secret"}]), Value::Null, "other");
        let of = |namespace, name, spec| Override { namespace, name, spec };
        let found = applicable(
            &object(),
            [
                of(Some("shop"), "z-name", &by_name),
                of(Some("shop"), "b-kind", &by_kind),
                of(Some("shop"), "a-all", &everything),
                of(Some("shop"), "label", &by_label),
                of(Some("shop"), "other", &other),
                of(Some("elsewhere"), "foreign", &everything),
                of(None, "cluster-name", &by_name),
                of(None, "cluster-all", &everything),
            ],
        );
        let names: Vec<_> = found.iter().map(|policy| policy.name).collect();
        assert_eq!(names, ["cluster-all", "cluster-name", "a-all", "b-kind", "label", "z-name"]);
        let result = apply(object(), &found, &ClusterView::default()).unwrap();
        assert_eq!(result["data"]["x"], "name", "the most specific has the last word");
    }

    #[test]
    fn only_in_the_clusters_that_are_meant() {
        let spec = spec(json!([]), json!({"clusterNames": ["a"]}), "1");
        let policy = [Override { namespace: None, name: "p", spec: &spec }];
        let view = |name: &str| ClusterView { name: name.into(), ..ClusterView::default() };
        assert_eq!(apply(object(), &policy, &view("a")).unwrap()["data"]["x"], "1");
        assert_eq!(apply(object(), &policy, &view("b")).unwrap(), object());
    }

    #[test]
    fn errors_name_policy_and_place() {
        let spec: OverrideSpec = from_value(json!({"overrideRules": [
            {"overriders": {}},
            {"overriders": {"plaintext": [{"path": "/data/missing", "operator": "remove"}]}}
        ]}))
        .unwrap();
        let policy = [Override { namespace: Some("shop"), name: "p", spec: &spec }];
        assert_eq!(
            apply(object(), &policy, &ClusterView::default()).unwrap_err().to_string(),
            "OverridePolicy shop/p: overrideRules[1].overriders.plaintext[0]: \
             remove at \"/data/missing\": there is nothing at this path"
        );
    }
}

//! Which policy claims an object.

use serde_json::Value;

use super::selector::rank;
use crate::karmada::policy::{PolicyRef, PropagationSpec};

/// A propagation policy of either kind.
pub type Policy<'a> = PolicyRef<'a, PropagationSpec>;

/// The policy that an object belongs to.
pub type Claim<'a> = Policy<'a>;

/// The policy that claims an object: the `current` one for as long as it is there and selects the object, since a policy
/// that comes later takes nothing away from others (upstream's preemption `Never`). Otherwise a PropagationPolicy of its
/// namespace before any ClusterPropagationPolicy; among equals the higher explicit priority, then the closer selector,
/// then the name that comes first.
#[must_use]
pub fn claim<'a>(
    object: &Value,
    policies: impl IntoIterator<Item = Policy<'a>>,
    current: Option<(Option<&str>, &str)>,
) -> Option<Claim<'a>> {
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let is_current = |policy: &Policy<'_>| current == Some((policy.namespace, policy.name));
    policies
        .into_iter()
        .filter(|policy| policy.namespace.is_none() || policy.namespace == namespace)
        .filter_map(|policy| Some((rank(object, &policy.spec.resource_selectors)?, policy)))
        .max_by(|(rank_a, a), (rank_b, b)| {
            (is_current(a).cmp(&is_current(b)))
                .then_with(|| a.namespace.is_some().cmp(&b.namespace.is_some()))
                .then_with(|| a.spec.priority.cmp(&b.spec.priority))
                .then_with(|| rank_a.cmp(rank_b))
                .then_with(|| b.name.cmp(a.name))
        })
        .map(|(_, policy)| policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn spec(priority: i32, selector: Value) -> PropagationSpec {
        let mut all = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        all.as_object_mut().unwrap().extend(selector.as_object().unwrap().clone());
        from_value(json!({"priority": priority, "resourceSelectors": [all]})).unwrap()
    }

    fn claimed(policies: &[(Option<&str>, &str, PropagationSpec)]) -> Option<String> {
        claimed_after(policies, None)
    }

    fn claimed_after(
        policies: &[(Option<&str>, &str, PropagationSpec)],
        current: Option<(Option<&str>, &str)>,
    ) -> Option<String> {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}
        });
        let policies = policies.iter().map(|(namespace, name, spec)| Policy { namespace: *namespace, name, spec });
        claim(&object, policies, current).map(|policy| policy.name.to_owned())
    }

    #[test]
    fn order() {
        let all = || spec(0, json!({}));
        let by_label = || spec(0, json!({"labelSelector": {"matchLabels": {"app": "web"}}}));
        let by_name = || spec(0, json!({"name": "web"}));
        let shop = Some("shop");
        for (policies, expected) in [
            (vec![], None),
            (vec![(shop, "other", spec(0, json!({"name": "api"})))], None),
            (vec![(Some("elsewhere"), "foreign", all())], None),
            (vec![(None, "wide", spec(100, json!({"name": "web"}))), (shop, "near", all())], Some("near")),
            (vec![(shop, "high", spec(1, json!({}))), (shop, "named", by_name())], Some("high")),
            (vec![(shop, "a", all()), (shop, "b", by_label())], Some("b")),
            (vec![(shop, "a", by_label()), (shop, "b", by_name())], Some("b")),
            (vec![(shop, "b", by_name()), (shop, "a", by_name())], Some("a")),
            (vec![(None, "b", all()), (None, "a", all()), (None, "c", all())], Some("a")),
            (vec![(None, "x", spec(-5, json!({}))), (None, "y", spec(-6, json!({"name": "web"})))], Some("x")),
        ] {
            assert_eq!(claimed(&policies).as_deref(), expected);
        }
    }

    #[test]
    fn a_claim_is_kept() {
        let shop = Some("shop");
        let policies = [
            (shop, "high", spec(9, json!({"name": "web"}))),
            (shop, "first", spec(0, json!({}))),
            (None, "wide", spec(0, json!({}))),
            (shop, "other", spec(0, json!({"name": "api"}))),
        ];
        for (current, expected) in [
            ((shop, "first"), "first"),
            ((None, "wide"), "wide"),
            ((shop, "other"), "high"),
            ((shop, "gone"), "high"),
            ((None, "first"), "high"),
        ] {
            assert_eq!(claimed_after(&policies, Some(current)).as_deref(), Some(expected), "{current:?}");
        }
    }

    #[test]
    fn a_cluster_scoped_object_belongs_to_cluster_policies_alone() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}});
        let spec = spec(0, json!({}));
        let near = Policy { namespace: Some("shop"), name: "near", spec: &spec };
        let wide = Policy { namespace: None, name: "wide", spec: &spec };
        assert_eq!(claim(&object, [near, wide], None).unwrap().name, "wide");
    }
}

//! Selectors of clusters and of objects.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::cluster::ClusterView;
use super::result::first_of;
use crate::karmada::policy::{ClusterAffinity, ClusterField, FieldOperator, FieldRequirement, ResourceSelector};

/// The list of an affinity that a cluster does not match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AffinityMismatch<'a> {
    /// It is excluded by name.
    Exclude,
    /// Its name is none of these.
    ClusterNames(&'a [String]),
    /// It does not have these labels.
    LabelSelector(&'a LabelSelector),
    /// A field of it is not as required.
    FieldSelector(&'a FieldRequirement),
}

impl fmt::Display for AffinityMismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exclude => f.write_str("matched spec.placement.clusterAffinity.exclude"),
            Self::ClusterNames(names) => {
                write!(f, "did not match spec.placement.clusterAffinity.clusterNames [{}]", first_of(names))
            }
            Self::LabelSelector(selector) => {
                f.write_str("did not match spec.placement.clusterAffinity.labelSelector")?;
                match Selector::try_from((*selector).clone()) {
                    Ok(parsed) if is_valid(selector) => write!(f, " {{{parsed}}}"),
                    _ => f.write_str(", which is not valid"),
                }
            }
            Self::FieldSelector(FieldRequirement { key, operator, values }) => write!(
                f,
                "did not match spec.placement.clusterAffinity.fieldSelector {{{} {operator:?} [{}]}}",
                format!("{key:?}").to_lowercase(),
                first_of(values)
            ),
        }
    }
}

/// Whether a cluster is meant. A selector that makes no sense matches nothing.
#[must_use]
pub fn affinity_matches(affinity: &ClusterAffinity, cluster: &ClusterView) -> bool {
    affinity_mismatch(affinity, cluster).is_none()
}

/// The first list of an affinity by which a cluster is not meant.
#[must_use]
pub fn affinity_mismatch<'a>(affinity: &'a ClusterAffinity, cluster: &ClusterView) -> Option<AffinityMismatch<'a>> {
    let ClusterAffinity { label_selector, field_selector, cluster_names, exclude } = affinity;
    if exclude.contains(&cluster.name) {
        return Some(AffinityMismatch::Exclude);
    }
    if !cluster_names.is_empty() && !cluster_names.contains(&cluster.name) {
        return Some(AffinityMismatch::ClusterNames(cluster_names));
    }
    if let Some(selector) = label_selector.as_ref().filter(|selector| !labels_match(selector, &cluster.labels)) {
        return Some(AffinityMismatch::LabelSelector(selector));
    }
    let mut required = field_selector.iter().flat_map(|selector| &selector.match_expressions);
    required.find(|field| !field_matches(field, cluster)).map(AffinityMismatch::FieldSelector)
}

fn field_matches(requirement: &FieldRequirement, cluster: &ClusterView) -> bool {
    // Of zones alone none may be listed.
    if requirement.values.is_empty() && requirement.key != ClusterField::Zone {
        return false;
    }
    let listed = |value: &String| requirement.values.contains(value);
    let any = match requirement.key {
        ClusterField::Provider => cluster.provider.as_ref().is_some_and(listed),
        ClusterField::Region => cluster.region.as_ref().is_some_and(listed),
        ClusterField::Zone => cluster.zones.iter().any(listed),
    };
    match requirement.operator {
        FieldOperator::In => any,
        FieldOperator::NotIn => !any,
    }
}

fn labels_match(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    is_valid(selector) && Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// Whether each requirement has the values that its operator asks for. Kubernetes refuses any other selector as a whole.
fn is_valid(selector: &LabelSelector) -> bool {
    selector.match_expressions.iter().flatten().all(|requirement| {
        let has_values = requirement.values.as_ref().is_some_and(|values| !values.is_empty());
        match requirement.operator.as_str() {
            "In" | "NotIn" => has_values,
            _ => !has_values,
        }
    })
}

/// How closely selectors name an object; the closer match wins over the wider one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// By kind alone.
    Kind,
    /// By labels.
    Labels,
    /// By name.
    Name,
}

/// How closely any of the selectors names an object; nothing when none does.
#[must_use]
pub fn rank(object: &Value, selectors: &[ResourceSelector]) -> Option<Rank> {
    selectors.iter().filter_map(|selector| rank_one(object, selector)).max()
}

/// Whether the selectors of an override name an object; no selectors name every object.
#[must_use]
pub fn selected_by(object: &Value, selectors: &[ResourceSelector]) -> Option<Rank> {
    if selectors.is_empty() { Some(Rank::Kind) } else { rank(object, selectors) }
}

fn rank_one(object: &Value, selector: &ResourceSelector) -> Option<Rank> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if text("/apiVersion") != selector.api_version || text("/kind") != selector.kind {
        return None;
    }
    if given(&selector.namespace).is_some_and(|namespace| namespace != text("/metadata/namespace")) {
        return None;
    }
    if let Some(name) = given(&selector.name) {
        return (name == text("/metadata/name")).then_some(Rank::Name);
    }
    match &selector.label_selector {
        None => Some(Rank::Kind),
        Some(selector) => labels_match(selector, &labels_of(object)).then_some(Rank::Labels),
    }
}

fn labels_of(object: &Value) -> BTreeMap<String, String> {
    let Some(labels) = object.pointer("/metadata/labels").and_then(Value::as_object) else { return BTreeMap::new() };
    labels.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn cluster() -> ClusterView {
        ClusterView {
            name: "paris".into(),
            labels: [("tier".to_owned(), "edge".to_owned())].into(),
            provider: Some("aws".into()),
            region: Some("eu".into()),
            zones: vec!["eu-1".into(), "eu-2".into()],
            ..ClusterView::default()
        }
    }

    #[test]
    fn affinities() {
        let field = |key: &str, operator: &str, values: &[&str]| json!({"fieldSelector": {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}});
        let label = |key: &str, operator: &str, values: Value| json!({"labelSelector": {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}});
        for (affinity, expected) in [
            (json!({}), true),
            (json!({"clusterNames": ["paris"]}), true),
            (json!({"clusterNames": ["rome"]}), false),
            (json!({"exclude": ["paris"]}), false),
            (json!({"clusterNames": ["paris"], "exclude": ["paris"]}), false),
            (json!({"labelSelector": {"matchLabels": {"tier": "edge"}}}), true),
            (json!({"labelSelector": {"matchLabels": {"tier": "core"}}}), false),
            (label("tier", "In", json!(["edge", "core"])), true),
            (label("tier", "NotIn", json!(["edge"])), false),
            (label("other", "NotIn", json!(["x"])), true),
            (label("tier", "Exists", Value::Null), true),
            (label("tier", "DoesNotExist", Value::Null), false),
            (label("tier", "Near", json!(["edge"])), false),
            (label("tier", "Exists", json!([])), true),
            (label("tier", "Exists", json!(["edge"])), false),
            (label("other", "DoesNotExist", json!(["x"])), false),
            (label("tier", "NotIn", json!([])), false),
            (label("tier", "In", json!([])), false),
            (label("tier", "NotIn", Value::Null), false),
            (field("provider", "NotIn", &[]), false),
            (field("region", "NotIn", &[]), false),
            (field("zone", "NotIn", &[]), true),
            (field("provider", "In", &["aws", "gcp"]), true),
            (field("provider", "NotIn", &["aws"]), false),
            (field("region", "In", &["us"]), false),
            (field("region", "NotIn", &["us"]), true),
            (field("zone", "In", &["eu-2"]), true),
            (field("zone", "In", &["eu-3"]), false),
            (field("zone", "NotIn", &["eu-3"]), true),
            (field("zone", "NotIn", &["eu-1"]), false),
            (json!({"clusterNames": ["paris"], "labelSelector": {"matchLabels": {"tier": "core"}}}), false),
        ] {
            let parsed: ClusterAffinity = from_value(affinity.clone()).unwrap();
            assert_eq!(affinity_matches(&parsed, &cluster()), expected, "{affinity}");
        }
    }

    #[test]
    fn a_mismatch_names_its_list() {
        let names = ["a", "b", "c", "d", "e", "f"];
        for (affinity, want) in [
            (json!({"exclude": ["paris"]}), "matched spec.placement.clusterAffinity.exclude"),
            (
                json!({"clusterNames": ["rome"], "labelSelector": {"matchLabels": {"tier": "core"}}}),
                "did not match spec.placement.clusterAffinity.clusterNames [rome]",
            ),
            (
                json!({"clusterNames": names}),
                "did not match spec.placement.clusterAffinity.clusterNames [a, b, c, d, e, …]",
            ),
            (
                json!({"labelSelector": {"matchLabels": {"tier": "core"}}}),
                "did not match spec.placement.clusterAffinity.labelSelector {tier=core}",
            ),
            (
                json!({"labelSelector": {"matchExpressions": [{"key": "tier", "operator": "In"}]}}),
                "did not match spec.placement.clusterAffinity.labelSelector, which is not valid",
            ),
            (
                json!({"fieldSelector": {"matchExpressions": [
                    {"key": "provider", "operator": "In", "values": ["aws"]},
                    {"key": "region", "operator": "NotIn", "values": ["eu", "us"]},
                ]}}),
                "did not match spec.placement.clusterAffinity.fieldSelector {region NotIn [eu, us]}",
            ),
        ] {
            let parsed: ClusterAffinity = from_value(affinity.clone()).unwrap();
            assert_eq!(affinity_mismatch(&parsed, &cluster()).unwrap().to_string(), want, "{affinity}");
        }
    }

    #[test]
    fn a_cluster_without_the_field() {
        let bare = ClusterView { name: "bare".into(), ..ClusterView::default() };
        for key in ["provider", "region", "zone"] {
            for (operator, expected) in [("In", false), ("NotIn", true)] {
                let requirement: FieldRequirement =
                    from_value(json!({"key": key, "operator": operator, "values": ["x"]})).unwrap();
                assert_eq!(field_matches(&requirement, &bare), expected, "{key} {operator}");
            }
        }
    }

    #[test]
    fn ranks() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}
        });
        let selector = |more: Value| {
            let mut all = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            from_value::<ResourceSelector>(all).unwrap()
        };
        for (more, expected) in [
            (json!({}), Some(Rank::Kind)),
            (json!({"namespace": "shop"}), Some(Rank::Kind)),
            (json!({"namespace": "other"}), None),
            (json!({"name": "web"}), Some(Rank::Name)),
            (json!({"name": ""}), Some(Rank::Kind)),
            (json!({"name": "api"}), None),
            (json!({"labelSelector": {"matchLabels": {"app": "web"}}}), Some(Rank::Labels)),
            (json!({"labelSelector": {"matchLabels": {"app": "api"}}}), None),
            (json!({"name": "web", "labelSelector": {"matchLabels": {"app": "api"}}}), Some(Rank::Name)),
            (json!({"kind": "StatefulSet"}), None),
        ] {
            assert_eq!(rank(&object, &[selector(more.clone())]), expected, "{more}");
        }
        let several = [selector(json!({})), selector(json!({"name": "web"}))];
        assert_eq!(rank(&object, &several), Some(Rank::Name));
        assert_eq!(rank(&object, &[]), None);
        assert_eq!(selected_by(&object, &[]), Some(Rank::Kind));
    }
}

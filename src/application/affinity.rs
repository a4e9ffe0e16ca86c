//! From Airdock's [`ClusterMatch`] to Karmada's [`ClusterAffinity`]. Pure.
//!
//! Both mean "everything that is given must hold", so a match is expressed by selectors alone and never needs
//! the list of clusters: a cluster that joins later is matched without a change of any policy. Karmada compares
//! zones by overlap since v1.15 (before that, every zone of the cluster had to be listed), which is what
//! [`ClusterMatch`] promises.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::common::ClusterMatch;
use crate::karmada::Cluster;
use crate::karmada::policy::{ClusterAffinity, ClusterField, FieldOperator, FieldRequirement, FieldSelector};

/// The affinity that selects what `matches` selects, less `exclude`. `None` when that is every cluster, which
/// is how a placement says so.
#[must_use]
pub fn affinity(matches: &ClusterMatch, exclude: &[String]) -> Option<ClusterAffinity> {
    let ClusterMatch { clusters, labels, regions, zones, providers } = matches;
    let fields: Vec<FieldRequirement> =
        [(ClusterField::Provider, providers), (ClusterField::Region, regions), (ClusterField::Zone, zones)]
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(key, values)| FieldRequirement { key, operator: FieldOperator::In, values: values.clone() })
            .collect();
    let affinity = ClusterAffinity {
        label_selector: (!labels.is_empty())
            .then(|| LabelSelector { match_labels: Some(labels.clone()), match_expressions: None }),
        field_selector: (!fields.is_empty()).then_some(FieldSelector { match_expressions: fields }),
        cluster_names: clusters.clone(),
        exclude: exclude.to_vec(),
    };
    (affinity != ClusterAffinity::default()).then_some(affinity)
}

/// Whether `cluster` is one of those that `matches` means; agrees with how [`affinity`] is evaluated.
#[must_use]
pub fn selects(matches: &ClusterMatch, cluster: &Cluster) -> bool {
    let ClusterMatch { clusters, labels, regions, zones, providers } = matches;
    let spec = &cluster.spec;
    let one_of = |wanted: &[String], actual: Option<&String>| {
        wanted.is_empty() || actual.is_some_and(|actual| wanted.contains(actual))
    };
    let label = |key: &String| cluster.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    one_of(clusters, cluster.metadata.name.as_ref())
        && labels.iter().all(|(key, value)| label(key) == Some(value))
        && one_of(regions, spec.region.as_ref())
        && one_of(providers, spec.provider.as_ref())
        && (zones.is_empty() || spec.zones.iter().any(|zone| zones.contains(zone)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::karmada::cluster::ClusterSpec;
    use serde_json::{Value, json};

    fn matches(value: Value) -> ClusterMatch {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_match_becomes_selectors() {
        let cases = [
            ("nothing given is every cluster", json!({}), vec![], Value::Null),
            ("names", json!({"clusters": ["a", "b"]}), vec![], json!({"clusterNames": ["a", "b"]})),
            (
                "labels",
                json!({"labels": {"env": "prod"}}),
                vec![],
                json!({"labelSelector": {"matchLabels": {"env": "prod"}}}),
            ),
            (
                "one field",
                json!({"regions": ["eu", "us"]}),
                vec![],
                json!({"fieldSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["eu", "us"]}]}}),
            ),
            (
                "fields together",
                json!({"zones": ["z1"], "providers": ["aws"], "regions": ["eu"]}),
                vec![],
                json!({"fieldSelector": {"matchExpressions": [
                    {"key": "provider", "operator": "In", "values": ["aws"]},
                    {"key": "region", "operator": "In", "values": ["eu"]},
                    {"key": "zone", "operator": "In", "values": ["z1"]},
                ]}}),
            ),
            ("only an exclusion", json!({}), vec!["c"], json!({"exclude": ["c"]})),
            (
                "everything",
                json!({"clusters": ["a"], "labels": {"env": "prod"}, "regions": ["eu"]}),
                vec!["c"],
                json!({
                    "clusterNames": ["a"],
                    "labelSelector": {"matchLabels": {"env": "prod"}},
                    "fieldSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["eu"]}]},
                    "exclude": ["c"],
                }),
            ),
        ];
        for (name, given, exclude, want) in cases {
            let exclude: Vec<String> = exclude.into_iter().map(str::to_owned).collect();
            let got = serde_json::to_value(affinity(&matches(given), &exclude)).unwrap();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn a_match_selects_clusters() {
        let mut cluster = Cluster::new(
            "a",
            ClusterSpec {
                provider: Some("aws".into()),
                region: Some("eu".into()),
                zones: vec!["z1".into(), "z2".into()],
                ..ClusterSpec::default()
            },
        );
        cluster.metadata.labels = Some([("env".to_owned(), "prod".to_owned())].into());
        let cases = [
            ("nothing given", json!({}), true),
            ("its name", json!({"clusters": ["b", "a"]}), true),
            ("other names", json!({"clusters": ["b"]}), false),
            ("its label", json!({"labels": {"env": "prod"}}), true),
            ("another value of its label", json!({"labels": {"env": "test"}}), false),
            ("a label it lacks", json!({"labels": {"env": "prod", "tier": "1"}}), false),
            ("one of its zones", json!({"zones": ["z2", "z9"]}), true),
            ("none of its zones", json!({"zones": ["z9"]}), false),
            ("its region but another provider", json!({"regions": ["eu"], "providers": ["gcp"]}), false),
            ("its region and provider", json!({"regions": ["eu"], "providers": ["gcp", "aws"]}), true),
        ];
        for (name, given, want) in cases {
            assert_eq!(selects(&matches(given), &cluster), want, "{name}");
        }
        let bare = Cluster::new("bare", ClusterSpec::default());
        for (name, given) in [
            ("region", json!({"regions": ["eu"]})),
            ("zone", json!({"zones": ["z1"]})),
            ("label", json!({"labels": {"a": "b"}})),
        ] {
            assert!(!selects(&matches(given), &bare), "a cluster without a {name} is not meant");
        }
    }
}

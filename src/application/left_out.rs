//! Why an application's placement leaves a cluster out, in terms of its own fields. Pure.

use crate::karmada::policy::{ClusterField, FieldRequirement};
use crate::placement::{AffinityMismatch, ClusterView};

/// Why a cluster is not selected, with the field, the value and what to do. The mismatch is one with the affinity that the
/// placement became.
#[must_use]
pub fn why_left_out(mismatch: &AffinityMismatch<'_>, cluster: &ClusterView) -> String {
    match mismatch {
        AffinityMismatch::Exclude => "spec.placement.exclude names it; remove it to run there".to_owned(),
        AffinityMismatch::ClusterNames(_) => {
            format!("{:?} is not in spec.placement.clusters; add it to run there", cluster.name)
        }
        AffinityMismatch::LabelSelector(selector) => {
            let mut wanted = selector.match_labels.iter().flatten();
            let missing = wanted.find(|(key, value)| cluster.labels.get(*key) != Some(*value));
            let missing = missing.map(|(key, value)| format!("{key}={value}")).unwrap_or_default();
            format!("has not the label {missing} of spec.placement.labels; label the cluster to run there")
        }
        AffinityMismatch::FieldSelector(FieldRequirement { key, .. }) => match key {
            ClusterField::Provider => why_not_one_of("provider", cluster.provider.as_slice()),
            ClusterField::Region => why_not_one_of("region", cluster.region.as_slice()),
            ClusterField::Zone => why_not_one_of("zone", &cluster.zones),
        },
    }
}

/// Why none of a cluster's values of a field is in the placement's list.
fn why_not_one_of(field: &str, values: &[String]) -> String {
    match values {
        [] => format!("has no {field}, and spec.placement.{field}s asks for one; set it in the MemberClusterJoin"),
        [value] => format!("{field} {value:?} is not in spec.placement.{field}s; add it to run there"),
        several => format!("none of the {field}s {several:?} is in spec.placement.{field}s; add one to run there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    use super::super::affinity::affinity;
    use crate::placement::affinity_mismatch;

    #[test]
    fn a_reason_names_the_field_the_value_and_the_remedy() {
        let cluster = ClusterView {
            name: "paris".into(),
            labels: [("tier".to_owned(), "edge".to_owned()), ("env".to_owned(), "prod".to_owned())].into(),
            region: Some("eu".into()),
            zones: vec!["eu-1".into(), "eu-2".into()],
            ..ClusterView::default()
        };
        for (matches, exclude, want) in [
            (json!({}), vec!["paris".to_owned()], "spec.placement.exclude names it; remove it to run there"),
            (json!({"clusters": ["rome"]}), vec![], "\"paris\" is not in spec.placement.clusters; add it to run there"),
            (
                json!({"labels": {"env": "prod", "tier": "core"}}),
                vec![],
                "has not the label tier=core of spec.placement.labels; label the cluster to run there",
            ),
            (json!({"regions": ["us"]}), vec![], "region \"eu\" is not in spec.placement.regions; add it to run there"),
            (
                json!({"zones": ["us-1"]}),
                vec![],
                "none of the zones [\"eu-1\", \"eu-2\"] is in spec.placement.zones; add one to run there",
            ),
            (
                json!({"regions": ["eu"], "providers": ["aurora"]}),
                vec![],
                "has no provider, and spec.placement.providers asks for one; set it in the MemberClusterJoin",
            ),
        ] {
            let affinity = affinity(&from_value(matches.clone()).unwrap(), &exclude).unwrap();
            let mismatch = affinity_mismatch(&affinity, &cluster).unwrap();
            assert_eq!(why_left_out(&mismatch, &cluster), want, "{matches}");
        }
    }
}

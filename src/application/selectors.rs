//! Entries of selectors that select no cluster, with the name that was probably meant. Pure.
//!
//! A placement that names one region that exists and one that does not is carried out for the first. Whoever mistyped the
//! second has to hear of it all the same.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::affinity::selects;
use crate::api::app::MultiCloudApp;
use crate::api::common::ClusterMatch;
use crate::karmada::Cluster;

/// Reason of the condition that names the entries.
pub const NOTHING_SELECTED: &str = "NothingSelected";

/// How many entries a message names.
const SELECTORS_SHOWN: usize = 5;

/// An entry that selects no cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnmatchedSelector {
    /// The field, as a path from the top of the object.
    pub field: String,
    /// Its value; absent when each value of the field is known, and no cluster has all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The known value that is nearest to it, when one is near.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl fmt::Display for UnmatchedSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, &self.nearest) {
            (Some(value), Some(nearest)) => write!(f, "{}: {value:?} (is {nearest:?} meant?)", self.field),
            (Some(value), None) => write!(f, "{}: {value:?}", self.field),
            (None, _) => write!(f, "{}: no cluster has all of it", self.field),
        }
    }
}

/// The entries of an application that select none of the clusters. While there are no clusters, nothing can be said.
#[must_use]
pub fn unmatched(app: &MultiCloudApp, clusters: &[Cluster]) -> Vec<UnmatchedSelector> {
    let placement = &app.spec.placement;
    let mut found = unmatched_by_placement(app, clusters);
    if !clusters.is_empty() {
        let names = known(clusters, |cluster| cluster.metadata.name.iter().collect());
        found.extend(unknown("spec.placement.exclude", &placement.exclude, &names));
    }
    for (w, weight) in placement.replicas.weights.iter().enumerate() {
        found.extend(unmatched_in(&format!("spec.placement.replicas.weights[{w}]"), &weight.matches, clusters));
    }
    for (d, difference) in app.spec.differences.iter().enumerate() {
        found.extend(unmatched_in(&format!("spec.differences[{d}].match"), &difference.matches, clusters));
    }
    found
}

/// The entries by which an application's placement selects none of the clusters.
#[must_use]
pub fn unmatched_by_placement(app: &MultiCloudApp, clusters: &[Cluster]) -> Vec<UnmatchedSelector> {
    unmatched_in("spec.placement", &app.spec.placement.matches, clusters)
}

/// The entries of one selector, at `field`, that select none of the clusters.
#[must_use]
pub fn unmatched_in(field: &str, matches: &ClusterMatch, clusters: &[Cluster]) -> Vec<UnmatchedSelector> {
    if clusters.is_empty() {
        return Vec::new();
    }
    let ClusterMatch { clusters: names, labels, regions, zones, providers } = matches;
    let mut found = Vec::new();
    for (list, values, have) in [
        ("clusters", names, known(clusters, |cluster| cluster.metadata.name.iter().collect())),
        ("regions", regions, known(clusters, |cluster| cluster.spec.region.iter().collect())),
        ("zones", zones, known(clusters, |cluster| cluster.spec.zones.iter().collect())),
        ("providers", providers, known(clusters, |cluster| cluster.spec.provider.iter().collect())),
    ] {
        found.extend(unknown(&format!("{field}.{list}"), values, &have));
    }
    found.extend(unknown_labels(field, labels, clusters));
    if found.is_empty() && !clusters.iter().any(|cluster| selects(matches, cluster)) {
        found.push(UnmatchedSelector { field: field.to_owned(), value: None, nearest: None });
    }
    found
}

/// The entries as one sentence.
#[must_use]
pub fn render_unmatched(unmatched: &[UnmatchedSelector]) -> String {
    let named: Vec<String> = unmatched.iter().take(SELECTORS_SHOWN).map(ToString::to_string).collect();
    let more = match unmatched.len().saturating_sub(SELECTORS_SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("no cluster is selected by {}{more}; correct or remove it", named.join("; "))
}

fn known<'a>(clusters: &'a [Cluster], of: impl Fn(&'a Cluster) -> Vec<&'a String>) -> Vec<&'a str> {
    let mut all: Vec<&str> = clusters.iter().flat_map(of).map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn unknown(field: &str, values: &[String], known: &[&str]) -> Vec<UnmatchedSelector> {
    let unknown = values.iter().enumerate().filter(|(_, value)| !known.contains(&value.as_str()));
    unknown
        .map(|(index, value)| UnmatchedSelector {
            field: format!("{field}[{index}]"),
            value: Some(value.clone()),
            nearest: nearest(value, known),
        })
        .collect()
}

fn unknown_labels(field: &str, labels: &BTreeMap<String, String>, clusters: &[Cluster]) -> Vec<UnmatchedSelector> {
    let of = |cluster: &Cluster, key: &str| cluster.metadata.labels.as_ref()?.get(key).cloned();
    let mut found = Vec::new();
    for (key, value) in labels {
        let mut values: Vec<String> = clusters.iter().filter_map(|cluster| of(cluster, key)).collect();
        values.sort();
        values.dedup();
        if values.is_empty() {
            let keys = known(clusters, |cluster| cluster.metadata.labels.iter().flat_map(BTreeMap::keys).collect());
            let (value, nearest) = (Some(key.clone()), nearest(key, &keys));
            found.push(UnmatchedSelector { field: format!("{field}.labels"), value, nearest });
        } else if !values.contains(value) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            found.push(UnmatchedSelector {
                field: format!("{field}.labels[{key}]"),
                value: Some(value.clone()),
                nearest: nearest(value, &values),
            });
        }
    }
    found
}

/// The known text that differs least, when it differs by no more than a slip of the fingers.
fn nearest(text: &str, known: &[&str]) -> Option<String> {
    let limit = (text.chars().count() / 3).max(1);
    known
        .iter()
        .map(|other| (strsim::damerau_levenshtein(&text.to_lowercase(), &other.to_lowercase()), *other))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, other)| other.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cluster(name: &str, region: &str, labels: Value) -> Cluster {
        serde_json::from_value(json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name, "labels": labels},
            "spec": {"syncMode": "Push", "region": region, "provider": "aurora", "zones": [format!("{region}-1")]},
        }))
        .unwrap()
    }

    fn fleet() -> Vec<Cluster> {
        vec![cluster("paris", "eu-west", json!({"tier": "gold"})), cluster("ohio", "us-east", json!({}))]
    }

    fn of(spec: Value) -> Vec<String> {
        let mut all = json!({"instanceRef": {"name": "fleet"}, "components": []});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let app: MultiCloudApp = serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp", "metadata": {"name": "shop"}, "spec": all,
        }))
        .unwrap();
        unmatched(&app, &fleet()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_selects_nothing_is_named_with_what_was_probably_meant() {
        let placement = |placement: Value| of(json!({"placement": placement}));
        for (name, got, want) in [
            ("nothing is given", of(json!({})), vec![]),
            ("all are known", placement(json!({"clusters": ["paris"], "regions": ["eu-west"]})), vec![]),
            (
                "a region beside a valid one",
                placement(json!({"regions": ["us-east", "eu-wset"]})),
                vec!["spec.placement.regions[1]: \"eu-wset\" (is \"eu-west\" meant?)"],
            ),
            (
                "a cluster, a zone, a provider, an exclusion",
                placement(
                    json!({"clusters": ["pariss"], "zones": ["eu-west-1", "x"], "providers": ["Aurora"], "exclude": ["oiho"]}),
                ),
                vec![
                    "spec.placement.clusters[0]: \"pariss\" (is \"paris\" meant?)",
                    "spec.placement.zones[1]: \"x\"",
                    "spec.placement.providers[0]: \"Aurora\" (is \"aurora\" meant?)",
                    "spec.placement.exclude[0]: \"oiho\" (is \"ohio\" meant?)",
                ],
            ),
            (
                "a label's value",
                placement(json!({"labels": {"tier": "glod"}})),
                vec!["spec.placement.labels[tier]: \"glod\" (is \"gold\" meant?)"],
            ),
            (
                "a label's key",
                placement(json!({"labels": {"teir": "gold"}})),
                vec!["spec.placement.labels: \"teir\" (is \"tier\" meant?)"],
            ),
            (
                "each is known, and no cluster has both",
                placement(json!({"clusters": ["paris"], "regions": ["us-east"]})),
                vec!["spec.placement: no cluster has all of it"],
            ),
            (
                "a weight",
                placement(
                    json!({"replicas": {"mode": "Weighted", "weights": [{"weight": 1}, {"clusters": ["moon"], "weight": 2}]}}),
                ),
                vec!["spec.placement.replicas.weights[1].clusters[0]: \"moon\""],
            ),
            (
                "a difference",
                of(json!({"differences": [{"match": {"regions": ["eu-west", "us-eats"]}, "replicas": 1}]})),
                vec!["spec.differences[0].match.regions[1]: \"us-eats\" (is \"us-east\" meant?)"],
            ),
        ] {
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn without_clusters_nothing_is_said() {
        let matches = ClusterMatch { clusters: vec!["paris".into()], ..ClusterMatch::default() };
        assert_eq!(unmatched_in("f", &matches, &[]), []);
    }

    #[test]
    fn many_are_counted() {
        let one = UnmatchedSelector { field: "f".into(), value: Some("x".into()), nearest: None };
        assert_eq!(
            render_unmatched(std::slice::from_ref(&one)),
            "no cluster is selected by f: \"x\"; correct or remove it"
        );
        assert!(render_unmatched(&vec![one; 7]).ends_with("; and 2 more; correct or remove it"));
    }
}

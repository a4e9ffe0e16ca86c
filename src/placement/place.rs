//! From a placement to clusters with replicas.

use std::collections::BTreeMap;
use std::fmt;

use super::cluster::ClusterView;
use super::selector::affinity_matches;
use super::taints::untolerated;
use super::weights::divide;
use crate::karmada::binding::TargetCluster;
use crate::karmada::policy::{Placement, ReplicaSchedulingType, StaticClusterWeight};

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// API version of the object.
    pub api_version: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// Uid of the object, which settles ties between weights.
    pub uid: Option<&'a str>,
    /// Its replicas, when its kind has any.
    pub replicas: Option<i64>,
    /// The rules.
    pub placement: &'a Placement,
    /// Where it is now: taints and missing kinds do not drive it away from there.
    pub previous: &'a [TargetCluster],
}

/// Where something was placed, and where not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    /// The clusters, sorted by name.
    pub targets: Vec<TargetCluster>,
    /// The others.
    pub excluded: Vec<Excluded>,
}

/// A cluster that something was not placed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Name of the cluster.
    pub cluster: String,
    /// Why, as a predicate of the cluster ("does not …").
    pub why: String,
}

/// Why something was placed nowhere.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No cluster fits.
    #[error("0/{} clusters are available: {}", .0.len(), Grouped(.0))]
    NoClusterFit(Vec<Excluded>),
}

impl Refusal {
    /// Reason of the `Scheduled` condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoClusterFit(_) => "NoClusterFit",
        }
    }
}

/// Exclusions by reason, so that a hundred clusters make one readable line.
struct Grouped<'a>(&'a [Excluded]);

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no cluster has joined");
        }
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for excluded in self.0 {
            reasons.entry(&excluded.why).or_default().push(&excluded.cluster);
        }
        for (n, (why, clusters)) in reasons.iter().enumerate() {
            let shown = clusters.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            let more = if clusters.len() > 5 { ", …" } else { "" };
            let comma = if n > 0 { "; " } else { "" };
            write!(f, "{comma}{} {why} ({shown}{more})", clusters.len())?;
        }
        Ok(())
    }
}

/// Chooses clusters and divides replicas among them.
pub fn place(request: &Request<'_>, clusters: &[ClusterView]) -> Result<Placed, Refusal> {
    let mut excluded = Vec::new();
    let mut fitting: Vec<&ClusterView> = Vec::new();
    for cluster in clusters {
        match misfit(request, cluster) {
            Some(why) => excluded.push(Excluded { cluster: cluster.name.clone(), why }),
            None => fitting.push(cluster),
        }
    }
    fitting.sort_by(|a, b| a.name.cmp(&b.name));
    if fitting.is_empty() {
        return Err(Refusal::NoClusterFit(excluded));
    }
    let targets: Vec<TargetCluster> = match (request.replicas, &request.placement.replica_scheduling) {
        (None, _) => everywhere(&fitting, None),
        // An object that is scaled to zero stays where it may be.
        (Some(0), _) => everywhere(&fitting, Some(0)),
        (Some(replicas), Some(scheduling)) if scheduling.replica_scheduling_type == ReplicaSchedulingType::Divided => {
            let preference = scheduling.weight_preference.as_ref();
            divided(request, replicas, &fitting, preference.map_or(&[], |p| &p.static_weight_list))
        }
        (Some(replicas), _) => everywhere(&fitting, Some(replicas)),
    };
    for cluster in &fitting {
        if !targets.iter().any(|target| target.name == cluster.name) {
            let why = "got no replica by its weight".to_owned();
            excluded.push(Excluded { cluster: cluster.name.clone(), why });
        }
    }
    excluded.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Ok(Placed { targets, excluded })
}

fn misfit(request: &Request<'_>, cluster: &ClusterView) -> Option<String> {
    if cluster.leaving {
        return Some("is leaving".to_owned());
    }
    let affinity = request.placement.cluster_affinity.as_ref();
    if affinity.is_some_and(|affinity| !affinity_matches(affinity, cluster)) {
        return Some("did not match the placement's cluster affinity".to_owned());
    }
    if request.previous.iter().any(|target| target.name == cluster.name) {
        return None;
    }
    if cluster.serves(request.api_version, request.kind) == Some(false) {
        return Some(format!("did not serve {} {}", request.api_version, request.kind));
    }
    untolerated(cluster, &request.placement.cluster_tolerations)
        .map(|taint| format!("had the untolerated taint {{{taint}}}"))
}

fn everywhere(clusters: &[&ClusterView], replicas: Option<i64>) -> Vec<TargetCluster> {
    clusters.iter().map(|cluster| target(&cluster.name, replicas)).collect()
}

fn divided(
    request: &Request<'_>,
    replicas: i64,
    clusters: &[&ClusterView],
    rules: &[StaticClusterWeight],
) -> Vec<TargetCluster> {
    let weight = |cluster: &ClusterView| {
        let matching = rules.iter().filter(|rule| affinity_matches(&rule.target_cluster, cluster));
        matching.map(|rule| rule.weight).max().unwrap_or(0)
    };
    let mut weights: Vec<(&str, i64)> =
        clusters.iter().map(|cluster| (cluster.name.as_str(), weight(cluster))).collect();
    if weights.iter().all(|(_, weight)| *weight <= 0) {
        weights.iter_mut().for_each(|(_, weight)| *weight = 1);
    }
    divide(replicas, &weights, request.uid)
        .into_iter()
        .filter(|(_, replicas)| *replicas > 0)
        .map(|(name, replicas)| target(&name, Some(replicas)))
        .collect()
}

fn target(name: &str, replicas: Option<i64>) -> TargetCluster {
    let replicas = replicas.map(|replicas| i32::try_from(replicas).unwrap_or(i32::MAX));
    TargetCluster { name: name.to_owned(), replicas }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Health;
    use super::*;
    use crate::karmada::cluster::{ApiEnablement, ApiResourceName};
    use serde_json::{Value, from_value, json};

    fn clusters() -> Vec<ClusterView> {
        ["c", "a", "b"].map(|name| ClusterView { name: name.into(), ..ClusterView::default() }).into()
    }

    fn placed(
        replicas: Option<i64>,
        placement: &Value,
        clusters: &[ClusterView],
        previous: &[&str],
    ) -> Result<Placed, Refusal> {
        let placement: Placement = from_value(placement.clone()).unwrap();
        let previous: Vec<_> = previous.iter().map(|name| target(name, None)).collect();
        let request = Request {
            api_version: "apps/v1",
            kind: "Deployment",
            uid: None,
            replicas,
            placement: &placement,
            previous: &previous,
        };
        place(&request, clusters)
    }

    fn targets(replicas: Option<i64>, placement: Value) -> Vec<(String, Option<i32>)> {
        let placed = placed(replicas, &placement, &clusters(), &[]).unwrap();
        placed.targets.into_iter().map(|target| (target.name, target.replicas)).collect()
    }

    fn named(list: &[(&str, Option<i32>)]) -> Vec<(String, Option<i32>)> {
        list.iter().map(|(name, replicas)| ((*name).to_owned(), *replicas)).collect()
    }

    #[test]
    fn replicas() {
        let weighted = |rules: Value| {
            json!({"replicaScheduling": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted",
                "weightPreference": {"staticWeightList": rules}}})
        };
        let duplicated = json!({"replicaScheduling": {"replicaSchedulingType": "Duplicated"}});
        for (replicas, placement, expected) in [
            (None, json!({}), vec![("a", None), ("b", None), ("c", None)]),
            (Some(4), json!({}), vec![("a", Some(4)), ("b", Some(4)), ("c", Some(4))]),
            (Some(4), duplicated, vec![("a", Some(4)), ("b", Some(4)), ("c", Some(4))]),
            (Some(4), weighted(json!([])), vec![("a", Some(2)), ("b", Some(1)), ("c", Some(1))]),
            (Some(2), weighted(json!([])), vec![("a", Some(1)), ("b", Some(1))]),
            (Some(0), weighted(json!([])), vec![("a", Some(0)), ("b", Some(0)), ("c", Some(0))]),
            (None, weighted(json!([])), vec![("a", None), ("b", None), ("c", None)]),
            (
                Some(6),
                weighted(json!([
                    {"targetCluster": {"clusterNames": ["a"]}, "weight": 1},
                    {"targetCluster": {"clusterNames": ["a", "b"]}, "weight": 2},
                ])),
                vec![("a", Some(3)), ("b", Some(3))],
            ),
            (Some(3), json!({"clusterAffinity": {"clusterNames": ["b"]}}), vec![("b", Some(3))]),
        ] {
            assert_eq!(targets(replicas, placement.clone()), named(&expected), "{replicas:?} {placement}");
        }
    }

    #[test]
    fn says_why_each_cluster_is_out() {
        let mut clusters = clusters();
        clusters[0].served = vec![ApiEnablement {
            group_version: "v1".into(),
            resources: vec![ApiResourceName { name: "pods".into(), kind: "Pod".into() }],
        }];
        clusters[1].health = Health::NotReady;
        clusters[2].leaving = true;
        let refusal = placed(None, &json!({}), &clusters, &[]).unwrap_err();
        assert_eq!(refusal.reason(), "NoClusterFit");
        assert_eq!(
            refusal.to_string(),
            "0/3 clusters are available: 1 did not serve apps/v1 Deployment (c); \
             1 had the untolerated taint {cluster.karmada.io/not-ready:NoSchedule} (a); 1 is leaving (b)"
        );
        assert_eq!(
            placed(None, &json!({}), &[], &[]).unwrap_err().to_string(),
            "0/0 clusters are available: no cluster has joined"
        );
    }

    #[test]
    fn stays_where_it_is_despite_taints_but_not_against_the_affinity() {
        let mut clusters = clusters();
        clusters[1].health = Health::NotReady;
        let names = |placed: Placed| placed.targets.into_iter().map(|t| t.name).collect::<Vec<_>>();
        assert_eq!(names(placed(None, &json!({}), &clusters, &[]).unwrap()), ["b", "c"]);
        assert_eq!(names(placed(None, &json!({}), &clusters, &["a"]).unwrap()), ["a", "b", "c"]);
        let only_b = json!({"clusterAffinity": {"clusterNames": ["b"]}});
        assert_eq!(names(placed(None, &only_b, &clusters, &["a", "b"]).unwrap()), ["b"]);
    }
}

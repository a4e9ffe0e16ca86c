//! From a placement to clusters with replicas.

use super::cluster::ClusterView;
use super::outcome::{Excluded, Placed, Refusal};
use super::selector::affinity_matches;
use super::taints::untolerated;
use super::weights::divide;
use crate::karmada::binding::{BindingSpec, TargetCluster};
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
    /// Where it is now.
    pub previous: Previous<'a>,
}

impl<'a> Request<'a> {
    /// What is to be placed by a binding; anywhere, when it has no rules.
    #[must_use]
    pub fn of(spec: &'a BindingSpec, previous: Previous<'a>) -> Self {
        static ANYWHERE: Placement =
            Placement { cluster_affinity: None, cluster_tolerations: Vec::new(), replica_scheduling: None };
        Self {
            api_version: &spec.resource.api_version,
            kind: &spec.resource.kind,
            uid: spec.resource.uid.as_deref(),
            replicas: spec.replicas.map(i64::from),
            placement: spec.placement.as_deref().unwrap_or(&ANYWHERE),
            previous,
        }
    }
}

/// The last decision about an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Previous<'a> {
    /// The clusters: taints and missing kinds do not drive the object away from there.
    pub targets: &'a [TargetCluster],
    /// The rules that led to them.
    pub placement: Option<&'a Placement>,
}

impl<'a> From<&'a BindingSpec> for Previous<'a> {
    fn from(spec: &'a BindingSpec) -> Self {
        Self { targets: &spec.clusters, placement: spec.placement.as_deref() }
    }
}

/// Chooses clusters and divides replicas among them.
///
/// Replicas that are divided stay where they are until the rules or the number of replicas change, or one of their
/// clusters leaves: a cluster that joins, is relabelled or comes back does not move running pods. Everything else goes
/// to each cluster that fits now.
pub fn place<'c>(
    request: &Request<'_>,
    clusters: impl IntoIterator<Item = &'c ClusterView>,
) -> Result<Placed, Refusal> {
    let clusters: Vec<&ClusterView> = clusters.into_iter().collect();
    if is_settled(request, &clusters) {
        return Ok(stay(request, &clusters));
    }
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
    let targets: Vec<TargetCluster> = match divided_replicas(request) {
        Some(replicas) => {
            let scheduling = request.placement.replica_scheduling.as_ref();
            let preference = scheduling.and_then(|scheduling| scheduling.weight_preference.as_ref());
            divide_by_weight(request, replicas, &fitting, preference.map_or(&[], |p| &p.static_weight_list))
        }
        None => everywhere(&where_scaled_to_zero(request, &fitting), request.replicas),
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

/// Where an object goes whose replicas are not divided: everywhere. One that was divided and is scaled to zero stays where
/// it was, rather than appear in clusters that had no share of it.
fn where_scaled_to_zero<'c>(request: &Request<'_>, fitting: &[&'c ClusterView]) -> Vec<&'c ClusterView> {
    let is_previous = |cluster: &&&ClusterView| request.previous.targets.iter().any(|t| t.name == cluster.name);
    let staying: Vec<_> = fitting.iter().filter(is_previous).copied().collect();
    let scheduling = request.placement.replica_scheduling.as_ref();
    let is_divided = scheduling.is_some_and(|s| s.replica_scheduling_type == ReplicaSchedulingType::Divided);
    if is_divided && request.replicas == Some(0) && !staying.is_empty() { staying } else { fitting.to_vec() }
}

/// The replicas of an object whose replicas are divided. Those of an object that is scaled to zero are not.
fn divided_replicas(request: &Request<'_>) -> Option<i64> {
    let scheduling = request.placement.replica_scheduling.as_ref()?;
    let divided = scheduling.replica_scheduling_type == ReplicaSchedulingType::Divided;
    request.replicas.filter(|replicas| divided && *replicas > 0)
}

/// Whether the last division still holds.
fn is_settled(request: &Request<'_>, clusters: &[&ClusterView]) -> bool {
    let Previous { targets, placement } = request.previous;
    let Some(replicas) = divided_replicas(request) else { return false };
    let stays = |target: &TargetCluster| clusters.iter().any(|view| view.name == target.name && !view.leaving);
    let assigned: i64 = targets.iter().map(|target| i64::from(target.replicas.unwrap_or(0))).sum();
    placement == Some(request.placement) && assigned == replicas && targets.iter().all(stays)
}

fn stay(request: &Request<'_>, clusters: &[&ClusterView]) -> Placed {
    let mut targets = request.previous.targets.to_vec();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    let others = clusters.iter().filter(|cluster| !targets.iter().any(|target| target.name == cluster.name));
    let mut excluded: Vec<Excluded> = others
        .map(|cluster| Excluded {
            cluster: cluster.name.clone(),
            why: misfit(request, cluster).unwrap_or_else(|| "came after the replicas were divided".to_owned()),
        })
        .collect();
    excluded.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Placed { targets, excluded }
}

fn misfit(request: &Request<'_>, cluster: &ClusterView) -> Option<String> {
    if cluster.leaving {
        return Some("is leaving".to_owned());
    }
    let affinity = request.placement.cluster_affinity.as_ref();
    if affinity.is_some_and(|affinity| !affinity_matches(affinity, cluster)) {
        return Some("did not match the placement's cluster affinity".to_owned());
    }
    if request.previous.targets.iter().any(|target| target.name == cluster.name) {
        return None;
    }
    if cluster.serves(request.api_version, request.kind) == Some(false) {
        return Some(format!("did not serve {} {}", request.api_version, request.kind));
    }
    untolerated(cluster, &request.placement.cluster_tolerations)
        .map(|taint| format!("had the untolerated taint {{{taint}}}"))
}

/// Whether a change of one cluster may lead to other clusters than those of a binding, or to another refusal; without a
/// view the cluster is not there. Whoever is to leave its clusters is for others to find.
#[must_use]
pub fn is_reached(
    spec: &BindingSpec,
    before: Option<&ClusterView>,
    after: Option<&ClusterView>,
    is_refused: bool,
) -> bool {
    let request = Request::of(spec, Previous::from(spec));
    let why_not = |view: Option<&ClusterView>| view.map(|view| misfit(&request, view));
    let fits = |why_not: &Option<Option<String>>| matches!(why_not, Some(None));
    let (before, after) = (why_not(before), why_not(after));
    // A refusal names every cluster, and why it does not fit.
    fits(&before) != fits(&after) || (is_refused && before != after)
}

fn everywhere(clusters: &[&ClusterView], replicas: Option<i64>) -> Vec<TargetCluster> {
    clusters.iter().map(|cluster| target(&cluster.name, replicas)).collect()
}

fn divide_by_weight(
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
            previous: Previous { targets: &previous, placement: None },
        };
        place(&request, clusters)
    }

    /// Cluster a in every state that placement tells apart.
    fn states() -> Vec<Option<ClusterView>> {
        let ready = ClusterView { name: "a".into(), ..ClusterView::default() };
        let enablement = |kind: &str| ApiEnablement {
            group_version: "apps/v1".into(),
            resources: vec![ApiResourceName { kind: kind.into(), ..ApiResourceName::default() }],
        };
        let mut states = vec![ready.clone(); 7];
        states[1].health = Health::NotReady;
        states[2].labels.insert("tier".into(), "edge".into());
        states[3].taints = from_value(json!([{"key": "k", "effect": "NoSchedule"}])).unwrap();
        states[4].region = Some("eu".into());
        states[5].leaving = true;
        states[6].served = vec![enablement("StatefulSet")];
        states.into_iter().map(Some).chain([None]).collect()
    }

    #[test]
    fn what_a_change_does_not_reach_stays_as_it_is() {
        let other = ClusterView {
            name: "b".into(),
            labels: [("tier".to_owned(), "edge".to_owned())].into(),
            region: Some("eu".into()),
            ..ClusterView::default()
        };
        let divided =
            json!({"replicaScheduling": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"}});
        let placements = [
            json!({}),
            json!({"clusterAffinity": {"labelSelector": {"matchLabels": {"tier": "edge"}}}}),
            json!({"clusterAffinity": {"clusterNames": ["a"]}}),
            json!({"clusterAffinity": {"exclude": ["a"]}}),
            json!({"clusterAffinity": {"fieldSelector": {"matchExpressions":
                [{"key": "region", "operator": "In", "values": ["eu"]}]}}}),
            json!({"clusterTolerations": [{"operator": "Exists"}]}),
            divided,
        ];
        let outcome = |spec: &BindingSpec, views: &[&ClusterView]| {
            let placed = place(&Request::of(spec, Previous::from(spec)), views.iter().copied());
            placed.map(|placed| placed.targets).map_err(|refusal| refusal.to_string())
        };
        let (mut reached, mut unreached) = (0, 0);
        for (placement, others) in
            placements.iter().flat_map(|placement| [(placement, vec![]), (placement, vec![&other])])
        {
            for (before, after) in
                states().iter().flat_map(|before| states().into_iter().map(move |after| (before, after)))
            {
                let views = |a: Option<&'_ ClusterView>| -> Vec<ClusterView> {
                    others.iter().copied().chain(a).cloned().collect()
                };
                let (first, second) = (views(before.as_ref()), views(after.as_ref()));
                let mut spec = BindingSpec {
                    replicas: Some(6),
                    placement: Some(from_value(placement.clone()).unwrap()),
                    ..BindingSpec::default()
                };
                (spec.resource.api_version, spec.resource.kind) = ("apps/v1".into(), "Deployment".into());
                spec.clusters = outcome(&spec, &first.iter().collect::<Vec<_>>()).unwrap_or_default().into();
                let settled = outcome(&spec, &first.iter().collect::<Vec<_>>());
                let leaves =
                    after.as_ref().is_none_or(|after| before.as_ref().is_none_or(|b| b.leaving != after.leaving));
                let is_in = spec.clusters.iter().any(|target| target.name == "a");
                if (leaves && is_in) || is_reached(&spec, before.as_ref(), after.as_ref(), settled.is_err()) {
                    reached += 1;
                    continue;
                }
                unreached += 1;
                let next = outcome(&spec, &second.iter().collect::<Vec<_>>());
                assert_eq!(next, settled, "{placement}: {before:?} to {after:?}");
            }
        }
        assert!(unreached > reached, "{reached} of {} changes matter", reached + unreached);
    }

    /// Places six replicas 1:2 over a and b, changes something, and places again.
    #[derive(Default)]
    struct Change {
        replicas: Option<i64>,
        placement: Option<Value>,
        labels: Option<[&'static str; 2]>,
        taint: Option<&'static str>,
        joins: Option<&'static str>,
        leaves: Option<&'static str>,
        gone: Option<&'static str>,
    }

    fn after(kind: &str, change: &Change) -> Vec<(String, Option<i32>)> {
        let placement = |rules: &Value| -> Placement {
            from_value(json!({"clusterAffinity": {"labelSelector": {"matchLabels": {"tier": "edge"}}},
                "replicaScheduling": {"replicaSchedulingType": kind, "replicaDivisionPreference": "Weighted",
                    "weightPreference": {"staticWeightList": rules}}}))
            .unwrap()
        };
        let weights = json!([{"targetCluster": {"clusterNames": ["a"]}, "weight": 1},
            {"targetCluster": {"clusterNames": ["b", "c"]}, "weight": 2}]);
        let view = |name: &str| ClusterView {
            name: name.into(),
            labels: [("tier".to_owned(), "edge".to_owned())].into(),
            ..ClusterView::default()
        };
        let mut clusters = vec![view("a"), view("b")];
        let (first, second) = (placement(&weights), placement(change.placement.as_ref().unwrap_or(&weights)));
        let mut request = Request {
            api_version: "apps/v1",
            kind: "Deployment",
            uid: None,
            replicas: Some(6),
            placement: &first,
            previous: Previous::default(),
        };
        let before = place(&request, &clusters).unwrap().targets;
        request.previous = Previous { targets: &before, placement: Some(&first) };
        request.placement = &second;
        request.replicas = change.replicas.or(Some(6));
        clusters.extend(change.joins.map(view));
        for cluster in &mut clusters {
            if let Some([_, tier]) = change.labels.filter(|[name, _]| *name == cluster.name) {
                cluster.labels.insert("tier".to_owned(), tier.to_owned());
            }
            if change.taint == Some(cluster.name.as_str()) {
                cluster.health = Health::NotReady;
            }
            cluster.leaving = change.leaves == Some(cluster.name.as_str());
        }
        clusters.retain(|cluster| change.gone != Some(cluster.name.as_str()));
        let placed = place(&request, &clusters).unwrap();
        assert_eq!(placed.targets.len() + placed.excluded.len(), clusters.len(), "each cluster is in one of the lists");
        placed.targets.into_iter().map(|target| (target.name, target.replicas)).collect()
    }

    #[test]
    fn a_division_is_steady() {
        let same = vec![("a", Some(2)), ("b", Some(4))];
        for (what, change, expected) in [
            ("nothing", Change::default(), same.clone()),
            ("a cluster joins", Change { joins: Some("c"), ..Change::default() }, same.clone()),
            ("one no longer matches", Change { labels: Some(["b", "core"]), ..Change::default() }, same.clone()),
            ("one is not ready", Change { taint: Some("b"), ..Change::default() }, same.clone()),
            (
                "one leaves",
                Change { leaves: Some("b"), joins: Some("c"), ..Change::default() },
                vec![("a", Some(2)), ("c", Some(4))],
            ),
            ("one is gone", Change { gone: Some("b"), ..Change::default() }, vec![("a", Some(6))]),
            (
                "scaled up",
                Change { replicas: Some(10), joins: Some("c"), ..Change::default() },
                vec![("a", Some(2)), ("b", Some(4)), ("c", Some(4))],
            ),
            ("scaled down", Change { replicas: Some(3), ..Change::default() }, vec![("a", Some(1)), ("b", Some(2))]),
            (
                "to zero",
                Change { replicas: Some(0), joins: Some("c"), ..Change::default() },
                vec![("a", Some(0)), ("b", Some(0))],
            ),
            (
                "other weights",
                Change { placement: Some(json!([])), ..Change::default() },
                vec![("a", Some(3)), ("b", Some(3))],
            ),
        ] {
            assert_eq!(after("Divided", &change), named(&expected), "{what}");
        }
    }

    #[test]
    fn what_is_duplicated_follows_the_clusters() {
        for (what, change, expected) in [
            ("a cluster joins", Change { joins: Some("c"), ..Change::default() }, vec!["a", "b", "c"]),
            ("one no longer matches", Change { labels: Some(["b", "core"]), ..Change::default() }, vec!["a"]),
            ("one is not ready", Change { taint: Some("b"), ..Change::default() }, vec!["a", "b"]),
            ("one leaves", Change { leaves: Some("b"), ..Change::default() }, vec!["a"]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|name| (name, Some(6))).collect();
            assert_eq!(after("Duplicated", &change), named(&expected), "{what}");
        }
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

mod steadiness;

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
) -> Result<Placed, FitError> {
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
        placed.map(|placed| placed.targets).map_err(|error| error.to_string())
    };
    let (mut reached, mut unreached) = (0, 0);
    for (placement, others) in placements.iter().flat_map(|placement| [(placement, vec![]), (placement, vec![&other])])
    {
        for (before, after) in states().iter().flat_map(|before| states().into_iter().map(move |after| (before, after)))
        {
            let views =
                |a: Option<&'_ ClusterView>| -> Vec<ClusterView> { others.iter().copied().chain(a).cloned().collect() };
            let (first, second) = (views(before.as_ref()), views(after.as_ref()));
            let mut spec = BindingSpec {
                replicas: Some(6),
                placement: Some(from_value(placement.clone()).unwrap()),
                ..BindingSpec::default()
            };
            (spec.resource.api_version, spec.resource.kind) = ("apps/v1".into(), "Deployment".into());
            spec.clusters = outcome(&spec, &first.iter().collect::<Vec<_>>()).unwrap_or_default().into();
            let settled = outcome(&spec, &first.iter().collect::<Vec<_>>());
            let leaves = after.as_ref().is_none_or(|after| before.as_ref().is_none_or(|b| b.leaving != after.leaving));
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
    let error = placed(None, &json!({}), &clusters, &[]).unwrap_err();
    assert_eq!(error.reason(), "NoClusterFit");
    assert_eq!(
        error.to_string(),
        "0/3 clusters are available: 1 did not serve apps/v1 Deployment (c); \
         1 had the untolerated taint {cluster.karmada.io/not-ready:NoSchedule} (a); 1 is leaving (b); \
         change the placement or the clusters"
    );
    assert_eq!(
        placed(None, &json!({}), &[], &[]).unwrap_err().to_string(),
        "0/0 clusters are available: no cluster has joined; join one"
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

//! What becomes of a placement when something changes.

use super::*;

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

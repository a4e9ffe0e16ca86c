use super::*;
use serde_json::json;

use crate::application::model::Tenancy;
use crate::application::validate::validate;

fn cluster(name: &str, ready: &str) -> Cluster {
    serde_json::from_value(json!({
        "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
        "spec": {"syncMode": "Push"},
        "status": {"conditions": [{
            "type": "Ready", "status": ready, "reason": "Probe", "message": "connection refused",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    }))
    .unwrap()
}

fn binding(clusters: Value, status: Value) -> ResourceBinding {
    serde_json::from_value(json!({
        "apiVersion": "work.karmada.io/v1alpha2", "kind": "ResourceBinding", "metadata": {"name": "web-deployment"},
        "spec": {"resource": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "clusters": clusters},
        "status": status,
    }))
    .unwrap()
}

fn app(mode: &str) -> (MultiCloudApp, Vec<Template>) {
    let app: MultiCloudApp = serde_json::from_value(json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": "shop", "namespace": "team"},
        "spec": {
            "instanceRef": {"name": "fleet"},
            "components": [
                {"name": "web", "manifests": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 4}}]},
                {"name": "config", "manifests": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}}]},
            ],
            "placement": {"replicas": {"mode": mode}},
            "differences": if mode == "Weighted" { json!([]) } else { json!([{"match": {"clusters": ["b"]}, "replicas": 2}]) },
        },
    }))
    .unwrap();
    let templates = validate(&app, Tenancy::Owner).unwrap().templates;
    (app, templates)
}

fn healthy(name: &str, ready: i32) -> Value {
    json!({"clusterName": name, "applied": true, "health": "Healthy", "status": {"readyReplicas": ready, "replicas": ready}})
}

fn plain(names: &[&str]) -> ResourceBinding {
    let items: Vec<Value> =
        names.iter().map(|name| json!({"clusterName": name, "applied": true, "health": "Healthy"})).collect();
    let clusters: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    binding(json!(clusters), json!({"aggregatedStatus": items}))
}

/// Reads the status of the two templates with these bindings, the Deployment's template at generation 2.
fn reading(
    mode: &str,
    clusters: &[Cluster],
    bindings: [Option<&ResourceBinding>; 2],
) -> (MultiCloudAppStatus, Verdict) {
    let (app, templates) = app(mode);
    let rollouts: Vec<RolloutStatus<'_>> = templates
        .iter()
        .zip(bindings)
        .map(|(template, binding)| RolloutStatus { template, generation: Some(2), binding, unreadable: None })
        .collect();
    let mut status = MultiCloudAppStatus::default();
    let verdict = read(&app, clusters, &rollouts, &mut status);
    (status, verdict)
}

fn fleet() -> [Cluster; 2] {
    [cluster("a", "True"), cluster("b", "True")]
}

#[test]
fn all_healthy_is_ready() {
    let deployment = binding(
        json!([{"name": "b", "replicas": 4}, {"name": "a", "replicas": 4}]),
        json!({"aggregatedStatus": [healthy("a", 4), healthy("b", 2)]}),
    );
    let (status, verdict) = reading("Duplicated", &fleet(), [Some(&deployment), Some(&plain(&["a", "b"]))]);
    assert_eq!(verdict, Verdict::Ready { reason: "Running", message: "runs in a, b".into() });
    assert_eq!(status.clusters_ready.as_deref(), Some("2/2"));
    assert_eq!(status.replicas_ready.as_deref(), Some("6/6"), "b wants two, by its difference");
    assert_eq!(status.clusters[1].replicas, ReadyCount { total: 2, ready: 2 });
    assert_eq!(status.components[0].name, "web");
    assert_eq!(status.components[0].replicas, ReadyCount { total: 6, ready: 6 });
    assert_eq!((status.components[1].health, status.components[1].replicas), (Health::Healthy, ReadyCount::default()));
}

#[test]
fn divided_replicas_are_counted_by_share() {
    let deployment = binding(
        json!([{"name": "a", "replicas": 3}, {"name": "b", "replicas": 1}]),
        json!({"aggregatedStatus": [healthy("a", 3), healthy("b", 1)]}),
    );
    let (status, _) = reading("Weighted", &fleet(), [Some(&deployment), Some(&plain(&["a", "b"]))]);
    assert_eq!(status.replicas_ready.as_deref(), Some("4/4"));
}

#[test]
fn the_first_failing_cluster_is_named() {
    let targets = json!([{"name": "a", "replicas": 4}, {"name": "b", "replicas": 4}]);
    let ok = || healthy("a", 4);
    for (name, other, cluster_b, want_ready, want) in [
        (
            "not healthy",
            json!({"clusterName": "b", "applied": true, "health": "Unhealthy", "status": {"readyReplicas": 1}}),
            "True",
            "1/2",
            Verdict::NotReady { reason: "Unhealthy", message: "b: Deployment web: 1 of 2 replicas are ready".into() },
        ),
        (
            "refused",
            json!({"clusterName": "b", "applied": false, "appliedMessage": "quota exceeded"}),
            "True",
            "1/2",
            Verdict::NotReady { reason: "ApplyFailed", message: "b: Deployment web: quota exceeded".into() },
        ),
        (
            "not there yet",
            json!({"clusterName": "b", "applied": false}),
            "True",
            "1/2",
            progressing("b: Deployment web is not applied yet".into()),
        ),
        (
            "still the old one",
            json!({"clusterName": "b", "applied": true, "health": "Healthy", "status": {"readyReplicas": 2, "resourceTemplateGeneration": 1}}),
            "True",
            "1/2",
            progressing("b: Deployment web is being updated".into()),
        ),
        (
            "health unknown",
            json!({"clusterName": "b", "applied": true}),
            "True",
            "1/2",
            progressing("b: Deployment web: its health is not known yet".into()),
        ),
        (
            "cluster away",
            healthy("b", 2),
            "False",
            "1/2",
            Verdict::NotReady {
                reason: "ClusterNotReady",
                message: "b: the cluster is not ready: connection refused".into(),
            },
        ),
    ] {
        let deployment = binding(targets.clone(), json!({"aggregatedStatus": [ok(), other]}));
        let clusters = [cluster("a", "True"), cluster("b", cluster_b)];
        let (status, verdict) = reading("Duplicated", &clusters, [Some(&deployment), Some(&plain(&["a", "b"]))]);
        assert_eq!(verdict, want, "{name}");
        assert_eq!(status.clusters_ready.as_deref(), Some(want_ready), "{name}");
        assert_eq!(status.clusters[0].message, None, "{name}");
        assert!(status.clusters[1].message.is_some(), "{name}");
    }
}

#[test]
fn what_is_placed_nowhere_is_said() {
    let (status, verdict) = reading("Duplicated", &fleet(), [None, None]);
    assert_eq!(verdict, progressing("waiting for the plane to place Deployment web".into()));
    assert_eq!(status.clusters_ready.as_deref(), Some("0/0"));
    let refused = binding(
        json!([]),
        json!({"conditions": [{
            "type": "Scheduled", "status": "False", "reason": "NoClusterFit", "message": "0/2 clusters are available",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}),
    );
    let (_, verdict) = reading("Duplicated", &fleet(), [Some(&refused), None]);
    let message = "Deployment web is placed in no cluster: 0/2 clusters are available".into();
    assert_eq!(verdict, Verdict::NotReady { reason: "NotPlaced", message });
    let (_, verdict) = reading("Duplicated", &fleet(), [Some(&binding(json!([]), json!({}))), None]);
    assert!(matches!(verdict, Verdict::Progressing { .. }));
}

#[test]
fn a_binding_that_cannot_be_read_costs_its_own_template_alone() {
    let (app, templates) = app("Duplicated");
    let config = plain(&["a", "b"]);
    let rollouts = [(None, Some("it is nested too deep")), (Some(&config), None)];
    let rollouts: Vec<RolloutStatus<'_>> = templates
        .iter()
        .zip(rollouts)
        .map(|(template, (binding, unreadable))| RolloutStatus { template, generation: Some(2), binding, unreadable })
        .collect();
    let mut status = MultiCloudAppStatus::default();
    let verdict = read(&app, &fleet(), &rollouts, &mut status);
    let message = "Deployment web: it is nested too deep".into();
    assert_eq!(verdict, Verdict::NotReady { reason: "ObjectUnreadable", message });
    assert_eq!(status.components[1].health, Health::Healthy);
}

#[test]
fn several_failing_clusters_are_counted() {
    let names = ["a", "b", "c"];
    let deployment = binding(json!(names.map(|name| json!({"name": name}))), json!({}));
    let (status, verdict) = reading("Duplicated", &[], [Some(&deployment), Some(&plain(&names))]);
    assert_eq!(verdict, progressing("a: Deployment web is not applied yet (and 2 more clusters)".into()));
    assert_eq!(status.clusters_ready.as_deref(), Some("0/3"));
    assert_eq!(status.components[0].health, Health::Unknown);
}

use super::*;
use serde_json::Value;

use crate::application::fixtures::{self, cluster};
use crate::application::model::{HostNamespace, Tenancy};
use crate::application::validate::validate;

fn fleet() -> Vec<Cluster> {
    vec![
        cluster("a", json!({"region": "eu", "provider": "aws"})),
        cluster("b", json!({"region": "eu", "provider": "gcp"})),
        cluster("c", json!({"region": "us", "provider": "aws"})),
    ]
}

fn app(placement: Value, differences: Value) -> MultiCloudApp {
    let manifests = json!([
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
         "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "c", "image": "nginx"}]}}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}},
    ]);
    fixtures::app(manifests, placement, differences)
}

fn planned(app: &MultiCloudApp) -> Result<Plan, FieldError> {
    plan(app, &validate(app, Tenancy::Owner).unwrap(), &fleet())
}

#[test]
fn an_app_becomes_policies_and_templates() {
    let app = app(
        json!({
            "regions": ["eu"], "exclude": ["b"],
            "tolerations": [{"key": "edge", "value": "yes"}, {"key": "gpu", "operator": "Exists"}],
        }),
        json!([{"replicas": 5}]),
    );
    let plan = planned(&app).unwrap();
    let owner = json!({"airdock.dev/app": "shop", "airdock.dev/app-namespace": "team", "app.kubernetes.io/managed-by": "airdock"});
    assert_eq!(
        serde_json::to_value(&plan.propagation).unwrap(),
        json!({
            "apiVersion": "policy.karmada.io/v1alpha1", "kind": "PropagationPolicy",
            "metadata": {"name": "shop", "namespace": "team", "labels": owner},
            "spec": {
                "resourceSelectors": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "team", "name": "web"},
                    {"apiVersion": "v1", "kind": "Service", "namespace": "team", "name": "web"},
                ],
                "placement": {
                    "clusterAffinity": {
                        "fieldSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["eu"]}]},
                        "exclude": ["b"],
                    },
                    "clusterTolerations": [
                        {"key": "edge", "operator": "Equal", "value": "yes"}, {"key": "gpu", "operator": "Exists"},
                    ],
                    "replicaScheduling": {"replicaSchedulingType": "Duplicated"},
                },
                "priority": 0,
                "conflictResolution": "Abort",
            },
        })
    );
    assert_eq!(plan.overrides.len(), 1, "the Service differs nowhere");
    let policy = serde_json::to_value(&plan.overrides[0]).unwrap();
    assert_eq!(policy["spec"]["resourceSelectors"][0]["kind"], "Deployment");
    assert_eq!(policy["metadata"]["labels"]["airdock.dev/component"], "web");
    assert_eq!(plan.templates.len(), 2);
    assert_eq!(plan.namespace["metadata"]["name"], "team");
}

#[test]
fn weights_mean_the_first_that_matches() {
    let weighted = |weights: Value| json!({"replicas": {"mode": "Weighted", "weights": weights}});
    let field = |key: &str, value: &str| json!({"fieldSelector": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}});
    for (name, weights, want) in [
        ("none given", json!([]), json!(null)),
        (
            "apart from each other",
            json!([{"regions": ["eu"], "weight": 2}, {"regions": ["us"], "weight": 1}]),
            json!([{"targetCluster": field("region", "eu"), "weight": 2}, {"targetCluster": field("region", "us"), "weight": 1}]),
        ),
        (
            "the first is the highest",
            json!([{"clusters": ["a"], "weight": 5}, {"weight": 1}]),
            json!([{"targetCluster": {"clusterNames": ["a"]}, "weight": 5}, {"targetCluster": {}, "weight": 1}]),
        ),
        (
            "the first is not the highest",
            json!([{"providers": ["aws"], "weight": 1}, {"regions": ["eu"], "weight": 3}]),
            json!([{"targetCluster": {"clusterNames": ["a", "c"]}, "weight": 1}, {"targetCluster": {"clusterNames": ["b"]}, "weight": 3}]),
        ),
    ] {
        let plan = planned(&app(weighted(weights), json!([]))).unwrap();
        let policy = serde_json::to_value(&plan.propagation).unwrap();
        let scheduling = &policy["spec"]["placement"]["replicaScheduling"];
        assert_eq!(scheduling["replicaSchedulingType"], "Divided", "{name}");
        assert_eq!(scheduling["replicaDivisionPreference"], "Weighted", "{name}");
        assert_eq!(scheduling["weightPreference"]["staticWeightList"], want, "{name}");
    }
    let error = planned(&app(weighted(json!([{"clusters": ["z"], "weight": 1}])), json!([]))).unwrap_err();
    assert!(error.to_string().starts_with("spec.placement.replicas.weights: matches none of the clusters"));
}

#[test]
fn names_are_unique_and_short_enough() {
    let mut application = validate(&app(json!({}), json!([])), Tenancy::Owner).unwrap();
    assert_eq!(policy_name(&application), "shop");
    let platform = json!({"apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": "shop", "namespace": "platform"}, "spec": {"instanceRef": {"name": "fleet"}, "components": []}});
    application.host_namespace = HostNamespace::of(&serde_json::from_value(platform).unwrap());
    let name = policy_name(&application);
    assert!(name.starts_with("shop-") && name.len() == 13, "{name}");

    let mut template = application.templates[0].clone();
    let names: Vec<String> = [("web", "Deployment"), ("web", "StatefulSet"), ("System:Reader", "Role")]
        .into_iter()
        .map(|(name, kind)| {
            (template.name, template.kind) = (name.into(), kind.into());
            override_name(&application, &template)
        })
        .collect();
    assert_ne!(names[0], names[1]);
    assert!(names[2].starts_with("shop--ystem--eader-"), "{names:?}");
    application.name = "a".repeat(52);
    template.name = "b".repeat(253);
    assert!(policy_name(&application).len() <= 63 && override_name(&application, &template).len() <= 63);
}

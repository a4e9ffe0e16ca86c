use super::*;
use serde_json::json;

use crate::application::model::Tenancy;
use crate::application::validate::validate;
use crate::karmada::policy::OverrideSpec;
use crate::overrides::{self, Override};
use crate::placement::ClusterView;

fn cluster(name: &str, region: &str, labels: Value) -> Cluster {
    serde_json::from_value(json!({
        "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name, "labels": labels},
        "spec": {"syncMode": "Push", "region": region},
    }))
    .unwrap()
}

fn fleet() -> Vec<Cluster> {
    vec![
        cluster("eu-1", "eu", json!({"tier": "gold"})),
        cluster("eu-2", "eu", json!({})),
        cluster("us-1", "us", json!({"tier": "gold"})),
    ]
}

fn app(pods: Value, differences: Value) -> (MultiCloudApp, Template) {
    let app: MultiCloudApp = serde_json::from_value(json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": "shop", "namespace": "team"},
        "spec": {
            "instanceRef": {"name": "fleet"},
            "components": [{"name": "web", "manifests": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                "spec": {"replicas": 3, "template": {"spec": pods}},
            }]}],
            "differences": differences,
        },
    }))
    .unwrap();
    let template = validate(&app, Tenancy::Owner).unwrap().templates.remove(0);
    (app, template)
}

fn nginx() -> Value {
    json!({"containers": [{"name": "c", "image": "nginx:1", "env": [{"name": "A", "value": "1"}]}]})
}

fn image(object: &Value) -> &str {
    object.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).unwrap()
}

/// Evaluates rules as the engine does.
fn evaluated(template: &Template, rules: &[OverrideRule], cluster: &Cluster) -> Value {
    let spec = OverrideSpec { resource_selectors: Vec::new(), override_rules: rules.to_vec() };
    let policy = Override { namespace: Some("team"), name: "shop", spec: &spec };
    overrides::apply(template.object.clone(), &[policy], &ClusterView::of_cluster(cluster)).unwrap()
}

#[test]
fn rules_do_what_differences_say_in_every_cluster() {
    let digest = json!({"containers": [{"name": "c", "image": "nginx:1@sha256:00"}]});
    let init =
        json!({"containers": [{"name": "c", "image": "a/b:1"}], "initContainers": [{"name": "i", "image": "busybox"}]});
    let set_image = json!([{"kind": "Deployment", "name": "web", "operations": [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "other/app:2"}]}]);
    let swap = json!([{"kind": "Deployment", "name": "web", "operations": [
        {"op": "remove", "path": "/spec/template/spec/containers/0/env"},
        {"op": "add", "path": "/spec/template/spec/containers/0/envFrom", "value": []}]}]);
    let drop_all = json!([{"kind": "Deployment", "name": "web", "operations": [
        {"op": "replace", "path": "/spec/template/spec/containers", "value": []}]}]);
    for (name, pods, differences) in [
        ("nothing", nginx(), json!([])),
        ("one registry", nginx(), json!([{"match": {"regions": ["eu"]}, "imageRegistry": "eu.example"}])),
        ("a registry with a path", nginx(), json!([{"imageRegistry": "eu.example/proxy"}])),
        ("a digest", digest, json!([{"imageRegistry": "eu.example"}])),
        ("an init container", init, json!([{"imageRegistry": "eu.example"}])),
        (
            "two registries, one with a path",
            nginx(),
            json!([{"imageRegistry": "all.example/proxy"}, {"match": {"regions": ["eu"]}, "imageRegistry": "eu.example"}]),
        ),
        (
            "replicas, later wins",
            nginx(),
            json!([{"replicas": 5}, {"match": {"labels": {"tier": "gold"}}, "replicas": 7}, {"match": {"clusters": ["us-1"]}, "replicas": 0}]),
        ),
        (
            "variables that add up",
            nginx(),
            json!([
                {"match": {"regions": ["eu"]}, "env": {"REGION": "eu", "A": "2"}},
                {"match": {"labels": {"tier": "gold"}}, "env": {"TIER": "gold"}},
            ]),
        ),
        (
            "a registry for a patched image",
            nginx(),
            json!([
                {"match": {"regions": ["eu"]}, "patches": set_image},
                {"match": {"labels": {"tier": "gold"}}, "imageRegistry": "gold.example/x"},
            ]),
        ),
        ("a patch of variables and then variables", nginx(), json!([{"patches": swap}, {"env": {"B": "2"}}])),
        (
            "rules that cannot follow each other",
            nginx(),
            json!([{"match": {"regions": ["eu"]}, "patches": drop_all}, {"env": {"B": "2"}}]),
        ),
        (
            "all at once",
            nginx(),
            json!([
                {"imageRegistry": "all.example", "env": {"ALL": "1"}},
                {"match": {"regions": ["eu"]}, "imageRegistry": "eu.example", "replicas": 1, "env": {"EU": "1"}},
                {"match": {"clusters": ["eu-1"]}, "env": {"ONE": "1", "ALL": "2"}, "patches": set_image},
            ]),
        ),
    ] {
        let (app, template) = app(pods, differences);
        let clusters = fleet();
        let rules = rules(&app, &template, &clusters).unwrap();
        for cluster in &clusters {
            let want = in_cluster(&template, &app.spec.differences, cluster).unwrap();
            assert_eq!(evaluated(&template, &rules, cluster), want, "{name} in {:?}", cluster.metadata.name);
        }
    }
}

#[test]
fn later_differences_win() {
    let (app, template) = app(
        nginx(),
        json!([
            {"imageRegistry": "all.example/proxy", "replicas": 1, "env": {"A": "2", "B": "2"}},
            {"match": {"regions": ["eu"]}, "imageRegistry": "eu.example", "env": {"B": "3"}},
        ]),
    );
    let fleet = fleet();
    let eu = in_cluster(&template, &app.spec.differences, &fleet[0]).unwrap();
    let us = in_cluster(&template, &app.spec.differences, &fleet[2]).unwrap();
    assert_eq!((image(&eu), image(&us)), ("eu.example/nginx:1", "all.example/proxy/nginx:1"));
    let env = |object: &Value| object.pointer("/spec/template/spec/containers/0/env").cloned().unwrap();
    assert_eq!(env(&eu), json!([{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]));
    assert_eq!(env(&us), json!([{"name": "A", "value": "2"}, {"name": "B", "value": "2"}]));
    assert_eq!(eu.pointer("/spec/replicas"), Some(&json!(1)));
}

#[test]
fn rules_keep_the_terms_of_the_differences() {
    let (app, template) = app(
        nginx(),
        json!([
            {"match": {"regions": ["eu"]}, "imageRegistry": "eu.example", "env": {"R": "eu"}},
            {"match": {"regions": ["us"]}, "replicas": 9, "env": {"R": "us"}},
        ]),
    );
    let rules = serde_json::to_value(rules(&app, &template, &fleet()).unwrap()).unwrap();
    let region = |name: &str| json!({"fieldSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": [name]}]}});
    let env = |value: &str| {
        json!({
            "path": "/spec/template/spec/containers/0/env", "operator": "add",
            "value": [{"name": "A", "value": "1"}, {"name": "R", "value": value}],
        })
    };
    assert_eq!(
        rules,
        json!([
            {"targetCluster": region("eu"), "overriders": {
                "imageOverrider": [{"component": "Registry", "operator": "replace", "value": "eu.example"}],
                "plaintext": [env("eu")],
            }},
            {"targetCluster": region("us"), "overriders": {"plaintext": [
                env("us"), {"path": "/spec/replicas", "operator": "add", "value": 9},
            ]}},
        ])
    );
}

#[test]
fn only_what_overlaps_is_made_up_for_by_name() {
    let (app, template) = app(
        nginx(),
        json!([{"match": {"regions": ["eu"]}, "env": {"R": "eu"}}, {"match": {"labels": {"tier": "gold"}}, "env": {"T": "g"}}]),
    );
    let rules = rules(&app, &template, &fleet()).unwrap();
    assert_eq!(rules.len(), 3);
    assert_eq!(rules[2].target_cluster.as_ref().unwrap().cluster_names, ["eu-1"]);
}

#[test]
fn a_patch_that_does_not_fit_is_named() {
    let patch = |at: Value, op: Value| json!([{"replicas": 1}, {"match": at, "patches": [{"kind": "Deployment", "name": "web", "operations": [op]}]}]);
    let missing = json!({"op": "replace", "path": "/spec/nope/deep", "value": 1});
    for (at, place) in [(json!({"regions": ["eu"]}), " (in cluster eu-1)"), (json!({"regions": ["nowhere"]}), "")] {
        let (app, template) = app(nginx(), patch(at, missing.clone()));
        let error = rules(&app, &template, &fleet()).unwrap_err();
        let want = format!(
            "spec.differences[1].patches[0].operations[0]: replace /spec/nope/deep of Deployment web: \
             there is no such place in the object{place}"
        );
        assert_eq!(error.to_string(), want);
    }
    let (mut app, template) = app(nginx(), patch(json!({"clusters": ["us-1"]}), missing));
    app.spec.placement.exclude = vec!["us-1".into()];
    assert!(rules(&app, &template, &fleet()[..2]).is_err(), "it fits nowhere, so it is wrong wherever it applies");
}

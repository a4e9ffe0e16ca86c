//! Policies that the engine must not act on, and the end of those that upstream's webhooks have marked.

use airdock::karmada::{self, POLICY_FINALIZERS};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::env::{Case, SOON, with_env};
use crate::harness::{eventually, objects};

const POLICY: (&str, &str) = ("policy.karmada.io/v1alpha1", "PropagationPolicy");

#[test]
fn upstreams_finalizers_do_not_hold_a_policy() {
    with_env("finalizers", async |case| {
        case.start_counted();
        let mut policy = case.policy("all", json!({}));
        policy["metadata"]["finalizers"] = json!([POLICY_FINALIZERS[0]]);
        case.apply(policy).await;
        case.delete(POLICY.0, POLICY.1, "all").await;
        case.until(POLICY.0, POLICY.1, "all", Value::is_null).await;
    });
}

/// Stores an object as if an earlier release had let it in.
async fn store(case: &Case<'_>, definition: &str, object: &Value) {
    let api = Api::<CustomResourceDefinition>::all(case.plane.clone());
    let all = karmada::definitions();
    let wanted = all.iter().find(|found| found.metadata.name.as_deref() == Some(definition)).unwrap();
    // Created by another manager, whose rules would stay.
    let mut current = api.get(definition).await.unwrap();
    current.spec = objects::without_rules(wanted).spec;
    api.replace(definition, &Default::default(), &current).await.unwrap();
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = objects::api(&case.plane, text("/apiVersion"), text("/kind"), text("/metadata/namespace"));
    let params = PatchParams::apply("test").force();
    eventually("the rules are gone", SOON, async || {
        kind.patch(text("/metadata/name"), &params, &Patch::Apply(object)).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    api.patch(definition, &params, &Patch::Apply(wanted)).await.unwrap();
}

/// As if the field were not there, the engine would take another way to the member than was asked for.
#[test]
fn a_member_behind_a_stored_proxy_is_not_called_without_it() {
    with_env("behind-proxy", async |case| {
        let server = case.server("gamma");
        let (url, ca) = (server.url(), server.ca.clone());
        objects::join(&case.plane, "gamma-2", &url, &ca, "us").await;
        let reference = json!({"namespace": "karmada-cluster", "name": "gamma-2"});
        let spec = json!({"syncMode": "Push", "apiEndpoint": url, "secretRef": reference, "proxyURL": "http://proxy"});
        let cluster = json!({"apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "gamma-2"}, "spec": spec});
        store(case, "clusters.cluster.karmada.io", &cluster).await;
        case.start_counted();
        let stored = case.until_ready("gamma-2", "False", SOON).await;
        let ready = stored["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(ready["reason"], "FieldUnsupported");
        assert!(ready["message"].as_str().unwrap().contains("spec.proxyURL"), "{ready}");
        assert!(stored["status"]["kubernetesVersion"].is_null(), "it was called all the same");
        let patch = json!({"spec": {"proxyURL": null}});
        objects::merge(&case.plane, "cluster.karmada.io/v1alpha1", "Cluster", "", "gamma-2", patch).await;
        case.until_ready("gamma-2", "True", SOON).await;
        case.kill();
        let free = json!({"metadata": {"finalizers": null}});
        objects::merge(&case.plane, "cluster.karmada.io/v1alpha1", "Cluster", "", "gamma-2", free).await;
        objects::delete(&case.plane, "cluster.karmada.io/v1alpha1", "Cluster", "", "gamma-2").await;
    });
}

#[test]
fn a_stored_policy_with_a_refused_field_places_nothing() {
    with_env("stored", async |case| {
        let spec = json!({"suspension": {"dispatching": true},
            "resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "held"}]});
        store(case, "propagationpolicies.policy.karmada.io", &case.policy("held", spec)).await;
        let policies = objects::api(&case.plane, POLICY.0, POLICY.1, &case.namespace);

        case.start_counted();
        case.apply(case.config("held", "1")).await;
        let events = objects::api(&case.plane, "events.k8s.io/v1", "Event", &case.namespace);
        eventually("an event tells why", SOON, async || {
            let all = events.list(&Default::default()).await.map_err(|e| e.to_string())?.items;
            let told = all.iter().any(|event| {
                event.data["reason"] == "PolicyUnsupported"
                    && event.data["regarding"]["name"] == "held"
                    && event.data["note"].as_str().is_some_and(|note| note.contains("spec.suspension.dispatching"))
            });
            if told { Ok(()) } else { Err(format!("{} events", all.len())) }
        })
        .await;
        // Another policy of the same namespace goes its way.
        let selector = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "free"}]);
        case.apply(case.policy("free", json!({"resourceSelectors": selector}))).await;
        case.apply(case.config("free", "1")).await;
        case.until_applied("free-configmap").await;
        assert!(case.get("work.karmada.io/v1alpha2", "ResourceBinding", "held-configmap").await.is_none());
        let _ = policies.delete("held", &DeleteParams::default()).await;
    });
}

//! Policies that the engine must not act on, and the end of those that upstream's webhooks have marked.

use airdock::karmada::{self, POLICY_FINALIZERS};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::env::{SOON, with_env};
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

#[test]
fn a_stored_policy_with_a_refused_field_places_nothing() {
    with_env("stored", async |case| {
        let api = Api::<CustomResourceDefinition>::all(case.plane.clone());
        let name = "propagationpolicies.policy.karmada.io";
        let definition = karmada::definitions().into_iter().find(|d| d.metadata.name.as_deref() == Some(name)).unwrap();
        let params = PatchParams::apply("test").force();
        // Created by another manager, whose rules would stay.
        let lax = objects::without_rules(&definition);
        let mut current = api.get(name).await.unwrap();
        current.spec = lax.spec;
        api.replace(name, &Default::default(), &current).await.unwrap();
        let spec = json!({"suspension": {"dispatching": true},
            "resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "held"}]});
        let policy = case.policy("held", spec);
        let policies = objects::api(&case.plane, POLICY.0, POLICY.1, &case.namespace);
        eventually("the rules are gone", SOON, async || {
            policies.patch("held", &params, &Patch::Apply(&policy)).await.map(drop).map_err(|e| e.to_string())
        })
        .await;
        api.patch(name, &params, &Patch::Apply(&definition)).await.unwrap();

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

//! Objects that are nested too deep to be read: they concern their owners, and nobody else.

use serde_json::{Value, json};

use crate::env::{Case, NAMES, SOON, with_env};
use crate::harness::{eventually, objects};

/// Sends an object as text: nothing here could hold it.
async fn create(client: &kube::Client, path: &str, object: String) {
    let request =
        http::Request::post(path).header("content-type", "application/json").body(object.into_bytes()).unwrap();
    client.request_text(request).await.unwrap();
}

fn nested(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

async fn applied_message(case: &Case<'_>, binding: &str) -> String {
    let binding = case.get("work.karmada.io/v1alpha2", "ResourceBinding", binding).await.unwrap_or_default();
    binding["status"]["aggregatedStatus"][0]["appliedMessage"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_override_that_cannot_be_read_holds_its_own_namespace_only() {
    with_env("deep", async |case| {
        objects::namespace(&case.plane, "deep-other").await;
        let policies = format!("/apis/policy.karmada.io/v1alpha1/namespaces/{}/overridepolicies", case.namespace);
        let body = format!(
            r#"{{"apiVersion":"policy.karmada.io/v1alpha1","kind":"OverridePolicy","metadata":{{"name":"bad"}},
            "spec":{{"overrideRules":[{{"overriders":{{"plaintext":[
                {{"path":"/data","operator":"replace","value":{}}}]}}}}]}}}}"#,
            nested(200)
        );
        create(&case.plane, &policies, body).await;
        // The engine starts with the object there already.
        case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("held", "v")).await;
        let mut elsewhere = (case.policy("all", json!({})), case.config("free", "v"));
        for object in [&mut elsewhere.0, &mut elsewhere.1] {
            object["metadata"]["namespace"] = json!("deep-other");
            case.apply(object.clone()).await;
        }
        for name in NAMES {
            eventually(&format!("ConfigMap free in {name}"), SOON, async || {
                let found = objects::get(&case.clients[name], "v1", "ConfigMap", "deep-other", "free").await;
                found.ok_or_else(|| "not there".to_owned())
            })
            .await;
        }
        // It would land without its differences, which nobody asked for.
        eventually("the binding tells why", SOON, async || {
            let message = applied_message(case, "held-configmap").await;
            if message.contains("OverridePolicy deep/bad") && message.contains("levels deep") {
                Ok(())
            } else {
                Err(message)
            }
        })
        .await;
        assert!(case.in_member("alpha", "v1", "ConfigMap", "held").await.is_none());
        case.delete("policy.karmada.io/v1alpha1", "OverridePolicy", "bad").await;
        case.until_applied("held-configmap").await;
        case.delete("v1", "ConfigMap", "held").await;
        case.until_gone("alpha", "v1", "ConfigMap", "held").await;
        case.until("work.karmada.io/v1alpha2", "ResourceBinding", "held-configmap", Value::is_null).await;
    });
}

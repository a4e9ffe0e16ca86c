//! Objects that earlier builds of the engine put into members by server-side apply.

use serde_json::json;

use crate::env::with_env;
use crate::harness::objects;

const CONFIG: (&str, &str) = ("v1", "ConfigMap");

/// The engine applied objects before it replaced them as a whole. What of them was taken out of the template goes all the
/// same, and what a member's users added to the metadata stays.
#[test]
fn objects_that_were_applied_are_taken_over_in_place() {
    with_env("applied-before", async |case| {
        let namespace = case.namespace.clone();
        case.apply(case.config("settings", "new")).await;
        let template = case.get(CONFIG.0, CONFIG.1, "settings").await.unwrap();
        let plane = objects::get(&case.plane, "v1", "Namespace", "", "kube-system").await.unwrap();
        let alpha = case.clients["alpha"].clone();
        objects::namespace(&alpha, &namespace).await;
        objects::apply_as(&alpha, "airdock-engine", json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "old", "removed": "from the template"},
            "metadata": {
                "name": "settings", "namespace": namespace, "labels": {"karmada.io/managed": "true", "gone": "x"},
                "annotations": {
                    "airdock.dev/plane": plane["metadata"]["uid"], "airdock.dev/manifest": "00112233445566778899aabbccddeeff",
                    "resourcetemplate.karmada.io/uid": template["metadata"]["uid"],
                    "resourcebinding.karmada.io/namespace": namespace,
                    "resourcebinding.karmada.io/name": "settings-configmap",
                },
            },
        }))
        .await;
        let users = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "theirs"}}});
        objects::merge(&alpha, "v1", "ConfigMap", &namespace, "settings", users).await;
        let before = case.in_member("alpha", CONFIG.0, CONFIG.1, "settings").await.unwrap();

        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        let now =
            case.until_in("alpha", CONFIG.0, CONFIG.1, "settings", |now| now["data"] == json!({"k": "new"})).await;
        assert_eq!(now["metadata"]["uid"], before["metadata"]["uid"], "in place");
        let labels = &now["metadata"]["labels"];
        assert_eq!((&labels["team"], labels.get("gone")), (&json!("a"), None), "{labels}");
        assert_eq!(now["metadata"]["annotations"]["note"], "theirs");
        let managers = now["metadata"]["managedFields"].as_array().unwrap();
        let of_engine = managers.iter().filter(|entry| entry["manager"] == "airdock-engine");
        let operations: Vec<_> = of_engine.map(|entry| entry["operation"].clone()).collect();
        assert_eq!(operations, ["Update"], "{managers:?}");
        case.until_applied("settings-configmap").await;
        case.until_quiet(&traffic).await;
    });
}

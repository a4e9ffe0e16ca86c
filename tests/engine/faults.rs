//! Members that go away and come back, credentials that change, memberships that end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::env::{Case, SOON, with_env};
use crate::harness::{OTHER_ADMIN, eventually, objects};

const BINDING: (&str, &str) = ("work.karmada.io/v1alpha2", "ResourceBinding");
const CLUSTER: (&str, &str) = ("cluster.karmada.io/v1alpha1", "Cluster");

fn reason(cluster: &Value) -> String {
    let conditions = cluster["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == "Ready").unwrap()["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_member_goes_away_and_comes_back() {
    with_env("away", async |case| {
        case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("early", "v")).await;
        case.until_applied("early-configmap").await;
        case.server("gamma").kill();
        let started = Instant::now();
        let cluster = case.until_ready("gamma", "False", Duration::from_secs(12)).await;
        assert_eq!(reason(&cluster), "ClusterNotReachable");
        println!("reported away after {:?}", started.elapsed());
        // The others are not kept waiting; what was placed in the one that is away stays meant for it.
        case.apply(case.config("early", "w")).await;
        for name in ["alpha", "beta"] {
            case.until_in(name, "v1", "ConfigMap", "early", |object| object["data"]["k"] == "w").await;
        }
        // New work does not go there.
        case.apply(case.config("late", "v")).await;
        let late = case.until_applied("late-configmap").await;
        assert_eq!(late["spec"]["clusters"], json!([{"name": "alpha"}, {"name": "beta"}]));
        // What is deleted meanwhile is not forgotten.
        case.apply(case.config("doomed", "v")).await;
        case.delete("v1", "ConfigMap", "early").await;
        case.until_gone("alpha", "v1", "ConfigMap", "early").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(case.get(BINDING.0, BINDING.1, "early-configmap").await.is_some(), "the inventory went too soon");
        // Not even by an engine that is new.
        case.kill();
        case.start_counted();
        case.server("gamma").restart();
        let started = Instant::now();
        case.until_ready("gamma", "True", Duration::from_secs(30)).await;
        println!("back after {:?}", started.elapsed());
        case.until_gone("gamma", "v1", "ConfigMap", "early").await;
        case.until(BINDING.0, BINDING.1, "early-configmap", Value::is_null).await;
        case.until_in("gamma", "v1", "ConfigMap", "late", |object| !object.is_null()).await;
    });
}

#[test]
fn credentials_change() {
    with_env("credentials", async |case| {
        case.start_counted();
        case.until_ready("beta", "True", SOON).await;
        let secret = |token: &str| json!({"data": {"token": objects::encoded(token)}});
        let set = async |case: &Case<'_>, token: &str| {
            objects::merge(&case.plane, "v1", "Secret", "karmada-cluster", "beta", secret(token)).await;
        };
        set(case, "wrong").await;
        let cluster = case.until_ready("beta", "False", SOON).await;
        assert_eq!(reason(&cluster), "CredentialsRejected");
        set(case, OTHER_ADMIN).await;
        case.until_ready("beta", "True", SOON).await;
        objects::delete(&case.plane, "v1", "Secret", "karmada-cluster", "beta").await;
        let cluster = case.until_ready("beta", "False", SOON).await;
        assert_eq!(reason(&cluster), "CredentialsMissing");
        case.join("beta").await;
        let cluster = case.until_ready("beta", "True", SOON).await;
        assert!(cluster["status"]["kubernetesVersion"].as_str().unwrap().starts_with("v1."));
        let served = cluster["status"]["apiEnablements"].as_array().unwrap();
        assert!(served.iter().any(|group| group["groupVersion"] == "apps/v1"));
    });
}

#[test]
fn capacity_is_counted() {
    with_env("capacity", async |case| {
        case.start_counted();
        let alpha = &case.clients["alpha"];
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        objects::apply(alpha, node).await;
        let status = json!({"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]});
        objects::merge_status(alpha, "v1", "Node", "", "n1", status).await;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec":
            {"nodeName": "n1", "containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "250m"}}}]}});
        objects::apply(alpha, pod).await;
        eventually("capacity of alpha", SOON, async || {
            let cluster = objects::get(&case.plane, CLUSTER.0, CLUSTER.1, "", "alpha").await.unwrap();
            let status = &cluster["status"];
            let seen = json!([
                status["nodeSummary"],
                status["resourceSummary"]["allocatable"]["cpu"],
                status["resourceSummary"]["allocated"]["cpu"]
            ]);
            if seen == json!([{"totalNum": 1, "readyNum": 1}, "4", "250m"]) { Ok(()) } else { Err(seen.to_string()) }
        })
        .await;
        objects::delete(alpha, "v1", "Node", "", "n1").await;
        let now = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
        objects::api(alpha, "v1", "Pod", "default").delete("p", &now).await.unwrap();
    });
}

/// There is no controller for namespaces in these members.
async fn finish_namespaces(case: &Case<'_>, member: &str) {
    let client = &case.clients[member];
    for namespace in objects::api(client, "v1", "Namespace", "").list(&Default::default()).await.unwrap() {
        if namespace.metadata.deletion_timestamp.is_none() {
            continue;
        }
        objects::finalize_namespace(client, namespace.metadata.name.as_deref().unwrap()).await;
    }
}

/// Waits until a member has left, and plays the namespace controller there.
pub async fn until_left(case: &Case<'_>, member: &str) {
    eventually(&format!("{member} has left"), Duration::from_secs(40), async || {
        finish_namespaces(case, member).await;
        match objects::get(&case.plane, CLUSTER.0, CLUSTER.1, "", member).await {
            None => Ok(()),
            Some(cluster) => Err(cluster["metadata"].to_string()),
        }
    })
    .await;
}

#[test]
fn a_cluster_leaves() {
    with_env("leaving", async |case| {
        case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("settings", "v")).await;
        case.until_applied("settings-configmap").await;
        objects::delete(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma").await;
        until_left(case, "gamma").await;
        case.until_gone("gamma", "v1", "ConfigMap", "settings").await;
        let binding = case.until_applied("settings-configmap").await;
        assert_eq!(binding["spec"]["clusters"], json!([{"name": "alpha"}, {"name": "beta"}]));
        assert!(objects::get(&case.clients["gamma"], "v1", "Namespace", "", "leaving").await.is_none());

        // Back again, and out again with everything left in place.
        case.join("gamma").await;
        case.until_in("gamma", "v1", "ConfigMap", "settings", |object| !object.is_null()).await;
        let orphan = json!({"metadata": {"annotations": {"airdock.dev/unjoin-policy": "Orphan"}}});
        objects::merge(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma", orphan).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        objects::delete(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma").await;
        until_left(case, "gamma").await;
        let left = case.in_member("gamma", "v1", "ConfigMap", "settings").await.expect("left in place");
        assert_eq!((left["metadata"].get("labels"), left["metadata"].get("annotations")), (None, None));
        // Nobody's object is taken over when it joins once more: it is to be asked for.
        case.apply(case.policy("all", json!({"conflictResolution": "Overwrite"}))).await;
        case.join("gamma").await;
        case.until_in("gamma", "v1", "ConfigMap", "settings", |object| {
            object["metadata"]["labels"]["karmada.io/managed"] == "true"
        })
        .await;

        // A member that is away holds up the end of its membership, until it is given up.
        case.server("gamma").kill();
        case.until_ready("gamma", "False", Duration::from_secs(12)).await;
        objects::delete(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(objects::get(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma").await.is_some());
        let force = json!({"metadata": {"annotations": {"airdock.dev/force-unjoin": "true"}}});
        objects::merge(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma", force).await;
        eventually("gamma is given up", SOON, async || {
            objects::get(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma")
                .await
                .map_or(Ok(()), |c| Err(c["metadata"].to_string()))
        })
        .await;
        case.server("gamma").restart();
        case.server("gamma").ready().await;
    });
}

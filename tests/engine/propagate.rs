//! Where objects go, what they become there, and what is heard back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::env::{Case, NAMES, condition, with_env};
use crate::harness::objects;

const BINDING: (&str, &str) = ("work.karmada.io/v1alpha2", "ResourceBinding");

fn weighted(weights: [i64; 3]) -> Value {
    let rules: Vec<Value> = NAMES
        .iter()
        .zip(weights)
        .map(|(name, weight)| json!({"targetCluster": {"clusterNames": [name]}, "weight": weight}))
        .collect();
    json!({"placement": {"replicaScheduling": {"replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Weighted", "weightPreference": {"staticWeightList": rules}}}})
}

fn only(names: &[&str]) -> Value {
    json!({"placement": {"clusterAffinity": {"clusterNames": names}}})
}

#[test]
fn weights_differences_and_status() {
    with_env("weights", async |case| {
        case.start_counted();
        for name in NAMES {
            case.until_ready(name, "True", crate::env::SOON).await;
        }
        case.apply(json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "OverridePolicy",
            "metadata": {"name": "us", "namespace": case.namespace},
            "spec": {"overrideRules": [{
                "targetCluster": {"fieldSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["us"]}]}},
                "overriders": {
                    "imageOverrider": [{"component": "Registry", "operator": "replace", "value": "us.example:5000"}],
                    "plaintext": [{"path": "/metadata/annotations", "operator": "add", "value": {"place": "us"}}]}}]}}))
            .await;
        case.apply(case.policy("all", weighted([1, 2, 3]))).await;
        case.apply(case.deployment("web", 6)).await;
        case.until_applied("web-deployment").await;
        for (name, replicas, image) in
            [("alpha", 1, "nginx:1"), ("beta", 2, "nginx:1"), ("gamma", 3, "us.example:5000/nginx:1")]
        {
            let web = case.in_member(name, "apps/v1", "Deployment", "web").await.unwrap();
            assert_eq!(web["spec"]["replicas"], replicas, "{name}");
            assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], image, "{name}");
            assert_eq!(web["metadata"]["labels"]["karmada.io/managed"], "true");
            let status = json!({"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
                "availableReplicas": replicas, "observedGeneration": web["metadata"]["generation"]});
            objects::merge_status(&case.clients[name], "apps/v1", "Deployment", &case.namespace, "web", status).await;
        }
        let gamma = case.in_member("gamma", "apps/v1", "Deployment", "web").await.unwrap();
        assert_eq!(gamma["metadata"]["annotations"]["place"], "us");
        let web = case.until("apps/v1", "Deployment", "web", |web| web["status"]["readyReplicas"] == 6).await;
        assert_eq!(web["status"]["observedGeneration"], web["metadata"]["generation"]);
        let binding = case.until_applied("web-deployment").await;
        let items = binding["status"]["aggregatedStatus"].as_array().unwrap();
        let seen: Vec<_> = items.iter().map(|i| (i["clusterName"].clone(), i["health"].clone())).collect();
        assert_eq!(seen, NAMES.map(|name| (json!(name), json!("Healthy"))));

        // A change of the template reaches all, and what it no longer says is taken away there.
        let mut changed = case.deployment("web", 12);
        changed["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("resources");
        case.apply(changed).await;
        for (name, replicas) in NAMES.iter().zip([2, 4, 6]) {
            case.until_in(name, "apps/v1", "Deployment", "web", |web| {
                web["spec"]["replicas"] == replicas
                    && web.pointer("/spec/template/spec/containers/0/resources/requests").is_none()
            })
            .await;
        }
        // So do new differences.
        case.delete("policy.karmada.io/v1alpha1", "OverridePolicy", "us").await;
        case.until_in("gamma", "apps/v1", "Deployment", "web", |web| {
            web["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1"
                && web["metadata"]["annotations"].get("place").is_none()
        })
        .await;
    });
}

#[test]
fn drift_is_put_right_and_nothing_is_written_without_need() {
    with_env("drift", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.deployment("web", 2)).await;
        case.apply(case.config("settings", "v")).await;
        case.until_applied("web-deployment").await;
        case.until_applied("settings-configmap").await;

        let alpha = &case.clients["alpha"];
        objects::merge(alpha, "apps/v1", "Deployment", &case.namespace, "web", json!({"spec": {"replicas": 9}})).await;
        case.until_in("alpha", "apps/v1", "Deployment", "web", |web| web["spec"]["replicas"] == 2).await;
        let first = case.in_member("alpha", "v1", "ConfigMap", "settings").await.unwrap();
        objects::delete(alpha, "v1", "ConfigMap", &case.namespace, "settings").await;
        case.until_in("alpha", "v1", "ConfigMap", "settings", |new| {
            !new.is_null() && new["metadata"]["uid"] != first["metadata"]["uid"]
        })
        .await;
        let unlabel = json!({"metadata": {"labels": {"karmada.io/managed": null}}});
        objects::merge(alpha, "v1", "ConfigMap", &case.namespace, "settings", unlabel).await;
        case.until_in("alpha", "v1", "ConfigMap", "settings", |new| {
            new["metadata"]["labels"]["karmada.io/managed"] == "true"
        })
        .await;
        // What others add is theirs.
        let theirs = json!({"metadata": {"annotations": {"theirs": "1"}}});
        objects::merge(alpha, "v1", "ConfigMap", &case.namespace, "settings", theirs).await;

        case.until_quiet(&traffic).await;
        let before = traffic.writes().len();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(traffic.writes()[before..], [""; 0], "written although all is as it should be");
        case.kill();
        let traffic = case.start_counted();
        case.until_ready("alpha", "True", Duration::from_secs(5)).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(traffic.writes(), [""; 0], "written by a new engine although all is as it should be");
        let settings = case.in_member("alpha", "v1", "ConfigMap", "settings").await.unwrap();
        assert_eq!(settings["metadata"]["annotations"]["theirs"], "1");

        // What a template loses while no engine runs is taken away by the next one.
        let mut more = case.config("settings", "v");
        more["data"]["lost"] = json!("1");
        case.apply(more).await;
        case.until_in("alpha", "v1", "ConfigMap", "settings", |new| new["data"]["lost"] == "1").await;
        case.kill();
        case.apply(case.config("settings", "v")).await;
        let traffic = case.start_counted();
        for name in NAMES {
            case.until_in(name, "v1", "ConfigMap", "settings", |new| new["data"] == json!({"k": "v"})).await;
        }
        case.until_quiet(&traffic).await;
        let settings = case.in_member("alpha", "v1", "ConfigMap", "settings").await.unwrap();
        assert_eq!(settings["metadata"]["annotations"]["theirs"], "1");
    });
}

#[test]
fn one_watch_serves_all_objects_of_a_kind_in_a_member() {
    with_env("watches", async |case| {
        case.start_counted();
        // Two policies and several objects for one kind; the server's own components do not watch Deployments.
        for name in ["one", "two", "three"] {
            let mut policy = case.policy(name, json!({}));
            policy["spec"]["resourceSelectors"] =
                json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": name}]);
            case.apply(policy).await;
            case.apply(case.deployment(name, 1)).await;
        }
        for name in ["one", "two", "three"] {
            case.until_applied(&format!("{name}-deployment")).await;
        }
        for name in NAMES {
            let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
            let metrics = case.clients[name].request_text(request).await.unwrap();
            let open: Vec<&str> = metrics
                .lines()
                .filter(|line| line.starts_with("apiserver_longrunning_requests{") && line.contains("verb=\"WATCH\""))
                .filter(|line| line.contains("resource=\"deployments\"") && !line.ends_with(" 0"))
                .collect();
            assert!(open.len() == 1 && open[0].ends_with(" 1"), "{name}: {open:#?}");
        }
    });
}

#[test]
fn goes_away_with_template_and_placement() {
    with_env("removal", async |case| {
        case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        for name in ["one", "two", "three"] {
            case.apply(case.config(name, "v")).await;
        }
        for name in ["one", "two", "three"] {
            case.until_applied(&format!("{name}-configmap")).await;
        }
        case.delete("v1", "ConfigMap", "one").await;
        for name in NAMES {
            case.until_gone(name, "v1", "ConfigMap", "one").await;
        }
        case.until(BINDING.0, BINDING.1, "one-configmap", Value::is_null).await;

        case.apply(case.policy("all", only(&["beta"]))).await;
        case.until_gone("alpha", "v1", "ConfigMap", "two").await;
        case.until_gone("gamma", "v1", "ConfigMap", "two").await;
        let binding = case
            .until(BINDING.0, BINDING.1, "two-configmap", |binding| {
                binding["spec"]["clusters"] == json!([{"name": "beta"}])
                    && binding["metadata"]["annotations"].get("airdock.dev/removing-from").is_none()
            })
            .await;
        assert!(case.in_member("beta", "v1", "ConfigMap", "two").await.is_some());
        assert_eq!(binding["metadata"]["annotations"]["propagationpolicy.karmada.io/name"], "all");
    });
}

#[test]
fn a_binding_that_somebody_deletes_costs_members_nothing() {
    with_env("rebound", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("kept", "v")).await;
        let binding = case.until_applied("kept-configmap").await;
        let mut before = Vec::new();
        for name in NAMES {
            before.push(case.in_member(name, "v1", "ConfigMap", "kept").await.unwrap()["metadata"].clone());
        }
        case.until_quiet(&traffic).await;
        case.delete(BINDING.0, BINDING.1, "kept-configmap").await;
        case.until(BINDING.0, BINDING.1, "kept-configmap", |new| {
            new["metadata"]["uid"].is_string() && new["metadata"]["uid"] != binding["metadata"]["uid"]
        })
        .await;
        case.until_applied("kept-configmap").await;
        case.until_quiet(&traffic).await;
        for (name, before) in NAMES.iter().zip(before) {
            let after = case.in_member(name, "v1", "ConfigMap", "kept").await.unwrap();
            assert_eq!(after["metadata"], before, "{name}");
        }
    });
}

#[test]
fn two_versions_of_a_kind_do_not_fight() {
    with_env("versions", async |case| {
        let traffic = case.start_counted();
        for (version, name) in [("autoscaling/v1", "one"), ("autoscaling/v2", "two")] {
            let selector = json!({"apiVersion": version, "kind": "HorizontalPodAutoscaler", "name": name});
            case.apply(case.policy(name, json!({"resourceSelectors": [selector]}))).await;
            case.apply(json!({"apiVersion": version, "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": name, "namespace": case.namespace}, "spec": {"maxReplicas": 3,
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}))
                .await;
        }
        for name in ["one", "two"] {
            case.until_applied(&format!("{name}-horizontalpodautoscaler")).await;
        }
        case.until_quiet(&traffic).await;
        let deletes: Vec<String> = traffic.writes().into_iter().filter(|write| write.contains("DELETE")).collect();
        assert_eq!(deletes, [""; 0]);
    });
}

#[test]
fn preserved_when_asked() {
    with_env("preserve", async |case| {
        case.start_counted();
        case.apply(case.policy("all", json!({"preserveResourcesOnDeletion": true}))).await;
        case.apply(case.config("kept", "v")).await;
        case.until_applied("kept-configmap").await;
        case.delete("v1", "ConfigMap", "kept").await;
        case.until(BINDING.0, BINDING.1, "kept-configmap", Value::is_null).await;
        for name in NAMES {
            let kept = case.in_member(name, "v1", "ConfigMap", "kept").await.expect("kept");
            assert_eq!(kept["metadata"].get("labels"), None);
            assert_eq!(kept["metadata"].get("annotations"), None, "no mark is left");
        }
    });
}

#[test]
fn others_objects_are_not_taken_over() {
    with_env("conflict", async |case| {
        case.start_counted();
        case.until_ready("alpha", "True", Duration::from_secs(10)).await;
        let alpha = case.clients["alpha"].clone();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": case.namespace}});
        objects::apply(&alpha, namespace).await;
        objects::apply(&alpha, case.config("settings", "theirs")).await;
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("settings", "ours")).await;
        let binding = case
            .until(BINDING.0, BINDING.1, "settings-configmap", |binding| {
                binding["status"]["aggregatedStatus"].as_array().is_some_and(|items| items.len() == 3)
            })
            .await;
        let item = &binding["status"]["aggregatedStatus"][0];
        assert_eq!((&item["clusterName"], &item["applied"]), (&json!("alpha"), &json!(false)));
        assert!(item["appliedMessage"].as_str().unwrap().contains("is not managed"), "{item}");
        assert_eq!(condition(&binding, "FullyApplied"), "False");
        let theirs = case.in_member("alpha", "v1", "ConfigMap", "settings").await.unwrap();
        assert_eq!(theirs["data"]["k"], "theirs");

        case.apply(case.policy("all", json!({"conflictResolution": "Overwrite"}))).await;
        case.until_in("alpha", "v1", "ConfigMap", "settings", |settings| settings["data"]["k"] == "ours").await;
        case.until_applied("settings-configmap").await;

        // The template's own word counts more than the policy's.
        objects::apply(&alpha, case.config("other", "theirs")).await;
        let mut other = case.config("other", "ours");
        other["metadata"]["annotations"] = json!({"work.karmada.io/conflict-resolution": "abort"});
        case.apply(other).await;
        case.until_in("beta", "v1", "ConfigMap", "other", |other| other["data"]["k"] == "ours").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let theirs = case.in_member("alpha", "v1", "ConfigMap", "other").await.unwrap();
        assert_eq!(theirs["data"]["k"], "theirs");
        // Removal spares what never was ours.
        case.delete("v1", "ConfigMap", "other").await;
        case.until_gone("beta", "v1", "ConfigMap", "other").await;
        case.until(BINDING.0, BINDING.1, "other-configmap", Value::is_null).await;
        assert!(case.in_member("alpha", "v1", "ConfigMap", "other").await.is_some());
        // Another plane's objects are no less others'.
        let mut foreign = case.config("foreign", "theirs");
        foreign["metadata"]["labels"] = json!({"karmada.io/managed": "true"});
        foreign["metadata"]["annotations"] = json!({"airdock.dev/plane": "another"});
        objects::apply(&alpha, foreign).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert!(case.in_member("alpha", "v1", "ConfigMap", "foreign").await.is_some(), "deleted as an orphan");

        // Nor are copies the plane's: somebody restored an object under another name, with all labels and annotations.
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("original", "ours")).await;
        let mut copy = case.until_in("alpha", "v1", "ConfigMap", "original", |original| !original.is_null()).await;
        copy["metadata"] = json!({"name": "restored", "namespace": case.namespace,
            "labels": copy["metadata"]["labels"], "annotations": copy["metadata"]["annotations"]});
        objects::apply(&alpha, copy).await;
        case.delete("v1", "ConfigMap", "original").await;
        case.until_gone("alpha", "v1", "ConfigMap", "original").await;
        case.until(BINDING.0, BINDING.1, "original-configmap", Value::is_null).await;
        assert!(case.in_member("alpha", "v1", "ConfigMap", "restored").await.is_some(), "a copy was deleted");

        // Another Karmada sets no mark, but the same label and the name of its binding.
        let mut upstream = case.config("upstream", "theirs");
        upstream["metadata"]["labels"] = json!({"karmada.io/managed": "true"});
        upstream["metadata"]["annotations"] = json!({"resourcetemplate.karmada.io/uid": "another",
            "resourcebinding.karmada.io/namespace": case.namespace, "resourcebinding.karmada.io/name": "upstream-configmap"});
        objects::apply(&alpha, upstream).await;
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("upstream", "ours")).await;
        let binding = case
            .until(BINDING.0, BINDING.1, "upstream-configmap", |binding| {
                binding["status"]["aggregatedStatus"].as_array().is_some_and(|items| items.len() == 3)
            })
            .await;
        let message = binding["status"]["aggregatedStatus"][0]["appliedMessage"].as_str().unwrap();
        assert!(message.contains("managed by another control plane"), "{message}");
        case.delete("v1", "ConfigMap", "upstream").await;
        case.until(BINDING.0, BINDING.1, "upstream-configmap", Value::is_null).await;
        let theirs = case.in_member("alpha", "v1", "ConfigMap", "upstream").await.expect("deleted with our template");
        assert_eq!(theirs["data"]["k"], "theirs");
    });
}

#[test]
fn kinds_with_fields_of_the_members_own() {
    with_env("retain", async |case| {
        let traffic = case.start_counted();
        let selectors = json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "Service"}, {"apiVersion": "batch/v1", "kind": "Job"},
            {"apiVersion": "v1", "kind": "ServiceAccount"}, {"apiVersion": "apps/v1", "kind": "Deployment"}]});
        case.apply(case.policy("all", selectors)).await;
        case.apply(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": case.namespace},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP"}]}}),
        )
        .await;
        case.apply(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": case.namespace},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}}),
        )
        .await;
        case.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": case.namespace}}))
            .await;
        let mut scaled = case.deployment("scaled", 2);
        scaled["metadata"]["labels"] = json!({"resourcetemplate.karmada.io/retain-replicas": "true"});
        case.apply(scaled.clone()).await;
        for binding in ["web-service", "job-job", "robot-serviceaccount", "scaled-deployment"] {
            case.until_applied(binding).await;
        }
        let scale = json!({"spec": {"replicas": 7}});
        objects::merge(&case.clients["beta"], "apps/v1", "Deployment", &case.namespace, "scaled", scale).await;
        scaled["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:2");
        case.apply(scaled).await;
        let beta = case
            .until_in("beta", "apps/v1", "Deployment", "scaled", |new| {
                new["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"
            })
            .await;
        assert_eq!(beta["spec"]["replicas"], 7);
        // A change of the Service keeps addresses and ports of each cluster.
        let before = case.in_member("gamma", "v1", "Service", "web").await.unwrap();
        case.apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": case.namespace, "labels": {"new": "1"}},
            "spec": {"type": "NodePort", "selector": {"app": "web2"}, "ports": [{"port": 80, "protocol": "TCP"}]}}))
        .await;
        let after =
            case.until_in("gamma", "v1", "Service", "web", |web| web["spec"]["selector"]["app"] == "web2").await;
        assert_eq!(after["spec"]["clusterIP"], before["spec"]["clusterIP"]);
        assert_eq!(after["spec"]["ports"][0]["nodePort"], before["spec"]["ports"][0]["nodePort"]);
        case.until_quiet(&traffic).await;
        let settled = traffic.writes().len();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(traffic.writes()[settled..], [""; 0]);
        let template = case.get("batch/v1", "Job", "job").await.unwrap();
        let job = case.in_member("alpha", "batch/v1", "Job", "job").await.unwrap();
        assert_ne!(job["spec"]["selector"], template["spec"]["selector"], "each cluster has a selector of its own");
    });
}

#[test]
fn nowhere_to_go_and_bad_differences_are_told() {
    with_env("refused", async |case| {
        case.start_counted();
        case.apply(case.policy("all", only(&["delta"]))).await;
        case.apply(case.config("lost", "v")).await;
        let binding = case
            .until(BINDING.0, BINDING.1, "lost-configmap", |binding| condition(binding, "Scheduled") == "False")
            .await;
        let scheduled = &binding["status"]["conditions"][0];
        assert_eq!(scheduled["reason"], "NoClusterFit");
        let message = scheduled["message"].as_str().unwrap();
        assert!(
            message.contains("did not match spec.placement.clusterAffinity.clusterNames [delta] (alpha, beta, gamma)"),
            "{message}"
        );

        case.apply(json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "OverridePolicy",
            "metadata": {"name": "bad", "namespace": case.namespace},
            "spec": {"overrideRules": [{"targetCluster": {"clusterNames": ["beta"]},
                "overriders": {"plaintext": [{"path": "/data/none", "operator": "remove"}]}}]}}))
            .await;
        case.apply(case.policy("all", json!({}))).await;
        let binding = case
            .until(BINDING.0, BINDING.1, "lost-configmap", |binding| {
                binding["status"]["aggregatedStatus"].as_array().is_some_and(|items| items.len() == 3)
            })
            .await;
        let item = &binding["status"]["aggregatedStatus"][1];
        assert_eq!(item["applied"], false);
        let message = item["appliedMessage"].as_str().unwrap();
        assert!(
            message.starts_with("OverridePolicy refused/bad: overrideRules[0].overriders.plaintext[0]"),
            "{message}"
        );
        assert!(case.in_member("beta", "v1", "ConfigMap", "lost").await.is_none());
        case.delete("policy.karmada.io/v1alpha1", "OverridePolicy", "bad").await;
        case.until_applied("lost-configmap").await;
    });
}

#[test]
fn cluster_scoped_objects_and_namespaces() {
    with_env("scoped", async |case| {
        case.start_counted();
        case.apply(json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "ClusterPropagationPolicy", "metadata": {"name": "roles"},
            "spec": {"resourceSelectors": [{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "team:viewer"}]}}))
        .await;
        let role = ("rbac.authorization.k8s.io/v1", "ClusterRole");
        case.apply(json!({"apiVersion": role.0, "kind": role.1, "metadata": {"name": "team:viewer"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}))
            .await;
        let in_beta =
            async |case: &Case<'_>| objects::get(&case.clients["beta"], role.0, role.1, "", "team:viewer").await;
        crate::harness::eventually("role in beta", crate::env::SOON, async || {
            in_beta(case).await.ok_or_else(String::new)
        })
        .await;
        // Namespaces go to every member by themselves, unless they are told not to.
        case.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "scoped-stays", "labels":
            {"namespace.karmada.io/skip-auto-propagation": "true"}}}))
            .await;
        case.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "scoped-goes"}})).await;
        let ns = async |name: &str| objects::get(&case.clients["gamma"], "v1", "Namespace", "", name).await;
        crate::harness::eventually("namespace in gamma", crate::env::SOON, async || {
            ns("scoped-goes").await.ok_or_else(String::new)
        })
        .await;
        for name in ["scoped-stays", "karmada-cluster"] {
            assert!(ns(name).await.is_none(), "{name}");
        }
        objects::delete(&case.plane, role.0, role.1, "", "team:viewer").await;
        crate::harness::eventually("role gone", crate::env::SOON, async || {
            in_beta(case).await.map_or(Ok(()), |role| Err(role.to_string()))
        })
        .await;
        let bindings = objects::api(&case.plane, "work.karmada.io/v1alpha2", "ClusterResourceBinding", "");
        crate::harness::eventually("binding gone", crate::env::SOON, async || {
            let left = bindings.list(&Default::default()).await.unwrap().items.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
        })
        .await;
        objects::delete(&case.plane, "policy.karmada.io/v1alpha1", "ClusterPropagationPolicy", "", "roles").await;
    });
}

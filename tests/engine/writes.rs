//! What is written into members over what others write there.

use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use crate::env::{Case, SOON, with_env};
use crate::harness::crash::FaultInjector;
use crate::harness::{eventually, objects};

const APPS: (&str, &str) = ("apps/v1", "Deployment");
const CLUSTER: (&str, &str) = ("cluster.karmada.io/v1alpha1", "Cluster");

/// A Deployment that sets every list that is changed in these tests.
fn deployment(case: &Case<'_>) -> Value {
    let mut object = case.deployment("web", 1);
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([{"name": "A", "value": "1"}]);
    container["args"] = json!(["-v"]);
    container["ports"] = json!([{"containerPort": 80}]);
    object
}

fn pod_spec(object: &Value) -> Value {
    object.pointer("/spec/template/spec").cloned().unwrap_or_default()
}

/// Nothing is written any more, neither by this engine nor by one that is just started.
async fn until_settled(case: &mut Case<'_>, traffic: &FaultInjector) {
    case.until_quiet(traffic).await;
    case.kill();
    let traffic = case.start_counted();
    case.until_ready("alpha", "True", SOON).await;
    case.until_quiet(&traffic).await;
    assert_eq!(traffic.writes(), [""; 0], "written by a new engine although all is as it should be");
}

#[test]
fn what_a_members_users_add_is_removed() {
    with_env("additions", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(deployment(case)).await;
        case.apply(case.config("settings", "v")).await;
        case.until_applied("web-deployment").await;
        case.until_applied("settings-configmap").await;
        let before = pod_spec(&case.in_member("alpha", APPS.0, APPS.1, "web").await.unwrap());

        let alpha = case.clients["alpha"].clone();
        let container = before["containers"][0].clone();
        let with = |changes: Value| {
            let mut container = container.clone();
            container.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            json!({"containers": [container]})
        };
        let added = [
            ("a variable", with(json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}))),
            ("an argument", with(json!({"args": ["-v", "-x"]}))),
            ("a port", with(json!({"ports": [{"containerPort": 80}, {"containerPort": 81}]}))),
            ("a command where there was none", with(json!({"command": ["sh"]}))),
            ("a container", json!({"containers": [container, {"name": "side", "image": "busybox"}]})),
            ("a volume", json!({"volumes": [{"name": "cache", "emptyDir": {}}]})),
            ("a field", json!({"hostNetwork": true})),
        ];
        for (what, spec) in added {
            let patch = json!({"metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}, "finalizers": ["example.io/theirs"]},
                "spec": {"template": {"spec": spec}}});
            let api = objects::api(&alpha, APPS.0, APPS.1, &case.namespace);
            let changed = api.patch("web", &Default::default(), &kube::api::Patch::Merge(&patch)).await.unwrap();
            assert_ne!(pod_spec(&serde_json::to_value(changed).unwrap()), before, "{what} was not added");
            case.until_in("alpha", APPS.0, APPS.1, "web", |web| pod_spec(web) == before).await;
        }
        let data = json!({"data": {"theirs": "1"}});
        objects::merge(&alpha, "v1", "ConfigMap", &case.namespace, "settings", data).await;
        case.until_in("alpha", "v1", "ConfigMap", "settings", |settings| settings["data"] == json!({"k": "v"})).await;

        until_settled(case, &traffic).await;
        let web = case.in_member("alpha", APPS.0, APPS.1, "web").await.unwrap();
        let metadata = &web["metadata"];
        assert_eq!((&metadata["labels"]["theirs"], &metadata["annotations"]["theirs"]), (&json!("1"), &json!("1")));
        assert_eq!(metadata["finalizers"], json!(["example.io/theirs"]));
        let free = json!({"metadata": {"finalizers": null}});
        objects::merge(&alpha, APPS.0, APPS.1, &case.namespace, "web", free).await;
    });
}

#[test]
fn what_nobody_set_stays() {
    with_env("injected", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(deployment(case)).await;
        case.until_applied("web-deployment").await;
        case.until_quiet(&traffic).await;
        case.kill();
        // As an admission webhook does it: without a manager.
        let alpha = case.clients["alpha"].clone();
        let before = case.in_member("alpha", APPS.0, APPS.1, "web").await.unwrap();
        let mut injected = pod_spec(&before);
        injected["containers"].as_array_mut().unwrap().insert(0, json!({"name": "side", "image": "busybox"}));
        let patch = json!({"spec": {"template": {"spec": injected}}});
        objects::merge(&alpha, APPS.0, APPS.1, &case.namespace, "web", patch).await;
        let patch = json!({"metadata": {"managedFields": before["metadata"]["managedFields"]}});
        objects::merge(&alpha, APPS.0, APPS.1, &case.namespace, "web", patch).await;
        let names = |web: &Value| {
            let containers = pod_spec(web)["containers"].as_array().cloned().unwrap_or_default();
            containers.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };

        let traffic = case.start_counted();
        case.until_ready("alpha", "True", SOON).await;
        case.until_quiet(&traffic).await;
        assert_eq!(traffic.writes(), [""; 0], "fought over a webhook's container");
        // It outlives changes of the template, too.
        let mut changed = deployment(case);
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:2");
        case.apply(changed).await;
        let web = case
            .until_in("alpha", APPS.0, APPS.1, "web", |web| {
                pod_spec(web)["containers"].as_array().is_some_and(|all| all.iter().any(|c| c["image"] == "nginx:2"))
            })
            .await;
        assert_eq!(names(&web), ["side", "c"]);
        until_settled(case, &traffic).await;
    });
}

#[test]
fn a_variable_may_be_there_twice() {
    with_env("twice", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        let mut web = deployment(case);
        let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
        web["spec"]["template"]["spec"]["containers"][0]["env"] = env.clone();
        // Only creates and updates allow it.
        let api = objects::api(&case.plane, APPS.0, APPS.1, &case.namespace);
        api.create(&Default::default(), &serde_json::from_value(web).unwrap()).await.unwrap();
        case.until_applied("web-deployment").await;
        objects::merge(&case.plane, APPS.0, APPS.1, &case.namespace, "web", json!({"spec": {"replicas": 3}})).await;
        let web = case.until_in("alpha", APPS.0, APPS.1, "web", |web| web["spec"]["replicas"] == 3).await;
        assert_eq!(pod_spec(&web)["containers"][0]["env"], env);
        case.until_applied("web-deployment").await;
        until_settled(case, &traffic).await;
    });
}

#[test]
fn fields_of_a_members_controllers_stay() {
    with_env("retained", async |case| {
        let traffic = case.start_counted();
        let kinds = [("v1", "Service"), ("v1", "PersistentVolumeClaim"), (APPS.0, APPS.1)];
        let selectors: Vec<Value> = kinds.iter().map(|(v, k)| json!({"apiVersion": v, "kind": k})).collect();
        case.apply(case.policy("all", json!({"resourceSelectors": selectors}))).await;
        let mut web = case.deployment("web", 2);
        web["metadata"]["labels"] = json!({"resourcetemplate.karmada.io/retain-replicas": "true"});
        case.apply(web).await;
        case.apply(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": case.namespace},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
            .await;
        case.apply(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": case.namespace},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        )
        .await;
        for binding in ["web-deployment", "data-persistentvolumeclaim", "web-service"] {
            case.until_applied(binding).await;
        }
        // Members serve the port that the plane shows; addresses are theirs.
        let in_plane = case.get("v1", "Service", "web").await.unwrap();
        let service = case.in_member("alpha", "v1", "Service", "web").await.unwrap();
        assert!(service["spec"]["ports"][0]["nodePort"].is_i64());
        assert_eq!(service["spec"]["ports"], in_plane["spec"]["ports"]);

        let alpha = case.clients["alpha"].clone();
        objects::merge(&alpha, APPS.0, APPS.1, &case.namespace, "web", json!({"spec": {"replicas": 7}})).await;
        let bound = json!({"spec": {"volumeName": "pv-1"}});
        objects::merge(&alpha, "v1", "PersistentVolumeClaim", &case.namespace, "data", bound).await;
        // An update of each leaves them.
        let label = json!({"metadata": {"labels": {"changed": "1"}}});
        for (api_version, kind, name) in
            [(APPS.0, APPS.1, "web"), ("v1", "PersistentVolumeClaim", "data"), ("v1", "Service", "web")]
        {
            objects::merge(&case.plane, api_version, kind, &case.namespace, name, label.clone()).await;
            case.until_in("alpha", api_version, kind, name, |object| object["metadata"]["labels"]["changed"] == "1")
                .await;
        }
        until_settled(case, &traffic).await;
        let get = async |case: &Case<'_>, api_version: &str, kind: &str, name: &str| {
            case.in_member("alpha", api_version, kind, name).await.unwrap()["spec"].clone()
        };
        assert_eq!(get(case, APPS.0, APPS.1, "web").await["replicas"], 7);
        assert_eq!(get(case, "v1", "PersistentVolumeClaim", "data").await["volumeName"], "pv-1");
        assert_eq!(get(case, "v1", "Service", "web").await, service["spec"]);
    });
}

#[test]
fn an_override_adds_the_first_label_and_annotation() {
    with_env("first", async |case| {
        case.start_counted();
        case.apply(json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "OverridePolicy",
            "metadata": {"name": "first", "namespace": case.namespace},
            "spec": {"overrideRules": [{"overriders": {"plaintext": [
                {"path": "/metadata/labels/team", "operator": "add", "value": "a"},
                {"path": "/metadata/annotations/team", "operator": "add", "value": "b"},
                {"path": "/metadata/finalizers", "operator": "add", "value": ["example.io/never"]},
                {"path": "/metadata/ownerReferences", "operator": "add", "value": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}]}]}}]}}))
            .await;
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("settings", "v")).await;
        case.until_applied("settings-configmap").await;
        let metadata = &case.in_member("alpha", "v1", "ConfigMap", "settings").await.unwrap()["metadata"];
        assert_eq!((&metadata["labels"]["team"], &metadata["annotations"]["team"]), (&json!("a"), &json!("b")));
        assert_eq!((metadata.get("finalizers"), metadata.get("ownerReferences")), (None, None));
    });
}

/// There is no controller for namespaces.
async fn finish_namespace(client: &Client, name: &str) {
    let Some(mut namespace) = objects::get(client, "v1", "Namespace", "", name).await else { return };
    namespace["spec"] = json!({"finalizers": []});
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header("content-type", "application/json")
        .body(namespace.to_string().into_bytes())
        .unwrap();
    client.request_text(request).await.unwrap();
}

#[test]
fn a_namespace_goes_where_the_engine_made_it() {
    with_env("made", async |case| {
        case.start_counted();
        case.until_ready("alpha", "True", SOON).await;
        let alpha = case.clients["alpha"].clone();
        for name in ["made-left", "made-adopted"] {
            objects::namespace(&alpha, name).await;
        }
        let in_member = async |case: &Case<'_>, member: &str, name: &str| {
            objects::get(&case.clients[member], "v1", "Namespace", "", name).await
        };
        let overwrite = json!({"work.karmada.io/conflict-resolution": "overwrite"});
        for (name, annotations) in [("made-left", json!({})), ("made-adopted", overwrite)] {
            case.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}}))
                .await;
        }
        let managed = |namespace: &Value| namespace["metadata"]["labels"]["karmada.io/managed"] == "true";
        for (member, name) in [("alpha", "made-adopted"), ("beta", "made-adopted"), ("beta", "made-left")] {
            eventually(&format!("{name} in {member}"), SOON, async || {
                in_member(case, member, name).await.filter(managed).map(|_| ()).ok_or_else(String::new)
            })
            .await;
        }
        for name in ["made-left", "made-adopted"] {
            objects::delete(&case.plane, "v1", "Namespace", "", name).await;
            finish_namespace(&case.plane, name).await;
        }
        for name in ["made-left", "made-adopted"] {
            eventually(&format!("{name} is deleted in beta"), SOON, async || {
                match in_member(case, "beta", name).await {
                    Some(namespace) if namespace["metadata"].get("deletionTimestamp").is_none() => {
                        Err(namespace.to_string())
                    }
                    _ => Ok(()),
                }
            })
            .await;
            finish_namespace(&case.clients["beta"], name).await;
        }
        eventually("made-adopted is released in alpha", SOON, async || {
            let namespace = in_member(case, "alpha", "made-adopted").await.ok_or_else(|| "deleted".to_owned())?;
            if managed(&namespace) { Err(namespace.to_string()) } else { Ok(()) }
        })
        .await;
        for name in ["made-left", "made-adopted"] {
            let namespace = in_member(case, "alpha", name).await.expect("it was there before");
            assert_eq!(namespace["metadata"].get("deletionTimestamp"), None, "{name}");
            assert!(!namespace["metadata"]["annotations"].to_string().contains("airdock.dev/"), "{namespace}");
        }
    });
}

#[test]
fn a_forced_unjoin_does_not_wait_for_finalizers() {
    with_env("forced", async |case| {
        case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        for name in ["held", "free"] {
            case.apply(case.config(name, "v")).await;
            case.until_applied(&format!("{name}-configmap")).await;
        }
        let gamma = case.clients["gamma"].clone();
        let hold = json!({"metadata": {"finalizers": ["example.io/never"]}});
        objects::merge(&gamma, "v1", "ConfigMap", &case.namespace, "held", hold).await;
        objects::delete(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma").await;
        case.until_gone("gamma", "v1", "ConfigMap", "free").await;
        case.until_in("gamma", "v1", "ConfigMap", "held", |held| held["metadata"].get("deletionTimestamp").is_some())
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let cluster = async |case: &Case<'_>| objects::get(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma").await;
        assert!(cluster(case).await.is_some(), "left although an object of the plane is still there");
        let force = json!({"metadata": {"annotations": {"airdock.dev/force-unjoin": "true"}}});
        objects::merge(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma", force).await;
        eventually("gamma is left", Duration::from_secs(15), async || {
            cluster(case).await.map_or(Ok(()), |cluster| Err(cluster["metadata"].to_string()))
        })
        .await;
        let free = json!({"metadata": {"finalizers": null}});
        objects::merge(&gamma, "v1", "ConfigMap", &case.namespace, "held", free).await;
        // What other tests left there went too.
        for namespace in objects::api(&gamma, "v1", "Namespace", "").list(&Default::default()).await.unwrap() {
            if namespace.metadata.deletion_timestamp.is_some() {
                finish_namespace(&gamma, &namespace.metadata.name.unwrap()).await;
            }
        }
    });
}

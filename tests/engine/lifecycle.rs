//! How long what runs in members lives: longer than its policy, as long as its template, and where it is.

use std::time::Duration;

use airdock::karmada::POLICY_PERMANENT_ID_LABEL;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::env::{Case, NAMES, SOON, with_env};
use crate::faults::until_left;
use crate::harness::{eventually, objects};

const BINDING: (&str, &str) = ("work.karmada.io/v1alpha2", "ResourceBinding");
const POLICY: (&str, &str) = ("policy.karmada.io/v1alpha1", "PropagationPolicy");
const CLUSTER: (&str, &str) = ("cluster.karmada.io/v1alpha1", "Cluster");

/// Deletes a ConfigMap of the plane. No garbage collector runs in these tests: they do its part.
async fn delete(case: &Case<'_>, name: &str, params: DeleteParams) {
    objects::api(&case.plane, "v1", "ConfigMap", &case.namespace).delete(name, &params).await.unwrap();
}

async fn merge(case: &Case<'_>, kind: (&str, &str), name: &str, patch: Value) {
    objects::merge(&case.plane, kind.0, kind.1, &case.namespace, name, patch).await;
}

#[test]
fn a_workload_outlives_its_policy() {
    with_env("outlives", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("settings", "v")).await;
        case.until_applied("settings-configmap").await;
        // Karmada's clients find what a policy claims by its permanent id.
        let id = |object: &Value| object["metadata"]["labels"].get(POLICY_PERMANENT_ID_LABEL).cloned();
        let policy = case.until(POLICY.0, POLICY.1, "all", |policy| id(policy).is_some()).await;
        let bound = case.until(BINDING.0, BINDING.1, "settings-configmap", |binding| id(binding) == id(&policy)).await;
        assert_eq!(id(&bound), Some(policy["metadata"]["uid"].clone()));
        case.delete(POLICY.0, POLICY.1, "all").await;
        let unclaimed = case
            .until(BINDING.0, BINDING.1, "settings-configmap", |binding| {
                let annotations = &binding["metadata"]["annotations"];
                let is_claimed =
                    annotations.get("propagationpolicy.karmada.io/name").is_some() || id(binding).is_some();
                binding["spec"].is_object() && !is_claimed
            })
            .await;
        case.until_quiet(&traffic).await;
        // Drift is put right, and edits of the template are sent nowhere, by this engine and by the next one.
        let mut before = Vec::new();
        for name in NAMES {
            before.push(case.in_member(name, "v1", "ConfigMap", "settings").await.unwrap());
        }
        case.apply(case.config("settings", "edited")).await;
        case.until_quiet(&traffic).await;
        case.kill();
        let traffic = case.start_counted();
        for name in NAMES {
            case.until_ready(name, "True", crate::env::SOON).await;
        }
        case.until_quiet(&traffic).await;
        for (name, before) in NAMES.iter().zip(before) {
            assert_eq!(case.in_member(name, "v1", "ConfigMap", "settings").await, Some(before), "{name}");
        }
        case.apply(case.config("settings", "v")).await;
        let drift = json!({"data": {"k": "drift"}});
        objects::merge(&case.clients["beta"], "v1", "ConfigMap", &case.namespace, "settings", drift).await;
        case.until_in("beta", "v1", "ConfigMap", "settings", |settings| settings["data"]["k"] == "v").await;
        case.apply(case.config("settings", "edited")).await;
        // A policy that selects it again takes up the same binding.
        case.apply(case.policy("again", json!({}))).await;
        for name in NAMES {
            case.until_in(name, "v1", "ConfigMap", "settings", |settings| settings["data"]["k"] == "edited").await;
        }
        let claimed = case.until_applied("settings-configmap").await;
        assert_eq!(claimed["metadata"]["uid"], unclaimed["metadata"]["uid"]);
        // A policy that no longer selects it lets it be; its template takes it along.
        let other = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "other"}]);
        case.apply(case.policy("again", json!({"resourceSelectors": other}))).await;
        case.apply(case.config("other", "v")).await;
        case.until_applied("other-configmap").await;
        assert!(case.in_member("gamma", "v1", "ConfigMap", "settings").await.is_some());
        case.delete("v1", "ConfigMap", "settings").await;
        for name in NAMES {
            case.until_gone(name, "v1", "ConfigMap", "settings").await;
        }
        case.until(BINDING.0, BINDING.1, "settings-configmap", Value::is_null).await;
    });
}

#[test]
fn the_ways_of_deleting_a_template() {
    with_env("cascades", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        for name in ["orphaned", "foreground", "held"] {
            case.apply(case.config(name, "v")).await;
        }
        for name in ["orphaned", "foreground", "held"] {
            case.until_applied(&format!("{name}-configmap")).await;
        }
        merge(case, ("v1", "ConfigMap"), "held", json!({"metadata": {"finalizers": ["example.io/hold"]}})).await;
        case.until_quiet(&traffic).await;

        delete(case, "held", DeleteParams::default()).await;
        delete(case, "foreground", DeleteParams::foreground()).await;
        delete(case, "orphaned", DeleteParams::orphan()).await;
        for name in NAMES {
            case.until_gone(name, "v1", "ConfigMap", "foreground").await;
        }
        case.until(BINDING.0, BINDING.1, "foreground-configmap", Value::is_null).await;
        case.until_quiet(&traffic).await;
        assert_eq!(case.get(BINDING.0, BINDING.1, "foreground-configmap").await, None, "made anew");
        let free = json!({"metadata": {"finalizers": null}});
        merge(case, ("v1", "ConfigMap"), "foreground", free.clone()).await;

        merge(case, BINDING, "orphaned-configmap", json!({"metadata": {"ownerReferences": null}})).await;
        case.until_quiet(&traffic).await;
        merge(case, ("v1", "ConfigMap"), "orphaned", free.clone()).await;
        case.until("v1", "ConfigMap", "orphaned", Value::is_null).await;
        case.until_quiet(&traffic).await;
        case.kill();
        let traffic = case.start_counted();
        for name in NAMES {
            case.until_ready(name, "True", crate::env::SOON).await;
        }
        case.until_quiet(&traffic).await;
        for name in NAMES {
            for kept in ["orphaned", "held"] {
                assert!(case.in_member(name, "v1", "ConfigMap", kept).await.is_some(), "{kept} in {name}");
            }
        }
        merge(case, ("v1", "ConfigMap"), "held", free).await;
        for name in NAMES {
            case.until_gone(name, "v1", "ConfigMap", "held").await;
        }
        case.until(BINDING.0, BINDING.1, "held-configmap", Value::is_null).await;
        assert!(case.get(BINDING.0, BINDING.1, "orphaned-configmap").await.is_some());
        case.delete(BINDING.0, BINDING.1, "orphaned-configmap").await;
        for name in NAMES {
            case.until_gone(name, "v1", "ConfigMap", "orphaned").await;
        }
    });
}

#[test]
fn a_division_does_not_follow_the_clusters() {
    with_env("steady", async |case| {
        let label = async |case: &Case<'_>, cluster: &str, value: Value| {
            let patch = json!({"metadata": {"labels": {"steady": value}}});
            objects::merge(&case.plane, CLUSTER.0, CLUSTER.1, "", cluster, patch).await;
        };
        for name in ["alpha", "beta"] {
            label(case, name, json!("yes")).await;
        }
        case.start_counted();
        for name in NAMES {
            case.until_ready(name, "True", crate::env::SOON).await;
        }
        case.apply(case.policy(
            "all",
            json!({"placement": {"clusterAffinity": {"labelSelector": {"matchLabels": {"steady": "yes"}}},
                "replicaScheduling": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"}}}),
        ))
        .await;
        case.apply(case.deployment("web", 6)).await;
        case.apply(case.config("settings", "v")).await;
        case.until_applied("web-deployment").await;
        case.until_applied("settings-configmap").await;
        let clusters = async |case: &Case<'_>| {
            case.get(BINDING.0, BINDING.1, "web-deployment").await.unwrap()["spec"]["clusters"].clone()
        };
        let halves = json!([{"name": "alpha", "replicas": 3}, {"name": "beta", "replicas": 3}]);
        assert_eq!(clusters(case).await, halves);
        // What is not divided follows, and shows that the engine has seen the change.
        label(case, "gamma", json!("yes")).await;
        case.until_in("gamma", "v1", "ConfigMap", "settings", |settings| !settings.is_null()).await;
        label(case, "beta", json!("no")).await;
        case.until_gone("beta", "v1", "ConfigMap", "settings").await;
        assert_eq!(clusters(case).await, halves);
        case.kill();
        let traffic = case.start_counted();
        case.until_ready("beta", "True", crate::env::SOON).await;
        case.until_quiet(&traffic).await;
        assert_eq!(clusters(case).await, halves, "after a restart");
        assert!(case.in_member("gamma", "apps/v1", "Deployment", "web").await.is_none());
        // Another number of replicas is divided among those that match now.
        case.apply(case.deployment("web", 8)).await;
        case.until_in("gamma", "apps/v1", "Deployment", "web", |web| web["spec"]["replicas"] == 4).await;
        case.until_gone("beta", "apps/v1", "Deployment", "web").await;
        for name in NAMES {
            label(case, name, Value::Null).await;
        }
    });
}

fn definition(kind: &str) -> CustomResourceDefinition {
    let (singular, plural) = (kind.to_lowercase(), format!("{}s", kind.to_lowercase()));
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.lifecycle.example.io")},
        "spec": {"group": "lifecycle.example.io", "scope": "Namespaced",
            "names": {"kind": kind, "singular": singular, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}}))
    .unwrap()
}

#[test]
fn a_definition_that_is_deleted_takes_its_objects_along() {
    with_env("defined", async |case| {
        let kind = ("lifecycle.example.io/v1", "Widget");
        // Another kind of the group stays.
        objects::define(&case.plane, &[definition("Widget"), definition("Gadget")]).await;
        objects::define(&case.clients["alpha"], &[definition("Widget")]).await;
        case.start_counted();
        let selectors = json!([{"apiVersion": kind.0, "kind": kind.1}]);
        case.apply(case.policy("all", json!({"resourceSelectors": selectors}))).await;
        case.apply(
            json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": "w", "namespace": case.namespace}}),
        )
        .await;
        case.until_in("alpha", kind.0, kind.1, "w", |widget| !widget.is_null()).await;
        case.kill();
        let definitions = objects::api(&case.plane, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "");
        definitions.delete("widgets.lifecycle.example.io", &DeleteParams::default()).await.unwrap();
        crate::harness::eventually("definition gone", crate::env::SOON, async || {
            let left = definitions.get_opt("widgets.lifecycle.example.io").await.unwrap();
            if left.is_none() { Ok(()) } else { Err(String::new()) }
        })
        .await;
        case.start_counted();
        case.until_gone("alpha", kind.0, kind.1, "w").await;
        case.until(BINDING.0, BINDING.1, "w-widget", Value::is_null).await;
    });
}

/// What members' users have put into a namespace that Airdock made for applications stays, and the namespace with it. One
/// that the plane's users made goes with all that is in it, as with Karmada.
#[test]
fn a_namespace_made_for_applications_does_not_take_others_objects_along() {
    with_env("namespaces", async |case| {
        case.start_counted();
        let made = |name: &str, annotations: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}});
        let theirs = |namespace: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": namespace}});
        let in_member = async |member: &str, name: &str| {
            objects::get(&case.clients[member], "v1", "Namespace", "", name).await.unwrap_or_default()
        };
        let until = async |member: &str, name: &str, what: &str, holds: fn(&Value) -> bool| {
            eventually(&format!("namespace {name} in {member} {what}"), Duration::from_secs(40), async || {
                let namespace = in_member(member, name).await;
                if holds(&namespace) { Ok(()) } else { Err(namespace.to_string()) }
            })
            .await;
        };
        let is_managed = |namespace: &Value| namespace["metadata"]["labels"]["karmada.io/managed"] == "true";
        let is_ending = |namespace: &Value| namespace["metadata"]["deletionTimestamp"].is_string();
        let for_applications = json!({"airdock.dev/created-for": "applications"});
        for (name, annotations) in [("of-applications", for_applications), ("of-users", json!({}))] {
            case.apply(made(name, annotations)).await;
            for member in ["alpha", "beta"] {
                until(member, name, "is there", is_managed).await;
            }
            objects::apply(&case.clients["alpha"], theirs(name)).await;
            objects::delete(&case.plane, "v1", "Namespace", "", name).await;
            objects::finalize_namespace(&case.plane, name).await;
        }
        until("alpha", "of-users", "goes", is_ending).await;
        until("beta", "of-users", "goes", is_ending).await;
        until("beta", "of-applications", "goes", is_ending).await;
        until("alpha", "of-applications", "is let go", |namespace| {
            namespace["metadata"]["labels"]["karmada.io/managed"].is_null()
                && namespace["metadata"]["deletionTimestamp"].is_null()
        })
        .await;
        let annotations = in_member("alpha", "of-applications").await["metadata"]["annotations"].clone();
        assert!(annotations["airdock.dev/plane"].is_null() && annotations["airdock.dev/created-for"].is_null());
        let found = objects::get(&case.clients["alpha"], "v1", "ConfigMap", "of-applications", "theirs").await;
        assert!(found.is_some_and(|found| found["metadata"]["deletionTimestamp"].is_null()));
        eventually("it is told", SOON, async || {
            let events = objects::api(&case.plane, "events.k8s.io/v1", "Event", "default");
            let events = events.list(&Default::default()).await.unwrap().items;
            let told = events.iter().any(|event| {
                event.data["reason"] == "NamespaceKept"
                    && event.data["note"].as_str().is_some_and(|note| note.contains("ConfigMap of-applications/theirs"))
            });
            if told { Ok(()) } else { Err(format!("{} events", events.len())) }
        })
        .await;
        // A member that leaves keeps what others have put into any namespace, and what is to be preserved.
        let leaving = ["with-theirs", "with-preserved", "vacant"];
        for name in leaving {
            case.apply(made(name, json!({}))).await;
            until("gamma", name, "is there", is_managed).await;
        }
        objects::apply(&case.clients["gamma"], theirs("with-theirs")).await;
        let mut policy = case.policy("preserving", json!({"preserveResourcesOnDeletion": true}));
        let mut kept = case.config("kept", "v");
        for object in [&mut policy, &mut kept] {
            object["metadata"]["namespace"] = json!("with-preserved");
            case.apply(object.clone()).await;
        }
        let in_gamma =
            async |name: &str| objects::get(&case.clients["gamma"], "v1", "ConfigMap", "with-preserved", name).await;
        eventually("it is in gamma", SOON, async || in_gamma("kept").await.ok_or_else(|| "it is not".to_owned())).await;
        objects::delete(&case.plane, CLUSTER.0, CLUSTER.1, "", "gamma").await;
        until_left(case, "gamma").await;
        let in_gamma_as = async |name: &str| {
            let namespace = objects::get(&case.clients["gamma"], "v1", "Namespace", "", name).await?;
            Some((is_managed(&namespace), is_ending(&namespace)))
        };
        assert_eq!(in_gamma_as("vacant").await, None);
        assert_eq!(in_gamma_as("with-theirs").await, Some((false, false)));
        assert_eq!(in_gamma_as("with-preserved").await, Some((false, false)));
        let kept = in_gamma("kept").await.unwrap();
        assert!(kept["metadata"]["labels"]["karmada.io/managed"].is_null(), "{kept}");
        objects::delete(&case.plane, "v1", "ConfigMap", "with-preserved", "kept").await;
        objects::delete(&case.plane, POLICY.0, POLICY.1, "with-preserved", "preserving").await;

        for member in ["alpha", "beta"] {
            for name in ["of-users", "of-applications"] {
                if is_ending(&in_member(member, name).await) {
                    objects::finalize_namespace(&case.clients[member], name).await;
                }
            }
        }
    });
}

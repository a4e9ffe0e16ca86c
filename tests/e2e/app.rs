//! Applications: placed, different from place to place, kept as they should be, removed.

use std::collections::BTreeMap;

use airdock::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::fleet::{self, INSTANCE, MEMBERS, NAMESPACE};
use crate::lab;

fn manifest(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: airdock.dev/v1alpha1
kind: MultiCloudApp
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  instanceRef: {{name: {INSTANCE}}}
  namespace: {name}
  components:
  - name: web
    manifests:
    - apiVersion: apps/v1
      kind: Deployment
      metadata: {{name: web}}
      spec:
        replicas: 2
        selector: {{matchLabels: {{app: web}}}}
        template:
          metadata: {{labels: {{app: web}}}}
          spec:
            containers: [{{name: web, image: 'lab.airdock.dev/hello:1', env: [{{name: GREETING, value: hello}}]}}]
    - apiVersion: v1
      kind: ConfigMap
      metadata: {{name: settings}}
      data: {{colour: blue}}
{rest}"
    )
}

#[tokio::test]
async fn an_application_runs_in_three_clusters_with_differences_and_is_kept_so() {
    let _lab = lab::shared().await;
    let fleet = fleet::fleet().await;
    let apps: Api<MultiCloudApp> = Api::namespaced(fleet.host.clone(), NAMESPACE);
    lab::apply(&manifest(
        "shop",
        "  differences:
  - match: {regions: [eu-west]}
    imageRegistry: registry.eu.example
    replicas: 3
    env: {GREETING: bonjour}
  - match: {providers: [borealis]}
    imageRegistry: registry.us.example
    patches: [{kind: ConfigMap, name: settings, operations: [{op: replace, path: /data/colour, value: red}]}]
",
    ));
    let app = lab::until_ready(&apps, "shop", 60).await;
    let status = app.status.unwrap();
    assert_eq!(status.clusters_ready.as_deref(), Some("3/3"));
    assert_eq!(status.replicas_ready.as_deref(), Some("7/7"));

    let expected: BTreeMap<&str, (&str, i32, &str, &str)> = [
        ("eu", ("registry.eu.example/hello:1", 3, "bonjour", "blue")),
        ("us", ("registry.us.example/hello:1", 2, "hello", "red")),
        ("host", ("lab.airdock.dev/hello:1", 2, "hello", "blue")),
    ]
    .into();
    for (name, ..) in MEMBERS {
        assert_eq!(seen_in(name, "shop").await.unwrap(), expected_of(expected[name]), "in {name}");
    }

    // Drift in a member is repaired: an edit, then a deletion.
    let web: Api<Deployment> = Api::namespaced(lab::member("eu").await, "shop");
    let edit = json!({"spec": {"replicas": 9}});
    web.patch("web", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    lab::eventually("an edit in the member is set back", 10, async || {
        (web.get("web").await.unwrap().spec.unwrap().replicas == Some(3)).then_some(())
    })
    .await;
    web.delete("web", &DeleteParams::default()).await.unwrap();
    lab::eventually("a deletion in the member is undone", 10, async || web.get_opt("web").await.unwrap()).await;

    // The overview knows of it all.
    let instances: Api<KarmadaInstance> = Api::namespaced(fleet.host.clone(), NAMESPACE);
    lab::eventually("the overview counts clusters, workloads, policies and bindings", 30, async || {
        let overview = instances.get(INSTANCE).await.unwrap().status?.overview?;
        let filled = overview.clusters_ready == "3/3"
            && overview.workloads.get("Deployment").is_some_and(|count| count.total >= 1)
            && overview.policies.values().sum::<i32>() >= 2
            && overview.bindings.total >= 2
            && overview.nodes.total >= 5
            && !overview.cpu.allocatable.is_empty();
        filled.then_some(())
    })
    .await;

    // Placement shrinks to one region: the others lose it. Then weights divide the replicas.
    lab::apply(&manifest("shop", "  placement: {regions: [eu-west]}\n"));
    lab::eventually("only eu has it left", 20, async || {
        let elsewhere = (seen_in("us", "shop").await, seen_in("host", "shop").await);
        matches!(elsewhere, (None, None)).then_some(())
    })
    .await;
    assert_eq!(seen_in("eu", "shop").await.unwrap().0, "lab.airdock.dev/hello:1", "differences are gone");
    // What is divided while a cluster is not ready stays with the others.
    let members: Api<MemberClusterJoin> = Api::namespaced(fleet.host.clone(), NAMESPACE);
    for name in ["eu", "us"] {
        lab::until_ready(&members, name, 60).await;
    }
    lab::apply(&manifest(
        "shop",
        "  placement: {clusters: [eu, us], replicas: {mode: Weighted, weights: [{regions: [eu-west], weight: 1}, {regions: [us-east], weight: 1}]}}\n",
    ));
    lab::eventually("two replicas are divided over eu and us", 20, async || {
        let replicas = (seen_in("eu", "shop").await?.1, seen_in("us", "shop").await?.1);
        (replicas == (1, 1)).then_some(())
    })
    .await;
    lab::until_ready(&apps, "shop", 30).await;

    lab::delete(&apps, "shop", 60).await;
    for (name, ..) in MEMBERS {
        assert!(seen_in(name, "shop").await.is_none(), "{name} still has it");
        let settings: Api<ConfigMap> = Api::namespaced(lab::member(name).await, "shop");
        assert!(settings.get_opt("settings").await.unwrap().is_none());
    }
}

type Seen = (String, i32, String, String);

fn expected_of((image, replicas, greeting, colour): (&str, i32, &str, &str)) -> Seen {
    (image.to_owned(), replicas, greeting.to_owned(), colour.to_owned())
}

/// Image, replicas, greeting and colour of the application in a member.
async fn seen_in(member: &str, namespace: &str) -> Option<Seen> {
    let client = lab::member(member).await;
    let web = Api::<Deployment>::namespaced(client.clone(), namespace).get_opt("web").await.unwrap()?;
    let spec = web.spec?;
    let container = spec.template.spec?.containers.into_iter().next()?;
    let greeting = container.env.unwrap_or_default().into_iter().rfind(|v| v.name == "GREETING")?.value?;
    let settings = Api::<ConfigMap>::namespaced(client, namespace).get_opt("settings").await.unwrap()?;
    Some((container.image?, spec.replicas?, greeting, settings.data?.get("colour")?.clone()))
}

#[tokio::test]
async fn what_a_member_already_has_is_not_taken_over() {
    let _lab = lab::shared().await;
    let fleet = fleet::fleet().await;
    let apps: Api<MultiCloudApp> = Api::namespaced(fleet.host.clone(), NAMESPACE);
    let us = lab::member("us").await;
    lab::namespace(&us, "taken").await;
    let settings: Api<ConfigMap> = Api::namespaced(us, "taken");
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "theirs"}});
    settings.patch("settings", &PatchParams::apply("somebody"), &Patch::Apply(&theirs)).await.unwrap();
    lab::apply(&manifest("taken", "  placement: {clusters: [us]}\n"));
    lab::until_condition(&apps, "taken", "Ready", "False", "us", 30).await;
    assert_eq!(settings.get("settings").await.unwrap().data.unwrap()["colour"], "theirs");
    lab::delete(&apps, "taken", 60).await;
    assert!(settings.get_opt("settings").await.unwrap().is_some(), "what was theirs stays");
    settings.delete("settings", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn cluster_scoped_kinds_and_foreign_namespaces_are_refused_until_corrected() {
    let _lab = lab::shared().await;
    let fleet = fleet::fleet().await;
    let apps: Api<MultiCloudApp> = Api::namespaced(fleet.host.clone(), NAMESPACE);
    for (object, words) in [
        ("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: x}}", "ClusterRole"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: kube-system}}", "kube-system"),
        ("{apiVersion: example.com/v1, kind: Widget, metadata: {name: x}}", "Widget"),
    ] {
        lab::apply(&format!(
            "apiVersion: airdock.dev/v1alpha1\nkind: MultiCloudApp\nmetadata: {{name: wrong, namespace: {NAMESPACE}}}\n\
             spec: {{instanceRef: {{name: {INSTANCE}}}, namespace: wrong, components: [{{name: a, manifests: [{object}]}}]}}\n"
        ));
        lab::until_condition(&apps, "wrong", "Ready", "False", words, 20).await;
    }
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MultiCloudApp\nmetadata: {{name: wrong, namespace: {NAMESPACE}}}\n\
         spec: {{instanceRef: {{name: {INSTANCE}}}, namespace: wrong, components: [{{name: a, manifests: \
         [{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, data: {{a: b}}}}]}}]}}\n"
    ));
    lab::until_ready(&apps, "wrong", 30).await;
    lab::delete(&apps, "wrong", 60).await;
}

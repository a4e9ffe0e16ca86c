//! The whole way of an application, with nothing played: from the `MultiCloudApp` through its controller and the
//! engine into two members, and back into its status. Host cluster and plane are one API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use airdock::api::MultiCloudApp;
use airdock::controllers::app;
use airdock::engine;
use airdock::runtime::metrics::Metrics;
use harness::crash::FaultInjector;
use harness::operator::Operator;
use harness::{ApiServer, eventually, objects, servers};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// An instance that is installed, with two members.
async fn fleet(host: &ApiServer, members: &[ApiServer]) {
    let client = host.client();
    let crds = [airdock::cli::crds::definitions(), airdock::karmada::definitions()].concat();
    objects::define(&client, &crds).await;
    objects::ready_instance(&client, "team", "fleet", json!({}), &host.kubeconfig()).await;
    for member in members {
        objects::join(&client, &member.name, &member.url(), &member.ca, &member.name).await;
    }
}

/// The engine and the controller of applications.
fn start(host: &ApiServer) -> Operator {
    Operator::start(host, &Arc::new(FaultInjector::never()), |context| {
        let options = engine::Options {
            factory: context.factory.clone(),
            metrics: Metrics::new(),
            settings: engine::Settings::default(),
            ready: Arc::new(AtomicBool::new(false)),
        };
        tokio::spawn(engine::run(context.host.0.clone(), options));
        tokio::spawn(app::run(context));
    })
}

fn application(replicas: Value, differences: Value) -> Value {
    json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp", "metadata": {"name": "shop", "namespace": "team"},
        "spec": {
            "instanceRef": {"name": "fleet"}, "namespace": "shop",
            "components": [{"name": "web", "manifests": [
                {
                    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                    "spec": {
                        "replicas": 4, "selector": {"matchLabels": {"app": "web"}},
                        "template": {
                            "metadata": {"labels": {"app": "web"}},
                            "spec": {
                                "initContainers": [{"name": "init", "image": "busybox"}],
                                "containers": [{"name": "web", "image": "docker.io/library/nginx:1", "env": [{"name": "A", "value": "1"}]}],
                            },
                        },
                    },
                },
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "blue"}},
            ]}],
            "placement": {"replicas": replicas},
            "differences": differences,
        },
    })
}

/// Images, replicas, environment and colour of the application in a member.
async fn seen(member: &Client) -> Option<Value> {
    let web = Api::<Deployment>::namespaced(member.clone(), "shop").get_opt("web").await.ok()??;
    let settings = Api::<ConfigMap>::namespaced(member.clone(), "shop").get_opt("settings").await.ok()??;
    let spec = web.spec?;
    let pods = spec.template.spec?;
    let container = pods.containers.first()?;
    let env: Vec<String> =
        container.env.iter().flatten().map(|e| format!("{}={}", e.name, e.value.clone().unwrap_or_default())).collect();
    Some(json!([
        pods.init_containers?[0].image,
        container.image,
        spec.replicas,
        env.join(" "),
        settings.data?["colour"]
    ]))
}

async fn until_seen(member: &Client, want: Value) {
    eventually("the member has it", SOON, async || match seen(member).await {
        Some(seen) if seen == want => Ok(()),
        other => Err(format!("{other:?} is not {want}")),
    })
    .await;
}

/// Plays the member's kubelets: says that all replicas are ready.
async fn all_ready(member: &Client) {
    let api = Api::<Deployment>::namespaced(member.clone(), "shop");
    let web = api.get("web").await.unwrap();
    let replicas = web.spec.unwrap().replicas;
    let status = json!({"status": {
        "observedGeneration": web.metadata.generation, "replicas": replicas, "updatedReplicas": replicas,
        "readyReplicas": replicas, "availableReplicas": replicas,
    }});
    api.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_goes_into_its_members_and_comes_back() {
    let (_etcd, [host, eu, us]) = servers(["host", "eu", "us"]).await;
    let members = [eu, us];
    let (eu, us) = (members[0].client(), members[1].client());
    fleet(&host, &members).await;
    let _operator = start(&host);
    let apps = Api::<MultiCloudApp>::namespaced(host.client(), "team");

    let patch = json!([{"kind": "ConfigMap", "name": "settings", "operations": [{"op": "replace", "path": "/data/colour", "value": "red"}]}]);
    let differences = json!([
        {"env": {"B": "2"}},
        {"match": {"regions": ["eu"]}, "imageRegistry": "eu.example/mirror", "replicas": 1, "env": {"A": "3"}},
        {"match": {"clusters": ["us"]}, "patches": patch},
    ]);
    objects::apply(&host.client(), application(json!({}), differences)).await;
    until_seen(&eu, json!(["eu.example/mirror/busybox", "eu.example/mirror/library/nginx:1", 1, "A=3 B=2", "blue"]))
        .await;
    until_seen(&us, json!(["busybox", "docker.io/library/nginx:1", 4, "A=1 B=2", "red"])).await;
    objects::until_app(&apps, "shop", "False", "Deployment web: 0 of ").await;
    all_ready(&eu).await;
    all_ready(&us).await;
    let status = objects::until_app(&apps, "shop", "True", "runs in eu, us").await.status.unwrap();
    assert_eq!((status.clusters_ready.as_deref(), status.replicas_ready.as_deref()), (Some("2/2"), Some("5/5")));

    // The replicas are divided, and nothing differs any more.
    let weights =
        json!({"mode": "Weighted", "weights": [{"regions": ["eu"], "weight": 3}, {"regions": ["us"], "weight": 1}]});
    objects::apply(&host.client(), application(weights, json!([]))).await;
    until_seen(&eu, json!(["busybox", "docker.io/library/nginx:1", 3, "A=1", "blue"])).await;
    until_seen(&us, json!(["busybox", "docker.io/library/nginx:1", 1, "A=1", "blue"])).await;

    apps.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", SOON, async || match apps.get_opt("shop").await.unwrap() {
        None => Ok(()),
        Some(app) => Err(format!("{:?}", app.status)),
    })
    .await;
    assert!(seen(&eu).await.is_none() && seen(&us).await.is_none(), "the members are clean when the app is gone");
}

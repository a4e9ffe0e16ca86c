//! One cache for each plane, on a real host and a real plane: how many watches it takes, and what a round costs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs)]

mod harness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use airdock::api::{MANAGED_BY, MANAGED_BY_LABEL, MultiCloudApp, PermissionBinding};
use airdock::controllers::{app, permission};
use airdock::machinery::conditions::find;
use airdock::machinery::error::is_not_found;
use airdock::runtime::client::{RequestHook, is_write};
use airdock::runtime::metrics::Metrics;
use futures::future::BoxFuture;
use harness::operator::Operator;
use harness::{ApiServer, Etcd, eventually, objects};
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// Every request that the operator sent, as method, host and path.
#[derive(Default)]
struct RequestLog(StdMutex<Vec<(Method, String, String)>>);

impl RequestLog {
    /// Those to one API server since the last call.
    fn taken(&self, server: &ApiServer) -> Vec<String> {
        let host = format!("127.0.0.1:{}", server.port);
        let all = std::mem::take(&mut *self.0.lock().unwrap());
        all.into_iter().filter(|(_, to, _)| *to == host).map(|(method, _, path)| format!("{method} {path}")).collect()
    }
}

impl RequestHook for RequestLog {
    fn before(&self, method: &Method, host: &str, path: &str) -> BoxFuture<'static, ()> {
        self.0.lock().unwrap().push((method.clone(), host.to_owned(), path.to_owned()));
        Box::pin(std::future::ready(()))
    }

    fn after(&self, _: &Method, _: &str, _: &str, _: u16, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct TestEnv {
    host: ApiServer,
    plane: ApiServer,
    _etcd: Etcd,
}

impl TestEnv {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let etcd = Etcd::start();
        let (mut host, mut plane) = (ApiServer::start(&etcd, "host"), ApiServer::start(&etcd, "plane"));
        host.ready().await;
        plane.ready().await;
        objects::define(&host.client(), &airdock::cli::crds::definitions()).await;
        objects::define(&plane.client(), &airdock::karmada::definitions()).await;
        let cluster = json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "eu"},
            "spec": {"syncMode": "Push", "region": "europe"},
        });
        objects::apply(&plane.client(), cluster).await;
        objects::ready_instance(&host.client(), "fleet", "east", json!({}), &plane.kubeconfig()).await;
        Self { host, plane, _etcd: etcd }
    }

    fn operator(&self, log: &Arc<RequestLog>, metrics: &mut Option<Metrics>) -> Operator {
        Operator::start(&self.host, log, |context| {
            *metrics = Some(context.metrics.clone());
            tokio::spawn(permission::run(context.clone()));
            tokio::spawn(app::run(context));
        })
    }
}

/// Watches that an API server serves, by resource.
async fn watches(client: &Client) -> BTreeMap<String, i64> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let mut watches = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("apiserver_longrunning_requests{")) {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        if label("verb").as_deref() == Some("WATCH") {
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            *watches.entry(label("resource").unwrap()).or_default() += count.round() as i64;
        }
    }
    watches
}

/// Watches that came on top.
fn added(before: &BTreeMap<String, i64>, now: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let more = now.iter().map(|(resource, count)| (resource.clone(), count - before.get(resource).unwrap_or(&0)));
    more.filter(|(_, more)| *more != 0).collect()
}

async fn until_ready<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    eventually(&format!("{name} is ready"), SOON, async || {
        let object = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
        let conditions = serde_json::from_value(object["status"]["conditions"].clone()).unwrap_or_default();
        let conditions: Vec<_> = conditions;
        match find(&conditions, "Ready") {
            Some(condition) if condition.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn permission_binding() -> Value {
    json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "PermissionBinding",
        "metadata": {"name": "readers", "namespace": "fleet"},
        "spec": {
            "subjects": [{"kind": "User", "name": "ann"}], "role": "Viewer",
            "scope": {"namespaces": ["shop"], "clusters": {"none": true}},
        },
    })
}

fn application() -> Value {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "colours"}, "data": {"a": "b"}});
    json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": "shop", "namespace": "fleet"},
        "spec": {"instanceRef": {"name": "east"}, "namespace": "shop",
                 "components": [{"name": "all", "manifests": [config]}]},
    })
}

/// Plays the engine: the application's object is in its cluster.
async fn bind(plane: &Client, api_version: &str, kind: &str) {
    let name = format!("colours-{}", kind.to_lowercase());
    let binding = json!({
        "apiVersion": "work.karmada.io/v1alpha2", "kind": "ResourceBinding",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"resource": {"apiVersion": api_version, "kind": kind, "name": "colours", "namespace": "shop"},
                 "clusters": [{"name": "eu"}]},
    });
    objects::namespace(plane, "shop").await;
    objects::apply(plane, binding).await;
    let item = json!({"clusterName": "eu", "applied": true, "health": "Healthy"});
    let (version, kind) = ("work.karmada.io/v1alpha2", "ResourceBinding");
    let status = json!({"aggregatedStatus": [item]});
    objects::merge_status(plane, version, kind, "shop", &name, status).await;
}

/// How many reconciles have ended.
fn rounds(metrics: &Metrics, controller: &str) -> u64 {
    let text = metrics.encode();
    let of = format!("controller=\"{controller}\"");
    let lines = text.lines().filter(|line| line.starts_with("controller_runtime_reconcile_total{"));
    lines.filter(|line| line.contains(&of)).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Makes a controller look at an object that is all right, and waits until it has.
async fn touch<K>(api: &Api<K>, name: &str, metrics: &Metrics, controller: &str, n: usize)
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let before = rounds(metrics, controller);
    let patch = json!({"metadata": {"annotations": {"touched": n.to_string()}}});
    api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    eventually("another round", SOON, async || {
        if rounds(metrics, controller) > before { Ok(()) } else { Err("none yet".to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plane_is_watched_once_and_a_round_in_which_nothing_happens_asks_it_once() {
    let env = TestEnv::start().await;
    let (host, plane) = (env.host.client(), env.plane.client());
    let before = watches(&plane).await;
    let (log, mut metrics) = (Arc::new(RequestLog::default()), None);
    let _operator = env.operator(&log, &mut metrics);
    let metrics = metrics.unwrap();
    bind(&plane, "v1", "ConfigMap").await;
    objects::apply(&host, permission_binding()).await;
    objects::apply(&host, application()).await;
    let bindings = Api::<PermissionBinding>::namespaced(host.clone(), "fleet");
    let apps = Api::<MultiCloudApp>::namespaced(host.clone(), "fleet");
    until_ready(&bindings, "readers").await;
    until_ready(&apps, "shop").await;

    let now = eventually("all watches run", SOON, async || {
        let now = added(&before, &watches(&plane).await);
        if now.contains_key("configmaps") && now.contains_key("cronjobs") { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert!(now.values().all(|count| *count == 1), "something is watched twice: {now:?}");
    assert!(now.len() <= 20, "{} watches: {now:?}", now.len());

    // What the first rounds wrote comes back as events; then it is quiet.
    for n in 0..2 {
        touch(&bindings, "readers", &metrics, permission_name(), n).await;
        touch(&apps, "shop", &metrics, app_name(), n).await;
    }
    log.taken(&env.plane);
    let begun = rounds(&metrics, permission_name()) + rounds(&metrics, app_name());
    for n in 2..7 {
        touch(&bindings, "readers", &metrics, permission_name(), n).await;
        touch(&apps, "shop", &metrics, app_name(), n).await;
    }
    let rounds = rounds(&metrics, permission_name()) + rounds(&metrics, app_name()) - begun;
    let requests = log.taken(&env.plane);
    assert!(rounds >= 10 && requests.len() as u64 <= rounds, "{rounds} rounds: {requests:?}");
    assert!(requests.iter().all(|request| request == "GET /readyz"), "{requests:?}");
}

fn permission_name() -> &'static str {
    "permissionbinding"
}

fn app_name() -> &'static str {
    "app"
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_twice_and_what_is_deleted_comes_back() {
    let env = TestEnv::start().await;
    let (host, plane) = (env.host.client(), env.plane.client());
    let (log, mut metrics) = (Arc::new(RequestLog::default()), None);
    let _operator = env.operator(&log, &mut metrics);
    let metrics = metrics.unwrap();
    bind(&plane, "v1", "ConfigMap").await;
    objects::apply(&host, permission_binding()).await;
    objects::apply(&host, application()).await;
    let bindings = Api::<PermissionBinding>::namespaced(host.clone(), "fleet");
    let apps = Api::<MultiCloudApp>::namespaced(host.clone(), "fleet");
    // Rounds follow each other at once, while the watches are still behind.
    for n in 0..5 {
        touch(&bindings, "readers", &metrics, permission_name(), n).await;
        touch(&apps, "shop", &metrics, app_name(), n).await;
    }
    until_ready(&bindings, "readers").await;
    until_ready(&apps, "shop").await;
    let writes = |requests: Vec<String>| -> Vec<String> {
        let is_write = |request: &String| {
            let method = request.split(' ').next().unwrap();
            is_write(&method.parse().unwrap())
        };
        requests.into_iter().filter(is_write).collect()
    };
    let mut first = writes(log.taken(&env.plane));
    let all = first.len();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), all, "each object is written once: {first:?}");

    let roles = Api::<RoleBinding>::namespaced(plane.clone(), "shop");
    let role = roles.list(&ListParams::default()).await.unwrap().items.remove(0);
    roles.delete(&role.name_any(), &DeleteParams::default()).await.unwrap();
    let configs = Api::<ConfigMap>::namespaced(plane.clone(), "shop");
    let config = configs.get("colours").await.unwrap();
    configs.delete("colours", &DeleteParams::default()).await.unwrap();
    eventually("both are back", SOON, async || {
        let role_again = roles.get_opt(&role.name_any()).await.unwrap().and_then(|found| found.uid());
        let config_again = configs.get_opt("colours").await.unwrap().and_then(|found| found.uid());
        let is_new = |now: &Option<String>, before: Option<String>| now.is_some() && *now != before;
        if is_new(&role_again, role.uid()) && is_new(&config_again, config.uid()) {
            Ok(())
        } else {
            Err(format!("{role_again:?} {config_again:?}"))
        }
    })
    .await;
}

/// A kind that takes whatever it is given.
fn free_form() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "settings.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced",
            "names": {"kind": "Setting", "plural": "settings", "singular": "setting"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

fn setting_app(name: &str, namespace: &str, setting: &str, value: &str) -> Value {
    let setting = json!({
        "apiVersion": "example.dev/v1", "kind": "Setting", "metadata": {"name": setting}, "data": {"a": value},
    });
    json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": name, "namespace": "fleet"},
        "spec": {"instanceRef": {"name": "east"}, "namespace": namespace,
                 "components": [{"name": "all", "manifests": [setting]}]},
    })
}

fn nested(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

/// Sends an object as text: nothing here could hold it.
async fn send(client: &Client, method: Method, path: &str, content_type: &str, object: String) {
    let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
    client.request_text(request.body(object.into_bytes()).unwrap()).await.unwrap();
}

/// An object as text, if it is there.
async fn text_of(client: &Client, path: &str) -> Option<String> {
    match client.request_text(http::Request::get(path).body(Vec::new()).unwrap()).await {
        Ok(text) => Some(text),
        Err(error) if is_not_found(&error) => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_cannot_be_read_stop_nobody_elses() {
    const JSON: &str = "application/json";
    let env = TestEnv::start().await;
    let (host, plane) = (env.host.client(), env.plane.client());
    objects::define(&plane, &[serde_json::from_value(free_form()).unwrap()]).await;
    objects::namespace(&plane, "other").await;
    let policies = "/apis/policy.karmada.io/v1alpha1/namespaces/other/overridepolicies";
    let policy = format!(
        r#"{{"apiVersion":"policy.karmada.io/v1alpha1","kind":"OverridePolicy","metadata":{{"name":"deep"}},
        "spec":{{"overrideRules":[{{"overriders":{{"plaintext":[{{"path":"/data","operator":"replace","value":{}}}]}}}}]}}}}"#,
        nested(200)
    );
    send(&plane, Method::POST, policies, JSON, policy).await;
    let settings = |namespace: &str| format!("/apis/example.dev/v1/namespaces/{namespace}/settings");
    let deep = format!(
        r#"{{"apiVersion":"example.dev/v1","kind":"Setting","data":{},
        "metadata":{{"name":"deep","labels":{{"{MANAGED_BY_LABEL}":"{MANAGED_BY}"}}}}}}"#,
        nested(200)
    );
    send(&plane, Method::POST, &settings("other"), JSON, deep).await;
    bind(&plane, "example.dev/v1", "Setting").await;

    let (log, mut metrics) = (Arc::new(RequestLog::default()), None);
    let operator = env.operator(&log, &mut metrics);
    let mut readers = permission_binding();
    objects::apply(&host, readers.clone()).await;
    objects::apply(&host, setting_app("shop", "shop", "colours", "b")).await;
    let bindings = Api::<PermissionBinding>::namespaced(host.clone(), "fleet");
    let apps = Api::<MultiCloudApp>::namespaced(host.clone(), "fleet");
    until_ready(&bindings, "readers").await;
    until_ready(&apps, "shop").await;
    let counted = metrics.unwrap().encode();
    for kind in ["OverridePolicy", "Setting"] {
        let counter = format!("airdock_unreadable_objects_total{{kind=\"{kind}\"}}");
        assert!(counted.contains(&counter), "{counter} is not in {counted}");
    }

    // It is there, and somebody else's.
    objects::apply(&host, setting_app("taker", "other", "deep", "b")).await;
    eventually("the name is taken", SOON, async || {
        let app = serde_json::to_value(apps.get("taker").await.unwrap()).unwrap();
        let conditions = app["status"]["conditions"].to_string();
        if conditions.contains("ObjectExists") { Ok(()) } else { Err(conditions) }
    })
    .await;
    let untouched = text_of(&plane, &format!("{}/deep", settings("other"))).await.unwrap();
    assert!(!untouched.contains("airdock.dev/app"), "{untouched}");

    operator.kill();
    readers["metadata"]["name"] = json!("others");
    objects::apply(&host, readers).await;
    objects::apply(&host, setting_app("shop", "shop", "colours", "changed")).await;
    let _operator = env.operator(&log, &mut None);
    until_ready(&bindings, "others").await;
    let colours = format!("{}/colours", settings("shop"));
    eventually("the change is in the plane", SOON, async || {
        let found = text_of(&plane, &colours).await.unwrap();
        if found.contains("changed") { Ok(()) } else { Err(found) }
    })
    .await;

    // What became unreadable is still taken away with its app.
    let added = format!(r#"{{"extra":{}}}"#, nested(200));
    send(&plane, Method::PATCH, &colours, "application/merge-patch+json", added).await;
    apps.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", SOON, async || match text_of(&plane, &colours).await {
        None => Ok(()),
        Some(found) => Err(found),
    })
    .await;
}

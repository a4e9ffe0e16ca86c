//! One cache for the host and one for each plane, on real API servers: how many watches they take, and what a round costs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs)]

mod harness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use airdock::api::{
    KarmadaInstance, MANAGED_BY, MANAGED_BY_LABEL, MemberClusterJoin, MultiCloudApp, PermissionBinding,
};
use airdock::controllers::member::validate::LocalEndpoints;
use airdock::controllers::{app, instance, member, permission};
use airdock::karmada::Cluster;
use airdock::machinery::conditions::find;
use airdock::machinery::error::is_not_found;
use airdock::runtime::client::{ClientFactory, RequestHook, is_write};
use airdock::runtime::metrics::Metrics;
use airdock::runtime::planes::ServiceAccess;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use harness::operator::Operator;
use harness::{ADMIN, ApiServer, Etcd, OTHER_ADMIN, eventually, installation, objects, servers};
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::watcher;
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

    /// Those to any API server since the last call.
    fn all_taken(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.0.lock().unwrap());
        all.into_iter().map(|(method, host, path)| format!("{host} {method} {path}")).collect()
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
        let (etcd, [host, plane]) = servers(["host", "plane"]).await;
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

/// The kinds of the host cluster, each with its watches: one, for all controllers together.
const HOST_KINDS: [&str; 11] = [
    "deployments",
    "karmadainstances",
    "memberclusterjoins",
    "multicloudapps",
    "permissionbindings",
    "persistentvolumeclaims",
    "poddisruptionbudgets",
    "pods",
    "secrets",
    "services",
    "statefulsets",
];

#[tokio::test(flavor = "multi_thread")]
async fn host_and_plane_are_watched_once_and_a_round_in_which_nothing_happens_asks_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let etcd = Etcd::start();
    let (mut host_server, mut member_server) = (installation::host(&etcd), ApiServer::start(&etcd, "member"));
    host_server.ready().await;
    member_server.ready().await;
    let (host, member) = (host_server.client(), member_server.client());
    objects::define(&host, &airdock::cli::crds::definitions()).await;
    objects::namespace(&host, "fleet").await;
    let on_host = objects::watches(&host).await;
    // An API server watches itself, too. The plane's is not asked: the operator may come first.
    let own = objects::watches(&member).await;
    let (log, mut metrics) = (Arc::new(RequestLog::default()), None);
    let _operator = Operator::start_by(ServiceAccess::ClusterIp, &host_server, &log, |context| {
        metrics = Some(context.metrics.clone());
        tokio::spawn(instance::run(context.clone()));
        tokio::spawn(member::run_with(context.clone(), LocalEndpoints::Loopback));
        tokio::spawn(permission::run(context.clone()));
        tokio::spawn(app::run(context));
    });
    let metrics = metrics.unwrap();
    let instance = json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
        "metadata": {"name": "east", "namespace": "fleet"}, "spec": {"profile": "Compact"},
    });
    objects::apply(&host, instance).await;
    let east = [("fleet".to_owned(), "east".to_owned())];
    let mut plane_server = installation::plane(&host, &etcd, &east).await;
    plane_server.ready().await;
    let plane = plane_server.client();
    installation::until_ready(&host, &east).await;

    objects::kubeconfig_secret(&host, "fleet", "eu", json!({}), &member_server.kubeconfig()).await;
    objects::apply(&host, membership()).await;
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "fleet");
    objects::issue_tokens(&member, &joins.get("eu").await.unwrap()).await;
    let clusters = Api::<Cluster>::all(plane.clone());
    eventually("the member is registered", SOON, async || {
        clusters.get_opt("eu").await.unwrap().map(|_| ()).ok_or_else(|| "no Cluster".to_owned())
    })
    .await;
    let ready = json!([{"type": "Ready", "status": "True", "reason": "ClusterReady", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    objects::merge_status(&plane, "cluster.karmada.io/v1alpha1", "Cluster", "", "eu", json!({"conditions": ready}))
        .await;
    bind(&plane, "v1", "ConfigMap").await;
    objects::apply(&host, permission_binding()).await;
    objects::apply(&host, application()).await;
    let instances = Api::<KarmadaInstance>::namespaced(host.clone(), "fleet");
    let bindings = Api::<PermissionBinding>::namespaced(host.clone(), "fleet");
    let apps = Api::<MultiCloudApp>::namespaced(host.clone(), "fleet");
    until_ready(&joins, "eu").await;
    until_ready(&bindings, "readers").await;
    until_ready(&apps, "shop").await;

    let now = eventually("all watches run", SOON, async || {
        let now = added(&own, &objects::watches(&plane).await);
        if now.contains_key("configmaps") && now.contains_key("cronjobs") { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert!(now.values().all(|count| *count == 1), "something of the plane is watched twice: {now:?}");
    // That of the application's template comes on top.
    assert!(now.len() <= 20 + 1, "{} watches: {now:?}", now.len());
    assert_eq!(plane_server.connections(), 1 + 1, "the operator has one, and the test");
    let now = added(&on_host, &objects::watches(&host).await);
    assert_eq!(now, HOST_KINDS.map(|kind| (kind.to_owned(), 1)).into(), "of the host");

    // What the first rounds wrote comes back as events; then it is quiet.
    let controllers = ["instance", "memberclusterjoin", permission_name(), app_name()];
    let touch_all = async |n: usize| {
        touch(&instances, "east", &metrics, controllers[0], n).await;
        touch(&joins, "eu", &metrics, controllers[1], n).await;
        touch(&bindings, "readers", &metrics, controllers[2], n).await;
        touch(&apps, "shop", &metrics, controllers[3], n).await;
    };
    touch_all(0).await;
    touch_all(1).await;
    log.all_taken();
    let count = || controllers.map(|controller| rounds(&metrics, controller));
    let begun = count();
    for n in 2..7 {
        touch_all(n).await;
    }
    let ended = count();
    let requests = log.all_taken();
    let each: Vec<u64> = ended.iter().zip(begun).map(|(ended, begun)| ended - begun).collect();
    assert!(each.iter().all(|rounds| *rounds >= 5), "{each:?}");
    assert!(requests.iter().all(|request| request.ends_with(" GET /readyz")), "{requests:#?}");
    assert!(requests.len() as u64 <= each.iter().sum(), "{each:?} rounds: {requests:#?}");

    // Nothing of this holds longer than the credentials that it was found with.
    let changed = member_server.kubeconfig().replace(ADMIN, OTHER_ADMIN);
    objects::kubeconfig_secret(&host, "fleet", "eu", json!({}), &changed).await;
    let mut requests = Vec::new();
    let secret = " GET /api/v1/namespaces/fleet/secrets/eu".to_owned();
    let member = format!("127.0.0.1:{} GET /version", member_server.port);
    eventually("the kubeconfig is read again, and the member asked with it", SOON, async || {
        requests.extend(log.all_taken());
        let has = |wanted: &String| requests.iter().any(|request| request.ends_with(wanted));
        if has(&secret) && has(&member) { Ok(()) } else { Err(format!("{requests:#?}")) }
    })
    .await;
}

fn membership() -> Value {
    json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
        "metadata": {"name": "eu", "namespace": "fleet"},
        "spec": {"instanceRef": {"name": "east"}, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"}},
    })
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

/// Watches that have listed.
async fn watch_some(client: &Client, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..count {
        let (api, (sender, listed)) = (Api::<ConfigMap>::all(client.clone()), tokio::sync::oneshot::channel());
        tasks.push(tokio::spawn(async move {
            let (mut events, mut sender) = (std::pin::pin!(watcher(api, watcher::Config::default())), Some(sender));
            while let Some(event) = events.next().await {
                if matches!(event, Ok(watcher::Event::InitDone))
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(());
                }
            }
        }));
        listed.await.unwrap();
    }
    tasks
}

#[tokio::test]
async fn watches_share_a_connection_where_the_server_lets_them() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let etcd = Etcd::start();
    let mut modern = ApiServer::start(&etcd, "modern");
    let mut old = ApiServer::start_with(&etcd, "old", &["--disable-http2-serving=true".to_owned()]);
    modern.ready().await;
    old.ready().await;
    for (server, wanted) in [(&modern, 1), (&old, 5)] {
        let before = server.connections();
        let client = ClientFactory::default().connect_multiplexed(&server.connection()).unwrap();
        let watches = watch_some(&client, 5).await;
        assert_eq!(server.connections() - before, wanted, "{}", server.name);
        watches.iter().for_each(|watch| watch.abort());
    }
}

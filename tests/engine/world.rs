//! A plane and three members, and an engine that can be killed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use airdock::engine::{self, Options, Settings};
use airdock::karmada::{CLUSTER_NAMESPACE, definitions};
use airdock::runtime::client::{ClientFactory, RequestHook, is_write};
use airdock::runtime::metrics::Metrics;
use base64::Engine as _;
use futures::future::BoxFuture;
use http::Method;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::{ADMIN, ApiServer, Etcd, eventually};

pub const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// What most things must not take longer than.
pub const SOON: Duration = Duration::from_secs(10);

/// Servers live as long as the test process; tests take turns.
struct World {
    plane: ApiServer,
    members: Vec<ApiServer>,
    _etcd: Etcd,
}

static WORLD: OnceLock<Mutex<World>> = OnceLock::new();

/// Runs a test, alone in the world, in a namespace of its own.
pub fn with_world(name: &str, test: impl AsyncFnOnce(&mut Case<'_>)) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Ok(filter) = std::env::var("AIRDOCK_TEST_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = WORLD.get_or_init(|| {
        let etcd = Etcd::start();
        let mut plane = ApiServer::start(&etcd, "plane");
        let mut members: Vec<_> = NAMES.iter().map(|name| ApiServer::start(&etcd, name)).collect();
        runtime.block_on(async {
            for server in std::iter::once(&mut plane).chain(&mut members) {
                server.ready().await;
            }
            define(&plane.client()).await;
        });
        Mutex::new(World { plane, members, _etcd: etcd })
    });
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    runtime.block_on(async {
        let World { plane, members, .. } = &mut *world;
        for server in members.iter_mut() {
            // A test that failed may have left one down.
            if !server.is_running() {
                server.restart();
            }
            server.ready().await;
        }
        let clients = NAMES.iter().zip(members.iter()).map(|(name, server)| ((*name).to_owned(), server.client()));
        let mut case = Case {
            plane: plane.client(),
            clients: clients.collect(),
            namespace: name.to_owned(),
            engine: None,
            server: plane,
            servers: members,
        };
        case.sweep().await;
        for name in NAMES {
            case.join(name).await;
        }
        case.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
        test(&mut case).await;
        case.kill();
    });
}

async fn define(plane: &Client) {
    let api: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(plane.clone());
    for definition in definitions() {
        api.create(&Default::default(), &definition).await.unwrap();
    }
    for definition in definitions() {
        let name = definition.metadata.name.unwrap();
        let established = kube::runtime::wait::conditions::is_crd_established();
        tokio::time::timeout(SOON, kube::runtime::wait::await_condition(api.clone(), &name, established))
            .await
            .unwrap()
            .unwrap();
        // It is established before its storage answers.
        let spec = definition.spec;
        let path = format!("/apis/{}/{}/{}", spec.group, spec.versions[0].name, spec.names.plural);
        eventually(&name, SOON, async || {
            let request = http::Request::get(&path).body(Vec::new()).unwrap();
            plane.request_text(request).await.map_err(|error| error.to_string())
        })
        .await;
    }
}

/// A test's view of the world.
pub struct Case<'a> {
    pub plane: Client,
    pub clients: HashMap<String, Client>,
    pub namespace: String,
    engine: Option<Running>,
    server: &'a ApiServer,
    servers: &'a mut [ApiServer],
}

struct Running {
    runtime: tokio::runtime::Runtime,
}

/// Sees every request of the engine, and can stop its world at one of them.
#[derive(Default)]
pub struct Traffic {
    sent: AtomicU64,
    answered: AtomicU64,
    log: Mutex<Vec<String>>,
    stop_before: AtomicU64,
    stop_after: AtomicU64,
    dead: AtomicBool,
    pub died: Notify,
}

impl Traffic {
    /// The engine dies when it is about to send its n-th write.
    pub fn dies_before(n: u64) -> Arc<Self> {
        Arc::new(Self { stop_before: n.into(), ..Self::default() })
    }

    /// The engine dies when its n-th write was carried out, before it hears of it.
    pub fn dies_after(n: u64) -> Arc<Self> {
        Arc::new(Self { stop_after: n.into(), ..Self::default() })
    }

    /// Writes so far.
    pub fn writes(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
}

pub struct Watching(pub Arc<Traffic>);

impl RequestHook for Watching {
    fn before(&self, method: &Method, host: &str, path: &str) -> BoxFuture<'static, ()> {
        let traffic = &self.0;
        if is_write(method) && !traffic.is_dead() {
            traffic.log.lock().unwrap().push(format!("{method} {host}{path}"));
            if traffic.sent.fetch_add(1, Ordering::SeqCst) + 1 == traffic.stop_before.load(Ordering::SeqCst) {
                traffic.die();
            }
        }
        until_the_end(traffic)
    }

    fn after(&self, method: &Method, _: &str, _: &str, _: u16, _: Duration) -> BoxFuture<'static, ()> {
        let traffic = &self.0;
        if is_write(method)
            && traffic.answered.fetch_add(1, Ordering::SeqCst) + 1 == traffic.stop_after.load(Ordering::SeqCst)
        {
            traffic.die();
        }
        until_the_end(traffic)
    }
}

fn until_the_end(traffic: &Traffic) -> BoxFuture<'static, ()> {
    if traffic.is_dead() { Box::pin(std::future::pending()) } else { Box::pin(std::future::ready(())) }
}

impl Case<'_> {
    /// Starts the engine, in a runtime of its own.
    pub fn start(&mut self, traffic: &Arc<Traffic>) {
        assert!(self.engine.is_none());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let factory = ClientFactory::default().with_hook(Arc::new(Watching(traffic.clone())));
        let connection = self.server.connection();
        runtime.spawn(async move {
            let plane = factory.connect(&connection).unwrap();
            let options =
                Options { factory, metrics: Metrics::new(), settings: Settings::default(), ready: Arc::default() };
            engine::run(plane, options).await;
        });
        self.engine = Some(Running { runtime });
    }

    /// Starts the engine and only counts.
    pub fn start_counted(&mut self) -> Arc<Traffic> {
        let traffic = Arc::new(Traffic::default());
        self.start(&traffic);
        traffic
    }

    /// Ends the engine wherever it is.
    pub fn kill(&mut self) {
        if let Some(running) = self.engine.take() {
            running.runtime.shutdown_background();
        }
    }

    pub fn server(&mut self, member: &str) -> &mut ApiServer {
        let index = NAMES.iter().position(|name| *name == member).unwrap();
        &mut self.servers[index]
    }

    pub async fn join(&mut self, name: &str) {
        let server = self.server(name);
        let (url, authority) = (server.url(), server.authority.clone());
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLUSTER_NAMESPACE}})).await;
        self.apply(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": CLUSTER_NAMESPACE},
            "data": {"token": encode(ADMIN), "caBundle": encode(&authority)}}),
        )
        .await;
        let region = if name == "gamma" { "us" } else { "eu" };
        self.apply(json!({"apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name, "labels": {"name": name}},
            "spec": {"syncMode": "Push", "apiEndpoint": url, "region": region,
                "secretRef": {"namespace": CLUSTER_NAMESPACE, "name": name}}}))
        .await;
    }

    /// Removes what a test that failed left behind.
    async fn sweep(&self) {
        for kind in ["PropagationPolicy", "OverridePolicy", "ResourceBinding"] {
            let group =
                if kind == "ResourceBinding" { "work.karmada.io/v1alpha2" } else { "policy.karmada.io/v1alpha1" };
            let resource = resource(group, kind);
            let api: Api<DynamicObject> = Api::all_with(self.plane.clone(), &resource);
            for object in api.list(&Default::default()).await.unwrap() {
                let (name, namespace) = (object.metadata.name.unwrap(), object.metadata.namespace.unwrap());
                let api: Api<DynamicObject> = Api::namespaced_with(self.plane.clone(), &namespace, &resource);
                let _ = api.delete(&name, &DeleteParams::default()).await;
                let free = json!({"metadata": {"finalizers": null}});
                let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(&free)).await;
            }
        }
    }

    pub async fn apply(&self, object: Value) {
        apply_in(&self.plane, object).await;
    }

    /// A deployment in the test's namespace.
    pub fn deployment(&self, name: &str, replicas: i64) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "c", "image": "nginx:1", "resources": {"requests": {"cpu": "1000m"}}}]}}}})
    }

    pub fn config(&self, name: &str, value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": self.namespace}, "data": {"k": value}})
    }

    /// A policy of the test's namespace for Deployments and ConfigMaps.
    pub fn policy(&self, name: &str, spec: Value) -> Value {
        let mut all = json!({"resourceSelectors": [
            {"apiVersion": "apps/v1", "kind": "Deployment"}, {"apiVersion": "v1", "kind": "ConfigMap"}]});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "PropagationPolicy",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": all})
    }

    pub async fn get(&self, api_version: &str, kind: &str, name: &str) -> Option<Value> {
        get_in(&self.plane, api_version, kind, &self.namespace, name).await
    }

    pub async fn in_member(&self, member: &str, api_version: &str, kind: &str, name: &str) -> Option<Value> {
        get_in(&self.clients[member], api_version, kind, &self.namespace, name).await
    }

    pub async fn delete(&self, api_version: &str, kind: &str, name: &str) {
        delete_in(&self.plane, api_version, kind, &self.namespace, name).await;
    }

    /// Waits until something holds of an object of the plane.
    pub async fn until(&self, api_version: &str, kind: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{kind} {name} in the plane"), SOON, async || {
            let object = self.get(api_version, kind, name).await.unwrap_or_default();
            if holds(&object) { Ok(object) } else { Err(object.to_string()) }
        })
        .await
    }

    /// Waits until something holds of an object of a member.
    pub async fn until_in(
        &self,
        member: &str,
        api_version: &str,
        kind: &str,
        name: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(&format!("{kind} {name} in {member}"), SOON, async || {
            let object = self.in_member(member, api_version, kind, name).await.unwrap_or_default();
            if holds(&object) { Ok(object) } else { Err(object.to_string()) }
        })
        .await
    }

    /// Waits until an object is not in a member.
    pub async fn until_gone(&self, member: &str, api_version: &str, kind: &str, name: &str) {
        self.until_in(member, api_version, kind, name, Value::is_null).await;
    }

    /// Waits until a binding says that all is applied.
    pub async fn until_applied(&self, binding: &str) -> Value {
        self.until("work.karmada.io/v1alpha2", "ResourceBinding", binding, |binding| {
            condition(binding, "FullyApplied") == "True" && condition(binding, "Scheduled") == "True"
        })
        .await
    }

    /// Waits until no write was sent for a while.
    pub async fn until_quiet(&self, traffic: &Traffic) {
        let mut before = traffic.writes().len();
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(1200)).await;
            let now = traffic.writes().len();
            if now == before {
                return;
            }
            before = now;
        }
        let writes = traffic.writes();
        panic!("never quiet; the last writes: {:#?}", &writes[writes.len().saturating_sub(20)..]);
    }

    /// Waits until the plane calls a member ready, or not.
    pub async fn until_ready(&self, member: &str, ready: &str, within: Duration) -> Value {
        eventually(&format!("cluster {member} Ready={ready}"), within, async || {
            let cluster =
                get_in(&self.plane, "cluster.karmada.io/v1alpha1", "Cluster", "", member).await.unwrap_or_default();
            if condition(&cluster, "Ready") == ready {
                Ok(cluster)
            } else {
                Err(cluster["status"]["conditions"].to_string())
            }
        })
        .await
    }
}

/// Status of a condition.
pub fn condition(object: &Value, type_: &str) -> String {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

pub fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let lower = kind.to_lowercase();
    let plural = lower.strip_suffix('y').map_or_else(|| format!("{lower}s"), |stem| format!("{stem}ies"));
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: api_version.into(),
        kind: kind.into(),
        plural,
    }
}

pub fn api(client: &Client, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = resource(api_version, kind);
    match namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

pub async fn get_in(client: &Client, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
    let found = api(client, api_version, kind, namespace).get_opt(name).await.unwrap();
    found.map(|object| serde_json::to_value(object).unwrap())
}

pub async fn delete_in(client: &Client, api_version: &str, kind: &str, namespace: &str, name: &str) {
    api(client, api_version, kind, namespace).delete(name, &DeleteParams::default()).await.unwrap();
}

pub async fn apply_in(client: &Client, object: Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let api = api(client, &text("/apiVersion"), &text("/kind"), &text("/metadata/namespace"));
    let params = PatchParams::apply("test").force();
    api.patch(&text("/metadata/name"), &params, &Patch::Apply(&object)).await.unwrap();
}

pub async fn merge_in(client: &Client, api_version: &str, kind: &str, namespace: &str, name: &str, patch: Value) {
    let api = api(client, api_version, kind, namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

pub async fn merge_status_in(
    client: &Client,
    api_version: &str,
    kind: &str,
    namespace: &str,
    name: &str,
    patch: Value,
) {
    let api = api(client, api_version, kind, namespace);
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": patch}))).await.unwrap();
}

//! A plane and three members, and an engine that can be killed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use airdock::engine::{self, Options, Settings};
use airdock::karmada::definitions;
use airdock::runtime::client::ClientFactory;
use airdock::runtime::guarded::{self, Guarded};
use airdock::runtime::metrics::Metrics;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::crash::FaultInjector;
use crate::harness::{ApiServer, Etcd, eventually, objects};

pub const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// What most things must not take longer than.
pub const SOON: Duration = Duration::from_secs(10);

/// Servers live as long as the test process; tests take turns.
struct TestEnv {
    plane: ApiServer,
    members: Vec<ApiServer>,
    _etcd: Etcd,
}

static TEST_ENV: OnceLock<Mutex<TestEnv>> = OnceLock::new();

/// Runs a test, alone in the env, in a namespace of its own.
pub fn with_env(name: &str, test: impl AsyncFnOnce(&mut Case<'_>)) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Ok(filter) = std::env::var("AIRDOCK_TEST_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let env = TEST_ENV.get_or_init(|| {
        let etcd = Etcd::start();
        let mut plane = ApiServer::start(&etcd, "plane");
        let mut members: Vec<_> = NAMES.iter().map(|name| ApiServer::start(&etcd, name)).collect();
        runtime.block_on(async {
            for server in std::iter::once(&mut plane).chain(&mut members) {
                server.ready().await;
            }
            objects::define(&plane.client(), &definitions()).await;
        });
        Mutex::new(TestEnv { plane, members, _etcd: etcd })
    });
    let mut env = env.lock().unwrap_or_else(PoisonError::into_inner);
    runtime.block_on(async {
        let TestEnv { plane, members, .. } = &mut *env;
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
        objects::namespace(&case.plane, name).await;
        test(&mut case).await;
        case.kill();
    });
}

/// A test's view of the env.
pub struct Case<'a> {
    pub plane: Client,
    pub clients: HashMap<String, Client>,
    pub namespace: String,
    engine: Option<Runtime>,
    server: &'a ApiServer,
    servers: &'a mut [ApiServer],
}

impl Case<'_> {
    /// Starts the engine, in a runtime of its own.
    pub fn start(&mut self, crash: &Arc<FaultInjector>) {
        assert!(self.engine.is_none());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let factory = ClientFactory::default().with_hook(crash.clone());
        let connection = self.server.connection();
        runtime.spawn(async move {
            let plane = factory.connect(&connection).unwrap();
            let options =
                Options { factory, metrics: Metrics::new(), settings: Settings::default(), ready: Arc::default() };
            engine::run(plane, options).await;
        });
        self.engine = Some(runtime);
    }

    /// Starts the engine and only counts.
    pub fn start_counted(&mut self) -> Arc<FaultInjector> {
        let crash = Arc::new(FaultInjector::never());
        self.start(&crash);
        crash
    }

    /// Ends the engine wherever it is.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.engine.take() {
            runtime.shutdown_background();
        }
    }

    pub fn server(&mut self, member: &str) -> &mut ApiServer {
        let index = NAMES.iter().position(|name| *name == member).unwrap();
        &mut self.servers[index]
    }

    pub async fn join(&mut self, name: &str) {
        let server = self.server(name);
        let (url, ca) = (server.url(), server.ca.clone());
        let region = if name == "gamma" { "us" } else { "eu" };
        objects::join(&self.plane, name, &url, &ca, region).await;
    }

    /// Removes what a test that failed left behind.
    async fn sweep(&self) {
        for kind in ["PropagationPolicy", "OverridePolicy", "ResourceBinding"] {
            let group =
                if kind == "ResourceBinding" { "work.karmada.io/v1alpha2" } else { "policy.karmada.io/v1alpha1" };
            // One that cannot be read is to go as well.
            let all: Api<Guarded<DynamicObject>> = Api::all_with(self.plane.clone(), &objects::resource(group, kind));
            for object in guarded::list_all(&all, &ListParams::default()).await.unwrap() {
                let (name, namespace) = (object.name_any(), object.namespace().unwrap());
                let api = objects::api(&self.plane, group, kind, &namespace);
                let _ = api.delete(&name, &DeleteParams::default()).await;
                let free = json!({"metadata": {"finalizers": null}});
                let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(&free)).await;
            }
        }
    }

    pub async fn apply(&self, object: Value) {
        objects::apply(&self.plane, object).await;
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
        objects::get(&self.plane, api_version, kind, &self.namespace, name).await
    }

    pub async fn in_member(&self, member: &str, api_version: &str, kind: &str, name: &str) -> Option<Value> {
        objects::get(&self.clients[member], api_version, kind, &self.namespace, name).await
    }

    pub async fn delete(&self, api_version: &str, kind: &str, name: &str) {
        objects::delete(&self.plane, api_version, kind, &self.namespace, name).await;
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
    pub async fn until_quiet(&self, crash: &FaultInjector) {
        let mut before = crash.writes().len();
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(1200)).await;
            let now = crash.writes().len();
            if now == before {
                return;
            }
            before = now;
        }
        let writes = crash.writes();
        panic!("never quiet; the last writes: {:#?}", &writes[writes.len().saturating_sub(20)..]);
    }

    /// Waits until the plane calls a member ready, or not.
    pub async fn until_ready(&self, member: &str, ready: &str, within: Duration) -> Value {
        eventually(&format!("cluster {member} Ready={ready}"), within, async || {
            let cluster = objects::get(&self.plane, "cluster.karmada.io/v1alpha1", "Cluster", "", member)
                .await
                .unwrap_or_default();
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

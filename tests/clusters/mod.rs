//! Real API servers on loopback for the tests: one etcd, a kube-apiserver per cluster, and where tokens or namespaces
//! matter a kube-controller-manager. The programs come from `$AIRDOCK_TEST_BIN`. They end with the test process,
//! however it ends.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use airdock::controllers::{Context, HostClient};
use airdock::runtime::client::{ClientFactory, RequestHook, is_write};
use airdock::runtime::leadership::Leadership;
use airdock::runtime::metrics::Metrics;
use airdock::runtime::planes::{Planes, ServiceAccess};
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A program that ends when this process does: its shell kills it when the pipe to it closes.
pub struct Program {
    _shell: Child,
}

impl Program {
    fn start(name: &str, log: &Path, args: &[String]) -> Self {
        let path = bin().join(name);
        assert!(path.exists(), "{} is missing: set AIRDOCK_TEST_BIN to a folder with it (make setup)", path.display());
        let out = std::fs::File::create(log).unwrap();
        let shell = Command::new("sh")
            .args(["-c", r#""$@" </dev/null & p=$!; read _; kill -9 $p; wait $p"#, "sh"])
            .arg(path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { _shell: shell }
    }
}

/// Where the programs are.
pub fn bin() -> PathBuf {
    std::env::var_os("AIRDOCK_TEST_BIN")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.lab/bin")), PathBuf::from)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An etcd that all clusters of a test process share.
pub struct Etcd {
    url: String,
    folder: PathBuf,
    _program: Program,
}

impl Etcd {
    /// Starts it in a folder of its own.
    pub fn start(test: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (client, peer) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let data = folder.join("etcd");
        let args = [
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=error".to_owned(),
        ];
        let program = Program::start("etcd", &folder.join("etcd.log"), &args);
        Self { url, folder, _program: program }
    }
}

/// A cluster: an API server, and perhaps a controller manager.
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Address of the API server.
    pub server: String,
    /// The administrator's kubeconfig.
    pub kubeconfig: String,
    _programs: Vec<Program>,
}

/// Controllers of Kubernetes that a cluster runs.
pub const TOKENS_AND_NAMESPACES: &str =
    "serviceaccount-token-controller,namespace-controller,clusterrole-aggregation-controller";

impl Cluster {
    /// Starts one; it answers a few seconds later.
    pub fn start(etcd: &Etcd, name: &str, controllers: Option<&str>) -> Self {
        let folder = etcd.folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let pki = Pki::new(&folder);
        let port = free_port();
        let server = format!("https://127.0.0.1:{port}");
        let kubeconfig = pki.kubeconfig(&server);
        let file = |name: &str| folder.join(name).display().to_string();
        std::fs::write(file("kubeconfig"), &kubeconfig).unwrap();
        let args = [
            format!("--etcd-servers={}", etcd.url),
            format!("--etcd-prefix=/{name}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--cert-dir={}", folder.display()),
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        let mut programs = vec![Program::start("kube-apiserver", &folder.join("apiserver.log"), &args)];
        if let Some(controllers) = controllers {
            let args = [
                format!("--kubeconfig={}", file("kubeconfig")),
                format!("--service-account-private-key-file={}", file("sa.key")),
                format!("--root-ca-file={}", file("ca.crt")),
                format!("--controllers={controllers}"),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ];
            // It ends when the API server is not there in time, so it is begun again until then.
            programs.push(Program::start_again("kube-controller-manager", &folder.join("kcm.log"), &args));
        }
        Self { name: name.to_owned(), server, kubeconfig, _programs: programs }
    }

    /// A client of its own for the calling runtime.
    pub async fn client(&self) -> Client {
        self.client_with(&ClientFactory::default())
    }

    /// A client made by a factory.
    pub fn client_with(&self, factory: &ClientFactory) -> Client {
        factory.connect(&airdock::runtime::kubeconfig::parse(self.kubeconfig.as_bytes()).unwrap()).unwrap()
    }

    /// Waits until it answers.
    pub async fn ready(&self) {
        let client = self.client().await;
        eventually(&format!("{} answers", self.name), 90, async || {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(request).await.ok().filter(|text| text == "ok")
        })
        .await;
        eventually(&format!("{} has its namespaces", self.name), 30, async || {
            let all = Api::<Namespace>::all(client.clone());
            let (a, b) = tokio::join!(all.get_opt("kube-system"), all.get_opt("default"));
            (a.ok()??.metadata.uid.is_some() && b.ok()??.metadata.uid.is_some()).then_some(())
        })
        .await;
    }

    /// Serves these kinds.
    pub async fn define(&self, definitions: Vec<CustomResourceDefinition>) {
        let client = self.client().await;
        let api = Api::<CustomResourceDefinition>::all(client);
        for definition in &definitions {
            api.create(&PostParams::default(), definition).await.unwrap();
        }
        for definition in &definitions {
            let name = definition.metadata.name.clone().unwrap();
            eventually(&format!("{name} is established"), 30, async || {
                let found = api.get(&name).await.ok()?;
                let conditions = found.status?.conditions?;
                conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
            })
            .await;
        }
    }
}

impl Program {
    fn start_again(name: &str, log: &Path, args: &[String]) -> Self {
        let path = bin().join(name);
        assert!(path.exists(), "{} is missing: set AIRDOCK_TEST_BIN to a folder with it (make setup)", path.display());
        let out = std::fs::File::create(log).unwrap();
        let script = r#"(while :; do "$@" </dev/null; sleep 1; done) & p=$!; read _; kill -9 -- -$$"#;
        let shell = Command::new("setsid")
            .args(["sh", "-c", script, "sh"])
            .arg(path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { _shell: shell }
    }
}

struct Pki {
    authority: String,
    certificate: String,
    key: String,
}

impl Pki {
    fn new(folder: &Path) -> Self {
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "test");
        let certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);

        let server_key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        server.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        server.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let server = server.signed_by(&server_key, &issuer).unwrap();

        let client_key = KeyPair::generate().unwrap();
        let mut client = CertificateParams::new(Vec::new()).unwrap();
        client.distinguished_name.push(DnType::CommonName, "admin");
        client.distinguished_name.push(DnType::OrganizationName, "system:masters");
        client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let client = client.signed_by(&client_key, &issuer).unwrap();

        write("ca.crt", &certificate.pem());
        write("server.crt", &server.pem());
        write("server.key", &server_key.serialize_pem());
        let accounts = KeyPair::generate().unwrap();
        write("sa.key", &accounts.serialize_pem());
        write("sa.pub", &accounts.public_key_pem());
        Self { authority: certificate.pem(), certificate: client.pem(), key: client_key.serialize_pem() }
    }

    fn kubeconfig(&self, server: &str) -> String {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{server}', certificate-authority-data: {}}}}}]\n\
             users: [{{name: u, user: {{client-certificate-data: {}, client-key-data: {}}}}}]\n",
            encode(&self.authority),
            encode(&self.certificate),
            encode(&self.key)
        )
    }
}

/// Asks again and again until there is an answer.
pub async fn eventually<T>(what: &str, seconds: u64, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Creates a namespace, unless it is there.
pub async fn namespace(client: &Client, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let api = Api::<Namespace>::all(client.clone());
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
}

/// Writes a Secret with a kubeconfig.
pub async fn kubeconfig_secret(client: &Client, namespace: &str, name: &str, labels: &[(&str, &str)], text: &str) {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("kubeconfig".to_owned(), ByteString(text.as_bytes().to_vec()))])),
        ..Secret::default()
    };
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&secret)).await.unwrap();
}

/// Makes an instance that is ready, with a plane that is there already.
pub async fn ready_instance(host: &Client, namespace_name: &str, name: &str, spec: serde_json::Value, plane: &Cluster) {
    use airdock::api::KarmadaInstance;
    namespace(host, namespace_name).await;
    let labels = [("airdock.dev/purpose", "operator-kubeconfig"), ("airdock.dev/instance", name)];
    kubeconfig_secret(host, namespace_name, &format!("{name}-operator"), &labels, &plane.kubeconfig).await;
    let api = Api::<KarmadaInstance>::namespaced(host.clone(), namespace_name);
    let object = json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
        "metadata": {"name": name, "namespace": namespace_name}, "spec": spec,
    });
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    instance_condition(host, namespace_name, name, "True", "installed").await;
}

/// Sets an instance's `Ready`.
pub async fn instance_condition(host: &Client, namespace: &str, name: &str, status: &str, message: &str) {
    use airdock::api::KarmadaInstance;
    let api = Api::<KarmadaInstance>::namespaced(host.clone(), namespace);
    let body = json!({"status": {"conditions": [{
        "type": "Ready", "status": status, "reason": "Test", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&body)).await.unwrap();
}

/// Counts writes, and stops the world at one of them.
pub struct Writes {
    count: AtomicUsize,
    stop_at: usize,
    /// Whether the write at which it stops still reaches the server.
    sent: bool,
    stopped: watch::Sender<bool>,
    log: std::sync::Mutex<Vec<String>>,
}

impl Writes {
    /// Counts, and never stops.
    pub fn counting() -> Arc<Self> {
        Self::stopping_at(usize::MAX, false)
    }

    /// Stops at the `k`-th write (from 1): before it is sent, or after it was carried out.
    pub fn stopping_at(k: usize, sent: bool) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            stop_at: k,
            sent,
            stopped: watch::channel(false).0,
            log: std::sync::Mutex::default(),
        })
    }

    /// Writes so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// What they were.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the world has stopped.
    pub async fn stopped(&self) {
        self.stopped.subscribe().wait_for(|stopped| *stopped).await.unwrap();
    }

    fn stop(&self) -> BoxFuture<'static, ()> {
        self.stopped.send_replace(true);
        Box::pin(std::future::pending())
    }
}

impl RequestHook for Writes {
    fn before(&self, method: &http::Method, _: &str, path: &str) -> BoxFuture<'static, ()> {
        if !is_write(method) {
            return Box::pin(std::future::ready(()));
        }
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.log.lock().unwrap().push(format!("{method} {path}"));
        // Once it stopped, nothing more goes out.
        if count > self.stop_at || (count == self.stop_at && !self.sent) {
            return self.stop();
        }
        Box::pin(std::future::ready(()))
    }

    fn after(&self, method: &http::Method, _: &str, _: &str, _: u16, _: Duration) -> BoxFuture<'static, ()> {
        if is_write(method) && self.sent && self.count() >= self.stop_at {
            return self.stop();
        }
        Box::pin(std::future::ready(()))
    }
}

/// A controller on a runtime of its own. Dropped, it is gone as after kill -9: nothing is finished.
pub struct Operator {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Operator {
    /// Starts one against the host cluster. `start` is given the context and spawns controllers.
    pub fn start(host: &Cluster, hook: Arc<Writes>, start: impl FnOnce(Context) + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let factory = ClientFactory::default().with_hook(hook);
        let guard = runtime.enter();
        let host = host.client_with(&factory);
        let shutdown = CancellationToken::new();
        let (planes, keeper) = Planes::start(host.clone(), factory.clone(), ServiceAccess::Dns, shutdown.clone());
        runtime.spawn(keeper);
        start(Context {
            host: HostClient(host),
            factory,
            planes,
            leadership: Leadership::always(),
            metrics: Metrics::new(),
            shutdown,
            caches: airdock::runtime::controller::Caches::default(),
            image: "airdock".to_owned(),
        });
        drop(guard);
        Self { runtime: Some(runtime) }
    }

    /// Ends it as kill -9 would.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

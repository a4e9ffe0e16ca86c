//! A member that is an API server only as far as the engine can tell: HTTPS on loopback, objects of any kind in memory.
//!
//! It lets one machine hold many members and their objects where real ones would not fit. It serves health, version,
//! aggregated discovery, lists in pages, watches with versions and bookmarks, and create, replace, apply, merge patch
//! and delete; it validates and defaults nothing, and admits everybody.

mod store;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use kube::Client;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::harness::certificates::{self, ServerCertificate};
use airdock::karmada::MANAGED_LABEL;
use airdock::runtime::client::is_write;
use store::{Change, ObjectName, PatchKind, Refusal, Store};

/// Largest body that is taken.
const LARGEST: usize = 4 << 20;

/// Writes of which the path is remembered.
const WRITES_NAMED: usize = 20;

/// How often a watch without news sends its version.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What all simulated members answer alike, taken from a real API server.
pub struct Profile {
    version: Bytes,
    core: Bytes,
    groups: Bytes,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    /// CA certificate of all of them, in PEM.
    pub ca: String,
}

impl Profile {
    /// Reads version and kinds of an API server; Karmada's own kinds are left out.
    pub async fn of(client: &Client) -> Self {
        let text = async |path: &str, accept: &str| {
            let request = http::Request::get(path).header(header::ACCEPT, accept).body(Vec::new()).unwrap();
            client.request_text(request).await.unwrap()
        };
        let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let mut groups: Value = serde_json::from_str(&text("/apis", aggregated).await).unwrap();
        let items = groups["items"].as_array_mut().unwrap();
        items.retain(|group| !group["metadata"]["name"].as_str().unwrap_or_default().ends_with("karmada.io"));
        let ServerCertificate { ca, certificate, key } = certificates::issue(&["127.0.0.1"]);
        Self {
            version: text("/version", "application/json").await.into(),
            core: text("/api", aggregated).await.into(),
            groups: groups.to_string().into(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            ca,
        }
    }
}

/// A member that serves until the process ends.
pub struct SimulatedMember {
    pub name: String,
    pub url: String,
    state: Arc<Server>,
}

struct Server {
    profile: Arc<Profile>,
    store: Mutex<Store>,
    ready: AtomicBool,
    writes: AtomicUsize,
    named: Mutex<Vec<String>>,
}

impl SimulatedMember {
    /// Starts one, with a node and the namespaces that every cluster has.
    pub async fn start(name: &str, profile: &Arc<Profile>) -> Self {
        let mut store = Store::default();
        for namespace in ["default", "kube-system"] {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            store.create("v1/namespaces", "", object, "apiserver").unwrap();
        }
        let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}, "status":
            {"allocatable": resources, "capacity": resources, "conditions": [{"type": "Ready", "status": "True"}]}});
        store.create("v1/nodes", "", node, "kubelet").unwrap();
        let state = Arc::new(Server {
            profile: profile.clone(),
            store: Mutex::new(store),
            ready: AtomicBool::new(true),
            writes: AtomicUsize::new(0),
            named: Mutex::default(),
        });
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![profile.certificate.clone()], PrivatePkcs8KeyDer::from(profile.key.clone()).into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(state.clone());
        tokio::spawn(
            axum::serve(TlsListener { listener, tls: TlsAcceptor::from(Arc::new(tls)) }, router).into_future(),
        );
        Self { name: name.to_owned(), url, state }
    }

    /// How many managed objects of a kind there are, by the kind's path (`apps/v1/deployments`).
    pub fn managed(&self, kind: &str) -> usize {
        self.state.store.lock().unwrap().collection(kind).managed
    }

    /// Whether an object is there.
    pub fn has(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.state.store.lock().unwrap().get(kind, &key).is_ok()
    }

    /// Writes since they were last forgotten.
    pub fn writes(&self) -> usize {
        self.state.writes.load(Ordering::SeqCst)
    }

    /// The first of these writes.
    pub fn named_writes(&self) -> Vec<String> {
        self.state.named.lock().unwrap().clone()
    }

    pub fn forget_writes(&self) {
        self.state.writes.store(0, Ordering::SeqCst);
        self.state.named.lock().unwrap().clear();
    }

    /// Makes its health endpoint answer, or refuse.
    pub fn set_ready(&self, ready: bool) {
        self.state.ready.store(ready, Ordering::SeqCst);
    }
}

/// TLS connections of a listener.
struct TlsListener {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What a path leads to.
struct Target {
    kind: String,
    namespace: String,
    name: Option<String>,
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let mut words = path.split('/').skip(1);
        let kind = match words.next()? {
            "api" => words.next()?.to_owned(),
            "apis" => format!("{}/{}", words.next()?, words.next()?),
            _ => return None,
        };
        let words: Vec<&str> = words.collect();
        let target = |plural: &str, namespace: &str, name: Option<&str>| {
            let name = name.map(str::to_owned);
            Some(Self { kind: format!("{kind}/{plural}"), namespace: namespace.to_owned(), name })
        };
        match words[..] {
            ["namespaces", name] | ["namespaces", name, "status" | "finalize"] => target("namespaces", "", Some(name)),
            ["namespaces", namespace, plural] => target(plural, namespace, None),
            ["namespaces", namespace, plural, name] | ["namespaces", namespace, plural, name, "status"] => {
                target(plural, namespace, Some(name))
            }
            [plural] => target(plural, "", None),
            [plural, name] | [plural, name, "status"] => target(plural, "", Some(name)),
            _ => None,
        }
    }

    fn object(&self) -> ObjectName {
        (self.namespace.clone(), self.name.clone().unwrap_or_default())
    }
}

async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if is_write(&parts.method) && server.writes.fetch_add(1, Ordering::SeqCst) < WRITES_NAMED {
        server.named.lock().unwrap().push(format!("{} {path}", parts.method));
    }
    match path {
        "/readyz" | "/livez" | "/healthz" if server.ready.load(Ordering::SeqCst) => return "ok".into_response(),
        "/readyz" | "/livez" | "/healthz" => {
            let text = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed";
            return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
        "/version" => return answer(server.profile.version.clone()),
        "/api" => return answer(server.profile.core.clone()),
        "/apis" => return answer(server.profile.groups.clone()),
        _ => {}
    }
    let Some(target) = Target::of(path) else { return StatusCode::NOT_FOUND.into_response() };
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let query: HashMap<String, String> = form_urlencoded::parse(query).into_owned().collect();
    let managed = match query.get("labelSelector").map(String::as_str) {
        None | Some("") => false,
        Some(text) if text == format!("{MANAGED_LABEL}=true") => true,
        Some(other) => return (StatusCode::BAD_REQUEST, format!("selector {other} is not simulated")).into_response(),
    };
    let metadata_only = is_metadata_only(&parts.headers);
    if parts.method == Method::GET && target.name.is_none() {
        let selection = Selection { namespace: target.namespace.clone(), managed, metadata_only };
        return match query.get("watch").map(String::as_str) {
            Some("true" | "1") => watch(server, target.kind, selection, &query),
            _ => list(&server, &target.kind, &selection, &query),
        };
    }
    let Ok(body) = to_bytes(body, LARGEST).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    match one(&server, &parts.method, &target, &query, &parts.headers, &body) {
        Ok(body) if metadata_only => answer(partial(&body)),
        Ok(body) if parts.method == Method::POST => (StatusCode::CREATED, answer(body)).into_response(),
        Ok(body) => answer(body),
        Err(refusal) => {
            let code = StatusCode::from_u16(refusal.code).unwrap();
            (code, answer(refusal.status().to_string().into())).into_response()
        }
    }
}

fn answer(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A request about one object.
fn one(
    server: &Server,
    method: &Method,
    target: &Target,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Bytes, Refusal> {
    let bad = |reason| Refusal { code: 400, reason, kind: target.kind.clone(), name: target.object().1 };
    let parse = || serde_json::from_slice::<Value>(body).map_err(|_| bad("the body is not JSON"));
    let manager = query.get("fieldManager").map_or("unknown", String::as_str);
    let (kind, name) = (&target.kind, target.object());
    // Before the lock: bodies are parsed side by side.
    let content = if body.is_empty() { Value::Null } else { parse()? };
    let mut store = server.store.lock().unwrap();
    match *method {
        Method::GET => store.get(kind, &name).map(|object| object.body),
        Method::POST => store.create(kind, &target.namespace, content, manager),
        Method::PUT => store.change(kind, &name, manager, content, None),
        Method::PATCH => {
            let patch = match headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
                Some("application/apply-patch+yaml") => PatchKind::Apply,
                Some("application/merge-patch+json") => PatchKind::Merge,
                _ => return Err(bad("this kind of patch is not simulated")),
            };
            store.change(kind, &name, manager, content, Some(patch))
        }
        Method::DELETE => {
            let uid = content.pointer("/preconditions/uid").and_then(Value::as_str);
            store.delete(kind, &name, uid)?;
            Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}).to_string().into())
        }
        _ => Err(bad("this method is not simulated")),
    }
}

/// Which objects of a kind, and how much of them.
#[derive(Clone)]
struct Selection {
    namespace: String,
    managed: bool,
    metadata_only: bool,
}

impl Selection {
    fn has(&self, namespace: &str, managed: bool) -> bool {
        (managed || !self.managed) && (self.namespace.is_empty() || self.namespace == namespace)
    }

    fn body(&self, body: &Bytes) -> Bytes {
        if self.metadata_only { partial(body) } else { body.clone() }
    }
}

fn is_metadata_only(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"))
}

fn partial(body: &Bytes) -> Bytes {
    let mut object: Value = serde_json::from_slice(body).unwrap();
    let metadata = object["metadata"].take();
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}).to_string().into()
}

/// One page of a list. A token for the next page is the version of the first and the last name that was listed.
fn list(server: &Server, kind: &str, selection: &Selection, query: &HashMap<String, String>) -> Response {
    let limit = query.get("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(usize::MAX);
    let token = query.get("continue").filter(|token| !token.is_empty());
    let words = |token: &String| token.split('_').map(str::to_owned).collect::<Vec<_>>();
    let token: Option<[String; 3]> = token.and_then(|token| words(token).try_into().ok());
    let mut store = server.store.lock().unwrap();
    let mut version = store.version.to_string();
    let mut from = std::ops::Bound::Unbounded;
    if let Some([first, namespace, name]) = token {
        version = first;
        from = std::ops::Bound::Excluded((namespace, name));
    }
    let (mut bodies, mut last, mut more) = (Vec::new(), None, false);
    for (name, object) in store.collection(kind).objects.range((from, std::ops::Bound::Unbounded)) {
        if !selection.has(&name.0, object.managed) {
            continue;
        }
        if bodies.len() == limit {
            more = true;
            break;
        }
        bodies.push(object.body.clone());
        last = Some(name.clone());
    }
    drop(store);
    let next = last.filter(|_| more).map(|(namespace, name)| format!("{version}_{namespace}_{name}"));
    let metadata = json!({"resourceVersion": version, "continue": next.unwrap_or_default()});
    let mut text =
        format!("{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{metadata},\"items\":[").into_bytes();
    for (index, body) in bodies.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&selection.body(body));
    }
    text.extend_from_slice(b"]}");
    answer(text.into())
}

/// Changes from a version on, for as long as was asked.
fn watch(server: Arc<Server>, kind: String, selection: Selection, query: &HashMap<String, String>) -> Response {
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(300);
    let ends = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let from = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let initial = query.get("sendInitialEvents").is_some_and(|text| text == "true");
    let (mut lines, from, news) = {
        let mut store = server.store.lock().unwrap();
        let version = store.version;
        let collection = store.collection(&kind);
        let news = collection.subscribe();
        let mut lines = Vec::new();
        if initial || from == 0 {
            for (name, object) in &collection.objects {
                if selection.has(&name.0, object.managed) {
                    line(&mut lines, "ADDED", &selection.body(&object.body));
                }
            }
        }
        (lines, if initial || from == 0 { version } else { from }, news)
    };
    if initial {
        bookmark(&mut lines, from, true);
    }
    let follow = stream::unfold((server, news, from, false), move |(server, mut news, mut from, ended)| {
        let (kind, selection) = (kind.clone(), selection.clone());
        async move {
            if ended {
                return None;
            }
            loop {
                news.borrow_and_update();
                let changes = server.store.lock().unwrap().collection(&kind).since(from);
                let Some(changes) = changes else {
                    let expired = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                        "reason": "Expired", "message": "too old resource version"});
                    let mut lines = Vec::new();
                    line(&mut lines, "ERROR", expired.to_string().as_bytes());
                    return Some((Bytes::from(lines), (server, news, from, true)));
                };
                let mut lines = Vec::new();
                for Change { type_, object } in changes {
                    from = object.version;
                    if in_selection(&selection, &object.body, object.managed) {
                        line(&mut lines, type_, &selection.body(&object.body));
                    }
                }
                if !lines.is_empty() {
                    return Some((Bytes::from(lines), (server, news, from, false)));
                }
                tokio::select! {
                    _ = news.changed() => {}
                    () = tokio::time::sleep(BOOKMARK_EVERY) => {
                        let mut lines = Vec::new();
                        bookmark(&mut lines, from, false);
                        return Some((Bytes::from(lines), (server, news, from, false)));
                    }
                    () = tokio::time::sleep_until(ends) => return None,
                }
            }
        }
    });
    let body = stream::once(async move { Bytes::from(lines) }).chain(follow).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

/// Changes carry no name of their own; only watches of one namespace have to look for it.
fn in_selection(selection: &Selection, body: &Bytes, managed: bool) -> bool {
    if selection.namespace.is_empty() {
        return selection.has("", managed);
    }
    let object: Value = serde_json::from_slice(body).unwrap();
    selection.has(object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default(), managed)
}

fn line(lines: &mut Vec<u8>, type_: &str, object: &[u8]) {
    lines.extend_from_slice(format!("{{\"type\":\"{type_}\",\"object\":").as_bytes());
    lines.extend_from_slice(object);
    lines.extend_from_slice(b"}\n");
}

fn bookmark(lines: &mut Vec<u8>, version: u64, initial: bool) {
    let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    if initial {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = json!({"kind": "", "apiVersion": "", "metadata": metadata, "spec": {}});
    line(lines, "BOOKMARK", object.to_string().as_bytes());
}

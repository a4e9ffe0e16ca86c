//! Clients for the host cluster, planes and members, all made in one place.
//!
//! Every request passes through one layer that counts it and, in tests, may stop the process' world at the k-th
//! write. There are no client-side rate limits: concurrency is bounded where work is started.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{AuthInfo, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

use super::kubeconfig::{Connection, Credentials};

/// How long a connection may take to come about; a member that is away must not hold anybody up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(thiserror::Error, Debug)]
pub enum ClientError {
    /// The certificate authority is not PEM.
    #[error("certificate authority is not a PEM certificate")]
    Authority,
    /// Certificates or keys do not fit.
    #[error("build client")]
    Build(#[source] kube::Error),
    /// The environment names no cluster.
    #[error("find the host cluster's address and credentials")]
    Infer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sees every request on its way out and back.
pub trait RequestHook: Send + Sync + 'static {
    /// Called before a request is sent; the request waits for the future.
    fn before(&self, method: &Method, host: &str, path: &str) -> BoxFuture<'static, ()>;
    /// Called when the answer is there (0 = none came); the caller gets it after the future.
    fn after(&self, method: &Method, host: &str, path: &str, code: u16, took: Duration) -> BoxFuture<'static, ()>;
}

/// Makes clients.
#[derive(Clone, Default)]
pub struct ClientFactory {
    hooks: Vec<Arc<dyn RequestHook>>,
}

impl std::fmt::Debug for ClientFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFactory").field("hooks", &self.hooks.len()).finish()
    }
}

impl ClientFactory {
    /// Adds a hook to every client made from here on.
    #[must_use]
    pub fn with_hook(mut self, hook: Arc<dyn RequestHook>) -> Self {
        self.hooks.push(hook);
        self
    }

    /// A client for the cluster that this process belongs to: `KUBECONFIG`, else the pod's service account.
    pub async fn host(&self) -> Result<Client, ClientError> {
        let config = Config::infer().await.map_err(|e| ClientError::Infer(Box::new(e)))?;
        self.build(config)
    }

    /// A client from a kubeconfig file of the administrator who started this process (which may name files).
    pub async fn trusted_file(&self, path: &std::path::Path) -> Result<Client, ClientError> {
        let infer = |e: kube::config::KubeconfigError| ClientError::Infer(Box::new(e));
        let kubeconfig = Kubeconfig::read_from(path).map_err(infer)?;
        self.build(Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.map_err(infer)?)
    }

    /// A client for a connection that was read from a Secret.
    pub fn connect(&self, connection: &Connection) -> Result<Client, ClientError> {
        let mut config = Config::new(connection.server.clone());
        config.tls_server_name.clone_from(&connection.tls_server_name);
        config.root_cert = connection.certificate_authority.as_deref().map(certificates).transpose()?;
        config.auth_info = auth_info(&connection.credentials);
        self.build(config)
    }

    fn build(&self, mut config: Config) -> Result<Client, ClientError> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Reconcilers have deadlines and a backoff of their own; hidden retries would eat the one and defeat the
        // other.
        config.default_retry = false;
        let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        let layer = HookLayer { hooks: self.hooks.clone().into(), host: host.into() };
        let builder = ClientBuilder::try_from(config).map_err(ClientError::Build)?;
        Ok(builder.with_layer(&layer).build())
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, ClientError> {
    let ders: Vec<Vec<u8>> = x509_parser::pem::Pem::iter_from_buffer(pem)
        .filter_map(Result::ok)
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| block.contents)
        .collect();
    if ders.is_empty() { Err(ClientError::Authority) } else { Ok(ders) }
}

fn auth_info(credentials: &Credentials) -> AuthInfo {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    match credentials {
        Credentials::Token(token) => AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() },
        Credentials::Certificate { certificate, key } => AuthInfo {
            client_certificate_data: Some(encode(certificate)),
            client_key_data: Some(encode(key).into()),
            ..AuthInfo::default()
        },
    }
}

/// Whether a request changes anything.
#[must_use]
pub fn is_write(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
}

/// How long an API server may take until its answer begins; a watch goes on for as long as it likes. One that takes
/// connections and says nothing must not hold up those who wait for it until the deadline of their reconcile, after
/// which nobody writes the status.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct HookLayer {
    hooks: Arc<[Arc<dyn RequestHook>]>,
    host: Arc<str>,
}

impl<S> Layer<S> for HookLayer {
    type Service = HookService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HookService { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
struct HookService<S> {
    inner: S,
    layer: HookLayer,
}

impl<S, B> Service<Request<Body>> for HookService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let HookLayer { hooks, host } = self.layer.clone();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        // The inner future sends nothing before it is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            for hook in hooks.iter() {
                hook.before(&method, &host, &path).await;
            }
            let started = std::time::Instant::now();
            let result = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
                Ok(result) => result,
                Err(_) => Err(format!("{host} did not answer within {} s", ANSWER_WITHIN.as_secs()).into()),
            };
            let code = result.as_ref().map_or(0, |response| response.status().as_u16());
            for hook in hooks.iter() {
                hook.after(&method, &host, &path, code, started.elapsed()).await;
            }
            result
        })
    }
}

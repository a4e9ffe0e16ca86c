//! Clients for the host cluster, planes and members, all made in one place.
//!
//! Every request passes through one layer that counts it and, in tests, may stop the process' world at the k-th
//! write. There are no client-side rate limits: concurrency is bounded where work is started.

mod multiplexed;

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

/// How long nothing may come on a connection that is waited on. Servers end watches before (kube-runtime asks for 290 s).
const READ_TIMEOUT: Duration = Duration::from_secs(295);

/// Why there is no client.
#[derive(thiserror::Error, Debug)]
pub enum ClientError {
    /// The certificate authority is not PEM.
    #[error("certificate authority is not a PEM certificate")]
    Ca,
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
        self.build(config(connection)?)
    }

    /// As [`connect`](Self::connect), for requests and a few dozen watches at most: they share one connection.
    pub fn connect_multiplexed(&self, connection: &Connection) -> Result<Client, ClientError> {
        let mut config = config(connection)?;
        config.read_timeout = Some(READ_TIMEOUT);
        let service = self.hooks(&config).layer(multiplexed::service(&config)?);
        Ok(Client::new(service, config.default_namespace))
    }

    fn build(&self, mut config: Config) -> Result<Client, ClientError> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        // Reconcilers have deadlines and a backoff of their own; hidden retries would eat the one and defeat the
        // other.
        config.default_retry = false;
        let layer = self.hooks(&config);
        let builder = ClientBuilder::try_from(config).map_err(ClientError::Build)?;
        Ok(builder.with_layer(&layer).build())
    }

    fn hooks(&self, config: &Config) -> HookLayer {
        let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        HookLayer { hooks: self.hooks.clone().into(), host: host.into() }
    }
}

fn config(connection: &Connection) -> Result<Config, ClientError> {
    let mut config = Config::new(connection.server.clone());
    config.tls_server_name.clone_from(&connection.tls_server_name);
    config.root_cert = connection.certificate_authority.as_deref().map(certificates).transpose()?;
    config.auth_info = auth_info(&connection.credentials);
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, ClientError> {
    let ders: Vec<Vec<u8>> = x509_parser::pem::Pem::iter_from_buffer(pem)
        .filter_map(Result::ok)
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| block.contents)
        .collect();
    if ders.is_empty() { Err(ClientError::Ca) } else { Ok(ders) }
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
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest line of a watch. etcd keeps objects of 1.5 MiB; as JSON they are somewhat longer.
const MAX_LINE: usize = 16 << 20;

/// The longest page of a list: [`PAGE`](super::guarded::PAGE) of the largest objects.
const MAX_LIST: usize = 128 << 20;

/// The longest of all other answers.
const MAX_RESPONSE: usize = 32 << 20;

/// How much of an answer is read. An API server may be anybody's, and its answers are held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    bytes: usize,
    /// Whether each line has the limit, and not the whole.
    by_line: bool,
}

impl Limit {
    fn of(uri: &http::Uri) -> Self {
        let has = |name: &str| {
            let mut parameters = uri.query().unwrap_or_default().split('&');
            parameters.any(|parameter| parameter.split('=').next() == Some(name))
        };
        match (has("watch"), has("limit")) {
            (true, _) => Self { bytes: MAX_LINE, by_line: true },
            (false, true) => Self { bytes: MAX_LIST, by_line: false },
            (false, false) => Self { bytes: MAX_RESPONSE, by_line: false },
        }
    }

    /// Counts what has come, and refuses what is too much.
    fn count(self, seen: &mut usize, data: &[u8]) -> Result<(), AnswerTooLong> {
        let too_long = Err(AnswerTooLong { what: if self.by_line { "line" } else { "answer" }, limit: self.bytes });
        if !self.by_line {
            *seen += data.len();
            return if *seen > self.bytes { too_long } else { Ok(()) };
        }
        let mut lines = data.split(|byte| *byte == b'\n');
        // The first one goes on with what was there already.
        *seen += lines.next().map_or(0, <[u8]>::len);
        for line in lines {
            if *seen > self.bytes {
                return too_long;
            }
            *seen = line.len();
        }
        if *seen > self.bytes { too_long } else { Ok(()) }
    }
}

/// An API server said more than anybody asked for.
#[derive(thiserror::Error, Debug)]
#[error("the API server's {what} is longer than {} MiB", .limit >> 20)]
struct AnswerTooLong {
    what: &'static str,
    limit: usize,
}

/// A body that ends with an error where it gets too long.
struct LimitedBody<B> {
    inner: std::pin::Pin<Box<B>>,
    limit: Limit,
    seen: usize,
}

impl<B> http_body::Body for LimitedBody<B>
where
    B: http_body::Body<Data: AsRef<[u8]>, Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let frame = std::task::ready!(self.inner.as_mut().poll_frame(cx));
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into).and_then(|frame| {
            let limit = self.limit;
            if let Some(data) = frame.data_ref() {
                limit.count(&mut self.seen, data.as_ref())?;
            }
            Ok(frame)
        });
        Poll::Ready(Some(frame))
    }
}

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
    B: http_body::Body<Data: AsRef<[u8]>, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<LimitedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let HookLayer { hooks, host } = self.layer.clone();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let limit = Limit::of(request.uri());
        // The inner future sends nothing before it is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            for hook in hooks.iter() {
                hook.before(&method, &host, &path).await;
            }
            let started = std::time::Instant::now();
            let result = match tokio::time::timeout(RESPONSE_TIMEOUT, answer).await {
                Ok(result) => result,
                Err(_) => Err(format!("{host} did not answer within {} s", RESPONSE_TIMEOUT.as_secs()).into()),
            };
            let code = result.as_ref().map_or(0, |response| response.status().as_u16());
            for hook in hooks.iter() {
                hook.after(&method, &host, &path, code, started.elapsed()).await;
            }
            result.map(|response| response.map(|body| LimitedBody { inner: Box::pin(body), limit, seen: 0 }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_limits() {
        let of = |uri: &str| Limit::of(&uri.parse().unwrap());
        assert_eq!(of("/api/v1/pods?watch=true&limit=5"), Limit { bytes: MAX_LINE, by_line: true });
        assert_eq!(of("/api/v1/pods?&limit=50&continue=x"), Limit { bytes: MAX_LIST, by_line: false });
        assert_eq!(of("/api/v1/pods/watch?fieldManager=limit"), Limit { bytes: MAX_RESPONSE, by_line: false });
    }

    #[test]
    fn a_watch_may_go_on_for_ever_line_by_line() {
        let read = |by_line: bool, parts: &[&str]| {
            let (limit, mut seen) = (Limit { bytes: 4, by_line }, 0);
            parts.iter().all(|part| limit.count(&mut seen, part.as_bytes()).is_ok())
        };
        assert!(read(true, &["1234\n", "12", "34\n1", "234", "\n"]));
        assert!(!read(true, &["12345\n"]) && !read(true, &["1\n12", "345"]) && !read(true, &["1\n12345\n1"]));
        assert!(read(false, &["1", "\n", "34"]) && !read(false, &["123", "45"]));
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_ends_with_an_error() {
        use http_body_util::BodyExt as _;
        let body = |limit: usize| LimitedBody {
            inner: Box::pin(Body::from(b"12345678".to_vec())),
            limit: Limit { bytes: limit, by_line: false },
            seen: 0,
        };
        assert_eq!(body(8).collect().await.unwrap().to_bytes().len(), 8);
        let error = body(7).collect().await.unwrap_err();
        assert!(error.to_string().contains("is longer than"), "{error}");
    }
}

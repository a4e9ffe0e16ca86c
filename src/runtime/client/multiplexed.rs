//! Requests that share one connection, over HTTP/2. *IO.*
//!
//! kube's own clients speak HTTP/1.1, where every watch takes a connection: some 100 kB in this process, and as much in the
//! API server. Who watches a few kinds of many API servers cannot afford that. An API server lets a connection have 100
//! requests at once (`--http2-max-streams-per-connection`), and the next one waits, so that only a known number of watches may share one.

use std::time::Duration;

use http::{Request, Response};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::{Body, ConfigExt as _, RustlsTlsError};
use tower::{BoxError, Service, ServiceBuilder};

use super::{CONNECT_TIMEOUT, ClientError};

/// How long a connection may be silent until it is asked whether it is alive.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer may take until all of the connection's requests fail.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept since a request began on it: longer than watches take to come back, or each of them would
/// find none and make one.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// What sends the requests of a client. An API server that does not offer HTTP/2 gets HTTP/1.1.
///
/// # Errors
/// Certificates, keys or the server's name are not what they should be.
pub(super) fn service(
    config: &Config,
) -> Result<
    impl Service<Request<Body>, Response = Response<hyper::body::Incoming>, Error = BoxError, Future: Send> + Send + 'static,
    ClientError,
> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    // A request must not wait until what was sent of another one is acknowledged.
    connector.set_nodelay(true);
    let tls = config.rustls_client_config().map_err(ClientError::Build)?;
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let invalid = |error| ClientError::Build(kube::Error::RustlsTls(RustlsTlsError::InvalidServerName(error)));
        let name = name.clone().try_into().map_err(invalid)?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    // For a server that accepts a connection and then says nothing.
    let mut connector = TimeoutConnector::new(builder.enable_all_versions().wrap_connector(connector));
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_read_timeout(config.read_timeout);
    let client = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build::<_, Body>(connector);
    Ok(ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(ClientError::Build)?)
        .layer(config.extra_headers_layer().map_err(ClientError::Build)?)
        .map_err(BoxError::from)
        .service(client))
}

//! Requests that share one connection, over HTTP/2. *IO.*
//!
//! kube's own clients speak HTTP/1.1, where every watch takes a connection: some 100 kB in this process, and as much in the
//! API server. One that watches a few kinds of many API servers cannot afford that; an API server lets a connection have 100
//! requests at once (`--http2-max-streams-per-connection`), so whoever watches more kinds than that must not use it.

use std::time::Duration;

use http::{Request, Response};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::{Body, ConfigExt as _};
use tower::{BoxError, Service, ServiceBuilder};

use super::{CONNECT_TIMEOUT, ClientError};

/// How often a connection is asked whether it is alive; client-go's `ReadIdleTimeout`.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long the answer may take until all of the connection's requests fail; client-go's `PingTimeout`.
const PING_TIMEOUT: Duration = Duration::from_secs(15);

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
    let tls = config.rustls_client_config().map_err(ClientError::Build)?;
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|_| ClientError::ServerName(name.clone()))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    // Both for a server that accepts the connection and then says nothing: while it is set up, and over HTTP/1.1, where
    // nothing is asked on it.
    let mut connector = TimeoutConnector::new(builder.enable_all_versions().wrap_connector(connector));
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_read_timeout(config.read_timeout);
    let client = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
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

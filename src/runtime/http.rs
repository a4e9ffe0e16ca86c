//! The small HTTP server for probes and metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// Tells whether the process can do its work now.
pub type Readiness = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why the server ended.
#[derive(thiserror::Error, Debug)]
pub enum ServeError {
    /// The address is not to be had.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It broke while serving.
    #[error("serve probes and metrics")]
    Serve(#[source] std::io::Error),
}

/// Serves `/metrics`, `/healthz`, `/livez` and `/readyz` until `shutdown`.
pub async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    ready: Readiness,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let app =
        Router::new()
            .route(
                "/metrics",
                get(move || {
                    let text = metrics.encode();
                    async move {
                        ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                    }
                }),
            )
            .route("/healthz", get(|| async { "ok" }))
            .route("/livez", get(|| async { "ok" }))
            .route(
                "/readyz",
                get(move || {
                    let ready = ready();
                    async move {
                        if ready {
                            "ok".into_response()
                        } else {
                            (StatusCode::SERVICE_UNAVAILABLE, "not ready: caches are still being filled")
                                .into_response()
                        }
                    }
                }),
            );
    let listener =
        tokio::net::TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await.map_err(ServeError::Serve)
}

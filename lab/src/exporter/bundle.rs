//! Serves Karmada's CRDs as released, and their checksum, to the host's pods.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::addresses::{BUNDLE_PORT, INSIDE};

/// Serves until the end.
pub async fn serve(folder: PathBuf) -> Result<()> {
    let listener = tokio::net::TcpListener::bind((INSIDE, BUNDLE_PORT))
        .await
        .with_context(|| format!("listening on {INSIDE}:{BUNDLE_PORT}"))?;
    axum::serve(listener, router(folder)).await.context("serving the CRD bundle")
}

fn router(folder: PathBuf) -> Router {
    Router::new()
        .route("/crds.tar.gz", get(|State(dir): State<Arc<Path>>| async move { file(&dir, "crds.tar.gz").await }))
        .route(
            "/crds.tar.gz.sha256",
            get(|State(dir): State<Arc<Path>>| async move { file(&dir, "crds.tar.gz.sha256").await }),
        )
        .with_state(Arc::from(folder))
}

async fn file(folder: &Path, name: &str) -> Response {
    match tokio::fs::read(folder.join(name)).await {
        Ok(content) => {
            let kind = if name.ends_with(".gz") { "application/gzip" } else { "text/plain" };
            ([(header::CONTENT_TYPE, kind)], Body::from(content)).into_response()
        }
        Err(_) => (StatusCode::NOT_FOUND, "no bundle: run airdock-lab up with KARMADA_BIN set\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    #[tokio::test]
    async fn serves_what_is_there_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("lab-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("crds.tar.gz"), b"zip").unwrap();
        std::fs::write(dir.join("secret"), b"no").unwrap();
        for (path, status) in
            [("/crds.tar.gz", 200), ("/crds.tar.gz.sha256", 404), ("/secret", 404), ("/../secret", 404)]
        {
            let request = http::Request::get(path).body(Body::empty()).unwrap();
            let answer = router(dir.clone()).oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

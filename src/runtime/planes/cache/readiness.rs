//! Whether a plane answers: asked at most once in a few seconds, for all who want to know. *IO.*

use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::CacheError;
use crate::machinery::error::chain;

/// How long a plane that has answered need not be asked again.
const READY_TTL: Duration = Duration::from_secs(5);

/// How long one that has not is taken for away without being asked again.
pub(super) const UNREADY_TTL: Duration = Duration::from_millis(300);

/// How long a plane may take to answer.
const READYZ_TIMEOUT: Duration = Duration::from_secs(5);

/// What `/readyz` of a plane said last.
pub(super) struct Readiness {
    client: Client,
    /// Held by the one that asks.
    request: tokio::sync::Mutex<()>,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    pub(super) fn new(client: Client) -> Self {
        Self { client, request: tokio::sync::Mutex::default(), last: Mutex::default() }
    }

    /// Forgets what was said: the next one asks.
    pub(super) fn invalidate(&self) {
        *self.last.lock() = None;
    }

    /// Asks, unless that was done a moment ago.
    pub(super) async fn check(&self) -> Result<(), CacheError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _request = self.request.lock().await;
        // Somebody else may have asked while this one waited.
        if let Some(known) = self.known() {
            return known;
        }
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(|e| CacheError::Away(e.to_string()))?;
        let result = match tokio::time::timeout(READYZ_TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("no answer within {} s", READYZ_TIMEOUT.as_secs())),
        };
        *self.last.lock() = Some((Instant::now(), result.clone()));
        result.map_err(CacheError::Away)
    }

    fn known(&self) -> Option<Result<(), CacheError>> {
        let last = self.last.lock();
        let (at, result) = last.as_ref()?;
        let ttl = if result.is_ok() { READY_TTL } else { UNREADY_TTL };
        (at.elapsed() < ttl).then(|| result.clone().map_err(CacheError::Away))
    }
}

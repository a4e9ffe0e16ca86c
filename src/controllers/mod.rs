//! The reconcilers, a directory each: observe (reads), plan (pure), apply (writes), status (pure).
//!
//! Each directory's `mod.rs` has `pub async fn run(context: Context)`, which wires its watches and runs until
//! shutdown; `operator.rs` starts them all.

pub mod app;
pub mod host_error;
pub mod instance;
pub mod member;
pub mod permission;
pub mod stamp;
pub mod watch;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::runtime::client::ClientFactory;
use crate::runtime::controller::{Caches, Options};
use crate::runtime::host_cache::HostCache;
use crate::runtime::leadership::Leadership;
use crate::runtime::metrics::Metrics;
use crate::runtime::planes::Planes;

/// What every controller is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The host cluster.
    pub host: HostClient,
    /// Makes clients for members.
    pub factory: ClientFactory,
    /// The planes of all instances.
    pub planes: Planes,
    /// What the host cluster holds.
    pub cache: HostCache,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Where controllers count.
    pub metrics: Metrics,
    /// When it all ends.
    pub shutdown: CancellationToken,
    /// Which of the controllers' caches are still being filled.
    pub caches: Caches,
    /// Image of this binary, for engines.
    pub image: String,
}

/// A client, with a `Debug` that says nothing.
#[derive(Clone)]
pub struct HostClient(pub Client);

impl std::fmt::Debug for HostClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostClient")
    }
}

impl Context {
    /// Options for a controller that runs up to `concurrency` reconciles at once.
    #[must_use]
    pub fn options(&self, concurrency: u16) -> Options {
        Options {
            concurrency,
            leadership: self.leadership.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
            caches: self.caches.clone(),
            host: self.host.0.clone(),
        }
    }
}

//! The operator: every controller in one process, with a leader by Lease, probes and metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controllers::{Context, HostClient, app, instance, member, permission};
use crate::runtime::client::{ClientError, ClientFactory};
use crate::runtime::controller::Caches;
use crate::runtime::host_cache::HostCache;
use crate::runtime::http::{self, ServeError};
use crate::runtime::leadership::{self, Election, LeadershipError};
use crate::runtime::metrics::Metrics;
use crate::runtime::planes::{Planes, ServiceAccess};
use crate::runtime::shard::Shard;

/// How long reconciles that are under way may take at the end; less than the pod's grace period.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How an operator runs.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// Address of /metrics, /healthz and /readyz.
    pub listen: SocketAddr,
    /// Which instances this replica owns.
    pub shard: Shard,
    /// The election of the replica that leads; without, this one always does.
    pub election: Option<Election>,
    /// Image of the engine of Compact instances.
    pub image: String,
    /// How Services are reached.
    pub service_access: ServiceAccess,
}

/// Why the operator ended.
#[derive(thiserror::Error, Debug)]
pub enum OperatorError {
    /// The host cluster cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Another replica leads now.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// Probes and metrics cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Runs until `ended`, or until leadership is lost, with clients of the caller's making.
pub async fn run(
    config: OperatorConfig,
    host: kube::Client,
    factory: ClientFactory,
    metrics: Metrics,
    ended: impl Future<Output = ()>,
) -> Result<(), OperatorError> {
    let shutdown = CancellationToken::new();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?config, "starting");
    // The Lease is let go after the last write, not with the signal.
    let release = CancellationToken::new();
    let (leadership, mut election) = leadership::start(host.clone(), config.election, &metrics, release.clone());
    let caches = Caches::default();
    let cache = HostCache::start(&host, config.shard, &shutdown);
    let (planes, plane_clients) =
        Planes::start(cache.clone(), factory.clone(), config.service_access, metrics.clone(), shutdown.clone());
    let context = Context {
        host: HostClient(host),
        factory,
        planes,
        leadership,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
        caches: caches.clone(),
        cache,
        image: config.image,
    };
    let mut controllers = JoinSet::new();
    controllers.spawn(plane_clients);
    start_all(&mut controllers, &context);
    let serving = http::serve(config.listen, metrics, Arc::new(move || caches.are_filled()), shutdown.clone());
    // On lost leadership nothing may be written any more: the process ends at once instead.
    tokio::select! {
        () = ended => {}
        lost = &mut election => return lost.map_err(OperatorError::from),
        broken = serving => return broken.map_err(OperatorError::from),
    }
    tracing::info!("ending: what is under way is finished first");
    shutdown.cancel();
    let finished = async { while controllers.join_next().await.is_some() {} };
    tokio::select! {
        _ = tokio::time::timeout(DRAIN_TIMEOUT, finished) => {}
        lost = &mut election => return lost.map_err(OperatorError::from),
    }
    controllers.shutdown().await;
    leadership::release(election, &release).await;
    Ok(())
}

/// Every controller has its line here.
fn start_all(controllers: &mut JoinSet<()>, context: &Context) {
    let all = [
        instance::run(context.clone()).boxed(),
        member::run(context.clone()).boxed(),
        app::run(context.clone()).boxed(),
        permission::run(context.clone()).boxed(),
    ];
    context.caches.expect(all.len());
    for controller in all {
        controllers.spawn(controller);
    }
}

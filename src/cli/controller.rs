//! `airdock controller`: all reconcilers in one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controllers::{Context, HostClient, app, instance, member, permission};
use crate::runtime::client::{ClientError, ClientFactory};
use crate::runtime::controller::Caches;
use crate::runtime::http::{self, ServeError};
use crate::runtime::leadership::{self, Election, Leadership, LeadershipError};
use crate::runtime::metrics::Metrics;
use crate::runtime::ownership::Shard;
use crate::runtime::planes::{Planes, ServiceAccess};

/// How long reconciles that are under way may take at the end; less than the pod's grace period.
const DRAIN: Duration = Duration::from_secs(20);

/// How long it may take to let the Lease go.
const RELEASE: Duration = Duration::from_secs(5);

/// Flags of `airdock controller`.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Elect a leader among replicas by a Lease.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "airdock-system")]
    pub namespace: String,
    /// Unique name of this replica in the election; host name and process id when absent.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Image of the engine of Compact instances.
    #[arg(long, env = "AIRDOCK_IMAGE", default_value = super::DEFAULT_IMAGE)]
    pub image: String,
    /// How Services are reached; cluster-ip is for running outside the cluster on a machine that routes to its
    /// Service network.
    #[arg(long, value_enum, default_value_t)]
    pub service_access: ServiceAccess,
}

/// Why the controller ended.
#[derive(thiserror::Error, Debug)]
pub enum ControllerError {
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

/// Runs until SIGTERM or SIGINT, or until leadership is lost.
pub async fn run(args: ControllerArgs) -> Result<(), ControllerError> {
    let metrics = Metrics::new();
    let factory = ClientFactory::default().with_hook(Arc::new(metrics.clone()));
    let host = factory.host().await?;
    run_with(args, host, factory, metrics, signalled()).await
}

/// Runs until `ended`, or until leadership is lost, with clients of the caller's making.
pub async fn run_with(
    args: ControllerArgs,
    host: kube::Client,
    factory: ClientFactory,
    metrics: Metrics,
    ended: impl Future<Output = ()>,
) -> Result<(), ControllerError> {
    let shutdown = CancellationToken::new();
    let shard = Shard::default();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?args, "starting");
    // The Lease is let go after the last write, not with the signal.
    let release = CancellationToken::new();
    let (leadership, election) = if args.leader_elect {
        let identity = args.identity.clone().unwrap_or_else(default_identity);
        let election = Election { namespace: args.namespace.clone(), name: shard.lease_name(), identity };
        let (leadership, task) = leadership::start(host.clone(), election, &metrics, release.clone());
        (leadership, futures::future::Either::Left(task))
    } else {
        let until = release.clone();
        let task = async move {
            until.cancelled().await;
            Ok(())
        };
        (Leadership::always(), futures::future::Either::Right(task))
    };
    let caches = Caches::default();
    let (planes, keeper) = Planes::start(host.clone(), factory.clone(), args.service_access, shard, shutdown.clone());
    let context = Context {
        host: HostClient(host),
        factory,
        planes,
        leadership,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
        caches: caches.clone(),
        shard,
        image: args.image,
    };
    let mut controllers = JoinSet::new();
    controllers.spawn(keeper);
    start_all(&mut controllers, &context);
    let serving = http::serve(args.listen, metrics, Arc::new(move || caches.are_filled()), shutdown.clone());
    tokio::pin!(election);
    // On lost leadership nothing may be written any more: the process ends at once instead.
    tokio::select! {
        () = ended => {}
        lost = &mut election => return lost.map_err(ControllerError::from),
        broken = serving => return broken.map_err(ControllerError::from),
    }
    tracing::info!("ending: what is under way is finished first");
    shutdown.cancel();
    let finished = async { while controllers.join_next().await.is_some() {} };
    tokio::select! {
        _ = tokio::time::timeout(DRAIN, finished) => {}
        lost = &mut election => return lost.map_err(ControllerError::from),
    }
    controllers.shutdown().await;
    release.cancel();
    let _ = tokio::time::timeout(RELEASE, election).await;
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

/// Host name and process id.
pub(super) fn default_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

/// Waits for SIGTERM or SIGINT.
pub async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

//! `airdock controller`: all reconcilers in one process.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;

use super::election::ElectionArgs;
use crate::operator::{self, OperatorConfig, OperatorError};
use crate::runtime::client::ClientFactory;
use crate::runtime::metrics::Metrics;
use crate::runtime::planes::ServiceAccess;
use crate::runtime::shard::Shard;

/// Flags of `airdock controller`.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Whether and as whom it competes with other replicas.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "airdock-system")]
    pub namespace: String,
    /// Image of the engine of Compact instances.
    #[arg(long, env = "AIRDOCK_IMAGE", default_value = super::DEFAULT_IMAGE)]
    pub image: String,
    /// How Services are reached; cluster-ip is for running outside the cluster on a machine that routes to its
    /// Service network.
    #[arg(long, value_enum, default_value_t)]
    pub service_access: ServiceAccess,
}

/// Runs until SIGTERM or SIGINT, or until leadership is lost.
pub async fn run(args: ControllerArgs) -> Result<(), OperatorError> {
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
) -> Result<(), OperatorError> {
    let ControllerArgs { listen, election, namespace, image, service_access } = args;
    let shard = Shard::default();
    let election = election.election(namespace, shard.lease_name());
    let config = OperatorConfig { listen, shard, election, image, service_access };
    operator::run(config, host, factory, metrics, ended).await
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

//! `airdock engine`: serves Karmada's API in a plane of profile Compact.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::controller::signalled;
use super::election::ElectionArgs;
use crate::engine::{self, Options, Settings};
use crate::karmada::SYSTEM_NAMESPACE;
use crate::runtime::client::{ClientError, ClientFactory};
use crate::runtime::http::{self, ServeError};
use crate::runtime::leadership::{self, LeadershipError};
use crate::runtime::metrics::Metrics;

/// The Lease for which the replicas of an engine compete.
const LEASE_NAME: &str = "airdock-engine";

/// Flags of `airdock engine`.
#[derive(Args, Clone, Debug)]
pub struct EngineArgs {
    /// Kubeconfig of the plane; found as by kubectl when absent.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Whether and as whom it competes with other replicas.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// Namespace, in the plane, of the Lease.
    #[arg(long, default_value = SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// How many bindings are written at once.
    #[arg(long, default_value_t = Settings::default().plane_concurrency)]
    pub plane_concurrency: usize,
    /// How many statuses are written at once.
    #[arg(long, default_value_t = Settings::default().report_concurrency)]
    pub report_concurrency: usize,
    /// How many objects are written at once in each member.
    #[arg(long, default_value_t = Settings::default().member_concurrency)]
    pub member_concurrency: usize,
}

/// Why the engine ended.
#[derive(thiserror::Error, Debug)]
pub enum EngineError {
    /// There is no client for the plane.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Another replica leads now.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// One of its tasks panicked.
    #[error("a task of the engine panicked, as the log tells; the engine has to be started anew")]
    Panicked,
    /// Probes and metrics cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Runs until SIGTERM or SIGINT, or until leadership is lost.
pub async fn run(args: EngineArgs) -> Result<(), EngineError> {
    let metrics = Metrics::new();
    let factory = ClientFactory::default().with_hook(Arc::new(metrics.clone()));
    let plane = match &args.kubeconfig {
        Some(path) => factory.trusted_file(path).await?,
        None => factory.host().await?,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?args, "starting");
    let shutdown = CancellationToken::new();
    let election = args.election.election(args.namespace, LEASE_NAME.to_owned());
    let (leadership, mut election) = leadership::start(plane.clone(), election, &metrics, shutdown.clone());
    let ready = Arc::new(AtomicBool::new(false));
    let options = Options {
        factory,
        metrics: metrics.clone(),
        settings: Settings {
            plane_concurrency: args.plane_concurrency,
            report_concurrency: args.report_concurrency,
            member_concurrency: args.member_concurrency,
        },
        ready: ready.clone(),
    };
    // A standby has nothing to do.
    let standby = leadership.clone();
    let is_ready = Arc::new(move || !standby.is_leader() || ready.load(Ordering::Acquire));
    let serving = http::serve(args.listen, metrics, is_ready, shutdown.clone());
    let working = async {
        leadership.acquired().await;
        engine::run(plane, options).await;
    };
    let result = tokio::select! {
        () = signalled() => Ok(()),
        () = working => Err(EngineError::Panicked),
        ended = &mut election => ended.map_err(EngineError::from),
        ended = serving => ended.map_err(EngineError::from),
    };
    // The work has ended with the select; now the Lease may go to a standby.
    if result.is_ok() {
        leadership::release(election, &shutdown).await;
    }
    result
}

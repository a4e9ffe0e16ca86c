//! What every controller stands on: clients, downloads, apply and prune, backoff, leadership, metrics.

pub mod apply;
pub mod backoff;
pub mod client;
pub mod contents;
pub mod controller;
pub mod download;
pub mod finalizer;
pub mod guarded;
pub mod host_cache;
pub mod hosts;
pub mod http;
pub mod instance_ref;
pub mod kubeconfig;
pub mod leadership;
pub mod metrics;
pub mod planes;
pub mod shard;
pub mod status;
pub mod telemetry;

//! The lab's one background process of its own. It stands for what a cloud
//! would bring: it writes the instances' kubeconfigs to the machine, serves
//! Karmada's CRD bundle to the pods and provisions volumes.
//!
//! Everything is level-based, so it may be killed and started at any time.

mod bundle;
mod instances;
pub mod volumes;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::addresses::NETNS;
use crate::cluster::api;
use crate::cluster::state::{Host, State};
use crate::layout::Layout;
use crate::process::{self, Daemon};

/// Its pid file's and log's name.
pub const NAME: &str = "exporter";

/// Starts it unless it runs; starts it anew when this program was rebuilt.
pub fn ensure(layout: &Layout, state: &State) -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    if let Some(pid) = process::running(layout, NAME)
        && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe != program)
    {
        process::stop(layout, NAME, Duration::from_secs(2))?;
    }
    let daemon = Daemon {
        name: NAME.to_owned(),
        netns: matches!(state.host, Host::Own { .. }).then(|| NETNS.to_owned()),
        program,
        args: vec!["--dir".into(), layout.root().display().to_string(), "exporter".into()],
    };
    process::ensure(layout, &daemon).map(|_| ())
}

/// Runs until it is told to stop.
pub async fn run(layout: &Layout) -> Result<()> {
    let state = State::require(layout)?;
    let client = api::client(&layout.host_kubeconfig()).await?;
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("waiting for the signal to stop")?;
    let own = matches!(state.host, Host::Own { .. });
    let extra = async {
        if own {
            tokio::try_join!(bundle::serve(layout.bundle()), volumes::run(client.clone(), layout.volumes())).map(|_| ())
        } else {
            Ok(())
        }
    };
    let work = async { tokio::try_join!(instances::run(client.clone(), layout.instances(), own), extra) };
    tokio::select! {
        outcome = work => outcome.map(|_| ()),
        _ = stop.recv() => Ok(()),
    }
}

//! `airdock-lab`: real clusters on one machine, for the demo, the tests and the
//! benches. Not shipped.
#![forbid(unsafe_code)]

mod addresses;
mod cgroups;
mod cli;
mod cluster;
mod command;
mod exporter;
mod failure;
mod image;
mod kubeconfig;
mod layout;
mod logs;
mod member;
mod mounts;
mod network;
mod pki;
mod process;
mod progress;
mod setup;
mod status;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if cli.is_background() {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .init();
    }
    match cli.run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "failed: {}", failure::report(&error));
            ExitCode::FAILURE
        }
    }
}

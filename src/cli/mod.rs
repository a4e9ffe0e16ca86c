//! The command line, one file per subcommand.

pub mod controller;
pub mod crds;
pub mod docs;
pub mod engine;
pub mod input;
pub mod output;
pub mod plan;
pub mod render;
pub mod status;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::runtime::error::chain;
use crate::runtime::telemetry::{self, LogArgs};

/// Image of the engine of Compact instances, unless another is named: this version's.
pub const DEFAULT_IMAGE: &str = concat!("ghcr.io/airdock-dev/airdock:v", env!("CARGO_PKG_VERSION"));

/// Runs fleets of Karmada control planes as a service.
#[derive(Parser, Debug)]
#[command(name = "airdock", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the operator's reconcilers.
    Controller(controller::ControllerArgs),
    /// Serve Karmada's API in a plane of profile Compact.
    Engine(engine::EngineArgs),
    /// Print the custom resource definitions.
    Crds(crds::CrdsArgs),
    /// Show where an application would land and what each member would get, with no cluster at all.
    Plan(plan::PlanArgs),
    /// Show the objects of an instance, with no cluster at all.
    Render(render::RenderArgs),
    /// Show instances, members, applications and permissions.
    Status(status::StatusArgs),
    /// Print the API reference as Markdown.
    Docs,
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the command line and runs it.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(&cli.log);
    let result: Result<(), Box<dyn std::error::Error>> = match cli.command {
        Command::Controller(args) => controller::run(args).await.map_err(Into::into),
        Command::Engine(args) => engine::run(args).await.map_err(Into::into),
        Command::Crds(args) => crds::run(&args).map_err(Into::into),
        Command::Plan(args) => plan::run(&args).map_err(Into::into),
        Command::Render(args) => render::run(&args).map_err(Into::into),
        Command::Status(args) => status::run(&args).await.map_err(Into::into),
        Command::Docs => docs::run().map_err(Into::into),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "airdock", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("airdock: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

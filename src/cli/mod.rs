//! The command line, one file per subcommand.

pub mod controller;
pub mod crds;
pub mod docs;
pub mod election;
pub mod engine;
pub mod input;
pub mod output;
pub mod plan;
pub mod render;
pub mod status;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::machinery::error::full;
use crate::runtime::telemetry::{self, LogArgs, LogFormat};

/// Image of the engine of Compact instances, unless another is named: this version's.
pub const DEFAULT_IMAGE: &str = concat!("ghcr.io/airdock-dev/airdock:v", env!("CARGO_PKG_VERSION"));

/// Runs fleets of Karmada control planes as a service.
#[derive(Parser, Debug)]
#[command(name = "airdock", version, propagate_version = true)]
pub struct Cli {
    // Under a heading of its own, so that it is not between the flags of each command.
    #[command(flatten, next_help_heading = "Logging")]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the operator's reconcilers.
    Controller(controller::ControllerArgs),
    /// Do the work of Karmada's components in the plane of a Compact instance.
    Engine(engine::EngineArgs),
    /// Print the custom resource definitions.
    Crds(crds::CrdsArgs),
    /// Show in which clusters an application would run and what each of them would get, from files alone.
    Plan(plan::PlanArgs),
    /// Show the objects that an instance consists of, from files alone.
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

impl Command {
    /// What runs in a pod is read by programs, everything else by people.
    fn log_format(&self) -> LogFormat {
        match self {
            Self::Controller(_) | Self::Engine(_) => LogFormat::Json,
            _ => LogFormat::Text,
        }
    }
}

/// The command line, under the name that it was called by: kubectl finds `kubectl-airdock` and runs it as
/// `kubectl airdock`, and help has to say so.
fn command(called: &OsStr) -> clap::Command {
    if Path::new(called).file_name() == Some(OsStr::new("kubectl-airdock")) {
        Cli::command().bin_name("kubectl airdock")
    } else {
        Cli::command()
    }
}

fn completion(shell: clap_complete::Shell) -> Result<(), output::OutputError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "airdock", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Parses the command line and runs it.
pub async fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let cli = Cli::from_arg_matches(&command(&called).get_matches()).unwrap_or_else(|error| error.exit());
    telemetry::start(&cli.log, cli.command.log_format());
    let result: Result<(), Box<dyn std::error::Error>> = match cli.command {
        Command::Controller(args) => controller::run(args).await.map_err(Into::into),
        Command::Engine(args) => engine::run(args).await.map_err(Into::into),
        Command::Crds(args) => crds::run(&args).map_err(Into::into),
        Command::Plan(args) => plan::run(&args).map_err(Into::into),
        Command::Render(args) => render::run(&args).map_err(Into::into),
        Command::Status(args) => status::run(&args).await.map_err(Into::into),
        Command::Docs => docs::run().map_err(Into::into),
        Command::Completion { shell } => completion(shell).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("airdock: {}", full(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_has_the_name_that_was_called() {
        for (called, usage) in [("/usr/bin/kubectl-airdock", "kubectl airdock status"), ("airdock", "airdock status")] {
            let error = command(OsStr::new(called)).try_get_matches_from([called, "status", "--help"]).unwrap_err();
            assert!(error.to_string().contains(&format!("Usage: {usage} ")), "{error}");
        }
    }
}

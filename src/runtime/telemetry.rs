//! Structured logs to standard error.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Flags of the logs.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Which messages are logged, in the syntax of tracing's EnvFilter.
    #[arg(long, env = "AIRDOCK_LOG", default_value = "info", global = true)]
    pub log: String,
    /// How logs look.
    #[arg(long, env = "AIRDOCK_LOG_FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: LogFormat,
}

/// Starts logging. A filter that is not understood falls back to `info` and says so.
pub fn start(args: &LogArgs) {
    let (filter, problem) = match EnvFilter::try_new(&args.log) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%error, filter = args.log, "log filter is not understood; logging at info");
    }
}

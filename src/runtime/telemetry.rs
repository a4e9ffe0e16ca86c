//! Logs to standard error.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What is logged when nobody says otherwise.
const DEFAULT: &str = "info";

/// The client library's own report of every failed connection: whoever made the request tells it, with what it was for.
const QUIET: &str = "kube_client::client::builder=off";

/// Flags of the logs.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Which messages are logged, in the syntax of tracing's EnvFilter. The target kube_client::client::builder is
    /// left out unless it is named.
    #[arg(long, env = "AIRDOCK_LOG", default_value = DEFAULT, global = true)]
    pub log: String,
    /// How logs look; json from controller and engine, text from every other command, when absent.
    #[arg(long, env = "AIRDOCK_LOG_FORMAT", value_enum, global = true)]
    pub log_format: Option<LogFormat>,
}

/// Starts logging, in the given format unless the flags name one. A filter that is not understood falls back to the
/// default and says so.
pub fn start(args: &LogArgs, format: LogFormat) {
    let (filter, problem) = match filter(&args.log) {
        Ok(filter) => (filter, None),
        Err(error) => (filter(DEFAULT).unwrap_or_default(), Some(error)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format.unwrap_or(format) {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%error, filter = args.log, "log filter is not understood; logging at {DEFAULT}");
    }
}

fn filter(wanted: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let wanted = if wanted.trim().is_empty() { DEFAULT } else { wanted };
    // Of two directives for one target, the later one holds.
    EnvFilter::try_new(format!("{QUIET},{wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_quiet_unless_it_is_named() {
        for (wanted, directives) in [
            ("info", ["info", QUIET].as_slice()),
            ("", &["info", QUIET]),
            ("warn,airdock::engine=debug", &["airdock::engine=debug", QUIET, "warn"]),
            ("info,kube_client::client::builder=warn", &["info", "kube_client::client::builder=warn"]),
        ] {
            let told = filter(wanted).unwrap().to_string();
            let mut told: Vec<&str> = told.split(',').collect();
            told.sort_unstable();
            let mut directives = directives.to_vec();
            directives.sort_unstable();
            assert_eq!(told, directives, "{wanted}");
        }
        assert!(filter("no such=level=x").is_err());
    }
}

//! Logs to standard error.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::machinery::error::chain;

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

/// The client library's own report of every failed connection and of every answer that cannot be read, with the whole
/// answer: whoever made the request tells it, with what it was for.
const QUIET: &str = "kube_client::client=off,kube_runtime::watcher=error";

/// Flags of the logs.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Which messages are logged, in the syntax of tracing's EnvFilter. The targets kube_client::client and
    /// kube_runtime::watcher are left out unless they are named.
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
        tracing::warn!(error = chain(&error), filter = args.log, "log filter is not understood; logging at {DEFAULT}");
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
        let quiet: Vec<&str> = QUIET.split(',').collect();
        for (wanted, named) in [
            ("info", ["info"].as_slice()),
            ("", &["info"]),
            ("warn,airdock::engine=debug", &["airdock::engine=debug", "warn"]),
            ("info,kube_client::client::builder=warn", &["info", "kube_client::client::builder=warn"]),
        ] {
            let found = filter(wanted).unwrap().to_string();
            let mut found: Vec<&str> = found.split(',').collect();
            found.sort_unstable();
            let mut directives: Vec<&str> = named.iter().chain(&quiet).copied().collect();
            directives.sort_unstable();
            assert_eq!(found, directives, "{wanted}");
        }
        // Naming one lets it speak.
        let found = filter("info,kube_client::client=warn").unwrap().to_string();
        assert!(found.contains("kube_client::client=warn") && !found.contains("kube_client::client=off"), "{found}");
        assert!(filter("no such=level=x").is_err());
    }
}

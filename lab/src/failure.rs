//! What a person is told when a step fails: what was tried, why it failed,
//! where the log is and what to do next.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result};

/// Where the details of a failure are.
#[derive(Debug, thiserror::Error)]
#[error("log: {}", .0.display())]
struct Log(PathBuf);

/// What to do about a failure.
#[derive(Debug, thiserror::Error)]
#[error("to do: {0}")]
struct Remedy(String);

/// Adds to an error what helps the reader besides the cause. The step closest
/// to the cause knows best: what it gave is kept.
pub trait Advice {
    /// Names the log that holds the details.
    #[must_use]
    fn log(self, path: &Path) -> Self;

    /// Says what to do about it.
    #[must_use]
    fn remedy(self, text: impl Into<String>) -> Self;
}

impl Advice for Error {
    fn log(self, path: &Path) -> Self {
        if self.is::<Log>() { self } else { self.context(Log(path.to_path_buf())) }
    }

    fn remedy(self, text: impl Into<String>) -> Self {
        if self.is::<Remedy>() { self } else { self.context(Remedy(text.into())) }
    }
}

impl<T> Advice for Result<T> {
    fn log(self, path: &Path) -> Self {
        self.map_err(|error| error.log(path))
    }

    fn remedy(self, text: impl Into<String>) -> Self {
        self.map_err(|error| error.remedy(text))
    }
}

/// The whole report of a failure: its causes on one line, then log and remedy.
pub fn report(error: &Error) -> String {
    let advice: Vec<String> =
        [error.downcast_ref::<Log>().map(Log::to_string), error.downcast_ref::<Remedy>().map(Remedy::to_string)]
            .into_iter()
            .flatten()
            .collect();
    let mut causes = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // kube's errors repeat the text of their source.
        if advice.contains(&cause) || causes.contains(&cause) {
            continue;
        }
        if !causes.is_empty() {
            causes.push_str(": ");
        }
        causes.push_str(&cause);
    }
    advice.into_iter().fold(causes, |report, line| format!("{report}\n  {line}"))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn the_report_has_cause_log_and_remedy() {
        let failed: std::result::Result<(), _> = Err(std::io::Error::other("disk full"));
        let failed = failed.context("writing the pid file").log(Path::new("/x/etcd.log")).remedy("free some space");
        assert_eq!(
            report(&failed.context("starting etcd").unwrap_err()),
            "starting etcd: writing the pid file: disk full\n  log: /x/etcd.log\n  to do: free some space"
        );
    }

    #[test]
    fn the_innermost_advice_stays() {
        let error = anyhow!("no route").remedy("add one").context("joining").remedy("try again");
        assert_eq!(report(&error), "joining: no route\n  to do: add one");
    }

    #[test]
    fn a_repeated_cause_is_printed_once() {
        let error = anyhow!("not found").context("reading Service x: not found");
        assert_eq!(report(&error), "reading Service x: not found");
    }
}

//! What a person is told when a step fails: what was tried, why it failed,
//! where the log is and what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

/// The outcome of every step of the lab.
pub type Result<T> = std::result::Result<T, Failure>;

/// A failed step. Its `Display` is the whole report, cause first.
#[derive(Debug, thiserror::Error)]
pub struct Failure {
    what: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
    log: Option<PathBuf>,
    remedy: Option<String>,
}

impl Failure {
    /// A failure that has no underlying error.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, log: None, remedy: None }
    }

    /// Names the log that holds the details.
    #[must_use]
    pub fn log(mut self, path: &Path) -> Self {
        self.log.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy.get_or_insert_with(|| text.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            // kube nests the same text several times; once is enough.
            let text = error.to_string();
            if !self.what.contains(&text) {
                write!(f, ": {text}")?;
            }
            cause = error.source();
        }
        if let Some(log) = &self.log {
            write!(f, "\n  log: {}", log.display())?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  to do: {remedy}")?;
        }
        Ok(())
    }
}

/// Turns any error into a [`Failure`] that says what was being done.
pub trait During<T> {
    /// `what` completes "failed: …", for example "writing /etc/hosts".
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|error| Failure { what: what.into(), source: Some(error.into()), log: None, remedy: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_cause_log_and_remedy() {
        let failed: std::result::Result<(), _> = Err(std::io::Error::other("disk full"));
        let report = failed
            .during("writing the pid file")
            .unwrap_err()
            .log(Path::new("/x/etcd.log"))
            .remedy("free some space")
            .to_string();
        assert_eq!(report, "writing the pid file: disk full\n  log: /x/etcd.log\n  to do: free some space");
    }
}

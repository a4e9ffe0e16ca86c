//! Requests to the host cluster that fail, in whichever controller.

/// A request to the host cluster failed.
#[derive(thiserror::Error, Debug)]
#[error("{action} in the host cluster")]
pub struct HostError {
    /// What was tried.
    pub action: &'static str,
    /// The failure.
    pub source: kube::Error,
}

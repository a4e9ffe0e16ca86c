//! Errors that say what is to be done about them.

use std::time::Duration;

/// What a failure means for the next attempt. It alone decides the requeue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It may work the next time: retried with exponential backoff.
    Retry,
    /// The spec cannot be carried out: looked at again when it changes, and now and then. Shown as `Stalled`.
    Invalid,
    /// Something else must change first, and a watch on it will bring the object back; looked at again after a
    /// while all the same.
    Blocked,
}

/// How long a blocked object waits at most, should the watch that wakes it be missing or broken.
pub const BLOCKED_RECHECK: Duration = Duration::from_secs(30);

/// An error with a class and a reason.
pub trait Classified: std::error::Error + Send + Sync + 'static {
    /// What it means for the next attempt.
    fn class(&self) -> Class;
    /// One word in PascalCase, from a fixed vocabulary: condition reason, event reason and metric label.
    fn reason(&self) -> &'static str;
}

/// The message of an error with those of all its causes, as people read it in a condition.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some libraries repeat their cause's text in their own.
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}

/// Whether a Kubernetes error says that the object is not there.
///
/// The code counts: an API server answers for a group that it does not serve with plain text, and what kube makes
/// of that has no reason of Kubernetes' own.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() || status.code == 404)
}

/// Whether a Kubernetes error says that somebody else changed or made the object.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether a Kubernetes error says that nothing can be made in a namespace, since it is being deleted.
#[must_use]
pub fn is_namespace_ending(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

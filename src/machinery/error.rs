//! Errors that say what is to be done about them.

use std::time::Duration;

use kube::core::Status;

use crate::limits::shorten;

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

/// The longest text that [`chain`] makes of an error, in bytes. The API server refuses conditions with more than 32,768,
/// and people read less.
pub const MAX_TEXT: usize = 1024;

/// The message of an error with those of all its causes, as people read it in a condition, an event or a log: one line
/// of at most [`MAX_TEXT`] bytes. Of an API server's answer it is the server's own message.
///
/// Nothing else turns errors into text: the `Display` of kube's errors holds the whole answer in Rust's notation.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    shorten(&one_line(&full(error)), MAX_TEXT)
}

fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The same with its line breaks and in its whole length, for a terminal.
#[must_use]
pub fn full(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(status) = status(error) {
        return status_text(status);
    }
    let own = error.to_string();
    let Some(cause) = error.source() else { return own };
    let cause_text = full(cause);
    // Many errors repeat their cause's text in their own. A transparent wrapper hides the error that it wraps, so that
    // kube's own text is looked for as well.
    let repeated = match status(cause) {
        Some(status) => [format!("ApiError: {status} ({status:?})"), status.to_string()],
        None => [cause.to_string(), cause_text.clone()],
    };
    match repeated.iter().find(|text| !text.is_empty() && own.contains(text.as_str())) {
        Some(repeated) => own.replacen(repeated.as_str(), &cause_text, 1),
        None => format!("{own}: {cause_text}"),
    }
}

/// The answer that an error is, if it is one.
fn status<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Status> {
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return Some(status);
    }
    error.downcast_ref::<Box<Status>>().map(AsRef::as_ref).or_else(|| error.downcast_ref())
}

/// An answer's message; with the code where that tells more than the message does.
fn status_text(status: &Status) -> String {
    let message = if status.message.is_empty() { &status.reason } else { &status.message };
    match status.code {
        // Messages with these codes say what was wrong with which object.
        0 | 400 | 403 | 404 | 409 | 410 | 422 if !message.is_empty() => message.clone(),
        code => format!("{message} (HTTP status {code})").trim_start().to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str, reason: &str) -> Box<Status> {
        Status::failure(message, reason).with_code(code).boxed()
    }

    #[derive(thiserror::Error, Debug)]
    enum Outer {
        #[error("apply Deployment web")]
        Source(#[source] kube::Error),
        #[error(transparent)]
        Transparent(#[from] kube::Error),
        #[error("list: {0}")]
        Repeats(#[source] kube::Error),
        #[error(transparent)]
        Watch(#[from] kube::runtime::watcher::Error),
    }

    #[test]
    fn an_answer_is_told_by_its_message() {
        use kube::runtime::watcher::Error as Watch;
        let invalid = || kube::Error::Api(refused(422, "ConfigMap \"x\" is invalid:\n data: too long", "Invalid"));
        let message = "ConfigMap \"x\" is invalid: data: too long";
        for (error, expected) in [
            (Box::new(invalid()) as Box<dyn std::error::Error>, message.to_owned()),
            (Box::new(Outer::Source(invalid())), format!("apply Deployment web: {message}")),
            (Box::new(Outer::Transparent(invalid())), message.to_owned()),
            (Box::new(Outer::Repeats(invalid())), format!("list: {message}")),
            (
                Box::new(Outer::Watch(Watch::InitialListFailed(invalid()))),
                format!("failed to perform initial object list: {message}"),
            ),
            (
                Box::new(Watch::WatchError(refused(410, "too old resource version", "Expired"))),
                "error returned by apiserver during watch: too old resource version".to_owned(),
            ),
            (
                Box::new(kube::Error::Api(refused(401, "Unauthorized", "Unauthorized"))),
                "Unauthorized (HTTP status 401)".to_owned(),
            ),
            (Box::new(kube::Error::Api(refused(503, "", ""))), "(HTTP status 503)".to_owned()),
            (Box::new(kube::Error::Service("no route".into())), "ServiceError: no route".to_owned()),
        ] {
            let text = chain(error.as_ref());
            assert_eq!(text, expected);
            assert!(!text.contains("Status {"), "{text}");
        }
    }

    #[test]
    fn texts_have_an_end() {
        let long = kube::Error::Api(refused(422, &"é".repeat(40_000), "Invalid"));
        let text = chain(&long);
        assert!(text.len() <= MAX_TEXT && text.ends_with('…'), "{}", text.len());
    }

    /// Every Rust file of the program.
    fn sources(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn no_log_prints_an_error_by_itself() {
        let mut files = Vec::new();
        sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        assert!(files.len() > 100, "only {} files were found", files.len());
        let sigils = ["%", "?"].map(|sigil| ["error", "err", "e"].map(|name| format!("{sigil}{name},")));
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let printed = sigils.iter().flatten().any(|sigil| line.contains(sigil.as_str()));
                assert!(!printed, "{}:{}: write error = chain(&error)", file.display(), number + 1);
            }
        }
    }
}

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
    let own = own_text(error);
    let Some(cause) = error.source() else { return own };
    let cause_text = full(cause);
    // It tells only that a request was sent, or a connection made; what failed there, its cause tells.
    if error.is::<hyper_util::client::legacy::Error>() {
        return cause_text;
    }
    // Many errors repeat their cause's text in their own. A transparent wrapper hides the error that it wraps, so that
    // kube's own text is looked for as well.
    let repeated = match status(cause) {
        Some(status) => [format!("ApiError: {status} ({status:?})"), status.to_string()],
        None => [own_text(cause), cause_text.clone()],
    };
    match repeated.iter().find(|text| !text.is_empty() && own.contains(text.as_str())) {
        Some(repeated) => own.replacen(repeated.as_str(), &cause_text, 1),
        None => format!("{own}: {cause_text}"),
    }
}

/// What an error says itself, without the name that kube gives to everything that fails on the way to an answer.
fn own_text(error: &(dyn std::error::Error + 'static)) -> String {
    error.to_string().replacen("ServiceError: ", "", 1)
}

/// Which checks fail, by an answer of `/readyz`, in which an API server lists all of its checks; nothing when it names none.
#[must_use]
pub fn failing_checks(answer: &str) -> Option<String> {
    let failing: Vec<&str> =
        answer.lines().filter_map(|line| line.trim().strip_prefix("[-]")?.split_whitespace().next()).collect();
    match failing.as_slice() {
        [] => None,
        [check] => Some(format!("its check {check} fails")),
        checks => Some(format!("its checks {} fail", checks.join(", "))),
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
    if let Some(checks) = failing_checks(&status.message) {
        return format!("not ready: {checks} (HTTP status {})", status.code);
    }
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
            (Box::new(kube::Error::Service("no route".into())), "no route".to_owned()),
        ] {
            let text = chain(error.as_ref());
            assert_eq!(text, expected);
            assert!(!text.contains("Status {"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_fails_is_told_by_its_cause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let failure = || async {
            let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
            let request = http::Request::get(format!("http://{address}/")).body(kube::client::Body::empty()).unwrap();
            kube::Error::Service(Box::new(client.request(request).await.unwrap_err()))
        };
        for (error, start) in [
            (Box::new(failure().await) as Box<dyn std::error::Error>, "tcp connect error: "),
            (Box::new(Outer::Source(failure().await)), "apply Deployment web: tcp connect error: "),
            (Box::new(Outer::Transparent(failure().await)), "tcp connect error: "),
            (Box::new(Outer::Repeats(failure().await)), "list: tcp connect error: "),
        ] {
            let text = chain(error.as_ref());
            assert!(text.starts_with(start) && text.to_lowercase().contains("refused"), "{text}");
            assert_eq!(text.matches("tcp connect error").count(), 1, "{text}");
        }
    }

    #[test]
    fn only_the_checks_that_fail_are_named() {
        let answer = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]etcd-readiness failed: reason withheld\n\
                      readyz check failed";
        assert_eq!(failing_checks(answer).as_deref(), Some("its checks etcd, etcd-readiness fail"));
        assert_eq!(failing_checks("[+]ping ok\n[-]etcd failed").as_deref(), Some("its check etcd fails"));
        assert_eq!(failing_checks("no leader"), None);
        let error = kube::Error::Api(refused(500, answer, ""));
        assert_eq!(chain(&error), "not ready: its checks etcd, etcd-readiness fail (HTTP status 500)");
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

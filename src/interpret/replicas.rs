//! Replicas.

use serde_json::{Value, json};

use super::int;
use super::kind::Kind;

/// How many pods an object asks for; nothing when its kind does not spread by replicas.
///
/// A field that is absent counts as the API server's default, so that a manifest means the same before and after it was
/// applied.
#[must_use]
pub fn replicas(object: &Value) -> Option<i64> {
    match Kind::of(object)? {
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet => {
            Some(object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1))
        }
        Kind::Job => {
            let parallelism = object.pointer("/spec/parallelism").and_then(Value::as_i64).unwrap_or(1);
            Some(parallelism.min(completions(object).unwrap_or(parallelism)))
        }
        Kind::Pod => Some(1),
        _ => None,
    }
}

/// Sets how many pods an object asks for. A pod stays one.
pub fn set_replicas(object: &mut Value, replicas: i64) {
    let field = match Kind::of(object) {
        Some(Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet) => "replicas",
        Some(Kind::Job) => "parallelism",
        _ => return,
    };
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert(field.to_owned(), json!(replicas));
    }
}

/// How many completions a Job asks for, if it does: one that works off a queue does not.
#[must_use]
pub fn completions(object: &Value) -> Option<i64> {
    if Kind::of(object)? != Kind::Job || object.pointer("/spec/completions").is_none_or(Value::is_null) {
        return None;
    }
    Some(int(object, "/spec/completions"))
}

/// Sets how many completions a Job asks for.
pub fn set_completions(object: &mut Value, completions: i64) {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("completions".to_owned(), json!(completions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (api_version, kind, spec, expected, after) in [
            ("apps/v1", "Deployment", json!({"replicas": 3}), Some(3), json!({"replicas": 7})),
            ("apps/v1", "Deployment", json!({}), Some(1), json!({"replicas": 7})),
            ("apps/v1", "ReplicaSet", json!({"replicas": 0}), Some(0), json!({"replicas": 7})),
            ("apps/v1", "StatefulSet", json!({"replicas": 2}), Some(2), json!({"replicas": 7})),
            ("batch/v1", "Job", json!({"parallelism": 4}), Some(4), json!({"parallelism": 7})),
            (
                "batch/v1",
                "Job",
                json!({"parallelism": 4, "completions": 2}),
                Some(2),
                json!({"parallelism": 7, "completions": 2}),
            ),
            ("v1", "Pod", json!({}), Some(1), json!({})),
            ("apps/v1", "DaemonSet", json!({}), None, json!({})),
            ("v1", "Service", json!({}), None, json!({})),
            ("example.io/v1", "Deployment", json!({"replicas": 3}), None, json!({"replicas": 3})),
        ] {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "spec": spec});
            assert_eq!(replicas(&object), expected, "{object}");
            set_replicas(&mut object, 7);
            assert_eq!(object["spec"], after);
        }
    }
}

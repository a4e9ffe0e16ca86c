//! Fields that belong to the cluster that an object lives in.

use serde_json::Value;

use super::kind::Kind;
use super::{list, replicas, set_replicas, text};

/// Label on a workload whose replicas an autoscaler in the member sets; value `true`.
pub const RETAIN_REPLICAS_LABEL: &str = "resourcetemplate.karmada.io/retain-replicas";

/// Whether what is wanted depends on what is there, so that the live object must be read before it is written.
#[must_use]
pub fn retains(wanted: &Value) -> bool {
    keeps_replicas(wanted)
        || match Kind::of(wanted) {
            Some(Kind::ServiceAccount) => {
                !list(wanted, "/secrets").is_empty() || !list(wanted, "/imagePullSecrets").is_empty()
            }
            Some(Kind::Service) => wanted.pointer("/spec/healthCheckNodePort").is_some(),
            _ => false,
        }
}

/// Takes over into what is wanted those fields of the live object that its cluster's own controllers set.
///
/// Most such fields need nothing of the kind: pruning leaves them out of what is wanted (a Service's `clusterIP` and
/// allocated ports, a Job's selector, a claim's volume, a token Secret's data), and server-side apply leaves alone
/// what it does not name.
pub fn retain(wanted: &mut Value, live: &Value) {
    if keeps_replicas(wanted)
        && let Some(replicas) = live.pointer("/spec/replicas").and_then(Value::as_i64)
    {
        set_replicas(wanted, replicas);
    }
    match Kind::of(wanted) {
        Some(Kind::ServiceAccount) => {
            for field in ["secrets", "imagePullSecrets"] {
                merge_by_name(wanted, live, field);
            }
        }
        Some(Kind::Service) => {
            // Allocated once and immutable.
            if let (Some(port), Some(spec)) = (
                live.pointer("/spec/healthCheckNodePort").filter(|port| port.as_i64().unwrap_or(0) > 0).cloned(),
                wanted.get_mut("spec").and_then(Value::as_object_mut),
            ) && spec.contains_key("healthCheckNodePort")
            {
                spec.insert("healthCheckNodePort".to_owned(), port);
            }
        }
        _ => {}
    }
}

fn keeps_replicas(wanted: &Value) -> bool {
    let labels = wanted.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(RETAIN_REPLICAS_LABEL)).and_then(Value::as_str) == Some("true")
        && wanted.pointer("/spec/replicas").is_some()
        && replicas(wanted).is_some()
}

/// What is there stays, in its order; what is wanted beyond that is appended.
fn merge_by_name(wanted: &mut Value, live: &Value, field: &str) {
    let pointer = format!("/{field}");
    if list(wanted, &pointer).is_empty() {
        return;
    }
    let mut merged = list(live, &pointer).to_vec();
    for entry in list(wanted, &pointer) {
        if !merged.iter().any(|there| text(there, "/name") == text(entry, "/name")) {
            merged.push(entry.clone());
        }
    }
    wanted[field] = Value::Array(merged);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn retained(mut wanted: Value, live: Value) -> Value {
        retain(&mut wanted, &live);
        wanted
    }

    #[test]
    fn replicas_of_an_autoscaled_workload() {
        let object = |label: &str, replicas: i64| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"labels": {RETAIN_REPLICAS_LABEL: label}}, "spec": {"replicas": replicas}})
        };
        assert!(retains(&object("true", 2)) && !retains(&object("false", 2)));
        assert_eq!(retained(object("true", 2), object("true", 9))["spec"]["replicas"], 9);
        assert_eq!(retained(object("false", 2), object("false", 9))["spec"]["replicas"], 2);
    }

    #[test]
    fn secrets_of_a_service_account() {
        let account = |secrets: Value, pull: Value| json!({"apiVersion": "v1", "kind": "ServiceAccount", "secrets": secrets, "imagePullSecrets": pull});
        let live = account(json!([{"name": "generated"}]), json!([{"name": "theirs"}]));
        let merged = retained(account(json!([]), json!([{"name": "ours"}])), live);
        assert_eq!(merged["secrets"], json!([]));
        assert_eq!(merged["imagePullSecrets"], json!([{"name": "theirs"}, {"name": "ours"}]));
    }

    #[test]
    fn health_check_port_of_a_service() {
        let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": spec});
        let live = service(json!({"healthCheckNodePort": 31000, "clusterIP": "10.0.0.1"}));
        assert_eq!(retained(service(json!({})), live.clone())["spec"], json!({}));
        assert_eq!(
            retained(service(json!({"healthCheckNodePort": 30000})), live)["spec"],
            json!({"healthCheckNodePort": 31000})
        );
    }
}

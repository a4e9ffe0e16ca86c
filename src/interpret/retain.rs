//! Fields that belong to the cluster that an object lives in.

use serde_json::Value;

use super::kind::Kind;
use super::{list, replicas, set_replicas, text};

/// Label on a Deployment whose replicas an autoscaler in the member sets; value `true`.
pub const RETAIN_REPLICAS_LABEL: &str = "resourcetemplate.karmada.io/retain-replicas";

/// Carries into what is wanted those fields of the live object that its cluster's own controllers set.
///
/// Fields that nobody set need no rule (a Service's `clusterIP` and allocated ports, a Job's selector): an update keeps
/// these anyway.
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
        Some(Kind::Service) => retain_service(wanted, live),
        // The volume that a claim is bound to, and the claim that a volume is bound to.
        Some(Kind::PersistentVolumeClaim) => carry(wanted, live, "/spec", "volumeName"),
        Some(Kind::PersistentVolume) => carry(wanted, live, "/spec", "claimRef"),
        Some(Kind::Secret) if text(wanted, "/type") == "kubernetes.io/service-account-token" => {
            carry(wanted, live, "", "data");
        }
        Some(Kind::Pod) => retain_pod(wanted, live),
        _ => {}
    }
}

/// Carries a field of the live object over, if it has it.
fn carry(wanted: &mut Value, live: &Value, parent: &str, field: &str) {
    let found = live.pointer(parent).and_then(|parent| parent.get(field)).filter(|found| !found.is_null());
    if let (Some(found), Some(parent)) = (found, wanted.pointer_mut(parent).and_then(Value::as_object_mut)) {
        parent.insert(field.to_owned(), found.clone());
    }
}

/// What was allocated to a Service once and cannot be changed.
fn retain_service(wanted: &mut Value, live: &Value) {
    if live.pointer("/spec/healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0) > 0
        && wanted.pointer("/spec/healthCheckNodePort").is_some()
    {
        carry(wanted, live, "/spec", "healthCheckNodePort");
    }
    // A template that is headless, beside a Service with an address.
    let has_address = |service: &Value| !text(service, "/spec/clusterIP").is_empty();
    if has_address(wanted) && has_address(live) {
        carry(wanted, live, "/spec", "clusterIP");
        carry(wanted, live, "/spec", "clusterIPs");
    }
}

/// What scheduling and admission made of a Pod; nearly all of it is immutable.
fn retain_pod(wanted: &mut Value, live: &Value) {
    for field in ["nodeName", "serviceAccountName", "serviceAccount", "volumes"] {
        carry(wanted, live, "/spec", field);
    }
    for containers in ["containers", "initContainers"] {
        let pointer = format!("/spec/{containers}");
        let Some(wanted) = wanted.pointer_mut(&pointer).and_then(Value::as_array_mut) else { continue };
        for container in wanted {
            let name = text(container, "/name").to_owned();
            if let Some(found) = list(live, &pointer).iter().find(|found| text(found, "/name") == name) {
                carry(container, found, "", "volumeMounts");
            }
        }
    }
}

fn keeps_replicas(wanted: &Value) -> bool {
    let labels = wanted.pointer("/metadata/labels");
    Kind::of(wanted) == Some(Kind::Deployment)
        && labels.and_then(|labels| labels.get(RETAIN_REPLICAS_LABEL)).and_then(Value::as_str) == Some("true")
        && wanted.pointer("/spec/replicas").is_some()
        && replicas(wanted).is_some()
}

/// What is there stays, in its order; what is wanted beyond that is appended.
fn merge_by_name(wanted: &mut Value, live: &Value, field: &str) {
    let pointer = format!("/{field}");
    let mut merged = list(live, &pointer).to_vec();
    for entry in list(wanted, &pointer) {
        if !merged.iter().any(|there| text(there, "/name") == text(entry, "/name")) {
            merged.push(entry.clone());
        }
    }
    if !merged.is_empty() {
        wanted[field] = Value::Array(merged);
    }
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
        assert_eq!(retained(object("true", 2), object("true", 9))["spec"]["replicas"], 9);
        assert_eq!(retained(object("false", 2), object("false", 9))["spec"]["replicas"], 2);
        let mut other = [object("true", 2), object("true", 9)];
        other.iter_mut().for_each(|object| object["kind"] = json!("StatefulSet"));
        let [wanted, live] = other;
        assert_eq!(retained(wanted, live)["spec"]["replicas"], 2, "Karmada retains those of Deployments alone");
    }

    #[test]
    fn secrets_of_a_service_account() {
        let account = |secrets: Value, pull: Value| json!({"apiVersion": "v1", "kind": "ServiceAccount", "secrets": secrets, "imagePullSecrets": pull});
        let live = account(json!([{"name": "generated"}]), json!([{"name": "theirs"}]));
        let merged = retained(account(json!([]), json!([{"name": "ours"}])), live);
        assert_eq!(merged["secrets"], json!([{"name": "generated"}]));
        assert_eq!(merged["imagePullSecrets"], json!([{"name": "theirs"}, {"name": "ours"}]));
    }

    #[test]
    fn bound_volumes_and_generated_tokens() {
        let object = |kind: &str, fields: Value| {
            let mut object = json!({"apiVersion": "v1", "kind": kind});
            object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            object
        };
        for (kind, wanted, live) in [
            ("PersistentVolumeClaim", json!({"spec": {}}), json!({"spec": {"volumeName": "v"}})),
            (
                "PersistentVolume",
                json!({"spec": {"claimRef": {"name": "c"}}}),
                json!({"spec": {"claimRef": {"name": "c", "uid": "u"}}}),
            ),
            (
                "Secret",
                json!({"type": "kubernetes.io/service-account-token"}),
                json!({"type": "kubernetes.io/service-account-token", "data": {"token": "t"}}),
            ),
            (
                "Pod",
                json!({"spec": {"containers": [{"name": "c", "image": "new"}]}}),
                json!({"spec": {"nodeName": "n", "volumes": [{"name": "token"}],
                    "containers": [{"name": "c", "image": "new", "volumeMounts": [{"name": "token"}]}]}}),
            ),
        ] {
            let live = object(kind, live);
            assert_eq!(retained(object(kind, wanted), live.clone()), live, "{kind}");
        }
        let secret = |data: &str| json!({"apiVersion": "v1", "kind": "Secret", "data": {"k": data}});
        assert_eq!(retained(secret("ours"), secret("theirs")), secret("ours"));
    }

    #[test]
    fn the_address_of_a_service() {
        let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": spec});
        let live = service(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}));
        let headless = service(json!({"clusterIP": "None"}));
        assert_eq!(retained(headless.clone(), live.clone()), live);
        assert_eq!(retained(headless.clone(), service(json!({}))), headless);
        let external = service(json!({"type": "ExternalName", "externalName": "x.example.com"}));
        assert_eq!(retained(external.clone(), live), external);
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

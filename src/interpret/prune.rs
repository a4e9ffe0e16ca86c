//! From an object of the plane to a manifest that a member can take.

use serde_json::{Map, Value};

use super::kind::Kind;
use super::{list, text};

/// Annotations that say something about the object in the plane alone.
const PLANE_ANNOTATIONS: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];

/// Labels that the plane puts on a Job and its pods, to tell them from those of namesakes.
const JOB_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// Strips an object of the plane of everything that the plane itself added, so that what remains is what its author
/// wrote (and the API server's defaults).
///
/// Values that the plane allocated (ports, address families) are told from those that the author chose by
/// `managedFields`: an allocated value has no manager. An object without `managedFields` is taken as written by hand.
#[must_use]
pub fn prune(mut object: Value) -> Value {
    let managed = object.pointer_mut("/metadata/managedFields").map(Value::take);
    let managed = managed.as_ref().and_then(Value::as_array).map(Vec::as_slice);
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    remove_keys(&mut object, "/metadata/annotations", &PLANE_ANNOTATIONS);
    match Kind::of(&object) {
        Some(Kind::Deployment) => remove_keys(
            &mut object,
            "/metadata/annotations",
            &["deployment.kubernetes.io/revision", "deployment.kubernetes.io/revision-history"],
        ),
        Some(Kind::Job) => prune_job(&mut object),
        Some(Kind::Secret) if text(&object, "/type") == "kubernetes.io/service-account-token" => {
            remove_keys(&mut object, "/metadata/annotations", &["kubernetes.io/service-account.uid"]);
            remove_keys(&mut object, "", &["data"]);
        }
        Some(Kind::ServiceAccount) => {
            let prefix = format!("{}-token-", text(&object, "/metadata/name"));
            retain_items(&mut object, "/secrets", |secret| !text(secret, "/name").starts_with(&prefix));
        }
        Some(Kind::Service) => prune_service(&mut object, managed),
        Some(Kind::PersistentVolumeClaim) => {
            remove_keys(
                &mut object,
                "/metadata/annotations",
                &[
                    "volume.kubernetes.io/selected-node",
                    "pv.kubernetes.io/bind-completed",
                    "pv.kubernetes.io/bound-by-controller",
                ],
            );
            remove_unless_owned(&mut object, managed, &["volumeName"]);
        }
        Some(Kind::PersistentVolume) => remove_keys(&mut object, "/spec/claimRef", &["uid", "resourceVersion"]),
        Some(Kind::Pod) => prune_pod(&mut object),
        Some(Kind::Namespace) => remove_keys(&mut object, "", &["spec"]),
        _ => {}
    }
    for pointer in ["/metadata/annotations", "/metadata/labels"] {
        if object.pointer(pointer).and_then(Value::as_object).is_some_and(Map::is_empty) {
            remove_keys(&mut object, "/metadata", &[pointer.rsplit('/').next().unwrap_or_default()]);
        }
    }
    object
}

fn prune_job(object: &mut Value) {
    // A Job that is gone by its own time limit would be made anew for ever: the limit is the template's affair.
    remove_keys(object, "/spec", &["ttlSecondsAfterFinished"]);
    if object.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true) {
        return;
    }
    remove_keys(object, "/metadata/labels", &JOB_LABELS);
    remove_keys(object, "/spec/template/metadata/labels", &JOB_LABELS);
    remove_keys(object, "/spec/selector/matchLabels", &JOB_LABELS);
    if object.pointer("/spec/selector/matchLabels").and_then(Value::as_object).is_some_and(Map::is_empty) {
        remove_keys(object, "/spec", &["selector"]);
    }
}

fn prune_service(object: &mut Value, managed: Option<&[Value]>) {
    // `None` asks for a headless Service; every other address is one of the plane.
    if text(object, "/spec/clusterIP") != "None" {
        remove_keys(object, "/spec", &["clusterIP", "clusterIPs"]);
    }
    remove_unless_owned(object, managed, &["ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"]);
    let Some(managed) = managed else { return };
    let Some(ports) = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else { return };
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        let owned = managed.iter().any(|manager| {
            let Some(Value::Object(fields)) = manager.pointer("/fieldsV1/f:spec/f:ports") else { return false };
            // An empty set means that the whole list has one owner.
            fields.is_empty()
                || fields.iter().any(|(key, fields)| is_entry(key, port) && fields.get("f:nodePort").is_some())
        });
        if !owned {
            port.remove("nodePort");
        }
    }
}

/// Whether a key of `managedFields` (`k:{"port":80,"protocol":"TCP"}`) means this entry of a list.
fn is_entry(key: &str, entry: &Map<String, Value>) -> bool {
    let keys = key.strip_prefix("k:").and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
    keys.is_some_and(|keys| keys.iter().all(|(key, value)| entry.get(key) == Some(value)))
}

fn prune_pod(object: &mut Value) {
    // The token that the plane's admission mounts is one of the plane.
    let tokens: Vec<String> = list(object, "/spec/volumes")
        .iter()
        .map(|volume| text(volume, "/name"))
        .filter(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned)
        .collect();
    if tokens.is_empty() {
        return;
    }
    let is_token = |entry: &Value| tokens.iter().any(|token| token == text(entry, "/name"));
    retain_items(object, "/spec/volumes", |volume| !is_token(volume));
    for containers in ["containers", "initContainers"] {
        for index in 0..list(object, &format!("/spec/{containers}")).len() {
            retain_items(object, &format!("/spec/{containers}/{index}/volumeMounts"), |mount| !is_token(mount));
        }
    }
}

fn remove_keys(object: &mut Value, pointer: &str, keys: &[&str]) {
    if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
        for key in keys {
            map.remove(*key);
        }
    }
}

fn remove_unless_owned(object: &mut Value, managed: Option<&[Value]>, fields: &[&str]) {
    let Some(managed) = managed else { return };
    for field in fields {
        let pointer = format!("/fieldsV1/f:spec/f:{field}");
        if !managed.iter().any(|manager| manager.pointer(&pointer).is_some()) {
            remove_keys(object, "/spec", &[field]);
        }
    }
}

fn retain_items(object: &mut Value, pointer: &str, keep: impl Fn(&Value) -> bool) {
    if let Some(items) = object.pointer_mut(pointer).and_then(Value::as_array_mut) {
        items.retain(|item| keep(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_author_wrote_remains() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop", "labels": {"app": "web"}, "uid": "u", "resourceVersion": "1",
                "generation": 3, "creationTimestamp": "t", "ownerReferences": [{}], "finalizers": ["f"], "selfLink": "s",
                "deletionTimestamp": "t", "deletionGracePeriodSeconds": 1, "managedFields": [{}], "generateName": "g",
                "annotations": {"deployment.kubernetes.io/revision": "4",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"}
            },
            "spec": {"replicas": 1}, "status": {"replicas": 1}
        });
        assert_eq!(
            prune(object),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"team": "a"}},
                "spec": {"replicas": 1}
            })
        );
    }

    #[test]
    fn addresses_and_ports_of_a_service() {
        let service = |managed: Value| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "managedFields": managed},
                "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                    "healthCheckNodePort": 32000, "type": "NodePort", "ports": [
                        {"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 81, "protocol": "TCP", "nodePort": 31111}]}})
        };
        let chosen = json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:type": {}, "f:ports": {
            "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:nodePort": {}},
            "k:{\"port\":81,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}}}]);
        assert_eq!(
            prune(service(chosen))["spec"],
            json!({"type": "NodePort", "ports": [
                {"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 81, "protocol": "TCP"}]})
        );
        let by_hand = prune(service(Value::Null));
        assert_eq!(by_hand["spec"]["ports"][1]["nodePort"], 31111);
        assert_eq!(by_hand["spec"].get("clusterIP"), None);
        let headless =
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        assert_eq!(prune(headless.clone()), headless);
    }

    #[test]
    fn jobs_tokens_and_claims() {
        let job = prune(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"labels": {"job-name": "j"}},
            "spec": {"ttlSecondsAfterFinished": 5, "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
                "template": {"metadata": {"labels": {"controller-uid": "u", "app": "a"}}}}
        }));
        assert_eq!(job["spec"], json!({"template": {"metadata": {"labels": {"app": "a"}}}}));
        assert_eq!(job["metadata"], json!({}));
        let manual = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {},
            "spec": {"manualSelector": true, "selector": {"matchLabels": {"job-name": "u"}}}});
        assert_eq!(prune(manual.clone()), manual);
        let secret = prune(
            json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "data": {"token": "t"},
            "metadata": {"annotations": {"kubernetes.io/service-account.uid": "u", "kubernetes.io/service-account.name": "n"}}}),
        );
        assert_eq!(secret.get("data"), None);
        assert_eq!(secret["metadata"]["annotations"], json!({"kubernetes.io/service-account.name": "n"}));
        let account = prune(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"},
            "secrets": [{"name": "a-token-x"}, {"name": "mine"}]}));
        assert_eq!(account["secrets"], json!([{"name": "mine"}]));
        let claim = prune(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"volumeName": "v", "resources": {}},
            "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:resources": {}}}}], "annotations": {"volume.kubernetes.io/selected-node": "n"}}}),
        );
        assert_eq!(
            claim,
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"resources": {}}, "metadata": {}})
        );
        let pod = prune(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {
            "volumes": [{"name": "kube-api-access-abc"}, {"name": "data"}],
            "containers": [{"volumeMounts": [{"name": "kube-api-access-abc"}, {"name": "data"}]}]}}));
        assert_eq!(
            pod["spec"],
            json!({"volumes": [{"name": "data"}], "containers": [{"volumeMounts": [{"name": "data"}]}]})
        );
    }
}

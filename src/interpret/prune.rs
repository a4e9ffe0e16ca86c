//! From an object of the plane to a manifest that a member can take.

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::{list, text};
use crate::karmada::{CLAIM_ANNOTATIONS, CLAIM_LABELS};

/// Annotation with a copy of the object as `kubectl apply` last sent it. It says something about the plane alone.
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Metadata of a template that is remembered: overrides see it, and most of it is pruned after them.
const KEPT_METADATA: [&str; 8] =
    ["name", "namespace", "uid", "labels", "annotations", "ownerReferences", "finalizers", "creationTimestamp"];

/// Fields of `spec` that an API server fills in unless somebody sets them.
fn allocated(kind: Option<Kind>) -> &'static [&'static str] {
    match kind {
        Some(Kind::Service) => &["ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"],
        Some(Kind::PersistentVolumeClaim) => &["volumeName"],
        _ => &[],
    }
}

/// Labels that the plane puts on a Job and its pods, to tell them from those of namesakes.
const JOB_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// A template as it is remembered: without its status and version, without what tells which policy claims it, and with only
/// as much of `managedFields` as [`prune`] asks about.
#[must_use]
pub fn without_state(mut object: Value) -> Value {
    let kind = Kind::of(&object);
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    let managed = object.pointer("/metadata/managedFields").filter(|managed| managed.is_array());
    let owned = managed.filter(|_| !allocated(kind).is_empty()).map(|managed| {
        let managers = managed.as_array().map_or(&[][..], Vec::as_slice);
        let owned = allocated(kind).iter().filter(|field| is_owned(managers, field));
        let spec: Map<String, Value> = owned.map(|field| (format!("f:{field}"), json!({}))).collect();
        json!([{"fieldsV1": {"f:spec": spec}}])
    });
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| KEPT_METADATA.contains(&key.as_str()));
        if let Some(owned) = owned {
            metadata.insert("managedFields".to_owned(), owned);
        }
        // As large as the object itself. An override may remove it, but nothing reads it.
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        if let Some(last_applied) = annotations.and_then(|all| all.get_mut(LAST_APPLIED_ANNOTATION)) {
            *last_applied = json!("");
        }
    }
    remove_claim(&mut object);
    object
}

/// Removes what tells which policy claims a template. It speaks of the plane alone, and no part of it is its author's: were
/// it kept, members would be written whenever the claim changes. What it leaves empty was not there without it.
fn remove_claim(object: &mut Value) {
    for (map, keys) in [("labels", &CLAIM_LABELS[..]), ("annotations", &CLAIM_ANNOTATIONS[..])] {
        remove_keys(object, &format!("/metadata/{map}"), keys);
    }
    remove_empty_maps(object);
}

/// Strips an object of everything that belongs to the plane, so that what remains is what its author and the overrides
/// wrote (and the API server's defaults). `template` is the same object before overrides.
///
/// It runs after overrides, as upstream's does: they see the object as it is in the plane, and cannot add anything that
/// must not reach a member (identity, owners, finalizers, status).
///
/// Values that the plane allocated (address families, a health check's port) are told from those that the author chose by
/// `managedFields`: an allocated value has no manager. A template without `managedFields` is taken as written by hand.
/// An allocated `nodePort` stays: as with upstream, all members serve the port that the plane shows.
#[must_use]
pub fn prune(mut object: Value, template: &Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    remove_keys(&mut object, "/metadata/annotations", &[LAST_APPLIED_ANNOTATION]);
    remove_claim(&mut object);
    let kind = Kind::of(&object);
    match kind {
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
        // `None` asks for a headless Service; every other address is one of the plane.
        Some(Kind::Service) if text(&object, "/spec/clusterIP") != "None" => {
            remove_keys(&mut object, "/spec", &["clusterIP", "clusterIPs"]);
        }
        Some(Kind::PersistentVolumeClaim) => remove_keys(
            &mut object,
            "/metadata/annotations",
            &[
                "volume.kubernetes.io/selected-node",
                "pv.kubernetes.io/bind-completed",
                "pv.kubernetes.io/bound-by-controller",
            ],
        ),
        Some(Kind::PersistentVolume) => remove_keys(&mut object, "/spec/claimRef", &["uid", "resourceVersion"]),
        Some(Kind::Pod) => prune_pod(&mut object),
        Some(Kind::Namespace) => remove_keys(&mut object, "", &["spec"]),
        _ => {}
    }
    remove_allocated(&mut object, template, allocated(kind));
    remove_empty_maps(&mut object);
    object
}

/// Removes labels and annotations when there are none.
fn remove_empty_maps(object: &mut Value) {
    for map in ["annotations", "labels"] {
        let found = object.pointer(&format!("/metadata/{map}"));
        if found.is_some_and(|found| found.is_null() || found.as_object().is_some_and(Map::is_empty)) {
            remove_keys(object, "/metadata", &[map]);
        }
    }
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

/// Removes those fields of `spec` that nobody set: neither an author of the template, nor an override.
fn remove_allocated(object: &mut Value, template: &Value, fields: &[&str]) {
    let Some(managers) = template.pointer("/metadata/managedFields").and_then(Value::as_array) else { return };
    for field in fields {
        let pointer = format!("/spec/{field}");
        if !is_owned(managers, field) && object.pointer(&pointer) == template.pointer(&pointer) {
            remove_keys(object, "/spec", &[field]);
        }
    }
}

/// Whether somebody set a field of `spec`.
fn is_owned(managers: &[Value], field: &str) -> bool {
    let pointer = format!("/fieldsV1/f:spec/f:{field}");
    managers.iter().any(|manager| manager.pointer(&pointer).is_some())
}

fn retain_items(object: &mut Value, pointer: &str, keep: impl Fn(&Value) -> bool) {
    if let Some(items) = object.pointer_mut(pointer).and_then(Value::as_array_mut) {
        items.retain(|item| keep(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without overrides, and in the two steps of the engine.
    fn pruned(object: Value) -> Value {
        let result = prune(object.clone(), &object);
        let remembered = without_state(object);
        assert_eq!(prune(remembered.clone(), &remembered), result, "what is remembered of a template suffices");
        result
    }

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
            pruned(object),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"team": "a"}},
                "spec": {"replicas": 1}
            })
        );
    }

    #[test]
    fn who_claims_a_template_is_not_told_to_members() {
        let object = |labels: Value, annotations: Value| {
            let mut metadata = json!({"name": "x", "namespace": "shop"});
            for (map, value) in [("labels", labels), ("annotations", annotations)] {
                if !value.is_null() {
                    metadata[map] = value;
                }
            }
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        };
        let claim = (
            json!({"propagationpolicy.karmada.io/permanent-id": "i", "clusterpropagationpolicy.karmada.io/permanent-id": "j"}),
            json!({"propagationpolicy.karmada.io/namespace": "shop", "propagationpolicy.karmada.io/name": "p",
                "clusterpropagationpolicy.karmada.io/name": "q"}),
        );
        let with = |all: &Value, key: &str| {
            let mut all = all.clone();
            all[key] = json!("1");
            all
        };
        let own = |key: &str| json!({ key: "1" });
        for (claimed, wanted) in [
            (object(claim.0.clone(), claim.1.clone()), object(Value::Null, Value::Null)),
            // What merely looks alike is the author's.
            (
                object(with(&claim.0, "propagationpolicy.karmada.io/team"), with(&claim.1, "work.karmada.io/name")),
                object(own("propagationpolicy.karmada.io/team"), own("work.karmada.io/name")),
            ),
        ] {
            assert_eq!(without_state(claimed.clone()), wanted, "as it is remembered");
            assert_eq!(pruned(claimed), wanted);
        }
    }

    #[test]
    fn overrides_bring_nothing_in_that_belongs_to_the_server() {
        let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "uid": "u"}});
        let mut overridden = template.clone();
        overridden["status"] = json!({"x": 1});
        overridden["metadata"] = json!({"name": "x", "labels": null, "annotations": {}, "uid": "v", "resourceVersion": "1",
            "managedFields": [{}], "ownerReferences": [{}], "finalizers": ["f"], "generateName": "g", "selfLink": "s",
            "deletionTimestamp": "t", "deletionGracePeriodSeconds": 0, "creationTimestamp": "t", "generation": 7});
        assert_eq!(
            prune(overridden, &template),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
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
        let unset = json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:type": {}}}}]);
        // An allocated port of a node is carried: members serve the one that the plane shows.
        let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 81, "protocol": "TCP", "nodePort": 31111}]);
        assert_eq!(pruned(service(unset.clone()))["spec"], json!({"type": "NodePort", "ports": ports}));
        let chosen = json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:ipFamilyPolicy": {}}}}]);
        assert_eq!(
            pruned(service(chosen))["spec"],
            json!({"type": "NodePort", "ports": ports, "ipFamilyPolicy": "SingleStack"})
        );
        let by_hand = pruned(service(Value::Null));
        assert_eq!(by_hand["spec"]["healthCheckNodePort"], 32000);
        assert_eq!(by_hand["spec"].get("clusterIP"), None);
        // What an override sets is not allocated.
        let (template, mut overridden) = (service(unset.clone()), service(unset));
        overridden["spec"]["ipFamilies"] = json!(["IPv6"]);
        assert_eq!(prune(overridden, &template)["spec"]["ipFamilies"], json!(["IPv6"]));
        let headless =
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        assert_eq!(pruned(headless.clone()), headless);
    }

    #[test]
    fn jobs_tokens_and_claims() {
        let job = pruned(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"labels": {"job-name": "j"}},
            "spec": {"ttlSecondsAfterFinished": 5, "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
                "template": {"metadata": {"labels": {"controller-uid": "u", "app": "a"}}}}
        }));
        assert_eq!(job["spec"], json!({"template": {"metadata": {"labels": {"app": "a"}}}}));
        assert_eq!(job["metadata"], json!({}));
        let manual = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {},
            "spec": {"manualSelector": true, "selector": {"matchLabels": {"job-name": "u"}}}});
        assert_eq!(pruned(manual.clone()), manual);
        let secret = pruned(
            json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "data": {"token": "t"},
            "metadata": {"annotations": {"kubernetes.io/service-account.uid": "u", "kubernetes.io/service-account.name": "n"}}}),
        );
        assert_eq!(secret.get("data"), None);
        assert_eq!(secret["metadata"]["annotations"], json!({"kubernetes.io/service-account.name": "n"}));
        let account = pruned(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"},
            "secrets": [{"name": "a-token-x"}, {"name": "mine"}]}));
        assert_eq!(account["secrets"], json!([{"name": "mine"}]));
        let claim = pruned(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"volumeName": "v", "resources": {}},
            "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:resources": {}}}}], "annotations": {"volume.kubernetes.io/selected-node": "n"}}}),
        );
        assert_eq!(
            claim,
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"resources": {}}, "metadata": {}})
        );
        let pod = pruned(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {
            "volumes": [{"name": "kube-api-access-abc"}, {"name": "data"}],
            "containers": [{"volumeMounts": [{"name": "kube-api-access-abc"}, {"name": "data"}]}]}}));
        assert_eq!(
            pod["spec"],
            json!({"volumes": [{"name": "data"}], "containers": [{"volumeMounts": [{"name": "data"}]}]})
        );
    }
}

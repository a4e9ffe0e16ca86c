//! What templates tell of the policy that claims them.

use std::sync::Arc;

use airdock::karmada::{
    CLAIM_ANNOTATIONS, CLAIM_LABELS, CLUSTER_POLICY_NAME_ANNOTATION, CLUSTER_POLICY_PERMANENT_ID_LABEL,
    POLICY_NAME_ANNOTATION, POLICY_NAMESPACE_ANNOTATION, POLICY_PERMANENT_ID_LABEL,
};
use kube::api::DeleteParams;
use serde_json::{Map, Value, json};

use crate::env::{Case, NAMES, SOON, with_env};
use crate::harness::crash::{FaultInjector, Moment};
use crate::harness::{eventually, objects};

const BINDING: (&str, &str) = ("work.karmada.io/v1alpha2", "ResourceBinding");
const POLICY: (&str, &str) = ("policy.karmada.io/v1alpha1", "PropagationPolicy");
const CLUSTER_POLICY: (&str, &str) = ("policy.karmada.io/v1alpha1", "ClusterPropagationPolicy");
/// One of a kind that counts generations, and one that does not.
const WEB: (&str, &str, &str) = ("apps/v1", "Deployment", "web");
const SETTINGS: (&str, &str, &str) = ("v1", "ConfigMap", "settings");

/// What an object tells of its claim.
fn claim(object: &Value) -> Value {
    let told = |map: &str, keys: &[&str]| -> Map<String, Value> {
        let all = object["metadata"][map].as_object().cloned().unwrap_or_default();
        all.into_iter().filter(|(key, _)| keys.contains(&key.as_str())).collect()
    };
    let mut all = told("labels", &CLAIM_LABELS);
    all.extend(told("annotations", &CLAIM_ANNOTATIONS));
    all.into()
}

/// What tells of a policy's claim.
fn claim_of(policy: &Value) -> Value {
    let metadata = &policy["metadata"];
    match metadata.get("namespace") {
        Some(namespace) => json!({POLICY_PERMANENT_ID_LABEL: metadata["uid"],
            POLICY_NAMESPACE_ANNOTATION: namespace, POLICY_NAME_ANNOTATION: metadata["name"]}),
        None => {
            json!({CLUSTER_POLICY_PERMANENT_ID_LABEL: metadata["uid"], CLUSTER_POLICY_NAME_ANNOTATION: metadata["name"]})
        }
    }
}

/// A merge patch that writes what tells of a claim, and nothing else.
fn telling(claim: &Value) -> Value {
    let of = |keys: &[&str]| -> Value { keys.iter().map(|key| ((*key).to_owned(), claim[*key].clone())).collect() };
    json!({"metadata": {"labels": of(&CLAIM_LABELS), "annotations": of(&CLAIM_ANNOTATIONS)}})
}

/// Waits until both templates tell what they should.
async fn until_told(case: &Case<'_>, wanted: &Value) {
    for (api_version, kind, name) in [WEB, SETTINGS] {
        case.until(api_version, kind, name, |object| object.is_object() && claim(object) == *wanted).await;
    }
}

/// Versions and generations of what members have, and that nothing there tells of a claim.
async fn in_members(case: &Case<'_>) -> Vec<(Value, Value)> {
    let mut all = Vec::new();
    for member in NAMES {
        for (api_version, kind, name) in [WEB, SETTINGS] {
            let object = case.in_member(member, api_version, kind, name).await.unwrap();
            assert_eq!(claim(&object), json!({}), "{kind} in {member}");
            all.push((object["metadata"]["uid"].clone(), object["metadata"]["resourceVersion"].clone()));
        }
    }
    all
}

/// The writes to one object of the plane.
fn writes_to(traffic: &FaultInjector, from: usize, path: &str) -> Vec<String> {
    traffic.writes().into_iter().skip(from).filter(|write| write.contains(path)).collect()
}

async fn until_applied(case: &Case<'_>) {
    for binding in ["web-deployment", "settings-configmap"] {
        case.until_applied(binding).await;
    }
}

#[test]
fn a_template_tells_who_claims_it_and_members_do_not() {
    with_env("claims", async |case| {
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        let policy = case.get(POLICY.0, POLICY.1, "all").await.unwrap();
        let mut web = case.deployment("web", 2);
        web["metadata"]["labels"] = json!({"app": "web"});
        case.apply(web).await;
        case.apply(case.config("settings", "v")).await;
        until_applied(case).await;
        until_told(case, &claim_of(&policy)).await;
        case.until_quiet(&traffic).await;
        let in_plane = format!("/namespaces/{}/configmaps/settings", case.namespace);
        let writes = writes_to(&traffic, 0, &in_plane);
        let to_plane = |write: &&String| write.contains("PATCH");
        assert_eq!(writes.iter().filter(to_plane).count(), 1, "{writes:?}");
        let generation = case.get(WEB.0, WEB.1, WEB.2).await.unwrap()["metadata"]["generation"].clone();
        assert_eq!(generation, 1, "the claim looks like a change of the template");
        let before = in_members(case).await;
        let bound = case.get(BINDING.0, BINDING.1, "web-deployment").await.unwrap();
        assert_eq!(claim(&bound), claim_of(&policy));

        // What users write there is put back. Nothing else is written, neither by this engine nor by the next one.
        for wrong in [
            json!({POLICY_PERMANENT_ID_LABEL: "wrong", POLICY_NAMESPACE_ANNOTATION: "other", POLICY_NAME_ANNOTATION: "gone"}),
            json!({CLUSTER_POLICY_PERMANENT_ID_LABEL: "wrong", CLUSTER_POLICY_NAME_ANNOTATION: "gone"}),
        ] {
            let from = traffic.writes().len();
            objects::merge(&case.plane, SETTINGS.0, SETTINGS.1, &case.namespace, SETTINGS.2, telling(&wrong)).await;
            case.until(SETTINGS.0, SETTINGS.1, SETTINGS.2, |object| claim(object) == claim_of(&policy)).await;
            case.until_quiet(&traffic).await;
            assert_eq!(writes_to(&traffic, from, &in_plane).len(), 1);
            assert_eq!(traffic.writes().len(), from + 1, "{:?}", &traffic.writes()[from..]);
        }
        case.kill();
        let traffic = case.start_counted();
        case.until_ready("alpha", "True", SOON).await;
        case.until_quiet(&traffic).await;
        assert_eq!(traffic.writes(), [""; 0], "written by a new engine although all is as it should be");

        // A policy of another kind takes over; members are not written.
        case.delete(POLICY.0, POLICY.1, "all").await;
        until_told(case, &json!({})).await;
        case.until_quiet(&traffic).await;
        assert_eq!(in_members(case).await, before, "without a policy");
        let mut wide = case.policy("claims-wide", json!({}));
        wide["kind"] = json!(CLUSTER_POLICY.1);
        wide["metadata"] = json!({"name": "claims-wide"});
        wide["spec"]["resourceSelectors"] = [WEB, SETTINGS]
            .map(|(v, kind, name)| json!({"apiVersion": v, "kind": kind, "namespace": case.namespace, "name": name}))
            .into();
        case.apply(wide).await;
        let wide = objects::get(&case.plane, CLUSTER_POLICY.0, CLUSTER_POLICY.1, "", "claims-wide").await.unwrap();
        until_told(case, &claim_of(&wide)).await;
        case.until_quiet(&traffic).await;
        assert_eq!(in_members(case).await, before, "claimed by another policy");
        // Killed between the two, the next engine brings it to its end.
        case.kill();
        objects::delete(&case.plane, CLUSTER_POLICY.0, CLUSTER_POLICY.1, "", "claims-wide").await;
        let writes = Arc::new(FaultInjector::at(1, Moment::After).counting(|path| path.contains("/deployments/web")));
        case.start(&writes);
        writes.happened().await;
        case.kill();
        case.start_counted();
        until_told(case, &json!({})).await;
        assert_eq!(in_members(case).await, before, "killed in between");
        let generation_now = case.get(WEB.0, WEB.1, WEB.2).await.unwrap()["metadata"]["generation"].clone();
        assert_eq!(generation_now, generation);
        case.until(BINDING.0, BINDING.1, "web-deployment", |binding| claim(binding) == json!({})).await;
    });
}

/// What refuses every change of an object's labels.
fn refusing(case: &Case<'_>) -> [Value; 2] {
    let name = format!("{}.example.io", case.namespace);
    let admission = "admissionregistration.k8s.io/v1";
    let rule = json!({"apiGroups": [""], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["configmaps"]});
    let namespaces = json!({"matchLabels": {"kubernetes.io/metadata.name": case.namespace}});
    [
        json!({"apiVersion": admission, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
            "matchConstraints": {"namespaceSelector": namespaces, "resourceRules": [rule]},
            "validations": [{"message": "labels stay as they are",
                "expression": "has(object.metadata.labels) == has(oldObject.metadata.labels)"}]}}),
        json!({"apiVersion": admission, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}}),
    ]
}

#[test]
fn a_template_that_cannot_be_written_goes_to_members_all_the_same() {
    with_env("unmarkable", async |case| {
        for object in refusing(case) {
            case.apply(object).await;
        }
        case.apply(case.config("probe", "v")).await;
        let probe = objects::api(&case.plane, "v1", "ConfigMap", &case.namespace);
        let label = kube::api::Patch::Merge(json!({"metadata": {"labels": {"a": "1"}}}));
        eventually("labels are refused", SOON, async || {
            match probe.patch("probe", &kube::api::PatchParams { dry_run: true, ..Default::default() }, &label).await {
                Ok(_) => Err("they are not".to_owned()),
                Err(_) => Ok(()),
            }
        })
        .await;
        let traffic = case.start_counted();
        case.apply(case.policy("all", json!({}))).await;
        case.apply(case.config("settings", "1")).await;
        case.until_applied("settings-configmap").await;
        case.apply(case.config("settings", "2")).await;
        for member in NAMES {
            case.until_in(member, "v1", "ConfigMap", "settings", |settings| settings["data"]["k"] == "2").await;
        }
        // It is tried again, and not often.
        case.until_quiet(&traffic).await;
        let path = format!("/namespaces/{}/configmaps/settings", case.namespace);
        let tries = writes_to(&traffic, 0, &path).into_iter().filter(|write| write.starts_with("PATCH")).count();
        assert!((1..=4).contains(&tries), "{tries} tries");
        assert_eq!(claim(&case.get("v1", "ConfigMap", "settings").await.unwrap()), json!({}));
        for object in refusing(case) {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap();
            objects::delete(&case.plane, text("/apiVersion"), text("/kind"), "", text("/metadata/name")).await;
        }
    });
}

#[test]
fn who_is_not_claimed_cannot_claim_itself() {
    with_env("self-claimed", async |case| {
        let traffic = case.start_counted();
        let selectors = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "settings"},
            {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {POLICY_PERMANENT_ID_LABEL: "me"}}}]);
        let mut policy = case.policy("named", json!({"resourceSelectors": selectors}));
        policy["metadata"]["labels"] = json!({POLICY_PERMANENT_ID_LABEL: "me"});
        case.apply(policy).await;
        let mut stranger = case.config("stranger", "v");
        let told = json!({POLICY_PERMANENT_ID_LABEL: "me", POLICY_NAMESPACE_ANNOTATION: case.namespace, POLICY_NAME_ANNOTATION: "named"});
        json_patch::merge(&mut stranger, &telling(&told));
        let api = objects::api(&case.plane, "v1", "ConfigMap", &case.namespace);
        api.create(&Default::default(), &serde_json::from_value(stranger).unwrap()).await.unwrap();
        case.apply(case.config("settings", "v")).await;
        case.until_applied("settings-configmap").await;
        case.until("v1", "ConfigMap", "stranger", |object| claim(object) == json!({})).await;
        case.until_quiet(&traffic).await;
        assert!(case.get(BINDING.0, BINDING.1, "stranger-configmap").await.is_none());
        assert!(case.in_member("alpha", "v1", "ConfigMap", "stranger").await.is_none());
        let _ = api.delete("stranger", &DeleteParams::default()).await;
    });
}

//! A version that nobody serves: MemberClusterJoin with its fields in other places, with fewer of them, and with a list of
//! taints that have no values.

use kube::{CustomResource, ResourceExt};
use serde_json::json;

use super::*;
use crate::api::common::{InstanceRef, SecretKeyRef};
use crate::api::member::{
    ClusterTaint, Deletion, MemberClusterJoin, MemberClusterJoinSpec, MemberClusterJoinStatus, Mode, TaintEffect,
};

#[derive(CustomResource, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "airdock.dev",
    version = "v1throwaway1",
    kind = "MemberClusterJoin",
    root = "Throwaway",
    namespaced,
    schema = "disabled",
    status = "MemberClusterJoinStatus"
)]
#[serde(rename_all = "camelCase")]
struct ThrowawaySpec {
    instance: InstanceRef,
    cluster: ThrowawayCluster,
    kubeconfig: SecretKeyRef,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keep_away: Vec<String>,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct ThrowawayCluster {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
}

impl ServedVersion for Throwaway {
    type Internal = MemberClusterJoin;

    fn into_internal(self) -> MemberClusterJoin {
        let ThrowawaySpec { instance, cluster, kubeconfig, keep_away } = self.spec;
        let taint = |key| ClusterTaint { key, value: None, effect: TaintEffect::NoSchedule };
        let spec = MemberClusterJoinSpec {
            instance_ref: instance,
            cluster_name: cluster.name,
            mode: Mode::default(),
            kubeconfig_secret_ref: kubeconfig,
            api_endpoint: None,
            provider: None,
            region: cluster.region,
            zones: Vec::new(),
            labels: Default::default(),
            taints: keep_away.into_iter().map(taint).collect(),
            deletion: Deletion::default(),
        };
        MemberClusterJoin { metadata: self.metadata, spec, status: self.status }
    }

    fn from_internal(MemberClusterJoin { metadata, spec, status }: MemberClusterJoin) -> Self {
        let spec = ThrowawaySpec {
            instance: spec.instance_ref,
            cluster: ThrowawayCluster { name: spec.cluster_name, region: spec.region },
            kubeconfig: spec.kubeconfig_secret_ref,
            keep_away: spec.taints.into_iter().map(|taint| taint.key).collect(),
        };
        Self { metadata, spec, status }
    }
}

const INTERNAL: &str = "airdock.dev/v1alpha1";
const THROWAWAY: &str = "airdock.dev/v1throwaway1";

/// What the API server would send, and what it would read.
fn converted(object: &Value, wanted: &str) -> Result<Value, String> {
    let review = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "u", "desiredAPIVersion": wanted, "objects": [object]},
    });
    let request = ConversionRequest::from_review(serde_json::from_value(review).unwrap()).unwrap();
    let answer = convert(request, &[Converter::of::<Throwaway>()]).into_review();
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["response"]["uid"], "u");
    match answer["response"]["result"]["status"].as_str() {
        Some("Success") => Ok(answer["response"]["convertedObjects"][0].clone()),
        _ => Err(answer["response"]["result"]["message"].as_str().unwrap().to_owned()),
    }
}

fn stored(taints: Value) -> Value {
    let join: MemberClusterJoin = serde_json::from_value(json!({
        "apiVersion": INTERNAL, "kind": "MemberClusterJoin",
        "metadata": {"name": "eu", "namespace": "team", "uid": "1", "generation": 3, "finalizers": ["airdock.dev/member"],
                     "annotations": {"note": "kept"}},
        "spec": {
            "instanceRef": {"name": "fleet"}, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"},
            "apiEndpoint": "https://eu.example.com", "provider": "aws", "region": "eu-west", "zones": ["a", "b"],
            "labels": {"tier": "gold"}, "taints": taints,
            "deletion": {"policy": "Orphan", "forceAfterSeconds": 60},
        },
        "status": {"clusterID": "id", "conditions": [
            {"type": "Ready", "status": "True", "reason": "Joined", "message": "",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
    .unwrap();
    serde_json::to_value(join).unwrap()
}

#[test]
fn a_version_with_other_and_fewer_fields_takes_nothing_from_the_object() {
    let whole = stored(json!([{"key": "gpu", "effect": "NoSchedule"}]));
    let shown = converted(&whole, THROWAWAY).unwrap();
    assert_eq!(shown["apiVersion"], THROWAWAY);
    assert_eq!(shown["spec"]["cluster"], json!({"name": "eu", "region": "eu-west"}));
    assert_eq!(shown["spec"]["keepAway"], json!(["gpu"]));
    assert_eq!((&shown["spec"]["zones"], &shown["metadata"]["uid"]), (&Value::Null, &whole["metadata"]["uid"]));
    assert_eq!(converted(&shown, INTERNAL).unwrap(), whole, "there and back");
    assert_eq!(converted(&shown, THROWAWAY).unwrap(), shown, "asked for as it is");

    // Somebody edits it in that version: what is seen there changes, and nothing else does.
    let mut edited = shown.clone();
    edited["spec"]["cluster"]["region"] = json!("eu-north");
    edited["spec"]["keepAway"] = json!(["gpu", "arm"]);
    let mut wanted = whole.clone();
    wanted["spec"]["region"] = json!("eu-north");
    wanted["spec"]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}, {"key": "arm", "effect": "NoSchedule"}]);
    let back = converted(&edited, INTERNAL).unwrap();
    for field in ["region", "taints", "zones", "labels", "provider", "apiEndpoint", "deletion"] {
        assert_eq!(back["spec"][field], wanted["spec"][field], "{field}");
    }
    assert_eq!(back["status"], whole["status"]);
}

#[test]
fn an_object_made_in_another_version_comes_back_as_it_was_made() {
    let made = json!({
        "apiVersion": THROWAWAY, "kind": "MemberClusterJoin", "metadata": {"name": "eu", "namespace": "team"},
        "spec": {"instance": {"name": "fleet"}, "cluster": {"name": "eu"}, "kubeconfig": {"name": "eu", "key": "kubeconfig"},
                 "keepAway": ["gpu"]},
    });
    let internal = converted(&made, INTERNAL).unwrap();
    let join: MemberClusterJoin = serde_json::from_value(internal.clone()).unwrap();
    assert_eq!((join.spec.cluster_name.as_str(), join.spec.taints[0].key.as_str()), ("eu", "gpu"));
    assert!(join.annotations().is_empty());
    let mut back = converted(&internal, THROWAWAY).unwrap();
    // The defaults of the fields that it does not have.
    back["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(back, made);
}

#[test]
fn a_list_of_which_a_version_cannot_say_everything_is_kept_and_not_changed_in_it() {
    let valued = stored(json!([{"key": "gpu", "value": "a100", "effect": "NoSchedule"}]));
    let mut shown = converted(&valued, THROWAWAY).unwrap();
    assert_eq!(shown["spec"]["keepAway"], json!(["gpu"]));
    assert_eq!(converted(&shown, INTERNAL).unwrap(), valued);
    shown["spec"]["keepAway"] = json!(["arm", "gpu"]);
    let problem = converted(&shown, INTERNAL).unwrap_err();
    assert!(problem.starts_with("/spec/taints holds what airdock.dev/v1throwaway1 cannot say: change it"), "{problem}");
}

#[test]
fn what_is_no_served_version_is_refused() {
    let problem = converted(&stored(json!([])), "airdock.dev/v9").unwrap_err();
    assert_eq!(problem, "MemberClusterJoin of airdock.dev/v9 is not converted: ask for a served version");
    let broken = json!({"apiVersion": THROWAWAY, "kind": "MemberClusterJoin", "metadata": {}, "spec": {"instance": 7}});
    let problem = converted(&broken, INTERNAL).unwrap_err();
    assert!(problem.starts_with("MemberClusterJoin cannot be read as airdock.dev/v1throwaway1: "), "{problem}");
}

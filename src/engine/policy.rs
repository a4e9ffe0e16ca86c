//! What the plane's policies say, and the end of those that upstream's webhooks put finalizers on.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::model::{text, version};
use super::rest::{Rest, Target, is_object_missing};
use crate::karmada::POLICY_FINALIZERS;
use crate::karmada::compatibility::{Kind, refusal};
use crate::karmada::policy::{OverrideSpec, PropagationSpec};
use crate::machinery::error::{chain, is_conflict};
use crate::runtime::guarded::omitted;

/// Reason of the event about a policy that cannot be acted on.
pub(super) const POLICY_UNSUPPORTED: &str = "PolicyUnsupported";

/// How long to wait before a change is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What a propagation policy says; or why it must not be acted on. As if the field were not there, its objects would
/// land in more places.
pub(super) fn propagation(object: &mut Value) -> Result<PropagationSpec, String> {
    if let Some(problem) = omitted(object) {
        return Err(problem.to_owned());
    }
    match refusal(Kind::PropagationPolicy, object) {
        Some(refusal) => Err(refusal),
        None => {
            let spec = serde_json::from_value(take_spec(object)).map_err(|error| format!("spec: {error}"))?;
            check_weights(&spec)?;
            Ok(spec)
        }
    }
}

/// Refuses weights that the definition refuses, too: it may not have been there when the policy was stored.
fn check_weights(spec: &PropagationSpec) -> Result<(), String> {
    let preference = spec.placement.replica_scheduling.as_ref().and_then(|all| all.weight_preference.as_ref());
    let weights = preference.into_iter().flat_map(|preference| &preference.static_weight_list).enumerate();
    match weights.into_iter().find(|(_, entry)| entry.weight < 1) {
        Some((n, entry)) => Err(format!(
            "spec.placement.replicaScheduling.weightPreference.staticWeightList[{n}].weight: {} is less than 1",
            entry.weight
        )),
        None => Ok(()),
    }
}

/// What an override policy says. One that is not understood selects what it seems to select, and holds it back.
pub(super) fn overriding(object: &mut Value) -> OverrideSpec {
    if let Some(problem) = omitted(object) {
        return OverrideSpec { unreadable: Some(problem.to_owned()), ..OverrideSpec::default() };
    }
    let spec = take_spec(object);
    let selectors = spec.get("resourceSelectors").cloned().unwrap_or_default();
    serde_json::from_value(spec).unwrap_or_else(|error| OverrideSpec {
        resource_selectors: serde_json::from_value(selectors).unwrap_or_default(),
        unreadable: Some(error.to_string()),
        ..OverrideSpec::default()
    })
}

fn take_spec(object: &mut Value) -> Value {
    object.get_mut("spec").map(Value::take).unwrap_or_default()
}

/// A policy, as events name it.
pub(super) fn reference(resource: &ApiResource, object: &Value) -> ObjectReference {
    let field = |path: &str| Some(text(object, path)).filter(|text| !text.is_empty());
    ObjectReference {
        api_version: Some(resource.api_version.clone()),
        kind: Some(resource.kind.clone()),
        name: field("/metadata/name"),
        namespace: field("/metadata/namespace"),
        uid: field("/metadata/uid"),
        ..ObjectReference::default()
    }
}

/// A policy's permanent id, and whether that is still to be written to it. A policy is identified by its uid until a copy
/// of it brings the id along, as when a plane is restored.
pub(super) fn permanent_id(label: &str, object: &Value) -> (String, bool) {
    let labels = object.pointer("/metadata/labels");
    let given = labels.and_then(|labels| labels.get(label)).and_then(Value::as_str).filter(|id| !id.is_empty());
    given.map_or_else(|| (text(object, "/metadata/uid"), true), |id| (id.to_owned(), false))
}

/// The operations that label a policy with its permanent id.
pub(super) fn identify(label: &str, object: &Value, id: &str) -> Vec<Value> {
    let mut labels = object.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    labels[label] = json!(id);
    vec![json!({"op": "add", "path": "/metadata/labels", "value": labels})]
}

/// The finalizers that a policy keeps, if it is being deleted and any of upstream's hold it.
pub(super) fn finalizers_to_keep(object: &Value) -> Option<Vec<String>> {
    object.pointer("/metadata/deletionTimestamp")?;
    let all = object.pointer("/metadata/finalizers")?.as_array()?;
    let (upstream, others): (Vec<&str>, Vec<&str>) =
        all.iter().filter_map(Value::as_str).partition(|name| POLICY_FINALIZERS.contains(name));
    (!upstream.is_empty()).then(|| others.into_iter().map(str::to_owned).collect())
}

/// The operations that leave a policy with these finalizers.
pub(super) fn release(keep: &[String]) -> Vec<Value> {
    vec![json!({"op": "replace", "path": "/metadata/finalizers", "value": keep})]
}

/// Changes the metadata of a policy, unless the policy changes meanwhile: then its next event brings this up again. IO.
pub(super) async fn patch(rest: Rest, resource: ApiResource, object: Value, operations: Vec<Value>) {
    let (namespace, name) = (text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
    let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let target = Target { resource: &resource, namespace, name: &name };
    loop {
        match rest.patch(&target, version(&object), operations.clone()).await {
            Ok(_) => return,
            // The watch brings what is there now.
            Err(error) if is_conflict(&error) => return,
            Err(kube::Error::Api(status)) if is_object_missing(&status) => return,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(kind = resource.kind, namespace, name, error, "policy was not changed; trying again");
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_keeps_its_permanent_id_or_gets_its_uid() {
        const LABEL: &str = "propagationpolicy.karmada.io/permanent-id";
        for (labels, id, written) in [
            (Value::Null, "u", Some(json!({LABEL: "u"}))),
            (json!({"team": "a", LABEL: ""}), "u", Some(json!({"team": "a", LABEL: "u"}))),
            (json!({LABEL: "restored"}), "restored", None),
        ] {
            let policy = json!({"metadata": {"uid": "u", "labels": labels}});
            let (given, is_new) = permanent_id(LABEL, &policy);
            assert_eq!((given.as_str(), is_new), (id, written.is_some()), "{labels}");
            if let Some(written) = written {
                assert_eq!(identify(LABEL, &policy, &given)[0]["value"], written);
            }
        }
    }

    #[test]
    fn a_policy_is_read_or_told_why_not() {
        let selectors = json!([{"apiVersion": "v1", "kind": "ConfigMap"}]);
        let weighted = |list: Value| {
            json!({"resourceSelectors": selectors,
                "placement": {"replicaScheduling": {"weightPreference": {"staticWeightList": list}}}})
        };
        for (spec, wanted) in [
            (json!({"resourceSelectors": selectors, "preemption": "Never"}), None),
            (
                json!({"resourceSelectors": selectors, "suspension": {"dispatching": true}}),
                Some("spec.suspension.dispatching"),
            ),
            (json!({"resourceSelectors": selectors, "priority": "high"}), Some("expected i32")),
            (weighted(json!([{"targetCluster": {}, "weight": 1}])), None),
            (
                weighted(json!([{"targetCluster": {}, "weight": 1}, {"targetCluster": {}, "weight": 0}])),
                Some("staticWeightList[1].weight: 0 is less than 1"),
            ),
            (Value::Null, Some("spec: ")),
        ] {
            let read = propagation(&mut json!({"spec": spec}));
            match wanted {
                None => assert_eq!(read.unwrap().resource_selectors.len(), 1, "{spec}"),
                Some(words) => assert!(read.unwrap_err().contains(words), "{spec}"),
            }
        }
    }

    #[test]
    fn an_override_that_is_not_understood_still_selects() {
        let selectors = json!([{"apiVersion": "v1", "kind": "ConfigMap"}]);
        let rules = json!([{"overriders": {"plaintext": [{"path": "/x", "operator": "swap"}]}}]);
        let spec = overriding(&mut json!({"spec": {"resourceSelectors": selectors, "overrideRules": rules}}));
        assert_eq!(spec.resource_selectors.len(), 1);
        assert!(spec.unreadable.unwrap().contains("swap"));
        assert_eq!(overriding(&mut json!({"spec": {"overrideRules": []}})).unreadable, None);
    }

    #[test]
    fn only_upstreams_finalizers_go_and_only_at_the_end() {
        let policy = |deleting: Value, finalizers: Value| {
            finalizers_to_keep(&json!({"metadata": {"deletionTimestamp": deleting, "finalizers": finalizers}}))
        };
        let end = json!("2026-01-01T00:00:00Z");
        assert_eq!(policy(end.clone(), json!([POLICY_FINALIZERS[0], "x/y"])), Some(vec!["x/y".to_owned()]));
        assert_eq!(policy(end.clone(), json!([POLICY_FINALIZERS[1]])), Some(Vec::new()));
        assert_eq!(policy(end, json!(["x/y"])), None);
        assert_eq!(finalizers_to_keep(&json!({"metadata": {"finalizers": [POLICY_FINALIZERS[0]]}})), None);
    }
}

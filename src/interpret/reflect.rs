//! The part of a live object's status that is reflected in the plane.

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::text;
use crate::limits::{OMITTED, depth, shorten};

/// Annotation, on objects in members, with the generation of the template that they were made from.
pub const TEMPLATE_GENERATION_ANNOTATION: &str = "resourcetemplate.karmada.io/generation";

/// How many bytes of a status are reported: etcd keeps 1.5 MiB of a binding, with a status for each cluster.
const MAX_STATUS: usize = 16 << 10;

/// The longest note in the place of a status, in bytes.
const MAX_NOTE: usize = 512;

/// How deep a status may be nested that is reported. It must remain readable within a binding.
const MAX_LEVELS: usize = 64;

/// The part of a live object's status that is reflected in the plane; nothing while there is none.
///
/// What changes without meaning (heartbeats, probe times) is left out, so that nothing is written because of it. Kinds
/// that are not known report their whole status.
#[must_use]
pub fn reflect(object: &Value) -> Option<Value> {
    let status = object.get("status").and_then(Value::as_object).filter(|status| !status.is_empty())?;
    // It could not even be read. Readers let nobody else say so, and still no more than a short text is believed.
    if let Some(problem) = status.get(OMITTED) {
        let problem = problem.as_str().unwrap_or("the status cannot be read");
        return Some(json!({OMITTED: shorten(problem, MAX_NOTE)}));
    }
    let kind = Kind::of(object);
    let is_workload = matches!(kind, Some(Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::DaemonSet));
    let fields: &[&str] = match kind {
        _ if is_workload => &["observedGeneration"],
        Some(Kind::Job) => &["active", "succeeded", "failed", "conditions", "startTime", "completionTime"],
        Some(Kind::PodDisruptionBudget) => {
            &["disruptionsAllowed", "expectedPods", "desiredHealthy", "currentHealthy", "disruptedPods"]
        }
        Some(Kind::HorizontalPodAutoscaler) => &[],
        Some(Kind::Service) if text(object, "/spec/type") != "LoadBalancer" => return None,
        Some(Kind::Service) => &["loadBalancer"],
        _ => return Some(limited(Value::Object(status.clone()))),
    };
    let counters = kind.map(Kind::counters).unwrap_or_default();
    let mut reflected: Map<String, Value> = counters
        .iter()
        .chain(fields)
        .filter_map(|field| Some(((*field).to_owned(), status.get(*field).filter(|value| !is_zero(value))?.clone())))
        .collect();
    if is_workload {
        let annotations = object.pointer("/metadata/annotations");
        let template = annotations.and_then(|all| all.get(TEMPLATE_GENERATION_ANNOTATION)).and_then(Value::as_str);
        if let Some(template) = template.and_then(|text| text.parse::<i64>().ok()) {
            reflected.insert("resourceTemplateGeneration".to_owned(), json!(template));
        }
        if let Some(generation) = object.pointer("/metadata/generation").and_then(Value::as_i64) {
            reflected.insert("generation".to_owned(), json!(generation));
        }
    }
    (!reflected.is_empty()).then(|| limited(Value::Object(reflected)))
}

/// A status, or a note in its place that it is too large: it is stored in the plane once for each cluster.
fn limited(status: Value) -> Value {
    let text = status.to_string();
    let problem = match (text.len(), depth(&text)) {
        (bytes, _) if bytes > MAX_STATUS => format!("the status has {bytes} bytes; at most {MAX_STATUS} are reported"),
        (_, levels) if levels > MAX_LEVELS => {
            format!("the status is nested {levels} levels deep; at most {MAX_LEVELS} are reported")
        }
        _ => return status,
    };
    json!({OMITTED: problem})
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let times = json!({"succeeded": 1, "startTime": "t", "uncountedTerminatedPods": {}, "ready": 0});
        for (api_version, kind, spec, status, expected) in [
            (
                "apps/v1",
                "Deployment",
                json!({}),
                json!({"replicas": 2, "readyReplicas": 0, "observedGeneration": 3, "conditions": [{"lastUpdateTime": "x"}]}),
                json!({"replicas": 2, "observedGeneration": 3, "generation": 3, "resourceTemplateGeneration": 5}),
            ),
            ("apps/v1", "Deployment", json!({}), json!({}), Value::Null),
            ("v1", "Service", json!({"type": "ClusterIP"}), json!({"loadBalancer": {}}), Value::Null),
            ("v1", "Service", json!({"type": "LoadBalancer"}), json!({"loadBalancer": {}}), Value::Null),
            (
                "v1",
                "Service",
                json!({"type": "LoadBalancer"}),
                json!({"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}, "conditions": []}),
                json!({"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}),
            ),
            ("batch/v1", "Job", json!({}), times, json!({"succeeded": 1, "startTime": "t"})),
            ("v1", "ConfigMap", json!({}), Value::Null, Value::Null),
            ("example.io/v1", "Thing", json!({}), json!({"any": "thing"}), json!({"any": "thing"})),
        ] {
            let object = json!({"apiVersion": api_version, "kind": kind, "spec": spec, "status": status,
                "metadata": {"generation": 3, "annotations": {TEMPLATE_GENERATION_ANNOTATION: "5"}}});
            assert_eq!(reflect(&object).unwrap_or_default(), expected, "{object}");
        }
    }

    #[test]
    fn statuses_have_limits() {
        let of = |kind: &str, status: Value| {
            reflect(&json!({"apiVersion": "batch/v1", "kind": kind, "status": status})).unwrap()
        };
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        for (kind, status, problem) in [
            ("Thing", json!({"a": "x".repeat(MAX_STATUS)}), "at most 16384 are reported"),
            ("Job", json!({"conditions": ["x".repeat(MAX_STATUS)]}), "at most 16384 are reported"),
            ("Thing", json!({"a": nested(MAX_LEVELS)}), "is nested 65 levels deep"),
            ("Job", json!({OMITTED: "is nested 200 levels deep"}), "is nested 200 levels deep"),
        ] {
            let reflected = of(kind, status);
            assert!(reflected[OMITTED].as_str().unwrap().contains(problem), "{reflected}");
        }
        for note in [json!("x".repeat(MAX_STATUS)), nested(MAX_LEVELS), json!({"a": "x".repeat(MAX_STATUS)})] {
            let reflected = of("Thing", json!({OMITTED: note}));
            assert!(reflected[OMITTED].as_str().unwrap().len() <= MAX_NOTE, "{reflected}");
        }
        let fits = json!({"a": nested(MAX_LEVELS - 1)});
        assert_eq!(of("Thing", fits.clone()), fits);
    }
}

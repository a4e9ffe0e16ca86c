//! Whether a live object already holds everything that is wanted of it. Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use super::quantity::milli;

/// Whether `live` holds all of `wanted`: every field of an object, and lists of the same length whose elements
/// hold those wanted. What `live` has beyond that (defaults, other owners' fields) does not matter. Quantities
/// that mean the same (`1000m` and `1`) are the same, since the API server rewrites them.
#[must_use]
pub fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, value)| match live.get(key) {
            Some(found) => contains(found, value),
            None => is_empty(value),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(found, value)| contains(found, value))
        }
        (Value::String(live), Value::String(wanted)) => live == wanted || same_quantity(live, wanted),
        (Value::Number(live), Value::Number(wanted)) => live == wanted || live.as_f64() == wanted.as_f64(),
        (Value::Null, value) => is_empty(value),
        (live, wanted) => live == wanted,
    }
}

/// The API server drops fields that are empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn same_quantity(a: &str, b: &str) -> bool {
    let looks_like = |s: &str| s.len() < 32 && s.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    if !looks_like(a) || !looks_like(b) {
        return false;
    }
    match (milli(&Quantity(a.to_owned())), milli(&Quantity(b.to_owned()))) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_adds_does_not_matter() {
        let live = json!({"spec": {"replicas": 1, "list": [{"name": "a", "added": true}]}, "status": {}});
        assert!(contains(&live, &json!({"spec": {"list": [{"name": "a"}]}})));
        assert!(!contains(&live, &json!({"spec": {"list": [{"name": "b"}]}})));
        assert!(!contains(&live, &json!({"spec": {"list": [{"name": "a"}, {"name": "b"}]}})));
        assert!(!contains(&live, &json!({"spec": {"replicas": 2}})));
    }

    #[test]
    fn empty_fields_are_as_good_as_absent() {
        assert!(contains(&json!({}), &json!({"labels": {}, "args": [], "x": {"y": null}})));
        assert!(!contains(&json!({}), &json!({"enabled": false})));
    }

    #[test]
    fn quantities_mean_the_same() {
        for (a, b) in [("1000m", "1"), ("0.5", "500m"), ("1Gi", "1024Mi"), ("1e3", "1k"), ("100Mi", "104857600")] {
            assert!(contains(&json!(a), &json!(b)), "{a} {b}");
        }
        for (a, b) in [("1", "2"), ("1Gi", "1G"), ("v1", "v2"), ("10.0.0.1", "10.0.0.2"), ("8443", "8444")] {
            assert!(!contains(&json!(a), &json!(b)), "{a} {b}");
        }
    }
}

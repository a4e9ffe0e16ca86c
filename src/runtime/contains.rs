//! Whether a live object already holds everything that is wanted of it. Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

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

/// A quantity in thousandths, rounded up as the API server does; nothing when it is none or too large.
#[must_use]
pub fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty() && *rest != "i") {
        let exponent: i32 = exponent.parse().ok()?;
        return scale(number, 1000, 1, exponent);
    }
    let (times, over, exponent) = match suffix {
        "n" => (1, 1_000_000, 0),
        "u" => (1, 1000, 0),
        "m" => (1, 1, 0),
        "" => (1000, 1, 0),
        "k" => (1000, 1, 3),
        "M" => (1000, 1, 6),
        "G" => (1000, 1, 9),
        "T" => (1000, 1, 12),
        "P" => (1000, 1, 15),
        "E" => (1000, 1, 18),
        "Ki" => (1000 << 10, 1, 0),
        "Mi" => (1000 << 20, 1, 0),
        "Gi" => (1000 << 30, 1, 0),
        "Ti" => (1000 << 40, 1, 0),
        "Pi" => (1000 << 50, 1, 0),
        "Ei" => (1000 << 60, 1, 0),
        _ => return None,
    };
    scale(number, times, over, exponent)
}

fn scale(number: &str, times: i128, over: i128, exponent: i32) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains(['-', '+']) || fraction.len() > 18 {
        return None;
    }
    let negative = whole.starts_with('-');
    let digits: i128 = format!("{}{fraction}", whole.trim_start_matches(['-', '+'])).parse().ok()?;
    let mut numerator = digits.checked_mul(times)?;
    let mut denominator = over.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 {
        numerator = numerator.checked_mul(power)?;
    } else {
        denominator = denominator.checked_mul(power)?;
    }
    let magnitude = numerator / denominator + i128::from(numerator % denominator != 0);
    Some(if negative { -magnitude } else { magnitude })
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
        assert_eq!(milli(&Quantity("1.5".into())), Some(1500));
        assert_eq!(milli(&Quantity("100n".into())), Some(1));
        assert_eq!(milli(&Quantity("abc".into())), None);
        assert_eq!(milli(&Quantity("2Ei".into())), Some(2 * 1000 * (1 << 60)));
    }
}

//! Changes of labels and annotations.

use serde_json::{Map, Value};

use crate::karmada::policy::{LabelAnnotationOverrider, OverriderOperator};

/// Changes an object's `labels` or `annotations`. What `replace` and `remove` do not find they leave alone. A map that is
/// empty afterwards stays, since later overriders may add to it.
pub(super) fn apply(object: &mut Value, field: &str, overrider: &LabelAnnotationOverrider) -> Result<(), String> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let metadata = metadata.ok_or_else(|| "the object has no metadata".to_owned())?;
    let map = metadata.entry(field).or_insert(Value::Null);
    if map.is_null() {
        *map = Value::Object(Map::new());
    }
    let map = map.as_object_mut().ok_or_else(|| format!("metadata.{field} of the object is not a map"))?;
    for (key, value) in &overrider.value {
        match overrider.operator {
            OverriderOperator::Replace if !map.contains_key(key) => {}
            OverriderOperator::Add | OverriderOperator::Replace => {
                map.insert(key.clone(), Value::String(value.clone()));
            }
            OverriderOperator::Remove => {
                map.remove(key);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn table() {
        let some = json!({"a/b": "1", "c": "2"});
        for (before, operator, value, after) in [
            (some.clone(), "add", json!({"d": "3", "c": "9"}), json!({"a/b": "1", "c": "9", "d": "3"})),
            (some.clone(), "replace", json!({"a/b": "9", "d": "3"}), json!({"a/b": "9", "c": "2"})),
            (some.clone(), "remove", json!({"a/b": "", "d": ""}), json!({"c": "2"})),
            (some, "remove", json!({"a/b": "", "c": "other"}), json!({})),
            (Value::Null, "add", json!({"d": "3"}), json!({"d": "3"})),
            (Value::Null, "replace", json!({"d": "3"}), json!({})),
            (Value::Null, "remove", json!({"d": "3"}), json!({})),
        ] {
            for field in ["labels", "annotations"] {
                let mut object = json!({"metadata": {"name": "x", field: before}});
                let overrider = json!({"operator": operator, "value": value});
                apply(&mut object, field, &from_value(overrider).unwrap()).unwrap();
                assert_eq!(object["metadata"].get(field).unwrap_or(&Value::Null), &after, "{operator} {value}");
                assert_eq!(object["metadata"]["name"], "x");
            }
        }
    }

    #[test]
    fn what_is_no_map_is_an_error() {
        let overrider = from_value(json!({"operator": "add", "value": {"a": "b"}})).unwrap();
        let mut object = json!({"metadata": {"labels": []}});
        assert_eq!(apply(&mut object, "labels", &overrider).unwrap_err(), "metadata.labels of the object is not a map");
    }
}

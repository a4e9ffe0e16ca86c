//! Changes of containers' commands and arguments.

use serde_json::Value;

use super::containers_pointer;
use crate::karmada::policy::{CommandArgsOperator, CommandArgsOverrider};

/// Changes `command` or `args` of the containers of one name. Kinds without containers have none.
pub(super) fn apply(object: &mut Value, field: &str, overrider: &CommandArgsOverrider) -> Result<(), String> {
    let Some(list) = containers_pointer(object) else { return Ok(()) };
    let containers = object.pointer_mut(&list).and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        if container.get("name").and_then(Value::as_str) != Some(&overrider.container_name) {
            continue;
        }
        let Some(container) = container.as_object_mut() else { continue };
        let before = container.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let words = overrider.value.iter().map(|word| Value::String(word.clone()));
        let after: Vec<Value> = match overrider.operator {
            CommandArgsOperator::Add => before.into_iter().chain(words).collect(),
            CommandArgsOperator::Remove => {
                let unwanted: Vec<Value> = words.collect();
                before.into_iter().filter(|word| !unwanted.contains(word)).collect()
            }
        };
        if after.is_empty() {
            container.remove(field);
        } else {
            container.insert(field.to_owned(), Value::Array(after));
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
        let before = json!(["run", "-v", "-v", "x"]);
        for (container, before, operator, value, after) in [
            ("c", before.clone(), "add", json!(["-v", "y"]), json!(["run", "-v", "-v", "x", "-v", "y"])),
            ("c", before.clone(), "remove", json!(["-v", "none"]), json!(["run", "x"])),
            ("c", before.clone(), "remove", before.clone(), Value::Null),
            ("c", Value::Null, "add", json!(["run"]), json!(["run"])),
            ("c", Value::Null, "remove", json!(["run"]), Value::Null),
            ("other", before.clone(), "add", json!(["y"]), before.clone()),
            ("init", before.clone(), "add", json!(["y"]), before.clone()),
        ] {
            for field in ["command", "args"] {
                let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {
                    "initContainers": [{"name": "init", field: ["i"]}],
                    "containers": [{"name": "first", field: ["f"]}, {"name": "c", field: before}]}}}});
                if before.is_null() {
                    object["spec"]["template"]["spec"]["containers"][1].as_object_mut().unwrap().remove(field);
                }
                let overrider = json!({"containerName": container, "operator": operator, "value": value});
                apply(&mut object, field, &from_value(overrider.clone()).unwrap()).unwrap();
                let spec = &object["spec"]["template"]["spec"];
                assert_eq!(spec["containers"][1].get(field).unwrap_or(&Value::Null), &after, "{overrider}");
                assert_eq!(
                    (&spec["containers"][0][field], &spec["initContainers"][0][field]),
                    (&json!(["f"]), &json!(["i"]))
                );
            }
        }
    }

    #[test]
    fn kinds_without_containers_stay_as_they_are() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "spec": {"containers": [{"name": "c"}]}});
        let overrider = from_value(json!({"containerName": "c", "operator": "add", "value": ["x"]})).unwrap();
        let mut changed = object.clone();
        apply(&mut changed, "args", &overrider).unwrap();
        assert_eq!(changed, object);
    }
}

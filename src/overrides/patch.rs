//! Changes at JSON pointers.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchErrorKind, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::Value;

use crate::karmada::policy::{OverriderOperator, PlaintextOverrider};
use crate::limits::{MAX_DEPTH, depth_of, shorten};

/// The longest path in a message.
const MAX_PATH: usize = 256;

/// Paths that hold an object's identity: an override that changed them would make another object of it.
const IDENTITY: [&str; 4] = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"];

/// Whether a change at a path may make another object of an object.
pub(super) fn holds_identity(path: &str) -> bool {
    path.is_empty() || path == "/metadata" || IDENTITY.contains(&path)
}

pub(super) fn apply(object: &mut Value, overrider: &PlaintextOverrider) -> Result<(), String> {
    if holds_identity(&overrider.path) {
        return Err(at(overrider.operator, &overrider.path, "the identity of an object cannot be overridden"));
    }
    apply_at(object, &overrider.path, overrider.operator, overrider.value.as_ref())
}

fn verb(operator: OverriderOperator) -> &'static str {
    match operator {
        OverriderOperator::Add => "add",
        OverriderOperator::Remove => "remove",
        OverriderOperator::Replace => "replace",
    }
}

/// What is wrong with a change at a path.
fn at(operator: OverriderOperator, path: &str, problem: &str) -> String {
    format!("{} at {:?}: {problem}", verb(operator), shorten(path, MAX_PATH))
}

/// Refuses what would be nested too deep. Each change by itself is small enough to be read, but the next one may be put into it,
/// and so on, until the object takes more stack than there is.
fn check_depth(path: &str, value: &Value) -> Result<(), String> {
    let levels = path.matches('/').count() + depth_of(value);
    if levels <= MAX_DEPTH {
        return Ok(());
    }
    Err(format!("the value would be nested {levels} levels deep in the object; at most {MAX_DEPTH} are carried out"))
}

/// Changes any JSON document at a JSON pointer. A change that fails leaves no trace.
pub(super) fn apply_at(
    document: &mut Value,
    path: &str,
    operator: OverriderOperator,
    value: Option<&Value>,
) -> Result<(), String> {
    let problem = |problem: &str| at(operator, path, problem);
    if let Some(value) = value {
        check_depth(path, value).map_err(|refused| problem(&refused))?;
    }
    let pointer = PointerBuf::parse(from_the_end(document, path, operator))
        .map_err(|_| problem("this is not a JSON pointer: it must start with / and escape ~ as ~0, / as ~1"))?;
    let value = || value.cloned().ok_or_else(|| problem("a value is needed"));
    let operation = match operator {
        OverriderOperator::Add => PatchOperation::Add(AddOperation { path: pointer, value: value()? }),
        OverriderOperator::Replace => PatchOperation::Replace(ReplaceOperation { path: pointer, value: value()? }),
        OverriderOperator::Remove => PatchOperation::Remove(RemoveOperation { path: pointer }),
    };
    json_patch::patch(document, &[operation]).map_err(|error| {
        problem(match error.kind {
            PatchErrorKind::InvalidPointer if operator == OverriderOperator::Add => "there is nothing to add it to",
            PatchErrorKind::InvalidPointer => "there is nothing at this path",
            _ => "it does not apply",
        })
    })
}

/// A path whose negative indices count from the end of their arrays, as Karmada's do, with indices from the start.
fn from_the_end(document: &Value, path: &str, operator: OverriderOperator) -> String {
    let Some(tokens) = path.strip_prefix('/').filter(|tokens| tokens.contains('-')) else { return path.to_owned() };
    let tokens: Vec<&str> = tokens.split('/').collect();
    let mut resolved = String::new();
    for (n, token) in tokens.iter().enumerate() {
        let array = document.pointer(&resolved).and_then(Value::as_array);
        let back = token.strip_prefix('-').and_then(|digits| digits.parse::<usize>().ok()).filter(|back| *back > 0);
        // What is added before the end makes the array longer.
        let is_added = operator == OverriderOperator::Add && n + 1 == tokens.len();
        let index = array.zip(back).and_then(|(array, back)| (array.len() + usize::from(is_added)).checked_sub(back));
        resolved.push('/');
        match index {
            Some(index) => resolved.push_str(&index.to_string()),
            None => resolved.push_str(token),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn no_object_is_nested_too_deep() {
        let nested = |levels: usize| (0..levels).fold(json!("x"), |inner, _| json!({"a": inner}));
        let change = |operator: &str, levels: usize, value: &Value| {
            from_value(json!({"path": format!("/data{}", "/a".repeat(levels)), "operator": operator, "value": value}))
                .unwrap()
        };
        let mut object = json!({"data": {}});
        // The object and the path are one level each.
        apply(&mut object, &change("add", 0, &nested(MAX_DEPTH - 1))).unwrap();
        let before = object.clone();
        for operator in ["add", "replace"] {
            for (levels, value) in [(0, nested(MAX_DEPTH)), (80, nested(20)), (MAX_DEPTH + 1, json!(1))] {
                let message = apply(&mut object, &change(operator, levels, &value)).unwrap_err();
                assert!(message.starts_with(&format!("{operator} at \"/data")), "{message}");
                assert!(message.contains("levels deep in the object; at most 100") && message.len() < 512, "{message}");
                assert_eq!(object, before, "a failed change leaves no trace");
            }
        }
        assert_eq!(crate::limits::depth_of(&object), MAX_DEPTH);
        apply(&mut object, &change("replace", 80, &nested(19))).unwrap();
    }

    #[test]
    fn table() {
        let object = json!({"metadata": {"name": "x", "annotations": {"a/b": "1"}}, "spec": {"list": [1, 2]}});
        for (overrider, expected) in [
            (json!({"path": "/spec/new", "operator": "add", "value": {"k": 1}}), Ok(("/spec/new", json!({"k": 1})))),
            (json!({"path": "/spec/list/-", "operator": "add", "value": 3}), Ok(("/spec/list", json!([1, 2, 3])))),
            (json!({"path": "/spec/list/0", "operator": "add", "value": 0}), Ok(("/spec/list", json!([0, 1, 2])))),
            (json!({"path": "/spec/list/1", "operator": "replace", "value": 9}), Ok(("/spec/list", json!([1, 9])))),
            (json!({"path": "/spec/list/0", "operator": "remove"}), Ok(("/spec/list", json!([2])))),
            (json!({"path": "/spec/list/-1", "operator": "remove"}), Ok(("/spec/list", json!([1])))),
            (json!({"path": "/spec/list/-2", "operator": "replace", "value": 9}), Ok(("/spec/list", json!([9, 2])))),
            (json!({"path": "/spec/list/-1", "operator": "add", "value": 3}), Ok(("/spec/list", json!([1, 2, 3])))),
            (json!({"path": "/spec/list/-3", "operator": "remove"}), Err("there is nothing at this path")),
            (
                json!({"path": "/metadata/annotations/a~1b", "operator": "replace", "value": "2"}),
                Ok(("/metadata/annotations/a~1b", json!("2"))),
            ),
            (json!({"path": "/spec/none", "operator": "replace", "value": 1}), Err("there is nothing at this path")),
            (json!({"path": "/spec/none", "operator": "remove"}), Err("there is nothing at this path")),
            (json!({"path": "/no/parent", "operator": "add", "value": 1}), Err("there is nothing to add it to")),
            (json!({"path": "/spec/list/9", "operator": "add", "value": 1}), Err("there is nothing to add it to")),
            (json!({"path": "spec", "operator": "add", "value": 1}), Err("not a JSON pointer")),
            (json!({"path": "/spec/x", "operator": "add"}), Err("a value is needed")),
            (json!({"path": "/metadata/name", "operator": "replace", "value": "y"}), Err("identity")),
            (json!({"path": "", "operator": "replace", "value": {}}), Err("identity")),
        ] {
            let mut changed = object.clone();
            let result = apply(&mut changed, &from_value(overrider.clone()).unwrap());
            match expected {
                Ok((pointer, value)) => {
                    assert_eq!(result, Ok(()), "{overrider}");
                    assert_eq!(changed.pointer(pointer), Some(&value), "{overrider}");
                }
                Err(words) => {
                    let message = result.unwrap_err();
                    assert!(message.contains(words), "{overrider}: {message}");
                    assert_eq!(changed, object, "a failed change leaves no trace");
                }
            }
        }
    }
}

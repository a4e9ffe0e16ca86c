//! Changes inside texts that hold a JSON or YAML document.

use serde_json::Value;

use super::patch::{apply_at, holds_identity};
use crate::karmada::policy::{FieldOverrider, FieldPatchOperation};
use crate::limits::check_depth;

/// Changes the document in the text at `fieldPath`.
pub(super) fn apply(object: &mut Value, overrider: &FieldOverrider) -> Result<(), String> {
    let path = &overrider.field_path;
    if holds_identity(path) {
        return Err(format!("fieldPath {path:?}: the identity of an object cannot be overridden"));
    }
    let field = object.pointer_mut(path).ok_or_else(|| format!("fieldPath {path:?}: there is nothing at this path"))?;
    let text = field.as_str().ok_or_else(|| format!("fieldPath {path:?}: what is there is not a text"))?;
    // The parsers' own messages quote the text, which may be a Secret's.
    let malformed = |format: &str, at: Option<(u64, u64)>| {
        let place = at.map(|(line, column)| format!(" (line {line}, column {column})")).unwrap_or_default();
        format!("fieldPath {path:?}: the text is not {format}{place}")
    };
    let changed = match (overrider.json.as_slice(), overrider.yaml.as_slice()) {
        ([], []) => return Ok(()),
        (json, []) => {
            check_depth(text).map_err(|problem| format!("fieldPath {path:?}: the text {problem}"))?;
            let mut document = serde_json::from_str(text)
                .map_err(|e| malformed("JSON", Some((e.line() as u64, e.column() as u64))))?;
            check_numbers(&document).map_err(|problem| format!("fieldPath {path:?}: {problem}"))?;
            patch(&mut document, "json", json)?;
            document.to_string()
        }
        ([], yaml) => {
            // As Karmada's parser, which follows YAML 1.1: 0644 is a mode.
            let options = serde_saphyr::options! { legacy_octal_numbers: true };
            let parsed = serde_saphyr::from_str_with_options(text, options);
            let mut document: Value = parsed.map_err(|e| {
                let place = e.location().map(|place| (place.line(), place.column()));
                malformed("YAML that can be read", place)
            })?;
            check_numbers(&document).map_err(|problem| format!("fieldPath {path:?}: {problem}"))?;
            patch(&mut document, "yaml", yaml)?;
            serde_saphyr::to_string(&document).map_err(|_| malformed("YAML any more", None))?
        }
        _ => return Err(format!("fieldPath {path:?}: give one of json and yaml, not both")),
    };
    *field = Value::String(changed);
    Ok(())
}

/// Refuses documents with numbers that would be written back as others, though nobody asked to change them.
fn check_numbers(document: &Value) -> Result<(), String> {
    /// Whole numbers of 64 bits end here; those beyond are read as approximations.
    const LIMIT: f64 = 9.2e18;
    match document {
        Value::Number(number) if number.is_f64() && number.as_f64().is_some_and(|value| value.abs() >= LIMIT) => {
            Err("the text holds a number with more digits than can be kept; write it as a text".to_owned())
        }
        Value::Array(all) => all.iter().try_for_each(check_numbers),
        Value::Object(all) => all.values().try_for_each(check_numbers),
        _ => Ok(()),
    }
}

fn patch(document: &mut Value, field: &str, operations: &[FieldPatchOperation]) -> Result<(), String> {
    for (n, operation) in operations.iter().enumerate() {
        apply_at(document, &operation.sub_path, operation.operator, operation.value.as_ref())
            .map_err(|problem| format!("{field}[{n}]: {problem}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn object() -> Value {
        json!({"metadata": {"name": "x"}, "data": {
            "config.json": "{\"db\": {\"host\": \"a\", \"port\": 1}}", "config.yaml": "db:\n  host: a\n  ports: [1]\n",
            "plain": "}{", "number": 1}})
    }

    #[test]
    fn documents_change_inside_their_text() {
        let change = json!([{"subPath": "/db/host", "operator": "replace", "value": "b"},
            {"subPath": "/db/user", "operator": "add", "value": {"name": "u"}},
            {"subPath": "/db/port", "operator": "remove"}]);
        let mut changed = object();
        let overrider = json!({"fieldPath": "/data/config.json", "json": change});
        apply(&mut changed, &from_value(overrider).unwrap()).unwrap();
        let document: Value = serde_json::from_str(changed["data"]["config.json"].as_str().unwrap()).unwrap();
        assert_eq!(document, json!({"db": {"host": "b", "user": {"name": "u"}}}));

        let change = json!([{"subPath": "/db/host", "operator": "replace", "value": "b"},
            {"subPath": "/db/ports/-", "operator": "add", "value": 2}]);
        let overrider = json!({"fieldPath": "/data/config.yaml", "yaml": change});
        apply(&mut changed, &from_value(overrider).unwrap()).unwrap();
        let document: Value = serde_saphyr::from_str(changed["data"]["config.yaml"].as_str().unwrap()).unwrap();
        assert_eq!(document, json!({"db": {"host": "b", "ports": [1, 2]}}));
        assert_eq!(changed["data"]["plain"], "}{");
    }

    #[test]
    fn what_nobody_asked_to_change_stays() {
        let change = json!([{"subPath": "/host", "operator": "replace", "value": "b"}]);
        let result = |text: &str, format: &str| {
            let mut object = json!({"data": {"text": text}});
            let overrider = from_value(json!({"fieldPath": "/data/text", format: change})).unwrap();
            apply(&mut object, &overrider).map(|()| object["data"]["text"].as_str().unwrap().to_owned())
        };
        let modes: Value =
            serde_saphyr::from_str(&result("mode: 0644\nminus: -010\nhost: a\n", "yaml").unwrap()).unwrap();
        assert_eq!(modes, json!({"mode": 420, "minus": -8, "host": "b"}));
        let kept = result("{\"max\": 18446744073709551615, \"half\": 0.5, \"host\": \"a\"}", "json").unwrap();
        assert!(kept.contains("18446744073709551615") && kept.contains("0.5"), "{kept}");
        for (text, format) in [
            ("{\"id\": 12345678901234567890123, \"host\": \"a\"}", "json"),
            ("{\"deep\": [{\"id\": -12345678901234567890123}], \"host\": \"a\"}", "json"),
            ("id: 12345678901234567890123\nhost: a\n", "yaml"),
        ] {
            let message = result(text, format).unwrap_err();
            assert!(message.contains("more digits than can be kept"), "{text}: {message}");
        }
    }

    #[test]
    fn no_document_is_nested_too_deep() {
        let flow = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let block = |levels: usize| -> String { (0..levels).map(|n| format!("{}a:\n", " ".repeat(n))).collect() };
        // Each line holds the one before: none is nested, but all together are.
        let aliases = |levels: usize| -> String {
            let lines = (1..levels).map(|n| format!("l{n}: &l{n} [*l{}]\n", n - 1));
            ["l0: &l0 [x]\n".to_owned()].into_iter().chain(lines).collect()
        };
        let bomb: String = ["l0: &l0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned()]
            .into_iter()
            .chain((1..9).map(|n| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 10].join(","))))
            .collect();
        let put = json!([{"subPath": "/z", "operator": "add", "value": 1}]);
        for (format, text) in
            [("json", flow(101)), ("yaml", flow(5000)), ("yaml", block(5000)), ("yaml", aliases(5000)), ("yaml", bomb)]
        {
            let mut object = json!({"data": {"text": text}});
            let overrider = from_value(json!({"fieldPath": "/data/text", format: put})).unwrap();
            let message = apply(&mut object, &overrider).unwrap_err();
            assert!(message.starts_with("fieldPath \"/data/text\": the text is n"), "{message}");
        }
        // What is put into it counts, too.
        let nested = (0..80).fold(json!("x"), |inner, _| json!({"a": inner}));
        let inner = json!({"subPath": format!("/z{}", "/a".repeat(80)), "operator": "replace", "value": nested});
        for (format, text) in [("json", "{}"), ("yaml", "a: b")] {
            let changes = json!([{"subPath": "/z", "operator": "add", "value": nested}, inner]);
            let mut object = json!({"data": {"text": text}});
            let overrider = from_value(json!({"fieldPath": "/data/text", format: changes})).unwrap();
            let message = apply(&mut object, &overrider).unwrap_err();
            assert!(message.contains("[1]: replace at") && message.contains("levels deep"), "{message}");
        }
    }

    #[test]
    fn errors_do_not_tell_what_is_there() {
        let put = json!([{"subPath": "/z", "operator": "add", "value": 1}]);
        for (format, text) in [
            ("json", "hunter2"),
            ("json", "{\"password\": hunter2}"),
            ("json", "{\"number\": 777777777777777777777}"),
            ("yaml", "user: x\npassword: hunter2: [\n"),
            ("yaml", "hunter2: 1\nhunter2: 2\n"),
            ("yaml", "a: *hunter2"),
            ("yaml", "a: !hunter2 {"),
            ("yaml", "? {hunter2: 1}\n: 2\n"),
            ("yaml", "number: 777777777777777777777"),
            ("yaml", "\"hunter2"),
            ("yaml", "hunter2"),
        ] {
            let mut object = json!({"data": {"text": text}});
            let overrider = from_value(json!({"fieldPath": "/data/text", format: put})).unwrap();
            let message = apply(&mut object, &overrider).unwrap_err();
            assert!(!message.contains("hunter2") && !message.contains("777"), "{text}: {message}");
        }
    }

    #[test]
    fn errors_name_the_path() {
        let add = json!([{"subPath": "/db/none/x", "operator": "add", "value": 1}]);
        for (overrider, words) in [
            (json!({"fieldPath": "/data/none", "json": add}), "there is nothing at this path"),
            (json!({"fieldPath": "/data/number", "json": add}), "not a text"),
            (json!({"fieldPath": "/data/plain", "json": add}), "not JSON"),
            (json!({"fieldPath": "/data/plain", "yaml": add}), "not YAML"),
            (
                json!({"fieldPath": "/data/config.json", "json": add}),
                "json[0]: add at \"/db/none/x\": there is nothing",
            ),
            (json!({"fieldPath": "/data/config.json", "json": add, "yaml": add}), "not both"),
            (json!({"fieldPath": "/metadata/name", "json": add}), "identity"),
        ] {
            let mut changed = object();
            let message = apply(&mut changed, &from_value(overrider.clone()).unwrap()).unwrap_err();
            assert!(message.contains(words), "{overrider}: {message}");
            assert_eq!(changed, object(), "a failed change leaves no trace");
        }
        let mut unchanged = object();
        apply(&mut unchanged, &from_value(json!({"fieldPath": "/data/plain"})).unwrap()).unwrap();
        assert_eq!(unchanged, object());
    }
}

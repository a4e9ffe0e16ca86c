//! What the API server's schema cannot check of a permission. Pure.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::error::{Error, InstanceError};
use crate::api::KarmadaInstance;
use crate::api::permission::{InstanceSelection, PermissionBinding, PermissionBindingSpec};
use crate::application::model::FieldError;
use crate::karmada::names::is_reserved_namespace;
use crate::machinery::names::is_dns_label;
use crate::runtime::instance_ref::resolve;
use crate::runtime::planes::InstanceKey;

/// The entry of `spec.scope.namespaces` that means all of them.
pub const EVERYWHERE: &str = "*";

/// The field by which a binding refers to instances.
const FIELD: &str = "spec.scope.instances";

/// Checks the spec, and reads when the role ends.
pub fn spec(spec: &PermissionBindingSpec) -> Result<Option<Timestamp>, Error> {
    for (index, namespace) in spec.scope.namespaces.iter().enumerate() {
        let field = || format!("spec.scope.namespaces[{index}]");
        let invalid = |remedy: &str| Err(FieldError::of_value(field(), namespace, remedy).into());
        if namespace == EVERYWHERE {
            if spec.scope.namespaces.len() > 1 {
                return invalid("must be the only entry: remove the others");
            }
        } else if !is_dns_label(namespace) {
            return invalid("is not the name of a namespace: use at most 63 lower-case letters, digits and '-'");
        } else if is_reserved_namespace(namespace) {
            return invalid("belongs to the plane itself, whose credentials it holds: remove it");
        }
    }
    let Some(text) = &spec.expires_at else { return Ok(None) };
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(Some(time)),
        Err(_) => {
            let remedy = "is not a time: use RFC 3339 as in 2027-01-31T12:00:00Z";
            Err(FieldError::of_value("spec.expiresAt", text, remedy).into())
        }
    }
}

/// An instance that a binding means, and whether it may have it.
pub type Selected<'a> = (InstanceKey, Result<&'a KarmadaInstance, InstanceError>);

/// The instances that a binding means. One that is named but not there, or not allowed, is a failure of its own;
/// one that merely matches by label must allow this namespace to be meant at all.
pub fn select<'a>(
    binding: &PermissionBinding,
    all: impl IntoIterator<Item = &'a KarmadaInstance>,
) -> Result<Vec<Selected<'a>>, Error> {
    let own = binding.namespace().unwrap_or_default();
    let InstanceSelection { names, namespace, labels } = &binding.spec.scope.instances;
    let namespace = namespace.clone().unwrap_or_else(|| own.clone());
    let mut selected: Vec<Selected<'a>> = Vec::new();
    let mut found = Vec::new();
    for instance in all {
        let name = instance.name_any();
        if instance.namespace().as_ref() != Some(&namespace) || !(names.is_empty() || names.contains(&name)) {
            continue;
        }
        found.push(name.clone());
        if !labels.iter().all(|(key, value)| instance.labels().get(key) == Some(value)) {
            continue;
        }
        let key = InstanceKey { namespace: namespace.clone(), name };
        match allowed(binding, instance, &key, &own) {
            Err(InstanceError::Instance(_)) if names.is_empty() => {}
            result => selected.push((key, result)),
        }
    }
    for name in names.iter().filter(|name| !found.contains(name)) {
        let key = InstanceKey { namespace: namespace.clone(), name: name.clone() };
        let missing = resolve(None, &key, &own, FIELD).map_err(InstanceError::from);
        selected.push((key, missing));
    }
    selected.sort_by(|(a, _), (b, _)| a.cmp(b));
    selected.dedup_by(|(a, _), (b, _)| a == b);
    if selected.is_empty() { Err(Error::NoInstance { namespace }) } else { Ok(selected) }
}

/// Whoever may write bindings in a namespace must not reach further in another's instance than that one allows: the
/// namespace of the same name.
fn allowed<'a>(
    binding: &PermissionBinding,
    instance: &'a KarmadaInstance,
    key: &InstanceKey,
    own: &str,
) -> Result<&'a KarmadaInstance, InstanceError> {
    let instance = resolve(Some(instance), key, own, FIELD)?;
    if key.namespace != own && binding.spec.scope.namespaces.iter().any(|namespace| namespace != own) {
        return Err(InstanceError::Elsewhere { instance: key.to_string(), namespace: own.to_owned() });
    }
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::instance_ref::InstanceRefError;
    use serde_json::{Value, json};

    fn binding(scope: Value, expires: Value) -> PermissionBinding {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "PermissionBinding", "metadata": {"namespace": "team", "name": "b"},
            "spec": {"subjects": [{"kind": "User", "name": "alice"}], "role": "Viewer", "scope": scope, "expiresAt": expires},
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_named() {
        let cases = [
            ("fine", json!({"namespaces": ["a", "b-1"]}), Value::Null, None),
            ("everywhere", json!({"namespaces": ["*"]}), json!("2027-01-31T12:00:00Z"), None),
            ("with an offset", json!({"namespaces": ["a"]}), json!("2027-01-31T12:00:00+02:00"), None),
            (
                "everywhere and more",
                json!({"namespaces": ["*", "a"]}),
                Value::Null,
                Some("spec.scope.namespaces[0]: \"*\""),
            ),
            (
                "system",
                json!({"namespaces": ["a", "kube-system"]}),
                Value::Null,
                Some("spec.scope.namespaces[1]: \"kube-system\""),
            ),
            ("Karmada's", json!({"namespaces": ["karmada-cluster"]}), Value::Null, Some("belongs to the plane itself")),
            (
                "an execution space",
                json!({"namespaces": ["karmada-es-eu"]}),
                Value::Null,
                Some("belongs to the plane itself"),
            ),
            ("a tenant's, for all its name", json!({"namespaces": ["karmada-team"]}), Value::Null, None),
            ("no name", json!({"namespaces": ["A_b"]}), Value::Null, Some("not the name of a namespace")),
            ("no time", json!({"namespaces": ["a"]}), json!("tomorrow"), Some("spec.expiresAt: \"tomorrow\"")),
            ("no time zone", json!({"namespaces": ["a"]}), json!("2027-01-31T12:00:00"), Some("spec.expiresAt")),
        ];
        for (name, scope, expires, want) in cases {
            let got = spec(&binding(scope, expires).spec).map_err(|e| e.to_string());
            match want {
                None => assert!(got.is_ok(), "{name}: {got:?}"),
                Some(words) => assert!(got.as_ref().is_err_and(|e| e.contains(words)), "{name}: {got:?}"),
            }
        }
        let until = spec(&binding(json!({"namespaces": ["a"]}), json!("2027-01-31T12:00:00+02:00")).spec).unwrap();
        assert_eq!(until.unwrap().to_string(), "2027-01-31T10:00:00Z");
    }

    fn instance(namespace: &str, name: &str, labels: Value, allowed: Value) -> KarmadaInstance {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"tenancy": {"allowedNamespaces": allowed}},
        }))
        .unwrap()
    }

    #[test]
    fn instances_of_the_own_namespace_or_with_consent() {
        let all = [
            instance("team", "one", json!({"tier": "gold"}), json!([])),
            instance("team", "two", json!({}), json!([])),
            instance("other", "open", json!({}), json!(["team"])),
            instance("other", "closed", json!({}), json!([])),
        ];
        let pick = |instances: Value, namespaces: Value| {
            select(&binding(json!({"instances": instances, "namespaces": namespaces}), Value::Null), &all).map(
                |selected| {
                    selected
                        .into_iter()
                        .map(|(key, result)| match result {
                            Ok(_) => key.name,
                            Err(InstanceError::Instance(InstanceRefError::NotFound { .. })) => {
                                format!("{} missing", key.name)
                            }
                            Err(InstanceError::Instance(InstanceRefError::NotShared { .. })) => {
                                format!("{} not allowed", key.name)
                            }
                            Err(InstanceError::Elsewhere { .. }) => format!("{} elsewhere", key.name),
                            Err(other) => panic!("{other}"),
                        })
                        .collect::<Vec<_>>()
                        .join(", ")
                },
            )
        };
        let cases = [
            ("all of the own namespace", json!({}), json!(["a"]), Some("one, two")),
            ("by name", json!({"names": ["two"]}), json!(["a"]), Some("two")),
            ("by label", json!({"labels": {"tier": "gold"}}), json!(["*"]), Some("one")),
            ("one is missing", json!({"names": ["one", "three"]}), json!(["a"]), Some("one, three missing")),
            ("consent", json!({"namespace": "other"}), json!(["team"]), Some("open")),
            (
                "named without consent",
                json!({"namespace": "other", "names": ["closed"]}),
                json!(["team"]),
                Some("closed not allowed"),
            ),
            (
                "consent is for the namesake",
                json!({"namespace": "other"}),
                json!(["team", "x"]),
                Some("open elsewhere"),
            ),
            ("never everywhere", json!({"namespace": "other"}), json!(["*"]), Some("open elsewhere")),
            ("nothing matches", json!({"labels": {"tier": "tin"}}), json!(["a"]), None),
        ];
        for (name, instances, namespaces, want) in cases {
            assert_eq!(pick(instances, namespaces).ok().as_deref(), want, "{name}");
        }
    }
}

//! From the spec of a `MultiCloudApp` to an [`Application`] that can be carried out, or to everything that is
//! wrong with it. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::api::app::{Manifest, MultiCloudApp, PatchOp, ReplicaMode};
use crate::api::{APP_LABEL, APP_NAMESPACE_LABEL, COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL};

use crate::karmada::names::is_reserved_namespace;
use crate::machinery::names;

use super::kinds::{escalation, is_reserved, refused_kind};
use super::model::{Application, FieldError, HostNamespace, Template, Tenancy};
use super::workload;

/// How large all manifests of an app may be together, as JSON.
const MANIFESTS_LIMIT: usize = 1 << 20;

/// Checks the spec and brings it into the form that everything else works with.
///
/// # Errors
/// Everything that is wrong, in the order of the spec.
pub fn validate(app: &MultiCloudApp, tenancy: Tenancy) -> Result<Application, Vec<FieldError>> {
    let name = app.metadata.name.clone().unwrap_or_default();
    let host_namespace = HostNamespace::of(app);
    let namespace = app.spec.namespace.clone().unwrap_or_else(|| host_namespace.to_string());
    let mut errors = Vec::new();
    errors.extend(check_namespace(&namespace, &host_namespace, tenancy));

    let mut templates = Vec::new();
    let mut seen = BTreeSet::new();
    let mut size = 0;
    for (c, component) in app.spec.components.iter().enumerate() {
        for (m, manifest) in component.manifests.iter().enumerate() {
            let field = format!("spec.components[{c}].manifests[{m}]");
            size += serde_json::to_vec(manifest).map_or(0, |json| json.len());
            match template(manifest, &field, &component.name, &namespace, tenancy) {
                Err(more) => errors.extend(more),
                Ok(template) => {
                    let group = names::group(&template.api_version).to_owned();
                    if !seen.insert((group, template.kind.clone(), template.name.clone())) {
                        errors.push(FieldError::new(&field, format!("{template} is given twice; keep one of them")));
                    }
                    templates.push(template);
                }
            }
        }
    }
    if size > MANIFESTS_LIMIT {
        let problem = format!("the manifests are {size} bytes together, more than {MANIFESTS_LIMIT}; split the app");
        errors.push(FieldError::new("spec.components", problem));
    }
    errors.extend(check_differences(app, &templates, tenancy));
    if !errors.is_empty() {
        return Err(errors);
    }
    let owner =
        [(APP_LABEL, name.as_str()), (APP_NAMESPACE_LABEL, host_namespace.as_str()), (MANAGED_BY_LABEL, MANAGED_BY)];
    for template in &mut templates {
        let component = template.component.clone();
        label(&mut template.object, owner.into_iter().chain([(COMPONENT_LABEL, component.as_str())]));
    }
    Ok(Application { name, host_namespace, namespace, templates })
}

fn check_namespace(namespace: &str, host_namespace: &HostNamespace, tenancy: Tenancy) -> Option<FieldError> {
    if is_reserved_namespace(namespace) {
        let problem = format!("{namespace} belongs to the system and is never propagated; choose another");
        return Some(FieldError::new("spec.namespace", problem));
    }
    (tenancy == Tenancy::CrossNamespace && namespace != host_namespace.as_str()).then(|| {
        let problem = format!(
            "{namespace} is not this object's namespace {host_namespace}, and the instance is of another namespace, \
             which lets each tenant use its own name only; remove the field"
        );
        FieldError::new("spec.namespace", problem)
    })
}

fn template(
    manifest: &Manifest,
    field: &str,
    component: &str,
    namespace: &str,
    tenancy: Tenancy,
) -> Result<Template, Vec<FieldError>> {
    let object = without_nulls(&manifest.0);
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let empty = Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();

    let mut errors = Vec::new();
    let mut error = |path: &str, problem: String| errors.push(FieldError::new(format!("{field}{path}"), problem));
    if api_version.is_empty() {
        error(".apiVersion", "missing".into());
    }
    if kind.is_empty() {
        error(".kind", "missing".into());
    }
    if metadata.contains_key("generateName") {
        error(
            ".metadata.generateName",
            "not supported; give metadata.name, so that the object is always the same".into(),
        );
    } else if name.is_empty() {
        error(".metadata.name", "missing".into());
    } else if name.len() > 253 || name.contains(['/', '%']) || name == "." || name == ".." {
        error(".metadata.name", "not a name that Kubernetes accepts".into());
    }
    if let Some(other) = metadata.get("namespace").and_then(Value::as_str).filter(|other| *other != namespace) {
        let problem = format!("{other} is not the app's namespace {namespace}; remove it, or set spec.namespace");
        error(".metadata.namespace", problem);
    }
    if let Some(problem) = refused_kind(&api_version, &kind) {
        error(".kind", problem);
    }
    for key in ["ownerReferences", "finalizers"] {
        if metadata.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            error(&format!(".metadata.{key}"), "means nothing outside the cluster it comes from; remove it".into());
        }
    }
    for key in ["labels", "annotations"] {
        match metadata.get(key) {
            None => {}
            Some(Value::Object(map)) => {
                for (name, value) in map {
                    if !value.is_string() {
                        error(&format!(".metadata.{key}[{name}]"), "must be a string; put it in quotes".into());
                    }
                    if is_reserved(name) {
                        error(&format!(".metadata.{key}[{name}]"), "belongs to Airdock or Karmada; remove it".into());
                    }
                }
            }
            Some(_) => error(&format!(".metadata.{key}"), "must be a map of strings".into()),
        }
    }
    if tenancy == Tenancy::CrossNamespace
        && let Some((path, problem)) = escalation(&api_version, &kind, &object, namespace)
    {
        error(path, problem);
    }
    let object = Value::Object(cleaned(object, namespace));
    for (path, called) in workload::duplicates(&object, &api_version, &kind) {
        error(&path, format!("{called} is given twice; keep one of them"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Template { component: component.to_owned(), object, api_version, kind, name })
}

fn check_differences(app: &MultiCloudApp, templates: &[Template], tenancy: Tenancy) -> Vec<FieldError> {
    let weighted = app.spec.placement.replicas.mode == ReplicaMode::Weighted;
    let mut errors = Vec::new();
    for (d, difference) in app.spec.differences.iter().enumerate() {
        let field = format!("spec.differences[{d}]");
        let mut error = |path: String, problem: String| errors.push(FieldError::new(format!("{field}{path}"), problem));
        for component in &difference.components {
            if !app.spec.components.iter().any(|known| known.name == *component) {
                error(".components".into(), format!("there is no component {component}"));
            }
        }
        let meant: Vec<&Template> = templates.iter().filter(|template| template.is_meant_by(difference)).collect();
        let pods = |template: &&&Template| workload::pod_spec(&template.api_version, &template.kind).is_some();
        let counted = |template: &&&Template| workload::has_replicas(&template.api_version, &template.kind);
        let nothing = |what: &str| format!("none of the components has {what}; remove it");
        if difference.image_registry.is_some() && !meant.iter().any(|template| pods(&template)) {
            error(".imageRegistry".into(), nothing("a workload"));
        }
        if !difference.env.is_empty() && !meant.iter().any(|template| pods(&template)) {
            error(".env".into(), nothing("a workload"));
        }
        if difference.replicas.is_some() {
            if weighted {
                let problem = "cannot be set where placement.replicas.mode is Weighted, which divides the replicas";
                error(".replicas".into(), problem.into());
            } else if !meant.iter().any(|template| counted(&template)) {
                error(".replicas".into(), nothing("a workload with replicas"));
            }
        }
        for (p, patch) in difference.patches.iter().enumerate() {
            let objects = meant.iter().filter(|template| template.kind == patch.kind && template.name == patch.name);
            match objects.count() {
                0 => error(
                    format!(".patches[{p}]"),
                    format!("there is no {} {} in the components that it is for", patch.kind, patch.name),
                ),
                1 => {}
                _ => error(format!(".patches[{p}]"), format!("{} {} is not unique", patch.kind, patch.name)),
            }
            // What it would become in a member is not looked at, so it has to stay what was looked at.
            if tenancy == Tenancy::CrossNamespace && patch.kind == "RoleBinding" {
                let problem = "a RoleBinding of a tenant's app is the same in every cluster; use a PermissionBinding";
                error(format!(".patches[{p}].kind"), problem.to_owned());
            }
            for (o, operation) in patch.operations.iter().enumerate() {
                if let Some(problem) = refused_path(&operation.path, operation.value.as_ref(), weighted) {
                    error(format!(".patches[{p}].operations[{o}].path"), format!("{}: {problem}", operation.path));
                }
                let problem = match (operation.op, &operation.value) {
                    (PatchOp::Remove, Some(_)) => "must be absent for remove",
                    (PatchOp::Add | PatchOp::Replace, None) => "missing; add and replace need a value that is not null",
                    _ => continue,
                };
                error(format!(".patches[{p}].operations[{o}].value"), problem.to_owned());
            }
        }
    }
    errors
}

/// A patch must not turn the object into another one, nor take it out of Airdock's hands.
fn refused_path(path: &str, value: Option<&Value>, weighted: bool) -> Option<&'static str> {
    let below = |list: &str| path.strip_prefix(list).map(|key| key.replace("~1", "/").replace("~0", "~"));
    let key = below("/metadata/labels/").or_else(|| below("/metadata/annotations/"));
    // Finalizers and owners too: an object that cannot go, or that goes with another, is out of Airdock's hands.
    let of_metadata = path == "/metadata" || path.starts_with("/metadata/");
    // The whole map is how one adds an annotation where there is none.
    let annotations = value.filter(|_| path == "/metadata/annotations").and_then(Value::as_object);
    if annotations.is_some_and(|map| map.keys().any(|key| is_reserved(key))) {
        return Some("belongs to Airdock or Karmada");
    }
    let whole = key.is_none() && annotations.is_none();
    if ["", "/apiVersion", "/kind"].contains(&path) || (of_metadata && whole) {
        return Some("would make it another object; change single labels, annotations or what is below spec");
    }
    if key.is_some_and(|key| is_reserved(&key) || key == MANAGED_BY_LABEL) {
        return Some("belongs to Airdock or Karmada");
    }
    (weighted && path == "/spec/replicas").then_some("is divided by placement.replicas.mode Weighted")
}

/// What users paste from `kubectl get -o yaml` but only the server may set.
fn cleaned(mut object: Map<String, Value>, namespace: &str) -> Map<String, Value> {
    object.remove("status");
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "labels" | "annotations"));
        metadata.insert("namespace".into(), json!(namespace));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    object
}

/// Adds labels to an object.
pub(super) fn label<'a>(object: &mut Value, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let entry = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Some(map) = entry.as_object_mut() {
        map.extend(labels.into_iter().map(|(key, value)| (key.to_owned(), json!(value))));
    }
}

/// A field that is null is a field that is absent.
fn without_nulls(map: &Map<String, Value>) -> Map<String, Value> {
    fn strip(value: &Value) -> Value {
        match value {
            Value::Object(map) => Value::Object(without_nulls(map)),
            Value::Array(list) => list.iter().map(strip).collect(),
            other => other.clone(),
        }
    }
    map.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), strip(value))).collect()
}

#[cfg(test)]
mod tests;

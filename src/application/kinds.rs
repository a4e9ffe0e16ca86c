//! Which kinds an app may hold. Pure.

use serde_json::{Map, Value};

use crate::karmada::CONFLICT_RESOLUTION_ANNOTATION;
use crate::machinery::names;

use super::model::{Application, FieldError, Served};

/// Why a kind cannot be part of an app, from its name alone.
pub(super) fn refused_kind(api_version: &str, kind: &str) -> Option<String> {
    let group = names::group(api_version);
    if group == "airdock.dev" || group == "karmada.io" || group.ends_with(".karmada.io") {
        return Some(format!("{kind} of {group} steers the fleet itself and cannot be part of an app"));
    }
    if is_cluster_scoped(group, kind) {
        return Some(cluster_scoped(kind));
    }
    match (group, kind) {
        ("", "List") => Some("a List is not an object; give its items one by one".into()),
        ("", "Event" | "Binding" | "Endpoints" | "PodTemplate")
        | ("events.k8s.io" | "authentication.k8s.io" | "authorization.k8s.io" | "metrics.k8s.io", _)
        | ("apps", "ControllerRevision") => {
            Some(format!("{kind} is made by the clusters themselves and cannot be part of an app"))
        }
        _ => None,
    }
}

fn cluster_scoped(kind: &str) -> String {
    format!("{kind} is cluster-scoped; an app holds namespaced objects only")
}

/// Kubernetes' own cluster-scoped kinds, for a plan without a cluster; with one, discovery decides.
fn is_cluster_scoped(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(kind, "Namespace" | "Node" | "PersistentVolume" | "ComponentStatus"),
        "rbac.authorization.k8s.io" => matches!(kind, "ClusterRole" | "ClusterRoleBinding"),
        "apiextensions.k8s.io"
        | "apiregistration.k8s.io"
        | "admissionregistration.k8s.io"
        | "certificates.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "node.k8s.io"
        | "scheduling.k8s.io" => true,
        "storage.k8s.io" => kind != "CSIStorageCapacity",
        "networking.k8s.io" => matches!(kind, "IngressClass" | "IPAddress" | "ServiceCIDR"),
        _ => false,
    }
}

/// Whether a label or annotation is one by which Airdock or Karmada steer.
pub(super) fn is_reserved(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let of = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let allowed = key == CONFLICT_RESOLUTION_ANNOTATION || key == "resourcetemplate.karmada.io/deletion-protected";
    (of("airdock.dev") || of("karmada.io")) && !allowed
}

/// A tenant's app is applied with Airdock's rights, so it must not hand out rights that the tenant may not have.
pub(super) fn escalation(
    api_version: &str,
    kind: &str,
    object: &Map<String, Value>,
    namespace: &str,
) -> Option<(&'static str, String)> {
    if !api_version.starts_with("rbac.authorization.k8s.io/") || kind != "RoleBinding" {
        return None;
    }
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if object.get("roleRef").is_none_or(|role| text(role, "kind") != "Role") {
        return Some((".roleRef", "only Roles of the app's namespace; use a PermissionBinding for others".into()));
    }
    let own = |subject: &Value| {
        text(subject, "kind") == "ServiceAccount" && ["", namespace].contains(&text(subject, "namespace").as_str())
    };
    let subjects = object.get("subjects").and_then(Value::as_array);
    (!subjects.is_none_or(|subjects| subjects.iter().all(own))).then(|| {
        let problem = "only service accounts of the app's namespace; use a PermissionBinding for people";
        (".subjects", problem.to_owned())
    })
}

/// Checks the kinds of an app against what the plane serves.
///
/// # Errors
/// The first kind that is cluster-scoped after all.
pub fn check_served(application: &Application, served: &Served) -> Result<(), FieldError> {
    for template in &application.templates {
        let known = served.get(&(template.api_version.clone(), template.kind.clone()));
        if known == Some(&Some(false)) {
            return Err(FieldError::new(format!("spec.components ({template})"), cluster_scoped(&template.kind)));
        }
    }
    Ok(())
}

/// The first kind of an app that the plane does not serve, as (API version, kind).
#[must_use]
pub fn missing_kind<'a>(application: &'a Application, served: &Served) -> Option<(&'a str, &'a str)> {
    application.templates.iter().find_map(|template| {
        let known = served.get(&(template.api_version.clone(), template.kind.clone()));
        (known == Some(&None)).then_some((template.api_version.as_str(), template.kind.as_str()))
    })
}

//! Who may have something in an instance's plane, and so has to be gone before it. Pure.
//!
//! Anybody may write an object with any finalizer and any reference. What counts is in the instance's own namespace, or in
//! one that it lets in; or in one that it did let in, which its status remembers for as long as something is held there.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use crate::api::common::InstanceRef;
use crate::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};
use crate::runtime::finalizer::{self, HasFinalizer};
use crate::runtime::guarded::Guarded;
use crate::runtime::planes::InstanceKey;

use super::ownership::key;

/// A kind whose objects write into the planes of instances that they refer to.
pub trait InstanceUser: HasFinalizer {
    /// Whether an object refers to an instance.
    fn refers_to(&self, instance: &InstanceKey) -> bool;
}

impl InstanceUser for MemberClusterJoin {
    fn refers_to(&self, instance: &InstanceKey) -> bool {
        is_meant(&self.spec.instance_ref, self.namespace(), instance)
    }
}

impl InstanceUser for MultiCloudApp {
    fn refers_to(&self, instance: &InstanceKey) -> bool {
        is_meant(&self.spec.instance_ref, self.namespace(), instance)
    }
}

impl InstanceUser for PermissionBinding {
    /// One that selects instances by label, or all of them, loses one and goes on.
    fn refers_to(&self, instance: &InstanceKey) -> bool {
        let selection = &self.spec.scope.instances;
        let namespace = selection.namespace.clone().or_else(|| self.namespace());
        namespace.as_ref() == Some(&instance.namespace) && selection.names.contains(&instance.name)
    }
}

fn is_meant(reference: &InstanceRef, namespace: Option<String>, instance: &InstanceKey) -> bool {
    InstanceKey::of(reference, &namespace.unwrap_or_default()) == *instance
}

/// Whether an object may have written something: it refers to the instance and bears the finalizer. One of which that is not
/// known may refer to any.
fn may_have_written<K: InstanceUser>(object: &Guarded<K>, instance: &InstanceKey) -> bool {
    object.finalizers().iter().any(|held| held == K::FINALIZER)
        && finalizer::known(object).is_none_or(|object| object.refers_to(instance))
}

/// Whether the objects of a namespace may use the instance, or were allowed to when they wrote what is still there.
fn was_let_in(instance: &KarmadaInstance, namespace: &str) -> bool {
    let mut tenants = instance.status.iter().flat_map(|status| &status.tenants);
    instance.admits(namespace) || tenants.any(|tenant| tenant == namespace)
}

/// The objects of a kind that the instance has to outlive, as kind, namespace and name.
#[must_use]
pub fn users<K: InstanceUser>(instance: &KarmadaInstance, objects: &[Guarded<K>]) -> Vec<String> {
    let (kind, key) = (K::kind(&()), key(instance));
    let users = objects.iter().filter(|object| {
        let namespace = object.namespace().unwrap_or_default();
        was_let_in(instance, &namespace) && may_have_written(object, &key)
    });
    users.map(|user| format!("{kind} {}/{}", user.namespace().unwrap_or_default(), user.name_any())).collect()
}

/// Adds the namespaces in which objects of a kind may have written something into the instance's plane.
pub fn add_namespaces<'a, K: InstanceUser + 'a>(
    into: &mut BTreeSet<String>,
    instance: &KarmadaInstance,
    objects: impl IntoIterator<Item = &'a Guarded<K>>,
) {
    let key = key(instance);
    let users = objects.into_iter().filter(|object| may_have_written(object, &key));
    into.extend(users.filter_map(|user| user.namespace()));
}

/// The other namespaces that are let in, before anything of theirs is written, and those that were and still hold something:
/// `holding` are all that may.
#[must_use]
pub fn tenants(instance: &KarmadaInstance, holding: &BTreeSet<String>) -> Vec<String> {
    let known = instance.status.iter().flat_map(|status| &status.tenants);
    let all: BTreeSet<&String> = known
        .filter(|tenant| holding.contains(*tenant))
        .chain(&instance.spec.tenancy.allowed_namespaces)
        .filter(|tenant| Some(*tenant) != instance.metadata.namespace.as_ref())
        .collect();
    all.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::{app, member, permission};
    use serde_json::{Value, json};

    fn instance(allowed: &[&str], tenants: &[&str]) -> KarmadaInstance {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
            "metadata": {"name": "east", "namespace": "fleet"},
            "spec": {"tenancy": {"allowedNamespaces": allowed}},
            "status": {"tenants": tenants},
        }))
        .unwrap()
    }

    fn app(namespace: &str, finalizer: &str, reference: Value) -> Guarded<MultiCloudApp> {
        let app = json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
            "metadata": {"name": "web", "namespace": namespace, "finalizers": [finalizer]},
            "spec": {"instanceRef": reference, "components": []},
        });
        Guarded::of_json(&app.to_string())
    }

    #[test]
    fn only_who_was_let_in_keeps_an_instance() {
        let east = || json!({"name": "east", "namespace": "fleet"});
        let held = app::FINALIZER;
        let unreadable = |reference: Value| {
            let spec = json!({"instanceRef": reference, "components": [], "suspend": "Sometimes"});
            let metadata = json!({"name": "web", "namespace": "fleet", "finalizers": [held]});
            Guarded::of_json(&json!({"metadata": metadata, "spec": spec}).to_string())
        };
        for (name, instance, app, counts) in [
            ("of its own namespace", instance(&[], &[]), app("fleet", held, json!({"name": "east"})), true),
            ("that wrote nothing", instance(&[], &[]), app("fleet", "other/finalizer", east()), false),
            ("of another instance", instance(&[], &[]), app("fleet", held, json!({"name": "west"})), false),
            ("of a tenant", instance(&["shop"], &[]), app("shop", held, east()), true),
            ("of a former tenant", instance(&[], &["shop"]), app("shop", held, east()), true),
            ("of a namespace that is not allowed", instance(&["shop"], &["shop"]), app("rival", held, east()), false),
            ("that does not parse", instance(&["shop"], &[]), app("shop", held, json!(7)), true),
            ("of another instance, too new to be read", instance(&[], &[]), unreadable(json!({"name": "west"})), false),
            ("too new to be read", instance(&[], &[]), unreadable(json!({"name": "east"})), true),
            (
                "of a namespace that is not allowed, that does not parse",
                instance(&["shop"], &[]),
                app("rival", held, json!(7)),
                false,
            ),
        ] {
            assert_eq!(!users(&instance, &[app]).is_empty(), counts, "an application {name}");
        }
    }

    #[test]
    fn memberships_and_permissions_count_like_applications() {
        let (instance, spec) = (instance(&["shop"], &[]), json!({"name": "east", "namespace": "fleet"}));
        let object = |namespace: &str, finalizer: &str, spec: &Value| {
            json!({"metadata": {"name": "x", "namespace": namespace, "finalizers": [finalizer]}, "spec": spec})
                .to_string()
        };
        let join = json!({"instanceRef": spec, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"}});
        let scope = json!({"instances": {"names": ["east"], "namespace": "fleet"}, "namespaces": ["a"]});
        let permission = json!({"role": "Viewer", "subjects": [{"kind": "User", "name": "u"}], "scope": scope});
        for (namespace, counts) in [("shop", 1), ("rival", 0)] {
            let join: Guarded<MemberClusterJoin> = Guarded::of_json(&object(namespace, member::FINALIZER, &join));
            let permission: Guarded<PermissionBinding> =
                Guarded::of_json(&object(namespace, permission::FINALIZER, &permission));
            assert!(join.0.is_ok() && permission.0.is_ok(), "{join:?} {permission:?}");
            assert_eq!(users(&instance, &[join]).len(), counts, "a membership of {namespace}");
            assert_eq!(users(&instance, &[permission]).len(), counts, "a permission of {namespace}");
        }
    }

    #[test]
    fn a_tenant_is_remembered_while_it_holds_something() {
        let holding = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        for (name, instance, held, want) in [
            ("let in, and nothing there yet", instance(&["shop"], &[]), holding(&[]), vec!["shop"]),
            ("not let in any more", instance(&[], &["shop"]), holding(&["shop"]), vec!["shop"]),
            ("not let in, and all is gone", instance(&[], &["shop"]), holding(&["other"]), vec![]),
            ("never let in", instance(&["shop"], &[]), holding(&["rival", "shop"]), vec!["shop"]),
            ("itself", instance(&["fleet", "team"], &["fleet"]), holding(&["fleet"]), vec!["team"]),
        ] {
            assert_eq!(tenants(&instance, &held), want, "{name}");
        }
        let mut held = BTreeSet::new();
        let apps =
            [app("shop", app::FINALIZER, json!({"name": "east", "namespace": "fleet"})), app("b", "x", json!(1))];
        add_namespaces(&mut held, &instance(&[], &[]), &apps);
        assert_eq!(held, holding(&["shop"]));
    }
}

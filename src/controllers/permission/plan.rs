//! What a permission wants to exist in one plane, and how that differs from what is there. Pure.
//!
//! The plane's own machinery carries the bindings on into the members, and repairs them there: a propagation policy
//! selects them by name. The role is part of every name, since a binding's role cannot be changed; another role
//! means other objects, and the old ones are pruned.

mod objects;

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use self::objects::{cluster_binding, cluster_policy, policy, proxy_role, role_binding};
pub use self::objects::{cluster_role, kinds, labels, object_name, selector};
use super::validate::EVERYWHERE;
use crate::api::instance::Profile;
use crate::api::permission::PermissionBinding;
use crate::application::affinity::selects;
use crate::application::selectors::{UnmatchedSelector, unmatched_in};
use crate::controllers::stamp::stamped;
use crate::karmada::Cluster;
use crate::karmada::names::binding_name;

/// Name of the plane's ResourceBinding or ClusterResourceBinding of an object of this kind that was made for the binding.
#[must_use]
pub fn resource_binding_name<K: Resource<DynamicType = ()>>(binding: &PermissionBinding) -> String {
    binding_name(&K::kind(&()), &object_name(binding))
}

/// An object that is wanted in a plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its kind.
    pub resource: ApiResource,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// All of it.
    pub value: Value,
}

impl Wanted {
    fn of<K: Resource<DynamicType = ()> + Serialize>(object: K) -> Result<Self, serde_json::Error> {
        let (namespace, name) = (object.meta().namespace.clone(), object.name_any());
        let value = serde_json::to_value(stamped(object))?;
        Ok(Self { resource: ApiResource::erase::<K>(&()), namespace, name, value })
    }
}

/// Everything that is wanted in one plane, in the order in which it is written: policies before the bindings that they
/// claim, so that no other policy does.
pub fn wanted(
    binding: &PermissionBinding,
    profile: Profile,
    clusters: &[Cluster],
) -> Result<Vec<Wanted>, serde_json::Error> {
    let scope = &binding.spec.scope;
    let mut objects = Vec::new();
    let propagated = !scope.clusters.none;
    if everywhere(binding) {
        if propagated {
            objects.push(Wanted::of(cluster_policy(binding))?);
        }
        objects.push(Wanted::of(cluster_binding(binding, object_name(binding), cluster_role(binding.spec.role)))?);
    } else {
        for namespace in namespaces(binding) {
            if propagated {
                objects.push(Wanted::of(policy(binding, &namespace))?);
            }
            objects.push(Wanted::of(role_binding(binding, &namespace))?);
        }
    }
    if profile == Profile::Full && propagated {
        let names = matched(binding, clusters);
        // Without names, the rule would mean every cluster.
        if !names.is_empty() {
            let role = proxy_role(binding, names);
            let name = role.name_any();
            objects.push(Wanted::of(role)?);
            objects.push(Wanted::of(cluster_binding(binding, name.clone(), &name))?);
        }
    }
    Ok(objects)
}

/// Whether the role holds in every namespace.
#[must_use]
pub fn everywhere(binding: &PermissionBinding) -> bool {
    binding.spec.scope.namespaces.iter().any(|namespace| namespace == EVERYWHERE)
}

/// The namespaces, each once. None, where it is all of them.
#[must_use]
pub fn namespaces(binding: &PermissionBinding) -> Vec<String> {
    let mut all: Vec<String> =
        binding.spec.scope.namespaces.iter().filter(|namespace| *namespace != EVERYWHERE).cloned().collect();
    all.sort();
    all.dedup();
    all
}

/// Names of the clusters that the role is to hold in.
#[must_use]
pub fn matched(binding: &PermissionBinding, clusters: &[Cluster]) -> Vec<String> {
    let scope = &binding.spec.scope.clusters;
    if scope.none {
        return Vec::new();
    }
    let mut names: Vec<String> = clusters
        .iter()
        .filter(|cluster| cluster.metadata.deletion_timestamp.is_none() && selects(&scope.matches, cluster))
        .map(ResourceExt::name_any)
        .collect();
    names.sort();
    names
}

/// Entries of the scope that select none of a plane's clusters.
#[must_use]
pub fn unmatched(binding: &PermissionBinding, clusters: &[Cluster]) -> Vec<UnmatchedSelector> {
    let scope = &binding.spec.scope.clusters;
    if scope.none { Vec::new() } else { unmatched_in("spec.scope.clusters", &scope.matches, clusters) }
}

/// What is to be done in one plane.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// To be applied, each over what is there.
    pub apply: Vec<(Wanted, Option<DynamicObject>)>,
    /// To be deleted before it is made again, since what differs cannot be changed.
    pub replace: Vec<(ApiResource, DynamicObject)>,
    /// To be deleted.
    pub prune: Vec<(ApiResource, DynamicObject)>,
}

/// Compares what is wanted with everything that the plane holds for the binding.
#[must_use]
pub fn plan(wanted: Vec<Wanted>, live: Vec<(ApiResource, DynamicObject)>) -> Plan {
    let mut plan = Plan::default();
    let mut rest = live;
    for wanted in wanted {
        let found = rest.iter().position(|(resource, object)| {
            resource.kind == wanted.resource.kind
                && object.metadata.namespace == wanted.namespace
                && object.name_any() == wanted.name
        });
        match found.map(|index| rest.swap_remove(index)) {
            Some((resource, object)) if object.data.get("roleRef") != wanted.value.get("roleRef") => {
                plan.replace.push((resource, object));
                plan.apply.push((wanted, None));
            }
            found => plan.apply.push((wanted, found.map(|(_, object)| object))),
        }
    }
    let order = |resource: &ApiResource| kinds().iter().position(|kind| kind.kind == resource.kind);
    rest.sort_by_key(|(resource, object)| (order(resource), object.metadata.namespace.clone(), object.name_any()));
    plan.prune = rest;
    plan
}

#[cfg(test)]
mod tests {
    use super::objects::RBAC;
    use super::*;
    use crate::api::PERMISSION_LABEL;
    use kube::core::TypeMeta;
    use serde_json::json;

    fn binding(change: Value) -> PermissionBinding {
        let mut spec = json!({
            "subjects": [{"kind": "User", "name": "alice"}, {"kind": "ServiceAccount", "name": "bot", "namespace": "ci"}],
            "role": "Editor", "scope": {"namespaces": ["b", "a", "b"], "clusters": {"regions": ["eu"]}},
        });
        for (key, given) in change.as_object().unwrap() {
            spec[key] = given.clone();
        }
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "PermissionBinding",
            "metadata": {"namespace": "team", "name": "devs"}, "spec": spec,
        }))
        .unwrap()
    }

    fn cluster(name: &str, region: &str) -> Cluster {
        serde_json::from_value(json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
            "spec": {"syncMode": "Push", "region": region},
        }))
        .unwrap()
    }

    fn kinds_of(wanted: &[Wanted]) -> Vec<String> {
        wanted
            .iter()
            .map(|w| w.namespace.as_ref().map_or(w.resource.kind.clone(), |ns| format!("{} {ns}", w.resource.kind)))
            .collect()
    }

    #[test]
    fn a_role_becomes_bindings_and_the_policies_that_carry_them() {
        let clusters = [cluster("eu-1", "eu"), cluster("us-1", "us")];
        let cases = [
            (
                "namespaces on Compact",
                json!({}),
                Profile::Compact,
                vec!["PropagationPolicy a", "RoleBinding a", "PropagationPolicy b", "RoleBinding b"],
            ),
            (
                "namespaces on Full",
                json!({"scope": {"namespaces": ["a"], "clusters": {"regions": ["eu"]}}}),
                Profile::Full,
                vec!["PropagationPolicy a", "RoleBinding a", "ClusterRole", "ClusterRoleBinding"],
            ),
            (
                "everywhere",
                json!({"scope": {"namespaces": ["*"]}}),
                Profile::Compact,
                vec!["ClusterPropagationPolicy", "ClusterRoleBinding"],
            ),
            (
                "planes alone",
                json!({"scope": {"namespaces": ["a"], "clusters": {"none": true}}}),
                Profile::Full,
                vec!["RoleBinding a"],
            ),
            (
                "no cluster matches: no proxy to all of them",
                json!({"scope": {"namespaces": ["a"], "clusters": {"regions": ["mars"]}}}),
                Profile::Full,
                vec!["PropagationPolicy a", "RoleBinding a"],
            ),
        ];
        for (name, change, profile, want) in cases {
            assert_eq!(kinds_of(&wanted(&binding(change), profile, &clusters).unwrap()), want, "{name}");
        }
    }

    #[test]
    fn bindings_name_role_and_subjects() {
        let binding = binding(json!({}));
        let objects = wanted(&binding, Profile::Compact, &[]).unwrap();
        assert_eq!(objects[1].value["roleRef"], json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": "edit"}));
        assert_eq!(
            objects[1].value["subjects"],
            json!([{"apiGroup": RBAC, "kind": "User", "name": "alice"}, {"kind": "ServiceAccount", "name": "bot", "namespace": "ci"}])
        );
        assert_eq!(objects[1].value["metadata"]["labels"][PERMISSION_LABEL], "devs");
        let policy = &objects[0].value["spec"];
        assert_eq!(policy["resourceSelectors"][0]["name"], objects[1].name.as_str());
        assert_eq!(policy["resourceSelectors"][0]["namespace"], "a");
        assert_eq!(
            policy["placement"]["clusterAffinity"],
            json!({"fieldSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["eu"]}]}})
        );
    }

    #[test]
    fn the_proxy_is_for_the_matched_clusters_only() {
        let clusters = [cluster("eu-2", "eu"), cluster("eu-1", "eu"), cluster("us-1", "us")];
        let verbs = |role: &str| {
            let objects = wanted(&binding(json!({"role": role})), Profile::Full, &clusters).unwrap();
            let role = objects.iter().find(|w| w.resource.kind == "ClusterRole").unwrap();
            assert_eq!(role.value["rules"][0]["resourceNames"], json!(["eu-1", "eu-2"]));
            assert_eq!(role.value["rules"][0]["resources"], json!(["clusters/proxy"]));
            role.value["rules"][0]["verbs"].clone()
        };
        assert_eq!(verbs("Viewer"), json!(["get"]));
        assert_eq!(verbs("Admin"), json!(["get", "create", "update", "patch", "delete"]));
    }

    #[test]
    fn names_are_short_distinct_and_carry_the_role() {
        let mut long = binding(json!({}));
        long.metadata.name = Some(format!("{}.x", "n".repeat(39)));
        let name = object_name(&long);
        assert!(name.len() <= 63 && name.contains("-edit-"), "{name}");
        assert_ne!(object_name(&binding(json!({"role": "Viewer"}))), object_name(&binding(json!({"role": "Admin"}))));
        let mut namesake = binding(json!({}));
        namesake.metadata.namespace = Some("other".into());
        assert_ne!(object_name(&namesake), object_name(&binding(json!({}))));
    }

    fn live(wanted: &Wanted, change: impl FnOnce(&mut Value)) -> (ApiResource, DynamicObject) {
        let mut value = wanted.value.clone();
        value["metadata"]["uid"] = json!("u");
        change(&mut value);
        let mut object: DynamicObject = serde_json::from_value(value).unwrap();
        object.types =
            Some(TypeMeta { api_version: wanted.resource.api_version.clone(), kind: wanted.resource.kind.clone() });
        (wanted.resource.clone(), object)
    }

    #[test]
    fn what_is_not_wanted_goes_and_what_cannot_change_is_replaced() {
        let old = wanted(&binding(json!({"role": "Viewer"})), Profile::Compact, &[]).unwrap();
        let new = wanted(&binding(json!({"role": "Editor"})), Profile::Compact, &[]).unwrap();
        let there: Vec<_> = old.iter().map(|w| live(w, |_| {})).collect();
        let after = plan(new.clone(), there);
        assert_eq!((after.apply.len(), after.replace.len()), (4, 0));
        let pruned: Vec<_> = after.prune.iter().map(|(resource, _)| resource.kind.as_str()).collect();
        assert_eq!(pruned, ["RoleBinding", "RoleBinding", "PropagationPolicy", "PropagationPolicy"], "bindings first");

        let unchanged = plan(new.clone(), new.iter().map(|w| live(w, |_| {})).collect());
        assert!(unchanged.prune.is_empty() && unchanged.replace.is_empty());
        assert!(unchanged.apply.iter().all(|(_, live)| live.is_some()));

        let tampered =
            plan(new.clone(), vec![live(&new[1], |value| value["roleRef"]["name"] = json!("cluster-admin"))]);
        assert_eq!(tampered.replace.len(), 1);
        assert!(tampered.apply.iter().all(|(_, live)| live.is_none()));
        assert!(plan(Vec::new(), vec![live(&new[1], |_| {})]).prune.len() == 1);
    }
}

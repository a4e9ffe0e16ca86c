use serde_json::{Value, from_value, json};

use super::super::claim_metadata::ClaimMetadata;
use super::super::desired::{Adoption, DesiredState, check_adoption, desired_state, holds, is_preserved, update_of};
use super::super::key::KindKey;
use super::super::marks::ADOPTED_ANNOTATION;
use super::super::model::binding::Owners;
use super::super::model::{BINDING_FINALIZER, Binding, LiveObject, Template};
use super::super::schedule::{Step, plan};
use super::*;
use crate::placement;

mod adoption;
mod claims;
mod lifecycle;
mod removal;
mod requeues;
mod versions;

const PLANE: &str = "plane-uid";

fn key(name: &str) -> Key {
    Arc::new(ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some("shop".into()), name: name.into() })
}

fn cluster(name: &str, ready: &str) -> Cluster {
    from_value(json!({"apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
        "spec": {"syncMode": "Push"}, "status": {"kubernetesVersion": "v1.36.3", "conditions": [{"type": "Ready", "status": ready, "reason": "R",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
    .unwrap()
}

fn at_version(mut cluster: Cluster, version: u64) -> Cluster {
    cluster.metadata.resource_version = Some(version.to_string());
    cluster
}

fn template(name: &str, uid: &str, version: &str) -> Template {
    Template::of(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": version},
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": version}}))
}

/// The template with another label, other finalizers or on its way out.
fn changed(metadata: &Value, data: &str) -> Template {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": data},
        "metadata": {"name": "x", "namespace": "shop", "uid": "t", "resourceVersion": "1"}});
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    Template::of(object)
}

fn deleted_with(finalizer: &str) -> Template {
    changed(&json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]}), "1")
}

fn policy(spec: Value) -> PropagationSpec {
    let mut all = json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap"}]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    from_value(all).unwrap()
}

fn live(uid: &str, version: &str, plane: &str) -> LiveObject {
    LiveObject::of(marked("x", uid, version, plane))
}

/// An object in a member as a plane leaves it that has the ConfigMap `x`.
fn marked(name: &str, uid: &str, version: &str, plane: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": version, "annotations": {
            "airdock.dev/plane": plane, "resourcetemplate.karmada.io/uid": "t",
            "resourcebinding.karmada.io/namespace": "shop", "resourcebinding.karmada.io/name": "x-configmap"}}})
}

/// An object in a member as another Karmada leaves it.
fn unmarked(template: &str) -> LiveObject {
    LiveObject::of(json!({"metadata": {"name": "x", "uid": "l", "resourceVersion": "1",
        "labels": {"karmada.io/managed": "true"}, "annotations": {"resourcetemplate.karmada.io/uid": template,
            "resourcebinding.karmada.io/namespace": "shop", "resourcebinding.karmada.io/name": "x-configmap"}}}))
}

fn name(text: &str) -> ClusterName {
    ClusterName::from(text)
}

/// Carries out what a plan says, as the plane would.
fn carry_out(index: &mut Index, key: &Key, version: u64) -> Step {
    let inputs = index.schedule_inputs(key);
    let plan = plan(&inputs);
    if plan.wanted.is_some() || plan.not_scheduled.is_some() {
        index.decided(
            key,
            inputs.template.as_deref().map(Template::content),
            plan.wanted,
            plan.not_scheduled.clone(),
            Duration::ZERO,
        );
        index.claim_decided(key, plan.claim.as_ref().map(ClaimMetadata::fingerprint));
    }
    let mut object = match &plan.step {
        Step::Nothing => return plan.step,
        Step::Create(body) => {
            let mut body = body.clone();
            body["metadata"]["uid"] = json!(format!("binding-{version}"));
            body
        }
        Step::Delete { .. } => {
            let mut binding = index.binding(key).unwrap().clone();
            binding.deleting = true;
            binding.version = version;
            index.put_binding(key.clone(), binding, false);
            return plan.step;
        }
        Step::Change { operations, .. } => {
            let other = inputs.bound_otherwise.as_ref().map(|other| &*other.binding);
            let binding = index.binding(key).or(other).unwrap();
            let mut object = json!({"metadata": {"uid": binding.uid.as_str(), "finalizers": *binding.finalizers, "annotations": *binding.annotations,
                "labels": *binding.labels, "ownerReferences": binding.owner_references()}, "spec": *binding.spec, "status": binding.status});
            if binding.deleting {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            json_patch::patch(&mut object, &from_value::<Vec<_>>(json!(operations)).unwrap()).unwrap();
            object
        }
    };
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    let binding = Binding::of(object).unwrap();
    if binding.deleting && binding.finalizers.is_empty() {
        let uid = binding.uid.clone();
        index.remove_binding(key, Some((uid, version)));
    } else {
        index.put_binding(key.clone(), binding, false);
    }
    plan.step
}

/// A plane with three members, all known, and one ConfigMap that goes to all of them.
fn converged() -> (Index, Key) {
    let mut index = Index::of(PLANE.into());
    let key = key("x");
    for cluster_name in ["a", "b", "c"] {
        index.put_cluster(cluster(cluster_name, "True"), false);
        index.set_reachable(&name(cluster_name), true);
        index.member_synced(&name(cluster_name), &key.kind);
        index.member_synced(&name(cluster_name), &KindKey::new("v1", "Namespace"));
    }
    index.set_policy((Some("shop".into()), "p".into()), Some(policy(json!({}))));
    index.put_template(key.clone(), template("x", "t", "1"), false);
    index.kind_synced(&key.kind);
    assert!(matches!(carry_out(&mut index, &key, 10), Step::Create(_)));
    (index, key)
}

#[test]
fn a_binding_is_made_once() {
    let (mut index, key) = converged();
    let binding = index.binding(&key).unwrap();
    assert_eq!(*binding.finalizers, [BINDING_FINALIZER]);
    assert_eq!(binding.inventory().count(), 3);
    assert!(matches!(carry_out(&mut index, &key, 11), Step::Nothing), "a converged template costs nothing");
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
}

#[test]
fn what_is_not_known_is_not_touched() {
    let mut index = Index::of(PLANE.into());
    let (mut full, key) = converged();
    let binding = full.binding(&key).unwrap().clone();
    for name in ["a", "b", "c"] {
        index.put_cluster(cluster(name, "True"), false);
    }
    index.put_binding(key.clone(), binding, false);
    // The binding is known, its template is not yet: neither is a reason to delete the other.
    assert!(matches!(plan(&index.schedule_inputs(&key)).step, Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Keep));
    index.kind_synced(&key.kind);
    assert!(matches!(plan(&index.schedule_inputs(&key)).step, Step::Delete { .. }));
    // A template that nothing was decided about is left alone too.
    full.decisions.clear();
    assert!(matches!(desired_state(&full, &name("a"), &key), DesiredState::Keep));
}

#[test]
fn late_answers_do_not_bring_back_what_is_gone() {
    let (mut index, key) = converged();
    // The answer to a status write arrives after the template is gone.
    index.remove_template(&key, Some(("t".into(), 50)));
    index.put_template(key.clone(), template("x", "t", "49"), false);
    assert!(index.template(&key).is_none());
    // Another one of its name is not meant, and late events of the first do not end the second.
    index.put_template(key.clone(), template("x", "t2", "51"), false);
    index.remove_template(&key, Some(("t".into(), 50)));
    assert_eq!(index.template(&key).unwrap().uid.as_str(), "t2");
    // An object that lost its label is back when the label is: the same uid, a later version.
    let a = name("a");
    index.put_live(&a, &key, live("l", "5", PLANE), false);
    index.remove_live(&a, &key, Some(("l".into(), 6)));
    index.applied(&a, &key, live("l", "5", PLANE), 1);
    assert!(!index.member(&a).unwrap().live.contains_key(&key));
    index.put_live(&a, &key, live("l", "7", PLANE), false);
    assert!(index.member(&a).unwrap().live.contains_key(&key));
}

#[test]
fn old_versions_do_not_undo_what_is_known() {
    let (mut index, key) = converged();
    index.put_template(key.clone(), template("x", "t", "9"), false);
    assert_eq!(index.put_template(key.clone(), template("x", "t", "8"), false), Requeues::default());
    assert_eq!(index.template(&key).unwrap().version, 9);
    // A list is the truth even so: the plane may have been restored from a backup.
    index.put_template(key.clone(), template("x", "t", "8"), true);
    assert_eq!(index.template(&key).unwrap().version, 8);
}

#[test]
fn heartbeats_have_no_effects() {
    let (mut index, _) = converged();
    let requeues = index.put_cluster(at_version(cluster("a", "True"), 2), false);
    assert!(requeues.schedule.is_empty() && requeues.dispatch.is_empty());
    assert_eq!(requeues.clusters, [name("a")]);
}

#[test]
fn a_late_answer_undoes_nothing_of_a_cluster() {
    let (mut index, _) = converged();
    let a = name("a");
    let mut leaving = at_version(cluster("a", "True"), 5);
    leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    index.put_cluster(leaving, false);
    for version in [4, 5] {
        assert_eq!(index.put_cluster(at_version(cluster("a", "True"), version), false), Requeues::default());
        assert!(index.views[&a].leaving, "it stays again");
    }
    // Events of one that had the name before do not concern this one.
    assert_eq!(index.remove_cluster(&name("a"), Some(("before".into(), 9))), Requeues::default());
    assert!(!index.remove_cluster(&name("a"), Some(("a".into(), 6))).schedule.is_empty());
    index.put_cluster(at_version(cluster("a", "True"), 5), false);
    assert!(!index.views.contains_key(&a), "it is back");
    let mut other = at_version(cluster("a", "True"), 3);
    other.metadata.uid = Some("other".into());
    index.put_cluster(other, false);
    assert!(index.views.contains_key(&a));
    index.put_cluster(at_version(cluster("b", "True"), 9), false);
    index.put_cluster(at_version(cluster("b", "False"), 2), true);
    assert!(!index.clusters["b"].status.as_ref().unwrap().conditions.iter().any(|c| c.status == "True"), "restored");
}

#[test]
fn namespaces() {
    let (mut index, _) = converged();
    let namespace =
        |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels, "resourceVersion": "1"}});
    let a = name("a");
    let of = |index: &Index, name: &str| desired_state(index, &a, &ObjectKey::of_namespace(name));
    for (name, labels, goes) in [
        ("shop", json!({}), true),
        ("default", json!({}), false),
        ("kube-system", json!({}), false),
        ("karmada-cluster", json!({}), false),
        ("kept", json!({"namespace.karmada.io/skip-auto-propagation": "True"}), false),
    ] {
        index.put_namespace(namespace(name, labels));
        assert_eq!(matches!(of(&index, name), DesiredState::Apply(_)), goes, "{name}");
        assert!(goes || matches!(of(&index, name), DesiredState::Keep), "{name}");
    }
    index.remove_namespace("shop");
    assert!(matches!(of(&index, "shop"), DesiredState::Remove { .. }));
}

#[test]
fn a_cluster_that_leaves_is_cleaned_first() {
    let (mut index, key) = converged();
    let a = name("a");
    index.put_live(&a, &key, live("l", "5", PLANE), false);
    let mut leaving = at_version(cluster("a", "True"), 2);
    leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let requeues = index.put_cluster(leaving.clone(), false);
    assert!(requeues.schedule.contains(&key) && requeues.dispatch.contains(&(a.clone(), key.clone())));
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Remove { preserve: false }));
    assert_eq!(index.is_clean(&a), Some(false));
    carry_out(&mut index, &key, 60);
    assert_eq!(index.binding(&key).unwrap().removing, [a.clone()].into());
    // Away: nobody knows. Given up: it counts as clean.
    index.set_reachable(&a, false);
    carry_out(&mut index, &key, 61);
    assert_eq!(index.is_clean(&a), Some(false));
    leaving.metadata.annotations = Some([(FORCE_UNJOIN_ANNOTATION.to_owned(), "true".to_owned())].into());
    index.put_cluster(at_version(leaving.clone(), 3), false);
    carry_out(&mut index, &key, 62);
    assert_eq!(index.is_clean(&a), Some(true));
    leaving.metadata.annotations = Some([(UNJOIN_POLICY_ANNOTATION.to_owned(), "Orphan".to_owned())].into());
    index.put_cluster(at_version(leaving, 4), false);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Remove { preserve: true }));
}

#[test]
fn objects_nobody_may_claim() {
    let (mut index, _) = converged();
    let claimed = |index: &Index, namespace: &str, name: &str| {
        let key =
            ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some(namespace.into()), name: name.into() };
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}});
        placement::claim(&object, index.policies_of(&key).iter().map(policy_ref), None).is_some()
    };
    assert!(claimed(&index, "shop", "mine"));
    assert!(!claimed(&index, "shop", "kube-root-ca.crt"));
    assert!(!claimed(&index, "kube-system", "mine") && !claimed(&index, "karmada-system", "mine"));
    index.set_policy((Some("karmada-team".into()), "p".into()), Some(policy(json!({}))));
    assert!(claimed(&index, "karmada-team", "mine"), "only some namespaces with this prefix are Karmada's own");
    // A policy that selects events has none of them watched or claimed.
    let selectors = json!([{"apiVersion": "v1", "kind": "Event"}, {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}]);
    index.set_policy((Some("shop".into()), "p".into()), Some(policy(json!({"resourceSelectors": selectors}))));
    assert_eq!(index.plane_kinds(), [KindKey::new("v1", "ConfigMap")].into());
    let event = Arc::new(ObjectKey { kind: KindKey::new("v1", "Event"), ..(*key("e")).clone() });
    assert!(index.policies_of(&event).is_empty());
    // Nor does a policy reach into another namespace.
    let foreign = json!([{"apiVersion": "v1", "kind": "ConfigMap", "namespace": "shop"}]);
    index.set_policy((Some("shop".into()), "p".into()), None);
    index.set_policy((Some("evil".into()), "p".into()), Some(policy(json!({"resourceSelectors": foreign}))));
    assert!(!claimed(&index, "shop", "mine") && !claimed(&index, "evil", "mine"));
}

#[test]
fn a_decision_is_not_disturbed_by_what_happens_meanwhile() {
    let (mut index, key) = converged();
    let inputs = index.schedule_inputs(&key);
    index.put_cluster(cluster("d", "True"), false);
    index.put_template(key.clone(), template("x", "t", "2"), false);
    index.remove_cluster(&name("a"), None);
    assert!(matches!(plan(&inputs).step, Step::Nothing), "decided on what was known at one moment");
    assert_eq!(inputs.template.unwrap().version, 1);
    let views: Vec<_> = index.schedule_inputs(&key).views.keys().cloned().collect();
    assert_eq!(views, [name("b"), name("c"), name("d")]);
}

#[test]
fn policies_are_found_by_kind_and_namespace() {
    let mut index = Index::of(PLANE.into());
    let of_kind = |kind: &str| policy(json!({"resourceSelectors": [{"apiVersion": "v1", "kind": kind}]}));
    let keys = [
        (Some("shop"), "mine", "ConfigMap"),
        (Some("shop"), "secrets", "Secret"),
        (Some("shopping"), "theirs", "ConfigMap"),
        (Some("sho"), "theirs", "ConfigMap"),
        (None, "wide", "ConfigMap"),
    ];
    for (namespace, name, kind) in keys {
        index.set_policy((namespace.map(Into::into), name.into()), Some(of_kind(kind)));
    }
    let found = |index: &Index, key: &ObjectKey| -> Vec<String> {
        index.policies_of(key).into_iter().map(|((_, name), _)| name).collect()
    };
    assert_eq!(found(&index, &key("x")), ["wide", "mine"]);
    let role = ObjectKey { namespace: None, ..(*key("x")).clone() };
    assert_eq!(found(&index, &role), ["wide"], "an object of the cluster scope is for policies of the cluster scope");
    // One that selects another kind now, and one that is gone.
    index.set_policy((Some("shop".into()), "mine".into()), Some(of_kind("Secret")));
    index.set_policy((None, "wide".into()), None);
    assert!(found(&index, &key("x")).is_empty());
    let secret = ObjectKey { kind: KindKey::new("v1", "Secret"), ..(*key("x")).clone() };
    assert_eq!(found(&index, &secret), ["mine", "secrets"]);
    // Overrides without selectors are for every kind.
    let all: OverrideSpec = from_value(json!({"overrideRules": []})).unwrap();
    let of_secrets: OverrideSpec =
        from_value(json!({"overrideRules": [], "resourceSelectors": [{"apiVersion": "v1", "kind": "Secret"}]}))
            .unwrap();
    index.set_override((None, "all".into()), Some(all));
    index.set_override((Some("shop".into()), "secrets".into()), Some(of_secrets));
    let overrides = |key: &ObjectKey| index.overrides_of(key).len();
    assert_eq!((overrides(&key("x")), overrides(&secret), overrides(&role)), (1, 2, 1));
}

use serde_json::{Value, from_value, json};

use super::super::desired::{DesiredState, check_adoption, desired_state, holds};
use super::super::key::KindKey;
use super::super::model::{BINDING_FINALIZER, Binding, Live, Template};
use super::super::schedule::{Step, plan};
use super::*;

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

fn policy(spec: Value) -> PropagationSpec {
    let mut all = json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap"}]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    from_value(all).unwrap()
}

fn live(uid: &str, version: &str, plane: &str) -> Live {
    Live::of(
        json!({"metadata": {"name": "x", "uid": uid, "resourceVersion": version, "annotations": {"airdock.dev/plane": plane}}}),
    )
}

/// An object in a member as another Karmada leaves it.
fn unmarked(template: &str) -> Live {
    Live::of(json!({"metadata": {"name": "x", "uid": "l", "resourceVersion": "1",
        "labels": {"karmada.io/managed": "true"}, "annotations": {"resourcetemplate.karmada.io/uid": template,
            "resourcebinding.karmada.io/namespace": "shop", "resourcebinding.karmada.io/name": "x-configmap"}}}))
}

fn name(text: &str) -> ClusterName {
    ClusterName::from(text)
}

/// Carries out what a plan says, as the plane would.
fn carry_out(index: &mut Index, key: &Key, version: u64) -> Step {
    let plan = plan(index, key);
    if let Some(wanted) = plan.wanted {
        index.decided(key, wanted, plan.refusal.clone());
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
            let binding = index.binding(key).unwrap();
            let mut object = json!({"metadata": {"uid": binding.uid, "finalizers": binding.finalizers, "annotations": binding.annotations,
                "ownerReferences": binding.owners}, "spec": *binding.spec, "status": *binding.status});
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
        index.remove_binding(key, Some((&uid, version)));
    } else {
        index.put_binding(key.clone(), binding, false);
    }
    plan.step
}

/// A plane with three members, all known, and one ConfigMap that goes to all of them.
fn world() -> (Index, Key) {
    let mut index = Index::of(PLANE.to_owned());
    let key = key("x");
    for cluster_name in ["a", "b", "c"] {
        index.put_cluster(cluster(cluster_name, "True"), false);
        index.set_reachable(&name(cluster_name), true);
        index.member_synced(&name(cluster_name), &key.kind, &[]);
        index.member_synced(&name(cluster_name), &KindKey::new("v1", "Namespace"), &[]);
    }
    index.set_policy((Some("shop".into()), "p".into()), Some(policy(json!({}))));
    index.put_template(key.clone(), template("x", "t", "1"), false);
    index.kind_synced(&key.kind);
    assert!(matches!(carry_out(&mut index, &key, 10), Step::Create(_)));
    (index, key)
}

#[test]
fn a_binding_is_made_once() {
    let (mut index, key) = world();
    let binding = index.binding(&key).unwrap();
    assert_eq!(binding.finalizers, [BINDING_FINALIZER]);
    assert_eq!(binding.inventory().count(), 3);
    assert!(matches!(carry_out(&mut index, &key, 11), Step::Nothing), "a converged template costs nothing");
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
}

#[test]
fn what_is_not_known_is_not_touched() {
    let mut index = Index::of(PLANE.to_owned());
    let (mut full, key) = world();
    let binding = full.binding(&key).unwrap().clone();
    index.put_cluster(cluster("a", "True"), false);
    index.put_binding(key.clone(), binding, false);
    // The binding is known, its template is not yet: neither is a reason to delete the other.
    assert!(matches!(plan(&index, &key).step, Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Keep));
    index.kind_synced(&key.kind);
    assert!(matches!(plan(&index, &key).step, Step::Delete { .. }));
    // A template that nothing was decided about is left alone too.
    full.decisions.clear();
    assert!(matches!(desired_state(&full, &name("a"), &key), DesiredState::Keep));
}

#[test]
fn the_binding_goes_after_the_objects() {
    let (mut index, key) = world();
    for cluster in ["a", "b", "c"] {
        index.put_live(&name(cluster), &key, live(cluster, "5", PLANE), false);
    }
    index.remove_template(&key, Some(("t", 20)));
    assert!(matches!(carry_out(&mut index, &key, 21), Step::Delete { .. }));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Remove { preserve: false }));
    index.remove_live(&name("a"), &key, Some(("a", 6)));
    index.set_reachable(&name("c"), false);
    index.remove_live(&name("b"), &key, Some(("b", 6)));
    assert!(matches!(carry_out(&mut index, &key, 22), Step::Nothing), "c is away, and may hold it");
    index.set_reachable(&name("c"), true);
    assert!(matches!(carry_out(&mut index, &key, 23), Step::Nothing), "c is back, but not all is known of it");
    index.member_synced(&name("c"), &key.kind, &[]);
    assert!(matches!(carry_out(&mut index, &key, 24), Step::Nothing), "c holds it");
    index.remove_live(&name("c"), &key, Some(("c", 6)));
    index.member_mut(&name("b")).in_flight.insert(key.clone());
    assert!(matches!(carry_out(&mut index, &key, 25), Step::Nothing), "a create is under way in b");
    index.member_mut(&name("b")).in_flight.clear();
    assert!(matches!(carry_out(&mut index, &key, 26), Step::Change { .. }));
    assert!(index.binding(&key).is_none());
}

#[test]
fn clusters_that_are_no_longer_meant_stay_in_the_inventory_until_they_are_clean() {
    let (mut index, key) = world();
    index.put_live(&name("c"), &key, live("c", "5", PLANE), false);
    let only_a = json!({"placement": {"clusterAffinity": {"clusterNames": ["a"]}}});
    index.set_policy((Some("shop".into()), "p".into()), Some(policy(only_a)));
    carry_out(&mut index, &key, 30);
    let binding = index.binding(&key).unwrap();
    assert_eq!(binding.spec.clusters.len(), 1);
    assert_eq!(binding.removing, [name("c")].into(), "b never held it");
    assert!(matches!(desired_state(&index, &name("c"), &key), DesiredState::Remove { .. }));
    index.remove_live(&name("c"), &key, Some(("c", 6)));
    carry_out(&mut index, &key, 31);
    assert!(index.binding(&key).unwrap().removing.is_empty());
    assert!(matches!(carry_out(&mut index, &key, 32), Step::Nothing));
}

#[test]
fn a_binding_that_somebody_deleted_is_made_anew_and_members_notice_nothing() {
    let (mut index, key) = world();
    let mut binding = index.binding(&key).unwrap().clone();
    binding.deleting = true;
    binding.version = 40;
    index.put_binding(key.clone(), binding, false);
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
    index.put_live(&name("a"), &key, live("l", "5", PLANE), false);
    assert!(matches!(carry_out(&mut index, &key, 41), Step::Change { .. }));
    assert!(index.binding(&key).is_none());
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Keep), "its next binding is on the way");
    assert!(matches!(carry_out(&mut index, &key, 42), Step::Create(_)));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
}

#[test]
fn objects_without_a_binding_wait_for_a_decision() {
    let (mut index, key) = world();
    let (a, held) = (name("a"), vec![(name("a"), key.clone())]);
    index.put_live(&a, &key, live("l", "5", PLANE), false);
    index.remove_binding(&key, None);
    // As after a start: nothing is known of the kind, then nothing decided of the template.
    let template = index.template(&key).unwrap().clone();
    index.decisions.clear();
    index.forget_kind(&key.kind);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    index.put_template(key.clone(), template, true);
    assert_eq!(index.kind_synced(&key.kind).dispatch, held);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    assert_eq!(index.decided(&key, false, None).dispatch, held);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Remove { preserve: false }));
    // A binding that does not mean the cluster has it looked at too.
    index.decided(&key, true, None);
    let only_b = json!({"placement": {"clusterAffinity": {"clusterNames": ["b"]}}});
    index.set_policy((Some("shop".into()), "p".into()), Some(policy(only_b)));
    let Step::Create(mut body) = plan(&index, &key).step else { panic!("no binding is made") };
    body["metadata"]["uid"] = json!("again");
    let requeues = index.put_binding(key.clone(), Binding::of(body).unwrap(), false);
    assert_eq!(requeues.dispatch, [(a.clone(), key.clone()), (name("b"), key.clone())]);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Remove { .. }));
    // A template that goes with nobody having heard of it leaves nothing behind.
    index.remove_binding(&key, None);
    index.remove_template(&key, Some(("t", 20)));
    assert_eq!(index.decided(&key, false, None).dispatch, held);
    assert!(index.decision(&key).is_none());
}

#[test]
fn ghosts_stay_in_their_graves() {
    let (mut index, key) = world();
    // The answer to a status write arrives after the template is gone.
    index.remove_template(&key, Some(("t", 50)));
    index.put_template(key.clone(), template("x", "t", "49"), false);
    assert!(index.template(&key).is_none());
    // Another one of its name is no ghost, and late news of the first do not end the second.
    index.put_template(key.clone(), template("x", "t2", "51"), false);
    index.remove_template(&key, Some(("t", 50)));
    assert_eq!(index.template(&key).unwrap().uid, "t2");
    // An object that lost its label is back when the label is: the same uid, a later version.
    let a = name("a");
    index.put_live(&a, &key, live("l", "5", PLANE), false);
    index.remove_live(&a, &key, Some(("l", 6)));
    index.applied(&a, &key, live("l", "5", PLANE), 1);
    assert!(!index.member(&a).unwrap().live.contains_key(&key));
    index.put_live(&a, &key, live("l", "7", PLANE), false);
    assert!(index.member(&a).unwrap().live.contains_key(&key));
}

#[test]
fn old_news_do_not_undo_what_is_known() {
    let (mut index, key) = world();
    index.put_template(key.clone(), template("x", "t", "9"), false);
    assert_eq!(index.put_template(key.clone(), template("x", "t", "8"), false), Requeues::default());
    assert_eq!(index.template(&key).unwrap().version, 9);
    // A list is the truth even so: the plane may have been restored from a backup.
    index.put_template(key.clone(), template("x", "t", "8"), true);
    assert_eq!(index.template(&key).unwrap().version, 8);
}

#[test]
fn heartbeats_have_no_effects() {
    let (mut index, _) = world();
    let requeues = index.put_cluster(at_version(cluster("a", "True"), 2), false);
    assert!(requeues.schedule.is_empty() && requeues.dispatch.is_empty());
    assert_eq!(requeues.clusters, [name("a")]);
    assert!(!index.put_cluster(at_version(cluster("a", "False"), 3), false).schedule.is_empty());
}

#[test]
fn a_policy_that_is_not_understood_takes_nothing_away() {
    let (mut index, key) = world();
    let (a, policy_key) = (name("a"), (Some("shop".to_owned()), "p".to_owned()));
    // It was understood before: that holds.
    index.mark_policy_unreadable(policy_key.clone());
    assert!(matches!(carry_out(&mut index, &key, 11), Step::Nothing));
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Apply(_)));
    // The same after a start.
    index.set_policy(policy_key.clone(), None);
    index.decisions.clear();
    index.mark_policy_unreadable(policy_key.clone());
    assert_eq!(index.policy_keys(true), std::slice::from_ref(&policy_key), "its end would not be noticed in a list");
    assert!(matches!(carry_out(&mut index, &key, 12), Step::Nothing));
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    assert!(index.decision(&key).is_none());
    // Gone, it is gone; and a template that goes needs no policy.
    let template = index.template(&key).unwrap().clone();
    index.remove_template(&key, None);
    assert!(matches!(plan(&index, &key).step, Step::Delete { .. }));
    index.put_template(key.clone(), template, true);
    assert_eq!(index.set_policy(policy_key, None).schedule, std::slice::from_ref(&key));
    assert!(matches!(plan(&index, &key).step, Step::Delete { .. }));
}

#[test]
fn a_member_that_stays_away_has_no_effects() {
    let (mut index, key) = world();
    assert_eq!(index.set_reachable(&name("a"), false).schedule, std::slice::from_ref(&key));
    assert_eq!(index.set_reachable(&name("a"), false), Requeues::default());
    assert_eq!(index.set_reachable(&name("a"), true).report, [key]);
}

#[test]
fn a_late_answer_undoes_nothing_of_a_cluster() {
    let (mut index, _) = world();
    let a = name("a");
    let mut leaving = at_version(cluster("a", "True"), 5);
    leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    index.put_cluster(leaving, false);
    for version in [4, 5] {
        assert_eq!(index.put_cluster(at_version(cluster("a", "True"), version), false), Requeues::default());
        assert!(index.views[&a].leaving, "it stays again");
    }
    // News of one that had the name before are none of this one.
    assert_eq!(index.remove_cluster("a", Some(("before", 9))), Requeues::default());
    assert!(!index.remove_cluster("a", Some(("a", 6))).schedule.is_empty());
    index.put_cluster(at_version(cluster("a", "True"), 5), false);
    assert!(!index.views.contains_key(&a), "a ghost");
    let mut other = at_version(cluster("a", "True"), 3);
    other.metadata.uid = Some("other".into());
    index.put_cluster(other, false);
    assert!(index.views.contains_key(&a));
    index.put_cluster(at_version(cluster("b", "True"), 9), false);
    index.put_cluster(at_version(cluster("b", "False"), 2), true);
    assert!(!index.clusters["b"].status.as_ref().unwrap().conditions.iter().any(|c| c.status == "True"), "restored");
}

#[test]
fn orphans_of_this_plane_are_removed_and_those_of_others_are_not() {
    let (mut index, bound) = world();
    let (orphan, a) = (key("orphan"), name("a"));
    assert!(matches!(desired_state(&index, &a, &orphan), DesiredState::Remove { .. }));
    assert!(index.is_ours(&live("l", "1", PLANE), &orphan));
    assert!(!index.is_ours(&live("l", "1", "another"), &orphan));
    // Another Karmada sets no mark, but may have a binding of this very name.
    assert!(!index.is_ours(&unmarked("theirs"), &orphan) && !index.is_ours(&unmarked("theirs"), &bound));
    assert!(!index.is_ours(&unmarked("t"), &orphan));
    assert!(index.is_ours(&unmarked("t"), &bound), "only the mark was taken off");
    // Nothing is decided about a cluster that is not there.
    index.remove_cluster("a", None);
    assert!(matches!(desired_state(&index, &a, &orphan), DesiredState::Keep));
}

#[test]
fn an_object_that_is_bound_by_another_version_of_its_kind_stays() {
    let (mut index, bound) = world();
    let a = name("a");
    let hpa = |api_version: &str, name: &str| {
        let kind = KindKey::new(api_version, "HorizontalPodAutoscaler");
        Arc::new(ObjectKey { kind, namespace: Some("shop".into()), name: name.into() })
    };
    let binding = index.binding(&bound).unwrap().clone();
    index.put_binding(hpa("autoscaling/v2", "x"), binding.clone(), false);
    for version in ["autoscaling/v1", "other/v1"] {
        index.kind_synced(&hpa(version, "x").kind);
    }
    assert!(matches!(desired_state(&index, &a, &hpa("autoscaling/v1", "x")), DesiredState::Keep));
    for other in [hpa("autoscaling/v1", "y"), hpa("other/v1", "x")] {
        assert!(matches!(desired_state(&index, &a, &other), DesiredState::Remove { .. }), "{other}");
    }
    assert!(index.plane_kinds().contains(&hpa("autoscaling/v2", "x").kind));
    index.remove_binding(&hpa("autoscaling/v2", "x"), None);
    assert!(matches!(desired_state(&index, &a, &hpa("autoscaling/v1", "x")), DesiredState::Remove { .. }));
    assert!(!index.plane_kinds().contains(&hpa("autoscaling/v2", "x").kind));
}

#[test]
fn who_may_be_taken_over() {
    let (mut index, key) = world();
    let manifest = |index: &Index, key: &Key| match desired_state(index, &name("a"), key) {
        DesiredState::Apply(inputs) => inputs.render(key).unwrap(),
        other => panic!("{other:?}"),
    };
    let mut plain = live("l", "1", PLANE);
    plain.plane = None;
    let ours = manifest(&index, &key);
    for (live, labelled, words) in [
        (live("l", "1", PLANE), true, None),
        (live("l", "1", PLANE), false, None),
        (unmarked("t"), true, None),
        (unmarked("theirs"), true, Some("managed by another control plane")),
        (live("l", "1", "another"), true, Some("managed by another control plane")),
        (plain.clone(), true, Some("managed by another control plane")),
        (plain, false, Some("not managed")),
    ] {
        let answer = check_adoption(&live, labelled, PLANE, &ours, "a");
        assert_eq!(answer.is_err(), words.is_some(), "{answer:?}");
        assert!(words.is_none_or(|words| answer.unwrap_err().contains(words)));
    }
    // A namespace that another plane brought is no less its own.
    index.put_namespace(json!({"metadata": {"name": "shop", "uid": "n", "resourceVersion": "1"}}));
    let namespace = manifest(&index, &ObjectKey::of_namespace("shop"));
    assert!(check_adoption(&unmarked("theirs"), true, PLANE, &namespace, "a").is_err());
    assert!(check_adoption(&unmarked("n"), true, PLANE, &namespace, "a").is_ok());
    let overwrite = Some(policy(json!({"conflictResolution": "Overwrite"})));
    index.set_policy((Some("shop".into()), "p".into()), overwrite);
    carry_out(&mut index, &key, 11);
    assert!(check_adoption(&unmarked("theirs"), true, PLANE, &manifest(&index, &key), "a").is_ok());
}

#[test]
fn fields_that_a_template_lost_are_missed_after_a_restart() {
    let manifest = |data: Value| {
        let (mut index, key) = world();
        let mut object = template("x", "t", "2").parsed();
        object["data"] = data;
        object["metadata"]["resourceVersion"] = json!("2");
        index.put_template(key.clone(), Template::of(object), false);
        match desired_state(&index, &name("a"), &key) {
            DesiredState::Apply(inputs) => inputs.render(&key).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let before = manifest(json!({"kept": "1", "lost": "1"}));
    let mut object = before.value.clone();
    object["metadata"]["annotations"]["theirs"] = json!("1");
    let found = Live::of(object.clone());
    assert!(holds(&found, &before));
    assert!(holds(&found, &manifest(json!({"kept": "1", "lost": "1"}))), "another process says the same");
    assert!(!holds(&found, &manifest(json!({"kept": "1"}))));
    object["metadata"]["annotations"].as_object_mut().unwrap().remove("airdock.dev/manifest");
    assert!(!holds(&Live::of(object), &before), "whatever came without a stamp is applied once");
}

#[test]
fn namespaces() {
    let (mut index, _) = world();
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
    let (mut index, key) = world();
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
    let (index, _) = world();
    let claimed = |namespace: &str, name: &str| {
        let key =
            ObjectKey { kind: KindKey::new("v1", "ConfigMap"), namespace: Some(namespace.into()), name: name.into() };
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}});
        index.claim(&Arc::new(key), &object).is_some()
    };
    assert!(claimed("shop", "mine"));
    assert!(!claimed("shop", "kube-root-ca.crt"));
    assert!(!claimed("kube-system", "mine") && !claimed("karmada-system", "mine") && !claimed("other", "mine"));
}

#[test]
fn a_template_that_cannot_be_read_is_not_one_that_is_gone() {
    let (mut index, key) = world();
    let a = name("a");
    // It was read before: that holds.
    index.mark_template_unreadable(key.clone());
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Apply(_)));
    // The same after a start: its binding stays, and so does what members have.
    index.templates.clear();
    index.decisions.clear();
    index.mark_template_unreadable(key.clone());
    assert!(matches!(plan(&index, &key).step, Step::Nothing));
    assert_eq!((index.is_wanted(&key), index.decision(&key).is_none()), (None, true));
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    assert_eq!(index.template_keys(&key.kind), std::slice::from_ref(&key), "its end would not be noticed in a list");
    // Corrected, or gone, it is as any other.
    assert_eq!(index.put_template(key.clone(), template("x", "t", "2"), false).schedule, std::slice::from_ref(&key));
    assert!(!index.is_template_unreadable(&key));
    index.templates.clear();
    index.mark_template_unreadable(key.clone());
    index.remove_template(&key, None);
    assert!(matches!(plan(&index, &key).step, Step::Delete { .. }));
}

#[test]
fn an_override_that_cannot_be_read_holds_what_it_may_select() {
    let (mut index, key) = world();
    let policy = (Some("shop".to_owned()), "o".to_owned());
    assert_eq!(index.mark_override_unreadable(policy.clone()), Requeues::default());
    assert_eq!(index.unreadable_override(&key), Some(&policy));
    let elsewhere = ObjectKey { namespace: Some("other".into()), ..(*key).clone() };
    assert_eq!(index.unreadable_override(&elsewhere), None);
    assert_eq!(index.override_keys(true), std::slice::from_ref(&policy), "its end would not be noticed in a list");
    // Gone, what it held is looked at again.
    let requeues = index.set_override(policy.clone(), None);
    assert_eq!(requeues.dispatch.len(), 3);
    assert_eq!(index.unreadable_override(&key), None);
    // One that was understood before stays what it was.
    index.set_override(policy.clone(), Some(from_value(json!({"overrideRules": []})).unwrap()));
    index.mark_override_unreadable(policy);
    assert_eq!(index.unreadable_override(&key), None);
}

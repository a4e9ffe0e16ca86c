//! How long a binding lives, and what members have meanwhile.

use super::super::super::desired::{Manifest, keeps_last_manifest};
use super::super::super::report::report;
use super::*;

fn shop_policy() -> PolicyKey {
    (Some("shop".into()), "p".into())
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

fn manifest(index: &Index, key: &Key) -> Manifest {
    match desired_state(index, &name("a"), key) {
        DesiredState::Apply(inputs) => inputs.render(key).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_binding_outlives_its_policy() {
    let narrower = json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other"}]});
    for (what, spec) in [("deleted", None), ("narrowed", Some(narrower))] {
        let (mut index, key) = converged();
        index.set_policy(shop_policy(), spec.map(policy));
        let before = index.binding(&key).unwrap().spec.clone();
        assert!(matches!(carry_out(&mut index, &key, 12), Step::Change { .. }), "{what}");
        let binding = index.binding(&key).unwrap();
        assert_eq!((binding.policy(), &binding.spec), (None, &before), "{what}");
        assert!(matches!(carry_out(&mut index, &key, 13), Step::Nothing), "{what}");
        assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)), "{what}");
        // It goes with its template, as any other.
        index.remove_template(&key, Some(("t".into(), 20)));
        assert!(matches!(carry_out(&mut index, &key, 21), Step::Delete { .. }), "{what}");
        assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Remove { preserve: false }), "{what}");
    }
}

#[test]
fn a_relabelled_template_stays_with_its_policy() {
    let selects = |app: &str| {
        policy(json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap",
            "labelSelector": {"matchLabels": {"app": app}}}]}))
    };
    let labelled = |app: &str| changed(&json!({"labels": {"app": app}}), "1");
    // Until the first policy selects something else, or goes.
    for first in [Some(selects("z")), None] {
        let (mut index, key) = converged();
        index.put_template(key.clone(), labelled("a"), true);
        index.set_policy(shop_policy(), Some(selects("a")));
        let mut other = selects("b");
        other.placement = from_value(json!({"clusterAffinity": {"clusterNames": ["c"]}})).unwrap();
        index.set_policy((Some("shop".into()), "other".into()), Some(other));
        carry_out(&mut index, &key, 11);
        // Another policy selects it now, and does not move what runs.
        index.put_template(key.clone(), labelled("b"), true);
        assert!(matches!(carry_out(&mut index, &key, 12), Step::Nothing));
        let binding = index.binding(&key).unwrap();
        assert_eq!((binding.policy(), binding.spec.clusters.len()), (Some((Some("shop"), "p")), 3));
        assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
        index.set_policy(shop_policy(), first);
        assert!(matches!(carry_out(&mut index, &key, 13), Step::Change { .. }));
        let binding = index.binding(&key).unwrap();
        assert_eq!((binding.policy(), binding.spec.clusters.len()), (Some((Some("shop"), "other")), 1));
    }
}

#[test]
fn a_namespace_is_preserved_where_its_policy_brought_it() {
    let (mut index, key) = converged();
    let only_a =
        json!({"preserveResourcesOnDeletion": true, "placement": {"clusterAffinity": {"clusterNames": ["a"]}}});
    index.set_policy(shop_policy(), Some(policy(only_a)));
    for version in [11, 12] {
        carry_out(&mut index, &key, version);
    }
    assert!(index.binding(&key).unwrap().preserves());
    let removal = |cluster: &str, index: &Index| match desired_state(index, &name(cluster), &key) {
        DesiredState::Remove { preserve } => preserve,
        other => panic!("{other:?}"),
    };
    let mut binding = index.binding(&key).unwrap().clone();
    binding.removing.clear();
    binding.version = 13;
    index.put_binding(key.clone(), binding, false);
    assert!(!removal("b", &index), "it was never brought there");
}

#[test]
fn without_a_policy_an_object_keeps_its_last_manifest() {
    let (mut index, key) = converged();
    let live = Live::of(manifest(&index, &key).value);
    index.set_policy(shop_policy(), None);
    carry_out(&mut index, &key, 11);
    assert!(!keeps_last_manifest(&live, &manifest(&index, &key)), "drift is put right as before");
    index.put_template(key.clone(), changed(&json!({}), "2"), true);
    carry_out(&mut index, &key, 12);
    assert!(keeps_last_manifest(&live, &manifest(&index, &key)), "what the template became is sent nowhere");
    // The next policy sends it.
    let only_a = json!({"placement": {"clusterAffinity": {"clusterNames": ["a"]}}});
    index.set_policy((None, "next".into()), Some(policy(only_a)));
    assert!(matches!(carry_out(&mut index, &key, 13), Step::Change { .. }));
    let binding = index.binding(&key).unwrap();
    assert_eq!((binding.policy(), binding.spec.clusters.len()), (Some((None, "next")), 1));
    assert!(!keeps_last_manifest(&live, &manifest(&index, &key)));
}

#[test]
fn without_a_policy_replicas_and_overrides_of_one_generation_are_still_sent() {
    let (mut index, key) = converged();
    index.put_template(key.clone(), changed(&json!({"generation": 3}), "1"), true);
    let live = Live::of(manifest(&index, &key).value);
    index.set_policy(shop_policy(), None);
    carry_out(&mut index, &key, 11);
    let rules = json!({"overrideRules": [{"overriders": {"plaintext":
        [{"path": "/data/k", "operator": "replace", "value": "overridden"}]}}]});
    index.set_override((None, "o".into()), Some(from_value(rules).unwrap()));
    assert!(!keeps_last_manifest(&live, &manifest(&index, &key)));
    index.put_template(key.clone(), changed(&json!({"generation": 4}), "1"), true);
    assert!(keeps_last_manifest(&live, &manifest(&index, &key)));
}

#[test]
fn a_binding_without_a_policy_survives_a_restart_and_follows_the_clusters() {
    let (mut before, key) = converged();
    before.set_policy(shop_policy(), None);
    carry_out(&mut before, &key, 11);
    let restarted = |template: Option<Template>| {
        let mut index = Index::of(PLANE.into());
        for name in ["a", "b", "c"] {
            index.put_cluster(cluster(name, "True"), true);
        }
        index.put_binding(key.clone(), before.binding(&key).unwrap().clone(), true);
        if let Some(template) = template {
            index.put_template(key.clone(), template, true);
        }
        index.kind_synced(&key.kind);
        index
    };
    let mut index = restarted(Some(template("x", "t", "1")));
    assert!(matches!(carry_out(&mut index, &key, 12), Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
    let mut leaving = at_version(cluster("b", "True"), 2);
    leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    index.put_cluster(leaving, false);
    assert!(matches!(carry_out(&mut index, &key, 13), Step::Change { .. }));
    let binding = index.binding(&key).unwrap();
    assert_eq!((binding.spec.clusters.len(), &binding.removing), (2, &[name("b")].into()));
    // Deleted, or made anew under its name, while no engine ran.
    assert!(matches!(plan(&restarted(None).schedule_inputs(&key)).step, Step::Delete { .. }));
    assert!(matches!(plan(&restarted(Some(template("x", "t2", "9"))).schedule_inputs(&key)).step, Step::Delete { .. }));
}

#[test]
fn a_template_that_somebody_holds_is_not_gone() {
    let (mut index, key) = converged();
    index.put_template(key.clone(), deleted_with("example.io/hold"), true);
    assert!(matches!(carry_out(&mut index, &key, 11), Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
    // As when its namespace ends: the binding is deleted first, and waits for the template.
    let mut binding = index.binding(&key).unwrap().clone();
    binding.deleting = true;
    binding.version = 40;
    index.put_binding(key.clone(), binding, false);
    assert!(matches!(carry_out(&mut index, &key, 41), Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Apply(_)));
    index.remove_template(&key, None);
    assert!(matches!(carry_out(&mut index, &key, 42), Step::Change { .. }), "no member has it");
    assert!(index.binding(&key).is_none());
}

#[test]
fn foreground_deletion_clears_members_first_and_makes_no_new_binding() {
    let (mut index, key) = converged();
    index.put_live(&name("a"), &key, live("l", "5", PLANE), false);
    index.put_template(key.clone(), deleted_with("foregroundDeletion"), true);
    assert!(matches!(carry_out(&mut index, &key, 11), Step::Delete { .. }));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Remove { preserve: false }));
    assert!(matches!(carry_out(&mut index, &key, 12), Step::Nothing), "a has it");
    index.remove_live(&name("a"), &key, Some(("l".into(), 6)));
    assert!(matches!(carry_out(&mut index, &key, 13), Step::Change { .. }));
    assert!(index.binding(&key).is_none());
    assert!(matches!(carry_out(&mut index, &key, 14), Step::Nothing), "the template is still there");
}

#[test]
fn an_orphaned_binding_stays_with_what_members_have() {
    let (mut index, key) = converged();
    index.put_live(&name("a"), &key, live("l", "5", PLANE), false);
    index.put_template(key.clone(), deleted_with("orphan"), true);
    let mut binding = index.binding(&key).unwrap().clone();
    binding.owners = Owners::Listed(Vec::new());
    binding.version = 20;
    index.put_binding(key.clone(), binding, false);
    assert!(matches!(carry_out(&mut index, &key, 21), Step::Nothing), "it gets its owner back");
    index.remove_template(&key, Some(("t".into(), 22)));
    assert!(matches!(carry_out(&mut index, &key, 23), Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Keep));
    // It keeps no cluster from leaving.
    let mut leaving = at_version(cluster("a", "True"), 2);
    leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    index.put_cluster(leaving, false);
    assert!(matches!(carry_out(&mut index, &key, 24), Step::Change { .. }));
    assert_eq!(index.awaited_in(&name("a")).as_deref(), Some("ConfigMap shop/x"));
    index.remove_live(&name("a"), &key, Some(("l".into(), 6)));
    carry_out(&mut index, &key, 25);
    assert_eq!((index.is_clean(&name("a")), index.awaited_in(&name("a"))), (Some(true), None));
    // A template of its name that a policy claims takes it up.
    index.put_template(key.clone(), template("x", "t2", "30"), false);
    let Step::Change { adopts, .. } = carry_out(&mut index, &key, 31) else { panic!("not taken up") };
    assert_eq!(adopts, Some("t2".into()));
    assert_eq!(index.binding(&key).unwrap().controller_uid(), Some("t2"));
}

#[test]
fn an_orphaned_binding_that_somebody_deletes_takes_the_objects_along() {
    let (mut index, key) = converged();
    let mut binding = index.binding(&key).unwrap().clone();
    binding.owners = Owners::Listed(Vec::new());
    binding.version = 20;
    index.put_binding(key.clone(), binding.clone(), false);
    index.remove_template(&key, None);
    assert!(matches!(carry_out(&mut index, &key, 21), Step::Nothing));
    binding.deleting = true;
    binding.version = 30;
    index.put_binding(key.clone(), binding, false);
    index.put_live(&name("a"), &key, live("l", "5", PLANE), false);
    assert!(matches!(carry_out(&mut index, &key, 31), Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Remove { preserve: false }));
}

#[test]
fn a_kind_that_a_member_stopped_serving_holds_nothing_up() {
    let (mut index, key) = converged();
    let a = name("a");
    index.put_live(&a, &key, live("l", "5", PLANE), false);
    index.set_reachable(&a, false);
    index.set_reachable(&a, true);
    index.remove_template(&key, Some(("t".into(), 20)));
    carry_out(&mut index, &key, 21);
    assert!(matches!(carry_out(&mut index, &key, 22), Step::Nothing), "nothing is known of the kind");
    assert_eq!(index.kind_unserved(&a, &key.kind).schedule, std::slice::from_ref(&key));
    assert_eq!(index.kind_unserved(&a, &key.kind), Requeues::default(), "it is told every other second");
    assert!(matches!(carry_out(&mut index, &key, 23), Step::Change { .. }));
    assert!(index.binding(&key).is_none());
}

#[test]
fn the_binding_goes_after_the_objects() {
    let (mut index, key) = converged();
    for cluster in ["a", "b", "c"] {
        index.put_live(&name(cluster), &key, live(cluster, "5", PLANE), false);
    }
    index.remove_template(&key, Some(("t".into(), 20)));
    assert!(matches!(carry_out(&mut index, &key, 21), Step::Delete { .. }));
    assert!(matches!(desired_state(&index, &name("a"), &key), DesiredState::Remove { preserve: false }));
    index.remove_live(&name("a"), &key, Some(("a".into(), 6)));
    index.set_reachable(&name("c"), false);
    index.remove_live(&name("b"), &key, Some(("b".into(), 6)));
    assert!(matches!(carry_out(&mut index, &key, 22), Step::Nothing), "c is away, and may hold it");
    index.set_reachable(&name("c"), true);
    assert!(matches!(carry_out(&mut index, &key, 23), Step::Nothing), "c is back, but not all is known of it");
    index.member_synced(&name("c"), &key.kind);
    assert!(matches!(carry_out(&mut index, &key, 24), Step::Nothing), "c holds it");
    index.remove_live(&name("c"), &key, Some(("c".into(), 6)));
    index.member_mut(&name("b")).in_flight.insert(key.clone());
    assert!(matches!(carry_out(&mut index, &key, 25), Step::Nothing), "a create is under way in b");
    index.member_mut(&name("b")).in_flight.clear();
    assert!(matches!(carry_out(&mut index, &key, 26), Step::Change { .. }));
    assert!(index.binding(&key).is_none());
}

#[test]
fn clusters_that_are_no_longer_meant_stay_in_the_inventory_until_they_are_clean() {
    let (mut index, key) = converged();
    index.put_live(&name("c"), &key, live("c", "5", PLANE), false);
    let only_a = json!({"placement": {"clusterAffinity": {"clusterNames": ["a"]}}});
    index.set_policy((Some("shop".into()), "p".into()), Some(policy(only_a)));
    carry_out(&mut index, &key, 30);
    let binding = index.binding(&key).unwrap();
    assert_eq!(binding.spec.clusters.len(), 1);
    assert_eq!(binding.removing, [name("c")].into(), "b never held it");
    assert!(matches!(desired_state(&index, &name("c"), &key), DesiredState::Remove { .. }));
    index.remove_live(&name("c"), &key, Some(("c".into(), 6)));
    carry_out(&mut index, &key, 31);
    assert!(index.binding(&key).unwrap().removing.is_empty());
    assert!(matches!(carry_out(&mut index, &key, 32), Step::Nothing));
}

#[test]
fn a_binding_that_somebody_deleted_is_made_anew_and_members_notice_nothing() {
    let (mut index, key) = converged();
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
    let (mut index, key) = converged();
    let (a, held) = (name("a"), vec![(name("a"), key.clone())]);
    index.put_live(&a, &key, live("l", "5", PLANE), false);
    index.remove_binding(&key, None);
    // As after a start: nothing is known of the kind, then nothing decided of the template.
    let template = Template::clone(index.template(&key).unwrap());
    index.decisions.clear();
    index.forget_kind(&key.kind);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    index.put_template(key.clone(), template, true);
    assert_eq!(index.kind_synced(&key.kind).dispatch, held);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    let content = index.template(&key).map(|template| template.content());
    assert_eq!(index.decided(&key, content, Some(false), None, Duration::ZERO).dispatch, held);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Remove { preserve: false }));
    // A binding that does not mean the cluster has it looked at too.
    index.decided(&key, content, Some(true), None, Duration::ZERO);
    let only_b = json!({"placement": {"clusterAffinity": {"clusterNames": ["b"]}}});
    index.set_policy((Some("shop".into()), "p".into()), Some(policy(only_b)));
    let Step::Create(mut body) = plan(&index.schedule_inputs(&key)).step else { panic!("no binding is made") };
    body["metadata"]["uid"] = json!("again");
    let requeues = index.put_binding(key.clone(), Binding::of(body).unwrap(), false);
    assert_eq!(requeues.dispatch, [(a.clone(), key.clone()), (name("b"), key.clone())]);
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Remove { .. }));
    // A template that goes with nobody having heard of it leaves nothing behind.
    index.remove_binding(&key, None);
    index.remove_template(&key, Some(("t".into(), 20)));
    assert_eq!(index.decided(&key, None, Some(false), None, Duration::ZERO).dispatch, held);
    assert!(index.decision(&key).is_none());
}

#[test]
fn a_policy_that_is_not_understood_takes_nothing_away() {
    let (mut index, key) = converged();
    let (a, policy_key) = (name("a"), (Some("shop".to_owned()), "p".to_owned()));
    let told = |index: &Index| {
        let status = report(&index.report_inputs(&key, Duration::ZERO).unwrap()).unwrap().binding.unwrap();
        let scheduled = status.conditions.iter().find(|condition| condition.type_ == "Scheduled").unwrap();
        format!("{} {}: {}", scheduled.status, scheduled.reason, scheduled.message)
    };
    let want = "False PolicyUnsupported: PropagationPolicy shop/p cannot be acted on (is nested 200 levels deep); what is \
                placed stays as it is";
    // It was understood before: that holds.
    let requeues = index.mark_policy_unreadable(policy_key.clone(), "is nested 200 levels deep".into());
    assert_eq!(requeues.schedule, std::slice::from_ref(&key));
    assert!(matches!(carry_out(&mut index, &key, 11), Step::Nothing));
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Apply(_)));
    assert_eq!(told(&index), want);
    // The same after a start.
    index.set_policy(policy_key.clone(), None);
    index.decisions.clear();
    index.mark_policy_unreadable(policy_key.clone(), "is nested 200 levels deep".into());
    assert_eq!(index.policy_keys(true), std::slice::from_ref(&policy_key), "its end would not be noticed in a list");
    assert!(matches!(carry_out(&mut index, &key, 12), Step::Nothing));
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    assert_eq!((told(&index).as_str(), index.is_wanted(&key)), (want, None));
    // A template that goes needs no policy; and when the policy is gone, its binding stays.
    let template = Template::clone(index.template(&key).unwrap());
    index.remove_template(&key, None);
    assert!(matches!(plan(&index.schedule_inputs(&key)).step, Step::Delete { .. }));
    index.put_template(key.clone(), template, true);
    assert_eq!(index.set_policy(policy_key, None).schedule, std::slice::from_ref(&key));
    assert!(matches!(carry_out(&mut index, &key, 13), Step::Change { .. }));
    assert_eq!(index.binding(&key).unwrap().policy(), None);
}

#[test]
fn a_forced_unjoin_asks_for_each_removal_once() {
    let finalizer = |index: &mut Index, a: &ClusterName, key: &Key| {
        let mut deleting = live("l", "6", PLANE);
        deleting.deleting = true;
        index.put_live(a, key, deleting, false);
    };
    let webhook = |index: &mut Index, a: &ClusterName, key: &Key| {
        index.attempted(a, key, Attempt::NotRemoved("denied by a webhook".to_owned()));
    };
    let cases: [(&str, &dyn Fn(&mut Index, &ClusterName, &Key)); 2] =
        [("finalizer", &finalizer), ("webhook", &webhook)];
    for (obstacle, put_obstacle) in cases {
        let (mut index, key) = converged();
        let a = name("a");
        index.put_live(&a, &key, live("l", "5", PLANE), false);
        let mut leaving = at_version(cluster("a", "True"), 2);
        leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        leaving.metadata.annotations = Some([(FORCE_UNJOIN_ANNOTATION.to_owned(), "true".to_owned())].into());
        index.put_cluster(leaving.clone(), false);
        assert_eq!(index.may_contain(&a, &key), Some(true), "not asked yet");
        // An earlier failure is no answer to the removal.
        index.attempted(&a, &key, Attempt::Failed("quota".to_owned()));
        assert_eq!(index.may_contain(&a, &key), Some(true), "not asked yet");
        put_obstacle(&mut index, &a, &key);
        assert_eq!(index.may_contain(&a, &key), Some(false), "{obstacle}");
        carry_out(&mut index, &key, 60);
        assert_eq!(index.is_clean(&a), Some(true), "{obstacle}");
        // Without force it is waited for.
        leaving.metadata.annotations = None;
        index.put_cluster(at_version(leaving, 3), false);
        assert_eq!(index.may_contain(&a, &key), Some(true), "{obstacle}");
        assert_eq!(index.is_clean(&a), Some(false), "{obstacle}");
    }
}

#[test]
fn a_template_that_cannot_be_read_is_not_one_that_is_gone() {
    let (mut index, key) = converged();
    let a = name("a");
    // It was read before: that holds.
    index.mark_template_unreadable(key.clone());
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Apply(_)));
    // The same after a start: its binding stays, and so does what members have.
    index.templates.clear();
    index.decisions.clear();
    index.mark_template_unreadable(key.clone());
    assert!(matches!(plan(&index.schedule_inputs(&key)).step, Step::Nothing));
    assert_eq!((index.is_wanted(&key), index.decision(&key).is_none()), (None, true));
    assert!(matches!(desired_state(&index, &a, &key), DesiredState::Keep));
    assert_eq!(index.template_keys(&key.kind), std::slice::from_ref(&key), "its end would not be noticed in a list");
    // Corrected, or gone, it is as any other.
    assert_eq!(index.put_template(key.clone(), template("x", "t", "2"), false).schedule, std::slice::from_ref(&key));
    assert!(!index.is_template_unreadable(&key));
    index.templates.clear();
    index.mark_template_unreadable(key.clone());
    index.remove_template(&key, None);
    assert!(matches!(plan(&index.schedule_inputs(&key)).step, Step::Delete { .. }));
}

#[test]
fn what_is_to_be_preserved_stays_in_a_cluster_that_leaves() {
    for preserve in [false, true] {
        let (mut index, key) = converged();
        let mut binding = index.binding(&key).unwrap().clone();
        let mut spec = (*binding.spec).clone();
        spec.preserve_resources_on_deletion = Some(preserve);
        (binding.spec, binding.version) = (Arc::new(spec), 60);
        index.put_binding(key.clone(), binding, false);
        let mut leaving = at_version(cluster("a", "True"), 2);
        leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        index.put_cluster(leaving, false);
        let state = desired_state(&index, &name("a"), &key);
        assert!(matches!(state, DesiredState::Remove { preserve: found } if found == preserve), "{state:?}");
    }
}

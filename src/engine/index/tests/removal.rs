//! The end of a template, of its binding, and of a membership; what goes first, and what stays.

use super::*;

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

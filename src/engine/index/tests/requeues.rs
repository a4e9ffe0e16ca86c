//! What is looked at again after a change, and what is not.

use super::*;

fn dispatched(requeues: &Requeues) -> BTreeSet<Key> {
    requeues.dispatch.iter().map(|(_, key)| key.clone()).collect()
}

/// Adds an object with a policy of its own, bound as the policy says.
fn add(index: &mut Index, object: &str, placement: &Value) -> Key {
    let key = key(object);
    let selectors = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": object}]);
    let spec = policy(json!({"resourceSelectors": selectors, "placement": placement, "priority": 1}));
    index.set_policy((Some("shop".into()), object.into()), Some(spec));
    index.put_template(key.clone(), template(object, object, "1"), false);
    assert!(matches!(carry_out(index, &key, 20), Step::Create(_)));
    key
}

fn put(index: &mut Index, version: u64, ready: &str, label: Option<&str>) -> Requeues {
    let mut cluster = at_version(cluster("a", ready), version);
    cluster.metadata.labels = label.map(|tier| [("tier".to_owned(), tier.to_owned())].into());
    index.put_cluster(cluster, false)
}

#[test]
fn a_change_of_a_cluster_reaches_those_who_may_move() {
    let (mut index, everywhere) = converged();
    let elsewhere = add(&mut index, "elsewhere", &json!({"clusterAffinity": {"clusterNames": ["b"]}}));
    let by_label = json!({"clusterAffinity": {"labelSelector": {"matchLabels": {"tier": "edge"}}}});
    let refused = add(&mut index, "refused", &by_label);
    assert!(index.decision(&refused).unwrap().not_scheduled.is_some());
    let scheduled = |requeues: Requeues| -> BTreeSet<Key> {
        assert!(requeues.dispatch.is_empty() && requeues.report.is_empty() && !requeues.kinds);
        requeues.schedule.into_iter().collect()
    };
    // Nobody is driven away by a cluster that is not ready, and nobody waits for it to be ready again.
    assert_eq!(scheduled(put(&mut index, 2, "False", None)), [].into());
    assert_eq!(scheduled(put(&mut index, 3, "True", None)), [].into());
    assert_eq!(scheduled(put(&mut index, 4, "True", Some("core"))), [].into());
    assert_eq!(scheduled(put(&mut index, 5, "True", Some("edge"))), [refused.clone()].into());
    assert!(matches!(carry_out(&mut index, &refused, 30), Step::Change { .. }));
    assert!(index.binding(&refused).unwrap().targets(&name("a")));
    assert_eq!(scheduled(put(&mut index, 6, "True", None)), [refused.clone()].into());
    // What came while the cluster was not ready waits for it.
    put(&mut index, 7, "False", None);
    let late = add(&mut index, "late", &json!({}));
    assert_eq!(scheduled(put(&mut index, 8, "True", None)), [late.clone()].into());
    // Another cluster is for those who go everywhere; the message of others counts it.
    carry_out(&mut index, &refused, 40);
    assert!(index.decision(&refused).unwrap().not_scheduled.is_some());
    let joined = index.put_cluster(cluster("d", "True"), false);
    let joined: BTreeSet<Key> = joined.schedule.into_iter().collect();
    assert_eq!(joined, [everywhere.clone(), late.clone(), refused.clone()].into());
    // One that goes is for those who are in it.
    let gone: BTreeSet<Key> = index.remove_cluster(&name("b"), None).schedule.into_iter().collect();
    assert!(gone.contains(&elsewhere) && gone.contains(&everywhere) && gone.contains(&refused));
    // What waits for the cluster no longer does; and nothing was decided of the other one yet.
    index.decisions.remove(&elsewhere);
    assert_eq!(scheduled(put(&mut index, 9, "False", None)), [elsewhere, late].into());
}

#[test]
fn a_label_of_a_cluster_reaches_what_overrides_change_there() {
    let (mut index, _) = converged();
    let other = add(&mut index, "other", &json!({"clusterAffinity": {"clusterNames": ["b"]}}));
    assert!(dispatched(&put(&mut index, 2, "True", Some("edge"))).is_empty());
    let rules: OverrideSpec = from_value(json!({"overrideRules": []})).unwrap();
    index.set_override((Some("shop".into()), "o".into()), Some(rules));
    let requeues = put(&mut index, 3, "True", Some("core"));
    assert_eq!(requeues.dispatch, [(name("a"), key("x"))]);
    assert!(!requeues.schedule.contains(&other));
}

#[test]
fn a_decision_that_is_repeated_looks_at_no_member() {
    let (mut index, key) = converged();
    let decide = |index: &mut Index, wanted: bool| {
        let content = index.template(&key).map(|template| template.content());
        index.decided(&key, content, Some(wanted), None, Duration::ZERO).dispatch.len()
    };
    assert_eq!(decide(&mut index, true), 0);
    index.put_template(key.clone(), template("x", "t", "2"), false);
    assert_eq!((decide(&mut index, true), decide(&mut index, true)), (3, 0), "another template");
    assert_eq!((decide(&mut index, false), decide(&mut index, false)), (3, 0), "another decision");
    // After the kind was forgotten, everything is decided anew.
    index.forget_kind(&key.kind);
    index.put_template(key.clone(), template("x", "t", "2"), true);
    assert_eq!(decide(&mut index, false), 3);
}

#[test]
fn a_member_that_goes_away_is_reported_where_nothing_was_reported_before() {
    let (mut index, key) = converged();
    let a = name("a");
    let away = index.set_reachable(&a, false);
    assert_eq!((away.schedule, away.report), (vec![], vec![key.clone()]));
    assert_eq!(index.set_reachable(&a, false), Requeues::default());
    let back = index.set_reachable(&a, true);
    assert_eq!((back.schedule, back.report), (vec![], vec![]), "nothing is known of its objects yet");
    let mut binding = index.binding(&key).unwrap().clone();
    binding.version = 50;
    let status = json!({"aggregatedStatus": [{"clusterName": "a", "applied": true}]});
    binding.status = from_value(status).unwrap();
    index.put_binding(key.clone(), binding.clone(), false);
    assert!(index.set_reachable(&a, false).report.is_empty());
    // Who is to be gone from it waits for it.
    binding.version = 51;
    binding.removing = [a.clone()].into();
    index.put_binding(key.clone(), binding, false);
    assert_eq!(index.set_reachable(&a, true).schedule, [key]);
}

#[test]
fn a_list_that_says_nothing_new_costs_nothing() {
    let (mut index, key) = converged();
    let (a, kind) = (name("a"), key.kind.clone());
    let missing = add(&mut index, "missing", &json!({}));
    assert_eq!(index.applied(&a, &key, live("k", "4", PLANE), 7).report, [key.clone(), key.clone()]);
    index.remove_live(&a, &key, None);
    assert_eq!(index.applied(&a, &key, live("l", "5", PLANE), 7).report, std::slice::from_ref(&key), "made anew");
    let relist = |index: &mut Index, object: LiveObject| {
        index.set_reachable(&a, false);
        index.set_reachable(&a, true);
        let mut listed = index.put_live(&a, &key, object, true);
        listed.merge(index.member_synced(&a, &kind));
        assert!(listed.schedule.is_empty());
        (dispatched(&listed), listed.report)
    };
    assert_eq!(relist(&mut index, live("l", "6", PLANE)), ([missing.clone()].into(), vec![]));
    // What came up meanwhile is looked at, once.
    index.set_reachable(&a, false);
    index.postpone(&a, &key);
    assert_eq!(dispatched(&index.member_synced(&a, &KindKey::new("v1", "Secret"))), [].into());
    assert_eq!(relist(&mut index, live("l", "7", PLANE)).0, [key.clone(), missing.clone()].into());
    assert_eq!(relist(&mut index, live("l", "8", PLANE)).0, [missing.clone()].into());
    // Somebody changed it.
    let mut changed = live("l", "9", PLANE);
    changed.hash += 1;
    assert_eq!(relist(&mut index, changed).0, [key.clone(), missing.clone()].into());
    // Another status is reported.
    index.applied(&a, &key, live("l", "10", PLANE), 7);
    let mut fares = live("l", "11", PLANE);
    fares.status = Some("{}".into());
    assert_eq!(relist(&mut index, fares), ([missing.clone()].into(), vec![key.clone()]));
    // While the cluster leaves, nothing is as it should be.
    let mut leaving = at_version(cluster("a", "True"), 9);
    leaving.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    index.put_cluster(leaving, false);
    assert_eq!(dispatched(&index.member_synced(&a, &kind)), [key, missing].into());
}

#[test]
fn what_is_listed_is_looked_at_before_the_list_is_complete() {
    let (mut index, key) = converged();
    let a = name("a");
    index.set_reachable(&a, false);
    index.set_reachable(&a, true);
    assert_eq!(dispatched(&index.put_live(&a, &key, live("l", "5", PLANE), true)), [key.clone()].into());
    index.settle(&a, &key, live("l", "5", PLANE).hash, 7);
    assert_eq!(index.member(&a).unwrap().live[&key].body, None, "it is not kept until the end of the list");
    assert!(dispatched(&index.member_synced(&a, &key.kind)).is_empty());
}

#[test]
fn a_repair_restores_what_was_held_before() {
    let (mut index, key) = converged();
    let a = name("a");
    let seconds = Duration::from_secs;
    let count = |index: &Index| index.member(&a).unwrap().repairs.get(&key).map(|repair| repair.count);
    index.applied(&a, &key, live("l", "5", PLANE), 7);
    assert!(!index.count_repair(&a, &key, 8, seconds(1)), "another manifest is wanted than before");
    assert_eq!(count(&index), None);
    let drift = |index: &mut Index, version: &str| {
        let mut changed = live("l", version, PLANE);
        changed.hash += 1;
        index.put_live(&a, &key, changed, false);
        assert_eq!(index.member(&a).unwrap().live[&key].settled(), None);
    };
    for (version, at, counted) in [("6", 10, 1), ("8", 20, 2), ("10", 147, 3), ("12", 275, 1)] {
        drift(&mut index, version);
        assert!(index.count_repair(&a, &key, 7, seconds(at)));
        assert_eq!(count(&index), Some(counted), "at {at} s");
        let next = (version.parse::<u64>().unwrap() + 1).to_string();
        index.applied(&a, &key, live("l", &next, PLANE), 7);
    }
    index.remove_live(&a, &key, None);
    assert!(!index.count_repair(&a, &key, 7, seconds(280)), "it was made anew");
}

#[test]
fn what_many_hold_alike_is_kept_once() {
    let (mut index, key) = converged();
    let a = name("a");
    let other = add(&mut index, "other", &json!({}));
    for (key, version) in [(&key, 100), (&other, 101)] {
        let mut binding = index.binding(key).unwrap().clone();
        binding.version = version;
        binding.status = from_value(json!({"aggregatedStatus": [{"clusterName": "a", "applied": true}],
            "conditions": [{"type": "Scheduled", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .unwrap();
        // As it comes out of a watch: nothing of it is shared yet.
        binding.spec = Arc::new(from_value(json!(*binding.spec)).unwrap());
        binding.annotations = BTreeMap::from([("policy".to_owned(), "p".to_owned())]).into();
        let equal = ObjectKey { kind: KindKey::new("v1", "ConfigMap"), ..(**key).clone() };
        index.put_binding(Arc::new(equal.clone()), binding, false);
        let mut object = live(&key.name, "5", PLANE);
        object.status = Some("{}".into());
        index.applied(&a, &Arc::new(equal), object, 7);
    }
    let (first, second) = (index.binding(&key).unwrap(), index.binding(&other).unwrap());
    let placements = (first.spec.placement.as_ref().unwrap(), second.spec.placement.as_ref().unwrap());
    assert!(placements.0.is_same(placements.1) && first.spec.clusters.is_same(&second.spec.clusters));
    assert!(first.annotations.is_same(&second.annotations) && first.finalizers.is_same(&second.finalizers));
    assert!(first.status.conditions.is_same(&second.status.conditions));
    assert!(first.status.aggregated_status.is_same(&second.status.aggregated_status));
    let member = index.member(&a).unwrap();
    let status = |key: &Key| member.live[key].status.clone().unwrap();
    assert!(Arc::ptr_eq(&status(&key), &status(&other)));
    assert!(std::ptr::eq(member.live[&key].plane.as_ref().unwrap().as_str(), index.plane.as_str()));
    let (template, _) = index.templates.get_key_value(&key).unwrap();
    let (bound, _) = index.bindings.get_key_value(&key).unwrap();
    let (held, _) = member.live.get_key_value(&key).unwrap();
    assert!(Arc::ptr_eq(template, bound) && Arc::ptr_eq(template, held));
}

#[test]
fn only_who_waits_hears_that_an_object_is_gone() {
    let (mut index, key) = converged();
    let a = name("a");
    let gone = |index: &mut Index| {
        index.put_live(&a, &key, live("l", "5", PLANE), true);
        index.remove_live(&a, &key, None).schedule
    };
    assert!(gone(&mut index).is_empty());
    let mut binding = index.binding(&key).unwrap().clone();
    binding.version = 50;
    binding.deleting = true;
    index.put_binding(key.clone(), binding, false);
    assert_eq!(gone(&mut index), std::slice::from_ref(&key));
}

#[test]
fn the_objects_of_a_cluster_follow_its_bindings() {
    let (mut index, key) = converged();
    let a = name("a");
    let in_a = |index: &Index| index.bindings_in(&a).cloned().collect::<Vec<_>>();
    let kinds = |index: &Index| index.member_kinds(&a).len();
    assert_eq!((in_a(&index), kinds(&index)), (vec![key.clone()], 2));
    let mut binding = index.binding(&key).unwrap().clone();
    Arc::make_mut(&mut binding.spec).clusters.make_mut().retain(|target| target.name != "a");
    (binding.version, binding.removing) = (50, [a.clone()].into());
    index.put_binding(key.clone(), binding.clone(), false);
    assert_eq!(in_a(&index), std::slice::from_ref(&key), "it is still to be removed there");
    (binding.version, binding.removing) = (51, [].into());
    index.put_binding(key.clone(), binding, false);
    assert_eq!((in_a(&index), kinds(&index)), (vec![], 1));
    assert_eq!(index.bindings_in(&name("b")).count(), 1);
    index.remove_binding(&key, None);
    assert_eq!(index.bindings_in(&name("b")).count(), 0);
}

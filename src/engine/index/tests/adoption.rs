//! Which objects of members are this plane's, and which may be taken over.

use super::*;

#[test]
fn orphans_of_this_plane_are_removed_and_those_of_others_are_not() {
    let (mut index, bound) = converged();
    let (orphan, a) = (key("orphan"), name("a"));
    assert!(matches!(desired_state(&index, &a, &orphan), DesiredState::Remove { .. }));
    assert!(index.is_ours(&live("l", "1", PLANE), &bound));
    assert!(!index.is_ours(&live("l", "1", "another"), &bound));
    let copy = LiveObject::of(marked("orphan", "l", "1", PLANE));
    assert!(!index.is_ours(&copy, &orphan), "somebody restored an object under another name");
    // Another Karmada sets no mark, but may have a binding of this very name.
    assert!(!index.is_ours(&unmarked("theirs"), &orphan) && !index.is_ours(&unmarked("theirs"), &bound));
    assert!(!index.is_ours(&unmarked("t"), &orphan));
    assert!(index.is_ours(&unmarked("t"), &bound), "only the mark was taken off");
    let namespace = |annotations: Value| {
        LiveObject::of(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "old", "annotations": annotations}}),
        )
    };
    let old = ObjectKey::of_namespace("old");
    assert!(index.is_ours(&namespace(json!({"airdock.dev/plane": PLANE, "airdock.dev/name": "old"})), &old));
    let unnamed = namespace(json!({"airdock.dev/plane": PLANE}));
    assert!(!index.is_ours(&unnamed, &old), "of an earlier version, or a copy of one");
    index.put_namespace(json!({"metadata": {"name": "old", "uid": "n", "resourceVersion": "1"}}));
    assert!(index.is_ours(&unnamed, &old), "the plane has it");
    // Nothing is decided about a cluster that is not there.
    index.remove_cluster(&name("a"), None);
    assert!(matches!(desired_state(&index, &a, &orphan), DesiredState::Keep));
}

#[test]
fn an_object_that_is_bound_by_another_version_of_its_kind_stays() {
    let (mut index, bound) = converged();
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
    let (mut index, key) = converged();
    let manifest = |index: &Index, key: &Key| match desired_state(index, &name("a"), key) {
        DesiredState::Apply(inputs) => inputs.render(key).unwrap(),
        other => panic!("{other:?}"),
    };
    // Of the plane's object `y`, under this one's name.
    let copied = || {
        let mut object = marked("x", "l", "1", PLANE);
        let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.insert("resourcebinding.karmada.io/name".to_owned(), json!("y-configmap"));
        annotations.insert("resourcetemplate.karmada.io/uid".to_owned(), json!("y"));
        LiveObject::of(object)
    };
    let mut plain = live("l", "1", PLANE);
    plain.template = None;
    plain.plane = None;
    let ours = manifest(&index, &key);
    for (live, labelled, words) in [
        (live("l", "1", PLANE), true, None),
        (live("l", "1", PLANE), false, None),
        (copied(), true, Some("managed by another control plane")),
        (unmarked("t"), true, None),
        (unmarked("theirs"), true, Some("managed by another control plane")),
        (live("l", "1", "another"), true, Some("managed by another control plane")),
        (plain.clone(), true, Some("managed by another control plane")),
        (plain, false, Some("not managed")),
    ] {
        let answer = check_adoption(&live, labelled, &PLANE.into(), &ours, &name("a"));
        assert_eq!(answer.is_err(), words.is_some(), "{answer:?}");
        assert!(words.is_none_or(|words| answer.unwrap_err().contains(words)));
    }
    // A namespace that another plane brought is no less its own.
    index.put_namespace(json!({"metadata": {"name": "shop", "uid": "n", "resourceVersion": "1"}}));
    let namespace = manifest(&index, &ObjectKey::of_namespace("shop"));
    assert!(check_adoption(&unmarked("theirs"), true, &PLANE.into(), &namespace, &name("a")).is_err());
    assert!(check_adoption(&unmarked("n"), true, &PLANE.into(), &namespace, &name("a")).is_ok());
    let overwrite = Some(policy(json!({"conflictResolution": "Overwrite"})));
    index.set_policy((Some("shop".into()), "p".into()), overwrite);
    carry_out(&mut index, &key, 11);
    assert!(check_adoption(&unmarked("theirs"), true, &PLANE.into(), &manifest(&index, &key), &name("a")).is_ok());
}

#[test]
fn fields_that_a_template_lost_are_missed_after_a_restart() {
    let manifest = |data: Value| {
        let (mut index, key) = converged();
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
    let found = LiveObject::of(object.clone());
    assert!(holds(&found, &before));
    assert!(holds(&found, &manifest(json!({"kept": "1", "lost": "1"}))), "another process says the same");
    assert!(!holds(&found, &manifest(json!({"kept": "1"}))));
    object["metadata"]["annotations"].as_object_mut().unwrap().remove("airdock.dev/manifest");
    assert!(!holds(&LiveObject::of(object), &before), "whatever came without a fingerprint is applied once");
}

#[test]
fn a_namespace_that_was_there_before_is_never_deleted() {
    let (mut index, _) = converged();
    index.put_namespace(json!({"metadata": {"name": "shop", "uid": "n", "resourceVersion": "1",
        "annotations": {ADOPTED_ANNOTATION: "not for a template to say"}}}));
    let key = ObjectKey::of_namespace("shop");
    let DesiredState::Apply(inputs) = desired_state(&index, &name("a"), &key) else { panic!("not wanted") };
    let manifest = inputs.render(&key).unwrap();
    let found = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "uid": "l", "resourceVersion": "1"}});
    for (adoption, stays) in [(Adoption::Own, false), (Adoption::Overwrite, true)] {
        let written = update_of(&found, &manifest, true, adoption).object;
        assert_eq!(is_preserved(&LiveObject::of(written.clone()), &key, false), stays, "{adoption:?}");
        // Later updates do not forget it.
        let again = update_of(&written, &manifest, true, Adoption::Own).object;
        assert_eq!(is_preserved(&LiveObject::of(again), &key, false), stays, "{adoption:?}");
    }
}

//! One object by two versions of its kind: it has one binding.

use super::*;

fn thing(version: &str) -> Key {
    let kind = KindKey::new(&format!("example.io/{version}"), "Thing");
    Arc::new(ObjectKey { kind, namespace: Some("shop".into()), name: "x".into() })
}

fn seen_as(version: &str) -> Template {
    Template::of(json!({"apiVersion": format!("example.io/{version}"), "kind": "Thing",
        "metadata": {"name": "x", "namespace": "shop", "uid": "t", "resourceVersion": "1"}}))
}

fn selecting(version: &str) -> PropagationSpec {
    let selectors = json!([{"apiVersion": format!("example.io/{version}"), "kind": "Thing"}]);
    policy(json!({ "resourceSelectors": selectors }))
}

fn policy_key() -> PolicyKey {
    (Some("shop".into()), "p".into())
}

/// Bound as v1beta1, with the object in cluster a.
fn bound_as_v1beta1() -> Index {
    let mut index = Index::of(PLANE.into());
    for name in ["a", "b"] {
        index.put_cluster(cluster(name, "True"), false);
    }
    let old = thing("v1beta1");
    index.set_policy(policy_key(), Some(selecting("v1beta1")));
    index.put_template(old.clone(), seen_as("v1beta1"), false);
    index.kind_synced(&old.kind);
    assert!(matches!(carry_out(&mut index, &old, 10), Step::Create(_)));
    index.set_reachable(&name("a"), true);
    index.member_synced(&name("a"), &old.kind);
    index.put_live(&name("a"), &old, live("l", "5", PLANE), false);
    index
}

#[test]
fn the_binding_follows_the_version_that_is_claimed() {
    let (old, new) = (thing("v1beta1"), thing("v1"));
    let mut index = bound_as_v1beta1();
    let uid = index.binding(&old).unwrap().uid.clone();
    index.put_template(new.clone(), seen_as("v1"), false);
    index.kind_synced(&new.kind);
    // Both versions are served, and the old one is claimed still.
    let both = json!({"resourceSelectors": [{"apiVersion": "example.io/v1beta1", "kind": "Thing"}, {"apiVersion": "example.io/v1", "kind": "Thing"}]});
    index.set_policy(policy_key(), Some(policy(both)));
    assert!(matches!(carry_out(&mut index, &new, 11), Step::Nothing));
    // Now the new one alone.
    let requeues = index.set_policy(policy_key(), Some(selecting("v1")));
    assert!(requeues.schedule.contains(&new), "{requeues:?}");
    assert!(matches!(carry_out(&mut index, &new, 12), Step::Change { .. }));
    let binding = index.binding(&new).unwrap();
    assert_eq!((&binding.uid, binding.spec.resource.api_version.as_str()), (&uid, "example.io/v1"));
    assert_eq!(binding.spec.clusters.len(), 2, "it stays where it was");
    assert!(index.binding(&old).is_none(), "there is one binding");
    // What members have is the same object, and nobody's to remove.
    carry_out(&mut index, &old, 13);
    assert!(matches!(desired_state(&index, &name("a"), &old), DesiredState::Keep));
    assert!(matches!(desired_state(&index, &name("a"), &new), DesiredState::Apply(_)));
}

#[test]
fn a_version_that_is_not_served_any_more_is_not_taken_for_gone() {
    let (old, new) = (thing("v1beta1"), thing("v1"));
    let mut index = bound_as_v1beta1();
    // As after a start: the plane serves v1 alone.
    index.forget_kind(&old.kind);
    index.put_template(new.clone(), seen_as("v1"), false);
    index.kind_synced(&new.kind);
    assert!(matches!(carry_out(&mut index, &old, 11), Step::Nothing));
    assert!(matches!(desired_state(&index, &name("a"), &old), DesiredState::Keep));
    index.set_policy(policy_key(), Some(selecting("v1")));
    assert!(matches!(carry_out(&mut index, &new, 12), Step::Change { .. }));
    carry_out(&mut index, &old, 13);
    assert!(matches!(desired_state(&index, &name("a"), &old), DesiredState::Keep));
    // An old event does not bring the old one back.
    let mut late = index.binding(&new).unwrap().clone();
    late.version = 9;
    index.put_binding(old.clone(), late, false);
    assert!(index.binding(&old).is_none() && index.binding(&new).is_some());
}

#[test]
fn the_name_is_awaited_while_the_old_binding_ends() {
    let (old, new) = (thing("v1beta1"), thing("v1"));
    let mut index = bound_as_v1beta1();
    index.put_template(new.clone(), seen_as("v1"), false);
    index.kind_synced(&new.kind);
    index.set_policy(policy_key(), Some(selecting("v1")));
    let mut ending = index.binding(&old).unwrap().clone();
    (ending.deleting, ending.version) = (true, 20);
    index.put_binding(old.clone(), ending, false);
    assert!(matches!(carry_out(&mut index, &new, 21), Step::Nothing));
    assert!(index.remove_binding(&old, None).schedule.contains(&new));
    assert!(matches!(carry_out(&mut index, &new, 22), Step::Create(_)));
}

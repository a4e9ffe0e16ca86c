//! How long a binding lives, and what members have meanwhile.

use super::super::super::desired::{Manifest, keeps_last_manifest};
use super::super::super::report::report;
use super::*;

fn shop_policy() -> PolicyKey {
    (Some("shop".into()), "p".into())
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
    let live = LiveObject::of(manifest(&index, &key).value);
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
    let live = LiveObject::of(manifest(&index, &key).value);
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
fn a_policy_that_is_not_understood_takes_nothing_away() {
    let (mut index, key) = converged();
    let (a, policy_key) = (name("a"), (Some("shop".into()), "p".to_owned()));
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

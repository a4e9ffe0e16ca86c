//! What templates tell of the policy that claims them.

use super::super::super::claim_metadata::ClaimPatch;
use super::super::super::desired::repair_backoff;
use super::*;

const LABEL: &str = "propagationpolicy.karmada.io/permanent-id";

fn in_shop(name: &str) -> PolicyKey {
    (Some("shop".into()), name.into())
}

/// The template as the plane has it, at a version, with what tells of its claim.
fn told(claim: &ClaimMetadata, version: u64) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "1"},
        "metadata": {"name": "x", "namespace": "shop", "uid": "t", "resourceVersion": version.to_string()}});
    for patch in claim.patches(&KindKey::new("v1", "ConfigMap"), &"t".into()) {
        let (ClaimPatch::Object(patch) | ClaimPatch::Status(patch)) = patch;
        json_patch::merge(&mut object, &patch);
    }
    object
}

fn put(index: &mut Index, key: &Key, claim: &ClaimMetadata, version: u64) -> Requeues {
    index.put_template(key.clone(), Template::of(told(claim, version)), false)
}

/// A converged plane whose template tells who claims it.
fn marked() -> (Index, Key, ClaimMetadata) {
    let (mut index, key) = converged();
    index.set_permanent_id(in_shop("p"), Some("i"));
    carry_out(&mut index, &key, 11);
    let claim = plan(&index.schedule_inputs(&key)).claim.unwrap();
    assert!(index.lacks_claim(&key));
    put(&mut index, &key, &claim, 12);
    assert!(!index.lacks_claim(&key));
    (index, key, claim)
}

#[test]
fn a_template_tells_what_its_binding_tells() {
    let selecting = |app: &str| json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"app": app}}}]});
    let of_p = || ClaimMetadata::of_policy(Some("shop"), "p", Some("i"));
    let cases: [(&str, fn(&mut Index), ClaimMetadata); 6] = [
        ("claimed", |_| {}, of_p()),
        ("a later policy", |index| drop(index.set_policy(in_shop("a"), Some(policy(json!({"priority": 9}))))), of_p()),
        ("deleted", |index| drop(index.set_policy(in_shop("p"), None)), ClaimMetadata::default()),
        (
            "narrowed",
            |index| {
                let other = json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other"}]});
                index.set_policy(in_shop("p"), Some(policy(other)));
            },
            ClaimMetadata::default(),
        ),
        (
            "replaced",
            |index| {
                index.set_policy(in_shop("p"), None);
                index.set_permanent_id((None, "wide".into()), Some("j"));
                index.set_policy((None, "wide".into()), Some(policy(json!({}))));
            },
            ClaimMetadata::of_policy(None, "wide", Some("j")),
        ),
        (
            "another id",
            |index| drop(index.set_permanent_id(in_shop("p"), Some("restored"))),
            ClaimMetadata::of_policy(Some("shop"), "p", Some("restored")),
        ),
    ];
    for (what, change, wanted) in cases {
        let (mut index, key, _) = marked();
        change(&mut index);
        carry_out(&mut index, &key, 20);
        assert_eq!(plan(&index.schedule_inputs(&key)).claim, Some(wanted.clone()), "{what}");
        let binding = index.binding(&key).unwrap();
        let metadata = json!({"metadata": {"labels": *binding.labels, "annotations": *binding.annotations}});
        assert_eq!(ClaimMetadata::of_object(&metadata), wanted, "{what}: the binding");
        assert_eq!(index.lacks_claim(&key), wanted != of_p(), "{what}");
    }
    // As long as the policy holds a template that was relabelled, it claims it.
    let (mut index, key, _) = marked();
    index.set_policy(in_shop("p"), Some(policy(selecting("a"))));
    let relabelled = |app: &str| changed(&json!({"labels": {"app": app}}), "1");
    for (app, version) in [("a", 20), ("b", 21)] {
        index.put_template(key.clone(), relabelled(app), true);
        carry_out(&mut index, &key, version);
    }
    assert_eq!(plan(&index.schedule_inputs(&key)).claim, Some(of_p()));
}

#[test]
fn nothing_is_told_of_what_is_not_known() {
    // No binding yet.
    let (mut index, key, _) = marked();
    index.remove_binding(&key, None);
    assert_eq!(plan(&index.schedule_inputs(&key)).claim, None);
    // A policy that was never understood.
    let (mut index, key, _) = marked();
    index.set_policy(in_shop("p"), None);
    index.mark_policy_unreadable(in_shop("p"), "why".into());
    carry_out(&mut index, &key, 20);
    assert_eq!(plan(&index.schedule_inputs(&key)).claim, None);
    assert!(!index.lacks_claim(&key));
    // On its way out.
    for finalizer in ["example.io/hold", "orphan", "foregroundDeletion"] {
        let (mut index, key, _) = marked();
        index.put_template(key.clone(), deleted_with(finalizer), true);
        index.set_policy(in_shop("p"), None);
        carry_out(&mut index, &key, 20);
        assert!(!index.lacks_claim(&key), "{finalizer}");
    }
    // Policies have no say there: what is written there is nobody's business.
    for (namespace, object) in [("karmada-system", "x"), ("shop", "kube-root-ca.crt")] {
        let mut index = Index::of(PLANE.into());
        let kind = KindKey::new("v1", "ConfigMap");
        let key: Key = Arc::new(ObjectKey { kind, namespace: Some(namespace.into()), name: object.into() });
        put(&mut index, &key, &ClaimMetadata::of_policy(None, "p", Some("i")), 1);
        carry_out(&mut index, &key, 2);
        assert!(!index.lacks_claim(&key), "{namespace} {object}");
    }
}

#[test]
fn an_object_that_is_seen_twice_tells_what_the_bound_version_says() {
    let thing = |version: &str| -> Key {
        let kind = KindKey::new(&format!("example.io/{version}"), "Thing");
        Arc::new(ObjectKey { kind, namespace: Some("shop".into()), name: "x".into() })
    };
    let seen = |claim: &ClaimMetadata, version: &str, at: u64| {
        let mut object = told(claim, at);
        object["apiVersion"] = json!(format!("example.io/{version}"));
        object["kind"] = json!("Thing");
        Template::of(object)
    };
    let (bound, other) = (thing("v1"), thing("v2"));
    let mut index = Index::of(PLANE.into());
    index.put_cluster(cluster("a", "True"), false);
    let selectors = json!({"resourceSelectors": [{"apiVersion": "example.io/v1", "kind": "Thing"}]});
    index.set_policy(in_shop("p"), Some(policy(selectors)));
    let unclaimed = ClaimMetadata::default();
    for (key, version) in [(&other, "v2"), (&bound, "v1")] {
        index.put_template(key.clone(), seen(&unclaimed, version, 1), false);
        index.kind_synced(&key.kind);
        carry_out(&mut index, key, 10);
    }
    // Only now may the template tell of a claim: the binding keeps the other version from taking it back.
    carry_out(&mut index, &bound, 11);
    assert!(index.lacks_claim(&bound) && !index.lacks_claim(&other));
    let claim = plan(&index.schedule_inputs(&bound)).claim.unwrap();
    for (key, version) in [(&other, "v2"), (&bound, "v1")] {
        index.put_template(key.clone(), seen(&claim, version, 2), false);
    }
    assert!(!index.lacks_claim(&bound));
    assert_eq!(plan(&index.schedule_inputs(&other)).claim, None);
}

#[test]
fn what_a_template_tells_has_no_say() {
    let (mut index, key, claim) = marked();
    index.set_policy((None, "wide".into()), Some(policy(json!({"priority": 9}))));
    carry_out(&mut index, &key, 13);
    let (before, content) = (index.template(&key).unwrap().body.clone(), index.template(&key).unwrap().content());
    let mut version = 20;
    for (what, object) in [
        ("another policy", told(&ClaimMetadata::of_policy(None, "wide", Some("j")), 0)),
        ("one that is not there", told(&ClaimMetadata::of_policy(Some("shop"), "gone", Some("i")), 0)),
        ("another id", told(&ClaimMetadata::of_policy(Some("shop"), "p", Some("false")), 0)),
        ("nothing", told(&ClaimMetadata::default(), 0)),
    ] {
        version += 2;
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let requeues = index.put_template(key.clone(), Template::of(object), false);
        assert_eq!(requeues, Requeues { claims: vec![key.clone()], ..Requeues::default() }, "{what}");
        let template = index.template(&key).unwrap();
        assert_eq!((&template.body, template.content()), (&before, content), "{what}: members are not concerned");
        let plan = plan(&index.schedule_inputs(&key));
        assert!(matches!(plan.step, Step::Nothing), "{what}: {:?}", plan.step);
        assert_eq!(plan.claim.as_ref(), Some(&claim), "{what}");
        // What the engine itself writes is followed by nothing.
        assert_eq!(put(&mut index, &key, &claim, version + 1), Requeues::default(), "{what}");
    }
}

#[test]
fn an_unclaimed_template_cannot_claim_itself() {
    let mut index = Index::of(PLANE.into());
    let key = key("x");
    index.put_cluster(cluster("a", "True"), false);
    index.set_permanent_id(in_shop("p"), Some("i"));
    let other = json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other"},
        {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {LABEL: "i"}}}]});
    index.set_policy(in_shop("p"), Some(policy(other)));
    put(&mut index, &key, &ClaimMetadata::of_policy(Some("shop"), "p", Some("i")), 1);
    index.kind_synced(&key.kind);
    assert!(matches!(carry_out(&mut index, &key, 10), Step::Nothing));
    assert_eq!(plan(&index.schedule_inputs(&key)).claim, Some(ClaimMetadata::default()));
    assert!(index.lacks_claim(&key));
}

#[test]
fn what_is_refused_waits_until_something_changes() {
    let (mut index, key, _) = marked();
    index.set_policy(in_shop("p"), None);
    let inputs = index.schedule_inputs(&key);
    let claim = plan(&inputs).claim.unwrap().fingerprint();
    assert_eq!(index.claim_decided(&key, Some(claim)).claims, std::slice::from_ref(&key));
    assert_eq!(index.claim_decided(&key, Some(claim)).claims, []);
    // Its status is written often.
    let object = |status: &str, data: &str, version: u64| {
        let mut object = told(&ClaimMetadata::of_policy(Some("shop"), "p", Some("i")), version);
        object["status"] = json!({ "s": status });
        object["data"]["k"] = json!(data);
        Template::of(object)
    };
    assert_eq!(index.put_template(key.clone(), object("a", "1", 30), false).claims, []);
    assert_eq!(index.put_template(key.clone(), object("b", "1", 31), false).claims, []);
    assert_eq!(index.put_template(key.clone(), object("b", "2", 32), false).claims, std::slice::from_ref(&key));
}

#[test]
fn two_writers_do_not_fight_at_full_speed() {
    let (mut index, key, claim) = marked();
    let wanted = claim.fingerprint();
    let now = Duration::from_secs(5);
    let mut waits = Vec::new();
    for version in 0..6 {
        put(&mut index, &key, &ClaimMetadata::of_policy(Some("shop"), "false", None), 20 + 2 * version);
        let before = index.claim_inputs(&key).unwrap();
        let wait = before.repair.map(|last| repair_backoff(last.count, last.at, now));
        waits.push(wait.unwrap_or_default().as_millis());
        assert!(index.count_claim_repair(&before, wanted, now));
        put(&mut index, &key, &claim, 21 + 2 * version);
    }
    assert_eq!(waits, [0, 0, 0, 250, 500, 1000]);
    // A new claim is no repair, and is written at once.
    index.set_policy(in_shop("p"), None);
    carry_out(&mut index, &key, 40);
    let before = index.claim_inputs(&key).unwrap();
    assert!(!index.count_claim_repair(&before, ClaimMetadata::default().fingerprint(), now));
    index.remove_template(&key, None);
    assert_eq!(index.claim_repair(&key), None);
}

#[test]
fn a_first_claim_is_no_repair() {
    let (_, key, claim) = marked();
    let wanted = claim.fingerprint();
    let wrong = || ClaimMetadata::of_policy(Some("shop"), "false", None);
    let namesake = |claim: &ClaimMetadata, version: u64| {
        let mut object = told(claim, version);
        object["metadata"]["uid"] = json!("t2");
        Template::of(object)
    };
    // The watch tells of the engine's own write before its answer is there.
    let (mut first, key_of_first) = converged();
    carry_out(&mut first, &key_of_first, 11);
    let claim_of_first = plan(&first.schedule_inputs(&key_of_first)).claim.unwrap();
    let before = first.claim_inputs(&key_of_first).unwrap();
    put(&mut first, &key_of_first, &claim_of_first, 12);
    assert!(!first.count_claim_repair(&before, claim_of_first.fingerprint(), Duration::ZERO));

    // A namesake that is made anew was never right.
    for is_seen_removed in [false, true] {
        let mut index = marked().0;
        if is_seen_removed {
            index.remove_template(&key, None);
        }
        index.put_template(key.clone(), namesake(&ClaimMetadata::default(), 20), false);
        carry_out(&mut index, &key, 21);
        let before = index.claim_inputs(&key).unwrap();
        assert!(!index.count_claim_repair(&before, wanted, Duration::ZERO), "removal seen: {is_seen_removed}");
    }

    // What went, or was made anew, while the request was under way.
    let mut index = marked().0;
    put(&mut index, &key, &wrong(), 20);
    let before = index.claim_inputs(&key).unwrap();
    index.put_template(key.clone(), namesake(&claim, 21), false);
    assert!(!index.count_claim_repair(&before, wanted, Duration::ZERO));
    index.remove_template(&key, None);
    assert!(!index.count_claim_repair(&before, wanted, Duration::ZERO));
    assert_eq!(index.claim_repair(&key), None);
}

#[test]
fn what_is_forbidden_is_told_once() {
    let (mut index, key, claim) = marked();
    put(&mut index, &key, &ClaimMetadata::default(), 20);
    let wanted = claim.fingerprint();
    assert_eq!([(); 2].map(|()| index.claim_forbidden(&key, wanted)), [true, false]);
    // Another claim is told of, and another object of the same name.
    index.set_policy(in_shop("p"), None);
    carry_out(&mut index, &key, 21);
    let unclaimed = ClaimMetadata::default().fingerprint();
    assert!(!index.claim_forbidden(&key, wanted), "no longer wanted");
    assert_eq!([(); 2].map(|()| index.claim_forbidden(&key, unclaimed)), [true, false]);
    index.remove_template(&key, None);
    put(&mut index, &key, &claim, 22);
    carry_out(&mut index, &key, 23);
    assert!(index.claim_forbidden(&key, unclaimed));
}

#[test]
fn what_a_binding_names_is_not_claimable_for_that() {
    let forged = |kind: &str, name: &str, namespace: &str, controller: bool| {
        let owner = json!({"apiVersion": "v1", "kind": "K", "name": name, "uid": "t", "controller": controller});
        Binding::of(json!({"metadata": {"name": "b", "namespace": namespace, "uid": "b", "resourceVersion": "1",
            "finalizers": [BINDING_FINALIZER], "ownerReferences": [owner]},
            "spec": {"resource": {"apiVersion": "x", "kind": kind, "name": name}, "clusters": [{"name": "a"}]}}))
        .unwrap()
    };
    for (api_version, kind, namespace, name) in [
        ("policy.karmada.io/v1alpha1", "PropagationPolicy", "shop", "p"),
        ("work.karmada.io/v1alpha2", "ResourceBinding", "shop", "p-propagationpolicy"),
        ("v1", "ConfigMap", "karmada-system", "x"),
        ("v1", "ServiceAccount", "shop", "default"),
    ] {
        let kind_key = KindKey::new(api_version, kind);
        let key: Key =
            Arc::new(ObjectKey { kind: kind_key.clone(), namespace: Some(namespace.into()), name: name.into() });
        let mut index = Index::of(PLANE.into());
        index.put_cluster(cluster("a", "True"), false);
        index.put_binding(key.clone(), forged(kind, name, namespace, true), false);
        let mut object = told(&ClaimMetadata::of_policy(Some("shop"), "p", Some("i")), 1);
        object["metadata"]["labels"][LABEL] = json!("i");
        index.put_template(key.clone(), Template::of(object), false);
        assert_eq!(plan(&index.schedule_inputs(&key)).claim, None, "{kind}");
        carry_out(&mut index, &key, 2);
        assert!(!index.lacks_claim(&key), "{kind}");
    }

    // A kind that is never propagated has no templates to wait for: such a binding can be deleted.
    let kind = KindKey::new("policy.karmada.io/v1alpha1", "PropagationPolicy");
    let key: Key = Arc::new(ObjectKey { kind: kind.clone(), namespace: Some("shop".into()), name: "p".into() });
    let mut index = Index::of(PLANE.into());
    index.put_binding(key.clone(), forged("PropagationPolicy", "p", "shop", false), false);
    assert!(index.plane_kinds().is_empty());
    assert!(!matches!(plan(&index.schedule_inputs(&key)).step, Step::Delete { .. }), "nobody owns it");
    let mut deleted = index.binding(&key).unwrap().clone();
    (deleted.deleting, deleted.version) = (true, 2);
    index.put_binding(key.clone(), deleted, false);
    let Step::Change { operations, .. } = plan(&index.schedule_inputs(&key)).step else { panic!("it is not let go") };
    assert_eq!(operations[0]["value"], json!([]));
}

#[test]
fn a_restart_finds_templates_as_they_are_to_be() {
    let (before, key, claim) = marked();
    let mut index = Index::of(PLANE.into());
    for name in ["a", "b", "c"] {
        index.put_cluster(cluster(name, "True"), true);
    }
    index.set_permanent_id(in_shop("p"), Some("i"));
    index.set_policy(in_shop("p"), Some(policy(json!({}))));
    index.put_binding(key.clone(), before.binding(&key).unwrap().clone(), true);
    put(&mut index, &key, &claim, 50);
    assert!(matches!(carry_out(&mut index, &key, 51), Step::Nothing));
    assert!(!index.lacks_claim(&key));
}

use super::*;
use crate::api::app::InventoryEntry;
use crate::api::common::condition::{READY, RECONCILING};
use crate::controllers::permission::observe::Copies;
use crate::karmada::Cluster;
use crate::karmada::binding::AggregatedStatusItem;
use crate::machinery::conditions::find;
use crate::runtime::instance_ref::InstanceRefError;
use serde_json::{Value, json};

fn binding(namespaces: Value, status: Value) -> PermissionBinding {
    serde_json::from_value(json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "PermissionBinding",
        "metadata": {"namespace": "team", "name": "devs", "generation": 2},
        "spec": {"subjects": [{"kind": "User", "name": "alice"}], "role": "Viewer", "scope": {"namespaces": namespaces}},
        "status": status,
    }))
    .unwrap()
}

fn key(name: &str) -> InstanceKey {
    InstanceKey { namespace: "team".into(), name: name.into() }
}

fn cluster(name: &str) -> Cluster {
    Cluster::new(name, crate::karmada::cluster::ClusterSpec::default())
}

fn item(cluster: &str, applied: bool, message: &str) -> AggregatedStatusItem {
    AggregatedStatusItem {
        cluster_name: cluster.into(),
        applied,
        applied_message: (!message.is_empty()).then(|| message.to_owned()),
        ..AggregatedStatusItem::default()
    }
}

fn entry(name: &str) -> InventoryEntry {
    InventoryEntry {
        api_version: "rbac.authorization.k8s.io/v1".into(),
        kind: "RoleBinding".into(),
        namespace: Some("a".into()),
        name: name.into(),
        uid: "u".into(),
    }
}

fn served(changed: Vec<(InventoryEntry, Change)>, members: Vec<MemberState>) -> Served {
    Served { applied: Applied { inventory: vec![entry("x")], changed }, members, unmatched: Vec::new() }
}

#[test]
fn a_member_is_synced_when_every_namespace_is() {
    let copies =
        |namespace: &str, clusters: Vec<AggregatedStatusItem>| Copies { namespace: Some(namespace.into()), clusters };
    let both = binding(json!(["a", "b"]), Value::Null);
    let clusters = [cluster("eu"), cluster("us")];
    let got = members(
        &both,
        &clusters,
        &[
            copies("a", vec![item("eu", true, ""), item("us", true, "")]),
            copies("b", vec![item("eu", true, ""), item("us", false, "conflict")]),
        ],
    );
    assert!(got[0].synced && !got[1].synced);
    assert_eq!(got[1].problem, Some(Problem::Failed("namespace b: conflict".into())));
    let got = members(&both, &clusters, &[copies("a", vec![item("eu", true, "")])]);
    assert_eq!(got[0].problem, Some(Problem::Pending("namespace b: the plane has not propagated it yet".into())));

    let everywhere = binding(json!(["*"]), Value::Null);
    let got = members(&everywhere, &clusters[..1], &[Copies { namespace: None, clusters: vec![item("eu", true, "")] }]);
    assert!(got[0].synced);
}

#[test]
fn conditions_tell_how_far_it_is() {
    let good = || MemberState { name: "eu".into(), synced: true, problem: None };
    let bad = |problem: Problem| MemberState { name: "us".into(), synced: false, problem: Some(problem) };
    let missing =
        || Err(InstanceError::from(InstanceRefError::NotFound { field: "spec.scope.instances", instance: key("two") }));
    let results = |served, left| PlaneResults { served, left, ..PlaneResults::default() };
    let cases = [
        ("all", results(vec![(key("one"), Ok(served(vec![], vec![good()])))], vec![]), "True", "Synced", "2/2"),
        (
            "pending",
            results(vec![(key("one"), Ok(served(vec![], vec![good(), bad(Problem::Pending("p".into()))])))], vec![]),
            "Unknown",
            "Syncing",
            "2/3",
        ),
        (
            "failed",
            results(vec![(key("one"), Ok(served(vec![], vec![bad(Problem::Failed("p".into()))])))], vec![]),
            "False",
            "NotSynced",
            "1/2",
        ),
        (
            "one instance broken, the other served",
            results(vec![(key("one"), Ok(served(vec![], vec![good()]))), (key("two"), missing())], vec![]),
            "False",
            "InstanceNotFound",
            "2/3",
        ),
        (
            "not removed yet",
            results(vec![], vec![(key("two"), Err(InstanceError::Silent(1)))]),
            "False",
            "PlaneUnreachable",
            "0/1",
        ),
        (
            "expired",
            PlaneResults {
                expired: Some(Timestamp::UNIX_EPOCH),
                left: vec![(key("one"), Ok(()))],
                ..PlaneResults::default()
            },
            "False",
            "Expired",
            "0/0",
        ),
        (
            "nothing meant",
            PlaneResults { problem: Some(Error::NoInstance { namespace: "team".into() }), ..PlaneResults::default() },
            "False",
            "InstanceNotSelected",
            "0/0",
        ),
    ];
    for (name, results, ready, reason, synced) in cases {
        let status = status(&binding(json!(["a"]), Value::Null), &results, Timestamp::UNIX_EPOCH);
        let condition = find(&status.conditions, READY).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), (ready, reason), "{name}");
        assert_eq!(status.targets_synced.as_deref(), Some(synced), "{name}");
        assert_eq!(find(&status.conditions, RECONCILING).is_some(), ready == "Unknown", "{name}");
        assert_eq!(status.observed_generation, Some(2));
    }
}

#[test]
fn a_repair_is_dated_and_a_changed_spec_is_none() {
    let known = |generation: i64| {
        binding(
            json!(["a"]),
            json!({"observedGeneration": generation, "inventory": [{"namespace": "team", "name": "one", "objects": [entry("x")]}]}),
        )
    };
    let at = |binding: &PermissionBinding, changed: Vec<(InventoryEntry, Change)>| {
        let results =
            PlaneResults { served: vec![(key("one"), Ok(served(changed, vec![])))], ..PlaneResults::default() };
        status(binding, &results, Timestamp::UNIX_EPOCH).targets[0].repaired_at.clone()
    };
    let epoch = Some("1970-01-01T00:00:00Z".to_owned());
    assert_eq!(at(&known(2), vec![(entry("x"), Change::Updated)]), epoch);
    assert_eq!(at(&known(2), vec![(entry("x"), Change::Created)]), epoch, "it had been deleted");
    assert_eq!(at(&known(2), vec![(entry("new"), Change::Created)]), None, "it had not been there");
    assert_eq!(at(&known(1), vec![(entry("x"), Change::Updated)]), None, "the spec changed");
    assert_eq!(at(&known(2), vec![]), None);
}

#[test]
fn what_a_silent_plane_holds_is_remembered() {
    let before = binding(
        json!(["a"]),
        json!({"inventory": [{"namespace": "team", "name": "one", "objects": [entry("x")]}],
            "targets": [{"instance": "team/one", "synced": true}, {"instance": "team/one", "cluster": "eu", "synced": true}]}),
    );
    let results = PlaneResults { served: vec![(key("one"), Err(InstanceError::Silent(1)))], ..PlaneResults::default() };
    let after = status(&before, &results, Timestamp::UNIX_EPOCH);
    assert_eq!(after.inventory.len(), 1);
    assert_eq!(after.targets_synced.as_deref(), Some("0/2"));

    let refused = InstanceError::from(InstanceRefError::NotShared {
        field: "spec.scope.instances",
        instance: key("one"),
        namespace: "x".into(),
    });
    let results = PlaneResults {
        served: vec![(key("one"), Err(refused))],
        left: vec![(key("one"), Ok(()))],
        ..PlaneResults::default()
    };
    let after = status(&before, &results, Timestamp::UNIX_EPOCH);
    assert!(after.inventory.is_empty(), "consent was withdrawn, and the role is gone there");
    assert_eq!(after.targets_synced.as_deref(), Some("0/1"));
}

#[test]
fn planes_are_listed_before_they_are_written() {
    let fresh = binding(json!(["a"]), Value::Null);
    let status = announcing(&fresh, &[key("one")]).unwrap();
    assert_eq!(status.inventory.len(), 1);
    let again = PermissionBinding { status: Some(status), ..fresh };
    assert!(announcing(&again, &[key("one")]).is_none());
    assert_eq!(announcing(&again, &[key("one"), key("two")]).unwrap().inventory.len(), 2);
}

#[test]
fn a_scope_that_selects_nothing_is_named_in_a_condition_of_its_own() {
    let unmatched =
        |field: &str| UnmatchedSelector { field: field.into(), value: Some("uss".into()), nearest: Some("us".into()) };
    let results = |planes: Vec<Result<Vec<UnmatchedSelector>, InstanceError>>| {
        let served = planes.into_iter().enumerate().map(|(index, plane)| {
            let result = plane.map(|unmatched| Served { unmatched, ..served(Vec::new(), Vec::new()) });
            (key(&format!("plane-{index}")), result)
        });
        PlaneResults { served: served.collect(), ..PlaneResults::default() }
    };
    let known = json!({"conditions": [{"type": "SelectorsMatched", "status": "False", "reason": "NothingSelected",
        "message": "as before", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let first = "spec.scope.clusters.clusters[0]";
    let named =
        "no cluster is selected by spec.scope.clusters.clusters[0]: \"uss\" (is \"us\" meant?); correct or remove it";
    for (name, planes, want) in [
        ("all match", vec![Ok(vec![])], None),
        ("one does not", vec![Ok(vec![unmatched(first)])], Some(named)),
        ("it is known in another plane", vec![Ok(vec![unmatched(first)]), Ok(vec![])], None),
        ("it is known in none", vec![Ok(vec![unmatched(first)]), Ok(vec![unmatched(first)])], Some(named)),
        ("a plane was not seen", vec![Ok(vec![]), Err(InstanceError::Silent(20))], Some("as before")),
    ] {
        let got = status(&binding(json!(["a"]), known.clone()), &results(planes), Timestamp::UNIX_EPOCH);
        let condition = find(&got.conditions, SELECTORS_MATCHED);
        assert_eq!(condition.map(|condition| condition.message.as_str()), want, "{name}");
        assert!(condition.is_none_or(|condition| condition.status == "False"), "{name}");
    }
    let ready =
        status(&binding(json!(["a"]), json!({})), &results(vec![Ok(vec![unmatched(first)])]), Timestamp::UNIX_EPOCH);
    assert_eq!(find(&ready.conditions, READY).unwrap().status, "True", "what the rest selects stays Ready");
}
